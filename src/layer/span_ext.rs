//! What users call on a `tracing::Span`.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, Key, KeyValue, Value};

use super::locate::{Located, is_captured, locate_span};
use super::providers::Providers;
use super::{context, other_layer};
use crate::session::Session;
use crate::span::SpanHandle;
#[cfg(feature = "tickets")]
use crate::ticket::{Ticket, TicketError, TicketOptions};

/// OpenTelemetry's view of a `tracing::Span`.
///
/// The methods are named as in `tracing-opentelemetry`; each returns an error if it had no effect.
///
/// ```
/// use tracing_feedback::SpanExt;
/// use tracing_subscriber::prelude::*;
///
/// let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// let subscriber = tracing_subscriber::registry().with(layer);
/// tracing::subscriber::with_default(subscriber, || {
///     let span = tracing::info_span!("answer");
///     span.set_attribute("model", "small")?;
///     assert!(span.span_context()?.is_valid());
///     Ok::<(), tracing_feedback::SpanError>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait SpanExt: sealed::Sealed {
    /// Puts the span under the span that is active in `context`, for example one that
    /// [`propagation::extract`](crate::propagation::extract) has read from a request. If none is active
    /// there, the span begins a trace. Its children get the baggage and the other values of `context`.
    ///
    /// # Errors
    ///
    /// [`SpanError::AlreadyStarted`] once the span was entered, had a child, or was asked for its
    /// context: its place in the trace is then fixed. Without
    /// [context activation](crate::Builder::with_context_activation) entering it doesn't fix its place.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use std::collections::HashMap;
    /// use tracing_feedback::{SpanError, SpanExt, propagation};
    ///
    /// let headers = HashMap::from([(
    ///     "traceparent".to_owned(),
    ///     "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    /// )]);
    /// let span = tracing::info_span!("request");
    /// span.set_parent(propagation::extract(&headers))?;
    /// let trace_id = span.span_context()?.trace_id();
    /// assert_eq!(trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    ///
    /// // Now its place is fixed.
    /// let again = span.set_parent(propagation::extract(&headers));
    /// assert_eq!(again, Err(SpanError::AlreadyStarted));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn set_parent(&self, context: Context) -> Result<(), SpanError>;

    /// The OpenTelemetry context in which this span is the active one. Starts the span.
    ///
    /// # Errors
    ///
    /// There is no such context: see [`SpanError`].
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use opentelemetry::trace::TraceContextExt;
    /// use tracing_feedback::SpanExt;
    ///
    /// let span = tracing::info_span!("answer");
    /// assert_eq!(span.context()?.span().span_context(), &span.span_context()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn context(&self) -> Result<Context, SpanError>;

    /// The span's ids and flags: what a late enrichment can be given as its `target`. Starts the
    /// span.
    ///
    /// # Errors
    ///
    /// There are none: see [`SpanError`].
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{SpanExt, enrich_span};
    ///
    /// let span = tracing::info_span!("answer");
    /// let answer = span.span_context()?;
    /// drop(span);
    /// assert!(enrich_span!(target = answer, feedback = { "rating": true }).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn span_context(&self) -> Result<SpanContext, SpanError>;

    /// A ticket for feedback on this span, and on its session. Starts the span.
    ///
    /// # Errors
    ///
    /// The span isn't captured, or there are no keys: see [`TicketError`].
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// use tracing_feedback::{SpanExt, TicketKeys};
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_ticket_keys(TicketKeys::new([[7; 32]])?) // a secret, of course
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// let span = tracing::info_span!("answer");
    /// let text = span.ticket()?.to_string();
    ///
    /// let ticket = telemetry.ticket_verifier().verify(&text)?;
    /// let about = ticket.span_context().unwrap();
    /// assert_eq!(about.span_id(), span.span_context()?.span_id());
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // nothing listens
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tickets")]
    fn ticket(&self) -> Result<Ticket, TicketError> {
        self.ticket_with(&TicketOptions::new())
    }

    /// As [`ticket`](Self::ticket), with options: what the ticket allows, to whom, and for how
    /// long.
    ///
    /// # Errors
    ///
    /// As for [`ticket`](Self::ticket), or the options can't be met: see [`TicketError`].
    #[cfg(feature = "tickets")]
    fn ticket_with(&self, options: &TicketOptions) -> Result<Ticket, TicketError>;

    /// Puts the span into `session`, and with it all spans that are created under it from now on.
    ///
    /// # Errors
    ///
    /// It had no effect: see [`SpanError`].
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{Session, SpanExt};
    ///
    /// let session = Session::new();
    /// let turn = tracing::info_span!("turn");
    /// turn.set_session(&session)?;
    /// let answer = tracing::info_span!(parent: &turn, "answer");
    /// assert_eq!(answer.in_scope(Session::current), Some(session));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn set_session(&self, session: &Session) -> Result<(), SpanError>;

    /// Links the span to another.
    ///
    /// # Errors
    ///
    /// It had no effect: see [`SpanError`].
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    /// # let (layer, telemetry) = builder.build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::SpanExt;
    ///
    /// let question = tracing::info_span!("question").span_context()?;
    /// tracing::info_span!("answer").add_link(question.clone())?;
    ///
    /// telemetry.flush()?;
    /// let answer = collector.spans().into_iter().find(|span| span.name == "answer").unwrap();
    /// assert_eq!(answer.links[0].span_id, question.span_id());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn add_link(&self, target: SpanContext) -> Result<(), SpanError> {
        self.add_link_with_attributes(target, Vec::new())
    }

    /// Links the span to another, with attributes on the link.
    ///
    /// # Errors
    ///
    /// It had no effect: see [`SpanError`].
    fn add_link_with_attributes(
        &self,
        target: SpanContext,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError>;

    /// Sets an attribute; the last value of a key counts. A key in the namespace `feedback` belongs to
    /// the document that enrichments change.
    ///
    /// # Errors
    ///
    /// It had no effect: see [`SpanError`].
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    /// # let (layer, telemetry) = builder.build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::SpanExt;
    ///
    /// tracing::info_span!("answer").set_attribute("temperature", 0.5)?;
    ///
    /// telemetry.flush()?;
    /// assert_eq!(collector.spans()[0].attributes["temperature"], 0.5);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn set_attribute(&self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), SpanError>;

    /// Sets the status. `Ok` is final, and an error replaces an earlier one, as the specification
    /// says.
    ///
    /// # Errors
    ///
    /// It had no effect: see [`SpanError`].
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    /// # let (layer, telemetry) = builder.build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use opentelemetry::trace::Status;
    /// use tracing_feedback::SpanExt;
    ///
    /// tracing::info_span!("answer").set_status(Status::error("no such city"))?;
    ///
    /// telemetry.flush()?;
    /// assert_eq!(collector.spans()[0].status, Status::error("no such city"));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn set_status(&self, status: Status) -> Result<(), SpanError>;

    /// Adds an event that happens now.
    ///
    /// # Errors
    ///
    /// It had no effect: see [`SpanError`].
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    /// # let (layer, telemetry) = builder.build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use opentelemetry::KeyValue;
    /// use tracing_feedback::SpanExt;
    ///
    /// tracing::info_span!("answer").add_event("cached", vec![KeyValue::new("age", 3)])?;
    ///
    /// telemetry.flush()?;
    /// let event = &collector.spans()[0].events[0];
    /// assert_eq!(event.name, "cached");
    /// assert_eq!(event.attributes["age"], 3);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn add_event(
        &self,
        name: impl Into<Cow<'static, str>>,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError>;

    /// Adds an event that happened at `timestamp`.
    ///
    /// # Errors
    ///
    /// It had no effect: see [`SpanError`].
    fn add_event_with_timestamp(
        &self,
        name: impl Into<Cow<'static, str>>,
        timestamp: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError>;
}

/// Why a call on a span had no effect.
///
/// ```
/// use tracing_feedback::{SpanError, SpanExt};
///
/// // No layer is installed here.
/// let span = tracing::Span::none();
/// assert_eq!(span.set_attribute("model", "small"), Err(SpanError::SpanDisabled));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpanError {
    /// The span's subscriber has no layer of this crate.
    #[error(
        "the layer is not installed in the span's subscriber: call `tracing_feedback::init()`, or \
         add the layer of `tracing_feedback::builder().build()` to a `tracing_subscriber::Registry`"
    )]
    NotInstalled,
    /// A filter hides the span from the layer, or it is `Span::none()`.
    #[error("the span is disabled by a filter: nothing is recorded for it")]
    SpanDisabled,
    /// The span's place in a trace is fixed.
    #[error(
        "the span has started, so its parent is fixed: set it before the span is entered, has a \
         child, or is asked for its context"
    )]
    AlreadyStarted,
    /// The span is captured by a layer of another crate.
    #[error(
        "the span is captured by another layer: for one of `tracing-opentelemetry`, switch on the \
         feature `tracing-opentelemetry` of this crate"
    )]
    OtherLayer,
    /// The span has closed, or was ended through the OpenTelemetry API.
    #[error("the span has ended: nothing more is recorded for it")]
    Closed,
    /// A link to a span context that isn't valid.
    #[error("the span context is not valid: its trace id or span id is zero")]
    InvalidTarget,
}

