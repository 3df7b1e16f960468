//! An axum service that keeps `tracing-opentelemetry`, `opentelemetry-otlp` and
//! `axum-tracing-opentelemetry`, and gets feedback by a span processor around its own.
//!
//! ```text
//! cargo run --example beside_tracing_opentelemetry --features axum,collector
//! ```
//!
//! The example is its own client, too: a question, as part of a trace that began elsewhere, a rating of
//! the answer by its ticket, and the end of the conversation.

use std::error::Error;

use axum::routing::post;
use axum::{Json, Router};
use axum_tracing_opentelemetry::middleware::OtelAxumLayer;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::instrument;
use tracing_feedback::collector::Collector;
use tracing_feedback::web::{FeedbackRoutes, feedback_routes};
use tracing_feedback::{Telemetry, TicketKeys, enrich_session, enrich_span};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let collector = Collector::start()?;
    let telemetry = set_up(collector.endpoint())?;
    serve_and_drive().await?;
    telemetry.shutdown_async().await?; // the batch processor and its exporter, too
    show_and_check(&collector);
    Ok(())
}

/// What the service has had all along, but for the lines that are marked.
fn set_up(endpoint: &str) -> Result<Telemetry, Box<dyn Error>> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let batch = BatchSpanProcessor::builder(exporter).build();

    let (processor, telemetry) = tracing_feedback::builder() // ──────────── new: around the processor
        .with_ticket_keys(TicketKeys::new([EXAMPLE_KEY])?)
        .build_around(batch)?;

    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("answers").build())
        .with_span_processor(processor) // ───────────────────────────────── instead of `batch`
        .build();
    // `axum-tracing-opentelemetry` makes its spans at TRACE.
    let filter = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("otel::tracing", LevelFilter::TRACE);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("answers"));
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(telemetry)
}

/// A key of a service is secret, and the same in all its processes: `FEEDBACK_TICKET_KEYS`.
const EXAMPLE_KEY: [u8; 32] = *b"an example's key, not for others";

// ---- the service -----------------------------------------------------------------------------

fn service() -> Router {
    Router::new()
        .route("/ask", post(ask))
        .route("/close", post(close))
        .merge(feedback_routes(FeedbackRoutes::new())) // POST /feedback, by ticket
        .layer(OtelAxumLayer::default())
}

#[derive(Deserialize)]
struct Question {
    conversation: String,
    question: String,
    is_repeated: bool,
}

/// The field `session.id` begins the session, for this span and those under it.
#[instrument(skip_all, fields(session.id = asked.conversation))]
async fn ask(Json(asked): Json<Question>) -> Json<Value> {
    let text = answer(&asked.question).await;
    enrich_span!(
        inputs = { "question": asked.question },
        outputs = { "answer": text },
        feedback = { "is_repeated": asked.is_repeated },
    );
    let ticket = tracing_feedback::ticket().ok(); // allows feedback on this span
    Json(json!({ "answer": text, "ticket": ticket }))
}

#[instrument(skip_all)]
async fn answer(question: &str) -> &'static str {
    if question.contains("New York") { "New York City" } else { "I don't know" }
}

#[derive(Deserialize)]
struct Closing {
    conversation: String,
    is_resolved: bool,
}

/// The end of a conversation: feedback on all of it.
#[instrument(skip_all, fields(session.id = closing.conversation))]
async fn close(Json(closing): Json<Closing>) {
    enrich_session!(feedback = { "is_resolved": closing.is_resolved });
}

// ---- its client ------------------------------------------------------------------------------

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn serve_and_drive() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let server = axum::serve(listener, service()).with_graceful_shutdown(stopped).into_future();
    let server = tokio::spawn(server);

    let client = http_client()?;
    let send = async |path: &str, body: Value| {
        let request = client.post(format!("{url}{path}")).json(&body);
        let request = request.header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
        request.send().await?.error_for_status()
    };
    let question = "What is the capital of New York?";
    let asked = json!({ "conversation": "c-42", "question": question, "is_repeated": true });
    let answer: Value = send("/ask", asked).await?.json().await?;

    let rating = json!({ "rating": false, "comment": "It is Albany" });
    send("/feedback", json!({ "ticket": answer["ticket"], "feedback": rating })).await?;
    send("/close", json!({ "conversation": "c-42", "is_resolved": false })).await?;

    drop(client);
    drop(stop); // the spans of the requests have ended when the server has
    server.await??;
    Ok(())
}

fn http_client() -> reqwest::Result<reqwest::Client> {
    // With the feature `tls`, reqwest asks for a provider even where all it will see is `http://`.
    #[cfg(feature = "tls")]
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build()
}

// ---- what the collector got ------------------------------------------------------------------

fn show_and_check(collector: &Collector) {
    let tree = collector.tree();
    println!("What the collector received from opentelemetry-otlp\n\n{tree}");
    println!("What was said about session c-42\n");
    for (key, value) in collector.session_feedback("c-42") {
        println!("{key} = {value}");
    }
    assert_eq!(tree.trim_end(), EXPECTED.trim_start());
    assert_eq!(collector.session_feedback("c-42")["feedback.is_resolved"], false);
    for span in collector.spans() {
        // Feedback by ticket is a trace of its own, with the resource of the provider.
        assert_eq!(span.trace_id.to_string() == TRACE, !span.is_carrier(), "{}", span.name);
        assert_eq!(span.resource["service.name"], "answers");
    }
}

const EXPECTED: &str = r#"
POST /ask
  ask
      feedback.comment = "It is Albany"
      feedback.is_repeated = true
      feedback.rating = false
      inputs.question = "What is the capital of New York?"
      outputs.answer = "New York City"
    answer
    feedback (late)
        feedback.comment = "It is Albany"
        feedback.rating = false
POST /feedback
POST /close
  close (session)
      feedback.is_resolved = false"#;
