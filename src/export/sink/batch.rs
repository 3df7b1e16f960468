//! Batches: what a sink takes, packed by the thread that ended the spans or emitted the log record.

use std::sync::Arc;

#[cfg(feature = "_otlp-path")]
use bytes::Bytes;
use opentelemetry::InstrumentationScope;

#[cfg(feature = "_otlp-path")]
use crate::otlp::Signal;
#[cfg(feature = "_otlp-path")]
use crate::otlp::encoded_items::EncodedItems;
#[cfg(feature = "_otlp-path")]
use crate::otlp::request::scope_fields;
use crate::otlp::truncate::MOST_SPAN;
use crate::otlp::{Packed, truncate_record};
use crate::outbox::Finalizers;
use crate::record::SpanRecord;

/// The form in which a sink takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As [`SpanRecord`]s, for exporters of the SDK.
    Records,
    /// Packed for encoding. The memory of a record is then free for the next span of its thread.
    Packed,
}

/// Spans on their way from one thread to the sink.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) contents: BatchContents,
    /// How many of the spans carry feedback: such batches are the last to be dropped.
    pub(crate) feedback: usize,
    /// The finalizers of the spans that the outbox holds already.
    pub(crate) finalizers: Finalizers,
}

/// The spans of a batch.
#[derive(Debug)]
pub(crate) enum BatchContents {
    Records {
        /// The scope of the records that name no other.
        scope: Arc<InstrumentationScope>,
        records: Vec<SpanRecord>,
        /// The memory that the records take, about.
        bytes: usize,
        /// How many of them were too large, and lost a part of their values.
        truncated: usize,
    },
    Packed {
        scope: Arc<InstrumentationScope>,
        spans: Packed,
    },
    /// A log record, encoded as it stands in a `ScopeLogs`.
    LogRecord {
        scope: Arc<InstrumentationScope>,
        encoded: Vec<u8>,
    },
}

impl Batch {
    /// An empty batch, for spans of `scope`.
    pub(crate) fn new(packing: Packing, scope: &Arc<InstrumentationScope>) -> Self {
        let scope = scope.clone();
        let contents = match packing {
            Packing::Records => {
                BatchContents::Records { scope, records: Vec::new(), bytes: 0, truncated: 0 }
            }
            Packing::Packed => BatchContents::Packed { scope, spans: Packed::default() },
        };
        let finalizers = Finalizers::default();
        Self { contents, feedback: 0, finalizers }
    }

    /// A batch of one encoded log record. All of them are about feedback.
    pub(crate) fn of_log_record(
        scope: &Arc<InstrumentationScope>,
        encoded: Vec<u8>,
        finalizers: Finalizers,
    ) -> Self {
        let contents = BatchContents::LogRecord { scope: scope.clone(), encoded };
        Self { contents, feedback: 1, finalizers }
    }

    /// How many spans, or log records, there are.
    #[inline]
    pub(crate) fn spans(&self) -> usize {
        match &self.contents {
            BatchContents::Records { records, .. } => records.len(),
            BatchContents::Packed { spans, .. } => spans.len(),
            BatchContents::LogRecord { .. } => 1,
        }
    }

    /// How many of the spans were too large, and lost a part of their values.
    pub(crate) fn truncated(&self) -> usize {
        match &self.contents {
            BatchContents::Records { truncated, .. } => *truncated,
            BatchContents::Packed { spans, .. } => spans.truncated(),
            BatchContents::LogRecord { .. } => 0, // counted when it was encoded
        }
    }

