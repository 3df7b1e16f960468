//! The annotation span of Logfire: a child of the span it is about, of no length, with one value under its own name
//! (`logfire.experimental.annotations.record_feedback`).

use opentelemetry::trace::SpanId;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::carrier::{About, Form, Identity, NewCarrier};
use super::judgement::Judgement;
use crate::collector::receive::received::ReceivedSpan;
use crate::collector::receive::value::Value;

/// The attribute with the name of the value.
pub(super) const NAME: &str = "logfire.feedback.name";
const COMMENT: &str = "logfire.feedback.comment";

pub(super) fn of_span(span: &ReceivedSpan) -> Option<Span> {
    if span.attribute("logfire.span_type")?.as_str() != Some("annotation") {
        return None;
    }
    let name = span.attribute(NAME)?.as_str()?;
    let (score, label) = match span.attribute(name) {
        Some(Value::String(label)) => (None, Some(label.clone())),
        score => (score.cloned(), None),
    };
    let explanation = span.attribute(COMMENT).and_then(Value::as_str).map(str::to_owned);
    let judgement =
        Judgement { name: name.to_owned(), score, label, explanation, ..Judgement::default() };
    let about = match span.parent_span_id {
        SpanId::INVALID => About::Nothing,
        parent => About::Span(span.trace_id, parent),
    };
    // The other attributes of the annotation span: all but Logfire's own, and the value.
    let attributes = span.attributes.iter().map(|(key, value)| (key.as_str(), value));
    let is_own = |key: &str| key.starts_with("logfire.") || key == name;
    let new = NewCarrier {
        form: Form::Logfire,
        about,
        identity: Identity::Span(span.trace_id, span.span_id),
        statement: judgement.into_statement()?,
        time_unix_nano: span.end_time_unix_nano,
        attributes: attributes.filter(|(key, _)| !is_own(key)).collect(),
    };
    Some(new.into_span())
}
