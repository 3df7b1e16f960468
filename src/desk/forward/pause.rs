//! How long a backend that failed, or a target that is missing, is left alone. Times are nanoseconds since the epoch.

use std::time::{Duration, SystemTime};

use crate::clock;
use crate::desk::store::batch::nanos;

/// Pauses after failures of the backend: the first, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Pauses of a target that the backend does not have, in seconds. The last one is repeated.
const PAUSES_OF_TARGET: [u64; 8] = [2, 5, 15, 60, 300, 900, 3_600, 21_600];
/// How soon what was changed by another process is noticed during a pause.
pub(super) const LOOK: Duration = Duration::from_secs(1);

pub(super) fn now() -> i64 {
    nanos(clock::unix_nanos(SystemTime::now()))
}

pub(super) fn until_then(time: i64) -> Duration {
    Duration::from_nanos(time.saturating_sub(now()).max(0).unsigned_abs())
}

/// The pause after some failures in a row, unless the backend asks for another one.
pub(super) fn growing_pause(failures: u32, wait: Option<Duration>) -> i64 {
    let growing = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    duration_nanos(wait.unwrap_or(growing).max(PAUSE))
}

/// The pause after some attempts.
pub(super) fn pause_of_target(attempts: i64) -> i64 {
    let at = usize::try_from(attempts).unwrap_or(0).min(PAUSES_OF_TARGET.len() - 1);
    duration_nanos(Duration::from_secs(PAUSES_OF_TARGET[at]))
}

fn duration_nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let seconds = |pause: i64| pause / 1_000_000_000;
        assert_eq!(
            [1, 2, 3, 9, 10, 99].map(|n| seconds(growing_pause(n, None))),
            [1, 2, 4, 256, 300, 300]
        );
        assert_eq!(seconds(growing_pause(1, Some(Duration::from_secs(70)))), 70);
        assert_eq!(seconds(growing_pause(1, Some(Duration::ZERO))), 1);
        assert_eq!([0, 1, 7, 99].map(|n| seconds(pause_of_target(n))), [2, 5, 21_600, 21_600]);
    }
}
