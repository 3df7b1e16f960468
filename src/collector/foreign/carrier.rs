//! A judgement as a carrier: a span as this crate sends late feedback, which links to its target.

use std::collections::BTreeMap;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::{Span, span};
use sha2::{Digest, Sha256};

use super::judgement::Statement;
use crate::collector::receive::log_record::EVALUATION;
use crate::collector::receive::received::ReceivedSpan;
use crate::collector::receive::value::Value;
use crate::feedback::document::is_in_namespace;

/// The attribute that says in which form the feedback of a carrier arrived. Carriers that were sent have none.
const FORM: &str = "tracing_feedback.form";
/// The attribute that says who has judged.
const BY: &str = "tracing_feedback.by";
/// The attribute of an event of this crate with the namespace of its leaf.
pub(super) const NAMESPACE: &str = "tracing_feedback.namespace";

/// The form in which feedback arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A log record `gen_ai.evaluation.result`.
    LogRecord,
    /// A log record of this crate's, which repeats what a span or a carrier states.
    OwnLogRecord,
    /// An event `gen_ai.evaluation.result` of a span.
    SpanEvent,
    /// A span `gen_ai.evaluation.result`.
    EvaluationSpan,
    /// An annotation or evaluation of OpenInference.
    OpenInference,
    /// Logfire's annotation span.
    Logfire,
    /// The expected output of an item of a Langfuse experiment.
    Langfuse,
}

impl Form {
    const ALL: [Self; 7] = [
        Self::LogRecord,
        Self::OwnLogRecord,
        Self::SpanEvent,
        Self::EvaluationSpan,
        Self::OpenInference,
        Self::Logfire,
        Self::Langfuse,
    ];

    /// As the attribute, the API and the page name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LogRecord => "log record",
            Self::OwnLogRecord => "own log record",
            Self::SpanEvent => "span event",
            Self::EvaluationSpan => "evaluation span",
            Self::OpenInference => "OpenInference annotation",
            Self::Logfire => "Logfire annotation",
            Self::Langfuse => "Langfuse experiment",
        }
    }
}

/// The form in which the feedback of a carrier arrived; `None` if it was sent as a carrier, or is on its target.
pub(crate) fn form_of(span: &ReceivedSpan) -> Option<Form> {
    let name = span.attribute(FORM)?.as_str()?;
    Form::ALL.into_iter().find(|form| form.name() == name)
}

/// The form of a carrier in protobuf, as [`form_of`].
fn form_in(carrier: &Span) -> Option<Form> {
    let form = carrier.attributes.iter().find(|attribute| attribute.key == FORM)?;
    let name = form.value.clone().map(Value::from_wire)?;
    Form::ALL.into_iter().find(|form| Some(form.name()) == name.as_str())
}

/// What was sent, of a stored span.
pub(crate) enum Sent {
    Span(Span),
    LogRecord(LogRecord),
    /// A part of another span.
    Part,
}

impl Sent {
    /// What was sent where `span` is stored. A log record is the one that came but for its body, its severity, its
    /// trace flags, and the session of one about a span or a trace.
    pub(crate) fn of(span: Span) -> Self {
        match form_in(&span) {
            None => Self::Span(span),
            Some(form @ (Form::LogRecord | Form::OwnLogRecord)) => {
                Self::LogRecord(log_record(span, form == Form::OwnLogRecord))
            }
            Some(_) => Self::Part,
        }
    }
}

fn log_record(carrier: Span, is_own: bool) -> LogRecord {
    const CLEARED: &str = "tracing_feedback.cleared";
    let changed = |attribute: &KeyValue| match attribute.key.as_str() {
        CLEARED => attribute.value.clone().map(Value::from_wire).and_then(|keys| match keys {
            Value::Array(keys) => keys.first()?.as_str().map(str::to_owned),
            _ => None,
        }),
        key => is_in_namespace(key).then(|| key.to_owned()),
    };
    let changed = carrier.attributes.iter().find_map(changed).unwrap_or_default();
    let namespace = changed.split('.').next().unwrap_or_default().to_owned();
    let is_retracted = carrier.attributes.iter().any(|attribute| attribute.key == CLEARED);
    let is_of_record = |attribute: &KeyValue| match attribute.key.as_str() {
        FORM | CLEARED | "tracing_feedback.late" => false,
        "tracing_feedback.scope" | "tracing_feedback.time_unix_nano" => is_own,
        key => !is_in_namespace(key),
    };
    let mut attributes: Vec<_> = carrier.attributes.into_iter().filter(is_of_record).collect();
    if is_own {
        let retracted = is_retracted.then_some(("tracing_feedback.retracted", Value::Bool(true)));
        let own = [(NAMESPACE, Value::from(namespace.as_str()))].into_iter().chain(retracted);
        attributes.extend(own.map(|(key, value)| KeyValue {
            key: key.to_owned(),
            value: Some(value.to_wire()),
            key_strindex: 0,
        }));
    }
    let link = carrier.links.into_iter().next().unwrap_or_default();
    LogRecord {
        event_name: EVALUATION.to_owned(),
        time_unix_nano: carrier.start_time_unix_nano,
        observed_time_unix_nano: carrier.start_time_unix_nano,
        trace_id: link.trace_id,
        span_id: link.span_id,
        attributes,
        ..LogRecord::default()
    }
}

/// What a judgement is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum About {
    Span(TraceId, SpanId),
    Trace(TraceId),
    Session(String),
    /// It has the ids of no span, trace or session.
    Nothing,
}

