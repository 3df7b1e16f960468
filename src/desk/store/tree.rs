//! The spans of a trace as a tree.

use std::collections::{BTreeMap, HashMap, HashSet};

use opentelemetry::trace::{SpanId, SpanKind, Status};
use serde_json::Value as Json;

use super::batch::nanos;
use super::json::json;
use super::view::{DocumentView, EventView, LinkView, SpanView};
use crate::collector::ReceivedSpan;
use crate::collector::receive::value::Value;
use crate::desk::query::time::millis;

/// What a view of a span has from elsewhere.
pub(crate) struct SpanDetails {
    pub(crate) service: Option<String>,
    pub(crate) scope: String,
    pub(crate) resource: BTreeMap<String, Json>,
    pub(crate) document: Option<DocumentView>,
}

pub(crate) fn view(span: &ReceivedSpan, about: SpanDetails) -> SpanView {
    let (status, status_message) = match &span.status {
        Status::Unset => ("unset", None),
        Status::Ok => ("ok", None),
        Status::Error { description } => ("error", Some(description.to_string())),
    };
    let (start, end) = (nanos(span.start_time_unix_nano), nanos(span.end_time_unix_nano));
    let parent = span.parent_span_id;
    SpanView {
        trace_id: span.trace_id.to_string(),
        span_id: span.span_id.to_string(),
        parent_id: (parent != SpanId::INVALID).then(|| parent.to_string()),
        depth: 0,
        name: span.name.clone(),
        kind: match span.kind {
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
            SpanKind::Internal => "internal",
        },
        start: millis(start),
        duration_ms: millis(end.saturating_sub(start)),
        status,
        status_message: status_message.filter(|message| !message.is_empty()),
        service: about.service,
        scope: about.scope,
        carrier: span.is_carrier(),
        attributes: object(&span.attributes),
        resource: about.resource,
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
        document: about.document,
    }
}

pub(crate) fn object(attributes: &BTreeMap<String, Value>) -> BTreeMap<String, Json> {
    attributes.iter().map(|(key, value)| (key.clone(), json(value))).collect()
}

/// The ids of a trace and a span.
type SpanKey = (String, String);

fn key(span: &SpanView) -> SpanKey {
    (span.trace_id.clone(), span.span_id.clone())
}

/// The span below which `span` is shown: its parent, or the target of a carrier, which may be in another
/// trace.
fn above(span: &SpanView) -> Option<SpanKey> {
    match span.links.as_slice() {
        [link] if span.carrier => Some((link.trace_id.clone(), link.span_id.clone())),
        _ => Some((span.trace_id.clone(), span.parent_id.clone()?)),
    }
}

/// Sorts each span below its parent, and each carrier below its target. Parents and links are foreign data:
/// they may be missing, and they may form a cycle.
pub(crate) fn in_tree(spans: Vec<SpanView>) -> Vec<SpanView> {
    let known: HashSet<SpanKey> = spans.iter().map(key).collect();
    let mut children: HashMap<SpanKey, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (at, span) in spans.iter().enumerate() {
        match above(span) {
            Some(parent) if known.contains(&parent) && parent != key(span) => {
                children.entry(parent).or_default().push(at);
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
            let below = children.get(&key(&spans[at]));
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
