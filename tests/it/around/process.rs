//! What a process can do to spans of a provider: it is forked or killed, its threads end, its environment
//! switches telemetry off. Each in a process of its own.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::{Span as _, TraceContextExt, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use tracing_feedback::collector::Collector;
use tracing_feedback::{
    Builder, EnrichError, OutboxOptions, OutboxPolicy, Session, TicketKeys, enrich, enrich_session,
    enrich_span,
};

use super::{batch, in_span, provider};
use crate::outbox::Directory;
use crate::rig::is_alone;

#[test]
fn the_environment_can_switch_feedback_off() {
    const DISABLED: &str = "OTEL_SDK_DISABLED";
    if std::env::var_os(DISABLED).is_none() {
        let test = "around::process::the_environment_can_switch_feedback_off";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(DISABLED, "true")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let collector = Collector::start().unwrap();
    let (processor, telemetry) =
        tracing_feedback::builder().build_around(batch(&collector)).unwrap();
    let provider = provider(processor).build();
    let answer = in_span(&provider.tracer("chat"), "answer", || {
        let outcome = enrich_span!(feedback = { "rating": 1 });
        assert_eq!(outcome.into_result(), Err(EnrichError::SdkDisabled));
        let outcome = enrich_session!(feedback = { "rating": 1 });
        assert_eq!(outcome.into_result(), Err(EnrichError::SdkDisabled));
        assert!(tracing_feedback::ticket().is_err());
    });
    let outcome = enrich_span!(target = answer, feedback = { "rating": 1 });
    assert_eq!(outcome.into_result(), Err(EnrichError::SdkDisabled));
    telemetry.flush().unwrap();
    // The provider is the service's own.
    provider.force_flush().unwrap();
    assert!(collector.spans().iter().all(|span| span.attributes.is_empty()));
    telemetry.shutdown().unwrap();
}

// ---- killed ------------------------------------------------------------------------------------------

/// The directory of the process that is to be killed.
const DIRECTORY: &str = "TRACING_FEEDBACK_TEST_AROUND_CRASH";

fn written_ahead(builder: Builder, directory: &std::path::Path) -> Builder {
    builder
        .with_timeout(Duration::from_millis(100))
        .with_schedule_delay(Duration::from_millis(100))
        .with_outbox(OutboxOptions::new(directory).with_policy(OutboxPolicy::WriteAhead))
}

#[test]
fn feedback_on_open_and_ended_spans_outlives_a_killed_process() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        // Nothing listens, neither for the spans nor for the feedback.
        let builder = tracing_feedback::builder().with_endpoint("http://127.0.0.1:9");
        let builder = written_ahead(builder, directory.as_ref());
        let (processor, _telemetry) =
            builder.build_around(super::lifetime::Discard::default()).unwrap();
        let provider = provider(processor).build();
        let tracer = provider.tracer("chat");
        let ended = in_span(&tracer, "ended", || {
            assert!(enrich_span!(feedback = { "rating": 1, "comment": "slow" }).is_ok());
            assert!(enrich_span!(feedback = { "rating": 2, "comment": null }).is_ok());
        });
        let open = Context::current_with_span(tracer.start("open"));
        let _active = open.clone().attach();
        assert!(enrich_span!(feedback = { "rating": 3 }).is_ok());
        assert!(enrich_session!(session_id = "s", feedback = { "resolved": true }).is_ok());
        enrich::persist(Duration::from_secs(60)).unwrap();
        let ids = |context: &opentelemetry::trace::SpanContext| {
            format!("{} {}", context.trace_id(), context.span_id())
        };
        println!("\npersisted {} {}", ids(&ended), ids(open.span().span_context()));
        loop {
            std::thread::park();
        }
    }
    let directory = Directory::new();
    let test = "around::process::feedback_on_open_and_ended_spans_outlives_a_killed_process";
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DIRECTORY, &directory.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.into_iter().find(|line| line.starts_with("persisted "));
    victim.kill().unwrap();
    victim.wait().unwrap();
    let line = line.expect("it printed nothing");
    let ids: Vec<_> = line.split(' ').skip(1).collect();

    let collector = Collector::start().unwrap();
    let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    let (processor, telemetry) = written_ahead(builder, &directory.0)
        .build_around(super::lifetime::Discard::default())
        .unwrap();
    let _provider = provider(processor).build();
    collector.wait_for_spans(4, Duration::from_secs(60)).unwrap();
    telemetry.shutdown().unwrap();
    let feedback = |trace: &str, span: &str| {
        let trace = opentelemetry::trace::TraceId::from_hex(trace).unwrap();
        collector.feedback(trace, opentelemetry::trace::SpanId::from_hex(span).unwrap())
    };
    let ended = feedback(ids[0], ids[1]);
    assert_eq!((ended.len(), &ended["feedback.rating"]), (1, &2.into()));
    assert_eq!(feedback(ids[2], ids[3])["feedback.rating"], 3);
    assert_eq!(collector.session_feedback("s")["feedback.resolved"], true);
}

