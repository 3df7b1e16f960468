//! The targets of late enrichments.

use opentelemetry::trace::SpanContext;

use crate::session::Session;
use crate::ticket::Ticket;

/// The target of a late enrichment: a [`SpanContext`], which may be of another service and of a span that
/// has ended, or with the feature `tickets` a verified `Ticket`.
///
/// ```
/// use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};
/// use tracing_feedback::enrich_span;
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
///
/// let answer = SpanContext::new(
///     TraceId::from(7),
///     SpanId::from(7),
///     TraceFlags::SAMPLED,
///     true,
///     Default::default(),
/// );
/// let outcome = enrich_span!(target = answer, feedback = { "rating": true });
/// assert!(outcome.is_ok());
/// # });
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no span or session that feedback could be about",
    label = "not a target",
    note = "a target is a `SpanContext` or a `Ticket`: give the text of a ticket to \
            `TicketVerifier::verify` first",
    note = "the `SpanContext` is that of `opentelemetry` 0.33: no release of tracing-feedback works with 0.32 or \
            earlier, and `cargo tree -d` shows whether there are two versions"
)]
pub trait Target: sealed::Sealed {}

impl<T: sealed::Sealed> Target for T {}

/// The parts of a target.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Absent for the ticket of a session.
    pub(crate) span: Option<SpanContext>,
    pub(crate) session: Option<Session>,
    /// The ticket, if the target is one. It limits the keys.
    pub(crate) ticket: Option<Ticket>,
}

/// The options of late enrichments. Boxed by the requests, which are moved several times.
#[derive(Debug, Default)]
pub(crate) struct LateOptions {
    pub(crate) session_id: Option<String>,
    pub(crate) target: Option<Resolved>,
    pub(crate) id: Option<String>,
}

pub(crate) mod sealed {
    use super::{Resolved, SpanContext};

    pub trait Sealed {
        fn resolve(self) -> Resolved;
    }

    impl Sealed for SpanContext {
        fn resolve(self) -> Resolved {
            Resolved { span: Some(self), session: None, ticket: None }
        }
    }

    impl Sealed for &SpanContext {
        fn resolve(self) -> Resolved {
            self.clone().resolve()
        }
    }

    #[cfg(feature = "tickets")]
    impl Sealed for super::Ticket {
        fn resolve(self) -> Resolved {
            let (span, session) = (self.span_context().cloned(), self.session().cloned());
            Resolved { span, session, ticket: Some(self) }
        }
    }

    #[cfg(feature = "tickets")]
    impl Sealed for &super::Ticket {
        fn resolve(self) -> Resolved {
            self.clone().resolve()
        }
    }
}
