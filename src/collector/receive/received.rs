//! Received spans, converted from OTLP messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as WireKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, span};

use super::refusal::RequestRefusal;
use super::value::{Value, attributes};

/// A span as it arrived.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedSpan {
    /// The span's name.
    pub name: String,
    /// The trace it belongs to, never invalid.
    pub trace_id: TraceId,
    /// Its own id, never invalid.
    pub span_id: SpanId,
    /// Its parent's id, [`SpanId::INVALID`] for a root.
    pub parent_span_id: SpanId,
    /// [`SpanKind::Internal`] also where the sender left it unspecified.
    pub kind: SpanKind,
    /// Nanoseconds since the Unix epoch.
    pub start_time_unix_nano: u64,
    /// Nanoseconds since the Unix epoch.
    pub end_time_unix_nano: u64,
    /// The W3C trace flags in the lowest byte, and in bits 8 and 9 whether the parent is remote.
    pub flags: u32,
    /// The W3C `tracestate`, as text.
    pub trace_state: String,
    /// The attributes by key; of a key that came twice, the last value.
    pub attributes: BTreeMap<String, Value>,
    /// The keys that came more than once in `attributes`, sorted. OTLP forbids them.
    pub duplicate_keys: Vec<String>,
    /// The events in the order they were sent.
    pub events: Vec<ReceivedEvent>,
    /// The links in the order they were sent.
    pub links: Vec<ReceivedLink>,
    /// The span's status.
    pub status: Status,
    /// How many attributes the sender has dropped.
    pub dropped_attributes_count: u32,
    /// How many events the sender has dropped.
    pub dropped_events_count: u32,
    /// How many links the sender has dropped.
    pub dropped_links_count: u32,
    /// The attributes of the resource, shared by all spans under it.
    pub resource: Arc<BTreeMap<String, Value>>,
    /// The instrumentation scope, shared by all spans under it.
    pub scope: Arc<Scope>,
}

/// An event of a received span.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedEvent {
    /// The event's name.
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// The attributes by key; of a key that came twice, the last value.
    pub attributes: BTreeMap<String, Value>,
    /// How many attributes the sender has dropped.
    pub dropped_attributes_count: u32,
}

/// A link of a received span to another span.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedLink {
    /// The other span's trace, [`TraceId::INVALID`] where the sender left it empty.
    pub trace_id: TraceId,
    /// The other span, [`SpanId::INVALID`] where the sender left it empty.
    pub span_id: SpanId,
    /// The other span's W3C `tracestate`, as text.
    pub trace_state: String,
    /// As [`ReceivedSpan::flags`], for the other span.
    pub flags: u32,
    /// The attributes by key; of a key that came twice, the last value.
    pub attributes: BTreeMap<String, Value>,
    /// How many attributes the sender has dropped.
    pub dropped_attributes_count: u32,
}

/// The instrumentation scope of a span.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Scope {
    /// The name of the library that made the span; empty if not known.
    pub name: String,
    /// The library's version; empty if not known.
    pub version: String,
    /// The attributes by key; of a key that came twice, the last value.
    pub attributes: BTreeMap<String, Value>,
}

impl Scope {
    pub(crate) fn from_wire(scope: InstrumentationScope) -> Self {
        Self {
            name: scope.name,
            version: scope.version,
            attributes: attributes(scope.attributes).0,
        }
    }
}

impl ReceivedSpan {
    /// The attribute with this key, if the span has it. For an attribute that must be there,
    /// `span.attributes["key"]` is shorter.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        self.attributes.get(key)
    }
}

/// All spans of a request in the order they were sent, or why one of them is not valid OTLP.
pub(crate) fn spans(
    request: ExportTraceServiceRequest,
) -> Result<Vec<ReceivedSpan>, RequestRefusal> {
    each_span(request).into_iter().collect()
}

