//! The spans that a thread has at hand, without asking the registry.
//!
//! Most spans live on one thread: made, entered, exited and closed there, the innermost first. What
//! a thread needs of them lies on top here; a span that came from elsewhere is looked up in the
//! registry when it is first entered. All this is a short cut: whatever isn't here is found there.
//!
//! # Invariants
//!
//! - A span that is here and open is the one that its registry knows by that id: ids are given anew
//!   only after a span has closed, and closing goes through its state.
//! - Nothing foreign runs while the list is borrowed. What is dropped is dropped by the caller, since
//!   dropping a context or a state may run anything.

use std::cell::RefCell;
use std::sync::Arc;

use opentelemetry::ContextGuard;
use tracing::span::Id;

use super::{Installation, SpanState};

/// How many spans a thread keeps at hand, those that are entered not counted.
const MOST: usize = 32;

thread_local! {
    static SPANS: RefCell<Vec<AtHand>> = const { RefCell::new(Vec::new()) };
}

/// A span that was made, or entered, on this thread. One that is entered twice is here twice.
struct AtHand {
    id: Id,
    state: Arc<SpanState>,
    /// Whether it is entered here now, and what keeps its context active.
    is_entered: bool,
    guard: Option<ContextGuard>,
}

impl AtHand {
    /// Every registry has ids of its own, and a layer has one registry.
    #[inline]
    fn is(&self, id: &Id, installation: &Arc<Installation>) -> bool {
        self.id == *id && Arc::ptr_eq(self.state.installation(), installation)
    }
}

/// The span was made on this thread.
#[inline]
pub(crate) fn add(id: &Id, state: Arc<SpanState>) {
    let _outlived = SPANS.try_with(|spans| {
        let mut spans = spans.borrow_mut();
        let outlived = if spans.len() < MOST { None } else { make_room(&mut spans) };
        spans.push(AtHand { id: id.clone(), state, is_entered: false, guard: None });
        outlived
    });
}

/// Takes away the oldest span that isn't entered.
#[cold]
fn make_room(spans: &mut Vec<AtHand>) -> Option<Arc<SpanState>> {
    let at = spans.iter().position(|span| !span.is_entered)?;
    Some(spans.remove(at).state)
}

/// A span that is at hand.
#[inline]
pub(crate) fn get(id: &Id, installation: &Arc<Installation>) -> Option<Arc<SpanState>> {
    let found = SPANS.try_with(|spans| {
        let spans = spans.borrow();
        let span = spans.iter().rev().find(|span| span.is(id, installation))?;
        Some(span.state.clone())
    });
    found.ok().flatten().filter(|state| state.is_open())
}

/// A span that is at hand, of the registry at this address.
#[inline]
pub(crate) fn in_registry(id: &Id, registry: usize) -> Option<Arc<SpanState>> {
    let found = SPANS.try_with(|spans| {
        let spans = spans.borrow();
        let is_it = |span: &&AtHand| {
            span.id == *id && span.state.installation().registry() == Some(registry)
        };
        Some(spans.iter().rev().find(is_it)?.state.clone())
    });
    found.ok().flatten().filter(|state| state.is_open())
}

/// The span is entered on this thread. `guard` keeps its context active until it is exited.
#[inline]
pub(crate) fn enter(id: &Id, state: Arc<SpanState>, guard: Option<ContextGuard>) {
    // A thread that is being torn down has no place for the guard, which then detaches at once.
    let (mut state, mut guard) = (Some(state), guard);
    let _ = SPANS.try_with(|spans| {
        let mut spans = spans.borrow_mut();
        let is_it = |span: &&mut AtHand| {
            !span.is_entered && state.as_ref().is_some_and(|state| Arc::ptr_eq(&span.state, state))
        };
        if let Some(span) = spans.iter_mut().rev().find(is_it) {
            (span.is_entered, span.guard) = (true, guard.take());
        } else if let Some(state) = state.take() {
            let guard = guard.take();
            spans.push(AtHand { id: id.clone(), state, is_entered: true, guard });
        }
    });
}

/// The span is exited on this thread, which `then` is told. Returns the guard that it was entered
/// with.
#[inline]
pub(crate) fn exit(
    id: &Id,
    installation: &Arc<Installation>,
    then: impl FnOnce(&SpanState),
) -> Option<Option<ContextGuard>> {
    let exited = SPANS.try_with(|spans| {
        let mut spans = spans.borrow_mut();
        let mut all = spans.iter_mut().rev();
        let span = all.find(|span| span.is_entered && span.is(id, installation))?;
        then(&span.state);
        span.is_entered = false;
        Some(span.guard.take())
    });
    exited.ok().flatten()
}

/// The span has closed, or is about to: takes away what is known of it.
#[inline]
pub(crate) fn take(id: &Id, installation: &Arc<Installation>) -> Option<Arc<SpanState>> {
    let taken = SPANS.try_with(|spans| {
        let mut spans = spans.borrow_mut();
        let at = spans.iter().rposition(|span| span.is(id, installation))?;
        Some(spans.remove(at).state)
    });
    taken.ok().flatten().filter(|state| state.is_open())
}
