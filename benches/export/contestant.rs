//! The contestants: how each is set up, works and is shut down, all with their default settings.

use std::borrow::Cow;
use std::fmt::Display;

use fastrace_opentelemetry::OpenTelemetryReporter;
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tracing_feedback::Telemetry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Identity;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

use crate::work::{fastrace_request, request};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Contestant {
    /// The bare registry, which exports nothing: what `tracing` itself costs.
    Registry,
    /// This layer.
    Ours,
    /// This layer with the exporter of `opentelemetry-otlp`.
    OursWithExporter,
    /// `tracing-opentelemetry` with `opentelemetry-otlp`.
    OpenTelemetry,
    /// `fastrace` with `fastrace-opentelemetry` and `opentelemetry-otlp`, by its own API.
    Fastrace,
}

/// A contestant that is set up.
pub(crate) struct Ready {
    /// Makes the spans of one request.
    pub(crate) request: fn(u64),
    pub(crate) export: Box<dyn Export>,
}

/// What takes the spans to the receiver.
pub(crate) trait Export {
    /// Returns when every span has arrived, or never will.
    fn flush(&self);

    /// The same at the end.
    fn shutdown(&self);
}

impl Contestant {
    pub(crate) const ALL: [Self; 5] =
        [Self::Registry, Self::Ours, Self::OursWithExporter, Self::OpenTelemetry, Self::Fastrace];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Ours => "tracing-feedback",
            Self::OursWithExporter => "ours with_exporter",
            Self::OpenTelemetry => "tracing-opentelemetry",
            Self::Fastrace => "fastrace",
        }
    }

    pub(crate) fn set_up(self, endpoint: &str) -> Ready {
        match self {
            Self::Registry => registry(),
            Self::Ours => ours(endpoint),
            Self::OursWithExporter => ours_with_exporter(endpoint),
            Self::OpenTelemetry => opentelemetry(endpoint),
            Self::Fastrace => fastrace(endpoint),
        }
    }
}

fn registry() -> Ready {
    install(Identity::new());
    Ready { request, export: Box::new(()) }
}

fn ours(endpoint: &str) -> Ready {
    let (layer, telemetry) =
        tracing_feedback::builder().with_endpoint(endpoint).build().expect("a layer");
    install(layer);
    Ready { request, export: Box::new(telemetry) }
}

fn ours_with_exporter(endpoint: &str) -> Ready {
    let (runtime, exporter) = otlp(endpoint);
    let (layer, telemetry) =
        tracing_feedback::builder().with_exporter(exporter).build().expect("a layer");
    install(layer);
    Ready { request, export: Box::new((telemetry, runtime)) }
}

/// As the documentation of `opentelemetry-otlp` has it for a `main` that isn't asynchronous.
fn opentelemetry(endpoint: &str) -> Ready {
    let (runtime, exporter) = otlp(endpoint);
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    install(tracing_opentelemetry::layer().with_tracer(provider.tracer("bench")));
    Ready { request, export: Box::new((provider, runtime)) }
}

/// As the documentation of `fastrace-opentelemetry` has it.
fn fastrace(endpoint: &str) -> Ready {
    let (runtime, exporter) = otlp(endpoint);
    let resource = Cow::Owned(Resource::builder().build());
    let scope = InstrumentationScope::builder("bench").build();
    let reporter = OpenTelemetryReporter::new(exporter, resource, scope);
    fastrace::set_reporter(reporter, fastrace::collector::Config::default());
    Ready { request: fastrace_request, export: Box::new(runtime) }
}

/// The exporter of both peers, and the runtime that its connection lives on.
fn otlp(endpoint: &str) -> (Runtime, SpanExporter) {
    let runtime = Runtime::new().expect("a runtime");
    let exporter = runtime.block_on(async {
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().expect("an exporter")
    });
    (runtime, exporter)
}

/// For the whole process, as services do it. The filter keeps out what gRPC clients trace.
fn install(layer: impl Layer<Registry> + Send + Sync) {
    tracing_subscriber::registry().with(layer).with(LevelFilter::INFO).init();
}

impl Export for () {
    fn flush(&self) {}

    fn shutdown(&self) {}
}

impl Export for Telemetry {
    fn flush(&self) {
        print_error(Telemetry::flush(self));
    }

    fn shutdown(&self) {
        print_error(Telemetry::shutdown(self));
    }
}

impl Export for (Telemetry, Runtime) {
    fn flush(&self) {
        Export::flush(&self.0);
    }

    fn shutdown(&self) {
        Export::shutdown(&self.0);
    }
}

impl Export for (SdkTracerProvider, Runtime) {
    fn flush(&self) {
        print_error(self.0.force_flush());
    }

    fn shutdown(&self) {
        print_error(self.0.shutdown());
    }
}

/// `fastrace` is global to the process and can't be shut down.
impl Export for Runtime {
    fn flush(&self) {
        fastrace::flush();
    }

    fn shutdown(&self) {
        fastrace::flush();
    }
}

/// Missing spans are seen at the receiver; the contestant prints the reason.
fn print_error<Error: Display>(result: Result<(), Error>) {
    if let Err(error) = result {
        eprintln!("{error}");
    }
}
