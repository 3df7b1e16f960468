//! The thread that writes. Requests wait in a queue, several share a transaction, and each is answered after
//! the commit: acknowledged spans are in the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::cache::RowCache;
use super::checkpoint::Checkpoints;
use super::counters::{counter, set};
use super::file::StoreFiles;
use super::retention::{self, Retention};
use super::write::{Written, write};
use super::{BUSY_TIMEOUT, OpenError, Result, open};
use crate::clock;
use crate::desk::log::log_line;
use crate::desk::store::StoreVersion;
use crate::desk::store::batch::{SpanBatch, nanos};
use crate::desk::store::forwarding::StateChange;
use crate::suppress;

/// The size of the queue.
const QUEUE_BYTES: usize = 96 << 20;
/// A transaction takes no more requests when it has this many spans.
const ENOUGH_SPANS: usize = 20_000;
/// The interval of checks for old traces while nothing arrives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The least time between two clean-ups after traces were deleted: each syncs the file.
const CLEAN_UP_INTERVAL: Duration = Duration::from_secs(10);
/// A clean-up takes at most one part in this many of the writer's time.
const CLEAN_UP_SHARE: u32 = 50;
/// The largest store that a clean-up writes anew: it does so in memory, while requests wait.
const MOST_VACUUMED: u64 = 64 << 20;
/// Permits stand for KiB.
const UNIT: usize = 1 << 10;

/// Why a request was not written. Its sender may try again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WriteError(String);

impl WriteError {
    /// The thread has ended: the desk is being dropped, or a fault has ended it.
    fn ended() -> Self {
        Self("the desk is shutting down".to_owned())
    }
}

/// The handle of the thread. Dropping it writes the queue, and ends the thread.
#[derive(Debug)]
pub(crate) struct SqliteWriter {
    queue: Option<Sender<Job>>,
    room: Arc<Semaphore>,
    changes: watch::Receiver<StoreVersion>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Spans(WriteJob),
    /// Not about spans: readers of the store are not told of a change.
    State(StateJob),
}

/// A change of the tables of forwarding.
struct StateJob {
    change: StateChange,
    answer: SyncSender<Result<(), WriteError>>,
}

struct WriteJob {
    batch: SpanBatch,
    answer: oneshot::Sender<Result<(), WriteError>>,
    /// Given back when the job is dropped.
    _room: OwnedSemaphorePermit,
}

impl SqliteWriter {
    /// Opens a file, or makes one, and starts to write it, for a desk that keeps to these limits.
    pub(crate) fn start(path: &Path, retention: Retention) -> Result<Self, OpenError> {
        let connection = open(path)?;
        retention.remember(&connection).map_err(|error| OpenError::Limits(error.to_string()))?;
        Self::write_to(connection, path, retention)
    }

    /// The same for a command beside the desk, which deletes nothing.
    pub(crate) fn start_beside(path: &Path) -> Result<Self, OpenError> {
        Self::write_to(open(path)?, path, Retention::default())
    }

    fn write_to(
        connection: Connection,
        path: &Path,
        retention: Retention,
    ) -> Result<Self, OpenError> {
        let (queue, jobs) = channel();
        let (change, changes) = watch::channel(StoreVersion::default());
        let path = path.to_owned();
        let files = StoreFiles::of(&path)?;
        let checkpoints = Checkpoints::start(&path)?;
        let work = move || {
            suppress::mark_this_thread();
            let cache = RowCache::default();
            let deleted = Deleted::default();
            let is_refusing = false;
            WriterThread {
                connection,
                checkpoints,
                path,
                files,
                is_refusing,
                retention,
                cache,
                change,
                deleted,
            }
            .run(&jobs);
        };
        let thread = thread::Builder::new().name("desk-writer".into()).spawn(work)?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES / UNIT));
        Ok(Self { queue: Some(queue), room, changes, thread: Some(thread) })
    }

    /// Completes when the spans are in the file.
    pub(crate) async fn write(&self, batch: SpanBatch) -> Result<(), WriteError> {
        let weight = (batch.bytes / UNIT + 1).min(QUEUE_BYTES / UNIT);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(weight).await;
        let room = room.map_err(|_| WriteError::ended())?;
        let (answer, written) = oneshot::channel();
        let job = Job::Spans(WriteJob { batch, answer, _room: room });
        let sent = self.queue.as_ref().and_then(|queue| queue.send(job).ok());
        sent.ok_or_else(WriteError::ended)?;
        written.await.unwrap_or_else(|_| Err(WriteError::ended()))
    }

    /// Changes the state of forwarding, and returns when that is in the file. From a thread that may wait.
    pub(super) fn write_state(&self, change: StateChange) -> Result<(), WriteError> {
        let (answer, written) = sync_channel(1);
        let job = Job::State(StateJob { change, answer });
        let sent = self.queue.as_ref().and_then(|queue| queue.send(job).ok());
        sent.ok_or_else(WriteError::ended)?;
        written.recv().unwrap_or_else(|_| Err(WriteError::ended()))
    }

    /// The last commit, to wait for the next.
    pub(crate) fn changes(&self) -> watch::Receiver<StoreVersion> {
        self.changes.clone()
    }
}

