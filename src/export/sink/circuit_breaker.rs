//! A circuit breaker: after a failure the collector isn't tried for a while.

use std::time::{Duration, Instant};

use crate::random;

/// The first pause after a failure, and the longest.
const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(30);

/// The state of the circuit for one kind of request: closed, or open until an instant. The pause
/// between attempts doubles with each failure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CircuitBreaker {
    /// The last pause; zero while the circuit is closed.
    pause: Duration,
    until: Option<Instant>,
}

impl CircuitBreaker {
    /// Records a failure at `now`. The next pause is twice as long, and not shorter than
    /// `retry_after`, the delay that the collector asked for.
    pub(super) fn failed(&mut self, told: Option<Duration>, now: Instant) {
        self.failed_at(told, now, random::fraction());
    }

    fn failed_at(&mut self, told: Option<Duration>, now: Instant, random: f64) {
        self.pause = (self.pause * 2).clamp(FIRST, MOST);
        let own = self.pause.mul_f64(0.5 + random / 2.0);
        // A delay of more than a day counts as a day.
        let told = told.unwrap_or_default().min(Duration::from_secs(24 * 60 * 60));
        self.until = Some(now + own.max(told));
    }

    /// Records a success, which closes the circuit. Returns whether it was open.
    pub(super) fn succeeded(&mut self) -> bool {
        !std::mem::take(self).pause.is_zero()
    }

    /// Whether the last request failed.
    pub(super) fn is_doubtful(&self) -> bool {
        !self.pause.is_zero()
    }

    /// When the next request may be sent; `None` for at once.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn is_down(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_fails_is_tried_ever_more_rarely_until_it_works() {
        let (mut reach, now) = (CircuitBreaker::default(), Instant::now());
        assert!(!reach.is_down(now) && !reach.is_doubtful());
        let pauses: Vec<_> = (0..9)
            .map(|_| {
                reach.failed_at(None, now, 1.0);
                reach.until().unwrap().duration_since(now).as_millis()
            })
            .collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert!(reach.is_down(now) && !reach.is_down(now + MOST));
        assert!(reach.is_doubtful());
        assert!(reach.succeeded());
        assert!(!reach.succeeded() && !reach.is_down(now));
    }

    #[test]
    fn a_collector_that_says_when_to_come_back_is_believed() {
        let (mut reach, now) = (CircuitBreaker::default(), Instant::now());
        reach.failed_at(Some(Duration::from_secs(60)), now, 0.0);
        assert_eq!(reach.until(), Some(now + Duration::from_secs(60)));
        reach.failed_at(Some(Duration::from_secs(u64::MAX)), now, 0.0);
        assert_eq!(reach.until(), Some(now + Duration::from_secs(24 * 60 * 60)));
    }
}
