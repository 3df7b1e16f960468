//! The contestants, and what each does with a request.

use std::any::Any;
use std::hint::black_box;

use fastrace::collector::{Config, Reporter, SpanRecord};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Dispatch;
use tracing_feedback::{Builder, FeedbackLayer, Keep, Telemetry};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Identity;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

use crate::discard::DiscardExporter;
use crate::work::{fastrace_request, request};

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// The subscriber for the spans of a turn.
    pub(crate) dispatch: Box<dyn Fn() -> Dispatch + Sync>,
    pub(crate) request: fn(u64),
    /// Values that have to live as long as the subscriber.
    _export: Box<dyn Any + Sync>,
}

pub(crate) fn all(endpoint: &str) -> Vec<Contestant> {
    let registry = tracing_subscriber::registry;
    let (ours_filtered, telemetry) = ours(endpoint, true);
    vec![
        tracing("nothing", Dispatch::none(), ()),
        tracing("registry", Dispatch::new(registry().with(Identity::new())), ()),
        bare(),
        with_ours("tracing-feedback, default", endpoint, true),
        through_exporter("ours with_exporter, default", true),
        with_peer("tracing-opentelemetry, default", true),
        with_ours("tracing-feedback, minimal", endpoint, false),
        through_exporter("ours with_exporter, minimal", false),
        with_peer("tracing-opentelemetry, minimal", false),
        fastrace(),
        sampler("ours, sampled", endpoint, Sampler::AlwaysOn, Keep::SpansWithFeedback),
        sampler("ours, unsampled", endpoint, Sampler::AlwaysOff, Keep::SpansWithFeedback),
        sampler("ours, unsampled, keep on", endpoint, Sampler::AlwaysOff, Keep::TracesWithFeedback),
        tracing("filtered out, registry", filtered(Identity::new()), ()),
        tracing("filtered out, tracing-feedback", filtered(ours_filtered), telemetry),
    ]
}

fn tracing(name: &'static str, dispatch: Dispatch, export: impl Any + Sync) -> Contestant {
    let dispatch = Box::new(move || dispatch.clone());
    Contestant { name, dispatch, request, _export: Box::new(export) }
}

/// The filter is put on top, as by services that have one stack and no other.
fn filtered(layer: impl Layer<Registry> + Send + Sync) -> Dispatch {
    Dispatch::new(tracing_subscriber::registry().with(layer).with(LevelFilter::WARN))
}

/// Without any layer the registry never removes a closed span, so there is a new one for every
/// turn.
fn bare() -> Contestant {
    let dispatch = Box::new(|| Dispatch::new(tracing_subscriber::registry()));
    Contestant { name: "registry without a layer", dispatch, request, _export: Box::new(()) }
}

fn ours(endpoint: &str, on: bool) -> (FeedbackLayer, Telemetry) {
    builder(endpoint, on).build().expect("a layer")
}

fn builder(endpoint: &str, on: bool) -> Builder {
    settings(tracing_feedback::builder().with_endpoint(endpoint), on)
}

fn settings(builder: Builder, on: bool) -> Builder {
    builder
        .with_location(on)
        .with_threads(on)
        .with_target(on)
        .with_tracked_inactivity(on)
        .with_context_activation(on)
}

/// A sampler of the SDK is called for every span, and no feedback arrives on unsampled traces.
fn sampler(name: &'static str, endpoint: &str, sampler: Sampler, keep: Keep) -> Contestant {
    let builder = builder(endpoint, true).with_sampler(sampler).with_keep(keep);
    let (layer, telemetry) = builder.build().expect("a layer");
    tracing(name, Dispatch::new(tracing_subscriber::registry().with(layer)), telemetry)
}

fn with_ours(name: &'static str, endpoint: &str, on: bool) -> Contestant {
    let (layer, telemetry) = ours(endpoint, on);
    tracing(name, Dispatch::new(tracing_subscriber::registry().with(layer)), telemetry)
}

/// This layer with the exporter of its peers.
fn through_exporter(name: &'static str, on: bool) -> Contestant {
    let builder = settings(tracing_feedback::builder().with_exporter(DiscardExporter), on);
    let (layer, telemetry) = builder.build().expect("a layer");
    tracing(name, Dispatch::new(tracing_subscriber::registry().with(layer)), telemetry)
}

fn with_peer(name: &'static str, on: bool) -> Contestant {
    let provider = SdkTracerProvider::builder().with_batch_exporter(DiscardExporter).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("bench"))
        .with_location(on)
        .with_threads(on)
        .with_target(on)
        .with_tracked_inactivity(on)
        .with_context_activation(on);
    tracing(name, Dispatch::new(tracing_subscriber::registry().with(layer)), provider)
}

/// By its own API.
fn fastrace() -> Contestant {
    fastrace::set_reporter(DiscardExporter, Config::default());
    let (dispatch, request) = (Box::new(Dispatch::none), fastrace_request);
    Contestant { name: "fastrace", dispatch, request, _export: Box::new(()) }
}

impl Reporter for DiscardExporter {
    fn report(&mut self, spans: Vec<SpanRecord>) {
        black_box(spans);
    }
}
