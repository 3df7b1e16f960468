//! The meaning of a field's name.

use rusqlite::{Connection, OptionalExtension};

use super::super::Result;
use crate::desk::answer::field::AnswerField;
use crate::desk::query::property::Property;
use crate::feedback::document::is_in_namespace;

/// What the field of a filter, a group or a chart refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// A leaf of documents, by its row; `None` if there is no value.
    Leaf(Option<i64>),
    /// An attribute of a resource.
    Resource,
    Trace(Property),
    /// Model or tokens of an answer, by whichever convention, found by a scan.
    Answer(AnswerField),
    /// Any other attribute of spans, found by a scan.
    Attribute,
}

impl Field {
    pub(super) fn of(connection: &Connection, name: &str) -> Result<Self> {
        if let Some(property) = Property::of(name) {
            return Ok(Self::Trace(property));
        }
        if let Some(field) = AnswerField::of(name) {
            return Ok(Self::Answer(field));
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
