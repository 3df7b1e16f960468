//! The tail buffer: unsampled spans that have ended are held, in case feedback arrives on their
//! trace.
//!
//! A thread gathers its held spans in a [batch](HeldBatch) of its own, packed as they are exported,
//! and hands it over when it is full. The batches lie here in the order in which they came, and
//! leave in that order where there is no room. Nothing else happens when a span ends.
//!
//! Feedback only adds its trace to the [kept](KeptTraces) ones. When the buffer is
//! [evaluated](TailBuffer::evaluate), the held spans of kept traces are exported, and those of traces
//! whose time is over are dropped. The export thread evaluates it from time to time, and so do `flush`,
//! `shutdown` and `stats`. Before old spans make room for new ones they are evaluated as well, so that no
//! span of a kept trace is lost.
//!
//! Times are those of the [counter](Ticks), in nanoseconds.
//!
//! # Invariants
//!
//! - A span that was held is exported, or counted as unsampled, once.
//! - `spans` and `bytes` are the totals of all batches, also of those that are being looked through.

mod held_batch;
mod kept_traces;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::TraceId;

use super::queue::Queue;
use super::stats::Counters;
use crate::clock::{self, Ticks};
use crate::sync::lock_unless_orphaned;
pub(super) use held_batch::HeldBatch;
use kept_traces::KeptTraces;

/// The limits of the tail buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailBufferLimits {
    pub(crate) spans: usize,
    /// Bytes in memory, about.
    pub(crate) bytes: usize,
    /// How long a span waits for the local root of its trace to end.
    pub(crate) age: Duration,
    /// How long it is held after that.
    pub(crate) grace: Duration,
}

impl TailBufferLimits {
    /// Spans and bytes at which a thread hands over its batch: a small part of the limits.
    pub(super) fn handover(&self) -> (usize, usize) {
        ((self.spans / 64).clamp(1, 256), (self.bytes / 64).clamp(1, 60 * 1024))
    }
}

/// Held spans and kept traces.
pub(super) struct TailBuffer {
    limits: TailBufferLimits,
    lifetimes: Lifetimes,
    state: Mutex<TailBufferState>,
    /// Locked by the thread that looks through the batches, which it does without locking `state`.
    evaluating: Mutex<()>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct TailBufferState {
    batches: VecDeque<HeldBatch>,
    spans: usize,
    bytes: usize,
    kept: KeptTraces,
    /// Whether the batches are taken out, to be looked through.
    is_evaluating: bool,
    /// When they were looked through last.
    evaluated: u64,
    closed: bool,
}

/// How long spans are held, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Lifetimes {
    age: u64,
    grace: u64,
}

/// What becomes of a held span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Hold,
    Release,
    Drop,
}

/// Spans that are no longer held: those to be exported, and how many were dropped.
#[derive(Default)]
struct Removed {
    released: Vec<HeldBatch>,
    dropped: usize,
}

/// When the spans of a trace have ended, of those that are held: the last local root, and the last
/// of the others. And when feedback arrived.
#[derive(Clone, Copy, Debug, Default)]
struct TraceEnds {
    root: Option<u64>,
    other: Option<u64>,
    kept: Option<u64>,
}

impl TailBuffer {
    pub(super) fn new(limits: TailBufferLimits, counters: &Arc<Counters>) -> Self {
        let nanos = |limit: Duration| u64::try_from(limit.min(YEAR).as_nanos()).unwrap_or(u64::MAX);
        let lifetimes = Lifetimes { age: nanos(limits.age), grace: nanos(limits.grace) };
        let (state, evaluating) = (Mutex::default(), Mutex::default());
        Self { limits, lifetimes, state, evaluating, counters: counters.clone() }
    }

    /// Spans that were handed over, and are held now.
    pub(super) fn spans(&self) -> usize {
        crate::sync::lock(&self.state).spans
    }

    /// Holds the spans of a batch.
    pub(super) fn add(&self, batch: HeldBatch, queue: &Queue) {
        let Some(mut state) = lock_unless_orphaned(&self.state) else {
            return self.count(batch.spans());
        };
        if state.closed {
            drop(state);
            return self.count(batch.spans());
        }
        state.spans += batch.spans();
        state.bytes += batch.bytes();
        state.batches.push_back(batch);
        let evicted = self.evict(&mut state);
        drop(state);
        self.export(evicted, queue);
    }

