//! The thread that copies the write-ahead log into the file, while the writer goes on.
//!
//! The writer checkpoints by itself, and waits for the disk, only when the log is several times as long: when the
//! thread is behind, or the writer never pauses, so that the log has to begin anew at some time.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags};

use crate::suppress;

/// Pages in the log that are not in the file yet, at which the thread begins to copy them.
const ENOUGH_PAGES: i64 = 8_000;
/// Pages in the log at which the writer copies what is left.
pub(super) const MOST_PAGES: i64 = 16_000;

/// The handle of the thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Checkpoints {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn start(path: &Path) -> Result<Self, super::OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        // One that is waiting already covers what was written since.
        let (wake, woken) = sync_channel(1);
        let work = move || {
            suppress::mark_this_thread();
            run(&connection, &woken);
        };
        let thread = thread::Builder::new().name("desk-checkpoint".into()).spawn(work)?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    /// Begins a checkpoint if the log is long enough. `connection` is that of the writer, after a commit.
    pub(super) fn look(&self, connection: &Connection) {
        // It changes nothing, and fails only if the log can't be read.
        let sql = "PRAGMA wal_checkpoint(NOOP)";
        let pages = connection.prepare_cached(sql).and_then(|mut statement| {
            statement.query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        });
        if let (Ok((log, copied)), Some(wake)) = (pages, &self.wake)
            && log - copied >= ENOUGH_PAGES
        {
            let _ = wake.try_send(()); // an error means that one is waiting
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has been printed
        }
    }
}

fn run(connection: &Connection, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        // A passive checkpoint waits for no reader and no writer. Where it fails, the writer's own checkpoint fails
        // later as well, and the writer reports that.
        let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::desk::store::sqlite::open;

    #[test]
    fn what_was_committed_is_copied_into_the_file_without_another_commit() {
        let directory = std::env::temp_dir().join(format!("desk-log-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("store.sqlite");
        let connection = open(&path).unwrap();
        let checkpoints = Checkpoints::start(&path).unwrap();
        let pages = || -> (i64, i64) {
            let sql = "PRAGMA wal_checkpoint(NOOP)";
            connection.query_row(sql, [], |row| Ok((row.get(1)?, row.get(2)?))).unwrap()
        };
        let sql = "INSERT INTO resources (hash, body) VALUES (randomblob(32), zeroblob(?1))";
        connection.execute(sql, [ENOUGH_PAGES * 4096]).unwrap();
        let (log, copied) = pages();
        assert!((ENOUGH_PAGES..MOST_PAGES).contains(&(log - copied)), "{copied} of {log}");
        checkpoints.look(&connection);
        let end = Instant::now() + Duration::from_secs(60);
        while pages() != (log, log) {
            assert!(Instant::now() < end, "{:?} of {log}", pages());
            thread::yield_now();
        }
        drop((checkpoints, connection));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
