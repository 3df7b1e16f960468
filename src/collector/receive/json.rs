//! Decoding of OTLP/JSON.
//!
//! It follows the rules of proto3's JSON mapping and OTLP's exceptions to them: ids in
//! hexadecimal, 64-bit numbers as strings or numbers, enums as numbers, NaN and the infinities as
//! strings, absent or `null` fields as their defaults, unknown fields ignored. The serde
//! implementations of `opentelemetry-proto` accept less: no `"NaN"`, and no array or list without
//! `values`.
//!
//! Recursion is bounded by `serde_json`, which refuses more than 128 levels.

use std::fmt;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::Value as Json;

type Result<T> = std::result::Result<T, JsonError>;

/// What is wrong, and where: `resourceSpans[0].scopeSpans[0].spans[2].traceId: …`.
#[derive(Debug)]
pub(super) struct JsonError {
    path: String,
    what: String,
}

impl JsonError {
    fn new(what: impl Into<String>) -> Self {
        Self { path: String::new(), what: what.into() }
    }

    fn under(mut self, segment: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{segment}{dot}{}", self.path);
        self
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what } = self;
        if path.is_empty() { f.write_str(what) } else { write!(f, "{path}: {what}") }
    }
}

pub(super) fn request(body: &[u8]) -> Result<ExportTraceServiceRequest> {
    let json: Json =
        serde_json::from_slice(body).map_err(|error| JsonError::new(error.to_string()))?;
    let request = Object::of(&json)?;
    Ok(ExportTraceServiceRequest { resource_spans: request.list("resourceSpans", resource_spans)? })
}

fn resource_spans(json: &Json) -> Result<ResourceSpans> {
    let group = Object::of(json)?;
    Ok(ResourceSpans {
        resource: group.get("resource", |json| {
            let resource = Object::of(json)?;
            Ok(Resource {
                attributes: resource.list("attributes", key_value)?,
                dropped_attributes_count: resource.number("droppedAttributesCount")?,
                entity_refs: vec![],
            })
        })?,
        scope_spans: group.list("scopeSpans", scope_spans)?,
        schema_url: group.text("schemaUrl")?,
    })
}

fn scope_spans(json: &Json) -> Result<ScopeSpans> {
    let group = Object::of(json)?;
    Ok(ScopeSpans {
        scope: group.get("scope", |json| {
            let scope = Object::of(json)?;
            Ok(InstrumentationScope {
                name: scope.text("name")?,
                version: scope.text("version")?,
                attributes: scope.list("attributes", key_value)?,
                dropped_attributes_count: scope.number("droppedAttributesCount")?,
            })
        })?,
        spans: group.list("spans", span)?,
        schema_url: group.text("schemaUrl")?,
    })
}

fn span(json: &Json) -> Result<Span> {
    let span = Object::of(json)?;
    Ok(Span {
        trace_id: span.id("traceId")?,
        span_id: span.id("spanId")?,
        trace_state: span.text("traceState")?,
        parent_span_id: span.id("parentSpanId")?,
        flags: span.number("flags")?,
        name: span.text("name")?,
        kind: span.number("kind")?,
        start_time_unix_nano: span.number("startTimeUnixNano")?,
        end_time_unix_nano: span.number("endTimeUnixNano")?,
        attributes: span.list("attributes", key_value)?,
        dropped_attributes_count: span.number("droppedAttributesCount")?,
        events: span.list("events", event)?,
        dropped_events_count: span.number("droppedEventsCount")?,
        links: span.list("links", link)?,
        dropped_links_count: span.number("droppedLinksCount")?,
        status: span.get("status", |json| {
            let status = Object::of(json)?;
            Ok(Status { message: status.text("message")?, code: status.number("code")? })
        })?,
    })
}

fn event(json: &Json) -> Result<Event> {
    let event = Object::of(json)?;
    Ok(Event {
        time_unix_nano: event.number("timeUnixNano")?,
        name: event.text("name")?,
        attributes: event.list("attributes", key_value)?,
        dropped_attributes_count: event.number("droppedAttributesCount")?,
    })
}

fn link(json: &Json) -> Result<Link> {
    let link = Object::of(json)?;
    Ok(Link {
        trace_id: link.id("traceId")?,
        span_id: link.id("spanId")?,
        trace_state: link.text("traceState")?,
        attributes: link.list("attributes", key_value)?,
        dropped_attributes_count: link.number("droppedAttributesCount")?,
        flags: link.number("flags")?,
    })
}

