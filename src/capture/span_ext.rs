//! What users call on a `tracing::Span`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, Status};
use opentelemetry::{Context, Key, KeyValue, Value};

use super::context;
use crate::session::Session;
use crate::state::{Located, SpanState, locate_span};

/// OpenTelemetry's view of a `tracing::Span`.
///
/// The methods have the names people know from `tracing-opentelemetry`; each tells when it had no
/// effect.
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
    /// [`propagation::extract`](crate::propagation::extract) has read from a request.
    ///
    /// # Errors
    ///
    /// [`SpanError::AlreadyStarted`] once the span was entered, had a child, or was asked for its
    /// context: its place in a trace is then known to others.
    fn set_parent(&self, context: Context) -> Result<(), SpanError>;

    /// The OpenTelemetry context in which this span is the active one. Starts the span.
    ///
    /// # Errors
    ///
    /// That there is no such context: see [`SpanError`].
    fn context(&self) -> Result<Context, SpanError>;

    /// The span's ids and flags: what a late enrichment can be given as its `target`. Starts the
    /// span.
    ///
    /// # Errors
    ///
    /// That there are none: see [`SpanError`].
    fn span_context(&self) -> Result<SpanContext, SpanError>;

    /// Lets the span belong to `session`, and with it all that are created under it from now on.
    ///
    /// # Errors
    ///
    /// That it had no effect: see [`SpanError`].
    fn set_session(&self, session: &Session) -> Result<(), SpanError>;

    /// Links the span to another.
    ///
    /// # Errors
    ///
    /// That it had no effect: see [`SpanError`].
    fn add_link(&self, target: SpanContext) -> Result<(), SpanError> {
        self.add_link_with_attributes(target, Vec::new())
    }

    /// Links the span to another, with attributes on the link.
    ///
    /// # Errors
    ///
    /// That it had no effect: see [`SpanError`].
    fn add_link_with_attributes(
        &self,
        target: SpanContext,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError>;

    /// Sets an attribute; the last value of a key counts. A key in one of the namespaces of
    /// enrichments belongs to the same document.
    ///
    /// # Errors
    ///
    /// That it had no effect: see [`SpanError`].
    fn set_attribute(&self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), SpanError>;

    /// Sets the status. `Ok` is final, and an error replaces an earlier one, as the specification
    /// says.
    ///
    /// # Errors
    ///
    /// That it had no effect: see [`SpanError`].
    fn set_status(&self, status: Status) -> Result<(), SpanError>;

    /// Adds an event that happens now.
    ///
    /// # Errors
    ///
    /// That it had no effect: see [`SpanError`].
    fn add_event(
        &self,
        name: impl Into<Cow<'static, str>>,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError> {
        self.add_event_with_timestamp(name, SystemTime::now(), attributes)
    }

    /// Adds an event that happened at `timestamp`.
    ///
    /// # Errors
    ///
    /// That it had no effect: see [`SpanError`].
    fn add_event_with_timestamp(
        &self,
        name: impl Into<Cow<'static, str>>,
        timestamp: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError>;
}

/// Why a call on a span had no effect.
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
    /// The span has closed.
    #[error("the span has closed: nothing more is recorded for it")]
    Closed,
    /// A link to a span context that isn't valid.
    #[error("the span context is not valid: its trace id or span id is zero")]
    InvalidTarget,
}

impl SpanExt for tracing::Span {
    fn set_parent(&self, context: Context) -> Result<(), SpanError> {
        match state(self)?.set_parent(context) {
            Some(true) => Ok(()),
            Some(false) => Err(SpanError::AlreadyStarted),
            None => Err(SpanError::Closed),
        }
    }

    fn context(&self) -> Result<Context, SpanError> {
        let state = state(self)?;
        let context = context::of(&state).ok_or(SpanError::Closed)?;
        Ok(match state.session() {
            Some(session) => context.with_value(session),
            None => context,
        })
    }

    fn span_context(&self) -> Result<SpanContext, SpanError> {
        Ok(state(self)?.start().context.clone())
    }

    fn set_session(&self, session: &Session) -> Result<(), SpanError> {
        let set = state(self)?.change(|live| {
            live.session = Some(session.clone());
            live.session_is_own = true;
            live.context = None; // it may tell the session to other services
        });
        set.ok_or(SpanError::Closed)
    }

    fn add_link_with_attributes(
        &self,
        target: SpanContext,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError> {
        let state = state(self)?;
        if !target.is_valid() {
            return Err(SpanError::InvalidTarget);
        }
        context::add_link(&state, target, attributes).ok_or(SpanError::Closed)
    }

    fn set_attribute(&self, key: impl Into<Key>, value: impl Into<Value>) -> Result<(), SpanError> {
        let attribute = KeyValue::new(key, value);
        context::set_attributes(&state(self)?, [attribute]).ok_or(SpanError::Closed)
    }

    fn set_status(&self, status: Status) -> Result<(), SpanError> {
        state(self)?.change(|live| live.record.set_status(status)).ok_or(SpanError::Closed)
    }

    fn add_event_with_timestamp(
        &self,
        name: impl Into<Cow<'static, str>>,
        timestamp: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> Result<(), SpanError> {
        let state = state(self)?;
        context::add_event(&state, name.into(), timestamp, attributes).ok_or(SpanError::Closed)
    }
}

fn state(span: &tracing::Span) -> Result<Arc<SpanState>, SpanError> {
    match locate_span(span) {
        Located::Span(state) => Ok(state),
        Located::Disabled(_) | Located::Layer(_) => Err(SpanError::SpanDisabled),
        Located::Nothing if span.is_disabled() => Err(SpanError::SpanDisabled),
        Located::Nothing => Err(SpanError::NotInstalled),
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for tracing::Span {}
}
