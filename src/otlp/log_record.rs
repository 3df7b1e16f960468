//! `opentelemetry.proto.logs.v1.LogRecord`, as it stands in `ScopeLogs`.

use opentelemetry::trace::{SpanId, TraceId};

use crate::otlp::{protobuf as wire, truncate};
use crate::record::LogRecord;

/// `ScopeLogs`.
const LOG_RECORDS: u32 = 2;

/// `LogRecord`.
const TIME_UNIX_NANO: u32 = 1;
const ATTRIBUTES: u32 = 6;
const FLAGS: u32 = 8;
const TRACE_ID: u32 = 9;
const SPAN_ID: u32 = 10;
const OBSERVED_TIME_UNIX_NANO: u32 = 11;
const EVENT_NAME: u32 = 12;

/// A log record by itself, as it stands in a `ScopeLogs`, and whether its values were [cut](truncate): they are
/// if it is too large for a receiver.
pub(crate) fn encoded_log_record(record: &LogRecord) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(record.size());
    wire::message(&mut out, LOG_RECORDS, 2, |out| {
        wire::fixed64(out, TIME_UNIX_NANO, record.time);
        record.attributes.append_as(out, ATTRIBUTES);
        wire::fixed32(out, FLAGS, record.flags.to_u8().into());
        if record.trace_id != TraceId::INVALID {
            wire::bytes(out, TRACE_ID, &record.trace_id.to_bytes());
        }
        if record.span_id != SpanId::INVALID {
            wire::bytes(out, SPAN_ID, &record.span_id.to_bytes());
        }
        wire::fixed64(out, OBSERVED_TIME_UNIX_NANO, record.observed_time);
        wire::string(out, EVENT_NAME, record.event_name);
    });
    match truncate::encoded_log_record(&out, truncate::MOST_SPAN) {
        Some(cut) => (cut, true),
        None => (out, false),
    }
}
