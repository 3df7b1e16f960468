//! What a service on another version of OpenTelemetry tries first. `run` compares the compiler's errors with the
//! comments behind the lines: `refused` has the message of this crate, and `two versions` what the compiler
//! says of types that are named in a signature.

use opentelemetry::trace::{SpanContext, Status};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    RandomIdGenerator, Sampler, SdkTracerProvider, SimpleSpanProcessor, SpanLimits,
};
use opentelemetry_stdout::SpanExporter;
use tracing_feedback::{Builder, SpanExt, Telemetry, enrich, enrich_span};

fn main() {}

fn parts_of_the_sdk(builder: fn() -> Builder, exporter: SpanExporter, ids: RandomIdGenerator) {
    let _ = builder().with_exporter(exporter); // refused: is no `SpanExporter` of
    let _ = builder().with_sampler(Sampler::AlwaysOn); // refused: is no sampler of
    let _ = builder().with_id_generator(ids); // refused: is no `IdGenerator` of
}

type Processor = SimpleSpanProcessor<SpanExporter>;

fn a_processor(builder: fn() -> Builder, one: Processor, other: Processor) {
    let _ = builder().with_span_processor(one); // refused: is no `SpanProcessor` of
    let _ = builder().build_around(other); // refused: is no `SpanProcessor` of
}

fn a_target(answer: SpanContext) {
    let _ = enrich_span!(target = &answer, feedback = { "rating": 1 }); // refused: names no span or session
    let _ = enrich::current_span().target(answer).apply(); // refused: names no span or session
}

fn named_types(
    builder: fn() -> Builder,
    resource: Resource,
    context: Context,
    answer: SpanContext,
) {
    let _ = builder().with_resource(resource); // two versions
    let _ = builder().with_span_limits(SpanLimits::default()); // two versions
    let span = tracing::Span::current();
    let _ = span.set_parent(context); // two versions
    let _ = span.add_link(answer); // two versions
    let _ = span.set_status(Status::Ok); // two versions
    let _ = span.set_attribute("key", opentelemetry::Value::from(1)); // two versions
    let _ = span.add_event("event", vec![KeyValue::new("key", 1)]); // two versions
}

fn a_provider(telemetry: &Telemetry) {
    let provider = SdkTracerProvider::builder();
    let _ = provider.with_span_processor(telemetry.span_processor()); // two versions
}
