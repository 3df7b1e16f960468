//! How fast `feedback-desk` takes spans, what they weigh, and how long its charts and lists take
//! over them, first at rest and then while spans go on arriving.
//!
//! ```console
//! $ cargo bench --features desk --bench desk -- --spans 10000000
//! ```
//!
//! Traces have ten spans of about 300 bytes, spread over ninety days, and one leaf of feedback each
//! on average: half of the roots are rated, a third have stars, a sixth a comment. The desk is a
//! process of its own; the senders share the machine with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

const SPANS_OF_A_TRACE: u64 = 10;
const TRACES_OF_A_REQUEST: u64 = 50;
const SENDERS: u64 = 3;
const DAYS: u64 = 90;
const DAY: u64 = 86_400_000_000_000;
/// 2026-01-01T00:00:00Z.
const BEGIN: u64 = 1_767_225_600_000_000_000;

/// The queries, by name.
const QUESTIONS: [(&str, &str); 12] = [
    ("status", "/api/v1/status"),
    ("fields", "/api/v1/fields"),
    ("traces", "/api/v1/traces"),
    ("traces, rating = false", "/api/v1/traces?filter=feedback.rating+is+false"),
    ("traces without feedback", "/api/v1/traces?filter=has+no+feedback"),
    (
        "traces of a version and name",
        "/api/v1/traces?filter=service.version+is+1.2+and+name+is+ask",
    ),
    ("sessions, rating = false", "/api/v1/sessions?filter=feedback.rating+is+false"),
    ("comments with a word", "/api/v1/comments?search=capital"),
    ("percent-true by day", "/api/v1/chart?field=feedback.rating&bucket=day"),
    (
        "all nine of stars, by day and version",
        "/api/v1/chart?field=feedback.stars&bucket=day&group=service.version",
    ),
    (
        "stars where rating = false, by day",
        "/api/v1/chart?field=feedback.stars&bucket=day&filter=feedback.rating+is+false",
    ),
    (
        "rating by day, against the month before",
        "/api/v1/chart?field=feedback.rating&bucket=day&from=2026-03-01&to=2026-04-01&compare=previous",
    ),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let spans: u64 = value("--spans").map_or(1_000_000, |text| text.parse().expect("a number"));
    let directory = value("--directory").map_or_else(std::env::temp_dir, PathBuf::from);
    let store = directory.join(format!("feedback-desk-bench-{}.sqlite", std::process::id()));
    let desk = Desk::start(&store);

    let requests = spans / (SPANS_OF_A_TRACE * TRACES_OF_A_REQUEST);
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| send(&desk.http, &next, requests, requests, &stop));
        }
    });
    let took = begun.elapsed();
    let bytes: u64 = ["", "-wal"]
        .iter()
        .filter_map(|end| std::fs::metadata(format!("{}{end}", store.display())).ok())
        .map(|file| file.len())
        .sum();
    println!(
        "{spans} spans in {:.1} s: {:.0} a second, {:.0} bytes each, {} MiB of memory at most",
        took.as_secs_f64(),
        spans as f64 / took.as_secs_f64(),
        bytes as f64 / spans as f64,
        desk.memory()
    );

    println!("\n{:<44}{:>12}{:>12}", "milliseconds (median of 5)", "at rest", "ingesting");
    let at_rest: Vec<_> = QUESTIONS.iter().map(|(_, path)| desk.time(path)).collect();
    let before = next.load(Ordering::Relaxed);
    let begun = Instant::now();
    let busy: Vec<_> = thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| send(&desk.http, &next, u64::MAX, requests, &stop));
        }
        let busy = QUESTIONS.iter().map(|(_, path)| desk.time(path)).collect();
        stop.store(true, Ordering::Relaxed);
        busy
    });
    let took = begun.elapsed().as_secs_f64();
    let sent = (next.load(Ordering::Relaxed) - before) * SPANS_OF_A_TRACE * TRACES_OF_A_REQUEST;
    for ((name, _), (rest, busy)) in QUESTIONS.iter().zip(at_rest.iter().zip(&busy)) {
        println!("{name:<44}{rest:>12.0}{busy:>12.0}");
    }
    println!(
        "\n{:.0} spans a second meanwhile, {} MiB of memory at most",
        sent as f64 / took,
        desk.memory()
    );
    drop(desk);
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", store.display()));
    }
}

struct Desk {
    child: Child,
    http: String,
    page: String,
}

impl Desk {
    fn start(store: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_feedback-desk"))
            .args(["--port", "0", "--grpc-port", "0", "--http-port", "0", "--store"])
            .arg(store)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the desk starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (mut http, mut page) = (String::new(), String::new());
        for line in lines.map_while(Result::ok) {
            let address = || line.rsplit('/').next().unwrap_or_default().to_owned();
            if line.contains("OTLP over HTTP") {
                http = address();
            } else if line.contains("page and API") {
                page = address();
            } else if line.contains("Ctrl-C") {
                break;
            }
        }
        Self { child, http, page }
    }

