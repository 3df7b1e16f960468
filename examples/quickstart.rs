//! A small question-answering service, what its users think of the answers, and what a collector
//! gets of both.
//!
//! ```text
//! cargo run --example quickstart --features collector
//! ```
//!
//! It brings its own collector, unless `OTEL_EXPORTER_OTLP_ENDPOINT` names another one.

use std::error::Error;
use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use opentelemetry::trace::SpanContext;
use tracing::{Span, info, instrument};
use tracing_feedback::collector::Collector;
use tracing_feedback::{Protocol, Session, SpanError, SpanExt as _, enrich_session, enrich_span};
use tracing_subscriber::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|url| !url.is_empty());
    let collector = if given.is_none() { Some(Collector::start()?) } else { None };

    // All there is to set up: a layer for the subscriber, and a handle that flushes.
    let mut builder = tracing_feedback::builder().with_service_name("quickstart");
    if let Some(collector) = &collector {
        builder = builder.with_protocol(Protocol::Grpc).with_endpoint(collector.endpoint());
    }
    let (layer, telemetry) = builder.build()?;
    tracing_subscriber::registry().with(layer).init();

    let session = conversation()?;
    telemetry.flush().map_err(|error| error.to_string())?;

    match (&collector, given) {
        (Some(collector), _) => show(collector, &session),
        (None, given) => println!("Sent to {}, session {session}.", given.unwrap_or_default()),
    }
    let stats = telemetry.stats();
    println!("{} spans exported, {} dropped.", stats.exported, stats.dropped);
    telemetry.shutdown()?;
    println!("{}", what_next(collector.is_some()));
    Ok(())
}

// ---- what the users do -----------------------------------------------------------------------

/// One conversation: five questions, each a trace of its own, in one session.
#[tokio::main]
async fn conversation() -> Result<Session, SpanError> {
    let session = Session::new();

    // A thumb down, with details. Every value keeps its type.
    ask(&session, "What is the capital of New York?", || {
        enrich_span!(feedback = {
            "rating": false,
            "comment": "The model hallucinated the capital of New York",
            "ground_truth": "The capital of New York is Albany",
            "step1": { "retry": true },
            "edits": [{ "value": "Albany" }],
        });
    })
    .await?;

    // A change of mind. Enriching merges: the new rating replaces the old one, `user_id` stays.
    ask(&session, "How far away is the Moon?", || {
        enrich_span!(feedback = { "rating": true, "user_id": "u-17" });
        enrich_span!(feedback = { "rating": false, "comment": "An average? Tell me the range" });
    })
    .await?;

    // Given and taken back: `null` retracts a key, with all that stands under it.
    ask(&session, "Who wrote Frankenstein?", || {
        enrich_span!(feedback = { "rating": true, "comment": "Write to me: mary@example.org" });
        enrich_span!(feedback = { "comment": null });
    })
    .await?;

    // No feedback yet. The span's context is kept for later.
    let berlin = ask(&session, "When did the Berlin Wall come down?", || {}).await?;

    // On the whole session, from somewhere inside it.
    ask(&session, "Who painted the Mona Lisa?", || {
        enrich_session!(feedback = { "rating": 3, "comment": "Knows what it doesn't know" });
    })
    .await?;

    // Later. The span has ended, so the feedback travels on its own and names the span …
    enrich_span!(target = berlin, feedback = { "rating": true, "helped_with": "homework" });
    // … or the session. The two ratings of the session fold into one document.
    enrich_session!(session_id = session.id(), feedback = { "rating": 5, "resolved": true });
    Ok(session)
}

// ---- the service -----------------------------------------------------------------------------

/// One request: answers a question, and waits for what the user makes of it. The field `session.id`
/// puts its span, and all spans under it, into the session.
#[instrument(skip_all, fields(session.id = session.id()))]
async fn ask(
    session: &Session,
    question: &str,
    react: impl FnOnce(),
) -> Result<SpanContext, SpanError> {
    answer(question).await;
    react();
    Span::current().span_context()
}