fn key_value(json: &Json) -> Result<KeyValue> {
    let pair = Object::of(json)?;
    Ok(KeyValue { key: pair.text("key")?, value: pair.get("value", any_value)?, key_strindex: 0 })
}

fn any_value(json: &Json) -> Result<AnyValue> {
    use any_value::Value;
    let any = Object::of(json)?;
    let values = |json: &Json| Object::of(json)?.list("values", any_value);
    let pairs = |json: &Json| Object::of(json)?.list("values", key_value);
    let mut set = [
        any.get("stringValue", string)?.map(Value::StringValue),
        any.get("boolValue", boolean)?.map(Value::BoolValue),
        any.get("intValue", integer)?.map(Value::IntValue),
        any.get("doubleValue", double)?.map(Value::DoubleValue),
        any.get("arrayValue", values)?.map(|values| Value::ArrayValue(ArrayValue { values })),
        any.get("kvlistValue", pairs)?.map(|values| Value::KvlistValue(KeyValueList { values })),
        any.get("bytesValue", bytes)?.map(Value::BytesValue),
    ]
    .into_iter()
    .flatten();
    let value = set.next();
    if set.next().is_some() {
        Err(JsonError::new("more than one value"))
    } else {
        Ok(AnyValue { value })
    }
}

/// A JSON object, read field by field.
struct Object<'a>(&'a serde_json::Map<String, Json>);

impl<'a> Object<'a> {
    fn of(json: &'a Json) -> Result<Self> {
        json.as_object().map(Self).ok_or_else(|| expected("an object", json))
    }

    fn get<T>(&self, key: &str, read: impl FnOnce(&Json) -> Result<T>) -> Result<Option<T>> {
        match self.0.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(json) => read(json).map(Some).map_err(|error| error.under(key)),
        }
    }

    fn list<T>(&self, key: &str, read: impl Fn(&Json) -> Result<T>) -> Result<Vec<T>> {
        let list = self.get(key, |json| {
            let items = json.as_array().ok_or_else(|| expected("an array", json))?;
            let item = |(at, json)| read(json).map_err(|error| error.under(&format!("[{at}]")));
            items.iter().enumerate().map(item).collect()
        })?;
        Ok(list.unwrap_or_default())
    }

    fn text(&self, key: &str) -> Result<String> {
        Ok(self.get(key, string)?.unwrap_or_default())
    }

    fn number<T: std::str::FromStr + Default>(&self, key: &str) -> Result<T> {
        Ok(self.get(key, integer)?.unwrap_or_default())
    }

    fn id(&self, key: &str) -> Result<Vec<u8>> {
        Ok(self.get(key, hexadecimal)?.unwrap_or_default())
    }
}

fn string(json: &Json) -> Result<String> {
    json.as_str().map(str::to_owned).ok_or_else(|| expected("a string", json))
}

fn boolean(json: &Json) -> Result<bool> {
    json.as_bool().ok_or_else(|| expected("a bool", json))
}

/// `T`'s parser decides which numbers are in range.
fn integer<T: std::str::FromStr>(json: &Json) -> Result<T> {
    let parsed = match json {
        Json::Number(number) => number.to_string().parse(),
        Json::String(text) => text.parse(),
        _ => return Err(expected("an integer", json)),
    };
    parsed.map_err(|_| expected("an integer in its range", json))
}

fn double(json: &Json) -> Result<f64> {
    let value = match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        _ => None,
    };
    value.ok_or_else(|| expected("a number", json))
}

fn hexadecimal(json: &Json) -> Result<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    let text = json.as_str().ok_or_else(|| expected("a string", json))?;
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect::<Option<_>>().ok_or_else(|| expected("hexadecimal digits in pairs", json))
}

/// Base64 in either alphabet, padded or not.
fn bytes(json: &Json) -> Result<Vec<u8>> {
    let text = json.as_str().ok_or_else(|| expected("a string", json))?;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut pending) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err(expected("base64", json)),
        };
        bits = bits << 6 | u32::from(six);
        pending += 6;
        if pending >= 8 {
            pending -= 8;
            bytes.push((bits >> pending) as u8);
        }
    }
    // Six bits left over are a lone last character: too few for a byte.
    if pending == 6 { Err(expected("base64", json)) } else { Ok(bytes) }
}

fn expected(what: &str, json: &Json) -> JsonError {
    let found = match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    };
    JsonError::new(format!("expected {what}, found {found}"))
}
