//! Attributes, kept in the form in which they leave.
//!
//! A value is written once, when it is recorded: as a `KeyValue` message behind those that came
//! before it. The end of a span then only copies bytes. Redaction sees values before they are
//! written. Only samplers and the exporters of the OpenTelemetry SDK need values back, and
//! [read](Attributes::iter) them.

mod key_value;

use std::fmt;
use std::ops::Range;

use opentelemetry::{Array, KeyValue, StringValue, Value};

pub(crate) use key_value::{PreparedKey, append};

use crate::otlp::encode_buffer::EncodeBuffer;
use crate::otlp::protobuf;

/// `opentelemetry.proto.trace.v1.Span`: the field that attributes are written for.
pub(crate) const FIELD: u32 = 9;

/// Attributes in no particular order, each key once.
#[derive(Clone, Default)]
pub(crate) struct Attributes {
    /// `KeyValue` messages, each preceded by its tag and length as field [`FIELD`].
    bytes: EncodeBuffer,
    count: u32,
}

/// One attribute value, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ValueRef<'a> {
    Bool(bool),
    I64(i64),
    F64(f64),
    Str(&'a str),
    Array(&'a Array),
}

impl ValueRef<'_> {
    pub(crate) fn to_value(self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(value),
            Self::I64(value) => Value::I64(value),
            Self::F64(value) => Value::F64(value),
            Self::Str(value) => Value::String(StringValue::from(value.to_owned())),
            Self::Array(value) => Value::Array(value.clone()),
        }
    }
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::I64(value) => Self::I64(*value),
            Value::F64(value) => Self::F64(*value),
            Value::String(value) => Self::Str(value.as_str()),
            Value::Array(value) => Self::Array(value),
            _ => Self::Str("(unsupported value)"), // `Value` is non-exhaustive
        }
    }
}

impl Attributes {
    /// Room for about `attributes` of them.
    pub(crate) fn with_capacity(attributes: usize) -> Self {
        Self { bytes: EncodeBuffer::with_capacity(attributes * 32), count: 0 }
    }

    /// Room for attributes that take `bytes` encoded.
    pub(crate) fn for_encoded(bytes: usize) -> Self {
        Self { bytes: EncodeBuffer::with_capacity(bytes), count: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    /// Appends the attributes to those of a span.
    #[inline(always)] // once a span
    pub(crate) fn append_to(&self, out: &mut EncodeBuffer) {
        out.extend(&self.bytes);
    }

    /// The attributes as fields of a span message.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// How many bytes the attributes may take without another allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(0);
        self.count = 0;
    }

    /// Sets `key` to `value`, whatever it was.
    pub(crate) fn set(&mut self, key: &str, value: ValueRef<'_>) {
        self.set_within(key, value, usize::MAX);
    }

    /// As [`set`](Self::set), unless that would make more than `most` attributes. Returns whether
    /// the value was kept.
    pub(crate) fn set_within(&mut self, key: &str, value: ValueRef<'_>, most: usize) -> bool {
        let is_kept = self.remove(key) || self.len() < most;
        if is_kept {
            self.push(key, value);
        }
        is_kept
    }

    /// As [`set_within`](Self::set_within) for all of `other`. Returns how many were not kept.
    pub(crate) fn merge_within(&mut self, other: &Self, most: usize) -> usize {
        let mut dropped = 0;
        for (field, key, _) in other.messages() {
            if self.remove(key) || self.len() < most {
                self.push_encoded(field);
            } else {
                dropped += 1;
            }
        }
        dropped
    }

    /// Appends an attribute without checking for its key, which must be new.
    pub(crate) fn push(&mut self, key: &str, value: ValueRef<'_>) {
        self.bytes.change(|bytes| append(bytes, FIELD, "", key, value));
        self.count += 1;
    }

    /// As [`push`](Self::push), for a key that is written often.
    #[inline(always)]
    pub(crate) fn push_prepared(&mut self, key: &PreparedKey, value: ValueRef<'_>) {
        self.count += 1;
        key.append(&mut self.bytes, value);
    }

    /// As [`push_prepared`](Self::push_prepared), for the `Debug` form of `value`. Returns whether
    /// the text is complete.
    pub(crate) fn push_formatted(&mut self, key: &PreparedKey, value: &dyn fmt::Debug) -> bool {
        self.count += 1;
        key.append_formatted(&mut self.bytes, value)
    }

    /// As [`push`](Self::push), for an attribute that is encoded as in a span.
    pub(crate) fn push_encoded(&mut self, field: &[u8]) {
        self.bytes.extend_from_slice(field);
        self.count += 1;
    }

    /// As [`push`](Self::push), for a `KeyValue` message.
    pub(crate) fn push_message(&mut self, message: &[u8]) {
        self.bytes.change(|bytes| protobuf::bytes(bytes, FIELD, message));
        self.count += 1;
    }

    /// As [`push`](Self::push), for all of `other`.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.bytes.extend(&other.bytes);
        self.count += other.count;
    }

    /// Keeps the first `most` attributes and returns how many were cut off.
    pub(crate) fn truncate(&mut self, most: usize) -> usize {
        let cut = self.len().saturating_sub(most);
        if cut > 0 {
            let kept = self.messages().take(most).map(|(field, _, _)| field.len()).sum();
            self.bytes.truncate(kept);
            self.count = most as u32;
        }
        cut
    }

