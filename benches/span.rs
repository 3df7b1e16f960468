//! What a span costs the thread that makes it: nothing, the bare registry, this layer, the peer.
//!
//! `cargo bench --bench span`. The work is the same for all: a request span with nine leaf spans of
//! two fields each. The pipelines are real, with batches on a thread of their own, and end in an
//! exporter that drops everything. Read the ratios: times on a shared machine swing.
//!
//! At full speed no export thread keeps up. With default settings the peer's queue of 2,048 spans
//! overruns at once, so most of its spans are dropped cheaply where they end; ours takes 32 MiB of
//! them first, and what it takes it exports.

mod nowhere;
mod work;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Dispatch;
use tracing_subscriber::prelude::*;

use nowhere::Nowhere;
use work::{SPANS, request};

/// Our layer, as it is or with everything switched off that the peer can switch off too.
fn ours(minimal: bool) -> (Dispatch, tracing_feedback::Telemetry) {
    let on = !minimal;
    let (layer, telemetry) = tracing_feedback::builder()
        .with_exporter(Nowhere)
        .with_location(on)
        .with_threads(on)
        .with_target(on)
        .with_tracked_inactivity(on)
        .with_context_activation(on)
        .build()
        .expect("a layer without a collector always builds");
    (Dispatch::new(tracing_subscriber::registry().with(layer)), telemetry)
}

fn peer(minimal: bool) -> (Dispatch, SdkTracerProvider) {
    let on = !minimal;
    let provider = SdkTracerProvider::builder().with_batch_exporter(Nowhere).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("bench"))
        .with_location(on)
        .with_threads(on)
        .with_target(on)
        .with_tracked_inactivity(on)
        .with_context_activation(on);
    (Dispatch::new(tracing_subscriber::registry().with(layer)), provider)
}

fn spans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request of 10 spans");
    group.throughput(Throughput::Elements(SPANS));
    group.warm_up_time(Duration::from_secs(2)).measurement_time(Duration::from_secs(5));
    let mut bench = |name: &str, dispatch: &Dispatch| {
        group.bench_function(name, |bencher| {
            tracing::dispatcher::with_default(dispatch, || bencher.iter(|| request(black_box(7))));
        });
    };

    bench("nothing", &Dispatch::none());
    bench("registry", &Dispatch::new(tracing_subscriber::registry()));
    for (name, minimal) in [("default", false), ("minimal", true)] {
        let (dispatch, telemetry) = ours(minimal);
        bench(&format!("tracing-feedback, {name}"), &dispatch);
        drop((dispatch, telemetry));
        let (dispatch, provider) = peer(minimal);
        bench(&format!("tracing-opentelemetry, {name}"), &dispatch);
        drop((dispatch, provider));
    }
    group.finish();
}

criterion_group!(benches, spans);
criterion_main!(benches);
