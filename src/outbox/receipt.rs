//! Receipts: what feedback that is written ahead carries with it until it arrives.

use std::sync::Arc;

use super::Outbox;
use super::segment::Fate;

/// For one entry that is held. Dropping it without a word leaves the entry to the outbox, which then
/// sends it: so feedback that is lost on its way, wherever that is, is not lost.
#[derive(Debug)]
pub(crate) struct Receipt {
    outbox: Arc<Outbox>,
    sequence: u64,
    /// Whether the entry is the very span that carries the receipt.
    is_whole: bool,
    fate: Fate,
    /// The entry that takes its place, if one does.
    superseded_by: Option<u64>,
}

impl Receipt {
    pub(super) fn new(outbox: Arc<Outbox>, sequence: u64, is_whole: bool) -> Self {
        Self { outbox, sequence, is_whole, fate: Fate::Ready, superseded_by: None }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        match self.superseded_by {
            Some(by) => self.outbox.journal.supersede(self.sequence, by),
            None => self.outbox.journal.settle(self.sequence, self.fate),
        }
    }
}

/// The receipts of one span: most have none.
#[derive(Debug, Default)]
pub(crate) struct Receipts(Vec<Receipt>);

impl Receipts {
    pub(crate) const NONE: Self = Self(Vec::new());

    pub(crate) fn push(&mut self, receipt: Receipt) {
        self.0.push(receipt);
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

    /// Whether the outbox has the very span already.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.iter().any(|receipt| receipt.is_whole)
    }

    /// All that was said stands in one later entry as well: these are needed until that is durable.
    pub(crate) fn supersede(mut self, by: &Self) {
        let by = by.0.last().map(|receipt| receipt.sequence);
        self.0.iter_mut().for_each(|receipt| receipt.superseded_by = by);
    }

    /// The feedback has arrived, or is safe elsewhere: the outbox needn't send it.
    pub(crate) fn release(mut self) {
        self.0.iter_mut().for_each(|receipt| receipt.fate = Fate::Gone);
    }
}
