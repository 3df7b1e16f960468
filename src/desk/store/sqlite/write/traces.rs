//! Traces while a transaction lasts: each is looked up once, changed in memory, and written once.

use rusqlite::{OptionalExtension, Row, named_params};

use super::sessions::{AddedTraces, session_row};
use super::{IS_CARRIER, IS_ERROR, Pass};
use crate::desk::store::sqlite::{Result, stored};

/// The state of a trace while the transaction lasts.
#[derive(Debug)]
pub(super) struct TraceState {
    pub(super) id: i64,
    pub(super) is_new: bool,
    pub(super) is_changed: bool,
    /// A span of it was replaced, so its totals have to be computed from all its spans.
    pub(super) to_recount: bool,
    /// Its start or the resource of its root has changed. Leaves repeat both.
    pub(super) is_moved: bool,
    pub(super) start: Option<i64>,
    pub(super) finish: Option<i64>,
    pub(super) spans: i64,
    pub(super) errors: i64,
    pub(super) session: Option<i64>,
    /// It had no session before.
    pub(super) is_new_in_session: bool,
    pub(super) root: Option<Root>,
    /// When a span of it, or feedback about it, was last received.
    pub(super) touched: i64,
    /// How many spans of it feedback is about that have not arrived.
    pub(super) unmatched: i64,
    pub(super) resources: Vec<i64>,
}

/// The span whose name and service a list shows for the trace: the earliest without a parent, or else
/// the earliest. Never a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Root {
    pub(super) has_parent: bool,
    pub(super) start: i64,
    pub(super) span: u64,
    pub(super) name: i64,
    pub(super) resource: i64,
}

impl TraceState {
    /// A trace that has no row yet.
    fn new(id: i64) -> Self {
        Self {
            id,
            is_new: true,
            is_changed: true,
            to_recount: false,
            is_moved: false,
            start: None,
            finish: None,
            spans: 0,
            errors: 0,
            session: None,
            is_new_in_session: false,
            root: None,
            touched: 0,
            unmatched: 0,
            resources: Vec::new(),
        }
    }

    fn stored(row: &Row<'_>) -> rusqlite::Result<Self> {
        let root = match row.get::<_, Option<i64>>("root_span")? {
            None => None,
            Some(span) => Some(Root {
                span: span as u64,
                has_parent: row.get("root_parent")?,
                start: row.get("root_start")?,
                name: row.get("root_name")?,
                resource: row.get("root_resource")?,
            }),
        };
        Ok(Self {
            is_new: false,
            is_changed: false,
            start: row.get("start")?,
            finish: row.get("finish")?,
            spans: row.get("spans")?,
            errors: row.get("errors")?,
            session: row.get("session")?,
            root,
            touched: row.get("touched")?,
            unmatched: row.get("waiting")?,
            ..Self::new(row.get("id")?)
        })
    }

    /// Adds a span.
    pub(super) fn add(&mut self, span: &SpanTotals) {
        self.is_changed = true;
        if span.flags & IS_CARRIER != 0 {
            return;
        }
        let anchor = (self.start, self.root.map(|root| root.resource));
        self.start = Some(self.start.map_or(span.start, |start| start.min(span.start)));
        self.finish = Some(self.finish.map_or(span.finish, |finish| finish.max(span.finish)));
        self.spans += 1;
        self.errors += i64::from(span.flags & IS_ERROR != 0);
        let root = span.root;
        self.root = Some(self.root.map_or(root, |first| first.min(root)));
        self.is_moved |= anchor != (self.start, self.root.map(|root| root.resource));
        if !self.resources.contains(&span.root.resource) {
            self.resources.push(span.root.resource);
        }
    }
}

/// What a span adds to its trace.
pub(super) struct SpanTotals {
    pub(super) start: i64,
    pub(super) finish: i64,
    pub(super) flags: i64,
    pub(super) root: Root,
}

impl Pass<'_, '_> {
    /// The row number of a trace, whose state is in `traces` from then on.
    pub(super) fn trace(&mut self, trace_id: &[u8; 16]) -> Result<i64> {
        if let Some(trace) = self.traces.get(trace_id) {
            return Ok(trace.id);
        }
        let found =
            self.find_trace.query_row([trace_id.as_slice()], TraceState::stored).optional()?;
        let trace = match found {
            Some(trace) => trace,
            None => {
                self.next_trace += 1;
                TraceState::new(self.next_trace - 1)
            }
        };
        let id = trace.id;
        self.traces.insert(*trace_id, trace);
        Ok(id)
    }

