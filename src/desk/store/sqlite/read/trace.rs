//! One trace: its tree, and the feedback about each span.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension};

use super::super::Result;
use super::super::stored::{self, SPAN_COLUMNS};
use super::super::write::{IS_TRANSLATED, session_target};
use super::{documents, resource_text, traces};
use crate::desk::query::time::millis;
use crate::desk::store::json::hex;
use crate::desk::store::tree::{self, SpanDetails, SpanPlace};
use crate::desk::store::view::{SpanView, TraceView, UnmatchedSpan};

pub(super) fn trace(
    connection: &Connection,
    trace_id: [u8; 16],
    asked: Option<u64>,
) -> Result<Option<TraceView>> {
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
    let (spans, truncated) = spans(connection, id, &about, asked)?;
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

/// The spans of a trace that are shown, with the carriers in other traces that are about it, and whether
/// others are left out. What came in another form is in the documents: it is no span.
fn spans(
    connection: &Connection,
    trace: i64,
    about: &HashMap<i64, i64>,
    asked: Option<u64>,
) -> Result<(Vec<SpanView>, bool)> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT s.id, s.span, s.parent, s.trace != ?1 AS is_elsewhere,
                s.id IN (SELECT span FROM documents WHERE trace = ?1) AS is_speaking
         FROM spans s WHERE s.trace = ?1 OR s.id IN (
             SELECT d.span FROM targets g JOIN documents d ON d.target = g.id WHERE g.trace = ?1)
             AND s.flags & {IS_TRANSLATED} = 0
         ORDER BY s.start, s.span"
    ))?;
    let mut rows = statement.query([trace])?;
    let (mut ids, mut places) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let (span, is_elsewhere): (i64, bool) = (row.get(1)?, row.get(3)?);
        ids.push(row.get::<_, i64>(0)?);
        places.push(SpanPlace {
            span: span as u64,
            parent: row.get::<_, i64>(2)? as u64,
            is_elsewhere,
            has_feedback: is_elsewhere || row.get(4)? || about.contains_key(&span),
        });
    }
    let sql = format!(
        "SELECT t.trace_id AS trace_id, {SPAN_COLUMNS}, s.resource AS resource, c.name AS scope
         FROM spans s JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         JOIN scopes c ON c.id = s.scope WHERE s.id = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut spans = Vec::new();
    let shown = tree::shown(&places, asked);
    for ((id, place), _) in ids.iter().zip(&places).zip(&shown).filter(|(_, shown)| **shown) {
        let mut rows = statement.query([id])?;
        let Some(row) = rows.next()? else { continue };
        let span = stored::span(row)?;
        let resource: i64 = row.get("resource")?;
        let document = match about.get(&(place.span as i64)) {
            Some(target) if !place.is_elsewhere => Some(documents::document(connection, *target)?),
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
    let truncated = spans.len() < places.len();
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
