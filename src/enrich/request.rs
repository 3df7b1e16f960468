//! Requests: the public way to an enrichment, with its options.

use super::destination::{BeginError, Destination, layer_exists};
use super::target::{LateOptions, Target};
use super::writer::{Enricher, Writer};

/// Enriches the given span.
///
/// ```
/// # #[cfg(feature = "collector")] {
/// # use tracing_subscriber::prelude::*;
/// # let collector = tracing_feedback::collector::Collector::start()?;
/// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
/// # let (layer, telemetry) = builder.build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use std::collections::HashMap;
/// use tracing_feedback::enrich;
///
/// let span = tracing::info_span!("answer");
/// let scores = HashMap::from([("clarity", 0.9)]); // keys known at run time
/// enrich::span(&span).metrics(&scores).apply().into_result()?;
///
/// drop(span);
/// telemetry.flush()?;
/// assert_eq!(collector.spans()[0].attributes["metrics.clarity"], 0.9);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn span(span: &tracing::Span) -> SpanRequest<'_> {
    SpanRequest { span: Some(span), ..current_span() }
}

/// Enriches the nearest captured span around the caller.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use tracing_feedback::{EnrichError, enrich};
///
/// let rating = serde_json::json!({ "rating": 5 });
/// let outcome = enrich::current_span().feedback(&rating).apply();
/// assert_eq!(outcome.into_result(), Err(EnrichError::NoActiveSpan));
///
/// let _span = tracing::info_span!("answer").entered();
/// assert!(enrich::current_span().feedback(&rating).apply().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn current_span() -> SpanRequest<'static> {
    SpanRequest { span: None, options: None }
}

/// Enriches the session of the caller, or the trace if there is no session.
///
/// ```
/// # #[cfg(feature = "collector")] {
/// # use tracing_subscriber::prelude::*;
/// # let collector = tracing_feedback::collector::Collector::start()?;
/// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
/// # let (layer, telemetry) = builder.build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use tracing_feedback::enrich;
///
/// let rating = serde_json::json!({ "rating": 5 });
/// tracing::info_span!("turn", session.id = "conversation-42").in_scope(|| {
///     assert!(enrich::session().feedback(&rating).apply().is_ok());
/// });
///
/// telemetry.flush()?;
/// assert_eq!(collector.session_feedback("conversation-42")["feedback.rating"], 5);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn session() -> SessionRequest {
    SessionRequest { options: None }
}

/// An enrichment of a span: options first, then the values of the namespaces, then
/// [`apply`](Enricher::apply).
///
/// ```
/// # #[cfg(feature = "collector")] {
/// # use tracing_subscriber::prelude::*;
/// # let collector = tracing_feedback::collector::Collector::start()?;
/// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
/// # let (layer, telemetry) = builder.build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use tracing_feedback::{SpanExt, enrich};
///
/// let answer = tracing::info_span!("answer").span_context()?;
/// let vote = serde_json::json!({ "rating": true });
/// for _ in 0..2 {
///     // Sent twice, counted once.
///     enrich::current_span().target(&answer).id("vote-17").feedback(&vote).apply().into_result()?;
/// }
///
/// telemetry.flush()?;
/// let feedback = collector.feedback(answer.trace_id(), answer.span_id());
/// assert_eq!(feedback["feedback.rating"], true);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is enriched before `apply`"]
pub struct SpanRequest<'a> {
    span: Option<&'a tracing::Span>,
    options: Option<Box<LateOptions>>,
}

/// An enrichment of a session: options first, then the values of the namespaces, then
/// [`apply`](Enricher::apply).
///
/// ```
/// # #[cfg(feature = "collector")] {
/// # use tracing_subscriber::prelude::*;
/// # let collector = tracing_feedback::collector::Collector::start()?;
/// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
/// # let (layer, telemetry) = builder.build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use tracing_feedback::enrich;
///
/// let resolved = serde_json::json!({ "resolved": true });
/// enrich::session().session_id("conversation-41").feedback(&resolved).apply().into_result()?;
///
/// telemetry.flush()?;
/// assert_eq!(collector.session_feedback("conversation-41")["feedback.resolved"], true);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is enriched before `apply`"]
pub struct SessionRequest {
    options: Option<Box<LateOptions>>,
}

