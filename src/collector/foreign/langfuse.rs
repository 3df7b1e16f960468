//! The expected output of an item of a Langfuse experiment. Langfuse's scores do not go by OTLP; of its attributes this
//! is the one that says what an answer should have been.

use opentelemetry_proto::tonic::trace::v1::Span;

use super::carrier::{About, Form, Identity, NewCarrier};
use super::judgement::Statement;
use crate::collector::receive::received::ReceivedSpan;
use crate::collector::receive::value::Value;

/// A text, or JSON as text.
pub(super) const EXPECTED_OUTPUT: &str = "langfuse.experiment.item.expected_output";
/// The span of the item as a whole. Langfuse sets the attributes of an item on the spans below it, too.
const ROOT: &str = "langfuse.experiment.item.root_observation_id";

pub(super) fn of_span(span: &ReceivedSpan) -> Option<Span> {
    let expected = span.attribute(EXPECTED_OUTPUT)?.as_str().filter(|text| !text.is_empty())?;
    let root = span.attribute(ROOT).and_then(Value::as_str);
    if root.is_some_and(|root| root != span.span_id.to_string()) {
        return None;
    }
    let key = "feedback.ground_truth".to_owned();
    let leaves = vec![(key.clone(), Value::from(expected))];
    let new = NewCarrier {
        form: Form::Langfuse,
        about: About::Span(span.trace_id, span.span_id),
        identity: Identity::Span(span.trace_id, span.span_id),
        statement: Statement { key, leaves, cleared: vec![] },
        time_unix_nano: span.end_time_unix_nano.max(span.start_time_unix_nano),
        attributes: Default::default(),
    };
    Some(new.into_span())
}
