//! Encoded messages, read field by field. Nothing is copied.

use super::protobuf as wire;

/// A field of a message.
#[derive(Clone, Copy)]
pub(crate) struct WireField<'a> {
    pub(crate) number: u32,
    pub(crate) content: Content<'a>,
    /// The field with its tag.
    pub(crate) raw: &'a [u8],
}

#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    Number(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields of a message. What can't be read ends them.
pub(crate) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = WireField<'_>> {
    std::iter::from_fn(move || {
        let (field, rest) = read_field(bytes)?;
        bytes = rest;
        Some(field)
    })
}

/// The first field of a message, and the bytes after it.
pub(crate) fn read_field(bytes: &[u8]) -> Option<(WireField<'_>, &[u8])> {
    let (tag, size) = wire::read_varint(bytes)?;
    let number = u32::try_from(tag >> 3).ok()?;
    let after = bytes.get(size..)?;
    let (content, rest) = match (tag & 7) as u8 {
        wire::VARINT => {
            let (value, size) = wire::read_varint(after)?;
            (Content::Number(value), after.get(size..)?)
        }
        wire::FIXED64 => {
            let (value, rest) = after.split_first_chunk()?;
            (Content::Fixed64(u64::from_le_bytes(*value)), rest)
        }
        wire::FIXED32 => {
            let (value, rest) = after.split_first_chunk()?;
            (Content::Fixed32(u32::from_le_bytes(*value)), rest)
        }
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
pub(crate) fn key_of(attribute: &[u8]) -> &[u8] {
    match read_field(attribute) {
        Some((WireField { number: 1, content: Content::Bytes(key), .. }, _)) => key,
        _ => &[],
    }
}

pub(crate) fn count_of(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
