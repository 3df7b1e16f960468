//! The tail buffer: unsampled spans that have ended are held, in case feedback arrives on their
//! trace.
//!
//! The spans of a trace lie together in [batches](Batch), packed as they are exported. A trace is
//! *held* until its local root has ended and the grace period is over. Feedback that arrives before
//! turns it into a *kept* trace, of which only the id stays here: its held spans are exported at
//! once, and spans that end later pass straight through.
//!
//! There is no timer: the export thread [sweeps](TailBuffer::sweep), and a span that begins a trace
//! drops some expired traces. Time is passed in.
//!
//! There is one lock for all threads. Under it a span is copied, or a few traces are taken out of
//! the maps; memory is freed after it is released. Shards by trace cost more than they saved
//! (`BENCHMARKS.md`): the trace that is dropped for a new one is then in another shard.
//!
//! # Invariants
//!
//! - A span that was held is exported, or counted as unsampled, once.
//! - A trace is held or kept, never both. A held trace is once in `by_age`, and in `ended` unless a
//!   local root of it may be open; a kept trace is once in `kept`.
//! - `spans` and `bytes` are the totals of all held traces.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanId, TraceId};

use super::Batching;
use super::stats::Counters;
use crate::export::sink::Batch;
use crate::record::SpanRecord;
use crate::sync::lock_unless_orphaned;

/// The limits of the tail buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailBufferLimits {
    pub(crate) spans: usize,
    /// Bytes in memory, about.
    pub(crate) bytes: usize,
    /// How long a trace waits for its local root to end.
    pub(crate) age: Duration,
    /// How long it is held after that.
    pub(crate) grace: Duration,
}

/// Held and kept traces.
pub(super) struct TailBuffer {
    state: Mutex<TailBufferState>,
    counters: Arc<Counters>,
}

/// The spans of a trace that feedback has released.
#[derive(Debug, Default)]
pub(super) struct Released {
    pub(super) batches: Vec<Batch>,
    pub(super) dropped_attributes: u64,
}

impl TailBuffer {
    /// A tail buffer for spans of `scope`, if unsampled traces are to be held.
    pub(super) fn new(
        most_spans: usize,
        scope: &Arc<InstrumentationScope>,
        batching: &Batching,
        counters: &Arc<Counters>,
    ) -> Option<Self> {
        let limits = batching.held?;
        let limits =
            TailBufferLimits { age: limits.age.min(YEAR), grace: limits.grace.min(YEAR), ..limits };
        let full = (batching.handover_spans(most_spans), batching.handover_bytes());
        let config = TailBufferConfig { limits, scope: scope.clone(), full };
        Some(Self { state: Mutex::new(TailBufferState::new(config)), counters: counters.clone() })
    }

    /// Spans that are held now.
    pub(super) fn spans(&self) -> usize {
        lock_unless_orphaned(&self.state).map_or(0, |state| state.spans)
    }

    /// Holds a span. `true` if its trace is kept: then `record` is unchanged, and to be exported.
    pub(super) fn hold(&self, record: &mut SpanRecord, now: Instant) -> bool {
        let mut dropped = DroppedSpans::default();
        let is_kept = match lock_unless_orphaned(&self.state) {
            Some(mut state) => state.hold(record, now, &mut dropped),
            None => {
                dropped.spans += 1;
                false
            }
        };
        self.count(dropped);
        is_kept
    }

    /// Keeps a trace, since feedback has arrived: releases its held spans, and remembers its id.
    pub(super) fn keep(&self, trace_id: TraceId, now: Instant) -> Released {
        let mut dropped = DroppedSpans::default();
        let released = lock_unless_orphaned(&self.state)
            .and_then(|mut state| state.keep(trace_id, now, &mut dropped));
        self.count(dropped);
        released.map(|trace| trace.release()).unwrap_or_default()
    }

