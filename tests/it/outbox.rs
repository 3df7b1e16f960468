//! The outbox: what can't be delivered waits on disk, and arrives.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use tracing::info_span;
use tracing_feedback::collector::{Answer, Collector, ReceivedSpan};
use tracing_feedback::{
    BuildError, Builder, DropReason, OutboxOptions, OutboxPolicy, PersistError, Protocol, enrich,
    enrich_session, enrich_span,
};

use crate::Rig;
use crate::show::eventually;

const SOON: Duration = Duration::from_secs(30);
const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

/// A directory that is removed after the test.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tracing-feedback-outbox-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn options(&self) -> OutboxOptions {
        OutboxOptions::new(&self.0)
    }

    pub(crate) fn ahead(&self) -> OutboxOptions {
        self.options().with_policy(OutboxPolicy::WriteAhead)
    }

    /// All files under it, with these endings.
    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.0.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|it| it == extension) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A rig whose spans are exported at once, or put aside.
fn rig(protocol: Protocol, outbox: OutboxOptions) -> Rig {
    let collector = Collector::start().unwrap();
    let endpoint = match protocol {
        Protocol::Grpc => collector.endpoint().to_owned(),
        _ => collector.http_endpoint().to_owned(),
    };
    Rig::of(collector, |builder| {
        with_short_delays(builder)
            .with_protocol(protocol)
            .with_endpoint(endpoint)
            .with_outbox(outbox)
    })
}

fn with_short_delays(builder: Builder) -> Builder {
    builder.with_timeout(Duration::from_millis(300)).with_schedule_delay(Duration::from_millis(100))
}

/// So many different spans, once they have arrived: what was sent may come twice, if the answer was
/// late.
fn distinct_spans(collector: &Collector, n: usize) -> Vec<ReceivedSpan> {
    let until = Instant::now() + SOON;
    let mut requests = 0;
    loop {
        let mut seen = BTreeSet::new();
        let mut spans = collector.spans();
        spans.retain(|span| seen.insert((span.trace_id.to_bytes(), span.span_id.to_bytes())));
        if spans.len() >= n {
            assert_eq!(spans.len(), n);
            return spans;
        }
        assert!(Instant::now() < until, "{} of {n} spans arrived", spans.len());
        requests = requests.max(collector.requests().len()) + 1;
        let _ = collector.wait_for_requests(requests, Duration::from_millis(200));
    }
}

/// Some spans, the first of which is rated.
fn answers(n: usize) {
    for at in 0..n {
        info_span!("answer", at).in_scope(|| {
            if at == 0 {
                enrich_span!(feedback = { "rating": 5 });
            }
        });
    }
}

#[test]
fn what_an_outage_holds_up_arrives_afterwards() {
    for protocol in PROTOCOLS {
        for failure in [Answer::Unavailable { retry_after: None }, Answer::Cut, Answer::Silence] {
            let directory = Directory::new();
            let rig = rig(protocol, directory.options());
            rig.collector.answer_all(Some(failure));
            rig.run(|| answers(10)); // it is safe on disk, which is all that `flush` promises
            let stats = rig.telemetry.stats();
            assert_eq!((stats.outbox_spans, stats.dropped, stats.exported), (10, 0, 0));
            assert!(stats.outbox_bytes > 0 && stats.outbox_age.is_some());

            rig.collector.answer_all(None);
            let spans = distinct_spans(&rig.collector, 10);
            assert_eq!(spans.len(), 10);
            assert!(spans.iter().all(|span| span.name == "answer"));
            assert_eq!(spans[0].attributes["feedback.rating"], 5); // feedback first
            // On a busy machine an answer may come too late, and the spans are sent once more.
            eventually(|| rig.telemetry.stats().outbox_spans == 0);
            rig.telemetry.shutdown().unwrap();
            let stats = rig.telemetry.stats();
            assert_eq!((stats.outbox_spans, stats.replayed, stats.exported), (0, 10, 10));
            assert_eq!(directory.files("segment"), [] as [PathBuf; 0]);
        }
    }
}

#[test]
fn what_is_written_ahead_and_arrives_is_on_disk_no_more() {
    for protocol in PROTOCOLS {
        let directory = Directory::new();
        let rig = rig(protocol, directory.ahead());
        rig.run(|| answers(10));
        assert_eq!(rig.collector.spans().len(), 10); // and no carrier
        rig.telemetry.shutdown().unwrap();
        let stats = rig.telemetry.stats();
        assert_eq!((stats.exported, stats.replayed, stats.outbox_spans), (10, 0, 0));
        assert_eq!(directory.files("segment"), [] as [PathBuf; 0]);
    }
}

