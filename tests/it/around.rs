//! Feedback on the spans of an OpenTelemetry provider, with a span processor around the one it has.

mod bare;
mod lifetime;
mod process;
mod processors;

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use opentelemetry::trace::{
    Span as _, SpanContext, TraceContextExt, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider,
    ShouldSample, SimpleSpanProcessor, Span, SpanData, SpanProcessor,
};
use reqwest::header::HeaderName;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tracing_feedback::collector::{Collector, ReceivedSpan, Value};
use tracing_feedback::web::{FeedbackHttpLayer, FeedbackRoutes, TICKET_HEADER, feedback_routes};
use tracing_feedback::{
    Builder, EnrichError, EnrichingSpanProcessor, Keep, Session, SpanExt, Telemetry, TicketKeys,
    TicketOptions, enrich, enrich_session, enrich_span,
};
use tracing_subscriber::prelude::*;

use crate::show::Log;
use crate::web;

/// A collector, and a provider that exports there by `opentelemetry-otlp`, with a batch processor that
/// ours is around.
struct Service {
    telemetry: Telemetry,
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    collector: Collector,
}

impl Service {
    fn new() -> Self {
        Self::with(|builder| builder, Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
    }

    fn with(
        configure: impl FnOnce(Builder) -> Builder,
        sampler: impl Into<Box<dyn ShouldSample>>,
    ) -> Self {
        let collector = Collector::start().unwrap();
        let keys = TicketKeys::new([[7; 32]]).unwrap();
        let builder = configure(tracing_feedback::builder().with_ticket_keys(keys));
        let (processor, telemetry) = builder.build_around(batch(&collector)).unwrap();
        let provider = provider(processor).with_sampler(sampler).build();
        let tracer = provider.tracer("chat");
        Self { telemetry, provider, tracer, collector }
    }

    /// What has arrived so far.
    fn arrived(&self) -> Vec<ReceivedSpan> {
        self.telemetry.flush().unwrap();
        self.collector.spans()
    }

    fn span(&self, name: &str) -> ReceivedSpan {
        one(self.arrived(), |span| span.name == name)
    }

    fn carrier(&self) -> ReceivedSpan {
        one(self.arrived(), ReceivedSpan::is_carrier)
    }
}

fn one(spans: Vec<ReceivedSpan>, is_wanted: impl Fn(&ReceivedSpan) -> bool) -> ReceivedSpan {
    let mut wanted: Vec<_> = spans.into_iter().filter(is_wanted).collect();
    assert_eq!(wanted.len(), 1, "{wanted:?}");
    wanted.remove(0)
}

/// The exporter that services use, with a runtime for its connection.
pub(crate) fn exporter(collector: &Collector) -> opentelemetry_otlp::SpanExporter {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    });
    let _context = RUNTIME.enter();
    opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(collector.endpoint())
        .build()
        .unwrap()
}

fn batch(collector: &Collector) -> BatchSpanProcessor {
    BatchSpanProcessor::builder(exporter(collector)).build()
}

pub(crate) fn provider(
    processor: impl SpanProcessor + 'static,
) -> opentelemetry_sdk::trace::TracerProviderBuilder {
    let resource = Resource::builder_empty().with_service_name("chat").build();
    SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor)
}

/// A span of the tracer around `work`. Returns its context.
fn in_span(tracer: &SdkTracer, name: &'static str, work: impl FnOnce()) -> SpanContext {
    tracer.in_span(name, |context| {
        work();
        context.span().span_context().clone()
    })
}

