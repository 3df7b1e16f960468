//! Decoding of OTLP/JSON, straight from the text to messages, within the memory that the request
//! may take.
//!
//! It follows the rules of proto3's JSON mapping and OTLP's exceptions to them: ids in
//! hexadecimal, 64-bit numbers as strings or numbers, enums as numbers, NaN and the infinities as
//! strings, absent or `null` fields as their defaults, unknown fields ignored. The serde
//! implementations of `opentelemetry-proto` accept less: no `"NaN"`, and no array or list without
//! `values`.
//!
//! Recursion is bounded by `serde_json`, which refuses more than 128 levels.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::budget::MemoryLease;
use super::decoded::{DecodedRequest, RefusedItems};
use super::measure::item_size;
use super::refusal::{RefusalKind, RequestRefusal};
use super::signal::ExportRequest;

/// A request with more items that can't be read is refused: each takes as long as an error takes to be made.
const MOST_UNREADABLE: u64 = 10_000;

/// Decodes a request. A refusal says where in the text it is wrong:
/// `resourceSpans[0].scopeSpans[0].spans[2].traceId: …`. Spans, log records, resources and
/// scopes that can't be read are left out, unless all spans or log records are.
pub(super) fn request<M: ExportRequest + Message>(
    body: &[u8],
    lease: &MemoryLease,
) -> Result<DecodedRequest<M>, RequestRefusal> {
    let before = lease.taken();
    let refusal = match message::<M>(body, &Decoding::new(lease, None)) {
        Ok(message) => return Ok(message.into()),
        Err(refusal) if refusal.kind != RefusalKind::Malformed => return Err(refusal),
        Err(refusal) => refusal,
    };
    lease.give_back(lease.taken() - before);
    // Once more, and each item for itself.
    if std::str::from_utf8(body).is_err() {
        lease.take(3 * body.len())?; // a character stands for each wrong byte
    }
    let decoding = Decoding::new(lease, Some(Cell::default()));
    match message::<M>(String::from_utf8_lossy(body).as_bytes(), &decoding) {
        Ok(message) if message.has_items() => {
            let count = decoding.refused.map_or(0, Cell::into_inner);
            // It says where the first fault is.
            let refused = RefusedItems { count, first: Some(refusal) };
            Ok(DecodedRequest { message, refused })
        }
        Err(refusal) if refusal.kind != RefusalKind::Malformed => Err(refusal),
        _ => Err(refusal),
    }
}

fn message<M: Message>(body: &[u8], decoding: &Decoding<'_>) -> Result<M, RequestRefusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let request = MessageSeed::new(decoding)
        .deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track));
    match request.and_then(|request| json.end().map(|()| request)) {
        Ok(request) => Ok(request),
        Err(error) => Err(decoding.refusal.take().unwrap_or_else(|| {
            let path = track.path().to_string();
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            RequestRefusal::malformed(format!("{place}{error}"))
        })),
    }
}

/// What all parts of a message share while it is decoded.
struct Decoding<'a> {
    lease: &'a MemoryLease,
    /// Why decoding was stopped, if the message is too large.
    refusal: RefCell<Option<RequestRefusal>>,
    /// How many items can't be read, if they are left out.
    refused: Option<Cell<u64>>,
}

impl<'a> Decoding<'a> {
    fn new(lease: &'a MemoryLease, refused: Option<Cell<u64>>) -> Self {
        Self { lease, refusal: RefCell::default(), refused }
    }

    fn take<E: Error>(&self, bytes: usize) -> Result<(), E> {
        self.lease.take(bytes).map_err(|refusal| {
            let error = E::custom(&refusal);
            self.refusal.replace(Some(refusal));
            error
        })
    }
}

/// A message, read from a JSON object field by field.
pub(crate) trait Message: Default {
    /// Sets the field with this name. The value of an unknown field must be skipped.
    fn set<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: FieldValue<'_, A>,
    ) -> Result<(), A::Error>;
}

