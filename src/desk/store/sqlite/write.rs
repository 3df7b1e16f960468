//! One transaction: the spans of some requests, and all that follows from them.
//!
//! It goes in phases, so that each row is looked up and written once, however many spans touch it:
//! spans, then the traces and sessions they belong to, then the targets of what they say, and last
//! the leaves of each target that something was said about.

use std::collections::{BTreeSet, HashMap, HashSet};

use opentelemetry::trace::TraceId;
use rusqlite::{Connection, OptionalExtension, Statement, Transaction, params};

use super::Result;
use super::known::{Known, count};
use super::refold::{Anchor, Dirty, Refold};
use super::stored;
use crate::collector::Target;
use crate::desk::store::batch::{Batch, NewResource, NewSpan, Voice, nanos};

/// `flags` of a span.
pub(super) const IS_CARRIER: i64 = 1;
pub(super) const IS_ERROR: i64 = 2;

/// A carrier is no target: what it carries is about another.
const IS_THERE: &str = "SELECT 1 FROM spans WHERE trace = ?1 AND span = ?2 AND flags & 1 = 0";

/// What a transaction has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Spans that had not been there.
    pub(crate) spans: i64,
    /// Spans that say something, of those.
    pub(crate) documents: i64,
}

/// Writes some requests. All or nothing is the transaction's business.
pub(super) fn write(
    transaction: &Transaction<'_>,
    known: &mut Known,
    batches: &[Batch],
) -> Result<Written> {
    known.bound();
    let mut pass = Pass::new(transaction, known)?;
    for batch in batches {
        pass.spans(batch)?;
    }
    let targets = pass.resolve_traces()?;
    pass.recount()?;
    pass.flush_traces()?;
    pass.flush_sessions()?;
    pass.documents(targets)?;
    pass.arrivals()?;
    let (dirty, written) = pass.finish();
    let mut refold = Refold::new(transaction, known)?;
    for (target, dirty) in dirty {
        refold.target(target, dirty)?;
    }
    refold.finish()?;
    count(transaction, "spans", written.spans)?;
    count(transaction, "documents", written.documents)?;
    Ok(written)
}

/// A trace while the transaction lasts.
#[derive(Debug)]
struct Trace {
    id: i64,
    is_new: bool,
    is_changed: bool,
    /// A span of it was replaced: what is counted here has to be counted again.
    to_recount: bool,
    /// Where it lies in time or which service it is of has changed, and may stand in leaves.
    is_moved: bool,
    start: Option<i64>,
    finish: Option<i64>,
    spans: i64,
    errors: i64,
    session: Option<i64>,
    root: Option<Root>,
    touched: i64,
    waiting: i64,
    resources: Vec<i64>,
}

/// The span a trace is shown by: the first without a parent, or else the first. Carriers are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Root {
    has_parent: bool,
    start: i64,
    span: u64,
    name: i64,
    resource: i64,
}

impl Trace {
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
            root: None,
            touched: 0,
            waiting: 0,
            resources: Vec::new(),
        }
    }

    fn add(&mut self, span: &Counted) {
        self.is_changed = true;
        self.touched = self.touched.max(span.start);
        if span.flags & IS_CARRIER != 0 {
            return;
        }
        let anchor = (self.start, self.root.map(|root| root.resource));
        self.start = Some(self.start.map_or(span.start, |start| start.min(span.start)));
        self.finish = Some(self.finish.map_or(span.finish, |finish| finish.max(span.finish)));
        self.spans += 1;
        self.errors += i64::from(span.flags & IS_ERROR != 0);
        let root = span.root;
        self.root = Some(self.root.map_or(root, |known| known.min(root)));
        self.is_moved |= anchor != (self.start, self.root.map(|root| root.resource));
        if !self.resources.contains(&span.root.resource) {
            self.resources.push(span.root.resource);
        }
    }
}

/// What a span adds to its trace.
struct Counted {
    start: i64,
    finish: i64,
    flags: i64,
    root: Root,
}

/// Something a span says, until its target has a number.
struct Said<'b> {
    voice: &'b Voice,
    trace: i64,
    trace_id: [u8; 16],
    span_row: i64,
    /// For an own document: where its target lies.
    anchor: Anchor,
    own: (i64, u64),
}

struct Resolved<'b> {
    said: Said<'b>,
    /// Trace, span, session; `None` if it is about no one.
    target: Option<(i64, i64, i64)>,
}

