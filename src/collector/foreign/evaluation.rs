//! [`gen_ai.evaluation.result`](https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-events.md#event-gen_aievaluationresult):
//! one judgement, as a log record, as an event of a span, or as the span that the crate `genai` makes of it.
//!
//! Beside the attributes of the convention, those of its emitters are read: OpenLIT's key, pydantic-evals' evaluator,
//! the source of Microsoft Foundry, and what events of this crate have.

use std::collections::BTreeMap;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::trace::v1::Span;

use super::carrier::{About, Form, Identity, NAMESPACE, NewCarrier};
use super::judgement::{Judgement, Source};
use super::openinference;
use crate::collector::receive::log_record::{EVALUATION, ReceivedLogRecord};
use crate::collector::receive::received::ReceivedSpan;
use crate::collector::receive::value::Value;

const NAME: &str = "gen_ai.evaluation.name";
const SCORE: &str = "gen_ai.evaluation.score.value";
const LABEL: &str = "gen_ai.evaluation.score.label";
const EXPLANATION: &str = "gen_ai.evaluation.explanation";
const ERROR: &str = "error.type";
const RETRACTED: &str = "tracing_feedback.retracted";
/// OpenLIT's key of one score.
const OPENLIT_KEY: &str = "openlit.score.idempotency_key";
/// JSON in text, with Microsoft Foundry's details of an evaluation.
const INTERNAL_PROPERTIES: &str = "internal_properties";
/// A longer text of details is not read.
const LONGEST_PROPERTIES: usize = 64 << 10;

type Attributes = BTreeMap<String, Value>;

pub(super) fn of_log_record(record: &ReceivedLogRecord) -> Option<Span> {
    if !record.is_evaluation() {
        return None;
    }
    let attributes = &record.attributes;
    let is_own = attributes.contains_key(NAMESPACE);
    let session = || session_of(attributes).map(About::Session);
    let has_trace = record.trace_id != TraceId::INVALID;
    let about = match text(attributes, "tracing_feedback.scope") {
        Some("session") => session(),
        Some("trace") if has_trace => Some(About::Trace(record.trace_id)),
        _ if has_trace && record.span_id != SpanId::INVALID => {
            Some(About::Span(record.trace_id, record.span_id))
        }
        _ if has_trace => Some(About::Trace(record.trace_id)),
        _ => session(),
    };
    let stated = attributes.get("tracing_feedback.time_unix_nano").and_then(Value::as_i64);
    let stated = stated.and_then(|time| u64::try_from(time).ok()).filter(|_| is_own);
    let time = match record.time_unix_nano {
        0 => record.observed_time_unix_nano,
        time => time,
    };
    let form = if is_own { Form::OwnLogRecord } else { Form::LogRecord };
    carrier(form, about.unwrap_or(About::Nothing), stated.unwrap_or(time), attributes, None)
}

/// The events of a span, which are about it. Only where the span traces an evaluation and links to what it
/// evaluates, they are about that.
pub(super) fn of_events(span: &ReceivedSpan, carriers: &mut Vec<Span>) {
    let about = match span.links.as_slice() {
        [link] if openinference::is_evaluator(span) && link.span_id != SpanId::INVALID => {
            About::Span(link.trace_id, link.span_id)
        }
        _ => About::Span(span.trace_id, span.span_id),
    };
    for event in span.events.iter().filter(|event| event.name == EVALUATION) {
        let time = match event.time_unix_nano {
            0 => span.end_time_unix_nano,
            time => time,
        };
        carriers.extend(carrier(Form::SpanEvent, about.clone(), time, &event.attributes, None));
    }
}

/// The span that the crate `genai` makes of the event: it is about its parent.
pub(super) fn of_span(span: &ReceivedSpan) -> Option<Span> {
    if span.name != EVALUATION {
        return None;
    }
    let about = match session_of(&span.attributes) {
        _ if span.parent_span_id != SpanId::INVALID => {
            About::Span(span.trace_id, span.parent_span_id)
        }
        Some(session) => About::Session(session),
        None => About::Nothing,
    };
    let on = Some((span.trace_id, span.span_id));
    carrier(Form::EvaluationSpan, about, span.start_time_unix_nano, &span.attributes, on)
}

/// The carrier of a judgement with these attributes, which came `on` a span of its own or on none.
fn carrier(
    form: Form,
    about: About,
    time_unix_nano: u64,
    attributes: &Attributes,
    on: Option<(TraceId, SpanId)>,
) -> Option<Span> {
    let statement = judgement(attributes)?.into_statement()?;
    let key = match form {
        Form::OwnLogRecord => text(attributes, "tracing_feedback.id"),
        _ => text(attributes, OPENLIT_KEY),
    };
    let identity = match (key, on) {
        (Some(key), _) => Identity::Key(key),
        (None, Some((trace_id, span_id))) => Identity::Span(trace_id, span_id),
        (None, None) => Identity::Content,
    };
    let attributes = attributes.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let new = NewCarrier { form, about, identity, statement, time_unix_nano, attributes };
    Some(new.into_span())
}

fn judgement(attributes: &Attributes) -> Option<Judgement> {
    let owned = |key| text(attributes, key).map(str::to_owned);
    let properties = internal_properties(attributes);
    let is_retracted = attributes.get(RETRACTED).is_some_and(|it| *it == true);
    // An enrichment that retracts a whole namespace has no name for it.
    let is_namespace = is_retracted && attributes.contains_key(NAMESPACE);
    let name = owned(NAME).or_else(|| is_namespace.then(String::new));
    let property = |key: &str| properties.as_ref().and_then(|all| all.get(key)?.as_str());
    Some(Judgement {
        name: name?,
        score: attributes.get(SCORE).cloned(),
        label: owned(LABEL),
        explanation: owned(EXPLANATION),
        error: owned(ERROR),
        is_ordinal: property("gen_ai.evaluation.type") == Some("ordinal"),
        source: source(attributes, property("microsoft.human_evaluation.source").is_some()),
        is_retracted,
    })
}

/// The source of a judgement. `is_human` says whether Foundry's details name one.
fn source(attributes: &Attributes, is_human: bool) -> Source {
    if let Some(namespace) = text(attributes, NAMESPACE) {
        return match namespace {
            "metrics" => Source::Enrichment("metrics".to_owned()),
            _ => Source::Enrichment("feedback".to_owned()),
        };
    }
    if is_human || attributes.contains_key("microsoft.gen_ai.human_evaluation.source") {
        return Source::Person;
    }
    match text(attributes, "microsoft.gen_ai.evaluation.actor.type") {
        Some(actor) if actor.eq_ignore_ascii_case("human") => return Source::Person,
        Some(_) => return Source::Evaluator,
        None => {}
    }
    let evaluator = "gen_ai.evaluation.evaluator.";
    if attributes.keys().any(|key| key.starts_with(evaluator)) {
        return Source::Evaluator;
    }
    Source::Person
}

fn internal_properties(attributes: &Attributes) -> Option<serde_json::Value> {
    let json = text(attributes, INTERNAL_PROPERTIES)?;
    if json.len() > LONGEST_PROPERTIES {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// The session by the attributes of a record: what the conventions call a conversation, too.
fn session_of(attributes: &Attributes) -> Option<String> {
    let keys = ["session.id", "gen_ai.conversation.id"];
    let mut ids = keys.iter().filter_map(|key| text(attributes, key));
    ids.next().map(str::to_owned)
}

/// A text that is not empty.
fn text<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    attributes.get(key)?.as_str().filter(|text| !text.is_empty())
}
