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
//! as a carrier of its own, and *held*: it has a [receipt](receipt) which travels with the span it
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
//! losing it means sending again. A receipt that is released acknowledges its entry; one that is
//! dropped makes it ready to be sent.
//!
//! # Delete
//!
//! A segment of which nothing is left to send is deleted, and the directory of a process with its
//! last segment, when the process ends. Segments that are too old are deleted and counted; for want
//! of room the oldest of `spans` are.

mod directory;
mod format;
mod journal;
mod line;
mod options;
mod receipt;
mod segment;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use directory::Directory;
use format::Entry;
use journal::Journal;
pub(crate) use journal::Refused;
use line::{Line, Notice, Taken, Trouble};
pub use options::{OutboxOptions, OutboxPolicy, OutboxPolicyError};
pub(crate) use receipt::{Receipt, Receipts};
use segment::Fate;

use crate::clock;
use crate::quiet;
use crate::shipment::Shipment;

/// How long an enrichment may wait to be written, if no one asks.
const TICK: Duration = Duration::from_millis(20);
/// How often directories of others are looked at, and what has arrived is deleted.
const ROUND: Duration = Duration::from_secs(10);

/// Where a shipment was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Feedback(line::Place),
    Spans(line::Place),
    /// It could not be written yet.
    Journal(u64),
}

/// One process's part of an outbox.
#[derive(Debug)]
pub(crate) struct Outbox {
    options: OutboxOptions,
    /// Of the spans of this process, as a [`Shipment`] has them.
    resource: Bytes,
    scope: Bytes,
    journal: Journal,
    store: Mutex<Store>,
    thread: Mutex<Option<JoinHandle<()>>>,
    levels: Levels,
}

/// What is on disk.
#[derive(Debug)]
struct Store {
    directory: Directory,
    feedback: Line,
    spans: Line,
    rejected: Line,
}

impl Store {
    fn bytes(&self) -> u64 {
        self.feedback.bytes() + self.spans.bytes() + self.rejected.bytes()
    }

    fn notices(&mut self) -> Vec<Notice> {
        let lines = [&mut self.feedback, &mut self.spans, &mut self.rejected];
        lines.into_iter().flat_map(|line| line.notices.drain(..)).collect()
    }
}

/// How much is on disk, for those who ask without waiting.
#[derive(Debug, Default)]
struct Levels {
    spans: AtomicU64,
    bytes: AtomicU64,
    /// Bytes of the segments with feedback.
    feedback: AtomicU64,
    /// When the oldest was written; 0 if there is none.
    oldest: AtomicU64,
    /// Whether anything is ready to be sent.
    ready: AtomicU64,
    rejected: AtomicU64,
    replayed: AtomicU64,
    /// Dropped to keep within the limits, and not told of yet.
    lost: AtomicU64,
    lost_feedback: AtomicU64,
}

