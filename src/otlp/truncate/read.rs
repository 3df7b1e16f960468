//! Reading encoded messages field by field.

use super::super::protobuf as wire;
use super::{EVENT, LINK, PartFields, span};

/// The parts of a span that may have been cut, read back for a record.
#[derive(Default)]
pub(crate) struct TruncatedSpan<'a> {
    pub(crate) trace_state: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    /// The attributes as in a span.
    pub(crate) attributes: Vec<u8>,
    pub(crate) dropped_attributes: u32,
    /// The first events and links, which are those that were kept.
    pub(crate) events: Vec<TruncatedPart<'a>>,
    pub(crate) links: Vec<TruncatedPart<'a>>,
    pub(crate) dropped_events: u32,
    pub(crate) dropped_links: u32,
    pub(crate) status_message: Option<&'a str>,
}

/// The parts of an event or link that may have been cut.
#[derive(Default)]
pub(crate) struct TruncatedPart<'a> {
    /// The name of an event, the trace state of a link.
    pub(crate) text: &'a str,
    /// The attributes as in a span.
    pub(crate) attributes: Vec<u8>,
    pub(crate) dropped_attributes: u32,
}

/// Reads back what is left of a span, from its encoded fields.
pub(crate) fn read_span(encoded: &[u8]) -> TruncatedSpan<'_> {
    let mut read = TruncatedSpan::default();
    for field in fields(encoded) {
        match (field.number, field.content) {
            (span::TRACE_STATE, Content::Bytes(state)) => read.trace_state = Some(text(state)),
            (span::NAME, Content::Bytes(name)) => read.name = Some(text(name)),
            (span::ATTRIBUTES, _) => read.attributes.extend_from_slice(field.raw),
            (span::DROPPED_ATTRIBUTES_COUNT, Content::Number(count)) => {
                read.dropped_attributes = count_of(count);
            }
            (span::EVENTS, Content::Bytes(event)) => read.events.push(read_inner(event, EVENT)),
            (span::DROPPED_EVENTS_COUNT, Content::Number(count)) => {
                read.dropped_events = count_of(count);
            }
            (span::LINKS, Content::Bytes(link)) => read.links.push(read_inner(link, LINK)),
            (span::DROPPED_LINKS_COUNT, Content::Number(count)) => {
                read.dropped_links = count_of(count);
            }
            (span::STATUS, Content::Bytes(status)) => {
                for field in fields(status) {
                    if let (span::MESSAGE, Content::Bytes(message)) = (field.number, field.content)
                    {
                        read.status_message = Some(text(message));
                    }
                }
            }
            _ => {}
        }
    }
    read
}

fn read_inner(message: &[u8], kind: PartFields) -> TruncatedPart<'_> {
    let mut read = TruncatedPart::default();
    for field in fields(message) {
        match (field.number, field.content) {
            (number, Content::Bytes(bytes)) if number == kind.text.0 => read.text = text(bytes),
            (number, Content::Bytes(bytes)) if number == kind.attributes => {
                wire::bytes(&mut read.attributes, span::ATTRIBUTES, bytes);
            }
            (number, Content::Number(count)) if number == kind.dropped => {
                read.dropped_attributes = count_of(count);
            }
            _ => {}
        }
    }
    read
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A field of a message.
#[derive(Clone, Copy)]
pub(super) struct WireField<'a> {
    pub(super) number: u32,
    pub(super) content: Content<'a>,
    /// The field with its tag.
    pub(super) raw: &'a [u8],
}

#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Number(u64),
    Fixed,
    Bytes(&'a [u8]),
}

/// The fields of a message. What can't be read ends them.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = WireField<'_>> {
    std::iter::from_fn(move || {
        let (field, rest) = read_field(bytes)?;
        bytes = rest;
        Some(field)
    })
}

/// The first field of a message, and the bytes after it.
pub(super) fn read_field(bytes: &[u8]) -> Option<(WireField<'_>, &[u8])> {
    let (tag, size) = wire::read_varint(bytes)?;
    let number = u32::try_from(tag >> 3).ok()?;
    let after = bytes.get(size..)?;
    let (content, rest) = match (tag & 7) as u8 {
        wire::VARINT => {
            let (value, size) = wire::read_varint(after)?;
            (Content::Number(value), after.get(size..)?)
        }
        wire::FIXED64 => (Content::Fixed, after.get(8..)?),
        wire::FIXED32 => (Content::Fixed, after.get(4..)?),
        wire::LENGTH => {
            let (length, size) = wire::read_varint(after)?;
            let (content, rest) =
                after.get(size..)?.split_at_checked(usize::try_from(length).ok()?)?;
            (Content::Bytes(content), rest)
        }
        _ => return None,
    };
    let raw = bytes.get(..bytes.len() - rest.len())?;
    Some((WireField { number, content, raw }, rest))
}

/// The key of a `KeyValue`.
pub(super) fn key_of(attribute: &[u8]) -> &[u8] {
    match read_field(attribute) {
        Some((WireField { number: 1, content: Content::Bytes(key), .. }, _)) => key,
        _ => &[],
    }
}

pub(super) fn count_of(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
