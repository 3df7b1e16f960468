//! The journal: feedback on its way to disk, and callers that wait until it is durable.
//!
//! The threads of the service only append feedback here. One thread writes it, and makes all
//! entries that have gathered meanwhile durable with one sync.
//!
//! # Invariants
//!
//! - Entries are written in the order of their sequence.
//! - `durable` is the sequence of the first entry that may still be lost by a crash.
//! - A held entry has exactly one [`Finalizer`](super::Finalizer), which releases it or leaves it
//!   to the outbox to send.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::error::PersistError;
use super::format::SegmentEntry;
use super::segment::EntryState;
use crate::suppress;
use crate::sync::lock_unless_orphaned;

/// The most bytes that may wait in memory while the disk can't be written.
const MOST_WAITING: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<JournalState>,
    /// Wakes the thread that writes: a caller waits for it.
    work: Condvar,
    /// Wakes waiting callers: entries were written, or writing has failed.
    progress: Condvar,
    /// Wakes the thread that ends waits at their deadlines: there is an earlier deadline, or the journal has ended.
    expiry: Condvar,
}

#[derive(Debug, Default)]
struct JournalState {
    next: u64,
    waiting: VecDeque<(SegmentEntry, EntryState)>,
    bytes: usize,
    /// Set by the thread that writes: the outbox holds as much feedback as it may.
    is_full: bool,
    durable: u64,
    /// The sequences of written entries that need not be sent any more.
    released: Vec<u64>,
    /// The sequences of written entries that the outbox has to send.
    unreleased: Vec<u64>,
    /// The sequences of entries to be released when a later entry is durable, and of that entry.
    superseded: Vec<(u64, u64)>,
    /// Entries are written without delay until those below this sequence are durable.
    requested: u64,
    attempts: u64,
    error: Option<PersistError>,
    /// The tasks that poll a [`Durable`], by its id.
    tasks: HashMap<u64, Task>,
    next_task: u64,
    /// When the thread that ends waits checks their deadlines next; `None` while there is no such thread.
    next_expiry: Option<Instant>,
    closed: bool,
    /// Whether nothing is written any more.
    ended: bool,
}

/// A task that waits.
#[derive(Debug)]
struct Task {
    deadline: Instant,
    waker: Waker,
}

/// The next work of the thread that writes.
pub(super) struct JournalWork {
    pub(super) entries: Vec<(SegmentEntry, EntryState)>,
    pub(super) released: Vec<u64>,
    pub(super) unreleased: Vec<u64>,
    pub(super) is_last: bool,
}

/// Why the journal refuses an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PushError {
    #[error("it holds as much feedback as it may")]
    Full,
    #[error("it is closed")]
    Closed,
}

impl Journal {
    /// Appends an entry, and returns its sequence.
    pub(super) fn push(
        &self,
        scope: Bytes,
        encoded: Bytes,
        spans: u32,
        entry_state: EntryState,
        time: u64,
    ) -> Result<u64, PushError> {
        let mut state = self.lock();
        let size = scope.len() + encoded.len();
        if state.closed {
            return Err(PushError::Closed);
        }
        if state.is_full || state.bytes + size > MOST_WAITING {
            return Err(PushError::Full);
        }
        let sequence = state.next;
        state.next += 1;
        state.bytes += size;
        state
            .waiting
            .push_back((SegmentEntry { sequence, time, spans, scope, encoded }, entry_state));
        Ok(sequence)
    }

    /// The bytes of the entries that wait to be written.
    pub(super) fn waiting_bytes(&self) -> u64 {
        lock_unless_orphaned(&self.state).map_or(0, |state| state.bytes as u64)
    }

    /// Sets the state of an entry: it has arrived, or the outbox has to send it.
    pub(super) fn settle(&self, sequence: u64, entry_state: EntryState) {
        if let Some(mut state) = lock_unless_orphaned(&self.state) {
            state.settle(sequence, entry_state);
        }
    }

    /// Marks an entry as replaced by the later entry `by`. It is kept until `by` is durable.
    pub(super) fn supersede(&self, sequence: u64, by: u64) {
        if let Some(mut state) = lock_unless_orphaned(&self.state) {
            state.supersede(sequence, by);
        }
    }

