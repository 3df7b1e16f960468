//! Where a span stands in a trace.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::IdGenerator;

use super::{LayerCore, random_span_id, random_trace_id};
use crate::record::Parent;

/// A span's place in a trace. It is fixed when the span starts: when the span is first entered,
/// gets a child, or is asked for its context.
///
/// If no foreign code takes part in the decision, the place is planned when the span is created:
/// few spans are given another parent afterwards.
#[derive(Debug, Default)]
pub(super) struct TracePlace {
    /// The plan, unless it is void.
    planned: Started,
    plan: AtomicU8,
    decided: OnceLock<Started>,
}

impl TracePlace {
    /// Resets the place to that of a span created in `context` below `local_parent` at `time`:
    /// planned if possible, otherwise to be decided.
    #[inline]
    pub(super) fn plan(
        &mut self,
        core: &LayerCore,
        context: Option<&Context>,
        local_parent: Option<&Started>,
        time: u64,
    ) {
        *self.plan.get_mut() = VOID;
        if core.plans() {
            with_parent((context, false), local_parent, |parent| {
                let span_id = random_span_id(time);
                let trace_id = parent.map(|parent| parent.trace_id());
                let ids = (span_id, trace_id.unwrap_or_else(|| random_trace_id(span_id)));
                if let Some(sampling) = core.sampling.decide(parent, ids.1) {
                    self.planned = Started::new(parent, ids, sampling);
                    *self.plan.get_mut() = PLANNED;
                }
            });
        }
        self.decided.take();
    }

    /// Sets the place of a span that has started elsewhere.
    pub(super) fn set(&mut self, started: Started) {
        *self.plan.get_mut() = VOID;
        self.decided = OnceLock::from(started);
    }

    /// The place, if it is fixed.
    #[inline]
    pub(super) fn fixed(&self) -> Option<&Started> {
        match self.plan.load(Ordering::Acquire) {
            FIXED => Some(&self.planned),
            _ => self.decided.get(),
        }
    }

    /// Fixes the place as planned, and returns it. `None` if it has to be decided.
    #[inline]
    pub(super) fn fix(&self) -> Option<&Started> {
        let is_fixed = self.replace(PLANNED, FIXED);
        is_fixed.then_some(&self.planned)
    }

    /// Fixes the place by `decide`, unless it was decided already, and returns it.
    pub(super) fn decide(&self, decide: impl FnOnce() -> Started) -> &Started {
        self.decided.get_or_init(decide)
    }

    /// Makes the plan void, so that the place is decided when the span starts. `false` if the place
    /// is fixed.
    pub(super) fn void_plan(&self) -> bool {
        (self.replace(PLANNED, VOID) || self.plan.load(Ordering::Acquire) == VOID)
            && self.decided.get().is_none()
    }

    /// Changes the state of the plan from `old` to `new`. Returns whether it is `new` now, by this
    /// or another thread.
    #[inline]
    fn replace(&self, old: u8, new: u8) -> bool {
        let replaced = self.plan.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
        replaced.is_ok() || replaced == Err(new)
    }
}

/// The place of a span that has started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) context: SpanContext,
    pub(crate) parent: Parent,
}

impl Default for Started {
    fn default() -> Self {
        Self { context: SpanContext::NONE, parent: Parent::NONE }
    }
}

impl Started {
    /// The place of a span below `parent`, or of a root.
    #[inline]
    pub(super) fn new(
        parent: Option<&SpanContext>,
        (span_id, trace_id): (SpanId, TraceId),
        (is_sampled, trace_state): (bool, TraceState),
    ) -> Self {
        let (flags, of_parent) = match parent {
            Some(parent) => {
                let (span_id, is_remote) = (parent.span_id(), parent.is_remote());
                (parent.trace_flags(), Parent { span_id, is_remote })
            }
            None => (TraceFlags::default(), Parent::NONE),
        };
        let flags = flags.with_sampled(is_sampled);
        let context = SpanContext::new(trace_id, span_id, flags, false, trace_state);
        Self { context, parent: of_parent }
    }
}

/// Calls `then` with the parent of a span made in `context` below `local_parent`: the active span of
/// the context, or else the captured span, unless the context was set as the span's parent.
#[inline]
pub(super) fn with_parent<T>(
    (context, is_set): (Option<&Context>, bool),
    local_parent: Option<&Started>,
    then: impl FnOnce(Option<&SpanContext>) -> T,
) -> T {
    let active = context.map(|context| context.span());
    let active = active.as_ref().map(|span| span.span_context());
    let parent = active.filter(|context| context.is_valid());
    let local = local_parent.filter(|_| !is_set).map(|local| &local.context);
    then(parent.or_else(|| local.filter(|local| local.is_valid())))
}

/// The ids of a span below `parent`.
#[inline]
pub(super) fn ids(core: &LayerCore, parent: Option<&SpanContext>) -> (SpanId, TraceId) {
    let span_id = core.new_span_id();
    let trace_id = parent.map(|parent| parent.trace_id());
    (span_id, trace_id.unwrap_or_else(|| core.new_trace_id()))
}

/// The states of the plan of a [`TracePlace`].
const VOID: u8 = 0;
const PLANNED: u8 = 1;
const FIXED: u8 = 2;
