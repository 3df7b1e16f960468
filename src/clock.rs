//! The clock: nanoseconds since the Unix epoch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) fn now() -> u64 {
    unix_nanos(SystemTime::now())
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
