//! One trace: its tree, and the feedback about each span.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension};

use super::super::Result;
use super::super::stored::{self, SPAN_COLUMNS};
use super::super::write::session_target;
use super::{documents, resource_text, traces};
use crate::desk::query::time::millis;
use crate::desk::store::json::hex;
use crate::desk::store::tree::{self, SpanDetails};
use crate::desk::store::view::{SpanView, TraceView, UnmatchedSpan};

/// Spans that are shown of a trace.
const MOST_SPANS: i64 = 10_000;

pub(super) fn trace(connection: &Connection, trace_id: [u8; 16]) -> Result<Option<TraceView>> {
    let found = connection
        .prepare_cached(
            "SELECT t.id, t.start, t.finish, t.session, s.name FROM traces t
             LEFT JOIN sessions s ON s.id = t.session WHERE t.trace_id = ?1",
        )?
        .query_row([trace_id.as_slice()], |row| {
            let times = [row.get::<_, Option<i64>>(1)?, row.get(2)?];
            Ok((row.get(0)?, times, row.get(3)?, row.get::<_, Option<String>>(4)?))
        })
        .optional()?;
    let Some((id, [start, finish], session, session_id)) = found else { return Ok(None) };
    let (mut about, mut waiting) = (HashMap::new(), Vec::new());
    let mut statement =
        connection.prepare_cached("SELECT span, id, arrived FROM targets WHERE trace = ?1")?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let (span, target): (i64, i64) = (row.get(0)?, row.get(1)?);
        about.insert(span, target);
        if !row.get::<_, bool>(2)? {
            let document = documents::document(connection, target)?;
            waiting.push(UnmatchedSpan { span_id: super::span_id(span), document });
        }
    }
    waiting.sort_unstable_by(|a: &UnmatchedSpan, b| a.span_id.cmp(&b.span_id));
    let (spans, truncated) = spans(connection, id, &about)?;
    let document = |target: Option<i64>| {
        target.map(|target| documents::document(connection, target)).transpose()
    };
    let of_session = match session {
        Some(session) => session_target(connection, session)?,
        None => None,
    };
    if spans.is_empty() && about.is_empty() {
        return Ok(None);
    }
    Ok(Some(TraceView {
        trace_id: hex(&trace_id),
        start: start.map(millis),
        duration_ms: traces::duration(start, finish),
        session_id,
        document: document(about.get(&0).copied())?,
        session_document: document(of_session)?,
        spans: tree::in_tree(spans),
        truncated,
        waiting,
    }))
}

/// The spans of a trace, and the carriers in other traces that are about it.
fn spans(
    connection: &Connection,
    trace: i64,
    about: &HashMap<i64, i64>,
) -> Result<(Vec<SpanView>, bool)> {
    let sql = format!(
        "SELECT t.trace_id AS trace_id, {SPAN_COLUMNS}, s.resource AS resource, c.name AS scope,
                s.trace = ?1 AS is_own
         FROM spans s JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         JOIN scopes c ON c.id = s.scope
         WHERE s.trace = ?1 OR s.id IN (
             SELECT d.span FROM targets g JOIN documents d ON d.target = g.id WHERE g.trace = ?1)
         ORDER BY s.start, s.span LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([trace, MOST_SPANS + 1])?;
    let mut spans = Vec::new();
    while let Some(row) = rows.next()? {
        let span = stored::span(row)?;
        let resource: i64 = row.get("resource")?;
        let document = match about.get(&row.get("span_id")?) {
            Some(target) if row.get("is_own")? => Some(documents::document(connection, *target)?),
            _ => None,
        };
        let about = SpanDetails {
            service: resource_text(connection, "service.name", resource)?,
            scope: row.get("scope")?,
            resource: attributes_of(connection, resource)?,
            document,
        };
        spans.push(tree::view(&span, about));
    }
    let most = usize::try_from(MOST_SPANS).unwrap_or(usize::MAX);
    let truncated = spans.len() > most;
    spans.truncate(most);
    Ok((spans, truncated))
}

fn attributes_of(
    connection: &Connection,
    resource: i64,
) -> Result<BTreeMap<String, serde_json::Value>> {
    let mut statement = connection.prepare_cached("SELECT body FROM resources WHERE id = ?1")?;
    let body: Option<Vec<u8>> = statement.query_row([resource], |row| row.get(0)).optional()?;
    Ok(tree::object(&stored::resource(&body.unwrap_or_default())?))
}
