//! Attributes of spans. They have no index, so every span of the range is scanned.

use opentelemetry_proto::tonic::common::v1::AnyValue;
use prost::Message;
use rusqlite::Connection;

use super::super::Result;
use crate::collector::receive::value::Value;
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
        let sql = "SELECT trace, body, start, span FROM spans
                   WHERE start >= ?1 AND trace >= ?2 AND flags & 1 = 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(self.bounds)?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let Some(value) = attribute(body, self.key.as_bytes()) else { continue };
            let trace = row.get(0)?;
            let span: i64 = row.get(3)?;
            let bearer = AttributeSpan { start: row.get(2)?, span: span as u64 };
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
        }
        Ok(())
    }
}

/// The last value of an attribute, found without decoding the others.
fn attribute<'b>(span: &'b [u8], key: &[u8]) -> Option<&'b [u8]> {
    const ATTRIBUTES: u64 = 9;
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
