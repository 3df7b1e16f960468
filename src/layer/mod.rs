//! The layer: it records what `tracing` reports of a span in the [span's state](crate::span).
//!
//! Each callback of [`FeedbackLayer`] finds the span or returns, and changes one thing. Values are
//! visited before any lock is taken ([`visit`]), since their `Debug` and `Display` are foreign code
//! that may itself make spans and events. [`context`] makes a captured span the active one of the
//! OpenTelemetry API, [`span_ext`] is what users call on a `tracing::Span`, [`span_processors`] calls the
//! service's span processors, and [`processor`] takes spans made with the OpenTelemetry API.
//!
//! A service that keeps another layer has an [`enriching_processor`] around the span processor of its own
//! ([`wrapped`]) instead; [`providers`] are those that have one, and [`other_layer`] is the one of
//! `tracing-opentelemetry`. [`locate`] finds the span that an enrichment means, in either case.

mod callsite;
mod context;
mod counting_filter;
mod enriching_processor;
mod event;
mod feedback_layer;
mod field;
pub(crate) mod locate;
mod other_layer;
mod processor;
mod processor_calls;
mod providers;
mod span_ext;
mod span_processors;
#[cfg(feature = "tickets")]
pub(crate) mod ticket;
mod visit;
mod wrapped;

use std::sync::Arc;

use opentelemetry::Context as OtelContext;
use opentelemetry::trace::TraceContextExt;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Subscriber, dispatcher};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::active_context;
use crate::clock::{self, Ticks};
use crate::record::Link;
use crate::session::Session;
use crate::span::{Captured, LayerCore, Live, SpanHandle, SpanState, span_stack};
use crate::suppress;
use callsite::Callsite;
use locate::{Claim, OtelSpanRef};
use providers::Providers;

pub use context::otel_context;
pub use counting_filter::CountingEventFilter;
pub use enriching_processor::EnrichingSpanProcessor;
pub use feedback_layer::FeedbackLayer;
pub use processor::FeedbackSpanProcessor;
pub use span_ext::{SpanError, SpanExt};

pub(crate) use context::current as current_context;
pub(crate) use span_processors::SpanProcessors;
pub(crate) use wrapped::Wrapped;

impl FeedbackLayer {
    /// Whether the layer captures nothing on this thread. Suppression by an OpenTelemetry context
    /// is checked separately.
    #[inline]
    fn is_off(&self) -> bool {
        self.is_passive() || self.core().is_off()
    }

    /// Whether the layer leaves this thread, or all spans, to others.
    #[inline]
    fn is_passive(&self) -> bool {
        suppress::is_this_thread() || self.is_inert()
    }

    /// The parent of a span that is being created: the nearest captured span around it.
    #[inline]
    fn parent_of<S>(
        &self,
        attributes: &Attributes<'_>,
        id: &Id,
        ctx: &Context<'_, S>,
    ) -> Option<SpanHandle>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        if attributes.is_root() {
            return None;
        }
        let around = match attributes.is_contextual() {
            true => span_stack::parent(self.core()),
            false => None,
        };
        // No captured span is entered on this thread, or the parent is explicit: the captured span
        // is found through the registry, where it may be entered on another thread.
        around.or_else(|| nearest(self.core(), ctx.span(id)?.parent()))
    }

    /// Fills in what precedes the fields of a new span: its parent context, session, call site and
    /// thread. `None` if the OpenTelemetry context suppresses the span.
    #[inline]
    fn fill_in(
        &self,
        live: &mut Live,
        callsite: &'static Callsite,
        is_contextual: bool,
        parent: Option<&SpanHandle>,
        parent_id: impl Fn() -> Option<Id>,
    ) -> Option<()> {
        let switches = &self.core().settings.switches;
        // The active OpenTelemetry context is the parent where this layer activates contexts, or
        // where no captured span is around.
        let is_parent = is_contextual && (switches.context_activation || parent.is_none());
        let is_suppressed = match is_parent {
            true => active_context::map(|context| {
                live.parent_context = Some(context.clone());
                context.is_telemetry_suppressed()
            })
            .unwrap_or(false),
            false => active_context::is_suppressed(),
        };
        if is_suppressed {
            return None;
        }
        live.is_parent_set = false;
        if let Some(context) = &live.parent_context
            && parent.is_some()
            && !context.has_active_span()
            && span_stack::innermost(self.core()).is_none()
        {
            // The parent is entered on another thread: its context counts, not that of this thread.
            live.parent_context = None;
        }
        if (Providers::exist() || other_layer::IS_KNOWN)
            && let Some(context) = &live.parent_context
            && parent.is_some_and(|parent| !is_active(parent, context))
            && self.is_of_another_layer(context, parent_id)
        {
            // Each layer's tree stays whole.
            live.parent_context = None;
        }
        if let Some(session) = self.inherited_session(live.parent_context.as_ref(), parent) {
            live.session = Some(session);
        }
        live.record.callsite = Some(&callsite.common);
        match switches.threads {
            true => callsite::set_thread_attributes(&mut live.record.thread),
            false => live.record.thread = None,
        }
        Some(())
    }

    /// Whether the active span of `context` is what another layer has made of the `tracing` span with
    /// this id, or of the provider of such a layer.
    #[cold]
    fn is_of_another_layer(&self, context: &OtelContext, id: impl Fn() -> Option<Id>) -> bool {
        let Some(active) = OtelSpanRef::of(context) else { return false };
        let of_span = || {
            let (id, dispatch) = (id()?, self.dispatch()?);
            OtelSpanRef::of(&other_layer::context_of(&id, &dispatch)?)
        };
        Providers::has_open(&active.context())
            || other_layer::IS_KNOWN && of_span().is_some_and(|of_span| of_span == active)
    }

    #[inline]
    fn inherited_session(
        &self,
        context: Option<&OtelContext>,
        parent: Option<&SpanHandle>,
    ) -> Option<Session> {
        if let Some(context) = context
            && let Some(session) = context.get::<Session>()
            && !parent.is_some_and(|parent| is_active(parent, context))
        {
            return Some(session.clone());
        }
        match parent.and_then(|parent| parent.session()) {
            Some(session) => Some(session),
            None => self.core().settings.session.clone(),
        }
    }
}

