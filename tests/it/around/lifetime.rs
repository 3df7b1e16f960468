//! Spans of a provider, from their start to their end: on any thread, across `.await`, many at once, deep
//! ones, and those that never end. What they hold is released.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, TraceContextExt, TraceId, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{IdGenerator, Sampler, SdkTracer, Span, SpanData, SpanProcessor};
use tracing::instrument::WithSubscriber;
use tracing::{Instrument, info_span};
use tracing_feedback::{Session, Telemetry, enrich_session, enrich_span};
use tracing_subscriber::prelude::*;

use super::{Service, in_span, provider};
use crate::rig::is_alone;

/// Drops what it gets, and counts it.
#[derive(Clone, Debug, Default)]
pub(super) struct Discard(Arc<AtomicUsize>);

impl SpanProcessor for Discard {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}

// ---- threads and tasks -------------------------------------------------------------------------------

#[test]
fn a_span_is_enriched_by_any_thread_and_ended_on_another() {
    let service = Service::new();
    let context = Context::current_with_span(service.tracer.start("answer"));
    let ended = thread::scope(|scope| {
        for thread in 0..8 {
            let context = context.clone();
            scope.spawn(move || {
                let _active = context.attach();
                for at in 0..10 {
                    let key = format!("t{thread}.{at}");
                    assert!(enrich_span!(feedback = { "last": at, (key): at }).is_ok());
                }
            });
        }
        context.span().span_context().clone()
    });
    thread::spawn(move || context.span().end()).join().unwrap();
    let span = service.span("answer");
    assert_eq!(span.span_id, ended.span_id());
    assert_eq!(span.attributes.len(), 81);
    assert!(span.duplicate_keys.is_empty());
}

/// Each enrichment is on the span or, if that has ended meanwhile, on a carrier: never lost.
#[test]
fn enrichments_that_race_with_the_end_of_their_span_arrive() {
    if !is_alone(concat!(
        module_path!(),
        "::enrichments_that_race_with_the_end_of_their_span_arrive"
    )) {
        return;
    }
    let service = Service::new();
    let mut spans = Vec::new();
    for _ in 0..50 {
        let context = Context::current_with_span(service.tracer.start("answer"));
        let barrier = Barrier::new(3);
        thread::scope(|scope| {
            for thread in 0..2 {
                let (context, barrier) = (context.clone(), &barrier);
                scope.spawn(move || {
                    let _active = context.attach();
                    barrier.wait();
                    for at in 0..10 {
                        let key = format!("t{thread}.{at}");
                        assert!(enrich_span!(feedback = { (key): at }).is_ok());
                    }
                });
            }
            barrier.wait();
            context.span().end();
        });
        spans.push(context.span().span_context().clone());
    }
    service.arrived();
    for span in spans {
        let got = service.collector.feedback(span.trace_id(), span.span_id());
        assert_eq!(got.len(), 20, "{got:?}");
    }
}

async fn answer(number: usize) {
    for at in 0..3 {
        let key = format!("step{at}");
        assert!(enrich_span!(feedback = { "number": number, (key): at }).is_ok());
        assert!(enrich_session!(feedback = { "steps": [number] }).is_ok());
        tokio::task::yield_now().await;
    }
}

#[test]
fn tasks_take_their_span_along() {
    let service = Service::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let layer = tracing_opentelemetry::layer().with_tracer(service.tracer.clone());
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let tasks: Vec<_> = (0..40)
        .map(|number| match number % 2 {
            0 => {
                let span = service.tracer.start("answer");
                runtime.spawn(answer(number).with_context(Context::current_with_span(span)))
            }
            _ => tracing::dispatcher::with_default(&dispatch, || {
                let span = info_span!(parent: None, "answer");
                runtime.spawn(answer(number).instrument(span).with_subscriber(dispatch.clone()))
            }),
        })
        .collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
    drop(runtime); // and with it the last contexts
    let spans = service.arrived();
    let answers: Vec<_> = spans.iter().filter(|span| span.name == "answer").collect();
    assert_eq!(answers.len(), 40);
    for answer in answers {
        let keys = answer.attributes.keys().filter(|key| key.starts_with("feedback."));
        assert_eq!(keys.count(), 4, "{:?}", answer.attributes);
        let number = answer.attributes["feedback.number"].clone();
        let of_trace = service.collector.trace_feedback(answer.trace_id);
        assert_eq!(of_trace["feedback.steps.0"], number);
    }
}

// ---- depth -------------------------------------------------------------------------------------------

/// Spans below each other, from the outermost.
fn nested(tracer: &SdkTracer, depth: usize) -> Vec<Context> {
    let mut contexts = vec![Context::new().with_span(tracer.start("span"))];
    for _ in 1..depth {
        let parent = contexts.last().unwrap();
        contexts.push(parent.with_span(tracer.start_with_context("span", parent)));
    }
    contexts
}

const DEPTH: usize = 10_000;