#[test]
fn feedback_lands_on_the_active_span() {
    let service = Service::new();
    in_span(&service.tracer, "outer", || {
        in_span(&service.tracer, "inner", || {
            assert!(enrich_span!(feedback = { "rating": 1, "edits": ["a", "b"] }).is_ok());
            assert!(enrich_span!(feedback = { "rating": 5, "edits": ["c"] }).is_ok());
        });
        assert!(enrich_span!(feedback = { "comment": "outer" }).is_ok());
    });
    let inner = service.span("inner");
    assert_eq!(inner.attributes["feedback.rating"], 5);
    assert_eq!(inner.attributes["feedback.edits.0"], "c");
    assert!(!inner.attributes.contains_key("feedback.edits.1"));
    assert!(inner.duplicate_keys.is_empty());
    let outer = service.span("outer");
    assert_eq!(outer.attributes["feedback.comment"], "outer");
    assert_eq!(inner.resource["service.name"], "chat");
    assert_eq!(service.arrived().len(), 2);
    assert_eq!(service.telemetry.stats().refused.len(), 0);
}

#[test]
fn attributes_of_the_span_belong_to_the_document() {
    let service = Service::new();
    in_span(&service.tracer, "answer", || {
        let active = Context::current();
        active.span().set_attribute(KeyValue::new("feedback.step.name", "one"));
        active.span().set_attribute(KeyValue::new("feedback.rating", 1));
        active.span().set_attribute(KeyValue::new("metadata.model", "old"));
        active.span().set_attribute(KeyValue::new("user.id", "u-17"));
        let outcome = enrich_span!(
            feedback = { "rating": 5, "step": null },
            metadata = { "model": "new" },
        );
        assert!(outcome.is_ok());
    });
    let span = service.span("answer");
    assert_eq!(span.attributes["feedback.rating"], 5);
    assert_eq!(span.attributes["metadata.model"], "new");
    assert_eq!(span.attributes["user.id"], "u-17");
    assert_eq!(span.attributes.len(), 3, "{:?}", span.attributes);
    assert!(span.duplicate_keys.is_empty());
}

#[test]
fn a_span_of_another_provider_takes_none() {
    let service = Service::new();
    let collector = Collector::start().unwrap();
    let other = provider(batch(&collector)).build();
    in_span(&other.tracer("other"), "other", || {
        let outcome = enrich_span!(feedback = { "rating": 1 });
        assert_eq!(outcome.into_result(), Err(EnrichError::NoActiveSpan));
    });
    other.force_flush().unwrap();
    let span = one(collector.spans(), |_| true);
    assert!(span.attributes.is_empty(), "{:?}", span.attributes);
    assert_eq!(service.telemetry.stats().refused["no_active_span"], 1);
    assert!(service.arrived().is_empty());
}

