//! The tables, and migrations from older versions.
//!
//! - `traces`, `spans`, with `names`, `scopes`, `resources`: received data, once each. A span's body is
//!   the OTLP message without the fields that have columns. Traces are numbered as they come, so spans of one
//!   trace lie close together and the unique index on (trace, span) grows at its end.
//! - `targets`, `documents`: the targets of feedback, and the spans that carry it.
//! - `fields`, `leaves`: the folded documents. Leaves lie in the order of field and time, so a
//!   chart reads one run of them. They are derived: a function of spans and documents alone.
//! - `sessions`: ids, and the range of time of their traces.
//! - `forward_…`: what the backends to which the desk forwards have been told.
//! - `meta`: counters, and the limits that the store was last served with.
//! - `uses` of a name, scope or resource: how many spans refer to it. At 0 the row is deleted.

use rusqlite::{Connection, TransactionBehavior};

use super::{OpenError, Result};

/// "fdsk": this file is a desk's.
const APPLICATION: i64 = 0x6664_736b;

/// One migration for each version; released ones are never edited.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3, FORWARD_STATE, VERSION_5];

const VERSION_1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE scopes (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, UNIQUE (name, version)
) STRICT;
CREATE TABLE resources (
    id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, body BLOB NOT NULL
) STRICT;
CREATE TABLE resource_texts (
    key TEXT NOT NULL, resource INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (key, resource)
) WITHOUT ROWID, STRICT;

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    start INTEGER, last INTEGER, resource INTEGER
) STRICT;
CREATE INDEX sessions_by_last ON sessions (last, id);

CREATE TABLE traces (
    id INTEGER PRIMARY KEY, trace_id BLOB NOT NULL UNIQUE,
    start INTEGER, finish INTEGER,
    spans INTEGER NOT NULL, errors INTEGER NOT NULL,
    session INTEGER,
    root_span INTEGER, root_parent INTEGER, root_start INTEGER, root_name INTEGER,
    root_resource INTEGER,
    touched INTEGER NOT NULL, waiting INTEGER NOT NULL, feedback INTEGER NOT NULL
) STRICT;
CREATE INDEX traces_by_start ON traces (start, id) WHERE start IS NOT NULL;
CREATE INDEX traces_by_session ON traces (session, start, id) WHERE session IS NOT NULL;
CREATE INDEX traces_by_touched ON traces (touched, id);
CREATE INDEX traces_with_feedback ON traces (id) WHERE feedback > 0;
CREATE TABLE trace_resources (
    resource INTEGER NOT NULL, trace INTEGER NOT NULL, PRIMARY KEY (resource, trace)
) WITHOUT ROWID, STRICT;

CREATE TABLE spans (
    id INTEGER PRIMARY KEY,
    trace INTEGER NOT NULL, span INTEGER NOT NULL, parent INTEGER NOT NULL,
    start INTEGER NOT NULL, duration INTEGER NOT NULL,
    name INTEGER NOT NULL, resource INTEGER NOT NULL, scope INTEGER NOT NULL,
    kind INTEGER NOT NULL, flags INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX spans_by_id ON spans (trace, span);

CREATE TABLE targets (
    id INTEGER PRIMARY KEY,
    trace INTEGER NOT NULL, span INTEGER NOT NULL, session INTEGER NOT NULL,
    arrived INTEGER NOT NULL, latest INTEGER,
    UNIQUE (trace, span, session)
) STRICT;
CREATE INDEX targets_waiting ON targets (id) WHERE arrived = 0;
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    target INTEGER NOT NULL, trace INTEGER NOT NULL, span INTEGER NOT NULL UNIQUE,
    span_id INTEGER NOT NULL, own INTEGER NOT NULL, time INTEGER NOT NULL
) STRICT;
CREATE INDEX documents_by_target ON documents (target, span_id);
CREATE INDEX documents_by_trace ON documents (trace);