    /// Keeps a trace, since feedback has arrived on it: its held spans are exported when the buffer
    /// is evaluated, and so are those that end later.
    pub(super) fn keep(&self, trace_id: TraceId) {
        self.keep_at(trace_id, nanos(clock::read().ticks));
    }

    fn keep_at(&self, trace_id: TraceId, now: u64) {
        if let Some(mut state) = lock_unless_orphaned(&self.state)
            && !state.closed
        {
            state.kept.add(trace_id, now, self.lifetimes.longest());
        }
    }

    /// Evaluates the buffer, but not more than ten times a second while a trace is kept, and once a second
    /// otherwise: what is over is only dropped.
    pub(super) fn sweep(&self, queue: &Queue) {
        let now = nanos(Ticks::now());
        let is_due = {
            let state = crate::sync::lock(&self.state);
            let pause = if state.kept.is_empty() { SECOND } else { SECOND / 10 };
            now >= state.evaluated.saturating_add(pause)
        };
        if is_due {
            self.evaluate_at(now, queue);
        }
    }

    /// Exports the spans of kept traces, and drops those of traces that are over.
    pub(super) fn evaluate(&self, queue: &Queue) {
        self.evaluate_at(nanos(Ticks::now()), queue);
    }

    fn evaluate_at(&self, now: u64, queue: &Queue) {
        let _one_at_a_time = crate::sync::lock(&self.evaluating);
        let mut batches = {
            let mut state = crate::sync::lock(&self.state);
            (state.is_evaluating, state.evaluated) = (true, now);
            std::mem::take(&mut state.batches)
        };
        let mut traces = self.ends(&batches);
        {
            let mut state = crate::sync::lock(&self.state);
            state.kept.expire(now);
            if !state.kept.is_empty() {
                for (trace_id, ends) in &mut traces {
                    ends.kept = state.kept.since(*trace_id);
                    if let Some(last) = ends.root.max(ends.other) {
                        state.kept.renew(*trace_id, last, self.lifetimes.longest());
                    }
                }
            }
        }
        let totals = |batches: &VecDeque<HeldBatch>| {
            batches.iter().fold((0, 0), |(spans, bytes), batch| {
                (spans + batch.spans(), bytes + batch.bytes())
            })
        };
        let (spans, bytes) = totals(&batches);
        let mut removed = Removed::default();
        batches.retain_mut(|batch| {
            let ends_of = |trace_id| traces.get(&trace_id).copied().unwrap_or_default();
            removed.take_from(batch, ends_of, |ends, end| self.lifetimes.fate(ends, end, now));
            batch.spans() > 0
        });
        let (spans_left, bytes_left) = totals(&batches);
        let evicted = {
            let mut state = crate::sync::lock(&self.state);
            state.spans -= spans - spans_left;
            state.bytes -= bytes - bytes_left;
            batches.append(&mut state.batches);
            state.batches = batches;
            state.is_evaluating = false;
            self.evict(&mut state)
        };
        self.export(removed, queue);
        self.export(evicted, queue);
    }

    /// When the spans of each trace have ended.
    fn ends(&self, batches: &VecDeque<HeldBatch>) -> HashMap<TraceId, TraceEnds> {
        let mut traces: HashMap<TraceId, TraceEnds> = HashMap::new();
        for batch in batches {
            let mut places = batch.places().peekable();
            // The spans of a trace mostly follow each other.
            while let Some(&(trace_id, ..)) = places.peek() {
                let ends = traces.entry(trace_id).or_default();
                while let Some((_, is_root, end)) = places.next_if(|place| place.0 == trace_id) {
                    let last = if is_root { &mut ends.root } else { &mut ends.other };
                    *last = (*last).max(Some(end));
                }
            }
        }
        traces
    }

    /// Makes room: takes the oldest batches out, except for what feedback has asked for.
    fn evict(&self, state: &mut TailBufferState) -> Removed {
        let mut evicted = Removed::default();
        let is_full = |state: &TailBufferState| {
            state.spans > self.limits.spans || state.bytes > self.limits.bytes
        };
        while is_full(state) && !state.is_evaluating {
            let Some(mut batch) = state.batches.pop_front() else { break };
            state.spans -= batch.spans();
            state.bytes -= batch.bytes();
            if !state.kept.is_empty() {
                // Whether a root has ended isn't known here. If feedback came late, too much is exported.
                let ends_of = |trace_id| TraceEnds {
                    kept: state.kept.since(trace_id),
                    ..TraceEnds::default()
                };
                let fate = |ends: &TraceEnds, end| self.lifetimes.fate(ends, end, u64::MAX);
                evicted.take_from(&mut batch, ends_of, fate);
            }
            evicted.drop(batch);
        }
        evicted
    }

