//! The pool: states of closed spans, reused by the next spans of the thread.

use std::cell::RefCell;

use super::SpanHandle;

/// The most states that a thread pools.
const MOST: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<SpanHandle>> = const { RefCell::new(Vec::new()) };
}

/// Takes a pooled state; no other reference to it exists.
#[inline(always)] // once a span
pub(super) fn take() -> Option<SpanHandle> {
    POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten()
}

/// Returns a state to the pool. It must be the last reference, and must hold no parent, context or
/// session: foreign code may run when those drop.
#[inline(always)] // once a span
pub(super) fn put(state: SpanHandle) {
    let mut state = Some(state);
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < MOST {
            pool.extend(state.take());
        }
    });
}
