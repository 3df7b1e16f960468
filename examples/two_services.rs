//! A front end and a back end, in two processes: one trace, one session, and feedback that the one
//! gives on the other's work.
//!
//! ```text
//! cargo run --example two_services --features collector
//! ```
//!
//! The process that is started is the front end. It starts the collector, and itself once more as
//! the back end. Both export to that collector; all that they exchange is in HTTP headers.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, stdin};
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry::trace::TraceContextExt as _;
use tracing::{Instrument as _, Span, info_span, instrument, warn};
use tracing_feedback::collector::Collector;
use tracing_feedback::{
    Session, SpanExt as _, Telemetry, enrich_session, enrich_span, propagation,
};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

const BACK_END: &str = "back-end";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [BACK_END, collector] => back_end(collector),
        _ => front_end(),
    }
}

/// The same on both sides. The session crosses because both trust each other with it: by default
/// session ids from headers are ignored.
fn set_up(service: &'static str, collector: &str) -> Result<Telemetry, Box<dyn Error>> {
    let (layer, telemetry) = tracing_feedback::builder()
        .with_service_name(service)
        .with_endpoint(collector)
        .with_session_propagation(true)
        .build()?;
    tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)).try_init()?;
    Ok(telemetry)
}

// ---- the front end ---------------------------------------------------------------------------

fn front_end() -> Result<(), Box<dyn Error>> {
    let collector = Collector::start()?;
    let telemetry = set_up("front-end", collector.endpoint())?;
    let (back_end, url) = start_back_end(collector.endpoint())?;

    let session = Session::new();
    visit(&session, &url)?;

    stop_back_end(back_end)?; // it flushes before it ends
    telemetry.shutdown()?;
    show_and_check(&collector, &session);
    Ok(())
}

/// A user asks something, likes the answer, and rates the whole conversation.
#[tokio::main]
#[instrument(name = "visit", skip_all, fields(session.id = session.id()))]
async fn visit(session: &Session, back_end: &str) -> Result<(), reqwest::Error> {
    let reply = call(&format!("{back_end}/answer"), "How far away is the Moon?").await?;
    enrich_session!(feedback = { "rating": 4, "comment": "Fast" });
    call(&format!("{back_end}/opinion"), &format!("{reply}: just what I wanted to know")).await?;
    Ok(())
}

/// A request to the back end. Its headers carry the span it comes from, and the session.
#[instrument(skip_all, fields(otel.kind = "client", url.full = url))]
async fn call(url: &str, body: &str) -> Result<String, reqwest::Error> {
    let mut headers = HeaderMap::new();
    propagation::inject(&mut headers);
    let client = http_client()?;
    let request = client.post(url).headers(headers).body(body.to_owned());
    request.send().await?.error_for_status()?.text().await
}

fn http_client() -> reqwest::Result<reqwest::Client> {
    // With the feature `tls`, reqwest asks for a provider even where all it will see is `http://`.
    #[cfg(feature = "tls")]
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build()
}

fn start_back_end(collector: &str) -> Result<(Child, String), Box<dyn Error>> {
    let mut back_end = Command::new(std::env::current_exe()?)
        .args([BACK_END, collector])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut url = String::new();
    if let Some(output) = back_end.stdout.take() {
        BufReader::new(output).read_line(&mut url)?;
    }
    Ok((back_end, url.trim().to_owned()))
}

/// The back end ends when its input does.
fn stop_back_end(mut back_end: Child) -> Result<(), Box<dyn Error>> {
    drop(back_end.stdin.take());
    let status = back_end.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the back end: {status}").into()) }
}

// ---- the back end ----------------------------------------------------------------------------

fn back_end(collector: &str) -> Result<(), Box<dyn Error>> {
    let telemetry = set_up(BACK_END, collector)?;
    serve()?;
    telemetry.shutdown()?;
    Ok(())
}

#[tokio::main]
async fn serve() -> Result<(), Box<dyn Error>> {
    let routes = Router::new().route("/answer", post(answer)).route("/opinion", post(opinion));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let end = tokio::task::spawn_blocking(|| stdin().read_to_end(&mut Vec::new()));
    let end = async { drop(end.await) };
    axum::serve(listener, routes).with_graceful_shutdown(end).await?;
    Ok(())
}

/// A span for a request, in the caller's trace and session.
fn request_span(route: &'static str, headers: &HeaderMap) -> Span {
    let span = info_span!("request", otel.name = route, otel.kind = "server");
    if let Err(error) = span.set_parent(propagation::extract(headers)) {
        warn!(%error, "the caller's trace ends here");
    }
    span
}

async fn answer(headers: HeaderMap, question: String) -> String {
    let span = request_span("POST /answer", &headers);
    async {
        let reply = look_up(&question).await;
        enrich_span!(inputs = { "question": question }, outputs = { "answer": reply });
        reply.to_owned()
    }
    .instrument(span)
    .await
}

#[instrument(skip_all)]
async fn look_up(question: &str) -> &'static str {
    if question.contains("Moon") { "384,400 km" } else { "I don't know" }
}

/// Takes the user's feedback on the front end's work. The span it is about is in another process;
/// its ids came in the headers.
async fn opinion(headers: HeaderMap, comment: String) {
    let caller = propagation::extract(&headers).span().span_context().clone();
    let span = request_span("POST /opinion", &headers);
    async {
        enrich_span!(target = caller, feedback = { "rating": true, "comment": comment });
        // The session came in the headers, too, and this folds with the front end's feedback.
        enrich_session!(feedback = { "rating": 5, "resolved": true });
    }
    .instrument(span)
    .await;
}

// ---- what the collector got ------------------------------------------------------------------

fn show_and_check(collector: &Collector, session: &Session) {
    println!("One trace of two services\n\n{}", collector.tree());
    let feedback = collector.session_feedback(session.id());
    println!("What was said about session {session}\n");
    for (key, value) in &feedback {
        println!("{key} = {value}");
    }

    let (carriers, spans): (Vec<_>, Vec<_>) =
        collector.spans().into_iter().partition(|span| span.is_carrier());
    for span in &spans {
        assert_eq!(span.trace_id, spans[0].trace_id, "{} is in another trace", span.name);
        assert_eq!(span.attributes["session.id"], session.id(), "{} is in no session", span.name);
    }
    // Late feedback is a trace of its own, which is linked to the span that it is about.
    assert_eq!(carriers.len(), 1);
    assert_eq!(carriers[0].links[0].trace_id, spans[0].trace_id);
    for service in ["front-end", BACK_END] {
        assert!(spans.iter().any(|span| span.resource["service.name"] == service), "no {service}");
    }
    assert_eq!(feedback["feedback.rating"], 5); // from the back end, which was the last
    assert_eq!(feedback["feedback.comment"], "Fast"); // from the front end
    assert_eq!(feedback["feedback.resolved"], true);
    println!("\n{} spans of two processes: one trace, one session.", spans.len());
}
