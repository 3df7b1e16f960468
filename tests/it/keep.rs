//! Traces that the sampler left out, kept whole since feedback has arrived on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::trace::{
    Link, SpanContext, SpanKind, TraceContextExt, TraceId, TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, SpanLimits,
};
use tracing::field::Empty;
use tracing::{dispatcher, info_span};
use tracing_feedback::collector::{Collector, ReceivedSpan, Value};
use tracing_feedback::{
    Builder, Keep, KeepLimits, LateTraces, Protocol, SpanExt, Stats, TicketKeys, enrich_session,
    enrich_span, propagation, ticket,
};

use crate::Rig;
use crate::show::{attributes, one, with_timeout};

const LONG: Duration = Duration::from_secs(3600);

/// No trace is sampled, and those with feedback are kept.
fn keeping(configure: impl FnOnce(Builder) -> Builder) -> Rig {
    Rig::with(|builder| configure(builder.with_sampler(Sampler::AlwaysOff).with_keep(KEEP)))
}

const KEEP: Keep = Keep::TracesWithFeedback;

/// Limits that nothing in a test comes near to.
fn generous_limits() -> KeepLimits {
    KeepLimits::new().with_max_age(LONG).with_grace_period(LONG)
}

/// Late feedback always comes too late.
fn without_grace_period() -> KeepLimits {
    generous_limits().with_grace_period(Duration::ZERO)
}

/// A trace of two spans, which have ended.
fn answered() -> SpanContext {
    let answer = info_span!("answer");
    answer.in_scope(|| info_span!("retrieve").in_scope(|| ()));
    answer.span_context().unwrap()
}

fn held(stats: &Stats) -> (u64, u64) {
    (stats.held, stats.unsampled)
}

/// Received spans that aren't carriers, by trace.
fn traces(collector: &Collector) -> BTreeMap<[u8; 16], BTreeSet<String>> {
    let mut traces: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for span in spans(collector) {
        traces.entry(span.trace_id.to_bytes()).or_default().insert(span.name);
    }
    traces
}

fn spans(collector: &Collector) -> Vec<ReceivedSpan> {
    collector.spans().into_iter().filter(|span| !span.is_carrier()).collect()
}

// ---- what is kept ------------------------------------------------------------------------------

#[test]
fn a_trace_with_feedback_arrives_whole_and_says_why() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
        let collector = Collector::start().unwrap();
        let endpoint = match protocol {
            Protocol::Grpc => collector.endpoint().to_owned(),
            _ => collector.http_endpoint().to_owned(),
        };
        let rig = Rig::of(collector, |builder| {
            builder
                .with_protocol(protocol)
                .with_endpoint(endpoint)
                .with_sampler(Sampler::AlwaysOff)
                .with_keep(KEEP)
        });
        rig.run(|| {
            let _ask = info_span!("ask", question = "why?").entered();
            info_span!("retrieve").in_scope(|| info_span!("search").in_scope(|| ()));
            info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 1 }));
            info_span!("log").in_scope(|| ());
        });
        let tree = "ask\n  retrieve\n    search\n  answer\n      feedback.rating = 1\n  log\n";
        assert_eq!(rig.collector.tree(), tree, "{protocol:?}");
        let marks = "tracing_feedback.kept=true tracing_feedback.sampled=false";
        for span in rig.collector.spans() {
            let shown = match &*span.name {
                "ask" => format!("question=\"why?\" {marks}"),
                "answer" => format!("feedback.rating=1 {marks}"),
                _ => marks.to_owned(),
            };
            assert_eq!(attributes(&span), shown, "{protocol:?}, {}", span.name);
            assert_eq!(span.flags & 1, 0, "the sampler has decided");
        }
        assert_eq!(held(&rig.telemetry.stats()), (0, 0));
    }
}

