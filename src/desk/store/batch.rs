//! What a store writes: the spans of a request, decoded and classified beforehand, so that the writer's
//! thread decodes nothing. Feedback in another form, on a span or as a log record, becomes a carrier here.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::collector::foreign;
use crate::collector::receive::decoded::{DecodedRequest, RefusedItems};
use crate::collector::receive::log_record::log_record;
use crate::collector::receive::received::{self, SpanIds};
use crate::collector::receive::refusal::{RefusalKind, RequestRefusal};
use crate::collector::receive::signal::ExportRequest;
use crate::collector::receive::value::{Value, attributes};
use crate::collector::role::arrival;
use crate::collector::{ReceivedSpan, Role, Scope, Target};
use crate::desk::store::session::session_of;
use crate::feedback::document::is_in_namespace;
use crate::feedback::fold::Submission;
use crate::feedback::repetition::{Arrival, Stated};

/// How many events and attributes with judgements the spans of a request may have: each takes many times as much memory
/// as a carrier, of which the receiver's budget knows nothing.
const MOST_JUDGEMENTS: usize = 50_000;

/// The spans of one request.
#[derive(Debug, Default)]
pub(crate) struct SpanBatch {
    pub(crate) resources: Vec<NewResource>,
    /// Name and version.
    pub(crate) scopes: Vec<(String, String)>,
    pub(crate) spans: Vec<NewSpan>,
    /// Estimated memory.
    pub(crate) bytes: usize,
    /// The spans or log records that are not valid, which are left out.
    pub(crate) refused: RefusedItems,
}

/// A resource on its way into a store.
#[derive(Debug)]
pub(crate) struct NewResource {
    /// SHA-256 of its attributes, sorted by key: equal resources have equal hashes.
    pub(crate) hash: [u8; 32],
    /// An OTLP `Resource`.
    pub(crate) body: Vec<u8>,
    /// Its attributes as text, for filters.
    pub(crate) texts: Vec<(String, String)>,
}

/// A span on its way into a store.
#[derive(Debug)]
pub(crate) struct NewSpan {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: u64,
    /// 0 for a root.
    pub(crate) parent_id: u64,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) kind: i32,
    pub(crate) is_error: bool,
    pub(crate) name: String,
    /// Positions in [`SpanBatch`].
    pub(crate) resource: usize,
    pub(crate) scope: usize,
    pub(crate) session: Option<String>,
    /// A span that only carries feedback about another.
    pub(crate) is_carrier: bool,
    /// A carrier that stands for feedback in another form.
    pub(crate) is_translated: bool,
    pub(crate) feedback: Option<SpanFeedback>,
    /// An OTLP `Span` without the data of the other fields.
    pub(crate) body: Vec<u8>,
}

/// The feedback a span carries, and its target.
#[derive(Clone, Debug)]
pub(crate) struct SpanFeedback {
    /// `None`: a carrier without a trace or session id.
    pub(crate) target: Option<Target>,
    /// The target itself carries it. Submissions are applied to this document.
    pub(crate) is_own: bool,
    /// Whether it came on a span, or as a log record that may repeat what a span states.
    pub(crate) arrival: Arrival,
    /// `time_unix_nano` of a target's own document is the end of its span, unless an attribute says
    /// otherwise.
    pub(crate) submission: Submission<Value>,
}

impl SpanBatch {
    /// Classifies a request. Spans that are not valid are left out; if all are, the request is refused.
    pub(crate) fn of(request: impl Into<DecodedRequest>) -> Result<Self, RequestRefusal> {
        let DecodedRequest { message, refused } = request.into();
        let mut batch = Self { refused, ..Self::default() };
        let mut judgements = 0;
        for group in message.resource_spans {
            let (resource, attributes) = batch.add_resource(group.resource.unwrap_or_default());
            for group in group.scope_spans {
                let (scope, shared) = batch.add_scope(group.scope.unwrap_or_default());
                let place = Place { resource, scope, attributes: &attributes, shared: &shared };
                for span in group.spans {
                    judgements += foreign::most_judgements(&span);
                    if judgements > MOST_JUDGEMENTS {
                        return Err(too_many_judgements());
                    }
                    batch.add_translated(&span, &place);
                    match NewSpan::of(span, &place) {
                        Ok(span) => batch.add(span),
                        Err(refusal) => batch.refused.add(refusal),
                    }
                }
            }
        }
        match batch.refused.first.take_if(|_| batch.spans.is_empty()) {
            Some(refusal) => Err(refusal),
            None => Ok(batch),
        }
    }

