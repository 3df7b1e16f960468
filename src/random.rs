//! Random numbers for jitter, names of files and markers in them, session ids and tickets.
//!
//! They can't be guessed from outside (`RandomState` is keyed by the system), but are no keys.

use std::hash::{BuildHasher, RandomState};

use crate::clock;

/// A number that differs between calls, threads and processes, also after a fork: the time and the
/// process id are part of it.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one((clock::now(), std::process::id()))
}

/// A number in `0.0..1.0`.
pub(crate) fn fraction() -> f64 {
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}
