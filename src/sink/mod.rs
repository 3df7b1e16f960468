//! Sinks: where records go in the end.
//!
//! A sink takes batches of records on the export thread and answers when the receiver has
//! them, or why it has not. [`exporter`] hands them to any `SpanExporter` of the OpenTelemetry SDK.

pub(crate) mod exporter;

use std::time::Duration;

use crate::record::Batch;

/// Takes batches of records to their receiver. Lives on the export thread, where it may block.
pub(crate) trait Sink {
    /// Exports one batch.
    ///
    /// # Errors
    ///
    /// Why none of the batch arrived.
    fn export(&mut self, batch: Batch) -> Result<(), String>;

    /// Gives back what the sink holds; nothing is exported afterwards.
    fn shutdown(&mut self, timeout: Duration) -> Result<(), String>;
}

/// Drops everything: `OTEL_TRACES_EXPORTER=none`.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn export(&mut self, _: Batch) -> Result<(), String> {
        Ok(())
    }

    fn shutdown(&mut self, _: Duration) -> Result<(), String> {
        Ok(())
    }
}
