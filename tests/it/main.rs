//! What users of the crate can rely on, a module per behaviour. Everything is asserted from what a
//! real OTLP receiver got.

mod api;
mod around;
mod bad_input;
mod connections;
mod delivery;
mod desk;
mod differential;
#[cfg(unix)]
mod fork;
mod golden;
mod keep;
mod layer;
mod macros;
mod merging;
mod metrics;
mod otel;
mod other_layer;
mod outbox;
mod outbox_crash;
#[cfg(unix)]
mod outbox_directory;
mod payloads;
mod pipeline;
mod rooms;
mod sessions;
mod show;
mod span_processors;
mod thread_exit;
mod ticket_budget;
mod tickets;
mod too_large;
mod user_code;
mod web;

use std::time::Duration;

use tracing_feedback::collector::Collector;
use tracing_feedback::{Builder, FeedbackLayer, Protocol, Telemetry};
use tracing_subscriber::prelude::*;

/// A collector, and a subscriber whose only layer sends there.
struct Rig {
    telemetry: Telemetry,
    dispatch: tracing::Dispatch,
    /// Dropped last, so that spans on their way can arrive.
    collector: Collector,
}

impl Rig {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::of(Collector::start().unwrap(), configure)
    }

    /// The same by another protocol than gRPC.
    fn over(protocol: Protocol) -> Self {
        Self::over_with(protocol, |builder| builder)
    }

    /// Both.
    fn over_with(protocol: Protocol, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let collector = Collector::start().unwrap();
        let endpoint = match protocol {
            Protocol::Grpc => collector.endpoint().to_owned(),
            _ => collector.http_endpoint().to_owned(),
        };
        Self::of(collector, |builder| {
            configure(builder.with_protocol(protocol).with_endpoint(endpoint))
        })
    }

    fn of(collector: Collector, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let (layer, telemetry) = build(&collector, configure);
        let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
        Self { collector, telemetry, dispatch }
    }

    /// Does something inside the subscriber, and waits until everything of it has arrived.
    fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let result = tracing::dispatcher::with_default(&self.dispatch, work);
        self.telemetry.flush().unwrap();
        result
    }
}

/// A layer that sends to `collector`, with as little of its own attributes as possible.
fn build(
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
