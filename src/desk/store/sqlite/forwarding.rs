//! What forwarding reads of a file, and writes to it by the writer's thread.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};

use super::schema::FORWARD_STATE;
use super::stored::{self, SPAN_COLUMNS};
use super::{BUSY_TIMEOUT, OpenError, Result, Sqlite, SqliteWriter, file};
use crate::collector::Target;
use crate::collector::foreign::Sent;
use crate::collector::receive::value::Value;
use crate::desk::store::Error;
use crate::desk::store::batch::{SpanFeedback, nanos, text};
use crate::desk::store::forwarding::{
    ChangePosition, EVALUATOR_KIND, ForwardLeaf, ForwardStore, ForwardTarget, SpanPage, StateChange,
};
use crate::desk::store::history::speaker;

/// The latest documents in which authors are looked for.
const MOST_DOCUMENTS: i64 = 50;
/// No more targets are read after this much text.
const ENOUGH_BYTES: usize = 4 << 20;

const TARGET: &str = "
    SELECT g.id, g.changed, g.trace, g.span, g.session, t.trace_id, s.name, iif(t.root_parent = 0, t.root_span, NULL)
    FROM targets g LEFT JOIN traces t ON t.id = g.trace LEFT JOIN sessions s ON s.id = g.session";

/// What a file of the state of forwarding has besides, where the store is none.
const STATE_TARGETS: &str = "
CREATE TABLE targets (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL UNIQUE,
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, session_id TEXT NOT NULL
) STRICT;
";
/// "fdfw": a file is the state of forwarding.
const STATE_APPLICATION: i64 = 0x6664_6677;
const STATE_VERSION: i64 = 1;