#[test]
fn without_feedback_nothing_is_on_the_wire() {
    let rig = keeping(|builder| builder);
    rig.run(|| (0..100).for_each(|_| drop(answered())));
    assert_eq!(held(&rig.telemetry.stats()), (200, 0));
    rig.telemetry.shutdown().unwrap();
    assert_eq!(rig.collector.requests().len(), 0);
    let stats = rig.telemetry.stats();
    assert_eq!(held(&stats), (0, 200));
    assert_eq!((stats.exported, stats.dropped), (0, 0));
}

#[test]
fn what_is_sampled_is_none_of_its_business() {
    let rig = Rig::with(|builder| builder.with_keep(KEEP));
    rig.run(|| {
        answered();
        let _answer = info_span!("answer").entered();
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    assert_eq!(rig.collector.spans().len(), 3);
    let marked = |span: &ReceivedSpan| span.attribute("tracing_feedback.kept").is_some();
    assert!(!rig.collector.spans().iter().any(marked));
    assert_eq!(held(&rig.telemetry.stats()), (0, 0));
}

#[test]
fn what_is_held_leaves_when_feedback_is_attached_and_not_when_its_span_closes() {
    let rig = keeping(|builder| builder);
    dispatcher::with_default(&rig.dispatch, || {
        let ask = info_span!("ask").entered();
        info_span!("before").in_scope(|| ());
        let answer = info_span!("answer").entered();
        let _ = enrich_span!(feedback = { "rating": 1 });
        rig.telemetry.flush().unwrap();
        assert_eq!(rig.collector.tree(), "before\n");
        // A span that ends later is exported at once, whatever its parent.
        info_span!("below").in_scope(|| ());
        drop(answer);
        info_span!("after").in_scope(|| ());
        assert_eq!(rig.telemetry.stats().held, 0);
        drop(ask);
    });
    rig.telemetry.flush().unwrap();
    let expected = ["before", "answer", "below", "after", "ask"].map(str::to_owned);
    assert_eq!(traces(&rig.collector).into_values().next(), Some(expected.into()));
}

#[test]
fn spans_that_outlive_their_root_belong_to_the_trace() {
    let rig = keeping(|builder| builder);
    rig.run(|| {
        let answer = info_span!("answer");
        let context = answer.span_context().unwrap();
        drop(answer);
        assert!(enrich_span!(target = context.clone(), feedback = { "rating": 1 }).is_ok());
        let task = info_span!("task");
        task.set_parent(Context::new().with_remote_span_context(context)).unwrap();
    });
    assert_eq!(spans(&rig.collector).len(), 2);
    assert_eq!(one(&rig.collector, "task").attributes["tracing_feedback.kept"], true);
}

#[test]
fn other_traces_stay_where_they_are() {
    let rig = keeping(|builder| builder);
    rig.run(|| {
        answered();
        let second = answered();
        answered();
        let _ = enrich_span!(target = second, feedback = { "rating": 1 });
    });
    assert_eq!(traces(&rig.collector).len(), 1);
    assert_eq!(held(&rig.telemetry.stats()), (4, 0));
}

#[test]
fn several_local_roots_of_one_trace_are_kept_together() {
    let rig = Rig::with(|builder| builder.with_keep(KEEP).with_keep_limits(generous_limits()));
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let headers = HashMap::from([("traceparent".to_owned(), header.to_owned())]);
    rig.run(|| {
        let request = |name| {
            let span = info_span!("request", otel.name = name);
            span.set_parent(propagation::extract(&headers)).unwrap();
            span
        };
        request("first").in_scope(|| info_span!("work").in_scope(|| ()));
        let second = request("second").entered();
        let third = request("third");
        let _ = enrich_span!(feedback = { "rating": 1 });
        drop(second);
        drop(third);
    });
    let expected = ["first", "work", "second", "third"].map(str::to_owned);
    assert_eq!(traces(&rig.collector).into_values().collect::<Vec<_>>(), [expected.into()]);
    assert_eq!(held(&rig.telemetry.stats()), (0, 0));
}

// ---- what counts as feedback -------------------------------------------------------------------

#[test]
fn late_feedback_by_ticket_keeps_its_trace() {
    let keys = TicketKeys::new([[7; 32]]).unwrap();
    let rig = keeping(|builder| builder.with_ticket_keys(keys.clone()));
    rig.run(|| {
        let answer = info_span!("answer");
        let text = answer.in_scope(|| {
            info_span!("retrieve").in_scope(|| ());
            ticket().unwrap().to_string()
        });
        drop(answer);
        assert_eq!(rig.telemetry.stats().held, 2);
        let ticket = keys.verifier().verify(&text).unwrap();
        assert!(enrich_span!(target = &ticket, feedback = { "rating": 1 }).is_ok());
    });
    let shown = "feedback.rating = 1";
    assert_eq!(
        rig.collector.tree(),
        format!("answer\n    {shown}\n  retrieve\n  feedback (late)\n      {shown}\n")
    );
    let carrier = one(&rig.collector, "feedback");
    assert_eq!(carrier.flags & 1, 1);
    assert_eq!(carrier.attribute("tracing_feedback.kept"), None, "it was never to be left out");
}

#[test]
fn late_feedback_keeps_the_trace_of_its_target_in_whichever_trace_it_is() {
    for late_traces in [LateTraces::Own, LateTraces::Target] {
        let rig = keeping(|builder| builder.with_late_traces(late_traces));
        let answer = rig.run(|| {
            let answer = answered();
            let _ = enrich_span!(target = &answer, feedback = { "rating": 1 });
            answer
        });
        let spans = spans(&rig.collector);
        assert_eq!(spans.len(), 2);
        assert!(spans.iter().all(|span| span.trace_id == answer.trace_id()));
        let carrier = one(&rig.collector, "feedback");
        assert_eq!(carrier.trace_id == answer.trace_id(), late_traces == LateTraces::Target);
        assert_eq!(carrier.links[0].trace_id, answer.trace_id());
    }
}

#[test]
fn feedback_about_a_session_keeps_the_trace_where_it_lands() {
    let rig = keeping(|builder| builder);
    rig.run(|| {
        let _turn = info_span!("turn", session.id = "s").entered();
        info_span!("step").in_scope(|| ());
        info_span!("answer").in_scope(|| enrich_session!(feedback = { "resolved": true }));
    });
    rig.run(|| {
        let _turn = info_span!("another turn", session.id = "s").entered();
    });
    assert_eq!(rig.collector.spans().len(), 3);
    let turn = one(&rig.collector, "turn");
    let expected = "feedback.resolved=true session.id=\"s\" tracing_feedback.kept=true \
                    tracing_feedback.sampled=false tracing_feedback.scope=\"session\"";
    assert!(attributes(&turn).starts_with(expected), "{}", attributes(&turn));
    let step = one(&rig.collector, "step");
    assert_eq!(
        attributes(&step),
        "session.id=\"s\" tracing_feedback.kept=true tracing_feedback.sampled=false"
    );
}

#[test]
fn a_field_that_is_feedback_keeps_the_trace_at_once() {
    let rig = keeping(|builder| builder);
    dispatcher::with_default(&rig.dispatch, || {
        let _ask = info_span!("ask").entered();
        info_span!("step").in_scope(|| ());
        let vote = info_span!("vote", feedback.rating = Empty).entered();
        rig.telemetry.flush().unwrap();
        assert_eq!(rig.collector.spans().len(), 0);
        vote.record("feedback.rating", 5);
        rig.telemetry.flush().unwrap();
        assert_eq!(rig.collector.tree(), "step\n");
    });
    rig.telemetry.flush().unwrap();
    assert_eq!(rig.collector.spans().len(), 3);
}

#[test]
fn feedback_on_a_span_that_has_not_started_keeps_the_trace_in_which_it_starts() {
    // Where a sampler decides, and where the place of a span is planned.
    for configure in [(|builder| builder) as fn(Builder) -> Builder, |builder| {
        builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
    }] {
        let rig = Rig::with(|builder| {
            configure(builder.with_keep(KEEP).with_keep_limits(generous_limits()))
        });
        let unsampled = |id: u128| {
            let header = format!("00-{id:032x}-b7ad6b7169203331-00");
            propagation::extract(&HashMap::from([("traceparent".to_owned(), header)]))
        };
        dispatcher::with_default(&rig.dispatch, || {
            for id in [1, 2] {
                let before = info_span!("before");
                before.set_parent(unsampled(id)).unwrap();
            }
            let request = info_span!("request", feedback.rating = 1);
            request.set_parent(unsampled(1)).unwrap();
            assert!(enrich_span!(span = &request, feedback = { "rating": 2 }).is_ok());
            request.set_parent(unsampled(2)).unwrap(); // it may still change its mind
            rig.telemetry.flush().unwrap();
            assert_eq!(rig.collector.spans().len(), 0);
            request.in_scope(|| ());
            rig.telemetry.flush().unwrap();
            assert_eq!(one(&rig.collector, "before").trace_id, TraceId::from(2));
        });
        rig.telemetry.flush().unwrap();
        assert_eq!(rig.collector.spans().len(), 2);
    }
}

/// Samples the spans with one name, and records the others.
#[derive(Clone, Debug)]
struct Only(&'static str);

impl ShouldSample for Only {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        name: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let decision = match name == self.0 {
            true => SamplingDecision::RecordAndSample,
            false => SamplingDecision::RecordOnly,
        };
        // The layer's own keys can't be set by others.
        let attributes = vec![KeyValue::new("tracing_feedback.kept", "a lie")];
        SamplingResult { decision, attributes, trace_state: TraceState::default() }
    }
}

#[test]
fn feedback_on_a_sampled_span_keeps_what_is_not_sampled_of_its_trace() {
    let rig = Rig::with(|builder| builder.with_sampler(Only("answer")).with_keep(KEEP));
    rig.run(|| {
        let _ask = info_span!("ask").entered();
        info_span!("retrieve").in_scope(|| ());
        info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 1 }));
    });
    assert_eq!(rig.collector.tree(), "ask\n  retrieve\n  answer\n      feedback.rating = 1\n");
    assert_eq!(attributes(&one(&rig.collector, "answer")), "feedback.rating=1");
    let marks = "tracing_feedback.kept=true tracing_feedback.sampled=false";
    assert_eq!(attributes(&one(&rig.collector, "ask")), marks);
}

