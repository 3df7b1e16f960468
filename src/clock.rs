//! The clock: nanoseconds since the Unix epoch, and a counter that measures durations.
//!
//! The system clock may be set at any time, by a day or back. So it only says when a span starts.
//! The other times of a span are its start and what the counter has counted since, and busy and
//! idle times are differences of the counter.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::fork;

/// How long a thread extrapolates from one reading of the system clock: short enough that a step of
/// that clock, or an error of a millionth in the counter's rate, is soon corrected.
const ANCHOR_LIFETIME: Duration = Duration::from_millis(100);

thread_local! {
    static ANCHOR: Cell<Anchor> = const { Cell::new(Anchor { ticks: Ticks(0), time: 0, rate: 0, valid_ticks: 0 }) };
}

/// A thread's last reading of the system clock, and how to extrapolate from it.
#[derive(Clone, Copy)]
struct Anchor {
    /// The counter at that reading.
    ticks: Ticks,
    /// Nanoseconds since the epoch at that reading.
    time: u64,
    /// Nanoseconds a tick, times 2^32.
    rate: u64,
    /// How many ticks the reading is used for: so few that their product with the rate has 64 bits.
    valid_ticks: u64,
}

/// The time and the counter, read at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Nanoseconds since the Unix epoch.
    pub(crate) time: u64,
    pub(crate) ticks: Ticks,
}

/// The time: see [`read`].
#[inline]
pub(crate) fn now() -> u64 {
    read().time
}

/// The time and the counter. The time is extrapolated with the counter from the last reading of the
/// system clock, which costs less than half of such a reading.
#[inline]
pub(crate) fn read() -> Reading {
    read_at(Ticks::now(), SystemTime::now)
}

/// As [`read`], when the counter is at `ticks`. `system_time` reads the system clock.
#[inline]
fn read_at(ticks: Ticks, system_time: impl FnOnce() -> SystemTime) -> Reading {
    let anchored = ANCHOR.try_with(|anchor| {
        let Anchor { ticks: anchored, time, rate, valid_ticks } = anchor.get();
        let since = ticks.0.wrapping_sub(anchored.0);
        (since < valid_ticks).then(|| time + ((since * rate) >> 32))
    });
    match anchored {
        Ok(Some(time)) => Reading { time, ticks },
        _ => Reading { time: set_anchor(ticks, system_time), ticks },
    }
}

#[cold]
fn set_anchor(ticks: Ticks, system_time: impl FnOnce() -> SystemTime) -> u64 {
    fork::process(); // about as dear as the system clock
    let time = unix_nanos(system_time());
    let rate = rate();
    let valid_ticks = (ANCHOR_LIFETIME.as_nanos() << 32).checked_div(rate.into()).unwrap_or(0);
    // There is no extrapolation from a time before the epoch or after 2262.
    if let Ok(valid_ticks) = u64::try_from(valid_ticks)
        && (1..u64::MAX / 2).contains(&time)
    {
        let _ = ANCHOR.try_with(|anchor| anchor.set(Anchor { ticks, time, rate, valid_ticks }));
    }
    time
}

/// A value of the counter, never 0. It doesn't follow the system clock, and all threads of the
/// process have the same.
///
/// It is the processor's time-stamp counter, where that ticks at a constant rate; elsewhere it
/// counts the nanoseconds of the system's monotonic clock.
///
/// `fastant` reads the time-stamp counter, but converts it to a time in floating point, which takes
/// as long as the reading. The value itself is accessible through `Hash` of `fastant`'s `Instant`.
/// Should that change, the monotonic clock is read.
///
/// `quanta` has a public function for the value; a reading by its clock in a `static` took 1.0 to 1.7
/// times as long in five rounds, and it brings four more crates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ticks(u64);

