//! The span stack of a thread: the spans it has entered, innermost on top, and the one created
//! last.
//!
//! It gives the captured span around the caller, which
//! [`Context::lookup_current`](tracing_subscriber::layer::Context::lookup_current) would look up in
//! the registry.
//!
//! A span that is exited on another thread stays on this stack until it has closed. The next span
//! that is created or entered here then removes it.
//!
//! # Invariants
//!
//! - The span that was created last hasn't been entered on this thread.
//! - Of the spans on a stack at least half are open, or it was as deep before, or there are fewer
//!   than [`LEAST_SWEPT`].
//! - No foreign code runs while the stack is borrowed. Contexts and states are dropped afterwards,
//!   since that may run foreign code.

use std::cell::RefCell;
use std::sync::Arc;

use opentelemetry::trace::SpanContext;
use tracing::span::Id;

use super::{LayerCore, SpanHandle};
use crate::active_context::ActiveGuard;

thread_local! {
    static STACK: RefCell<SpanStack> =
        const { RefCell::new(SpanStack { entries: Vec::new(), depth: 0, sweep_at: LEAST_SWEPT }) };
}

/// The depth of a stack from which on it is swept.
const LEAST_SWEPT: usize = 64;

/// A stack. `entries[..depth]` are the entered spans, `entries[depth]` is the span that was created
/// last and is not entered yet. Entries above are kept so that a span is written in place: moving
/// one right after it was written stalls on store forwarding.
struct SpanStack {
    entries: Vec<StackEntry>,
    depth: usize,
    /// The depth at which the spans that have closed are removed next.
    sweep_at: usize,
}

impl Drop for SpanStack {
    /// Forgets the guards: an ending thread needs no earlier context.
    fn drop(&mut self) {
        self.entries.iter_mut().for_each(|entry| std::mem::forget(entry.guard.take()));
    }
}

impl SpanStack {
    /// Makes sure that there is an entry above the entered spans. Returns whether the stack has grown
    /// so much that it is to be [swept](sweep).
    #[inline]
    fn reserve(&mut self) -> bool {
        let grows = self.entries.len() == self.depth;
        if grows {
            self.entries.push(StackEntry::default());
        }
        grows && self.depth >= self.sweep_at
    }

    /// Removes the entered spans that have closed.
    fn take_closed(&mut self) -> Vec<StackEntry> {
        let entered = ..self.depth;
        let closed: Vec<_> = self.entries.extract_if(entered, |entry| !entry.is_open()).collect();
        self.depth -= closed.len();
        self.sweep_at = (2 * self.depth).max(LEAST_SWEPT);
        closed
    }

    /// Moves an entered span to the top. `None` if this thread hasn't entered it.
    #[cold]
    fn raise(&mut self, id: &Id, core: &Arc<LayerCore>) -> Option<()> {
        let taken = self.entries.get_mut(..self.depth)?;
        let at = taken.iter().rposition(|entry| entry.is(id, core))?;
        taken[at..].rotate_left(1);
        Some(())
    }
}

/// An entered span, or the one created last.
#[derive(Default)]
struct StackEntry {
    id: Option<Id>,
    state: Option<SpanHandle>,
    /// A re-entrance: the same span is lower in the stack, and that entry counts, as in the
    /// `SpanStack` of `tracing-subscriber`.
    is_reentrance: bool,
    /// Keeps the span's context active.
    guard: Option<ActiveGuard>,
}

impl StackEntry {
    #[inline]
    fn is(&self, id: &Id, core: &Arc<LayerCore>) -> bool {
        let state = self.state.as_ref();
        self.id.as_ref() == Some(id) && state.is_some_and(|state| Arc::ptr_eq(state.core(), core))
    }

    #[inline]
    fn is_open(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_open())
    }

    /// The span of this entry, if it is open and of a layer that `is_ours` accepts. A re-entrance
    /// doesn't count.
    #[inline]
    fn around(&self, is_ours: impl FnOnce(&Arc<LayerCore>) -> bool) -> Option<&SpanHandle> {
        let state = self.state.as_ref()?;
        (!self.is_reentrance && is_ours(state.core()) && state.is_open()).then_some(state)
    }
}

/// Notes a span that was created on this thread. Most are entered on the same thread next, so it is
/// stored where its entry will be. The next created span replaces it.
#[inline]
pub(crate) fn note_created(id: &Id, state: SpanHandle) {
    let mut state = Some(state);
    let is_deep = STACK.try_with(|spans| {
        let spans = &mut *spans.borrow_mut();
        let is_deep = spans.reserve();
        if let Some(entry) = spans.entries.get_mut(spans.depth) {
            entry.id = Some(id.clone());
            std::mem::swap(&mut entry.state, &mut state);
        }
        is_deep
    });
    drop(state); // the span created before, which wasn't entered here
    if matches!(is_deep, Ok(true)) {
        sweep();
    }
}

