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

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::error::PersistError;
use super::format::SegmentEntry;
use super::segment::EntryState;

/// The most bytes that may wait in memory while the disk can't be written.
const MOST_WAITING: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<JournalState>,
    /// Wakes the thread that writes: a caller waits for it.
    work: Condvar,
    /// Wakes waiting callers: entries were written, or writing has failed.
    progress: Condvar,
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
    wakers: Vec<Waker>,
    closed: bool,
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

    /// Sets the state of an entry: it has arrived, or the outbox has to send it.
    pub(super) fn settle(&self, sequence: u64, entry_state: EntryState) {
        self.lock().settle(sequence, entry_state);
    }

    /// Marks an entry as replaced by the later entry `by`. It is kept until `by` is durable.
    pub(super) fn supersede(&self, sequence: u64, by: u64) {
        self.lock().supersede(sequence, by);
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

    fn announce(&self, mut state: MutexGuard<'_, JournalState>) {
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.progress.notify_all();
        wakers.into_iter().for_each(Waker::wake);
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

    /// As [`wait_durable`](Self::wait_durable), for a future: `before` is kept between its polls.
    pub(super) fn poll_durable(
        &self,
        sequence: u64,
        before: &mut Option<u64>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), PersistError>> {
        let mut state = self.lock();
        let before = *before.get_or_insert(state.attempts);
        if let Some(result) = state.outcome(sequence, before) {
            return Poll::Ready(result);
        }
        state.requested = state.requested.max(sequence);
        state.wakers.push(context.waker().clone());
        drop(state);
        self.work.notify_one();
        Poll::Pending
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
