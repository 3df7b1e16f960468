//! What forwarding reads of a ClickHouse. Its state is in a SQLite file of its own: nothing is written there.
//!
//! The order in which targets were changed is that in which documents came into the desk's own table, so forwarding
//! needs that table. Documents are folded here, from their spans: the folded table is up to ten seconds behind.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use opentelemetry::trace::{SpanId, TraceId};
use rusqlite::{Connection, OptionalExtension, params};

use super::spans::{SpanDocuments, TargetIds, key};
use super::sql::list;
use super::{ClickHouse, Result, asked};
use crate::collector::Target;
use crate::desk::store::Error;
use crate::desk::store::batch::text;
use crate::desk::store::forwarding::{
    ChangePosition, ForwardStore, ForwardTarget, SpanPage, StateChange,
};
use crate::desk::store::history::forward_leaves;
use crate::desk::store::json::trace_id_of;
use crate::desk::store::sqlite::open_forward_state;
use crate::suppress;
use crate::sync::lock;

/// How old a document is when it is read: rows of other inserts may become visible a little later than their time.
const SETTLED: Duration = Duration::from_secs(5);

/// A ClickHouse as forwarding sees it.
pub(crate) struct ClickHouseForwarding {
    store: Arc<ClickHouse>,
    state: Mutex<Connection>,
}

/// A changed target: its number, its ids, and when its last document came, in microseconds.
type ChangedRow = (String, String, String, String, i64);

impl ClickHouseForwarding {
    /// With the file of the state, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// The desk's own tables are missing, or the file can't be opened; the text says what to do.
    pub(crate) fn open(store: Arc<ClickHouse>, state: &Path) -> Result<Self> {
        if !store.relations()?.has_tables {
            return asked(
                "to forward feedback ClickHouse needs the desk's own tables: see `feedback-desk clickhouse --ddl`",
            );
        }
        let open = open_forward_state(state);
        let state = open.map_err(|error| Error::Asked(format!("{}: {error}", state.display())))?;
        Ok(Self { store, state: Mutex::new(state) })
    }

    /// The rows of targets in the state, new ones for those that have none.
    fn rows_of(&self, found: &[ChangedRow]) -> Result<Vec<i64>> {
        let mut connection = lock(&self.state);
        let transaction = connection.transaction()?;
        let mut rows = Vec::with_capacity(found.len());
        for (target, trace, span, session, _) in found {
            let sql = "INSERT INTO targets (target, trace_id, span_id, session_id) VALUES (?1, ?2, ?3, ?4)
                       ON CONFLICT DO NOTHING";
            transaction.prepare_cached(sql)?.execute(params![target, trace, span, session])?;
            let sql = "SELECT id FROM targets WHERE target = ?1";
            rows.push(transaction.prepare_cached(sql)?.query_row([target], |row| row.get(0))?);
        }
        transaction.commit()?;
        Ok(rows)
    }

    /// The folded feedback about targets, given by their row, number, ids and position.
    fn fold(
        &self,
        found: Vec<(i64, String, TargetIds, ChangePosition)>,
    ) -> Result<Vec<ForwardTarget>> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> =
            found.iter().map(|(_, target, ..)| format!("toUInt128('{target}')")).collect();
        let mut spoken = self.store.spoken(&format!("target IN ({})", ids.join(", ")))?;
        let latest = self.latest_traces(found.iter().map(|(.., (_, _, session), _)| session))?;
        let mut targets = Vec::with_capacity(found.len());
        for (row, _, ids, position) in found {
            let Some(target) = target_of(&ids) else { continue };
            let spoken = spoken.remove(&ids).unwrap_or_default();
            let latest_trace = latest.get(&ids.2).copied();
            targets.push(forward_target((row, position), target, spoken, latest_trace));
        }
        let roots = self.roots(targets.iter().filter_map(trace_with_root))?;
        for target in &mut targets {
            target.root = trace_with_root(target).and_then(|trace| roots.get(&trace).copied());
        }
        Ok(targets)
    }

    fn latest_traces<'t>(
        &self,
        sessions: impl Iterator<Item = &'t String>,
    ) -> Result<HashMap<String, [u8; 16]>> {
        let sessions: Vec<_> = sessions.filter(|session| !session.is_empty()).collect();
        if sessions.is_empty() {
            return Ok(HashMap::new());
        }
        let rows: Vec<(String, String)> = self.store.rows(&format!(
            "SELECT session_id, argMax(trace_id, start) FROM {} WHERE session_id IN ({})
             GROUP BY session_id",
            self.store.relations()?.traces,
            list(sessions)
        ))?;
        let found = rows.into_iter();
        Ok(found.filter_map(|(session, trace)| Some((session, trace_id_of(&trace)?))).collect())
    }

    /// The spans of traces that have no parent; of several the earliest.
    fn roots(&self, traces: impl Iterator<Item = TraceId>) -> Result<HashMap<TraceId, SpanId>> {
        let traces: Vec<_> = traces.map(|trace| trace.to_string()).collect();
        if traces.is_empty() {
            return Ok(HashMap::new());
        }
        let rows: Vec<(String, String)> = self.store.rows(&format!(
            "SELECT TraceId, argMin(SpanId, (Timestamp, SpanId)) FROM {}
             WHERE TraceId IN ({}) AND ParentSpanId = '' GROUP BY TraceId",
            self.store.relations()?.spans,
            list(&traces)
        ))?;
        let root = |(trace, span): (String, String)| {
            Some((TraceId::from_hex(&trace).ok()?, SpanId::from_hex(&span).ok()?))
        };
        Ok(rows.into_iter().filter_map(root).collect())
    }

    fn changed(&self, after: ChangePosition, limit: usize) -> Result<Vec<ForwardTarget>> {
        let found: Vec<ChangedRow> = self.store.rows(&format!(
            "SELECT toString(target), any(trace_id), any(span_id), any(session_id),
                    toUnixTimestamp64Micro(max(seen)) AS at
             FROM {} WHERE target != 0 AND seen > fromUnixTimestamp64Micro(toInt64({}))
                 AND seen <= now64(6) - INTERVAL {} SECOND
             GROUP BY target ORDER BY at LIMIT {limit} WITH TIES",
            self.store.relations()?.said,
            after.changed,
            SETTLED.as_secs()
        ))?;
        let rows = self.rows_of(&found)?;
        let found = found.into_iter().zip(rows).map(|((target, trace, span, session, at), row)| {
            (row, target, (trace, span, session), ChangePosition { changed: at, row })
        });
        self.fold(found.collect())
    }

    fn count(&self, after: ChangePosition) -> Result<u64> {
        let (count,) = self.store.row::<(u64,)>(&format!(
            "SELECT uniqExact(target) FROM {}
             WHERE target != 0 AND seen > fromUnixTimestamp64Micro(toInt64({}))",
            self.store.relations()?.said,
            after.changed
        ))?;
        Ok(count)
    }

    /// The number and ids of a target of the state.
    fn known(&self, row: i64) -> Result<Option<(String, TargetIds)>> {
        let connection = lock(&self.state);
        let sql = "SELECT target, trace_id, span_id, session_id FROM targets WHERE id = ?1";
        let found = connection
            .prepare_cached(sql)?
            .query_row([row], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?))));
        Ok(found.optional()?)
    }
}