    /// Keeps the attributes whose keys `keep` accepts.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let mut kept = Self::default();
        for (field, ..) in self.messages().filter(|(_, key, _)| keep(key)) {
            kept.push_encoded(field);
        }
        if kept.count < self.count {
            *self = kept;
        }
    }

    /// The keys, read back.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.messages().map(|(_, key, _)| key)
    }

    /// Keys and values, read back.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Value)> {
        self.messages().filter_map(|(_, key, value)| Some((key, key_value::read_any_value(value)?)))
    }

    /// The attributes as the SDK has them.
    pub(crate) fn key_values(&self) -> impl Iterator<Item = KeyValue> {
        self.iter().map(|(key, value)| KeyValue::new(key.to_owned(), value))
    }

    /// The value of an attribute, read back.
    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        let (.., value) = self.messages().find(|(_, this, _)| *this == key)?;
        key_value::read_any_value(value)
    }

    /// Appends the attributes as field `field` of a message other than a span.
    pub(crate) fn append_as(&self, out: &mut Vec<u8>, field: u32) {
        for (attribute, ..) in self.messages() {
            out.push(protobuf::tag_of(field, protobuf::LENGTH));
            out.extend_from_slice(&attribute[1..]);
        }
    }

    /// Each attribute with its tag and length, its key, and its value as it is written.
    fn messages(&self) -> impl Iterator<Item = (&[u8], &str, &[u8])> {
        let mut bytes = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (message, rest) = key_value::read_field(bytes)?;
            let field = &bytes[..bytes.len() - rest.len()];
            bytes = rest;
            let (key, value) = key_value::read(message)?;
            Some((field, key, value))
        })
    }

    fn remove(&mut self, key: &str) -> bool {
        let Some(range) = self.position(key) else { return false };
        self.bytes.remove(range);
        self.count -= 1;
        true
    }

    fn position(&self, key: &str) -> Option<Range<usize>> {
        let mut end = 0;
        self.messages().find_map(|(field, this, _)| {
            let start = end;
            end += field.len();
            (this == key).then_some(start..end)
        })
    }
}

/// A key prepared for [`Attributes::push_prepared`].
pub(crate) fn prepare(key: &'static str) -> PreparedKey {
    PreparedKey::new(FIELD, key)
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_set_twice_is_kept_once_with_its_last_value() {
        let mut attributes = Attributes::default();
        attributes.set("a", ValueRef::Str("first"));
        attributes.set("b", ValueRef::I64(1));
        attributes.set("a", ValueRef::Str("second"));
        let all: Vec<_> = attributes.iter().collect();
        assert_eq!(all, [("b", Value::I64(1)), ("a", Value::from("second"))]);
        assert_eq!(attributes.len(), 2);
    }

    #[test]
    fn a_value_replaced_for_ever_takes_constant_space() {
        let mut attributes = Attributes::default();
        attributes.set("kept", ValueRef::Str("untouched"));
        for n in 0..100_000 {
            attributes.set("progress", ValueRef::Str(&format!("{n} of many")));
        }
        assert!(attributes.capacity() < 8192, "{}", attributes.capacity());
        let all: Vec<_> = attributes.iter().collect();
        assert_eq!(
            all,
            [("kept", Value::from("untouched")), ("progress", Value::from("99999 of many"))]
        );
    }

    #[test]
    fn a_full_table_takes_new_values_of_keys_it_has() {
        let mut attributes = Attributes::default();
        attributes.set("a", ValueRef::Bool(true));
        attributes.set("b", ValueRef::F64(0.5));
        assert!(attributes.set_within("a", ValueRef::Bool(false), 2));
        assert!(!attributes.set_within("c", ValueRef::I64(1), 2));
        let mut more = Attributes::default();
        more.set("b", ValueRef::F64(-1.0));
        more.set("d", ValueRef::Bool(true));
        assert_eq!(attributes.merge_within(&more, 2), 1);
        let all: Vec<_> = attributes.iter().collect();
        assert_eq!(all, [("a", Value::Bool(false)), ("b", Value::F64(-1.0))]);
        assert_eq!(attributes.truncate(1), 1);
        assert_eq!(attributes.iter().count(), 1);
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::I64),
            (0..63_u32, -2..=2_i64).prop_map(|(bits, more)| Value::I64((1 << bits) + more)),
            any::<f64>().prop_map(Value::F64),
            (0..130_usize).prop_map(|length| Value::from("é".repeat(length))),
            Just(Value::Array(Array::Bool(vec![true, false]))),
        ]
    }

    proptest! {
        #[test]
        fn a_prepared_key_is_written_as_any_other(
            fields in vec((0..70_usize, value()), 0..12),
        ) {
            let (mut prepared, mut any) = (Attributes::default(), Attributes::default());
            for (length, value) in &fields {
                let key: &'static str = KEY.get(..*length).unwrap();
                prepared.push_prepared(&prepare(key), ValueRef::from(value));
                any.push(key, ValueRef::from(value));
            }
            prop_assert_eq!(prepared.as_bytes(), any.as_bytes());
            prop_assert_eq!(prepared.len(), fields.len());
        }
    }

    const KEY: &str = "a.key.of.seventy.characters.that.is.longer.than.any.key.that.is.prepared";

    #[test]
    fn a_debug_form_of_any_length_is_one_string() {
        for (key, length) in [("short", 3), ("short", 55), ("short", 56), ("short", 20_000)] {
            let text = "x".repeat(length);
            let mut attributes = Attributes::default();
            attributes.push("before", ValueRef::Bool(true));
            assert!(attributes.push_formatted(&prepare(key), &format_args!("{text}")));
            attributes.push("after", ValueRef::Bool(true));
            let all: Vec<_> = attributes.iter().collect();
            assert_eq!(all[1], (key, Value::from(text)));
            assert_eq!(all[2].0, "after");
        }
    }
}
