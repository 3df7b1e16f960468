//! The outbox, a *persistent queue*: spans and feedback that can't be delivered now wait on disk.
//!
//! # Invariants
//!
//! - Acknowledged data (`flush` or `persist` returned `Ok`, or a feedback route answered 204) has been
//!   accepted by the collector, or it is on disk. A crash in between sends it twice, but never loses it.
//!   Folding makes duplicates harmless: the same span, or the same patch at the same time.
//! - An entry is deleted from disk only when the collector has accepted it, when it has been written
//!   to the `rejected` files with the collector's reason, or when it is counted as dropped (too old,
//!   or a span without feedback where space was needed).
//! - Segments only grow at their end, by whole entries with a checksum. Damage costs only the entries
//!   that it touches.
//! - Only the process that has locked a directory touches the files in it.
//! - The threads of the service never wait for a disk.
//! - Only [files] that this user has made are read, written or deleted.
//!
//! # On disk
//!
//! ```text
//! outbox/                       0700: it holds personal data; all files are 0600
//! ├─ 5f3a…9c/                   of one process, which has a lock on `lock` while it runs
//! │  ├─ lock
//! │  ├─ feedback/
//! │  │  ├─ 0000000001.segment   carriers of enrichments, and spans that carry feedback
//! │  │  └─ 0000000001.acks      which of its entries need not be sent any more
//! │  └─ spans/
//! │     └─ 0000000001.segment   spans without feedback
//! ├─ rejected/
//! │  └─ 5f3a…9c-0000000001.segment   what the collector has rejected, and why
//! └─ logs/                      the outbox of log records: the same again, with all of them in `feedback`
//! ```
//!
//! A program that doesn't know `logs` leaves it alone.
//!
//! The bytes of a [segment](format) are those of OTLP, with the resource they were recorded under,
//! so sending them needs no decoding.
//!
//! # Write
//!
//! Spans that could not be delivered are written by the export thread, batch by batch, and made
//! durable before `flush` returns. Feedback goes through the [journal](journal): threads append it
//! in memory, and the outbox's own thread writes all entries that have gathered and makes them
//! durable with one sync. With [`OutboxPolicy::WriteAhead`] every enrichment is appended when it is
//! made, as a carrier of its own, and *held*: it has a [finalizer](finalizer), which travels with
//! the enriched span.
//!
//! # Read
//!
//! The export thread [takes](Outbox::take) entries in batches, feedback first, each log from its
//! oldest segment on, one segment in memory at a time. Held entries are skipped. At the start, and
//! every ten seconds, the directories of processes that have ended are adopted: their segments are
//! moved to the directory of this process.
//!
//! # Acknowledge
//!
//! Entries that the collector has accepted are marked in memory and in the segment's `acks` file.
//! That file is not synced: if a mark is lost, its entries are sent again. A finalizer that is
//! released acknowledges its entry; a finalizer that is dropped makes its entry ready to be sent.
//!
//! # Delete
//!
//! A segment without entries left to send is deleted, and the directory of a process when the
//! process ends and no segment is left. Segments that are too old are deleted and counted, as are
//! the oldest of `spans` when space is needed.

mod directory;
mod error;
mod files;
mod finalizer;
mod format;
mod gauges;
mod journal;
mod options;
mod segment;
mod segment_log;
mod store;

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use error::PersistError;
pub(crate) use finalizer::{Finalizer, Finalizers};
use format::SegmentEntry;
use gauges::Gauges;
pub(crate) use gauges::OutboxUsage;
use journal::Journal;
pub(crate) use journal::PushError;
pub use options::{OutboxOptions, OutboxPolicy, OutboxPolicyError};
use segment::EntryState;
use segment_log::{FileProblem, Notice};
pub(crate) use store::EntryLocation;
use store::OutboxStore;

use crate::clock;
use crate::otlp::Signal;
use crate::otlp::encoded_items::EncodedItems;
use crate::suppress;

/// How long an enrichment may wait to be written if no caller waits for it.
const TICK: Duration = Duration::from_millis(20);
/// How often directories of ended processes are adopted, and finished segments deleted.
const ROUND: Duration = Duration::from_secs(10);

/// One process's part of an outbox.
#[derive(Debug)]
pub(crate) struct Outbox {
    signal: Signal,
    policy: OutboxPolicy,
    max_bytes: u64,
    /// The encoded resource of this process, as in [`EncodedItems`].
    resource: Bytes,
    /// The encoded scope of enrichments.
    scope: Bytes,
    journal: Arc<Journal>,
    store: Mutex<OutboxStore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    gauges: Gauges,
}

