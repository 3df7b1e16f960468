//! What arrived, as text to compare.

use std::io::Write;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::trace::Status;
use tracing_feedback::collector::{Collector, ReceivedEvent, ReceivedSpan};
use tracing_subscriber::fmt::MakeWriter;

/// The only span of this name.
pub(crate) fn one(collector: &Collector, name: &str) -> ReceivedSpan {
    let spans = collector.spans();
    let named: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
    assert_eq!(named.len(), 1, "spans named {name} among {names:?}");
    assert_eq!(named[0].duplicate_keys, Vec::<String>::new());
    named[0].clone()
}

/// `key=value`, by key.
pub(crate) fn attributes(span: &ReceivedSpan) -> String {
    let shown: Vec<_> =
        span.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    shown.join(" ")
}

/// `name: key=value …`, a line an event.
pub(crate) fn events(span: &ReceivedSpan) -> String {
    span.events.iter().map(|event| format!("{}\n", one_event(event))).collect()
}

fn one_event(event: &ReceivedEvent) -> String {
    let shown: Vec<_> =
        event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{}: {}", event.name, shown.join(" "))
}

/// `unset`, `ok` or `error: what`.
pub(crate) fn status(span: &ReceivedSpan) -> String {
    match &span.status {
        Status::Unset => "unset".to_owned(),
        Status::Ok => "ok".to_owned(),
        Status::Error { description } => format!("error: {description}"),
    }
}

/// Whether the span is a child of the other, in the same trace.
pub(crate) fn is_child(child: &ReceivedSpan, parent: &ReceivedSpan) -> bool {
    child.trace_id == parent.trace_id && child.parent_span_id == parent.span_id
}

/// Text that a `fmt` layer has written.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// How many lines hold this text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.text().lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Does something that must not hang, and fails if it does.
pub(crate) fn with_timeout<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || done.send(work()));
    match is_done.recv_timeout(Duration::from_secs(20)) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("a deadlock"),
        Err(RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}

/// Waits until something holds, and fails if it never does.
pub(crate) fn eventually(holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "it has not come to hold");
        thread::sleep(Duration::from_millis(5));
    }
}