    /// Drops expired traces, some at a time: other threads may wait for the lock.
    pub(super) fn sweep(&self, now: Instant) {
        loop {
            let mut dropped = DroppedSpans::default();
            let is_done = crate::sync::lock(&self.state).expire(now, 64, &mut dropped);
            self.count(dropped);
            if is_done {
                return;
            }
        }
    }

    /// Drops everything, and holds nothing more.
    pub(super) fn close(&self) {
        let traces = crate::sync::lock(&self.state).close();
        let held = traces.into_values().filter_map(|trace| match trace {
            Trace::Held(trace) => Some(trace.spans),
            Trace::Kept(..) => None,
        });
        self.count(DroppedSpans { spans: held.sum(), ..DroppedSpans::default() });
    }

    /// Counts dropped spans as unsampled.
    fn count(&self, dropped: DroppedSpans) {
        if dropped.spans > 0 {
            self.counters.unsampled(dropped.spans as u64);
        }
    }
}

/// Dropped spans, and memory to be freed after the lock is released.
#[derive(Default)]
struct DroppedSpans {
    spans: usize,
    memory: Memory,
}

/// The memory of dropped traces, boxes included, for reuse.
#[allow(clippy::vec_box)]
type Memory = Vec<Box<BufferedTrace>>;

struct TailBufferConfig {
    limits: TailBufferLimits,
    /// The scope of spans that name no other.
    scope: Arc<InstrumentationScope>,
    /// Spans and bytes at which a batch is full.
    full: (usize, usize),
}

/// The state behind the lock.
struct TailBufferState {
    config: TailBufferConfig,
    traces: HashMap<TraceId, Trace>,
    /// Held traces in the order in which they began, with the time by which their root has to end.
    by_age: BTreeMap<u64, (Instant, TraceId)>,
    /// Held traces in the order in which their root has ended, with the end of the grace period.
    ended: BTreeMap<u64, (Instant, TraceId)>,
    /// Kept traces in the order in which they are forgotten, and when.
    kept: BTreeMap<u64, (Instant, TraceId)>,
    /// The number of the next entry in one of these maps.
    next: u64,
    spans: usize,
    bytes: usize,
    closed: bool,
    /// The memory of dropped traces, for new ones.
    free: Memory,
}

enum Trace {
    Held(Box<BufferedTrace>),
    /// Its number in `kept`, and until when it is remembered.
    Kept(u64, Instant),
}

impl TailBufferState {
    fn new(config: TailBufferConfig) -> Self {
        Self {
            config,
            traces: HashMap::new(),
            by_age: BTreeMap::new(),
            ended: BTreeMap::new(),
            kept: BTreeMap::new(),
            next: 0,
            spans: 0,
            bytes: 0,
            closed: false,
            free: Vec::new(),
        }
    }

    /// Adds a span to its trace. `true` if the trace is kept: then `record` is unchanged.
    fn hold(&mut self, record: &mut SpanRecord, now: Instant, dropped: &mut DroppedSpans) -> bool {
        if self.closed {
            dropped.spans += 1;
            return false;
        }
        let trace_id = record.trace_id;
        let trace = match self.traces.get_mut(&trace_id) {
            Some(trace) if !trace.is_expired(now) => trace,
            expired => {
                if expired.is_some() {
                    self.discard(trace_id, dropped);
                }
                self.expire(now, 2, dropped);
                let begun = self.begin(trace_id, now);
                self.traces.entry(trace_id).or_insert(begun)
            }
        };
        let Trace::Held(trace) = trace else {
            self.remember_kept(trace_id, now);
            return true;
        };
        let TailBufferLimits { age, grace, .. } = self.config.limits;
        if let Some(number) = trace.ended.take() {
            self.ended.remove(&number);
        }
        if is_local_root(record) {
            trace.expires = (now + grace).min(trace.began + age + grace);
            trace.ended = Some(self.next);
            self.ended.insert(self.next, (trace.expires, trace_id));
            self.next += 1;
        } else {
            // A span below a local root ends before that root does, so a root is open, maybe again.
            trace.expires = trace.expires.max(trace.began + age);
        }
        self.bytes += trace.add(record, &self.config);
        self.spans += 1;
        while self.spans > self.config.limits.spans || self.bytes > self.config.limits.bytes {
            let Some((_, &(_, oldest))) = self.by_age.first_key_value() else { break };
            self.discard(oldest, dropped);
        }
        false
    }

