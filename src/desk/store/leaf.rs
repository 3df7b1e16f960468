//! A leaf of a document: a value in the types that the desk distinguishes.

use super::batch::text;
use crate::collector::receive::value::Value;
use crate::desk::query::datum::Datum;

/// The type of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeafType {
    Bool = 0,
    Int = 1,
    Double = 2,
    Text = 3,
    /// Values without measures: arrays, bytes, NaN.
    Other = 4,
}

/// The value of a leaf in its column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaf {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Other(String),
}

impl Leaf {
    /// The leaf of a field. A ground truth is always text.
    pub(crate) fn of(key: &str, value: Value) -> Self {
        match value {
            value if is_ground_truth(key) => Self::Text(text(&value)),
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::Double(value) if value.is_finite() => Self::Double(value),
            Value::String(value) => Self::Text(value),
            value => Self::Other(value.to_string()),
        }
    }

    pub(crate) fn kind(&self) -> LeafType {
        match self {
            Self::Bool(_) => LeafType::Bool,
            Self::Int(_) => LeafType::Int,
            Self::Double(_) => LeafType::Double,
            Self::Text(_) => LeafType::Text,
            Self::Other(_) => LeafType::Other,
        }
    }

    pub(crate) fn datum(&self) -> Datum<'_> {
        match self {
            Self::Bool(value) => Datum::Bool(*value),
            Self::Int(value) => Datum::Int(*value),
            Self::Double(value) => Datum::Double(*value),
            Self::Text(text) => Datum::Text(text),
            Self::Other(text) => Datum::Other(text),
        }
    }
}

impl From<Datum<'_>> for Leaf {
    fn from(datum: Datum<'_>) -> Self {
        match datum {
            Datum::Bool(value) => Self::Bool(value),
            Datum::Int(value) => Self::Int(value),
            Datum::Double(value) => Self::Double(value),
            Datum::Text(text) => Self::Text(text.to_owned()),
            Datum::Other(text) => Self::Other(text.to_owned()),
        }
    }
}

/// Whether a field is a ground truth, which is always text.
pub(crate) fn is_ground_truth(key: &str) -> bool {
    key.strip_prefix("feedback.ground_truth")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
