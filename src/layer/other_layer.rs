//! The layer of `tracing-opentelemetry`, which a service may keep, or have beside ours for a while.

use opentelemetry::Context as OtelContext;
use tracing::Dispatch;
use tracing::span::Id;

/// Whether the spans of that layer can be found.
pub(super) const IS_KNOWN: bool = cfg!(feature = "tracing-opentelemetry");

/// The context in which the OpenTelemetry span of a `tracing` span is active. Starts it.
#[cfg(feature = "tracing-opentelemetry")]
pub(super) fn context_of(id: &Id, dispatch: &Dispatch) -> Option<OtelContext> {
    tracing_opentelemetry::get_otel_context(id, dispatch)
}

#[cfg(not(feature = "tracing-opentelemetry"))]
pub(super) fn context_of(_: &Id, _: &Dispatch) -> Option<OtelContext> {
    None
}

/// Sets the parent of a span. `Some(false)` if it has started, `None` if that layer hasn't captured it.
#[cfg(feature = "tracing-opentelemetry")]
pub(super) fn set_parent(span: &tracing::Span, context: OtelContext) -> Option<bool> {
    use tracing_opentelemetry::{OpenTelemetrySpanExt, SetParentError};

    match OpenTelemetrySpanExt::set_parent(span, context) {
        Ok(()) => Some(true),
        Err(SetParentError::AlreadyStarted) => Some(false),
        Err(_) => None,
    }
}

#[cfg(not(feature = "tracing-opentelemetry"))]
pub(super) fn set_parent(_: &tracing::Span, _: OtelContext) -> Option<bool> {
    None
}
