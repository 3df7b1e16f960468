//! The spans that a thread has to do with, at hand without asking the registry.
//!
//! Most spans live on one thread: made, entered, exited and closed there, the innermost first. What
//! a thread needs of them lies on top here; a span that came from elsewhere is looked up in the
//! registry when it is first entered. All this is a short cut: whatever isn't here is found there.
//!
//! # Invariants
//!
//! - A span that is here and open is the one that its registry knows by that id: ids are given anew
//!   only after a span has closed, and closing goes through its state.
//! - Nothing foreign runs while a list is borrowed. What is dropped is dropped by the caller, since
//!   dropping a context or a state may run anything.

use std::cell::RefCell;
use std::sync::Arc;

use opentelemetry::ContextGuard;
use tracing::span::Id;

use super::{Installation, SpanState};

/// How many spans that aren't entered a thread keeps at hand.
const MOST_MET: usize = 16;

thread_local! {
    static SPANS: RefCell<Spans> = const { RefCell::new(Spans { met: Vec::new(), entered: Vec::new() }) };
}

struct Spans {
    /// Made or exited here lately, the last one at the end.
    met: Vec<Met>,
    /// Entered now. They need not be exited in the reverse order, so each keeps its own guard.
    entered: Vec<Entered>,
}

struct Met {
    id: Id,
    state: Arc<SpanState>,
}

impl Met {
    fn is(&self, id: &Id, installation: &Arc<Installation>) -> bool {
        self.id == *id && self.is_of(installation)
    }

    /// Every registry has ids of its own, and a layer has one registry.
    fn is_of(&self, installation: &Arc<Installation>) -> bool {
        Arc::ptr_eq(self.state.installation(), installation)
    }
}

struct Entered {
    span: Met,
    guard: Option<ContextGuard>,
}

/// A span was made or exited on this thread.
#[inline]
pub(crate) fn meet(id: &Id, state: Arc<SpanState>) {
    let met = Met { id: id.clone(), state };
    let _outlived = SPANS.try_with(|spans| {
        let met_now = &mut spans.borrow_mut().met;
        let oldest = (met_now.len() >= MOST_MET).then(|| met_now.remove(0));
        met_now.push(met);
        oldest
    });
}

/// Takes away what is known of a span that isn't entered.
#[inline]
pub(crate) fn take(id: &Id, installation: &Arc<Installation>) -> Option<Arc<SpanState>> {
    let met = SPANS.try_with(|spans| {
        let met = &mut spans.borrow_mut().met;
        let found = pop_if(met, |met| met.is(id, installation));
        found.map(|met| met.state)
    });
    met.ok().flatten().filter(|state| state.is_open())
}

/// The span is entered on this thread. `guard` keeps its context active until it is exited.
#[inline]
pub(crate) fn enter(id: &Id, state: Arc<SpanState>, guard: Option<ContextGuard>) {
    let entered = Entered { span: Met { id: id.clone(), state }, guard };
    // A thread that is being torn down has no place for the guard, which then detaches at once.
    let _ = SPANS.try_with(|spans| spans.borrow_mut().entered.push(entered));
}

/// The span is exited on this thread.
#[inline]
pub(crate) fn exit(
    id: &Id,
    installation: &Arc<Installation>,
) -> Option<(Arc<SpanState>, Option<ContextGuard>)> {
    let exited = SPANS.try_with(|spans| {
        let entered = &mut spans.borrow_mut().entered;
        let exited = pop_if(entered, |entered| entered.span.is(id, installation))?;
        Some((exited.span.state, exited.guard))
    });
    exited.ok().flatten()
}

/// The innermost span of a layer that is entered on this thread, if it is the one given.
#[inline]
pub(crate) fn innermost(id: &Id, installation: &Arc<Installation>) -> Option<Arc<SpanState>> {
    let innermost = SPANS.try_with(|spans| {
        let entered = &spans.borrow().entered;
        let last = entered.iter().rev().find(|entered| entered.span.is_of(installation))?;
        (last.span.id == *id && last.span.state.is_open()).then(|| last.span.state.clone())
    });
    innermost.ok().flatten()
}

/// Takes away the last of `all` that `is` the one, most likely the very last.
#[inline]
fn pop_if<T>(all: &mut Vec<T>, is: impl Fn(&T) -> bool) -> Option<T> {
    match all.last() {
        Some(last) if is(last) => all.pop(),
        _ => all.iter().rposition(is).map(|at| all.remove(at)),
    }
}
