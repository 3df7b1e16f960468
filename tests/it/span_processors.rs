//! Span processors of the service, for the layer's spans.

use std::collections::HashMap;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{Span as _, SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, InMemorySpanExporter, Sampler, Span, SpanData, SpanLimits, SpanProcessor,
};
use tracing::{info, info_span, warn};
use tracing_feedback::collector::{Collector, ReceivedSpan};
use tracing_feedback::{Session, SpanExt, enrich_session, enrich_span, propagation};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

use crate::show::{Log, attributes, events, one, status, with_timeout};
use crate::{Rig, build};

type OnStart = dyn Fn(&mut Span, &Context) + Send + Sync;
type OnEnd = dyn Fn(SpanData) + Send + Sync;

/// Does what it is given, and notes what it is called for.
#[derive(Clone)]
struct Processor {
    on_start: Arc<OnStart>,
    on_end: Arc<OnEnd>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl std::fmt::Debug for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Processor")
    }
}

impl Processor {
    fn new(
        on_start: impl Fn(&mut Span, &Context) + Send + Sync + 'static,
        on_end: impl Fn(SpanData) + Send + Sync + 'static,
    ) -> Self {
        Self { on_start: Arc::new(on_start), on_end: Arc::new(on_end), calls: Arc::default() }
    }

    fn starting(on_start: impl Fn(&mut Span, &Context) + Send + Sync + 'static) -> Self {
        Self::new(on_start, |_| ())
    }

    fn ending(on_end: impl Fn(SpanData) + Send + Sync + 'static) -> Self {
        Self::new(|_, _| (), on_end)
    }

