//! The gauges of an outbox, which are read without waiting for a lock or a disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::store::OutboxStore;

/// Numbers that are updated whenever the store has changed.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    spans: AtomicU64,
    bytes: AtomicU64,
    /// Bytes of the segments with feedback.
    feedback: AtomicU64,
    /// When the oldest waiting spans were written; 0 if there are none.
    oldest: AtomicU64,
    /// Whether anything is ready to be sent.
    ready: AtomicBool,
    /// Whether the directories of ended processes have been adopted since the start.
    has_adopted: AtomicBool,
    rejected: AtomicU64,
    replayed: AtomicU64,
    /// Spans dropped since the last [`take_lost`](Self::take_lost).
    lost: AtomicU64,
    lost_feedback: AtomicU64,
}

/// What an outbox holds, and how many spans it has rejected and replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutboxUsage {
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<Duration>,
    pub(crate) rejected: u64,
    pub(crate) replayed: u64,
}

impl Gauges {
    /// Updates the gauges from the store.
    pub(super) fn publish(&self, store: &mut OutboxStore) {
        self.spans.store(store.spans(), Relaxed);
        self.bytes.store(store.bytes(), Relaxed);
        self.feedback.store(store.feedback_bytes(), Relaxed);
        self.oldest.store(store.oldest().unwrap_or(0), Relaxed);
        self.ready.store(store.has_ready(), Relaxed);
        let (spans, feedback) = store.take_lost();
        self.lose(spans, feedback);
    }

    pub(super) fn read(&self, now: u64) -> OutboxUsage {
        let oldest = self.oldest.load(Relaxed);
        OutboxUsage {
            spans: self.spans.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            oldest: (oldest > 0).then(|| Duration::from_nanos(now.saturating_sub(oldest))),
            rejected: self.rejected.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    pub(super) fn set_adopted(&self) {
        self.has_adopted.store(true, Relaxed);
    }

    pub(super) fn has_adopted(&self) -> bool {
        self.has_adopted.load(Relaxed)
    }

    pub(super) fn feedback_bytes(&self) -> u64 {
        self.feedback.load(Relaxed)
    }

    pub(super) fn rejected(&self, spans: u64) {
        self.rejected.fetch_add(spans, Relaxed);
    }

    pub(super) fn replayed(&self, spans: u64) {
        self.replayed.fetch_add(spans, Relaxed);
    }

    pub(super) fn lose(&self, spans: u64, feedback: u64) {
        self.lost.fetch_add(spans, Relaxed);
        self.lost_feedback.fetch_add(feedback, Relaxed);
    }

    /// Returns and resets the number of lost spans, and how many of them carried feedback.
    pub(super) fn take_lost(&self) -> (u64, u64) {
        (self.lost.swap(0, Relaxed), self.lost_feedback.swap(0, Relaxed))
    }
}
