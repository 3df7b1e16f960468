use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Mutex;

use opentelemetry::InstrumentationScope;

use super::*;
use crate::export::transport::RequestPieces;
use crate::otlp::Signal;
use crate::outbox::{Finalizer, OutboxOptions, OutboxPolicy};
use crate::record::SpanRecord;

/// A transport that answers by a script, and accepts everything when the script has ended.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Result<ExportReply, SendFailure>>>>,
    /// Bytes of the outbox on disk at each request.
    on_disk: Arc<Mutex<Vec<u64>>>,
    directory: PathBuf,
}

impl Transport for Scripted {
    fn component(&self, _: Signal) -> &'static str {
        "scripted"
    }

    async fn send(&mut self, _: RequestPieces) -> Result<ExportReply, SendFailure> {
        crate::sync::lock(&self.on_disk).push(bytes_below(&self.directory, "segment"));
        let answer = crate::sync::lock(&self.answers).pop_front();
        answer.unwrap_or(Ok(ExportReply { rejected: 0, message: String::new() }))
    }

    fn reconnect(&mut self) {}
}

fn bytes_below(directory: &std::path::Path, extension: &str) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.path() {
        path if path.is_dir() => bytes_below(&path, extension),
        path if path.extension().is_some_and(|it| it == extension) => {
            path.metadata().map_or(0, |metadata| metadata.len())
        }
        _ => 0,
    });
    sizes.sum()
}

struct Rig {
    sink: OutboxSink<Scripted>,
    outbox: Arc<Outbox>,
    collector: Scripted,
}

