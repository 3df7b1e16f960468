//! Parts that a service brings, and that panic: spans are made without them. What a thread does while
//! it unwinds is done in a process of its own, which a second panic would abort.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::trace::{Link, SpanId, SpanKind, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{
    IdGenerator, Sampler, SamplingDecision, SamplingResult, ShouldSample,
};
use tracing::{info, info_span};
use tracing_feedback::{Builder, SpanExt, enrich_session, enrich_span};
use tracing_subscriber::prelude::*;

use crate::show::{Log, is_child, one};
use crate::{Rig, build};

/// Panics for spans whose name begins with "bad", and for every second id.
#[derive(Clone, Debug, Default)]
struct Panics(std::sync::Arc<AtomicU64>);

impl ShouldSample for Panics {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        name: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        if name.starts_with("bad") {
            panic_any("on purpose");
        }
        let decision = match name.starts_with("left out") {
            true => SamplingDecision::Drop,
            false => SamplingDecision::RecordAndSample,
        };
        SamplingResult { decision, attributes: vec![], trace_state: Default::default() }
    }
}

impl Panics {
    fn next(&self) -> u64 {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        if number % 2 == 1 { panic_any("on purpose") } else { number + 1 }
    }
}

impl IdGenerator for Panics {
    fn new_trace_id(&self) -> TraceId {
        TraceId::from(u128::from(self.next()))
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(self.next())
    }
}

/// A rig with such a part, whose warnings are logged.
fn rig(log: &Log, with: impl FnOnce(Builder) -> Builder) -> Rig {
    let collector = tracing_feedback::collector::Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, with);
    let writer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.clone());
    let subscriber = tracing_subscriber::registry().with(layer).with(writer);
    Rig::from_parts(collector, tracing::Dispatch::new(subscriber), telemetry)
}

#[test]
fn a_sampler_that_panics_leaves_the_decision_to_the_parent() {
    let parent_based = Sampler::ParentBased(Box::new(Panics::default()));
    for is_of_sdk in [false, true] {
        let log = Log::default();
        let rig = rig(&log, |builder| match is_of_sdk {
            true => builder.with_sampler(parent_based.clone()),
            false => builder.with_sampler(Panics::default()),
        });
        rig.run(|| {
            for _ in 0..3 {
                let _root = info_span!("bad root").entered();
                info_span!("good").in_scope(|| info!("event"));
                info_span!("bad child").in_scope(|| ());
            }
            info_span!("left out").in_scope(|| info_span!("bad below").in_scope(|| ()));
            assert!(!info_span!("bad and never entered").span_context().unwrap().is_remote());
        });
        let spans = rig.collector.spans();
        assert_eq!(spans.len(), 10, "{}", rig.collector.tree());
        assert!(!spans.iter().any(|span| span.name == "bad below"));
        let panics = if is_of_sdk { 4 } else { 8 };
        assert_eq!(rig.telemetry.stats().refused["sampler_panicked"], panics);
        let text = log.text();
        assert_eq!(text.matches("the sampler panicked").count(), 1, "{text}");
    }
}

#[test]
fn an_id_generator_that_panics_is_replaced_by_random_ids() {
    let log = Log::default();
    let rig = rig(&log, |builder| builder.with_id_generator(Panics::default()));
    rig.run(|| {
        let root = info_span!("root").entered();
        info_span!("child").in_scope(|| ());
        let target = root.span_context().unwrap();
        drop(root);
        enrich_span!(target = &target, feedback = { "rating": 1 });
        enrich_session!(session_id = "another", feedback = { "rating": 2 });
    });
    assert_eq!(rig.collector.spans().len(), 4);
    let (root, child) = (one(&rig.collector, "root"), one(&rig.collector, "child"));
    assert!(is_child(&child, &root));
    assert_eq!((root.span_id, child.span_id), (SpanId::from(1), SpanId::from(3)));
    assert!(root.trace_id != TraceId::INVALID && root.trace_id != TraceId::from(2));
    let panicked = rig.telemetry.stats().refused["id_generator_panicked"];
    assert_eq!(panicked, 3, "{:?}", rig.collector.spans());
    assert_eq!(log.text().matches("the id generator panicked").count(), 1);
}

/// The variable that is set in the process that was started to unwind.
const UNWIND: &str = "TRACING_FEEDBACK_TEST_UNWIND";

/// Makes spans when it is dropped.
struct Unwinds;

impl Drop for Unwinds {
    fn drop(&mut self) {
        let span = info_span!("bad", bad = 1);
        span.in_scope(|| {
            info!(bad = 2, "event");
            info_span!("child").in_scope(|| enrich_span!(feedback = { "bad": 3, "good": 4 }));
        });
        drop(span);
        println!("unwound: {}", std::thread::panicking());
    }
}

/// The process that was started to unwind; by itself it does nothing.
#[test]
fn part() {
    if std::env::var_os(UNWIND).is_none() {
        return;
    }
    let rig = Rig::with(|builder| {
        builder.with_sampler(Panics::default()).with_id_generator(Panics::default()).with_redaction(
            |key, value| match key.ends_with("bad") {
                true => panic_any("on purpose"),
                false => Some(value),
            },
        )
    });
    rig.run(|| {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _last = Unwinds;
            panic_any("the first panic");
        }));
        assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"the first panic"));
    });
    let (bad, child) = (one(&rig.collector, "bad"), one(&rig.collector, "child"));
    assert!(is_child(&child, &bad) && bad.attributes.is_empty() && bad.events.len() == 1);
    assert_eq!(child.attributes["feedback.good"], 4);
    let refused = rig.telemetry.stats().refused;
    for reason in ["sampler_panicked", "id_generator_panicked", "redaction_panicked"] {
        assert!(refused[reason] > 0, "{refused:?}");
    }
    println!("ended");
}

#[test]
fn a_part_that_panics_while_the_thread_unwinds_does_not_abort() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "user_code::part", "--nocapture", "--test-threads=1"])
        .env(UNWIND, "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("unwound: true") && text.contains("ended"), "{text}");
}
