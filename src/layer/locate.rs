//! Finding the layer, and the span around a caller, from the current subscriber.
//!
//! The search goes through the registry, so it works under every wrapper: `reload`, `Filtered`,
//! `Option`, `Box` and `Vec`. A captured span holds a reference to its layer's core. Where no span
//! is active, the core is found by the registry's address, which a layer claims in
//! `on_register_dispatch`. `Option` and `Vec` don't forward that callback, but `downcast_ref` finds
//! the layer inside them; a layer that `reload` puts in later claims the registry when its first
//! span is entered.
//!
//! Where no layer of this crate captures the caller's span, it is the active one of the OpenTelemetry
//! API, if its provider has an [`EnrichingSpanProcessor`](super::EnrichingSpanProcessor).

use std::sync::{Arc, RwLock, Weak};

use opentelemetry::Context as OtelContext;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use tracing::dispatcher::{self, Dispatch};
use tracing::span::Id;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::{LookupSpan, SpanData};

use super::providers::Providers;
use super::{FeedbackLayer, other_layer};
use crate::active_context;
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
    /// A span of the OpenTelemetry API that isn't sampled or has ended: it takes nothing more.
    NotRecording(Box<NotRecording>),
    /// A span that is given, and that a layer of another crate captures.
    OtherLayer(Arc<LayerCore>),
    /// No layer.
    Nothing,
}

/// A span of the OpenTelemetry API that isn't recorded.
pub(crate) struct NotRecording {
    pub(crate) core: Arc<LayerCore>,
    pub(crate) context: SpanContext,
    pub(crate) session: Option<Session>,
}

impl Located {
    /// The layer that was found, or what takes its place.
    pub(crate) fn core(&self) -> Option<&Arc<LayerCore>> {
        match self {
            Self::Span(state) => Some(state.core()),
            Self::Layer(core) | Self::Disabled(core) | Self::OtherLayer(core) => Some(core),
            Self::NotRecording(span) => Some(&span.core),
            Self::Nothing => None,
        }
    }
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
        match locate_current() {
            Located::Span(span) => span.session(),
            Located::NotRecording(span) => span.session,
            _ => None,
        }
    }
}

/// The layer of the current subscriber, or else the [default](Providers::default) provider.
pub(crate) fn current_core() -> Option<Arc<LayerCore>> {
    locate_late().core().cloned()
}

/// The nearest captured span around the caller. Spans that a filter hides are passed over.
pub(crate) fn locate_current() -> Located {
    if suppress::is_this_thread() {
        // An export thread, or a sampler that decides on the span around it.
        return Located::Nothing;
    }
    dispatcher::get_default(|dispatch| {
        let registry = dispatch.downcast_ref::<Registry>();
        if let Some(state) = registry.and_then(|registry| captured(dispatch, registry)) {
            return Located::Span(state);
        }
        active_otel_span(dispatch).unwrap_or_else(|| {
            let core = registry.and_then(|registry| core_of(dispatch, registry));
            core.or_else(Providers::of_thread).map_or(Located::Nothing, Located::Layer)
        })
    })
}

/// As [`locate_current`], for what may be about something else than the caller's span: where neither a
/// layer nor a span is around, it goes to the default provider.
pub(crate) fn locate_late() -> Located {
    match locate_current() {
        Located::Nothing if !suppress::is_this_thread() => {
            Providers::default().map_or(Located::Nothing, Located::Layer)
        }
        located => located,
    }
}

/// The nearest span around the caller that a layer of this crate has captured.
fn captured(dispatch: &Dispatch, registry: &Registry) -> Option<SpanHandle> {
    if let Some(state) = span_stack::innermost_in(address(registry)) {
        return Some(state);
    }
    let mut next = dispatch.current_span().into_inner().map(|(id, _)| id);
    while let Some(id) = next {
        if let Some(state) = state_of(registry, &id) {
            return Some(state);
        }
        next = registry.span_data(&id).and_then(|span| span.parent().cloned());
    }
    None
}