/// Opens a file that has the state of forwarding alone, and makes it if it is missing.
pub(crate) fn open_forward_state(path: &Path) -> Result<Connection, OpenError> {
    file::make_private(path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let pragma = |connection: &Connection, name: &str| {
        connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
    };
    let application = pragma(&connection, "application_id")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != STATE_APPLICATION && tables > 0 {
        return Err(OpenError::NotAState);
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match pragma(&transaction, "user_version")? {
        0 => {
            transaction.execute_batch(STATE_TARGETS)?;
            transaction.execute_batch(FORWARD_STATE)?;
            transaction.pragma_update(None, "application_id", STATE_APPLICATION)?;
            transaction.pragma_update(None, "user_version", STATE_VERSION)?;
        }
        STATE_VERSION => {}
        found => return Err(OpenError::Newer { found, known: STATE_VERSION }),
    }
    transaction.commit()?;
    Ok(connection)
}

/// A file as forwarding sees it.
pub(crate) struct SqliteForwarding {
    reader: Sqlite,
    /// `None`: it is only read.
    writer: Option<Arc<SqliteWriter>>,
}

impl SqliteForwarding {
    /// For a file that `writer` writes. A query that takes longer than `limit` ends with an error.
    pub(crate) fn new(path: &Path, limit: Duration, writer: Arc<SqliteWriter>) -> Self {
        Self { reader: Sqlite::new(path, limit), writer: Some(writer) }
    }

    /// For a file that exists, and is only read.
    pub(crate) fn reading(path: &Path, limit: Duration) -> Result<Self, OpenError> {
        Ok(Self { reader: Sqlite::existing(path, limit)?, writer: None })
    }
}

impl ForwardStore for SqliteForwarding {
    fn changed_after(&self, after: ChangePosition, limit: usize) -> Result<Vec<ForwardTarget>> {
        self.reader.read(|connection| {
            // In two parts, each of which the index answers in order.
            let mut found = Vec::new();
            let mut bytes = 0;
            for (condition, bound) in [
                ("g.changed = ?1 AND g.id > ?2 ORDER BY g.id", after.row),
                ("g.changed > ?1 + ?2 ORDER BY g.changed, g.id", 0),
            ] {
                let sql = format!("{TARGET} WHERE {condition} LIMIT ?3");
                let mut statement = connection.prepare_cached(&sql)?;
                let left = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
                let mut rows = statement.query([after.changed, bound, left])?;
                while bytes < ENOUGH_BYTES
                    && let Some(row) = rows.next()?
                {
                    let target = target(connection, row)?;
                    bytes += target
                        .leaves
                        .iter()
                        .map(|leaf| leaf.value.datum().text().len())
                        .sum::<usize>();
                    found.push(target);
                }
            }
            Ok(found)
        })
    }

    fn targets(&self, rows: &[i64]) -> Result<Vec<ForwardTarget>> {
        self.reader.read(|connection| {
            let sql = format!("{TARGET} WHERE g.id = ?1");
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = Vec::new();
            for row in rows {
                let mut rows = statement.query([row])?;
                if let Some(row) = rows.next()? {
                    found.push(target(connection, row)?);
                }
            }
            Ok(found)
        })
    }

    fn count_after(&self, after: ChangePosition) -> Result<u64> {
        self.reader.read(|connection| {
            let sql = "SELECT (SELECT count(*) FROM targets WHERE changed = ?1 AND id > ?2)
                            + (SELECT count(*) FROM targets WHERE changed > ?1)";
            let count: i64 = connection
                .prepare_cached(sql)?
                .query_row([after.changed, after.row], |row| row.get(0))?;
            Ok(count.unsigned_abs())
        })
    }

    fn spans_after(&self, after: i64, limit: usize) -> Result<Option<SpanPage>> {
        self.reader.read(|connection| spans_after(connection, after, limit))
    }

    fn count_spans(&self, after: i64) -> Result<[u64; 2]> {
        self.reader.read(|connection| {
            let sql = "SELECT count(*) FILTER (WHERE id > ?1), count(*) FILTER (WHERE id <= ?1) FROM spans";
            let counts = connection.prepare_cached(sql)?.query_row([after], |row| {
                Ok([row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()])
            })?;
            Ok(counts)
        })
    }

    fn names(&self, rows: &[i64]) -> Result<Vec<(i64, Target)>> {
        self.reader.read(|connection| names(connection, rows))
    }

    fn read_state(&self, read: &mut dyn FnMut(&Connection) -> rusqlite::Result<()>) -> Result<()> {
        self.reader.read(|connection| Ok(read(connection)?))
    }

    fn write_state(&self, change: StateChange) -> Result<()> {
        let unwritable = || Error::Damaged("the state of forwarding is only read here".to_owned());
        self.writer
            .as_ref()
            .ok_or_else(unwritable)?
            .write_state(change)
            .map_err(|error| Error::Damaged(error.to_string()))
    }
}

/// The rows of spans are numbered in the order in which they were stored. A store that was emptied begins anew, so
/// a position behind its end is no position in it.
fn spans_after(connection: &Connection, after: i64, limit: usize) -> Result<Option<SpanPage>> {
    let sql = "SELECT coalesce(max(id), 0) FROM spans";
    let end: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    let after = if end < after { 0 } else { after };
    let mut statement = connection.prepare_cached(
        "SELECT s.id, t.trace_id, s.span, s.parent, s.start, s.duration, s.kind, n.name, s.body,
                s.resource, s.scope, c.name, c.version
         FROM spans s JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         JOIN scopes c ON c.id = s.scope WHERE s.id > ?1 ORDER BY s.id LIMIT ?2",
    )?;
    let mut rows = statement.query([after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let damaged = |error: prost::DecodeError| Error::Damaged(error.to_string());
    let mut groups: BTreeMap<i64, BTreeMap<i64, (ScopeSpans, ScopeLogs)>> = BTreeMap::new();
    let (mut spans, mut last, mut bytes) = (0, after, 0);
    while bytes < ENOUGH_BYTES
        && let Some(row) = rows.next()?
    {
        last = row.get(0)?;
        let body = row.get_ref(8)?.as_blob().map_err(rusqlite::Error::from)?;
        bytes += body.len() + 100;
        let (start, duration): (i64, i64) = (row.get(4)?, row.get(5)?);
        let parent: i64 = row.get(3)?;
        let mut span = Span::decode(body).map_err(damaged)?;
        span.trace_id = row.get::<_, [u8; 16]>(1)?.to_vec();
        span.span_id = row.get::<_, i64>(2)?.to_be_bytes().to_vec();
        span.parent_span_id = if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() };
        span.start_time_unix_nano = start.unsigned_abs();
        span.end_time_unix_nano = start.saturating_add(duration).unsigned_abs();
        span.kind = row.get(6)?;
        span.name = row.get(7)?;
        let scopes = groups.entry(row.get(9)?).or_default();
        let group = scopes.entry(row.get(10)?).or_insert_with(|| {
            let scope = Some(InstrumentationScope {
                name: row.get(11).unwrap_or_default(),
                version: row.get(12).unwrap_or_default(),
                ..InstrumentationScope::default()
            });
            let spans = ScopeSpans { scope: scope.clone(), ..ScopeSpans::default() };
            (spans, ScopeLogs { scope, ..ScopeLogs::default() })
        });
        match Sent::of(span) {
            Sent::Span(span) => group.0.spans.push(span),
            Sent::LogRecord(record) => group.1.log_records.push(record),
            Sent::Part => {}
        }
        spans += 1;
    }
    if spans == 0 {
        return Ok(None);
    }
    let mut request = ExportTraceServiceRequest::default();
    let mut logs = ExportLogsServiceRequest::default();
    for (resource, scopes) in groups {
        let sql = "SELECT body FROM resources WHERE id = ?1";
        let body: Vec<u8> =
            connection.prepare_cached(sql)?.query_row([resource], |row| row.get(0))?;
        let resource = Some(Resource::decode(body.as_slice()).map_err(damaged)?);
        let (mut scope_spans, mut scope_logs): (Vec<_>, Vec<_>) = scopes.into_values().unzip();
        scope_spans.retain(|group| !group.spans.is_empty());
        scope_logs.retain(|group| !group.log_records.is_empty());
        if !scope_spans.is_empty() {
            let resource = resource.clone();
            let group = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
            request.resource_spans.push(group);
        }
        if !scope_logs.is_empty() {
            let group = ResourceLogs { resource, scope_logs, ..ResourceLogs::default() };
            logs.resource_logs.push(group);
        }
    }
    Ok(Some(SpanPage { request, logs, spans, last }))
}

/// The ids of targets.
fn names(connection: &Connection, rows: &[i64]) -> Result<Vec<(i64, Target)>> {
    let sql = format!("{TARGET} WHERE g.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = Vec::new();
    for row in rows {
        found.extend(statement.query_row([row], |row| Ok((row.get(0)?, ids(row)?))).optional()?);
    }
    Ok(found)
}

fn ids(row: &Row<'_>) -> rusqlite::Result<Target> {
    if let Some(session) = row.get(6)? {
        return Ok(Target::Session(session));
    }
    let trace = TraceId::from_bytes(row.get::<_, Option<[u8; 16]>>(5)?.unwrap_or_default());
    Ok(match row.get::<_, i64>(3)? {
        0 => Target::Trace(trace),
        span => Target::Span(trace, span_id(span)),
    })
}

fn span_id(span: i64) -> SpanId {
    SpanId::from_bytes(span.to_be_bytes())
}

fn target(connection: &Connection, row: &Row<'_>) -> Result<ForwardTarget> {
    let (id, session): (i64, i64) = (row.get(0)?, row.get(4)?);
    let mut found = ForwardTarget {
        row: id,
        position: ChangePosition { changed: row.get(1)?, row: id },
        target: ids(row)?,
        service: None,
        project: None,
        latest_trace: None,
        root: row.get::<_, Option<i64>>(7)?.map(span_id),
        leaves: Vec::new(),
    };
    let resource = leaves(connection, &mut found)?;
    authors(connection, &mut found)?;
    if resource != 0 {
        found.service = resource_text(connection, "service.name", resource)?;
        found.project = resource_text(connection, "openinference.project.name", resource)?;
    }
    if session != 0 {
        let sql = "SELECT trace_id, iif(root_parent = 0, root_span, NULL) FROM traces WHERE session = ?1 AND start IS NOT NULL
                   ORDER BY start DESC, id DESC LIMIT 1";
        let latest = connection.prepare_cached(sql)?.query_row([session], |row| {
            Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?.map(span_id)))
        });
        if let Some((trace, root)) = latest.optional()? {
            (found.latest_trace, found.root) = (Some(trace), root);
        }
    }
    Ok(found)
}

/// Adds the leaves of a target; returns its resource.
fn leaves(connection: &Connection, target: &mut ForwardTarget) -> Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT f.key, l.type, l.value, l.given, l.resource
         FROM leaves l JOIN fields f ON f.id = l.field WHERE l.target = ?1 ORDER BY f.key",
    )?;
    let mut rows = statement.query([target.row])?;
    let mut resource = 0;
    while let Some(row) = rows.next()? {
        resource = row.get(4)?;
        let key = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        if key.starts_with("feedback.") || key.starts_with("metrics.") {
            target.leaves.push(ForwardLeaf {
                key: key.to_owned(),
                value: stored::leaf(row, 1, 2)?,
                given: row.get(3)?,
                by: None,
                evaluator: None,
            });
        }
    }
    Ok(resource)
}