impl Drop for SqliteWriter {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has been printed
        }
    }
}

struct WriterThread {
    connection: Connection,
    checkpoints: Checkpoints,
    path: PathBuf,
    /// The files that the connection writes, to notice that others, or none, are at their path.
    files: StoreFiles,
    /// They are not there, and the log says so.
    is_refusing: bool,
    retention: Retention,
    cache: RowCache,
    change: watch::Sender<StoreVersion>,
    deleted: Deleted,
}

/// Where deleted text may still be. SQLite overwrites what it deletes, but not the copies that remain in
/// the unused part of a page after rows have moved to another one.
#[derive(Debug, Default)]
struct Deleted {
    is_in_pages: bool,
    is_in_log: bool,
    next_clean_up: Option<Instant>,
}

impl WriterThread {
    fn run(mut self, jobs: &Receiver<Job>) {
        self.announce(false);
        // By a desk that was stopped before it could clean up.
        let is_left = counter(&self.connection, retention::DELETED).is_ok_and(|left| left > 0);
        (self.deleted.is_in_pages, self.deleted.is_in_log) = (is_left, is_left);
        let mut next_look = Instant::now();
        let mut seen = self.seen();
        loop {
            match jobs.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
                Ok(Job::Spans(first)) => self.take(first, jobs),
                Ok(Job::State(job)) => self.change_state(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= next_look {
                // Another process may write, too: `import` does.
                let now_seen = self.seen();
                if now_seen != seen {
                    seen = now_seen;
                    self.announce(true);
                }
                // A step at a time, and what arrives goes first.
                let more = self.look_at_files() && self.forget();
                next_look = Instant::now() + if more { HEARTBEAT / 20 } else { HEARTBEAT };
            }
        }
        drop(self.checkpoints);
        let _ = self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE)");
    }

    fn take(&mut self, first: WriteJob, jobs: &Receiver<Job>) {
        let mut spans = first.batch.spans.len();
        let mut taken = vec![first];
        let mut after = None;
        while spans < ENOUGH_SPANS
            && after.is_none()
            && let Ok(job) = jobs.try_recv()
        {
            match job {
                Job::Spans(job) => {
                    spans += job.batch.spans.len();
                    taken.push(job);
                }
                Job::State(job) => after = Some(job),
            }
        }
        let (batches, answers): (Vec<_>, Vec<_>) =
            taken.into_iter().map(|job| (job.batch, (job.answer, job._room))).unzip();
        let written = match self.files.check(&self.path) {
            Ok(()) => self.commit(&batches).map_err(|error| error.to_string()),
            Err(removed) => Err(removed),
        };
        let outcome = match written {
            Ok(written) => {
                if written != Written::default() {
                    self.announce(true);
                }
                Ok(())
            }
            Err(error) => {
                self.cache = RowCache::default(); // it may hold rows that were not committed
                log_line(&format!("feedback-desk: {}: {error}", self.path.display()));
                Err(WriteError(format!("not written: {error}")))
            }
        };
        let mut rooms = Vec::with_capacity(answers.len());
        for (answer, room) in answers {
            let _ = answer.send(outcome.clone()); // an error means that the sender has disconnected
            rooms.push(room);
        }
        // Freeing the requests takes a while, so their senders are answered first.
        drop(batches);
        drop(rooms);
        if let Some(job) = after {
            self.change_state(job);
        }
    }

