//! An axum service that has logs and request spans already, and gets feedback in three lines.
//!
//! ```text
//! cargo run --example existing_service --features collector
//! ```
//!
//! The example is its own client, too: it asks a question over HTTP, as part of a trace that began
//! elsewhere, and some time later sends what its user made of the answer.

use std::collections::HashMap;
use std::error::Error;

use axum::extract::{MatchedPath, Request};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use opentelemetry::trace::TraceContextExt as _;
use serde::{Deserialize, Serialize};
use tower_http::trace::TraceLayer;
use tracing::{Span, info, info_span, instrument, warn};
use tracing_feedback::collector::Collector;
use tracing_feedback::{SpanExt as _, enrich_span, propagation};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

fn main() -> Result<(), Box<dyn Error>> {
    // A service takes its endpoint from `OTEL_EXPORTER_OTLP_ENDPOINT`; this one brings a collector.
    let collector = Collector::start()?;
    let builder = tracing_feedback::builder()
        .with_service_name("answers")
        .with_endpoint(collector.endpoint());

    let (layer, telemetry) = builder.build()?; // ─────────────────────────── line 1: make it
    tracing_subscriber::registry()
        // The logs the service has had all along, with the filter they have had all along.
        .with(fmt::layer().compact().with_filter(EnvFilter::new("info")))
        .with(layer.with_filter(LevelFilter::INFO)) // ────────────────────── line 2: add it
        .init();
    serve_and_drive()?;
    telemetry.flush()?; // ────────────────────────────────────────────────── line 3: flush it

    println!("\nWhat the collector received\n\n{}", collector.tree());
    for span in collector.spans().iter().filter(|span| span.name == "POST /ask") {
        println!("POST /ask goes on with the caller's trace, {}.", span.trace_id);
    }
    telemetry.shutdown()?;
    Ok(())
}

// ---- the service -----------------------------------------------------------------------------

fn service() -> Router {
    // `tower-http` makes its spans at DEBUG and doesn't read trace headers. This span is at INFO,
    // is named after its route, and continues the caller's trace.
    let requests = TraceLayer::new_for_http().make_span_with(|request: &Request| {
        let (method, path) = (request.method(), request.uri().path());
        let route = request.extensions().get::<MatchedPath>().map_or(path, MatchedPath::as_str);
        let span = info_span!(
            "request",
            otel.name = %format_args!("{method} {route}"),
            otel.kind = "server",
            http.request.method = %method,
            http.route = route,
            url.path = path,
        );
        if let Err(error) = span.set_parent(propagation::extract(request.headers())) {
            warn!(%error, "the caller's trace ends here");
        }
        span
    });
    Router::new().route("/ask", post(ask)).route("/feedback", post(feedback)).layer(requests)
}

#[derive(Serialize, Deserialize)]
struct Question {
    question: String,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    /// Names the span that made the answer, so that feedback can be about it later.
    id: String,
    text: String,
}

#[instrument(skip_all)]
async fn ask(Json(asked): Json<Question>) -> Json<Answer> {
    let text = answer(&asked.question).await;
    enrich_span!(inputs = asked, outputs = { "answer": text });
    info!("answered");
    Json(Answer { id: answer_id(), text })
}

#[instrument(skip_all)]
async fn answer(question: &str) -> String {
    match question.contains("New York") {
        true => "New York City".to_owned(),
        false => "I don't know".to_owned(),
    }
}

/// What users may say. Anything that is `Serialize` can be attached; a `None` changes nothing.
#[derive(Serialize, Deserialize)]
struct Opinion {
    rating: bool,
    comment: Option<String>,
    ground_truth: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Feedback {
    id: String,
    opinion: Opinion,
}

/// Feedback on an answer given before: its span has long ended, so the feedback is sent after it.
#[instrument(skip_all)]
async fn feedback(Json(given): Json<Feedback>) -> Result<StatusCode, (StatusCode, String)> {
    // The text of an id comes from outside. A malformed id names no span, and the outcome reports
    // that.
    let headers = HashMap::from([("traceparent".to_owned(), given.id)]);
    let answer = propagation::extract(&headers).span().span_context().clone();
    enrich_span!(target = answer, feedback = given.opinion)
        .into_result()
        .map(|()| StatusCode::ACCEPTED)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

/// The current span's `traceparent`: the shortest text that names a span.
fn answer_id() -> String {
    let mut headers = HashMap::new();
    propagation::inject_span(&Span::current(), &mut headers);
    headers.remove("traceparent").unwrap_or_default()
}

// ---- its client ------------------------------------------------------------------------------

fn http_client() -> reqwest::Result<reqwest::Client> {
    // With the feature `tls`, reqwest asks for a provider even where all it will see is `http://`.
    #[cfg(feature = "tls")]
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build()
}

#[tokio::main]
async fn serve_and_drive() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async { axum::serve(listener, service()).await });

    let client = http_client()?;
    let answer: Answer = client
        .post(format!("{url}/ask"))
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .json(&Question { question: "What is the capital of New York?".to_owned() })
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;

    let opinion = Opinion {
        rating: false,
        comment: Some(format!("{} is not even in the county of Albany", answer.text)),
        ground_truth: Some("Albany".to_owned()),
    };
    let feedback = Feedback { id: answer.id, opinion };
    let url = format!("{url}/feedback");
    client.post(&url).json(&feedback).send().await?.error_for_status()?;

    // An id that was made up is refused.
    let refused =
        client.post(&url).json(&Feedback { id: "42".to_owned(), ..feedback }).send().await?;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    server.abort();
    Ok(())
}
