use opentelemetry::InstrumentationScope;
use opentelemetry::trace::SpanId;
use proptest::prelude::*;

use super::super::Batching;
use super::super::queue::Next;
use super::super::stats::PipelineGauges;
use super::*;
use crate::record::{Parent, SpanRecord};

const AGE: u64 = 100 * SECOND;
const GRACE: u64 = 30 * SECOND;

/// A tail buffer, and the queue into which it releases spans.
struct Rig {
    tail_buffer: TailBuffer,
    queue: Queue,
    counters: Arc<Counters>,
    scope: Arc<InstrumentationScope>,
}

impl Rig {
    fn new(spans: usize, bytes: usize) -> Self {
        clock::now(); // sets the rate
        let (age, grace) = (Duration::from_nanos(AGE), Duration::from_nanos(GRACE));
        let counters = Arc::new(Counters::default());
        let limits = TailBufferLimits { spans, bytes, age, grace };
        let queue = Queue::new(usize::MAX, Batching::default(), counters.clone());
        let scope = Arc::new(InstrumentationScope::builder("ours").build());
        Self { tail_buffer: TailBuffer::new(limits, &counters), queue, counters, scope }
    }

    fn large() -> Self {
        Self::new(1000, 1 << 20)
    }

    /// Hands over a batch of spans that have ended then.
    fn holds(&self, spans: impl IntoIterator<Item = (SpanRecord, u64)>) {
        let mut batch = HeldBatch::new(&self.scope);
        spans.into_iter().for_each(|(mut span, end)| batch.add(&mut span, at(end)));
        self.tail_buffer.add(batch, &self.queue);
        self.check();
    }

    fn keeps(&self, trace_id: u128, now: u64) {
        self.tail_buffer.keep_at(trace(trace_id), from_start(now));
    }

    fn evaluates(&self, now: u64) {
        self.tail_buffer.evaluate_at(from_start(now), &self.queue);
        self.check();
    }

    /// The traces of the spans that were released since this was asked last.
    fn released(&self) -> Vec<u128> {
        let mut released = Vec::new();
        self.queue.make_due();
        while self.queue.waiting().0 > 0
            && let Next::Export(batches) = self.queue.next(std::time::Instant::now())
        {
            for batch in &batches {
                released
                    .extend(batch.places().map(|place| u128::from_be_bytes(place.0.to_bytes())));
            }
            self.queue.settle();
        }
        released
    }

    /// Spans that are held, and that were dropped.
    fn counts(&self) -> (usize, u64) {
        let unsampled = self.counters.read(PipelineGauges::default()).unsampled;
        (self.tail_buffer.spans(), unsampled)
    }

    fn check(&self) {
        let state = crate::sync::lock(&self.tail_buffer.state);
        let spans: usize = state.batches.iter().map(HeldBatch::spans).sum();
        let bytes: usize = state.batches.iter().map(HeldBatch::bytes).sum();
        assert_eq!((state.spans, state.bytes, state.is_evaluating), (spans, bytes, false));
        let limits = self.tail_buffer.limits;
        assert!(spans <= limits.spans && bytes <= limits.bytes);
        assert!(state.batches.iter().all(|batch| batch.spans() == batch.places().count()));
        assert!(state.batches.iter().all(|batch| batch.spans() > 0));
    }
}

/// Nanoseconds of the counter, some time after it began.
fn from_start(time: u64) -> u64 {
    1000 * SECOND + time
}