    /// The median of five, in milliseconds.
    fn time(&self, path: &str) -> f64 {
        let mut times: Vec<_> = (0..5)
            .map(|_| {
                let begun = Instant::now();
                let mut stream = TcpStream::connect(&self.page).expect("the desk runs");
                write!(
                    stream,
                    "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                )
                .expect("a request");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
                begun.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[2]
    }

    /// Peak memory in MiB, where the system reports it.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let line = status.unwrap_or_default();
        let line = line.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends requests over one connection until there are no more, or `stop` is set.
fn send(http: &str, next: &AtomicU64, requests: u64, spread: u64, stop: &AtomicBool) {
    let mut stream = TcpStream::connect(http).expect("the desk runs");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let (mut template, mut body) = (Template::new(), Vec::new());
    let mut answer = [0; 4096];
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= requests || stop.load(Ordering::Relaxed) {
            return;
        }
        template.encode(number, spread, &mut body);
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("the desk reads");
        stream.write_all(&body).expect("the desk reads");
        let read = stream.read(&mut answer).expect("an answer");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "a request is accepted");
    }
}

/// A request whose spans are made once. What differs from request to request is written over.
struct Template(ExportTraceServiceRequest);

impl Template {
    fn new() -> Self {
        let resource = Resource {
            attributes: vec![text("service.name", "chat"), text("service.version", "")],
            ..Resource::default()
        };
        let spans =
            (0..TRACES_OF_A_REQUEST * SPANS_OF_A_TRACE).map(|at| span(at % SPANS_OF_A_TRACE));
        Self(ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        })
    }

    /// Writes the body of the request with a number.
    fn encode(&mut self, number: u64, spread: u64, body: &mut Vec<u8>) {
        let group = &mut self.0.resource_spans[0];
        let resource = group.resource.as_mut().expect("made above");
        write_text(&mut resource.attributes[1], format_args!("1.{}", number % 7));
        let first = number * TRACES_OF_A_REQUEST;
        let traces = group.scope_spans[0].spans.chunks_mut(SPANS_OF_A_TRACE as usize);
        for (trace, spans) in (first..).zip(traces) {
            let start =
                BEGIN + number % spread * (DAYS * DAY / spread) + trace % TRACES_OF_A_REQUEST;
            for (at, span) in (0..).zip(spans) {
                write_span(span, trace, at, start);
            }
        }
        body.clear();
        self.0.encode(body).expect("a vector grows");
    }
}

/// What all spans at a place in their trace have in common.
fn span(at: u64) -> Span {
    let names = ["ask", "answer", "retrieve", "search", "rerank", "generate", "evaluate"];
    Span {
        trace_id: vec![0; 16],
        span_id: vec![0; 8],
        parent_span_id: if at == 0 { vec![] } else { vec![0; 8] },
        name: names[at as usize % names.len()].to_owned(),
        kind: 1,
        attributes: vec![
            text("code.file.path", "src/answer/generate.rs"),
            int("code.line.number", 42 + at as i64),
            text("thread.name", "tokio-runtime-worker"),
            int("busy_ns", 0),
            text("question", "What is the capital of New York, and since when has it been?"),
            text("session.id", ""),
        ],
        ..Span::default()
    }
}

fn write_span(span: &mut Span, trace: u64, at: u64, start: u64) {
    let chance = scattered(trace);
    let trace_id = u128::from(scattered(!trace)) << 64 | u128::from(chance);
    span.trace_id.copy_from_slice(&trace_id.to_be_bytes());
    span.span_id.copy_from_slice(&scattered(trace * 16 + at).to_be_bytes());
    if at > 0 {
        span.parent_span_id.copy_from_slice(&scattered(trace * 16).to_be_bytes());
    }
    span.start_time_unix_nano = start + at * 1_000;
    span.end_time_unix_nano = start + at * 1_000 + chance % 2_000_000_000;
    let busy = any_value::Value::IntValue((chance % 1_000_000) as i64);
    span.attributes[3].value = Some(AnyValue { value: Some(busy) });
    write_text(&mut span.attributes[5], format_args!("session-{}", trace / 8));
    span.attributes.truncate(6);
    if at == 0 {
        if chance.is_multiple_of(2) {
            let value = any_value::Value::BoolValue(!(chance / 2).is_multiple_of(4));
            span.attributes.push(pair("feedback.rating", value));
        }
        if chance % 3 == 1 {
            span.attributes.push(int("feedback.stars", (chance / 7 % 5) as i64 + 1));
        }
        if chance % 6 == 2 {
            let comment = text("feedback.comment", "Albany has been the capital since 1797");
            span.attributes.push(comment);
        }
    }
}

/// Bits without order, the same ones every time (splitmix64).
fn scattered(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn text(key: &str, text: &str) -> KeyValue {
    pair(key, any_value::Value::StringValue(text.to_owned()))
}

/// Replaces a text.
fn write_text(pair: &mut KeyValue, text: std::fmt::Arguments<'_>) {
    let value = pair.value.as_mut().and_then(|any| any.value.as_mut());
    if let Some(any_value::Value::StringValue(value)) = value {
        value.clear();
        let _ = std::fmt::Write::write_fmt(value, text); // a string grows
    }
}

fn int(key: &str, int: i64) -> KeyValue {
    pair(key, any_value::Value::IntValue(int))
}