/// The state of the given span.
pub(crate) fn locate_span(span: &tracing::Span) -> Located {
    if suppress::is_this_thread() {
        return Located::Nothing;
    }
    let found = span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>();
        if let Some(state) = registry.and_then(|registry| state_of(registry, id)) {
            return Located::Span(state);
        }
        if let Some(core) = registry.and_then(|registry| core_of(dispatch, registry)) {
            return Located::Disabled(core);
        }
        otel_span(id, dispatch)
    });
    // A span that was disabled when it was created has no subscriber.
    found.unwrap_or_else(|| current_core().map_or(Located::Nothing, Located::Disabled))
}

/// Whether a layer of this crate captures the span.
pub(super) fn is_captured(span: &tracing::Span) -> bool {
    let state =
        span.with_subscriber(|(id, dispatch)| state_of(dispatch.downcast_ref::<Registry>()?, id));
    state.flatten().is_some()
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

/// The active span, or where a layer of `tracing-opentelemetry` doesn't activate its spans, the
/// current one of that layer. `None` if it isn't one of these providers'.
fn active_otel_span(dispatch: &Dispatch) -> Option<Located> {
    if !Providers::exist() {
        return None;
    }
    let active = active_context::map(OtelSpanRef::of).flatten();
    active.as_ref().and_then(OtelSpanRef::open).or_else(|| {
        let id = dispatch.current_span().into_inner().map(|(id, _)| id);
        let of_layer = id.and_then(|id| other_layer::context_of(&id, dispatch));
        let of_layer = of_layer.as_ref().and_then(OtelSpanRef::of);
        of_layer.and_then(|span| span.locate()).or_else(|| active?.not_recording())
    })
}

/// A `tracing` span that another crate's layer captures.
fn otel_span(id: &Id, dispatch: &Dispatch) -> Located {
    let Some(core) = Providers::default() else { return Located::Nothing };
    match other_layer::context_of(id, dispatch).as_ref().and_then(OtelSpanRef::of) {
        Some(span) => span.locate().unwrap_or(Located::Disabled(core)),
        // That layer hides it, or isn't there.
        None if other_layer::IS_KNOWN => {
            Providers::of_thread().map_or(Located::Nothing, Located::Disabled)
        }
        None => Located::OtherLayer(core),
    }
}

/// The active span of an OpenTelemetry context.
#[derive(Debug)]
pub(super) struct OtelSpanRef {
    context: OtelContext,
}

impl PartialEq for OtelSpanRef {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (self.context.span(), other.context.span());
        let ids = |context: &SpanContext| (context.trace_id(), context.span_id());
        ids(one.span_context()) == ids(other.span_context())
    }
}

impl OtelSpanRef {
    /// `None` if no valid span of this process is active in it.
    pub(super) fn of(context: &OtelContext) -> Option<Self> {
        let span = context.span();
        let is_ours = span.span_context().is_valid() && !span.span_context().is_remote();
        is_ours.then(|| Self { context: context.clone() })
    }

    pub(super) fn context(&self) -> SpanContext {
        self.context.span().span_context().clone()
    }

    fn locate(&self) -> Option<Located> {
        self.open().or_else(|| self.not_recording())
    }

    /// The span, if it is open.
    fn open(&self) -> Option<Located> {
        let span = self.context.span();
        let context = span.span_context();
        let state = |core: &Arc<LayerCore>| {
            let state = core.otel_spans()?.state(core, context)?;
            Providers::note(core);
            Some(state)
        };
        Providers::find(state).map(Located::Span)
    }

    /// The span, if it isn't recorded. Whose it is can't be known then, so it counts as one of the
    /// [default](Providers::default) provider.
    fn not_recording(&self) -> Option<Located> {
        let span = self.context.span();
        if span.is_recording() {
            return None; // of a provider without our processor
        }
        if span_stack::has(span.span_context()) {
            return None; // of a layer of ours that was taken out
        }
        let core = Providers::default()?;
        let session = self.context.get::<Session>().or(core.settings.session.as_ref()).cloned();
        let context = span.span_context().clone();
        Some(Located::NotRecording(Box::new(NotRecording { core, context, session })))
    }
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
