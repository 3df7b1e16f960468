//! A chat: ask, read the answer, judge it, and see what a collector gets of that.
//!
//! ```text
//! cargo run --example chat --features axum,collector
//! ```
//!
//! The page is at <http://127.0.0.1:3000>, or at the address that is given as argument. Feedback
//! goes the whole way: from the page's ticket by `POST /feedback` to this service, by OTLP to a
//! collector (in this process, so that nothing has to be set up), and back to the page, which shows
//! what arrived there. With `OTEL_EXPORTER_OTLP_ENDPOINT` it is sent there instead, as to `feedback-desk`:
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 cargo run --example chat --features axum,collector
//! ```

mod knowledge;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use opentelemetry::trace::{SpanId, TraceId};
use serde::{Deserialize, Serialize};
use tracing::field::Empty;
use tracing::info_span;
use tracing_feedback::collector::{Collector, ReceivedSpan, Role, Target, Value};
use tracing_feedback::web::{FeedbackHttpLayer, FeedbackRoutes, feedback_routes};
use tracing_feedback::{SpanExt, Telemetry, Ticket, TicketKeys};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

/// Good for an example. A service has its own, of 32 random bytes, in `FEEDBACK_TICKET_KEYS`.
const EXAMPLE_KEY: [u8; 32] = *b"everyone knows this key: no good";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut builder = tracing_feedback::builder().with_service_name("chat");
    let receiver = match configured_endpoint() {
        Some(endpoint) => Receiver::Elsewhere(endpoint), // which the builder reads itself
        None => Receiver::Here(Collector::start()?),
    };
    if let Receiver::Here(collector) = &receiver {
        builder = builder.with_endpoint(collector.endpoint());
    }
    if std::env::var_os("FEEDBACK_TICKET_KEYS").is_none() {
        builder = builder.with_ticket_keys(TicketKeys::new([EXAMPLE_KEY])?);
    }
    let (layer, telemetry) = builder.build()?;
    tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)).try_init()?;

    let chat = Arc::new(Chat { telemetry, receiver });
    let asked = Router::new()
        .route("/ask", post(ask))
        // Continues traces, opens server spans; a ticket that comes with a question brings the
        // session of the answer before it.
        .layer(FeedbackHttpLayer::new().with_new_sessions(true));
    let router = Router::new()
        .merge(asked)
        .merge(feedback_routes(FeedbackRoutes::new()))
        .route("/arrived", get(arrived))
        .route("/", get(async || page("text/html", include_str!("index.html"))))
        .route("/style.css", get(async || page("text/css", include_str!("style.css"))))
        .route("/chat.js", get(async || page("text/javascript", include_str!("chat.js"))))
        .layer(middleware::map_response(async |mut response: Response| {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
            response
        }))
        .with_state(chat.clone());

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, router).with_graceful_shutdown(interrupted()).await?;
    tokio::task::spawn_blocking(move || chat.telemetry.shutdown()).await??;
    Ok(())
}

async fn interrupted() {
    // Without signals the service runs until it is killed.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

/// The endpoint of the environment, that of traces before the general one.
fn configured_endpoint() -> Option<String> {
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|endpoint| !endpoint.is_empty()))
}

/// What the spans are sent to.
enum Receiver {
    /// A collector in this process, which can be asked what arrived.
    Here(Collector),
    /// The endpoint of the environment.
    Elsewhere(String),
}

struct Chat {
    telemetry: Telemetry,
    receiver: Receiver,
}

// ---- questions and answers -------------------------------------------------------------------

#[derive(Deserialize)]
struct Question {
    question: String,
}

#[derive(Serialize)]
struct Answer {
    answer: &'static str,
    /// A ticket: its holder may give feedback on this answer.
    ticket: Ticket,
    trace_id: String,
    span_id: String,
}

async fn ask(Json(Question { question }): Json<Question>) -> Result<Json<Answer>, Refused> {
    let span = info_span!("answer", question, output = Empty);
    let answer = span.in_scope(|| knowledge::answer(&question));
    span.record("output", answer);
    let context = span.span_context()?;
    let (trace_id, span_id) = (context.trace_id().to_string(), context.span_id().to_string());
    Ok(Json(Answer { answer, ticket: span.ticket()?, trace_id, span_id }))
}

// ---- what arrived ----------------------------------------------------------------------------

#[derive(Deserialize)]
struct About {
    trace_id: String,
    span_id: String,
}

#[derive(Default, Serialize)]
struct Arrived {
    /// Where it was sent, unless it was to the collector in this process.
    sent_to: Option<String>,
    /// The folded feedback on the answer, from all spans.
    feedback: BTreeMap<String, serde_json::Value>,
    spans: Vec<Span>,
}

#[derive(Serialize)]
struct Span {
    name: String,
    attributes: BTreeMap<String, serde_json::Value>,
}

async fn arrived(
    State(chat): State<Arc<Chat>>,
    Query(about): Query<About>,
) -> Result<Json<Arrived>, Refused> {
    let trace_id = TraceId::from_hex(&about.trace_id)?;
    let span_id = SpanId::from_hex(&about.span_id)?;
    // Waits for the collector, so it runs on a blocking thread.
    let arrived = tokio::task::spawn_blocking(move || {
        chat.telemetry.flush()?;
        let collector = match &chat.receiver {
            Receiver::Here(collector) => collector,
            Receiver::Elsewhere(endpoint) => {
                return Ok(Arrived { sent_to: Some(endpoint.clone()), ..Arrived::default() });
            }
        };
        let target = Target::Span(trace_id, span_id);
        let is_about = |span: &ReceivedSpan| match span.role() {
            Role::Own => (span.trace_id, span.span_id) == (trace_id, span_id),
            role => role == Role::Submission(target.clone()),
        };
        let spans = collector.spans().into_iter().filter(is_about);
        let spans = spans.map(|span| Span { name: span.name, attributes: json(span.attributes) });
        let feedback = json(collector.feedback(trace_id, span_id));
        Ok::<_, Refused>(Arrived { feedback, spans: spans.collect(), sent_to: None })
    });
    Ok(Json(arrived.await??))
}

fn json(attributes: BTreeMap<String, Value>) -> BTreeMap<String, serde_json::Value> {
    fn one(value: &Value) -> serde_json::Value {
        let number = || value.as_i64().map(Into::into).or_else(|| value.as_f64().map(Into::into));
        let list = || value.as_array().map(|all| all.iter().map(one).collect());
        let bool = value.as_bool().map(Into::into);
        bool.or_else(number).or_else(list).unwrap_or_else(|| value.as_str().into())
    }
    attributes.into_iter().map(|(key, value)| (key, one(&value))).collect()
}

// ---- pages and errors ------------------------------------------------------------------------

/// Allows only what this service serves.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'",
);

fn page(essence: &str, text: &'static str) -> ([(HeaderName, String); 1], &'static str) {
    ([(header::CONTENT_TYPE, format!("{essence}; charset=utf-8"))], text)
}

/// Anything that went wrong, as a status and a sentence.
struct Refused(Box<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let is_bad = self.0.is::<std::num::ParseIntError>();
        let status =
            if is_bad { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR };
        (status, self.0.to_string()).into_response()
    }
}
