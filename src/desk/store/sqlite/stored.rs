//! Conversions between rows and spans or values.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};

use super::Result;
use crate::collector::receive::received;
use crate::collector::receive::value::{self, Value};
use crate::collector::{ReceivedSpan, Scope};
use crate::desk::answer::Answer;
use crate::desk::query::datum::Datum;
use crate::desk::store::Error;
use crate::desk::store::leaf::Leaf;
use crate::desk::store::session::session_of;

/// The columns that [`span`] reads besides `trace_id`, of `spans` as `s` and `names` as `n`.
pub(super) const SPAN_COLUMNS: &str = "s.span AS span_id, s.parent AS parent_id, s.start AS start,
    s.duration AS duration, s.kind AS kind, n.name AS name, s.body AS body";

/// Reads a span from the columns `trace_id` and [`SPAN_COLUMNS`], without its resource and scope.
pub(super) fn span(row: &Row<'_>) -> Result<ReceivedSpan> {
    let trace_id: [u8; 16] = row.get("trace_id")?;
    let (start, duration): (i64, i64) = (row.get("start")?, row.get("duration")?);
    let body = row.get_ref("body")?.as_blob().map_err(rusqlite::Error::from)?;
    let mut span = Span::decode(body).map_err(|error| Error::Damaged(error.to_string()))?;
    span.trace_id = trace_id.to_vec();
    span.span_id = row.get::<_, i64>("span_id")?.to_be_bytes().to_vec();
    span.parent_span_id = row.get::<_, i64>("parent_id")?.to_be_bytes().to_vec();
    span.start_time_unix_nano = start.unsigned_abs();
    span.end_time_unix_nano = (start + duration).unsigned_abs();
    span.kind = row.get("kind")?;
    span.name = row.get("name")?;
    received::span(span, &Arc::default(), &Arc::new(Scope::default()))
        .map_err(|refusal| Error::Damaged(refusal.to_string()))
}

/// The attributes of a resource.
pub(super) fn resource(body: &[u8]) -> Result<BTreeMap<String, Value>> {
    let resource = Resource::decode(body).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(value::attributes(resource.attributes).0)
}

impl ToSql for Leaf {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Bool(value) => ValueRef::Integer(i64::from(*value)),
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Double(value) => ValueRef::Real(*value),
            Self::Text(text) | Self::Other(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// Reads a leaf from the columns at these positions, `type` and `value`.
pub(super) fn leaf(row: &Row<'_>, kind: usize, value: usize) -> Result<Leaf> {
    Ok(Leaf::from(datum(row, kind, value)?))
}

/// The same without copying a text. By position: a look-up by name for each row would slow charts
/// down, which read every leaf of a field.
pub(super) fn datum<'r>(row: &'r Row<'_>, kind: usize, value: usize) -> Result<Datum<'r>> {
    let as_text = |value: ValueRef<'r>| match value {
        ValueRef::Text(text) => std::str::from_utf8(text).unwrap_or_default(),
        _ => "",
    };
    Ok(match (row.get_ref(kind)?, row.get_ref(value)?) {
        (ValueRef::Integer(0), ValueRef::Integer(value)) => Datum::Bool(value != 0),
        (ValueRef::Integer(1), ValueRef::Integer(value)) => Datum::Int(value),
        (ValueRef::Integer(2), ValueRef::Real(value)) => Datum::Double(value),
        (ValueRef::Integer(3), value) => Datum::Text(as_text(value)),
        (_, value) => Datum::Other(as_text(value)),
    })
}

/// The attributes in the body of a span.
pub(super) fn attributes(body: &[u8]) -> Result<BTreeMap<String, Value>> {
    let span = Span::decode(body).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(value::attributes(span.attributes).0)
}

/// What a model was asked and answered, by the body of a span.
pub(super) fn answer(body: &[u8]) -> Result<Option<Answer>> {
    let span = Span::decode(body).map_err(|error| Error::Damaged(error.to_string()))?;
    let events: Vec<_> = span.events.into_iter().map(received::event).collect();
    Ok(Answer::of(&value::attributes(span.attributes).0, &events))
}

/// The session in the body of a span.
pub(super) fn session(body: &[u8]) -> Result<Option<String>> {
    let attributes = attributes(body)?;
    Ok(session_of(|key| attributes.get(key).cloned()))
}
