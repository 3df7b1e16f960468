//! Memory for the next spans of a thread: the states of those that have closed.

use std::cell::RefCell;

use super::SpanHandle;

/// How many a thread keeps.
const MOST: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<SpanHandle>> = const { RefCell::new(Vec::new()) };
}

/// A state of a closed span, which no one knows any more.
#[inline(always)] // once a span
pub(super) fn take() -> Option<SpanHandle> {
    SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten()
}

/// Keeps the state of a closed span, which no one else knows any more, and which knows no others.
#[inline(always)] // once a span
pub(super) fn keep(state: SpanHandle) {
    let mut state = Some(state);
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < MOST {
            spare.extend(state.take());
        }
    });
}