    fn note(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

impl SpanProcessor for Processor {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        self.note(format!("start {}", span.exported_data().unwrap().name));
        (self.on_start)(span, parent);
    }

    fn on_end(&self, span: SpanData) {
        self.note(format!("end {}", span.name));
        (self.on_end)(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.note("flush");
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.note("shutdown");
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        let name = resource.get(&"service.name".into());
        self.note(format!("resource of {}", name.unwrap()));
    }
}

fn baggage_to_attributes(span: &mut Span, parent: &Context) {
    for (key, (value, _)) in parent.baggage() {
        span.set_attribute(KeyValue::new(key.clone(), value.clone()));
    }
}

fn text(value: &Value) -> String {
    value.as_str().into_owned()
}

#[test]
fn baggage_becomes_attributes_of_every_span() {
    for activation in [true, false] {
        let rig = Rig::with(|builder| {
            builder
                .with_context_activation(activation)
                .with_span_processor(Processor::starting(baggage_to_attributes))
        });
        rig.run(|| {
            let headers = HashMap::from([("baggage".to_owned(), "tenant=acme".to_owned())]);
            let request = info_span!("request", tenant = "of the field");
            request.set_parent(propagation::extract(&headers)).unwrap();
            let explicit = info_span!(parent: &request, "explicit");
            explicit.in_scope(|| info_span!("inside").in_scope(|| ()));
            info_span!(parent: None, "root").in_scope(|| ());
        });
        for name in ["request", "explicit", "inside"] {
            assert_eq!(attributes(&one(&rig.collector, name)), "tenant=\"acme\"", "{name}");
        }
        assert_eq!(attributes(&one(&rig.collector, "root")), "");
    }
}

#[test]
fn a_processor_gets_what_is_known_at_the_start_and_its_changes_are_taken_over() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let of_processor = seen.clone();
    let remote = SpanContext::new(
        0xabc.into(),
        0xdef.into(),
        opentelemetry::trace::TraceFlags::SAMPLED,
        true,
        Default::default(),
    );
    let target = remote.clone();
    let processor = Processor::starting(move |span, parent| {
        let data = span.exported_data().unwrap();
        let keys: Vec<_> = data.attributes.iter().map(|a| a.key.to_string()).collect();
        of_processor.lock().unwrap().push((
            span.span_context().clone(),
            parent.span().span_context().clone(),
            format!(
                "{} {:?} {} events {} links {:?} {}",
                data.name,
                data.span_kind,
                data.events.len(),
                data.links.len(),
                data.status,
                keys.join(",")
            ),
        ));
        span.set_attribute(KeyValue::new("a", "changed"));
        span.set_attribute(KeyValue::new("session.id", "of-the-processor"));
        span.set_attribute(KeyValue::new("feedback.of", "the processor"));
        span.add_event("started", vec![KeyValue::new("n", 1)]);
        span.add_link(target.clone(), vec![]);
        span.update_name("renamed");
        span.set_status(Status::error("from the start"));
    });
    let rig = Rig::with(|builder| builder.with_span_processor(processor));
    let (outer, inner) = rig.run(|| {
        let outer = info_span!("outer", a = 1, otel.kind = "client", feedback.x = 2);
        outer.add_event("before", vec![]).unwrap();
        let inner = info_span!(parent: &outer, "inner");
        (outer.span_context().unwrap(), inner.span_context().unwrap())
    });
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    assert_eq!((&seen[0].0, &seen[0].1), (&outer, &SpanContext::NONE));
    assert_eq!(seen[0].2, "outer Client 1 events 0 links Unset a,feedback.x");
    assert_eq!((&seen[1].0, &seen[1].1), (&inner, &outer));
    assert_eq!(seen[1].2, "inner Internal 0 events 0 links Unset session.id");
    let spans = rig.collector.spans();
    let outer = spans.iter().find(|span| span.span_id == outer.span_id()).unwrap();
    assert_eq!((outer.name.as_str(), status(outer).as_str()), ("renamed", "error: from the start"));
    assert_eq!(
        attributes(outer),
        "a=\"changed\" feedback.of=\"the processor\" feedback.x=2 session.id=\"of-the-processor\""
    );
    assert_eq!(events(outer), "before: \nstarted: n=1\n");
    assert_eq!(outer.links[0].span_id, remote.span_id());
    assert!(outer.duplicate_keys.is_empty());
}

/// What a processor sets is redacted, limited, and no feedback by a user.
#[test]
fn what_a_processor_sets_passes_through_redaction_and_limits() {
    let limits = SpanLimits { max_attributes_per_span: 3, ..SpanLimits::default() };
    let rig = Rig::with(|builder| {
        builder
            .with_sampler(Sampler::AlwaysOff)
            .with_span_limits(limits)
            .with_redaction(|key, value| {
                (key != "secret" && key != "feedback.secret").then_some(value)
            })
            .with_span_processor(Processor::starting(|span, _| {
                for key in ["secret", "feedback.secret", "feedback.kept", "b", "c", "d"] {
                    span.set_attribute(KeyValue::new(key, 1));
                }
            }))
    });
    rig.run(|| {
        info_span!("unsampled").in_scope(|| ());
        info_span!("rated", a = 1).in_scope(|| enrich_span!(feedback = { "rating": 5 }));
    });
    assert_eq!(rig.collector.spans().len(), 1, "{}", rig.collector.tree());
    let rated = one(&rig.collector, "rated");
    assert_eq!(
        attributes(&rated),
        "feedback.kept=1 feedback.rating=5 tracing_feedback.sampled=false"
    );
    assert!(rated.dropped_attributes_count > 0);
}

#[test]
fn a_processor_gets_what_arrives() {
    let (send, ended): (Sender<SpanData>, Receiver<SpanData>) = channel();
    let send = Mutex::new(send);
    let processor = Processor::ending(move |span| send.lock().unwrap().send(span).unwrap());
    let rig = Rig::with(|builder| builder.with_span_processor(processor.clone()));
    rig.run(|| {
        let outer = info_span!("outer", otel.kind = "server", a = 1).entered();
        info_span!("inner").in_scope(|| {
            warn!(n = 2, "event");
            enrich_span!(feedback = { "rating": 5, "words": ["a"] });
        });
        outer.set_status(Status::error("broken")).unwrap();
        enrich_session!(metadata = { "plan": "free" });
    });
    let ended: Vec<_> = ended.try_iter().collect();
    let arrived = rig.collector.spans();
    assert_eq!(ended.len(), 2);
    for span in &ended {
        let same: &ReceivedSpan =
            arrived.iter().find(|other| other.span_id == span.span_context.span_id()).unwrap();
        assert_eq!(span.name, same.name);
        assert_eq!(span.span_context.trace_id(), same.trace_id);
        assert_eq!((span.parent_span_id, &span.span_kind), (same.parent_span_id, &same.kind));
        assert_eq!(span.status, same.status);
        let mut keys: Vec<_> = span.attributes.iter().map(|a| a.key.to_string()).collect();
        keys.sort();
        assert_eq!(keys, same.attributes.keys().cloned().collect::<Vec<_>>());
        let names: Vec<_> = span.events.iter().map(|event| event.name.to_string()).collect();
        let arrived: Vec<_> = same.events.iter().map(|event| event.name.clone()).collect();
        assert_eq!(names, arrived);
        let nanos = span.end_time.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        assert_eq!(nanos, u128::from(same.end_time_unix_nano));
        assert_eq!(span.instrumentation_scope.name(), same.scope.name);
    }
    assert_eq!(
        processor.calls(),
        [
            "resource of unknown_service",
            "start outer",
            "start inner",
            "end inner",
            "end outer",
            "flush"
        ]
    );
    rig.telemetry.shutdown().unwrap();
    rig.telemetry.shutdown().unwrap();
    rig.telemetry.flush().unwrap();
    tracing::dispatcher::with_default(&rig.dispatch, || info_span!("too late").in_scope(|| ()));
    assert_eq!(processor.calls()[6..], ["shutdown"]);
}

#[test]
fn a_second_exporter_gets_spans_and_late_feedback_and_is_flushed_and_shut_down() {
    let exporter = InMemorySpanExporter::default();
    let batch = BatchSpanProcessor::builder(exporter.clone()).build();
    let processor = Processor::ending(|_| ());
    let rig = Rig::with(|builder| {
        builder
            .with_service_name("chat")
            .with_span_processor(batch)
            .with_span_processor(processor.clone())
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
    });
    rig.run(|| {
        let span = info_span!("span");
        let context = span.span_context().unwrap();
        drop(span);
        enrich_span!(target = &context, feedback = { "rating": 5 });
        let unsampled = info_span!("unsampled");
        let parent = SpanContext::new(
            1.into(),
            2.into(),
            opentelemetry::trace::TraceFlags::default(),
            true,
            Default::default(),
        );
        unsampled.set_parent(Context::new().with_remote_span_context(parent)).unwrap();
    });
    let names = |spans: Vec<SpanData>| {
        spans.into_iter().map(|span| span.name.into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(exporter.get_finished_spans().unwrap()), ["span", "feedback"]);
    let carrier = &exporter.get_finished_spans().unwrap()[1];
    let rating = carrier.attributes.iter().find(|a| a.key.as_str() == "feedback.rating").unwrap();
    assert_eq!(rating.value, Value::I64(5));
    rig.run(|| info_span!("another").in_scope(|| ()));
    assert_eq!(exporter.get_finished_spans().unwrap().len(), 3);
    tracing::dispatcher::with_default(&rig.dispatch, || {
        let open = info_span!("open").entered();
        enrich_span!(feedback = { "rating": 1 });
        rig.telemetry.shutdown().unwrap(); // sends the feedback of the open span
        drop(open);
    });
    // The exporter forgets its spans when it is shut down.
    assert!(exporter.is_shutdown_called());
    assert_eq!(processor.calls()[0], "resource of chat");
    assert!(processor.calls().ends_with(&["end feedback".to_owned(), "shutdown".to_owned()]));
}

#[test]
fn an_unsampled_span_is_processed_if_it_ends_with_feedback() {
    let exporter = InMemorySpanExporter::default();
    let processor = Processor::starting(baggage_to_attributes);
    let rig = Rig::with(|builder| {
        builder
            .with_sampler(Sampler::AlwaysOff)
            .with_span_processor(processor.clone())
            .with_span_processor(BatchSpanProcessor::builder(exporter.clone()).build())
    });
    rig.run(|| {
        let tenant = Context::current_with_baggage([KeyValue::new("tenant", "acme")]);
        let _attached = tenant.attach();
        info_span!("unsampled").in_scope(|| {
            info_span!("rated").in_scope(|| enrich_span!(feedback = { "rating": 5 }));
        });
        info_span!("never entered");
        info_span!("rated by a field", feedback.rating = 1);
    });
    let rated = one(&rig.collector, "rated");
    assert_eq!(
        attributes(&rated),
        "feedback.rating=5 tenant=\"acme\" tracing_feedback.sampled=false"
    );
    assert_eq!(rig.telemetry.stats().unsampled, 2);
    let calls = ["start rated", "end rated", "start rated by a field", "end rated by a field"];
    assert_eq!(processor.calls()[1..5], calls);
    let spans = exporter.get_finished_spans().unwrap();
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["rated", "rated by a field"]);
    assert!(spans.iter().all(|span| !span.span_context.is_sampled()));
}

/// Whatever a processor does with `tracing` and with our API, it neither hangs nor calls itself.
#[test]
fn a_processor_that_makes_spans_and_events_is_not_called_for_them() {
    let (calls, tree) = with_timeout(|| {
        let work = || {
            info!("event of the processor");
            let _ = tracing::Span::current().span_context();
            let _ = Session::current();
            enrich_span!(feedback = { "rating": 1 });
            propagation::inject(&mut HashMap::new());
            Context::current().span().set_attribute(KeyValue::new("of the processor", 1));
        };
        let start = move |span: &mut Span, _: &Context| {
            work();
            // Not while a span closes: the registry of `tracing-subscriber` never lets go of the parent
            // of a span that is made then.
            if span.exported_data().unwrap().name != "never entered" {
                info_span!("of the processor").in_scope(work);
            }
        };
        let processor = Processor::new(start, move |_| work());
        let rig = Rig::with(|builder| builder.with_span_processor(processor.clone()));
        rig.run(|| {
            info_span!("outer").in_scope(|| {
                info_span!("inner", feedback.a = 1).in_scope(|| ());
                info_span!("never entered");
            });
        });
        (processor.calls(), rig.collector.tree())
    });
    let expected = [
        "resource of unknown_service",
        "start outer",
        "start inner",
        "end inner",
        "start never entered",
        "end never entered",
        "end outer",
        "flush",
    ];
    assert_eq!(calls, expected);
    assert_eq!(tree, "outer\n  inner\n      feedback.a = 1\n  never entered\n");
}

#[derive(Debug)]
struct Panics;

impl SpanProcessor for Panics {
    fn on_start(&self, _: &mut Span, _: &Context) {
        panic_any("on purpose");
    }

