//! A packed span, read back into a record, for exporters and processors of the SDK.

use std::sync::Arc;

use opentelemetry::trace::{SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};

use super::{
    ATTRIBUTES, CONTEXT_IS_REMOTE, DROPPED_ATTRIBUTES_COUNT, DROPPED_EVENTS_COUNT,
    DROPPED_LINKS_COUNT, EVENTS, LINKS, NAME, STATUS, SpanHead, TRACE_STATE, event, link, status,
};
use crate::otlp::attributes::Attributes;
use crate::otlp::message::{Content, WireField, count_of, fields};
use crate::record::{Details, Event, Link, Parent, SharedAttributes, SpanRecord};

impl SpanHead {
    /// The span whose own fields are `own`. Its enrichments are among its attributes, and its
    /// finalizers are those of its batch.
    pub(in crate::otlp) fn read(
        &self,
        thread: Option<&Arc<SharedAttributes>>,
        own: &[u8],
    ) -> SpanRecord {
        let mut record = SpanRecord {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent: Parent { span_id: self.parent, is_remote: self.parent_is_remote },
            flags: self.flags,
            kind: self.kind.clone(),
            start: self.start,
            end: self.end,
            callsite: self.callsite,
            thread: thread.filter(|_| self.has_thread).cloned(),
            timings: self.timings,
            attributes: Attributes::for_encoded(own.len()),
            ..SpanRecord::default()
        };
        if self.overrides.has_name {
            record.details.name = Some("".into()); // an empty text is not written
        }
        for field in fields(own) {
            match field.number {
                ATTRIBUTES => record.attributes.push_encoded(field.raw),
                _ => read_detail(&mut record.details, field),
            }
        }
        record
    }
}

#[inline(never)] // most have none
fn read_detail(details: &mut Details, field: WireField<'_>) {
    match (field.number, field.content) {
        (TRACE_STATE, Content::Bytes(header)) => details.trace_state = trace_state(header),
        (NAME, Content::Bytes(name)) => details.name = Some(text(name).to_owned().into()),
        (DROPPED_ATTRIBUTES_COUNT, Content::Number(count)) => {
            details.dropped_attributes = count_of(count);
        }
        (EVENTS, Content::Bytes(event)) => details.events.push(read_event(event)),
        (DROPPED_EVENTS_COUNT, Content::Number(count)) => details.dropped_events = count_of(count),
        (LINKS, Content::Bytes(link)) => details.links.push(read_link(link)),
        (DROPPED_LINKS_COUNT, Content::Number(count)) => details.dropped_links = count_of(count),
        (STATUS, Content::Bytes(status)) => details.status = read_status(status),
        _ => {}
    }
}

fn read_event(message: &[u8]) -> Event {
    let (name, attributes) = ("".into(), Attributes::default());
    let mut read = Event { name, time: 0, attributes, dropped_attributes: 0 };
    for field in fields(message) {
        match (field.number, field.content) {
            (event::TIME_UNIX_NANO, Content::Fixed64(time)) => read.time = time,
            (event::NAME, Content::Bytes(name)) => read.name = text(name).to_owned().into(),
            (event::ATTRIBUTES, Content::Bytes(message)) => read.attributes.push_message(message),
            (event::DROPPED_ATTRIBUTES_COUNT, Content::Number(count)) => {
                read.dropped_attributes = count_of(count);
            }
            _ => {}
        }
    }
    read
}

fn read_link(message: &[u8]) -> Link {
    let (mut trace_id, mut span_id, mut flags) = (TraceId::INVALID, SpanId::INVALID, 0);
    let (mut state, mut attributes) = (TraceState::NONE, Attributes::default());
    let mut dropped_attributes = 0;
    for field in fields(message) {
        match (field.number, field.content) {
            (link::TRACE_ID, Content::Bytes(id)) => {
                trace_id = id.try_into().map_or(TraceId::INVALID, TraceId::from_bytes);
            }
            (link::SPAN_ID, Content::Bytes(id)) => {
                span_id = id.try_into().map_or(SpanId::INVALID, SpanId::from_bytes);
            }
            (link::TRACE_STATE, Content::Bytes(header)) => state = trace_state(header),
            (link::ATTRIBUTES, Content::Bytes(message)) => attributes.push_message(message),
            (link::DROPPED_ATTRIBUTES_COUNT, Content::Number(count)) => {
                dropped_attributes = count_of(count);
            }
            (link::FLAGS, Content::Fixed32(value)) => flags = value,
            _ => {}
        }
    }
    let is_remote = flags & CONTEXT_IS_REMOTE != 0;
    let flags = TraceFlags::new(flags.to_le_bytes()[0]);
    let context = SpanContext::new(trace_id, span_id, flags, is_remote, state);
    Link { context, attributes, dropped_attributes }
}

fn read_status(message: &[u8]) -> Status {
    let (mut code, mut description) = (0, "");
    for field in fields(message) {
        match (field.number, field.content) {
            (status::MESSAGE, Content::Bytes(message)) => description = text(message),
            (status::CODE, Content::Number(number)) => code = number,
            _ => {}
        }
    }
    match code {
        status::OK => Status::Ok,
        status::ERROR => Status::error(description.to_owned()),
        _ => Status::Unset,
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn trace_state(header: &[u8]) -> TraceState {
    text(header).parse().unwrap_or_default()
}
