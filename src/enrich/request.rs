//! Where an enrichment is to land.

use std::sync::Arc;

use super::error::EnrichError;
use super::target::{Resolved, Target};
use super::writer::{BeginError, Enricher, Late, Place, Writer};
use crate::feedback::carrier::Scope;
use crate::layer::locate::{Located, locate_current, locate_span};
use crate::session::Session;
use crate::span::{DocumentKind, LayerCore};

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
    options: Option<Box<Options>>,
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
    options: Option<Box<Options>>,
}

/// What only late enrichments have. Apart, since a request that is large is slow to pass on.
#[derive(Debug, Default)]
struct Options {
    session_id: Option<String>,
    target: Option<Resolved>,
    id: Option<String>,
}

impl<'a> SpanRequest<'a> {
    /// The span to enrich, instead of the nearest one around the caller.
    pub fn span(mut self, span: &'a tracing::Span) -> Self {
        self.span = Some(span);
        self
    }

    /// The span that a late enrichment is about. It makes a carrier.
    pub fn target(mut self, target: impl Target) -> Self {
        self.options.get_or_insert_default().target = Some(target.resolve());
        self
    }

    /// A name for this submission: one that is sent twice under the same name counts once.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.options.get_or_insert_default().id = Some(id.into());
        self
    }

    fn place(self) -> Result<Place, BeginError> {
        let (target, id) = match self.options {
            Some(options) => (options.target, options.id),
            None => (None, None),
        };
        let located = match (self.span, &target) {
            (Some(span), None) => locate_span(span),
            _ => locate_current(),
        };
        let core = usable(&located)?;
        let refuse = |error| Err(BeginError::refused(core, error));
        if let Some(target) = target {
            let session = session_of(&target, &located);
            let Resolved { span, ticket, .. } = target;
            return match &span {
                Some(span) if !span.is_valid() => refuse(EnrichError::InvalidTarget),
                Some(_) => {
                    let (core, target, scope) = (core.clone(), span, None);
                    let late = Late { core, target, session, scope, id, ticket };
                    Ok(Place::Late(Box::new(late)))
                }
                None => refuse(EnrichError::TicketOfSession),
            };
        }
        if id.is_some() {
            return refuse(EnrichError::IdWithoutTarget);
        }
        match located {
            Located::Span(state) => Ok(Place::OpenSpan(state, DocumentKind::Own)),
            Located::Disabled(_) => refuse(EnrichError::SpanDisabled),
            _ => refuse(EnrichError::NoActiveSpan),
        }
    }
}

impl SessionRequest {
    /// The id of the session, instead of the caller's own. Another session's makes a carrier.
    pub fn session_id(mut self, session_id: impl AsRef<str>) -> Self {
        self.options.get_or_insert_default().session_id = Some(session_id.as_ref().to_owned());
        self
    }

    /// The span that a late enrichment of its session, or trace, is about. It makes a carrier.
    pub fn target(mut self, target: impl Target) -> Self {
        self.options.get_or_insert_default().target = Some(target.resolve());
        self
    }

    /// A name for this submission: one that is sent twice under the same name counts once.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.options.get_or_insert_default().id = Some(id.into());
        self
    }

    fn place(self) -> Result<Place, BeginError> {
        let located = locate_current();
        let core = usable(&located)?;
        let refuse = |error| Err(BeginError::refused(core, error));
        let (session_id, target, id) = match self.options {
            Some(options) => (options.session_id, options.target, options.id),
            None => (None, None, None),
        };
        let given = match session_id.map(Session::with_id).transpose() {
            Ok(given) => given,
            Err(error) => return refuse(error.into()),
        };
        if let Some(target) = target {
            if target.span.as_ref().is_some_and(|span| !span.is_valid()) {
                return refuse(EnrichError::InvalidTarget);
            }
            if target.ticket.is_some() && given.is_some() && given != target.session {
                return refuse(EnrichError::ForeignSession);
            }
            let session = given.or_else(|| session_of(&target, &located));
            let scope = Some(if session.is_some() { Scope::Session } else { Scope::Trace });
            let Resolved { span: target, ticket, .. } = target;
            let core = core.clone();
            let late = Late { core, target, session, scope, id, ticket };
            return Ok(Place::Late(Box::new(late)));
        }
        let caller = match &located {
            Located::Span(state) => Some(state),
            _ => None,
        };
        let of_caller = match caller {
            Some(state) => state.session(),
            None => core.settings.session.clone(),
        };
        let is_late = match (&given, &of_caller) {
            // A name makes a submission of its own, also for the caller's session.
            (Some(given), Some(of_caller)) => given != of_caller || id.is_some(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !is_late && id.is_some() {
            return refuse(EnrichError::IdWithoutTarget);
        }
        Ok(match (caller, given.or(of_caller)) {
            (Some(caller), Some(session)) if !is_late => {
                Place::OpenSpan(caller.outermost_of(&session), DocumentKind::Scoped(Scope::Session))
            }
            (Some(caller), None) => {
                Place::OpenSpan(caller.local_root(), DocumentKind::Scoped(Scope::Trace))
            }
            (_, session @ Some(_)) => {
                let core = core.clone();
                let (target, scope, ticket) = (None, Some(Scope::Session), None);
                Place::Late(Box::new(Late { core, target, session, scope, id, ticket }))
            }
            (None, None) => return refuse(EnrichError::NoActiveSpan),
        })
    }
}

/// The session of a target: as its ticket says, or the caller's where both are in one trace.
fn session_of(target: &Resolved, located: &Located) -> Option<Session> {
    if target.ticket.is_some() {
        return target.session.clone();
    }
    match (located, &target.span) {
        (Located::Span(caller), Some(span))
            if caller.start().context.trace_id() == span.trace_id() =>
        {
            caller.session()
        }
        _ => None,
    }
}

/// The layer, if it takes anything at all.
fn usable(located: &Located) -> Result<&Arc<LayerCore>, BeginError> {
    let core = match located {
        Located::Span(state) => state.core(),
        Located::Layer(core) | Located::Disabled(core) => core,
        Located::Nothing => return Err(BeginError::NotInstalled),
    };
    if core.is_disabled() {
        Err(BeginError::refused(core, EnrichError::SdkDisabled))
    } else if core.is_shut_down() {
        Err(BeginError::refused(core, EnrichError::ShutDown))
    } else {
        Ok(core)
    }
}

/// Gives both requests the methods that begin with a value.
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
    /// What went in.
    inputs,
    /// What came out.
    outputs,
    /// The configuration in force.
    config,
}

/// What the macros begin with.
pub trait Begin {
    /// Finds the place.
    fn begin(self) -> Result<Writer, BeginError>;
}

macro_rules! begin {
    ($($request:ty),*) => {$(
        impl Begin for $request {
            // Inlined, so that a library which is used without the layer pays for one load.
            #[inline]
            fn begin(self) -> Result<Writer, BeginError> {
                if !LayerCore::exists() {
                    return Err(BeginError::NotInstalled);
                }
                self.writer()
            }
        }

        impl $request {
            fn writer(self) -> Result<Writer, BeginError> {
                Ok(Writer::begin(self.place()?))
            }
        }
    )*};
}

begin!(SpanRequest<'_>, SessionRequest);
