//! The active OpenTelemetry context of this thread, for any thread and at any time.
//!
//! The functions of [`Context`] panic on a thread that is ending, once its contexts are destroyed,
//! and a panic in a destructor of a thread-local aborts the process. The OpenTelemetry API can't be
//! asked whether they are. So each thread has a mark here: it is created after the thread's contexts,
//! and thread-locals are destroyed in the reverse order. While the mark exists, the contexts do.
//!
//! The stack of contexts has a limit, too. A thread whose spans would exceed it gets no more of
//! them attached; its spans have the captured span around them as parent.

use std::cell::Cell;
use std::panic::catch_unwind;

use opentelemetry::{Context, ContextGuard};

/// The most contexts that spans attach on one thread. OpenTelemetry's stack holds 65,534, and logs
/// through `tracing` while the stack is borrowed if there are more; the rest is left to others.
const MOST_ATTACHED: u32 = 60_000;

thread_local! {
    static MARK: Mark = Mark::new();
}

/// The mark of a thread whose contexts exist.
struct Mark {
    /// How many guards there are, with those of contexts that found no room. More than
    /// [`MOST_ATTACHED`] if the thread's contexts were destroyed before the mark was created: then
    /// the first span or event of the thread comes from one of its last destructors.
    guards: Cell<u32>,
}

impl Mark {
    fn new() -> Self {
        let is_usable = catch_unwind(|| Context::map_current(|_| ())).is_ok();
        Self { guards: Cell::new(if is_usable { 0 } else { MOST_ATTACHED + 1 }) }
    }

    /// Whether the active context is known: the thread's contexts exist, and the last one found
    /// room.
    #[inline]
    fn is_known(&self) -> bool {
        self.guards.get() <= MOST_ATTACHED
    }
}

impl Drop for Mark {
    /// Does nothing. A type without it has no destructor, and its thread-local would outlive the
    /// contexts.
    fn drop(&mut self) {}
}

/// Calls `then` with the active context. `None` if the thread's contexts are destroyed, or if the
/// span around the caller found no room among them.
#[inline]
pub(crate) fn map<T>(then: impl FnOnce(&Context) -> T) -> Option<T> {
    matches!(MARK.try_with(Mark::is_known), Ok(true)).then(|| Context::map_current(then))
}

/// The active context; an empty one where [`map`] has none.
pub(crate) fn current() -> Context {
    map(Context::clone).unwrap_or_default()
}

/// Whether the active context suppresses telemetry.
#[inline]
pub(crate) fn is_suppressed() -> bool {
    map(Context::is_telemetry_suppressed).unwrap_or(false)
}

/// Keeps a context active on its thread until it is dropped. It has none if that found no room.
#[derive(Debug)]
pub(crate) struct ActiveGuard(Option<ContextGuard>);

/// Makes the context active that `build` returns. The argument of `build` is whether the active
/// context suppresses telemetry. If the thread has [`MOST_ATTACHED`] contexts already, `no_room` is
/// called instead of `build`. Returns `None` if the thread's contexts are destroyed, or if `build`
/// returns `None`.
#[inline(always)] // the context is built where it is attached
pub(crate) fn attach(
    build: impl FnOnce(bool) -> Option<Context>,
    no_room: impl FnOnce(),
) -> Option<ActiveGuard> {
    let attached = MARK.try_with(|mark| {
        let guards = mark.guards.get();
        if guards >= MOST_ATTACHED {
            no_room();
            mark.guards.set(guards + 1);
            return Some(ActiveGuard(None));
        }
        let context = build(Context::is_current_telemetry_suppressed())?;
        mark.guards.set(guards + 1);
        Some(ActiveGuard(Some(context.attach())))
    });
    attached.ok().flatten()
}

impl Drop for ActiveGuard {
    #[inline]
    fn drop(&mut self) {
        let counted = MARK.try_with(|mark| mark.guards.set(mark.guards.get().wrapping_sub(1)));
        if counted.is_err() {
            // The thread is ending, and its contexts may be destroyed.
            std::mem::forget(self.0.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Number(u32);

    fn number(context: &Context) -> Option<u32> {
        context.get::<Number>().map(|number| number.0)
    }

    #[test]
    fn contexts_past_the_limit_are_not_attached_and_leave_room_when_they_are_dropped() {
        let refused = Cell::new(0);
        let numbered = |number| Some(Context::new().with_value(Number(number)));
        let attach =
            |number| attach(|_| numbered(number), || refused.set(refused.get() + 1)).unwrap();
        let mut guards: Vec<_> = (0..MOST_ATTACHED + 2).map(attach).collect();
        assert_eq!(refused.get(), 2);
        assert_eq!(map(number), None);
        assert_eq!(number(&current()), None);
        guards.truncate(MOST_ATTACHED as usize);
        assert_eq!(map(number), Some(Some(MOST_ATTACHED - 1)));
        guards.truncate(1);
        assert_eq!(number(&current()), Some(0));
        drop(guards);
        assert_eq!(map(number), Some(None));
    }
}