impl Rig {
    fn new() -> Self {
        let name = format!("tracing-feedback-sink-{:?}", std::thread::current().id());
        let directory = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let options = OutboxOptions::new(&directory).with_policy(OutboxPolicy::WriteAhead);
        let outbox = Outbox::open(options, Signal::Traces, Vec::new(), Vec::new()).unwrap();
        let collector = Scripted { directory, ..Scripted::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = OtlpClient::new(Signal::Traces, runtime, Duration::from_secs(5), || {
            Ok::<_, std::convert::Infallible>(collector.clone())
        });
        let resource = Resource::builder_empty().build();
        let sink = OutboxSink::new(client.unwrap(), &resource, outbox.clone());
        Self { sink, outbox, collector }
    }

    fn answer(&self, answer: Result<ExportReply, SendFailure>) {
        crate::sync::lock(&self.collector.answers).push_back(answer);
    }

    fn requests(&self) -> usize {
        crate::sync::lock(&self.collector.on_disk).len()
    }

    fn export(&mut self, batch: Batch) -> Delivery {
        self.sink.export(vec![batch], &Backpressure::default())
    }

    fn catch_up(&mut self) -> Delivery {
        self.sink.catch_up(&Backpressure::default())
    }
}

impl std::ops::Drop for Rig {
    fn drop(&mut self) {
        self.outbox.close();
        let _ = std::fs::remove_dir_all(&self.collector.directory);
    }
}

fn batch(finalizer: Option<Finalizer>) -> Batch {
    let scope = Arc::new(InstrumentationScope::builder("sink").build());
    let mut batch = Batch::new(&scope);
    let mut record = SpanRecord { feedback: finalizer.is_some(), ..SpanRecord::default() };
    finalizer.into_iter().for_each(|finalizer| record.details.finalizers.push(finalizer));
    batch.add(&mut record);
    batch
}

fn permanent() -> Result<ExportReply, SendFailure> {
    Err(SendFailure::Permanent { message: "500: it trips over this".to_owned() })
}

fn retryable() -> Result<ExportReply, SendFailure> {
    // Longer than a request may take under backpressure.
    Err(SendFailure::Retryable { message: "503".to_owned(), wait: Some(Duration::from_secs(60)) })
}

#[test]
fn what_was_written_ahead_is_durable_before_its_span_leaves() {
    let mut rig = Rig::new();
    for _ in 0..20 {
        let before = bytes_below(&rig.collector.directory, "segment");
        let part = vec![b'x'; 10_000];
        let finalizer = rig.outbox.hold(part, false, 1).unwrap();
        assert_eq!(rig.export(batch(Some(finalizer))).exported, 1);
        let on_disk = *crate::sync::lock(&rig.collector.on_disk).last().unwrap();
        assert!(on_disk >= before + 10_000, "{before} {on_disk}");
    }
}

#[test]
fn a_request_from_disk_that_the_collector_trips_over_does_not_keep_new_spans_from_it() {
    let mut rig = Rig::new();
    rig.answer(retryable());
    assert_eq!(rig.export(batch(None)).exported, 0); // it is on disk now
    assert!(rig.sink.live.is_open(Instant::now()));
    rig.sink.live = CircuitBreaker::default(); // time has passed
    for strike in 1..=MOST_STRIKES {
        rig.answer(permanent());
        assert_eq!(rig.catch_up().exported, 0);
        assert!(rig.sink.stored.is_open(Instant::now()), "{strike}");
        assert_eq!(rig.export(batch(None)).exported, 1, "{strike}");
        let reading = rig.outbox.usage();
        assert_eq!((reading.spans, reading.rejected), (1, 0), "{strike}");
    }
    // It has failed too often: it is in the `rejected` files now, and nothing is stored.
    rig.answer(permanent());
    let delivery = rig.catch_up();
    assert_eq!(delivery.rejected.map(|(spans, ..)| spans), Some(1));
    let reading = rig.outbox.usage();
    assert_eq!((reading.spans, reading.rejected), (0, 1));
}

#[test]
fn without_new_spans_a_request_from_disk_is_never_given_up() {
    let mut rig = Rig::new();
    rig.answer(retryable());
    rig.export(batch(None));
    for _ in 0..3 * MOST_STRIKES {
        rig.answer(permanent());
        assert!(rig.catch_up().rejected.is_none());
    }
    assert_eq!(rig.catch_up().exported, 1);
}

#[test]
fn while_the_collector_is_away_new_spans_go_to_disk_without_asking_it() {
    let mut rig = Rig::new();
    rig.answer(retryable());
    for _ in 0..10 {
        let delivery = rig.export(batch(None));
        assert_eq!((delivery.exported, delivery.failed), (0, None));
    }
    assert_eq!((rig.requests(), rig.outbox.usage().spans), (1, 10));
    assert_eq!(rig.catch_up().exported, 10);
    assert_eq!(rig.requests(), 2);
    assert_eq!(rig.export(batch(None)).exported, 1); // and the circuit is closed again
}

#[test]
fn a_stored_span_on_which_the_collector_always_fails_does_not_block_the_others() {
    let mut rig = Rig::new();
    let silent = || {
        let message = "the collector did not answer in time".to_owned();
        Err(SendFailure::Retryable { message, wait: None })
    };
    // Five spans go to disk.
    rig.answer(retryable());
    rig.export(batch(None));
    for _ in 0..4 {
        rig.export(batch(None)); // the circuit is open
    }
    rig.sink.live = CircuitBreaker::default();
    assert_eq!(rig.outbox.usage().spans, 5);
    // Live spans are accepted, and the first stored one makes each request fail.
    for strike in 1..=MOST_STRIKES {
        assert_eq!(rig.export(batch(None)).exported, 1);
        rig.answer(silent());
        let delivery = rig.catch_up();
        assert_eq!(delivery.rejected.is_some(), strike == MOST_STRIKES, "{strike}");
        assert!(!rig.sink.live.has_failed(), "{strike}: live spans go on");
    }
    assert_eq!(rig.catch_up().exported, 4);
    assert_eq!(rig.outbox.usage().spans, 0);
    assert_eq!(rig.outbox.usage().rejected, 1);
}

#[test]
fn a_large_stored_span_on_which_the_collector_always_fails_is_cut_before_it_is_given_up() {
    let mut rig = Rig::new();
    let cut_off = || {
        let message = "connection reset".to_owned();
        Err(SendFailure::Retryable { message, wait: None })
    };
    let scope = Arc::new(InstrumentationScope::builder("sink").build());
    let mut large = Batch::new(&scope);
    let mut record = SpanRecord::default();
    record.attributes.push("body", crate::otlp::attributes::ValueRef::Str(&"x".repeat(3 << 20)));
    large.add(&mut record);
    rig.answer(retryable());
    rig.export(large);
    rig.sink.live = CircuitBreaker::default();
    for strike in 1..=MOST_STRIKES {
        assert_eq!(rig.export(batch(None)).exported, 1);
        rig.answer(cut_off());
        let delivery = rig.catch_up();
        assert_eq!(delivery.exported, u64::from(strike == MOST_STRIKES), "{strike}");
        assert_eq!(delivery.truncated, u64::from(strike == MOST_STRIKES), "{strike}");
    }
    assert_eq!(rig.outbox.usage().spans, 0);
}
