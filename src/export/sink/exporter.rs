//! The sink for any `SpanExporter` of the OpenTelemetry SDK.
//!
//! The SDK's interface reports neither which spans of a batch were rejected (`opentelemetry-otlp`
//! returns `Ok` for a partial success), nor the number of attempts.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::trace::{self, SpanContext};
use opentelemetry::{InstrumentationScope, Key, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};

use super::runtime::SinkRuntime;
use super::{Backpressure, Batch, Delivery, MOST_SPANS_OF_SDK, Sink};
use crate::clock;
use crate::record::SpanRecord;

/// Exports through `E`, on a runtime of its own.
///
/// The runtime has one worker thread that drives timers and connections; the exporter's futures are
/// polled on the export thread *outside* of it, so that exporters which block, or bring a blocking
/// HTTP client, work as well as asynchronous ones.
pub(crate) struct ExporterSink<E> {
    exporter: E,
    component: &'static str,
    runtime: SinkRuntime,
    timeout: Duration,
}

impl<E: SpanExporter> ExporterSink<E> {
    /// Makes the exporter with `make`, which runs where the exporter will: in the runtime's
    /// context.
    pub(crate) fn new<Error>(
        runtime: tokio::runtime::Runtime,
        resource: &Resource,
        timeout: Duration,
        make: impl FnOnce() -> Result<E, Error>,
    ) -> Result<Self, Error> {
        let runtime = SinkRuntime::new(runtime);
        let mut exporter = {
            let _context = runtime.handle().enter();
            make()?
        };
        exporter.set_resource(resource);
        Ok(Self { exporter, component: std::any::type_name::<E>(), runtime, timeout })
    }

    /// Names the component as the semantic conventions do, if they have a name for it.
    pub(crate) fn named(self, component: &'static str) -> Self {
        Self { component, ..self }
    }
}

impl<E: SpanExporter> ExporterSink<E> {
    fn send(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let _context = self.runtime.handle().enter();
        let export = tokio::time::timeout(self.timeout, self.exporter.export(batch));
        match futures_executor::block_on(export) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the exporter took longer than {:?}", self.timeout)),
        }
    }
}

impl<E: SpanExporter> Sink for ExporterSink<E> {
    fn component(&self) -> &'static str {
        self.component
    }

    fn most_spans(&self) -> usize {
        MOST_SPANS_OF_SDK
    }

    fn export(&mut self, batches: Vec<Batch>, _: &Backpressure) -> Delivery {
        let (spans, feedback) = Batch::totals(&batches);
        let mut spans_data = Vec::with_capacity(spans as usize);
        for batch in batches {
            batch.read(|record, scope| spans_data.push(span_data(record, scope)));
        }
        let mut delivery = Delivery::default();
        match self.send(spans_data) {
            Ok(()) => delivery.exported = spans,
            Err(message) => delivery.fail(spans, feedback, message),
        }
        delivery
    }

    fn shutdown(&mut self, timeout: Duration) -> Result<Delivery, String> {
        let _context = self.runtime.handle().enter();
        let shutdown = self.exporter.shutdown_with_timeout(timeout);
        shutdown.map(|()| Delivery::default()).map_err(|error| error.to_string())
    }
}

/// The record as the SDK's exporters take it. Its scope is `scope` unless it names another.
pub(crate) fn span_data(record: SpanRecord, scope: &InstrumentationScope) -> SpanData {
    let mut attributes = record.key_values(record.details.enrichments.leaves.len());
    let of_callsite = record.callsite.map_or("", |callsite| callsite.name());
    let details = record.details.into_inner();
    let name = details.name.unwrap_or(Cow::Borrowed(of_callsite));
    let prefix = details.enrichments.prefix;
    let context =
        SpanContext::new(record.trace_id, record.span_id, record.flags, false, details.trace_state);
    attributes.extend(details.enrichments.leaves.into_iter().map(|(key, value)| {
        let key =
            if prefix.is_empty() { Key::from(key) } else { Key::from(format!("{prefix}{key}")) };
        KeyValue::new(key, value)
    }));
    let mut events = SpanEvents::default();
    events.dropped_count = details.dropped_events;
    events.events = details
        .events
        .into_iter()
        .map(|event| {
            trace::Event::new(
                event.name,
                clock::system_time(event.time),
                event.attributes.key_values().collect(),
                event.dropped_attributes,
            )
        })
        .collect();
    let mut links = SpanLinks::default();
    links.dropped_count = details.dropped_links;
    links.links = details
        .links
        .into_iter()
        .map(|link| {
            trace::Link::new(
                link.context,
                link.attributes.key_values().collect(),
                link.dropped_attributes,
            )
        })
        .collect();
    SpanData {
        span_context: context,
        parent_span_id: record.parent.span_id,
        parent_span_is_remote: record.parent.is_remote,
        span_kind: record.kind,
        name,
        start_time: clock::system_time(record.start),
        end_time: clock::system_time(record.end),
        attributes,
        dropped_attributes_count: details.dropped_attributes,
        events,
        links,
        status: details.status,
        instrumentation_scope: details.scope.as_deref().unwrap_or(scope).clone(),
    }
}