    /// Marks the trace as kept, and returns its held spans.
    fn keep(
        &mut self,
        trace_id: TraceId,
        now: Instant,
        dropped: &mut DroppedSpans,
    ) -> Option<Box<BufferedTrace>> {
        if self.closed {
            return None;
        }
        let held = match self.traces.get(&trace_id) {
            Some(Trace::Held(trace)) if trace.expires > now => self.remove(trace_id),
            Some(Trace::Held(_)) => {
                self.discard(trace_id, dropped); // too late
                None
            }
            _ => None,
        };
        self.remember_kept(trace_id, now);
        held
    }

    /// Drops expired traces, at the most `most`. `false` if there may be more.
    fn expire(&mut self, now: Instant, most: usize, dropped: &mut DroppedSpans) -> bool {
        for _ in 0..most {
            let first = |line: &BTreeMap<_, _>| {
                let (_, &(due, trace_id)) = line.first_key_value()?;
                (due <= now).then_some(trace_id)
            };
            let over = first(&self.ended).or_else(|| first(&self.kept)).or_else(|| {
                // A trace whose root has ended in time may still be in its grace period.
                let oldest = first(&self.by_age)?;
                self.traces.get(&oldest).filter(|trace| trace.is_expired(now)).map(|_| oldest)
            });
            match over {
                Some(trace_id) => self.discard(trace_id, dropped),
                None => return true,
            }
        }
        false
    }

    fn close(&mut self) -> HashMap<TraceId, Trace> {
        self.closed = true;
        (self.spans, self.bytes) = (0, 0);
        self.by_age.clear();
        self.ended.clear();
        self.kept.clear();
        std::mem::take(&mut self.traces)
    }

    fn begin(&mut self, trace_id: TraceId, now: Instant) -> Trace {
        let number = self.next;
        self.next += 1;
        let due = now + self.config.limits.age;
        self.by_age.insert(number, (due, trace_id));
        self.bytes += OVERHEAD;
        let mut trace = self.free.pop().unwrap_or_else(|| Box::new(BufferedTrace::new(now)));
        (trace.number, trace.began, trace.expires) = (number, now, due);
        Trace::Held(trace)
    }

    /// Remembers that the trace is kept, for at least the longest time that a trace is held, and up
    /// to twice that: so the entry isn't renewed for every span.
    fn remember_kept(&mut self, trace_id: TraceId, now: Instant) {
        let TailBufferLimits { age, grace, .. } = self.config.limits;
        let longest = age + grace;
        if let Some(Trace::Kept(number, until)) = self.traces.get(&trace_id) {
            if *until > now + longest {
                return;
            }
            self.kept.remove(number);
        }
        let (number, until) = (self.next, now + 2 * longest);
        self.next += 1;
        self.traces.insert(trace_id, Trace::Kept(number, until));
        self.kept.insert(number, (until, trace_id));
        if self.kept.len() > MOST_KEPT
            && let Some((_, (_, oldest))) = self.kept.pop_first()
        {
            self.traces.remove(&oldest);
        }
    }

    /// Removes a trace from all maps.
    fn remove(&mut self, trace_id: TraceId) -> Option<Box<BufferedTrace>> {
        match self.traces.remove(&trace_id)? {
            Trace::Held(trace) => {
                self.by_age.remove(&trace.number);
                if let Some(number) = trace.ended {
                    self.ended.remove(&number);
                }
                self.spans -= trace.spans;
                self.bytes -= trace.bytes;
                Some(trace)
            }
            Trace::Kept(number, _) => {
                self.kept.remove(&number);
                None
            }
        }
    }

