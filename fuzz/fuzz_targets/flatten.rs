//! Lines of any JSON text, through the whole of enrichment: flattened as it stands and as a tree, within
//! limits small enough to be met, onto a span that carries feedback already and as a carrier. An
//! exporter takes what comes out and looks whether it is well formed.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter, SpanLimits};
use serde_json::value::RawValue;
use tracing_feedback::{EnrichError, Enrichment, Telemetry, builder, enrich};
use tracing_subscriber::prelude::*;

const MOST: usize = 24;

#[derive(Debug)]
struct Checks;

impl SpanExporter for Checks {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        for span in batch {
            check(&span);
        }
        Ok(())
    }
}

fn check(span: &SpanData) {
    assert!(span.attributes.len() <= MOST, "{}", span.attributes.len());
    let keys: HashSet<_> = span.attributes.iter().map(|kv| kv.key.as_str()).collect();
    assert_eq!(keys.len(), span.attributes.len(), "a key is exported once");
    for key in &keys {
        assert!(!key.split('.').any(str::is_empty), "{key}");
        for (dot, _) in key.match_indices('.') {
            assert!(!keys.contains(&key[..dot]), "{key} lies under another");
        }
    }
}

static RIG: LazyLock<(tracing::Dispatch, Telemetry)> = LazyLock::new(|| {
    let mut limits = SpanLimits::default();
    limits.max_attributes_per_span = MOST as u32;
    let (layer, telemetry) = builder()
        .with_exporter(Checks)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_span_limits(limits)
        .with_max_string_bytes(64)
        .with_max_enrichment_bytes(1024)
        .build()
        .expect("nothing was told that could be wrong");
    (tracing::Dispatch::new(tracing_subscriber::registry().with(layer)), telemetry)
});

fuzz_target!(|texts: &str| {
    let (dispatch, telemetry) = &*RIG;
    tracing::dispatcher::with_default(dispatch, || {
        let span = tracing::info_span!("answer", session.id = "s");
        let flags = TraceFlags::SAMPLED;
        let target =
            SpanContext::new(TraceId::from(1), SpanId::from(1), flags, true, TraceState::default());
        for text in texts.lines() {
            let tree = serde_json::from_str::<serde_json::Value>(text);
            let Ok(raw) = RawValue::from_string(text.to_owned()) else { continue };
            let outcome = enrich::span(&span).feedback(&raw).apply();
            if let Ok(tree) = tree {
                let same = enrich::span(&span).feedback(&tree).apply();
                // Room may differ: the first may have made or taken it.
                let named = |outcome: &Enrichment| -> Vec<_> {
                    let is_room = |error: &&EnrichError| error.reason() == "limit_exceeded";
                    outcome.errors().filter(|error| !is_room(error)).cloned().collect()
                };
                assert_eq!(named(&outcome), named(&same));
                let _ =
                    enrich::current_span().target(&target).metrics(&tree).feedback(&raw).apply();
                span.in_scope(|| enrich::session().feedback(&tree).inputs(&raw).apply());
            } else {
                assert!(!outcome.is_ok(), "what is no JSON is named");
            }
        }
    });
    telemetry.flush().expect("the exporter takes everything");
});
