//! Batches: what a sink takes, packed by the thread that ended the spans or emitted the log record.

use std::sync::Arc;

#[cfg(feature = "_otlp-path")]
use bytes::Bytes;
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TraceId;

use crate::otlp::Packed;
#[cfg(feature = "_otlp-path")]
use crate::otlp::Signal;
#[cfg(feature = "_otlp-path")]
use crate::otlp::encoded_items::EncodedItems;
#[cfg(feature = "_otlp-path")]
use crate::otlp::request::scope_fields;
use crate::outbox::Finalizers;
use crate::record::SpanRecord;

/// Spans of one scope, or a log record, on their way from one thread to the sink.
#[derive(Debug)]
pub(crate) struct Batch {
    scope: Arc<InstrumentationScope>,
    contents: BatchContents,
    /// How many of the items carry feedback: such batches are the last to be dropped.
    pub(crate) feedback: usize,
    /// The finalizers of the items that the outbox holds already.
    pub(crate) finalizers: Finalizers,
}

#[derive(Debug)]
enum BatchContents {
    /// Spans, packed by the thread that ended them. The memory of a record is then free for the next span of
    /// its thread, and is never freed by another.
    Spans(Packed),
    /// A log record, encoded as it stands in a `ScopeLogs`.
    LogRecord(Vec<u8>),
}

impl Batch {
    /// An empty batch, for spans of `scope`.
    pub(crate) fn new(scope: &Arc<InstrumentationScope>) -> Self {
        let contents = BatchContents::Spans(Packed::default());
        Self { scope: scope.clone(), contents, feedback: 0, finalizers: Finalizers::default() }
    }

    /// A batch of one encoded log record. All of them are about feedback.
    pub(crate) fn of_log_record(
        scope: &Arc<InstrumentationScope>,
        encoded: Vec<u8>,
        finalizers: Finalizers,
    ) -> Self {
        let contents = BatchContents::LogRecord(encoded);
        Self { scope: scope.clone(), contents, feedback: 1, finalizers }
    }

    /// How many spans, or log records, there are.
    #[inline]
    pub(crate) fn spans(&self) -> usize {
        match &self.contents {
            BatchContents::Spans(spans) => spans.len(),
            BatchContents::LogRecord(_) => 1,
        }
    }

    /// How many of the spans were too large, and lost a part of their values.
    pub(crate) fn truncated(&self) -> usize {
        match &self.contents {
            BatchContents::Spans(spans) => spans.truncated(),
            BatchContents::LogRecord(_) => 0, // counted when it was encoded
        }
    }

    /// Bytes in memory.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        match &self.contents {
            BatchContents::Spans(spans) => spans.size(),
            BatchContents::LogRecord(encoded) => size_of::<Self>() + encoded.len(),
        }
    }

    /// Bytes on the wire, at the most.
    pub(crate) fn encoded(&self) -> usize {
        match &self.contents {
            BatchContents::Spans(spans) => spans.encoded_size(),
            BatchContents::LogRecord(encoded) => encoded.len(),
        }
    }

    /// The spans or log records, encoded, and their finalizers.
    #[cfg(feature = "_otlp-path")]
    pub(super) fn into_encoded(self, resource: &Bytes) -> (EncodedItems, Finalizers) {
        let (items, feedback) = (self.spans(), self.feedback);
        let (signal, encoded) = match self.contents {
            BatchContents::Spans(spans) => (Signal::Traces, spans.encode()),
            BatchContents::LogRecord(encoded) => (Signal::Logs, encoded),
        };
        let (resource, scope) = (resource.clone(), scope_fields(&self.scope).into());
        let encoded = encoded.into();
        (EncodedItems { signal, resource, scope, encoded, items, feedback }, self.finalizers)
    }

    /// Reads the spans back, one after the other, and gives each to `each` with its scope.
    pub(super) fn read(self, mut each: impl FnMut(SpanRecord, &InstrumentationScope)) {
        if let BatchContents::Spans(spans) = self.contents {
            spans.read(|record| each(record, &self.scope));
        }
    }

    /// Spans of all `batches`, and how many of them carry feedback.
    pub(crate) fn totals(batches: &[Self]) -> (u64, u64) {
        batches.iter().fold((0, 0), |(spans, feedback), batch| {
            (spans + batch.spans() as u64, feedback + batch.feedback as u64)
        })
    }

    /// Adds a span, which must be of the batch's scope. Afterwards only the memory of `record` is of use.
    #[inline(always)] // once a span
    pub(crate) fn add(&mut self, record: &mut SpanRecord) {
        if record.feedback {
            self.add_feedback(record);
        }
        if let BatchContents::Spans(spans) = &mut self.contents {
            spans.add(record);
        }
    }

    #[cold]
    fn add_feedback(&mut self, record: &mut SpanRecord) {
        self.feedback += 1;
        self.finalizers.append(std::mem::take(&mut record.details.finalizers));
    }

    /// The trace of each span, and whether its parent, if it has one, is in another process.
    pub(crate) fn places(&self) -> impl Iterator<Item = (TraceId, bool)> {
        let spans = match &self.contents {
            BatchContents::Spans(spans) => Some(spans),
            BatchContents::LogRecord(_) => None,
        };
        spans.into_iter().flat_map(Packed::places)
    }

    /// A batch of the spans for which `is_selected` answers `true`, which takes the number of each. Of
    /// spans without feedback.
    pub(crate) fn select(&self, is_selected: impl Fn(usize) -> bool) -> Self {
        let mut selection = Self::new(&self.scope);
        if let BatchContents::Spans(spans) = &self.contents {
            selection.contents = BatchContents::Spans(spans.select(is_selected));
        }
        selection
    }

    /// Drops the items, and keeps their memory for others.
    pub(crate) fn recycle(self) {
        if let BatchContents::Spans(spans) = self.contents {
            spans.recycle();
        }
    }

    /// Removes the spans, and keeps their memory.
    pub(crate) fn clear(&mut self) {
        if let BatchContents::Spans(spans) = &mut self.contents {
            spans.clear();
        }
        self.finalizers = Finalizers::default();
        self.feedback = 0;
    }

    /// Takes the batch away and leaves an empty one of the same scope.
    pub(crate) fn take(&mut self) -> Self {
        let room = match &self.contents {
            // The next batch will likely need as much memory.
            BatchContents::Spans(spans) => spans.room_for_more(),
            BatchContents::LogRecord(_) => Packed::default(),
        };
        Self {
            scope: self.scope.clone(),
            contents: std::mem::replace(&mut self.contents, BatchContents::Spans(room)),
            feedback: std::mem::take(&mut self.feedback),
            finalizers: std::mem::take(&mut self.finalizers),
        }
    }
}