impl<'a> SpanRequest<'a> {
    /// The span to enrich, instead of the nearest one around the caller.
    pub fn span(mut self, span: &'a tracing::Span) -> Self {
        self.span = Some(span);
        self
    }

    /// The span that a late enrichment is about. The enrichment is sent as a carrier.
    pub fn target(mut self, target: impl Target) -> Self {
        self.options.get_or_insert_default().target = Some(target.resolve());
        self
    }

    /// A name for this submission: a submission that is sent twice under the same name counts once.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.options.get_or_insert_default().id = Some(id.into());
        self
    }
}

impl SessionRequest {
    /// The id of the session, instead of the caller's own. An enrichment of another session is sent as a
    /// carrier.
    pub fn session_id(mut self, session_id: impl AsRef<str>) -> Self {
        self.options.get_or_insert_default().session_id = Some(session_id.as_ref().to_owned());
        self
    }

    /// A span whose session, or trace, a late enrichment is about. The enrichment is sent as a carrier.
    pub fn target(mut self, target: impl Target) -> Self {
        self.options.get_or_insert_default().target = Some(target.resolve());
        self
    }

    /// A name for this submission: a submission that is sent twice under the same name counts once.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.options.get_or_insert_default().id = Some(id.into());
        self
    }
}

/// Defines a method for each namespace, of `Enricher` and of both requests.
macro_rules! namespaces {
    ($($request:ty),*; $($(#[$doc:meta])* $namespace:ident),* $(,)?) => {
        namespaces!(@requests [$($request),*] $($(#[$doc])* $namespace),*);
        impl Enricher {$(
            $(#[$doc])*
            pub fn $namespace<T: serde::Serialize + ?Sized>(self, value: &T) -> Self {
                self.namespace(stringify!($namespace), value)
            }
        )*}
    };
    (@requests [$first:ty $(, $request:ty)*] $($rest:tt)*) => {
        namespaces!(@request $first; $($rest)*);
        namespaces!(@requests [$($request),*] $($rest)*);
    };
    (@requests [] $($rest:tt)*) => {};
    (@request $request:ty; $($(#[$doc:meta])* $namespace:ident),*) => {
        impl $request {$(
            $(#[$doc])*
            pub fn $namespace<T: serde::Serialize + ?Sized>(self, value: &T) -> Enricher {
                Enricher::new(self.begin()).$namespace(value)
            }
        )*}
    };
}

namespaces! {
    SpanRequest<'_>, SessionRequest;
    /// What users thought: `value` serializes to an object, or to null to retract all of it.
    feedback,
    /// Scores by evaluators and experts, as opposed to end users.
    metrics,
    /// Anything else worth knowing.
    metadata,
    /// Properties of the user.
    user_properties,
    /// The inputs of the operation, for example the prompt.
    inputs,
    /// The outputs of the operation, for example the answer.
    outputs,
    /// The configuration of the operation, for example the model.
    config,
}

/// The start of an enrichment by the macros.
pub trait Begin {
    /// Finds the destination.
    fn begin(self) -> Result<Writer, BeginError>;
}

macro_rules! begin {
    ($($request:ty),*) => {$(
        impl Begin for $request {
            // Inlined, so that a library in a program without a layer pays for one load.
            #[inline]
            fn begin(self) -> Result<Writer, BeginError> {
                if !layer_exists() {
                    return Err(BeginError::NotInstalled);
                }
                self.writer()
            }
        }

    )*};
}

begin!(SpanRequest<'_>, SessionRequest);

impl SpanRequest<'_> {
    fn writer(self) -> Result<Writer, BeginError> {
        Destination::of_span(self.span, self.options).map(Writer::begin)
    }
}

impl SessionRequest {
    fn writer(self) -> Result<Writer, BeginError> {
        Destination::of_session(self.options).map(Writer::begin)
    }
}