macro_rules! messages {
    ($($message:ty { $($name:literal => $field:ident: $read:ident,)* })*) => {$(
        impl Message for $message {
            fn set<'de, A: MapAccess<'de>>(
                &mut self,
                name: &str,
                value: FieldValue<'_, A>,
            ) -> Result<(), A::Error> {
                match name {
                    $($name => self.$field = value.$read()?,)*
                    _ => value.skip()?,
                }
                Ok(())
            }
        }
    )*};
}

messages! {
    ExportTraceServiceRequest {
        "resourceSpans" => resource_spans: list,
    }
    ResourceSpans {
        "resource" => resource: message_if_readable,
        "scopeSpans" => scope_spans: list,
        "schemaUrl" => schema_url: text,
    }
    Resource {
        "attributes" => attributes: list,
        "droppedAttributesCount" => dropped_attributes_count: number,
    }
    ScopeSpans {
        "scope" => scope: message_if_readable,
        "spans" => spans: items,
        "schemaUrl" => schema_url: text,
    }
    ExportLogsServiceRequest {
        "resourceLogs" => resource_logs: list,
    }
    ResourceLogs {
        "resource" => resource: message_if_readable,
        "scopeLogs" => scope_logs: list,
        "schemaUrl" => schema_url: text,
    }
    ScopeLogs {
        "scope" => scope: message_if_readable,
        "logRecords" => log_records: items,
        "schemaUrl" => schema_url: text,
    }
    LogRecord {
        "timeUnixNano" => time_unix_nano: number,
        "observedTimeUnixNano" => observed_time_unix_nano: number,
        "severityNumber" => severity_number: number,
        "severityText" => severity_text: text,
        "body" => body: message,
        "attributes" => attributes: list,
        "droppedAttributesCount" => dropped_attributes_count: number,
        "flags" => flags: number,
        "traceId" => trace_id: id,
        "spanId" => span_id: id,
        "eventName" => event_name: text,
    }
    InstrumentationScope {
        "name" => name: text,
        "version" => version: text,
        "attributes" => attributes: list,
        "droppedAttributesCount" => dropped_attributes_count: number,
    }
    Span {
        "traceId" => trace_id: id,
        "spanId" => span_id: id,
        "traceState" => trace_state: text,
        "parentSpanId" => parent_span_id: id,
        "flags" => flags: number,
        "name" => name: text,
        "kind" => kind: number,
        "startTimeUnixNano" => start_time_unix_nano: number,
        "endTimeUnixNano" => end_time_unix_nano: number,
        "attributes" => attributes: list,
        "droppedAttributesCount" => dropped_attributes_count: number,
        "events" => events: list,
        "droppedEventsCount" => dropped_events_count: number,
        "links" => links: list,
        "droppedLinksCount" => dropped_links_count: number,
        "status" => status: message,
    }
    Event {
        "timeUnixNano" => time_unix_nano: number,
        "name" => name: text,
        "attributes" => attributes: list,
        "droppedAttributesCount" => dropped_attributes_count: number,
    }
    Link {
        "traceId" => trace_id: id,
        "spanId" => span_id: id,
        "traceState" => trace_state: text,
        "attributes" => attributes: list,
        "droppedAttributesCount" => dropped_attributes_count: number,
        "flags" => flags: number,
    }
    Status {
        "message" => message: text,
        "code" => code: number,
    }
    KeyValue {
        "key" => key: text,
        "value" => value: message,
    }
    ArrayValue {
        "values" => values: list,
    }
    KeyValueList {
        "values" => values: list,
    }
}

impl Message for AnyValue {
    fn set<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: FieldValue<'_, A>,
    ) -> Result<(), A::Error> {
        use any_value::Value;
        let value = match name {
            "stringValue" => value.optional(TextSeed::plain)?.map(Value::StringValue),
            "boolValue" => value.optional(|_| BoolSeed)?.map(Value::BoolValue),
            "intValue" => value.optional(|_| IntegerSeed::new())?.map(Value::IntValue),
            "doubleValue" => value.optional(|_| DoubleSeed)?.map(Value::DoubleValue),
            "arrayValue" => value.message()?.map(Value::ArrayValue),
            "kvlistValue" => value.message()?.map(Value::KvlistValue),
            "bytesValue" => value.optional(TextSeed::base64)?.map(Value::BytesValue),
            _ => return value.skip(),
        };
        match (&self.value, value) {
            (Some(_), Some(_)) => Err(A::Error::custom("more than one value")),
            (_, None) => Ok(()),
            (None, value) => {
                self.value = value;
                Ok(())
            }
        }
    }
}