    /// The carriers of the log records that are feedback. Other records are left out.
    pub(crate) fn of_logs(request: DecodedRequest<ExportLogsServiceRequest>) -> Self {
        let DecodedRequest { message, refused } = request;
        let mut batch = Self { refused, ..Self::default() };
        for group in message.into_groups() {
            let (resource, attributes) = batch.add_resource(group.resource.unwrap_or_default());
            for group in group.scopes {
                let (scope, shared) = batch.add_scope(group.scope.unwrap_or_default());
                let place = Place { resource, scope, attributes: &attributes, shared: &shared };
                for record in group.items {
                    let record = log_record(record, &attributes, &shared);
                    let carrier = foreign::of_log_record(&record);
                    batch.spans_of(carrier, &place);
                }
            }
        }
        if batch.spans.is_empty() {
            batch.resources.clear();
            batch.scopes.clear();
        }
        batch
    }

    /// Adds a resource, and returns its position and its attributes.
    fn add_resource(&mut self, resource: Resource) -> (usize, Arc<BTreeMap<String, Value>>) {
        let (new, attributes) = NewResource::of(resource);
        self.bytes += new.body.len() * 3;
        self.resources.push(new);
        (self.resources.len() - 1, attributes)
    }

    /// Adds a scope, and returns its position and its name.
    fn add_scope(&mut self, scope: InstrumentationScope) -> (usize, Arc<Scope>) {
        let shared = Arc::new(Scope { name: scope.name.clone(), ..Scope::default() });
        self.scopes.push((scope.name, scope.version));
        (self.scopes.len() - 1, shared)
    }

    fn add(&mut self, span: NewSpan) {
        self.bytes += 256 + 2 * span.body.len();
        self.spans.push(span);
    }

    /// Adds the carriers of what a span states in another form. A span that is not valid has none.
    fn add_translated(&mut self, span: &Span, place: &Place<'_>) {
        if foreign::most_judgements(span) == 0 {
            return;
        }
        if let Ok(received) = received::span(span.clone(), place.attributes, place.shared) {
            self.spans_of(foreign::of_span(&received), place);
        }
    }

    fn spans_of(&mut self, carriers: impl IntoIterator<Item = Span>, place: &Place<'_>) {
        for carrier in carriers {
            if let Ok(span) = NewSpan::of(carrier, place) {
                self.add(span);
            }
        }
    }
}

fn too_many_judgements() -> RequestRefusal {
    let reason = format!(
        "the spans have more than {MOST_JUDGEMENTS} events and attributes with evaluations: send fewer spans"
    );
    RequestRefusal::new(RefusalKind::TooLarge, reason)
}

/// Where in a batch a span is.
struct Place<'a> {
    /// The positions of its resource and its scope.
    resource: usize,
    scope: usize,
    attributes: &'a Arc<BTreeMap<String, Value>>,
    shared: &'a Arc<Scope>,
}

impl NewResource {
    fn of(mut resource: Resource) -> (Self, Arc<BTreeMap<String, Value>>) {
        resource.attributes.sort_by(|a, b| a.key.cmp(&b.key));
        resource.dropped_attributes_count = 0;
        resource.entity_refs.clear();
        let body = resource.encode_to_vec();
        let attributes = attributes(resource.attributes).0;
        let texts = attributes.iter().map(|(key, value)| (key.clone(), text(value))).collect();
        (Self { hash: Sha256::digest(&body).into(), body, texts }, Arc::new(attributes))
    }
}

