//! Parcels: what a sink takes, packed by the thread whose spans they are.

use std::sync::Arc;

use opentelemetry::InstrumentationScope;

use crate::encode;
use crate::record::{Batch, SpanRecord};

/// How a sink wants its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As they are, for exporters that take them apart.
    Records,
    /// Encoded as OTLP by the thread that ends the span, whose memory is then free for the next one.
    #[cfg_attr(not(any(feature = "grpc", feature = "http-proto")), allow(dead_code))]
    Encoded,
}

/// Some spans on their way.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) contents: Contents,
    pub(crate) spans: usize,
    /// How many of the spans carry feedback: such parcels are the last to be dropped.
    pub(crate) feedback: usize,
    /// Bytes, exact if encoded.
    pub(crate) bytes: usize,
}

/// The spans of a parcel.
#[derive(Debug)]
pub(crate) enum Contents {
    Records {
        /// The scope of those that name no other.
        scope: Arc<InstrumentationScope>,
        records: Batch,
    },
    /// Spans as they stand in the `ScopeSpans` of their scope.
    Encoded { scope: Arc<InstrumentationScope>, spans: Vec<u8> },
}

impl Parcel {
    /// An empty parcel, for spans of `scope`.
    pub(crate) fn new(packing: Packing, scope: &Arc<InstrumentationScope>) -> Self {
        let scope = scope.clone();
        let contents = match packing {
            Packing::Records => Contents::Records { scope, records: Vec::new() },
            Packing::Encoded => Contents::Encoded { scope, spans: Vec::new() },
        };
        Self { contents, spans: 0, feedback: 0, bytes: 0 }
    }

    /// Spans of all `parcels`, and how many of them carry feedback.
    pub(crate) fn totals(parcels: &[Self]) -> (u64, u64) {
        parcels.iter().fold((0, 0), |(spans, feedback), parcel| {
            (spans + parcel.spans as u64, feedback + parcel.feedback as u64)
        })
    }

    /// Adds a span, which must be of the parcel's scope where that is encoded once for all. What is
    /// left in `record` is of no more use than its memory.
    #[inline]
    pub(crate) fn add(&mut self, record: &mut SpanRecord) {
        self.spans += 1;
        self.feedback += usize::from(record.feedback);
        match &mut self.contents {
            Contents::Records { records, .. } => {
                self.bytes += record.size();
                records.push(std::mem::take(record));
            }
            Contents::Encoded { spans, .. } => {
                encode::append_span(spans, record);
                self.bytes = spans.len();
            }
        }
    }

    /// Takes the parcel away and leaves an empty one of the same kind.
    pub(crate) fn take(&mut self) -> Self {
        let contents = match &mut self.contents {
            Contents::Records { scope, records } => {
                Contents::Records { scope: scope.clone(), records: std::mem::take(records) }
            }
            Contents::Encoded { scope, spans } => {
                // As much again will be needed soon.
                let room = Vec::with_capacity(spans.len() + spans.len() / 8);
                Contents::Encoded { scope: scope.clone(), spans: std::mem::replace(spans, room) }
            }
        };
        let Self { spans, feedback, bytes, .. } = *self;
        (self.spans, self.feedback, self.bytes) = (0, 0, 0);
        Self { contents, spans, feedback, bytes }
    }
}