/// Removes the spans that have closed without being exited on this thread, with their contexts.
#[cold]
fn sweep() {
    let closed = STACK.try_with(|spans| spans.borrow_mut().take_closed());
    drop(closed); // not while the stack is borrowed
}

/// Sweeps the stack if its top has closed, so that the span isn't active any more.
pub(crate) fn remove_closed() {
    let is_closed = STACK.try_with(|spans| {
        let spans = spans.borrow();
        spans.entries[..spans.depth].last().is_some_and(|top| !top.is_open())
    });
    if matches!(is_closed, Ok(true)) {
        sweep();
    }
}

/// Takes the span that was created last on this thread, if it has this id and was not entered yet.
#[inline]
pub(crate) fn take_created(id: &Id, core: &Arc<LayerCore>) -> Option<SpanHandle> {
    let taken = STACK.try_with(|spans| {
        let spans = &mut *spans.borrow_mut();
        let entry = spans.entries.get_mut(spans.depth)?;
        let is_it = entry.is(id, core) && entry.state.as_ref()?.is_open();
        if is_it { entry.state.take() } else { None }
    });
    taken.ok().flatten()
}

/// Enters the span that was created last on this thread, without a context, if it has this id.
#[inline]
pub(crate) fn enter_created(id: &Id, core: &Arc<LayerCore>) -> bool {
    let entered = STACK.try_with(|spans| {
        let spans = &mut *spans.borrow_mut();
        let entry = spans.entries.get_mut(spans.depth)?;
        if !entry.is(id, core) || !entry.is_open() {
            return None;
        }
        entry.is_reentrance = false;
        spans.depth += 1;
        Some(())
    });
    matches!(entered, Ok(Some(())))
}

/// Removes the span if it is the one created last on this thread.
pub(super) fn remove_created(state: &SpanHandle) {
    let removed = STACK.try_with(|spans| {
        let spans = &mut *spans.borrow_mut();
        let created = &mut spans.entries.get_mut(spans.depth)?.state;
        created.take_if(|created| created.ptr_eq(state))
    });
    drop(removed);
}

/// Pushes a span that is entered on this thread. `guard` keeps its context active until it is
/// exited. `is_first` means that this thread enters the span for the first time.
#[inline]
pub(crate) fn enter(id: &Id, state: SpanHandle, mut guard: Option<ActiveGuard>, is_first: bool) {
    let mut state = Some(state);
    // A thread that is being torn down has no stack; the guard then detaches at once.
    let is_deep = STACK.try_with(|spans| {
        let spans = &mut *spans.borrow_mut();
        let is_deep = spans.reserve();
        let (taken, free) = spans.entries.split_at_mut(spans.depth);
        let entry = free.first_mut()?;
        entry.is_reentrance = !is_first && taken.iter().any(|other| is_same(&other.state, &state));
        entry.id = Some(id.clone());
        std::mem::swap(&mut entry.state, &mut state);
        if let Some(guard) = guard.take() {
            entry.guard = Some(guard);
        }
        spans.depth += 1;
        Some(is_deep)
    });
    if matches!(is_deep, Ok(Some(true))) {
        sweep();
    }
}

#[inline]
fn is_same(one: &Option<SpanHandle>, other: &Option<SpanHandle>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one.ptr_eq(other))
}

/// Removes a span that is exited on this thread, and returns its state and guard. Span ids are
/// unique within a registry, and a layer has one registry.
#[inline]
pub(crate) fn exit(id: &Id, core: &Arc<LayerCore>) -> Option<(SpanHandle, Option<ActiveGuard>)> {
    let mut created = None;
    let exited = STACK.try_with(|spans| {
        let spans = &mut *spans.borrow_mut();
        let top = spans.depth.checked_sub(1)?;
        if !spans.entries.get(top)?.is(id, core) {
            spans.raise(id, core)?;
        }
        // The span that was created above isn't the one to be entered next any more. If it were kept, it
        // would be taken for that again at the same depth, when it may be entered already.
        if let Some(above) = spans.entries.get_mut(spans.depth) {
            created = above.state.take();
        }
        spans.depth = top;
        let entry = spans.entries.get_mut(top)?;
        Some((entry.state.take()?, entry.guard.take()))
    });
    drop(created); // not while the stack is borrowed
    exited.ok().flatten()
}

