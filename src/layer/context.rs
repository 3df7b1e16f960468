//! The captured span as the active span of the OpenTelemetry API, live.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{Span, SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use tracing::Dispatch;
use tracing::span::Id;

use super::locate;
use super::{is_active, visit};
use crate::active_context::{self, ActiveGuard};
use crate::clock::{self, Ticks};
use crate::record::{Event, Link};
use crate::session::Session;
use crate::span::{Live, SpanHandle, SpanState, span_stack};

/// Makes `span` the active one on this thread until the guard is dropped. `None` if the span has
/// closed, or if the thread is ending.
///
/// The context is built where it is attached: moving it right after it was written in smaller
/// pieces stalls on store forwarding.
#[inline]
pub(super) fn attach(span: &SpanHandle) -> Option<ActiveGuard> {
    let context = |is_suppressed: bool| {
        let mut live = span.live()?;
        if live.context.is_none() && !span.timings.was_entered() && !is_suppressed {
            // Most spans are entered once and don't need the context again, so it isn't stored.
            return Some(build(span, &live));
        }
        let context = stored(span, &mut live);
        Some(match is_suppressed {
            true => context.with_telemetry_suppressed(),
            false => context,
        })
    };
    active_context::attach(context, || span.core().count_refused("context_not_attached"))
}

/// The context in which `span` is active. `None` if the span has closed.
pub(super) fn of(span: &SpanHandle) -> Option<Context> {
    span.start();
    span.change(|live| stored(span, live))
}

/// As [`of`], with the span's session.
pub(super) fn with_session(span: &SpanHandle) -> Option<Context> {
    let context = of(span)?;
    Some(match span.session() {
        Some(session) => context.with_value(session),
        None => context,
    })
}

/// The OpenTelemetry context in which a span is the active one, for a layer of your own: for example
/// one that writes trace and span id into logs. Starts the span.
///
/// `None` if no layer of this crate is in `dispatch`, or if it hasn't captured the span: it is hidden by
/// a filter, or has closed. On an export thread it is always `None`.
///
/// It may read the span's extensions, so don't call it while you hold `ExtensionsMut` of the span. In a
/// layer's `on_new_span` the span is known if that layer was added to the subscriber after the one of
/// this crate.
///
/// ```
/// use opentelemetry::trace::TraceContextExt;
/// use tracing::{Dispatch, Event, Subscriber, dispatcher::WeakDispatch};
/// use tracing_subscriber::layer::Context;
/// use tracing_subscriber::{Layer, prelude::*, registry::LookupSpan};
/// # use std::sync::{Arc, Mutex, OnceLock};
///
/// /// Writes the trace id of every event.
/// #[derive(Clone, Default)]
/// struct Correlation {
///     dispatch: Arc<OnceLock<WeakDispatch>>,
///     lines: Arc<Mutex<Vec<String>>>,
/// }
///
/// impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Correlation {
///     fn on_register_dispatch(&self, dispatch: &Dispatch) {
///         let _ = self.dispatch.set(dispatch.downgrade());
///     }
///
///     fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
///         let dispatch = self.dispatch.get().and_then(WeakDispatch::upgrade);
///         let (Some(dispatch), Some(span)) = (dispatch, ctx.event_span(event)) else { return };
///         if let Some(context) = tracing_feedback::otel_context(&span.id(), &dispatch) {
///             self.lines.lock().unwrap().push(context.span().span_context().trace_id().to_string());
///         }
///     }
/// }
///
/// let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// let correlation = Correlation::default();
/// let subscriber = tracing_subscriber::registry().with(layer).with(correlation.clone());
/// tracing::subscriber::with_default(subscriber, || {
///     let _span = tracing::info_span!("answer").entered();
///     tracing::info!("a line");
/// });
/// assert_eq!(correlation.lines.lock().unwrap()[0].len(), 32);
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
pub fn otel_context(id: &Id, dispatch: &Dispatch) -> Option<Context> {
    with_session(&locate::span_in(dispatch, id)?)
}

/// The context of a span that has started, stored in the span's state. Calls no foreign code.
fn stored(span: &SpanHandle, live: &mut Live) -> Context {
    match &live.context {
        Some(context) => context.clone(),
        None => live.context.insert(build(span, live)).clone(),
    }
}

/// Builds the context of a span that has started. Calls no foreign code.
#[inline]
fn build(span: &SpanHandle, live: &Live) -> Context {
    let live_span = LiveSpan(span.clone());
    let around;
    let parent = match &live.parent_context {
        Some(context) => context,
        None => {
            around = span.context_around().unwrap_or_default();
            &around
        }
    };
    match &live.session {
        Some(session) if span.core().settings.session_propagation => {
            parent.with_span(live_span).with_value(session.clone())
        }
        _ => parent.with_span(live_span),
    }
}