#[test]
fn spans_made_with_the_api_belong_to_their_trace() {
    let rig = keeping(|builder| builder);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(rig.telemetry.span_processor())
        .with_sampler(Only("nothing"))
        .build();
    let tracer = provider.tracer("library");
    rig.run(|| {
        tracer.in_span("silent", |_| info_span!("ours").in_scope(|| ()));
        tracer.in_span("theirs", |_| {
            tracer.in_span("before", |_| ());
            info_span!("ours").in_scope(|| enrich_span!(feedback = { "rating": 1 }));
            tracer.in_span("after", |_| ());
        });
    });
    assert_eq!(
        rig.collector.tree(),
        "theirs\n  before\n  ours\n      feedback.rating = 1\n  after\n"
    );
    let marks = "tracing_feedback.kept=true tracing_feedback.sampled=false";
    for name in ["theirs", "before", "after"] {
        let span = one(&rig.collector, name);
        assert_eq!((attributes(&span).as_str(), span.flags & 1), (marks, 0));
        assert_eq!(span.scope.name, "library");
    }
    assert_eq!(one(&rig.collector, "ours").scope.name, "tracing-feedback");
    assert_eq!(held(&rig.telemetry.stats()), (2, 0));

    rig.run(|| {
        tracer.in_span("root", |_| {
            info_span!("step").in_scope(|| ());
            tracer.in_span("rated", |context| {
                context.span().set_attribute(KeyValue::new("feedback.rating", 2));
            });
        });
    });
    let rated = one(&rig.collector, "rated");
    assert_eq!(attributes(&rated), format!("feedback.rating=2 {marks}"));
    assert_eq!(one(&rig.collector, "step").trace_id, rated.trace_id);
    assert_eq!(one(&rig.collector, "root").trace_id, rated.trace_id);
}

