//! Row numbers that the writer keeps in memory.

use std::collections::HashMap;

/// Row numbers of names, scopes, resources and fields. Those rows are never removed, so most spans need
/// no look-up. Clear it after a rollback: it may hold numbers of rows that were not committed.
#[derive(Debug, Default)]
pub(super) struct RowCache {
    pub(super) names: HashMap<String, i64>,
    pub(super) scopes: HashMap<(String, String), i64>,
    pub(super) resources: HashMap<[u8; 32], i64>,
    pub(super) fields: HashMap<String, i64>,
}

impl RowCache {
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
