//! The layer as a drop-in: what of `tracing` arrives, and as what.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, ShouldSample, SpanLimits,
};
use tracing::field::Empty;
use tracing::instrument::WithSubscriber;
use tracing::{Dispatch, debug_span, dispatcher, error, info, info_span, instrument, warn};
use tracing_feedback::{
    Builder, Convention, EnrichError, FeedbackLayer, SpanExt, enrich_session, enrich_span,
    propagation,
};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

use crate::rig::is_alone;
use crate::show::{self, Log, attributes, events, is_child, one, status, with_timeout};
use crate::{Rig, build};

#[derive(Debug)]
struct Failure(&'static str, Option<Box<Failure>>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|cause| cause as _)
    }
}

fn failure() -> Failure {
    let cause = Failure("connection refused", Some(Box::new(Failure("no route", None))));
    Failure("request failed", Some(Box::new(cause)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

// ---- functions ---------------------------------------------------------------------------------

#[instrument]
fn outer(question: &str) -> usize {
    inner(question.len(), question)
}

#[instrument(name = "renamed", skip(_unused), fields(doubled = 2 * length))]
fn inner(length: usize, _unused: &str) -> usize {
    info!(length, "measured");
    length
}

#[instrument]
async fn outer_async(n: u32) -> u32 {
    tokio::task::yield_now().await;
    let (a, b) = tokio::join!(inner_async(n), inner_async(n + 1));
    a + b
}

#[instrument]
async fn inner_async(n: u32) -> u32 {
    tokio::task::yield_now().await;
    info!(n, "slept");
    n
}

#[instrument(err)]
fn fails() -> Result<(), Failure> {
    Err(failure())
}

#[instrument(err(Debug))]
async fn fails_async() -> Result<(), Failure> {
    Err(Failure("late", None))
}

#[test]
fn functions_become_spans() {
    let rig = Rig::new();
    assert_eq!(rig.run(|| outer("why?")), 4);
    assert_eq!(rig.collector.tree(), "outer\n  renamed\n");
    assert_eq!(attributes(&one(&rig.collector, "outer")), r#"question="why?""#);
    let inner = one(&rig.collector, "renamed");
    assert_eq!(attributes(&inner), "doubled=8 length=4");
    let target = module_path!();
    assert_eq!(events(&inner), format!("measured: length=4 level=\"INFO\" target=\"{target}\"\n"));
    assert_eq!((inner.kind.clone(), status(&inner).as_str()), (SpanKind::Internal, "unset"));
}

#[test]
fn concurrent_async_functions_keep_apart() {
    let rig = Rig::new();
    assert_eq!(rig.run(|| runtime().block_on(outer_async(1))), 3);
    assert_eq!(rig.collector.tree(), "outer_async\n  inner_async\n  inner_async\n");
    for span in rig.collector.spans().iter().filter(|span| span.name == "inner_async") {
        assert_eq!(span.events.len(), 1);
        assert_eq!(span.events[0].attributes["n"], span.attributes["n"]);
    }
}

#[test]
fn returned_errors_become_exceptions_and_status() {
    let rig = Rig::new();
    rig.run(|| {
        fails().unwrap_err();
        runtime().block_on(fails_async()).unwrap_err();
    });
    let target = module_path!();
    let span = one(&rig.collector, "fails");
    assert_eq!(status(&span), "error: request failed");
    assert_eq!(
        events(&span),
        format!(
            "exception: exception.message=\"request failed\" level=\"ERROR\" target=\"{target}\"\n"
        )
    );
    let span = one(&rig.collector, "fails_async");
    assert_eq!(status(&span), "error: Failure(\"late\", None)");
}

// ---- fields ------------------------------------------------------------------------------------

#[test]
fn fields_of_every_type() {
    let rig = Rig::new();
    rig.run(|| {
        let error = failure();
        info_span!(
            "fields",
            bool = true,
            debug = ?Some("x"),
            display = %std::net::Ipv4Addr::LOCALHOST,
            empty = Empty,
            f64 = 1.0,
            i128 = i128::MIN,
            i128_small = 5_i128,
            i64 = i64::MIN,
            none = None::<u8>,
            problem = &error as &(dyn Error + 'static),
            some = Some(3_u8),
            str = "text",
            u128 = u128::MAX,
            u64 = i64::MAX as u64,
            u64_big = u64::MAX,
        );
    });
    let span = one(&rig.collector, "fields");
    let shown: Vec<_> =
        span.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        shown,
        [
            "bool=true",
            "debug=\"Some(\\\"x\\\")\"",
            "display=\"127.0.0.1\"",
            "exception.message=\"request failed\"",
            "exception.stacktrace=\"request failed\\nCaused by: connection refused\\nCaused by: no route\"",
            "f64=1.0",
            "i128=\"-170141183460469231731687303715884105728\"",
            "i128_small=5",
            "i64=-9223372036854775808",
            "problem=\"request failed\"",
            "problem.chain=[\"connection refused\",\"no route\"]",
            "some=3",
            "str=\"text\"",
            "u128=\"340282366920938463463374607431768211455\"",
            "u64=9223372036854775807",
            "u64_big=\"18446744073709551615\"",
        ]
    );
}

#[test]
fn fields_recorded_later_and_twice() {
    let rig = Rig::new();
    rig.run(|| {
        let span = info_span!("fields", early = Empty, entered = Empty, twice = 1, never = Empty);
        span.record("early", "yes");
        span.in_scope(|| {
            tracing::Span::current().record("entered", 7);
        });
        span.record("twice", "now text");
        span.record("early", "again");
        span.record("unknown", 1);
        // Twice in one call.
        info_span!("once", key = 1, { "key" } = 2);
    });
    let span = one(&rig.collector, "fields");
    assert_eq!(attributes(&span), r#"early="again" entered=7 twice="now text""#);
    assert_eq!(attributes(&one(&rig.collector, "once")), "key=2");
}

#[test]
fn special_fields_at_creation() {
    let rig = Rig::new();
    rig.run(|| {
        info_span!(
            "static",
            otel.name = %format_args!("GET {}", "/chat"),
            otel.kind = "Server",
            otel.status_code = "error",
            otel.status_description = "broken",
        );
        info_span!("ok", otel.kind = ?SpanKind::Client, otel.status_code = "OK");
        info_span!("nonsense", otel.kind = "sideways", otel.status_code = "maybe");
        info_span!("unset", otel.status_code = "unset");
    });
    let span = one(&rig.collector, "GET /chat");
    assert_eq!((span.kind.clone(), status(&span)), (SpanKind::Server, "error: broken".to_owned()));
    let span = one(&rig.collector, "ok");
    assert_eq!((span.kind.clone(), status(&span)), (SpanKind::Client, "ok".to_owned()));
    let span = one(&rig.collector, "nonsense");
    assert_eq!((span.kind.clone(), status(&span)), (SpanKind::Internal, "unset".to_owned()));
    // A value that can't be used stays visible.
    assert_eq!(attributes(&span), "otel.kind=\"sideways\" otel.status_code=\"maybe\"");
    assert_eq!(attributes(&one(&rig.collector, "unset")), "");
    let spans = rig.collector.spans();
    let plain = spans.iter().filter(|span| span.attributes.is_empty()).count();
    assert_eq!(plain, spans.len() - 1);
}

#[test]
fn a_field_that_is_no_session_id_stays_visible() {
    let rig = Rig::new();
    rig.run(|| {
        let refused = info_span!("refused", session.id = "two words").entered();
        info_span!("below").in_scope(|| ());
        refused.record("session.id", "now-valid");
        drop(refused);
        info_span!("of a session", session.id = "s").in_scope(|| {
            info_span!("inside", session.id = "two words").in_scope(|| ());
        });
        info_span!("number", session.id = 17, a = 1).in_scope(|| ());
        info_span!("only refused", session.id = "").in_scope(|| ());
    });
    let of = |name: &str| attributes(&one(&rig.collector, name));
    assert_eq!(of("refused"), "session.id=\"now-valid\"");
    assert_eq!(of("below"), "");
    assert_eq!(of("inside"), "session.id=\"s\"");
    assert_eq!(of("number"), "a=1 session.id=\"17\"");
    assert_eq!(of("only refused"), "session.id=\"\"");
    assert_eq!(rig.telemetry.stats().refused["invalid_session_id"], 3);
}

/// Fields of the service that begin like one of our namespaces.
#[test]
fn fields_that_are_no_feedback_stay_as_they_were_recorded() {
    let rig = Rig::new();
    rig.run(|| {
        let span = info_span!(
            "plain",
            config.db = "main",
            config.db.pool = 5,
            metrics.loss = f64::NAN,
            inputs.a = Empty
        );
        span.record("inputs.a", "x");
        span.set_attribute("inputs.a.b", "y").unwrap();
        span.set_attribute("outputs.c", 1).unwrap();
        // Feedback merges as ever.
        span.set_attribute("feedback.a", 1).unwrap();
        span.set_attribute("feedback.a.b", 2).unwrap();
    });
    let span = one(&rig.collector, "plain");
    assert_eq!(
        attributes(&span),
        "config.db=\"main\" config.db.pool=5 feedback.a.b=2 inputs.a=\"x\" inputs.a.b=\"y\" \
         metrics.loss=NaN outputs.c=1"
    );
}

/// An enrichment is a merge patch for them all the same, and a key is exported once.
#[test]
fn an_enrichment_replaces_fields_in_its_namespace() {
    let rig = Rig::new();
    rig.run(|| {
        let span = info_span!(
            "span",
            config.db = "main",
            config.db.pool = 5,
            config.mode = "fast",
            metadata.plan = "free",
            metadata.tenant.id = 1,
            inputs.kept = true,
        );
        span.in_scope(|| {
            enrich_span!(
                config = { "db": { "pool": 6 } },
                metadata = { "tenant": null, "plan": "paid" },
            );
        });
        span.set_attribute("metadata.plan", "later").unwrap();
        span.set_attribute("metadata.tenant.id", 2).unwrap();
        let erased = info_span!("erased", metadata.plan = "free", config.a = 1);
        erased.in_scope(|| enrich_span!(metadata = null));
        erased.set_attribute("metadata.new", 1).unwrap();
    });
    let span = one(&rig.collector, "span");
    assert_eq!(
        attributes(&span),
        "config.db.pool=6 config.mode=\"fast\" inputs.kept=true metadata.plan=\"later\" \
         metadata.tenant.id=2"
    );
    assert_eq!(attributes(&one(&rig.collector, "erased")), "config.a=1 metadata.new=1");
}

#[test]
fn a_sessions_document_isnt_mixed_with_the_fields_of_its_span() {
    let rig = Rig::new();
    rig.run(|| {
        info_span!("turn", session.id = "s", metadata.plan = "free").in_scope(|| {
            assert!(enrich_session!(metadata = { "mood": "good" }).is_ok());
        });
    });
    let turn = one(&rig.collector, "turn");
    assert_eq!(attributes(&turn), "metadata.plan=\"free\" session.id=\"s\"");
    let session = rig.collector.session_feedback("s");
    let keys: Vec<_> = session.keys().cloned().collect();
    assert_eq!(keys, ["metadata.mood"]);
}

#[test]
fn special_fields_recorded_after_the_span_was_entered() {
    let rig = Rig::new();
    rig.run(|| {
        let span = info_span!(
            "static",
            otel.name = Empty,
            otel.kind = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty
        );
        let _entered = span.enter();
        let _child = info_span!("child").entered();
        span.record("otel.name", "renamed");
        span.record("otel.kind", "producer");
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", "too late");
    });
    assert_eq!(rig.collector.tree(), "renamed\n  child\n");
    let span = one(&rig.collector, "renamed");
    assert_eq!((span.kind.clone(), status(&span)), (SpanKind::Producer, "error: too late".into()));
}

#[test]
fn where_and_on_which_thread() {
    let rig = Rig::with(|builder| {
        builder.with_location(true).with_threads(true).with_target(true).with_level(true)
    });
    let line = line!() + 5;
    thread::scope(|threads| {
        let named = thread::Builder::new().name("worker-7".into());
        let run = || {
            rig.run(|| {
                let _span = debug_span!(target: "db", "located").entered();
                warn!("slow");
            })
        };
        named.spawn_scoped(threads, run).unwrap();
    });
    let span = one(&rig.collector, "located");
    let thread_id = span.attributes["thread.id"].as_i64().unwrap();
    assert!(thread_id > 1, "{thread_id}");
    let (file, module) = (file!(), module_path!());
    assert_eq!(
        attributes(&span),
        format!(
            "code.file.path=\"{file}\" code.line.number={line} code.module.name=\"{module}\" \
             level=\"DEBUG\" target=\"db\" thread.id={thread_id} thread.name=\"worker-7\""
        )
    );
    let line = line + 1;
    assert_eq!(
        events(&span),
        format!(
            "slow: code.file.path=\"{file}\" code.line.number={line} code.module.name=\"{module}\" \
             level=\"WARN\" target=\"{module}\"\n"
        )
    );
}

/// A second thread enters the span again and again while the first is inside, and the span is busy
/// all the time. The bounds are the start times of other spans. Everything that is compared was
/// read on the first thread, since the clocks of two threads may differ.
#[test]
fn busy_and_idle_times() {
    let rig = Rig::with(|builder| builder.with_tracked_inactivity(true));
    rig.run(|| {
        let span = info_span!("worked");
        drop(info_span!("before the entrance"));
        let turn = Barrier::new(2);
        thread::scope(|threads| {
            threads.spawn(|| {
                turn.wait();
                dispatcher::with_default(&rig.dispatch, || {
                    (0..100).for_each(|_| span.in_scope(|| ()));
                });
                turn.wait();
            });
            let entered = span.enter();
            drop(info_span!("after the entrance"));
            turn.wait();
            turn.wait();
            drop(info_span!("before the exit"));
            drop(entered);
        });
    });
    let start = |name: &str| one(&rig.collector, name).start_time_unix_nano;
    let span = one(&rig.collector, "worked");
    let nanos = |key: &str| span.attributes[key].as_i64().unwrap() as u64;
    let (busy, idle) = (nanos("busy_ns"), nanos("idle_ns"));
    let times = || format!("busy {busy}, idle {idle}, {span:?}");
    assert!(idle >= start("before the entrance") - span.start_time_unix_nano, "{}", times());
    assert!(busy >= start("before the exit") - start("after the entrance"), "{}", times());
    assert!(busy + idle <= span.end_time_unix_nano - span.start_time_unix_nano, "{}", times());
}

// ---- parents -----------------------------------------------------------------------------------

#[test]
fn explicit_contextual_and_no_parents() {
    let rig = Rig::new();
    rig.run(|| {
        let first = info_span!("first");
        let second = info_span!("second").entered();
        info_span!("contextual").in_scope(|| ());
        info_span!(parent: &first, "explicit").in_scope(|| info_span!("below explicit"));
        info_span!(parent: first.id(), "explicit by id");
        info_span!(parent: None, "root").in_scope(|| info_span!("below root"));
        let second = second.exit();
        info!(parent: &second, "told afterwards");
    });
    assert_eq!(
        rig.collector.tree(),
        "first\n  explicit\n    below explicit\n  explicit by id\nsecond\n  contextual\nroot\n  \
         below root\n"
    );
    assert_eq!(one(&rig.collector, "second").events[0].name, "told afterwards");
}

#[test]
fn remote_parents() {
    let rig = Rig::new();
    let remote = SpanContext::new(
        TraceId::from(0xabc),
        SpanId::from(0xdef),
        TraceFlags::SAMPLED,
        true,
        TraceState::from_key_value([("vendor", "x")]).unwrap(),
    );
    rig.run(|| {
        let around = info_span!("around").entered();
        let span = info_span!("server");
        span.set_parent(Context::new().with_remote_span_context(remote.clone())).unwrap();
        span.in_scope(|| info_span!("handler").in_scope(|| ()));
        drop(around);
    });
    let server = one(&rig.collector, "server");
    assert_eq!((server.trace_id, server.parent_span_id), (remote.trace_id(), remote.span_id()));
    assert_eq!(server.trace_state, "vendor=x");
    assert_eq!(server.flags, 0x301, "sampled, and the parent is known to be remote");
    let handler = one(&rig.collector, "handler");
    assert!(is_child(&handler, &server));
    assert_eq!((handler.trace_state.as_str(), handler.flags), ("vendor=x", 0x101));
    assert_ne!(one(&rig.collector, "around").trace_id, remote.trace_id());
}

/// A rig whose subscriber writes a log of all spans, of which the layer doesn't see those named
/// `hidden`.
fn hiding(activation: bool, log: &Log) -> Rig {
    let collector = tracing_feedback::collector::Collector::start().unwrap();
    let (layer, telemetry) =
        build(&collector, |builder| builder.with_context_activation(activation));
    let subscriber = tracing_subscriber::registry()
        .with(log_to(log.clone()))
        .with(layer.with_filter(filter_fn(|metadata| metadata.name() != "hidden")));
    Rig::from_parts(collector, Dispatch::new(subscriber), telemetry)
}

#[test]
fn spans_of_a_hidden_parent_attach_to_the_captured_one_above() {
    for activation in [true, false] {
        let log = Log::default();
        let Rig { collector, telemetry, dispatch, .. } = hiding(activation, &log);
        dispatcher::with_default(&dispatch, || {
            let top = info_span!("top").entered();
            let hidden = info_span!("hidden").entered();
            info!("in the hidden one");
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
            assert!(enrich_session!(feedback = { "rating": 2 }).is_ok());
            let deeper = info_span!("hidden").entered();
            info_span!("bottom").in_scope(|| info!("in the captured one"));
            assert!(hidden.context().is_err());
            drop((deeper, hidden, top));
        });
        telemetry.flush().unwrap();
        assert_eq!(
            collector.tree(),
            "top\n    feedback.rating = 1\n  feedback (late, trace)\n      feedback.rating = 2\n  \
             bottom\n",
            "{activation}"
        );
        assert_eq!(one(&collector, "top").events[0].name, "in the hidden one");
        assert_eq!(one(&collector, "bottom").events[0].name, "in the captured one");
        assert_eq!(log.count("in the hidden one"), 1);
    }
}

#[test]
fn one_span_on_many_threads() {
    let rig = Rig::new();
    rig.run(|| {
        let span = info_span!("shared");
        thread::scope(|threads| {
            for n in 0..8 {
                let (span, dispatch) = (&span, &rig.dispatch);
                threads.spawn(move || {
                    dispatcher::with_default(dispatch, || {
                        let _entered = span.enter();
                        for _ in 0..10 {
                            info_span!("part", n).in_scope(|| info!(n, "working"));
                        }
                        info!(n, "done");
                    });
                });
            }
        });
    });
    let shared = one(&rig.collector, "shared");
    assert_eq!(shared.events.len(), 8);
    let spans = rig.collector.spans();
    let parts: Vec<_> = spans.iter().filter(|span| span.name == "part").collect();
    assert_eq!(parts.len(), 80);
    for part in parts {
        assert!(is_child(part, &shared));
        assert_eq!(part.events[0].attributes["n"], part.attributes["n"]);
    }
}

#[test]
fn a_span_that_closes_on_another_thread() {
    let rig = Rig::new();
    rig.run(|| {
        let span = info_span!("wanders");
        span.in_scope(|| info!("here"));
        let there = thread::spawn(move || {
            span.in_scope(|| info!("there"));
            drop(span);
        });
        there.join().unwrap();
    });
    let span = one(&rig.collector, "wanders");
    let names: Vec<_> = span.events.iter().map(|event| event.name.as_str()).collect();
    // A thread without a subscriber has no events, but the span it enters is the same.
    assert_eq!(names, ["here"]);
}

/// A span that is entered here, is exited on another thread, and closes there.
fn left_behind(dispatch: &tracing::Dispatch) {
    let span = info_span!("left behind");
    dispatch.enter(&span.id().unwrap());
    let exit = || {
        dispatch.exit(&span.id().unwrap());
        drop(span);
    };
    // The registry closes the span's parent, too, by the thread's subscriber.
    let exit = || dispatcher::with_default(dispatch, exit);
    thread::scope(|scope| scope.spawn(exit).join().unwrap());
}

#[test]
fn a_span_that_was_exited_and_closed_elsewhere_is_around_nothing() {
    let rig = Rig::with(|builder| builder.with_context_activation(true));
    rig.run(|| {
        left_behind(&rig.dispatch);
        let mut headers = HashMap::new();
        propagation::inject(&mut headers);
        assert_eq!(headers, HashMap::new());
        info!("lost");
        assert_eq!(
            enrich_span!(feedback = { "rating": 1 }).into_result(),
            Err(EnrichError::NoActiveSpan)
        );
        left_behind(&rig.dispatch);
        info_span!("after").in_scope(|| ());
        assert!(!Context::current().has_active_span(), "a context is left on the stack");

        let _outer = info_span!("outer").entered();
        for _ in 0..1_000 {
            left_behind(&rig.dispatch);
        }
        info_span!("inner").in_scope(|| info!("event"));
    });
    assert_eq!(one(&rig.collector, "after").parent_span_id, SpanId::INVALID);
    let (outer, inner) = (one(&rig.collector, "outer"), one(&rig.collector, "inner"));
    assert!(is_child(&inner, &outer));
    assert_eq!((outer.events.len(), inner.events.len()), (0, 1));
    let mut left = rig.collector.spans();
    left.retain(|span| span.name == "left behind");
    assert_eq!(left.iter().filter(|span| is_child(span, &outer)).count(), 1_000);
    assert!(left.len() == 1_002 && left.iter().all(|span| span.events.is_empty()));
}

/// Tasks that are polled on any thread: each span is made, entered and closed on several threads,
/// which have other spans at hand meanwhile.
#[test]
fn tasks_that_wander_between_threads_keep_their_spans() {
    const TASKS: i64 = 400;

    #[instrument]
    async fn outer(task: i64) {
        for step in 0..3 {
            inner(task, step).await;
            tokio::task::yield_now().await;
        }
        enrich_span!(feedback = { "task": task });
    }

    #[instrument]
    async fn inner(task: i64, step: i64) {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        enrich_span!(feedback = { "task": task, "step": step });
        info!(task, "done");
    }

    let rig = Rig::with(|builder| builder.with_context_activation(true).with_threads(true));
    let dispatch = rig.dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| tokio::spawn(outer(task).with_subscriber(dispatch.clone())))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    rig.telemetry.flush().unwrap();

    let spans = rig.collector.spans();
    assert_eq!(spans.len() as i64, TASKS * 4);
    let outers: std::collections::HashMap<_, _> =
        spans.iter().filter(|span| span.name == "outer").map(|span| (span.span_id, span)).collect();
    for span in &spans {
        assert_eq!(span.attributes["feedback.task"], span.attributes["task"]);
        assert_eq!(span.duplicate_keys, Vec::<String>::new());
        if span.name == "inner" {
            let outer = outers[&span.parent_span_id];
            assert!(is_child(span, outer));
            assert_eq!(span.attributes["task"], outer.attributes["task"]);
            assert_eq!(span.attributes["feedback.step"], span.attributes["step"]);
            assert_eq!(span.events.len(), 1);
        }
    }
}

#[test]
fn a_thread_that_ends_inside_its_spans() {
    let rig = Rig::with(|builder| builder.with_context_activation(true));
    let dispatch = rig.dispatch.clone();
    let ended = thread::spawn(move || {
        dispatcher::with_default(&dispatch, || {
            for name in ["outer", "inner"] {
                std::mem::forget(info_span!("left open", name).entered());
            }
            info_span!("closed").in_scope(|| ());
        });
    });
    ended.join().unwrap();
    rig.telemetry.flush().unwrap();
    one(&rig.collector, "closed");
}

/// The thread-locals are gone when a thread ends, in whatever order they were created.
#[test]
fn a_thread_that_ends_inside_a_span_having_looked_for_one_before() {
    let rig = Rig::new();
    let dispatch = rig.dispatch.clone();
    let ended = thread::spawn(move || {
        dispatcher::with_default(&dispatch, || {
            assert!(!enrich_span!(feedback = { "rating": 1 }).is_ok());
            std::mem::forget(info_span!("left open").entered());
            assert!(enrich_span!(feedback = { "rating": 2 }).is_ok());
        });
    });
    ended.join().unwrap();
    rig.telemetry.shutdown().unwrap();
    assert_eq!(rig.collector.tree(), "feedback (late)\n    feedback.rating = 2\n");
}

/// So many spans that most of them share their slot in the span table with another.
#[test]
fn thousands_of_spans_open_at_once() {
    const SPANS: usize = 5000;
    let rig = Rig::new();
    let _default = dispatcher::set_default(&rig.dispatch);
    let spans: Vec<_> =
        (0..SPANS).map(|n| info_span!("open", n, entered = Empty, seen = Empty)).collect();
    thread::scope(|threads| {
        let other = threads.spawn(|| {
            dispatcher::with_default(&rig.dispatch, || {
                for (n, span) in spans.iter().enumerate() {
                    span.in_scope(|| {
                        tracing::Span::current().record("entered", n);
                        assert!(enrich_span!(feedback = { "n": n }).is_ok());
                        info_span!("below", of = n).in_scope(|| info!(n, "event"));
                    });
                    let outcome = enrich_span!(span = span, feedback = { "again": n });
                    assert!(outcome.is_ok(), "{outcome:?}");
                }
            });
        });
        other.join().unwrap();
    });
    let mut order: Vec<_> = spans.into_iter().enumerate().collect();
    order.sort_by_key(|(n, _)| n * 7919 % SPANS);
    for (n, span) in order {
        span.record("seen", n);
    }
    rig.telemetry.flush().unwrap();
    let spans =
        rig.collector.wait_for_spans(2 * SPANS, std::time::Duration::from_secs(60)).unwrap();
    let by_id: std::collections::HashMap<_, _> =
        spans.iter().map(|span| (span.span_id, span)).collect();
    for span in &spans {
        match span.name.as_str() {
            "open" => {
                let n = &span.attributes["n"];
                for key in ["entered", "seen", "feedback.n", "feedback.again"] {
                    assert_eq!(&span.attributes[key], n, "{key}");
                }
            }
            _ => {
                let parent = by_id[&span.parent_span_id];
                assert_eq!(span.attributes["of"], parent.attributes["n"]);
                assert_eq!(span.events[0].attributes["n"], parent.attributes["n"]);
            }
        }
    }
}

/// The captured span around a hidden one is found also on another thread, where no captured span is
/// entered.
#[test]
fn a_hidden_span_takes_what_is_around_to_another_thread() {
    for activation in [true, false] {
        let rig = hiding(activation, &Log::default());
        rig.run(|| {
            let request = info_span!("request", session.id = "s").entered();
            let hidden = info_span!("hidden");
            thread::scope(|threads| {
                threads.spawn(|| {
                    dispatcher::with_default(&rig.dispatch, || {
                        hidden.in_scope(|| {
                            info_span!("below").in_scope(|| ());
                            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
                        });
                    });
                });
            });
            drop(request);
        });
        let expected = "request\n    feedback.rating = 1\n  below\n";
        assert_eq!(rig.collector.tree(), expected, "{activation}");
        assert_eq!(one(&rig.collector, "below").attributes["session.id"], "s");
    }
}

/// The parent is the captured span that was entered last, as `Context::lookup_current` finds it.
#[test]
fn a_span_entered_again_is_around_nothing_that_was_entered_since() {
    for activation in [true, false] {
        let rig = Rig::with(|builder| builder.with_context_activation(activation));
        rig.run(|| {
            let outer = info_span!("outer");
            let (once, twice) = (outer.enter(), outer.enter());
            let inner = info_span!(parent: None, "inner"); // created below two entrances
            drop((twice, once));
            let _inner = inner.enter();
            let innermost = info_span!("innermost");
            let _innermost = innermost.enter();
            let _again = inner.enter();
            info!("event");
        });
        let names = |name: &str| one(&rig.collector, name).events.len();
        assert_eq!((names("inner"), names("innermost")), (0, 1), "{activation}");
    }
}

#[test]
fn what_is_around_is_what_was_entered_last() {
    for activation in [true, false] {
        let rig = hiding(activation, &Log::default());
        rig.run(|| {
            let (apart, around) = (info_span!("apart"), info_span!("around").entered());
            // Hidden spans with other parents don't change what is around.
            for hidden in [info_span!(parent: None, "hidden"), info_span!(parent: &apart, "hidden")]
            {
                hidden.in_scope(|| {
                    info_span!("below").in_scope(|| info!("event"));
                    info!("in the hidden one");
                    assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
                });
            }
            // Nor does a span that is entered again, for the registry. The context is that of the
            // span.
            apart.in_scope(|| around.in_scope(|| info_span!("inner").in_scope(|| ())));
        });
        let rated = "around\n    feedback.rating = 1\n";
        let expected = match activation {
            true => format!("apart\n{rated}  below\n  below\n  inner\n"),
            false => format!("apart\n  inner\n{rated}  below\n  below\n"),
        };
        assert_eq!(rig.collector.tree(), expected, "{activation}");
        assert_eq!(one(&rig.collector, "around").events.len(), 2);
    }
}

/// A thread keeps spans at hand by id, and ids are given anew once a span has closed.
#[test]
fn a_span_with_the_id_of_one_that_closed_elsewhere() {
    let rig = Rig::with(|builder| builder.with_tracked_inactivity(true));
    let _default = dispatcher::set_default(&rig.dispatch);
    let (sender, receiver) = mpsc::channel::<tracing::Span>();
    let (done, is_done) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        for span in receiver {
            enrich_span!(span = &span, feedback = { "met": true });
            span.in_scope(|| span.record("entered", true));
            drop(span);
            done.send(()).unwrap();
        }
    });
    let make = || info_span!("made here", entered = Empty);
    let (first, mut others) = (make(), 0);
    let id = first.id();
    sender.send(first.clone()).unwrap();
    is_done.recv().unwrap();
    drop(first); // closes here; the other thread doesn't notice
    let again = loop {
        let span = make();
        if span.id() == id {
            break span;
        }
        others += 1;
        assert!(others < 1_000_000, "the registry gives no id anew");
    };
    sender.send(again.clone()).unwrap();
    is_done.recv().unwrap();
    drop((again, sender));
    other.join().unwrap();
    rig.telemetry.flush().unwrap();
    let spans = rig.collector.spans();
    let entered = spans.iter().filter(|span| span.attributes.contains_key("entered"));
    let entered: Vec<_> = entered.map(|span| &span.attributes).collect();
    assert_eq!(entered.len(), 2);
    assert!(entered.iter().all(|span| span["busy_ns"] != 0), "{entered:?}");
    assert!(entered.iter().all(|span| span["feedback.met"] == true), "{entered:?}");
}

/// A thread has some call sites at hand, but not so many.
#[test]
fn hundreds_of_call_sites_on_one_thread() {
    macro_rules! spans {
        ($($letter:literal)*) => { $(spans!(@ $letter: "0" "1" "2" "3" "4" "5" "6" "7" "8" "9");)* };
        (@ $letter:literal: $($digit:literal)*) => {
            $(info_span!(concat!($letter, $digit), value = concat!($letter, $digit));)*
        };
    }
    let rig = Rig::new();
    rig.run(|| {
        for _ in 0..3 {
            spans!("a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q" "r" "s" "t");
        }
    });
    let spans = rig.collector.spans();
    assert!(spans.iter().all(|span| span.attributes["value"] == span.name));
    let names: BTreeSet<_> = spans.iter().map(|span| &span.name).collect();
    assert_eq!((spans.len(), names.len()), (600, 200));
}

/// A thread notes the span that it made last, and ids are given anew once a span has closed.
#[test]
fn a_span_with_the_id_of_one_that_was_never_entered() {
    timed_or_not(|rig, _| {
        rig.run(|| {
            let outer = info_span!("outer").entered();
            let never = info_span!("never");
            drop(outer);
            let id = never.id();
            drop(never);
            let with_its_id = || (0..1_000_000).map(|_| info_span!("made")).find(|s| s.id() == id);
            let again = with_its_id().expect("the registry gives ids anew");
            let _around = info_span!("around").entered();
            again.in_scope(|| info_span!("below").in_scope(|| ()));
        });
        let below = one(&rig.collector, "below");
        let spans = rig.collector.spans();
        let parent = spans.iter().find(|span| span.span_id == below.parent_span_id).unwrap();
        assert_eq!(parent.name, "made");
    });
}

/// What is done when a span is entered depends on whether it is timed and has a context.
fn timed_or_not(check: impl Fn(Rig, bool)) {
    for (timed, activation) in [(true, true), (true, false), (false, true), (false, false)] {
        let configure = |builder: Builder| {
            builder.with_tracked_inactivity(timed).with_context_activation(activation)
        };
        check(Rig::with(configure), activation);
    }
}

#[test]
fn spans_exited_out_of_order() {
    timed_or_not(|rig, _| {
        rig.run(|| {
            let first = info_span!("first").entered();
            let second = info_span!("second").entered();
            drop(first);
            info_span!("below second").in_scope(|| ());
            drop(second);
            info_span!("alone").in_scope(|| ());
            assert!(!Context::current().has_active_span());
        });
        assert_eq!(rig.collector.tree(), "first\n  second\n    below second\nalone\n");
    });
}

#[test]
fn one_span_entered_twice() {
    timed_or_not(|rig, activation| {
        rig.run(|| {
            let span = info_span!("twice");
            let outer = span.enter();
            span.in_scope(|| info_span!("first").in_scope(|| ()));
            info_span!("second").in_scope(|| info_span!("below second").in_scope(|| ()));
            assert_eq!(Context::current().has_active_span(), activation);
            drop(outer);
            assert!(!Context::current().has_active_span());
        });
        let expected = "twice\n  first\n  second\n    below second\n";
        assert_eq!(rig.collector.tree(), expected);
    });
}

#[test]
fn spans_that_are_entered_later_or_elsewhere_or_never() {
    timed_or_not(|rig, _| {
        rig.run(|| {
            let outer = info_span!("outer").entered();
            let (later, elsewhere) =
                (info_span!("later"), info_span!("elsewhere", entered = Empty));
            later.in_scope(|| info_span!("below").in_scope(|| ()));
            let other = |span: tracing::Span| {
                dispatcher::with_default(&rig.dispatch, || {
                    span.in_scope(|| info_span!("below").in_scope(|| ()));
                    span.record("entered", true);
                    drop(span); // here: the registry closes parents where it is the default
                });
            };
            thread::scope(|threads| threads.spawn(|| other(elsewhere)).join().unwrap());
            drop(info_span!("never"));
            let rated = info_span!("never, and rated");
            assert!(enrich_span!(span = &rated, feedback = { "rating": 1 }).is_ok());
            drop((rated, later, outer));
            info_span!("alone").in_scope(|| ());
        });
        assert_eq!(
            rig.collector.tree(),
            "outer\n  later\n    below\n  elsewhere\n    below\n  never\n  never, and rated\n\
             \x20     feedback.rating = 1\nalone\n"
        );
        assert_eq!(one(&rig.collector, "elsewhere").attributes["entered"], true);
    });
}

#[test]
fn links_by_follows_from() {
    let rig = Rig::new();
    rig.run(|| {
        let cause = info_span!("cause");
        let effect = info_span!("effect");
        effect.follows_from(&cause);
        effect.follows_from(cause.id());
        let closed = info_span!("closed").id();
        effect.follows_from(closed);
        effect.in_scope(|| effect.follows_from(&cause));
    });
    let (cause, effect) = (one(&rig.collector, "cause"), one(&rig.collector, "effect"));
    let links: Vec<_> = effect.links.iter().map(|link| (link.trace_id, link.span_id)).collect();
    assert_eq!(links, [(cause.trace_id, cause.span_id); 3]);
    assert_ne!(effect.trace_id, cause.trace_id);
}

#[test]
fn closed_ids_are_no_trouble() {
    let rig = Rig::new();
    rig.run(|| {
        let span = info_span!("closed", field = Empty);
        let (id, metadata) = (span.id().unwrap(), span.metadata().unwrap());
        drop(span);
        let open = info_span!("open");
        let field = metadata.fields().field("field").unwrap();
        let values = [(&field, Some(&1 as &dyn tracing::Value))];
        let values = metadata.fields().value_set(&values);
        rig.dispatch.record(&id, &tracing::span::Record::new(&values));
        rig.dispatch.record_follows_from(&open.id().unwrap(), &id);
        rig.dispatch.record_follows_from(&id, &open.id().unwrap());
        rig.dispatch.exit(&id);
        info!(parent: &id, "nowhere");
    });
    assert_eq!(attributes(&one(&rig.collector, "closed")), "");
    assert!(one(&rig.collector, "open").links.is_empty());
}

// ---- events ------------------------------------------------------------------------------------

#[test]
fn events_have_a_name_a_level_and_fields() {
    let rig = Rig::new();
    rig.run(|| {
        let _span = info_span!("span").entered();
        info!(target: "chat", n = 3_u64, big = u64::MAX, ok = true, "answered {}", "it");
        tracing::debug!(name: "named", float = 0.5);
        tracing::trace!(message = 17, log.level = "kept", debug = ?[1]);
    });
    let target = module_path!();
    assert_eq!(
        events(&one(&rig.collector, "span")),
        format!(
            "answered it: big=\"18446744073709551615\" level=\"INFO\" n=3 ok=true target=\"chat\"\n\
             named: float=0.5 level=\"DEBUG\" target=\"{target}\"\n\
             17: debug=\"[1]\" level=\"TRACE\" log.level=\"kept\" target=\"{target}\"\n"
        )
    );
}

#[test]
fn errors_on_events_tell_their_span() {
    let rig = Rig::new();
    rig.run(|| {
        let error = failure();
        let error: &(dyn Error + 'static) = &error;
        info_span!("named").in_scope(|| error!(error, "it failed"));
        info_span!("unnamed").in_scope(|| error!(error));
        info_span!("retries").in_scope(|| {
            warn!(error);
            warn!(error, "trying again");
            info!(error);
        });
        info_span!("field").in_scope(|| info!(cause = error));
        info_span!("text").in_scope(|| info!(error = "as text"));
        info_span!("level").in_scope(|| error!("just so"));
    });
    let target = module_path!();
    let chain = "error.chain=[\"connection refused\",\"no route\"]";
    let stack = "exception.stacktrace=\"request failed\\nCaused by: connection refused\\nCaused \
                 by: no route\"";
    let message = "exception.message=\"request failed\"";

    let span = one(&rig.collector, "named");
    assert_eq!(status(&span), "error: ");
    assert_eq!(attributes(&span), format!("{message} {stack}"));
    assert_eq!(
        events(&span),
        format!(
            "it failed: error=\"request failed\" {chain} {message} {stack} level=\"ERROR\" \
             target=\"{target}\"\n"
        )
    );
    let span = one(&rig.collector, "unnamed");
    assert_eq!(status(&span), "error: request failed");
    assert_eq!(span.events[0].name, "exception");
    // A retry that warns isn't a failure.
    let span = one(&rig.collector, "retries");
    assert_eq!(status(&span), "unset");
    let names: Vec<_> = span.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["exception", "trying again", "exception"]);
    assert_eq!(status(&one(&rig.collector, "field")), "unset");
    let span = one(&rig.collector, "text");
    assert_eq!(status(&span), "error: as text");
    assert_eq!(span.events[0].attributes["exception.message"], "as text");
    assert_eq!(status(&one(&rig.collector, "level")), "error: ");
}

#[test]
fn each_error_convention_can_be_switched_off() {
    let work = || {
        let error = failure();
        let error: &(dyn Error + 'static) = &error;
        let _span = info_span!("span", failed = error).entered();
        error!(error);
    };
    let run = |configure: fn(tracing_feedback::Builder) -> tracing_feedback::Builder| {
        let rig = Rig::with(configure);
        rig.run(work);
        let span = one(&rig.collector, "span");
        let keys = |attributes: &std::collections::BTreeMap<String, _>| {
            attributes.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        let event = &span.events[0];
        (keys(&span.attributes), event.name.clone(), keys(&event.attributes), status(&span))
    };
    let expect = |span: &str, name: &str, event: &str, status: &str| {
        (span.to_owned(), name.to_owned(), format!("{event} level target"), status.to_owned())
    };
    let exception = "exception.message exception.stacktrace";
    assert_eq!(
        run(|builder| builder),
        expect(
            &format!("{exception} failed failed.chain"),
            "exception",
            &format!("error error.chain {exception}"),
            "error: request failed"
        )
    );
    assert_eq!(
        run(|builder| builder
            .with_error_fields_to_exceptions(false)
            .with_error_records_to_exceptions(false)),
        expect(
            "failed failed.chain",
            "exception",
            "error error.chain exception.message",
            "error: request failed"
        )
    );
    assert_eq!(
        run(|builder| builder.with_error_fields_to_exceptions(false)),
        expect(
            &format!("{exception} failed failed.chain"),
            "exception",
            "error error.chain exception.message",
            "error: request failed"
        )
    );
    assert_eq!(
        run(|builder| builder.with_error_events_to_exceptions(false)),
        expect(
            &format!("{exception} failed failed.chain"),
            "event",
            &format!("error error.chain {exception}"),
            "error: request failed"
        )
        .with_event_name()
    );
    assert_eq!(
        run(|builder| builder.with_error_events_to_status(false)),
        expect(
            &format!("{exception} failed failed.chain"),
            "exception",
            &format!("error error.chain {exception}"),
            "error: "
        )
    );
}

/// An event without a name of its own is named after its place in the source.
trait WithEventName {
    fn with_event_name(self) -> Self;
}

impl WithEventName for (String, String, String, String) {
    fn with_event_name(mut self) -> Self {
        let line =
            include_str!("layer.rs").lines().position(|line| line.trim() == "error!(error);");
        self.1 = format!("event {}:{}", file!(), line.unwrap() + 1);
        self
    }
}

#[test]
fn records_of_the_log_crate_keep_their_place() {
    use tracing_log::log;
    let rig = Rig::with(|builder| builder.with_location(true));
    rig.run(|| {
        let _span = info_span!("span").entered();
        let record = log::Record::builder()
            .args(format_args!("pool exhausted"))
            .level(log::Level::Error)
            .target("db")
            .module_path(Some("db::pool"))
            .file(Some("db/pool.rs"))
            .line(Some(7))
            .build();
        tracing_log::format_trace(&record).unwrap();
    });
    let span = one(&rig.collector, "span");
    assert_eq!(
        events(&span),
        "pool exhausted: code.file.path=\"db/pool.rs\" code.line.number=7 \
         code.module.name=\"db::pool\" level=\"ERROR\" target=\"db\"\n"
    );
    assert_eq!(status(&span), "error: ");
}

/// Makes events while it is formatted.
struct TracingDebug;

impl fmt::Debug for TracingDebug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _span = info_span!("formatting").entered();
        info!("formatting");
        let _ = enrich_span!(feedback = { "talks": true });
        tracing::Span::current().record("field", "recorded");
        f.write_str("talkative")
    }
}

impl fmt::Display for TracingDebug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[test]
fn values_that_make_spans_while_they_are_recorded() {
    // With a single dispatcher in the process `tracing` asks the current one, which is busy here, for its
    // interest in a new call site, and disables the call site for good.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let rig = with_timeout(|| {
        let rig = Rig::new();
        rig.run(|| {
            let span = info_span!("span", field = ?TracingDebug, later = Empty);
            let _entered = span.enter();
            span.record("later", tracing::field::debug(TracingDebug));
            span.record("field", tracing::field::display(TracingDebug));
            info!(value = %TracingDebug, "event");
        });
        rig
    });
    // While the subscriber is asked for a new span or event, `tracing` has it do nothing else; in
    // the global one it would (`tests/global.rs`). While it records, it may.
    assert_eq!(
        rig.collector.tree(),
        "span\n  formatting\n      feedback.talks = true\n  formatting\n      feedback.talks = \
         true\n"
    );
    let span = one(&rig.collector, "span");
    assert_eq!(attributes(&span), r#"field="talkative" later="talkative""#);
    assert_eq!(span.events[0].attributes["value"], "talkative");
}

// ---- limits ------------------------------------------------------------------------------------

#[test]
fn limits_and_what_they_dropped() {
    let limits = SpanLimits {
        max_attributes_per_span: 3,
        max_events_per_span: 2,
        max_links_per_span: 1,
        max_attributes_per_event: 4,
        max_attributes_per_link: 1,
    };
    let rig = Rig::with(|builder| builder.with_span_limits(limits));
    rig.run(|| {
        let other = info_span!("other");
        let span = info_span!("span", a = 1, b = 2, c = 3, d = 4, e = Empty);
        span.record("e", 5);
        span.record("a", 6);
        let target = other.span_context().unwrap();
        let attributes = vec![KeyValue::new("x", 1), KeyValue::new("y", 2)];
        span.add_link_with_attributes(target, attributes).unwrap();
        span.follows_from(&other);
        span.in_scope(|| {
            for n in 0..5 {
                info!(n, more = 1, than = 2, fit = 3, "event");
            }
        });
    });
    let span = one(&rig.collector, "span");
    assert_eq!((attributes(&span).as_str(), span.dropped_attributes_count), ("a=6 b=2 c=3", 2));
    assert_eq!((span.events.len(), span.dropped_events_count), (2, 3));
    let event = &span.events[0];
    assert_eq!((event.attributes.len(), event.dropped_attributes_count), (4, 2));
    assert_eq!((span.links.len(), span.dropped_links_count), (1, 1));
    assert_eq!(span.links[0].attributes["x"], 1);
    assert_eq!(span.links[0].dropped_attributes_count, 1);
    assert_eq!(rig.telemetry.stats().dropped_attributes, 2);
}

#[test]
fn limits_are_those_of_all_attributes() {
    let limits = SpanLimits { max_attributes_per_span: 3, ..SpanLimits::default() };
    let rig = Rig::with(|builder| {
        builder.with_span_limits(limits).with_tracked_inactivity(true).with_target(true)
    });
    rig.run(|| {
        info_span!("few").in_scope(|| ());
        info_span!("many", a = 1, b = 2, c = 3).in_scope(|| ());
    });
    for (name, dropped) in [("few", 0), ("many", 3)] {
        let span = one(&rig.collector, name);
        let keys: Vec<_> = span.attributes.keys().collect();
        assert_eq!(keys, ["busy_ns", "idle_ns", "target"]);
        assert_eq!(span.dropped_attributes_count, dropped, "{name}");
    }
}

#[test]
fn limits_never_push_out_feedback_or_the_session() {
    let limits = SpanLimits { max_attributes_per_span: 3, ..SpanLimits::default() };
    let rig = Rig::with(|builder| builder.with_span_limits(limits));
    rig.run(|| {
        let _span = info_span!("span", a = 1, b = 2, c = 3, session.id = "s").entered();
        assert!(enrich_span!(feedback = { "rating": true }).is_ok());
        assert!(!enrich_span!(feedback = { "too": 1, "many": 2 }).is_ok());
    });
    let span = one(&rig.collector, "span");
    let shown = "feedback.many=2 feedback.rating=true session.id=\"s\"";
    assert_eq!((attributes(&span).as_str(), span.dropped_attributes_count), (shown, 4));
}

// ---- sampling ----------------------------------------------------------------------------------

#[test]
fn what_is_not_sampled_leaves_only_with_feedback() {
    let rig = Rig::with(|builder| builder.with_sampler(Sampler::AlwaysOff));
    rig.run(|| {
        let _span = info_span!("parent").entered();
        info_span!("rated", kept = 1).in_scope(|| {
            info!("recorded in full");
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        });
        info_span!("unrated").in_scope(|| ());
        info_span!("by field", feedback.rating = 2).in_scope(|| ());
    });
    assert_eq!(
        rig.collector.tree(),
        "rated\n    feedback.rating = 1\nby field\n    feedback.rating = 2\n"
    );
    let span = one(&rig.collector, "rated");
    assert_eq!(span.flags & 1, 0);
    assert_eq!(attributes(&span), "feedback.rating=1 kept=1 tracing_feedback.sampled=false");
    assert_eq!(span.events[0].name, "recorded in full");
    assert_eq!(rig.telemetry.stats().unsampled, 2);
}

// ---- wrappers ----------------------------------------------------------------------------------

/// Puts a layer into a subscriber. Where `reload` changes it later, that happens inside of it:
/// `tracing` asks only the current subscriber what it wants to see where there is no other.
type Install = fn(FeedbackLayer) -> Dispatch;

fn boxed(layer: FeedbackLayer) -> Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync> {
    layer.boxed()
}

const WRAPPERS: &[(&str, Install)] = &[
    ("bare", |layer| Dispatch::new(tracing_subscriber::registry().with(layer))),
    ("below another", |layer| {
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        Dispatch::new(tracing_subscriber::registry().with(layer).with(log))
    }),
    ("above another", |layer| {
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        Dispatch::new(tracing_subscriber::registry().with(log).with(layer))
    }),
    ("and_then", |layer| {
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        Dispatch::new(tracing_subscriber::registry().with(layer.and_then(log)))
    }),
    ("Filtered", |layer| {
        Dispatch::new(tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)))
    }),
    ("Option", |layer| Dispatch::new(tracing_subscriber::registry().with(Some(layer)))),
    ("Box", |layer| Dispatch::new(tracing_subscriber::registry().with(boxed(layer)))),
    ("Vec", |layer| Dispatch::new(tracing_subscriber::registry().with(vec![layer]))),
    ("reload", |layer| {
        Dispatch::new(tracing_subscriber::registry().with(reload::Layer::new(layer).0))
    }),
    ("reload Box", |layer| {
        Dispatch::new(tracing_subscriber::registry().with(reload::Layer::new(boxed(layer)).0))
    }),
    ("Option Box Filtered", |layer| {
        let layer = layer.with_filter(LevelFilter::INFO).boxed();
        Dispatch::new(tracing_subscriber::registry().with(Some(layer)))
    }),
    ("Vec Box", |layer| {
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink).boxed();
        Dispatch::new(tracing_subscriber::registry().with(vec![log, boxed(layer)]))
    }),
    ("Filtered reload", |layer| {
        let layer = reload::Layer::new(layer).0.with_filter(LevelFilter::INFO);
        Dispatch::new(tracing_subscriber::registry().with(layer))
    }),
    ("reload, put in later", |layer| {
        let (reload, handle) = reload::Layer::new(None::<FeedbackLayer>);
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(reload));
        dispatcher::with_default(&dispatch, || {
            info_span!("too early").in_scope(|| ());
            handle.modify(|empty| *empty = Some(layer)).unwrap();
        });
        dispatch
    }),
    ("reload Vec, put in later", |layer| {
        let (reload, handle) = reload::Layer::new(Vec::<FeedbackLayer>::new());
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(reload));
        dispatcher::with_default(&dispatch, || handle.modify(|layers| layers.push(layer)).unwrap());
        dispatch
    }),
];

