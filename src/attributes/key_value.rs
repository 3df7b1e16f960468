//! `opentelemetry.proto.common.v1.KeyValue` and `AnyValue`, written and read.
//!
//! Their sizes are known before they are written, so they are written in place.

use std::fmt::{self, Write as _};

use opentelemetry::{Array, Value};

use super::ValueRef;
use crate::protobuf::{self as wire, Head};

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

/// A key that is written again and again.
#[derive(Debug)]
pub(crate) struct PreparedKey {
    name: &'static str,
    /// A short attribute's bytes before its value, without its length; empty if the key is long.
    head: Vec<u8>,
}

impl PreparedKey {
    pub(super) fn new(field: u32, name: &'static str) -> Self {
        let mut head = Vec::new();
        if name.len() < SHORT {
            short_head(&mut head, field, "", name);
        }
        Self { name, head }
    }
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
    let mut head = Head::default();
    head.length_of(field, wire::field_size(key_length) + wire::field_size(value_length));
    head.length_of(KEY, key_length);
    out.extend_from_slice(head.written());
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(key.as_bytes());
    let mut head = Head::default();
    head.length_of(VALUE, value_length);
    append_any_value(out, head, value);
}

/// The same for a key that is prepared for field `field`.
#[inline(always)] // little is left of it where the type of the value is known
pub(super) fn append_prepared(
    out: &mut Vec<u8>,
    field: u32,
    key: &PreparedKey,
    value: ValueRef<'_>,
) {
    if key.head.is_empty() || !is_short(value) {
        return append(out, field, "", key.name, value);
    }
    let start = out.len();
    out.extend_from_slice(&key.head);
    short_value(out, start, value);
}

/// The same for the `Debug` form of a value, which is foreign code.
pub(super) fn append_formatted(
    out: &mut Vec<u8>,
    field: u32,
    key: &PreparedKey,
    value: &dyn fmt::Debug,
) {
    struct Writer<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Writer<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    let start = out.len();
    out.extend_from_slice(&key.head);
    out.extend_from_slice(&[VALUE_TAG, 0, STRING_TAG, 0]);
    let text = out.len();
    // If the value can't be written, what there is of it is kept.
    let _ = write!(Writer(out), "{value:?}");
    let length = out.len() - text;
    if key.head.is_empty() || length >= SHORT {
        let written = String::from_utf8_lossy(&out[text..]).into_owned();
        out.truncate(start);
        return append(out, field, "", key.name, ValueRef::Str(&written));
    }
    out[text - 1] = length as u8;
    out[text - 3] = length as u8 + 2;
    out[start + 1] = (out.len() - start - 2) as u8;
}

#[inline]
fn is_short(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Bool(_) | ValueRef::I64(_) | ValueRef::F64(_) => true,
        ValueRef::Str(text) => text.len() < SHORT,
        ValueRef::Array(_) => false,
    }
}

/// The bytes of a short attribute before its value. Its length is left open.
fn short_head(out: &mut Vec<u8>, field: u32, prefix: &str, key: &str) {
    let length = prefix.len() + key.len();
    out.extend_from_slice(&[wire::tag_of(field, wire::LENGTH), 0, KEY_TAG, length as u8]);
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(key.as_bytes());
}

/// A short value, and the length of the attribute that begins at `start`.
#[inline(always)]
fn short_value(out: &mut Vec<u8>, start: usize, value: ValueRef<'_>) {
    match value {
        ValueRef::Bool(value) => {
            out.extend_from_slice(&[VALUE_TAG, 2, BOOL_TAG, u8::from(value)]);
        }
        ValueRef::I64(value) => {
            // All bytes a number may take, and those it doesn't take away again: of one size, they
            // are copied at once.
            let mut number = [0; 10];
            let length = wire::varint_in(&mut number, value as u64);
            out.extend_from_slice(&[VALUE_TAG, 1 + length as u8, INT_TAG]);
            out.extend_from_slice(&number);
            out.truncate(out.len() - (number.len() - length));
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
fn append_any_value(out: &mut Vec<u8>, mut head: Head, value: ValueRef<'_>) {
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
                let mut head = Head::default();
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