struct Pass<'t, 'b> {
    transaction: &'t Transaction<'t>,
    known: &'t mut Known,
    insert_span: Statement<'t>,
    find_trace: Statement<'t>,
    traces: HashMap<[u8; 16], Trace>,
    next_trace: i64,
    sessions: HashMap<String, i64>,
    /// Sessions whose traces have changed.
    moved_sessions: BTreeSet<i64>,
    said: Vec<Said<'b>>,
    /// Spans that something may wait for.
    arrived: Vec<(i64, i64)>,
    dirty: HashMap<i64, Dirty>,
    written: Written,
}

impl<'t, 'b> Pass<'t, 'b> {
    fn new(transaction: &'t Transaction<'t>, known: &'t mut Known) -> Result<Self> {
        let last: Option<i64> =
            transaction.query_row("SELECT max(id) FROM traces", [], |row| row.get(0))?;
        Ok(Self {
            transaction,
            known,
            insert_span: transaction.prepare(
                "INSERT INTO spans (trace, span, parent, start, duration, name, resource, scope,
                                    kind, flags, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (trace, span) DO NOTHING",
            )?,
            find_trace: transaction.prepare(
                "SELECT id, start, finish, spans, errors, session, root_span, root_parent,
                        root_start, root_name, root_resource, touched, waiting
                 FROM traces WHERE trace_id = ?1",
            )?,
            traces: HashMap::new(),
            next_trace: last.unwrap_or(0) + 1,
            sessions: HashMap::new(),
            moved_sessions: BTreeSet::new(),
            said: Vec::new(),
            arrived: Vec::new(),
            dirty: HashMap::new(),
            written: Written::default(),
        })
    }

    fn spans(&mut self, batch: &'b Batch) -> Result<()> {
        let resources: Vec<_> =
            batch.resources.iter().map(|new| self.resource(new)).collect::<Result<_>>()?;
        let scopes: Vec<_> =
            batch.scopes.iter().map(|new| self.scope(new)).collect::<Result<_>>()?;
        for span in &batch.spans {
            self.span(span, resources[span.resource], scopes[span.scope])?;
        }
        Ok(())
    }

    fn span(&mut self, span: &'b NewSpan, resource: i64, scope: i64) -> Result<()> {
        let name = self.name(&span.name)?;
        let session = match &span.session {
            Some(session) => Some(self.session(session)?),
            None => None,
        };
        self.trace(&span.trace_id)?;
        let Some(trace) = self.traces.get_mut(&span.trace_id) else { return Ok(()) };
        let flags =
            if span.is_carrier { IS_CARRIER } else { 0 } | if span.is_error { IS_ERROR } else { 0 };
        let inserted = self.insert_span.execute(params![
            trace.id,
            span.span_id as i64,
            span.parent_id as i64,
            span.start,
            span.end - span.start,
            name,
            resource,
            scope,
            span.kind,
            flags,
            span.body,
        ])?;
        let mut row = self.transaction.last_insert_rowid();
        if inserted == 0 {
            let trace_id = trace.id;
            match self.replace(span, trace_id, [name, resource, scope, flags])? {
                Some(replaced) => row = replaced,
                None => return Ok(()),
            }
        } else {
            self.written.spans += 1;
        }
        let Some(trace) = self.traces.get_mut(&span.trace_id) else { return Ok(()) };
        let root = Root {
            has_parent: span.parent_id != 0,
            start: span.start,
            span: span.span_id,
            name,
            resource,
        };
        trace.add(&Counted { start: span.start, finish: span.end, flags, root });
        if inserted == 0 {
            trace.to_recount = true;
        }
        if let (Some(session), false) = (session, span.is_carrier) {
            match trace.session {
                None => trace.session = Some(session),
                Some(known) if known == session => {}
                Some(_) => trace.to_recount = true,
            }
        }
        if trace.waiting > 0 {
            self.arrived.push((trace.id, span.span_id as i64));
        }
        if let Some(voice) = &span.voice {
            self.said.push(Said {
                voice,
                trace: trace.id,
                trace_id: span.trace_id,
                span_row: row,
                anchor: Anchor { time: span.start, resource },
                own: (trace.id, span.span_id),
            });
        }
        Ok(())
    }