#[test]
fn what_one_process_leaves_behind_the_next_one_sends() {
    let directory = Directory::new();
    let left = rig(Protocol::Grpc, directory.options());
    left.collector.answer_all(Some(Answer::Unavailable { retry_after: None }));
    left.run(|| answers(10));
    left.telemetry.shutdown().unwrap();
    assert_eq!(directory.files("segment").len(), 2);

    let next = rig(Protocol::Grpc, directory.options());
    let spans = distinct_spans(&next.collector, 10);
    assert_eq!(spans.len(), 10);
    assert_eq!(left.collector.spans(), []);
    // As they were recorded: by the other one.
    assert!(spans.iter().all(|span| span.scope.name == "tracing-feedback"));
    next.telemetry.shutdown().unwrap();
    assert_eq!(directory.files("segment"), [] as [PathBuf; 0]);
}

#[test]
fn spans_keep_the_resource_they_were_recorded_under() {
    let directory = Directory::new();
    let build = |name: &str| {
        let collector = Collector::start().unwrap();
        let name = name.to_owned();
        Rig::of(collector, |builder| {
            with_short_delays(builder).with_service_name(name).with_outbox(directory.options())
        })
    };
    let first = build("first");
    first.collector.answer_all(Some(Answer::Cut));
    first.run(|| answers(2));
    first.telemetry.shutdown().unwrap();
    let second = build("second");
    second.collector.answer_all(Some(Answer::Cut));
    second.run(|| answers(1));
    second.collector.answer_all(None);
    let spans = distinct_spans(&second.collector, 3);
    let mut names: Vec<_> =
        spans.iter().map(|span| span.resource["service.name"].as_str().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["first", "first", "second"]);
    second.telemetry.shutdown().unwrap();
}

#[test]
fn what_is_rejected_stands_in_a_file_with_the_reason() {
    for protocol in PROTOCOLS {
        let directory = Directory::new();
        let rig = rig(protocol, directory.options());
        let no = || Answer::BadRequest { message: "no such tenant".to_owned() };
        // The whole request; then the feedback by itself, and the others.
        for answer in [no(), Answer::Accept, no()] {
            rig.collector.answer_next(answer);
        }
        tracing::dispatcher::with_default(&rig.dispatch, || answers(5));
        let error = rig.telemetry.flush().unwrap_err();
        assert_eq!((error.lost(), error.pending()), (4, 0));
        let [loss] = error.losses() else { panic!("{error:?}") };
        assert_eq!((loss.reason, loss.spans), (DropReason::Rejected, 4));
        assert!(loss.message.as_ref().unwrap().contains("no such tenant"), "{error}");
        // Feedback is looked at by itself: it was others that the collector didn't like.
        let spans = rig.collector.spans();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].attributes["feedback.rating"], 5);

        rig.collector.answer_next(no());
        tracing::dispatcher::with_default(&rig.dispatch, || answers(1));
        assert_eq!(rig.telemetry.flush().unwrap_err().lost(), 1);
        rig.telemetry.shutdown().unwrap();
        let stats = rig.telemetry.stats();
        assert_eq!((stats.rejected, stats.dropped_by_reason["rejected"]), (5, 5));
        assert_eq!((stats.exported, stats.dropped_feedback, stats.outbox_spans), (1, 1, 0));
        assert!(stats.outbox_bytes > 0);
        let rejected = directory.files("segment");
        let rejected: Vec<_> = rejected.iter().map(|path| std::fs::read(path).unwrap()).collect();
        let text = String::from_utf8_lossy(&rejected.concat()).into_owned();
        assert!(text.contains("no such tenant") && text.contains("feedback.rating"));
    }
}

#[test]
fn of_a_partial_success_feedback_is_sent_once_more_to_learn_its_fate() {
    for protocol in PROTOCOLS {
        let directory = Directory::new();
        let rig = rig(protocol, directory.options());
        // The reply doesn't say which: here it is the feedback, the first span of the request.
        let partial = |rejected| Answer::PartialSuccess { rejected, message: "quota".to_owned() };
        rig.collector.answer_next(partial(2));
        tracing::dispatcher::with_default(&rig.dispatch, || answers(5));
        let error = rig.telemetry.flush().unwrap_err();
        assert_eq!(error.lost(), 2);
        let rated = |rig: &Rig| {
            let spans = rig.collector.spans();
            spans.iter().filter(|span| span.attributes.contains_key("feedback.rating")).count()
        };
        assert!(rated(&rig) >= 1);
        rig.telemetry.shutdown().unwrap();
        let stats = rig.telemetry.stats();
        assert_eq!((stats.exported, stats.rejected, stats.dropped_feedback), (3, 2, 0));
        let rejected = std::fs::read(&directory.files("segment")[0]).unwrap();
        assert!(String::from_utf8_lossy(&rejected).contains("2 of these 4 spans: quota"));
    }
}

