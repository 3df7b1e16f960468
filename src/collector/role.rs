//! The role of a received span: which target's document its feedback attributes belong to.
//!
//! Every store of spans determines the [role](ReceivedSpan::role) of a span when it arrives. The
//! submissions about one [`Target`] are the input of [`fold`](crate::feedback::fold::fold);
//! [`feedback`] collects and folds them from a plain list of spans.

use std::collections::BTreeMap;

use opentelemetry::trace::{SpanId, TraceId};

use super::foreign::{self, Form};
use super::receive::log_record::ReceivedLogRecord;
use super::receive::received::{self, ReceivedSpan};
use super::receive::value::Value;
use crate::feedback::document::is_in_namespace;
use crate::feedback::fold::{Submission, fold};
use crate::feedback::repetition::{Arrival, Stated, repetitions};

/// The span, session or trace that feedback is about. All feedback about one target folds into one
/// document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// One span.
    Span(TraceId, SpanId),
    /// A session as a whole, by its `session.id`.
    Session(String),
    /// A trace as a whole.
    Trace(TraceId),
}

impl Target {
    /// Whether its ids are valid: a link may have none.
    fn is_valid(&self) -> bool {
        match self {
            Self::Span(trace_id, span_id) => {
                *trace_id != TraceId::INVALID && *span_id != SpanId::INVALID
            }
            Self::Trace(trace_id) => *trace_id != TraceId::INVALID,
            Self::Session(_) => true,
        }
    }
}

/// Which document the feedback attributes of a span belong to.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// use tracing_feedback::collector::{Collector, Role, Target};
/// use tracing_feedback::{SpanExt, enrich_span};
///
/// let collector = Collector::start()?;
/// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
/// # let (layer, telemetry) = builder.build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// let answer = tracing::info_span!("answer").span_context()?;
/// enrich_span!(target = &answer, feedback = { "rating": 5 });
///
/// telemetry.flush()?;
/// let spans = collector.spans();
/// let carrier = spans.iter().find(|span| span.name == "feedback").unwrap();
/// let about = Target::Span(answer.trace_id(), answer.span_id());
/// assert_eq!(carrier.role(), Role::Submission(about));
/// assert_eq!(carrier.attributes["feedback.rating"], 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The span's own: it is a target itself, and its document starts with these attributes.
    Own,
    /// The target's: the attributes are one submission about it, from a carrier or from a span that
    /// was enriched on behalf of its session or trace.
    Submission(Target),
    /// No document: a carrier without exactly one valid link to its target, or feedback about a
    /// session without a `session.id`. Folding ignores it.
    Adrift,
}

impl ReceivedSpan {
    /// Which document the feedback attributes of this span belong to. Of a carrier the link
    /// decides, not the trace that the carrier is in.
    pub fn role(&self) -> Role {
        let text = |key| self.attribute(key).and_then(Value::as_str);
        let target = match text("tracing_feedback.scope") {
            Some("session") => self.session_id().map(Target::Session),
            Some("trace") if !self.is_carrier() => Some(Target::Trace(self.trace_id)),
            Some("trace") => match self.links.as_slice() {
                [link] => Some(Target::Trace(link.trace_id)),
                // A child of its target that has lost its link on the way.
                [] if self.parent_span_id != SpanId::INVALID => Some(Target::Trace(self.trace_id)),
                _ => None,
            },
            _ if self.is_carrier() => match self.links.as_slice() {
                [link] => Some(Target::Span(link.trace_id, link.span_id)),
                _ => None,
            },
            _ => return Role::Own,
        };
        target.filter(Target::is_valid).map_or(Role::Adrift, Role::Submission)
    }

    /// The id of the span's session, from its attribute `session.id`: a text that is not empty, or the
    /// digits of an int.
    pub(crate) fn session_id(&self) -> Option<String> {
        session_id(self.attribute("session.id")?)
    }

    /// Whether the span is a carrier: made only to transport feedback that came after its target
    /// had ended.
    pub fn is_carrier(&self) -> bool {
        self.attribute("tracing_feedback.late").is_some_and(|late| *late == true)
    }

    /// The attributes of the feedback namespaces, with either prefix, in the order of their keys.
    pub fn feedback_attributes(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.attributes
            .iter()
            .filter(|(key, _)| is_in_namespace(key))
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The submission of a span whose [role](Self::role) is [`Role::Submission`].
    pub fn submission(&self) -> Submission<Value> {
        let cleared = match self.attribute("tracing_feedback.cleared") {
            Some(Value::Array(keys)) => keys.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(key)) => vec![key.as_str()],
            _ => vec![],
        };
        Submission {
            span_id: self.span_id,
            time_unix_nano: self.stated_time().unwrap_or(self.start_time_unix_nano),
            cleared: cleared.into_iter().map(str::to_owned).collect(),
            attributes: self.owned_feedback(),
        }
    }

