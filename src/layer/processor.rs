//! The span processor: spans made with the OpenTelemetry API enter the same pipeline.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::Span as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use crate::clock::{self, Ticks};
use crate::feedback::carrier::{KEPT, SAMPLED};
use crate::otlp::attributes::{Attributes, ValueRef};
use crate::outbox::Finalizers;
use crate::record::{Details, Enrichments, Event, Link, Parent, SpanRecord};
use crate::session::{SESSION_ID, Session};
use crate::settings::namespaced;
use crate::span::LayerCore;

/// A `SpanProcessor` for an `SdkTracerProvider`: its spans go where those of the layer go.
///
/// Made by [`Telemetry::span_processor`](crate::Telemetry::span_processor).
///
/// ```
/// # #[cfg(feature = "collector")] {
/// # use tracing_subscriber::prelude::*;
/// # let collector = tracing_feedback::collector::Collector::start()?;
/// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
/// # let (layer, telemetry) = builder.build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use opentelemetry::trace::{Tracer, TracerProvider};
/// use opentelemetry_sdk::trace::SdkTracerProvider;
///
/// let provider =
///     SdkTracerProvider::builder().with_span_processor(telemetry.span_processor()).build();
/// provider.tracer("payments").in_span("charge", |_context| ());
///
/// telemetry.flush()?;
/// assert_eq!(collector.spans()[0].name, "charge");
/// assert_eq!(collector.spans()[0].scope.name, "payments");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a processor takes nothing before it is part of a tracer provider"]
pub struct FeedbackSpanProcessor {
    core: Arc<LayerCore>,
}

impl FeedbackSpanProcessor {
    pub(crate) fn new(core: Arc<LayerCore>) -> Self {
        Self { core }
    }
}

impl SpanProcessor for FeedbackSpanProcessor {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        let of_layer = || crate::layer::locate::current().and_then(|state| state.session());
        let session = parent.get::<Session>().cloned().or_else(of_layer);
        if let Some(session) = session.or_else(|| self.core.settings.session.clone()) {
            span.set_attribute(KeyValue::new(SESSION_ID, session.id().to_owned()));
        }
    }

    fn on_end(&self, span: SpanData) {
        let is_sampled = span.span_context.is_sampled();
        let mut record = record(span, &self.core);
        let keeps = self.core.keeps();
        if record.feedback {
            self.core.keep(record.trace_id);
        }
        if !is_sampled {
            // Recorded, but not sampled: a span with feedback is exported all the same.
            if !record.feedback && !keeps {
                return self.core.count_unsampled();
            }
            record.attributes.set(SAMPLED, ValueRef::Bool(false));
            if keeps {
                record.attributes.set(KEPT, ValueRef::Bool(true));
            }
            if !record.feedback {
                return self.core.hold(&mut record, Ticks::now());
            }
        }
        let _ = self.core.push(&mut record); // what is lost is counted
    }

    fn force_flush(&self) -> OTelSdkResult {
        let limit = Duration::from_secs(5);
        self.core.flush(limit).map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
    }

    /// Only flushes: the pipeline belongs to the layer, which may outlive the provider.
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.core.flush(timeout).map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
    }
}

pub(super) fn record(span: SpanData, core: &LayerCore) -> SpanRecord {
    let context = span.span_context;
    let events = span.events.events.into_iter().map(|event| Event {
        name: event.name,
        time: clock::unix_nanos(event.timestamp),
        attributes: attributes(event.attributes, core),
        dropped_attributes: event.dropped_attributes_count,
    });
    let links = span.links.links.into_iter().map(|link| Link {
        context: link.span_context,
        attributes: attributes(link.attributes, core),
        dropped_attributes: link.dropped_attributes_count,
    });
    let own = attributes(span.attributes, core);
    let convention = core.settings.convention;
    let is_feedback =
        |key| namespaced(key, convention).is_some_and(|key| key.starts_with("feedback."));
    let feedback = own.iter().any(|(key, _)| is_feedback(key));
    let details = Details {
        trace_state: context.trace_state().clone(),
        name: Some(span.name),
        enrichments: Enrichments::default(),
        dropped_attributes: span.dropped_attributes_count,
        events: events.collect(),
        dropped_events: span.events.dropped_count,
        links: links.collect(),
        dropped_links: span.links.dropped_count,
        status: span.status,
        scope: Some(Arc::new(span.instrumentation_scope)),
        finalizers: Finalizers::default(),
    };
    SpanRecord {
        trace_id: context.trace_id(),
        span_id: context.span_id(),
        parent: Parent { span_id: span.parent_span_id, is_remote: span.parent_span_is_remote },
        flags: context.trace_flags(),
        kind: span.span_kind,
        start: clock::unix_nanos(span.start_time),
        end: clock::unix_nanos(span.end_time).max(clock::unix_nanos(span.start_time)),
        callsite: None,
        thread: None,
        timings: None,
        attributes: own,
        feedback,
        details: details.into(),
    }
}

/// The attributes, redacted, each key once.
fn attributes(given: Vec<KeyValue>, core: &LayerCore) -> Attributes {
    let mut attributes = Attributes::with_capacity(given.len());
    for attribute in given {
        let key = attribute.key.as_str();
        let value = ValueRef::from(&attribute.value);
        super::visit::put(core, &mut attributes, key, value, usize::MAX);
    }
    attributes
}
