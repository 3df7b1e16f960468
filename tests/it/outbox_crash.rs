//! The outbox of processes that are killed: this test binary, started again for a single test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};
use tracing::info_span;
use tracing_feedback::collector::{Answer, Collector, ReceivedSpan};
use tracing_feedback::{
    Builder, OutboxOptions, OutboxPolicy, SpanExt, Telemetry, enrich, enrich_session, enrich_span,
};
use tracing_subscriber::prelude::*;

use crate::Rig;

/// The variable with the outbox directory of a process that was started to be killed.
const DIRECTORY: &str = "TRACING_FEEDBACK_TEST_CRASH";
/// Set where that process waits by a future.
const ASYNC: &str = "TRACING_FEEDBACK_TEST_ASYNC";
/// The status of a process that ended in the middle of its work, as it was to.
const CRASHED: i32 = 86;
const SOON: Duration = Duration::from_secs(60);

/// A directory that is removed after the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tracing-feedback-crash-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    /// How many processes have a part of it.
    fn parts(&self) -> usize {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().join("lock").exists()).count()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn written_ahead(builder: Builder, directory: &Path) -> Builder {
    let options = OutboxOptions::new(directory).with_policy(OutboxPolicy::WriteAhead);
    builder
        .with_timeout(Duration::from_millis(100))
        .with_schedule_delay(Duration::from_millis(100))
        .with_outbox(options)
}

fn rig(directory: &Directory) -> Rig {
    Rig::with(|builder| written_ahead(builder, &directory.0))
}

/// This test binary, for a single test.
fn other_process(test: &str, directory: &Directory) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("outbox_crash::{test}"), "--nocapture"])
        .env(DIRECTORY, &directory.0)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A test's other process.
struct Victim(Child);

impl Victim {
    /// Starts the process, and waits until it has reported that its feedback is acknowledged.
    fn start(test: &str, directory: &Directory) -> Self {
        let mut process = other_process(test, directory).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let victim = Self(process);
        let mut lines = output.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.ends_with("acknowledged")), "it printed nothing");
        victim
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `work` if this is the process that is to be killed, and reports when `flush` has
/// acknowledged it. Then it waits to be killed.
fn as_victim(work: impl FnOnce()) {
    as_process(|telemetry| {
        work();
        telemetry.flush().unwrap();
        println!("acknowledged");
        loop {
            std::thread::park();
        }
    });
}

/// Does something in the other process, if this is the one. No collector is there.
fn as_process(work: impl FnOnce(&Telemetry)) {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    // Nothing listens.
    let builder = tracing_feedback::builder().with_endpoint("http://127.0.0.1:9");
    let (layer, telemetry) = written_ahead(builder, Path::new(&directory)).build().unwrap();
    let _default = tracing_subscriber::registry().with(layer).set_default();
    work(&telemetry);
}

/// The feedback of the victims, on a span that never ends.
fn give_feedback() {
    let span = info_span!("answer");
    span.in_scope(|| {
        enrich_span!(feedback = { "rating": 1, "comment": "slow" });
        enrich_span!(feedback = { "rating": 5, "comment": null });
    });
    enrich_session!(session_id = "conversation-42", feedback = { "resolved": true });
    std::mem::forget(span);
}

/// Waits until the feedback of `n` victims has arrived.
fn assert_feedback_arrives(collector: &Collector, n: usize) {
    let spans = collector.wait_for_spans(3 * n, SOON).unwrap();
    let answers: Vec<_> = spans.iter().filter(|span| !span.links.is_empty()).collect();
    assert_eq!((spans.len(), answers.len()), (3 * n, 2 * n)); // two parts, and the session's
    for ReceivedSpan { links, .. } in answers {
        let feedback = collector.feedback(links[0].trace_id, links[0].span_id);
        assert_eq!(feedback.len(), 1, "{feedback:?}");
        assert_eq!(feedback["feedback.rating"], 5);
    }
    assert_eq!(collector.session_feedback("conversation-42")["feedback.resolved"], true);
}

