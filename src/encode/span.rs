//! `opentelemetry.proto.trace.v1.Span`, as it stands in `ScopeSpans`.

use opentelemetry::trace::{SpanId, SpanKind, Status};

use crate::attributes::{self, ValueRef};
use crate::protobuf as wire;
use crate::record::{Common, Event, Link, SpanRecord};

/// `ScopeSpans`.
pub(super) const SPANS: u32 = 2;

/// `Span`.
const TRACE_ID: u32 = 1;
const SPAN_ID: u32 = 2;
const TRACE_STATE: u32 = 3;
const PARENT_SPAN_ID: u32 = 4;
const NAME: u32 = 5;
const KIND: u32 = 6;
const START_TIME_UNIX_NANO: u32 = 7;
const END_TIME_UNIX_NANO: u32 = 8;
const ATTRIBUTES: u32 = attributes::FIELD; // 9
const DROPPED_ATTRIBUTES_COUNT: u32 = 10;
const EVENTS: u32 = 11;
const DROPPED_EVENTS_COUNT: u32 = 12;
const LINKS: u32 = 13;
const DROPPED_LINKS_COUNT: u32 = 14;
const STATUS: u32 = 15;
const FLAGS: u32 = 16;

/// `SpanFlags`: whether it is known if the parent is remote (here it always is), and if it is.
const CONTEXT_HAS_IS_REMOTE: u32 = 0x100;
const CONTEXT_IS_REMOTE: u32 = 0x200;

/// The fields that every span has, one behind the other: tags and lengths, and room for the rest.
/// The parent stands last, so that a root is the same without it.
const FIXED: [u8; 64] = {
    let mut fixed = [0; 64];
    fixed[0] = wire::tag_of(TRACE_ID, wire::LENGTH);
    fixed[1] = 16;
    fixed[18] = wire::tag_of(SPAN_ID, wire::LENGTH);
    fixed[19] = 8;
    fixed[28] = wire::tag_of(START_TIME_UNIX_NANO, wire::FIXED64);
    fixed[37] = wire::tag_of(END_TIME_UNIX_NANO, wire::FIXED64);
    fixed[46] = wire::tag_of(KIND, wire::VARINT);
    // A tag of two bytes: field numbers from 16 on.
    fixed[48] = (FLAGS << 3) as u8 & 0x7f | wire::FIXED32 | 0x80;
    fixed[49] = (FLAGS >> 4) as u8;
    fixed[54] = wire::tag_of(PARENT_SPAN_ID, wire::LENGTH);
    fixed[55] = 8;
    fixed
};

/// How much of [`FIXED`] is a root's.
const FIXED_OF_ROOT: usize = 54;

/// Appends `record` to the spans of a `ScopeSpans`.
pub(crate) fn append_span(out: &mut Vec<u8>, record: &SpanRecord) {
    // Most spans take between 128 bytes and 16 KiB: two bytes for their length.
    wire::message(out, SPANS, 2, |out| {
        append_fixed(out, record);
        append_trace_state(out, TRACE_STATE, &record.trace_state);
        match (&record.name, record.callsite) {
            (None, Some(callsite)) => out.extend_from_slice(callsite.encoded(common)),
            (_, callsite) => {
                wire::string(out, NAME, record.name());
                let common = callsite.map_or(&[][..], |callsite| callsite.attributes().as_bytes());
                out.extend_from_slice(common);
            }
        }
        out.extend_from_slice(record.attributes.as_bytes());
        for (key, value) in &record.enrichments.leaves {
            let prefix = record.enrichments.prefix;
            attributes::append(out, ATTRIBUTES, prefix, key, ValueRef::from(value));
        }
        wire::uint32(out, DROPPED_ATTRIBUTES_COUNT, record.dropped_attributes);
        record.events.iter().for_each(|event| append_event(out, event));
        wire::uint32(out, DROPPED_EVENTS_COUNT, record.dropped_events);
        record.links.iter().for_each(|link| append_link(out, link));
        wire::uint32(out, DROPPED_LINKS_COUNT, record.dropped_links);
        append_status(out, &record.status);
    });
}

