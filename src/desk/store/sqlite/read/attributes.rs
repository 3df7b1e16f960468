//! Attributes of spans, and what answers in them are of. They have no index, so every span of the range is scanned.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use prost::Message;
use rusqlite::Connection;

use super::super::Result;
use crate::collector::receive::value::Value;
use crate::desk::answer;
use crate::desk::answer::field::{self, SpanTokens, Tokens};
use crate::desk::query::Range;
use crate::desk::query::datum::Datum;
use crate::desk::store::batch::text;
use crate::otlp::protobuf::read_varint;

/// One attribute of the spans since some time. Carriers are no part of a trace.
pub(super) struct AttributeScan<'c> {
    connection: &'c Connection,
    key: &'c str,
    /// When they begin, at the earliest, and the first trace that can have any.
    bounds: [i64; 2],
}

/// A span with the attribute, by its trace: when it began, and its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AttributeSpan {
    start: i64,
    span: u64,
}

impl<'c> AttributeScan<'c> {
    pub(super) fn new(connection: &'c Connection, key: &'c str, range: Range) -> Result<Self> {
        let first = match range.from {
            Some(from) => connection
                .prepare_cached("SELECT coalesce(min(id), 0) FROM traces WHERE finish >= ?1")?
                .query_row([from], |row| row.get(0))?,
            None => 0,
        };
        Ok(Self { connection, key, bounds: [range.first(), first] })
    }

    /// Tells each value with the trace it stands in.
    pub(super) fn each(&self, mut tell: impl FnMut(i64, AttributeSpan, Datum<'_>)) -> Result<()> {
        self.each_span(|trace, bearer, body| {
            let Some(value) = attribute(body, self.key.as_bytes()) else { return };
            match AnyValue::decode(value).map(Value::from_wire) {
                Ok(Value::Bool(value)) => tell(trace, bearer, Datum::Bool(value)),
                Ok(Value::Int(value)) => tell(trace, bearer, Datum::Int(value)),
                Ok(Value::Double(value)) if value.is_finite() => {
                    tell(trace, bearer, Datum::Double(value))
                }
                Ok(Value::String(value)) => tell(trace, bearer, Datum::Text(&value)),
                Ok(other) => tell(trace, bearer, Datum::Other(&text(&other))),
                Err(_) => {}
            }
        })
    }

    fn each_span(&self, mut tell: impl FnMut(i64, AttributeSpan, &[u8])) -> Result<()> {
        let sql = "SELECT trace, body, start, span FROM spans
                   WHERE start >= ?1 AND trace >= ?2 AND flags & 1 = 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(self.bounds)?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let span: i64 = row.get(3)?;
            let bearer = AttributeSpan { start: row.get(2)?, span: span as u64 };
            tell(row.get(0)?, bearer, body);
        }
        Ok(())
    }
}

/// The model of each span that has one, since some time.
pub(super) struct ModelScan<'c>(AttributeScan<'c>);

impl<'c> ModelScan<'c> {
    pub(super) fn new(connection: &'c Connection, range: Range) -> Result<Self> {
        Ok(Self(AttributeScan::new(connection, "", range)?))
    }

    /// Tells each model with the trace it stands in.
    pub(super) fn each(&self, mut tell: impl FnMut(i64, AttributeSpan, Datum<'_>)) -> Result<()> {
        self.0.each_span(|trace, bearer, body| {
            if let Some(model) = answer::model(&attributes_of_answer(body)) {
                tell(trace, bearer, Datum::Text(&model));
            }
        })
    }
}

/// Tells the tokens of each trace that has some and ended since `range` began, by their sums.
pub(super) fn each_tokens(
    connection: &Connection,
    range: Range,
    mut tell: impl FnMut(i64, Tokens),
) -> Result<()> {
    let [_, first] = AttributeScan::new(connection, "", range)?.bounds;
    let sql = "SELECT trace, span, parent, body FROM spans
               WHERE trace >= ?1 AND flags & 1 = 0 ORDER BY trace";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([first])?;
    let (mut trace, mut spans) = (0, Vec::new());
    let mut end = |trace: i64, spans: &mut Vec<SpanTokens>| {
        let tokens = field::of_trace(spans);
        if tokens.iter().any(Option::is_some) {
            tell(trace, tokens);
        }
        spans.clear();
    };
    while let Some(row) = rows.next()? {
        let of: i64 = row.get(0)?;
        if of != trace {
            end(trace, &mut spans);
            trace = of;
        }
        let body = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
        spans.push(SpanTokens {
            span: row.get::<_, i64>(1)? as u64,
            parent: row.get::<_, i64>(2)? as u64,
            tokens: answer::tokens(&attributes_of_answer(body)),
        });
    }
    end(trace, &mut spans);
    Ok(())
}

/// The attributes that a model or tokens are read from.
fn attributes_of_answer(span: &[u8]) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (_, pair) in MessageFields(span).filter(|(field, _)| *field == ATTRIBUTES) {
        let (mut key, mut value) = (None, None);
        for (field, bytes) in MessageFields(pair) {
            match field {
                1 => key = std::str::from_utf8(bytes).ok(),
                2 => value = Some(bytes),
                _ => {}
            }
        }
        if let (Some(key), Some(value)) = (key, value)
            && answer::is_of_model_or_tokens(key)
            && let Ok(value) = AnyValue::decode(value)
        {
            found.insert(key.to_owned(), Value::from_wire(value));
        }
    }
    found
}

/// The number of the field of a span with its attributes.
const ATTRIBUTES: u64 = 9;

/// The last value of an attribute, found without decoding the others.
fn attribute<'b>(span: &'b [u8], key: &[u8]) -> Option<&'b [u8]> {
    let mut found = None;
    for (field, pair) in MessageFields(span) {
        if field != ATTRIBUTES {
            continue;
        }
        let (mut is_it, mut value) = (false, None);
        for (field, bytes) in MessageFields(pair) {
            match field {
                1 => is_it = bytes == key,
                2 => value = Some(bytes),
                _ => {}
            }
        }
        if is_it {
            found = value;
        }
    }
    found
}

/// The fields of a message that have a length, with their numbers. Others are passed over; it ends
/// with what is no message.
struct MessageFields<'b>(&'b [u8]);

impl<'b> Iterator for MessageFields<'b> {
    type Item = (u64, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (tag, taken) = read_varint(self.0)?;
            self.0 = self.0.get(taken..)?;
            match tag & 7 {
                0 => self.0 = self.0.get(read_varint(self.0)?.1..)?,
                1 => self.0 = self.0.get(8..)?,
                5 => self.0 = self.0.get(4..)?,
                2 => {
                    let (length, taken) = read_varint(self.0)?;
                    let rest = self.0.get(taken..)?;
                    let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                    self.0 = rest;
                    return Some((tag >> 3, bytes));
                }
                _ => return None,
            }
        }
    }
}
