//! The bounded queue between the threads that end spans and the one that exports them.
//!
//! # Invariants
//!
//! - Batches leave in the order they came, except those evicted to make room for feedback.
//! - `settled` is the number of the first span whose outcome is still open.
//! - A span that was pushed is exported, or counted as dropped once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Batching;
use super::error::Loss;
use super::stats::{Counters, DropReason};
use crate::export::sink::{Backpressure, Batch};
use crate::fork;
use crate::suppress;

pub(crate) struct Queue {
    batching: Batching,
    batch_spans: usize,
    counters: Arc<Counters>,
    backpressure: Backpressure,
    /// The process whose export thread takes the batches.
    process: u32,
    state: Mutex<QueueState>,
    /// Wakes the export thread: there is something to do.
    work: Condvar,
    /// Wakes the callers of `flush` and `shutdown`: spans were settled, or the export thread has
    /// ended.
    progress: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: WaitingBatches,
    spans: usize,
    /// Bytes of the waiting batches in memory; `encoded` are those on the wire, `feedback_bytes` those in memory
    /// of batches with feedback.
    bytes: usize,
    feedback_bytes: usize,
    encoded: usize,
    /// Spans pushed so far; a batch has the number of its first.
    pushed: u64,
    settled: u64,
    /// Export without delay until this number is settled.
    flush_to: u64,
    closed: bool,
    ended: bool,
    losses: BTreeMap<DropReason, Loss>,
}

/// The waiting batches, in the order they came. Batches with feedback are kept apart from the
/// others, which may be evicted. Each has the number of its first span.
#[derive(Default)]
struct WaitingBatches {
    plain: VecDeque<(u64, Batch)>,
    feedback: VecDeque<(u64, Batch)>,
}

impl WaitingBatches {
    fn push(&mut self, number: u64, batch: Batch) {
        let line = if batch.feedback > 0 { &mut self.feedback } else { &mut self.plain };
        line.push_back((number, batch));
    }

    fn first(&self) -> Option<&(u64, Batch)> {
        match (self.plain.front(), self.feedback.front()) {
            (Some(plain), Some(feedback)) => {
                Some(if plain.0 < feedback.0 { plain } else { feedback })
            }
            (plain, feedback) => plain.or(feedback),
        }
    }

    fn pop(&mut self) -> Option<Batch> {
        let is_plain = self.first().is_some_and(|(_, batch)| batch.feedback == 0);
        let line = if is_plain { &mut self.plain } else { &mut self.feedback };
        line.pop_front().map(|(_, batch)| batch)
    }

    /// Removes the oldest batch without feedback.
    fn evict(&mut self) -> Option<Batch> {
        self.plain.pop_front().map(|(_, batch)| batch)
    }
}

/// What the export thread is to do next.
pub(super) enum Next {
    Export(Vec<Batch>),
    /// The time is over: the local buffers are to be swept, or the sink's stored spans to be sent.
    Due,
    End,
}

impl Queue {
    pub(crate) fn new(most_spans: usize, batching: Batching, counters: Arc<Counters>) -> Self {
        let batch_spans = batching.batch_spans(most_spans);
        let (work, progress) = (Condvar::new(), Condvar::new());
        let (state, backpressure) = (Mutex::default(), Backpressure::default());
        let process = fork::process();
        Self { batching, batch_spans, counters, backpressure, process, state, work, progress }
    }

    /// The backpressure that the queue sets, for the sink.
    pub(super) fn backpressure(&self) -> &Backpressure {
        &self.backpressure
    }