/// Whether the active OpenTelemetry context suppresses an event. It isn't read for the API's own
/// events: some are logged while the stack of contexts is borrowed, so that reading would panic.
#[inline]
fn is_suppressed(event: &Event<'_>) -> bool {
    event.metadata().target() != "opentelemetry" && active_context::is_suppressed()
}

/// Whether `span` is the active one of `context`.
fn is_active(span: &SpanState, context: &OtelContext) -> bool {
    span.start().context.span_id() == context.span().span_context().span_id()
}

impl<S> Layer<S> for FeedbackLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_layer(&mut self, subscriber: &mut S) {
        let below: &dyn Subscriber = subscriber;
        if below.is::<FeedbackLayer>() {
            self.become_inert();
        }
    }

    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        if !self.is_inert() {
            self.claim(Claim::make(dispatch, self.core()), dispatch);
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        if self.is_passive() {
            return;
        }
        if self.core().is_off() {
            return self.core().count_forked();
        }
        let parent = self.parent_of(attributes, id, &ctx);
        let core = self.core();
        let callsite = callsite::of(attributes.metadata(), &core.settings);
        let begun = SpanHandle::begin(core, parent, clock::read(), |live, parent| {
            let parent_id = || Some(ctx.span(id)?.parent()?.id());
            self.fill_in(live, callsite, attributes.is_contextual(), parent, parent_id)?;
            Some(visit::new_span(core, callsite, live, |visitor| attributes.record(visitor)))
        });
        let Some((state, is_feedback)) = begun else { return };
        if is_feedback {
            state.register_feedback_fields();
        }
        // Without a claim on its registry, a second layer may share it; then the state must be
        // found through the extensions.
        if self.has_claim()
            && let Ok(replaced) = core.open.put(id, state.clone())
        {
            span_stack::note_created(id, state);
            if let Some(replaced) = replaced {
                replaced.end();
            }
        } else {
            self.put_into_registry(id, state, &ctx);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(state) = find(self.core(), id, &ctx) else { return };
        let fields = visit::fields(self.core(), |visitor| values.record(visitor));
        let is_feedback = fields.is_feedback;
        state.change(|live| fields.write_to(live, self.core()));
        if is_feedback {
            state.register_feedback_fields();
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, ctx: Context<'_, S>) {
        let (Some(state), Some(follows)) =
            (find(self.core(), id, &ctx), find(self.core(), follows, &ctx))
        else {
            return;
        };
        let most = self.core().settings.span_limits.max_links_per_span;
        let context = follows.start().context.clone();
        let link = Link { context, attributes: Default::default(), dropped_attributes: 0 };
        state.change_if_recording(|live| live.record.add_link(link, most));
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        if self.is_off() || is_suppressed(event) {
            return;
        }
        if let Some(span) = span_of_event(self.core(), event, &ctx) {
            event::record(event, &span, self.core());
        }
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        let core = self.core();
        let switches = &core.settings.switches;
        if !switches.tracked_inactivity
            && !switches.context_activation
            && span_stack::enter_created(id, core)
        {
            return;
        }
        let created = span_stack::take_created(id, core);
        let is_first = created.is_some();
        let Some(state) = created.or_else(|| find(self.core(), id, &ctx)) else {
            return self.warn_if_inert();
        };
        if switches.context_activation {
            state.start(); // otherwise it starts when it is first needed, as late as possible
        }
        if !self.has_claim() {
            // The layer was put in later by `reload`, or a wrapper doesn't forward
            // `on_register_dispatch`.
            dispatcher::get_default(|dispatch| {
                self.claim(Claim::of_span(dispatch, id, &state), dispatch);
            });
            if self.is_inert() {
                return state.abandon(); // the other layer captures it too
            }
        }
        if switches.tracked_inactivity {
            state.timings.enter(Ticks::now());
        }
        let guard = match switches.context_activation && !self.is_activated_elsewhere(id, &state) {
            true => context::attach(&state),
            false => None,
        };
        span_stack::enter(id, state, guard, is_first);
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        let now = Ticks::now(); // the span's end if it isn't entered again, so it is read first
        // The guard, which keeps the context active, is dropped last: foreign code may run then.
        let entered = span_stack::exit(id, self.core());
        let found;
        let state = match &entered {
            Some((state, _)) => state,
            None => {
                found = find(self.core(), id, &ctx);
                let Some(state) = &found else { return };
                state
            }
        };
        match self.core().settings.switches.tracked_inactivity {
            true => state.timings.exit(now),
            false => state.timings.exit_untracked(now),
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        match self.core().open.take(&id) {
            Some(state) => state.end_inline(),
            None => {
                if let Some(state) = find_in_registry(self.core(), &id, &ctx) {
                    state.close();
                }
            }
        }
    }
}

impl FeedbackLayer {
    /// Whether another layer has activated the span that is being entered. Then its ids stay the ones
    /// that the OpenTelemetry context shows.
    #[inline]
    fn is_activated_elsewhere(&self, id: &Id, state: &SpanState) -> bool {
        if !Providers::exist() && !other_layer::IS_KNOWN {
            return false;
        }
        // Mostly the span around is active.
        let foreign = |context: &OtelContext| {
            let around = state.local_parent();
            let is_foreign =
                context.has_active_span() && !around.is_some_and(|span| is_active(span, context));
            is_foreign.then(|| context.clone())
        };
        let context = active_context::map(foreign).flatten();
        let is_other =
            context.is_some_and(|context| self.is_of_another_layer(&context, || Some(id.clone())));
        if is_other {
            self.warn_of_another_layer();
        }
        is_other
    }

    /// Stores the state of a new span in the registry's extensions, unless another layer captures
    /// the span: of two layers, the one with a claim on the registry does.
    #[cold]
    fn put_into_registry<S>(&self, id: &Id, state: SpanHandle, ctx: &Context<'_, S>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let Some(span) = ctx.span(id) else { return state.abandon() };
        let others = span.extensions_mut().replace(Captured::new(state.clone()));
        let Some(others) = others else { return };
        if self.has_claim() {
            others.abandon();
        } else {
            state.abandon();
            span.extensions_mut().replace(others);
            self.become_inert();
        }
    }
}

/// The nearest captured span, beginning with `span`.
fn nearest<'r, S: for<'span> LookupSpan<'span> + 'r>(
    core: &LayerCore,
    span: Option<SpanRef<'r, S>>,
) -> Option<SpanHandle> {
    std::iter::successors(span, SpanRef::parent).find_map(|span| {
        let in_table = core.open.get(&span.id());
        in_table.or_else(|| Captured::of(&span.extensions()).cloned())
    })
}

/// The captured span that an event happened in.
#[inline]
fn span_of_event<S>(
    core: &Arc<LayerCore>,
    event: &Event<'_>,
    ctx: &Context<'_, S>,
) -> Option<SpanHandle>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let around = match event.is_contextual() {
        true => span_stack::innermost(core),
        false => None,
    };
    around.or_else(|| nearest(core, ctx.event_span(event)))
}

/// The state of a span that the layer of this core captured.
#[inline(always)] // on every entrance
fn find<S>(core: &Arc<LayerCore>, id: &Id, ctx: &Context<'_, S>) -> Option<SpanHandle>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let open = core.open.get(id);
    if open.is_some() { open } else { find_in_registry(core, id, ctx) }
}

#[cold]
fn find_in_registry<S>(core: &Arc<LayerCore>, id: &Id, ctx: &Context<'_, S>) -> Option<SpanHandle>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let state = Captured::of(&ctx.span(id)?.extensions())?.clone();
    Arc::ptr_eq(state.core(), core).then_some(state)
}
