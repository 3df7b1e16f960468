//! Connections: what a name that is slow to resolve costs.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing::{Dispatch, dispatcher, info_span};
use tracing_subscriber::prelude::*;

use crate::show::with_timeout;

fn spans(n: usize) {
    for at in 0..n {
        info_span!("span", at).in_scope(|| ());
    }
}

// ---- slow names --------------------------------------------------------------------------------

/// An exporter that waits for a blocking task of its runtime, as connectors do to resolve a name, until
/// the sender of the test is dropped.
#[derive(Debug)]
struct Resolving(Mutex<Option<mpsc::Receiver<()>>>);

impl SpanExporter for Resolving {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        let released = self.0.lock().unwrap().take();
        if let Some(released) = released {
            let _ = tokio::task::spawn_blocking(move || released.recv()).await;
        }
        Ok(())
    }
}

#[test]
fn neither_shutdown_nor_drop_waits_for_a_name_to_be_resolved() {
    for by_drop in [false, true] {
        let (release, released) = mpsc::channel();
        let (layer, telemetry) = tracing_feedback::builder()
            .with_exporter(Resolving(Mutex::new(Some(released))))
            .with_export_timeout(Duration::from_millis(50))
            .build()
            .unwrap();
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        dispatcher::with_default(&dispatch, || spans(1));
        assert_eq!(telemetry.flush().unwrap_err().lost(), 1);
        with_timeout(move || {
            if by_drop {
                drop(telemetry);
            } else {
                let _ = telemetry.shutdown();
            }
        });
        drop(release);
    }
}