    /// The sequence of the next entry: all entries pushed so far are below it.
    pub(super) fn pushed(&self) -> u64 {
        self.lock().next
    }

    /// Waits up to `tick` for a sync request, then takes the entries to be written.
    pub(super) fn next_work(&self, tick: Duration) -> JournalWork {
        let mut state = self.lock();
        if !state.closed && state.requested <= state.durable {
            state = wait(&self.work, state, tick);
        }
        state.bytes = 0;
        let durable = state.durable;
        let is_over = |(_, by): &mut (u64, u64)| *by < durable;
        let over: Vec<_> = state.superseded.extract_if(.., is_over).collect();
        state.released.extend(over.into_iter().map(|(sequence, _)| sequence));
        let entries = state
            .waiting
            .drain(..)
            .filter(|(_, entry_state)| *entry_state != EntryState::Gone)
            .collect();
        JournalWork {
            entries,
            released: std::mem::take(&mut state.released),
            unreleased: std::mem::take(&mut state.unreleased),
            is_last: state.closed,
        }
    }

    /// All entries below `durable` are durable.
    pub(super) fn written(&self, durable: u64, is_full: bool) {
        let mut state = self.lock();
        state.attempts += 1;
        state.durable = state.durable.max(durable);
        state.is_full = is_full;
        state.error = None;
        self.announce(state);
    }

    /// Puts entries that could not be written back into the journal.
    pub(super) fn failed(&self, entries: Vec<(SegmentEntry, EntryState)>, error: PersistError) {
        let mut state = self.lock();
        state.attempts += 1;
        state.error = Some(error);
        state.requested = state.durable;
        for entry in entries.into_iter().rev() {
            state.bytes += entry.0.scope.len() + entry.0.encoded.len();
            state.waiting.push_front(entry);
        }
        // Applies the changes of state that came meanwhile.
        let released = std::mem::take(&mut state.released);
        released.into_iter().for_each(|sequence| state.settle(sequence, EntryState::Gone));
        let unreleased = std::mem::take(&mut state.unreleased);
        unreleased.into_iter().for_each(|sequence| state.settle(sequence, EntryState::Ready));
        let superseded = std::mem::take(&mut state.superseded);
        superseded.into_iter().for_each(|(sequence, by)| state.supersede(sequence, by));
        self.announce(state);
    }

