//! `opentelemetry.proto.trace.v1.Span`, as it stands in `ScopeSpans`.

mod read;

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};

use crate::otlp::attributes::{self, ValueRef};
use crate::otlp::{protobuf as wire, truncate};
use crate::record::{Common, Event, Link, SharedAttributes, SpanRecord, Timings};

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

/// `Span.Event`.
mod event {
    pub(super) const TIME_UNIX_NANO: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const ATTRIBUTES: u32 = 3;
    pub(super) const DROPPED_ATTRIBUTES_COUNT: u32 = 4;
}

/// `Span.Link`.
mod link {
    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const TRACE_STATE: u32 = 3;
    pub(super) const ATTRIBUTES: u32 = 4;
    pub(super) const DROPPED_ATTRIBUTES_COUNT: u32 = 5;
    pub(super) const FLAGS: u32 = 6;
}

/// `Status`, and its codes.
mod status {
    pub(super) const MESSAGE: u32 = 2;
    pub(super) const CODE: u32 = 3;
    pub(super) const OK: u64 = 1;
    pub(super) const ERROR: u64 = 2;
}

/// `SpanFlags`: whether it is known if the parent is remote (here it always is), and if it is.
const CONTEXT_HAS_IS_REMOTE: u32 = 0x100;
const CONTEXT_IS_REMOTE: u32 = 0x200;

/// The fields that every span has, or nearly every one, and the length of its own bytes.
#[derive(Clone, Debug)]
pub(super) struct SpanHead {
    trace_id: TraceId,
    span_id: SpanId,
    parent: SpanId,
    start: u64,
    end: u64,
    timings: Option<Timings>,
    callsite: Option<&'static Common>,
    flags: TraceFlags,
    kind: SpanKind,
    parent_is_remote: bool,
    /// Whether the attributes of the batch's thread belong to the span.
    has_thread: bool,
    overrides: Overrides,
    /// Whether the span was too large, and lost a part of its values.
    pub(super) is_truncated: bool,
    /// How many bytes the span has of its own.
    pub(super) own: usize,
}

impl SpanHead {
    /// The head of no span, to initialize memory.
    pub(super) const BLANK: Self = Self {
        trace_id: TraceId::INVALID,
        span_id: SpanId::INVALID,
        parent: SpanId::INVALID,
        start: 0,
        end: 0,
        timings: None,
        callsite: None,
        flags: TraceFlags::NOT_SAMPLED,
        kind: SpanKind::Internal,
        parent_is_remote: false,
        has_thread: false,
        overrides: Overrides { has_name: false, has_status: false },
        is_truncated: false,
        own: 0,
    };

    #[inline(always)] // once a span
    pub(super) fn new(
        record: &SpanRecord,
        has_thread: bool,
        overrides: Overrides,
        own: usize,
    ) -> Self {
        Self {
            trace_id: record.trace_id,
            span_id: record.span_id,
            parent: record.parent.span_id,
            start: record.start,
            end: record.end,
            timings: record.timings,
            callsite: record.callsite,
            flags: record.flags,
            kind: record.kind.clone(),
            parent_is_remote: record.parent.is_remote,
            has_thread,
            overrides,
            is_truncated: false,
            own,
        }
    }

    /// The trace of the span.
    pub(super) fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// Whether the span's parent, if it has one, is in another process.
    pub(super) fn is_local_root(&self) -> bool {
        self.parent_is_remote || self.parent == SpanId::INVALID
    }

    /// How many bytes the span adds to those of its batch, encoded, beside what each head takes.
    pub(super) fn encoded_size(&self) -> usize {
        self.own + self.callsite.map_or(0, Common::size)
    }

    /// The most bytes that the head takes encoded, without the span's own and shared bytes.
    pub(super) const MOST_BYTES: usize = 2 * MOST_LENGTH + FIXED.len() + Timings::MOST_BYTES;

    /// Appends the span to those of a `ScopeSpans`. `own` are the fields that the head doesn't
    /// have.
    pub(super) fn append(&self, out: &mut Vec<u8>, thread: Option<&SharedAttributes>, own: &[u8]) {
        // Most spans take between 128 bytes and 16 KiB: two bytes for their length.
        wire::message(out, SPANS, 2, |out| {
            self.append_fixed(out);
            if let Some(callsite) = self.callsite {
                out.extend_from_slice(match self.overrides.has_name {
                    true => callsite.attributes().as_bytes(),
                    false => callsite.encoded(common),
                });
            }
            if let Some(thread) = thread.filter(|_| self.has_thread) {
                out.extend_from_slice(thread.as_bytes());
            }
            if let Some(timings) = self.timings {
                timings.append(out);
            }
            out.extend_from_slice(own);
        });
    }

    fn append_fixed(&self, out: &mut Vec<u8>) {
        let mut fixed = FIXED;
        fixed[4..20].copy_from_slice(&self.trace_id.to_bytes());
        fixed[22..30].copy_from_slice(&self.span_id.to_bytes());
        fixed[31..39].copy_from_slice(&self.start.to_le_bytes());
        fixed[40..48].copy_from_slice(&self.end.to_le_bytes());
        fixed[49] = kind(&self.kind);
        let flags = flags(self.flags.to_u8(), self.parent_is_remote);
        fixed[52..56].copy_from_slice(&flags.to_le_bytes());
        fixed[58..66].copy_from_slice(&self.parent.to_bytes());
        let start = if self.overrides.has_status { 2 } else { 0 };
        let end = if self.parent == SpanId::INVALID { 56 } else { 66 };
        out.extend_from_slice(&fixed[start..end]);
    }
}

/// The most bytes that a length takes with its tag.
const MOST_LENGTH: usize = 6;