impl Outbox {
    /// Opens the outbox for spans, or log records, of `resource`, and starts its thread. `scope` is the
    /// scope of enrichments.
    ///
    /// # Errors
    ///
    /// The directory can't be created or written to, or no thread can be started.
    pub(crate) fn open(
        options: OutboxOptions,
        signal: Signal,
        resource: Vec<u8>,
        scope: Vec<u8>,
    ) -> io::Result<Arc<Self>> {
        let resource = Bytes::from(resource);
        let outbox = Arc::new(Self {
            signal,
            policy: options.policy,
            max_bytes: options.max_bytes,
            resource: resource.clone(),
            scope: scope.into(),
            journal: Arc::default(),
            store: Mutex::new(OutboxStore::open(&options, signal, resource)?),
            thread: Mutex::default(),
            gauges: Gauges::default(),
        });
        let thread = std::thread::Builder::new().name("tracing-feedback-outbox".to_owned());
        let thread = thread.spawn({
            let outbox = outbox.clone();
            move || outbox.maintain()
        })?;
        *crate::sync::lock(&outbox.thread) = Some(thread);
        Ok(outbox)
    }

    /// Whether enrichments are written when they are made.
    pub(crate) fn writes_ahead(&self) -> bool {
        self.policy == OutboxPolicy::WriteAhead
    }

    /// Stores a carrier whose feedback is also delivered without the outbox, and returns its
    /// finalizer: the carrier itself is delivered if `is_whole`, else the enriched span is. `time`
    /// is when the carrier was made.
    ///
    /// # Errors
    ///
    /// The carrier can't be stored, and so would not survive a crash.
    pub(crate) fn hold(
        self: &Arc<Self>,
        encoded: Vec<u8>,
        is_whole: bool,
        time: u64,
    ) -> Result<Finalizer, PushError> {
        let scope = self.scope.clone();
        let sequence = self.journal.push(scope, encoded.into(), 1, EntryState::Held, time)?;
        Ok(Finalizer::new(self.clone(), sequence, is_whole))
    }

    /// Waits until all feedback stored so far is durable, or until `deadline`.
    ///
    /// # Errors
    ///
    /// The reason why it isn't durable.
    pub(crate) fn sync(&self, deadline: Instant) -> Result<(), PersistError> {
        self.journal.wait_durable(self.journal.pushed(), deadline)
    }

    /// Waits until the entries written ahead are durable, before their spans are sent: otherwise,
    /// after a crash, an older patch on disk could outlive and override a newer one that had been
    /// sent.
    pub(crate) fn sync_ahead(&self) {
        if !self.journal.is_failing() {
            let _ = self.sync(clock::after(Duration::from_secs(1))); // the spans can't wait longer
        }
    }

    /// As [`sync`](Self::sync), without blocking a thread.
    pub(crate) fn synced(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), PersistError>> + Send + use<> {
        self.journal.durable(self.journal.pushed(), deadline)
    }

    /// Writes encoded spans without feedback that could not be delivered. They are durable
    /// afterwards.
    ///
    /// # Errors
    ///
    /// The outbox is full, or can't be written.
    pub(crate) fn spill(&self, batches: &[EncodedItems]) -> io::Result<()> {
        let file = self.with_store(|store| store.spill(batches, clock::now()))?;
        // After unlocking: a sync is slow.
        file.map_or(Ok(()), |file| file.sync_data()).inspect_err(|_| {
            self.with_store(|store| store.spans.forget_unsynced(batches.len()));
        })
    }

    /// Stores encoded spans with feedback that could not be delivered. They are durable after the
    /// next [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// The outbox is full, or closed.
    pub(crate) fn spill_feedback(&self, batch: &EncodedItems) -> Result<(), PushError> {
        let spans = u32::try_from(batch.items).unwrap_or(u32::MAX);
        let (scope, encoded) = (batch.scope.clone(), batch.encoded.clone());
        self.journal.push(scope, encoded, spans, EntryState::Ready, clock::now()).map(|_| ())
    }

    /// As [`sync`](Self::sync), with a time limit for the disk.
    pub(crate) fn sync_within_limit(&self) -> Result<(), PersistError> {
        self.sync(clock::after(Duration::from_secs(5)))
    }