#[test]
fn deep_spans_may_end_in_any_order() {
    for is_reversed in [false, true] {
        let discard = Discard::default();
        let (processor, telemetry) =
            tracing_feedback::builder().build_around(discard.clone()).unwrap();
        let provider = provider(processor).build();
        let mut contexts = nested(&provider.tracer("chat"), DEPTH);
        for context in &contexts {
            let _active = context.clone().attach();
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        }
        {
            let _active = contexts.last().unwrap().clone().attach();
            assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
        }
        if is_reversed {
            contexts.reverse();
        }
        contexts.into_iter().for_each(|context| context.span().end());
        telemetry.flush().unwrap();
        // And the trace's feedback, since the root has its own.
        assert_eq!(discard.0.load(Ordering::Relaxed), DEPTH + 1);
    }
}

#[test]
fn feedback_of_a_session_finds_the_outermost_span_at_any_depth() {
    let service = Service::new();
    let builder = service.tracer.span_builder("turn");
    let root = builder.with_attributes([KeyValue::new("session.id", "s")]).start(&service.tracer);
    let mut contexts = vec![Context::new().with_span(root)];
    for _ in 0..1000 {
        let parent = contexts.last().unwrap();
        let span = service.tracer.start_with_context("span", parent);
        contexts.push(parent.with_span(span));
    }
    {
        let _active = contexts.last().unwrap().clone().attach();
        assert_eq!(Session::current().unwrap().id(), "s");
        assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
    }
    drop(contexts);
    let turn = service.span("turn");
    assert_eq!(turn.attributes["feedback.resolved"], true);
}

#[test]
fn deep_spans_that_are_open_at_shutdown_leave_their_feedback() {
    let discard = Discard::default();
    let (processor, telemetry) = tracing_feedback::builder().build_around(discard.clone()).unwrap();
    let provider = provider(processor).build();
    let contexts = nested(&provider.tracer("chat"), DEPTH);
    for context in contexts.iter().step_by(100) {
        let _active = context.clone().attach();
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    }
    telemetry.shutdown().unwrap();
    assert_eq!(discard.0.load(Ordering::Relaxed), DEPTH / 100);
    drop(contexts);
    drop(provider);
}

// ---- what is held ------------------------------------------------------------------------------------

/// Something that a provider with a processor of this crate holds, to see whether it is released.
fn held()
-> (impl Fn(&str, opentelemetry::Value) -> Option<opentelemetry::Value>, std::sync::Weak<()>) {
    let held = Arc::new(());
    let weak = Arc::downgrade(&held);
    let redact = move |_: &str, value| {
        let _held = &held;
        Some(value)
    };
    (redact, weak)
}

#[test]
fn nothing_is_held_after_the_provider_and_the_handle() {
    for is_telemetry_first in [true, false] {
        let (redact, weak) = held();
        let (processor, telemetry) = tracing_feedback::builder()
            .with_redaction(redact)
            .build_around(Discard::default())
            .unwrap();
        let provider = provider(processor).build();
        let tracer = provider.tracer("chat");
        in_span(&tracer, "ended", || {
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        });
        let open = Context::current_with_span(tracer.start("open"));
        {
            let _active = open.clone().attach();
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
            assert!(enrich_session!(feedback = { "rating": 1 }).is_ok());
        }
        drop(tracer);
        if is_telemetry_first {
            drop((telemetry, provider));
        } else {
            drop((provider, telemetry));
        }
        // An open span holds its provider.
        assert!(weak.upgrade().is_some());
        drop(open);
        assert!(weak.upgrade().is_none());
    }
}

#[test]
fn a_span_that_is_open_when_its_provider_is_dropped_arrives() {
    let Service { telemetry, provider, tracer, collector } = Service::new();
    let context = Context::current_with_span(tracer.start("answer"));
    drop((provider, tracer));
    {
        let _active = context.clone().attach();
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    }
    context.span().end();
    telemetry.flush().unwrap();
    assert_eq!(collector.spans()[0].attributes["feedback.rating"], 1);
}

/// Every second span has the ids of the one before, which is its parent, and open.
#[derive(Debug, Default)]
struct RepeatedIds(AtomicU64);

impl IdGenerator for RepeatedIds {
    fn new_trace_id(&self) -> TraceId {
        TraceId::from(7)
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(self.0.fetch_add(1, Ordering::Relaxed) / 2 + 1)
    }
}

