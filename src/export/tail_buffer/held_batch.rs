//! The held spans that a thread hands over at once.

use std::sync::Arc;

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TraceId;

use super::nanos;
use crate::clock::Ticks;
use crate::export::sink::Batch;
use crate::record::SpanRecord;

/// Unsampled spans of one scope, and what has to be known of them besides.
#[derive(Debug)]
pub(in crate::export) struct HeldBatch {
    batch: Batch,
    /// When each span has ended. Its record says it by the system clock, and it can be set.
    ends: Vec<Ticks>,
    /// The numbers of the spans that have lost attributes to limits, and how many.
    dropped_attributes: Vec<(usize, u32)>,
}

impl HeldBatch {
    /// An empty batch, for spans of `scope`.
    pub(in crate::export) fn new(scope: &Arc<InstrumentationScope>) -> Self {
        Self { batch: Batch::new(scope), ends: Vec::new(), dropped_attributes: Vec::new() }
    }

    /// How many spans there are.
    #[inline]
    pub(in crate::export) fn spans(&self) -> usize {
        self.ends.len()
    }

    /// Bytes in memory.
    #[inline]
    pub(in crate::export) fn bytes(&self) -> usize {
        self.batch.bytes() + self.ends.len() * size_of::<Ticks>() + size_of::<Self>()
    }

    /// Adds a span, which must be of the batch's scope. Afterwards only the memory of `record` is of use.
    #[inline(always)] // once a span, where unsampled ones are held
    pub(in crate::export) fn add(&mut self, record: &mut SpanRecord, end: Ticks) {
        if !record.details.is_blank() && record.details.dropped_attributes > 0 {
            self.dropped_attributes.push((self.ends.len(), record.details.dropped_attributes));
        }
        self.batch.add(record);
        self.ends.push(end);
    }

    /// Takes the spans away and leaves an empty batch of the same scope.
    pub(in crate::export) fn take(&mut self) -> Self {
        let ends = Vec::with_capacity(self.ends.len() + self.ends.len() / 8);
        Self {
            batch: self.batch.take(),
            ends: std::mem::replace(&mut self.ends, ends),
            dropped_attributes: std::mem::take(&mut self.dropped_attributes),
        }
    }

    /// How many attributes the spans have lost to limits.
    pub(super) fn dropped_attributes(&self) -> u64 {
        self.dropped_attributes.iter().map(|(_, dropped)| u64::from(*dropped)).sum()
    }

    /// The spans, as they are exported.
    pub(super) fn into_batch(self) -> Batch {
        self.batch
    }

    /// The trace of each span, whether it is a local root, and when it has ended.
    pub(super) fn places(&self) -> impl Iterator<Item = (TraceId, bool, u64)> {
        let ends = self.ends.iter().map(|end| nanos(*end));
        self.batch.places().zip(ends).map(|((trace_id, is_root), end)| (trace_id, is_root, end))
    }

    /// A batch of the spans for which `is_selected` answers `true`, which takes the number of each.
    pub(super) fn select(&self, is_selected: impl Fn(usize) -> bool) -> Self {
        let numbers = || (0..self.spans()).filter(|number| is_selected(*number));
        let dropped = numbers().enumerate().filter_map(|(at, number)| {
            let (_, dropped) = self.dropped_attributes.iter().find(|(of, _)| *of == number)?;
            Some((at, *dropped))
        });
        Self {
            batch: self.batch.select(&is_selected),
            ends: numbers().filter_map(|number| self.ends.get(number).copied()).collect(),
            dropped_attributes: dropped.collect(),
        }
    }
}