    /// Drops a trace. Its memory is kept for the next one, or freed by the caller.
    fn discard(&mut self, trace_id: TraceId, dropped: &mut DroppedSpans) {
        let Some(mut trace) = self.remove(trace_id) else { return };
        dropped.spans += trace.spans;
        let is_small = trace.bytes <= LARGE;
        if is_small && self.free.len() < MOST_FREE {
            trace.clear(&self.config);
            self.free.push(trace);
        } else {
            dropped.memory.push(trace);
        }
    }
}

impl Trace {
    fn is_expired(&self, now: Instant) -> bool {
        now >= match self {
            Self::Held(trace) => trace.expires,
            Self::Kept(_, until) => *until,
        }
    }
}

/// The spans of one trace.
struct BufferedTrace {
    /// Its number in `by_age`.
    number: u64,
    /// Its number in `ended`, if it is there.
    ended: Option<u64>,
    began: Instant,
    expires: Instant,
    /// For each scope the batch that takes more spans; `full` are those that don't.
    open: Vec<Batch>,
    full: Vec<Batch>,
    spans: usize,
    bytes: usize,
    dropped_attributes: u64,
}

impl BufferedTrace {
    fn new(now: Instant) -> Self {
        Self {
            number: 0,
            ended: None,
            began: now,
            expires: now,
            open: Vec::with_capacity(1),
            full: Vec::new(),
            spans: 0,
            bytes: OVERHEAD,
            dropped_attributes: 0,
        }
    }

    /// Adds a span, and returns how many bytes that takes.
    fn add(&mut self, record: &mut SpanRecord, config: &TailBufferConfig) -> usize {
        self.spans += 1;
        self.dropped_attributes += u64::from(record.details.dropped_attributes);
        let scope = record.details.scope.as_ref().unwrap_or(&config.scope);
        let position = self.open.iter().position(|batch| batch.scope() == scope);
        let at = position.unwrap_or_else(|| {
            self.open.push(Batch::new(scope));
            self.open.len() - 1
        });
        let batch = &mut self.open[at];
        let before = batch.bytes();
        batch.add(record);
        let grown = batch.bytes() - before;
        if batch.spans() >= config.full.0 || batch.bytes() >= config.full.1 {
            let empty = Batch::new(batch.scope());
            self.full.push(std::mem::replace(batch, empty));
        }
        self.bytes += grown;
        grown
    }

    fn release(self) -> Released {
        let mut batches = self.full;
        batches.extend(self.open.into_iter().filter(|batch| batch.spans() > 0));
        Released { batches, dropped_attributes: self.dropped_attributes }
    }

    /// Clears everything, and keeps the memory.
    fn clear(&mut self, config: &TailBufferConfig) {
        self.open.retain_mut(|batch| {
            batch.clear();
            Arc::ptr_eq(batch.scope(), &config.scope)
        });
        self.full.clear();
        (self.ended, self.spans, self.bytes, self.dropped_attributes) = (None, 0, OVERHEAD, 0);
    }
}

/// Whether the span's parent, if it has one, is in another process.
fn is_local_root(record: &SpanRecord) -> bool {
    record.parent.is_remote || record.parent.span_id == SpanId::INVALID
}

/// Traces that are remembered as kept, at the most.
const MOST_KEPT: usize = 16 * 1024;

/// Bytes that a trace takes beside its spans, about.
const OVERHEAD: usize = size_of::<BufferedTrace>() + size_of::<Batch>() + 128;

/// How many dropped traces are kept for their memory, and the most bytes that one of them took.
const MOST_FREE: usize = 64;
const LARGE: usize = 16 * 1024;

/// The limit of durations here: adding it to an `Instant` doesn't overflow.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
