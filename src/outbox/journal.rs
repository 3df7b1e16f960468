//! The journal: feedback on its way to disk, and those who wait until it is there.
//!
//! The threads that bring feedback only put it here; one thread writes it, and makes what has come
//! meanwhile durable together.
//!
//! # Invariants
//!
//! - Entries are written in the order of their sequence.
//! - `durable` is the sequence of the first entry that may still be lost by a crash.
//! - An entry that is held has exactly one [`Finalizer`](super::Finalizer), by which it is released or
//!   left to the outbox.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::format::Entry;
use super::segment::EntryState;

/// Bytes that may wait to be written, while the disk can't take them.
const MOST_WAITING: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<State>,
    /// For the thread that writes: someone waits for it.
    work: Condvar,
    /// For those who wait: it has written, or could not.
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: VecDeque<(Entry, EntryState)>,
    bytes: usize,
    /// Set by the thread that writes: the outbox holds as much feedback as it may.
    is_full: bool,
    durable: u64,
    /// Entries written before that have a new entry_state.
    released: Vec<u64>,
    left: Vec<u64>,
    /// Entries that are gone as soon as another one is durable: each with that one's sequence.
    superseded: Vec<(u64, u64)>,
    /// Write without delay until this one is durable.
    demanded: u64,
    attempts: u64,
    trouble: Option<String>,
    wakers: Vec<Waker>,
    closed: bool,
}

/// What the thread that writes has to do.
pub(super) struct Work {
    pub(super) entries: Vec<(Entry, EntryState)>,
    pub(super) released: Vec<u64>,
    pub(super) left: Vec<u64>,
    pub(super) is_last: bool,
}

/// Why the journal takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it holds as much feedback as it may")]
    Full,
    #[error("it is closed")]
    Closed,
}

impl Journal {
    /// Takes an entry, and returns its sequence.
    pub(super) fn push(
        &self,
        scope: Bytes,
        encoded: Bytes,
        spans: u32,
        entry_state: EntryState,
        time: u64,
    ) -> Result<u64, Refused> {
        let mut state = self.lock();
        let size = scope.len() + encoded.len();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.is_full || state.bytes + size > MOST_WAITING {
            return Err(Refused::Full);
        }
        let sequence = state.next;
        state.next += 1;
        state.bytes += size;
        state.waiting.push_back((Entry { sequence, time, spans, scope, encoded }, entry_state));
        Ok(sequence)
    }

    /// The entry has arrived, or is the outbox's to send.
    pub(super) fn settle(&self, sequence: u64, entry_state: EntryState) {
        self.lock().settle(sequence, entry_state);
    }

    /// The entry has been replaced by a later one, and is needed until that is durable.
    pub(super) fn supersede(&self, sequence: u64, by: u64) {
        self.lock().supersede(sequence, by);
    }

    /// The sequence below which is all that was pushed so far.
    pub(super) fn pushed(&self) -> u64 {
        self.lock().next
    }

    /// What there is to write, after waiting for a demand for `tick`.
    pub(super) fn work(&self, tick: Duration) -> Work {
        let mut state = self.lock();
        if !state.closed && state.demanded <= state.durable {
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
        Work {
            entries,
            released: std::mem::take(&mut state.released),
            left: std::mem::take(&mut state.left),
            is_last: state.closed,
        }
    }

    /// All entries below `durable` are durable.
    pub(super) fn written(&self, durable: u64, is_full: bool) {
        let mut state = self.lock();
        state.attempts += 1;
        state.durable = state.durable.max(durable);
        state.is_full = is_full;
        state.trouble = None;
        self.announce(state);
    }

    /// The entries could not be written: they wait here again.
    pub(super) fn failed(&self, entries: Vec<(Entry, EntryState)>, trouble: String) {
        let mut state = self.lock();
        state.attempts += 1;
        state.trouble = Some(trouble);
        state.demanded = state.durable;
        for entry in entries.into_iter().rev() {
            state.bytes += entry.0.scope.len() + entry.0.encoded.len();
            state.waiting.push_front(entry);
        }
        // What became of them while they were away.
        let released = std::mem::take(&mut state.released);
        released.into_iter().for_each(|sequence| state.settle(sequence, EntryState::Gone));
        let left = std::mem::take(&mut state.left);
        left.into_iter().for_each(|sequence| state.settle(sequence, EntryState::Ready));
        let superseded = std::mem::take(&mut state.superseded);
        superseded.into_iter().for_each(|(sequence, by)| state.supersede(sequence, by));
        self.announce(state);
    }

    fn announce(&self, mut state: MutexGuard<'_, State>) {
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.progress.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until all below `sequence` is durable, or `deadline`.
    ///
    /// # Errors
    ///
    /// Why it isn't.
    pub(super) fn wait_durable(&self, sequence: u64, deadline: Instant) -> Result<(), String> {
        let mut state = self.lock();
        let before = state.attempts;
        loop {
            if let Some(result) = state.outcome(sequence, before) {
                return result;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the disk did not take it in time".to_owned());
            }
            state.demanded = state.demanded.max(sequence);
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
    ) -> Poll<Result<(), String>> {
        let mut state = self.lock();
        let before = *before.get_or_insert(state.attempts);
        if let Some(result) = state.outcome(sequence, before) {
            return Poll::Ready(result);
        }
        state.demanded = state.demanded.max(sequence);
        state.wakers.push(context.waker().clone());
        drop(state);
        self.work.notify_one();
        Poll::Pending
    }

    /// Entries that are ready and can't be written, to be sent from memory: up to `most` bytes.
    pub(super) fn take_waiting(&self, most: usize) -> Vec<Entry> {
        let mut state = self.lock();
        if state.trouble.is_none() {
            return Vec::new(); // they are about to be written, and then taken from there
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

    pub(super) fn is_in_trouble(&self) -> bool {
        self.lock().trouble.is_some()
    }

    pub(super) fn has_waiting(&self) -> bool {
        let state = self.lock();
        state.trouble.is_some()
            && state.waiting.iter().any(|(_, entry_state)| *entry_state == EntryState::Ready)
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        crate::sync::lock(&self.state)
    }
}

impl State {
    fn settle(&mut self, sequence: u64, entry_state: EntryState) {
        match self.waiting_at(sequence) {
            Some(at) => self.waiting[at].1 = entry_state,
            None if entry_state == EntryState::Gone => self.released.push(sequence),
            None => self.left.push(sequence),
        }
        if entry_state != EntryState::Gone {
            return;
        }
        // And all that it has replaced.
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
            // It isn't durable itself, and what replaces it is not behind it for long.
            Some(at) => self.waiting[at].1 = EntryState::Gone,
            None => self.superseded.push((sequence, by)),
        }
    }

    fn waiting_at(&self, sequence: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&sequence, |(entry, _)| entry.sequence).ok()
    }

    /// Whether the wait for `sequence` is over, which began after `before` attempts.
    fn outcome(&self, sequence: u64, before: u64) -> Option<Result<(), String>> {
        if self.durable >= sequence {
            return Some(Ok(()));
        }
        let trouble = self.trouble.as_ref().filter(|_| self.attempts > before)?;
        Some(Err(trouble.clone()))
    }
}

fn wait<'s>(
    condvar: &Condvar,
    state: MutexGuard<'s, State>,
    timeout: Duration,
) -> MutexGuard<'s, State> {
    match condvar.wait_timeout(state, timeout) {
        Ok((state, _)) => state,
        Err(poisoned) => poisoned.into_inner().0,
    }
}