    fn on_end(&self, _: SpanData) {
        panic_any("on purpose");
    }

    fn force_flush(&self) -> OTelSdkResult {
        panic_any("on purpose");
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Err(OTelSdkError::InternalFailure("no power".to_owned()))
    }

    fn set_resource(&mut self, _: &Resource) {
        panic_any("on purpose");
    }
}

#[test]
fn a_processor_that_panics_costs_no_span_and_no_other_processor() {
    let log = Log::default();
    let collector = Collector::start().unwrap();
    let other = Processor::starting(|span, _| span.set_attribute(KeyValue::new("other", 1)));
    let (layer, telemetry) = build(&collector, |builder| {
        builder.with_span_processor(Panics).with_span_processor(other.clone())
    });
    let writer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.clone());
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer).with(writer));
    tracing::dispatcher::with_default(&dispatch, || {
        for _ in 0..3 {
            info_span!("span").in_scope(|| enrich_span!(feedback = { "rating": 5 }));
        }
    });
    let error = telemetry.flush().unwrap_err();
    assert_eq!((error.lost(), error.pending()), (0, 0));
    assert_eq!(error.span_processors(), ["it panicked"]);
    assert_eq!(error.to_string(), "a span processor failed: it panicked");
    let spans = collector.spans();
    assert_eq!(spans.len(), 3);
    assert!(spans.iter().all(|span| attributes(span) == "feedback.rating=5 other=1"));
    assert_eq!(telemetry.stats().refused["span_processor_panicked"], 6);
    assert_eq!(log.text().matches("a span processor panicked").count(), 1, "{}", log.text());
    let error = telemetry.shutdown().unwrap_err();
    assert!(error.span_processors()[0].contains("no power"), "{error}");
    assert!(other.calls().ends_with(&["flush".to_owned(), "shutdown".to_owned()]));
}