/// Adds who has set each leaf, from the documents about the target.
fn authors(connection: &Connection, target: &mut ForwardTarget) -> Result<()> {
    if target.leaves.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT t.trace_id AS trace_id, {SPAN_COLUMNS} FROM documents d JOIN spans s ON s.id = d.span
         JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         WHERE d.target = ?1 ORDER BY d.time DESC, d.span_id DESC LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([target.row, MOST_DOCUMENTS])?;
    let mut open: HashMap<&str, usize> = HashMap::new();
    let keys: Vec<String> = target.leaves.iter().map(|leaf| leaf.key.clone()).collect();
    for (at, key) in keys.iter().enumerate() {
        open.insert(key, at);
    }
    while !open.is_empty()
        && let Some(row) = rows.next()?
    {
        let span = stored::span(row)?;
        let Some(feedback) = SpanFeedback::of(&span) else { continue };
        let given = nanos(feedback.submission.time_unix_nano);
        let said = &feedback.submission.attributes;
        let value = |name: &str| said.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let by = speaker(&span, &feedback);
        let evaluator = value(EVALUATOR_KIND).map(|value: &Value| text(value));
        for (key, _) in said {
            if let Some(at) = open.get(key.as_str())
                && target.leaves[*at].given == given
            {
                target.leaves[*at].by.clone_from(&by);
                target.leaves[*at].evaluator.clone_from(&evaluator);
                open.remove(key.as_str());
            }
        }
    }
    Ok(())
}

fn resource_text(connection: &Connection, key: &str, resource: i64) -> Result<Option<String>> {
    let sql = "SELECT text FROM resource_texts WHERE key = ?1 AND resource = ?2";
    let found = connection.prepare_cached(sql)?.query_row((key, resource), |row| row.get(0));
    Ok(found.optional()?)
}
