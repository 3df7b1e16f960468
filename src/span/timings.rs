//! How long a span is entered.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::clock::{self, Ticks};
use crate::record;

/// How long a span was entered, and when it last was, in ticks of the [counter](Ticks).
///
/// Changed without a lock: where one thread enters a span in the very instant in which another
/// exits it, the interval before may count as both busy and idle, or as neither.
#[derive(Debug, Default)]
pub(crate) struct SpanTimer {
    created: Ticks,
    entered: AtomicI32,
    changed: AtomicU64,
    busy: AtomicU64,
    idle: AtomicU64,
    exited: AtomicU64,
}

impl SpanTimer {
    /// Resets the timings to those of a span that is created at `now`.
    #[inline]
    pub(super) fn reset(&mut self, now: Ticks) {
        let Self { created, entered, changed, busy, idle, exited } = self;
        *created = now;
        // Stored one by one: as plain integers they would be written as vectors, which stalls here.
        entered.store(0, Ordering::Relaxed);
        changed.store(now.count(), Ordering::Relaxed);
        for sum in [busy, idle, exited] {
            sum.store(0, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn enter(&self, now: Ticks) {
        if self.entered.fetch_add(1, Ordering::Relaxed) <= 0 {
            self.add_to(&self.idle, now);
        }
    }

    #[inline]
    pub(crate) fn exit(&self, now: Ticks) {
        self.exited.store(now.count(), Ordering::Relaxed);
        if self.entered.fetch_sub(1, Ordering::Relaxed) <= 1 {
            self.add_to(&self.busy, now);
        }
    }

    /// As [`exit`](Self::exit), where busy and idle times aren't recorded.
    #[inline]
    pub(crate) fn exit_untracked(&self, now: Ticks) {
        self.exited.store(now.count(), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn read(&self) -> record::Timings {
        let [busy, idle] =
            [&self.busy, &self.idle].map(|sum| clock::nanos(sum.load(Ordering::Relaxed)));
        record::Timings { busy, idle }
    }

    /// How many nanoseconds after it was created the span was last exited. `None` if it never was.
    #[inline]
    pub(super) fn exited(&self) -> Option<u64> {
        self.exited_at().map(|exited| self.age(exited))
    }

    /// When the span was last exited. `None` if it never was.
    #[inline]
    pub(super) fn exited_at(&self) -> Option<Ticks> {
        match self.exited.load(Ordering::Relaxed) {
            0 => None,
            exited => Some(Ticks::from_count(exited)),
        }
    }

    /// How many nanoseconds after the span was created it is `now`.
    #[inline]
    pub(crate) fn age(&self, now: Ticks) -> u64 {
        now.since(self.created)
    }

    /// Whether the span was entered before, and exited.
    #[inline]
    pub(crate) fn was_entered(&self) -> bool {
        self.exited.load(Ordering::Relaxed) != 0
    }

    /// Adds the time since the last change.
    #[inline]
    fn add_to(&self, sum: &AtomicU64, now: Ticks) {
        let now = now.count();
        let since = now.saturating_sub(self.changed.load(Ordering::Relaxed));
        sum.store(sum.load(Ordering::Relaxed) + since, Ordering::Relaxed);
        self.changed.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_entered_twice_at_once_is_busy_once() {
        let mut timings = SpanTimer::default();
        let at = Ticks::from_count;
        clock::now(); // sets the rate
        timings.reset(at(5));
        timings.enter(at(10));
        timings.enter(at(20));
        timings.exit(at(30));
        assert!(timings.was_entered());
        timings.exit(at(50));
        timings.enter(at(57));
        timings.exit(at(60));
        let record::Timings { busy, idle } = timings.read();
        assert_eq!((busy, idle), (clock::nanos(40 + 3), clock::nanos(5 + 7)));
        assert_eq!(timings.exited(), Some(clock::nanos(55)));
    }
}