/// What makes a judgement the same one when it arrives again, besides its target and its criterion.
pub(super) enum Identity<'a> {
    /// The emitter's key for it.
    Key(&'a str),
    /// The span it came on, and what it states. A span states each criterion once, or the same of it.
    Span(TraceId, SpanId),
    /// What it states, and when.
    Content,
}

/// A judgement on its way to a carrier.
pub(super) struct NewCarrier<'a> {
    pub(super) form: Form,
    pub(super) about: About,
    pub(super) identity: Identity<'a>,
    pub(super) statement: Statement,
    pub(super) time_unix_nano: u64,
    /// The emitter's other attributes, which may name the author.
    pub(super) attributes: BTreeMap<&'a str, &'a Value>,
}

impl NewCarrier<'_> {
    pub(super) fn into_span(self) -> Span {
        let (trace_id, span_id) = self.ids();
        let mut attributes: Vec<KeyValue> = Vec::new();
        let mut set = |key: &str, value: Value| {
            let (key, value) = (key.to_owned(), Some(value.to_wire()));
            attributes.push(KeyValue { key, value, key_strindex: 0 });
        };
        let mut links = Vec::new();
        let mut link = |trace_id: TraceId, span_id: Option<SpanId>| {
            links.push(span::Link {
                trace_id: trace_id.to_bytes().to_vec(),
                span_id: span_id.map_or(vec![], |id| id.to_bytes().to_vec()),
                ..span::Link::default()
            });
        };
        match &self.about {
            About::Span(trace_id, span_id) => link(*trace_id, Some(*span_id)),
            About::Trace(trace_id) => {
                set("tracing_feedback.scope", Value::from("trace"));
                link(*trace_id, None);
            }
            About::Session(id) => {
                set("tracing_feedback.scope", Value::from("session"));
                set("session.id", Value::from(id.as_str()));
            }
            About::Nothing => {}
        }
        set("tracing_feedback.late", Value::Bool(true));
        set(FORM, Value::from(self.form.name()));
        let time = i64::try_from(self.time_unix_nano).unwrap_or(i64::MAX);
        set("tracing_feedback.time_unix_nano", Value::Int(time));
        if !self.statement.cleared.is_empty() {
            set("tracing_feedback.cleared", Value::from(self.statement.cleared.clone()));
        }
        let is_reserved =
            |key: &str| key.starts_with("tracing_feedback.") && key != BY || key == "session.id";
        let of_statement = |key: &str| self.statement.leaves.iter().any(|(leaf, _)| leaf == key);
        for (key, value) in &self.attributes {
            if !is_reserved(key) && !of_statement(key) {
                set(key, (*value).clone());
            }
        }
        for (key, value) in self.statement.leaves {
            set(&key, value);
        }
        Span {
            trace_id: trace_id.to_vec(),
            span_id: span_id.to_vec(),
            name: "feedback".to_owned(),
            start_time_unix_nano: self.time_unix_nano,
            end_time_unix_nano: self.time_unix_nano.saturating_add(1),
            flags: 1, // sampled
            attributes,
            links,
            ..Span::default()
        }
    }

    /// The ids of the carrier: SHA-256 over what makes the judgement the same. Every part is preceded by its length,
    /// so that no two different judgements read the same.
    fn ids(&self) -> ([u8; 16], [u8; 8]) {
        let mut parts: Vec<Vec<u8>> = match &self.about {
            About::Span(trace_id, span_id) => {
                vec![b"span".to_vec(), trace_id.to_bytes().to_vec(), span_id.to_bytes().to_vec()]
            }
            About::Trace(trace_id) => vec![b"trace".to_vec(), trace_id.to_bytes().to_vec()],
            About::Session(id) => vec![b"session".to_vec(), id.as_bytes().to_vec()],
            About::Nothing => vec![b"nothing".to_vec()],
        };
        parts.push(self.statement.key.as_bytes().to_vec());
        let add_content = |parts: &mut Vec<Vec<u8>>| {
            for (key, value) in &self.statement.leaves {
                parts.extend([key.as_bytes().to_vec(), value.to_string().into_bytes()]);
            }
            parts.extend(self.statement.cleared.iter().map(|key| key.as_bytes().to_vec()));
        };
        match &self.identity {
            Identity::Key(key) => {
                let what = if self.is_retraction() { b"retraction".as_slice() } else { b"key" };
                parts.extend([what.to_vec(), key.as_bytes().to_vec()]);
            }
            Identity::Span(trace_id, span_id) => {
                parts.push(b"on span".to_vec());
                parts.extend([trace_id.to_bytes().to_vec(), span_id.to_bytes().to_vec()]);
                add_content(&mut parts);
            }
            Identity::Content => {
                // A record of this crate is left out where others aren't, so it must not be taken for one of them.
                let what = match self.form {
                    Form::OwnLogRecord => b"own content".as_slice(),
                    _ => b"content",
                };
                parts.extend([what.to_vec(), self.time_unix_nano.to_be_bytes().to_vec()]);
                add_content(&mut parts);
            }
        }
        let mut hash = Sha256::new();
        for part in std::iter::once(b"tracing-feedback judgement 1".to_vec()).chain(parts) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&digest[..16]);
        span_id.copy_from_slice(&digest[16..24]);
        // An enrichment removes keys before it sets others, and has one record for each, of one time: of equal times
        // the lower id comes first.
        let highest = 1 << 63;
        let span_id = u64::from_be_bytes(span_id);
        let span_id = if self.is_retraction() { span_id & !highest } else { span_id | highest };
        // Never zero, which would be no id at all.
        let trace_id = u128::from_be_bytes(trace_id).max(1).to_be_bytes();
        (trace_id, span_id.max(1).to_be_bytes())
    }

    fn is_retraction(&self) -> bool {
        !self.statement.cleared.is_empty()
    }
}
