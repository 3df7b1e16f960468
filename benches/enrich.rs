//! What an enrichment costs the thread that makes it: without a layer, on a span that is enriched
//! already, on a fresh one, on one that a filter hides.
//!
//! `cargo bench --bench enrich`. A literal's strings are known at run time only, so they are copied.

mod discard;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use serde::Serialize;
use tracing_feedback::{enrich, enrich_session, enrich_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

use discard::DiscardExporter;

#[derive(Serialize)]
struct Feedback<'a> {
    rating: bool,
    comment: &'a str,
    user_id: &'a str,
    stars: u8,
    step1: Step,
}

#[derive(Serialize)]
struct Step {
    retry: bool,
}

const FEEDBACK: Feedback<'static> = Feedback {
    rating: true,
    comment: "The model hallucinated the capital of New York",
    user_id: "u-17",
    stars: 4,
    step1: Step { retry: true },
};

/// Five leaves, on the active span or the given one.
macro_rules! literal {
    ($($span:tt)*) => {
        enrich_span!($($span)* feedback = {
            "rating": true,
            "comment": black_box(FEEDBACK.comment),
            "user_id": black_box(FEEDBACK.user_id),
            "stars": 4,
            "step1": { "retry": true },
        })
        .is_ok()
    };
}

fn enrichments(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("enrich");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));

    group.bench_function("no layer installed", |bencher| bencher.iter(|| literal!()));

    let (layer, telemetry) = tracing_feedback::builder()
        .with_exporter(DiscardExporter)
        .build()
        .expect("a layer without a collector always builds");
    let layer = layer.with_filter(LevelFilter::INFO);
    let subscriber = tracing_subscriber::registry().with(layer);
    let value = serde_json::to_value(&FEEDBACK).expect("the feedback is JSON");
    tracing::subscriber::with_default(subscriber, || {
        group.bench_function("literal, fresh span", |bencher| {
            bencher.iter_batched(
                || tracing::info_span!("answer"),
                |span| {
                    black_box(literal!(span = &span,));
                    span // ends when no one measures
                },
                BatchSize::NumIterations(16),
            );
        });
        let hidden = tracing::debug_span!("hidden");
        group.bench_function("literal, hidden span", |bencher| {
            bencher.iter(|| literal!(span = &hidden,));
        });
        let _span = tracing::info_span!("answer").entered();
        group.bench_function("literal, merged", |bencher| bencher.iter(|| literal!()));
        group.bench_function("one leaf, merged", |bencher| {
            bencher.iter(|| enrich_span!(feedback = { "rating": 5 }).is_ok());
        });
        group.bench_function("typed struct, merged", |bencher| {
            bencher.iter(|| enrich_span!(feedback = black_box(&FEEDBACK)).is_ok());
        });
        group.bench_function("serde_json::Value, merged", |bencher| {
            bencher.iter(|| enrich::current_span().feedback(black_box(&value)).apply().is_ok());
        });
        group.bench_function("session, merged", |bencher| {
            bencher.iter(|| enrich_session!(feedback = { "rating": 5 }).is_ok());
        });
    });
    drop(telemetry);
    group.finish();
}

criterion_group!(benches, enrichments);
criterion_main!(benches);