    /// Returns and resets the number of spans dropped to keep within the limits, and how many of
    /// them carried feedback.
    pub(crate) fn take_lost(&self) -> (u64, u64) {
        self.gauges.take_lost()
    }

    /// Takes entries that are ready to be sent: up to `most` bytes, or one larger entry.
    pub(crate) fn take(&self, most: usize) -> Vec<(EntryLocation, EncodedItems)> {
        let of_journal = self.journal.take_waiting(most);
        let mut batch: Vec<_> = of_journal
            .into_iter()
            .map(|entry| {
                (
                    EntryLocation::Journal(entry.sequence),
                    entry.into_encoded(self.signal, self.resource.clone(), true),
                )
            })
            .collect();
        batch.extend(self.with_store(|store| store.take(most, clock::now())));
        batch
    }

    /// Marks entries as accepted by the collector.
    pub(crate) fn acknowledge(&self, locations: &[EntryLocation], spans: u64) {
        self.gauges.replayed(spans);
        self.settle(locations, EntryState::Gone);
    }

    /// Makes entries that were taken ready again, to be sent later.
    pub(crate) fn put_back(&self, locations: &[EntryLocation]) {
        self.settle(locations, EntryState::Ready);
    }

    fn settle(&self, locations: &[EntryLocation], state: EntryState) {
        let (mut feedback, mut spans) = (Vec::new(), Vec::new());
        for location in locations {
            match *location {
                EntryLocation::Feedback(position) => feedback.push(position),
                EntryLocation::Spans(position) => spans.push(position),
                EntryLocation::Journal(sequence) => self.journal.settle(sequence, state),
            }
        }
        self.with_store(|store| store.settle(feedback, spans, state));
    }

    /// Writes encoded spans that the collector has rejected to the `rejected` files, with the
    /// reason. `counted` of their spans were rejected.
    ///
    /// # Errors
    ///
    /// The spans could not be written.
    pub(crate) fn reject(
        &self,
        batches: &[EncodedItems],
        counted: u64,
        reason: &str,
    ) -> io::Result<()> {
        let file = self.with_store(|store| store.reject(batches, reason, clock::now()))?;
        file.map_or(Ok(()), |file| file.sync_data())?;
        self.gauges.rejected(counted);
        Ok(())
    }

    /// Whether there is anything to send. Reads no disk, and doesn't wait for one.
    pub(crate) fn has_ready(&self) -> bool {
        self.gauges.has_ready() || self.journal.has_waiting()
    }

    /// Whether the directories of ended processes have been adopted since the start.
    pub(crate) fn has_adopted(&self) -> bool {
        self.gauges.has_adopted()
    }

    /// The bytes of feedback on disk and on its way there, and how many bytes may be there in all.
    pub(crate) fn feedback_bytes(&self) -> (u64, u64) {
        (self.gauges.feedback_bytes() + self.journal.waiting_bytes(), self.max_bytes)
    }

    pub(crate) fn usage(&self) -> OutboxUsage {
        self.gauges.read(clock::now())
    }

    /// Calls `then` with the store, and updates the gauges.
    fn with_store<T>(&self, then: impl FnOnce(&mut OutboxStore) -> T) -> T {
        let mut store = crate::sync::lock(&self.store);
        let done = then(&mut store);
        self.gauges.publish(&mut store);
        // At the start there may be no subscriber yet: notices are kept until there is one.
        let notices = if has_subscriber() { store.notices() } else { Vec::new() };
        drop(store);
        // After unlocking: a subscriber is foreign code.
        notices.iter().for_each(warn_of);
        done
    }