    /// Ends the journal: nothing is written any more, and waiting callers return at once.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.announce(state);
    }

    fn announce(&self, mut state: MutexGuard<'_, JournalState>) {
        let tasks = std::mem::take(&mut state.tasks);
        let ended = state.ended;
        drop(state);
        self.progress.notify_all();
        if ended {
            self.expiry.notify_one();
        }
        tasks.into_values().for_each(|task| task.waker.wake());
    }

    /// Waits until all entries below `sequence` are durable, or until `deadline`.
    ///
    /// # Errors
    ///
    /// The reason why they aren't durable.
    pub(super) fn wait_durable(
        &self,
        sequence: u64,
        deadline: Instant,
    ) -> Result<(), PersistError> {
        let mut state = self.lock();
        let before = state.attempts;
        loop {
            if let Some(result) = state.outcome(sequence, before) {
                return result;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(PersistError::TimedOut);
            }
            state.requested = state.requested.max(sequence);
            self.work.notify_one();
            state = wait(&self.progress, state, left);
        }
    }

    /// As [`wait_durable`](Self::wait_durable), without blocking a thread.
    pub(super) fn durable(self: &Arc<Self>, sequence: u64, deadline: Instant) -> Durable {
        let mut state = self.lock();
        let task = state.next_task;
        state.next_task += 1;
        let before = state.attempts;
        drop(state);
        Durable { journal: self.clone(), task, sequence, before, deadline }
    }

    /// Lets a thread wake this journal's tasks at their deadlines. The thread is started for the first task,
    /// and ends at a deadline after which no task waits.
    ///
    /// # Errors
    ///
    /// The thread can't be started.
    fn expire_by(self: &Arc<Self>, deadline: Instant) -> Result<(), PersistError> {
        let mut state = self.lock();
        if let Some(next) = &mut state.next_expiry {
            if deadline < *next {
                *next = deadline;
                drop(state);
                self.expiry.notify_one();
            }
            return Ok(());
        }
        state.next_expiry = Some(deadline);
        drop(state);
        let thread = std::thread::Builder::new().name("tracing-feedback-expiry".to_owned());
        let journal = self.clone();
        let started = thread.spawn(move || {
            suppress::mark_this_thread();
            journal.expire();
        });
        match started {
            Ok(_) => Ok(()),
            Err(_) => {
                // Tasks that began to wait meanwhile have seen a deadline set, and so started no thread.
                // They are woken, and each tries to start one when it is polled.
                let mut state = self.lock();
                state.next_expiry = None;
                let tasks = std::mem::take(&mut state.tasks);
                drop(state);
                tasks.into_values().for_each(|task| task.waker.wake());
                Err(PersistError::TimedOut)
            }
        }
    }

    /// Wakes tasks at their deadlines, until no task waits.
    fn expire(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let over: Vec<_> = state.tasks.extract_if(|_, task| task.deadline <= now).collect();
            let next = state.tasks.values().map(|task| task.deadline).min();
            if !over.is_empty() {
                drop(state);
                over.into_iter().for_each(|(_, task)| task.waker.wake());
                state = self.lock();
                continue;
            }
            state.next_expiry = next;
            let Some(next) = next else { return };
            state = wait(&self.expiry, state, next - now);
        }
    }

    /// Entries that are ready and can't be written, to be sent from memory: up to `most` bytes.
    pub(super) fn take_waiting(&self, most: usize) -> Vec<SegmentEntry> {
        let mut state = self.lock();
        if state.error.is_none() {
            return Vec::new(); // they will be written soon, and are then taken from disk
        }
        let mut bytes = 0;
        let mut taken = Vec::new();
        for (entry, entry_state) in
            state.waiting.iter_mut().filter(|(_, entry_state)| *entry_state == EntryState::Ready)
        {
            bytes += entry.size();
            if bytes > most && !taken.is_empty() {
                break;
            }
            *entry_state = EntryState::Sent;
            taken.push(entry.clone());
        }
        taken
    }

    pub(super) fn is_failing(&self) -> bool {
        self.lock().error.is_some()
    }

    pub(super) fn has_waiting(&self) -> bool {
        let state = self.lock();
        state.error.is_some()
            && state.waiting.iter().any(|(_, entry_state)| *entry_state == EntryState::Ready)
    }

    /// Refuses further entries, and wakes the thread that writes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, JournalState> {
        crate::sync::lock(&self.state)
    }
}

/// Ready when all entries below a sequence are durable, when writing has failed, or at the deadline.
#[derive(Debug)]
pub(super) struct Durable {
    journal: Arc<Journal>,
    /// Its id among [`JournalState::tasks`].
    task: u64,
    sequence: u64,
    /// Attempts made before the wait began, whose errors don't end it.
    before: u64,
    deadline: Instant,
}

impl Future for Durable {
    type Output = Result<(), PersistError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { ref journal, task, sequence, before, deadline } = *self;
        let waker = context.waker().clone(); // foreign code, so not under the lock
        let mut state = journal.lock();
        if let Some(result) = state.outcome(sequence, before) {
            return Poll::Ready(result);
        }
        if deadline <= Instant::now() {
            return Poll::Ready(Err(PersistError::TimedOut));
        }
        state.requested = state.requested.max(sequence);
        let former = state.tasks.insert(task, Task { deadline, waker });
        drop(state);
        drop(former);
        journal.work.notify_one();
        match journal.expire_by(deadline) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl std::ops::Drop for Durable {
    fn drop(&mut self) {
        let former = lock_unless_orphaned(&self.journal.state)
            .map(|mut state| state.tasks.remove(&self.task));
        drop(former); // not under the lock
    }
}

impl JournalState {
    fn settle(&mut self, sequence: u64, entry_state: EntryState) {
        match self.waiting_at(sequence) {
            Some(at) => self.waiting[at].1 = entry_state,
            None if entry_state == EntryState::Gone => self.released.push(sequence),
            None => self.unreleased.push(sequence),
        }
        if entry_state != EntryState::Gone {
            return;
        }
        // Releases the entries that it has replaced, too.
        let mut gone = vec![sequence];
        while let Some(sequence) = gone.pop() {
            for (replaced, _) in self.superseded.extract_if(.., |(_, by)| *by == sequence) {
                self.released.push(replaced);
                gone.push(replaced);
            }
        }
    }