// ---- propagation ------------------------------------------------------------------------------

#[test]
fn other_services_get_the_decision_of_the_sampler() {
    let rig = keeping(|builder| builder);
    rig.run(|| {
        let _ask = info_span!("ask").entered();
        info_span!("before").in_scope(|| ());
        let traceparent = || {
            let mut headers = HashMap::new();
            propagation::inject(&mut headers);
            headers.remove("traceparent").unwrap()
        };
        let before = traceparent();
        let _ = enrich_span!(feedback = { "rating": 1 });
        assert_eq!(traceparent(), before);
        assert!(before.ends_with("-00"), "{before}");
        let child = info_span!("child").entered();
        assert!(traceparent().ends_with("-00"));
        assert!(!child.span_context().unwrap().is_sampled());
    });
    assert_eq!(spans(&rig.collector).len(), 3);
    assert!(rig.collector.spans().iter().all(|span| span.flags & 1 == 0));
}

// ---- limits ------------------------------------------------------------------------------------

#[test]
fn after_the_grace_period_late_feedback_comes_alone() {
    let rig = keeping(|builder| builder.with_keep_limits(without_grace_period()));
    rig.run(|| {
        let answer = answered();
        let _ = enrich_span!(target = answer, feedback = { "rating": 1 });
    });
    assert_eq!(rig.collector.tree(), "feedback (late)\n    feedback.rating = 1\n");
    assert_eq!(held(&rig.telemetry.stats()), (0, 2));
}