    fn change_state(&mut self, job: StateJob) {
        let written = match self.files.check(&self.path) {
            Ok(()) => self.commit_state(job.change).map_err(|error| error.to_string()),
            Err(removed) => Err(removed),
        };
        let written = written.map_err(|error| WriteError(format!("not written: {error}")));
        let _ = job.answer.send(written); // an error means that the worker has ended
    }

    fn commit_state(&mut self, change: StateChange) -> rusqlite::Result<()> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change(&transaction)?;
        transaction.commit()
    }

    /// Whether the store can be written. The log says once that it can't, though nothing arrives.
    fn look_at_files(&mut self) -> bool {
        let found = self.files.check(&self.path);
        if let (false, Err(reason)) = (self.is_refusing, &found) {
            log_line(&format!("feedback-desk: {}: {reason}", self.path.display()));
        }
        self.is_refusing = found.is_err();
        found.is_ok()
    }

    fn commit(&mut self, batches: &[SpanBatch]) -> Result<Written> {
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let received = nanos(clock::unix_nanos(SystemTime::now()));
        let written = write(&transaction, &mut self.cache, batches, received)?;
        transaction.commit()?;
        self.checkpoints.look(&self.connection);
        Ok(written)
    }

    fn forget(&mut self) -> bool {
        match retention::step(&mut self.connection, &mut self.cache, self.retention) {
            Ok(retention::RetentionStep::Nothing) => {
                self.clean_up();
                false
            }
            Ok(retention::RetentionStep::Forgot) => {
                self.deleted.is_in_pages = true;
                self.deleted.is_in_log = true;
                self.announce(true);
                true
            }
            Err(error) => {
                self.cache = RowCache::default();
                let path = self.path.display();
                log_line(&format!("feedback-desk: retention: {path}: {error}"));
                false
            }
        }
    }

    /// Removes deleted text from where it may still be: writes a small store anew, and empties the
    /// write-ahead log. Other processes are not waited for: the next look tries again.
    fn clean_up(&mut self) {
        let begin = Instant::now();
        let is_due = self.deleted.next_clean_up.is_none_or(|next| begin >= next);
        if !(self.deleted.is_in_pages || self.deleted.is_in_log) || !is_due {
            return;
        }
        let _ = self.connection.busy_timeout(Duration::ZERO);
        let is_clean = self.clean_pages() && self.empty_log();
        let _ = self.connection.busy_timeout(BUSY_TIMEOUT);
        // Writing the store anew may fail for longer, as on a full disk.
        if is_clean || self.deleted.is_in_pages {
            let pause = (begin.elapsed() * CLEAN_UP_SHARE).max(CLEAN_UP_INTERVAL);
            self.deleted.next_clean_up = Some(Instant::now() + pause);
        }
    }

    /// Writes a small store anew, if copies of deleted rows may be in it.
    fn clean_pages(&mut self) -> bool {
        if self.deleted.is_in_pages
            && retention::used(&self.connection).is_ok_and(|used| used <= MOST_VACUUMED)
        {
            let vacuumed = self.connection.execute_batch("VACUUM");
            if vacuumed.is_err() || set(&self.connection, retention::DELETED, 0).is_err() {
                return false;
            }
        }
        self.deleted.is_in_pages = false;
        true
    }

    fn empty_log(&mut self) -> bool {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let is_busy = self.connection.query_row(sql, [], |row| row.get::<_, bool>(0));
        self.deleted.is_in_log = is_busy.unwrap_or(true);
        !self.deleted.is_in_log
    }

    /// A number that changes when another connection has written.
    fn seen(&self) -> Option<i64> {
        self.connection.pragma_query_value(None, "data_version", |row| row.get(0)).ok()
    }

    fn announce(&self, is_change: bool) {
        let used = retention::used(&self.connection).unwrap_or(0);
        self.change.send_modify(|notice| {
            notice.version += u64::from(is_change);
            notice.used = used;
        });
    }
}
