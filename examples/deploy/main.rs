//! A service under load, for the configurations in this folder: sends 20,000 spans to the collector
//! that the `OTEL_*` variables name, gives feedback on some of them, early and late, and prints
//! what must be found where they end up.
//!
//! ```text
//! OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 cargo run --example deploy </dev/null
//! ```
//!
//! In the middle it waits for a line of its input, or the end of it: `tests/otelcol/run` takes the
//! gateway away meanwhile. A line of the output is the feedback on one span or session, after all
//! changes; the last line is the number of spans. What is expected is worked out here from the
//! number of a request alone; nothing of it is taken from what the library did.

use std::error::Error;
use std::io::stdin;

use opentelemetry::trace::SpanContext;
use serde_json::{Value, json};
use tracing::{info_span, instrument};
use tracing_feedback::{Session, SpanExt as _, enrich_session, enrich_span};
use tracing_subscriber::prelude::*;

const REQUESTS: usize = 4_000;
/// `request` and what it calls.
const SPANS: usize = 5;
/// After how many further requests a user changes the feedback.
const LATER: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let (layer, telemetry) = tracing_feedback::builder().with_service_name("deploy").build()?;
    tracing_subscriber::registry().with(layer).init();

    let mut answered = Vec::with_capacity(REQUESTS);
    for number in 0..REQUESTS {
        if number == REQUESTS / 2 {
            stdin().read_line(&mut String::new())?;
        }
        answered.push(request(number)?);
        if let Some(earlier) = number.checked_sub(LATER) {
            second_thought(earlier, &answered[earlier]);
        }
        if number % 200 == 199 {
            telemetry.flush()?;
        }
    }
    for (number, request) in answered.iter().enumerate().skip(REQUESTS - LATER) {
        second_thought(number, request);
    }
    telemetry.flush()?;
    telemetry.shutdown()?;

    for (number, span) in answered.iter().enumerate() {
        if let Some(document) = expected(number) {
            let (trace_id, span_id) = (span.trace_id().to_string(), span.span_id().to_string());
            println!("{}", json!({ "span": [trace_id, span_id], "document": document }));
        }
        if is_conversation(number) {
            let document =
                json!({ "feedback.resolved": bool(true), "feedback.topics.0": text("refund") });
            println!("{}", json!({ "session": session_id(number), "document": document }));
        }
    }
    let later = [is_rated_late, is_withdrawn, is_conversation];
    let carriers: usize =
        later.map(|happens| (0..REQUESTS).filter(|&number| happens(number)).count()).iter().sum();
    println!("{}", json!({ "spans": REQUESTS * SPANS, "carriers": carriers }));
    Ok(())
}

// ---- what the users do -----------------------------------------------------------------------

fn is_rated(number: usize) -> bool {
    number.is_multiple_of(10)
}

fn is_rated_late(number: usize) -> bool {
    number.is_multiple_of(15)
}

/// A late retraction without a new value: such a carrier has no key of `feedback`.
fn is_withdrawn(number: usize) -> bool {
    number % 20 == 10 && !is_rated_late(number)
}

fn is_scored(number: usize) -> bool {
    number % 25 == 3
}

fn is_conversation(number: usize) -> bool {
    number % 40 == 7
}

fn session_id(number: usize) -> String {
    format!("conversation-{number}")
}

fn request(number: usize) -> Result<SpanContext, Box<dyn Error>> {
    let span = info_span!("request", number);
    if is_conversation(number) {
        span.set_session(&Session::with_id(session_id(number))?)?;
    }
    span.in_scope(|| {
        answer("What is the capital of New York?");
        if is_rated(number) {
            enrich_span!(feedback = {
                "rating": number.is_multiple_of(20),
                "stars": number % 5 + 1,
                "comment": format!("about {number}"),
                "edits": [{ "value": "New York" }, { "value": "Boston" }],
            });
        }
        if is_scored(number) {
            enrich_span!(metrics = { "relevance": 0.5 });
        }
        if is_conversation(number) {
            enrich_session!(feedback = { "resolved": false, "topics": ["billing", "refund"] });
        }
    });
    Ok(span.span_context()?)
}

fn second_thought(number: usize, request: &SpanContext) {
    if is_rated_late(number) {
        enrich_span!(
            target = request.clone(),
            feedback = { "rating": false, "comment": null, "edits": [{ "value": "Albany" }] }
        );
    }
    if is_withdrawn(number) {
        enrich_span!(
            target = request.clone(),
            feedback = { "rating": null, "comment": null, "edits": null }
        );
    }
    if is_conversation(number) {
        enrich_session!(
            session_id = session_id(number),
            feedback = { "resolved": true, "topics": ["refund"] }
        );
    }
}

/// What all of it amounts to.
fn expected(number: usize) -> Option<Value> {
    let stars = int(number % 5 + 1);
    match (is_rated(number), is_rated_late(number)) {
        (true, _) if is_withdrawn(number) => Some(json!({ "feedback.stars": stars })),
        (true, false) => Some(json!({
            "feedback.rating": bool(number.is_multiple_of(20)),
            "feedback.stars": stars,
            "feedback.comment": text(&format!("about {number}")),
            "feedback.edits.0.value": text("New York"),
            "feedback.edits.1.value": text("Boston"),
        })),
        (true, true) => Some(json!({
            "feedback.rating": bool(false),
            "feedback.stars": stars,
            "feedback.edits.0.value": text("Albany"),
        })),
        (false, true) => Some(json!({
            "feedback.rating": bool(false),
            "feedback.edits.0.value": text("Albany"),
        })),
        (false, false) if is_scored(number) => {
            Some(json!({ "metrics.relevance": { "doubleValue": 0.5 } }))
        }
        (false, false) => None,
    }
}

fn bool(value: bool) -> Value {
    json!({ "boolValue": value })
}

fn int(value: usize) -> Value {
    json!({ "intValue": value.to_string() })
}

fn text(value: &str) -> Value {
    json!({ "stringValue": value })
}

// ---- the service -----------------------------------------------------------------------------

#[instrument]
fn answer(question: &str) {
    retrieve(3);
    generate("small");
    // In a namespace beside `feedback`: not feedback, and no reason to keep a span.
    enrich_span!(outputs = { "answer": "The capital of New York is Albany" });
}

#[instrument]
fn retrieve(passages: usize) {}

#[instrument(fields(gen_ai.usage.output_tokens = 12))]
fn generate(model: &str) {
    info_span!("sample", temperature = 0.2).in_scope(|| ());
}