impl Ticks {
    #[inline]
    pub(crate) fn now() -> Self {
        match fastant::is_tsc_available() {
            true => match counted(fastant::Instant::now()) {
                0 => Self::of_monotonic_clock(),
                ticks => Self(ticks),
            },
            false => Self::of_monotonic_clock(),
        }
    }

    #[cold]
    fn of_monotonic_clock() -> Self {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let since = FIRST.get_or_init(Instant::now).elapsed();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).saturating_add(1))
    }

    pub(crate) fn from_count(count: u64) -> Self {
        Self(count)
    }

    #[inline]
    pub(crate) fn count(self) -> u64 {
        self.0
    }

    /// The nanoseconds since `earlier`; 0 if that is later.
    #[inline]
    pub(crate) fn since(self, earlier: Self) -> u64 {
        nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How many nanoseconds so many ticks take.
#[inline]
pub(crate) fn nanos(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(RATE.load(Ordering::Relaxed))) >> 32) as u64
}

/// Nanoseconds a tick, times 2^32: 0 before the first [reading](read), and then always the same.
static RATE: AtomicU64 = AtomicU64::new(0);

fn rate() -> u64 {
    match RATE.load(Ordering::Relaxed) {
        0 => set_rate(),
        rate => rate,
    }
}

#[cold]
fn set_rate() -> u64 {
    const SECOND: Duration = Duration::from_secs(1);
    const ONE: u64 = 1 << 32;
    let of_counter = || {
        let in_a_second = counted(fastant::Instant::ZERO + SECOND);
        let rate = (SECOND.as_nanos() << 32).checked_div(in_a_second.into())?;
        u64::try_from(rate).ok().filter(|rate| *rate > 0)
    };
    let rate = match fastant::is_tsc_available() {
        true => of_counter().unwrap_or(ONE),
        false => ONE,
    };
    RATE.store(rate, Ordering::Relaxed);
    rate
}

/// The value of the time-stamp counter; 0 if `fastant` doesn't give it.
#[inline]
fn counted(instant: fastant::Instant) -> u64 {
    let mut counter = CounterHasher::default();
    instant.hash(&mut counter);
    counter.0
}

#[derive(Default)]
struct CounterHasher(u64);

impl Hasher for CounterHasher {
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

    #[test]
    fn the_counter_is_as_fast_as_the_monotonic_clock() {
        let (begun, first) = (Instant::now(), read().ticks);
        while begun.elapsed() < ANCHOR_LIFETIME {}
        let counted = Ticks::now().since(first);
        let elapsed = begun.elapsed().as_nanos() as u64;
        let lifetime = ANCHOR_LIFETIME.as_nanos() as u64;
        assert!(counted > lifetime * 9 / 10 && counted <= elapsed + lifetime / 10, "{counted}");
        assert_eq!(first.since(Ticks::now()), 0);
    }

    #[test]
    fn a_step_of_the_system_clock_is_followed_by_the_time_and_not_by_the_counter() {
        let day = Duration::from_secs(24 * 60 * 60);
        let lifetime = ANCHOR_LIFETIME.as_nanos() as u64;
        let start = UNIX_EPOCH + 20_000 * day;
        let first = Ticks::now();
        let after = |lifetimes: u64| Ticks(first.0 + ((lifetime * lifetimes * 2) << 32) / rate());
        let began = read_at(after(1), || start);
        assert_eq!(began.time, unix_nanos(start));
        let unread = || -> SystemTime { panic!("the anchor is valid") };
        assert_eq!(read_at(after(1), unread).time, began.time);
        let stepped = read_at(after(2), || start + day);
        assert_eq!(stepped.time, unix_nanos(start + day));
        let back = read_at(after(3), || start - day);
        assert_eq!(back.time, unix_nanos(start - day));
        for (reading, lifetimes) in [(stepped, 2), (back, 4)] {
            let since = reading.ticks.since(began.ticks);
            assert!(since.abs_diff(lifetimes * lifetime) < 10, "{since}"); // a tick or two
        }
    }
}