#[test]
fn what_is_over_is_dropped_though_nothing_happens() {
    let delay = Duration::from_millis(10);
    let rig = keeping(|builder| {
        builder
            .with_schedule_delay(delay)
            .with_keep_limits(KeepLimits::new().with_grace_period(Duration::from_millis(1)))
    });
    dispatcher::with_default(&rig.dispatch, || {
        (0..1000).for_each(|_| drop(answered()));
    });
    let until = Instant::now() + Duration::from_secs(20);
    while held(&rig.telemetry.stats()) != (0, 2000) {
        assert!(Instant::now() < until, "{:?}", rig.telemetry.stats());
        thread::yield_now();
    }
    assert_eq!(rig.collector.requests().len(), 0);
}

#[test]
fn flush_neither_exports_nor_drops_what_is_held() {
    let rig = keeping(|builder| builder.with_keep_limits(generous_limits()));
    rig.run(|| {
        let answer = answered();
        for _ in 0..3 {
            rig.telemetry.flush().unwrap();
        }
        assert_eq!(held(&rig.telemetry.stats()), (2, 0));
        assert_eq!(rig.collector.requests().len(), 0);
        let _ = enrich_span!(target = answer, feedback = { "rating": 1 });
    });
    assert_eq!(spans(&rig.collector).len(), 2);
}

