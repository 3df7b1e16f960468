//! How much memory a protobuf message takes once it is decoded, read from its bytes alone.

use std::mem::size_of;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::budget::MemoryLease;
use super::refusal::RequestRefusal;

/// How deep messages are nested at most: `prost` refuses what is deeper.
const MAX_DEPTH: u32 = 100;

/// The memory of a list's item besides its heap: a growing `Vec` has room for twice its items.
pub(super) const fn item_size<T>() -> usize {
    2 * size_of::<T>()
}

/// The messages of an export request, each with the messages in its fields.
#[derive(Clone, Copy)]
pub(crate) enum MessageKind {
    TraceRequest,
    ResourceSpans,
    Resource,
    EntityRef,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    Status,
    LogsRequest,
    ResourceLogs,
    ScopeLogs,
    LogRecord,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
}

impl MessageKind {
    fn size(self) -> usize {
        match self {
            Self::TraceRequest => item_size::<ExportTraceServiceRequest>(),
            Self::ResourceSpans => item_size::<ResourceSpans>(),
            Self::Resource => item_size::<Resource>(),
            Self::EntityRef => item_size::<EntityRef>(),
            Self::ScopeSpans => item_size::<ScopeSpans>(),
            Self::Scope => item_size::<InstrumentationScope>(),
            Self::Span => item_size::<Span>(),
            Self::Event => item_size::<Event>(),
            Self::Link => item_size::<Link>(),
            Self::Status => item_size::<Status>(),
            Self::LogsRequest => item_size::<ExportLogsServiceRequest>(),
            Self::ResourceLogs => item_size::<ResourceLogs>(),
            Self::ScopeLogs => item_size::<ScopeLogs>(),
            Self::LogRecord => item_size::<LogRecord>(),
            Self::KeyValue => item_size::<KeyValue>(),
            Self::AnyValue => item_size::<AnyValue>(),
            Self::ArrayValue => item_size::<ArrayValue>(),
            Self::KeyValueList => item_size::<KeyValueList>(),
        }
    }

    /// What a string in a list takes besides its bytes; 0 of other fields.
    fn string_size(self, number: u32) -> usize {
        // The keys of an entity's id and of its description.
        if matches!((self, number), (Self::EntityRef, 3 | 4)) { item_size::<String>() } else { 0 }
    }

    /// The message in the field with this number, by `opentelemetry/proto/**/*.proto`.
    fn field(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Self::TraceRequest, 1) => Self::ResourceSpans,
            (Self::ResourceSpans | Self::ResourceLogs, 1) => Self::Resource,
            (Self::ResourceSpans, 2) => Self::ScopeSpans,
            (Self::Resource, 1) => Self::KeyValue,
            (Self::Resource, 3) => Self::EntityRef,
            (Self::ScopeSpans | Self::ScopeLogs, 1) => Self::Scope,
            (Self::ScopeSpans, 2) => Self::Span,
            (Self::Scope, 3) => Self::KeyValue,
            (Self::Span, 9) => Self::KeyValue,
            (Self::Span, 11) => Self::Event,
            (Self::Span, 13) => Self::Link,
            (Self::Span, 15) => Self::Status,
            (Self::Event, 3) => Self::KeyValue,
            (Self::Link, 4) => Self::KeyValue,
            (Self::LogsRequest, 1) => Self::ResourceLogs,
            (Self::ResourceLogs, 2) => Self::ScopeLogs,
            (Self::ScopeLogs, 2) => Self::LogRecord,
            (Self::LogRecord, 5) => Self::AnyValue,
            (Self::LogRecord, 6) => Self::KeyValue,
            (Self::KeyValue, 2) => Self::AnyValue,
            (Self::AnyValue, 5) => Self::ArrayValue,
            (Self::AnyValue, 6) => Self::KeyValueList,
            (Self::ArrayValue, 1) => Self::AnyValue,
            (Self::KeyValueList, 1) => Self::KeyValue,
            _ => return None,
        })
    }
}

/// Takes from `lease` what the export request of this kind in `bytes` takes when it is decoded. Bytes that are
/// no message are measured up to the fault, which decoding finds again.
pub(super) fn take_decoded(
    kind: MessageKind,
    bytes: &[u8],
    lease: &MemoryLease,
) -> Result<(), RequestRefusal> {
    take(kind, bytes, MAX_DEPTH, lease)
}

fn take(
    kind: MessageKind,
    mut bytes: &[u8],
    depth: u32,
    lease: &MemoryLease,
) -> Result<(), RequestRefusal> {
    let mut size = kind.size();
    while !bytes.is_empty() {
        let Ok((number, wire_type)) = decode_key(&mut bytes) else { break };
        if wire_type != WireType::LengthDelimited {
            let context = DecodeContext::default();
            if skip_field(wire_type, number, &mut bytes, context).is_err() {
                break;
            }
            continue;
        }
        let length = decode_varint(&mut bytes).ok().and_then(|length| usize::try_from(length).ok());
        let Some((field, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
            break;
        };
        match kind.field(number) {
            Some(inner) if depth > 0 => take(inner, field, depth - 1, lease)?,
            Some(_) => break,
            None => size += field.len() + kind.string_size(number),
        }
        bytes = rest;
    }
    lease.take(size)
}
