//! What an enrichment costs the thread that makes it.
//!
//! `cargo bench --bench enrich`. Each iteration enriches a fresh span, whose own cost is measured
//! first, or a span that is enriched already.

mod nowhere;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use serde::Serialize;
use tracing_feedback::{enrich, enrich_session, enrich_span};
use tracing_subscriber::prelude::*;

use nowhere::Nowhere;

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

fn literal() -> bool {
    enrich_span!(feedback = {
        "rating": true,
        "comment": black_box(FEEDBACK.comment),
        "user_id": black_box(FEEDBACK.user_id),
        "stars": 4,
        "step1": { "retry": true },
    })
    .is_ok()
}

fn enrichments(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("enrich");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));

    group.bench_function("no layer installed", |bencher| bencher.iter(literal));

    let (layer, telemetry) = tracing_feedback::builder()
        .with_exporter(Nowhere)
        .build()
        .expect("a layer without a collector always builds");
    let subscriber = tracing_subscriber::registry().with(layer);
    let value = serde_json::to_value(&FEEDBACK).expect("the feedback is JSON");
    tracing::subscriber::with_default(subscriber, || {
        let fresh = || tracing::info_span!("answer").entered();
        group.bench_function("literal, fresh span", |bencher| {
            bencher.iter_batched(
                fresh,
                |span| {
                    black_box(literal());
                    span
                },
                BatchSize::PerIteration,
            );
        });
        let _span = fresh();
        group.bench_function("literal, merged", |bencher| bencher.iter(literal));
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
