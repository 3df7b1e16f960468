//! The spans of a trace as a tree.

use std::collections::{BTreeMap, HashMap, HashSet};

use opentelemetry::trace::{SpanId, SpanKind, Status};
use serde_json::Value as Json;

use super::batch::nanos;
use super::json::json;
use super::view::{DocumentView, EventView, LinkView, SpanView};
use crate::collector::ReceivedSpan;
use crate::collector::receive::value::Value;
use crate::desk::answer::Answer;
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
        answer: if span.is_carrier() { None } else { Answer::of(&span.attributes, &span.events) },
    }
}

pub(crate) fn object(attributes: &BTreeMap<String, Value>) -> BTreeMap<String, Json> {
    attributes.iter().map(|(key, value)| (key.clone(), json(value))).collect()
}

/// The spans that are shown of a trace, besides those that always are.
pub(crate) const MOST_SPANS: usize = 10_000;
/// The spans with feedback, with their ancestors, that are shown beyond [`MOST_SPANS`].
const MOST_WITH_FEEDBACK: usize = 40_000;

/// A span of a trace, of which it is not yet decided whether it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanPlace {
    pub(crate) span: u64,
    /// 0 for a root.
    pub(crate) parent: u64,
    /// A carrier about this trace that is in another one.
    pub(crate) is_elsewhere: bool,
    /// Feedback is about it, or it carries some.
    pub(crate) has_feedback: bool,
}

/// Which spans of a trace are shown, in the order of their start: the first [`MOST_SPANS`], and later ones that
/// are asked for or have feedback, with their ancestors.
pub(crate) fn shown(places: &[SpanPlace], asked: Option<u64>) -> Vec<bool> {
    if places.len() <= MOST_SPANS {
        return vec![true; places.len()];
    }
    let own = places.iter().enumerate().filter(|(_, place)| !place.is_elsewhere);
    let position: HashMap<u64, usize> = own.map(|(at, place)| (place.span, at)).collect();
    let mut shown = vec![false; places.len()];
    let mut left = MOST_WITH_FEEDBACK;
    let asked = asked.and_then(|span| position.get(&span).copied());
    let with_feedback = (0..places.len()).filter(|at| places[*at].has_feedback);
    for at in asked.into_iter().chain(with_feedback) {
        let mut next = Some(at);
        // A cycle of parents ends where it meets itself.
        while let Some(at) = next.filter(|at| !shown[*at] && left > 0) {
            shown[at] = true;
            left -= 1;
            let SpanPlace { parent, is_elsewhere, .. } = places[at];
            next = position.get(&parent).copied().filter(|_| !is_elsewhere);
        }
    }
    let mut rest = MOST_SPANS.saturating_sub(MOST_WITH_FEEDBACK - left);
    for is_shown in &mut shown {
        if !*is_shown && rest > 0 {
            *is_shown = true;
            rest -= 1;
        }
    }
    shown
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(span: u64, parent: u64, has_feedback: bool) -> SpanPlace {
        SpanPlace { span, parent, is_elsewhere: false, has_feedback }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..Default::default() })]

        /// Parents are any spans, so there are missing ones and cycles.
        #[test]
        fn feedback_and_what_is_asked_for_are_shown_with_their_ancestors(
            count in 0..12_000_u64,
            parents in prop::collection::vec(0..13_000_u64, 50),
            with_feedback in prop::collection::vec(0..12_000_u64, 5),
            asked in 0..12_000_u64,
        ) {
            let places: Vec<_> = (1..=count)
                .map(|span| {
                    let parent = parents[(span % 50) as usize] ^ (span & 7);
                    place(span, parent, with_feedback.contains(&span))
                })
                .collect();
            let shown = shown(&places, Some(asked));
            prop_assert_eq!(shown.len(), places.len());
            let total = shown.iter().filter(|shown| **shown).count();
            prop_assert!(total >= places.len().min(MOST_SPANS));
            for start in with_feedback.iter().copied().chain([asked]) {
                let (mut at, mut seen) = (start, HashSet::new());
                while (1..=count).contains(&at) && seen.insert(at) {
                    prop_assert!(shown[at as usize - 1], "{at} above {start}");
                    at = places[at as usize - 1].parent;
                }
            }
        }
    }

    #[test]
    fn the_spans_with_feedback_beyond_the_limit_are_limited() {
        let places: Vec<_> = (1..=60_000).map(|span| place(span, span - 1, true)).collect();
        let shown = shown(&places, Some(60_000));
        assert_eq!(shown.iter().filter(|shown| **shown).count(), MOST_WITH_FEEDBACK);
        assert!(shown[59_999]);
    }
}