#[test]
fn each_provider_gets_what_is_about_its_spans() {
    let (one, other) = (Service::new(), Service::new());
    in_span(&one.tracer, "one", || {
        in_span(&other.tracer, "other", || {
            assert!(enrich_span!(feedback = { "rating": 2 }).is_ok());
        });
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    assert_eq!(one.span("one").attributes["feedback.rating"], 1);
    assert_eq!(other.span("other").attributes["feedback.rating"], 2);
}

/// An ended span doesn't say which provider it is of: it is the last one that its thread had to do with.
#[test]
fn a_thread_sends_late_feedback_to_the_provider_whose_span_it_enriched() {
    let older = Service::new();
    let _newer = Service::new();
    let context = Context::current_with_span(older.tracer.start("answer"));
    let late = context.clone();
    let thread = std::thread::spawn(move || {
        let _active = late.attach();
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        Context::current().span().end();
        assert!(enrich_span!(feedback = { "late": 2 }).is_ok());
    });
    thread.join().unwrap();
    assert_eq!(older.span("answer").attributes["feedback.rating"], 1);
    assert_eq!(older.carrier().attributes["feedback.late"], 2);
}

#[test]
fn feedback_on_a_span_that_has_ended_or_is_not_sampled_is_sent_as_a_carrier() {
    let service = Service::new();
    let ended = service.tracer.in_span("ended", |context| {
        context.span().end();
        assert!(enrich_span!(feedback = { "rating": 3 }).is_ok());
        context.span().span_context().clone()
    });
    let carrier = service.carrier();
    assert_eq!(carrier.attributes["feedback.rating"], 3);
    assert_eq!(carrier.links[0].span_id, ended.span_id());
    assert_eq!(carrier.resource["service.name"], "chat");
    let folded = service.collector.feedback(ended.trace_id(), ended.span_id());
    assert_eq!(folded["feedback.rating"], 3);

    let unsampled = Service::with(|builder| builder, Sampler::AlwaysOff);
    let dropped = in_span(&unsampled.tracer, "dropped", || {
        assert!(enrich_span!(feedback = { "rating": 4 }).is_ok());
        assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
    });
    let carriers = unsampled.arrived();
    assert!(carriers.iter().all(ReceivedSpan::is_carrier) && carriers.len() == 2, "{carriers:?}");
    let folded = unsampled.collector.feedback(dropped.trace_id(), dropped.span_id());
    assert_eq!(folded["feedback.rating"], 4);
    let folded = unsampled.collector.trace_feedback(dropped.trace_id());
    assert_eq!(folded["feedback.resolved"], true);
}

/// Records every span, and samples none.
#[derive(Clone, Debug)]
struct RecordOnly;

impl ShouldSample for RecordOnly {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: opentelemetry::trace::TraceId,
        _: &str,
        _: &opentelemetry::trace::SpanKind,
        _: &[KeyValue],
        _: &[opentelemetry::trace::Link],
    ) -> SamplingResult {
        SamplingResult {
            decision: SamplingDecision::RecordOnly,
            attributes: Vec::new(),
            trace_state: Default::default(),
        }
    }
}

#[test]
fn a_recorded_span_that_is_not_sampled_is_exported_if_it_has_feedback() {
    let service = Service::with(|builder| builder, RecordOnly);
    in_span(&service.tracer, "outer", || {
        in_span(&service.tracer, "answer", || {
            assert!(enrich_span!(feedback = { "rating": 4 }).is_ok());
        });
    });
    // The SDK's batch processor exports the others, too.
    let span = service.span("answer");
    assert_eq!(span.attributes["feedback.rating"], 4);
    assert_eq!(span.attributes["tracing_feedback.sampled"], false);
    assert_eq!(service.arrived().len(), 2);

    let collector = Collector::start().unwrap();
    let simple = SimpleSpanProcessor::new(exporter(&collector));
    let (processor, telemetry) = tracing_feedback::builder().build_around(simple).unwrap();
    let provider = provider(processor).with_sampler(RecordOnly).build();
    in_span(&provider.tracer("chat"), "outer", || {
        in_span(&provider.tracer("chat"), "answer", || {
            assert!(enrich_span!(feedback = { "rating": 4 }).is_ok());
        });
    });
    telemetry.flush().unwrap();
    assert_eq!(one(collector.spans(), |_| true).attributes["feedback.rating"], 4);
}

#[test]
fn the_trace_of_feedback_is_kept_where_that_is_chosen() {
    let keep = |builder: Builder| builder.with_keep(Keep::TracesWithFeedback);
    let service = Service::with(keep, RecordOnly);
    in_span(&service.tracer, "forgotten", || {});
    in_span(&service.tracer, "outer", || {
        in_span(&service.tracer, "before", || {});
        in_span(&service.tracer, "answer", || {
            assert!(enrich_span!(feedback = { "rating": 4 }).is_ok());
        });
    });
    let mut names: Vec<_> = service.arrived().into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["answer", "before", "outer"]);
}

