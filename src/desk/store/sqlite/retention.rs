//! Retention: deletes traces above the limits of age and size, those with feedback last.
//!
//! Carriers stay as long as the trace that they are about, and are deleted with it, in whichever trace
//! they are: otherwise a document would lose its older parts while its target is still there.
//!
//! What is deleted is overwritten in the file, and so are names, resources, scopes, fields and sessions
//! that nothing refers to any more: their text is gone, and their pages count as free.
//!
//! One step is one small transaction, so that requests do not wait long.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::Result;
use super::cache::RowCache;
use super::counters::{count, counter, set};
use super::refold::{PendingRefold, Refold, RefoldCause, remove_unused_session};
use super::write::{IS_OWN_RECORD, SharedUses, session_target, update_session};
use crate::clock;
use crate::desk::store::batch::nanos;

/// The limits of the stored data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// A trace is deleted, with the feedback about it, when no span of it and no such feedback was
    /// received for this time.
    pub(crate) age: Option<Duration>,
    /// The limit of the file, without the write-ahead log.
    pub(crate) bytes: Option<u64>,
}

/// The least limit of the file: an empty one takes a third of it, whatever is deleted.
pub(crate) const LEAST_BYTES: u64 = 512 << 10;
const LEAST_AGE: Duration = Duration::from_secs(1);

impl Retention {
    /// Whether the limits leave room for anything.
    ///
    /// # Errors
    ///
    /// They would delete every trace as soon as it is received; the text says what to do.
    pub(crate) fn check(self) -> std::result::Result<(), String> {
        if let Some(age) = self.age
            && age < LEAST_AGE
        {
            return Err(format!(
                "keeping traces for {age:?} would delete all of them: choose a longer time, or set no \
                 limit to keep them forever"
            ));
        }
        if let Some(bytes) = self.bytes
            && bytes < LEAST_BYTES
        {
            return Err(format!(
                "a limit of {bytes} bytes would delete all traces: choose 512KiB or more, or set no limit"
            ));
        }
        Ok(())
    }

    /// The limits that a store was last served with.
    pub(super) fn of_store(connection: &Connection) -> Result<Self> {
        let stored = |key| -> Result<Option<u64>> {
            Ok(Some(counter(connection, key)?.unsigned_abs()).filter(|value| *value > 0))
        };
        Ok(Self { age: stored(KEEP_SECONDS)?.map(Duration::from_secs), bytes: stored(KEEP_BYTES)? })
    }

    /// Writes the limits into the store, for commands that write into it while no desk runs.
    pub(super) fn remember(self, connection: &Connection) -> Result<()> {
        if Self::of_store(connection)? != self {
            set(connection, KEEP_SECONDS, nanos(self.age.map_or(0, |age| age.as_secs())))?;
            set(connection, KEEP_BYTES, nanos(self.bytes.unwrap_or(0)))?;
        }
        Ok(())
    }
}

/// In the table `meta`; 0 for no limit.
const KEEP_SECONDS: &str = "keep_seconds";
const KEEP_BYTES: &str = "keep_bytes";
/// In the table `meta`: not 0 if copies of deleted rows may be in unused parts of pages.
pub(super) const DELETED: &str = "deleted";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetentionStep {
    Nothing,
    Forgot,
}

/// Limits of one step; a single trace may have more spans.
const TRACES: usize = 200;
const SPANS: i64 = 4_000;
/// Pages that one step returns to the file system.
const PAGES: i64 = 2_000;

/// Whether a trace `t` is deleted with another one: it has only carriers, some of them about a span of
/// another trace. None of its own spans is a target, so the other trace never depends on this one.
const FOLLOWS_ANOTHER: &str = "
    t.start IS NULL AND NOT EXISTS (SELECT 1 FROM targets WHERE trace = t.id)
    AND EXISTS (SELECT 1 FROM documents d JOIN targets g ON g.id = d.target
                WHERE d.trace = t.id AND g.trace != 0)";

