//! What the trials share: a subscriber, a collector, and what a service does on each request.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_feedback::collector::{Collector, ReceivedSpan};
use tracing_feedback::{Telemetry, enrich_span};
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
    /// `tracing-opentelemetry` and its exporter, and the middleware as it is.
    Beside,
}

impl Way {
    pub fn from_args() -> Self {
        match std::env::args().nth(1).as_deref() {
            Some("kept") => Self::Kept,
            Some("replaced") => Self::Replaced,
            Some("beside") => Self::Beside,
            _ => panic!("expected `kept`, `replaced` or `beside`"),
        }
    }
}

/// A subscriber for the whole program, and the collector it sends to.
pub struct Rig {
    collector: Collector,
    telemetry: Option<Telemetry>,
    provider: Option<SdkTracerProvider>,
}

impl Rig {
    pub fn install(way: Way) -> Self {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let collector = Collector::start().unwrap();
        // The spans of `axum-tracing-opentelemetry` and `tonic-tracing-opentelemetry` have a level of TRACE.
        let filter = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_target("otel::tracing", LevelFilter::TRACE);
        if way == Way::Beside {
            // The exporter needs a runtime that nothing blocks, and that of actix has one thread.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let _entered = Box::leak(Box::new(runtime.unwrap())).enter();
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(collector.endpoint())
                .build()
                .unwrap();
            let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("service"));
            tracing_subscriber::registry().with(layer.with_filter(filter)).init();
            return Self { collector, telemetry: None, provider: Some(provider) };
        }
        let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
        let (layer, telemetry) = builder.build().unwrap();
        tracing_subscriber::registry().with(layer.with_filter(filter)).init();
        Self { collector, telemetry: Some(telemetry), provider: None }
    }

    /// The spans by name, once `count` have arrived.
    pub fn spans(&self, count: usize) -> BTreeMap<String, ReceivedSpan> {
        self.all(count).into_iter().map(|span| (span.name.clone(), span)).collect()
    }

    /// The spans, once `count` have arrived.
    pub fn all(&self, count: usize) -> Vec<ReceivedSpan> {
        let flush = || {
            self.telemetry.iter().for_each(|telemetry| telemetry.flush().unwrap());
            self.provider.iter().for_each(|provider| provider.force_flush().unwrap());
        };
        // A span may end a moment after its response has arrived.
        for _ in 0..200 {
            flush();
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

    pub fn clear(&self) {
        self.collector.clear();
    }
}

/// What the handlers call: a span of the service's own, with feedback.
#[tracing::instrument]
pub fn answer(id: &str) -> bool {
    enrich_span!(feedback = { "rating": true }).is_ok()
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
