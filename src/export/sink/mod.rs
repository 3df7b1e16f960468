//! Sinks: where records go in the end.
//!
//! A sink takes [batches](batch) of spans on the export thread and answers what became of them.
//! There are three, of one anatomy: [`wire`] sends spans that are encoded already through a
//! [transport](crate::export::transport), `outbox` does so too and puts what it can't deliver
//! [aside](crate::outbox), [`exporter`] hands records to any `SpanExporter` of the OpenTelemetry SDK.

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

use std::time::{Duration, Instant};

pub(crate) use backpressure::Backpressure;
pub(crate) use batch::{Batch, Contents, Packing};
#[cfg(feature = "_otlp-path")]
pub(crate) use client::Client;

/// Takes batches to their receiver. Lives on the export thread, where it may block.
pub(crate) trait Sink {
    /// What it is, as OpenTelemetry's `otel.component.type` has it: a name of the semantic
    /// conventions, or that of a type.
    fn component(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// How it wants its records.
    fn packing(&self) -> Packing;

    /// Exports some batches together. `backpressure` says how long those who can put spans aside may go
    /// on trying.
    fn export(&mut self, batches: Vec<Batch>, backpressure: &Backpressure) -> Delivery;

    /// When it wants to go on with what it has put aside, if there is any.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Exports some of what it has put aside.
    fn catch_up(&mut self, _patience: &Backpressure) -> Delivery {
        Delivery::default()
    }

    /// Gives back what the sink holds; nothing is exported afterwards. Says what became of that which
    /// was put aside and couldn't be kept.
    fn shutdown(&mut self, timeout: Duration) -> Result<Delivery, String>;
}

/// What became of the spans of an export: each is counted once.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Spans the receiver has taken.
    pub(crate) exported: u64,
    /// Spans that never arrived, how many of them carried feedback, and what was said last.
    pub(crate) failed: Option<(u64, u64, String)>,
    /// Spans the receiver has rejected, how many of them are known to have carried feedback, and why.
    pub(crate) rejected: Option<(u64, u64, String)>,
    /// Spans that were put aside and found no room, and how many of them carried feedback.
    pub(crate) discarded: (u64, u64),
    /// Spans that were sent again.
    pub(crate) retried: u64,
}

impl Delivery {
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

/// Drops everything: `OTEL_TRACES_EXPORTER=none`.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn packing(&self) -> Packing {
        Packing::Records
    }

    fn export(&mut self, batches: Vec<Batch>, _: &Backpressure) -> Delivery {
        let (exported, _) = Batch::totals(&batches);
        Delivery { exported, ..Delivery::default() }
    }

    fn shutdown(&mut self, _: Duration) -> Result<Delivery, String> {
        Ok(Delivery::default())
    }
}
