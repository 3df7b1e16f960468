//! The bounded queue between the threads that end spans and the one that exports them.
//!
//! # Invariants
//!
//! - Records leave in the order they came, but for those evicted to make room for feedback.
//! - `settled` is the number of the first record whose fate is not known yet.
//! - A record that was pushed is exported, or counted as dropped once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Batching;
use super::error::FlushError;
use super::stats::{Counters, Drop};
use crate::quiet;
use crate::record::SpanRecord;

pub(crate) struct Queue {
    batching: Batching,
    counters: Arc<Counters>,
    state: Mutex<State>,
    /// For the export thread: there is something to do.
    work: Condvar,
    /// For those who wait in `flush` and `shutdown`: something was settled.
    progress: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Numbers given to records so far.
    pushed: u64,
    settled: u64,
    /// Export without delay until this number is settled.
    flush_to: u64,
    closed: bool,
    ended: bool,
    losses: BTreeMap<Drop, Loss>,
}

struct Waiting {
    number: u64,
    bytes: usize,
    record: SpanRecord,
}

/// Records lost for one reason since the last report.
#[derive(Default)]
pub(crate) struct Loss {
    pub(crate) spans: u64,
    pub(crate) message: Option<String>,
}

impl Queue {
    pub(crate) fn new(batching: Batching, counters: Arc<Counters>) -> Self {
        let state = Mutex::default();
        Self { batching, counters, state, work: Condvar::new(), progress: Condvar::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    pub(crate) fn push(&self, record: SpanRecord) {
        let bytes = record.size();
        let feedback = record.feedback;
        let mut state = self.lock();
        if state.closed {
            drop(state);
            self.counters.dropped(Drop::AfterShutdown, 1, feedback.into());
            return;
        }
        let mut evicted = 0;
        while !self.has_room(&state, bytes) {
            // Feedback is precious and rare; what doesn't carry it makes room.
            let victim = state.waiting.iter().position(|waiting| !waiting.record.feedback);
            match victim.filter(|_| feedback).and_then(|at| state.waiting.remove(at)) {
                Some(victim) => {
                    state.bytes -= victim.bytes;
                    evicted += 1;
                }
                None => {
                    state.lose(Drop::QueueFull, evicted + 1, None);
                    drop(state);
                    self.counters.dropped(Drop::QueueFull, evicted + 1, feedback.into());
                    return;
                }
            }
        }
        state.lose(Drop::QueueFull, evicted, None);
        let number = state.pushed;
        state.pushed += 1;
        state.bytes += bytes;
        state.waiting.push_back(Waiting { number, bytes, record });
        // Wake the export thread once a batch, not once a span.
        let is_batch = state.waiting.len().is_multiple_of(self.batching.batch_spans)
            || state.bytes / self.batching.batch_bytes
                != (state.bytes - bytes) / self.batching.batch_bytes;
        drop(state);
        if is_batch {
            self.work.notify_one();
        }
        if evicted > 0 {
            self.counters.dropped(Drop::QueueFull, evicted, 0);
        }
    }

    /// The next batch, after waiting for it; `None` once the queue is closed and empty.
    pub(crate) fn next_batch(&self) -> Option<Vec<SpanRecord>> {
        let mut state = self.lock();
        let due = Instant::now() + self.batching.delay;
        loop {
            let is_full = state.waiting.len() >= self.batching.batch_spans
                || state.bytes >= self.batching.batch_bytes;
            let is_urgent = state.closed || state.flush_to > state.settled;
            let left = due.saturating_duration_since(Instant::now());
            if !state.waiting.is_empty() && (is_full || is_urgent || left.is_zero()) {
                return Some(self.take_batch(&mut state));
            }
            if state.closed {
                return None;
            }
            // An empty queue has nothing that could become due.
            let wait = if state.waiting.is_empty() { self.batching.delay } else { left };
            state = wait_timeout(&self.work, state, wait);
        }
    }

    fn take_batch(&self, state: &mut State) -> Vec<SpanRecord> {
        let mut batch = Vec::with_capacity(self.batching.batch_spans.min(state.waiting.len()));
        let mut bytes = 0;
        while let Some(next) = state.waiting.front() {
            let is_full = batch.len() >= self.batching.batch_spans
                || bytes + next.bytes > self.batching.batch_bytes;
            if is_full && !batch.is_empty() {
                break;
            }
            if let Some(next) = state.waiting.pop_front() {
                bytes += next.bytes;
                batch.push(next.record);
            }
        }
        state.bytes -= bytes;
        batch
    }

    /// The last batch is settled, whatever became of it.
    pub(crate) fn settle(&self) {
        let mut state = self.lock();
        state.settled = state.waiting.front().map_or(state.pushed, |next| next.number);
        drop(state);
        self.progress.notify_all();
    }

    pub(crate) fn lost(&self, why: Drop, spans: u64, message: String) {
        self.lock().lose(why, spans, Some(message));
    }

    pub(crate) fn flush(&self, deadline: Instant) -> Result<(), FlushError> {
        let mut state = self.lock();
        let target = state.pushed;
        state.flush_to = state.flush_to.max(target);
        self.work.notify_one();
        // The export thread can't wait for itself.
        while state.settled < target && !state.ended && !quiet::is_this_thread() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = wait_timeout(&self.progress, state, left);
        }
        let pending = target.saturating_sub(state.settled);
        FlushError::of(std::mem::take(&mut state.losses), pending)
    }

    /// Takes nothing more; what is here is still exported.
    pub(crate) fn take_no_more(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Takes nothing more, and flushes what is here.
    pub(crate) fn close(&self, deadline: Instant) -> Result<(), FlushError> {
        self.take_no_more();
        let result = self.flush(deadline);
        let mut state = self.lock();
        if state.settled < state.pushed {
            // Out of time. What is in the exporter's hands may still arrive; the rest will not.
            let abandoned = std::mem::take(&mut state.waiting);
            state.bytes = 0;
            drop(state);
            let feedback = abandoned.iter().filter(|waiting| waiting.record.feedback).count();
            self.counters.dropped(Drop::TimedOut, abandoned.len() as u64, feedback as u64);
        }
        result
    }

    /// Says that the export thread has ended when the guard is dropped, also if it panics.
    pub(crate) fn announce_end(&self) -> impl std::ops::Drop + '_ {
        struct End<'q>(&'q Queue);
        impl std::ops::Drop for End<'_> {
            fn drop(&mut self) {
                self.0.lock().ended = true;
                self.0.progress.notify_all();
            }
        }
        End(self)
    }

    /// Whether the export thread has ended by `deadline`.
    pub(crate) fn wait_until_ended(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while !state.ended && !quiet::is_this_thread() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = wait_timeout(&self.progress, state, left);
        }
        state.ended
    }

    fn has_room(&self, state: &State, bytes: usize) -> bool {
        let spans = state.waiting.len();
        self.batching.queue_spans.is_none_or(|most| spans < most)
            && (spans == 0 || state.bytes + bytes <= self.batching.queue_bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        crate::lock(&self.state)
    }
}

impl State {
    fn lose(&mut self, why: Drop, spans: u64, message: Option<String>) {
        if spans > 0 {
            let loss = self.losses.entry(why).or_default();
            loss.spans += spans;
            loss.message = message.or(loss.message.take());
        }
    }
}

fn wait_timeout<'q>(
    condvar: &Condvar,
    state: MutexGuard<'q, State>,
    timeout: Duration,
) -> MutexGuard<'q, State> {
    match condvar.wait_timeout(state, timeout) {
        Ok((state, _)) => state,
        Err(poisoned) => poisoned.into_inner().0,
    }
}