// ---- forked ------------------------------------------------------------------------------------------

#[cfg(unix)]
#[test]
fn a_forked_process_says_so_and_never_hangs() {
    use ::fork::{Fork, fork, waitpid_nohang};

    if !is_alone(concat!(module_path!(), "::a_forked_process_says_so_and_never_hangs")) {
        return;
    }
    let collector = Collector::start().unwrap();
    let (processor, telemetry) =
        tracing_feedback::builder().build_around(batch(&collector)).unwrap();
    let provider = provider(processor).build();
    let tracer = provider.tracer("chat");
    let open = Context::current_with_span(tracer.start("open"));
    let _active = open.clone().attach();
    assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Other threads hold locks nearly all the time.
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    in_span(&tracer, "busy", || {
                        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
                    });
                }
            });
        }
        let mut children = Vec::new();
        for _ in 0..10 {
            match fork().unwrap() {
                Fork::Parent(child) => children.push(child),
                Fork::Child => {
                    let work = std::panic::AssertUnwindSafe(|| {
                        let refused = |outcome: tracing_feedback::Enrichment| {
                            assert_eq!(outcome.into_result(), Err(EnrichError::Forked));
                        };
                        // The fork is noticed when the system clock is read again.
                        let until = std::time::Instant::now() + Duration::from_secs(10);
                        while enrich_span!(feedback = { "rating": 2 }).is_ok() {
                            assert!(std::time::Instant::now() < until, "it isn't noticed");
                        }
                        refused(enrich_span!(feedback = { "rating": 2 }));
                        in_span(&tracer, "child", || {
                            refused(enrich_session!(session_id = "s", feedback = { "rating": 2 }));
                        });
                        refused(enrich_session!(session_id = "s", feedback = { "rating": 2 }));
                        open.span().end();
                        let _ = telemetry.flush();
                        let _ = telemetry.shutdown();
                    });
                    let worked = std::panic::catch_unwind(work);
                    std::process::exit(i32::from(worked.is_err()));
                }
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        for child in children {
            let status = loop {
                match waitpid_nohang(child).unwrap() {
                    None if std::time::Instant::now() > deadline => panic!("a child hangs"),
                    None => std::thread::sleep(Duration::from_millis(1)),
                    Some(status) => break status,
                }
            };
            assert_eq!(status, 0);
        }
    });
    open.span().end();
    telemetry.flush().unwrap();
    let spans = collector.spans();
    let opened: Vec<_> = spans.iter().filter(|span| span.name == "open").collect();
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].attributes["feedback.rating"], 1);
    assert!(spans.iter().all(|span| span.name != "child"));
}

// ---- threads that end --------------------------------------------------------------------------------

/// Acts when its thread ends.
struct Last(Option<(SdkTracer, Span)>);

impl Drop for Last {
    fn drop(&mut self) {
        let Some((_, mut span)) = self.0.take() else { return };
        drop(enrich_span!(feedback = { "rating": 2 }));
        drop(enrich_session!(feedback = { "rating": 2 }));
        let target = span.span_context().clone();
        assert!(enrich_span!(target = target, feedback = { "late": 3 }).is_ok());
        drop((Session::current(), tracing_feedback::ticket()));
        span.end();
    }
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last(None)) };
}

#[test]
fn the_last_destructor_of_a_thread_costs_no_panic() {
    if !is_alone(concat!(module_path!(), "::the_last_destructor_of_a_thread_costs_no_panic")) {
        return;
    }
    let collector = Collector::start().unwrap();
    let keys = TicketKeys::new([[7; 32]]).unwrap();
    let (processor, telemetry) =
        tracing_feedback::builder().with_ticket_keys(keys).build_around(batch(&collector)).unwrap();
    let provider = provider(processor).build();
    let tracer = provider.tracer("chat");
    // Thread-locals are destroyed in the reverse order of their creation.
    for is_last in [true, false] {
        let tracer = tracer.clone();
        let work = move || {
            if is_last {
                LAST.with_borrow_mut(|last| last.0 = None);
            }
            let span = tracer.start("kept");
            in_span(&tracer, "answer", || {
                assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
            });
            LAST.with_borrow_mut(|last| last.0 = Some((tracer, span)));
        };
        std::thread::spawn(work).join().unwrap();
    }
    telemetry.flush().unwrap();
    let spans = collector.spans();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert_eq!((named("kept"), named("answer"), named("feedback")), (2, 2, 2));
}
