//! The outbox, a *persistent queue*: what the collector can't be given now waits on disk.
//!
//! # Invariants
//!
//! - What was acknowledged (`flush` returned `Ok` after it, a feedback route answered 204) is taken
//!   by the collector, or it is on disk; a crash between the two sends it twice, never not at all.
//!   Folding makes duplicates harmless: the same span, or the same patch at the same time.
//! - An entry leaves the disk only when the collector has said that it took it, when it stands in the
//!   `rejected` files with the collector's reason, or when it is counted as dropped (too old, or a
//!   span without feedback where room was needed).
//! - Segments only grow at their end, by whole entries with a checksum. Damage costs the entries it
//!   touches.
//! - Only the process that has locked a directory touches what is in it.
//! - The threads of the service never wait for a disk.
//!
//! # On disk
//!
//! ```text
//! outbox/                       0700: it holds personal data; all files are 0600
//! ├─ 5f3a…9c/                   of one process, which has a lock on `lock` while it lives
//! │  ├─ lock
//! │  ├─ feedback/
//! │  │  ├─ 0000000001.segment   carriers of enrichments, and spans that carry feedback
//! │  │  └─ 0000000001.acks      which of its entries are taken care of
//! │  └─ spans/
//! │     └─ 0000000001.segment   spans without feedback
//! └─ rejected/
//!    └─ 5f3a…9c-0000000001.segment   what the collector refused for good, and why
//! ```
//!
//! The bytes of a [segment](format) are those of OTLP, with the resource they were recorded under,
//! so sending them needs no decoding.
//!
//! # Write
//!
//! Spans that could not be delivered are written by the export thread, batch by batch, and made
//! durable before `flush` hears of them. Feedback goes through the [journal](journal): whoever
//! brings it leaves it there, the outbox's own thread writes what has gathered and makes it durable
//! with one sync. With [`OutboxPolicy::WriteAhead`] every enrichment is put there when it is made,
//! as a carrier of its own, and *held*: it has a [finalizer](finalizer) which travels with the span it
//! landed on.
//!
//! # Read
//!
//! The export thread [takes](Outbox::take) entries in batches, feedback first, each line from its
//! oldest segment on, one segment in memory at a time. Held entries are passed by. At the start, and
//! now and then, the directories of processes that have ended are adopted: their segments are moved
//! here.
//!
//! # Acknowledge
//!
//! What the collector took is noted in memory and in the segment's `acks`. That note is not synced:
//! losing it means sending again. A finalizer that is released acknowledges its entry; one that is
//! dropped makes it ready to be sent.
//!
//! # Delete
//!
//! A segment of which nothing is left to send is deleted, and the directory of a process with its
//! last segment, when the process ends. Segments that are too old are deleted and counted; for want
//! of room the oldest of `spans` are.

mod directory;
mod finalizer;
mod format;
mod gauges;
mod journal;
mod line;
mod options;
mod segment;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(crate) use finalizer::{Finalizer, Finalizers};
use format::Entry;
use gauges::Gauges;
pub(crate) use gauges::Reading;
use journal::Journal;
pub(crate) use journal::Refused;
use line::{Notice, Trouble};
pub use options::{OutboxOptions, OutboxPolicy, OutboxPolicyError};
use segment::EntryState;
pub(crate) use store::Place;
use store::Store;

use crate::clock;
use crate::otlp::encoded_spans::EncodedSpans;
use crate::suppress;

/// How long an enrichment may wait to be written, if no one asks.
const TICK: Duration = Duration::from_millis(20);
/// How often directories of others are looked at, and what has arrived is deleted.
const ROUND: Duration = Duration::from_secs(10);

/// One process's part of an outbox.
#[derive(Debug)]
pub(crate) struct Outbox {
    policy: OutboxPolicy,
    max_bytes: u64,
    /// Of the spans of this process, as a [`EncodedSpans`] has them.
    resource: Bytes,
    scope: Bytes,
    journal: Journal,
    store: Mutex<Store>,
    thread: Mutex<Option<JoinHandle<()>>>,
    levels: Gauges,
}

