//! Row numbers that the writer keeps in memory.

use std::collections::HashMap;

use rusqlite::Connection;

use super::Result;

/// Row numbers of names, scopes, resources and fields, so that most spans need no look-up. A row that is
/// deleted is removed here as well. Clear it after a rollback: it may hold numbers of rows that were not
/// committed.
#[derive(Debug, Default)]
pub(super) struct RowCache {
    pub(super) names: HashMap<String, i64>,
    pub(super) scopes: HashMap<(String, String), i64>,
    pub(super) resources: HashMap<[u8; 32], i64>,
    pub(super) fields: HashMap<String, i64>,
    /// SQLite's `data_version`, which changes when another connection has written.
    version: Option<i64>,
}

impl RowCache {
    /// Empties the maps if another connection has written since: it may have deleted rows. Call it at
    /// the start of a transaction that writes.
    pub(super) fn refresh(&mut self, connection: &Connection) -> Result<()> {
        let version = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if self.version.is_some_and(|seen| seen != version) {
            *self = Self::default();
        }
        self.version = Some(version);
        Ok(())
    }

    /// Empties the maps that have grown too large.
    pub(super) fn bound(&mut self) {
        if self.names.len() > MOST_ENTRIES {
            self.names.clear();
        }
        if self.scopes.len() > MOST_ENTRIES {
            self.scopes.clear();
        }
        if self.resources.len() > MOST_ENTRIES {
            self.resources.clear();
        }
        if self.fields.len() > MOST_ENTRIES {
            self.fields.clear();
        }
    }
}

/// Entries of each map, at the most: a service may use a new name for every span.
const MOST_ENTRIES: usize = 20_000;