/// How much waits in an outbox, and what became of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<Duration>,
    pub(crate) rejected: u64,
    pub(crate) replayed: u64,
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
        let directory = Directory::create(&options.path)?;
        let line = |path: &Path, prefix: String| Line::create(path.to_owned(), prefix);
        let own = directory.path();
        let prefix = format!("{}-", directory.name());
        let store = Store {
            feedback: line(&own.join(directory::FEEDBACK), String::new())?,
            spans: line(&own.join(directory::SPANS), String::new())?,
            rejected: line(&directory.rejected(), prefix)?,
            directory,
        };
        let outbox = Arc::new(Self {
            options,
            resource: resource.into(),
            scope: scope.into(),
            journal: Journal::default(),
            store: Mutex::new(store),
            thread: Mutex::default(),
            levels: Levels::default(),
        });
        let thread = std::thread::Builder::new().name("tracing-feedback-outbox".to_owned());
        let thread = thread.spawn({
            let outbox = outbox.clone();
            move || outbox.tend()
        })?;
        *crate::sync::lock(&outbox.thread) = Some(thread);
        Ok(outbox)
    }

    /// Whether enrichments are written when they are made.
    pub(crate) fn writes_ahead(&self) -> bool {
        self.options.policy == OutboxPolicy::WriteAhead
    }

    /// Takes a carrier that is on its way by itself, or will be with the span it speaks of, and gives
    /// a receipt for it. `is_whole` says that the carrier itself is on its way, `time` when it was
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
    ) -> Result<Receipt, Refused> {
        let scope = self.scope.clone();
        let sequence = self.journal.push(scope, encoded.into(), 1, Fate::Held, time)?;
        Ok(Receipt::new(self.clone(), sequence, is_whole))
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
    #[cfg_attr(not(feature = "axum"), allow(dead_code))]
    pub(crate) async fn synced(&self) -> Result<(), String> {
        let (sequence, mut before) = (self.journal.pushed(), None);
        std::future::poll_fn(|context: &mut Context<'_>| -> Poll<_> {
            self.journal.poll_durable(sequence, &mut before, context)
        })
        .await
    }

    /// Writes shipments without feedback that could not be delivered. They are durable afterwards.
    ///
    /// # Errors
    ///
    /// They found no place.
    pub(crate) fn spill(&self, shipments: &[Shipment]) -> io::Result<()> {
        let Some(first) = shipments.first() else { return Ok(()) };
        let now = clock::now();
        let needed: u64 = shipments.iter().map(|shipment| shipment.encoded.len() as u64).sum();
        let file = self.with_store(|store| {
            self.make_room(store, needed, now);
            if store.bytes() + needed > self.options.max_bytes {
                return Err(io::Error::other("the outbox is full"));
            }
            for of_one in shipments.chunk_by(|one, next| one.resource == next.resource) {
                let entries = of_one.iter().map(|shipment| (entry(shipment, now), Fate::Ready));
                let entries: Vec<_> = entries.collect();
                let resource = of_one.first().unwrap_or(first).resource.clone();
                store.spans.append(&entries, &resource, "", now)?;
            }
            Ok(store.spans.file())
        })?;
        // Not under the lock: a disk takes its time.
        file.map_or(Ok(()), |file| file.sync_data()).inspect_err(|_| {
            self.with_store(|store| store.spans.distrust(shipments.len()));
        })
    }

    /// Takes a shipment with feedback that could not be delivered. It is durable after the next
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// It finds no place.
    pub(crate) fn spill_feedback(&self, shipment: &Shipment) -> Result<(), Refused> {
        let spans = u32::try_from(shipment.spans).unwrap_or(u32::MAX);
        let (scope, encoded) = (shipment.scope.clone(), shipment.encoded.clone());
        self.journal.push(scope, encoded, spans, Fate::Ready, clock::now()).map(|_| ())
    }

    /// As [`sync`](Self::sync), for as long as a disk may take at the most.
    pub(crate) fn sync_soon(&self) -> Result<(), String> {
        self.sync(clock::after(Duration::from_secs(5)))
    }

    /// Deletes what is too old, and for want of room the oldest spans without feedback.
    fn make_room(&self, store: &mut Store, needed: u64, now: u64) {
        let too_old = |line: &Line, age: Duration| {
            let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            line.oldest().is_some_and(|(_, newest)| now.saturating_sub(newest) > age)
        };
        let (mut lost, mut lost_feedback) = (0, 0);
        while too_old(&store.spans, self.options.max_age) {
            let Some(spans) = store.spans.drop_oldest() else { break };
            lost += spans;
        }
        while too_old(&store.feedback, self.options.max_feedback_age) {
            let Some(spans) = store.feedback.drop_oldest() else { break };
            lost += spans;
            lost_feedback += spans;
        }
        while store.bytes() + needed > self.options.max_bytes {
            let Some(spans) = store.spans.drop_oldest() else { break };
            lost += spans;
        }
        self.lose(lost, lost_feedback);
    }

    fn lose(&self, spans: u64, feedback: u64) {
        self.levels.lost.fetch_add(spans, Ordering::Relaxed);
        self.levels.lost_feedback.fetch_add(feedback, Ordering::Relaxed);
    }

    /// Spans that were dropped to keep within the limits since this was last asked, and how many of
    /// them carried feedback.
    pub(crate) fn lost(&self) -> (u64, u64) {
        let take = |level: &AtomicU64| level.swap(0, Ordering::Relaxed);
        (take(&self.levels.lost), take(&self.levels.lost_feedback))
    }

    /// Takes what is ready to be sent: up to `most` bytes, or one shipment that has more.
    pub(crate) fn take(&self, most: usize) -> Vec<(Place, Shipment)> {
        let of_journal = self.journal.take_waiting(most);
        let mut batch: Vec<_> = of_journal
            .into_iter()
            .map(|entry| {
                (Place::Journal(entry.sequence), shipment(entry, self.resource.clone(), true))
            })
            .collect();
        let mut taken = Vec::new();
        let feedback = self.with_store(|store| {
            self.make_room(store, 0, clock::now());
            store.feedback.take(most, &mut taken);
            let feedback = taken.len();
            store.spans.take(most, &mut taken);
            feedback
        });
        batch.extend(taken.into_iter().enumerate().map(
            |(at, Taken { place, resource, entry })| {
                let is_feedback = at < feedback;
                let place = if is_feedback { Place::Feedback(place) } else { Place::Spans(place) };
                (place, shipment(entry, resource, is_feedback))
            },
        ));
        batch
    }

    /// The collector has taken what was taken from there.
    pub(crate) fn acknowledge(&self, places: &[Place], spans: u64) {
        self.levels.replayed.fetch_add(spans, Ordering::Relaxed);
        self.settle(places, Fate::Gone);
    }

    /// What was taken from there is to be sent later.
    pub(crate) fn put_back(&self, places: &[Place]) {
        self.settle(places, Fate::Ready);
    }

    fn settle(&self, places: &[Place], fate: Fate) {
        let (mut feedback, mut spans) = (Vec::new(), Vec::new());
        for place in places {
            match *place {
                Place::Feedback(place) => feedback.push(place),
                Place::Spans(place) => spans.push(place),
                Place::Journal(sequence) => self.journal.settle(sequence, fate),
            }
        }
        self.with_store(|store| {
            store.feedback.settle(feedback, fate);
            store.spans.settle(spans, fate);
        });
    }

    /// Writes shipments that the collector has refused for good to the `rejected` files, with its reason.
    /// `counted` says how many of their spans were rejected.
    ///
    /// # Errors
    ///
    /// They could not be written.
    pub(crate) fn reject(
        &self,
        shipments: &[Shipment],
        counted: u64,
        reason: &str,
    ) -> io::Result<()> {
        let now = clock::now();
        let file = self.with_store(|store| {
            for of_one in shipments.chunk_by(|one, next| one.resource == next.resource) {
                let entries = of_one.iter().map(|shipment| (entry(shipment, now), Fate::Held));
                let entries: Vec<_> = entries.collect();
                let resource = of_one.first().map_or(&self.resource, |shipment| &shipment.resource);
                store.rejected.append(&entries, resource, reason, now)?;
            }
            Ok::<_, io::Error>(store.rejected.file())
        })?;
        file.map_or(Ok(()), |file| file.sync_data())?;
        self.levels.rejected.fetch_add(counted, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there is anything to send. Costs a look at two numbers.
    pub(crate) fn has_ready(&self) -> bool {
        self.levels.ready.load(Ordering::Relaxed) > 0 || self.journal.has_waiting()
    }

    pub(crate) fn reading(&self) -> Reading {
        let load = |level: &AtomicU64| level.load(Ordering::Relaxed);
        let oldest = load(&self.levels.oldest);
        Reading {
            spans: load(&self.levels.spans),
            bytes: load(&self.levels.bytes),
            oldest: (oldest > 0).then(|| Duration::from_nanos(clock::now().saturating_sub(oldest))),
            rejected: load(&self.levels.rejected),
            replayed: load(&self.levels.replayed),
        }
    }

    /// Does something with what is on disk, and lets those who ask know what is there then.
    fn with_store<T>(&self, then: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = crate::sync::lock(&self.store);
        let done = then(&mut store);
        self.publish(&store);
        let (spans, feedback) = (store.spans.take_lost(), store.feedback.take_lost());
        self.lose(spans + feedback, feedback);
        // At the start there may be no subscriber yet: what is found then is told of later.
        let notices = if is_heard() { store.notices() } else { Vec::new() };
        drop(store);
        // Not under the lock: a subscriber is foreign code.
        notices.iter().for_each(warn_of);
        done
    }

    fn publish(&self, store: &Store) {
        let set = |level: &AtomicU64, value: u64| level.store(value, Ordering::Relaxed);
        let oldest = [&store.feedback, &store.spans].into_iter().filter_map(Line::oldest);
        set(&self.levels.spans, store.feedback.spans() + store.spans.spans());
        set(&self.levels.bytes, store.bytes());
        set(&self.levels.feedback, store.feedback.bytes());
        set(&self.levels.oldest, oldest.map(|(created, _)| created).min().unwrap_or(0));
        let has_ready = store.feedback.has_ready() || store.spans.has_ready();
        set(&self.levels.ready, has_ready.into());
    }

    /// The outbox's own thread: it writes the journal, and adopts what others have left.
    fn tend(&self) {
        quiet::mark_this_thread();
        let tick = if self.writes_ahead() { TICK } else { ROUND };
        let mut next_round = Instant::now();
        let mut trouble = None;
        loop {
            if Instant::now() >= next_round {
                self.go_round();
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
                    self.lose(spans, spans);
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
        self.with_store(|store| {
            store.feedback.tidy();
            store.spans.tidy();
            store.directory.leave();
        });
    }

    /// Returns whether the outbox then holds as much feedback as it may.
    fn write(&self, entries: &[(Entry, Fate)], released: &[u64], left: &[u64]) -> io::Result<bool> {
        if entries.is_empty() && released.is_empty() && left.is_empty() {
            let feedback = self.levels.feedback.load(Ordering::Relaxed);
            return Ok(feedback >= self.options.max_bytes);
        }
        let now = clock::now();
        let needed = entries.iter().map(|(entry, _)| entry.size() as u64).sum();
        let file = self.with_store(|store| {
            // Also where nothing can be written.
            store.feedback.settle_sequences(released, Fate::Gone);
            store.feedback.settle_sequences(left, Fate::Ready);
            if entries.is_empty() {
                return Ok(None);
            }
            self.make_room(store, needed, now);
            store.feedback.append(entries, &self.resource, "", now)?;
            Ok::<_, io::Error>(store.feedback.file())
        })?;
        // Not under the lock either: a disk takes its time.
        if let Err(error) = file.map_or(Ok(()), |file| file.sync_data()) {
            self.with_store(|store| store.feedback.distrust(entries.len()));
            return Err(error);
        }
        Ok(self.levels.feedback.load(Ordering::Relaxed) >= self.options.max_bytes)
    }

    /// Adopts what others have left, and deletes what no one waits for.
    fn go_round(&self) {
        let result = self.with_store(|store| {
            store.feedback.tidy();
            store.spans.tidy();
            let (bytes, age) = (self.options.max_bytes / 4, self.options.max_feedback_age);
            let mut result = store.directory.trim_rejected(bytes, age);
            store.rejected.forget_missing();

            for abandoned in store.directory.abandoned()? {
                let feedback = store.feedback.adopt(&abandoned.path.join(directory::FEEDBACK));
                let spans = store.spans.adopt(&abandoned.path.join(directory::SPANS));
                match feedback.and(spans) {
                    Ok(()) => abandoned.remove(),
                    // It must not keep the others from being adopted.
                    Err(error) => result = Err(error),
                }
            }
            result
        });
        if let Err(error) = result {
            warn_of_trouble(&error);
        }
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

fn entry(shipment: &Shipment, time: u64) -> Entry {
    let Shipment { scope, encoded, spans, .. } = shipment;
    let spans = u32::try_from(*spans).unwrap_or(u32::MAX);
    Entry { sequence: 0, time, spans, scope: scope.clone(), encoded: encoded.clone() }
}

fn shipment(entry: Entry, resource: Bytes, is_feedback: bool) -> Shipment {
    let Entry { scope, encoded, spans, .. } = entry;
    let spans = spans as usize;
    Shipment { resource, scope, encoded, spans, feedback: if is_feedback { spans } else { 0 } }
}

/// A number that no one can guess.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(clock::now())
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
