//! How long a span is entered.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::record;

/// How long a span was entered, and when it last was.
///
/// Changed without a lock: where one thread enters a span in the very instant in which another
/// exits it, the interval before may count as both busy and idle, or as neither.
#[derive(Debug, Default)]
pub(crate) struct SpanTimer {
    entered: AtomicI32,
    changed: AtomicU64,
    busy: AtomicU64,
    idle: AtomicU64,
    exited: AtomicU64,
}

impl SpanTimer {
    /// Resets the timings to those of a span that is created at `now`.
    #[inline]
    pub(super) fn reset(&mut self, now: u64) {
        let Self { entered, changed, busy, idle, exited } = self;
        // Stored one by one: as plain integers they would be written as vectors, which stalls here.
        entered.store(0, Ordering::Relaxed);
        changed.store(now, Ordering::Relaxed);
        for sum in [busy, idle, exited] {
            sum.store(0, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn enter(&self, now: u64) {
        if self.entered.fetch_add(1, Ordering::Relaxed) <= 0 {
            self.add_to(&self.idle, now);
        }
    }

    #[inline]
    pub(crate) fn exit(&self, now: u64) {
        self.exited.store(now, Ordering::Relaxed);
        if self.entered.fetch_sub(1, Ordering::Relaxed) <= 1 {
            self.add_to(&self.busy, now);
        }
    }

    /// As [`exit`](Self::exit), where busy and idle times aren't recorded.
    #[inline]
    pub(crate) fn exit_untracked(&self, now: u64) {
        self.exited.store(now, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn read(&self) -> record::Timings {
        let [busy, idle] = [&self.busy, &self.idle].map(|sum| sum.load(Ordering::Relaxed));
        record::Timings { busy, idle }
    }

    /// When the span was last exited; 0 if it never was.
    #[inline]
    pub(super) fn exited(&self) -> u64 {
        self.exited.load(Ordering::Relaxed)
    }

    /// Whether the span was entered before, and exited.
    #[inline]
    pub(crate) fn was_entered(&self) -> bool {
        self.exited() != 0
    }

    /// Adds the time since the last change.
    #[inline]
    fn add_to(&self, sum: &AtomicU64, now: u64) {
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
        timings.reset(5);
        timings.enter(10);
        timings.enter(20);
        timings.exit(30);
        assert!(timings.was_entered());
        timings.exit(50);
        timings.enter(57);
        timings.exit(60);
        let record::Timings { busy, idle } = timings.read();
        assert_eq!((busy, idle, timings.exited()), (40 + 3, 5 + 7, 60));
    }
}
