//! A collector and a subscriber whose spans arrive there, by either way of capture: the layer of this
//! crate, or that of `tracing-opentelemetry` with a processor of this crate in its provider.

use std::marker::PhantomData;
use std::process::Command;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tracing::{Dispatch, Subscriber, dispatcher};
use tracing_feedback::collector::Collector;
use tracing_feedback::{Builder, FeedbackLayer, Protocol, Telemetry};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use crate::around;

/// A way of capturing spans.
pub(crate) trait Capture {
    /// Whether spans of unsampled traces are recorded, and exported if they have feedback.
    const RECORDS_UNSAMPLED: bool;

    /// A subscriber whose spans are sampled by `sampler` and sent to `collector`.
    fn subscriber(
        collector: &Collector,
        sampler: Sampler,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> (Dispatch, Telemetry);
}

/// The layer of this crate.
pub(crate) struct OurLayer;

impl Capture for OurLayer {
    const RECORDS_UNSAMPLED: bool = true;

    fn subscriber(
        collector: &Collector,
        sampler: Sampler,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> (Dispatch, Telemetry) {
        let (layer, telemetry) =
            build(collector, |builder| configure(builder.with_sampler(sampler)));
        (Dispatch::new(tracing_subscriber::registry().with(layer)), telemetry)
    }
}

/// The layer of `tracing-opentelemetry`, with a processor of this crate in its provider.
pub(crate) struct Provider;

impl Capture for Provider {
    const RECORDS_UNSAMPLED: bool = false;

    fn subscriber(
        collector: &Collector,
        sampler: Sampler,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> (Dispatch, Telemetry) {
        let (layer, telemetry) = beside(collector, sampler, configure);
        (Dispatch::new(tracing_subscriber::registry().with(layer)), telemetry)
    }
}

/// A collector, and a subscriber whose spans are captured in one way and sent there.
pub(crate) struct RigOf<C> {
    pub(crate) telemetry: Telemetry,
    pub(crate) dispatch: Dispatch,
    /// Dropped last, so that spans on their way can arrive.
    pub(crate) collector: Collector,
    capture: PhantomData<C>,
}

pub(crate) type Rig = RigOf<OurLayer>;

impl<C: Capture> RigOf<C> {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::of(Collector::start().unwrap(), configure)
    }

    pub(crate) fn of(collector: Collector, configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::made(collector, sampled(), configure)
    }

    pub(crate) fn with_sampler(sampler: Sampler) -> Self {
        Self::made(Collector::start().unwrap(), sampler, |builder| builder)
    }

    fn made(
        collector: Collector,
        sampler: Sampler,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let (dispatch, telemetry) = C::subscriber(&collector, sampler, configure);
        Self::from_parts(collector, dispatch, telemetry)
    }

    pub(crate) fn from_parts(
        collector: Collector,
        dispatch: Dispatch,
        telemetry: Telemetry,
    ) -> Self {
        Self { telemetry, dispatch, collector, capture: PhantomData }
    }

    /// Another service that sends to the same collector.
    pub(crate) fn other_service(
        &self,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> (Dispatch, Telemetry) {
        C::subscriber(&self.collector, sampled(), configure)
    }

    /// Whether spans of unsampled traces are recorded.
    pub(crate) fn records_unsampled(&self) -> bool {
        C::RECORDS_UNSAMPLED
    }

    /// Does something inside the subscriber, and waits until everything of it has arrived.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let result = dispatcher::with_default(&self.dispatch, work);
        self.telemetry.flush().unwrap();
        result
    }
}

impl Rig {
    /// By another protocol than gRPC.
    pub(crate) fn over(protocol: Protocol) -> Self {
        Self::over_with(protocol, |builder| builder)
    }

    /// Both.
    pub(crate) fn over_with(
        protocol: Protocol,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let collector = Collector::start().unwrap();
        let endpoint = match protocol {
            Protocol::Grpc => collector.endpoint().to_owned(),
            _ => collector.http_endpoint().to_owned(),
        };
        Self::of(collector, |builder| {
            configure(builder.with_protocol(protocol).with_endpoint(endpoint))
        })
    }
}

/// The default sampler.
fn sampled() -> Sampler {
    Sampler::ParentBased(Box::new(Sampler::AlwaysOn))
}

/// A layer that sends to `collector`, with as little of its own attributes as possible.
pub(crate) fn build(
    collector: &Collector,
    configure: impl FnOnce(Builder) -> Builder,
) -> (FeedbackLayer, Telemetry) {
    let builder = tracing_feedback::builder()
        .with_endpoint(collector.endpoint())
        .with_timeout(Duration::from_secs(5))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    configure(builder).build().unwrap()
}

/// The same with the layer of `tracing-opentelemetry`.
pub(crate) fn build_beside<S: Subscriber + for<'s> LookupSpan<'s>>(
    collector: &Collector,
    configure: impl FnOnce(Builder) -> Builder,
) -> (OpenTelemetryLayer<S, SdkTracer>, Telemetry) {
    beside(collector, sampled(), configure)
}

fn beside<S: Subscriber + for<'s> LookupSpan<'s>>(
    collector: &Collector,
    sampler: Sampler,
    configure: impl FnOnce(Builder) -> Builder,
) -> (OpenTelemetryLayer<S, SdkTracer>, Telemetry) {
    // A property makes more spans at once than the default queue holds.
    let config = BatchConfigBuilder::default().with_max_queue_size(100_000).build();
    let batch =
        BatchSpanProcessor::builder(around::exporter(collector)).with_batch_config(config).build();
    let (processor, telemetry) =
        configure(tracing_feedback::builder()).build_around(batch).unwrap();
    let provider: SdkTracerProvider = around::provider(processor).with_sampler(sampler).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("tests"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    (layer, telemetry)
}

/// Set in a process that runs a single test.
const ALONE: &str = "TRACING_FEEDBACK_TEST_ALONE";

/// Whether this process runs a single test. If it doesn't, the test of this path is run in one that does. For
/// what the provider of another test would change: a caller without a layer means the newest provider.
pub(crate) fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let test = test.strip_prefix("it::").unwrap_or(test);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}
