//! Backpressure and deadline: how long the export thread may go on trying a request.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Limit of one request while the queue is under pressure.
const LIMIT_UNDER_PRESSURE: Duration = Duration::from_secs(1);

/// Backpressure from the queue to the sink. Only the outbox sink reads it.
#[derive(Debug, Default)]
pub(crate) struct Backpressure {
    is_under_pressure: AtomicBool,
    deadline: Mutex<Option<Instant>>,
}

impl Backpressure {
    /// Sets whether the queue is so full that spans may soon be dropped.
    pub(crate) fn set_pressure(&self, is_under_pressure: bool) {
        self.is_under_pressure.store(is_under_pressure, Ordering::Relaxed);
    }

    /// Sets the deadline for the whole export, at shutdown.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        *crate::sync::lock(&self.deadline) = Some(deadline);
    }

    pub(crate) fn is_past_deadline(&self) -> bool {
        crate::sync::lock(&self.deadline).is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether a request that was first sent at `began` is not to be sent again.
    pub(crate) fn gives_up_on(&self, began: Instant) -> bool {
        self.is_past_deadline()
            || self.is_under_pressure.load(Ordering::Relaxed)
                && began.elapsed() > LIMIT_UNDER_PRESSURE
    }
}
