//! Values of attributes as JSON.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::bounds::parsed;
use crate::collector::receive::value::Value;

pub(super) type Attributes = BTreeMap<String, Value>;

/// A value as JSON: structured, or parsed from text.
pub(super) fn structured(value: &Value) -> Json {
    match value {
        Value::String(text) => parsed(text).unwrap_or_else(|| Json::String(text.clone())),
        Value::Array(values) => values.iter().map(inner).collect(),
        Value::Map(map) => {
            Json::Object(map.iter().map(|(key, value)| (key.clone(), inner(value))).collect())
        }
        Value::Empty => Json::Null,
        other => Json::String(other.to_string()),
    }
}

/// The same within a value, where a number is a number.
fn inner(value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::from(*value),
        Value::Int(value) => Json::from(*value),
        Value::Double(value) => Json::from(*value), // `null` if it is not finite
        Value::String(text) => Json::String(text.clone()),
        value => structured(value),
    }
}
