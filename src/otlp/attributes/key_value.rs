//! `opentelemetry.proto.common.v1.KeyValue` and `AnyValue`, written and read.
//!
//! Their sizes are known before they are written, so they are written in place.

use std::fmt::{self, Write as _};

use opentelemetry::{Array, Value};

use super::ValueRef;
use crate::formatted;
use crate::otlp::encode_buffer::EncodeBuffer;
use crate::otlp::protobuf::{self as wire, FieldHead};

/// `KeyValue`.
const KEY: u32 = 1;
const VALUE: u32 = 2;

/// `AnyValue`, a `oneof`: what is set is written even if it is the default.
const STRING_VALUE: u32 = 1;
const BOOL_VALUE: u32 = 2;
const INT_VALUE: u32 = 3;
const DOUBLE_VALUE: u32 = 4;
const ARRAY_VALUE: u32 = 5;

/// `ArrayValue`.
const VALUES: u32 = 1;

const KEY_TAG: u8 = wire::tag_of(KEY, wire::LENGTH);
const VALUE_TAG: u8 = wire::tag_of(VALUE, wire::LENGTH);
const STRING_TAG: u8 = wire::tag_of(STRING_VALUE, wire::LENGTH);
const BOOL_TAG: u8 = wire::tag_of(BOOL_VALUE, wire::VARINT);
const INT_TAG: u8 = wire::tag_of(INT_VALUE, wire::VARINT);
const DOUBLE_TAG: u8 = wire::tag_of(DOUBLE_VALUE, wire::FIXED64);

/// Keys and texts shorter than this make attributes whose every length takes one byte: nearly all.
const SHORT: usize = 56;

/// A key that is written again and again, for the same field.
#[derive(Debug)]
pub(crate) struct PreparedKey {
    name: &'static str,
    field: u32,
    /// The bytes of a short attribute before its value, its length left open. The array has one
    /// size for all keys, so that it is copied at once.
    head: [u8; MOST_HEAD],
    /// How many bytes of `head` are valid; 0 if the key is too long.
    length: usize,
}

/// The most bytes before the value of a prepared key.
const MOST_HEAD: usize = 48;

/// How many bytes are written after the head at once: a number with its tags, or the tags and
/// lengths before a string.
const MOST_VALUE: usize = 16;

impl PreparedKey {
    pub(super) fn new(field: u32, name: &'static str) -> Self {
        let mut bytes = Vec::new();
        if name.len() < SHORT {
            short_head(&mut bytes, field, "", name);
        }
        let mut head = [0; MOST_HEAD];
        let length = match head.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(&bytes);
                bytes.len()
            }
            None => 0,
        };
        Self { name, field, head, length }
    }

    /// Writes an attribute with this key.
    #[inline(always)] // little is left of it where the type of the value is a constant
    pub(super) fn append(&self, out: &mut EncodeBuffer, value: ValueRef<'_>) {
        // The bytes after the key, of one size for all values, and how many of them are valid.
        let (bytes, length) = match value {
            ValueRef::Bool(value) => {
                (u128::from_le_bytes(padded([VALUE_TAG, 2, BOOL_TAG, u8::from(value)])), 4)
            }
            ValueRef::I64(value @ 0..MOST_IN_WORD) => {
                let (varint, length) = wire::varint_in_word(value as u64);
                let before = [VALUE_TAG, 1 + length as u8, INT_TAG];
                (u128::from_le_bytes(padded(before)) | u128::from(varint) << 24, 3 + length)
            }
            ValueRef::F64(value) => {
                let before = u128::from_le_bytes(padded([VALUE_TAG, 9, DOUBLE_TAG]));
                (before | u128::from(value.to_bits()) << 24, 11)
            }
            ValueRef::Str(text) if text.len() < SHORT => {
                let length = text.len() as u8;
                let before = padded([VALUE_TAG, length + 2, STRING_TAG, length]);
                (u128::from_le_bytes(before), 4)
            }
            _ => return self.append_long(out, value),
        };
        let text = if let ValueRef::Str(text) = value { text } else { "" };
        let Some(room) = self.begin(out, bytes) else { return self.append_long(out, value) };
        room[1] = (self.length - 2 + length + text.len()) as u8;
        out.advance(self.length + length);
        if !text.is_empty() {
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// Writes the key and the bytes after it at the end of `out`, and returns them, if the key is
    /// short and there is room.
    #[inline(always)]
    fn begin<'o>(
        &self,
        out: &'o mut EncodeBuffer,
        bytes: u128,
    ) -> Option<&'o mut [u8; MOST_HEAD + MOST_VALUE]> {
        let room: &mut [u8; MOST_HEAD + MOST_VALUE] = out.next()?;
        room[..MOST_HEAD].copy_from_slice(&self.head);
        let after = room.get_mut(self.length..self.length + MOST_VALUE)?;
        after.copy_from_slice(&bytes.to_le_bytes());
        (self.length > 0).then_some(room)
    }

    #[cold]
    #[inline(never)]
    fn append_long(&self, out: &mut EncodeBuffer, value: ValueRef<'_>) {
        out.change(|out| {
            append(out, self.field, "", self.name, value);
            out.reserve(2 * (MOST_HEAD + MOST_VALUE)); // more attributes will follow
        });
    }

    /// Writes an attribute with this key and the `Debug` form of a value, which is foreign code.
    /// Returns whether the text is complete.
    pub(super) fn append_formatted(&self, out: &mut EncodeBuffer, value: &dyn fmt::Debug) -> bool {
        let start = out.len();
        let before = u128::from_le_bytes(padded([VALUE_TAG, 0, STRING_TAG, 0]));
        if self.begin(out, before).is_none() {
            let (text, is_complete) = formatted::text(format_args!("{value:?}"));
            self.append_long(out, ValueRef::Str(&text));
            return is_complete;
        }
        out.advance(self.length + 4);
        let text = out.len();
        let is_complete = write!(out, "{value:?}").is_ok();
        if !is_complete {
            out.extend_from_slice(formatted::FAILED.as_bytes());
        }
        let length = out.len() - text;
        if length >= SHORT {
            let written = String::from_utf8_lossy(&out.as_slice()[text..]).into_owned();
            out.truncate(start);
            self.append_long(out, ValueRef::Str(&written));
            return is_complete;
        }
        out.set(text - 1, length as u8);
        out.set(text - 3, length as u8 + 2);
        out.set(start + 1, (out.len() - start - 2) as u8);
        is_complete
    }
}

