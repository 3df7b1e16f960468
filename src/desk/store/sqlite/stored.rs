//! Spans and values out of their rows, and into them.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};

use super::Result;
use crate::collector::receive::received;
use crate::collector::receive::value::{Value, attributes};
use crate::collector::{ReceivedSpan, Scope};
use crate::desk::query::datum::Datum;
use crate::desk::store::Error;
use crate::desk::store::batch::text;

/// The columns [`span`] reads, of `spans` as `s`, `traces` as `t` and `names` as `n`.
pub(super) const SPAN_COLUMNS: &str =
    "t.trace_id, s.span, s.parent, s.start, s.duration, s.kind, n.name, s.body";

/// A span out of the columns of [`SPAN_COLUMNS`], without its resource and scope.
pub(super) fn span(row: &Row<'_>) -> Result<ReceivedSpan> {
    let trace_id: [u8; 16] = row.get(0)?;
    let (start, duration): (i64, i64) = (row.get(3)?, row.get(4)?);
    let body = row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?;
    let mut span = Span::decode(body).map_err(|error| Error::Damaged(error.to_string()))?;
    span.trace_id = trace_id.to_vec();
    span.span_id = row.get::<_, i64>(1)?.to_be_bytes().to_vec();
    span.parent_span_id = row.get::<_, i64>(2)?.to_be_bytes().to_vec();
    span.start_time_unix_nano = start.unsigned_abs();
    span.end_time_unix_nano = (start + duration).unsigned_abs();
    span.kind = row.get(5)?;
    span.name = row.get(6)?;
    received::span(span, &Arc::default(), &Arc::new(Scope::default()))
        .map_err(|refusal| Error::Damaged(refusal.to_string()))
}

/// The attributes of a resource.
pub(super) fn resource(body: &[u8]) -> Result<BTreeMap<String, Value>> {
    let resource = Resource::decode(body).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(attributes(resource.attributes).0)
}

/// The types a leaf is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool = 0,
    Int = 1,
    Double = 2,
    Text = 3,
    /// What is measured nowhere: arrays, bytes, NaN.
    Other = 4,
}

/// The value of a leaf in its column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Other(String),
}

impl Leaf {
    /// The leaf of a field. A ground truth is always text.
    pub(super) fn of(key: &str, value: Value) -> Self {
        let is_truth = key
            .strip_prefix("feedback.ground_truth")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        match value {
            value if is_truth => Self::Text(text(&value)),
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::Double(value) if value.is_finite() => Self::Double(value),
            Value::String(value) => Self::Text(value),
            value => Self::Other(value.to_string()),
        }
    }

    pub(super) fn kind(&self) -> Type {
        match self {
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Double(_) => Type::Double,
            Self::Text(_) => Type::Text,
            Self::Other(_) => Type::Other,
        }
    }

    /// Out of the columns `type` and `value`.
    pub(super) fn from_row(row: &Row<'_>, kind: usize, value: usize) -> Result<Self> {
        Ok(Self::from(datum(row, kind, value)?))
    }
}

impl From<Datum<'_>> for Leaf {
    fn from(datum: Datum<'_>) -> Self {
        match datum {
            Datum::Bool(value) => Self::Bool(value),
            Datum::Int(value) => Self::Int(value),
            Datum::Double(value) => Self::Double(value),
            Datum::Text(text) => Self::Text(text.to_owned()),
            Datum::Other(text) => Self::Other(text.to_owned()),
        }
    }
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

/// Out of the columns `type` and `value`, where it stands.
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

/// The `session.id` in the body of a span.
pub(super) fn session(body: &[u8]) -> Result<Option<String>> {
    let span = Span::decode(body).map_err(|error| Error::Damaged(error.to_string()))?;
    let (attributes, _) = attributes(span.attributes);
    Ok(attributes.get("session.id").and_then(Value::as_str).map(str::to_owned))
}