/// The parent of a span that is created on this thread: the [`innermost`] span, after those above it
/// that have closed are removed.
#[inline]
pub(crate) fn parent(core: &Arc<LayerCore>) -> Option<SpanHandle> {
    let top = STACK.try_with(|spans| {
        let spans = spans.borrow();
        let top = spans.entries.get(spans.depth.checked_sub(1)?)?;
        Some(top.around(|other| Arc::ptr_eq(other, core)).cloned())
    });
    match top {
        Ok(Some(None)) => parent_below(core),
        Ok(Some(top)) => top,
        _ => None, // nothing is entered
    }
}

#[cold]
fn parent_below(core: &Arc<LayerCore>) -> Option<SpanHandle> {
    remove_closed();
    innermost(core)
}

/// The innermost span of this layer.
#[inline]
pub(crate) fn innermost(core: &Arc<LayerCore>) -> Option<SpanHandle> {
    find(|entry| entry.around(|other| Arc::ptr_eq(other, core)))
}

/// The innermost span of the registry at this address.
#[inline]
pub(crate) fn innermost_in(registry: usize) -> Option<SpanHandle> {
    find(|entry| entry.around(|other| other.registry() == Some(registry)))
}

/// The entered span with this id, of the registry at this address.
#[inline]
pub(crate) fn get(id: &Id, registry: usize) -> Option<SpanHandle> {
    find(|entry| {
        let entry = Some(entry).filter(|entry| entry.id.as_ref() == Some(id))?;
        entry.around(|other| other.registry() == Some(registry))
    })
}

/// Whether a span that this thread has entered, and maybe has closed, has this context.
pub(crate) fn has(context: &SpanContext) -> bool {
    let is_context = |entry: &StackEntry| {
        let state = entry.state.as_ref();
        state.is_some_and(|state| state.start().context == *context)
    };
    let has = STACK.try_with(|spans| {
        let spans = spans.borrow();
        let entered = spans.entries.get(..spans.depth)?;
        Some(entered.iter().any(is_context))
    });
    has.ok().flatten().unwrap_or(false)
}

#[inline]
fn find(of: impl Fn(&StackEntry) -> Option<&SpanHandle>) -> Option<SpanHandle> {
    let found = STACK.try_with(|spans| {
        let spans = spans.borrow();
        spans.entries.get(..spans.depth)?.iter().rev().find_map(of).cloned()
    });
    found.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::settings::Settings;
    use crate::span::{IdSource, Sampling};

    fn core() -> Arc<LayerCore> {
        let (sampling, ids) = (Sampling::default(), IdSource::default());
        Arc::new(LayerCore::new(Settings::default(), sampling, ids, Default::default(), None))
    }

    fn entered(id: u64, core: &Arc<LayerCore>) -> SpanHandle {
        let (state, ()) = SpanHandle::begin(core, None, clock::read(), |_, _| Some(())).unwrap();
        enter(&Id::from_u64(id), state.clone(), None, true);
        state
    }

    fn depth() -> usize {
        STACK.with_borrow(|spans| spans.depth)
    }

    #[test]
    fn spans_that_closed_elsewhere_leave_the_stack() {
        let core = core();
        let outer = entered(1, &core);
        for id in 2..10_000 {
            // The last ones are still open, so the top of the stack is.
            let inner = entered(id, &core);
            if id > 10 {
                let before = find(|entry| {
                    entry.state.as_ref().filter(|_| entry.id == Some(Id::from_u64(id - 5)))
                });
                before.unwrap().end();
            }
            assert!(innermost(&core).unwrap().ptr_eq(&inner));
            assert!(depth() <= LEAST_SWEPT + 1, "{}", depth());
        }
        for id in 9_990..10_000 {
            if let Some(open) = exit(&Id::from_u64(id), &core) {
                open.0.end();
            }
        }
        assert!(parent(&core).is_some());
        assert!(exit(&Id::from_u64(1), &core).unwrap().0.ptr_eq(&outer));
    }

    #[test]
    fn the_parent_is_below_a_span_that_closed_elsewhere() {
        let core = core();
        let outer = entered(1, &core);
        let (closed, top) = (entered(2, &core), entered(3, &core));
        closed.end();
        top.end();
        assert_eq!(depth(), 3);
        assert!(parent(&core).unwrap().ptr_eq(&outer));
        assert_eq!(depth(), 1);
        assert!(exit(&Id::from_u64(2), &core).is_none());
        outer.end();
        remove_closed();
        assert!(parent(&core).is_none() && depth() == 0);
    }
}