/// Numbers below this take at most eight bytes as a varint, a word.
const MOST_IN_WORD: i64 = 1 << 56;

fn padded<const BYTES: usize>(bytes: [u8; BYTES]) -> [u8; MOST_VALUE] {
    let mut padded = [0; MOST_VALUE];
    padded[..BYTES].copy_from_slice(&bytes);
    padded
}

/// Writes one attribute, whose key is `prefix` and `key` together, as field `field`.
pub(crate) fn append(out: &mut Vec<u8>, field: u32, prefix: &str, key: &str, value: ValueRef<'_>) {
    let start = out.len();
    let key_length = prefix.len() + key.len();
    if key_length < SHORT && is_short(value) {
        short_head(out, field, prefix, key);
        return short_value(out, start, value);
    }
    let value_length = any_value_size(value);
    let mut head = FieldHead::default();
    head.length_of(field, wire::field_size(key_length) + wire::field_size(value_length));
    head.length_of(KEY, key_length);
    out.extend_from_slice(head.written());
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(key.as_bytes());
    let mut head = FieldHead::default();
    head.length_of(VALUE, value_length);
    append_any_value(out, head, value);
}

#[inline]
fn is_short(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Bool(_) | ValueRef::I64(_) | ValueRef::F64(_) => true,
        ValueRef::Str(text) => text.len() < SHORT,
        ValueRef::Array(_) => false,
    }
}

/// Writes the bytes of a short attribute before its value. Its length is left open.
fn short_head(out: &mut Vec<u8>, field: u32, prefix: &str, key: &str) {
    let length = prefix.len() + key.len();
    out.extend_from_slice(&[wire::tag_of(field, wire::LENGTH), 0, KEY_TAG, length as u8]);
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(key.as_bytes());
}

/// Writes a short value, and the length of the attribute that begins at `start`.
fn short_value(out: &mut Vec<u8>, start: usize, value: ValueRef<'_>) {
    match value {
        ValueRef::Bool(value) => {
            out.extend_from_slice(&[VALUE_TAG, 2, BOOL_TAG, u8::from(value)]);
        }
        ValueRef::I64(value) => {
            let length = wire::varint_size(value as u64) as u8;
            out.extend_from_slice(&[VALUE_TAG, 1 + length, INT_TAG]);
            wire::varint(out, value as u64);
        }
        ValueRef::F64(value) => {
            out.extend_from_slice(&[VALUE_TAG, 9, DOUBLE_TAG]);
            out.extend_from_slice(&value.to_le_bytes());
        }
        ValueRef::Str(text) => {
            let length = text.len() as u8;
            out.extend_from_slice(&[VALUE_TAG, length + 2, STRING_TAG, length]);
            out.extend_from_slice(text.as_bytes());
        }
        ValueRef::Array(_) => {} // never short
    }
    out[start + 1] = (out.len() - start - 2) as u8;
}

