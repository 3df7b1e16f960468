//! Sinks: the last stage of export.
//!
//! A sink takes [batches](batch) of spans, or of log records, on the export thread and returns the outcome. There are
//! four, of one anatomy: `otlp` sends encoded spans through a transport, `outbox` does so too and
//! stores the spans it can't deliver in the [outbox](crate::outbox), [`exporter`] hands spans to
//! any `SpanExporter` of the OpenTelemetry SDK, [`processor`] to the `SpanProcessor` of a provider.

mod backpressure;
mod batch;
#[cfg(all(feature = "outbox", feature = "_otlp-path"))]
mod circuit_breaker;
#[cfg(feature = "_otlp-path")]
mod client;
pub(crate) mod exporter;
#[cfg(feature = "_otlp-path")]
pub(crate) mod otlp;
#[cfg(all(feature = "outbox", feature = "_otlp-path"))]
pub(crate) mod outbox;
pub(crate) mod processor;
mod runtime;

use std::time::{Duration, Instant};

pub(crate) use backpressure::Backpressure;
pub(crate) use batch::Batch;
#[cfg(feature = "_otlp-path")]
pub(crate) use client::OtlpClient;

#[cfg(feature = "_otlp-path")]
use crate::export::transport::retry::Attempts;

/// Delivers batches. Runs on the export thread, where it may block.
pub(crate) trait Sink {
    /// The value of `otel.component.type`: a name of the semantic conventions, or that of a Rust
    /// type.
    fn component(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// The most spans of one export, where the service has set no number. What is encoded is limited by its
    /// bytes alone.
    fn most_spans(&self) -> usize {
        usize::MAX
    }

    /// Exports some batches together. `backpressure` limits how long a sink that can store spans
    /// goes on trying.
    fn export(&mut self, batches: Vec<Batch>, backpressure: &Backpressure) -> Delivery;

    /// When the sink wants to send stored spans, if it can store any.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Exports some of the stored spans.
    fn catch_up(&mut self, _backpressure: &Backpressure) -> Delivery {
        Delivery::default()
    }

    /// Shuts the sink down; nothing is exported afterwards. Returns the outcome of stored spans
    /// that couldn't be kept.
    fn shutdown(&mut self, timeout: Duration) -> Result<Delivery, String>;
}

/// The outcome of an export. Each span is counted once.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Spans the receiver has accepted.
    pub(crate) exported: u64,
    /// Spans that never arrived, how many of them carried feedback, and the last error message.
    pub(crate) failed: Option<(u64, u64, String)>,
    /// Spans the receiver has rejected, how many of them are known to have carried feedback, and
    /// why.
    pub(crate) rejected: Option<(u64, u64, String)>,
    /// Stored spans that were dropped by the outbox's limits, and how many of them carried
    /// feedback.
    pub(crate) discarded: (u64, u64),
    /// Spans that the receiver has refused as too large, and that were sent again with a part of their
    /// values.
    pub(crate) truncated: u64,
    /// Spans that were sent again.
    pub(crate) retried: u64,
    /// Connections that were given up.
    pub(crate) reconnected: u64,
}

impl Delivery {
    /// Adds what it took to deliver a request with so many spans.
    #[cfg(feature = "_otlp-path")]
    fn add_attempts(&mut self, attempts: Attempts, spans: u64) {
        self.retried += attempts.retried * spans;
        self.reconnected += attempts.reconnected;
    }

    pub(crate) fn fail(&mut self, spans: u64, feedback: u64, message: String) {
        let (failed, with_feedback, last) = self.failed.get_or_insert_default();
        *failed += spans;
        *with_feedback += feedback;
        *last = message;
    }
    pub(crate) fn reject(&mut self, spans: u64, feedback: u64, message: String) {
        let (rejected, with_feedback, last) = self.rejected.get_or_insert_default();
        *rejected += spans;
        *with_feedback += feedback;
        *last = message;
    }
}

/// The most spans that exporters and processors of the SDK get together: the specification's default for
/// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
const MOST_SPANS_OF_SDK: usize = 512;

/// Drops everything: `OTEL_TRACES_EXPORTER=none`.
#[derive(Debug)]
pub(crate) struct DiscardSink;

impl Sink for DiscardSink {
    fn export(&mut self, batches: Vec<Batch>, _: &Backpressure) -> Delivery {
        let (exported, _) = Batch::totals(&batches);
        Delivery { exported, ..Delivery::default() }
    }

    fn shutdown(&mut self, _: Duration) -> Result<Delivery, String> {
        Ok(Delivery::default())
    }
}
