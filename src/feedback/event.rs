//! Events: the log records of an enrichment, one for each of its leaves.
//!
//! They are `gen_ai.evaluation.result` of the [semantic conventions for generative AI][conventions], with
//! attributes of our own for what those conventions lack. A record repeats what the span or the carrier
//! states, for a backend that reads the convention.
//!
//! [conventions]: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-events/

use opentelemetry::Value;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};

use super::carrier::{Carrier, DocumentScope, SCOPE, TIME};
use super::document::Document;
use crate::otlp::attributes::{Attributes, ValueRef};
use crate::record::LogRecord;
use crate::session::{SESSION_ID, Session};

/// The name of every event.
const EVENT_NAME: &str = "gen_ai.evaluation.result";

const NAME: &str = "gen_ai.evaluation.name";
const SCORE_VALUE: &str = "gen_ai.evaluation.score.value";
const SCORE_LABEL: &str = "gen_ai.evaluation.score.label";
const EXPLANATION: &str = "gen_ai.evaluation.explanation";
/// Copied from the span that an event is about.
pub(crate) const RESPONSE_ID: &str = "gen_ai.response.id";
pub(crate) const CONVERSATION_ID: &str = "gen_ai.conversation.id";

const NAMESPACE: &str = "tracing_feedback.namespace";
const ID: &str = "tracing_feedback.id";
const RETRACTED: &str = "tracing_feedback.retracted";

/// The namespaces of which events are emitted: opinions, and no descriptions of the operation.
const NAMESPACES: [&str; 2] = ["feedback", "metrics"];

/// The leaf that is the explanation of the others in its namespace.
const COMMENT: &str = "comment";

/// The end of an explanation that was cut.
const MARK: &str = "…";

/// Whether an enrichment has events: it sets or removes something in one of their namespaces.
pub(crate) fn has_events(patch: &Document<Value>) -> bool {
    let mut keys = patch.leaves().map(|(key, _)| key).chain(patch.cleared());
    keys.any(|key| NAMESPACES.contains(&key.split('.').next().unwrap_or_default()))
}

/// What the events of one enrichment are about.
#[derive(Debug, Default)]
pub(crate) struct EventContext {
    /// The target, with its span id only where the feedback is about the span.
    pub(crate) target: Option<SpanContext>,
    pub(crate) scope: Option<DocumentScope>,
    pub(crate) session: Option<Session>,
    /// The name of the submission, if it has one.
    pub(crate) id: Option<String>,
    pub(crate) response_id: Option<Value>,
    pub(crate) conversation_id: Option<Value>,
}

impl EventContext {
    /// What a carrier is about.
    pub(crate) fn of_carrier(carrier: &Carrier) -> Self {
        Self {
            target: carrier.target.clone(),
            scope: carrier.scope,
            session: carrier.session.clone(),
            id: carrier.submission_id(),
            ..Self::default()
        }
    }

    /// The log records of a patch that was made at `time`: first one for each key that it removes, then
    /// one for each leaf that it sets. All explanations together have at most `most_explanation` bytes.
    pub(crate) fn log_records(
        &self,
        patch: &Document<Value>,
        time: u64,
        most_explanation: usize,
    ) -> Vec<LogRecord> {
        let mut records = Vec::new();
        for key in patch.cleared() {
            let (namespace, name) = key.split_once('.').unwrap_or((key, ""));
            if NAMESPACES.contains(&namespace) {
                let mut attributes = self.attributes(namespace, name, time);
                attributes.push(RETRACTED, ValueRef::Bool(true));
                records.push(self.log_record(attributes, time));
            }
        }
        for namespace in NAMESPACES {
            let leaves = || {
                patch.leaves().filter_map(move |(key, value)| match key.split_once('.') {
                    Some((of_key, name)) if of_key == namespace => Some((name, value)),
                    _ => None,
                })
            };
            let comment = leaves().find_map(|(name, value)| match value {
                Value::String(text) if name == COMMENT => Some(text.as_str()),
                _ => None,
            });
            // Each leaf has the explanation, so that a long one would take many times its own bytes.
            let most = most_explanation / leaves().count().max(1);
            let explanation = comment.map(|text| Explanation::new(text, most));
            for (name, value) in leaves() {
                let mut attributes = self.attributes(namespace, name, time);
                append_score(&mut attributes, value);
                if let Some(explanation) = &explanation {
                    attributes.push(EXPLANATION, ValueRef::Str(explanation.as_str()));
                }
                records.push(self.log_record(attributes, time));
            }
        }
        records
    }

