//! Scalars: values that become one attribute.

use opentelemetry::Value;

/// The size that is counted for a value other than a string, in bytes.
const NUMBER: usize = 8;

pub(super) enum Scalar<'a> {
    Bool(bool),
    Int(i64),
    /// An integer beyond `i64`, in decimal.
    BigInt(&'a str),
    Float(f64),
    Str(&'a str),
    Static(&'static str),
}

impl Scalar<'_> {
    /// The size that is counted towards the limits, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Bool(_) | Self::Int(_) | Self::Float(_) => NUMBER,
            Self::BigInt(text) | Self::Str(text) | Self::Static(text) => text.len(),
        }
    }

    /// Writes the value in place: moving a `Value` costs more than everything else here.
    pub(super) fn write_to(self, value: &mut Value) {
        match self {
            Self::Bool(bool) => *value = Value::Bool(bool),
            Self::Int(int) => *value = Value::I64(int),
            Self::Float(float) => *value = Value::F64(float),
            Self::BigInt(text) | Self::Str(text) => *value = Value::String(text.to_owned().into()),
            Self::Static(text) => *value = Value::String(text.into()),
        }
    }

    pub(super) fn into_value(self) -> Value {
        let mut value = Value::Bool(false);
        self.write_to(&mut value);
        value
    }
}

/// The size of a value that is counted towards the limits, in bytes.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.as_str().len(),
        _ => NUMBER,
    }
}
