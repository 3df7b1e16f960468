//! Finalizers: feedback that is written ahead carries one until it arrives. The idea and the name
//! are those of vector's `EventFinalizer`, which reports the status of its event when it is
//! dropped.

use std::sync::Arc;

use super::Outbox;
use super::segment::EntryState;

/// The finalizer of one entry of the journal. Dropping it without a release leaves the entry to the
/// outbox, which then sends it: feedback that is dropped anywhere in the pipeline still arrives.
#[derive(Debug)]
pub(crate) struct Finalizer {
    outbox: Arc<Outbox>,
    sequence: u64,
    /// Whether the entry is the same span as the one that carries the finalizer.
    is_whole: bool,
    state: EntryState,
    /// The later entry that replaces this one, if there is one.
    superseded_by: Option<u64>,
}

impl Finalizer {
    pub(super) fn new(outbox: Arc<Outbox>, sequence: u64, is_whole: bool) -> Self {
        Self { outbox, sequence, is_whole, state: EntryState::Ready, superseded_by: None }
    }
}

impl Drop for Finalizer {
    fn drop(&mut self) {
        match self.superseded_by {
            Some(by) => self.outbox.journal.supersede(self.sequence, by),
            None => self.outbox.journal.settle(self.sequence, self.state),
        }
    }
}

/// The finalizers of one span. Most spans have none.
#[derive(Debug, Default)]
pub(crate) struct Finalizers(Vec<Finalizer>);

impl Finalizers {
    pub(crate) const NONE: Self = Self(Vec::new());

    pub(crate) fn push(&mut self, finalizer: Finalizer) {
        self.0.push(finalizer);
    }

    pub(crate) fn append(&mut self, other: Self) {
        match self.0.is_empty() {
            true => *self = other,
            false => self.0.extend(other.0),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the outbox has already stored the span itself.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.iter().any(|finalizer| finalizer.is_whole)
    }

    /// Keeps the entries only until the last entry of `by`, which contains all their feedback, is
    /// durable.
    pub(crate) fn supersede(mut self, by: &Self) {
        let by = by.0.last().map(|finalizer| finalizer.sequence);
        self.0.iter_mut().for_each(|finalizer| finalizer.superseded_by = by);
    }

    /// Acknowledges the entries: their feedback has arrived or is safe elsewhere, and need not be
    /// sent.
    pub(crate) fn release(mut self) {
        self.0.iter_mut().for_each(|finalizer| finalizer.state = EntryState::Gone);
    }
}