#[test]
fn a_session_begins_with_an_attribute_a_context_or_the_builder() {
    let service = Service::new();
    let tracer = &service.tracer;
    let root = tracer
        .span_builder("turn")
        .with_attributes([KeyValue::new("session.id", "conversation-42")])
        .start(tracer);
    let context = Context::current_with_span(root);
    {
        let _active = context.attach();
        in_span(tracer, "step", || {
            in_span(tracer, "answer", || {
                assert_eq!(Session::current().unwrap().id(), "conversation-42");
                assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
                assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
            });
            assert!(enrich_session!(feedback = { "csat": 4 }).is_ok());
        });
    }
    let turn = service.span("turn");
    assert_eq!(turn.attributes["feedback.resolved"], true);
    assert_eq!(turn.attributes["feedback.csat"], 4);
    assert_eq!(turn.attributes["tracing_feedback.scope"], "session");
    for name in ["turn", "step", "answer"] {
        assert_eq!(service.span(name).attributes["session.id"], "conversation-42", "{name}");
    }
    let folded = service.collector.session_feedback("conversation-42");
    assert_eq!(folded.len(), 2, "{folded:?}");

    // A session in the context, around and inside of a span.
    let session = |id| Context::current().with_value(Session::with_id(id).unwrap()).attach();
    {
        let _outer = session("conversation-43");
        in_span(tracer, "outer 43", || {
            in_span(tracer, "inner 43", || {
                let _inner = session("conversation-44");
                in_span(tracer, "span 44", || {
                    assert!(enrich_session!(feedback = { "resolved": false }).is_ok());
                });
            });
        });
    }
    assert_eq!(service.span("outer 43").attributes["session.id"], "conversation-43");
    assert_eq!(service.span("inner 43").attributes["session.id"], "conversation-43");
    let span = service.span("span 44");
    assert_eq!(span.attributes["session.id"], "conversation-44");
    assert_eq!(span.attributes["feedback.resolved"], false);
    assert_eq!(service.collector.session_feedback("conversation-44")["feedback.resolved"], false);

    let with_session =
        |builder: Builder| builder.with_session(Session::with_id("conversation-45").unwrap());
    let service = Service::with(with_session, Sampler::AlwaysOn);
    in_span(&service.tracer, "answer", || {
        assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
    });
    let folded = service.collector.session_feedback("conversation-45");
    assert!(folded.is_empty());
    assert_eq!(service.span("answer").attributes["session.id"], "conversation-45");
    assert_eq!(service.collector.session_feedback("conversation-45")["feedback.resolved"], true);
}

#[test]
fn without_a_session_it_is_the_trace_that_has_feedback() {
    let service = Service::new();
    let root = in_span(&service.tracer, "root", || {
        in_span(&service.tracer, "step", || {
            in_span(&service.tracer, "answer", || {
                assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
                assert!(enrich_session!(feedback = { "steps": [1, 2, 3] }).is_ok());
            });
            assert!(enrich_session!(feedback = { "steps": [4] }).is_ok());
        });
        assert!(enrich_span!(feedback = { "rating": 2 }).is_ok());
    });
    // The root has feedback of its own, so that of the trace is a carrier.
    assert_eq!(service.span("root").attributes["feedback.rating"], 2);
    assert!(!service.span("root").attributes.contains_key("feedback.resolved"));
    assert_eq!(service.carrier().attributes["tracing_feedback.scope"], "trace");
    let folded = service.collector.trace_feedback(root.trace_id());
    assert_eq!(folded["feedback.resolved"], true);
    assert_eq!(folded["feedback.steps.0"], 4);
    assert_eq!(folded.len(), 2);
}

#[test]
fn tickets_are_for_the_active_span() {
    let service = Service::new();
    let session = Session::with_id("conversation-42").unwrap();
    let _session = Context::current().with_value(session).attach();
    let mut ticket = None;
    let answer = in_span(&service.tracer, "answer", || {
        ticket = Some(tracing_feedback::ticket().unwrap());
    });
    let text = ticket.unwrap().to_string();
    let ticket = service.telemetry.ticket_verifier().verify(&text).unwrap();
    assert_eq!(ticket.span_context().unwrap().span_id(), answer.span_id());
    assert_eq!(ticket.session().unwrap().id(), "conversation-42");
    assert!(enrich_span!(target = &ticket, id = "v1", feedback = { "rating": 5 }).is_ok());
    let folded = {
        service.arrived();
        service.collector.feedback(answer.trace_id(), answer.span_id())
    };
    assert_eq!(folded["feedback.rating"], 5);

    let unsampled = Service::with(|builder| builder, Sampler::AlwaysOff);
    in_span(&unsampled.tracer, "dropped", || {
        let options = TicketOptions::new().with_subject("user-17");
        assert!(tracing_feedback::ticket_with(&options).is_ok());
    });
}

