use proptest::prelude::*;

use super::super::stats::PipelineGauges;
use super::*;
use crate::otlp::attributes::ValueRef;
use crate::record::Parent;

const SECOND: Duration = Duration::from_secs(1);
const AGE: Duration = Duration::from_secs(100);
const GRACE: Duration = Duration::from_secs(30);

fn state(spans: usize, bytes: usize) -> TailBufferState {
    let limits = TailBufferLimits { spans, bytes, age: AGE, grace: GRACE };
    let scope = Arc::new(InstrumentationScope::builder("ours").build());
    TailBufferState::new(TailBufferConfig { limits, scope, full: (100, 10_000) })
}

fn large() -> TailBufferState {
    state(1000, 1 << 20)
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
                    assert_eq!(batches().map(|batch| batch.spans()).sum::<usize>(), trace.spans);
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
    let (mut state, start) = (state(4, 1 << 20), Instant::now());
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
    let (mut state, start) = (state(1000, 20_000), Instant::now());
    let mut ids = 1..;
    let dropped = ids.find_map(|id| {
        let mut record = root(id);
        record.attributes.set("text", ValueRef::Str(&"x".repeat(3000)));
        let (held, dropped) = state.holds(record, start);
        assert!(held);
        (dropped > 0).then_some((id, dropped))
    });
    assert_eq!(dropped, Some((6, 1)));
    assert_eq!(state.releases(1, start), 0);
    assert_eq!(state.releases(2, start), 1);
    // A span that is larger than all there is takes everything with it.
    let mut record = root(100);
    record.attributes.set("text", ValueRef::Str(&"x".repeat(30_000)));
    assert_eq!(state.holds(record, start), (true, 5));
    assert!(state.by_age.is_empty());
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
        let (mut state, mut now) = (state(12, 1 << 20), Instant::now());
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