/// The value of a field that is being read. `null` is its default.
pub(crate) struct FieldValue<'a, A> {
    map: &'a mut A,
    decoding: &'a Decoding<'a>,
}

impl<'a, 'de, A: MapAccess<'de>> FieldValue<'a, A> {
    fn optional<S: DeserializeSeed<'de>>(
        self,
        seed: impl FnOnce(&'a Decoding<'a>) -> S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.map.next_value_seed(NullableSeed(seed(self.decoding)))
    }

    fn text(self) -> Result<String, A::Error> {
        Ok(self.optional(TextSeed::plain)?.unwrap_or_default())
    }

    fn id(self) -> Result<Vec<u8>, A::Error> {
        Ok(self.optional(TextSeed::hexadecimal)?.unwrap_or_default())
    }

    fn number<T: FromStr + TryFrom<i128> + Default>(self) -> Result<T, A::Error> {
        Ok(self.optional(|_| IntegerSeed::new())?.unwrap_or_default())
    }

    fn message<M: Message>(self) -> Result<Option<M>, A::Error> {
        self.optional(MessageSeed::new)
    }

    fn list<M: Message>(self) -> Result<Vec<M>, A::Error> {
        Ok(self.optional(ListSeed::new)?.unwrap_or_default())
    }

    /// As `message`. Where items that can't be read are left out, so is this one.
    fn message_if_readable<M: Message>(self) -> Result<Option<M>, A::Error> {
        if self.decoding.refused.is_none() {
            return self.message();
        }
        let text = self.map.next_value::<&RawValue>()?;
        let mut json = serde_json::Deserializer::from_str(text.get());
        match NullableSeed(MessageSeed::new(self.decoding)).deserialize(&mut json) {
            Err(error) if self.decoding.refusal.borrow().is_some() => Err(A::Error::custom(error)),
            found => Ok(found.ok().flatten()),
        }
    }

    fn items<M: Message>(self) -> Result<Vec<M>, A::Error> {
        if self.decoding.refused.is_none() {
            return self.list();
        }
        Ok(self.optional(ReadableItemsSeed::new)?.unwrap_or_default())
    }

    fn skip(self) -> Result<(), A::Error> {
        self.map.next_value::<IgnoredAny>().map(drop)
    }
}

struct MessageSeed<'a, M> {
    decoding: &'a Decoding<'a>,
    message: PhantomData<M>,
}

impl<'a, M> MessageSeed<'a, M> {
    fn new(decoding: &'a Decoding<'a>) -> Self {
        Self { decoding, message: PhantomData }
    }
}

impl<'de, M: Message> DeserializeSeed<'de> for MessageSeed<'_, M> {
    type Value = M;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<M, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, M: Message> Visitor<'de> for MessageSeed<'_, M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M, A::Error> {
        self.decoding.take(item_size::<M>())?;
        let mut message = M::default();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            message.set(&name, FieldValue { map: &mut map, decoding: self.decoding })?;
        }
        Ok(message)
    }
}

struct ListSeed<'a, M> {
    decoding: &'a Decoding<'a>,
    item: PhantomData<M>,
}

impl<'a, M> ListSeed<'a, M> {
    fn new(decoding: &'a Decoding<'a>) -> Self {
        Self { decoding, item: PhantomData }
    }
}

impl<'de, M: Message> DeserializeSeed<'de> for ListSeed<'_, M> {
    type Value = Vec<M>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<M>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, M: Message> Visitor<'de> for ListSeed<'_, M> {
    type Value = Vec<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<M>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(MessageSeed::new(self.decoding))? {
            list.push(item);
        }
        Ok(list)
    }
}

/// A list of spans or log records, each read for itself, so that one that can't be read costs no other.
struct ReadableItemsSeed<'a, M> {
    decoding: &'a Decoding<'a>,
    item: PhantomData<M>,
}