    /// Spans that wait, and their bytes in memory.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.spans, state.bytes)
    }

    /// The bytes of waiting batches with feedback, and how many bytes may wait in all.
    pub(super) fn feedback_bytes(&self) -> (usize, usize) {
        (self.lock().feedback_bytes, self.batching.queue_bytes)
    }

    pub(super) fn limits(&self) -> (Option<usize>, usize) {
        (self.batching.queue_spans, self.batching.queue_bytes)
    }

    /// Adds a batch. The error is why it was dropped. Lost spans are counted.
    pub(crate) fn push(&self, batch: Batch) -> Result<(), DropReason> {
        if fork::process() != self.process {
            return self.refuse(DropReason::Forked, batch);
        }
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return self.refuse(DropReason::AfterShutdown, batch);
        }
        let mut evicted = 0;
        while !self.has_room(&state, &batch) {
            // Batches with feedback evict batches without.
            let evictable = if batch.feedback > 0 { state.waiting.evict() } else { None };
            match evictable {
                Some(evictable) => {
                    state.subtract(&evictable);
                    evicted += evictable.spans();
                }
                None => {
                    let lost = if batch.finalizers.is_whole() { 0 } else { batch.spans() };
                    state.add_loss(DropReason::QueueFull, (evicted + lost) as u64, None);
                    drop(state);
                    self.count(DropReason::QueueFull, evicted, 0);
                    return self.refuse(DropReason::QueueFull, batch);
                }
            }
        }
        state.add_loss(DropReason::QueueFull, evicted as u64, None);
        let batches = |state: &QueueState| {
            (state.spans / self.batch_spans, state.encoded / self.batching.batch_bytes)
        };
        let before = batches(&state);
        self.set_pressure(&state, batch.bytes());
        let number = state.pushed;
        state.pushed += batch.spans() as u64;
        state.spans += batch.spans();
        state.add(&batch);
        state.waiting.push(number, batch);
        // Wake the export thread when another export is due, not for every batch.
        let is_due = batches(&state) != before;
        drop(state);
        if is_due {
            self.work.notify_one();
        }
        self.count(DropReason::QueueFull, evicted, 0);
        Ok(())
    }

    /// Counts the spans of a batch that isn't accepted. Feedback that the outbox holds isn't lost.
    fn refuse(&self, why: DropReason, batch: Batch) -> Result<(), DropReason> {
        if batch.finalizers.is_whole() {
            return Ok(());
        }
        let is_held = !batch.finalizers.is_empty();
        self.count(why, batch.spans(), if is_held { 0 } else { batch.feedback });
        if is_held { Ok(()) } else { Err(why) }
    }

    /// Sets the backpressure by the bytes that wait, with `more`.
    fn set_pressure(&self, state: &QueueState, more: usize) {
        self.backpressure.set_pressure(state.bytes + more > self.batching.queue_bytes / 2);
    }

    /// Whether new spans have priority over stored ones: the queue is closed, or a quarter full
    /// with a whole batch.
    pub(super) fn is_under_pressure(&self) -> bool {
        let state = self.lock();
        state.closed || self.is_batch(&state) && state.bytes > self.batching.queue_bytes / 4
    }

    /// Whether a whole batch waits.
    fn is_batch(&self, state: &QueueState) -> bool {
        state.spans >= self.batch_spans || state.encoded >= self.batching.batch_bytes
    }

    /// Takes the losses since the last report.
    pub(super) fn losses(&self) -> BTreeMap<DropReason, Loss> {
        std::mem::take(&mut self.lock().losses)
    }

    /// Waits for something to do, until `due`, and returns it.
    pub(super) fn next(&self, due: Instant) -> Next {
        let mut state = self.lock();
        loop {
            let is_urgent = state.closed || state.flush_to > state.settled;
            let left = due.saturating_duration_since(Instant::now());
            if state.waiting.first().is_some() && (self.is_batch(&state) || is_urgent) {
                return Next::Export(self.take_batch(&mut state));
            }
            if state.closed {
                return Next::End;
            }
            if left.is_zero() {
                return Next::Due;
            }
            state = wait_timeout(&self.work, state, left);
        }
    }

    /// Lets everything that waits be exported without delay.
    pub(super) fn make_due(&self) {
        let mut state = self.lock();
        state.flush_to = state.pushed;
    }

    /// As [`make_due`](Self::make_due), and wakes the export thread.
    pub(super) fn request_flush(&self) {
        self.make_due();
        self.work.notify_one();
    }

    fn take_batch(&self, state: &mut QueueState) -> Vec<Batch> {
        let mut batch = Vec::new();
        let (mut spans, mut encoded) = (0, 0);
        while let Some((_, next)) = state.waiting.first() {
            let is_full = spans + next.spans() > self.batch_spans
                || encoded + next.encoded() > self.batching.batch_bytes;
            if is_full && !batch.is_empty() {
                break;
            }
            if let Some(next) = state.waiting.pop() {
                spans += next.spans();
                encoded += next.encoded();
                state.subtract(&next);
                batch.push(next);
            }
        }
        self.set_pressure(state, 0);
        self.counters.submitted(spans as u64);
        batch
    }

    /// Settles the last export, whatever its outcome.
    pub(crate) fn settle(&self) {
        self.counters.settled();
        let mut state = self.lock();
        state.settled = state.waiting.first().map_or(state.pushed, |(number, _)| *number);
        drop(state);
        self.progress.notify_all();
    }

    pub(crate) fn add_lost(&self, why: DropReason, spans: u64, message: String) {
        self.lock().add_loss(why, spans, Some(message));
    }

    /// Waits until all spans pushed so far are settled, or until `deadline`. Returns how many are
    /// not.
    pub(crate) fn flush(&self, deadline: Instant) -> u64 {
        let mut state = self.lock();
        let target = state.pushed;
        state.flush_to = state.flush_to.max(target);
        self.work.notify_one();
        // The export thread can't wait for itself.
        while state.settled < target && !state.ended && !suppress::is_this_thread() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = wait_timeout(&self.progress, state, left);
        }
        target.saturating_sub(state.settled)
    }

    /// Closes the queue: it takes no more batches, and those in it are still exported.
    pub(crate) fn stop_accepting(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Closes the queue, and lets what is in it be delivered by `deadline`.
    pub(super) fn request_close(&self, deadline: Instant) {
        self.stop_accepting();
        // Half of the time is for delivering the rest, the other half for writing it to the outbox.
        let now = Instant::now();
        self.backpressure.set_deadline(now + deadline.saturating_duration_since(now) / 2);
    }

    /// Closes the queue and flushes it. Returns how many spans are not settled.
    pub(crate) fn close(&self, deadline: Instant) -> u64 {
        self.request_close(deadline);
        let pending = self.flush(deadline);
        let mut state = self.lock();
        if state.settled < state.pushed {
            // Out of time. The batches that are being exported may still arrive; the waiting ones
            // will not.
            let abandoned = std::mem::take(&mut state.waiting);
            (state.spans, state.bytes, state.encoded, state.feedback_bytes) = (0, 0, 0, 0);
            drop(state);
            let abandoned = || {
                let all = abandoned.plain.iter().chain(&abandoned.feedback);
                all.filter(|(_, batch)| !batch.finalizers.is_whole()) // the outbox holds the others
            };
            let spans = abandoned().map(|(_, batch)| batch.spans()).sum();
            let lost = abandoned().filter(|(_, batch)| batch.finalizers.is_empty());
            let feedback = lost.map(|(_, batch)| batch.feedback).sum();
            self.count(DropReason::TimedOut, spans, feedback);
        }
        pending
    }

    /// Returns a guard that marks the export thread as ended when dropped, also if the thread
    /// panics.
    pub(crate) fn end_guard(&self) -> impl std::ops::Drop + '_ {
        struct End<'q>(&'q Queue);
        impl std::ops::Drop for End<'_> {
            fn drop(&mut self) {
                self.0.lock().ended = true;
                self.0.progress.notify_all();
            }
        }
        End(self)
    }

    /// Waits until the export thread has ended. `false` if it hasn't by `deadline`.
    pub(crate) fn wait_until_ended(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while !state.ended && !suppress::is_this_thread() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = wait_timeout(&self.progress, state, left);
        }
        state.ended
    }

    fn has_room(&self, state: &QueueState, batch: &Batch) -> bool {
        let has_spans =
            self.batching.queue_spans.is_none_or(|most| state.spans + batch.spans() <= most);
        let has_bytes = state.bytes + batch.bytes() <= self.batching.queue_bytes;
        state.waiting.first().is_none() || (has_spans && has_bytes)
    }

    #[cold]
    pub(super) fn count(&self, why: DropReason, spans: usize, feedback: usize) {
        if spans > 0 {
            self.counters.dropped(why, spans as u64, feedback as u64);
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        crate::sync::lock(&self.state)
    }
}

