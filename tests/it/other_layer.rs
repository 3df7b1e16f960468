//! `SpanExt` on spans of the layer of `tracing-opentelemetry`, with the processor around the provider's own.

use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, Status, TraceFlags, TraceId, TracerProvider};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor};
use tracing_feedback::{SpanExt, enrich_span};
use tracing_subscriber::prelude::*;

#[test]
fn what_span_ext_sets_is_on_the_span_of_the_other_layer() {
    let exporter = InMemorySpanExporter::default();
    let processor = SimpleSpanProcessor::new(exporter.clone());
    let (processor, _telemetry) = tracing_feedback::builder().build_around(processor).unwrap();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let other = tracing_opentelemetry::layer().with_tracer(provider.tracer("chat"));
    let _default = tracing_subscriber::registry().with(other).set_default();

    let (trace, id) = (TraceId::from(7), SpanId::from(7));
    let linked = SpanContext::new(trace, id, TraceFlags::SAMPLED, true, Default::default());
    let time = UNIX_EPOCH + Duration::from_secs(1);
    let span = tracing::info_span!("answer");
    span.set_parent(Context::new()).unwrap();
    span.set_attribute("tokens", 5).unwrap();
    span.set_attribute("metadata.model", "small").unwrap();
    span.set_status(Status::error("no model")).unwrap();
    span.add_event("cut", vec![KeyValue::new("at", 1)]).unwrap();
    span.add_event_with_timestamp("late", time, Vec::new()).unwrap();
    span.add_link(linked.clone()).unwrap();
    enrich_span!(span = &span, feedback = { "rating": true }).into_result().unwrap();
    drop(span);

    let [span] = exporter.get_finished_spans().unwrap().try_into().unwrap();
    let value = |key: &str| {
        let of_key = span.attributes.iter().filter(|own| own.key.as_str() == key);
        of_key.map(|own| own.value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(value("tokens"), [Value::from(5)]);
    assert_eq!(value("metadata.model"), [Value::from("small")]);
    assert_eq!(value("feedback.rating"), [Value::from(true)]);
    assert_eq!(span.status, Status::error("no model"));
    let events: Vec<_> = span.events.iter().map(|event| event.name.as_ref()).collect();
    assert_eq!(events, ["cut", "late"]);
    assert_eq!(span.events.events[1].timestamp, time);
    let links: Vec<_> = span.links.iter().map(|link| &link.span_context).collect();
    assert_eq!(links, [&linked]);
}
