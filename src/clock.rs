//! The clock: nanoseconds since the Unix epoch.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a thread counts on from one look at the system's clock: short enough that a step of
/// that clock, or an error of a millionth in the counter's rate, is soon made good.
const TRUSTED: Duration = Duration::from_millis(100);

thread_local! {
    static ANCHOR: Cell<Anchor> = const { Cell::new(Anchor { ticks: 0, time: 0, rate: 0, trusted: 0 }) };
}

/// When a thread last looked at the system's clock, and how it counts on from there.
#[derive(Clone, Copy)]
struct Anchor {
    /// What the counter said then.
    ticks: u64,
    /// Nanoseconds since the epoch.
    time: u64,
    /// Nanoseconds a tick, times 2^32.
    rate: u64,
    /// How many ticks may be counted: so few that their product with the rate is one of 64 bits.
    trusted: u64,
}

/// The time, counted on by the processor's time-stamp counter from the last look at the system's
/// clock. Costs less than half of looking there.
#[inline]
pub(crate) fn now() -> u64 {
    let anchored = ANCHOR.try_with(|anchor| {
        let Anchor { ticks, time, rate, trusted } = anchor.get();
        let since = Ticks::now().0.wrapping_sub(ticks);
        (since < trusted).then(|| time + ((since * rate) >> 32))
    });
    match anchored {
        Ok(Some(now)) => now,
        _ => look(),
    }
}

#[cold]
fn look() -> u64 {
    let time = unix_nanos(SystemTime::now());
    let ticks = Ticks::now().0;
    // What lies before the epoch or after 2554 can't be counted on from, nor what doesn't tick.
    let trusted = Ticks::of(fastant::Instant::ZERO + TRUSTED).0;
    let rate = (u128::from(TRUSTED.as_nanos() as u64) << 32).checked_div(trusted.into());
    let rate = rate.and_then(|rate| u64::try_from(rate).ok());
    if let Some(rate) = rate.filter(|_| time > 0 && time < u64::MAX / 2) {
        let _ = ANCHOR.try_with(|anchor| anchor.set(Anchor { ticks, time, rate, trusted }));
    }
    time
}

/// How often the time-stamp counter has ticked.
///
/// `fastant` reads it, and gives the time in floating-point numbers, which takes as long as to read
/// it. The number itself is what an instant is hashed by.
#[derive(Default)]
struct Ticks(u64);

impl Ticks {
    #[inline]
    fn now() -> Self {
        Self::of(fastant::Instant::now())
    }

    #[inline]
    fn of(instant: fastant::Instant) -> Self {
        let mut ticks = Self::default();
        instant.hash(&mut ticks);
        ticks
    }
}

impl Hasher for Ticks {
    #[inline]
    fn write_u64(&mut self, ticks: u64) {
        self.0 = ticks;
    }

    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Nanoseconds since the epoch; 0 for what lies before it, the end of `u64` for what lies after 2554.
pub(crate) fn unix_nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

pub(crate) fn system_time(unix_nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}

/// The instant after `limit`; a limit that no clock can count to ends in a year.
pub(crate) fn after(limit: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    Instant::now() + limit.min(YEAR)
}

/// The time of an enrichment: never the same twice in a process, and never earlier than the one
/// before, so that folding by time gives the order in which things were said.
pub(crate) fn enrichment_time() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = now();
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)))
        .map_or(now, |last| now.max(last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_counted_on_is_that_of_the_system() {
        // Long enough that a thread looks at the system's clock again and again.
        let until = Instant::now() + 3 * TRUSTED;
        let mut last = now();
        while Instant::now() < until {
            let (before, time, after) =
                (unix_nanos(SystemTime::now()), now(), unix_nanos(SystemTime::now()));
            let tolerance = 1_000_000; // of a counter that is told to drift by a millionth
            assert!(
                before < time + tolerance && time < after + tolerance,
                "{before} {time} {after}"
            );
            assert!(last < time + tolerance);
            last = time;
        }
    }
}
