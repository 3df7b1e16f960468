//! Annotations and evaluations of
//! [OpenInference](https://github.com/Arize-ai/openinference/blob/main/spec/annotations.md): lists of judgements as
//! attributes of a span, about the span itself, its trace or its session. After the target has ended they are on a
//! span of their own, which has one link to it.

use std::collections::BTreeMap;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::trace::v1::Span;

use super::carrier::{About, Form, Identity, NewCarrier};
use super::judgement::{Judgement, Source};
use crate::collector::receive::received::ReceivedSpan;
use crate::collector::receive::value::Value;

const SPAN_KIND: &str = "openinference.span.kind";

/// Attributes of a span with judgements that may name the author.
const AUTHORS: [&str; 2] = ["user.id", "enduser.id"];
/// The longest text that is repeated for each judgement of a span, in bytes: an author or a session.
const LONGEST_REPEATED: usize = 1024;

/// What a list of judgements is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Span,
    Trace,
    Session,
}

/// Whether an attribute may belong to a list of judgements. Every attribute of every span is asked.
pub(super) fn is_of_list(key: &str) -> bool {
    let scoped = key.strip_prefix("trace.").or_else(|| key.strip_prefix("session."));
    let list = scoped.unwrap_or(key);
    list.starts_with("annotations.") || list.starts_with("evaluations.")
}

/// Whether the span traces an evaluation of something else.
pub(super) fn is_evaluator(span: &ReceivedSpan) -> bool {
    span.attribute(SPAN_KIND).and_then(Value::as_str) == Some("EVALUATOR")
}

/// The scope, the list and the index of a judgement, and the field of it: `annotations.0.annotation.name`.
fn place(key: &str) -> Option<(Scope, &str, u64, &str)> {
    let (scope, rest) = if let Some(rest) = key.strip_prefix("trace.") {
        (Scope::Trace, rest)
    } else if let Some(rest) = key.strip_prefix("session.") {
        (Scope::Session, rest)
    } else {
        (Scope::Span, key)
    };
    let (list, rest) = rest.split_once('.')?;
    let item = match list {
        "annotations" => "annotation.",
        "evaluations" => "evaluation.",
        _ => return None,
    };
    let (index, rest) = rest.split_once('.')?;
    Some((scope, list, index.parse().ok()?, rest.strip_prefix(item)?))
}

pub(super) fn of_span(span: &ReceivedSpan, carriers: &mut Vec<Span>) {
    let mut items: BTreeMap<(Scope, &str, u64), BTreeMap<&str, &Value>> = BTreeMap::new();
    for (key, value) in &span.attributes {
        if let Some((scope, list, index, field)) = place(key) {
            items.entry((scope, list, index)).or_default().insert(field, value);
        }
    }
    if items.is_empty() {
        return;
    }
    let authors = AUTHORS.iter().filter_map(|key| Some((*key, span.attribute(key)?)));
    let is_short = |value: &Value| value.as_str().is_some_and(|it| it.len() <= LONGEST_REPEATED);
    let authors: BTreeMap<&str, &Value> = authors.filter(|(_, value)| is_short(value)).collect();
    for ((scope, ..), fields) in items {
        let Some(statement) = judgement(&fields).and_then(Judgement::into_statement) else {
            continue;
        };
        let new = NewCarrier {
            form: Form::OpenInference,
            about: about(span, scope),
            identity: Identity::Span(span.trace_id, span.span_id),
            statement,
            time_unix_nano: span.end_time_unix_nano.max(span.start_time_unix_nano),
            attributes: authors.clone(),
        };
        carriers.push(new.into_span());
    }
}

fn about(span: &ReceivedSpan, scope: Scope) -> About {
    if scope == Scope::Session {
        let id = span.session_id().filter(|id| id.len() <= LONGEST_REPEATED);
        return id.map_or(About::Nothing, About::Session);
    }
    let target = match target_link(span) {
        Some(target) => target,
        None => (span.trace_id, span.span_id),
    };
    match (scope, target) {
        (Scope::Trace, (trace_id, _)) => About::Trace(trace_id),
        (_, (trace_id, span_id)) => About::Span(trace_id, span_id),
    }
}

/// The span that the only link of a span of judgements names. A span of another kind of work (a model's call, a
/// chain) is the target itself, whatever it links to.
fn target_link(span: &ReceivedSpan) -> Option<(TraceId, SpanId)> {
    if span.attribute(SPAN_KIND).is_some() && !is_evaluator(span) {
        return None;
    }
    match span.links.as_slice() {
        [link] if link.trace_id != TraceId::INVALID && link.span_id != SpanId::INVALID => {
            Some((link.trace_id, link.span_id))
        }
        _ => None,
    }
}

fn judgement(fields: &BTreeMap<&str, &Value>) -> Option<Judgement> {
    let text = |field: &str| fields.get(field).and_then(|value| value.as_str()).map(str::to_owned);
    let source = match text("annotator_kind").as_deref() {
        Some("LLM" | "CODE") => Source::Evaluator,
        _ => Source::Person,
    };
    Some(Judgement {
        name: text("name")?,
        score: fields.get("score").map(|score| (*score).clone()),
        label: text("label"),
        explanation: text("explanation"),
        source,
        ..Judgement::default()
    })
}
