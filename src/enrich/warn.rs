//! Warnings of what was refused.

use std::collections::HashSet;
use std::panic::Location;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;

use super::error::{EnrichError, Enrichment};

/// Warns of what was refused, once for each place in the code.
pub(super) fn warn_once(error: &EnrichError, caller: &'static Location<'static>) {
    static WARNED: Mutex<Option<HashSet<&'static Location<'static>>>> = Mutex::new(None);
    if tracing::enabled!(target: "tracing_feedback", tracing::Level::WARN)
        && crate::sync::lock(&WARNED).get_or_insert_default().insert(caller)
    {
        tracing::warn!(
            target: "tracing_feedback",
            file = caller.file(),
            line = caller.line(),
            "{error}"
        );
    }
}

/// The outcome where no layer is installed.
pub(super) fn not_installed(caller: &'static Location<'static>) -> Enrichment {
    // A library in a program that doesn't trace at all has nothing to warn of.
    if LevelFilter::current() != LevelFilter::OFF {
        warn_once(&EnrichError::NotInstalled, caller);
    }
    EnrichError::NotInstalled.into()
}
