//! The span stack of a thread: the spans it has entered, innermost on top, and the one created
//! last.
//!
//! It gives the captured span around the caller, which
//! [`Context::lookup_current`](tracing_subscriber::layer::Context::lookup_current) would look up in
//! the registry.
//!
//! # Invariants
//!
//! - No foreign code runs while the stack is borrowed. Contexts and states are dropped afterwards,
//!   since that may run foreign code.

use std::cell::RefCell;
use std::sync::Arc;

use tracing::span::Id;

use super::{LayerCore, SpanHandle, SpanState};
use crate::active_context::ActiveGuard;

thread_local! {
    static STACK: RefCell<SpanStack> =
        const { RefCell::new(SpanStack { entries: Vec::new(), depth: 0 }) };
}

/// A stack. `entries[..depth]` are the entered spans, `entries[depth]` is the span that was created
/// last and is not entered yet. Entries above are kept so that a span is written in place: moving
/// one right after it was written stalls on store forwarding.
struct SpanStack {
    entries: Vec<StackEntry>,
    depth: usize,
}

impl Drop for SpanStack {
    /// Forgets the guards: an ending thread needs no earlier context.
    fn drop(&mut self) {
        self.entries.iter_mut().for_each(|entry| std::mem::forget(entry.guard.take()));
    }
}

impl SpanStack {
    /// The entry above the entered spans.
    #[inline]
    fn next(&mut self) -> Option<&mut StackEntry> {
        if self.entries.len() == self.depth {
            self.entries.push(StackEntry::default());
        }
        self.entries.get_mut(self.depth)
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
    let _ = STACK.try_with(|spans| {
        if let Some(entry) = spans.borrow_mut().next() {
            entry.id = Some(id.clone());
            std::mem::swap(&mut entry.state, &mut state);
        }
    });
    drop(state); // the span created before, which wasn't entered here
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

/// Enters the span that was created last on this thread, without a context, if it has this id and
/// `start` returns `true`. `start` must not call foreign code.
#[inline]
pub(crate) fn enter_created(
    id: &Id,
    core: &Arc<LayerCore>,
    start: impl FnOnce(&SpanState) -> bool,
) -> bool {
    let entered = STACK.try_with(|spans| {
        let spans = &mut *spans.borrow_mut();
        let entry = spans.entries.get_mut(spans.depth)?;
        let state = entry.state.as_ref().filter(|state| state.is_open())?;
        if !entry.is(id, core) || !start(state) {
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
/// exited.
#[inline]
pub(crate) fn enter(id: &Id, state: SpanHandle, mut guard: Option<ActiveGuard>) {
    let mut state = Some(state);
    // A thread that is being torn down has no stack; the guard then detaches at once.
    let _ = STACK.try_with(|spans| {
        let spans = &mut *spans.borrow_mut();
        if spans.next().is_none() {
            return;
        }
        let (taken, free) = spans.entries.split_at_mut(spans.depth);
        let Some(entry) = free.first_mut() else { return };
        entry.is_reentrance = taken.iter().any(|other| is_same(&other.state, &state));
        entry.id = Some(id.clone());
        std::mem::swap(&mut entry.state, &mut state);
        if let Some(guard) = guard.take() {
            entry.guard = Some(guard);
        }
        spans.depth += 1;
    });
}

#[inline]
fn is_same(one: &Option<SpanHandle>, other: &Option<SpanHandle>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one.ptr_eq(other))
}

/// Removes a span that is exited on this thread, and returns its state and guard. Span ids are
/// unique within a registry, and a layer has one registry.
#[inline]
pub(crate) fn exit(id: &Id, core: &Arc<LayerCore>) -> Option<(SpanHandle, Option<ActiveGuard>)> {
    let exited = STACK.try_with(|spans| {
        let spans = &mut *spans.borrow_mut();
        let top = spans.depth.checked_sub(1)?;
        if !spans.entries.get(top)?.is(id, core) {
            spans.raise(id, core)?;
        }
        spans.depth = top;
        let entry = spans.entries.get_mut(top)?;
        Some((entry.state.take()?, entry.guard.take()))
    });
    exited.ok().flatten()
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

#[inline]
fn find(of: impl Fn(&StackEntry) -> Option<&SpanHandle>) -> Option<SpanHandle> {
    let found = STACK.try_with(|spans| {
        let spans = spans.borrow();
        spans.entries.get(..spans.depth)?.iter().rev().find_map(of).cloned()
    });
    found.ok().flatten()
}