#[derive(Debug)]
struct Hangs(Arc<AtomicBool>);

impl SpanProcessor for Hangs {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        while !self.0.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.force_flush()
    }
}

#[test]
fn a_processor_that_hangs_is_waited_for_within_the_limit() {
    let is_over = Arc::new(AtomicBool::new(false));
    let rig = Rig::with(|builder| builder.with_span_processor(Hangs(is_over.clone())));
    tracing::dispatcher::with_default(&rig.dispatch, || info_span!("span").in_scope(|| ()));
    let before = Instant::now();
    let error = rig.telemetry.flush_within(Duration::from_secs(1)).unwrap_err();
    assert!(error.span_processors()[0].contains("time limit"), "{error}");
    assert_eq!((error.lost(), error.pending()), (0, 0));
    one(&rig.collector, "span");
    let error = rig.telemetry.shutdown_within(Duration::from_secs(1)).unwrap_err();
    assert!(error.span_processors()[0].contains("time limit"), "{error}");
    assert!(before.elapsed() < Duration::from_secs(15));
    is_over.store(true, Ordering::Relaxed);
}

#[test]
fn a_layer_taken_out_ends_its_spans_for_processors_too() {
    let calls = with_timeout(|| {
        let processor = Processor::new(|_, _| info!("while starting"), |_| info!("while ending"));
        let collector = Collector::start().unwrap();
        let (layer, telemetry) =
            build(&collector, |builder| builder.with_span_processor(processor.clone()));
        let (layer, handle) = reload::Layer::<_, Registry>::new(Some(layer));
        let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
        tracing::dispatcher::with_default(&dispatch, || {
            let span = info_span!("span").entered();
            handle.reload(None).unwrap();
            drop(span);
        });
        crate::show::eventually(|| processor.calls().len() == 3);
        telemetry.flush().unwrap();
        one(&collector, "span");
        processor.calls()
    });
    assert_eq!(calls[1..3], ["start span", "end span"]);
}

#[test]
fn a_span_that_a_processor_ends_or_swaps_is_captured_as_it_was() {
    let rig = Rig::with(|builder| {
        builder
            .with_span_processor(Processor::starting(|span, _| {
                span.set_attribute(KeyValue::new("kept", text(&Value::from("yes"))));
            }))
            .with_span_processor(Processor::starting(|span, _| {
                if span.exported_data().is_some_and(|data| data.name == "ended") {
                    span.end();
                }
            }))
    });
    rig.run(|| {
        info_span!("ended", a = 1).in_scope(|| ());
        info_span!("other", a = 2).in_scope(|| ());
    });
    assert_eq!(attributes(&one(&rig.collector, "ended")), "a=1");
    assert_eq!(attributes(&one(&rig.collector, "other")), "a=2 kept=\"yes\"");
}
