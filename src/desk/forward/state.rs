//! What backends were told, in the tables `forward_…` of `store/sqlite/schema.rs`.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::backend::Known;
use crate::desk::store::forwarding::ChangePosition;

/// In `hash` and `refused`: no record.
pub(super) const ABSENT: i64 = 0;

/// What a backend was told of a leaf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// `None`: not known, since a call had no answer.
    pub(super) hash: Option<i64>,
    pub(super) memo: Option<String>,
    /// The hash of what the backend will not take.
    pub(super) refused: Option<i64>,
}

impl Told {
    pub(super) fn known(&self) -> Known {
        match self.hash {
            None => Known::Unknown,
            Some(ABSENT) => Known::Absent,
            Some(_) => Known::Present,
        }
    }
}

/// A target to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The backend does not have the target; otherwise the backend fails on it.
    pub(super) is_missing: bool,
    pub(super) reason: String,
    pub(super) attempts: i64,
    /// In nanoseconds since the epoch.
    pub(super) next: i64,
}

/// The row of a backend. What it is to be told anew is compared from the beginning, if `settings` differ from those
/// of the last time.
pub(super) fn open(connection: &Connection, name: &str, settings: i64) -> Result<i64> {
    let sql = "INSERT INTO forward_backends (name, settings, changed, target) VALUES (?1, ?2, 0, 0)
               ON CONFLICT (name) DO UPDATE SET settings = ?2,
                   changed = iif(settings = ?2, changed, 0), target = iif(settings = ?2, target, 0)
               RETURNING id";
    connection.prepare_cached(sql)?.query_row(params![name, settings], |row| row.get(0))
}

/// The row of a backend that was forwarded to before.
pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<i64>> {
    let sql = "SELECT id FROM forward_backends WHERE name = ?1";
    connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()
}

/// The position up to which all targets are equal or wait, and when the backend is tried next.
pub(super) fn position(connection: &Connection, backend: i64) -> Result<(ChangePosition, i64)> {
    let sql = "SELECT changed, target, next FROM forward_backends WHERE id = ?1";
    connection.prepare_cached(sql)?.query_row([backend], |row| {
        Ok((ChangePosition { changed: row.get(0)?, row: row.get(1)? }, row.get(2)?))
    })
}

pub(super) fn set_position(
    connection: &Connection,
    backend: i64,
    position: ChangePosition,
) -> Result<()> {
    let sql = "UPDATE forward_backends SET changed = ?2, target = ?3 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([backend, position.changed, position.row])?;
    Ok(())
}

/// The backend has answered.
pub(super) fn set_reached(connection: &Connection, backend: i64, now: i64) -> Result<()> {
    let sql = "UPDATE forward_backends SET reached = ?2, failed = NULL, reason = NULL, next = 0
               WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([backend, now])?;
    Ok(())
}

/// The backend takes nothing until `next`.
pub(super) fn set_failed(
    connection: &Connection,
    backend: i64,
    reason: &str,
    (now, next): (i64, i64),
) -> Result<()> {
    let sql = "UPDATE forward_backends SET failed = coalesce(failed, ?3), reason = ?2, next = ?4
               WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![backend, reason, now, next])?;
    Ok(())
}

/// What a backend was told of targets, by target and leaf.
pub(super) fn told(
    connection: &Connection,
    backend: i64,
    targets: impl IntoIterator<Item = i64>,
) -> Result<HashMap<(i64, String), Told>> {
    let sql =
        "SELECT field, hash, memo, refused FROM forward_told WHERE target = ?1 AND backend = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = HashMap::new();
    for target in targets {
        let mut rows = statement.query([target, backend])?;
        while let Some(row) = rows.next()? {
            let told = Told { hash: row.get(1)?, memo: row.get(2)?, refused: row.get(3)? };
            found.insert((target, row.get(0)?), told);
        }
    }
    Ok(found)
}