#[test]
fn feedback_on_open_spans_leaves_at_shutdown() {
    for by_provider in [true, false] {
        let service = Service::new();
        let span = service.tracer.start("open");
        let context = span.span_context().clone();
        let _active = Context::current_with_span(span).attach();
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        match by_provider {
            true => service.provider.shutdown().unwrap(),
            false => service.telemetry.shutdown().unwrap(),
        }
        let carrier = one(service.collector.spans(), |_| true);
        assert!(carrier.is_carrier());
        assert_eq!(carrier.links[0].span_id, context.span_id());
        let outcome = enrich_span!(feedback = { "rating": 2 });
        assert_eq!(outcome.into_result(), Err(EnrichError::ShutDown));
        drop(service);
    }
}

#[test]
fn dropping_the_handle_leaves_the_processor_to_its_provider() {
    let Service { telemetry, provider, tracer, collector } = Service::new();
    let span = tracer.start("open");
    {
        let _active = Context::current_with_span(span).attach();
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        drop(telemetry);
    }
    in_span(&tracer, "later", || ());
    provider.force_flush().unwrap();
    let mut names: Vec<_> = collector.spans().into_iter().map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["feedback", "later", "open"]);
    provider.shutdown().unwrap();
}

#[test]
fn redaction_sees_enrichments_and_everything_that_spans_carry() {
    let redact = |builder: Builder| {
        builder.with_redaction(|key, value| (!key.ends_with("secret")).then_some(value))
    };
    let service = Service::with(redact, Sampler::AlwaysOn);
    in_span(&service.tracer, "answer", || {
        let active = Context::current();
        active.span().set_attribute(KeyValue::new("secret", 1));
        active.span().add_event("event", vec![KeyValue::new("a.secret", 1), KeyValue::new("b", 2)]);
        assert!(enrich_span!(feedback = { "rating": 5, "secret": "x" }).is_ok());
    });
    let span = service.span("answer");
    assert_eq!(span.attributes.keys().collect::<Vec<_>>(), ["feedback.rating"]);
    assert_eq!(span.events[0].attributes.keys().collect::<Vec<_>>(), ["b"]);
}

/// The redaction sees the values of an enrichment when it is made, and the provider's attributes when the
/// span ends. It doesn't see the attributes `tracing_feedback.*`.
#[test]
fn redaction_sees_each_value_once() {
    let redact = |builder: Builder| {
        builder.with_redaction(|key, value| match key {
            "session.id" => Some(format!("{value}*").into()),
            _ if key.starts_with("feedback.") => Some(format!("{value}!").into()),
            _ => None,
        })
    };
    let service = Service::with(redact, Sampler::AlwaysOn);
    let session = [KeyValue::new("session.id", "s")];
    let root = service.tracer.span_builder("turn").with_attributes(session);
    let context = Context::current_with_span(root.start(&service.tracer));
    {
        let _active = context.attach();
        in_span(&service.tracer, "answer", || {
            let active = Context::current();
            active.span().set_attribute(KeyValue::new("feedback.field", "a"));
            active.span().set_attribute(KeyValue::new("secret", "b"));
            assert_eq!(Session::current().unwrap().id(), "s*");
            assert!(enrich_span!(feedback = { "comment": "c" }).is_ok());
            assert!(enrich_session!(feedback = { "summary": "d", "gone": null }).is_ok());
        });
    }
    let answer = service.span("answer");
    assert_eq!(answer.attributes["feedback.field"], "a!");
    assert_eq!(answer.attributes["feedback.comment"], "c!");
    assert_eq!(answer.attributes["session.id"], "s*");
    assert_eq!(answer.attributes.len(), 3, "{:?}", answer.attributes);
    let turn = service.span("turn");
    assert_eq!(turn.attributes["feedback.summary"], "d!");
    assert_eq!(turn.attributes["tracing_feedback.scope"], "session");
    assert_eq!(turn.attributes["tracing_feedback.cleared"], ["feedback.gone"]);
    assert_eq!(service.collector.session_feedback("s*")["feedback.summary"], "d!");
}

