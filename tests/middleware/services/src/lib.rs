//! What the trials share: a subscriber, a collector, and what a service does on each request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
use tracing_feedback::collector::{Collector, ReceivedSpan};
use tracing_feedback::{EnrichError, Telemetry, TicketKeys, TicketVerifier, enrich_span};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

pub const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub const CALLER: &str = "b7ad6b7169203331";

/// The header of a caller that has a trace.
pub fn caller() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// What a trial runs on, and with which middleware: the argument of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// This crate's layer, and the middleware as it is.
    Kept,
    /// This crate's layer, and what docs/migration.md says to use instead.
    Replaced,
    /// `tracing-opentelemetry` with `build_around`, and the middleware as it is.
    Beside,
    /// The same, with what docs/migration.md says to use on this crate's layer.
    BesideReplaced,
}

impl Way {
    pub fn from_args() -> Self {
        match std::env::args().nth(1).as_deref() {
            Some("kept") => Self::Kept,
            Some("replaced") => Self::Replaced,
            Some("beside") => Self::Beside,
            Some("beside-replaced") => Self::BesideReplaced,
            _ => panic!("expected `kept`, `replaced`, `beside` or `beside-replaced`"),
        }
    }

    /// Whether the service has `tracing-opentelemetry`.
    pub fn is_beside(self) -> bool {
        matches!(self, Self::Beside | Self::BesideReplaced)
    }

    /// Whether `FeedbackHttpLayer` is in place of the server middleware.
    pub fn is_replaced(self) -> bool {
        matches!(self, Self::Replaced | Self::BesideReplaced)
    }
}

/// A subscriber for the whole program, and the collector it sends to.
pub struct Rig {
    collector: Collector,
    telemetry: Telemetry,
}

impl Rig {
    pub fn install(way: Way) -> Self {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let collector = Collector::start().unwrap();
        // The spans of `axum-tracing-opentelemetry` and `tonic-tracing-opentelemetry` have a level of TRACE.
        let filter = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target("otel::tracing", LevelFilter::TRACE);
        let keys = TicketKeys::new([[7; 32]]).unwrap();
        let builder = tracing_feedback::builder().with_ticket_keys(keys);
        if way.is_beside() {
            IS_UNKNOWN.store(!cfg!(feature = "tracing-opentelemetry"), Ordering::Relaxed);
            let (processor, telemetry) = builder.build_around(processor(&collector)).unwrap();
            let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("service"));
            tracing_subscriber::registry().with(layer.with_filter(filter)).init();
            return Self { collector, telemetry };
        }
        let (layer, telemetry) = builder.with_endpoint(collector.endpoint()).build().unwrap();
        tracing_subscriber::registry().with(layer.with_filter(filter)).init();
        Self { collector, telemetry }
    }

    pub fn ticket_verifier(&self) -> TicketVerifier {
        self.telemetry.ticket_verifier()
    }

    /// The spans by name, once `count` have arrived.
    pub fn spans(&self, count: usize) -> BTreeMap<String, ReceivedSpan> {
        self.all(count).into_iter().map(|span| (span.name.clone(), span)).collect()
    }

    /// The spans, once `count` have arrived.
    pub fn all(&self, count: usize) -> Vec<ReceivedSpan> {
        // A span may end a moment after its response has arrived.
        for _ in 0..200 {
            self.telemetry.flush().unwrap();
            if self.collector.spans().len() >= count {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let spans = self.collector.spans();
        println!("{}", self.collector.tree());
        assert_eq!(
            spans.len(),
            count,
            "{:?}",
            spans.iter().map(|span| &span.name).collect::<Vec<_>>()
        );
        spans
    }

    /// Asserts that the feedback of the handler is on the span, and the vote is about it.
    pub fn assert_feedback(&self, answer: &ReceivedSpan) {
        assert_eq!(text(answer, "feedback.rating").as_deref(), Some("true"));
        let feedback = self.collector.feedback(answer.trace_id, answer.span_id);
        assert_eq!(feedback["feedback.rating"], true);
        assert_eq!(feedback["feedback.comment"], "right");
    }

    pub fn clear(&self) {
        self.collector.clear();
    }
}

/// The processor of a service that exports by `opentelemetry-otlp`.
fn processor(collector: &Collector) -> BatchSpanProcessor {
    // The exporter needs a runtime that nothing blocks, and that of actix has one thread.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let _entered = Box::leak(Box::new(runtime.unwrap())).enter();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(collector.endpoint())
        .build()
        .unwrap();
    BatchSpanProcessor::builder(exporter).build()
}

/// Whether the service has `tracing-opentelemetry`, whose type this crate doesn't know.
static IS_UNKNOWN: AtomicBool = AtomicBool::new(false);

/// What the handlers call: a span of the service's own, with feedback. Returns a ticket for it.
#[tracing::instrument]
pub fn answer(id: &str) -> String {
    enrich_span!(feedback = { "rating": true }).into_result().unwrap();
    let by_name = enrich_span!(span = &tracing::Span::current(), feedback = { "by": "name" });
    match by_name.into_result() {
        Err(error) if IS_UNKNOWN.load(Ordering::Relaxed) => {
            assert_eq!(error, EnrichError::OtherLayer);
            assert!(error.to_string().contains("feature `tracing-opentelemetry`"), "{error}");
        }
        outcome => assert_eq!((outcome, IS_UNKNOWN.load(Ordering::Relaxed)), (Ok(()), false)),
    }
    tracing_feedback::ticket().unwrap().to_string()
}

/// What a handler does with a ticket that comes back.
pub fn vote(verifier: &TicketVerifier, ticket: &str) {
    let ticket = verifier.verify(ticket).unwrap();
    let outcome = enrich_span!(target = &ticket, id = "1", feedback = { "comment": "right" });
    outcome.into_result().unwrap();
}

/// An attribute as text.
pub fn text(span: &ReceivedSpan, key: &str) -> Option<String> {
    span.attribute(key).map(|value| value.to_string().trim_matches('"').to_owned())
}

/// The span that a header names.
pub fn named(header: &str) -> (String, String) {
    let mut fields = header.split('-').skip(1).map(str::to_owned);
    (fields.next().unwrap_or_default(), fields.next().unwrap_or_default())
}

/// The ids of a span, as `named` has them.
pub fn ids(span: &ReceivedSpan) -> (String, String) {
    (span.trace_id.to_string(), span.span_id.to_string())
}

/// Whether the span is the child of the caller.
pub fn continues(span: &ReceivedSpan) -> bool {
    (span.trace_id.to_string(), span.parent_span_id.to_string()) == (TRACE.into(), CALLER.into())
}

/// Whether the span is a child of the other.
pub fn is_child(span: &ReceivedSpan, parent: &ReceivedSpan) -> bool {
    (span.trace_id, span.parent_span_id) == (parent.trace_id, parent.span_id)
}
