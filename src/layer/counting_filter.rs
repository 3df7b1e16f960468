//! The filter behind [`FeedbackLayer::with_counting_event_filter`].
//!
//! It is a per-layer filter, so the layer is found under it as under any other, and needs no wrapper
//! of its own.

use std::sync::Arc;

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::Filtered;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use super::{FeedbackLayer, find, span_of_event};
use crate::otlp::attributes::ValueRef;
use crate::span::LayerCore;

/// The attribute with the number of events, as `tracing-opentelemetry` names it.
const EVENT_COUNT: &str = "otel.tracing_event_count";

/// A per-layer filter of events that counts all of them, also those it hides from the layer. Made by
/// [`FeedbackLayer::with_counting_event_filter`].
#[derive(Debug)]
#[must_use = "a filter does nothing before its layer is part of a subscriber"]
pub struct CountingEventFilter<F> {
    core: Arc<LayerCore>,
    filter: F,
}

impl FeedbackLayer {
    /// Records only the events that `filter` enables, and sets the attribute
    /// `otel.tracing_event_count` of each span to the number of all its events. Spans aren't filtered.
    ///
    /// Where the events need not be counted, use
    /// [`with_filter`](tracing_subscriber::Layer::with_filter).
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// use tracing_feedback::collector::Collector;
    /// use tracing_subscriber::{filter::LevelFilter, prelude::*};
    ///
    /// let collector = Collector::start()?;
    /// let (layer, telemetry) =
    ///     tracing_feedback::builder().with_endpoint(collector.endpoint()).build()?;
    /// let layer = layer.with_counting_event_filter(LevelFilter::WARN);
    /// let subscriber = tracing_subscriber::registry().with(layer);
    /// tracing::subscriber::with_default(subscriber, || {
    ///     let _span = tracing::info_span!("answer").entered();
    ///     tracing::info!("one of two");
    ///     tracing::warn!("recorded");
    /// });
    /// telemetry.flush()?;
    /// let span = &collector.spans()[0];
    /// assert_eq!(span.attributes["otel.tracing_event_count"], 2);
    /// assert_eq!(span.events.len(), 1);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_counting_event_filter<S, F>(
        self,
        filter: F,
    ) -> Filtered<Self, CountingEventFilter<F>, S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
        F: Filter<S> + 'static,
    {
        let core = self.core().clone();
        Filtered::new(self, CountingEventFilter { core, filter })
    }
}

/// The service's filter decides about events only. Its `on_…` methods are called for spans as well,
/// since a filter may decide about an event by the spans around it.
impl<S, F> Filter<S> for CountingEventFilter<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    F: Filter<S>,
{
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let _ = self.filter.callsite_enabled(metadata);
        // A filter that hides events by `event_enabled` must be asked by `enabled` before.
        if metadata.is_event() { Interest::sometimes() } else { Interest::always() }
    }

    fn event_enabled(&self, event: &Event<'_>, ctx: &Context<'_, S>) -> bool {
        if let Some(span) = span_of_event(&self.core, event, ctx)
            && Arc::ptr_eq(span.core(), &self.core)
        {
            span.change_if_recording(|live| {
                let count = &mut live.documents.event_count;
                *count = count.saturating_add(1);
            });
        }
        self.filter.enabled(event.metadata(), ctx) && self.filter.event_enabled(event, ctx)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        self.filter.on_new_span(attributes, id, ctx);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        self.filter.on_record(id, values, ctx);
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        self.filter.on_enter(id, ctx);
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        self.filter.on_exit(id, ctx);
    }

    /// Called before the layer is.
    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        if let Some(span) = find(&self.core, &id, &ctx) {
            span.change_if_recording(|live| {
                let count = ValueRef::I64(live.documents.event_count.into());
                live.record.set_attribute(EVENT_COUNT, count, self.core.most_attributes());
            });
        }
        self.filter.on_close(id, ctx);
    }
}
