//! Capture: the layer that turns what `tracing` says of a span into its [state](crate::state).
//!
//! [`FeedbackLayer`]'s callbacks are the whole of it. Each finds the span or returns, and changes one
//! thing. Values are visited before any lock is taken ([`visit`]), since their `Debug` and `Display`
//! are foreign code that may itself make spans and events. [`context`] makes a captured span the
//! active one of the OpenTelemetry API, [`span_ext`] is what users call on a `tracing::Span`, and
//! [`processor`] takes the spans that others make with the OpenTelemetry API.

mod common;
mod context;
mod event;
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
use crate::record::{Attributes as Recorded, Link};
use crate::session::Session;
use crate::state::{Claim, FeedbackLayer, Live, SpanState};

pub use processor::FeedbackSpanProcessor;
pub use span_ext::{SpanError, SpanExt};

pub(crate) use context::current as current_context;

impl FeedbackLayer {
    /// Whether nothing is captured on this thread now.
    fn is_off(&self) -> bool {
        quiet::is_this_thread()
            || self.is_inert()
            || self.installation().is_disabled()
            || OtelContext::is_current_telemetry_suppressed()
    }

    /// The state of a span and of those around it. `None` if it isn't captured.
    fn state<S: for<'span> LookupSpan<'span>>(span: &SpanRef<'_, S>) -> Option<Arc<SpanState>> {
        span.extensions().get::<Arc<SpanState>>().cloned()
    }

    /// The state of the nearest captured span, beginning with `span`.
    fn nearest<'r, S: for<'span> LookupSpan<'span> + 'r>(
        span: Option<SpanRef<'r, S>>,
    ) -> Option<Arc<SpanState>> {
        std::iter::successors(span, SpanRef::parent).find_map(|span| Self::state(&span))
    }

    /// What is known of a span before its fields: times, parents, session, and where it was made.
    fn begin(&self, attributes: &Attributes<'_>, parent: Option<&Arc<SpanState>>) -> Box<Live> {
        let settings = &self.installation().settings;
        let metadata = attributes.metadata();
        let scope = self.installation().scope.clone();
        let mut live = Live::begin(metadata.name(), clock::now(), scope);
        // The OpenTelemetry context counts where this layer keeps it up to date, and where nothing
        // of ours is around.
        if attributes.is_contextual() && (settings.switches.context_activation || parent.is_none())
        {
            live.parent_context = Some(OtelContext::current());
        }
        live.session = self.inherited_session(live.parent_context.as_ref(), parent);
        live.record.callsite = common::of_callsite(metadata, &settings.switches);
        if settings.switches.threads {
            live.record.thread = common::of_thread();
        }
        live
    }

    fn inherited_session(
        &self,
        context: Option<&OtelContext>,
        parent: Option<&Arc<SpanState>>,
    ) -> Option<Session> {
        let of_context = context
            .filter(|context| !parent.is_some_and(|parent| is_active(parent, context)))
            .and_then(|context| context.get::<Session>().cloned());
        of_context
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
        let Some(span) = ctx.span(id) else { return };
        if Self::state(&span).is_some() {
            // Captured by another layer. Which one stays is the registry's to say, if it knows.
            if !self.has_claim() {
                self.become_inert();
            }
            return;
        }
        let parent = Self::nearest(span.parent());
        if let Some(parent) = &parent {
            parent.start(); // it has a child: its place is fixed
        }
        let mut live = self.begin(attributes, parent.as_ref());
        let table = std::mem::take(&mut live.record.attributes);
        let fields = visit::fields(self.installation(), table, |visitor| {
            attributes.record(visitor);
        });
        let is_feedback = fields.is_feedback;
        fields.write_to(&mut live, self.installation());
        let state = Arc::new(SpanState::new(self.installation().clone(), parent, live));
        if is_feedback {
            state.remember_fields();
        }
        span.extensions_mut().replace(state);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        let Some(state) = self.find(id, &ctx) else { return };
        let fields = visit::fields(self.installation(), Recorded::default(), |visitor| {
            values.record(visitor);
        });
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
        let link = Link { context, attributes: Recorded::default(), dropped_attributes: 0 };
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
            let now = clock::now();
            state.change(|live| live.timings.enter(now));
        }
        if switches.context_activation {
            context::attach(id, &state);
        }
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        let attached = match self.installation().settings.switches.context_activation {
            true => context::detach(id, self.installation()),
            false => None,
        };
        if let Some(state) = attached.or_else(|| self.find(id, &ctx)) {
            let now = clock::now();
            state.change(|live| live.timings.exit(now));
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(&id) else { return };
        let state = {
            let mut extensions = span.extensions_mut();
            match extensions.get_mut::<Arc<SpanState>>() {
                Some(state) if Arc::ptr_eq(state.installation(), self.installation()) => {
                    extensions.remove::<Arc<SpanState>>()
                }
                _ => None,
            }
        };
        if let Some(state) = state {
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
        let state = Self::state(&ctx.span(id)?)?;
        Arc::ptr_eq(state.installation(), self.installation()).then_some(state)
    }
}