#[test]
fn what_is_held_for_longest_makes_room() {
    let large = "x".repeat(2000);
    for limits in [generous_limits().with_max_spans(6), generous_limits().with_max_bytes(16_000)] {
        let rig = keeping(|builder| builder.with_keep_limits(limits));
        rig.run(|| {
            let answers: Vec<_> = (0..5)
                .map(|n| {
                    let answer = info_span!("answer", n, large);
                    answer.in_scope(|| info_span!("retrieve", large).in_scope(|| ()));
                    answer.span_context().unwrap()
                })
                .collect();
            assert_eq!(held(&rig.telemetry.stats()), (6, 4));
            for answer in answers {
                let _ = enrich_span!(target = answer, feedback = { "rating": 1 });
            }
        });
        let spans = spans(&rig.collector);
        let kept: Vec<_> = spans.iter().filter_map(|span| span.attribute("n")).collect();
        assert_eq!(kept, [&Value::from(2), &Value::from(3), &Value::from(4)], "{limits:?}");
        assert_eq!(spans.len(), 6);
    }
}

#[test]
fn what_feedback_has_asked_for_is_exported_before_it_makes_room() {
    let limits = generous_limits().with_max_spans(4);
    let rig = keeping(|builder| {
        builder.with_keep_limits(limits).with_schedule_delay(LONG) // the export thread doesn't evaluate held spans
    });
    rig.run(|| {
        let answer = answered();
        assert!(enrich_span!(target = &answer, feedback = { "rating": 1 }).is_ok());
        (0..100).for_each(|_| drop(answered()));
    });
    assert_eq!(spans(&rig.collector).len(), 2);
    assert_eq!(held(&rig.telemetry.stats()), (4, 196));
}

#[test]
fn a_trace_that_is_too_old_is_dropped_before_its_root_has_ended() {
    let limits = generous_limits().with_max_age(Duration::ZERO);
    let rig = keeping(|builder| builder.with_keep_limits(limits));
    rig.run(|| {
        let _ask = info_span!("ask").entered();
        info_span!("first").in_scope(|| ());
        info_span!("second").in_scope(|| ());
        let _ = enrich_span!(feedback = { "rating": 1 });
    });
    assert_eq!(rig.collector.tree(), "ask\n    feedback.rating = 1\n");
    assert_eq!(held(&rig.telemetry.stats()), (0, 2));
}

#[test]
fn under_the_attribute_limit_the_marks_come_first() {
    let limits = SpanLimits { max_attributes_per_span: 3, ..SpanLimits::default() };
    let rig = keeping(|builder| builder.with_span_limits(limits));
    rig.run(|| {
        let _ask = info_span!("ask", a = 1, b = 2, c = 3).entered();
        info_span!("before", a = 1, b = 2).in_scope(|| ());
        assert_eq!(rig.telemetry.stats().dropped_attributes, 0); // of what isn't exported
        let _answer = info_span!("answer", a = 1, b = 2).entered();
        let _ = enrich_span!(feedback = { "rating": 1 });
    });
    let marks = "tracing_feedback.kept=true tracing_feedback.sampled=false";
    let (ask, answer) = (one(&rig.collector, "ask"), one(&rig.collector, "answer"));
    assert_eq!(attributes(&ask), format!("a=1 {marks}"));
    assert_eq!(attributes(&answer), format!("feedback.rating=1 {marks}"));
    assert_eq!((ask.dropped_attributes_count, answer.dropped_attributes_count), (2, 2));
    assert_eq!(one(&rig.collector, "before").dropped_attributes_count, 1);
    assert_eq!(rig.telemetry.stats().dropped_attributes, 5);
}

#[test]
fn what_is_held_is_redacted() {
    let rig =
        keeping(|builder| builder.with_redaction(|key, value| (key != "email").then_some(value)));
    rig.run(|| {
        let answer = info_span!("answer", email = "a@example.org", n = 1);
        let context = answer.span_context().unwrap();
        drop(answer);
        let _ = enrich_span!(target = context, feedback = { "rating": 1 });
    });
    let answer = one(&rig.collector, "answer");
    assert_eq!(
        attributes(&answer),
        "n=1 tracing_feedback.kept=true tracing_feedback.sampled=false"
    );
}

// ---- the end -----------------------------------------------------------------------------------