    /// What becomes of a span whose ids are taken. Nearly always it is the same span once more. If
    /// not, one of the two has to go, and it is the same one whichever came first: of a submission
    /// the earlier counts. Returns the row, if this one stays.
    fn replace(
        &mut self,
        span: &NewSpan,
        trace: i64,
        [name, resource, scope, flags]: [i64; 4],
    ) -> Result<Option<i64>> {
        let sql = format!(
            "SELECT {}, s.id, s.resource, s.scope, s.name, r.hash, s.flags
             FROM spans s JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
             JOIN resources r ON r.id = s.resource
             WHERE s.trace = ?1 AND s.span = ?2",
            // The trace may be of this transaction, and not be written yet.
            stored::SPAN_COLUMNS.replace("t.trace_id", "?3"),
        )
        .replace("JOIN traces t ON t.id = s.trace ", "");
        let mut statement = self.transaction.prepare_cached(&sql)?;
        let mut rows =
            statement.query(params![trace, span.span_id as i64, span.trace_id.as_slice()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (start, duration): (i64, i64) = (row.get(3)?, row.get(4)?);
        let body: Vec<u8> = row.get(7)?;
        let (id, old_resource): (i64, i64) = (row.get(8)?, row.get(9)?);
        let same = (start, duration) == (span.start, span.end - span.start)
            && row.get::<_, i64>(2)? == span.parent_id as i64
            && row.get::<_, i32>(5)? == span.kind
            && [row.get(11)?, old_resource, row.get(10)?] == [name, resource, scope]
            && body == span.body;
        if same {
            return Ok(None);
        }
        let said = Voice::of(&stored::span(row)?);
        let time_of = |voice: Option<&Voice>, start: i64| {
            voice.map_or(start, |voice| nanos(voice.submission.time_unix_nano))
        };
        let old_hash: Vec<u8> = row.get(12)?;
        let old_name: String = row.get(6)?;
        let old = (
            time_of(said.as_ref(), start),
            (start, duration, row.get::<_, i64>(2)?, row.get::<_, i32>(5)?),
            (old_name, old_hash, body),
        );
        let hash = self
            .transaction
            .prepare_cached("SELECT hash FROM resources WHERE id = ?1")?
            .query_row([resource], |row| row.get::<_, Vec<u8>>(0))?;
        let new = (
            time_of(span.voice.as_ref(), span.start),
            (span.start, span.end - span.start, span.parent_id as i64, span.kind),
            (span.name.clone(), hash, span.body.clone()),
        );
        if old <= new {
            return Ok(None);
        }
        drop(rows);
        let withdrawn: Option<i64> = self
            .transaction
            .prepare_cached("DELETE FROM documents WHERE span = ?1 RETURNING target")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        if let Some(target) = withdrawn {
            self.written.documents -= 1;
            self.dirty.entry(target).or_default().reload();
        }
        self.transaction
            .prepare_cached("DELETE FROM trace_resources WHERE resource = ?1 AND trace = ?2")?
            .execute([old_resource, trace])?;
        // Said earlier in this very transaction.
        self.said.retain(|said| said.span_row != id);
        self.transaction
            .prepare_cached(
                "UPDATE spans SET parent = ?2, start = ?3, duration = ?4, name = ?5, resource = ?6,
                                  scope = ?7, kind = ?8, flags = ?9, body = ?10
                 WHERE id = ?1",
            )?
            .execute(params![
                id,
                span.parent_id as i64,
                span.start,
                span.end - span.start,
                name,
                resource,
                scope,
                span.kind,
                flags,
                span.body,
            ])?;
        // Its own feedback, or what waits for it, stands where it started.
        self.arrived.push((trace, span.span_id as i64));
        Ok(Some(id))
    }

    /// Sees to it that a trace is in `traces`.
    fn trace(&mut self, trace_id: &[u8; 16]) -> Result<i64> {
        if let Some(trace) = self.traces.get(trace_id) {
            return Ok(trace.id);
        }
        let found = self
            .find_trace
            .query_row([trace_id.as_slice()], |row| {
                let root = match row.get::<_, Option<i64>>(6)? {
                    None => None,
                    Some(span) => Some(Root {
                        span: span as u64,
                        has_parent: row.get(7)?,
                        start: row.get(8)?,
                        name: row.get(9)?,
                        resource: row.get(10)?,
                    }),
                };
                Ok(Trace {
                    is_new: false,
                    is_changed: false,
                    id: row.get(0)?,
                    start: row.get(1)?,
                    finish: row.get(2)?,
                    spans: row.get(3)?,
                    errors: row.get(4)?,
                    session: row.get(5)?,
                    root,
                    touched: row.get(11)?,
                    waiting: row.get(12)?,
                    ..Trace::new(0)
                })
            })
            .optional()?;
        let trace = match found {
            Some(trace) => trace,
            None => {
                self.next_trace += 1;
                Trace::new(self.next_trace - 1)
            }
        };
        let id = trace.id;
        self.traces.insert(*trace_id, trace);
        Ok(id)
    }

    /// Gives the targets of what was said their numbers, so that traces nobody has seen a span of
    /// get theirs.
    fn resolve_traces(&mut self) -> Result<Vec<Resolved<'b>>> {
        let said = std::mem::take(&mut self.said);
        let mut resolved = Vec::with_capacity(said.len());
        for said in said {
            let target = match &said.voice.about {
                None => None,
                Some(_) if said.voice.is_own => Some((said.own.0, said.own.1 as i64, 0)),
                Some(Target::Span(trace, span)) => {
                    let span = i64::from_be_bytes(span.to_bytes());
                    Some((self.about(trace, &said)?, span, 0))
                }
                Some(Target::Trace(trace)) => Some((self.about(trace, &said)?, 0, 0)),
                Some(Target::Session(id)) => Some((0, 0, self.session(id)?)),
            };
            resolved.push(Resolved { said, target });
        }
        Ok(resolved)
    }

    /// The trace feedback is about, which is as young as the feedback.
    fn about(&mut self, trace_id: &TraceId, said: &Said<'_>) -> Result<i64> {
        let trace_id = trace_id.to_bytes();
        let id = self.trace(&trace_id)?;
        if let Some(trace) = self.traces.get_mut(&trace_id) {
            trace.touched = trace.touched.max(said.anchor.time);
            trace.is_changed = true;
        }
        Ok(id)
    }

    /// Counts traces again whose spans say more than can be added up.
    fn recount(&mut self) -> Result<()> {
        for trace in self.traces.values_mut().filter(|trace| trace.to_recount) {
            let mut recounted = Trace { touched: trace.touched, ..Trace::new(trace.id) };
            let mut session: Option<((i64, u64), String)> = None;
            let sql = "SELECT s.span, s.parent, s.start, s.duration, s.name, s.resource, s.flags,
                              s.body FROM spans s WHERE s.trace = ?1";
            let mut statement = self.transaction.prepare_cached(sql)?;
            let mut rows = statement.query([trace.id])?;
            while let Some(row) = rows.next()? {
                let (start, duration): (i64, i64) = (row.get(2)?, row.get(3)?);
                let (span, flags) = (row.get::<_, i64>(0)? as u64, row.get(6)?);
                let root = Root {
                    has_parent: row.get::<_, i64>(1)? != 0,
                    start,
                    span,
                    name: row.get(4)?,
                    resource: row.get(5)?,
                };
                recounted.add(&Counted { start, finish: start + duration, flags, root });
                if flags & IS_CARRIER == 0
                    && let Some(id) = stored::session(row.get_ref(7)?.as_blob().unwrap_or(&[]))?
                    && session.as_ref().is_none_or(|(first, _)| (start, span) < *first)
                {
                    session = Some(((start, span), id));
                }
            }
            recounted.session = match session {
                Some((_, id)) => Some(session_id(self.transaction, &mut self.sessions, &id)?),
                None => None,
            };
            self.moved_sessions.extend(trace.session);
            *trace =
                Trace { is_new: trace.is_new, is_moved: true, waiting: trace.waiting, ..recounted };
        }
        Ok(())
    }

    fn flush_traces(&mut self) -> Result<()> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO traces (id, trace_id, start, finish, spans, errors, session, root_span,
                 root_parent, root_start, root_name, root_resource, touched, waiting, feedback)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, 0)
             ON CONFLICT (id) DO UPDATE SET
                 start = excluded.start, finish = excluded.finish, spans = excluded.spans,
                 errors = excluded.errors, session = excluded.session,
                 root_span = excluded.root_span, root_parent = excluded.root_parent,
                 root_start = excluded.root_start, root_name = excluded.root_name,
                 root_resource = excluded.root_resource, touched = excluded.touched",
        )?;
        let mut of_resource = self
            .transaction
            .prepare_cached("INSERT INTO trace_resources VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
        let mut about = self.transaction.prepare_cached(
            "SELECT id FROM targets WHERE trace = ?1 AND span = 0 AND session = 0",
        )?;
        let mut changed: Vec<_> =
            self.traces.iter().filter(|(_, trace)| trace.is_changed).collect();
        changed.sort_unstable_by_key(|(_, trace)| trace.id);
        for (trace_id, trace) in changed {
            let root = trace.root;
            insert.execute(params![
                trace.id,
                trace_id.as_slice(),
                trace.start,
                trace.finish,
                trace.spans,
                trace.errors,
                trace.session,
                root.map(|root| root.span as i64),
                root.map(|root| root.has_parent),
                root.map(|root| root.start),
                root.map(|root| root.name),
                root.map(|root| root.resource),
                trace.touched,
            ])?;
            for resource in &trace.resources {
                of_resource.execute([resource, &trace.id])?;
            }
            self.moved_sessions.extend(trace.session);
            if trace.is_moved
                && !trace.is_new
                && let Some(target) = about.query_row([trace.id], |row| row.get(0)).optional()?
            {
                self.dirty.entry(target).or_default().reload();
            }
        }
        Ok(())
    }

    fn flush_sessions(&mut self) -> Result<()> {
        for session in std::mem::take(&mut self.moved_sessions) {
            if settle_session(self.transaction, session)?
                && let Some(target) = session_target(self.transaction, session)?
            {
                self.dirty.entry(target).or_default().reload();
            }
        }
        Ok(())
    }

    fn documents(&mut self, resolved: Vec<Resolved<'b>>) -> Result<()> {
        let transaction = self.transaction;
        let mut find = transaction.prepare_cached(
            "SELECT id FROM targets WHERE trace = ?1 AND span = ?2 AND session = ?3",
        )?;
        let mut create = transaction.prepare_cached(
            "INSERT INTO targets (trace, span, session, arrived) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let mut document = transaction.prepare_cached(
            "INSERT INTO documents (target, trace, span, span_id, own, time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let mut is_there = transaction.prepare_cached(IS_THERE)?;
        let mut wait =
            transaction.prepare_cached("UPDATE traces SET waiting = waiting + 1 WHERE id = ?1")?;
        for Resolved { said, target } in resolved {
            let Voice { is_own, submission, .. } = said.voice;
            let mut row = 0; // that of what is about no one
            if let Some((trace, span, session)) = target {
                let found: Option<i64> =
                    find.query_row([trace, span, session], |row| row.get(0)).optional()?;
                row = match found {
                    Some(id) => id,
                    None => {
                        let arrived = *is_own || span == 0 || is_there.exists([trace, span])?;
                        create.execute(params![trace, span, session, arrived])?;
                        let id = transaction.last_insert_rowid();
                        if !arrived {
                            wait.execute([trace])?;
                        }
                        self.dirty.insert(id, Dirty::new((trace, span, session)));
                        id
                    }
                };
                self.dirty.entry(row).or_default().said(said.voice, said.trace_id, said.anchor);
            }
            let time = nanos(submission.time_unix_nano);
            let span_id = said.own.1 as i64;
            document.execute(params![row, said.trace, said.span_row, span_id, is_own, time])?;
            self.written.documents += 1;
        }
        Ok(())
    }

    /// Spans that feedback has waited for, and those that another has taken the place of.
    fn arrivals(&mut self) -> Result<()> {
        let transaction = self.transaction;
        let mut find = transaction.prepare_cached(
            "SELECT id, arrived FROM targets WHERE trace = ?1 AND span = ?2 AND session = 0",
        )?;
        let mut is_there = transaction.prepare_cached(IS_THERE)?;
        let mut arrive =
            transaction.prepare_cached("UPDATE targets SET arrived = ?2 WHERE id = ?1")?;
        let mut wait =
            transaction.prepare_cached("UPDATE traces SET waiting = waiting + ?2 WHERE id = ?1")?;
        let mut seen = HashSet::new();
        for (trace, span) in std::mem::take(&mut self.arrived) {
            if !seen.insert((trace, span)) {
                continue;
            }
            let found = find.query_row([trace, span], |row| Ok((row.get(0)?, row.get(1)?)));
            let Some((target, had_arrived)): Option<(i64, bool)> = found.optional()? else {
                continue;
            };
            self.dirty.entry(target).or_default().reload();
            let has_arrived = is_there.exists([trace, span])?;
            if has_arrived != had_arrived {
                arrive.execute(params![target, has_arrived])?;
                wait.execute([trace, if has_arrived { -1 } else { 1 }])?;
            }
        }
        Ok(())
    }

    fn finish(self) -> (HashMap<i64, Dirty>, Written) {
        (self.dirty, self.written)
    }

    fn name(&mut self, name: &str) -> Result<i64> {
        if let Some(id) = self.known.names.get(name) {
            return Ok(*id);
        }
        let sql = "INSERT INTO names (name) VALUES (?1) ON CONFLICT DO NOTHING";
        self.transaction.prepare_cached(sql)?.execute([name])?;
        let id = self
            .transaction
            .prepare_cached("SELECT id FROM names WHERE name = ?1")?
            .query_row([name], |row| row.get(0))?;
        self.known.names.insert(name.to_owned(), id);
        Ok(id)
    }

    fn scope(&mut self, scope: &(String, String)) -> Result<i64> {
        if let Some(id) = self.known.scopes.get(scope) {
            return Ok(*id);
        }
        let (name, version) = scope;
        let sql = "INSERT INTO scopes (name, version) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.transaction.prepare_cached(sql)?.execute([name, version])?;
        let id = self
            .transaction
            .prepare_cached("SELECT id FROM scopes WHERE name = ?1 AND version = ?2")?
            .query_row([name, version], |row| row.get(0))?;
        self.known.scopes.insert(scope.clone(), id);
        Ok(id)
    }

    fn resource(&mut self, new: &NewResource) -> Result<i64> {
        if let Some(id) = self.known.resources.get(&new.hash) {
            return Ok(*id);
        }
        let find = |transaction: &Transaction<'_>| {
            transaction
                .prepare_cached("SELECT id FROM resources WHERE hash = ?1")?
                .query_row([new.hash.as_slice()], |row| row.get(0))
                .optional()
        };
        let id = match find(self.transaction)? {
            Some(id) => id,
            None => {
                self.transaction
                    .prepare_cached("INSERT INTO resources (hash, body) VALUES (?1, ?2)")?
                    .execute(params![new.hash.as_slice(), new.body])?;
                let id = self.transaction.last_insert_rowid();
                let mut insert = self
                    .transaction
                    .prepare_cached("INSERT INTO resource_texts VALUES (?1, ?2, ?3)")?;
                for (key, text) in &new.texts {
                    insert.execute(params![key, id, text])?;
                }
                id
            }
        };
        self.known.resources.insert(new.hash, id);
        Ok(id)
    }

    fn session(&mut self, id: &str) -> Result<i64> {
        session_id(self.transaction, &mut self.sessions, id)
    }
}