#[inline]
fn append_fixed(out: &mut Vec<u8>, record: &SpanRecord) {
    let mut fixed = FIXED;
    fixed[2..18].copy_from_slice(&record.trace_id.to_bytes());
    fixed[20..28].copy_from_slice(&record.span_id.to_bytes());
    fixed[29..37].copy_from_slice(&record.start.to_le_bytes());
    fixed[38..46].copy_from_slice(&record.end.to_le_bytes());
    fixed[47] = kind(&record.kind);
    let flags = flags(record.flags.to_u8(), record.parent.is_remote);
    fixed[50..54].copy_from_slice(&flags.to_le_bytes());
    fixed[56..64].copy_from_slice(&record.parent.span_id.to_bytes());
    let is_root = record.parent.span_id == SpanId::INVALID;
    out.extend_from_slice(if is_root { &fixed[..FIXED_OF_ROOT] } else { &fixed });
}

/// What all spans of a call site have in common, as each of them has it.
fn common(common: &Common) -> Vec<u8> {
    let mut out = Vec::new();
    wire::string(&mut out, NAME, common.name());
    out.extend_from_slice(common.attributes().as_bytes());
    out
}

/// Where span number `spans` of those in `encoded` ends. `None` if there are fewer.
pub(crate) fn end_of_span(encoded: &[u8], spans: usize) -> Option<usize> {
    let mut end = 0;
    for _ in 0..spans {
        let (length, size) = wire::read_varint(encoded.get(end + 1..)?)?;
        end += 1 + size + usize::try_from(length).ok()?;
    }
    (end <= encoded.len()).then_some(end)
}

/// `SpanKind`.
fn kind(kind: &SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn flags(trace_flags: u8, is_remote: bool) -> u32 {
    let remote = if is_remote { CONTEXT_IS_REMOTE } else { 0 };
    u32::from(trace_flags) | CONTEXT_HAS_IS_REMOTE | remote
}

/// The W3C form; empty for nearly every span, which then costs nothing.
fn append_trace_state(
    out: &mut Vec<u8>,
    field: u32,
    trace_state: &opentelemetry::trace::TraceState,
) {
    if *trace_state != opentelemetry::trace::TraceState::NONE {
        wire::string(out, field, &trace_state.header());
    }
}

fn append_event(out: &mut Vec<u8>, event: &Event) {
    const TIME_UNIX_NANO: u32 = 1;
    const NAME: u32 = 2;
    const ATTRIBUTES: u32 = 3;
    const DROPPED_ATTRIBUTES_COUNT: u32 = 4;
    wire::message(out, EVENTS, 2, |out| {
        wire::fixed64(out, TIME_UNIX_NANO, event.time);
        wire::string(out, NAME, &event.name);
        event.attributes.append_as(out, ATTRIBUTES);
        wire::uint32(out, DROPPED_ATTRIBUTES_COUNT, event.dropped_attributes);
    });
}

fn append_link(out: &mut Vec<u8>, link: &Link) {
    const TRACE_ID: u32 = 1;
    const SPAN_ID: u32 = 2;
    const TRACE_STATE: u32 = 3;
    const ATTRIBUTES: u32 = 4;
    const DROPPED_ATTRIBUTES_COUNT: u32 = 5;
    const FLAGS: u32 = 6;
    wire::message(out, LINKS, 1, |out| {
        wire::bytes(out, TRACE_ID, &link.context.trace_id().to_bytes());
        wire::bytes(out, SPAN_ID, &link.context.span_id().to_bytes());
        append_trace_state(out, TRACE_STATE, link.context.trace_state());
        link.attributes.append_as(out, ATTRIBUTES);
        wire::uint32(out, DROPPED_ATTRIBUTES_COUNT, link.dropped_attributes);
        let flags = flags(link.context.trace_flags().to_u8(), link.context.is_remote());
        wire::fixed32(out, FLAGS, flags);
    });
}

/// `Status`, also where nothing is set, as `opentelemetry-otlp` sends it.
fn append_status(out: &mut Vec<u8>, status: &Status) {
    const MESSAGE: u32 = 2;
    const CODE: u32 = 3;
    let (code, message) = match status {
        Status::Unset => (0, ""),
        Status::Ok => (1, ""),
        Status::Error { description } => (2, description.as_ref()),
    };
    wire::message(out, STATUS, 1, |out| {
        wire::string(out, MESSAGE, message);
        wire::uint32(out, CODE, code);
    });
}
