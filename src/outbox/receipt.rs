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
}

impl Receipt {
    pub(super) fn new(outbox: Arc<Outbox>, sequence: u64, is_whole: bool) -> Self {
        Self { outbox, sequence, is_whole, fate: Fate::Ready }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.outbox.journal.settle(self.sequence, self.fate);
    }
}

/// The receipts of one span: most have none.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a span without feedback keeps a null pointer for it")]
pub(crate) struct Receipts(Option<Box<Vec<Receipt>>>);

impl Receipts {
    pub(crate) fn push(&mut self, receipt: Receipt) {
        self.0.get_or_insert_default().push(receipt);
    }

    pub(crate) fn append(&mut self, other: Self) {
        if let Some(others) = other.0 {
            self.0.get_or_insert_default().extend(*others);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |receipts| receipts.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the outbox has the very span already.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.iter().flat_map(|receipts| receipts.iter()).any(|receipt| receipt.is_whole)
    }

    /// The feedback has arrived, or is safe elsewhere: the outbox needn't send it.
    pub(crate) fn release(self) {
        if let Some(mut receipts) = self.0 {
            receipts.iter_mut().for_each(|receipt| receipt.fate = Fate::Gone);
        }
    }
}
