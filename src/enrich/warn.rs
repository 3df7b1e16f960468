//! Warnings of refused enrichments.

use std::collections::HashSet;
use std::panic::Location;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;

use super::error::{EnrichError, Enrichment};
use crate::sync::lock_unless_orphaned;

/// Warns of an error, once per call site.
pub(super) fn warn_once(error: &EnrichError, caller: &'static Location<'static>) {
    static WARNED: Mutex<Option<HashSet<&'static Location<'static>>>> = Mutex::new(None);
    if tracing::enabled!(target: "tracing_feedback", tracing::Level::WARN)
        && lock_unless_orphaned(&WARNED)
            .is_some_and(|mut warned| warned.get_or_insert_default().insert(caller))
    {
        tracing::warn!(
            target: "tracing_feedback",
            file = caller.file(),
            line = caller.line(),
            "{error}"
        );
    }
}

/// The outcome where no layer is installed. Inlined, since it is all that a library's enrichment costs there.
#[inline]
pub(super) fn not_installed(caller: &'static Location<'static>) -> Enrichment {
    // A library in a program that doesn't trace at all has nothing to warn of.
    if LevelFilter::current() != LevelFilter::OFF {
        warn_not_installed(caller);
    }
    EnrichError::NotInstalled.into()
}

#[cold]
fn warn_not_installed(caller: &'static Location<'static>) {
    warn_once(&EnrichError::NotInstalled, caller);
}
