//! One trace: its tree, and what is said about each part of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use opentelemetry::trace::{SpanKind, Status};
use rusqlite::{Connection, OptionalExtension};

use super::super::Result;
use super::super::stored::{self, SPAN_COLUMNS};
use super::super::write::{IS_CARRIER, session_target};
use super::{documents, hex, json, resource_text, traces};
use crate::collector::receive::value::Value;
use crate::desk::query::time::millis;
use crate::desk::store::batch::nanos;
use crate::desk::store::view::{AboutSpan, EventView, LinkView, SpanView, TraceView};

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
    let mut statement = connection
        .prepare_cached("SELECT span, id, arrived FROM targets WHERE trace = ?1 ORDER BY id")?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let (span, target): (i64, i64) = (row.get(0)?, row.get(1)?);
        about.insert(span, target);
        if !row.get::<_, bool>(2)? {
            let document = documents::document(connection, target)?;
            waiting.push(AboutSpan { span_id: super::span_id(span), document });
        }
    }
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
        spans: in_tree(spans),
        truncated,
        waiting,
    }))
}

fn spans(
    connection: &Connection,
    trace: i64,
    about: &HashMap<i64, i64>,
) -> Result<(Vec<SpanView>, bool)> {
    let sql = format!(
        "SELECT {SPAN_COLUMNS}, s.resource, s.flags, c.name
         FROM spans s JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         JOIN scopes c ON c.id = s.scope
         WHERE s.trace = ?1 ORDER BY s.start, s.span LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([trace, MOST_SPANS + 1])?;
    let mut spans = Vec::new();
    while let Some(row) = rows.next()? {
        let span = stored::span(row)?;
        let (resource, flags): (i64, i64) = (row.get(8)?, row.get(9)?);
        let document = match about.get(&row.get(1)?) {
            Some(target) => Some(documents::document(connection, *target)?),
            None => None,
        };
        let (status, status_message) = match &span.status {
            Status::Unset => ("unset", None),
            Status::Ok => ("ok", None),
            Status::Error { description } => ("error", Some(description.to_string())),
        };
        let parent: i64 = row.get(2)?;
        spans.push(SpanView {
            span_id: span.span_id.to_string(),
            parent_id: (parent != 0).then(|| super::span_id(parent)),
            depth: 0,
            name: span.name,
            kind: match span.kind {
                SpanKind::Server => "server",
                SpanKind::Client => "client",
                SpanKind::Producer => "producer",
                SpanKind::Consumer => "consumer",
                SpanKind::Internal => "internal",
            },
            start: millis(nanos(span.start_time_unix_nano)),
            duration_ms: millis(row.get(4)?),
            status,
            status_message: status_message.filter(|message| !message.is_empty()),
            service: resource_text(connection, "service.name", resource)?,
            scope: row.get(10)?,
            carrier: flags & IS_CARRIER != 0,
            attributes: object(&span.attributes),
            resource: attributes_of(connection, resource)?,
            events: span
                .events
                .iter()
                .map(|event| EventView {
                    name: event.name.clone(),
                    time: millis(nanos(event.time_unix_nano)),
                    attributes: object(&event.attributes),
                })
                .collect(),
            links: span
                .links
                .iter()
                .map(|link| LinkView {
                    trace_id: link.trace_id.to_string(),
                    span_id: link.span_id.to_string(),
                    attributes: object(&link.attributes),
                })
                .collect(),
            document,
        });
    }
    let most = usize::try_from(MOST_SPANS).unwrap_or(usize::MAX);
    let truncated = spans.len() > most;
    spans.truncate(most);
    Ok((spans, truncated))
}

fn object(attributes: &BTreeMap<String, Value>) -> BTreeMap<String, serde_json::Value> {
    attributes.iter().map(|(key, value)| (key.clone(), json(value))).collect()
}

fn attributes_of(
    connection: &Connection,
    resource: i64,
) -> Result<BTreeMap<String, serde_json::Value>> {
    let mut statement = connection.prepare_cached("SELECT body FROM resources WHERE id = ?1")?;
    let body: Option<Vec<u8>> = statement.query_row([resource], |row| row.get(0)).optional()?;
    Ok(object(&stored::resource(&body.unwrap_or_default())?))
}

/// Each span after its parent and below it. Parents are foreign data: they may not have come, and
/// they may stand in a circle.
fn in_tree(spans: Vec<SpanView>) -> Vec<SpanView> {
    let known: HashSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let mut children: HashMap<String, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (at, span) in spans.iter().enumerate() {
        match &span.parent_id {
            Some(parent) if known.contains(parent.as_str()) && *parent != span.span_id => {
                children.entry(parent.clone()).or_default().push(at);
            }
            _ => roots.push(at),
        }
    }
    let mut order = Vec::with_capacity(spans.len());
    let mut seen = HashSet::new();
    // After the roots all spans once more: only those in a circle have not been seen by then.
    for start in roots.into_iter().chain(0..spans.len()) {
        let mut stack = vec![(start, 0)];
        while let Some((at, depth)) = stack.pop() {
            if !seen.insert(at) {
                continue;
            }
            order.push((at, depth));
            let below = children.get(&spans[at].span_id);
            stack.extend(below.into_iter().flatten().rev().map(|child| (*child, depth + 1)));
        }
    }
    let mut spans: Vec<_> = spans.into_iter().map(Some).collect();
    let taken = order.into_iter().filter_map(|(at, depth)| {
        let span = spans[at].take()?;
        Some(SpanView { depth, ..span })
    });
    taken.collect()
}
