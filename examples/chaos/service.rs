//! The service: it makes spans and gives feedback on them, until it is stopped or killed.
//!
//! It reports on its standard output, a line each:
//!
//! | line | |
//! | --- | --- |
//! | `ready ADDRESS` | it runs, and takes feedback there |
//! | `said TAG` | the feedback with this tag is about to be given |
//! | `acked TAG…` | `flush` has returned `Ok` after it |
//! | `unsure REASON` | `flush` has not |
//! | `ticket TAG TICKET` | for a user to give this feedback with |
//! | `stopped` | no more spans |
//! | `drained yes` | nothing waits any more |
//! | `drained no…` | something does |
//! | `ended NAME MADE LOST` | spans it has made, and counted as lost |
//!
//! and reads commands from its standard input: `stop`, `drain`, `end`.

use std::collections::VecDeque;
use std::io::{BufRead, stdin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use tracing::{Span, info_span};
use tracing_feedback::web::{FeedbackRoutes, feedback_routes};
use tracing_feedback::{
    Enrichment, OutboxOptions, OutboxPolicy, Protocol, SpanExt, Telemetry, TicketKeys,
    enrich_session, enrich_span,
};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::Result;

/// Good for an example that starts and ends all its services itself.
const EXAMPLE_KEY: [u8; 32] = *b"everyone knows this key: no good";
/// Threads that make spans, by the kind of the feedback that they repeat on the same span.
const WORKERS: [char; 2] = ['m', 'n'];
/// Spans that a worker keeps open, with feedback on each.
const OPEN: usize = 20;

/// The role: NAME PROTOCOL ENDPOINT POLICY DIRECTORY.
pub(crate) fn serve(arguments: &[String]) -> Result<()> {
    let [name, protocol, endpoint, policy, directory] = arguments else {
        return Err("a service needs NAME PROTOCOL ENDPOINT POLICY DIRECTORY".into());
    };
    let protocol = match protocol.as_str() {
        "grpc" => Protocol::Grpc,
        _ => Protocol::HttpProtobuf,
    };
    let mut builder = tracing_feedback::builder()
        .with_service_name("chaos")
        .with_protocol(protocol)
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_millis(300))
        .with_schedule_delay(Duration::from_millis(100))
        .with_ticket_keys(TicketKeys::new([EXAMPLE_KEY])?);
    // Otherwise the environment configures the outbox.
    if directory != "-" {
        let policy: OutboxPolicy = policy.parse()?;
        builder = builder.with_outbox(OutboxOptions::new(directory).with_policy(policy));
    }
    // Warnings while telemetry is built count, too.
    let warnings = || {
        let only = Targets::new().with_target("tracing_feedback", LevelFilter::INFO);
        fmt::layer().with_writer(std::io::stderr).with_ansi(false).without_time().with_filter(only)
    };
    let early = tracing_subscriber::registry().with(warnings());
    let (layer, telemetry) = tracing::subscriber::with_default(early, || builder.build())?;
    tracing_subscriber::registry()
        .with(warnings())
        .with(layer.with_filter(LevelFilter::INFO))
        .try_init()?;

    println!("ready {}", take_feedback()?);
    let load = Arc::new(Load::new(name));
    let workers = WORKERS.map(|kind| {
        let load = load.clone();
        thread::spawn(move || load.work(kind))
    });
    let telemetry = Arc::new(telemetry);
    let mut flusher = Some(thread::spawn({
        let (load, telemetry) = (load.clone(), telemetry.clone());
        move || load.acknowledge(&telemetry)
    }));
    let mut workers = workers.into_iter();
    let mut stop = || -> Result<()> {
        load.is_running.store(false, Relaxed);
        for worker in workers.by_ref() {
            worker.join().map_err(|_| "a worker panicked")?;
        }
        load.is_made.store(true, Relaxed);
        flusher.take().map_or(Ok(()), |it| it.join()).map_err(|_| "the flusher panicked")?;
        println!("stopped");
        Ok(())
    };
    for line in stdin().lock().lines() {
        match line?.as_str() {
            "stop" => stop()?,
            "drain" => println!("drained {}", drain(&telemetry)),
            _ => break,
        }
    }
    stop()?;
    if let Err(error) = telemetry.shutdown() {
        println!("unsure {}", one_line(&error.to_string()));
    }
    println!("ended {} {} {}", load.name, load.made.load(Relaxed), telemetry.stats().dropped);
    Ok(())
}

/// Starts the routes that accept feedback, and returns their address.
fn take_feedback() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let router: Router = feedback_routes(FeedbackRoutes::new());
            axum::serve(listener, router).await
        })
    });
    Ok(address.to_string())
}