fn session_id(
    transaction: &Transaction<'_>,
    known: &mut HashMap<String, i64>,
    id: &str,
) -> Result<i64> {
    if let Some(row) = known.get(id) {
        return Ok(*row);
    }
    let sql = "INSERT INTO sessions (name) VALUES (?1) ON CONFLICT DO NOTHING";
    transaction.prepare_cached(sql)?.execute([id])?;
    let row = transaction
        .prepare_cached("SELECT id FROM sessions WHERE name = ?1")?
        .query_row([id], |row| row.get(0))?;
    known.insert(id.to_owned(), row);
    Ok(row)
}

/// Says anew where a session lies: it begins with its first trace and was last heard of when its
/// latest began. Returns whether it has moved.
pub(super) fn settle_session(connection: &Connection, session: i64) -> Result<bool> {
    let sql = "
        UPDATE sessions AS s SET start = n.start, last = n.last, resource = n.resource
        FROM (SELECT first.start AS start,
                     (SELECT max(start) FROM traces WHERE session = ?1) AS last,
                     first.root_resource AS resource
              FROM (SELECT 1) LEFT JOIN (
                  SELECT start, root_resource FROM traces
                  WHERE session = ?1 AND start = (SELECT min(start) FROM traces WHERE session = ?1)
                  ORDER BY trace_id LIMIT 1) AS first) AS n
        WHERE s.id = ?1
            AND (s.start IS NOT n.start OR s.last IS NOT n.last OR s.resource IS NOT n.resource)";
    Ok(connection.prepare_cached(sql)?.execute([session])? > 0)
}

pub(super) fn session_target(connection: &Connection, session: i64) -> Result<Option<i64>> {
    let sql = "SELECT id FROM targets WHERE trace = 0 AND span = 0 AND session = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([session], |row| row.get(0)).optional()?)
}
