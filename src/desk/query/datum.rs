//! A value of a field, borrowed from its row.

use serde::{Serialize, Serializer};

/// A value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Datum<'d> {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(&'d str),
    /// Values without measures: arrays, bytes, NaN; as text.
    Other(&'d str),
}

/// The type of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ValueKind {
    Bool,
    Number,
    Text,
    Other,
}

/// In the order of preference if two types are equally frequent.
pub(crate) const KINDS: [ValueKind; 4] =
    [ValueKind::Bool, ValueKind::Number, ValueKind::Text, ValueKind::Other];

impl ValueKind {
    /// The most frequent, by how many values there are of each of [`KINDS`].
    pub(crate) fn most_frequent(counts: [i64; 4]) -> Self {
        let mut best = (Self::Number, 0);
        for (kind, count) in KINDS.into_iter().zip(counts) {
            if count > best.1 {
                best = (kind, count);
            }
        }
        best.0
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Number => "number",
            Self::Text => "string",
            Self::Other => "other",
        }
    }
}

impl Serialize for ValueKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Datum<'_> {
    pub(crate) fn kind(self) -> ValueKind {
        match self {
            Self::Bool(_) => ValueKind::Bool,
            Self::Int(_) | Self::Double(_) => ValueKind::Number,
            Self::Text(_) => ValueKind::Text,
            Self::Other(_) => ValueKind::Other,
        }
    }

    /// As a number to measure; a bool is 1 or 0.
    pub(crate) fn number(self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(value))),
            Self::Int(value) => Some(value as f64),
            Self::Double(value) => Some(value),
            Self::Text(_) | Self::Other(_) => None,
        }
    }

    /// As text to group by. A long number has an exponent, as JavaScript writes it.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Double(value) if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) => {
                format!("{value:e}")
            }
            Self::Double(value) => value.to_string(),
            Self::Text(text) | Self::Other(text) => text.to_owned(),
        }
    }
}

/// The greatest integer that every JSON reader represents exactly.
const EXACT: i64 = (1 << 53) - 1;

/// JSON. An integer that a reader might round becomes a string, to stay exact.
impl Serialize for Datum<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Bool(value) => serializer.serialize_bool(value),
            Self::Int(value) if (-EXACT..=EXACT).contains(&value) => {
                serializer.serialize_i64(value)
            }
            Self::Int(value) => serializer.collect_str(&value),
            Self::Double(value) => serializer.serialize_f64(value),
            Self::Text(text) | Self::Other(text) => serializer.serialize_str(text),
        }
    }
}