/// Each span of a request in the order they were sent, or why it is not valid OTLP.
pub(crate) fn each_span(
    request: ExportTraceServiceRequest,
) -> Vec<Result<ReceivedSpan, RequestRefusal>> {
    let mut received = Vec::new();
    for group in request.resource_spans {
        let resource = Arc::new(attributes(group.resource.unwrap_or_default().attributes).0);
        for group in group.scope_spans {
            let scope = Arc::new(Scope::from_wire(group.scope.unwrap_or_default()));
            for span in group.spans {
                received.push(self::span(span, &resource, &scope));
            }
        }
    }
    received
}

/// One span under its resource and scope.
pub(crate) fn span(
    span: Span,
    resource: &Arc<BTreeMap<String, Value>>,
    scope: &Arc<Scope>,
) -> Result<ReceivedSpan, RequestRefusal> {
    let SpanIds { trace_id, span_id, parent_span_id } = ids(&span)?;
    let kind = match span.kind() {
        WireKind::Unspecified | WireKind::Internal => SpanKind::Internal,
        WireKind::Server => SpanKind::Server,
        WireKind::Client => SpanKind::Client,
        WireKind::Producer => SpanKind::Producer,
        WireKind::Consumer => SpanKind::Consumer,
    };
    let status = span.status.unwrap_or_default();
    let status = match status.code() {
        StatusCode::Unset => Status::Unset,
        StatusCode::Ok => Status::Ok,
        StatusCode::Error => Status::error(status.message),
    };
    let (attributes, duplicate_keys) = attributes(span.attributes);
    Ok(ReceivedSpan {
        trace_id,
        span_id,
        parent_span_id,
        kind,
        start_time_unix_nano: span.start_time_unix_nano,
        end_time_unix_nano: span.end_time_unix_nano,
        flags: span.flags,
        trace_state: span.trace_state,
        attributes,
        duplicate_keys,
        events: span.events.into_iter().map(event).collect(),
        links: span.links.into_iter().map(link).collect::<Result<_, _>>()?,
        status,
        dropped_attributes_count: span.dropped_attributes_count,
        dropped_events_count: span.dropped_events_count,
        dropped_links_count: span.dropped_links_count,
        resource: Arc::clone(resource),
        scope: Arc::clone(scope),
        name: span.name,
    })
}

/// The ids of a span, which are validated.
pub(crate) struct SpanIds {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent_span_id: SpanId,
}

/// Reads the ids of a span, or returns a refusal that names the invalid one.
pub(crate) fn ids(span: &Span) -> Result<SpanIds, RequestRefusal> {
    let trace_id = TraceId::from_bytes(id("trace_id", &span.trace_id)?);
    let span_id = SpanId::from_bytes(id("span_id", &span.span_id)?);
    if trace_id == TraceId::INVALID || span_id == SpanId::INVALID {
        return Err(RequestRefusal::malformed(format!(
            "span `{}` has an id of only zeros",
            span.name
        )));
    }
    let parent_span_id = SpanId::from_bytes(optional_id("parent_span_id", &span.parent_span_id)?);
    Ok(SpanIds { trace_id, span_id, parent_span_id })
}

pub(crate) fn event(event: span::Event) -> ReceivedEvent {
    ReceivedEvent {
        name: event.name,
        time_unix_nano: event.time_unix_nano,
        attributes: attributes(event.attributes).0,
        dropped_attributes_count: event.dropped_attributes_count,
    }
}

fn link(link: span::Link) -> Result<ReceivedLink, RequestRefusal> {
    Ok(ReceivedLink {
        // The specification allows empty ids in a link that has attributes or a trace state.
        trace_id: TraceId::from_bytes(optional_id("trace_id of a link", &link.trace_id)?),
        span_id: SpanId::from_bytes(optional_id("span_id of a link", &link.span_id)?),
        trace_state: link.trace_state,
        flags: link.flags,
        attributes: attributes(link.attributes).0,
        dropped_attributes_count: link.dropped_attributes_count,
    })
}

fn id<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], RequestRefusal> {
    bytes.try_into().map_err(|_| {
        RequestRefusal::malformed(format!("{what} has {} bytes and must have {N}", bytes.len()))
    })
}

fn optional_id<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], RequestRefusal> {
    if bytes.is_empty() { Ok([0; N]) } else { id(what, bytes) }
}