#[test]
fn at_shutdown_what_no_one_asked_for_is_dropped_and_counted() {
    let rig = keeping(|builder| builder.with_keep_limits(generous_limits()));
    dispatcher::with_default(&rig.dispatch, || {
        answered();
        let ask = info_span!("ask").entered();
        info_span!("step").in_scope(|| ());
        let _ = enrich_span!(feedback = { "rating": 1 });
        rig.telemetry.shutdown().unwrap();
        drop(ask); // the span is not exported any more, but its feedback was
        answered();
    });
    assert_eq!(rig.collector.tree(), "step\nfeedback (late)\n    feedback.rating = 1\n");
    let stats = rig.telemetry.stats();
    assert_eq!(held(&stats), (0, 4 + 1));
}

// ---- many threads ------------------------------------------------------------------------------

#[test]
fn where_there_is_little_room_every_span_is_exported_or_counted() {
    const THREADS: usize = 4;
    const TRACES: usize = 500;
    let rig = keeping(|builder| builder.with_keep_limits(generous_limits().with_max_spans(15)));
    let dispatch = rig.dispatch.clone();
    with_timeout(move || {
        let work = || {
            for n in 0..TRACES {
                let answer = answered();
                if n % 5 == 0 {
                    let _ = enrich_span!(target = answer, feedback = { "n": 1 });
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| dispatcher::with_default(&dispatch, work));
            }
        });
    });
    assert!(rig.telemetry.stats().held <= 15);
    rig.telemetry.shutdown().unwrap();
    let stats = rig.telemetry.stats();
    let kept = spans(&rig.collector).len();
    assert!(kept > 0);
    assert_eq!(kept + stats.unsampled as usize, 2 * THREADS * TRACES);
    assert_eq!((stats.dropped, stats.held), (0, 0));
}

#[test]
fn traces_of_many_threads_are_kept_whole_or_not_at_all() {
    const THREADS: usize = 4;
    const TRACES: usize = 150;
    let rig = keeping(|builder| builder.with_keep_limits(generous_limits()));
    let dispatch = rig.dispatch.clone();
    with_timeout(move || {
        let work = |thread: usize| {
            for n in 0..TRACES {
                let ask = info_span!("ask");
                let enrich_at = |moment: usize| {
                    // About every second trace, at one of four moments.
                    if (n * 7 + thread) % 8 == moment {
                        let context = ask.span_context().unwrap();
                        assert!(enrich_span!(target = context, feedback = { "n": 1 }).is_ok());
                    }
                };
                enrich_at(0);
                thread::scope(|scope| {
                    for name in ["left", "right"] {
                        let ask = &ask;
                        scope.spawn(move || {
                            ask.with_subscriber(|(id, dispatch)| {
                                dispatcher::with_default(dispatch, || {
                                    info_span!(parent: id, "step", otel.name = name);
                                });
                            });
                        });
                    }
                    enrich_at(1);
                });
                enrich_at(2);
                let context = ask.span_context().unwrap();
                drop(ask);
                if (n * 7 + thread) % 8 == 3 {
                    let _ = enrich_span!(target = context, feedback = { "n": 1 });
                }
            }
        };
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let dispatch = &dispatch;
                scope.spawn(move || dispatcher::with_default(dispatch, || work(thread)));
            }
        });
    });
    rig.telemetry.flush().unwrap();
    let whole: BTreeSet<_> = ["ask", "left", "right"].map(str::to_owned).into();
    let kept = traces(&rig.collector);
    assert!(kept.values().all(|names| *names == whole));
    let carriers = rig.collector.spans().len() - 3 * kept.len();
    assert_eq!(kept.len(), carriers);
    let stats = rig.telemetry.stats();
    assert_eq!(stats.held as usize, 3 * (THREADS * TRACES - kept.len()));
    rig.telemetry.shutdown().unwrap();
    assert_eq!(rig.telemetry.stats().unsampled, stats.held);
}
