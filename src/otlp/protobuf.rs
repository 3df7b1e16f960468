//! The protobuf wire format: <https://protobuf.dev/programming-guides/encoding/>.
//!
//! Every function that writes a field leaves it out where its value is the default, as proto3 asks,
//! unless its name says `always`.

/// How the value of a field is written.
#[derive(Clone, Copy)]
enum Type {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    Fixed32 = 5,
}

/// The wire types as numbers, for tags of one byte that are built elsewhere.
pub(crate) const VARINT: u8 = Type::Varint as u8;
pub(crate) const FIXED64: u8 = Type::Fixed64 as u8;
pub(crate) const LENGTH: u8 = Type::Length as u8;
pub(crate) const FIXED32: u8 = Type::Fixed32 as u8;

/// A tag of one byte: field numbers up to 15.
pub(crate) const fn tag_of(field: u32, wire_type: u8) -> u8 {
    assert!(field < 16);
    (field << 3) as u8 | wire_type
}

fn tag(out: &mut Vec<u8>, field: u32, wire_type: Type) {
    varint(out, u64::from(field << 3 | wire_type as u32));
}

pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes of a varint, the first one lowest, and how many there are: of a number below 2^56.
#[inline]
pub(crate) fn varint_in_word(value: u64) -> (u64, usize) {
    let (mut word, mut rest, mut bits) = (value & 0x7f, value >> 7, 8);
    while rest > 0 {
        word |= (rest & 0x7f) << bits | 0x80 << (bits - 8);
        (rest, bits) = (rest >> 7, bits + 8);
    }
    (word, bits / 8)
}

/// A varint at the beginning of `bytes`, and how many of them it takes.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// How many bytes `value` takes as a varint.
pub(crate) const fn varint_size(value: u64) -> usize {
    // Seven bits a byte, and one byte for zero.
    ((64 - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

/// How many bytes a field of `length` bytes takes, with a tag of one byte and its length.
pub(crate) const fn field_size(length: usize) -> usize {
    1 + varint_size(length as u64) + length
}

pub(crate) fn uint32(out: &mut Vec<u8>, field: u32, value: u32) {
    if value != 0 {
        varint_always(out, field, value.into());
    }
}

fn varint_always(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, Type::Varint);
    varint(out, value);
}

pub(crate) fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    if value != 0 {
        tag(out, field, Type::Fixed32);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub(crate) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        tag(out, field, Type::Fixed64);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        bytes_always(out, field, value);
    }
}

fn bytes_always(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    length_of(out, field, value.len());
    out.extend_from_slice(value);
}

pub(crate) fn string(out: &mut Vec<u8>, field: u32, value: &str) {
    bytes(out, field, value.as_bytes());
}

/// A buffer for tags, lengths and numbers, so that they are appended at once: two pairs of a tag
/// and a length or number, at the most.
#[derive(Default)]
pub(crate) struct FieldHead {
    bytes: [u8; 24],
    length: usize,
}

impl FieldHead {
    pub(crate) fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The tag and length of a field whose `length` bytes are written next.
    pub(crate) fn length_of(&mut self, field: u32, length: usize) {
        self.tag(field, Type::Length);
        self.varint(length as u64);
    }

    pub(crate) fn varint_of(&mut self, field: u32, value: u64) {
        self.tag(field, Type::Varint);
        self.varint(value);
    }

    pub(crate) fn double_of(&mut self, field: u32, value: f64) {
        self.tag(field, Type::Fixed64);
        self.bytes[self.length..self.length + 8].copy_from_slice(&value.to_le_bytes());
        self.length += 8;
    }

    /// A tag of one byte, as all fields up to 15 have.
    fn tag(&mut self, field: u32, wire_type: Type) {
        debug_assert!(field < 16);
        self.push((field << 3) as u8 | wire_type as u8);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }
}

/// The tag and length of a field whose `length` bytes are written next.
pub(crate) fn length_of(out: &mut Vec<u8>, field: u32, length: usize) {
    tag(out, field, Type::Length);
    varint(out, length as u64);
}

/// Writes a message whose length is known only afterwards: `reserved` bytes are left for it, and
/// the message is moved if the length takes more or fewer.
pub(crate) fn message(
    out: &mut Vec<u8>,
    field: u32,
    reserved: usize,
    write: impl FnOnce(&mut Vec<u8>),
) {
    tag(out, field, Type::Length);
    let start = out.len();
    out.resize(start + reserved, 0);
    write(out);
    let end = out.len();
    let length = end - start - reserved;
    let needed = varint_size(length as u64);
    if needed > reserved {
        out.resize(end + needed - reserved, 0);
    }
    if needed != reserved {
        out.copy_within(start + reserved..end, start + needed);
        out.truncate(start + needed + length);
    }
    let mut value = length as u64;
    for (at, byte) in out[start..start + needed].iter_mut().enumerate() {
        let more = if at + 1 < needed { 0x80 } else { 0 };
        *byte = (value as u8 & 0x7f) | more;
        value >>= 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_takes_as_many_bytes_as_its_size_says() {
        for bits in 0..64 {
            for value in [(1_u64 << bits) - 1, 1 << bits, u64::MAX >> bits] {
                let mut out = Vec::new();
                varint(&mut out, value);
                assert_eq!(out.len(), varint_size(value), "{value}");
                assert_eq!(read_varint(&out), Some((value, out.len())));
                if value < 1 << 56 {
                    let (word, length) = varint_in_word(value);
                    assert_eq!(word.to_le_bytes()[..length], out);
                }
            }
        }
    }

    #[test]
    fn a_message_of_any_length_is_preceded_by_that_length() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384, 2_097_152] {
            for reserved in [1, 2, 4] {
                let mut out = vec![9];
                message(&mut out, 1, reserved, |out| out.extend(std::iter::repeat_n(7, length)));
                let mut expected = vec![9];
                bytes_always(&mut expected, 1, &vec![7; length]);
                assert!(out == expected, "{length} with {reserved} reserved");
            }
        }
    }
}
