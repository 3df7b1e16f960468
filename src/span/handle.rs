//! Shared references to the state of a span.

use std::ops::Deref;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::trace::SpanContext;

use super::state::{Live, SpanState};
use super::timings::SpanTimer;
use super::trace_place::{Started, TracePlace};
use super::{LayerCore, pool};
use crate::clock;
use crate::record::Parent;
use crate::session::Session;

/// A shared reference to a span's state.
///
/// Not the standard library's `Arc`: that counts weak references too, so that checking for the only
/// handle, which happens twice per span, would take a locked instruction.
#[derive(Clone, Debug)]
pub(crate) struct SpanHandle(triomphe::Arc<SpanState>);

impl Deref for SpanHandle {
    type Target = SpanState;

    #[inline]
    fn deref(&self) -> &SpanState {
        &self.0
    }
}

impl SpanHandle {
    #[inline]
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        triomphe::Arc::ptr_eq(&self.0, &other.0)
    }

    /// The state itself, if there is no other handle of it.
    #[inline]
    pub(super) fn get_mut(&mut self) -> Option<&mut SpanState> {
        triomphe::Arc::get_mut(&mut self.0)
    }

    /// The state of a new span, filled in by `fill` before another handle exists. `None` if `fill`
    /// returns `None`: then the span isn't captured.
    #[inline]
    pub(crate) fn begin<T>(
        core: &Arc<LayerCore>,
        local_parent: Option<SpanHandle>,
        start: clock::Reading,
        fill: impl FnOnce(&mut Live, Option<&SpanHandle>) -> Option<T>,
    ) -> Option<(Self, T)> {
        let mut state = pool::take().unwrap_or_else(|| Self::new(core));
        let this = state.get_mut()?; // a pooled state has no other handle
        if !Arc::ptr_eq(&this.core, core) {
            this.core = core.clone();
        }
        this.local_parent = local_parent;
        this.timings.reset(start.ticks);
        *this.is_closed.get_mut() = false;
        let live = this.live.get_mut().unwrap_or_else(PoisonError::into_inner);
        live.is_open = true;
        live.record.start = start.time;
        // The parent has a child now, so its place is fixed.
        let parent = this.local_parent.as_ref().map(|parent| parent.start());
        let Some(filled) = fill(live, this.local_parent.as_ref()) else {
            live.clear();
            *this.is_closed.get_mut() = true;
            state.end();
            return None;
        };
        *this.has_session.get_mut() = live.session.is_some();
        this.place.plan(core, live.parent_context.as_ref(), parent, start.time);
        Some((state, filled))
    }

    #[cold]
    fn new(core: &Arc<LayerCore>) -> Self {
        Self(triomphe::Arc::new(SpanState {
            core: core.clone(),
            local_parent: None,
            place: TracePlace::default(),
            is_closed: AtomicBool::new(false),
            has_session: AtomicBool::new(false),
            timings: SpanTimer::default(),
            live: Mutex::default(),
        }))
    }

    /// The state of an open span of an OpenTelemetry provider: only its documents are kept here.
    pub(super) fn of_otel(
        core: &Arc<LayerCore>,
        context: SpanContext,
        session: Option<Session>,
    ) -> Self {
        // Not from the pool, which would keep the provider's processor.
        let mut state = Self::new(core);
        if let Some(this) = state.get_mut() {
            *this.has_session.get_mut() = session.is_some();
            let live = this.live.get_mut().unwrap_or_else(PoisonError::into_inner);
            (live.is_open, live.session) = (true, session);
            this.place.set(Started { context, parent: Parent::NONE });
        }
        state
    }

    /// Sets the session of the span. Spans that start below it from now on inherit it. Returns
    /// whether the span was still open.
    pub(crate) fn set_session(&self, session: &Session) -> bool {
        if let Some(spans) = self.core.otel_spans() {
            spans.set_session(&self.start().context, session);
        }
        let set = self.change(|live| {
            live.session = Some(session.clone());
            live.documents.session_is_own = true;
            live.context = None; // the stored context may propagate the previous session
        });
        set.is_some()
    }

    /// The outermost captured span around this one that belongs to `session`, maybe itself.
    pub(crate) fn outermost_of(&self, session: &Session) -> Self {
        if let Some(spans) = self.core.otel_spans() {
            return spans.outermost(self, |of_span| of_span == Some(session));
        }
        let mut outermost = self.clone();
        for span in self.ancestors() {
            if span.session().as_ref() == Some(session) {
                outermost = span.clone();
            }
        }
        outermost
    }

    /// The outermost captured span around this one in the same trace, maybe itself.
    pub(crate) fn local_root(&self) -> Self {
        if let Some(spans) = self.core.otel_spans() {
            return spans.outermost(self, |_| true); // a parent is in the same trace
        }
        let trace_id = self.start().context.trace_id();
        let root =
            self.ancestors().take_while(|span| span.start().context.trace_id() == trace_id).last();
        root.unwrap_or(self).clone()
    }

    fn ancestors(&self) -> impl Iterator<Item = &SpanHandle> {
        std::iter::successors(self.local_parent.as_ref(), |span| span.local_parent.as_ref())
    }
}
