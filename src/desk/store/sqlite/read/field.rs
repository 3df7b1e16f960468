//! What a name means.

use rusqlite::{Connection, OptionalExtension};

use super::super::Result;
use crate::collector::role::is_in_namespace;
use crate::desk::query::datum::{KINDS, Kind};

/// What a filter, a group or a chart can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// A leaf of what was said, by its row. `None`: nobody has said anything of the kind.
    Leaf(Option<i64>),
    /// An attribute of a resource.
    Resource,
    Trace(Property),
    /// Any other attribute of a span, which has to be looked for in each.
    Attribute,
}

/// What is known of every trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    /// The name of its root.
    Name,
    /// In milliseconds.
    Duration,
    /// `error` if a span of it failed, otherwise `ok`.
    Status,
    SessionId,
    TraceId,
}

pub(super) const PROPERTIES: [(&str, Property, Kind); 5] = [
    ("name", Property::Name, Kind::Text),
    ("duration", Property::Duration, Kind::Number),
    ("status", Property::Status, Kind::Text),
    ("session.id", Property::SessionId, Kind::Text),
    ("trace_id", Property::TraceId, Kind::Text),
];

impl Field {
    pub(super) fn of(connection: &Connection, name: &str) -> Result<Self> {
        if let Some((_, property, _)) = PROPERTIES.iter().find(|(known, ..)| *known == name) {
            return Ok(Self::Trace(*property));
        }
        if is_in_namespace(name) {
            let name = name.strip_prefix("honeyhive_").unwrap_or(name);
            return Ok(Self::Leaf(leaf(connection, name)?));
        }
        let is_resource = connection
            .prepare_cached("SELECT 1 FROM resource_texts WHERE key = ?1 LIMIT 1")?
            .exists([name])?;
        Ok(if is_resource { Self::Resource } else { Self::Attribute })
    }
}

fn leaf(connection: &Connection, key: &str) -> Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM fields WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

/// How many values of each type a field has, in the order of [`KINDS`].
pub(super) fn counts(connection: &Connection, field: i64) -> Result<[i64; 4]> {
    let sql = "SELECT bools, numbers, texts, others FROM fields WHERE id = ?1";
    Ok(connection
        .prepare_cached(sql)?
        .query_row([field], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?)
}

/// The most frequent type.
pub(super) fn main_kind(counts: [i64; 4]) -> Kind {
    let mut best = (Kind::Number, 0);
    for (kind, count) in KINDS.into_iter().zip(counts) {
        if count > best.1 {
            best = (kind, count);
        }
    }
    best.0
}