    /// The attributes of every event. A whole namespace has no name.
    fn attributes(&self, namespace: &str, name: &str, time: u64) -> Attributes {
        let mut attributes = Attributes::with_capacity(8);
        if !name.is_empty() {
            attributes.push(NAME, ValueRef::Str(name));
        }
        let of_span = [(RESPONSE_ID, &self.response_id), (CONVERSATION_ID, &self.conversation_id)];
        for (key, value) in of_span {
            if let Some(value) = value {
                attributes.push(key, ValueRef::from(value));
            }
        }
        if let Some(session) = &self.session {
            attributes.push(SESSION_ID, ValueRef::Str(session.id()));
        }
        attributes.push(NAMESPACE, ValueRef::Str(namespace));
        attributes.push(TIME, ValueRef::I64(i64::try_from(time).unwrap_or(i64::MAX)));
        if let Some(id) = &self.id {
            attributes.push(ID, ValueRef::Str(id));
        }
        if let Some(scope) = self.scope {
            attributes.push(SCOPE, ValueRef::Str(scope.as_str()));
        }
        attributes
    }

    fn log_record(&self, attributes: Attributes, time: u64) -> LogRecord {
        let (trace_id, span_id, flags) = match &self.target {
            Some(target) => (target.trace_id(), target.span_id(), target.trace_flags()),
            None => (TraceId::INVALID, SpanId::INVALID, TraceFlags::default()),
        };
        let is_of_trace = self.scope == Some(DocumentScope::Trace);
        LogRecord {
            event_name: EVENT_NAME,
            time,
            observed_time: time,
            trace_id,
            span_id: if is_of_trace { SpanId::INVALID } else { span_id },
            flags,
            attributes,
        }
    }
}

/// The value is a number by the conventions, and the label a text; a bool has both.
fn append_score(attributes: &mut Attributes, value: &Value) {
    match value {
        Value::Bool(value) => {
            attributes.push(SCORE_VALUE, ValueRef::F64(f64::from(u8::from(*value))));
            attributes.push(SCORE_LABEL, ValueRef::Str(if *value { "true" } else { "false" }));
        }
        Value::I64(value) => attributes.push(SCORE_VALUE, ValueRef::F64(*value as f64)),
        Value::F64(value) => attributes.push(SCORE_VALUE, ValueRef::F64(*value)),
        Value::String(text) => attributes.push(SCORE_LABEL, ValueRef::Str(text.as_str())),
        // Only a redaction returns one.
        other => attributes.push(SCORE_LABEL, ValueRef::Str(&other.as_str())),
    }
}

/// A comment, cut at a character if it is too long.
enum Explanation<'c> {
    Whole(&'c str),
    Cut(String),
}

impl<'c> Explanation<'c> {
    fn new(comment: &'c str, most: usize) -> Self {
        if comment.len() <= most {
            return Self::Whole(comment);
        }
        let mut end = most.saturating_sub(MARK.len());
        while !comment.is_char_boundary(end) {
            end -= 1;
        }
        Self::Cut(format!("{}{MARK}", &comment[..end]))
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Whole(text) => text,
            Self::Cut(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_explanations_together_keep_within_the_limit() {
        let mut patch = Document::default();
        patch.set("feedback.comment", Value::from("é".repeat(1000)));
        for at in 0..7 {
            patch.set(format!("feedback.edits.{at}"), Value::Bool(true));
        }
        let context = EventContext::default();
        let bytes = |most| {
            let records = context.log_records(&patch, 1, most);
            let explanations = records.iter().map(|record| {
                match record.attributes.iter().find(|(key, _)| *key == EXPLANATION) {
                    Some((_, value)) => value.as_str().len(),
                    None => panic!("{record:?}"),
                }
            });
            explanations.sum::<usize>()
        };
        assert_eq!(bytes(16_000), 16_000);
        assert!((15_000..16_000).contains(&bytes(15_999)));
        assert!(bytes(400) <= 400);
        assert_eq!(bytes(0), 8 * MARK.len());
    }
}