impl<'a, M> ReadableItemsSeed<'a, M> {
    fn new(decoding: &'a Decoding<'a>) -> Self {
        Self { decoding, item: PhantomData }
    }
}

impl<'de, M: Message> DeserializeSeed<'de> for ReadableItemsSeed<'_, M> {
    type Value = Vec<M>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<M>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, M: Message> Visitor<'de> for ReadableItemsSeed<'_, M> {
    type Value = Vec<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<M>, A::Error> {
        let mut list = Vec::new();
        let decoding = self.decoding;
        while let Some(text) = items.next_element::<&RawValue>()? {
            let mut json = serde_json::Deserializer::from_str(text.get());
            match MessageSeed::new(decoding).deserialize(&mut json) {
                Ok(item) => list.push(item),
                Err(error) if decoding.refusal.borrow().is_some() => {
                    return Err(A::Error::custom(error));
                }
                Err(error) => {
                    let count = decoding.refused.as_ref().map_or(0, |count| count.get() + 1);
                    if count > MOST_UNREADABLE {
                        return Err(A::Error::custom(error));
                    }
                    if let Some(refused) = &decoding.refused {
                        refused.set(count);
                    }
                }
            }
        }
        Ok(list)
    }
}

/// A value that may be `null`.
struct NullableSeed<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for NullableSeed<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for NullableSeed<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(json).map(Some)
    }
}

/// A string, and what it stands for.
struct TextSeed<'a, T> {
    decoding: &'a Decoding<'a>,
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<'a> TextSeed<'a, String> {
    fn plain(decoding: &'a Decoding<'a>) -> Self {
        Self { decoding, expected: "a string", parse: |text| Some(text.to_owned()) }
    }
}

impl<'a> TextSeed<'a, Vec<u8>> {
    fn hexadecimal(decoding: &'a Decoding<'a>) -> Self {
        Self { decoding, expected: "hexadecimal digits in pairs", parse: hexadecimal }
    }

    fn base64(decoding: &'a Decoding<'a>) -> Self {
        Self { decoding, expected: "base64", parse: base64 }
    }
}

impl<'de, T> DeserializeSeed<'de> for TextSeed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<T, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de, T> Visitor<'de> for TextSeed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        self.decoding.take(text.len())?;
        (self.parse)(text).ok_or_else(|| expected(self.expected, "another string"))
    }
}

struct BoolSeed;

impl<'de> DeserializeSeed<'de> for BoolSeed {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        serde::Deserialize::deserialize(json)
    }
}

/// A number, or a string of one. `T` decides which are in range.
struct IntegerSeed<T>(PhantomData<T>);

impl<T> IntegerSeed<T> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: FromStr + TryFrom<i128>> DeserializeSeed<'de> for IntegerSeed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<T, D::Error> {
        json.deserialize_any(self)
    }
}

impl<T: FromStr + TryFrom<i128>> Visitor<'_> for IntegerSeed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer in its range")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::try_from(number.into()).map_err(|_| out_of_range("a number"))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::try_from(number.into()).map_err(|_| out_of_range("a number"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| out_of_range("a string"))
    }
}

/// A number, or a string of one, which may be NaN or infinite.
struct DoubleSeed;

impl<'de> DeserializeSeed<'de> for DoubleSeed {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<f64, D::Error> {
        json.deserialize_any(self)
    }
}

impl Visitor<'_> for DoubleSeed {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        match text {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            text => text.parse().map_err(|_| expected("a number", "a string")),
        }
    }
}

fn out_of_range<E: Error>(found: &str) -> E {
    expected("an integer in its range", found)
}

fn expected<E: Error>(expected: &str, found: &str) -> E {
    E::custom(format_args!("expected {expected}, found {found}"))
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

/// Base64 in either alphabet, padded or not.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut pending) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        pending += 6;
        if pending >= 8 {
            pending -= 8;
            bytes.push((bits >> pending) as u8);
        }
    }
    // Six bits left over are a lone last character: too few for a byte.
    (pending != 6).then_some(bytes)
}
