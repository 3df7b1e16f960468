//! `reqwest-tracing` and `tracing-actix-web` with their newest feature for OpenTelemetry, on a layer for 0.33: the
//! spans arrive, and the trace is neither continued nor passed on. Spans made by OpenTelemetry 0.32 can't be
//! enriched.

use actix_web::{App, HttpRequest, HttpServer, web};
use opentelemetry_0_32::trace::{Tracer, TracerProvider};
use opentelemetry_sdk_0_32::propagation::TraceContextPropagator;
use opentelemetry_sdk_0_32::trace::SdkTracerProvider;
use reqwest_middleware::ClientBuilder;
use reqwest_tracing::TracingMiddleware;
use tracing_actix_web::TracingLogger;
use tracing_feedback::collector::Collector;
use tracing_feedback::opentelemetry::trace::{SpanId, SpanKind};
use tracing_feedback::{EnrichError, enrich_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

/// Answers with the header that it has received.
async fn echo(request: HttpRequest) -> String {
    let header = request.headers().get("traceparent");
    header.map(|header| header.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[actix_web::main]
async fn main() {
    opentelemetry_0_32::global::set_text_map_propagator(TraceContextPropagator::new());
    let tracer = SdkTracerProvider::builder().build().tracer("0.32");
    let enrich =
        || tracer.in_span("0.32", |_| enrich_span!(feedback = { "rating": true }).into_result());
    assert_eq!(enrich(), Err(EnrichError::NotInstalled));
    let collector = Collector::start().unwrap();
    let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    let (layer, telemetry) = builder.build().unwrap();
    tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)).init();

    assert_eq!(enrich(), Err(EnrichError::NoActiveSpan));

    let app = || App::new().wrap(TracingLogger::default()).route("/echo", web::get().to(echo));
    let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/echo", server.addrs()[0]);
    actix_web::rt::spawn(server.run());

    // `reqwest-tracing` writes no header.
    let client =
        ClientBuilder::new(reqwest::Client::new()).with(TracingMiddleware::default()).build();
    assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), "");
    // `tracing-actix-web` does not continue the trace of one.
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = reqwest::Client::new().get(&url).header("traceparent", caller);
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), caller);

    telemetry.flush().unwrap();
    let spans = collector.wait_for_spans(3, std::time::Duration::from_secs(5)).unwrap();
    let servers: Vec<_> = spans.iter().filter(|span| span.kind == SpanKind::Server).collect();
    assert_eq!(servers.len(), 2);
    for server in servers {
        assert_eq!(server.parent_span_id, SpanId::INVALID);
        assert_ne!(server.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        println!("trace_id = {:?}", server.attribute("trace_id"));
    }
    println!("opentelemetry_0_32: as the table says");
}
