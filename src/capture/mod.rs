//! Capture: the layer that turns what `tracing` says of a span into its [state](crate::state).
//!
//! [`FeedbackLayer`]'s callbacks are the whole of it. Each finds the span or returns, and changes one
//! thing. Values are visited before any lock is taken ([`visit`]), since their `Debug` and `Display`
//! are foreign code that may itself make spans and events. [`context`] makes a captured span the
//! active one of the OpenTelemetry API, [`span_ext`] is what users call on a `tracing::Span`, and
//! [`processor`] takes the spans that others make with the OpenTelemetry API.

mod callsite;
mod context;
mod event;
mod place;
mod processor;
mod span_ext;
mod visit;

use std::sync::Arc;

use opentelemetry::Context as OtelContext;
use opentelemetry::trace::TraceContextExt;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Subscriber, dispatcher};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::clock;
use crate::quiet;
use crate::record::Link;
use crate::session::Session;
use crate::state::{Captured, Claim, FeedbackLayer, Live, SpanState, local};
use callsite::Callsite;

pub use processor::FeedbackSpanProcessor;
pub use span_ext::{SpanError, SpanExt};

pub(crate) use context::current as current_context;

impl FeedbackLayer {
    /// Whether nothing is captured on this thread now.
    #[inline]
    fn is_off(&self) -> bool {
        quiet::is_this_thread()
            || self.is_inert()
            || self.installation().is_disabled()
            || OtelContext::is_current_telemetry_suppressed()
    }

    /// The state of a span and of those around it. `None` if it isn't captured.
    fn state<S: for<'span> LookupSpan<'span>>(span: &SpanRef<'_, S>) -> Option<Arc<SpanState>> {
        Captured::of(&span.extensions()).cloned()
    }

    /// The state of the nearest captured span, beginning with `span`.
    fn nearest<'r, S: for<'span> LookupSpan<'span> + 'r>(
        span: Option<SpanRef<'r, S>>,
    ) -> Option<Arc<SpanState>> {
        std::iter::successors(span, SpanRef::parent).find_map(|span| Self::state(&span))
    }

    /// The captured span around one that is being made.
    #[inline]
    fn parent_of<S: for<'span> LookupSpan<'span>>(
        &self,
        span: &SpanRef<'_, S>,
    ) -> Option<Arc<SpanState>> {
        let parent = span.parent();
        let at_hand = local::get(&parent.as_ref()?.id(), self.installation());
        if at_hand.is_some() { at_hand } else { Self::nearest(parent) }
    }

    /// Says what is known of a span before its fields: parents, session, and where it was made.
    #[inline]
    fn describe(
        &self,
        live: &mut Live,
        callsite: &'static Callsite,
        is_contextual: bool,
        parent: Option<&Arc<SpanState>>,
    ) {
        let switches = &self.installation().settings.switches;
        // The OpenTelemetry context counts where this layer keeps it up to date, and where nothing
        // of ours is around.
        if is_contextual && (switches.context_activation || parent.is_none()) {
            OtelContext::map_current(|context| live.parent_context = Some(context.clone()));
        }
        live.session = self.inherited_session(live.parent_context.as_ref(), parent);
        live.record.callsite = Some(&callsite.common);
        match switches.threads {
            true => callsite::tell_thread(&mut live.record.thread),
            false => live.record.thread = None,
        }
    }

    #[inline]
    fn inherited_session(
        &self,
        context: Option<&OtelContext>,
        parent: Option<&Arc<SpanState>>,
    ) -> Option<Session> {
        let of_context = context
            .and_then(|context| Some((context, context.get::<Session>()?)))
            .filter(|(context, _)| !parent.is_some_and(|parent| is_active(parent, context)));
        of_context
            .map(|(_, session)| session.clone())
            .or_else(|| parent.and_then(|parent| parent.session()))
            .or_else(|| self.installation().settings.session.clone())
    }
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
            self.claim(Claim::make(dispatch, self.installation()));
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        if self.is_off() {
            return;
        }
        let span = ctx.span(id);
        let Some(span) = &span else { return };
        let parent = self.parent_of(span);
        if let Some(parent) = &parent {
            parent.start(); // it has a child: its place is fixed
        }
        let installation = self.installation();
        let callsite = callsite::of(attributes.metadata(), &installation.settings);
        let begun = SpanState::begin(installation, parent, clock::now(), |live, parent| {
            self.describe(live, callsite, attributes.is_contextual(), parent);
            visit::new_span(installation, callsite, live, |visitor| attributes.record(visitor))
        });
        let Some((state, is_feedback)) = begun else { return };
        if is_feedback {
            state.remember_fields();
        }
        let others = span.extensions_mut().replace(Captured::new(state.clone()));
        if let Some(others) = others {
            // Another layer captures it. Which one stays is the registry's to say, if it knows.
            state.abandon();
            span.extensions_mut().replace(others);
            if !self.has_claim() {
                self.become_inert();
            }
            return;
        }
        local::add(id, state);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(state) = self.find(id, &ctx) else { return };
        let fields = visit::fields(self.installation(), |visitor| values.record(visitor));
        let is_feedback = fields.is_feedback;
        state.change(|live| fields.write_to(live, self.installation()));
        if is_feedback {
            state.remember_fields();
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, ctx: Context<'_, S>) {
        let (Some(state), Some(follows)) = (self.find(id, &ctx), self.find(follows, &ctx)) else {
            return;
        };
        let most = self.installation().settings.span_limits.max_links_per_span;
        let context = follows.start().context.clone();
        let link = Link { context, attributes: Default::default(), dropped_attributes: 0 };
        state.change(|live| live.record.add_link(link, most));
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        if self.is_off() {
            return;
        }
        if let Some(state) = Self::nearest(ctx.event_span(event)) {
            event::record(event, &state, self.installation());
        }
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        let switches = &self.installation().settings.switches;
        let Some(state) = self.find(id, &ctx) else { return self.say_if_inert() };
        state.start();
        if !self.has_claim() {
            // It was put into its subscriber later, or by a wrapper that doesn't tell.
            dispatcher::get_default(|dispatch| self.claim(Claim::of_span(dispatch, id, &state)));
        }
        if switches.tracked_inactivity {
            state.timings.enter(clock::now());
        }
        let guard = match switches.context_activation {
            true => context::attach(&state),
            false => None,
        };
        local::enter(id, state, guard);
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        let is_tracked = self.installation().settings.switches.tracked_inactivity;
        let exit = |state: &SpanState| match is_tracked {
            true => state.timings.exit(clock::now()),
            false => state.timings.exit_untracked(clock::now()),
        };
        match local::exit(id, self.installation(), exit) {
            Some(guard) => drop(guard), // outside, since foreign code may run
            None => {
                if let Some(state) = self.find(id, &ctx) {
                    exit(&state);
                }
            }
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let state = local::take(&id, self.installation());
        if let Some(state) = state.or_else(|| self.find(&id, &ctx)) {
            state.close(clock::now);
        }
    }
}

impl FeedbackLayer {
    /// The state of a span that this layer captured.
    fn find<S>(&self, id: &Id, ctx: &Context<'_, S>) -> Option<Arc<SpanState>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        local::get(id, self.installation()).or_else(|| {
            let state = Self::state(&ctx.span(id)?)?;
            Arc::ptr_eq(state.installation(), self.installation()).then_some(state)
        })
    }
}
