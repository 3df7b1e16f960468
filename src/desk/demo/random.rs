//! Repeatable random numbers, and ids made of them.

use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::IdGenerator;

use crate::sync::lock;

/// A generator that repeats itself: the same seed, the same numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(fastrand::Rng);

impl Random {
    /// A generator seeded by a list of numbers.
    pub(super) fn of(numbers: &[u64]) -> Self {
        let seed =
            numbers.iter().fold(0, |seed, number| fastrand::Rng::with_seed(seed ^ *number).u64(..));
        Self(fastrand::Rng::with_seed(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number from `from` to before `to`.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        self.0.u64(from..to.max(from + 1))
    }

    /// True with this chance in percent.
    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.between(0, 100) < chance
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.0.usize(..from.len())]
    }

    /// A random index into a list of weights.
    pub(super) fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.between(0, weights.iter().sum());
        for (place, weight) in weights.iter().enumerate() {
            if left < *weight {
                return place;
            }
            left -= weight;
        }
        0
    }
}

/// Generates the ids of spans in the order of their start, so that a seed gives the same ids each time.
#[derive(Clone, Debug)]
pub(super) struct DemoIds(Arc<Mutex<Random>>);

impl Default for DemoIds {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Random::of(&[]))))
    }
}

impl DemoIds {
    /// Numbers within a day that are not conversations of its plan.
    pub(super) const UNMATCHED: u64 = u64::MAX;
    pub(super) const OF_NOW: u64 = u64::MAX - 1;

    /// Seeds the ids by seed, day, and number within the day.
    pub(super) fn begin(&self, key: [u64; 3]) {
        *lock(&self.0) = Random::of(&[key[0], key[1], key[2], 1]);
    }
}

impl IdGenerator for DemoIds {
    fn new_trace_id(&self) -> TraceId {
        let mut random = lock(&self.0);
        let (high, low) = (u128::from(random.next()), u128::from(random.next()));
        TraceId::from((high << 64 | low).max(1))
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(lock(&self.0).next().max(1))
    }
}