#[test]
fn spans_of_one_id_lose_no_feedback() {
    let (redact, weak) = held();
    let collector = tracing_feedback::collector::Collector::start().unwrap();
    let (processor, telemetry) = tracing_feedback::builder()
        .with_redaction(redact)
        .build_around(super::batch(&collector))
        .unwrap();
    let provider = provider(processor).with_id_generator(RepeatedIds::default()).build();
    let tracer = provider.tracer("chat");
    let session = |name: &'static str| {
        let builder = tracer.span_builder(name);
        builder.with_attributes([KeyValue::new("session.id", "s")]).start(&tracer)
    };
    for _ in 0..3 {
        let outer = Context::current_with_span(session("outer"));
        let _outer = outer.attach();
        assert!(enrich_span!(feedback = { "outer": 1 }).is_ok());
        let inner = Context::current_with_span(session("inner"));
        let _inner = inner.attach();
        assert!(enrich_span!(feedback = { "inner": 1 }).is_ok());
        assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
    }
    telemetry.flush().unwrap();
    for id in 1..4_u64 {
        let got = collector.feedback(TraceId::from(7), SpanId::from(id));
        assert_eq!((&got["feedback.outer"], &got["feedback.inner"]), (&1.into(), &1.into()));
    }
    assert_eq!(collector.session_feedback("s")["feedback.resolved"], true);
    drop((tracer, provider));
    drop(telemetry);
    assert!(weak.upgrade().is_none(), "the state of a span is held");
}

// ---- memory ------------------------------------------------------------------------------------------

/// The memory of this process, in MiB.
#[cfg(target_os = "linux")]
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Does `round` some times. Asserts that the process has hardly grown since the second.
#[cfg(target_os = "linux")]
fn assert_no_growth(rounds: usize, most: f64, mut round: impl FnMut()) {
    round();
    round();
    let before = resident();
    (0..rounds).for_each(|_| round());
    let after = resident();
    println!("{before:.1} MiB before, {after:.1} MiB after {rounds} rounds");
    assert!(after - before < most, "{before} MiB before, {after} MiB after");
}

fn discarding() -> (opentelemetry_sdk::trace::SdkTracerProvider, Telemetry) {
    let (processor, telemetry) =
        tracing_feedback::builder().build_around(Discard::default()).unwrap();
    (provider(processor).build(), telemetry)
}

/// A comment of a KiB.
fn comment() -> String {
    "x".repeat(1024)
}

#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_many_open_spans_is_released() {
    if !is_alone(concat!(module_path!(), "::the_memory_of_many_open_spans_is_released")) {
        return;
    }
    let (provider, _telemetry) = discarding();
    let tracer = provider.tracer("chat");
    // What one enrichment alone would hold: 40 MiB.
    assert_no_growth(4, 10.0, || {
        let open: Vec<_> = (0..10_000)
            .map(|_| Context::new().with_span(tracer.start_with_context("open", &Context::new())))
            .collect();
        for context in &open {
            let _active = context.clone().attach();
            assert!(enrich_span!(feedback = { "comment": comment() }).is_ok());
        }
    });
}

/// How many spans are made one after another. By hand, in release: 1000000.
const SPANS: &str = "TRACING_FEEDBACK_TEST_SPANS";

#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_spans_in_sequence_is_released() {
    if !is_alone(concat!(module_path!(), "::the_memory_of_spans_in_sequence_is_released")) {
        return;
    }
    let spans = std::env::var(SPANS).map_or(50_000, |spans| spans.parse().unwrap());
    let (provider, _telemetry) = discarding();
    let tracer = provider.tracer("chat");
    // With a session each, and the half of them enriched: at least 25 MiB of comments.
    assert_no_growth(5, 5.0, || {
        for number in 0..spans / 5 {
            let builder = tracer.span_builder("answer");
            let session = KeyValue::new("session.id", format!("conversation-{number}"));
            let span = builder.with_attributes([session]).start(&tracer);
            let context = Context::current_with_span(span);
            let _active = context.attach();
            if number % 2 == 0 {
                assert!(enrich_span!(feedback = { "comment": comment() }).is_ok());
            }
        }
    });
}

/// The SDK holds a span that is leaked, and so its provider. What was attached to it is sent at shutdown.
#[cfg(target_os = "linux")]
#[test]
fn a_span_that_never_ends_holds_nothing_after_shutdown() {
    if !is_alone(concat!(module_path!(), "::a_span_that_never_ends_holds_nothing_after_shutdown")) {
        return;
    }
    let large = "x".repeat(100 * 1024);
    // 200 leaked spans a round: their documents would be 80 MiB.
    assert_no_growth(4, 15.0, || {
        let (provider, telemetry) = discarding();
        let tracer = provider.tracer("chat");
        for _ in 0..200 {
            let context = Context::new().with_span(tracer.start("leaked"));
            let _active = context.clone().attach();
            assert!(enrich_span!(feedback = { "comment": large }).is_ok());
            std::mem::forget(context);
        }
        provider.shutdown().unwrap();
        drop(telemetry);
    });
}

#[test]
fn feedback_on_a_leaked_span_leaves_at_shutdown() {
    let service = Service::with(|builder| builder, Sampler::AlwaysOn);
    let context = Context::current_with_span(service.tracer.start("leaked"));
    let leaked: SpanContext = context.span().span_context().clone();
    {
        let _active = context.clone().attach();
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    }
    std::mem::forget(context);
    service.provider.shutdown().unwrap();
    let got = service.collector.feedback(leaked.trace_id(), leaked.span_id());
    assert_eq!(got["feedback.rating"], 1);
}
