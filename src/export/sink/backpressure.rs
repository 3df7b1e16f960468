//! Backpressure and deadline: how long the export thread may go on trying a request.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Limit of one request while the queue is under pressure.
const PRESSED: Duration = Duration::from_secs(1);

/// Backpressure from the queue to the sink. Only the outbox sink reads it.
#[derive(Debug, Default)]
pub(crate) struct Backpressure {
    is_pressing: AtomicBool,
    end: Mutex<Option<Instant>>,
}

impl Backpressure {
    /// Sets whether the queue is so full that spans may soon be dropped.
    pub(crate) fn set_pressure(&self, is_pressing: bool) {
        self.is_pressing.store(is_pressing, Ordering::Relaxed);
    }

    /// Sets the deadline for the whole export, at shutdown.
    pub(crate) fn set_deadline(&self, end: Instant) {
        *crate::sync::lock(&self.end) = Some(end);
    }

    pub(crate) fn is_past_deadline(&self) -> bool {
        crate::sync::lock(&self.end).is_some_and(|end| Instant::now() >= end)
    }

    /// Whether a request that was first sent at `began` is not to be sent again.
    pub(crate) fn gives_up_on(&self, began: Instant) -> bool {
        self.is_past_deadline()
            || self.is_pressing.load(Ordering::Relaxed) && began.elapsed() > PRESSED
    }
}