impl Outbox {
    /// Opens the outbox for spans of `resource`, and starts its thread. `scope` is that of enrichments.
    ///
    /// # Errors
    ///
    /// The directory can't be made or written to, or no thread be started.
    pub(crate) fn open(
        options: OutboxOptions,
        resource: Vec<u8>,
        scope: Vec<u8>,
    ) -> io::Result<Arc<Self>> {
        let resource = Bytes::from(resource);
        let outbox = Arc::new(Self {
            policy: options.policy,
            max_bytes: options.max_bytes,
            resource: resource.clone(),
            scope: scope.into(),
            journal: Journal::default(),
            store: Mutex::new(Store::open(&options, resource)?),
            thread: Mutex::default(),
            levels: Gauges::default(),
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

    /// Takes a carrier that is on its way by itself, or will be with the span it speaks of, and gives
    /// a finalizer for it. `is_whole` says that the carrier itself is on its way, `time` when it was
    /// made.
    ///
    /// # Errors
    ///
    /// That it can't be taken, and so wouldn't outlive a crash.
    pub(crate) fn hold(
        self: &Arc<Self>,
        encoded: Vec<u8>,
        is_whole: bool,
        time: u64,
    ) -> Result<Finalizer, Refused> {
        let scope = self.scope.clone();
        let sequence = self.journal.push(scope, encoded.into(), 1, EntryState::Held, time)?;
        Ok(Finalizer::new(self.clone(), sequence, is_whole))
    }

    /// Waits until all that was put here so far is durable, or `deadline`.
    ///
    /// # Errors
    ///
    /// Why it isn't.
    pub(crate) fn sync(&self, deadline: Instant) -> Result<(), String> {
        self.journal.wait_durable(self.journal.pushed(), deadline)
    }

    /// Waits until what was written ahead is durable, before its spans leave: an older part of what
    /// was said that outlived a crash alone would be taken for the last word.
    pub(crate) fn sync_ahead(&self) {
        if !self.journal.is_in_trouble() {
            let _ = self.sync(clock::after(Duration::from_secs(1))); // the spans can't wait for ever
        }
    }

    /// As [`sync`](Self::sync), without blocking a thread.
    pub(crate) async fn synced(&self) -> Result<(), String> {
        let (sequence, mut before) = (self.journal.pushed(), None);
        std::future::poll_fn(|context: &mut Context<'_>| -> Poll<_> {
            self.journal.poll_durable(sequence, &mut before, context)
        })
        .await
    }

    /// Writes encoded spans without feedback that could not be delivered. They are durable afterwards.
    ///
    /// # Errors
    ///
    /// They found no place.
    pub(crate) fn spill(&self, batches: &[EncodedSpans]) -> io::Result<()> {
        let file = self.with_store(|store| store.spill(batches, clock::now()))?;
        // Not under the lock: a disk takes its time.
        file.map_or(Ok(()), |file| file.sync_data()).inspect_err(|_| {
            self.with_store(|store| store.spans.forget_unsynced(batches.len()));
        })
    }

    /// Takes encoded spans with feedback that could not be delivered. They are durable after the next
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// It finds no place.
    pub(crate) fn spill_feedback(&self, batch: &EncodedSpans) -> Result<(), Refused> {
        let spans = u32::try_from(batch.spans).unwrap_or(u32::MAX);
        let (scope, encoded) = (batch.scope.clone(), batch.encoded.clone());
        self.journal.push(scope, encoded, spans, EntryState::Ready, clock::now()).map(|_| ())
    }

    /// As [`sync`](Self::sync), for as long as a disk may take at the most.
    pub(crate) fn sync_soon(&self) -> Result<(), String> {
        self.sync(clock::after(Duration::from_secs(5)))
    }

    /// Spans that were dropped to keep within the limits since this was last asked, and how many of
    /// them carried feedback.
    pub(crate) fn lost(&self) -> (u64, u64) {
        self.levels.take_lost()
    }

    /// Takes what is ready to be sent: up to `most` bytes, or the spans of one entry that has more.
    pub(crate) fn take(&self, most: usize) -> Vec<(Place, EncodedSpans)> {
        let of_journal = self.journal.take_waiting(most);
        let mut batch: Vec<_> = of_journal
            .into_iter()
            .map(|entry| {
                (Place::Journal(entry.sequence), entry.into_encoded(self.resource.clone(), true))
            })
            .collect();
        batch.extend(self.with_store(|store| store.take(most, clock::now())));
        batch
    }

    /// The collector has taken what was taken from there.
    pub(crate) fn acknowledge(&self, places: &[Place], spans: u64) {
        self.levels.replayed(spans);
        self.settle(places, EntryState::Gone);
    }

    /// What was taken from there is to be sent later.
    pub(crate) fn put_back(&self, places: &[Place]) {
        self.settle(places, EntryState::Ready);
    }

    fn settle(&self, places: &[Place], state: EntryState) {
        let (mut feedback, mut spans) = (Vec::new(), Vec::new());
        for place in places {
            match *place {
                Place::Feedback(place) => feedback.push(place),
                Place::Spans(place) => spans.push(place),
                Place::Journal(sequence) => self.journal.settle(sequence, state),
            }
        }
        self.with_store(|store| store.settle(feedback, spans, state));
    }

    /// Writes encoded spans that the collector has refused for good to the `rejected` files, with the reason.
    /// `counted` says how many of their spans were rejected.
    ///
    /// # Errors
    ///
    /// They could not be written.
    pub(crate) fn reject(
        &self,
        batches: &[EncodedSpans],
        counted: u64,
        reason: &str,
    ) -> io::Result<()> {
        let file = self.with_store(|store| store.reject(batches, reason, clock::now()))?;
        file.map_or(Ok(()), |file| file.sync_data())?;
        self.levels.rejected(counted);
        Ok(())
    }

    /// Whether there is anything to send. Costs a look at two numbers.
    pub(crate) fn has_ready(&self) -> bool {
        self.levels.has_ready() || self.journal.has_waiting()
    }

    /// Whether what other processes have left is among it by now.
    pub(crate) fn has_looked(&self) -> bool {
        self.levels.has_looked()
    }

    pub(crate) fn reading(&self) -> Reading {
        self.levels.read(clock::now())
    }

    /// Does something with what is on disk, and lets those who ask know what is there then.
    fn with_store<T>(&self, then: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = crate::sync::lock(&self.store);
        let done = then(&mut store);
        self.levels.publish(&mut store);
        // At the start there may be no subscriber yet: what is found then is told of later.
        let notices = if is_heard() { store.notices() } else { Vec::new() };
        drop(store);
        // Not under the lock: a subscriber is foreign code.
        notices.iter().for_each(warn_of);
        done
    }

    /// The outbox's own thread: it writes the journal, and adopts what others have left.
    fn maintain(&self) {
        suppress::mark_this_thread();
        let tick = if self.writes_ahead() { TICK } else { ROUND };
        let mut next_round = Instant::now();
        let mut trouble = None;
        loop {
            if Instant::now() >= next_round {
                if let Err(error) = self.with_store(Store::maintain) {
                    warn_of_trouble(&error);
                }
                self.levels.looked_around();
                next_round = Instant::now() + ROUND;
            }
            let pushed = self.journal.pushed();
            let journal::Work { entries, released, left, is_last } = self.journal.work(tick);
            // All that was pushed by then is among the entries, or was settled before.
            let durable = entries.last().map_or(pushed, |(last, _)| pushed.max(last.sequence + 1));
            match self.write(&entries, &released, &left) {
                Ok(is_full) => {
                    self.journal.written(durable, is_full);
                    if trouble.take().is_some() {
                        tracing::info!(target: "tracing_feedback", "the outbox can be written again");
                    }
                }
                Err(error) if is_last => {
                    // It will be gone with the process.
                    let spans = entries.iter().map(|(entry, _)| u64::from(entry.spans)).sum();
                    self.levels.lose(spans, spans);
                    tracing::warn!(
                        target: "tracing_feedback",
                        "{spans} feedback could be neither delivered nor written: {error}"
                    );
                    self.journal.failed(Vec::new(), error.to_string());
                }
                Err(error) => {
                    // Once: it is tried again and again.
                    let is_new = trouble.replace(error.to_string()) != Some(error.to_string());
                    if is_new {
                        warn_of_trouble(&error);
                    }
                    self.journal.failed(entries, error.to_string());
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            if is_last {
                // What has waited for just that.
                let journal::Work { released, left, .. } = self.journal.work(Duration::ZERO);
                let _ = self.write(&[], &released, &left); // it writes nothing
                break;
            }
        }
        self.with_store(Store::leave);
    }

    /// Returns whether the outbox then holds as much feedback as it may.
    fn write(
        &self,
        entries: &[(Entry, EntryState)],
        released: &[u64],
        left: &[u64],
    ) -> io::Result<bool> {
        if entries.is_empty() && released.is_empty() && left.is_empty() {
            return Ok(self.levels.feedback_bytes() >= self.max_bytes);
        }
        let now = clock::now();
        let file = self.with_store(|store| store.write(entries, released, left, now))?;
        // Not under the lock either: a disk takes its time.
        if let Err(error) = file.map_or(Ok(()), |file| file.sync_data()) {
            self.with_store(|store| store.feedback.forget_unsynced(entries.len()));
            return Err(error);
        }
        Ok(self.levels.feedback_bytes() >= self.max_bytes)
    }

    /// Writes what is left, and ends. What is not delivered is sent by the next process.
    pub(crate) fn close(&self) {
        self.journal.close();
        let thread = crate::sync::lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join(); // it has nothing to say
        }
    }
}

/// Reads bytes as if they were a segment. Returns how many of them are no entry.
#[cfg(fuzzing)]
pub fn read_segment(bytes: &[u8]) -> usize {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok((header, start)) = format::Header::decode(&bytes) else { return bytes.len() };
    let acknowledged = format::Acknowledged::all(&bytes, header.marker).count();
    let found = format::entries(&bytes, start, header.marker);
    let damaged = found.map(|found| match found {
        format::Found::Entry(at, entry) => {
            assert!(at >= start && at + entry.size() <= bytes.len());
            0
        }
        format::Found::Damage(from, to) => to - from,
    });
    damaged.sum::<usize>() + acknowledged
}

/// Whether this thread has a subscriber.
fn is_heard() -> bool {
    use tracing::subscriber::NoSubscriber;
    tracing::dispatcher::get_default(|dispatch| !dispatch.is::<NoSubscriber>())
}

fn warn_of(notice: &Notice) {
    let file = notice.path.display();
    match &notice.what {
        Trouble::Damage(from, to) => tracing::warn!(
            target: "tracing_feedback",
            %file,
            offset = from,
            bytes = to - from,
            "a part of the outbox is damaged: what stood there is lost, the rest is sent"
        ),
        Trouble::Missing => tracing::warn!(
            target: "tracing_feedback",
            %file,
            "someone has deleted a segment of the outbox: what stood there is lost"
        ),
        Trouble::Unreadable(error) => tracing::warn!(
            target: "tracing_feedback",
            %file,
            "a segment of the outbox can't be read, and stays where it is: {error}"
        ),
    }
}

fn warn_of_trouble(error: &io::Error) {
    tracing::warn!(
        target: "tracing_feedback",
        "the outbox can't be written: {error}; feedback waits in memory meanwhile"
    );
}