CREATE TABLE fields (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    bools INTEGER NOT NULL DEFAULT 0, numbers INTEGER NOT NULL DEFAULT 0,
    texts INTEGER NOT NULL DEFAULT 0, others INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE leaves (
    field INTEGER NOT NULL, time INTEGER NOT NULL, target INTEGER NOT NULL,
    trace INTEGER NOT NULL, resource INTEGER NOT NULL, given INTEGER NOT NULL,
    type INTEGER NOT NULL, value ANY,
    PRIMARY KEY (field, time, target)
) WITHOUT ROWID, STRICT;
CREATE UNIQUE INDEX leaves_by_target ON leaves (target, field);
";

/// Rows that nothing refers to are deleted.
const VERSION_2: &str = "
ALTER TABLE names ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE scopes ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE resources ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
UPDATE names SET uses = c.uses
    FROM (SELECT name AS id, count(*) AS uses FROM spans GROUP BY name) AS c WHERE c.id = names.id;
UPDATE scopes SET uses = c.uses
    FROM (SELECT scope AS id, count(*) AS uses FROM spans GROUP BY scope) AS c WHERE c.id = scopes.id;
UPDATE resources SET uses = c.uses
    FROM (SELECT resource AS id, count(*) AS uses FROM spans GROUP BY resource) AS c
    WHERE c.id = resources.id;
DELETE FROM resource_texts WHERE resource IN (SELECT id FROM resources WHERE uses = 0);
DELETE FROM resources WHERE uses = 0;
DELETE FROM scopes WHERE uses = 0;
DELETE FROM names WHERE uses = 0;
DELETE FROM fields WHERE bools = 0 AND numbers = 0 AND texts = 0 AND others = 0;
UPDATE traces SET session = NULL WHERE session IN (SELECT id FROM sessions WHERE name = '');
UPDATE sessions SET start = NULL, last = NULL, resource = NULL WHERE name = '';
DELETE FROM sessions WHERE start IS NULL
    AND NOT EXISTS (SELECT 1 FROM targets WHERE trace = 0 AND span = 0 AND session = sessions.id);
";

/// `changed` orders targets by the last transaction that changed their leaves, so that a reader can go on from
/// where it stopped. In `meta`, `changes` is the greatest one.
const VERSION_3: &str = "
ALTER TABLE targets ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX targets_by_change ON targets (changed);
";

/// The state of forwarding, by backend and row of `targets`. On ClickHouse it has a file of its own, with a table
/// `targets` of its own.
///
/// - `forward_backends`: each backend that was ever forwarded to, its position among the targets by `changed`,
///   and why it takes nothing at present. Times are nanoseconds since the epoch.
/// - `forward_told`: what a backend has been told of a leaf, as a hash; NULL while a call is under way, so that
///   after a crash it is not known. `refused` is the hash of what it will not take, 0 for a deletion.
/// - `forward_waiting`: targets to be tried again.
pub(super) const FORWARD_STATE: &str = "
CREATE TABLE forward_backends (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, settings INTEGER NOT NULL,
    changed INTEGER NOT NULL, target INTEGER NOT NULL,
    reached INTEGER, failed INTEGER, reason TEXT, next INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE forward_told (
    target INTEGER NOT NULL, backend INTEGER NOT NULL, field TEXT NOT NULL,
    hash INTEGER, memo TEXT, refused INTEGER, reason TEXT,
    PRIMARY KEY (target, backend, field)
) WITHOUT ROWID, STRICT;
CREATE INDEX forward_refused ON forward_told (backend, target) WHERE refused IS NOT NULL;
CREATE TABLE forward_waiting (
    target INTEGER NOT NULL, backend INTEGER NOT NULL,
    is_missing INTEGER NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (target, backend)
) WITHOUT ROWID, STRICT;
CREATE INDEX forward_due ON forward_waiting (backend, next);
";

/// A filter is counted as a set of rows, from which those of traces without a received span are taken off.
const VERSION_5: &str = "
CREATE INDEX traces_without_span ON traces (id) WHERE start IS NULL;
";

/// The version this code writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings a file that may be new, of this version or older to this version. One that is newer, or
/// none of ours, is left as it is.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let found = check(connection)?;
    if found == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have migrated the file meanwhile.
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// The version of a file, or why it is not for this code.
pub(super) fn check(connection: &Connection) -> Result<i64, OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, found) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION {
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 || found != 0 {
            return Err(OpenError::NotADesk);
        }
    }
    if found > VERSION {
        return Err(OpenError::Newer { found, known: VERSION });
    }
    Ok(found)
}
