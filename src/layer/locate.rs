//! Finding the layer, and the span around a caller, from the current subscriber.
//!
//! The search goes through the registry, so it works under every wrapper: `reload`, `Filtered`,
//! `Option`, `Box` and `Vec`. A captured span holds a reference to its layer's core. Where no span
//! is active, the core is found by the registry's address, which a layer claims in
//! `on_register_dispatch`. `Option` and `Vec` don't forward that callback, but `downcast_ref` finds
//! the layer inside them; a layer that `reload` puts in later claims the registry when its first
//! span is entered.

use std::sync::{Arc, RwLock, Weak};

use tracing::dispatcher::{self, Dispatch};
use tracing::span::Id;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{LookupSpan, SpanData};

use super::FeedbackLayer;
use crate::session::Session;
use crate::span::{Captured, LayerCore, SpanHandle, span_stack};
use crate::suppress;
use crate::sync::{read_unless_orphaned, write_unless_orphaned};

/// The result of a search around the caller, or for a given span.
pub(crate) enum Located {
    /// A captured span.
    Span(SpanHandle),
    /// The layer, and no captured span.
    Layer(Arc<LayerCore>),
    /// The layer, and a span that is given but isn't captured.
    Disabled(Arc<LayerCore>),
    /// No layer.
    Nothing,
}

/// The captured span around the caller.
pub(crate) fn current() -> Option<SpanHandle> {
    match locate_current() {
        Located::Span(span) => Some(span),
        _ => None,
    }
}

impl Session {
    /// The session of the span around the caller, if it belongs to one.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::Session;
    ///
    /// let turn = tracing::info_span!("turn", session.id = "conversation-42");
    /// turn.in_scope(|| {
    ///     tracing::info_span!("answer").in_scope(|| {
    ///         assert_eq!(Session::current().unwrap().id(), "conversation-42");
    ///     });
    /// });
    /// assert_eq!(Session::current(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn current() -> Option<Self> {
        current().and_then(|span| span.session())
    }
}

/// The layer of the current subscriber.
pub(crate) fn current_core() -> Option<Arc<LayerCore>> {
    match locate_current() {
        Located::Span(span) => Some(span.core().clone()),
        Located::Layer(core) | Located::Disabled(core) => Some(core),
        Located::Nothing => None,
    }
}

/// The nearest captured span around the caller. Spans that a filter hides are passed over.
pub(crate) fn locate_current() -> Located {
    if suppress::is_this_thread() {
        // An export thread, or a sampler that decides on the span around it.
        return Located::Nothing;
    }
    dispatcher::get_default(|dispatch| {
        let Some(registry) = dispatch.downcast_ref::<Registry>() else { return Located::Nothing };
        if let Some(state) = span_stack::innermost_in(address(registry)) {
            return Located::Span(state);
        }
        let mut next = dispatch.current_span().into_inner().map(|(id, _)| id);
        while let Some(id) = next {
            if let Some(state) = state_of(registry, &id) {
                return Located::Span(state);
            }
            next = registry.span_data(&id).and_then(|span| span.parent().cloned());
        }
        core_of(dispatch, registry).map_or(Located::Nothing, Located::Layer)
    })
}

/// The state of the given span.
pub(crate) fn locate_span(span: &tracing::Span) -> Located {
    if suppress::is_this_thread() {
        return Located::Nothing;
    }
    let found = span.with_subscriber(|(id, dispatch)| {
        let Some(registry) = dispatch.downcast_ref::<Registry>() else { return Located::Nothing };
        match state_of(registry, id) {
            Some(state) => Located::Span(state),
            None => core_of(dispatch, registry).map_or(Located::Nothing, Located::Disabled),
        }
    });
    // A span that was disabled when it was created has no subscriber.
    found.unwrap_or_else(|| current_core().map_or(Located::Nothing, Located::Disabled))
}

/// The state of the span with this id in the registry under `dispatch`.
pub(super) fn span_in(dispatch: &Dispatch, id: &Id) -> Option<SpanHandle> {
    match suppress::is_this_thread() {
        true => None,
        false => state_of(dispatch.downcast_ref::<Registry>()?, id),
    }
}

fn state_of(registry: &Registry, id: &Id) -> Option<SpanHandle> {
    span_stack::get(id, address(registry))
        .or_else(|| claimed(address(registry))?.open.get(id))
        .or_else(|| stored_in(registry, id))
}

/// The state of a span that is stored in the registry's extensions.
fn stored_in(registry: &Registry, id: &Id) -> Option<SpanHandle> {
    Captured::of(&registry.span_data(id)?.extensions()).cloned()
}

fn core_of(dispatch: &Dispatch, registry: &Registry) -> Option<Arc<LayerCore>> {
    claimed(address(registry))
        .or_else(|| dispatch.downcast_ref::<FeedbackLayer>().map(|layer| layer.core().clone()))
}

/// Registries by address, and the layer that captures their spans.
static CLAIMS: RwLock<Vec<(usize, Weak<LayerCore>)>> = RwLock::new(Vec::new());

/// A layer's right to a registry. Only the first layer of a stack gets it.
pub(crate) enum Claim {
    First,
    /// Another layer captures the spans of this registry.
    Taken,
    /// The subscriber is not based on a [`Registry`], or on another one.
    NoRegistry,
}

impl Claim {
    /// Claims the registry under `dispatch` for `core`.
    pub(crate) fn make(dispatch: &Dispatch, core: &Arc<LayerCore>) -> Self {
        let Some(registry) = dispatch.downcast_ref::<Registry>() else { return Self::NoRegistry };
        let address = address(registry);
        let Some(mut claims) = write_unless_orphaned(&CLAIMS) else { return Self::NoRegistry };
        claims.retain(|(_, core)| core.strong_count() > 0);
        match claims.iter().find(|(claimed, _)| *claimed == address) {
            Some((_, other)) if !other.ptr_eq(&Arc::downgrade(core)) => Self::Taken,
            Some(_) => Self::First,
            None => {
                claims.push((address, Arc::downgrade(core)));
                core.set_registry(address);
                Self::First
            }
        }
    }

    /// Claims the registry under `dispatch` for the layer of `span`, if the registry stores that
    /// span's state.
    pub(crate) fn of_span(dispatch: &Dispatch, id: &Id, span: &SpanHandle) -> Self {
        let state =
            dispatch.downcast_ref::<Registry>().and_then(|registry| stored_in(registry, id));
        match state {
            Some(state) if state.ptr_eq(span) => Self::make(dispatch, span.core()),
            _ => Self::NoRegistry,
        }
    }

    /// Gives up all claims of `core`: its layer is being dropped.
    pub(crate) fn release(core: &Arc<LayerCore>) {
        let ours = Arc::downgrade(core);
        if let Some(mut claims) = write_unless_orphaned(&CLAIMS) {
            claims.retain(|(_, core)| !core.ptr_eq(&ours));
        }
    }
}

fn claimed(address: usize) -> Option<Arc<LayerCore>> {
    let claims = read_unless_orphaned(&CLAIMS)?;
    claims.iter().find(|(claimed, _)| *claimed == address)?.1.upgrade()
}

fn address(registry: &Registry) -> usize {
    std::ptr::from_ref(registry).addr()
}