#[test]
fn wrapped_in_whatever_way() {
    for (wrapper, install) in WRAPPERS {
        let collector = tracing_feedback::collector::Collector::start().unwrap();
        let (layer, telemetry) = build(&collector, |builder| builder);
        dispatcher::with_default(&install(layer), || {
            let outer = info_span!("outer", session.id = "s").entered();
            info_span!("inner").in_scope(|| {
                info!("event");
                assert!(enrich_span!(feedback = { "rating": true }).is_ok(), "{wrapper}");
                assert!(enrich_session!(feedback = { "rating": 5 }).is_ok(), "{wrapper}");
                let current = tracing::Span::current();
                let valid = current.span_context().map(|context| context.is_valid());
                assert_eq!(valid, Ok(true), "{wrapper}");
                assert!(Context::current().has_active_span(), "{wrapper}");
            });
            drop(outer);
            // The layer is found also where no span is around.
            let outcome = enrich_span!(feedback = { "rating": true }).into_result();
            assert_eq!(outcome, Err(tracing_feedback::EnrichError::NoActiveSpan), "{wrapper}");
        });
        telemetry.flush().unwrap();
        assert_eq!(
            collector.tree(),
            "outer (session)\n    feedback.rating = 5\n  inner\n      feedback.rating = true\n",
            "{wrapper}"
        );
        assert_eq!(one(&collector, "inner").events.len(), 1, "{wrapper}");
    }
}