impl QueueState {
    /// Adds the bytes of a batch that waits.
    fn add(&mut self, batch: &Batch) {
        self.bytes += batch.bytes();
        self.feedback_bytes += if batch.feedback > 0 { batch.bytes() } else { 0 };
        self.encoded += batch.encoded();
    }

    /// Subtracts a batch that waits no longer.
    fn subtract(&mut self, batch: &Batch) {
        self.spans -= batch.spans();
        self.bytes -= batch.bytes();
        self.feedback_bytes -= if batch.feedback > 0 { batch.bytes() } else { 0 };
        self.encoded -= batch.encoded();
    }

    fn add_loss(&mut self, why: DropReason, spans: u64, message: Option<String>) {
        if spans > 0 {
            let loss = self.losses.entry(why).or_default();
            loss.spans += spans;
            loss.message = message.or(loss.message.take());
        }
    }
}

fn wait_timeout<'q>(
    condvar: &Condvar,
    state: MutexGuard<'q, QueueState>,
    timeout: Duration,
) -> MutexGuard<'q, QueueState> {
    match condvar.wait_timeout(state, timeout) {
        Ok((state, _)) => state,
        Err(poisoned) => poisoned.into_inner().0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SpanRecord;
    use opentelemetry::InstrumentationScope;

    fn batch(feedback: bool) -> Batch {
        let scope = Arc::new(InstrumentationScope::builder("queue").build());
        let mut batch = Batch::new(&scope);
        batch.add(&mut SpanRecord { feedback, ..SpanRecord::default() });
        batch
    }

    #[test]
    fn a_queue_is_under_pressure_only_while_there_is_a_batch_to_export() {
        // Otherwise the export thread would spin: stored spans are due, but must not be sent.
        let one = batch(false).bytes();
        let batching = Batching {
            batch_spans: Some(4),
            batch_bytes: usize::MAX,
            queue_bytes: 6 * one,
            ..Batching::default()
        };
        let counters = Arc::new(Counters::default());
        let queue = Queue::new(usize::MAX, batching, counters);
        for spans in 1..=5 {
            queue.push(batch(false)).unwrap();
            assert_eq!(queue.is_under_pressure(), spans >= 4, "{spans}");
        }
        assert!(matches!(queue.next(Instant::now()), Next::Export(_)));
        assert!(!queue.is_under_pressure());
        queue.stop_accepting();
        assert!(queue.is_under_pressure());
    }

    #[test]
    fn batches_leave_in_order_and_plain_ones_are_evicted_first() {
        let mut waiting = WaitingBatches::default();
        let came = [false, true, true, false, true, false];
        for (number, feedback) in (0..).zip(came) {
            waiting.push(number, batch(feedback));
        }
        assert_eq!(waiting.evict().map(|batch| batch.feedback), Some(0));
        let left: Vec<_> = std::iter::from_fn(|| {
            let number = waiting.first()?.0;
            Some((number, waiting.pop()?.feedback > 0))
        })
        .collect();
        assert_eq!(left, [(1, true), (2, true), (3, false), (4, true), (5, false)]);
        assert!(waiting.evict().is_none());
    }
}
