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
    pub(super) fn record_failure(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.record_failure_at(retry_after, now, random::fraction());
    }

    fn record_failure_at(&mut self, retry_after: Option<Duration>, now: Instant, random: f64) {
        self.pause = (self.pause * 2).clamp(FIRST, MOST);
        let own = self.pause.mul_f64(0.5 + random / 2.0);
        // A delay of more than a day counts as a day.
        let retry_after = retry_after.unwrap_or_default().min(Duration::from_secs(24 * 60 * 60));
        self.until = Some(now + own.max(retry_after));
    }

    /// Records a success, which closes the circuit. Returns whether it was open.
    pub(super) fn record_success(&mut self) -> bool {
        !std::mem::take(self).pause.is_zero()
    }

    /// Whether the last request failed.
    pub(super) fn has_failed(&self) -> bool {
        !self.pause.is_zero()
    }

    /// When the next request may be sent; `None` for at once.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_a_request_succeeds() {
        let (mut circuit, now) = (CircuitBreaker::default(), Instant::now());
        assert!(!circuit.is_open(now) && !circuit.has_failed());
        let pauses: Vec<_> = (0..9)
            .map(|_| {
                circuit.record_failure_at(None, now, 1.0);
                circuit.until().unwrap().duration_since(now).as_millis()
            })
            .collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert!(circuit.is_open(now) && !circuit.is_open(now + MOST));
        assert!(circuit.has_failed());
        assert!(circuit.record_success());
        assert!(!circuit.record_success() && !circuit.is_open(now));
    }

    #[test]
    fn the_delay_that_a_collector_asks_for_is_kept() {
        let (mut circuit, now) = (CircuitBreaker::default(), Instant::now());
        circuit.record_failure_at(Some(Duration::from_secs(60)), now, 0.0);
        assert_eq!(circuit.until(), Some(now + Duration::from_secs(60)));
        circuit.record_failure_at(Some(Duration::from_secs(u64::MAX)), now, 0.0);
        assert_eq!(circuit.until(), Some(now + Duration::from_secs(24 * 60 * 60)));
    }
}
