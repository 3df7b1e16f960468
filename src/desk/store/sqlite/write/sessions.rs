//! Sessions: their rows, and the range of time their traces cover.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::Pass;
use crate::desk::store::sqlite::Result;

impl Pass<'_, '_> {
    pub(super) fn session(&mut self, id: &str) -> Result<i64> {
        session_row(self.transaction, &mut self.sessions, id)
    }

    pub(super) fn flush_sessions(&mut self) -> Result<()> {
        for session in &self.moved_sessions {
            if update_session(self.transaction, *session)?
                && let Some(target) = session_target(self.transaction, *session)?
            {
                self.refolds.entry(target).or_default().reload();
            }
        }
        Ok(())
    }
}

/// The row of a session, a new one if there is none.
pub(super) fn session_row(
    transaction: &Transaction<'_>,
    cache: &mut HashMap<String, i64>,
    id: &str,
) -> Result<i64> {
    if let Some(row) = cache.get(id) {
        return Ok(*row);
    }
    let sql = "INSERT INTO sessions (name) VALUES (?1) ON CONFLICT DO NOTHING";
    transaction.prepare_cached(sql)?.execute([id])?;
    let row = transaction
        .prepare_cached("SELECT id FROM sessions WHERE name = ?1")?
        .query_row([id], |row| row.get("id"))?;
    cache.insert(id.to_owned(), row);
    Ok(row)
}

/// Computes a session's start (that of its first trace), last activity (the start of its latest) and
/// resource (of its first trace). Returns whether any of them changed.
pub(in crate::desk::store::sqlite) fn update_session(
    connection: &Connection,
    session: i64,
) -> Result<bool> {
    let sql = "
        UPDATE sessions AS s SET start = n.start, last = n.last, resource = n.resource
        FROM (SELECT first.start AS start,
                     (SELECT max(start) FROM traces WHERE session = ?1) AS last,
                     first.root_resource AS resource
              FROM (SELECT 1) LEFT JOIN (
                  SELECT start, root_resource FROM traces
                  WHERE session = ?1 AND start = (SELECT min(start) FROM traces WHERE session = ?1)
                  ORDER BY trace_id LIMIT 1) AS first) AS n
        WHERE s.id = ?1
            AND (s.start IS NOT n.start OR s.last IS NOT n.last OR s.resource IS NOT n.resource)";
    Ok(connection.prepare_cached(sql)?.execute([session])? > 0)
}

/// The target of feedback about a whole session, if there is any.
pub(in crate::desk::store::sqlite) fn session_target(
    connection: &Connection,
    session: i64,
) -> Result<Option<i64>> {
    let sql = "SELECT id FROM targets WHERE trace = 0 AND span = 0 AND session = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([session], |row| row.get("id")).optional()?)
}
