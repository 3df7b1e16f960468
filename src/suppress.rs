//! Suppression: nothing is captured on the export threads and on those of the test collector.
//!
//! The word is that of OpenTelemetry's `Context::enter_telemetry_suppressed_scope`.
//!
//! A mark in a thread-local costs the layer one load; a no-op subscriber set by `set_default` on
//! those threads would take the fast path of `tracing` away from every other thread.

use std::cell::Cell;

thread_local! {
    static SUPPRESSED: Cell<bool> = const { Cell::new(false) };
}

/// Suppresses capture on this thread for good.
pub(crate) fn mark_this_thread() {
    let _ = SUPPRESSED.try_with(|mark| mark.set(true));
}

/// Whether capture is suppressed on this thread.
#[inline]
pub(crate) fn is_this_thread() -> bool {
    SUPPRESSED.try_with(Cell::get).unwrap_or(true)
}

/// Suppresses capture on this thread until the guard is dropped.
#[inline]
pub(crate) fn scope() -> SuppressGuard {
    SuppressGuard { was_suppressed: SUPPRESSED.try_with(|mark| mark.replace(true)).unwrap_or(true) }
}

/// The guard of [`scope`].
pub(crate) struct SuppressGuard {
    was_suppressed: bool,
}

impl Drop for SuppressGuard {
    #[inline]
    fn drop(&mut self) {
        let _ = SUPPRESSED.try_with(|mark| mark.set(self.was_suppressed));
    }
}
