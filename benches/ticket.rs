//! What a ticket costs: where an answer is given, and where it comes back.
//!
//! `cargo bench --features tickets --bench ticket`. Issuing and verifying are each to stay below 3 us.

mod discard;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tracing_feedback::{
    Session, SpanExt, TicketKeys, TicketOptions, enrich_span, ticket, ticket_with,
};
use tracing_subscriber::prelude::*;

use discard::DiscardExporter;

fn tickets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ticket");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));

    let keys = TicketKeys::new([[7; 32]]).expect("a key of 32 bytes");
    let (layer, telemetry) = tracing_feedback::builder()
        .with_exporter(DiscardExporter)
        .with_ticket_keys(keys.clone())
        .with_ticket_budget(
            tracing_feedback::TicketBudget::new().with_submissions(u32::MAX).with_bytes(u64::MAX),
        )
        .build()
        .expect("a layer without a collector always builds");
    let everything = TicketOptions::new()
        .with_namespaces(["feedback", "metadata"])
        .with_keys(["rating", "comment", "edits", "copied", "regenerated"])
        .with_subject("2f1c8a3e-7c41-4a1e-9d6b-0c5f0e8b7a11");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let span = tracing::info_span!("answer", session.id = "0af7651916cd43dd8448eb211c80319c");
        let _entered = span.enter();
        group.bench_function("issue, current span", |bencher| bencher.iter(ticket));
        group.bench_function("issue, given span", |bencher| bencher.iter(|| span.ticket()));
        group.bench_function("issue, all options", |bencher| {
            bencher.iter(|| ticket_with(&everything));
        });
        let session = Session::new();
        group.bench_function("issue, session", |bencher| bencher.iter(|| session.ticket()));

        let verifier = keys.verifier();
        let plain = ticket().expect("a span and a key");
        group.bench_function("verify", |bencher| {
            bencher.iter(|| verifier.verify(black_box(plain.as_str())));
        });
        let full = ticket_with(&everything).expect("a span and a key");
        let of_subject = verifier.clone().with_subject("2f1c8a3e-7c41-4a1e-9d6b-0c5f0e8b7a11");
        group.bench_function("verify, all options", |bencher| {
            bencher.iter(|| of_subject.verify(black_box(full.as_str())));
        });
        group.bench_function("verify, forged", |bencher| {
            let mut forged = plain.to_string();
            forged.replace_range(40..41, if &forged[40..41] == "A" { "B" } else { "A" });
            bencher.iter(|| verifier.verify(black_box(&forged)));
        });
        keys.set(TicketKeys::new([[9; 32], [8; 32], [7; 32]]).expect("keys of 32 bytes"));
        group.bench_function("verify, by the oldest of three keys", |bencher| {
            bencher.iter(|| verifier.verify(black_box(plain.as_str())));
        });
        let verified = verifier.verify(plain.as_str()).expect("a ticket");
        group.bench_function("enrich by ticket", |bencher| {
            bencher.iter(|| {
                enrich_span!(target = &verified, id = "vote-1", feedback = { "rating": true })
                    .is_ok()
            });
        });
    });
    drop(telemetry);
    group.finish();
}

criterion_group!(benches, tickets);
criterion_main!(benches);
