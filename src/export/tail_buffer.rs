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
use crate::export::sink::{Batch, Packing};
use crate::record::SpanRecord;

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
        packing: Packing,
        scope: &Arc<InstrumentationScope>,
        batching: &Batching,
        counters: &Arc<Counters>,
    ) -> Option<Self> {
        let limits = batching.held?;
        let limits =
            TailBufferLimits { age: limits.age.min(YEAR), grace: limits.grace.min(YEAR), ..limits };
        let full = (batching.handover_spans(packing), batching.handover_bytes());
        let config = TailBufferConfig { limits, packing, scope: scope.clone(), full };
        Some(Self { state: Mutex::new(TailBufferState::new(config)), counters: counters.clone() })
    }

    /// Spans that are held now.
    pub(super) fn spans(&self) -> usize {
        crate::sync::lock(&self.state).spans
    }

    /// Holds a span. `true` if its trace is kept: then `record` is unchanged, and to be exported.
    pub(super) fn hold(&self, record: &mut SpanRecord, now: Instant) -> bool {
        let mut dropped = DroppedSpans::default();
        let is_kept = crate::sync::lock(&self.state).hold(record, now, &mut dropped);
        self.count(dropped);
        is_kept
    }

    /// Keeps a trace, since feedback has arrived: releases its held spans, and remembers its id.
    pub(super) fn keep(&self, trace_id: TraceId, now: Instant) -> Released {
        let mut dropped = DroppedSpans::default();
        let released = crate::sync::lock(&self.state).keep(trace_id, now, &mut dropped);
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
    packing: Packing,
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
        let is_small = self.config.packing == Packing::Packed && trace.bytes <= LARGE;
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
        let scope = match (config.packing, &record.details.scope) {
            (Packing::Packed, Some(scope)) => scope,
            _ => &config.scope,
        };
        let position = self.open.iter().position(|batch| batch.scope() == scope);
        let at = position.unwrap_or_else(|| {
            self.open.push(Batch::new(config.packing, scope));
            self.open.len() - 1
        });
        let batch = &mut self.open[at];
        let before = batch.bytes();
        batch.add(record);
        let grown = batch.bytes() - before;
        if batch.spans() >= config.full.0 || batch.bytes() >= config.full.1 {
            let empty = Batch::new(config.packing, batch.scope());
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
mod tests {
    use proptest::prelude::*;

    use super::super::stats::PipelineGauges;
    use super::*;
    use crate::otlp::attributes::ValueRef;
    use crate::record::Parent;

    const SECOND: Duration = Duration::from_secs(1);
    const AGE: Duration = Duration::from_secs(100);
    const GRACE: Duration = Duration::from_secs(30);

    fn state(packing: Packing, spans: usize, bytes: usize) -> TailBufferState {
        let limits = TailBufferLimits { spans, bytes, age: AGE, grace: GRACE };
        let scope = Arc::new(InstrumentationScope::builder("ours").build());
        TailBufferState::new(TailBufferConfig { limits, packing, scope, full: (100, 10_000) })
    }

    fn large() -> TailBufferState {
        state(Packing::Packed, 1000, 1 << 20)
    }

    fn trace(trace_id: u128) -> TraceId {
        TraceId::from(trace_id)
    }

    fn root(trace_id: u128) -> SpanRecord {
        SpanRecord { trace_id: trace(trace_id), ..SpanRecord::default() }
    }

    fn child(trace_id: u128) -> SpanRecord {
        let parent = Parent { span_id: SpanId::from(7), is_remote: false };
        SpanRecord { parent, ..root(trace_id) }
    }

    impl TailBufferState {
        /// Whether the span was held, and how many other spans were dropped for it.
        fn holds(&mut self, mut record: SpanRecord, now: Instant) -> (bool, usize) {
            let mut dropped = DroppedSpans::default();
            let is_kept = self.hold(&mut record, now, &mut dropped);
            self.check();
            (!is_kept, dropped.spans)
        }

        /// How many spans feedback releases.
        fn releases(&mut self, trace_id: u128, now: Instant) -> usize {
            let mut dropped = DroppedSpans::default();
            let released = self.keep(trace(trace_id), now, &mut dropped);
            self.check();
            let released = released.map(|trace| trace.release()).unwrap_or_default();
            released.batches.iter().map(|batch| batch.spans()).sum()
        }

        /// How many spans are dropped as expired.
        fn expires(&mut self, now: Instant) -> usize {
            let mut dropped = DroppedSpans::default();
            while !self.expire(now, 1, &mut dropped) {
                self.check();
            }
            dropped.spans
        }

        fn check(&self) {
            let (mut spans, mut bytes, mut held, mut ended, mut kept) = (0, 0, 0, 0, 0);
            for (trace_id, trace) in &self.traces {
                match trace {
                    Trace::Held(trace) => {
                        let due = trace.began + AGE;
                        assert_eq!(self.by_age.get(&trace.number), Some(&(due, *trace_id)));
                        if let Some(number) = trace.ended {
                            let due = (trace.expires, *trace_id);
                            assert_eq!(self.ended.get(&number), Some(&due));
                            ended += 1;
                        }
                        assert!(trace.expires <= trace.began + AGE + GRACE);
                        let batches = || trace.open.iter().chain(&trace.full);
                        assert_eq!(
                            batches().map(|batch| batch.spans()).sum::<usize>(),
                            trace.spans
                        );
                        let packed: usize = batches().map(|batch| batch.bytes()).sum();
                        assert_eq!(packed + OVERHEAD, trace.bytes);
                        (spans, bytes, held) = (spans + trace.spans, bytes + trace.bytes, held + 1);
                    }
                    Trace::Kept(number, until) => {
                        assert_eq!(self.kept.get(number), Some(&(*until, *trace_id)));
                        kept += 1;
                    }
                }
            }
            assert_eq!((spans, bytes), (self.spans, self.bytes));
            assert!(spans <= self.config.limits.spans && bytes <= self.config.limits.bytes);
            let orders = (self.by_age.len(), self.ended.len(), self.kept.len());
            assert_eq!(orders, (held, ended, kept));
            assert!(self.free.iter().all(|trace| trace.spans == 0 && trace.ended.is_none()));
        }
    }

    #[test]
    fn a_trace_is_held_until_its_root_has_ended_and_the_grace_period_is_over() {
        let (mut state, start) = (large(), Instant::now());
        assert_eq!(state.holds(child(1), start), (true, 0));
        assert_eq!(state.holds(root(1), start + SECOND), (true, 0));
        assert_eq!(state.expires(start + GRACE), 0);
        assert_eq!(state.expires(start + SECOND + GRACE), 2);
        assert!(state.traces.is_empty());
    }

    #[test]
    fn a_root_that_does_not_end_is_waited_for_until_the_trace_is_too_old() {
        let (mut state, start) = (large(), Instant::now());
        state.holds(child(1), start);
        state.holds(child(1), start + AGE - SECOND);
        assert_eq!(state.expires(start + AGE - SECOND), 0);
        assert_eq!(state.expires(start + AGE), 2);
    }

    #[test]
    fn a_root_that_ends_just_in_time_has_its_whole_grace_period() {
        let (mut state, start) = (large(), Instant::now());
        state.holds(child(1), start);
        let end = start + AGE - SECOND;
        state.holds(root(1), end);
        assert_eq!(state.expires(end + GRACE - SECOND), 0);
        assert_eq!(state.expires(end + GRACE), 2);
    }

    #[test]
    fn a_root_that_opens_again_within_the_grace_period_is_waited_for_again() {
        let (mut state, start) = (large(), Instant::now());
        state.holds(root(1), start);
        state.holds(child(1), start + 20 * SECOND);
        assert_eq!(state.expires(start + GRACE + SECOND), 0);
        state.holds(root(1), start + 60 * SECOND);
        assert_eq!(state.expires(start + 60 * SECOND + GRACE - SECOND), 0);
        assert_eq!(state.expires(start + 60 * SECOND + GRACE), 3);
    }

    #[test]
    fn many_roots_of_one_trace_do_not_hold_it_for_ever() {
        let (mut state, start) = (large(), Instant::now());
        for second in (0..).step_by(10) {
            let (held, dropped) = state.holds(root(1), start + second * SECOND);
            assert!(held);
            if dropped > 0 {
                assert_eq!((second, dropped), (130, 13)); // the age, and one grace period
                break;
            }
        }
    }

    #[test]
    fn feedback_in_time_releases_what_is_held_and_lets_the_rest_through() {
        let (mut state, start) = (large(), Instant::now());
        state.holds(child(1), start);
        state.holds(child(2), start);
        state.holds(root(1), start);
        let almost = start + GRACE - SECOND;
        assert_eq!(state.releases(1, almost), 2);
        assert_eq!(state.releases(1, almost), 0);
        assert_eq!(state.holds(child(1), almost), (false, 0));
        assert_eq!(state.holds(root(1), almost), (false, 0));
        assert_eq!(state.holds(child(2), almost), (true, 0));
        assert_eq!(state.spans, 2);
    }

    #[test]
    fn late_feedback_releases_nothing_even_before_a_sweep() {
        let (mut state, start) = (large(), Instant::now());
        state.holds(root(1), start);
        assert_eq!(state.releases(1, start + GRACE), 0);
        assert_eq!(state.spans, 0);
        // What ends from here on is about a trace with feedback all the same.
        assert_eq!(state.holds(child(1), start + GRACE), (false, 0));
    }

    #[test]
    fn feedback_may_come_before_anything_has_ended() {
        let (mut state, start) = (large(), Instant::now());
        assert_eq!(state.releases(1, start), 0);
        assert_eq!(state.holds(child(1), start + AGE), (false, 0));
    }

    #[test]
    fn a_kept_trace_is_remembered_while_its_spans_end() {
        let (mut state, start) = (large(), Instant::now());
        state.releases(1, start);
        let mut now = start;
        for _ in 0..5 {
            now += AGE;
            assert_eq!(state.expires(now), 0);
            assert_eq!(state.holds(child(1), now), (false, 0));
        }
        now += 2 * (AGE + GRACE);
        assert_eq!(state.holds(child(1), now), (true, 0), "long after, it is a trace as any other");
        state.releases(2, now);
        assert_eq!(state.expires(now + 2 * (AGE + GRACE)), 1);
        assert!(state.traces.is_empty());
    }

    #[test]
    fn not_more_than_so_many_kept_traces_are_remembered() {
        let (mut state, start) = (large(), Instant::now());
        let mut dropped = DroppedSpans::default();
        let most = MOST_KEPT as u128;
        for id in 0..most {
            state.keep(trace(id), start, &mut dropped);
        }
        let later = start + AGE + GRACE;
        assert_eq!(state.holds(root(0), later), (false, 0)); // remembered for longer
        assert_eq!(state.releases(most, later), 0);
        assert_eq!(state.kept.len(), MOST_KEPT);
        assert_eq!(state.holds(root(0), start), (false, 0));
        assert_eq!(state.holds(root(1), start), (true, 0), "the first that was kept");
        assert_eq!(state.holds(root(2), start), (false, 0));
    }

    #[test]
    fn the_trace_that_is_held_for_longest_makes_room_for_spans() {
        let (mut state, start) = (state(Packing::Packed, 4, 1 << 20), Instant::now());
        state.holds(child(1), start);
        state.holds(root(2), start + SECOND); // over sooner, and younger
        state.holds(child(1), start + SECOND);
        state.holds(root(3), start + SECOND);
        assert_eq!(state.holds(root(4), start + 2 * SECOND), (true, 2));
        assert_eq!(state.releases(1, start + 2 * SECOND), 0);
        assert_eq!(state.releases(2, start + 2 * SECOND), 1);
    }

    #[test]
    fn the_trace_that_is_held_for_longest_makes_room_for_bytes() {
        for packing in [Packing::Packed, Packing::Records] {
            let (mut state, start) = (state(packing, 1000, 20_000), Instant::now());
            let mut ids = 1..;
            let dropped = ids.find_map(|id| {
                let mut record = root(id);
                record.attributes.set("text", ValueRef::Str(&"x".repeat(3000)));
                let (held, dropped) = state.holds(record, start);
                assert!(held);
                (dropped > 0).then_some((id, dropped))
            });
            assert_eq!(dropped, Some((6, 1)), "{packing:?}");
            assert_eq!(state.releases(1, start), 0);
            assert_eq!(state.releases(2, start), 1);
            // A span that is larger than all there is takes everything with it.
            let mut record = root(100);
            record.attributes.set("text", ValueRef::Str(&"x".repeat(30_000)));
            assert_eq!(state.holds(record, start), (true, 5));
            assert!(state.by_age.is_empty());
        }
    }

    #[test]
    fn spans_leave_in_batch_by_scope_and_not_too_large() {
        let (mut state, start) = (large(), Instant::now());
        for n in 0..250 {
            let theirs = || Arc::new(InstrumentationScope::builder("theirs").build());
            let mut record = child(1);
            record.details.scope = (n >= 200).then(theirs);
            state.holds(record, start);
        }
        let trace = state.keep(trace(1), start, &mut DroppedSpans::default()).unwrap();
        let batches = trace.release().batches;
        assert!(batches.iter().all(|batch| batch.spans() > 0 && batch.bytes() < 10_500));
        let of = |scope: &str| {
            let batches = batches.iter().filter(|batch| batch.scope().name() == scope);
            batches.map(|batch| batch.spans()).sum::<usize>()
        };
        assert_eq!((of("ours"), of("theirs")), (200, 50));
    }

    #[test]
    fn reused_memory_holds_nothing_of_a_dropped_trace() {
        let (mut state, start) = (large(), Instant::now());
        let scope = Some(Arc::new(InstrumentationScope::builder("theirs").build()));
        let [mut below, mut above] = [child(1), root(1)];
        below.details.scope = scope;
        below.count_dropped(5);
        above.count_dropped(6);
        state.holds(below, start);
        state.holds(above, start);
        assert_eq!(state.expires(start + GRACE), 2);
        assert_eq!(state.free.len(), 1);
        state.holds(child(2), start + GRACE);
        assert_eq!(state.free.len(), 0);
        let trace = state.keep(trace(2), start + AGE, &mut DroppedSpans::default()).unwrap();
        let Released { batches, dropped_attributes } = trace.release();
        assert_eq!((batches.len(), batches[0].spans(), dropped_attributes), (1, 1, 0));
    }

    #[test]
    fn what_is_closed_holds_and_keeps_nothing() {
        let counters = Arc::new(Counters::default());
        let held = TailBuffer { state: Mutex::new(large()), counters: counters.clone() };
        let start = Instant::now();
        held.hold(&mut root(1), start);
        held.hold(&mut root(2), start);
        held.keep(trace(2), start);
        assert_eq!(held.spans(), 1);
        held.close();
        assert_eq!(counters.read(PipelineGauges::default()).unsampled, 1);
        assert!(!held.hold(&mut root(2), start));
        assert!(held.keep(trace(1), start).batches.is_empty());
        held.sweep(start + AGE);
        assert_eq!((held.spans(), counters.read(PipelineGauges::default()).unsampled), (0, 2));
    }

    /// Steps: what happens, to which trace, and how many seconds after the step before.
    fn steps() -> impl Strategy<Value = Vec<(u8, u128, u32)>> {
        prop::collection::vec((0..8_u8, 0..6_u128, prop_oneof![Just(0), 0..40_u32]), 0..200)
    }

    proptest! {
        #[test]
        fn whatever_happens_every_span_is_released_or_dropped_once(steps in steps()) {
            let (mut state, mut now) = (state(Packing::Packed, 12, 1 << 20), Instant::now());
            let (mut came, mut through, mut released, mut dropped) = (0, 0, 0, 0);
            for (what, id, pause) in steps {
                now += pause * SECOND;
                match what {
                    0..=4 => {
                        let record = if what == 0 { root(id) } else { child(id) };
                        let (held, evicted) = state.holds(record, now);
                        came += 1;
                        through += usize::from(!held);
                        dropped += evicted;
                    }
                    5 => dropped += state.expires(now),
                    _ => {
                        let before = state.spans;
                        let now_released = state.releases(id, now);
                        released += now_released;
                        dropped += before - state.spans - now_released;
                    }
                }
                assert_eq!(came, through + released + dropped + state.spans);
            }
            state.expires(now + 2 * (AGE + GRACE));
            assert!(state.traces.is_empty());
        }
    }
}
