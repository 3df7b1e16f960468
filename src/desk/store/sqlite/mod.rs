//! The store of one machine: one SQLite file, one thread that writes it, any number that read.
//!
//! | file | idea |
//! | --- | --- |
//! | `schema` | the tables; migrations |
//! | `writer` | the thread: several requests a transaction, answered after the commit |
//! | `checkpoint` | the thread that copies the write-ahead log into the file |
//! | `write` | one transaction: spans, traces, sessions, targets |
//! | `cache` | row numbers that the writer keeps in memory |
//! | `counters` | how many spans and documents there are |
//! | `refold` | the leaves of a target, computed from its documents |
//! | `retention` | deletes old traces, in small steps |
//! | `stored` | conversions between rows and spans or values |
//! | `read` | the answers to queries |
//! | `forwarding` | what forwarding reads and writes |
//!
//! A commit survives a crash of the process. The state is a function of the set of spans: their order, their
//! division into requests, and repeated deliveries do not change any answer.

mod cache;
mod checkpoint;
mod counters;
mod file;
mod forwarding;
mod read;
mod refold;
mod retention;
mod schema;
mod stored;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

pub(crate) use forwarding::{SqliteForwarding, open_forward_state};
pub(crate) use retention::Retention;
pub(crate) use writer::SqliteWriter;

use super::Error;
use crate::sync::lock;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// How long a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Steps of SQLite's machine between two checks of the clock.
const STEPS: i32 = 10_000;
/// Idle connections that are kept open.
const SPARE_READERS: usize = 4;

/// Why a file can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OpenError {
    /// The file belongs to another program.
    #[error("this SQLite file is not one of feedback-desk: choose another with --store")]
    NotADesk,
    /// The file is not one of the state of forwarding.
    #[error("this SQLite file is not one of forwarding: choose another with --forward-state")]
    NotAState,
    /// A newer desk has written it.
    #[error(
        "the file was written by a newer feedback-desk (schema {found}, this one knows {known}): \
         use that one; nothing was changed"
    )]
    Newer {
        /// Its version.
        found: i64,
        /// The version of this code.
        known: i64,
    },
    /// The limits of the store can't be read or written.
    #[error("{0}")]
    Limits(String),
    /// The file can't be made or looked at.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// An error of SQLite.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Opens a file for writing, and creates it if it is missing.
pub(crate) fn open(path: &Path) -> Result<Connection, OpenError> {
    file::make_private(path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    schema::check(&connection)?; // before anything is written
    // Both only take effect in this order, and before there is a table.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit survives the process. That it survives the machine takes a checkpoint, which syncs.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "wal_autocheckpoint", checkpoint::MOST_PAGES)?;
    connection.pragma_update(None, "cache_size", -(64 << 10))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // What is deleted is overwritten: it was written by people, and may be deleted for their sake.
    connection.pragma_update(None, "secure_delete", true)?;
    keep_plans(&connection)?;
    schema::migrate(&mut connection)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// The reading side. Cheap to share.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    spare: Mutex<Vec<Connection>>,
    /// A query that takes longer ends with an error.
    limit: Duration,
}

impl Sqlite {
    /// For a file that [`open`] has seen.
    pub(crate) fn new(path: &Path, limit: Duration) -> Self {
        Self { path: path.to_owned(), spare: Mutex::default(), limit }
    }

    /// For a file that must exist, and is not written.
    pub(crate) fn existing(path: &Path, limit: Duration) -> Result<Self, OpenError> {
        let store = Self::new(path, limit);
        let connection = store.connect()?;
        if schema::check(&connection)? != schema::VERSION {
            drop(connection);
            open(path)?; // an older one is brought up to date
        }
        Ok(store)
    }

    /// The limits that the store was last served with.
    pub(crate) fn retention(&self) -> Result<Retention> {
        self.read(Retention::of_store)
    }

    /// Looks at one state of the file: what is written meanwhile is not seen.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let spare = lock(&self.spare).pop();
        let mut connection = match spare {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let end = Instant::now() + self.limit;
        connection.progress_handler(STEPS, Some(move || Instant::now() > end))?;
        let found = {
            let transaction = connection.unchecked_transaction()?;
            let found = look(&transaction);
            transaction.rollback()?;
            found
        };
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE_READERS {
            spare.push(connection);
        }
        found
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE // what a reader of a WAL needs
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -(32 << 10))?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        keep_plans(&connection)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }
}

/// Makes a plan independent of the values bound to it (SQLite's query planner stability guarantee). Otherwise
/// SQLite prepares a statement anew when a value changes that its plan may depend on, such as that of a session.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

#[cfg(test)]
mod tests;