#[test]
fn a_collector_that_refuses_the_sender_is_asked_again() {
    let directory = Directory::new();
    let collector = Collector::start().unwrap();
    // There is nothing at this path.
    let wrong_path = format!("{}/nowhere/v1/traces", collector.http_endpoint());
    let left = Rig::of(collector, |builder| {
        with_short_delays(builder)
            .with_protocol(Protocol::HttpProtobuf)
            .with_endpoint(wrong_path)
            .with_outbox(directory.options())
    });
    left.run(|| answers(3));
    left.telemetry.shutdown().unwrap();
    let stats = left.telemetry.stats();
    assert_eq!((stats.outbox_spans, stats.dropped, stats.rejected), (3, 0, 0));

    let next = rig(Protocol::HttpProtobuf, directory.options());
    assert_eq!(distinct_spans(&next.collector, 3).len(), 3);
}

#[test]
fn a_request_from_disk_that_is_too_large_is_sent_in_parts() {
    let directory = Directory::new();
    let rig = rig(Protocol::Grpc, directory.options());
    rig.collector.answer_all(Some(Answer::Unavailable { retry_after: None }));
    rig.run(|| answers(20)); // one with feedback, and nineteen in one piece
    let too_large = Answer::ResourceExhausted { retry_after: None };
    // All spans together; then the feedback, and the others, which go back to disk in two parts.
    for answer in [too_large.clone(), Answer::Accept, too_large.clone(), too_large] {
        rig.collector.answer_next(answer);
    }
    rig.collector.answer_all(None);
    let spans = distinct_spans(&rig.collector, 20);
    assert_eq!(spans.len(), 20);
    rig.telemetry.shutdown().unwrap();
    let stats = rig.telemetry.stats();
    assert_eq!((stats.exported, stats.dropped, stats.rejected, stats.outbox_spans), (20, 0, 0, 0));
}

#[test]
fn two_layers_share_a_directory() {
    let directory = Directory::new();
    let [one, other] = [(); 2].map(|()| rig(Protocol::Grpc, directory.options()));
    for rig in [&one, &other] {
        rig.collector.answer_all(Some(Answer::Cut));
        rig.run(|| answers(4));
    }
    assert_eq!((one.telemetry.stats().outbox_spans, other.telemetry.stats().outbox_spans), (4, 4));
    for rig in [&one, &other] {
        rig.collector.answer_all(None);
        assert_eq!(distinct_spans(&rig.collector, 4).len(), 4);
        rig.telemetry.shutdown().unwrap();
    }
    assert_eq!(directory.files("segment"), [] as [PathBuf; 0]);
}

#[test]
fn a_handle_that_is_dropped_puts_aside_what_is_left() {
    let directory = Directory::new();
    let collector = Collector::start().unwrap();
    collector.answer_all(Some(Answer::Silence));
    // A request would wait for its response longer than there is time.
    let rig = Rig::of(collector, |builder| {
        builder.with_timeout(Duration::from_secs(60)).with_outbox(directory.options())
    });
    tracing::dispatcher::with_default(&rig.dispatch, || {
        answers(3);
        let open = info_span!("open");
        open.in_scope(|| enrich_span!(feedback = { "rating": 1 }));
        std::mem::forget(open); // it is never closed
    });
    let Rig { telemetry, dispatch, collector, .. } = rig;
    drop(telemetry);
    drop((dispatch, collector));

    let next = self::rig(Protocol::Grpc, directory.options());
    let spans = distinct_spans(&next.collector, 4);
    assert_eq!(spans.iter().filter(|span| span.is_carrier()).count(), 1);
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_an_outbox() {
    use std::os::unix::fs::PermissionsExt;

    let directory = Directory::new();
    let rig = rig(Protocol::Grpc, directory.options());
    rig.collector.answer_all(Some(Answer::Cut));
    rig.run(|| answers(2));
    let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    let segments = directory.files("segment");
    assert_eq!(segments.len(), 2);
    for segment in &segments {
        assert_eq!(mode(segment), 0o600);
        let line = segment.parent().unwrap();
        let own = line.parent().unwrap();
        for directory in [line, own, own.parent().unwrap()] {
            assert_eq!(mode(&directory.to_owned()), 0o700);
        }
        assert_eq!(mode(&own.join("lock")), 0o600);
    }
}

#[test]
fn a_directory_that_can_not_be_had_is_an_error_that_names_it() {
    let directory = Directory::new();
    std::fs::write(&directory.0, "a file").unwrap();
    let error = tracing_feedback::builder().with_outbox(directory.options()).build().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BuildError::Outbox { .. }), "{text}");
    assert!(text.contains(&*directory.0.to_string_lossy()), "{text}");
    std::fs::remove_file(&directory.0).unwrap();
}