impl ForwardStore for ClickHouseForwarding {
    fn changed_after(&self, after: ChangePosition, limit: usize) -> Result<Vec<ForwardTarget>> {
        apart(|| self.changed(after, limit))
    }

    fn targets(&self, rows: &[i64]) -> Result<Vec<ForwardTarget>> {
        let mut found = Vec::new();
        for row in rows {
            if let Some((target, ids)) = self.known(*row)? {
                found.push((*row, target, ids, ChangePosition::default()));
            }
        }
        apart(|| self.fold(found))
    }

    fn count_after(&self, after: ChangePosition) -> Result<u64> {
        apart(|| self.count(after))
    }

    fn spans_after(&self, _: i64, _: usize) -> Result<Option<SpanPage>> {
        asked("on ClickHouse spans come from the Collector: let it send them on")
    }

    fn count_spans(&self, _: i64) -> Result<[u64; 2]> {
        asked("on ClickHouse spans come from the Collector: let it send them on")
    }

    fn names(&self, rows: &[i64]) -> Result<Vec<(i64, Target)>> {
        let mut found = Vec::new();
        for row in rows {
            let target = self.known(*row)?.and_then(|(_, ids)| target_of(&ids));
            found.extend(target.map(|target| (*row, target)));
        }
        Ok(found)
    }

    fn read_state(&self, read: &mut dyn FnMut(&Connection) -> rusqlite::Result<()>) -> Result<()> {
        Ok(read(&lock(&self.state))?)
    }

    fn write_state(&self, change: StateChange) -> Result<()> {
        let mut connection = lock(&self.state);
        let transaction = connection.transaction()?;
        change(&transaction)?;
        Ok(transaction.commit()?)
    }

    fn settles_after(&self) -> Option<Duration> {
        Some(SETTLED)
    }
}

/// Runs queries on a thread of their own: they wait for the client's runtime, which the asynchronous code of a worker
/// must not.
fn apart<T: Send>(ask: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |_| Error::Engine("a query has ended by a fault".to_owned());
    let ask = || {
        suppress::mark_this_thread();
        ask()
    };
    thread::scope(|scope| scope.spawn(ask).join().unwrap_or_else(|fault| Err(failed(fault))))
}

fn forward_target(
    (row, position): (i64, ChangePosition),
    target: Target,
    spoken: SpanDocuments,
    latest_trace: Option<[u8; 16]>,
) -> ForwardTarget {
    // The target's own span knows its resource best.
    let own = spoken.iter().find(|(_, feedback)| feedback.is_own).or(spoken.first());
    let resource = |name: &str| own.and_then(|(span, _)| span.resource.get(name)).map(text);
    let (service, project) = (resource("service.name"), resource("openinference.project.name"));
    let leaves = forward_leaves(spoken);
    ForwardTarget { row, position, target, service, project, latest_trace, root: None, leaves }
}

/// The trace whose root span backends may name a target by.
fn trace_with_root(target: &ForwardTarget) -> Option<TraceId> {
    match target.target {
        Target::Span(..) => None,
        Target::Trace(trace) => Some(trace),
        Target::Session(_) => target.latest_trace.map(TraceId::from_bytes),
    }
}

fn target_of(ids: &TargetIds) -> Option<Target> {
    let (trace, span, session) = ids;
    if !session.is_empty() {
        return Some(Target::Session(session.clone()));
    }
    let trace = TraceId::from_hex(trace).ok()?;
    let target = match span.is_empty() {
        true => Target::Trace(trace),
        false => Target::Span(trace, SpanId::from_hex(span).ok()?),
    };
    debug_assert_eq!(&key(&target), ids);
    Some(target)
}