/// A span is not looked through for a session after thousands without one, until one is noticed that had.
#[test]
fn a_session_after_many_spans_without_is_noticed_when_its_span_is_enriched() {
    let service = Service::new();
    for _ in 0..5000 {
        service.tracer.start("no session").end();
    }
    for turn in 0..20 {
        let id = format!("conversation-{turn}");
        let root = service.tracer.span_builder("turn");
        let root = root.with_attributes([KeyValue::new("session.id", id.clone())]);
        let context = Context::current_with_span(root.start(&service.tracer));
        let _active = context.attach();
        let expected = (turn > 0).then_some(id);
        let session = Session::current().map(|session| session.id().to_owned());
        assert_eq!(session, expected, "turn {turn}");
        assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
    }
}

#[test]
fn an_exporter_of_its_own_takes_the_carriers() {
    let own = Collector::start().unwrap();
    let endpoint = own.endpoint().to_owned();
    let service = Service::with(|builder| builder.with_endpoint(endpoint), Sampler::AlwaysOn);
    let answer = in_span(&service.tracer, "answer", || {
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    assert!(enrich_span!(target = answer, feedback = { "rating": 2 }).is_ok());
    let spans = service.arrived();
    assert_eq!(one(spans, |_| true).attributes["feedback.rating"], 1);
    assert_eq!(one(own.spans(), |_| true).attributes["feedback.rating"], 2);
}

#[test]
fn limits_are_kept_and_said() {
    let service = Service::new();
    in_span(&service.tracer, "answer", || {
        for number in 0..120 {
            let active = Context::current();
            active.span().set_attribute(KeyValue::new(format!("number.{number}"), number));
        }
        let many: std::collections::BTreeMap<_, _> =
            (0..20).map(|key| (format!("k{key:02}"), key)).collect();
        assert!(enrich::current_span().feedback(&many).apply().is_ok());
    });
    let span = service.span("answer");
    assert_eq!(span.attributes.len(), 128);
    assert_eq!(span.attributes["feedback.k19"], 19);
    assert_eq!(span.dropped_attributes_count, 12);
}

/// Counts what is called, and in which order.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl SpanProcessor for Recorder {
    fn on_start(&self, span: &mut Span, _: &Context) {
        span.set_attribute(KeyValue::new("session.id", "conversation-of-processor"));
        self.0.lock().unwrap().push("start".to_owned());
    }

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(format!("end {}", span.name));
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.lock().unwrap().push("flush".to_owned());
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.0.lock().unwrap().push("shutdown".to_owned());
        Ok(())
    }

    fn set_resource(&mut self, _: &Resource) {
        self.0.lock().unwrap().push("resource".to_owned());
    }
}

