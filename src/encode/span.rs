//! `opentelemetry.proto.trace.v1.Span`, as it stands in `ScopeSpans`.

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceState};

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

/// A span's tag and length, and the fields that every span has: room for what differs, and the rest.
/// What a span may have otherwise, or not at all, stands at the ends: an unset status, which is sent
/// as `opentelemetry-otlp` does it, and the parent.
const HEAD: [u8; 69] = {
    let mut head = [0; 69];
    head[0] = wire::tag_of(SPANS, wire::LENGTH);
    head[3] = wire::tag_of(STATUS, wire::LENGTH);
    head[5] = wire::tag_of(TRACE_ID, wire::LENGTH);
    head[6] = 16;
    head[23] = wire::tag_of(SPAN_ID, wire::LENGTH);
    head[24] = 8;
    head[33] = wire::tag_of(START_TIME_UNIX_NANO, wire::FIXED64);
    head[42] = wire::tag_of(END_TIME_UNIX_NANO, wire::FIXED64);
    head[51] = wire::tag_of(KIND, wire::VARINT);
    // A tag of two bytes: field numbers from 16 on.
    head[53] = (FLAGS << 3) as u8 & 0x7f | wire::FIXED32 | 0x80;
    head[54] = (FLAGS >> 4) as u8;
    head[59] = wire::tag_of(PARENT_SPAN_ID, wire::LENGTH);
    head[60] = 8;
    head
};

/// Where in [`HEAD`] the message begins: behind a length of two bytes, and if a status is set, behind
/// the unset one.
const MESSAGE: usize = 3;
const MESSAGE_WITH_STATUS: usize = 5;

/// Where [`HEAD`] ends for a root.
const END_OF_ROOT: usize = 59;

/// Appends `record` to the spans of a `ScopeSpans`.
#[inline]
pub(crate) fn append_span(out: &mut Vec<u8>, record: &SpanRecord) {
    let mut head = head(record);
    let end = if record.parent.span_id == SpanId::INVALID { END_OF_ROOT } else { HEAD.len() };
    let callsite = match (&record.name, record.callsite) {
        (None, Some(callsite)) => callsite.encoded(common),
        (Some(_), Some(callsite)) => callsite.attributes().as_bytes(),
        (_, None) => &[],
    };
    let attributes = record.attributes.as_bytes();
    let length = end - MESSAGE + callsite.len() + attributes.len();
    if is_plain(record) && (0x80..0x4000).contains(&length) {
        // Most spans: their length takes two bytes.
        (head[1], head[2]) = (length as u8 | 0x80, (length >> 7) as u8);
        out.reserve(MESSAGE + length);
        out.extend_from_slice(&head[..end]);
        out.extend_from_slice(callsite);
        out.extend_from_slice(attributes);
        return;
    }
    let start = if record.status == Status::Unset { MESSAGE } else { MESSAGE_WITH_STATUS };
    wire::message(out, SPANS, 2, |out| {
        out.extend_from_slice(&head[start..end]);
        out.extend_from_slice(callsite);
        out.extend_from_slice(attributes);
        append_rest(out, record);
    });
}

/// Whether a record has nothing but a head, a call site and attributes.
#[inline]
fn is_plain(record: &SpanRecord) -> bool {
    let counts = record.dropped_attributes | record.dropped_events | record.dropped_links;
    record.name.is_none()
        && record.callsite.is_some()
        && record.trace_state == TraceState::NONE
        && record.enrichments.leaves.is_empty()
        && record.events.is_empty()
        && record.links.is_empty()
        && record.status == Status::Unset
        && counts == 0
}

#[inline]
fn head(record: &SpanRecord) -> [u8; HEAD.len()] {
    let mut head = HEAD;
    head[7..23].copy_from_slice(&record.trace_id.to_bytes());
    head[25..33].copy_from_slice(&record.span_id.to_bytes());
    head[34..42].copy_from_slice(&record.start.to_le_bytes());
    head[43..51].copy_from_slice(&record.end.to_le_bytes());
    head[52] = kind(&record.kind);
    let flags = flags(record.flags.to_u8(), record.parent.is_remote);
    head[55..59].copy_from_slice(&flags.to_le_bytes());
    head[61..69].copy_from_slice(&record.parent.span_id.to_bytes());
    head
}

/// What few spans have.
fn append_rest(out: &mut Vec<u8>, record: &SpanRecord) {
    append_trace_state(out, TRACE_STATE, &record.trace_state);
    if record.name.is_some() || record.callsite.is_none() {
        wire::string(out, NAME, record.name());
    }
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
fn append_trace_state(out: &mut Vec<u8>, field: u32, trace_state: &TraceState) {
    if *trace_state != TraceState::NONE {
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

/// `Status`, if it is set.
fn append_status(out: &mut Vec<u8>, status: &Status) {
    const MESSAGE: u32 = 2;
    const CODE: u32 = 3;
    let (code, message) = match status {
        Status::Unset => return,
        Status::Ok => (1, ""),
        Status::Error { description } => (2, description.as_ref()),
    };
    wire::message(out, STATUS, 1, |out| {
        wire::string(out, MESSAGE, message);
        wire::uint32(out, CODE, code);
    });
}
