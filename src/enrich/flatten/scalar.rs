//! Scalars: values that become one attribute.

use opentelemetry::Value;

/// The size that is counted for a value other than a string, in bytes.
const NUMBER: usize = 8;

/// A value that becomes one attribute.
pub(crate) enum Scalar<'a> {
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
    #[inline]
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Bool(_) | Self::Int(_) | Self::Float(_) => NUMBER,
            Self::BigInt(text) | Self::Str(text) | Self::Static(text) => text.len(),
        }
    }

    pub(super) fn is_finite(&self) -> bool {
        !matches!(self, Self::Float(value) if !value.is_finite())
    }

    /// Writes the value in place of a blank one: moving a `Value` costs more than everything else here.
    #[inline]
    pub(super) fn write_to(self, blank: &mut Value) {
        // A blank value owns nothing that had to be dropped.
        let mut write = |value| std::mem::forget(std::mem::replace(blank, value));
        match self {
            Self::Bool(bool) => write(Value::Bool(bool)),
            Self::Int(int) => write(Value::I64(int)),
            Self::Float(float) => write(Value::F64(float)),
            Self::BigInt(text) | Self::Str(text) => write(Value::String(text.to_owned().into())),
            Self::Static(text) => write(Value::String(text.into())),
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