/// The context around the caller, with its session: the active one, or that of the nearest captured
/// span where this layer doesn't activate contexts or no span is active.
pub(crate) fn current() -> Context {
    span_stack::remove_closed();
    let active = active_context::current();
    let Some(span) = locate::current() else { return active };
    if span.core().otel_spans().is_some() {
        let context = match is_active(&span, &active) {
            true => active,
            false => active.with_remote_span_context(span.start().context.clone()),
        };
        return match span.session() {
            Some(session) => context.with_value(session),
            None => context,
        };
    }
    let is_activated = span.core().settings.switches.context_activation;
    let context = if is_activated && active.has_active_span() {
        active
    } else if is_activated && span_stack::innermost(span.core()).is_some() {
        // A context without a span was attached inside the span, on purpose.
        span.start();
        active.with_span(LiveSpan(span.clone()))
    } else {
        of(&span).unwrap_or(active)
    };
    match span.session() {
        Some(session) if is_active(&span, &context) || context.get::<Session>().is_none() => {
            context.with_value(session)
        }
        _ => context,
    }
}

/// A captured span as the OpenTelemetry API sees it. Changes reach the span as long as it is open and
/// was not ended through the API.
///
/// The span's state may store the context that holds this value, until the span closes.
#[derive(Debug)]
struct LiveSpan(SpanHandle);

impl Span for LiveSpan {
    fn add_event_with_timestamp<T>(&mut self, name: T, time: SystemTime, attributes: Vec<KeyValue>)
    where
        T: Into<Cow<'static, str>>,
    {
        add_event(&self.0, name.into(), Some(time), attributes);
    }

    fn span_context(&self) -> &SpanContext {
        &self.0.start().context
    }

    fn is_recording(&self) -> bool {
        self.0.change_if_recording(|_| ()).is_some()
    }

    fn set_attribute(&mut self, attribute: KeyValue) {
        set_attributes(&self.0, [attribute]);
    }

    fn set_status(&mut self, status: Status) {
        self.0.change_if_recording(|live| live.record.set_status(status));
    }

    fn update_name<T>(&mut self, new_name: T)
    where
        T: Into<Cow<'static, str>>,
    {
        let new_name = new_name.into();
        self.0.change_if_recording(|live| live.record.details.name = Some(new_name));
    }

    fn add_link(&mut self, span_context: SpanContext, attributes: Vec<KeyValue>) {
        add_link(&self.0, span_context, attributes);
    }

    fn end_with_timestamp(&mut self, timestamp: SystemTime) {
        let timestamp = clock::unix_nanos(timestamp);
        self.0.change_if_recording(|live| live.documents.ended = Some(timestamp));
    }
}

/// Sets attributes as if they were fields. `None` if the span has ended.
pub(super) fn set_attributes(
    state: &SpanHandle,
    attributes: impl IntoIterator<Item = KeyValue>,
) -> Option<()> {
    let core = state.core();
    let fields = visit::otel_fields(core, attributes);
    let is_feedback = fields.is_feedback;
    state.change_if_recording(|live| fields.write_to(live, core))?;
    if is_feedback {
        state.register_feedback_fields();
    }
    Some(())
}

/// Adds an event that happened at `time`, or happens now. `None` if the span has ended.
pub(super) fn add_event(
    state: &SpanState,
    name: Cow<'static, str>,
    time: Option<SystemTime>,
    attributes: Vec<KeyValue>,
) -> Option<()> {
    let now = Ticks::now();
    let core = state.core();
    let limits = core.settings.span_limits;
    let (attributes, dropped_attributes) =
        visit::otel_attributes(core, attributes, limits.max_attributes_per_event);
    state.change_if_recording(|live| {
        let time = match time {
            Some(time) => clock::unix_nanos(time),
            None => live.record.start.saturating_add(state.timings.age(now)),
        };
        let event = Event { name, time, attributes, dropped_attributes };
        live.record.add_event(event, limits.max_events_per_span)
    })
}

/// Adds a link. `None` if the span has ended.
pub(super) fn add_link(
    state: &SpanState,
    context: SpanContext,
    attributes: Vec<KeyValue>,
) -> Option<()> {
    let core = state.core();
    let limits = core.settings.span_limits;
    let (attributes, dropped_attributes) =
        visit::otel_attributes(core, attributes, limits.max_attributes_per_link);
    let link = Link { context, attributes, dropped_attributes };
    state.change_if_recording(|live| live.record.add_link(link, limits.max_links_per_span))
}
