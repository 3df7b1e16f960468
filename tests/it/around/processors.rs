//! What the wrapped processor and the exporter may do, and several processors of this crate at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use opentelemetry::trace::{Span as _, TraceContextExt, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue, Value as OtelValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SimpleSpanProcessor, Span, SpanData,
    SpanExporter, SpanProcessor,
};
use tracing_feedback::collector::Collector;
use tracing_feedback::{EnrichError, Session, enrich_session, enrich_span};

use super::{Service, batch, in_span, one, provider};

/// Calls a function when a span starts or ends.
struct Hooked {
    on_start: Box<dyn Fn(&mut Span) + Send + Sync>,
    on_end: Box<dyn Fn(&SpanData) + Send + Sync>,
    ended: Arc<Mutex<Vec<SpanData>>>,
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

impl Hooked {
    fn new(
        on_start: impl Fn(&mut Span) + Send + Sync + 'static,
        on_end: impl Fn(&SpanData) + Send + Sync + 'static,
    ) -> (Self, Arc<Mutex<Vec<SpanData>>>) {
        let ended = Arc::<Mutex<Vec<SpanData>>>::default();
        let (on_start, on_end) = (Box::new(on_start), Box::new(on_end));
        (Self { on_start, on_end, ended: ended.clone() }, ended)
    }
}

impl SpanProcessor for Hooked {
    fn on_start(&self, span: &mut Span, _: &Context) {
        (self.on_start)(span);
    }

