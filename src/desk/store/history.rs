//! All feedback about one target: folded, and its history.

use std::collections::{BTreeMap, HashSet};

use opentelemetry::trace::SpanId;

use super::batch::{SpanFeedback, nanos, text};
use super::forwarding::{EVALUATOR_KIND, ForwardLeaf};
use super::json::{datum_json, json};
use super::leaf::Leaf;
use super::view::{Change, DocumentView, LeafView};
use crate::collector::ReceivedSpan;
use crate::collector::foreign::{self, Form};
use crate::collector::receive::value::Value;
use crate::desk::query::time::millis;
use crate::feedback::fold::{Submission, fold};
use crate::feedback::repetition::repetitions;

/// Changes that a history lists, at the most. The folded values include all changes.
const MOST_CHANGES: usize = 500;

/// Attributes that name the author of feedback. `tracing_feedback.by` is set where the author is another person
/// than the user whom the span is about.
const SPEAKERS: [&str; 7] = [
    "tracing_feedback.by",
    "feedback.user_id",
    "feedback.user",
    "user_properties.user_id",
    "user_properties.id",
    "enduser.id",
    "user.id",
];

/// A value, and the time at which it was given.
pub(crate) type DatedValue = (Value, i64);

/// Folds the documents about one target. Each step folds the state with the next submission, so all rules
/// are those of [`fold`].
pub(crate) fn document(spoken: Vec<(ReceivedSpan, SpanFeedback)>) -> DocumentView {
    let mut state: BTreeMap<String, DatedValue> = BTreeMap::new();
    let mut history = Vec::new();
    for (span, feedback) in in_order(spoken) {
        let before: Vec<String> = state.keys().cloned().collect();
        let by = speaker(&span, &feedback);
        let time = nanos(feedback.submission.time_unix_nano);
        let said = &feedback.submission.attributes;
        let set = said.iter().map(|(key, value)| one(key, value, time)).collect();
        state = fold(state, [dated(feedback.submission)]);
        history.push(Change {
            time: millis(time),
            by,
            span_id: span.span_id.to_string(),
            trace_id: span.trace_id.to_string(),
            late: span.is_carrier(),
            form: foreign::form_of(&span).map(Form::name),
            set,
            retracted: before.into_iter().filter(|key| !state.contains_key(key)).collect(),
        });
    }
    let surplus = history.len().saturating_sub(MOST_CHANGES);
    history.drain(..surplus);
    let mut namespaces: BTreeMap<String, Vec<LeafView>> = BTreeMap::new();
    for (key, (value, given)) in state {
        let namespace = key.split('.').next().unwrap_or_default().to_owned();
        namespaces.entry(namespace).or_default().push(one(&key, &value, given));
    }
    DocumentView { namespaces, history }
}

/// The leaves of `feedback` and `metrics` that these documents fold to, each with who has set it.
pub(crate) fn forward_leaves(spoken: Vec<(ReceivedSpan, SpanFeedback)>) -> Vec<ForwardLeaf> {
    let mut state: BTreeMap<String, ForwardLeaf> = BTreeMap::new();
    for (span, feedback) in in_order(spoken) {
        let by = speaker(&span, &feedback);
        let Submission { span_id, time_unix_nano, cleared, attributes } = feedback.submission;
        let said = attributes.iter().find(|(key, _)| key == EVALUATOR_KIND);
        let evaluator = said.map(|(_, value)| text(value));
        let leaf = |(key, value): (String, Value)| {
            let leaf = ForwardLeaf {
                value: Leaf::of(&key, value),
                given: nanos(time_unix_nano),
                by: by.clone(),
                evaluator: evaluator.clone(),
                key: key.clone(),
            };
            (key, leaf)
        };
        let attributes = attributes.into_iter().map(leaf).collect();
        state = fold(state, [Submission { span_id, time_unix_nano, cleared, attributes }]);
    }
    let is_forwarded =
        |leaf: &ForwardLeaf| leaf.key.starts_with("feedback.") || leaf.key.starts_with("metrics.");
    state.into_values().filter(is_forwarded).collect()
}

/// The author of a field's value, if known.
pub(crate) fn giver(spoken: Vec<(ReceivedSpan, SpanFeedback)>, field: &str) -> Option<String> {
    let spoken = in_order(spoken);
    let mut latest = spoken.iter().rev();
    let last = latest
        .find(|(_, feedback)| feedback.submission.attributes.iter().any(|(key, _)| key == field));
    last.and_then(|(span, feedback)| speaker(span, feedback))
}

/// The order of folding, and each span id once, without log records that repeat what spans state; the own
/// document comes first.
fn in_order(mut spoken: Vec<(ReceivedSpan, SpanFeedback)>) -> Vec<(ReceivedSpan, SpanFeedback)> {
    spoken.sort_by_key(|(span, feedback)| {
        let Submission { time_unix_nano, span_id, .. } = &feedback.submission;
        (!feedback.is_own, *time_unix_nano, span_id.to_bytes(), span.trace_id.to_bytes())
    });
    let mut seen: HashSet<(bool, SpanId)> = HashSet::new();
    spoken.retain(|(_, feedback)| seen.insert((feedback.is_own, feedback.submission.span_id)));
    let stated: Vec<_> = spoken.iter().map(|(_, feedback)| feedback.stated()).collect();
    let mut left_out = repetitions(&stated).into_iter();
    spoken.retain(|_| !left_out.next().unwrap_or(false));
    spoken
}

/// Adds the time of a submission to each of its values.
pub(crate) fn dated(submission: Submission<Value>) -> Submission<DatedValue> {
    let given = nanos(submission.time_unix_nano);
    Submission {
        span_id: submission.span_id,
        time_unix_nano: submission.time_unix_nano,
        cleared: submission.cleared,
        attributes: submission
            .attributes
            .into_iter()
            .map(|(key, value)| (key, (value, given)))
            .collect(),
    }
}

/// The author, if the feedback or its span names one.
pub(crate) fn speaker(span: &ReceivedSpan, feedback: &SpanFeedback) -> Option<String> {
    let said = |name: &str| {
        let of_document = feedback.submission.attributes.iter().find(|(key, _)| key == name);
        of_document.map(|(_, value)| value).or_else(|| span.attribute(name)).map(text)
    };
    SPEAKERS.into_iter().find_map(said)
}

pub(crate) fn one(key: &str, value: &Value, given: i64) -> LeafView {
    let leaf = Leaf::of(key, value.clone());
    let datum = leaf.datum();
    let value = match leaf {
        Leaf::Other(_) => json(value),
        _ => datum_json(datum),
    };
    LeafView {
        field: key.to_owned(),
        kind: datum.kind(),
        value,
        given: millis(given),
        span_id: None,
    }
}
