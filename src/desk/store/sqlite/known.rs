//! What a writer knows by heart, and the counters it keeps.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::Result;

/// Names are foreign: a service that makes one up for every span shall not fill the memory.
const MOST_KNOWN: usize = 20_000;

/// Ids of rows that are never removed, so that most are not looked up. To be forgotten with a
/// transaction that is.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) names: HashMap<String, i64>,
    pub(super) scopes: HashMap<(String, String), i64>,
    pub(super) resources: HashMap<[u8; 32], i64>,
    pub(super) fields: HashMap<String, i64>,
}

impl Known {
    pub(super) fn bound(&mut self) {
        if self.names.len() > MOST_KNOWN {
            self.names.clear();
        }
        if self.scopes.len() > MOST_KNOWN {
            self.scopes.clear();
        }
        if self.resources.len() > MOST_KNOWN {
            self.resources.clear();
        }
        if self.fields.len() > MOST_KNOWN {
            self.fields.clear();
        }
    }
}

/// Adds to a counter of `meta`.
pub(super) fn count(connection: &Connection, key: &str, by: i64) -> Result<()> {
    if by != 0 {
        let sql = "INSERT INTO meta VALUES (?1, ?2)
                   ON CONFLICT (key) DO UPDATE SET value = value + excluded.value";
        connection.prepare_cached(sql)?.execute(params![key, by])?;
    }
    Ok(())
}
