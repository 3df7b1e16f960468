//! Evaluates an answer with `genai`, sends it twice, and prints what the evaluation is about as JSON.
//!
//! `emitter HTTP_ENDPOINT GRPC_ENDPOINT`

use genai::otel::events::EvalResult;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::prelude::*;

fn main() {
    let http = std::env::args().nth(1).expect("an endpoint");
    let exporter = || {
        let endpoint = format!("{http}/v1/traces");
        SpanExporter::builder().with_http().with_endpoint(endpoint).build().unwrap()
    };
    // Two processors, so that everything is sent twice.
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder_empty().with_service_name("genai").build())
        .with_simple_exporter(exporter())
        .with_simple_exporter(exporter())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("service"));
    let _default = tracing_subscriber::registry().with(layer).set_default();

    let answer = tracing::info_span!("answer");
    answer.in_scope(|| {
        EvalResult::new("Relevance")
            .with_score_value(4.0)
            .with_score_label("relevant")
            .with_explanation("On the topic")
            .emit();
    });
    let context = answer.context().span().span_context().clone();
    drop(answer);
    provider.shutdown().unwrap();
    println!(
        r#"{{"answer": {{"trace": "{}", "span": "{}"}}}}"#,
        context.trace_id(),
        context.span_id()
    );
}
