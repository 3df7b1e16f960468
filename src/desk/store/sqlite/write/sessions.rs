//! Sessions: their rows, and the range of time their traces cover.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::Pass;
use crate::desk::store::sqlite::Result;

impl Pass<'_, '_> {
    pub(super) fn session(&mut self, id: &str) -> Result<i64> {
        session_row(self.transaction, &mut self.sessions, id)
    }

    pub(super) fn flush_sessions(&mut self) -> Result<()> {
        let mut changed = Vec::new();
        for (session, added) in &self.added_traces {
            match added.write(self.transaction, *session)? {
                SessionChange::Changed => changed.push(*session),
                SessionChange::Unchanged => {}
                SessionChange::Unknown => drop(self.moved_sessions.insert(*session)),
            }
        }
        for session in &self.moved_sessions {
            if update_session(self.transaction, *session)? {
                changed.push(*session);
            }
        }
        for session in changed {
            if let Some(target) = session_target(self.transaction, session)? {
                self.refolds.entry(target).or_default().reload();
            }
        }
        Ok(())
    }
}

/// What the new traces of a session add to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddedTraces {
    /// The start and id of the first of them.
    first: (i64, [u8; 16]),
    /// Of the first of them.
    resource: i64,
    /// The start of the last of them.
    last: i64,
}

/// Whether a session has changed. `Unknown`: its older traces have to be read for that.
enum SessionChange {
    Changed,
    Unchanged,
    Unknown,
}

impl AddedTraces {
    /// One trace.
    pub(super) fn of(start: i64, trace_id: &[u8; 16], resource: i64) -> Self {
        Self { first: (start, *trace_id), resource, last: start }
    }

    pub(super) fn add(&mut self, other: Self) {
        if other.first < self.first {
            (self.first, self.resource) = (other.first, other.resource);
        }
        self.last = self.last.max(other.last);
    }

    /// Adds them to the row of their session, which has the same effect as [`update_session`].
    fn write(&self, transaction: &Transaction<'_>, session: i64) -> Result<SessionChange> {
        let stored = transaction
            .prepare_cached("SELECT start, last, resource FROM sessions WHERE id = ?1")?
            .query_row([session], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (start, last, resource): (Option<i64>, Option<i64>, Option<i64>) = stored;
        let added = self.first.0;
        let is_first = match start {
            Some(start) if start == added => return Ok(SessionChange::Unknown), // the ids decide
            Some(start) => added < start,
            None => true,
        };
        let start = if is_first { Some(added) } else { start };
        let resource = if is_first { Some(self.resource) } else { resource };
        let last = last.max(Some(self.last));
        if (start, last, resource) == stored {
            return Ok(SessionChange::Unchanged);
        }
        transaction
            .prepare_cached(
                "UPDATE sessions SET start = ?2, last = ?3, resource = ?4 WHERE id = ?1",
            )?
            .execute(params![session, start, last, resource])?;
        Ok(SessionChange::Changed)
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
