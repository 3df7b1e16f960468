//! The service's span processors: those that a layer calls, and the one that a processor wraps.

use std::fmt;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::SpanContext;
use opentelemetry_sdk::trace::SpanData;

use super::{LayerCore, SpanState};
use crate::record::SpanRecord;

/// Calls the service's span processors. A panic of theirs ends there.
pub(crate) trait ProcessSpans: fmt::Debug + Send + Sync {
    /// Called once for each span, when its place in a trace is decided; `parent` is the context of its
    /// parent. The span must not be asked for its place meanwhile.
    fn on_start(&self, span: &SpanState, started: &SpanContext, parent: &Context);

    /// The data of an ended span. Calls no foreign code.
    fn data(&self, record: &SpanRecord) -> SpanData;

    /// Called when a span has ended, without a lock.
    fn on_end(&self, core: &LayerCore, span: SpanData);

    /// Flushes, for at most `limit`, and calls `meanwhile`. Returns why processors have failed.
    fn flush(&self, limit: Duration, meanwhile: &mut dyn FnMut()) -> Vec<String>;

    /// As [`flush`](Self::flush), then stops.
    fn shutdown(&self, limit: Duration, meanwhile: &mut dyn FnMut()) -> Vec<String>;
}

/// The span processor of the service that a processor of this crate wraps. A panic of it ends there.
pub(crate) trait WrappedProcessor: fmt::Debug + Send + Sync {
    /// Flushes, for at most `limit`. Returns why it has failed.
    fn flush(&self, limit: Duration) -> Vec<String>;

    /// As [`flush`](Self::flush), then stops.
    fn shutdown(&self, limit: Duration) -> Vec<String>;
}
