//! Locks.

use std::hint::spin_loop;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::{TryLockError, TryLockResult};
use std::thread;
use std::time::{Duration, Instant};

use crate::fork;

/// How long a forked process waits for a lock, which may be orphaned. Threads of its own hold locks
/// for much shorter times.
const FORKED_LIMIT: Duration = Duration::from_millis(100);

/// How often a lock is tried before the thread waits for it.
const SPINS: usize = 100;

/// Locks a mutex, also a poisoned one: no foreign code runs while a lock of this crate is held, so
/// a panic can't leave the guarded data half changed.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], on the paths of spans, enrichments and counters. `None` if the lock is
/// [orphaned](crate::fork).
#[inline]
pub(crate) fn lock_unless_orphaned<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => wait(|| mutex.try_lock(), || lock(mutex)),
    }
}

/// Reads what a lock guards. `None` if the lock is [orphaned](crate::fork).
pub(crate) fn read_unless_orphaned<T>(guarded: &RwLock<T>) -> Option<RwLockReadGuard<'_, T>> {
    let read = || guarded.read().unwrap_or_else(PoisonError::into_inner);
    tried(guarded.try_read()).or_else(|| wait(|| guarded.try_read(), read))
}

/// Locks for writing. `None` if the lock is [orphaned](crate::fork).
pub(crate) fn write_unless_orphaned<T>(guarded: &RwLock<T>) -> Option<RwLockWriteGuard<'_, T>> {
    let write = || guarded.write().unwrap_or_else(PoisonError::into_inner);
    tried(guarded.try_write()).or_else(|| wait(|| guarded.try_write(), write))
}

fn tried<G>(result: TryLockResult<G>) -> Option<G> {
    match result {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Waits for a lock that is held: with `lock`, or in a forked process within a limit.
#[cold]
fn wait<G>(try_lock: impl Fn() -> TryLockResult<G>, lock: impl FnOnce() -> G) -> Option<G> {
    for _ in 0..SPINS {
        spin_loop();
        if let Some(guard) = tried(try_lock()) {
            return Some(guard);
        }
    }
    if !fork::is_child() {
        return Some(lock());
    }
    let deadline = Instant::now() + FORKED_LIMIT;
    while Instant::now() < deadline {
        thread::sleep(FORKED_LIMIT / 100);
        if let Some(guard) = tried(try_lock()) {
            return Some(guard);
        }
    }
    None
}