impl NewSpan {
    fn of(mut span: Span, place: &Place<'_>) -> Result<Self, RequestRefusal> {
        let has_feedback = span.attributes.iter().any(|pair| concerns_feedback(&pair.key));
        let session = session_of(|key| attribute(&span.attributes, key));
        let (mut feedback, mut is_carrier, mut is_translated) = (None, false, false);
        // A link with a broken id is refused like the span's own; few spans have any.
        if has_feedback || !span.links.is_empty() {
            let received = received::span(span.clone(), place.attributes, place.shared)?;
            is_carrier = received.is_carrier();
            is_translated = is_carrier && foreign::form_of(&received).is_some();
            feedback = SpanFeedback::of(&received);
        }
        let SpanIds { trace_id, span_id, parent_span_id } = received::ids(&span)?;
        let is_error =
            span.status.as_ref().is_some_and(|status| status.code == i32::from(StatusCode::Error));
        if span.status.as_ref().is_some_and(|status| *status == Status::default()) {
            span.status = None;
        }
        let start = nanos(span.start_time_unix_nano);
        let end = nanos(span.end_time_unix_nano).max(start);
        let kind = span.kind;
        let name = std::mem::take(&mut span.name);
        span.trace_id.clear();
        span.span_id.clear();
        span.parent_span_id.clear();
        (span.start_time_unix_nano, span.end_time_unix_nano, span.kind) = (0, 0, 0);
        Ok(Self {
            trace_id: trace_id.to_bytes(),
            span_id: u64::from_be_bytes(span_id.to_bytes()),
            parent_id: u64::from_be_bytes(parent_span_id.to_bytes()),
            start,
            end,
            kind,
            is_error,
            name,
            resource: place.resource,
            scope: place.scope,
            session,
            is_carrier,
            is_translated,
            feedback,
            body: span.encode_to_vec(),
        })
    }
}

impl SpanFeedback {
    /// The feedback of a span; `None` if it has none.
    pub(crate) fn of(span: &ReceivedSpan) -> Option<Self> {
        let mut submission = span.submission();
        let role = span.role();
        if role == Role::Own {
            if submission.attributes.is_empty() {
                return None;
            }
            submission.time_unix_nano = span.own_time();
        }
        for (key, _) in &mut submission.attributes {
            canonical(key);
        }
        submission.cleared.iter_mut().for_each(canonical);
        let (target, is_own) = match role {
            Role::Own => (Some(Target::Span(span.trace_id, span.span_id)), true),
            Role::Submission(target) => (Some(target), false),
            Role::Adrift => (None, false),
        };
        Some(Self { target, is_own, arrival: arrival(span), submission })
    }

    /// Whether it counts as a document: a log record that repeats what a span states does not.
    pub(crate) fn is_counted(&self) -> bool {
        self.arrival != Arrival::OwnLogRecord
    }

    /// What it states, for the rule of repetitions.
    pub(crate) fn stated(&self) -> Stated<'_, Value> {
        Stated {
            arrival: self.arrival,
            time_unix_nano: self.submission.time_unix_nano,
            attributes: &self.submission.attributes,
            cleared: &self.submission.cleared,
        }
    }
}

/// HoneyHive's `honeyhive_feedback.rating` is the field `feedback.rating`.
fn canonical(key: &mut String) {
    const PREFIX: &str = "honeyhive_";
    if key.strip_prefix(PREFIX).is_some_and(|rest| is_in_namespace(&format!("{rest}."))) {
        key.drain(..PREFIX.len());
    }
}

/// Whether an attribute belongs to feedback. Most spans have no such attribute and are not decoded further.
fn concerns_feedback(key: &str) -> bool {
    key.starts_with("tracing_feedback.") || is_in_namespace(key)
}

/// The last value of an attribute that came.
fn attribute(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let last = attributes.iter().rev().find(|pair| pair.key == key)?;
    Some(Value::from_wire(last.value.clone()?))
}

/// A value as text, for comparisons: strings without quotes.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Nanoseconds as a signed integer, the type of SQLite; the greatest is in the year 2262. It is less
/// than `i64::MAX`, which as the exclusive end of a range stands for no end.
pub(crate) fn nanos(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX).min(i64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_off_namespaces_only() {
        for (key, expected) in [
            ("honeyhive_feedback.rating", "feedback.rating"),
            ("honeyhive_feedback", "feedback"),
            ("honeyhive_other.x", "honeyhive_other.x"),
            ("feedback.rating", "feedback.rating"),
        ] {
            let mut key = key.to_owned();
            canonical(&mut key);
            assert_eq!(key, expected);
        }
    }
}
