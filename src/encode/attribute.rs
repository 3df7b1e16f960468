//! `opentelemetry.proto.common.v1.KeyValue` and `AnyValue`.
//!
//! Their sizes are known before they are written, so they are written in place.

use opentelemetry::Array;

use super::wire::{self, Head};
use crate::record::{Attributes, ValueRef};

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

/// Writes all of `attributes` as fields `field`.
pub(super) fn append_all(out: &mut Vec<u8>, field: u32, attributes: &Attributes) {
    for (key, value) in attributes.iter() {
        append(out, field, "", key, value);
    }
}

/// Writes one attribute, whose key is `prefix` and `key` together, as field `field`.
pub(super) fn append(out: &mut Vec<u8>, field: u32, prefix: &str, key: &str, value: ValueRef<'_>) {
    let key_length = prefix.len() + key.len();
    if key_length < SHORT && short(out, field, prefix, key, value) {
        return;
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

/// Keys and texts shorter than this make attributes whose every length takes one byte.
const SHORT: usize = 56;

/// Writes an attribute whose key is short, if its value is short too: nearly all are. The same bytes
/// as in general, with less arithmetic.
fn short(out: &mut Vec<u8>, field: u32, prefix: &str, key: &str, value: ValueRef<'_>) -> bool {
    let (mut number, mut text) = ([0; 10], "");
    let (tag, bytes): (u8, &[u8]) = match value {
        ValueRef::Bool(value) => (wire::VARINT | (BOOL_VALUE << 3) as u8, &[u8::from(value)][..]),
        ValueRef::I64(value) => {
            (wire::VARINT | (INT_VALUE << 3) as u8, wire::varint_in(&mut number, value as u64))
        }
        ValueRef::F64(value) => {
            number[..8].copy_from_slice(&value.to_le_bytes());
            (wire::FIXED64 | (DOUBLE_VALUE << 3) as u8, &number[..8])
        }
        ValueRef::Str(value) if value.len() < SHORT => {
            text = value;
            (wire::LENGTH | (STRING_VALUE << 3) as u8, &[value.len() as u8][..])
        }
        ValueRef::Static(value) if value.len() < SHORT => {
            text = value;
            (wire::LENGTH | (STRING_VALUE << 3) as u8, &[value.len() as u8][..])
        }
        _ => return false,
    };
    let key_length = prefix.len() + key.len();
    let value_length = 1 + bytes.len() + text.len();
    let length = 4 + key_length + value_length;
    out.reserve(2 + length);
    out.extend_from_slice(&[
        wire::LENGTH | (field << 3) as u8,
        length as u8,
        wire::LENGTH | (KEY << 3) as u8,
        key_length as u8,
    ]);
    if !prefix.is_empty() {
        out.extend_from_slice(prefix.as_bytes());
    }
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&[wire::LENGTH | (VALUE << 3) as u8, value_length as u8, tag]);
    out.extend_from_slice(bytes);
    out.extend_from_slice(text.as_bytes());
    true
}

fn any_value_size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Bool(_) => 2,
        ValueRef::I64(value) => 1 + wire::varint_size(value as u64),
        ValueRef::F64(_) => 9,
        ValueRef::Str(text) => wire::field_size(text.len()),
        ValueRef::Static(text) => wire::field_size(text.len()),
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
        ValueRef::Static(text) => {
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