fn any_value_size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Bool(_) => 2,
        ValueRef::I64(value) => 1 + wire::varint_size(value as u64),
        ValueRef::F64(_) => 9,
        ValueRef::Str(text) => wire::field_size(text.len()),
        ValueRef::Array(array) => wire::field_size(array_size(array)),
    }
}

/// Writes `head`, and `value` after it.
fn append_any_value(out: &mut Vec<u8>, mut head: FieldHead, value: ValueRef<'_>) {
    let text = match value {
        ValueRef::Bool(value) => {
            head.varint_of(BOOL_VALUE, value.into());
            ""
        }
        ValueRef::I64(value) => {
            head.varint_of(INT_VALUE, value as u64);
            ""
        }
        ValueRef::F64(value) => {
            head.double_of(DOUBLE_VALUE, value);
            ""
        }
        ValueRef::Str(text) => {
            head.length_of(STRING_VALUE, text.len());
            text
        }
        ValueRef::Array(array) => {
            head.length_of(ARRAY_VALUE, array_size(array));
            out.extend_from_slice(head.written());
            for_each(array, |value| {
                let mut head = FieldHead::default();
                head.length_of(VALUES, any_value_size(value));
                append_any_value(out, head, value);
            });
            return;
        }
    };
    out.extend_from_slice(head.written());
    out.extend_from_slice(text.as_bytes());
}

fn array_size(array: &Array) -> usize {
    let mut size = 0;
    for_each(array, |value| size += wire::field_size(any_value_size(value)));
    size
}

fn for_each(array: &Array, mut each: impl FnMut(ValueRef<'_>)) {
    match array {
        Array::Bool(values) => values.iter().for_each(|value| each(ValueRef::Bool(*value))),
        Array::I64(values) => values.iter().for_each(|value| each(ValueRef::I64(*value))),
        Array::F64(values) => values.iter().for_each(|value| each(ValueRef::F64(*value))),
        Array::String(values) => {
            values.iter().for_each(|value| each(ValueRef::Str(value.as_str())))
        }
        _ => {} // `Array` is non-exhaustive; a kind that doesn't exist yet is sent without elements
    }
}

/// The key of a `KeyValue`, as it is written here, and the bytes of its `AnyValue`.
pub(super) fn read(message: &[u8]) -> Option<(&str, &[u8])> {
    let (key, rest) = read_field(message)?;
    let (value, _) = read_field(rest)?;
    Some((std::str::from_utf8(key).ok()?, value))
}

/// The content of the first field of `bytes`, which has a length, and what comes after it.
pub(super) fn read_field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, size) = wire::read_varint(bytes.get(1..)?)?;
    let (_, rest) = bytes.split_at_checked(1 + size)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// An `AnyValue`, as it is written here.
pub(super) fn read_any_value(bytes: &[u8]) -> Option<Value> {
    let (tag, number) = bytes.split_first()?;
    Some(match *tag {
        STRING_TAG => {
            let (text, _) = read_field(bytes)?;
            Value::from(std::str::from_utf8(text).ok()?.to_owned())
        }
        BOOL_TAG => Value::Bool(wire::read_varint(number)?.0 != 0),
        INT_TAG => Value::I64(wire::read_varint(number)?.0 as i64),
        DOUBLE_TAG => Value::F64(f64::from_le_bytes(number.try_into().ok()?)),
        _ => Value::Array(read_array(read_field(bytes)?.0)?),
    })
}

/// An `ArrayValue`, whose elements are all of one type.
fn read_array(mut bytes: &[u8]) -> Option<Array> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let (value, rest) = read_field(bytes)?;
        values.push(read_any_value(value)?);
        bytes = rest;
    }
    fn all<T>(values: Vec<Value>, one: impl Fn(Value) -> Option<T>) -> Vec<T> {
        values.into_iter().filter_map(one).collect()
    }
    Some(match values.first() {
        Some(Value::Bool(_)) => Array::Bool(all(values, |value| match value {
            Value::Bool(value) => Some(value),
            _ => None,
        })),
        Some(Value::I64(_)) => Array::I64(all(values, |value| match value {
            Value::I64(value) => Some(value),
            _ => None,
        })),
        Some(Value::F64(_)) => Array::F64(all(values, |value| match value {
            Value::F64(value) => Some(value),
            _ => None,
        })),
        _ => Array::String(all(values, |value| match value {
            Value::String(value) => Some(value),
            _ => None,
        })),
    })
}
