//! Whether the collector can be reached, as far as is known.

use std::time::{Duration, Instant};

use crate::transport::retry::jitter;

/// The first pause after a failure, and the longest.
const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(30);

/// A way to the collector, which after a failure isn't tried for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// The last pause; zero while all is well.
    pause: Duration,
    until: Option<Instant>,
}

impl Reach {
    /// It failed at `now`. The next pause is twice as long, and not shorter than it was `told`.
    pub(super) fn failed(&mut self, told: Option<Duration>, now: Instant) {
        self.failed_at(told, now, jitter());
    }

    fn failed_at(&mut self, told: Option<Duration>, now: Instant, random: f64) {
        self.pause = (self.pause * 2).clamp(FIRST, MOST);
        let own = self.pause.mul_f64(0.5 + random / 2.0);
        // A collector that says "in a year" is asked again tomorrow.
        let told = told.unwrap_or_default().min(Duration::from_secs(24 * 60 * 60));
        self.until = Some(now + own.max(told));
    }

    /// It works. Returns whether that is news.
    pub(super) fn succeeded(&mut self) -> bool {
        !std::mem::take(self).pause.is_zero()
    }

    /// Whether it failed when it was last tried.
    pub(super) fn is_doubtful(&self) -> bool {
        !self.pause.is_zero()
    }

    /// When it is to be tried again; `None` for at once.
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
        let (mut reach, now) = (Reach::default(), Instant::now());
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
        let (mut reach, now) = (Reach::default(), Instant::now());
        reach.failed_at(Some(Duration::from_secs(60)), now, 0.0);
        assert_eq!(reach.until(), Some(now + Duration::from_secs(60)));
        reach.failed_at(Some(Duration::from_secs(u64::MAX)), now, 0.0);
        assert_eq!(reach.until(), Some(now + Duration::from_secs(24 * 60 * 60)));
    }
}