/// Waits until nothing waits any more, in memory or on disk.
fn drain(telemetry: &Telemetry) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if let Err(error) = telemetry.flush() {
            println!("unsure {}", one_line(&error.to_string()));
        }
        let stats = telemetry.stats();
        if stats.outbox_spans == 0 && stats.queued == 0 {
            return "yes".to_owned();
        }
        thread::sleep(Duration::from_millis(20));
    }
    format!("no: {:?}", telemetry.stats())
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// What the service has made, and how much of it is known to be durable.
struct Load {
    name: String,
    numbers: AtomicU64,
    /// Spans that have ended, and carriers that were sent by themselves.
    made: AtomicU64,
    is_running: AtomicBool,
    is_made: AtomicBool,
    /// Tags of feedback that was given, and is not acknowledged yet.
    pending: Mutex<Vec<String>>,
    /// Read-locked while feedback is being given: a `flush` may report a loss from that time.
    turn: RwLock<()>,
}

impl Load {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            numbers: AtomicU64::new(0),
            made: AtomicU64::new(0),
            is_running: AtomicBool::new(true),
            is_made: AtomicBool::new(false),
            pending: Mutex::default(),
            turn: RwLock::default(),
        }
    }

    /// All that a service may do with feedback, over and over.
    fn work(&self, kind: char) {
        let mut open = VecDeque::new();
        let long = self.answer();
        while self.is_running.load(Relaxed) {
            // On one that lives as long as the service.
            self.submit(kind, |tag| long.in_scope(|| enrich_span!(feedback = { "latest": tag })));
            for _ in 0..3 {
                self.end(info_span!("work", process = self.name));
            }
            // On a span that ends at once.
            let span = self.answer();
            self.submit('i', |tag| {
                span.in_scope(|| enrich_span!(feedback = { "said": tag, "rating": 1 }))
            });
            self.end(span);
            // On one that stays open, until the value is changed.
            let span = self.answer();
            self.submit('o', |tag| {
                span.in_scope(|| enrich_span!(feedback = { "said": tag, "rating": 1 }))
            });
            open.push_back(span);
            if open.len() > OPEN
                && let Some(span) = open.pop_front()
            {
                self.submit('a', |tag| {
                    span.in_scope(|| enrich_span!(feedback = { "again": tag, "rating": 2 }))
                });
                self.end(span);
            }
            // On one that has ended.
            let span = self.answer();
            let target = span.span_context();
            self.end(span);
            if let Ok(target) = target {
                self.made.fetch_add(1, Relaxed);
                self.submit(
                    'l',
                    |tag| enrich_span!(target = &target, feedback = { "said": tag, "rating": 1 }),
                );
            }
            // On a session.
            self.made.fetch_add(1, Relaxed);
            self.submit(
                's',
                |tag| enrich_session!(session_id = tag, feedback = { "said": tag, "rating": 1 }),
            );
            // By another user, who has got a ticket.
            let span = self.answer();
            let ticket = span.ticket();
            self.end(span);
            if let Ok(ticket) = ticket {
                println!("ticket {} {ticket}", self.tag('h'));
            }
            thread::sleep(Duration::from_millis(10));
        }
        open.into_iter().chain([long]).for_each(|span| self.end(span));
    }

    fn answer(&self) -> Span {
        info_span!("answer", process = self.name)
    }

    fn end(&self, span: Span) {
        drop(span);
        self.made.fetch_add(1, Relaxed);
    }

    fn tag(&self, kind: char) -> String {
        format!("{}.{kind}.{:06}", self.name, self.numbers.fetch_add(1, Relaxed))
    }

    fn submit(&self, kind: char, enrich: impl FnOnce(&str) -> Enrichment) {
        let _turn = self.turn.read();
        let tag = self.tag(kind);
        println!("said {tag}");
        // Refused feedback is known to its caller.
        if enrich(&tag).into_result().is_ok() {
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).push(tag);
        }
    }

    /// Flushes, and reports what is durable then.
    fn acknowledge(&self, telemetry: &Telemetry) {
        let pending = || std::mem::take(&mut *self.pending.lock().expect("no thread panics"));
        loop {
            let is_last = self.is_made.load(Relaxed);
            let tags = pending();
            if !tags.is_empty() {
                match telemetry.flush() {
                    Ok(()) => println!("acked {}", tags.join(" ")),
                    Err(error) => {
                        // The error may include losses from after the tags were taken, and won't
                        // report them again.
                        let _turn = self.turn.write();
                        pending();
                        println!("unsure {}", one_line(&error.to_string()));
                    }
                }
            }
            if is_last {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
