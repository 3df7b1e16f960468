//! Forks: a child process has a copy of the layer, but none of its threads.
//!
//! So nothing exports the spans of the child, and what another thread had locked when the process
//! was forked is locked in the child for ever. Such a lock is *orphaned*.
//!
//! To ask for the process id is a system call. It is asked for now and then, when a thread reads the
//! system clock, hands over a batch or waits for a lock, and the answer is kept for all others.

use std::sync::atomic::{AtomicU32, Ordering};

/// The id of this process, as it was read last.
static LAST_READ: AtomicU32 = AtomicU32::new(0);

/// The id of the process in which the first layer was built.
static FIRST: AtomicU32 = AtomicU32::new(0);

/// The id of this process, as it was [read](process) last: after a fork, for a while that of the
/// parent.
#[inline]
pub(crate) fn last_process() -> u32 {
    LAST_READ.load(Ordering::Relaxed)
}

/// The id of this process.
pub(crate) fn process() -> u32 {
    let id = std::process::id();
    LAST_READ.store(id, Ordering::Relaxed);
    id
}

/// Notes that a layer is built in this process, and returns the id of the process.
pub(crate) fn note_layer() -> u32 {
    let id = process();
    // An earlier layer was the first.
    let _ = FIRST.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed);
    id
}

/// Whether this process was forked after the first layer was built.
pub(crate) fn is_child() -> bool {
    let first = FIRST.load(Ordering::Relaxed);
    first != 0 && first != process()
}