    /// Bytes in memory, about.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        match &self.contents {
            BatchContents::Records { bytes, .. } => *bytes,
            BatchContents::Packed { spans, .. } => spans.size(),
            BatchContents::LogRecord { encoded, .. } => size_of::<Self>() + encoded.len(),
        }
    }

    /// Bytes on the wire, about.
    pub(crate) fn encoded(&self) -> usize {
        match &self.contents {
            BatchContents::Records { bytes, .. } => *bytes,
            BatchContents::Packed { spans, .. } => spans.encoded_size(),
            BatchContents::LogRecord { encoded, .. } => encoded.len(),
        }
    }

    /// The spans or log records, encoded, and their finalizers. `None` if the batch isn't packed.
    #[cfg(feature = "_otlp-path")]
    pub(super) fn into_encoded(self, resource: &Bytes) -> Option<(EncodedItems, Finalizers)> {
        let (items, feedback) = (self.spans(), self.feedback);
        let (signal, scope, encoded) = match self.contents {
            BatchContents::Packed { scope, spans } => (Signal::Traces, scope, spans.encode()),
            BatchContents::LogRecord { scope, encoded } => (Signal::Logs, scope, encoded),
            BatchContents::Records { .. } => return None,
        };
        let (resource, scope) = (resource.clone(), scope_fields(&scope).into());
        let encoded = encoded.into();
        Some((EncodedItems { signal, resource, scope, encoded, items, feedback }, self.finalizers))
    }

    /// Spans of all `batches`, and how many of them carry feedback.
    pub(crate) fn totals(batches: &[Self]) -> (u64, u64) {
        batches.iter().fold((0, 0), |(spans, feedback), batch| {
            (spans + batch.spans() as u64, feedback + batch.feedback as u64)
        })
    }

    /// The scope of the spans that name no other.
    pub(crate) fn scope(&self) -> &Arc<InstrumentationScope> {
        match &self.contents {
            BatchContents::Records { scope, .. }
            | BatchContents::Packed { scope, .. }
            | BatchContents::LogRecord { scope, .. } => scope,
        }
    }

    /// Adds a span, which must be of the batch's scope where that is encoded once for all.
    /// Afterwards only the memory of `record` is of use.
    #[inline(always)] // once a span
    pub(crate) fn add(&mut self, record: &mut SpanRecord) {
        if record.feedback {
            self.add_feedback(record);
        }
        match &mut self.contents {
            BatchContents::Records { records, bytes, truncated, .. } => {
                keep(record, records, bytes, truncated);
            }
            BatchContents::Packed { spans, .. } => spans.add(record),
            BatchContents::LogRecord { .. } => {} // it has no room for a span
        }
    }

    #[cold]
    fn add_feedback(&mut self, record: &mut SpanRecord) {
        self.feedback += 1;
        self.finalizers.append(std::mem::take(&mut record.details.finalizers));
    }

    /// Removes the spans, and keeps their memory.
    pub(crate) fn clear(&mut self) {
        match &mut self.contents {
            BatchContents::Records { records, bytes, truncated, .. } => {
                records.clear();
                (*bytes, *truncated) = (0, 0);
            }
            BatchContents::Packed { spans, .. } => spans.clear(),
            BatchContents::LogRecord { encoded, .. } => encoded.clear(),
        }
        self.finalizers = Finalizers::default();
        self.feedback = 0;
    }

    /// Takes the batch away and leaves an empty one of the same kind.
    pub(crate) fn take(&mut self) -> Self {
        let contents = match &mut self.contents {
            BatchContents::Records { scope, records, bytes, truncated } => BatchContents::Records {
                scope: scope.clone(),
                records: std::mem::take(records),
                bytes: std::mem::take(bytes),
                truncated: std::mem::take(truncated),
            },
            BatchContents::Packed { scope, spans } => {
                // The next batch will likely need as much memory.
                let room = spans.room_for_more();
                BatchContents::Packed {
                    scope: scope.clone(),
                    spans: std::mem::replace(spans, room),
                }
            }
            BatchContents::LogRecord { scope, encoded } => {
                BatchContents::LogRecord { scope: scope.clone(), encoded: std::mem::take(encoded) }
            }
        };
        let (feedback, finalizers) = (&mut self.feedback, &mut self.finalizers);
        Self {
            contents,
            feedback: std::mem::take(feedback),
            finalizers: std::mem::take(finalizers),
        }
    }
}

/// Keeps a record as it is.
#[inline(never)] // not needed where records are packed
fn keep(
    record: &mut SpanRecord,
    records: &mut Vec<SpanRecord>,
    bytes: &mut usize,
    truncated: &mut usize,
) {
    let mut size = record.size();
    if size > MOST_SPAN && truncate_record(record) {
        *truncated += 1;
        size = record.size();
    }
    *bytes += size;
    records.push(std::mem::take(record));
}
