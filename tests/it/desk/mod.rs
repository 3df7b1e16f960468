//! The desk: what is received, kept, folded, measured and answered, over real sockets.

mod answers;
mod api;
mod command;
mod demo;
mod foreign;
mod forward;
mod large;
mod measures;
mod retention;
mod safety;
mod survival;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracing_feedback::desk::{Desk, Options};

/// Long enough for any machine; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(20);

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const HOUR: u64 = 3_600 * SECOND;
pub(crate) const DAY: u64 = 24 * HOUR;
/// 2026-01-01T00:00:00Z, a Thursday.
pub(crate) const NEW_YEAR: u64 = 1_767_225_600 * SECOND;

/// A directory that is gone after the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "feedback-desk-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("desk.sqlite")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A desk with a file of its own.
struct Rig {
    desk: Desk,
    directory: Directory,
}

impl Rig {
    fn new() -> Self {
        Self::with(|options| options)
    }

    fn with(configure: impl FnOnce(Options) -> Options) -> Self {
        let directory = Directory::new();
        let options = Options::new(directory.store()).with_any_ports();
        Self { desk: Desk::start(configure(options)).unwrap(), directory }
    }

    /// Spans by OTLP over http/json. When it returns they are kept.
    fn send(&self, spans: impl IntoIterator<Item = Span>) {
        post(&self.desk.http_endpoint().unwrap(), &request(spans));
    }

    fn get(&self, path_and_query: &str) -> Json {
        let reply = get(&self.desk.address(), path_and_query, &[]);
        assert_eq!(reply.status, 200, "{path_and_query}: {}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// The error of a request that is at fault.
    fn error(&self, path_and_query: &str) -> String {
        let reply = get(&self.desk.address(), path_and_query, &[]);
        assert_eq!(reply.status, 400, "{path_and_query}: {}", reply.text());
        let body: Json = serde_json::from_slice(&reply.body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }

    /// The names of the traces of a list.
    fn names(&self, query: &str) -> Vec<String> {
        let list = self.get(&format!("/api/v1/traces?{query}"));
        let rows = list["rows"].as_array().unwrap();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// A response, taken apart.
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn host(endpoint: &str) -> &str {
    endpoint.trim_start_matches("http://")
}

/// Writes a request and leaves the answer to be read.
fn send_request(endpoint: &str, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(host(endpoint)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

fn read_reply(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = bytes[end + 4..].to_vec();
    if head.contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Reply { status, head, body }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").unwrap();
        let length = std::str::from_utf8(&rest[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
}

fn get(endpoint: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut head = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head += &format!("host: {}\r\n", host(endpoint));
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    read_reply(send_request(endpoint, &(head + "\r\n"), b""))
}

fn try_post(endpoint: &str, body: &Json, headers: &str) -> Reply {
    try_post_to(endpoint, "/v1/traces", body, headers)
}

fn try_post_to(endpoint: &str, path: &str, body: &Json, headers: &str) -> Reply {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        host(endpoint),
        body.len()
    );
    read_reply(send_request(endpoint, &head, body.as_bytes()))
}

fn post(endpoint: &str, body: &Json) {
    let reply = try_post(endpoint, body, "");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Looks again and again until something is so.
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "it has not become so");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A span of http/json, built up by what matters to a test.
#[derive(Clone, Debug)]
struct Span {
    service: String,
    version: String,
    json: Json,
}

fn span(name: &str, trace: u64, id: u64, start: u64) -> Span {
    let json = json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}"), "name": name,
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": (start + SECOND).to_string(),
        "attributes": [], "links": [],
    });
    Span { service: "chat".to_owned(), version: "1".to_owned(), json }
}

/// A carrier about a span, in a trace of its own.
fn carrier(about: (u64, u64), id: u64, time: u64) -> Span {
    let mut carrier = span("feedback", about.0, id, time)
        .with("tracing_feedback.late", true)
        .with("tracing_feedback.time_unix_nano", time)
        .linked_to(about);
    carrier.json["traceId"] = Json::from(format!("{:016x}{:08x}{id:08x}", about.0, about.1));
    carrier.json["endTimeUnixNano"] = Json::from((time + 1).to_string());
    carrier
}

/// The same carrier as a child of its target.
fn in_the_trace_of_its_target(mut carrier: Span) -> Span {
    let link = carrier.json["links"][0].clone();
    carrier.json["traceId"] = link["traceId"].clone();
    carrier.json["parentSpanId"] = link["spanId"].clone();
    carrier.json["endTimeUnixNano"] = carrier.json["startTimeUnixNano"].clone();
    carrier
}

impl Span {
    fn with(mut self, key: &str, value: impl Into<Json>) -> Self {
        let value = any(value.into());
        self.json["attributes"].as_array_mut().unwrap().push(json!({ "key": key, "value": value }));
        self
    }

    fn child_of(mut self, parent: u64) -> Self {
        self.json["parentSpanId"] = Json::from(format!("{parent:016x}"));
        self
    }

    fn linked_to(mut self, (trace, id): (u64, u64)) -> Self {
        self.json["links"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}") }));
        self
    }

    fn of(mut self, service: &str, version: &str) -> Self {
        (self.service, self.version) = (service.to_owned(), version.to_owned());
        self
    }
}

fn any(value: Json) -> Json {
    match value {
        Json::Bool(value) => json!({ "boolValue": value }),
        Json::Number(number) if number.is_f64() => json!({ "doubleValue": number }),
        Json::Number(number) => json!({ "intValue": number.to_string() }),
        Json::String(text) => json!({ "stringValue": text }),
        Json::Array(values) => {
            json!({ "arrayValue": { "values": values.into_iter().map(any).collect::<Vec<_>>() } })
        }
        other => panic!("{other} is no attribute"),
    }
}

fn request(spans: impl IntoIterator<Item = Span>) -> Json {
    let groups = spans.into_iter().map(|span| {
        let resource = json!({ "attributes": [
            { "key": "service.name", "value": { "stringValue": span.service } },
            { "key": "service.version", "value": { "stringValue": span.version } },
        ]});
        json!({ "resource": resource, "scopeSpans": [{ "spans": [span.json] }] })
    });
    json!({ "resourceSpans": groups.collect::<Vec<_>>() })
}

/// The binary.
fn program(store: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_feedback-desk"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FEEDBACK_DESK_")) {
        command.env_remove(name);
    }
    command.env("FEEDBACK_DESK_STORE", store);
    command
}
