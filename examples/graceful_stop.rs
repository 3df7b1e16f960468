//! An axum service that is stopped while it works: it accepts no more requests, finishes those in
//! flight, and the feedback on them arrives.
//!
//! ```text
//! cargo run --example graceful_stop --features axum,collector,signal
//! ```
//!
//! The example is its own orchestrator, too (on Unix): it starts itself as the service, asks a
//! question, and sends SIGTERM before the answer is there. With `-- serve` it is the service alone,
//! until Ctrl-C.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use tracing::instrument;
use tracing_feedback::collector::{Collector, Value};
use tracing_feedback::web::FeedbackHttpLayer;
use tracing_feedback::{enrich_span, shutdown_signal};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        None => orchestrate(),
        Some("serve") => serve(),
        Some(other) => Err(format!("{other:?} is no part: there is `serve`").into()),
    }
}

// ---- the service -----------------------------------------------------------------------------

fn serve() -> Result<(), Box<dyn Error>> {
    // `OTEL_EXPORTER_OTLP_ENDPOINT` sets the collector.
    let (layer, telemetry) = tracing_feedback::builder().with_service_name("answers").build()?;
    tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)).init();

    serve_until_stopped()?;
    // Requests in flight have been answered and their spans have ended. Now the spans are exported,
    // well before the process would be killed: 30 s after SIGTERM by Kubernetes, 10 s by Docker.
    telemetry.shutdown_within(Duration::from_secs(5))?;
    let stats = telemetry.stats();
    println!("{} spans exported, {} dropped", stats.exported, stats.dropped);
    Ok(())
}

#[tokio::main]
async fn serve_until_stopped() -> io::Result<()> {
    // From here on a signal no longer ends the process, but asks it to stop.
    let stop = shutdown_signal()?;
    let first_signal = async {
        stop.await;
        println!("stopping: no new requests, requests in flight go on");
    };
    let service: Router = Router::new().route("/ask", post(ask)).layer(FeedbackHttpLayer::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, service).with_graceful_shutdown(first_signal).into_future() => served,
        result = second_signal() => {
            println!("stopping now: requests in flight are cut off, and their spans end here");
            result
        }
    }
}

/// Waits for a second Ctrl-C. It would do nothing if nothing waited for it.
async fn second_signal() -> io::Result<()> {
    shutdown_signal()?.await;
    shutdown_signal()?.await;
    Ok(())
}

#[instrument]
async fn ask(question: String) -> &'static str {
    println!("asked: {question}");
    tokio::time::sleep(Duration::from_secs(2)).await; // models take their time
    let answer = "Albany";
    enrich_span!(feedback = { "rating": true, "comment": "worth the wait" });
    answer
}

// ---- what starts and stops it ----------------------------------------------------------------

fn orchestrate() -> Result<(), Box<dyn Error>> {
    let collector = Collector::start()?;
    let mut service = Service::start(&collector)?;
    let address = service.wait_for_line("listening on ")?;
    let asking = thread::spawn({
        let address = address.clone();
        move || request(&address, "What is the capital of New York?")
    });
    service.wait_for_line("asked: ")?;
    service.terminate()?;
    service.wait_for_line("stopping")?;
    while TcpStream::connect(&address).is_ok() {
        thread::sleep(Duration::from_millis(10));
    }
    println!("client:  a new connection is refused");
    let answer = asking.join().map_err(|_| "the client panicked")??;
    println!("client:  got its answer: {answer}");
    service.wait_for_line("2 spans exported, 0 dropped")?;
    let status = service.wait()?;
    println!("service ended with {status}");

    println!("\nWhat the collector received\n\n{}", collector.tree());
    let spans = collector.spans();
    let asked = spans.iter().find(|span| span.name == "ask").ok_or("the span is missing")?;
    assert_eq!(asked.attributes["feedback.rating"], Value::from(true));
    assert!(status.success());
    Ok(())
}

/// This program as the service, in a process of its own, and what it prints.
struct Service {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Service {
    fn start(collector: &Collector) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("serve")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("the service has no output")?;
        Ok(Self { process, lines: BufReader::new(stdout).lines() })
    }

    /// Waits for a line that begins with this, and returns the rest.
    fn wait_for_line(&mut self, this: &str) -> Result<String, Box<dyn Error>> {
        for line in &mut self.lines {
            let line = line?;
            println!("service: {line}");
            if let Some(rest) = line.strip_prefix(this) {
                return Ok(rest.to_owned());
            }
        }
        Err(format!("the service ended without saying {this:?}").into())
    }

    /// What an orchestrator does to stop it.
    fn terminate(&self) -> Result<(), Box<dyn Error>> {
        let kill = format!("kill -TERM {}", self.process.id());
        match Command::new("sh").args(["-c", &kill]).status()? {
            status if status.success() => Ok(()),
            status => Err(format!("`{kill}` ended with {status}").into()),
        }
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }
}

impl Drop for Service {
    /// Kills the service also if something has failed.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks, and waits for the answer.
fn request(address: &str, question: &str) -> Result<String, String> {
    let send = || -> io::Result<String> {
        let mut connection = TcpStream::connect(address)?;
        let length = question.len();
        write!(
            connection,
            "POST /ask HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{question}"
        )?;
        let mut reply = String::new();
        connection.read_to_string(&mut reply)?;
        Ok(reply)
    };
    let reply = send().map_err(|error| error.to_string())?;
    match reply.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(format!("no answer, but {reply:?}")),
    }
}