impl SpanExt for tracing::Span {
    fn set_parent(&self, context: Context) -> Result<(), SpanError> {
        let of_other = is_of_other_layer(self)
            .then(|| other_layer::set_parent(self, context.clone()))
            .flatten();
        let set = match of_other {
            Some(set) => set,
            None => state(self)?.set_parent(context).ok_or(SpanError::Closed)?,
        };
        if set { Ok(()) } else { Err(SpanError::AlreadyStarted) }
    }

    fn context(&self) -> Result<Context, SpanError> {
        match of_other_layer(self) {
            Some(context) => Ok(context),
            None => context::with_session(&state(self)?).ok_or(SpanError::Closed),
        }
    }

    fn span_context(&self) -> Result<SpanContext, SpanError> {
        match of_other_layer(self) {
            Some(context) => Ok(context.span().span_context().clone()),
            None => Ok(state(self)?.start().context.clone()),
        }
    }

    #[cfg(feature = "tickets")]
    fn ticket_with(&self, options: &TicketOptions) -> Result<Ticket, TicketError> {
        super::ticket::issue_for_span(self, options)
    }

    fn set_session(&self, session: &Session) -> Result<(), SpanError> {
        state(self)?.set_session(session).then_some(()).ok_or(SpanError::Closed)
    }