#[test]
fn every_call_reaches_the_processor_once_and_in_order() {
    let recorder = Recorder::default();
    let built = tracing_feedback::builder().build_around(recorder.clone());
    let (processor, telemetry): (EnrichingSpanProcessor, Telemetry) = built.unwrap();
    let provider = provider(processor).build();
    let answer = in_span(&provider.tracer("chat"), "answer", || {
        assert_eq!(Session::current().unwrap().id(), "conversation-of-processor");
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    assert!(enrich_span!(target = answer, feedback = { "rating": 2 }).is_ok());
    telemetry.flush().unwrap();
    assert_eq!(recorder.take(), ["resource", "start", "end answer", "end feedback", "flush"]);
    let answer = in_span(&provider.tracer("chat"), "answer", || ());
    assert!(enrich_span!(target = answer, feedback = { "rating": 2 }).is_ok());
    telemetry.shutdown().unwrap();
    provider.shutdown().unwrap();
    telemetry.shutdown().unwrap();
    assert_eq!(recorder.take(), ["start", "end answer", "end feedback", "shutdown"]);
}

#[test]
fn a_simple_processor_gets_the_document_as_well() {
    let collector = Collector::start().unwrap();
    let simple = SimpleSpanProcessor::new(exporter(&collector));
    let (processor, telemetry) = tracing_feedback::builder().build_around(simple).unwrap();
    let provider = provider(processor).build();
    let answer = in_span(&provider.tracer("chat"), "answer", || {
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    assert!(enrich_span!(target = answer, feedback = { "late": 2 }).is_ok());
    telemetry.flush().unwrap();
    let span = one(collector.spans(), |span| !span.is_carrier());
    assert_eq!(span.attributes["feedback.rating"], Value::Int(1));
    let carrier = one(collector.spans(), ReceivedSpan::is_carrier);
    assert_eq!(carrier.attributes["feedback.late"], Value::Int(2));
}

// ---- the layer of tracing-opentelemetry ------------------------------------------------------------

#[test]
fn spans_of_the_other_layer_are_given_by_name() {
    for is_activated in [true, false] {
        let service = Service::new();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(service.tracer.clone())
            .with_context_activation(is_activated);
        let _default = tracing_subscriber::registry().with(layer).set_default();
        let span = tracing::info_span!("answer", session.id = "conversation-42");
        let context = span.span_context().unwrap();
        assert!(enrich_span!(span = &span, feedback = { "rating": 1 }).is_ok());
        let ticket = span.ticket().unwrap();
        assert_eq!(ticket.span_context().unwrap().span_id(), context.span_id());
        assert_eq!(ticket.session().unwrap().id(), "conversation-42");
        span.in_scope(|| {
            assert!(enrich_span!(feedback = { "comment": "inside" }).is_ok());
            tracing::info_span!("inner").in_scope(|| {
                assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
            });
        });
        drop(span);
        let received = service.span("answer");
        assert_eq!(received.span_id, context.span_id());
        assert_eq!(received.attributes["feedback.rating"], 1);
        assert_eq!(received.attributes["feedback.comment"], "inside");
        assert_eq!(service.span("inner").attributes["session.id"], "conversation-42");
        let folded = service.collector.session_feedback("conversation-42");
        assert_eq!(folded["feedback.resolved"], true);

        let disabled = tracing::Span::none();
        let outcome = enrich_span!(span = &disabled, feedback = { "rating": 1 });
        assert_eq!(outcome.into_result(), Err(EnrichError::SpanDisabled));
    }
}

/// Each layer's spans, of one stack with both.
fn with_both(ours_first: bool, around: bool, configure: fn(Builder) -> Builder) {
    let service = Service::new();
    let (own, bare) = (Collector::start().unwrap(), Collector::start().unwrap());
    let builder = tracing_feedback::builder().with_endpoint(own.endpoint());
    let (ours, telemetry) = configure(builder).build().unwrap();
    let without = provider(batch(&bare)).build();
    let tracer = if around { service.tracer.clone() } else { without.tracer("chat") };
    let registry = tracing_subscriber::registry();
    let _default = match ours_first {
        true => {
            let theirs = tracing_opentelemetry::layer().with_tracer(tracer);
            registry.with(ours).with(theirs).set_default()
        }
        false => {
            let theirs = tracing_opentelemetry::layer().with_tracer(tracer);
            registry.with(theirs).with(ours).set_default()
        }
    };
    tracing::info_span!("outer").in_scope(|| {
        tracing::info_span!("middle").in_scope(|| {
            tracing::info_span!("answer").in_scope(|| {
                assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
                assert!(enrich_session!(feedback = { "resolved": true }).is_ok());
            });
        });
    });
    telemetry.flush().unwrap();
    without.force_flush().unwrap();
    let of_theirs = if around { service.arrived() } else { bare.spans() };
    let of_ours = own.spans();
    assert_eq!((of_theirs.len(), of_ours.len()), (3, 3));
    assert!(
        of_theirs
            .iter()
            .all(|span| { !span.attributes.keys().any(|key| key.starts_with("feedback.")) })
    );
    for spans in [&of_theirs, &of_ours] {
        let of = |name: &str| one(spans.clone(), |span| span.name == name);
        for (child, parent) in [("answer", "middle"), ("middle", "outer")] {
            assert_eq!(
                of(child).parent_span_id,
                of(parent).span_id,
                "{ours_first} {around} {spans:#?}"
            );
            assert_eq!(of(child).trace_id, of(parent).trace_id);
        }
    }
    assert_eq!(one(of_ours.clone(), |span| span.name == "answer").attributes["feedback.rating"], 1);
    assert_eq!(one(of_ours, |span| span.name == "outer").attributes["feedback.resolved"], true);
}

#[test]
fn beside_another_layer_one_warning_names_what_to_switch_off() {
    let service = Service::new();
    let own = Collector::start().unwrap();
    let (ours, _telemetry) =
        tracing_feedback::builder().with_endpoint(own.endpoint()).build().unwrap();
    let theirs = tracing_opentelemetry::layer().with_tracer(service.tracer.clone());
    let log = Log::default();
    let fmt = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false);
    let _default = tracing_subscriber::registry().with(theirs).with(ours).with(fmt).set_default();
    for _ in 0..3 {
        tracing::info_span!("outer").in_scope(|| {
            tracing::info_span!("inner").in_scope(|| ());
        });
    }
    assert_eq!(log.count("WARN"), 1, "{}", log.text());
    assert_eq!(log.count("with_context_activation(false)"), 1, "{}", log.text());
}

#[test]
fn with_both_layers_in_one_stack_a_span_is_enriched_by_ours_and_each_tree_is_whole() {
    for ours_first in [true, false] {
        for around in [true, false] {
            with_both(ours_first, around, |builder| builder);
            with_both(ours_first, around, |builder| builder.with_context_activation(false));
        }
    }
}

// ---- the edge of a service -------------------------------------------------------------------------

/// The layer of HTTP needs none of ours below it.
#[test]
fn a_service_with_the_other_layer_takes_feedback_over_http() {
    let own = Service::new();
    let layer = tracing_opentelemetry::layer().with_tracer(own.tracer.clone());
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let answer = async || {
        assert!(enrich_span!(feedback = { "model": "small" }).is_ok());
        tracing::info_span!("model").in_scope(|| {
            assert!(enrich_session!(feedback = { "steps": 2 }).is_ok());
        });
        "an answer"
    };
    let http = FeedbackHttpLayer::new()
        .with_tickets(TicketOptions::new())
        .with_trusted_session_header(HeaderName::from_static("x-conversation"));
    let router = Router::new()
        .route("/answer", get(answer))
        .merge(feedback_routes(FeedbackRoutes::new()))
        .layer(http);
    let service = web::Service::within(dispatch, router);
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", traceparent), ("x-conversation", "conversation-42")];
    let response = service.send(Method::GET, "/answer", &headers, "");
    let ticket = response.headers()[TICKET_HEADER.as_str()].to_str().unwrap().to_owned();
    let submission = json!({ "ticket": ticket, "id": "vote-1", "feedback": { "rating": 5 } });
    assert_eq!(service.submit(&submission), (StatusCode::NO_CONTENT, json!(null)));

    let span = own.span("GET /answer");
    assert_eq!(span.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(span.attributes["session.id"], "conversation-42");
    assert_eq!(span.attributes["http.response.status_code"], 200);
    assert_eq!(own.span("model").attributes["session.id"], "conversation-42");
    let folded = own.collector.feedback(span.trace_id, span.span_id);
    assert_eq!(
        (&folded["feedback.model"], &folded["feedback.rating"]),
        (&"small".into(), &5.into())
    );
    assert_eq!(own.collector.session_feedback("conversation-42")["feedback.steps"], 2);
}