    /// Hands released spans to the queue, and counts dropped ones as unsampled.
    fn export(&self, removed: Removed, queue: &Queue) {
        self.count(removed.dropped);
        for batch in removed.released {
            self.counters.dropped_attributes(batch.dropped_attributes());
            let _ = queue.push(batch.into_batch()); // what is lost is counted
        }
    }

    /// Counts dropped spans as unsampled.
    pub(super) fn count(&self, dropped: usize) {
        if dropped > 0 {
            self.counters.unsampled(dropped as u64);
        }
    }

    /// Evaluates the buffer for the last time: spans of kept traces are exported, all others are dropped, and
    /// no span is held any more.
    pub(super) fn close(&self, queue: &Queue) {
        self.evaluate(queue);
        let batches = {
            let mut state = crate::sync::lock(&self.state);
            (state.closed, state.spans, state.bytes) = (true, 0, 0);
            std::mem::take(&mut state.batches)
        };
        let mut removed = Removed::default();
        batches.into_iter().for_each(|batch| removed.drop(batch));
        self.export(removed, queue);
    }
}

impl Removed {
    /// Takes the spans of a batch that are not to be held any longer, by what `fate` answers for their trace,
    /// of which `ends_of` knows the ends, and for the end of each.
    fn take_from(
        &mut self,
        batch: &mut HeldBatch,
        ends_of: impl Fn(TraceId) -> TraceEnds,
        fate: impl Fn(&TraceEnds, u64) -> Fate,
    ) {
        let mut last: Option<(TraceId, TraceEnds)> = None; // the spans of a trace mostly follow each other
        let fates = batch.places().map(|(trace_id, _, end)| {
            let (_, ends) = match &last {
                Some(known) if known.0 == trace_id => known,
                _ => last.insert((trace_id, ends_of(trace_id))),
            };
            fate(ends, end)
        });
        let fates: Vec<Fate> = fates.collect();
        let count = |fate| fates.iter().filter(|of_span| **of_span == fate).count();
        let (released, dropped) = (count(Fate::Release), count(Fate::Drop));
        if released + dropped == 0 {
            return;
        }
        if released > 0 {
            self.released.push(batch.select(|number| fates.get(number) == Some(&Fate::Release)));
        }
        self.dropped += dropped;
        let held = batch.select(|number| fates.get(number) == Some(&Fate::Hold));
        std::mem::replace(batch, held).into_batch().recycle();
    }

    fn drop(&mut self, batch: HeldBatch) {
        self.dropped += batch.spans();
        batch.into_batch().recycle();
    }
}

impl Lifetimes {
    /// The longest time that a span is held.
    fn longest(self) -> u64 {
        self.age.saturating_add(self.grace)
    }

    /// What becomes of a span that has ended at `end`.
    fn fate(self, trace: &TraceEnds, end: u64, now: u64) -> Fate {
        let expires = self.expires(trace, end);
        match trace.kept {
            Some(kept) if kept < end || kept < expires => Fate::Release,
            None if now < expires => Fate::Hold,
            _ => Fate::Drop,
        }
    }

    /// When a span is over that has ended at `end`.
    fn expires(self, trace: &TraceEnds, end: u64) -> u64 {
        let waits = end.saturating_add(self.age);
        match trace.root {
            // A span below a local root ends before that root does, so one is open, maybe again.
            Some(root) if trace.other > Some(root) => waits.max(self.after(root, end)),
            Some(root) => self.after(root, end),
            None => waits,
        }
    }

    /// When the grace period of a span is over, the last root of which has ended at `root`.
    fn after(self, root: u64, end: u64) -> u64 {
        root.saturating_add(self.grace).min(end.saturating_add(self.longest()))
    }
}

/// Nanoseconds of the counter.
fn nanos(ticks: Ticks) -> u64 {
    clock::nanos(ticks.count())
}

const SECOND: u64 = 1_000_000_000;

/// The limit of durations here: added up they are nanoseconds in 64 bits.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
