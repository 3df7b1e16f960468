//! Values as the API writes them.

use serde_json::Value as Json;

use crate::collector::receive::value::Value;
use crate::desk::query::datum::Datum;

/// The value of an attribute as JSON.
pub(crate) fn json(value: &Value) -> Json {
    match value {
        Value::Bool(value) => datum_json(Datum::Bool(*value)),
        Value::Int(value) => datum_json(Datum::Int(*value)),
        Value::Double(value) if value.is_finite() => datum_json(Datum::Double(*value)),
        Value::String(text) => Json::from(text.as_str()),
        Value::Array(values) => values.iter().map(json).collect(),
        Value::Map(map) => {
            Json::Object(map.iter().map(|(key, value)| (key.clone(), json(value))).collect())
        }
        Value::Empty => Json::Null,
        other => Json::from(other.to_string()),
    }
}

pub(crate) fn datum_json(datum: Datum<'_>) -> Json {
    serde_json::to_value(datum).unwrap_or_default() // of a scalar, which is never refused
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes all
        text
    })
}

/// A trace id of 32 hexadecimal digits.
pub(crate) fn trace_id_of(text: &str) -> Option<[u8; 16]> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}