    fn on_end(&self, span: SpanData) {
        (self.on_end)(&span);
        self.ended.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn named(ended: &Mutex<Vec<SpanData>>, name: &str) -> SpanData {
    let ended = ended.lock().unwrap();
    let mut named = ended.iter().filter(|span| span.name == name);
    let found = named.next().unwrap_or_else(|| panic!("{name}: {ended:?}")).clone();
    assert!(named.next().is_none());
    found
}

fn value(span: &SpanData, key: &str) -> Option<OtelValue> {
    let mut values = span.attributes.iter().filter(|found| found.key.as_str() == key);
    let value = values.next().map(|found| found.value.clone());
    assert!(values.next().is_none(), "{key} twice");
    value
}

#[test]
fn the_wrapped_processor_can_enrich_nothing_when_a_span_ends() {
    let outcomes = Arc::<Mutex<Vec<_>>>::default();
    let note = {
        let outcomes = outcomes.clone();
        move || {
            outcomes.lock().unwrap().extend([
                enrich_span!(feedback = { "within": 1 }).into_result(),
                enrich_session!(feedback = { "within": 1 }).into_result(),
                enrich_session!(session_id = "s", feedback = { "within": 1 }).into_result(),
            ]);
        }
    };
    let (hooked, ended) = Hooked::new(|_| (), move |_| note());
    let (processor, telemetry) = tracing_feedback::builder().build_around(hooked).unwrap();
    let provider = provider(processor).build();
    in_span(&provider.tracer("chat"), "answer", || {
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    telemetry.flush().unwrap();
    assert!(outcomes.lock().unwrap().iter().all(Result::is_err), "{outcomes:?}");
    assert_eq!(outcomes.lock().unwrap().len(), 3);
    assert_eq!(ended.lock().unwrap().len(), 1);
    assert_eq!(value(&named(&ended, "answer"), "feedback.rating"), Some(1.into()));
}

#[test]
fn the_wrapped_processor_can_make_spans_of_its_provider() {
    let tracer = Arc::new(OnceLock::<SdkTracer>::new());
    let made = {
        let tracer = tracer.clone();
        move |name: &str| {
            if name == "answer" {
                let tracer = tracer.get().unwrap();
                let mut span = tracer.start("made");
                span.set_attribute(KeyValue::new("feedback.rating", 9));
                span.end();
            }
        }
    };
    let (hooked, ended) = Hooked::new(|_| (), move |span| made(&span.name));
    let (processor, telemetry) = tracing_feedback::builder().build_around(hooked).unwrap();
    let provider = provider(processor).build();
    assert!(tracer.set(provider.tracer("chat")).is_ok());
    in_span(&provider.tracer("chat"), "answer", || {
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    telemetry.flush().unwrap();
    assert_eq!(value(&named(&ended, "answer"), "feedback.rating"), Some(1.into()));
    assert_eq!(value(&named(&ended, "made"), "feedback.rating"), Some(9.into()));
}

/// As without ours around it, a panic is the caller's. What follows is as before.
#[test]
fn a_wrapped_processor_that_panics_breaks_nothing_else() {
    let fail = |name: &str| assert!(!name.contains("bad"), "on purpose");
    let (hooked, ended) = Hooked::new(
        move |span| fail(span.exported_data().map_or("", |_| "")),
        move |span| {
            fail(&span.name);
            let bad = span.attributes.iter().any(|found| found.key.as_str() == "feedback.bad");
            assert!(!bad, "on purpose");
        },
    );
    let (processor, telemetry) = tracing_feedback::builder().build_around(hooked).unwrap();
    let provider = provider(processor).build();
    let tracer = provider.tracer("chat");
    for _ in 0..2 {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let context = Context::current_with_span(tracer.start("bad"));
            let _active = context.clone().attach();
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
            context.span().end();
        }));
        assert!(panicked.is_err());
    }
    let answer = in_span(&tracer, "answer", || {
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    // The carrier is handed over by a thread of ours.
    assert!(enrich_span!(target = &answer, feedback = { "bad": 2 }).is_ok());
    let lost = telemetry.flush().unwrap_err();
    assert_eq!(lost.lost(), 1, "{lost}");
    assert!(enrich_span!(target = &answer, feedback = { "good": 3 }).is_ok());
    telemetry.flush().unwrap();
    assert_eq!(value(&named(&ended, "answer"), "feedback.rating"), Some(1.into()));
    assert_eq!(value(&named(&ended, "feedback"), "feedback.good"), Some(3.into()));
    telemetry.shutdown().unwrap();
}

#[test]
fn a_wrapped_processor_that_panics_at_flush_and_shutdown_is_named() {
    #[derive(Debug)]
    struct Panics;

    impl SpanProcessor for Panics {
        fn on_start(&self, _: &mut Span, _: &Context) {}

        fn on_end(&self, _: SpanData) {}

        fn force_flush(&self) -> OTelSdkResult {
            panic!("on purpose")
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            panic!("on purpose")
        }
    }

    let (processor, telemetry) = tracing_feedback::builder().build_around(Panics).unwrap();
    let provider = provider(processor).build();
    assert!(telemetry.flush().unwrap_err().to_string().contains("panicked"));
    assert!(provider.force_flush().is_err());
    assert!(provider.shutdown().is_err());
    assert_eq!(telemetry.shutdown(), Ok(()));
}

/// An exporter that enriches the span around it, and one by its context.
#[derive(Debug, Default)]
struct Enriching {
    outcomes: Arc<Mutex<Vec<Result<(), EnrichError>>>>,
    exported: Arc<Mutex<Vec<SpanData>>>,
    is_late: bool,
}

impl SpanExporter for Enriching {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = enrich_span!(feedback = { "within": 1 });
        self.outcomes.lock().unwrap().push(outcome.into_result());
        if self.is_late {
            for span in batch.iter().filter(|span| span.name != "feedback") {
                let target = span.span_context.clone();
                let outcome = enrich_span!(target = target, feedback = { "late": 1 });
                self.outcomes.lock().unwrap().push(outcome.into_result());
            }
        }
        self.exported.lock().unwrap().extend(batch);
        Ok(())
    }
}

#[test]
fn an_exporter_that_enriches_neither_blocks_nor_changes_what_it_exports() {
    for is_batched in [true, false] {
        let exporter = Enriching { is_late: true, ..Enriching::default() };
        let (outcomes, exported) = (exporter.outcomes.clone(), exporter.exported.clone());
        let (processor, telemetry) = match is_batched {
            true => {
                let batch = BatchSpanProcessor::builder(exporter).build();
                tracing_feedback::builder().build_around(batch).unwrap()
            }
            false => {
                let simple = SimpleSpanProcessor::new(exporter);
                tracing_feedback::builder().build_around(simple).unwrap()
            }
        };
        let provider = provider(processor).build();
        in_span(&provider.tracer("chat"), "answer", || {
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        });
        telemetry.flush().unwrap();
        telemetry.flush().unwrap();
        let answer = named(&exported, "answer");
        assert_eq!(value(&answer, "feedback.rating"), Some(1.into()));
        assert_eq!(value(&answer, "feedback.within"), None);
        assert!(outcomes.lock().unwrap()[0].is_err());
        telemetry.shutdown().unwrap();
    }
}

// ---- several of ours ---------------------------------------------------------------------------------

#[test]
fn a_processor_around_another_of_this_crate_enriches_once() {
    let collector = Collector::start().unwrap();
    let (inner, of_inner) = tracing_feedback::builder().build_around(batch(&collector)).unwrap();
    let (outer, of_outer) = tracing_feedback::builder().build_around(inner).unwrap();
    let provider = provider(outer).build();
    let tracer = provider.tracer("chat");
    let builder = tracer.span_builder("turn");
    let turn = builder.with_attributes([KeyValue::new("session.id", "s")]).start(&tracer);
    let context = Context::current_with_span(turn);
    let answer = {
        let _active = context.clone().attach();
        in_span(&tracer, "answer", || {
            assert!(enrich_span!(feedback = { "rating": 1, "gone": 1 }).is_ok());
            // By a thread that has started no span.
            let active = Context::current();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _active = active.attach();
                    assert!(enrich_span!(feedback = { "rating": 2, "gone": null }).is_ok());
                });
            });
            assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
        })
    };
    context.span().end();
    assert!(enrich_span!(target = &answer, feedback = { "late": 3 }).is_ok());
    of_outer.flush().unwrap();
    of_inner.flush().unwrap();
    assert_eq!(collector.spans().len(), 3);
    assert!(collector.spans().iter().all(|span| span.duplicate_keys.is_empty()));
    let got = collector.feedback(answer.trace_id(), answer.span_id());
    let expected =
        [("feedback.late".to_owned(), 3.into()), ("feedback.rating".to_owned(), 2.into())];
    assert_eq!(got, expected.into());
    assert_eq!(collector.session_feedback("s")["feedback.resolved"], true);
    let answer = one(collector.spans(), |span| span.name == "answer");
    assert_eq!(answer.attributes["session.id"], "s");
    provider.shutdown().unwrap();
    drop((of_inner, of_outer));
}

/// Of two enriching processors in one provider, one exports the feedback, and the other one the spans without it.
#[test]
fn with_two_processors_in_one_provider_one_of_them_enriches() {
    let (one, other) = (Collector::start().unwrap(), Collector::start().unwrap());
    let (first, of_first) = tracing_feedback::builder().build_around(batch(&one)).unwrap();
    let (second, of_second) = tracing_feedback::builder().build_around(batch(&other)).unwrap();
    let provider = provider(first).with_span_processor(second).build();
    let tracer = provider.tracer("chat");
    let answer = in_span(&tracer, "answer", || {
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
    });
    assert!(enrich_span!(target = &answer, feedback = { "late": 2 }).is_ok());
    of_first.flush().unwrap();
    of_second.flush().unwrap();
    let got = [&one, &other].map(|to| to.feedback(answer.trace_id(), answer.span_id()).len());
    assert_eq!(got, [0, 2], "the newest one has all of it");
    assert_eq!(one.spans().len(), 1);
}

#[test]
fn what_a_sampler_of_the_provider_drops_needs_no_processor() {
    let service = Service::with(|builder| builder, Sampler::TraceIdRatioBased(0.0));
    let _session = Context::current().with_value(Session::with_id("s").unwrap()).attach();
    in_span(&service.tracer, "dropped", || {
        assert_eq!(Session::current().unwrap().id(), "s");
        assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
    });
    assert_eq!(service.carrier().attributes["session.id"], "s");
    assert_eq!(service.collector.session_feedback("s")["feedback.resolved"], true);
}

/// Any value of the attribute is an id, in its text.
#[test]
fn a_session_id_of_another_type_is_its_text() {
    let service = Service::new();
    for (value, id) in [
        (OtelValue::from(42), Some("42")),
        (true.into(), Some("true")),
        (0.5.into(), Some("0.5")),
        ("two words".into(), None),
        ("".into(), None),
    ] {
        service.collector.clear();
        let builder = service.tracer.span_builder("turn");
        let builder = builder.with_attributes([KeyValue::new("session.id", value.clone())]);
        let context = Context::current_with_span(builder.start(&service.tracer));
        let turn = context.span().span_context().clone();
        {
            let _active = context.attach();
            assert_eq!(Session::current().as_ref().map(Session::id), id, "{value:?}");
            assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
        }
        service.arrived();
        let got = match id {
            Some(id) => service.collector.session_feedback(id),
            None => service.collector.trace_feedback(turn.trace_id()),
        };
        assert_eq!(got.len(), 1, "{value:?}");
    }
}

/// Several of these in one process: `telemetry` and the spans of one don't touch the other.
#[test]
fn shutting_one_provider_down_leaves_the_other() {
    let (one, other) = (Service::new(), Service::new());
    let context = Context::current_with_span(one.tracer.start("open"));
    other.telemetry.shutdown().unwrap();
    {
        let _active = context.clone().attach();
        in_span(&other.tracer, "other", || {
            let outcome = enrich_span!(feedback = { "rating": 2 });
            assert!(outcome.into_result().is_err());
        });
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    }
    context.span().end();
    assert_eq!(one.span("open").attributes["feedback.rating"], 1);
}

/// Counts the spans it gets, and takes long.
#[derive(Debug, Default)]
struct Slow(Arc<AtomicUsize>);

impl SpanProcessor for Slow {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn force_flush(&self) -> OTelSdkResult {
        std::thread::park_timeout(Duration::from_secs(60));
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        std::thread::park_timeout(Duration::from_secs(60));
        Ok(())
    }
}

#[test]
fn a_wrapped_processor_that_hangs_is_waited_for_no_longer_than_asked() {
    let (processor, telemetry) = tracing_feedback::builder().build_around(Slow::default()).unwrap();
    let provider: SdkTracerProvider = provider(processor).build();
    let limit = Duration::from_millis(50);
    assert!(telemetry.flush_within(limit).is_err());
    assert!(provider.shutdown_with_timeout(limit).is_err());
}
