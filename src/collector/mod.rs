//! The test collector: a real OTLP receiver on a loopback port, in-process.
//!
//! It receives spans and log records over gRPC and HTTP, as protobuf and JSON, uncompressed or compressed with
//! gzip or zstd. It validates and stores them, and returns them as a list, with their feedback folded,
//! or as an indented tree. It also fails on request ([`Collector::answer_next`]), so that a test
//! can show how a sender handles an outage.
//!
//! ```
//! use tracing_feedback::collector::Collector;
//!
//! let collector = Collector::start()?;
//! // … set up telemetry with `collector.endpoint()`, do something, flush …
//! assert_eq!(collector.tree(), "");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The folder
//!
//! | file | idea |
//! | --- | --- |
//! | `receive` | the receiver: OTLP over gRPC and HTTP, from a connection to spans and log records |
//! | `faults` | scripted answers |
//! | `inbox` | the received requests, spans and events, and waiting for more |
//! | `foreign` | feedback in the forms of other emitters, read as carriers |
//! | `role` | which target the feedback of a span is about; folding |
//! | `tree` | traces as text |
//!
//! `receive` decodes a request, `inbox` stores its content and chooses the answer. A request with an
//! id of the wrong length, or with a trace or span id of zeros only, is refused as a whole, unless
//! [`Collector::accept_valid_spans`] says otherwise.
//!
//! Spans, events and requests are kept until [`Collector::clear`]: this is a collector for tests, not for
//! production.

mod faults;
pub(crate) mod foreign;
mod inbox;
pub(crate) mod receive;
pub(crate) mod role;
mod tree;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io, thread};

use axum::Router;
use opentelemetry::trace::{SpanId, TraceId};
use tokio::sync::oneshot;

pub use faults::Answer;
pub use inbox::{Outcome, ReceivedRequest, WaitError};
pub use receive::Protocol;
pub use receive::log_record::ReceivedLogRecord;
pub use receive::received::{ReceivedEvent, ReceivedLink, ReceivedSpan, Scope};
pub use receive::value::Value;
pub use role::{Role, Target, feedback};

use crate::suppress;
use inbox::Inbox;
use receive::budget::MemoryBudget;
use receive::listener::{Connection, LoopbackListener, NotListening};
use receive::{grpc, http};

/// A running OTLP receiver. Dropping it stops it and closes its connections.
///
/// It runs on its own thread, works inside and outside of a Tokio runtime, and emits no `tracing`
/// spans or events itself.
///
/// ```
/// use std::time::Duration;
/// use tracing_feedback::collector::Collector;
/// # use std::io::{Read, Write};
/// # fn post(collector: &Collector, json: &str) -> std::io::Result<()> {
/// #     let host = collector.http_endpoint().trim_start_matches("http://");
/// #     let mut stream = std::net::TcpStream::connect(host)?;
/// #     let length = json.len();
/// #     write!(stream, "POST /v1/traces HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
/// #         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{json}")?;
/// #     stream.read_to_end(&mut Vec::new()).map(drop)
/// # }
///
/// let collector = Collector::start()?;
/// // `post` stands for a service; real ones send to `collector.endpoint()`.
/// post(&collector, r#"{"resourceSpans": [{"scopeSpans": [{"spans": [{
///     "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
///     "name": "answer",
///     "attributes": [{"key": "feedback.rating", "value": {"boolValue": true}}]
/// }]}]}]}"#)?;
///
/// let spans = collector.wait_for_spans(1, Duration::from_secs(5))?;
/// assert_eq!(spans[0].name, "answer");
/// assert_eq!(spans[0].attributes["feedback.rating"], true);
/// assert_eq!(collector.tree(), "answer\n    feedback.rating = true\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping the collector stops it: keep it until the spans have arrived"]
pub struct Collector {
    endpoint: String,
    http_endpoint: String,
    inbox: Arc<Inbox>,
    /// Dropping it stops the server.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts a collector on two loopback ports that the system picks. When this returns, both
    /// accept connections. Fails only when no ports, threads or file descriptors are left.
    pub fn start() -> io::Result<Self> {
        let (grpc, http) = (NotListening::new()?, NotListening::new()?);
        let endpoint = format!("http://{}", grpc.address);
        let http_endpoint = format!("http://{}", http.address);
        let inbox = Arc::new(Inbox::default());
        let budget = MemoryBudget::default();
        let grpc_router = grpc::router(Arc::clone(&inbox), budget.clone(), grpc::MAX_MESSAGE);
        let http_router = http::router(Arc::clone(&inbox), budget);
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let run = move || {
            // The HTTP and gRPC libraries emit spans and events on this thread. A layer in the same
            // process could export them back to this collector.
            suppress::mark_this_thread();
            // Built and dropped on this thread: a runtime must not be dropped inside another one.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .on_thread_start(suppress::mark_this_thread)
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(async {
                let (grpc, http) = match (grpc.listen(), http.listen()) {
                    (Ok(grpc), Ok(http)) => (grpc, http),
                    (Err(error), _) | (_, Err(error)) => return drop(ready.send(Err(error))),
                };
                tokio::spawn(serve(grpc, grpc_router));
                tokio::spawn(serve(http, http_router));
                let _ = ready.send(Ok(()));
                let _ = stopped.await; // ends, with an error, when the sender is dropped
            });
            // Closes all connections, also those of unanswered requests, and waits for no decoding.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("test-collector".into()).spawn(run)?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { endpoint, http_endpoint, inbox, stop: Some(stop), thread: Some(thread) })
    }

    /// Where to send OTLP over gRPC: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The base URL for OTLP over HTTP, `http://127.0.0.1:PORT`. Spans go to `/v1/traces` under it, log records
    /// to `/v1/logs`, as `application/x-protobuf` or `application/json`.
    pub fn http_endpoint(&self) -> &str {
        &self.http_endpoint
    }

    /// All stored spans, in the order in which they arrived.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.inbox.spans()
    }

