//! What a late enrichment can be about.

use opentelemetry::trace::SpanContext;

use crate::session::Session;

/// Something that names a span, maybe of another service, maybe long ended.
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
pub trait Target: sealed::Sealed {}

impl<T: sealed::Sealed> Target for T {}

/// What a target says of itself.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub(crate) span: SpanContext,
    pub(crate) session: Option<Session>,
}

pub(crate) mod sealed {
    use super::{Resolved, SpanContext};

    pub trait Sealed {
        fn resolve(self) -> Resolved;
    }

    impl Sealed for SpanContext {
        fn resolve(self) -> Resolved {
            Resolved { span: self, session: None }
        }
    }

    impl Sealed for &SpanContext {
        fn resolve(self) -> Resolved {
            self.clone().resolve()
        }
    }
}