/// Writes down that calls about a leaf are under way: after a crash it is not known what the backend has.
pub(super) fn begin(
    connection: &Connection,
    backend: i64,
    (target, field): (i64, &str),
    memo: Option<&str>,
) -> Result<()> {
    let sql = "INSERT INTO forward_told (target, backend, field, memo) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO UPDATE SET hash = NULL, refused = NULL, reason = NULL,
                   memo = coalesce(?4, memo)";
    connection.prepare_cached(sql)?.execute(params![target, backend, field, memo])?;
    Ok(())
}

/// Writes down what the backend has of a leaf; `None` if it has nothing.
pub(super) fn end(
    connection: &Connection,
    backend: i64,
    (target, field): (i64, &str),
    told: Option<&Told>,
    reason: Option<&str>,
) -> Result<()> {
    let Some(Told { hash, memo, refused }) = told else {
        let sql = "DELETE FROM forward_told WHERE target = ?1 AND backend = ?2 AND field = ?3";
        connection.prepare_cached(sql)?.execute(params![target, backend, field])?;
        return Ok(());
    };
    // A leaf that is refused without a call has no row yet.
    let sql = "INSERT INTO forward_told (target, backend, field, hash, memo, refused, reason)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT DO UPDATE SET hash = ?4, memo = ?5, refused = ?6, reason = ?7";
    connection
        .prepare_cached(sql)?
        .execute(params![target, backend, field, hash, memo, refused, reason])?;
    Ok(())
}

/// Targets whose next attempt is due, and the time of the first attempt that is not.
pub(super) fn due(
    connection: &Connection,
    backend: i64,
    now: i64,
    limit: usize,
) -> Result<(Vec<i64>, Option<i64>)> {
    let mut statement = connection.prepare_cached(
        "SELECT target FROM forward_waiting WHERE backend = ?1 AND next <= ?2
         ORDER BY next, target LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([backend, now, limit], |row| row.get(0))?;
    let due = rows.collect::<Result<_>>()?;
    let sql = "SELECT min(next) FROM forward_waiting WHERE backend = ?1 AND next > ?2";
    let next = connection.prepare_cached(sql)?.query_row([backend, now], |row| row.get(0))?;
    Ok((due, next))
}

/// How often a target was tried.
pub(super) fn attempts(connection: &Connection, backend: i64, target: i64) -> Result<i64> {
    let sql = "SELECT attempts FROM forward_waiting WHERE target = ?1 AND backend = ?2";
    let found = connection.prepare_cached(sql)?.query_row([target, backend], |row| row.get(0));
    Ok(found.optional()?.unwrap_or(0))
}

/// Makes a target wait, or no longer.
pub(super) fn set_waiting(
    connection: &Connection,
    backend: i64,
    target: i64,
    waiting: Option<&Waiting>,
) -> Result<()> {
    let Some(Waiting { is_missing, reason, attempts, next }) = waiting else {
        let sql = "DELETE FROM forward_waiting WHERE target = ?1 AND backend = ?2";
        connection.prepare_cached(sql)?.execute([target, backend])?;
        return Ok(());
    };
    let sql = "INSERT INTO forward_waiting (target, backend, is_missing, reason, attempts, next)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT DO UPDATE SET is_missing = ?3, reason = ?4, attempts = ?5, next = ?6";
    connection
        .prepare_cached(sql)?
        .execute(params![target, backend, is_missing, reason, attempts, next])?;
    Ok(())
}

/// Makes everything due that waits or was refused, for one backend or for all.
pub(super) fn retry(connection: &Connection, backend: Option<i64>) -> Result<()> {
    for sql in [
        "INSERT INTO forward_waiting (target, backend, is_missing, reason, attempts, next)
         SELECT DISTINCT target, backend, 0, 'to be tried again', 0, 0 FROM forward_told
         WHERE refused IS NOT NULL AND backend = coalesce(?1, backend)
         ON CONFLICT DO NOTHING",
        "UPDATE forward_told SET refused = NULL, reason = NULL
         WHERE refused IS NOT NULL AND backend = coalesce(?1, backend)",
        "UPDATE forward_waiting SET next = 0 WHERE backend = coalesce(?1, backend)",
        "UPDATE forward_backends SET next = 0 WHERE id = coalesce(?1, id)",
    ] {
        connection.execute(sql, [backend])?;
    }
    Ok(())
}