    /// Computes traces from all their spans, where adding the new ones is not enough: a span was
    /// replaced, or spans of one trace have different sessions.
    pub(super) fn recount(&mut self) -> Result<()> {
        for trace in self.traces.values_mut().filter(|trace| trace.to_recount) {
            let mut recounted = TraceState { touched: trace.touched, ..TraceState::new(trace.id) };
            let mut session: Option<((i64, u64), String)> = None;
            let sql = "SELECT span, parent, start, duration, name, resource, flags, body
                       FROM spans WHERE trace = ?1";
            let mut statement = self.transaction.prepare_cached(sql)?;
            let mut rows = statement.query([trace.id])?;
            while let Some(row) = rows.next()? {
                let (start, duration): (i64, i64) = (row.get("start")?, row.get("duration")?);
                let (span, flags) = (row.get::<_, i64>("span")? as u64, row.get("flags")?);
                let root = Root {
                    has_parent: row.get::<_, i64>("parent")? != 0,
                    start,
                    span,
                    name: row.get("name")?,
                    resource: row.get("resource")?,
                };
                recounted.add(&SpanTotals { start, finish: start + duration, flags, root });
                let body = row.get_ref("body")?.as_blob().unwrap_or(&[]);
                if flags & IS_CARRIER == 0
                    && let Some(id) = stored::session(body)?
                    && session.as_ref().is_none_or(|(first, _)| (start, span) < *first)
                {
                    session = Some(((start, span), id));
                }
            }
            recounted.session = match session {
                Some((_, id)) => Some(session_row(self.transaction, &mut self.sessions, &id)?),
                None => None,
            };
            self.moved_sessions.extend(trace.session);
            *trace = TraceState {
                is_new: trace.is_new,
                is_moved: true,
                unmatched: trace.unmatched,
                ..recounted
            };
        }
        Ok(())
    }

    pub(super) fn flush_traces(&mut self) -> Result<()> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO traces (id, trace_id, start, finish, spans, errors, session, root_span,
                 root_parent, root_start, root_name, root_resource, touched, waiting, feedback)
             VALUES (:id, :trace_id, :start, :finish, :spans, :errors, :session, :root_span,
                 :root_parent, :root_start, :root_name, :root_resource, :touched, 0, 0)
             ON CONFLICT (id) DO UPDATE SET
                 start = excluded.start, finish = excluded.finish, spans = excluded.spans,
                 errors = excluded.errors, session = excluded.session,
                 root_span = excluded.root_span, root_parent = excluded.root_parent,
                 root_start = excluded.root_start, root_name = excluded.root_name,
                 root_resource = excluded.root_resource, touched = excluded.touched",
        )?;
        let mut insert_resource = self.transaction.prepare_cached(
            "INSERT INTO trace_resources (resource, trace) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?;
        let mut find_target = self.transaction.prepare_cached(
            "SELECT id FROM targets WHERE trace = ?1 AND span = 0 AND session = 0",
        )?;
        let mut changed: Vec<_> =
            self.traces.iter().filter(|(_, trace)| trace.is_changed).collect();
        changed.sort_unstable_by_key(|(_, trace)| trace.id);
        for (trace_id, trace) in changed {
            let root = trace.root;
            insert.execute(named_params! {
                ":id": trace.id,
                ":trace_id": trace_id.as_slice(),
                ":start": trace.start,
                ":finish": trace.finish,
                ":spans": trace.spans,
                ":errors": trace.errors,
                ":session": trace.session,
                ":root_span": root.map(|root| root.span as i64),
                ":root_parent": root.map(|root| root.has_parent),
                ":root_start": root.map(|root| root.start),
                ":root_name": root.map(|root| root.name),
                ":root_resource": root.map(|root| root.resource),
                ":touched": trace.touched,
            })?;
            for resource in &trace.resources {
                insert_resource.execute([resource, &trace.id])?;
            }
            if let Some(session) = trace.session {
                if let (true, Some(start), Some(root)) = (trace.is_new, trace.start, root) {
                    let added = AddedTraces::of(start, trace_id, root.resource);
                    let earlier = self.added_traces.entry(session);
                    earlier.and_modify(|earlier| earlier.add(added)).or_insert(added);
                } else if trace.is_moved || trace.is_new_in_session {
                    self.moved_sessions.insert(session);
                }
            }
            if trace.is_moved
                && !trace.is_new
                && let Some(target) =
                    find_target.query_row([trace.id], |row| row.get("id")).optional()?
            {
                self.refolds.entry(target).or_default().reload();
            }
        }
        Ok(())
    }
}
