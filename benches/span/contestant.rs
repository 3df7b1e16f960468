//! The contestants, and what each does with a request.

use std::any::Any;
use std::hint::black_box;

use fastrace::collector::{Config, Reporter, SpanRecord};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Dispatch;
use tracing_feedback::{Builder, Keep, enrich_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Identity;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

use crate::discard::DiscardExporter;
use crate::work::{fastrace_request, request};

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    set_up: fn(endpoint: &str) -> Ready,
}

/// A contestant that is set up: the subscriber is that of the whole process, as services have it.
pub(crate) struct Ready {
    pub(crate) request: fn(u64),
    /// A subscriber for the spans of one turn.
    pub(crate) of_turn: Option<fn() -> Dispatch>,
    /// Values that have to live as long as the subscriber.
    _export: Box<dyn Any + Sync>,
}

pub(crate) const ALL: [Contestant; 16] = [
    contestant("nothing", |_| ready(())),
    contestant("registry", |_| installed(Identity::new(), ())),
    contestant("registry without a layer", |_| bare()),
    contestant("tracing-feedback, default", |endpoint| ours(builder(endpoint, true))),
    contestant("ours with_exporter, default", |_| ours(through_exporter(true))),
    contestant("tracing-opentelemetry, default", |_| peer(true)),
    contestant("tracing-feedback, minimal", |endpoint| ours(builder(endpoint, false))),
    contestant("ours with_exporter, minimal", |_| ours(through_exporter(false))),
    contestant("tracing-opentelemetry, minimal", |_| peer(false)),
    contestant("fastrace", |_| fastrace()),
    contestant("ours, sampled", |endpoint| {
        ours(builder(endpoint, true).with_sampler(Sampler::AlwaysOn))
    }),
    contestant("ours, unsampled", |endpoint| {
        ours(builder(endpoint, true).with_sampler(Sampler::AlwaysOff))
    }),
    contestant("ours, unsampled, keep on", |endpoint| {
        let builder = builder(endpoint, true).with_sampler(Sampler::AlwaysOff);
        ours(builder.with_keep(Keep::TracesWithFeedback))
    }),
    contestant("ours, unsampled, keep on, rated", |endpoint| {
        let builder = builder(endpoint, true).with_sampler(Sampler::AlwaysOff);
        Ready { request: rated, ..ours(builder.with_keep(Keep::TracesWithFeedback)) }
    }),
    contestant("filtered out, registry", |_| filtered(Identity::new(), ())),
    contestant("filtered out, tracing-feedback", |endpoint| {
        let (layer, telemetry) = builder(endpoint, true).build().expect("a layer");
        filtered(layer, telemetry)
    }),
];

impl Contestant {
    pub(crate) fn set_up(&self, endpoint: &str) -> Ready {
        (self.set_up)(endpoint)
    }
}

const fn contestant(name: &'static str, set_up: fn(&str) -> Ready) -> Contestant {
    Contestant { name, set_up }
}

fn ready(export: impl Any + Sync) -> Ready {
    Ready { request, of_turn: None, _export: Box::new(export) }
}

fn installed(layer: impl Layer<Registry> + Send + Sync, export: impl Any + Sync) -> Ready {
    tracing_subscriber::registry().with(layer).init();
    ready(export)
}

/// The filter is put on top, as by services that have one stack and no other.
fn filtered(layer: impl Layer<Registry> + Send + Sync, export: impl Any + Sync) -> Ready {
    tracing_subscriber::registry().with(layer).with(LevelFilter::WARN).init();
    ready(export)
}

/// Without any layer the registry never removes a closed span, so there is a new one for every
/// turn.
fn bare() -> Ready {
    Ready { of_turn: Some(|| Dispatch::new(tracing_subscriber::registry())), ..ready(()) }
}

fn ours(builder: Builder) -> Ready {
    let (layer, telemetry) = builder.build().expect("a layer");
    installed(layer, telemetry)
}

fn builder(endpoint: &str, on: bool) -> Builder {
    settings(tracing_feedback::builder().with_endpoint(endpoint), on)
}

/// This layer with the exporter of its peers.
fn through_exporter(on: bool) -> Builder {
    settings(tracing_feedback::builder().with_exporter(DiscardExporter), on)
}

fn settings(builder: Builder, on: bool) -> Builder {
    builder
        .with_location(on)
        .with_threads(on)
        .with_target(on)
        .with_tracked_inactivity(on)
        .with_context_activation(on)
}

/// A request, and after one in a hundred an answer with feedback.
fn rated(user: u64) {
    request(user);
    if user.is_multiple_of(100) {
        let _answer = tracing::info_span!("answer", user).entered();
        let _ = enrich_span!(feedback = { "rating": true });
    }
}

fn peer(on: bool) -> Ready {
    let provider = SdkTracerProvider::builder().with_batch_exporter(DiscardExporter).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("bench"))
        .with_location(on)
        .with_threads(on)
        .with_target(on)
        .with_tracked_inactivity(on)
        .with_context_activation(on);
    installed(layer, provider)
}

/// By its own API.
fn fastrace() -> Ready {
    fastrace::set_reporter(DiscardExporter, Config::default());
    Ready { request: fastrace_request, ..ready(()) }
}

impl Reporter for DiscardExporter {
    fn report(&mut self, spans: Vec<SpanRecord>) {
        black_box(spans);
    }
}