/// The fields of [`SpanHead`] one after the other: tags and lengths, and room for the values.
/// Fields that not every span has are at the ends, where they can be cut off: an unset status,
/// which is sent as `opentelemetry-otlp` does, and the parent.
const FIXED: [u8; 66] = {
    let mut fixed = [0; 66];
    fixed[0] = wire::tag_of(STATUS, wire::LENGTH);
    fixed[2] = wire::tag_of(TRACE_ID, wire::LENGTH);
    fixed[3] = 16;
    fixed[20] = wire::tag_of(SPAN_ID, wire::LENGTH);
    fixed[21] = 8;
    fixed[30] = wire::tag_of(START_TIME_UNIX_NANO, wire::FIXED64);
    fixed[39] = wire::tag_of(END_TIME_UNIX_NANO, wire::FIXED64);
    fixed[48] = wire::tag_of(KIND, wire::VARINT);
    // A tag of two bytes: field numbers from 16 on.
    fixed[50] = (FLAGS << 3) as u8 & 0x7f | wire::FIXED32 | 0x80;
    fixed[51] = (FLAGS >> 4) as u8;
    fixed[56] = wire::tag_of(PARENT_SPAN_ID, wire::LENGTH);
    fixed[57] = 8;
    fixed
};

/// The encoded fields that all spans of a call site share.
fn common(common: &Common) -> Vec<u8> {
    let mut out = Vec::new();
    wire::string(&mut out, NAME, common.name());
    out.extend_from_slice(common.attributes().as_bytes());
    out
}

/// Whether a record has no fields beside its head and its own attributes.
#[inline]
pub(super) fn is_plain(record: &SpanRecord) -> bool {
    record.callsite.is_some() && record.details.is_blank()
}

/// A span by itself, as it stands in a `ScopeSpans`. If it is too large, its values are
/// [cut](truncate).
pub(crate) fn encoded(record: &SpanRecord) -> Vec<u8> {
    let own = own_fields(record);
    let cut = truncate::span_fields(&own, truncate::MOST_SPAN);
    let mut out = Vec::with_capacity(record.size());
    SpanHead::new(record, true, Overrides::of(record), 0).append(
        &mut out,
        record.thread.as_deref(),
        cut.as_deref().unwrap_or(&own),
    );
    out
}

/// The fields of a span that are its own, as [`Packed`](super::Packed) stores them.
fn own_fields(record: &SpanRecord) -> Vec<u8> {
    let mut own = Vec::with_capacity(record.size());
    own.extend_from_slice(record.attributes.as_bytes());
    append_details(&mut own, record);
    own
}

/// Which fields a span's own bytes set, in place of the call site or the head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overrides {
    has_name: bool,
    has_status: bool,
}

impl Overrides {
    pub(super) fn of(record: &SpanRecord) -> Self {
        Self {
            has_name: record.details.name.is_some(),
            has_status: record.details.status != Status::Unset,
        }
    }
}

/// Appends the fields that few spans have.
pub(super) fn append_details(out: &mut Vec<u8>, record: &SpanRecord) {
    append_trace_state(out, TRACE_STATE, &record.details.trace_state);
    if record.details.name.is_some() || record.callsite.is_none() {
        wire::string(out, NAME, record.name());
    }
    for (key, value) in &record.details.enrichments.leaves {
        let prefix = record.details.enrichments.prefix;
        attributes::append(out, ATTRIBUTES, prefix, key, ValueRef::from(value));
    }
    wire::uint32(out, DROPPED_ATTRIBUTES_COUNT, record.details.dropped_attributes);
    record.details.events.iter().for_each(|event| append_event(out, event));
    wire::uint32(out, DROPPED_EVENTS_COUNT, record.details.dropped_events);
    record.details.links.iter().for_each(|link| append_link(out, link));
    wire::uint32(out, DROPPED_LINKS_COUNT, record.details.dropped_links);
    append_status(out, &record.details.status);
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

/// Appends the trace state in its W3C form. It is empty for nearly every span, which then costs
/// nothing.
fn append_trace_state(out: &mut Vec<u8>, field: u32, trace_state: &TraceState) {
    if *trace_state != TraceState::NONE {
        wire::string(out, field, &trace_state.header());
    }
}

fn append_event(out: &mut Vec<u8>, event: &Event) {
    wire::message(out, EVENTS, 2, |out| {
        wire::fixed64(out, event::TIME_UNIX_NANO, event.time);
        wire::string(out, event::NAME, &event.name);
        event.attributes.append_as(out, event::ATTRIBUTES);
        wire::uint32(out, event::DROPPED_ATTRIBUTES_COUNT, event.dropped_attributes);
    });
}

fn append_link(out: &mut Vec<u8>, link: &Link) {
    wire::message(out, LINKS, 1, |out| {
        wire::bytes(out, link::TRACE_ID, &link.context.trace_id().to_bytes());
        wire::bytes(out, link::SPAN_ID, &link.context.span_id().to_bytes());
        append_trace_state(out, link::TRACE_STATE, link.context.trace_state());
        link.attributes.append_as(out, link::ATTRIBUTES);
        wire::uint32(out, link::DROPPED_ATTRIBUTES_COUNT, link.dropped_attributes);
        let flags = flags(link.context.trace_flags().to_u8(), link.context.is_remote());
        wire::fixed32(out, link::FLAGS, flags);
    });
}

/// `Status`, if it is set.
fn append_status(out: &mut Vec<u8>, status: &Status) {
    let (code, message) = match status {
        Status::Unset => return,
        Status::Ok => (status::OK, ""),
        Status::Error { description } => (status::ERROR, description.as_ref()),
    };
    wire::message(out, STATUS, 1, |out| {
        wire::string(out, status::MESSAGE, message);
        wire::uint32(out, status::CODE, code as u32);
    });
}