/// Deletes a few traces, if any are above the limits.
pub(super) fn step(
    connection: &mut Connection,
    cache: &mut RowCache,
    retention: Retention,
) -> Result<RetentionStep> {
    if retention == Retention::default() {
        return Ok(RetentionStep::Nothing);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let traces = due(&transaction, retention)?;
    if traces.is_empty() {
        transaction.rollback()?;
        let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free > PAGES {
            connection.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        }
        return Ok(RetentionStep::Nothing);
    }
    cache.refresh(&transaction)?;
    forget(&transaction, cache, &traces)?;
    set(&transaction, DELETED, 1)?;
    transaction.commit()?;
    Ok(RetentionStep::Forgot)
}

/// Bytes in use.
pub(super) fn used(connection: &Connection) -> Result<u64> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok((pages * pragma("page_size")?).unsigned_abs())
}

fn due(transaction: &Transaction<'_>, retention: Retention) -> Result<Vec<i64>> {
    let mut found = Vec::new();
    if let Some(age) = retention.age {
        let now = nanos(clock::unix_nanos(SystemTime::now()));
        let before = now.saturating_sub(nanos(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
        let sql = format!(
            "SELECT id, spans FROM traces t WHERE touched < ?1 AND NOT ({FOLLOWS_ANOTHER})
             ORDER BY touched, id"
        );
        found = some(transaction, &sql, before, i64::MAX)?;
    }
    if let (true, Some(bytes)) = (found.is_empty(), retention.bytes) {
        let surplus = nanos(used(transaction)?.saturating_sub(bytes));
        if surplus == 0 {
            return Ok(found);
        }
        // A trace without a start has nothing but feedback: in it, or about it.
        let sql = "SELECT id, spans FROM traces WHERE feedback = 0 AND start IS NOT NULL AND touched >= ?1
                   ORDER BY touched, id";
        found = some(transaction, sql, 0, surplus)?;
        if found.is_empty() {
            let sql = format!(
                "SELECT id, spans FROM traces t WHERE touched >= ?1 AND NOT ({FOLLOWS_ANOTHER})
                 ORDER BY touched, id"
            );
            found = some(transaction, &sql, 0, surplus)?;
        }
    }
    Ok(found)
}

/// The first traces, until the surplus is covered or the limits of a step are reached.
fn some(transaction: &Transaction<'_>, sql: &str, value: i64, surplus: i64) -> Result<Vec<i64>> {
    // Overestimated on purpose: another step may follow, but a deleted trace does not come back.
    let mut size = transaction.prepare_cached(
        "SELECT coalesce(sum(2 * length(body) + 400), 0) FROM spans WHERE trace = ?1 OR id IN (
             SELECT d.span FROM targets g JOIN documents d ON d.target = g.id
             WHERE g.trace = ?1 AND d.trace != ?1)",
    )?;
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query([value])?;
    let (mut found, mut spans, mut bytes) = (Vec::new(), 0, 0);
    while let Some(row) = rows.next()? {
        spans += row.get::<_, i64>(1)?;
        if !found.is_empty() && (spans > SPANS || found.len() >= TRACES || bytes >= surplus) {
            break;
        }
        let trace: i64 = row.get(0)?;
        if surplus < i64::MAX {
            bytes += size.query_row([trace], |row| row.get::<_, i64>(0))?;
        }
        found.push(trace);
    }
    Ok(found)
}

fn forget(transaction: &Transaction<'_>, cache: &mut RowCache, traces: &[i64]) -> Result<()> {
    let run = |sql: &str, trace: i64| -> Result<i64> {
        Ok(i64::try_from(transaction.prepare_cached(sql)?.execute([trace])?).unwrap_or(i64::MAX))
    };
    let mut uses = SharedUses::default();
    let mut dirty = BTreeSet::new();
    let mut sessions = BTreeSet::new();
    // Traces of carriers about the deleted ones.
    let mut followers = BTreeSet::new();
    let (mut spans, mut documents) = (0, 0);
    for &trace in traces {
        let mut statement = transaction.prepare_cached(
            "SELECT target FROM documents WHERE trace = ?1
             UNION SELECT id FROM targets WHERE trace = ?1",
        )?;
        for target in statement.query_map([trace], |row| row.get::<_, i64>(0))? {
            dirty.insert(target?);
        }
        let session = transaction
            .prepare_cached("SELECT session FROM traces WHERE id = ?1")?
            .query_row([trace], |row| row.get::<_, Option<i64>>(0))
            .optional()?;
        sessions.extend(session.flatten());
        // Carriers of other traces about it are deleted, too: their target is gone.
        let mut statement = transaction.prepare_cached(
            "SELECT d.span, d.trace FROM targets g JOIN documents d ON d.target = g.id
             WHERE g.trace = ?1 AND d.trace != ?1",
        )?;
        let carriers = statement
            .query_map([trace], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<(i64, i64)>, _>>()?;
        let of_trace = "(d.trace = ?1 OR d.target IN (SELECT id FROM targets WHERE trace = ?1))";
        let mut counted = transaction.prepare_cached(&format!(
            "SELECT count(*) FROM documents d JOIN spans s ON s.id = d.span
             WHERE {of_trace} AND s.flags & {IS_OWN_RECORD} = 0"
        ))?;
        documents += counted.query_row([trace], |row| row.get::<_, i64>(0))?;
        run(
            "DELETE FROM documents WHERE trace = ?1
                 OR target IN (SELECT id FROM targets WHERE trace = ?1)",
            trace,
        )?;
        run(
            "DELETE FROM trace_resources WHERE trace = ?1
                 AND resource IN (SELECT resource FROM spans WHERE trace = ?1)",
            trace,
        )?;
        spans += delete_spans(transaction, "trace", trace, &mut uses)?;
        for (carrier, follower) in carriers {
            spans += delete_spans(transaction, "id", carrier, &mut uses)?;
            followers.insert(follower);
        }
    }
    let mut refold = Refold::new(transaction, cache, RefoldCause::Retention)?;
    for target in dirty {
        if target != 0 {
            refold.target(target, PendingRefold::of_stored())?;
        }
    }
    refold.finish()?;
    for &trace in traces {
        run("DELETE FROM traces WHERE id = ?1", trace)?;
    }
    for follower in followers {
        run(
            "DELETE FROM traces AS t WHERE id = ?1
                 AND NOT EXISTS (SELECT 1 FROM spans WHERE trace = t.id)
                 AND NOT EXISTS (SELECT 1 FROM targets WHERE trace = t.id)",
            follower,
        )?;
    }
    for session in sessions {
        update_session(transaction, session)?;
        match session_target(transaction, session)? {
            Some(target) => {
                let mut refold = Refold::new(transaction, cache, RefoldCause::Retention)?;
                refold.target(target, PendingRefold::of_stored())?;
                refold.finish()?;
            }
            None => remove_unused_session(transaction, session)?,
        }
    }
    uses.write(transaction, cache)?;
    count(transaction, "spans", -spans)?;
    count(transaction, "documents", -documents)?;
    Ok(())
}

/// Deletes the spans where a column has a value, and counts what they referred to.
fn delete_spans(
    transaction: &Transaction<'_>,
    column: &str,
    value: i64,
    uses: &mut SharedUses,
) -> Result<i64> {
    let sql = format!("DELETE FROM spans WHERE {column} = ?1 RETURNING name, scope, resource");
    let mut statement = transaction.prepare_cached(&sql)?;
    let mut rows = statement.query([value])?;
    let mut deleted = 0;
    while let Some(row) = rows.next()? {
        uses.count([row.get(0)?, row.get(1)?, row.get(2)?], -1);
        deleted += 1;
    }
    Ok(deleted)
}