    /// The time of the span's own document: the end of the span, unless an attribute says otherwise.
    pub(crate) fn own_time(&self) -> u64 {
        self.stated_time().unwrap_or(self.end_time_unix_nano.max(self.start_time_unix_nano))
    }

    fn stated_time(&self) -> Option<u64> {
        let time = self.attribute("tracing_feedback.time_unix_nano").and_then(Value::as_i64);
        time.and_then(|time| u64::try_from(time).ok())
    }

    fn owned_feedback(&self) -> Vec<(String, Value)> {
        self.feedback_attributes().map(|(key, value)| (key.to_owned(), value.clone())).collect()
    }
}

/// The id of a session in a value of `session.id`.
pub(crate) fn session_id(value: &Value) -> Option<String> {
    match value {
        Value::String(id) => Some(id.clone()).filter(|id| !id.is_empty()),
        Value::Int(id) => Some(id.to_string()),
        _ => None,
    }
}

/// Folds the feedback about `target` in `spans`, and returns its attributes by full key. Of a
/// target span that arrived more than once, the first arrival counts.
///
/// Feedback in the forms of other emitters counts, too: events `gen_ai.evaluation.result` on spans, and as spans of
/// their own, annotations of OpenInference and Logfire, and the expected output of Langfuse's experiments.
/// `docs/backends.md` has the rules.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// use tracing_feedback::collector::{Collector, Target, feedback};
/// use tracing_feedback::enrich_session;
///
/// let collector = Collector::start()?;
/// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
/// # let (layer, telemetry) = builder.build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// enrich_session!(session_id = "conversation-42", feedback = { "rating": 3, "comment": "Slow" });
/// enrich_session!(session_id = "conversation-42", feedback = { "rating": 4 });
///
/// telemetry.flush()?;
/// let folded = feedback(&collector.spans(), &Target::Session("conversation-42".to_owned()));
/// assert_eq!(folded["feedback.rating"], 4);
/// assert_eq!(folded["feedback.comment"], "Slow");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn feedback<'a>(
    spans: impl IntoIterator<Item = &'a ReceivedSpan>,
    target: &Target,
) -> BTreeMap<String, Value> {
    feedback_with_events(spans, &[], target)
}

/// As [`feedback`], with the events of log records.
pub(crate) fn feedback_with_events<'a>(
    spans: impl IntoIterator<Item = &'a ReceivedSpan>,
    events: &[ReceivedLogRecord],
    target: &Target,
) -> BTreeMap<String, Value> {
    let mut own: Option<(u64, Vec<(String, Value)>)> = None;
    let mut submissions = Vec::new();
    let mut add = |carrier: &ReceivedSpan| match carrier.role() {
        Role::Submission(about) if about == *target => {
            submissions.push((arrival(carrier), carrier.submission()));
        }
        _ => {}
    };
    for span in spans {
        add(span);
        if span.role() == Role::Own && *target == Target::Span(span.trace_id, span.span_id) {
            own.get_or_insert_with(|| (span.own_time(), span.owned_feedback()));
        }
        let (resource, scope) = (&span.resource, &span.scope);
        let carriers = foreign::of_span(span).into_iter();
        carriers.filter_map(|it| received::span(it, resource, scope).ok()).for_each(|it| add(&it));
    }
    for event in events {
        let carrier = foreign::of_log_record(event)
            .and_then(|carrier| received::span(carrier, &event.resource, &event.scope).ok());
        carrier.iter().for_each(&mut add);
    }
    let own_stated = own.iter().map(|(time, attributes)| Stated {
        arrival: Arrival::Span,
        time_unix_nano: *time,
        attributes,
        cleared: &[],
    });
    let stated: Vec<_> = own_stated.chain(submissions.iter().map(stated)).collect();
    let left_out = repetitions(&stated).split_off(usize::from(own.is_some()));
    let counted = submissions.into_iter().zip(left_out).filter(|(_, left_out)| !left_out);
    fold(own.unwrap_or_default().1, counted.map(|((_, submission), _)| submission))
}

fn stated((arrival, submission): &(Arrival, Submission<Value>)) -> Stated<'_, Value> {
    Stated {
        arrival: *arrival,
        time_unix_nano: submission.time_unix_nano,
        attributes: &submission.attributes,
        cleared: &submission.cleared,
    }
}

/// How the feedback of a span or carrier arrived.
pub(crate) fn arrival(span: &ReceivedSpan) -> Arrival {
    match foreign::form_of(span) {
        Some(Form::LogRecord) => Arrival::LogRecord,
        Some(Form::OwnLogRecord) => Arrival::OwnLogRecord,
        _ => Arrival::Span,
    }
}