#[test]
fn flush_says_why_feedback_is_not_on_disk() {
    let directory = Directory::new();
    let rig = rig(Protocol::Grpc, directory.ahead());
    std::fs::remove_dir_all(&directory.0).unwrap(); // nothing can be written there now
    tracing::dispatcher::with_default(&rig.dispatch, || {
        let span = info_span!("answer");
        assert!(enrich_span!(span = &span, feedback = { "rating": 5 }).is_ok());
        let error = rig.telemetry.flush().unwrap_err();
        assert_eq!((error.lost(), error.pending(), error.losses()), (0, 0, [].as_slice()));
        let Some(PersistError::Write { kind: std::io::ErrorKind::NotFound, message }) =
            error.outbox()
        else {
            panic!("{error:?}");
        };
        let text = format!("feedback could not be written to the outbox: {message}");
        assert_eq!(error.to_string(), text);
    });
    // In memory it is safe: the collector takes it.
    rig.telemetry.flush().unwrap();
    assert_eq!(rig.collector.spans()[0].attributes["feedback.rating"], 5);
    let _ = rig.telemetry.shutdown();
}

#[test]
fn persist_says_why_feedback_is_not_on_disk() {
    let directory = Directory::new();
    let rig = rig(Protocol::Grpc, directory.ahead());
    std::fs::remove_dir_all(&directory.0).unwrap(); // nothing can be written there now
    tracing::dispatcher::with_default(&rig.dispatch, || {
        let span = info_span!("answer");
        assert!(enrich_span!(span = &span, feedback = { "rating": 5 }).is_ok());
        for result in [enrich::persist(SOON), block_on(enrich::persist_async(SOON))] {
            let is_not_found = |error: &PersistError| {
                matches!(error, PersistError::Write { kind: std::io::ErrorKind::NotFound, .. })
            };
            assert!(result.as_ref().is_err_and(is_not_found), "{result:?}");
        }
    });
    // What is not on disk is not lost: it arrives.
    rig.telemetry.flush().unwrap();
    assert_eq!(rig.collector.spans()[0].attributes["feedback.rating"], 5);
    let _ = rig.telemetry.shutdown();
}

#[test]
fn persist_waits_for_nothing_where_nothing_is_written_ahead() {
    // With these limits, anything that is waited for is an error.
    let persist = || {
        enrich_session!(session_id = "conversation-42", feedback = { "resolved": true });
        enrich::persist(Duration::ZERO).unwrap();
        block_on(enrich::persist_async(Duration::ZERO)).unwrap();
    };
    persist(); // no layer
    let directory = Directory::new();
    for rig in [Rig::new(), rig(Protocol::Grpc, directory.options())] {
        rig.collector.answer_all(Some(Answer::Unavailable { retry_after: None }));
        tracing::dispatcher::with_default(&rig.dispatch, persist);
        rig.collector.answer_all(None);
        rig.telemetry.shutdown().unwrap();
        tracing::dispatcher::with_default(&rig.dispatch, persist); // it has ended
    }
}

#[test]
fn what_was_persisted_is_on_disk() {
    let directory = Directory::new();
    let rig = rig(Protocol::Grpc, directory.ahead());
    rig.collector.answer_all(Some(Answer::Unavailable { retry_after: None }));
    let is_on_disk = |comment: &str| {
        let files = directory.files("segment");
        let contents = files.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
        String::from_utf8_lossy(&contents.concat()).contains(comment)
    };
    tracing::dispatcher::with_default(&rig.dispatch, || {
        let _span = info_span!("answer").entered();
        for at in 0..20 {
            let comment = format!("comment-{at}.");
            assert!(enrich_span!(feedback = { "comment": &comment }).is_ok());
            match at % 2 {
                0 => enrich::persist(SOON).unwrap(),
                _ => block_on(enrich::persist_async(SOON)).unwrap(),
            }
            assert!(is_on_disk(&comment), "{comment}");
        }
    });
    rig.collector.answer_all(None);
    rig.telemetry.shutdown().unwrap();
    tracing::dispatcher::with_default(&rig.dispatch, || enrich::persist(Duration::ZERO).unwrap());
}

