//! The clock: nanoseconds since the Unix epoch.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a thread extrapolates from one reading of the system clock: short enough that a step of
/// that clock, or an error of a millionth in the counter's rate, is soon corrected.
const ANCHOR_LIFETIME: Duration = Duration::from_millis(100);

thread_local! {
    static ANCHOR: Cell<Anchor> = const { Cell::new(Anchor { ticks: 0, time: 0, rate: 0, valid_ticks: 0 }) };
}

/// A thread's last reading of the system clock, and how to extrapolate from it.
#[derive(Clone, Copy)]
struct Anchor {
    /// The time-stamp counter at that reading.
    ticks: u64,
    /// Nanoseconds since the epoch at that reading.
    time: u64,
    /// Nanoseconds a tick, times 2^32.
    rate: u64,
    /// How many ticks the reading is used for: so few that their product with the rate has 64 bits.
    valid_ticks: u64,
}

/// The time, extrapolated with the processor's time-stamp counter from the last reading of the
/// system clock. Costs less than half of such a reading.
#[inline]
pub(crate) fn now() -> u64 {
    let anchored = ANCHOR.try_with(|anchor| {
        let Anchor { ticks, time, rate, valid_ticks } = anchor.get();
        let since = Ticks::now().0.wrapping_sub(ticks);
        (since < valid_ticks).then(|| time + ((since * rate) >> 32))
    });
    match anchored {
        Ok(Some(now)) => now,
        _ => read_system_clock(),
    }
}

#[cold]
fn read_system_clock() -> u64 {
    let time = unix_nanos(SystemTime::now());
    let ticks = Ticks::now().0;
    // There is no extrapolation from a time before the epoch or after 2262, nor with a counter that
    // doesn't tick.
    let valid_ticks = Ticks::of(fastant::Instant::ZERO + ANCHOR_LIFETIME).0;
    let rate =
        (u128::from(ANCHOR_LIFETIME.as_nanos() as u64) << 32).checked_div(valid_ticks.into());
    let rate = rate.and_then(|rate| u64::try_from(rate).ok());
    if let Some(rate) = rate.filter(|_| time > 0 && time < u64::MAX / 2) {
        let _ = ANCHOR.try_with(|anchor| anchor.set(Anchor { ticks, time, rate, valid_ticks }));
    }
    time
}

/// The value of the time-stamp counter.
///
/// `fastant` reads the counter, but converts it to a time in floating point, which takes as long as
/// the reading. The value itself is accessible through `Hash` of `fastant`'s `Instant`. Should that
/// change, no tick is counted, and every time is read from the system clock.
///
/// `quanta` has a public function for the value; a reading by its clock in a `static` took 1.0 to 1.7
/// times as long in five rounds, and it brings four more crates.
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

/// Nanoseconds since the epoch; 0 for a time before it, `u64::MAX` for a time after 2554.
pub(crate) fn unix_nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

pub(crate) fn system_time(unix_nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}

/// The instant `limit` from now. A longer limit than a year is cut, so that the sum can't overflow.
pub(crate) fn after(limit: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    Instant::now() + limit.min(YEAR)
}

/// The time of an enrichment: strictly increasing within a process, so that folding by time keeps
/// the order of the enrichments.
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
        // Long enough that a thread reads the system clock several times.
        let until = Instant::now() + 3 * ANCHOR_LIFETIME;
        let mut last = now();
        while Instant::now() < until {
            let (before, time, after) =
                (unix_nanos(SystemTime::now()), now(), unix_nanos(SystemTime::now()));
            let tolerance = 1_000_000; // a millisecond, for an error in the counter's rate
            assert!(
                before < time + tolerance && time < after + tolerance,
                "{before} {time} {after}"
            );
            assert!(last < time + tolerance);
            last = time;
        }
    }
}