#[test]
fn a_layer_taken_out_while_spans_are_open() {
    if !is_alone(concat!(module_path!(), "::a_layer_taken_out_while_spans_are_open")) {
        return;
    }
    let collector = tracing_feedback::collector::Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, |builder| builder);
    let (reload, handle) = reload::Layer::new(Some(layer));
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(reload));
    dispatcher::with_default(&dispatch, || {
        let outer = info_span!("outer").entered();
        let inner = info_span!("inner").entered();
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        handle.reload(None).unwrap();
        info_span!("unseen").in_scope(|| ());
        drop((inner, outer));
        let outcome = enrich_span!(feedback = { "rating": 2 }).into_result();
        assert_eq!(outcome, Err(tracing_feedback::EnrichError::NotInstalled));
    });
    telemetry.flush().unwrap();
    assert_eq!(collector.tree(), "outer\n  inner\n      feedback.rating = 1\n");
}

/// `reload` drops the layer while it holds its lock, and a span that was never entered still has to
/// call its sampler, which may write to the log.
#[test]
fn a_layer_taken_out_while_its_sampler_is_still_to_be_asked() {
    #[derive(Clone, Debug)]
    struct TracingSampler;
    impl ShouldSample for TracingSampler {
        fn should_sample(
            &self,
            _: Option<&Context>,
            _: TraceId,
            name: &str,
            _: &SpanKind,
            _: &[KeyValue],
            _: &[Link],
        ) -> SamplingResult {
            info!(name, "asked");
            let (attributes, trace_state) = (Vec::new(), TraceState::default());
            let decision = SamplingDecision::RecordAndSample;
            SamplingResult { decision, attributes, trace_state }
        }
    }
    let collector = tracing_feedback::collector::Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, |builder| builder.with_sampler(TracingSampler));
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let (reload, handle) = reload::Layer::new(Some(layer));
        let subscriber = tracing_subscriber::registry().with(reload);
        tracing::subscriber::with_default(subscriber, || {
            info_span!("makes the layer known").in_scope(|| ());
            let _span = info_span!("never entered");
            handle.reload(None).unwrap();
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    // It is on its way by then, or about to be.
    let ended = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while collector.spans().len() < 2 && std::time::Instant::now() < ended {
        telemetry.flush().unwrap();
    }
    one(&collector, "never entered");
}

#[test]
fn two_subscribers_with_a_layer_each() {
    let (one, other) = (Rig::new(), Rig::new());
    one.run(|| {
        let _a = info_span!("a", session.id = "mine").entered();
        other.run(|| {
            assert!(!enrich_span!(feedback = { "rating": 1 }).is_ok());
            let _b = info_span!(parent: None, "b").entered();
            info_span!("below b").in_scope(|| ());
            assert!(enrich_span!(feedback = { "rating": 2 }).is_ok());
        });
        info_span!("below a").in_scope(|| ());
        assert!(enrich_span!(feedback = { "rating": 3 }).is_ok());
    });
    assert_eq!(one.collector.tree(), "a\n    feedback.rating = 3\n  below a\n");
    assert_eq!(other.collector.tree(), "b\n    feedback.rating = 2\n  below b\n");
    assert_eq!(show::one(&other.collector, "b").attribute("session.id"), None);
}

#[test]
fn spans_of_two_subscribers_exited_out_of_order() {
    let (one, other) = (Rig::new(), Rig::new());
    // Both registries give their first span the same id.
    let a = dispatcher::with_default(&one.dispatch, || info_span!("a"));
    let b = dispatcher::with_default(&other.dispatch, || info_span!(parent: None, "b"));
    assert_eq!(a.id(), b.id());
    let (a, b) = (a.entered(), b.entered());
    let active = || Context::current().span().span_context().clone();
    assert_eq!(active(), b.span_context().unwrap());
    drop(a);
    assert_eq!(active(), b.span_context().unwrap());
    drop(b);
    assert!(!active().is_valid());
}

/// Puts two layers, and one that writes down what is warned about, into one subscriber.
type InstallTwo = fn(FeedbackLayer, FeedbackLayer, Log) -> Dispatch;

fn log_to(log: Log) -> impl tracing_subscriber::Layer<Registry> + Send + Sync {
    tracing_subscriber::fmt::layer().with_writer(log).with_ansi(false)
}

const STACKS: &[(&str, InstallTwo)] = &[
    ("above", |a, b, log| {
        Dispatch::new(tracing_subscriber::registry().with(log_to(log)).with(a).with(b))
    }),
    ("both filtered", |a, b, log| {
        let (a, b) = (a.with_filter(LevelFilter::INFO), b.with_filter(LevelFilter::DEBUG));
        Dispatch::new(tracing_subscriber::registry().with(log_to(log)).with(a).with(b))
    }),
    ("both reloaded", |a, b, log| {
        let (a, b) = (reload::Layer::new(a).0, reload::Layer::new(b).0);
        Dispatch::new(tracing_subscriber::registry().with(log_to(log)).with(a).with(b))
    }),
    ("both optional", |a, b, log| {
        Dispatch::new(tracing_subscriber::registry().with(log_to(log)).with(Some(a)).with(Some(b)))
    }),
    ("in one vector", |a, b, log| {
        Dispatch::new(tracing_subscriber::registry().with(log_to(log)).with(vec![a, b]))
    }),
    ("boxed in a vector with the log", |a, b, log| {
        let layers = vec![boxed(a), log_to(log).boxed(), boxed(b)];
        Dispatch::new(tracing_subscriber::registry().with(layers))
    }),
    ("the second put in later", |a, b, log| {
        let (later, handle) = reload::Layer::new(None::<FeedbackLayer>);
        let subscriber = tracing_subscriber::registry().with(log_to(log)).with(a).with(later);
        let dispatch = Dispatch::new(subscriber);
        dispatcher::with_default(&dispatch, || handle.modify(|empty| *empty = Some(b)).unwrap());
        dispatch
    }),
    ("as one layer", |a, b, log| {
        Dispatch::new(tracing_subscriber::registry().with(log_to(log)).with(a.and_then(b)))
    }),
];

#[test]
fn a_second_layer_in_one_subscriber_is_inert_and_says_so() {
    for (stack, install) in STACKS {
        let collectors =
            [(), ()].map(|()| tracing_feedback::collector::Collector::start().unwrap());
        let [(a, to_a), (b, to_b)] = [0, 1].map(|n| build(&collectors[n], |builder| builder));
        let log = Log::default();
        dispatcher::with_default(&install(a, b, log.clone()), || {
            let outer = info_span!("outer").entered();
            let again = outer.enter();
            info_span!("inner").in_scope(|| {
                info!("event");
                let outcome = enrich_span!(feedback = { "rating": true });
                assert!(outcome.is_ok(), "{stack}: {outcome:?} {}", log.text());
            });
            drop(again);
            assert!(Context::current().has_active_span(), "{stack}");
            info_span!("more").in_scope(|| ());
        });
        to_a.flush().unwrap();
        to_b.flush().unwrap();
        let trees = collectors.each_ref().map(|collector| collector.tree());
        let (captured, nothing) = if trees[0].is_empty() { (1, 0) } else { (0, 1) };
        assert_eq!(
            trees[captured], "outer\n  inner\n      feedback.rating = true\n  more\n",
            "{stack}"
        );
        assert_eq!(trees[nothing], "", "{stack}");
        let span = one(&collectors[captured], "outer");
        assert!(span.events.is_empty(), "the warning is not about the service: {stack}");
        assert_eq!(log.count("stays inert"), 1, "{stack}: {}", log.text());
    }
}

#[test]
fn a_second_layer_put_in_later_below_the_first() {
    let collectors = [(), ()].map(|()| tracing_feedback::collector::Collector::start().unwrap());
    let [(a, to_a), (b, to_b)] = [0, 1].map(|n| build(&collectors[n], |builder| builder));
    let log = Log::default();
    let (later, handle) = reload::Layer::new(None::<FeedbackLayer>);
    let subscriber = tracing_subscriber::registry().with(log_to(log.clone())).with(later).with(b);
    tracing::subscriber::with_default(subscriber, || {
        info_span!("before").in_scope(|| ());
        handle.modify(|empty| *empty = Some(a)).unwrap();
        for _ in 0..3 {
            info_span!("after").in_scope(|| ());
        }
    });
    to_a.flush().unwrap();
    to_b.flush().unwrap();
    // The layer meets the first span before it finds that it isn't alone, and leaves that span to
    // the other layer.
    assert_eq!(collectors[0].tree(), "");
    assert_eq!(collectors[1].tree(), "before\nafter\nafter\nafter\n");
    assert_eq!(log.count("stays inert"), 1, "{}", log.text());
}

#[test]
fn layers_that_share_nothing_but_a_thread_can_be_dropped_in_any_order() {
    if !is_alone(concat!(
        module_path!(),
        "::layers_that_share_nothing_but_a_thread_can_be_dropped_in_any_order"
    )) {
        return;
    }
    let collector = Arc::new(tracing_feedback::collector::Collector::start().unwrap());
    for _ in 0..20 {
        let (layer, telemetry) = build(&collector, |builder| builder);
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        dispatcher::with_default(&dispatch, || {
            let outcome = enrich_span!(feedback = { "rating": 1 }).into_result();
            assert_eq!(outcome, Err(tracing_feedback::EnrichError::NoActiveSpan));
            info_span!("span").in_scope(|| ());
        });
        drop(dispatch);
        telemetry.shutdown().unwrap();
    }
    assert_eq!(collector.spans().len(), 20);
    dispatcher::with_default(&Dispatch::new(tracing_subscriber::registry()), || {
        let outcome = enrich_span!(feedback = { "rating": 1 }).into_result();
        assert_eq!(outcome, Err(tracing_feedback::EnrichError::NotInstalled));
    });
}

/// The shared data of a call site is built once for each choice of switches.
#[test]
fn one_call_site_records_what_each_layer_configures() {
    for chosen in 0..8_u8 {
        let [location, level, target] = [1, 2, 4].map(|bit| chosen & bit != 0);
        let rig = Rig::with(|builder| {
            builder.with_location(location).with_level(level).with_target(target)
        });
        rig.run(|| info_span!("span").in_scope(|| ()));
        let span = one(&rig.collector, "span");
        let present = ["code.file.path", "code.line.number", "code.module.name", "level", "target"]
            .map(|key| span.attribute(key).is_some());
        assert_eq!(present, [location, location, location, level, target]);
    }
    // By one of the conventions the field is feedback, which is exported whatever the sampler
    // decides.
    for (convention, arrives) in [(Convention::Bare, 0), (Convention::HoneyHive, 1)] {
        let rig = Rig::with(|builder| {
            builder.with_convention(convention).with_sampler(Sampler::AlwaysOff)
        });
        rig.run(|| info_span!("span", honeyhive_feedback.rating = 5).in_scope(|| ()));
        assert_eq!(rig.collector.spans().len(), arrives, "{convention:?}");
    }
}
