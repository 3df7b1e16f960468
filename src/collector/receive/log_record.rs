//! Received log records, converted from OTLP messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use super::received::Scope;
use super::signal::ExportRequest;
use super::value::{Value, attributes};

/// The name of the event that the [semantic conventions for generative
/// AI](https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-events.md)
/// have for a judgement of an answer.
pub(crate) const EVALUATION: &str = "gen_ai.evaluation.result";

/// Attributes that hold the name of an event, where a record has no `eventName`: that of older emitters, and that
/// of the Azure Monitor exporter.
const NAME_ATTRIBUTES: [&str; 2] = ["event.name", "microsoft.custom_event.name"];

/// A log record as it arrived.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedLogRecord {
    /// The name of the event: `eventName`, or else the attribute `event.name` of older emitters.
    pub event_name: String,
    /// The trace it is about, [`TraceId::INVALID`] where the sender left it empty or sent no valid id.
    pub trace_id: TraceId,
    /// The span it is about, [`SpanId::INVALID`] where the sender left it empty or sent no valid id.
    pub span_id: SpanId,
    /// Nanoseconds since the Unix epoch; 0 if not known.
    pub time_unix_nano: u64,
    /// When it was observed, in nanoseconds since the Unix epoch; 0 if not known.
    pub observed_time_unix_nano: u64,
    /// [`SeverityNumber`](https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-severitynumber), 0 if
    /// unspecified.
    pub severity_number: i32,
    /// The severity as text.
    pub severity_text: String,
    /// The body.
    pub body: Value,
    /// The attributes by key; of a key that came twice, the last value.
    pub attributes: BTreeMap<String, Value>,
    /// The keys that came more than once in `attributes`, sorted. OTLP forbids them.
    pub duplicate_keys: Vec<String>,
    /// The W3C trace flags in the lowest byte.
    pub flags: u32,
    /// How many attributes the sender has dropped.
    pub dropped_attributes_count: u32,
    /// The attributes of the resource, shared by all records under it.
    pub resource: Arc<BTreeMap<String, Value>>,
    /// The instrumentation scope, shared by all records under it.
    pub scope: Arc<Scope>,
}

impl ReceivedLogRecord {
    /// The attribute with this key, if the record has it. For an attribute that must be there,
    /// `record.attributes["key"]` is shorter.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        self.attributes.get(key)
    }

    /// Whether the record is an event `gen_ai.evaluation.result`.
    pub(crate) fn is_evaluation(&self) -> bool {
        self.event_name == EVALUATION
    }
}

/// All log records of a request in the order they were sent.
pub(crate) fn log_records(request: ExportLogsServiceRequest) -> Vec<ReceivedLogRecord> {
    let mut received = Vec::new();
    for group in request.into_groups() {
        let resource = Arc::new(attributes(group.resource.unwrap_or_default().attributes).0);
        for group in group.scopes {
            let scope = Arc::new(Scope::from_wire(group.scope.unwrap_or_default()));
            let records = group.items.into_iter();
            received.extend(records.map(|record| log_record(record, &resource, &scope)));
        }
    }
    received
}

/// One log record under its resource and scope. Ids that are not valid are read as absent, as the protocol asks.
pub(crate) fn log_record(
    record: LogRecord,
    resource: &Arc<BTreeMap<String, Value>>,
    scope: &Arc<Scope>,
) -> ReceivedLogRecord {
    let trace_id = record.trace_id.try_into().map_or(TraceId::INVALID, TraceId::from_bytes);
    let span_id = record.span_id.try_into().map_or(SpanId::INVALID, SpanId::from_bytes);
    let (attributes, duplicate_keys) = attributes(record.attributes);
    let mut event_name = record.event_name;
    if event_name.is_empty() {
        let mut names = NAME_ATTRIBUTES.iter().filter_map(|key| attributes.get(*key)?.as_str());
        event_name = names.next().unwrap_or_default().to_owned();
    }
    ReceivedLogRecord {
        event_name,
        trace_id,
        span_id,
        time_unix_nano: record.time_unix_nano,
        observed_time_unix_nano: record.observed_time_unix_nano,
        severity_number: record.severity_number,
        severity_text: record.severity_text,
        body: record.body.map(Value::from_wire).unwrap_or_default(),
        attributes,
        duplicate_keys,
        flags: record.flags,
        dropped_attributes_count: record.dropped_attributes_count,
        resource: Arc::clone(resource),
        scope: Arc::clone(scope),
    }
}
