//! Counters of spans and documents, and other numbers, in the table `meta`.

use rusqlite::{Connection, OptionalExtension, params};

use super::Result;

/// The number of the last transaction that changed the leaves of a target: see `targets.changed`.
pub(super) const CHANGES: &str = "changes";

/// Adds to a counter.
pub(super) fn count(connection: &Connection, key: &str, by: i64) -> Result<()> {
    if by != 0 {
        let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)
                   ON CONFLICT (key) DO UPDATE SET value = value + excluded.value";
        connection.prepare_cached(sql)?.execute(params![key, by])?;
    }
    Ok(())
}

/// Sets a value that is no counter.
pub(super) fn set(connection: &Connection, key: &str, value: i64) -> Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(params![key, value])?;
    Ok(())
}

/// The value of a counter, 0 if there is none.
pub(super) fn counter(connection: &Connection, key: &str) -> Result<i64> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get("value")).optional()?.unwrap_or(0))
}