#[instrument(skip_all)]
async fn answer(question: &str) -> &'static str {
    let passages = retrieve(question).await;
    let reply = generate(&passages).await;
    evaluate(question, reply).await;
    enrich_span!(inputs = { "question": question }, outputs = { "answer": reply });
    reply
}

/// The passages that share words with the question, the best first.
#[instrument(skip_all, fields(passages.searched = KNOWLEDGE.len()))]
async fn retrieve(question: &str) -> Vec<&'static str> {
    let mut found = search(question).await;
    found.sort_by_key(|passage| std::cmp::Reverse(overlap(question, passage)));
    info!(passages.found = found.len(), "ranked");
    found
}

#[instrument(skip_all)]
async fn search(question: &str) -> Vec<&'static str> {
    work(Duration::from_millis(8)).await;
    KNOWLEDGE.into_iter().filter(|passage| overlap(question, passage) > 0).collect()
}

/// A very small language model: it repeats what it has read.
#[instrument(skip_all, fields(gen_ai.request.model = "parrot-1", gen_ai.usage.output_tokens))]
async fn generate(passages: &[&'static str]) -> &'static str {
    work(Duration::from_millis(30)).await;
    let reply = passages.first().copied().unwrap_or("I don't know.");
    Span::current().record("gen_ai.usage.output_tokens", words(reply).count());
    reply
}

/// An automatic score, which is fooled where users aren't: `metrics` are kept apart from
/// `feedback`.
#[instrument(skip_all)]
async fn evaluate(question: &str, reply: &str) {
    let asked = words(question).count().max(1);
    enrich_span!(metrics = { "relevance": overlap(question, reply) as f64 / asked as f64 });
}

const KNOWLEDGE: [&str; 6] = [
    "Albany has been the seat of the state government since 1797.",
    "New York City was the first capital of the United States.",
    "On average, the Moon is 384,400 km away.",
    "The Sun is 149,600,000 km away, which light takes eight minutes for.",
    "Mary Shelley wrote Frankenstein at the age of eighteen.",
    "The Berlin Wall came down on 9 November 1989.",
];

fn words(text: &str) -> impl Iterator<Item = String> {
    const TOO_COMMON: [&str; 9] = ["what", "is", "the", "of", "how", "far", "who", "when", "did"];
    text.split(|c: char| !c.is_alphanumeric())
        .map(str::to_lowercase)
        .filter(|word| !word.is_empty() && !TOO_COMMON.contains(&word.as_str()))
}

fn overlap(question: &str, passage: &str) -> usize {
    words(question).filter(|asked| words(passage).any(|word| word == *asked)).count()
}

async fn work(time: Duration) {
    tokio::time::sleep(time).await;
}

// ---- what the collector got ------------------------------------------------------------------

fn show(collector: &Collector, session: &Session) {
    println!("{}", bold("What the collector received, trace by trace"));
    println!("{}", dim("(late): on its own, after the span it is about had ended"));
    for line in collector.tree().lines() {
        if !line.starts_with(' ') {
            println!(); // the root of another trace
        }
        match line.split_once(" = ") {
            Some((key, value)) => println!("  {} = {value}", dim(key)),
            None => println!("  {line}"),
        }
    }
    println!("\n{}", bold(&format!("What was said about session {session}")));
    println!();
    for (key, value) in collector.session_feedback(session.id()) {
        println!("  {} = {value}", dim(&key));
    }
    println!();
}

fn bold(text: &str) -> String {
    styled("1", text)
}

fn dim(text: &str) -> String {
    styled("2", text)
}

fn styled(style: &str, text: &str) -> String {
    if stdout().is_terminal() { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}

fn what_next(is_embedded: bool) -> &'static str {
    if is_embedded {
        "
Next
  your collector   OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 \\
                     cargo run --example quickstart --features collector
  your service     cargo run --example existing_service --features collector
  several of them  cargo run --example two_services --features collector
  the whole story  README.md, and cargo doc --open --all-features"
    } else {
        "
Next
  look there for the service `quickstart`, and for attributes that begin with `feedback.`"
    }
}
