//! The memory of requests in flight: one budget for all of them, counted before it is taken.
//!
//! A compressed or repeated message is many times as large in memory as on the wire: two bytes are
//! an empty span, which takes hundreds. So a request takes its share for the bytes it sends, for
//! what they decompress to and for what they decode to, each time before the memory is allocated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::refusal::{RefusalKind, RequestRefusal};

/// What all requests in flight may take together, bytes.
const IN_FLIGHT: usize = 256 << 20;
/// What one request may take, bytes: 20 MiB of JSON with short attributes decode to half of it.
const ONE_REQUEST: usize = 128 << 20;
/// The unit in which the budget is given out, bytes.
const UNIT: usize = 4 << 10;

/// The budget of a receiver, shared by its protocols.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget {
    free: Arc<Semaphore>,
}

impl Default for MemoryBudget {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(IN_FLIGHT / UNIT)) }
    }
}

impl MemoryBudget {
    /// The share of one request: nothing yet.
    pub(crate) fn lease(&self) -> MemoryLease {
        MemoryLease {
            free: Arc::clone(&self.free),
            bytes: AtomicUsize::new(0),
            units: AtomicUsize::new(0),
        }
    }
}

/// What one request has taken of the budget. Dropping it gives all of it back.
#[derive(Debug)]
pub(crate) struct MemoryLease {
    free: Arc<Semaphore>,
    bytes: AtomicUsize,
    /// The permits taken of `free`. Only the task that handles the request changes it.
    units: AtomicUsize,
}

impl MemoryLease {
    /// Takes `bytes` more, or refuses: for good if one request takes too much, for now if all
    /// together do.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), RequestRefusal> {
        let taken = self.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if taken > ONE_REQUEST {
            let reason = format!(
                "the request takes more than {ONE_REQUEST} bytes of memory when it is decoded: \
                 send fewer spans or log records at a time"
            );
            return Err(RequestRefusal::new(RefusalKind::TooLarge, reason));
        }
        let units = taken.div_ceil(UNIT);
        let more = units - self.units.load(Ordering::Relaxed);
        if more > 0 {
            let Ok(permits) = self.free.try_acquire_many(more as u32) else {
                let reason = "the requests in flight take all memory that they may: try again";
                return Err(RequestRefusal::new(RefusalKind::Unavailable, reason));
            };
            permits.forget(); // given back in `drop`
            self.units.store(units, Ordering::Relaxed);
        }
        self.bytes.store(taken, Ordering::Relaxed);
        Ok(())
    }

    /// The bytes that were taken and not given back.
    pub(crate) fn taken(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Gives some of what was taken back.
    pub(crate) fn give_back(&self, bytes: usize) {
        let left = self.bytes.load(Ordering::Relaxed).saturating_sub(bytes);
        self.bytes.store(left, Ordering::Relaxed);
        let units = left.div_ceil(UNIT);
        let before = self.units.swap(units, Ordering::Relaxed);
        self.free.add_permits(before.saturating_sub(units));
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.free.add_permits(*self.units.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_limit_and_all_together_have_one() {
        let budget = MemoryBudget::default();
        let (first, second, third) = (budget.lease(), budget.lease(), budget.lease());
        first.take(ONE_REQUEST - 1).unwrap();
        first.take(1).unwrap();
        assert_eq!(first.take(1).unwrap_err().kind, RefusalKind::TooLarge);
        second.take(ONE_REQUEST).unwrap();
        assert_eq!(third.take(1).unwrap_err().kind, RefusalKind::Unavailable);
        drop(first);
        third.take(1).unwrap();
    }

    #[test]
    fn what_was_taken_is_given_back() {
        let budget = MemoryBudget::default();
        for size in [1, UNIT, UNIT + 1, ONE_REQUEST] {
            let lease = budget.lease();
            lease.take(size).unwrap();
            lease.take(usize::MAX).unwrap_err();
            lease.give_back(size / 2);
            let taken = (size - size / 2).div_ceil(UNIT);
            assert_eq!(budget.free.available_permits(), IN_FLIGHT / UNIT - taken);
            lease.take(size / 2).unwrap();
            drop(lease);
            assert_eq!(budget.free.available_permits(), IN_FLIGHT / UNIT);
        }
    }
}
