//! How much an outbox holds, for those who ask without waiting.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::store::Store;

/// Numbers that are set whenever something on disk has changed.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    spans: AtomicU64,
    bytes: AtomicU64,
    /// Bytes of the segments with feedback.
    feedback: AtomicU64,
    /// When the oldest was written; 0 if there is none.
    oldest: AtomicU64,
    /// Whether anything is ready to be sent.
    ready: AtomicBool,
    /// Whether it is known what other processes have left.
    has_looked: AtomicBool,
    rejected: AtomicU64,
    replayed: AtomicU64,
    /// Dropped, and not told of yet.
    lost: AtomicU64,
    lost_feedback: AtomicU64,
}

/// How much waits in an outbox, and what became of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<Duration>,
    pub(crate) rejected: u64,
    pub(crate) replayed: u64,
}

impl Gauges {
    /// Lets those who ask know what is on disk now.
    pub(super) fn publish(&self, store: &mut Store) {
        self.spans.store(store.spans(), Relaxed);
        self.bytes.store(store.bytes(), Relaxed);
        self.feedback.store(store.feedback_bytes(), Relaxed);
        self.oldest.store(store.oldest().unwrap_or(0), Relaxed);
        self.ready.store(store.has_ready(), Relaxed);
        let (spans, feedback) = store.take_lost();
        self.lose(spans, feedback);
    }

    pub(super) fn read(&self, now: u64) -> Reading {
        let oldest = self.oldest.load(Relaxed);
        Reading {
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

    pub(super) fn looked_around(&self) {
        self.has_looked.store(true, Relaxed);
    }

    pub(super) fn has_looked(&self) -> bool {
        self.has_looked.load(Relaxed)
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

    /// What was lost since this was last asked.
    pub(super) fn take_lost(&self) -> (u64, u64) {
        (self.lost.swap(0, Relaxed), self.lost_feedback.swap(0, Relaxed))
    }
}
