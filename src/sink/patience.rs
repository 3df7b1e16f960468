//! Patience: how long the export thread may go on trying.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a request may take while others press.
const PRESSED: Duration = Duration::from_secs(1);

/// What the queue lets the sink know. Only one that can put spans aside asks.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    is_pressing: AtomicBool,
    end: Mutex<Option<Instant>>,
}

impl Patience {
    /// Whether so much waits that spans may soon be dropped.
    pub(crate) fn press(&self, is_pressing: bool) {
        self.is_pressing.store(is_pressing, Ordering::Relaxed);
    }

    /// There is an end to everything.
    pub(crate) fn end_by(&self, end: Instant) {
        *crate::sync::lock(&self.end) = Some(end);
    }

    pub(crate) fn has_ended(&self) -> bool {
        crate::sync::lock(&self.end).is_some_and(|end| Instant::now() >= end)
    }

    /// Whether a request that began then has been tried for long enough.
    pub(crate) fn is_over(&self, began: Instant) -> bool {
        self.has_ended() || self.is_pressing.load(Ordering::Relaxed) && began.elapsed() > PRESSED
    }
}