    fn add_link_with_attributes(
        &self,
        target: SpanContext,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError> {
        let is_valid = target.is_valid();
        if let Some(context) = recording_of_other_layer(self)? {
            if !is_valid {
                return Err(SpanError::InvalidTarget);
            }
            context.span().add_link(target, attributes);
            return Ok(());
        }
        let state = state(self)?;
        if !is_valid {
            return Err(SpanError::InvalidTarget);
        }
        context::add_link(&state, target, attributes).ok_or(SpanError::Closed)
    }

    fn set_attribute(&self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), SpanError> {
        let attribute = KeyValue::new(key, value);
        if let Some(context) = recording_of_other_layer(self)? {
            context.span().set_attribute(attribute);
            return Ok(());
        }
        context::set_attributes(&state(self)?, [attribute]).ok_or(SpanError::Closed)
    }

    fn set_status(&self, status: Status) -> Result<(), SpanError> {
        if let Some(context) = recording_of_other_layer(self)? {
            context.span().set_status(status);
            return Ok(());
        }
        let set = state(self)?.change_if_recording(|live| live.record.set_status(status));
        set.ok_or(SpanError::Closed)
    }

    fn add_event(
        &self,
        name: impl Into<Cow<'static, str>>,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError> {
        if let Some(context) = recording_of_other_layer(self)? {
            context.span().add_event(name, attributes);
            return Ok(());
        }
        let state = state(self)?;
        context::add_event(&state, name.into(), None, attributes).ok_or(SpanError::Closed)
    }

    fn add_event_with_timestamp(
        &self,
        name: impl Into<Cow<'static, str>>,
        timestamp: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError> {
        if let Some(context) = recording_of_other_layer(self)? {
            context.span().add_event_with_timestamp(name, timestamp, attributes);
            return Ok(());
        }
        let (state, time) = (state(self)?, Some(timestamp));
        context::add_event(&state, name.into(), time, attributes).ok_or(SpanError::Closed)
    }
}

/// Whether the span may be one of `tracing-opentelemetry`, which is found without starting it.
fn is_of_other_layer(span: &tracing::Span) -> bool {
    other_layer::IS_KNOWN && Providers::exist() && !span.is_disabled() && !is_captured(span)
}

/// The context in which the OpenTelemetry span is active of a span that `tracing-opentelemetry` captures.
/// Starts the span.
fn of_other_layer(span: &tracing::Span) -> Option<Context> {
    if !is_of_other_layer(span) {
        return None;
    }
    let context = span.with_subscriber(|(id, dispatch)| other_layer::context_of(id, dispatch));
    context.flatten().filter(|context| context.has_active_span())
}

/// The same, for a change of the span: an error if it isn't recorded.
fn recording_of_other_layer(span: &tracing::Span) -> Result<Option<Context>, SpanError> {
    match of_other_layer(span) {
        Some(context) if !context.span().is_recording() => Err(SpanError::Closed),
        context => Ok(context),
    }
}

fn state(span: &tracing::Span) -> Result<SpanHandle, SpanError> {
    match locate_span(span) {
        Located::Span(state) => Ok(state),
        Located::Disabled(_) | Located::Layer(_) => Err(SpanError::SpanDisabled),
        Located::OtherLayer(_) => Err(SpanError::OtherLayer),
        Located::NotRecording(_) => Err(SpanError::Closed),
        Located::Nothing if span.is_disabled() => Err(SpanError::SpanDisabled),
        Located::Nothing => Err(SpanError::NotInstalled),
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for tracing::Span {}
}
