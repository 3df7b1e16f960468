//! Attribute values as they arrived.

use std::collections::BTreeMap;
use std::fmt;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value,
};

/// The value of an attribute, with the type it had on the wire.
///
/// It compares with plain Rust values of the same type; an int never equals a double.
///
/// ```
/// use tracing_feedback::collector::Value;
///
/// assert_eq!(Value::Int(3), 3);
/// assert_ne!(Value::Int(3), 3.0);
/// assert_eq!(Value::from(vec!["a", "b"]), ["a", "b"]);
/// assert_eq!(Value::from(vec!["a", "b"]).to_string(), r#"["a","b"]"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `boolValue`
    Bool(bool),
    /// `intValue`
    Int(i64),
    /// `doubleValue`, NaN and the infinities included
    Double(f64),
    /// `stringValue`
    String(String),
    /// `bytesValue`
    Bytes(Vec<u8>),
    /// `arrayValue`: its values may differ in type
    Array(Vec<Value>),
    /// `kvlistValue`: of a key that came twice, the last value
    Map(BTreeMap<String, Value>),
    /// No value at all, which OTLP allows.
    #[default]
    Empty,
}

impl Value {
    /// Converts a value from the wire. Recursion is as deep as the message is nested, and both
    /// decoders refuse messages nested more than about 50 values deep.
    pub(crate) fn from_wire(value: AnyValue) -> Self {
        use any_value::Value as Wire;
        match value.value {
            Some(Wire::BoolValue(value)) => Self::Bool(value),
            Some(Wire::IntValue(value)) => Self::Int(value),
            Some(Wire::DoubleValue(value)) => Self::Double(value),
            Some(Wire::StringValue(value)) => Self::String(value),
            Some(Wire::BytesValue(value)) => Self::Bytes(value),
            Some(Wire::ArrayValue(array)) => {
                Self::Array(array.values.into_iter().map(Self::from_wire).collect())
            }
            Some(Wire::KvlistValue(list)) => Self::Map(attributes(list.values).0),
            // An index into a table that only profiles have: reads as absent.
            Some(Wire::StringValueStrindex(_)) | None => Self::Empty,
        }
    }

    /// The value as it goes over the wire.
    pub(crate) fn to_wire(&self) -> AnyValue {
        use any_value::Value as Wire;
        let value = match self {
            Self::Bool(value) => Some(Wire::BoolValue(*value)),
            Self::Int(value) => Some(Wire::IntValue(*value)),
            Self::Double(value) => Some(Wire::DoubleValue(*value)),
            Self::String(value) => Some(Wire::StringValue(value.clone())),
            Self::Bytes(value) => Some(Wire::BytesValue(value.clone())),
            Self::Array(values) => {
                let values = values.iter().map(Self::to_wire).collect();
                Some(Wire::ArrayValue(ArrayValue { values }))
            }
            Self::Map(map) => {
                let pairs = map.iter().map(|(key, value)| KeyValue {
                    key: key.clone(),
                    value: Some(value.to_wire()),
                    ..KeyValue::default()
                });
                Some(Wire::KvlistValue(KeyValueList { values: pairs.collect() }))
            }
            Self::Empty => None,
        };
        AnyValue { value }
    }

    /// The bool, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The int, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Int(value) = self { Some(*value) } else { None }
    }

    /// The double, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        if let Self::Double(value) = self { Some(*value) } else { None }
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    /// The values, if it is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }
}

/// The attributes by key, and each key that came more than once: its last value is the one kept.
pub(crate) fn attributes(list: Vec<KeyValue>) -> (BTreeMap<String, Value>, Vec<String>) {
    let mut map = BTreeMap::new();
    let mut duplicates: Vec<String> = Vec::new();
    for KeyValue { key, value, .. } in list {
        let value = value.map(Value::from_wire).unwrap_or_default();
        if map.insert(key.clone(), value).is_some() {
            duplicates.push(key);
        }
    }
    duplicates.sort();
    duplicates.dedup();
    (map, duplicates)
}

macro_rules! convert_and_compare {
    ($($variant:ident: $type:ty => $owned:expr;)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant($owned(value))
            }
        }

        impl PartialEq<$type> for Value {
            fn eq(&self, other: &$type) -> bool {
                matches!(self, Self::$variant(value) if value == other)
            }
        }
    )*};
}

convert_and_compare! {
    Bool: bool => std::convert::identity;
    Int: i64 => std::convert::identity;
    Double: f64 => std::convert::identity;
    String: &str => str::to_owned;
    String: String => std::convert::identity;
}

impl PartialEq<str> for Value {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}

impl<T, const N: usize> PartialEq<[T; N]> for Value
where
    Value: PartialEq<T>,
{
    fn eq(&self, other: &[T; N]) -> bool {
        self.as_array().is_some_and(|values| {
            values.len() == N && values.iter().zip(other).all(|(value, other)| value == other)
        })
    }
}

/// Compact JSON, with extensions for values that JSON lacks: `NaN`, `inf`, and bytes as `0x…`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            // `Debug` keeps the point in `1.0`, so that a double never looks like an int.
            Self::Double(value) => write!(f, "{value:?}"),
            Self::String(value) => write!(f, "{}", quoted(value)),
            Self::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Array(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if at == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("{")?;
                for (at, (key, value)) in map.iter().enumerate() {
                    write!(f, "{}{}:{value}", if at == 0 { "" } else { "," }, quoted(key))?;
                }
                f.write_str("}")
            }
            Self::Empty => f.write_str("null"),
        }
    }
}

fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}