    /// Runs on the outbox's own thread: writes the journal, and adopts segments of ended processes.
    fn maintain(&self) {
        suppress::mark_this_thread();
        let tick = if self.writes_ahead() { TICK } else { ROUND };
        let mut next_round = Instant::now();
        let mut last_error = None;
        loop {
            if Instant::now() >= next_round {
                if let Err(error) = self.with_store(OutboxStore::maintain) {
                    warn_of_write_error(&error);
                }
                self.gauges.set_adopted();
                next_round = Instant::now() + ROUND;
            }
            let pushed = self.journal.pushed();
            let journal::JournalWork { entries, released, unreleased, is_last } =
                self.journal.next_work(tick);
            // Every entry pushed before is in `entries`, or was settled.
            let durable = entries.last().map_or(pushed, |(last, _)| pushed.max(last.sequence + 1));
            match self.write(&entries, &released, &unreleased) {
                Ok(is_full) => {
                    self.journal.written(durable, is_full);
                    if last_error.take().is_some() {
                        tracing::info!(target: "tracing_feedback", "the outbox can be written again");
                    }
                }
                Err(error) if is_last => {
                    // The entries are lost when the process ends.
                    let spans = entries.iter().map(|(entry, _)| u64::from(entry.spans)).sum();
                    self.gauges.lose(spans, spans);
                    tracing::warn!(
                        target: "tracing_feedback",
                        "{spans} spans with feedback could be neither delivered nor written: {error}"
                    );
                    self.journal.failed(Vec::new(), PersistError::of_write(&error));
                }
                Err(error) => {
                    // Logged once for each error: writing is retried continually.
                    let is_new = last_error.replace(error.to_string()) != Some(error.to_string());
                    if is_new {
                        warn_of_write_error(&error);
                    }
                    self.journal.failed(entries, PersistError::of_write(&error));
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            if is_last {
                // The entries whose replacements have just become durable.
                let journal::JournalWork { released, unreleased, .. } =
                    self.journal.next_work(Duration::ZERO);
                let _ = self.write(&[], &released, &unreleased); // can't fail: there is nothing to write
                break;
            }
        }
        self.journal.end();
        self.with_store(OutboxStore::leave);
    }

    /// Writes entries and makes them durable. Returns whether the outbox then holds as much
    /// feedback as it may.
    fn write(
        &self,
        entries: &[(SegmentEntry, EntryState)],
        released: &[u64],
        unreleased: &[u64],
    ) -> io::Result<bool> {
        if entries.is_empty() && released.is_empty() && unreleased.is_empty() {
            return Ok(self.gauges.feedback_bytes() >= self.max_bytes);
        }
        let now = clock::now();
        let file = self.with_store(|store| store.write(entries, released, unreleased, now))?;
        // After unlocking: a sync is slow.
        if let Err(error) = file.map_or(Ok(()), |file| file.sync_data()) {
            self.with_store(|store| store.feedback.forget_unsynced(entries.len()));
            return Err(error);
        }
        Ok(self.gauges.feedback_bytes() >= self.max_bytes)
    }

    /// Writes what is left in the journal, and ends the thread. Entries that are not delivered are
    /// sent by the next process.
    pub(crate) fn close(&self) {
        self.journal.close();
        let thread = crate::sync::lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join(); // the thread returns nothing
        }
    }
}

/// Decodes bytes as a segment, and as acknowledgements. Returns how many bytes are damaged, plus
/// how many acknowledgements there are.
#[cfg(fuzzing)]
pub fn read_segment(bytes: &[u8]) -> usize {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok((header, start)) = format::Header::decode(&bytes) else { return bytes.len() };
    let acknowledged = format::Acknowledged::all(&bytes, header.marker).count();
    let found = format::entries(&bytes, start, header.marker);
    let damaged = found.map(|found| match found {
        format::SegmentPart::Entry(at, entry) => {
            assert!(at >= start && at + entry.size() <= bytes.len());
            0
        }
        format::SegmentPart::Damage(from, to) => to - from,
    });
    damaged.sum::<usize>() + acknowledged
}

/// Whether this thread has a subscriber.
fn has_subscriber() -> bool {
    use tracing::subscriber::NoSubscriber;
    tracing::dispatcher::get_default(|dispatch| !dispatch.is::<NoSubscriber>())
}

fn warn_of(notice: &Notice) {
    let file = notice.path.display();
    match &notice.what {
        FileProblem::Damage(from, to) => tracing::warn!(
            target: "tracing_feedback",
            %file,
            offset = from,
            bytes = to - from,
            "a segment of the outbox is damaged: these bytes are lost, the other entries are sent"
        ),
        FileProblem::Missing => tracing::warn!(
            target: "tracing_feedback",
            %file,
            "a segment of the outbox was deleted by another program: its entries are lost"
        ),
        FileProblem::Unreadable(error) => tracing::warn!(
            target: "tracing_feedback",
            %file,
            "a segment of the outbox can't be read, and is left in place: {error}"
        ),
    }
}

fn warn_of_write_error(error: &io::Error) {
    tracing::warn!(
        target: "tracing_feedback",
        "the outbox can't be written: {error}; feedback is kept in memory meanwhile"
    );
}

#[cfg(test)]
mod tests;