#[test]
fn an_exporter_that_sends_no_encoded_spans_can_have_no_outbox() {
    let directory = Directory::new();
    let json = tracing_feedback::builder()
        .with_protocol(Protocol::HttpJson)
        .with_endpoint("http://127.0.0.1:9")
        .with_outbox(directory.options());
    assert!(matches!(json.build(), Err(BuildError::OutboxWithoutOtlp)));
    assert!(!directory.0.exists());
}

#[test]
fn feedback_that_finds_the_queue_full_is_sent_from_disk() {
    let directory = Directory::new();
    let collector = Collector::start().unwrap();
    collector.answer_all(Some(Answer::Silence));
    let rig = Rig::of(collector, |builder| {
        with_short_delays(builder)
            .with_max_queue_bytes(2048)
            .with_timeout(Duration::from_secs(3))
            .with_outbox(directory.ahead())
    });
    let outcomes: Vec<_> = tracing::dispatcher::with_default(&rig.dispatch, || {
        // Of another service: a span of our own would have to find room beside the feedback.
        let target = SpanContext::new(
            TraceId::from(1),
            SpanId::from(2),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        (0..50)
            .map(|at| {
                let id = at.to_string();
                enrich_span!(target = &target, id = id, feedback = { "rating": at })
            })
            .collect()
    });
    assert!(outcomes.iter().all(|outcome| outcome.is_ok()), "{outcomes:?}");
    rig.telemetry.flush().unwrap();
    rig.collector.answer_all(None);
    let is_there = |rig: &Rig| {
        let spans = rig.collector.spans();
        let ratings = spans.iter().filter_map(|span| span.attributes.get("feedback.rating"));
        ratings.map(|rating| rating.to_string()).collect::<BTreeSet<_>>().len()
    };
    let until = Instant::now() + SOON;
    let mut n = 1;
    while is_there(&rig) < 50 && Instant::now() < until {
        let _ = rig.collector.wait_for_requests(n, Duration::from_secs(1));
        n += 1;
    }
    assert_eq!(is_there(&rig), 50);
    rig.telemetry.shutdown().unwrap();
    assert_eq!(rig.telemetry.stats().dropped_feedback, 0);
}

#[test]
fn a_span_that_is_enriched_for_ever_is_written_down_in_few_parts() {
    let directory = Directory::new();
    let rig = rig(Protocol::Grpc, directory.ahead());
    tracing::dispatcher::with_default(&rig.dispatch, || {
        let span = info_span!("worker");
        for at in 0..1000 {
            let outcome = enrich_span!(span = &span, feedback = { "rating": at, "seen": true });
            assert!(outcome.is_ok());
        }
        rig.telemetry.flush().unwrap(); // the span is open, and what was said of it durable
        let stored = rig.telemetry.stats().outbox_spans;
        // Some dozens, and as many again of those that are about to be deleted.
        assert!((1..200).contains(&stored), "{stored}");
    });
    rig.telemetry.flush().unwrap();
    let spans = rig.collector.spans();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].attributes["feedback.rating"], 999);
    rig.telemetry.shutdown().unwrap();
    assert_eq!(directory.files("segment"), [] as [PathBuf; 0]);
}

#[test]
fn feedback_that_was_taken_back_leaves_nothing_to_be_sent() {
    let directory = Directory::new();
    let rig = rig(Protocol::Grpc, directory.ahead());
    rig.run(|| {
        let _turn = info_span!("turn", session.id = "conversation-7").entered();
        enrich_span!(feedback = { "rating": 5 });
        enrich_span!(feedback = { "rating": null });
        enrich_session!(feedback = { "resolved": true });
    });
    rig.telemetry.shutdown().unwrap();
    let spans = rig.collector.spans();
    assert_eq!(spans.len(), 1, "{spans:?}"); // and no carrier of what was taken back
    assert_eq!(spans[0].attributes["feedback.resolved"], true);
    assert_eq!(directory.files("segment"), [] as [PathBuf; 0]);
}