    fn supersede(&mut self, sequence: u64, by: u64) {
        match self.waiting_at(sequence) {
            // The entry isn't durable itself, and its replacement follows soon after it.
            Some(at) => self.waiting[at].1 = EntryState::Gone,
            None => self.superseded.push((sequence, by)),
        }
    }

    fn waiting_at(&self, sequence: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&sequence, |(entry, _)| entry.sequence).ok()
    }

    /// The result of a wait for `sequence` that began after `before` attempts; `None` while it
    /// lasts.
    fn outcome(&self, sequence: u64, before: u64) -> Option<Result<(), PersistError>> {
        if self.durable >= sequence {
            return Some(Ok(()));
        }
        if self.ended {
            return Some(self.error.clone().map_or(Ok(()), Err));
        }
        let error = self.error.as_ref().filter(|_| self.attempts > before)?;
        Some(Err(error.clone()))
    }
}

fn wait<'s>(
    condvar: &Condvar,
    state: MutexGuard<'s, JournalState>,
    timeout: Duration,
) -> MutexGuard<'s, JournalState> {
    match condvar.wait_timeout(state, timeout) {
        Ok((state, _)) => state,
        Err(poisoned) => poisoned.into_inner().0,
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;

    /// A journal with one entry, which nothing writes.
    fn journal() -> Arc<Journal> {
        let journal = Arc::new(Journal::default());
        let encoded = Bytes::from_static(b"feedback");
        journal.push(Bytes::new(), encoded, 1, EntryState::Held, 1).unwrap();
        journal
    }

    fn after(limit: Duration) -> Instant {
        Instant::now() + limit
    }

    /// The deadline of a wait that ends before.
    fn late() -> Instant {
        after(Duration::from_secs(20))
    }

    #[test]
    fn a_wait_for_a_disk_that_hangs_ends_at_its_deadline() {
        let journal = journal();
        let late = late();
        let mut patient = std::pin::pin!(journal.durable(1, late));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(patient.as_mut().poll(&mut context), Poll::Pending);
        for _ in 0..2 {
            // Its deadline is earlier than the one that is waited for already.
            let soon = after(Duration::from_millis(20));
            assert_eq!(block_on(journal.durable(1, soon)), Err(PersistError::TimedOut));
            assert!((soon..late).contains(&Instant::now()));
            while journal.lock().next_expiry != Some(late) {
                std::thread::yield_now();
            }
        }
        assert_eq!(journal.wait_durable(1, Instant::now()), Err(PersistError::TimedOut));
        assert_eq!(patient.as_mut().poll(&mut context), Poll::Pending);
        journal.written(1, false);
        assert_eq!(patient.as_mut().poll(&mut context), Poll::Ready(Ok(())));
    }

    #[test]
    fn a_task_is_known_once_and_only_while_it_waits() {
        let journal = journal();
        let mut waits = Box::pin(journal.durable(1, late()));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert_eq!(waits.as_mut().poll(&mut context), Poll::Pending);
        }
        assert_eq!(journal.lock().tasks.len(), 1);
        drop(waits);
        assert_eq!(journal.lock().tasks.len(), 0);
    }

    #[test]
    fn nothing_waits_for_a_journal_that_has_ended() {
        let journal = journal();
        let late = late();
        let full = PersistError::of_write(&std::io::ErrorKind::StorageFull.into());
        journal.failed(Vec::new(), full.clone());
        journal.end();
        assert_eq!(journal.wait_durable(1, late), Err(full.clone()));
        assert_eq!(block_on(journal.durable(1, late)), Err(full));
    }
}
