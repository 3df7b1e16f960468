//! Threads whose own doings are never captured: those that export, and those of the test collector.
//!
//! A mark in a thread-local costs the layer one load; a no-op subscriber set by `set_default` on
//! those threads would take the fast path of `tracing` away from every other thread.

use std::cell::Cell;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// From now on nothing that happens on this thread is captured.
pub(crate) fn mark_this_thread() {
    QUIET.set(true);
}

/// Whether this thread is marked. A thread that is being torn down counts as marked.
#[inline]
pub(crate) fn is_this_thread() -> bool {
    QUIET.try_with(Cell::get).unwrap_or(true)
}

/// Marks this thread until the guard is dropped.
pub(crate) fn scope() -> Scope {
    Scope { was_quiet: QUIET.try_with(|quiet| quiet.replace(true)).unwrap_or(true) }
}

/// Ends the mark of [`scope`].
pub(crate) struct Scope {
    was_quiet: bool,
}

impl Drop for Scope {
    fn drop(&mut self) {
        let _ = QUIET.try_with(|quiet| quiet.set(self.was_quiet));
    }
}