#[test]
fn feedback_that_was_written_ahead_outlives_the_process() {
    as_victim(give_feedback);
    let directory = Directory::new();
    for _ in 0..2 {
        let test = "feedback_that_was_written_ahead_outlives_the_process";
        Victim::start(test, &directory).kill();
    }
    let rig = rig(&directory);
    assert_feedback_arrives(&rig.collector, 2);
    rig.telemetry.shutdown().unwrap();
    assert_eq!((rig.telemetry.stats().replayed, rig.telemetry.stats().outbox_spans), (6, 0));
    assert_eq!(directory.parts(), 0);
}

#[test]
fn feedback_that_was_persisted_outlives_a_crash_at_the_next_instruction() {
    as_process(|_| {
        give_feedback();
        // The one or the other: both would write what the other one should.
        let persisted = match std::env::var_os(ASYNC) {
            Some(_) => block_on(enrich::persist_async(SOON)),
            None => enrich::persist(SOON),
        };
        std::process::exit(if persisted.is_ok() { CRASHED } else { 1 });
    });
    let directory = Directory::new();
    for is_async in [false, true] {
        let test = "feedback_that_was_persisted_outlives_a_crash_at_the_next_instruction";
        let mut process = other_process(test, &directory);
        if is_async {
            process.env(ASYNC, "1");
        }
        assert_eq!(process.status().unwrap().code(), Some(CRASHED));
    }
    let rig = rig(&directory);
    assert_feedback_arrives(&rig.collector, 2);
    rig.telemetry.shutdown().unwrap();
    assert_eq!(directory.parts(), 0);
}

#[test]
fn a_process_adopts_what_another_leaves_behind_but_not_before() {
    as_victim(give_feedback);
    let directory = Directory::new();
    let test = "a_process_adopts_what_another_leaves_behind_but_not_before";
    let victim = Victim::start(test, &directory);
    let waiting = rig(&directory);
    waiting.run(|| info_span!("own").in_scope(|| ()));
    assert_eq!(waiting.telemetry.stats().outbox_spans, 0); // what lives is not touched
    assert_eq!(directory.parts(), 2);
    waiting.collector.clear();
    victim.kill();
    assert_feedback_arrives(&waiting.collector, 1); // it looks for ended processes now and then
    waiting.telemetry.shutdown().unwrap();
    assert_eq!(directory.parts(), 0);
}

#[test]
fn what_is_rejected_stays_where_it_is_while_no_file_can_be_written() {
    let directory = Directory::new();
    let rig = rig(&directory);
    rig.collector.answer_all(Some(Answer::Unavailable { retry_after: None }));
    let late = SpanContext::new(
        TraceId::from(7),
        SpanId::from(7),
        TraceFlags::SAMPLED,
        true,
        Default::default(),
    );
    rig.run(|| enrich_span!(target = &late, feedback = { "rating": 5 }));

    let (rejected, aside) = (directory.0.join("rejected"), directory.0.join("aside"));
    std::fs::rename(&rejected, &aside).unwrap();
    std::fs::write(&rejected, "no directory").unwrap();
    let n = rig.collector.requests().len();
    rig.collector.answer_all(Some(Answer::BadRequest { message: "no ratings".to_owned() }));
    rig.collector.wait_for_requests(n + 2, SOON).unwrap();
    assert_eq!((rig.telemetry.stats().dropped, rig.telemetry.stats().rejected), (0, 0));

    std::fs::remove_file(&rejected).unwrap();
    std::fs::rename(&aside, &rejected).unwrap();
    let until = Instant::now() + SOON;
    while rig.telemetry.stats().rejected == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = rig.telemetry.shutdown(); // it reports what was rejected
    let stats = rig.telemetry.stats();
    assert_eq!((stats.dropped, stats.rejected, stats.outbox_spans), (1, 1, 0));
}

#[test]
fn what_is_on_disk_does_not_count_as_lost_when_there_is_no_time_left() {
    let directory = Directory::new();
    let rig = rig(&directory);
    rig.collector.answer_all(Some(Answer::Silence));
    tracing::dispatcher::with_default(&rig.dispatch, || {
        let span = info_span!("answer");
        let target = span.span_context().unwrap();
        for rating in 0..100 {
            enrich_span!(target = &target, feedback = { "rating": rating });
        }
        std::mem::forget(span);
    });
    let _ = rig.telemetry.shutdown_within(Duration::ZERO);
    assert_eq!(rig.telemetry.stats().dropped_by_reason.get("timed_out"), None);
}