    /// Waits until at least `n` spans have been stored since the start or the last
    /// [`clear`](Self::clear), and returns all of them. It blocks the calling thread, so in async
    /// code the sender has to run on another thread.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tracing_feedback::collector::Collector;
    ///
    /// let collector = Collector::start()?;
    /// let error = collector.wait_for_spans(1, Duration::from_millis(10)).unwrap_err();
    /// assert_eq!(error.to_string(), "0 of 1 spans arrived within 10ms");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait_for_spans(
        &self,
        n: usize,
        timeout: Duration,
    ) -> Result<Vec<ReceivedSpan>, WaitError> {
        self.inbox.wait_for_spans(n, timeout)
    }

    /// All stored events, in the order in which they arrived: the log records that are
    /// [`gen_ai.evaluation.result`](https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-events.md#event-gen_aievaluationresult),
    /// by their `eventName` or, from older emitters, by the attribute `event.name`. Other log records are taken
    /// and ignored. An event of this name on a span is among the [events of the span](ReceivedSpan::events).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tracing_feedback::collector::Collector;
    /// # use std::io::{Read, Write};
    /// # fn post(collector: &Collector, json: &str) -> std::io::Result<()> {
    /// #     let host = collector.http_endpoint().trim_start_matches("http://");
    /// #     let mut stream = std::net::TcpStream::connect(host)?;
    /// #     let length = json.len();
    /// #     write!(stream, "POST /v1/logs HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
    /// #         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{json}")?;
    /// #     stream.read_to_end(&mut Vec::new()).map(drop)
    /// # }
    ///
    /// let collector = Collector::start()?;
    /// // `post` stands for a service; real ones send to `collector.endpoint()`.
    /// post(&collector, r#"{"resourceLogs": [{"scopeLogs": [{"logRecords": [{
    ///     "eventName": "gen_ai.evaluation.result",
    ///     "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
    ///     "attributes": [{"key": "gen_ai.evaluation.name", "value": {"stringValue": "rating"}},
    ///                    {"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": 4.5}}]
    /// }, {"body": {"stringValue": "a log line"}}]}]}]}"#)?;
    ///
    /// let events = collector.wait_for_events(1, Duration::from_secs(5))?;
    /// assert_eq!(events, collector.events());
    /// assert_eq!(events[0].span_id.to_string(), "b7ad6b7169203331");
    /// assert_eq!(events[0].attributes["gen_ai.evaluation.score.value"], 4.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events(&self) -> Vec<ReceivedLogRecord> {
        self.inbox.events()
    }

    /// As [`wait_for_spans`](Self::wait_for_spans), for [events](Self::events).
    pub fn wait_for_events(
        &self,
        n: usize,
        timeout: Duration,
    ) -> Result<Vec<ReceivedLogRecord>, WaitError> {
        self.inbox.wait_for_events(n, timeout)
    }

    /// All requests in the order in which they were read to their end, including refused and failed
    /// ones.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.inbox.requests()
    }

    /// As [`wait_for_spans`](Self::wait_for_spans), for requests with any outcome.
    pub fn wait_for_requests(
        &self,
        n: usize,
        timeout: Duration,
    ) -> Result<Vec<ReceivedRequest>, WaitError> {
        self.inbox.wait_for_requests(n, timeout)
    }

    /// Removes all spans, events and requests. Scripted answers stay.
    pub fn clear(&self) {
        self.inbox.clear();
    }

    /// Queues an answer. Each export request, over either protocol, takes the next one from the
    /// queue once it has been read; when the queue is empty, requests are accepted again.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::time::Duration;
    /// use tracing_feedback::collector::{Answer, Collector, Outcome};
    ///
    /// let collector = Collector::start()?;
    /// let busy = Answer::Unavailable { retry_after: Some(Duration::from_secs(2)) };
    /// collector.answer_next(busy.clone());
    ///
    /// let host = collector.http_endpoint().trim_start_matches("http://");
    /// let mut stream = std::net::TcpStream::connect(host)?;
    /// write!(stream, "POST /v1/traces HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
    ///     content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}")?;
    /// let mut response = String::new();
    /// stream.read_to_string(&mut response)?;
    ///
    /// assert!(response.starts_with("HTTP/1.1 503"));
    /// assert!(response.contains("retry-after: 2\r\n"));
    /// assert_eq!(collector.requests()[0].outcome, Outcome::Scripted(busy));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn answer_next(&self, answer: Answer) {
        self.inbox.script(|script| script.push(answer));
    }

    /// Sets the answer to requests for which the queue holds none, until it is unset with `None`:
    /// an outage of any length.
    pub fn answer_all(&self, answer: Option<Answer>) {
        self.inbox.script(|script| script.set_standing(answer));
    }

    /// Whether a request that has spans with invalid ids, or spans or log records that can't be read, is accepted without them: a partial success that
    /// names the first of them. Default: no, such a request is refused as a whole. Receivers do either;
    /// exporters must not send a request again that was refused as invalid, so they lose the valid spans
    /// of it ([OTLP](https://opentelemetry.io/docs/specs/otlp/#partial-success)).
    ///
    /// ```
    /// # use std::io::{Read, Write};
    /// use tracing_feedback::collector::Collector;
    ///
    /// let collector = Collector::start()?;
    /// collector.accept_valid_spans(true);
    /// # let body = r#"{"resourceSpans": [{"scopeSpans": [{"spans": [
    /// #     {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "good"},
    /// #     {"traceId": "00", "spanId": "b7ad6b7169203331", "name": "bad"}]}]}]}"#;
    /// # let host = collector.http_endpoint().trim_start_matches("http://");
    /// # let mut stream = std::net::TcpStream::connect(host)?;
    /// # write!(stream, "POST /v1/traces HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
    /// #     content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    /// # let mut response = String::new();
    /// # stream.read_to_string(&mut response)?;
    /// // … a service sends two spans, one of them with a trace id of one byte …
    /// assert!(response.contains(r#""rejectedSpans":"1""#));
    /// assert_eq!(collector.tree(), "good\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn accept_valid_spans(&self, accepts: bool) {
        self.inbox.accept_valid_spans(accepts);
    }

    /// The feedback about one span: its own attributes of the feedback namespaces, folded with its
    /// carriers, and with feedback in other forms: [events](Self::events), and what [`feedback`] reads of spans.
    /// Empty if there is none.
    ///
    /// ```
    /// use tracing_feedback::collector::Collector;
    /// # use std::io::{Read, Write};
    /// # fn post(collector: &Collector, json: &str) -> std::io::Result<()> {
    /// #     let host = collector.http_endpoint().trim_start_matches("http://");
    /// #     let mut stream = std::net::TcpStream::connect(host)?;
    /// #     let length = json.len();
    /// #     write!(stream, "POST /v1/traces HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
    /// #         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{json}")?;
    /// #     stream.read_to_end(&mut Vec::new()).map(drop)
    /// # }
    ///
    /// let collector = Collector::start()?;
    /// // A span, and a carrier that changes its rating.
    /// post(&collector, r#"{"resourceSpans": [{"scopeSpans": [{"spans": [{
    ///     "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
    ///     "name": "answer",
    ///     "attributes": [{"key": "feedback.rating", "value": {"boolValue": true}}]
    /// }, {
    ///     "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "00f067aa0ba902b7",
    ///     "parentSpanId": "b7ad6b7169203331", "name": "feedback",
    ///     "links": [{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331"}],
    ///     "attributes": [{"key": "feedback.rating", "value": {"boolValue": false}},
    ///                    {"key": "tracing_feedback.late", "value": {"boolValue": true}}]
    /// }]}]}]}"#)?;
    ///
    /// let answer = &collector.spans()[0];
    /// let feedback = collector.feedback(answer.trace_id, answer.span_id);
    /// assert_eq!(feedback["feedback.rating"], false);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn feedback(&self, trace_id: TraceId, span_id: SpanId) -> BTreeMap<String, Value> {
        self.fold(&Target::Span(trace_id, span_id))
    }

    /// The feedback about the session with this `session.id` as a whole: folded over all spans and
    /// carriers whose scope is that session. Empty if there is none.
    ///
    /// ```
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// assert!(collector.session_feedback("conversation-42").is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn session_feedback(&self, id: &str) -> BTreeMap<String, Value> {
        self.fold(&Target::Session(id.to_owned()))
    }

    /// The feedback about a trace as a whole: folded over all spans and carriers whose scope is
    /// that trace. Empty if there is none.
    ///
    /// ```
    /// use opentelemetry::trace::TraceId;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// assert!(collector.trace_feedback(TraceId::from(1)).is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn trace_feedback(&self, trace_id: TraceId) -> BTreeMap<String, Value> {
        self.fold(&Target::Trace(trace_id))
    }

    /// Every trace as an indented tree, to print or to compare as a whole.
    ///
    /// Each span is a line with its name. Carriers are marked `(late)`, and stand below the span
    /// that they are linked to, in whichever trace they are. Feedback about a session or trace as a
    /// whole is marked `(session)` or `(trace)`. The span's attributes of the feedback namespaces
    /// follow, indented: those of a target are folded with its carriers; those of a carrier, or of
    /// a span with feedback about its session or trace, are as they were sent, after the keys that
    /// they clear. Siblings are sorted by start time, then by name. Control characters in names, keys
    /// and values are escaped. The tree has no ids and no times.
    ///
    /// ```text
    /// POST /chat
    ///   answer
    ///       feedback.rating = false
    ///     feedback (late)
    ///         feedback.rating = false
    /// ```
    pub fn tree(&self) -> String {
        self.inbox.read(|spans, _| tree::tree(spans))
    }

    fn fold(&self, target: &Target) -> BTreeMap<String, Value> {
        self.inbox.read(|spans, events| role::feedback_with_events(spans, events, target))
    }
}

/// For the fuzz targets of this repository. No part of the API: it may change in any release.
///
/// Decodes a request of either signal, in both formats, and reads the feedback in it. Panics if what it is read as is
/// not valid, or is more than the request has room for.
#[doc(hidden)]
pub fn __read_feedback(body: &[u8]) {
    foreign::read_in_every_way(body);
}

async fn serve(listener: LoopbackListener, router: Router) {
    let service = router.into_make_service_with_connect_info::<Connection>();
    let _ = axum::serve(listener, service).await; // serves until the runtime is dropped
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // the panic hook has reported a panic, if there was one
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("endpoint", &self.endpoint)
            .field("http_endpoint", &self.http_endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
