//! The span processor that a processor of this crate wraps.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanProcessor};

use super::processor_calls::on_each;
use crate::span::WrappedProcessor;
use crate::suppress;
use crate::sync::lock;

/// The wrapped processor. It is shared once it knows its provider's resource.
pub(crate) struct Wrapped {
    /// The processor until then.
    unshared: Mutex<Option<Box<dyn SpanProcessor>>>,
    /// The processor from then on: one, or none if it was never there.
    shared: OnceLock<Arc<[Box<dyn SpanProcessor>]>>,
    was_shut_down: AtomicBool,
}

impl Wrapped {
    pub(crate) fn new(processor: Box<dyn SpanProcessor>) -> Arc<Self> {
        let unshared = Mutex::new(Some(processor));
        Arc::new(Self { unshared, shared: OnceLock::new(), was_shut_down: AtomicBool::new(false) })
    }

    /// Gives the processor its provider's resource, and shares it.
    pub(super) fn set_resource(&self, resource: &Resource) {
        self.shared.get_or_init(|| {
            let mut processor = lock(&self.unshared).take();
            processor.iter_mut().for_each(|processor| processor.set_resource(resource));
            processor.into_iter().collect()
        });
    }

    /// The processor, which is in use: a processor around this one that doesn't pass on the resource is
    /// done without it.
    #[inline]
    pub(super) fn processor(&self) -> Option<&dyn SpanProcessor> {
        let shared = self.shared.get_or_init(|| lock(&self.unshared).take().into_iter().collect());
        shared.first().map(|processor| processor.as_ref())
    }

    /// Hands a span to the processor.
    ///
    /// # Errors
    ///
    /// The processor isn't part of a provider yet.
    pub(crate) fn hand_over(&self, span: SpanData) -> Result<(), &'static str> {
        const NO_PROVIDER: &str = "the span processor isn't part of a tracer provider yet: give it to \
                                   `SdkTracerProvider::builder().with_span_processor(…)`";
        let processor = self.shared.get().and_then(|shared| shared.first()).ok_or(NO_PROVIDER)?;
        let _suppressed = suppress::scope();
        processor.on_end(span);
        Ok(())
    }
}

impl WrappedProcessor for Wrapped {
    fn flush(&self, limit: Duration) -> Vec<String> {
        let Some(shared) = self.shared.get() else { return Vec::new() };
        if self.was_shut_down.load(Ordering::Relaxed) {
            return Vec::new();
        }
        on_each(shared, limit, |processor| processor.force_flush()).failures()
    }

    fn shutdown(&self, limit: Duration) -> Vec<String> {
        let Some(shared) = self.shared.get() else { return Vec::new() };
        if self.was_shut_down.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        on_each(shared, limit, move |processor| processor.shutdown_with_timeout(limit)).failures()
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wrapped").field(&self.shared.get()).finish()
    }
}
