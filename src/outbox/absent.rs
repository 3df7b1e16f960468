//! The stand-in for the outbox when its feature is off: no outbox can be made.

mod error;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::PersistError;

/// An outbox that can't be made.
#[derive(Debug)]
pub(crate) struct Outbox(Infallible);

impl Outbox {
    pub(crate) fn writes_ahead(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn hold(
        self: &Arc<Self>,
        _: Vec<u8>,
        _: bool,
        _: u64,
    ) -> Result<Finalizer, Infallible> {
        match self.0 {}
    }

    pub(crate) fn sync(&self, _: Instant) -> Result<(), PersistError> {
        match self.0 {}
    }

    pub(crate) fn synced(&self, _: Instant) -> std::future::Ready<Result<(), PersistError>> {
        match self.0 {}
    }

    pub(crate) fn feedback_bytes(&self) -> (u64, u64) {
        match self.0 {}
    }

    pub(crate) fn usage(&self) -> OutboxUsage {
        match self.0 {}
    }
}

/// Never made: without an outbox there is nothing to acknowledge.
#[derive(Debug)]
pub(crate) struct Finalizer(Infallible);

/// Always empty.
#[derive(Debug, Default)]
pub(crate) struct Finalizers(());

impl Finalizers {
    pub(crate) const NONE: Self = Self(());

    pub(crate) fn push(&mut self, finalizer: Finalizer) {
        match finalizer.0 {}
    }

    pub(crate) fn append(&mut self, _: Self) {}

    pub(crate) fn len(&self) -> usize {
        0
    }

    pub(crate) fn is_empty(&self) -> bool {
        true
    }

    pub(crate) fn is_whole(&self) -> bool {
        false
    }

    pub(crate) fn supersede(self, _: &Self) {}

    pub(crate) fn release(self) {}
}

/// The gauges of an outbox that can't be made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutboxUsage {
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<Duration>,
    pub(crate) rejected: u64,
    pub(crate) replayed: u64,
}
