//! The clock: nanoseconds since the Unix epoch.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastant::Anchor;

/// How long a thread counts on from one look at the system's clock: short enough that a step of
/// that clock, or an error of a millionth in the counter's rate, is soon made good.
const TRUSTED: u64 = 100_000_000;

thread_local! {
    /// When this thread last looked at the system's clock.
    static ANCHOR: Cell<Option<(u64, Anchor)>> = const { Cell::new(None) };
}

/// The time, counted on by the processor's time-stamp counter from the last look at the system's
/// clock. Costs less than half of looking there.
#[inline]
pub(crate) fn now() -> u64 {
    let anchored = ANCHOR.try_with(|anchor| {
        let (looked, of_then) = anchor.get()?;
        let now = fastant::Instant::now().as_unix_nanos(&of_then);
        (now.wrapping_sub(looked) < TRUSTED).then_some(now)
    });
    match anchored {
        Ok(Some(now)) => now,
        _ => look(),
    }
}

#[cold]
fn look() -> u64 {
    let now = unix_nanos(SystemTime::now());
    // An anchor can't be made before the epoch.
    if now > 0 {
        let _ = ANCHOR.try_with(|anchor| anchor.set(Some((now, Anchor::new()))));
    }
    now
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
        let until = Instant::now() + 3 * Duration::from_nanos(TRUSTED);
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