/// The counter at that time, or just after.
fn at(time: u64) -> Ticks {
    let time = from_start(time);
    let ticks_of_a_second =
        (1..64).map(|bits| 1_u64 << bits).find(|ticks| clock::nanos(*ticks) >= SECOND);
    let estimate =
        |second: u64| (u128::from(time) * u128::from(second)) / u128::from(clock::nanos(second));
    let mut ticks = ticks_of_a_second.map_or(time, |second| estimate(second) as u64);
    while clock::nanos(ticks) < time {
        ticks += 1;
    }
    Ticks::from_count(ticks)
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

#[test]
fn a_trace_is_held_until_its_root_has_ended_and_the_grace_period_is_over() {
    let rig = Rig::large();
    rig.holds([(child(1), 0), (root(1), SECOND), (child(2), SECOND)]);
    rig.evaluates(GRACE);
    assert_eq!(rig.counts(), (3, 0));
    rig.evaluates(2 * SECOND + GRACE);
    assert_eq!(rig.counts(), (1, 2));
}

#[test]
fn a_span_waits_for_its_root_for_so_long_and_no_longer() {
    let rig = Rig::large();
    rig.holds([(child(1), 0)]);
    rig.holds([(child(1), 20 * SECOND)]);
    rig.evaluates(AGE - SECOND);
    assert_eq!(rig.counts(), (2, 0));
    rig.evaluates(AGE + SECOND);
    assert_eq!(rig.counts(), (1, 1));
    rig.holds([(root(1), AGE + SECOND)]);
    rig.evaluates(AGE + GRACE);
    assert_eq!(rig.counts(), (2, 1), "the rest has the whole grace period");
    rig.evaluates(AGE + GRACE + 2 * SECOND);
    assert_eq!(rig.counts(), (0, 3));
}

#[test]
fn a_root_that_opens_again_within_the_grace_period_is_waited_for_again() {
    let rig = Rig::large();
    rig.holds([(root(1), 0), (child(1), 20 * SECOND)]);
    rig.evaluates(GRACE + SECOND);
    assert_eq!(rig.counts(), (2, 0));
    rig.holds([(root(1), 60 * SECOND)]);
    rig.evaluates(60 * SECOND + GRACE - SECOND);
    assert_eq!(rig.counts(), (3, 0));
    rig.evaluates(61 * SECOND + GRACE);
    assert_eq!(rig.counts(), (0, 3));
}

#[test]
fn many_roots_of_one_trace_do_not_hold_it_for_ever() {
    let rig = Rig::large();
    for second in (0..300).step_by(10) {
        rig.holds([(root(1), second * SECOND)]);
        rig.evaluates(second * SECOND + 1);
    }
    // A span is held for the age and one grace period.
    assert_eq!(rig.counts(), (13, 17));
}

#[test]
fn feedback_in_time_releases_what_is_held_and_what_ends_later() {
    let rig = Rig::large();
    rig.holds([(child(1), 0), (child(2), 0), (root(1), 0)]);
    let almost = GRACE - SECOND;
    rig.keeps(1, almost);
    rig.evaluates(almost);
    assert_eq!(rig.released(), [1, 1]);
    rig.holds([(child(1), almost), (root(1), almost), (child(2), almost)]);
    rig.evaluates(almost);
    assert_eq!(rig.released(), [1, 1]);
    assert_eq!(rig.counts(), (2, 0));
}

#[test]
fn late_feedback_releases_nothing_even_before_what_is_over_was_dropped() {
    let rig = Rig::large();
    rig.holds([(root(1), 0)]);
    rig.keeps(1, GRACE + SECOND);
    rig.evaluates(GRACE + SECOND);
    assert_eq!((rig.counts(), rig.released()), ((0, 1), vec![]));
    // What ends from here on is about a trace with feedback all the same.
    rig.holds([(child(1), GRACE + 2 * SECOND)]);
    rig.evaluates(GRACE + 2 * SECOND);
    assert_eq!((rig.counts(), rig.released()), ((0, 1), vec![1]));
}

#[test]
fn feedback_may_come_before_anything_has_ended() {
    let rig = Rig::large();
    rig.keeps(1, 0);
    rig.evaluates(0);
    rig.holds([(child(1), AGE)]);
    rig.evaluates(AGE);
    assert_eq!(rig.released(), [1]);
}

#[test]
fn feedback_on_what_has_ended_on_another_thread_finds_it_when_that_hands_it_over() {
    let rig = Rig::large();
    rig.keeps(1, GRACE - SECOND);
    rig.evaluates(GRACE);
    rig.holds([(child(1), 0), (root(1), 0)]);
    rig.evaluates(GRACE + 5 * SECOND);
    assert_eq!(rig.released(), [1, 1]);
}

#[test]
fn a_kept_trace_is_remembered_while_its_spans_end() {
    let rig = Rig::large();
    rig.keeps(1, 0);
    let mut now = 0;
    for _ in 0..5 {
        now += AGE;
        rig.evaluates(now);
        rig.holds([(child(1), now)]);
        rig.evaluates(now + 1);
        assert_eq!(rig.released(), [1]);
    }
    now += 2 * (AGE + GRACE) + SECOND;
    rig.evaluates(now);
    rig.holds([(child(1), now)]);
    rig.evaluates(now);
    assert_eq!(rig.counts(), (1, 0), "long after, it is a trace as any other");
    assert_eq!(crate::sync::lock(&rig.tail_buffer.state).kept.since(trace(1)), None);
}

#[test]
fn not_more_than_so_many_kept_traces_are_remembered() {
    let (mut kept, longest) = (KeptTraces::default(), AGE + GRACE);
    let most = kept_traces::MOST as u128;
    for id in 0..most {
        kept.add(trace(id), 0, longest);
    }
    kept.renew(trace(0), longest, longest); // remembered for longer
    kept.add(trace(most), longest, longest);
    let remembered = [0, 1, 2, most].map(|id| kept.since(trace(id)));
    assert_eq!(remembered, [Some(0), None, Some(0), Some(longest)]);
    kept.expire(2 * longest);
    let remembered = [0, 2, most].map(|id| kept.since(trace(id)));
    assert_eq!(remembered, [Some(0), None, Some(longest)]);
    kept.expire(3 * longest);
    assert!(kept.is_empty());
}

#[test]
fn what_is_held_for_longest_makes_room_unless_feedback_has_asked_for_it() {
    let rig = Rig::new(4, 1 << 20);
    for (second, id) in [(0, 1), (1, 2)] {
        rig.holds([(child(id), second * SECOND), (root(id), second * SECOND)]);
    }
    rig.keeps(1, 2 * SECOND);
    rig.holds([(child(3), 2 * SECOND), (child(4), 2 * SECOND)]);
    assert_eq!((rig.counts(), rig.released()), ((4, 0), vec![1, 1]));
    rig.holds([(root(4), 2 * SECOND)]);
    assert_eq!((rig.counts(), rig.released()), ((3, 2), vec![]));
}

#[test]
fn what_is_held_for_longest_makes_room_for_bytes() {
    let large = |id: u128, bytes: usize| {
        let mut record = root(id);
        record.attributes.set("text", crate::otlp::attributes::ValueRef::Str(&"x".repeat(bytes)));
        record
    };
    let rig = Rig::new(1000, 19_000);
    (1..=5).for_each(|id| rig.holds([(large(id, 3000), 0)]));
    assert_eq!(rig.counts(), (5, 0));
    rig.holds([(large(6, 3000), 0)]);
    assert_eq!(rig.counts(), (5, 1));
    // A span that is larger than all there is takes everything with it.
    rig.holds([(large(7, 30_000), 0)]);
    assert_eq!(rig.counts(), (0, 7));
}

#[test]
fn what_has_lost_attributes_counts_when_it_is_released() {
    let rig = Rig::large();
    let lost = |id: u128, attributes: u32| {
        let mut record = root(id);
        record.count_dropped(attributes);
        (record, 0)
    };
    rig.holds([lost(1, 5), lost(2, 7), (root(1), 0), lost(1, 1)]);
    rig.keeps(1, SECOND);
    rig.evaluates(SECOND);
    let dropped = || rig.counters.read(PipelineGauges::default()).dropped_attributes;
    assert_eq!((rig.released(), dropped()), (vec![1, 1, 1], 6));
    rig.keeps(2, SECOND);
    rig.evaluates(SECOND);
    assert_eq!((rig.released(), dropped()), (vec![2], 13));
}

#[test]
fn what_is_closed_releases_what_is_kept_and_holds_nothing_more() {
    let rig = Rig::large();
    let ended = |ids: &[u128]| {
        let mut batch = HeldBatch::new(&rig.scope);
        ids.iter().for_each(|id| batch.add(&mut root(*id), Ticks::now()));
        rig.tail_buffer.add(batch, &rig.queue);
    };
    ended(&[1, 2]);
    rig.tail_buffer.keep(trace(2));
    rig.tail_buffer.close(&rig.queue);
    assert_eq!((rig.counts(), rig.released()), ((0, 1), vec![2]));
    ended(&[2]);
    rig.tail_buffer.keep(trace(1));
    rig.tail_buffer.evaluate(&rig.queue);
    assert_eq!((rig.counts(), rig.released()), ((0, 2), vec![]));
}

/// Steps: what happens, to which trace, and how many seconds after the step before.
fn steps() -> impl Strategy<Value = Vec<(u8, u128, u64)>> {
    prop::collection::vec((0..8_u8, 0..6_u128, prop_oneof![Just(0), 0..40_u64]), 0..200)
}

proptest! {
    #[test]
    fn whatever_happens_every_span_is_released_or_dropped_once(steps in steps()) {
        let (rig, mut now) = (Rig::new(12, 1 << 20), 0);
        let (mut came, mut released, mut pending) = (0, 0, Vec::new());
        for (what, id, pause) in steps {
            now += pause * SECOND;
            match what {
                0..=4 => {
                    pending.push((if what == 0 { root(id) } else { child(id) }, now));
                    came += 1;
                    if pending.len() > usize::from(what) {
                        rig.holds(std::mem::take(&mut pending));
                    }
                }
                5 => rig.evaluates(now),
                _ => rig.keeps(id, now),
            }
            released += rig.released().len();
            let (held, dropped) = rig.counts();
            assert_eq!(came, pending.len() + released + held + dropped as usize);
        }
        rig.evaluates(now + 2 * (AGE + GRACE));
        assert_eq!(rig.tail_buffer.spans(), 0);
        rig.evaluates(now + 4 * (AGE + GRACE));
        assert!(crate::sync::lock(&rig.tail_buffer.state).kept.is_empty());
    }
}
