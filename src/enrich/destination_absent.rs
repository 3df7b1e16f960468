//! Stands in for [destinations](super::destination) where the layer is not built: every enrichment is
//! refused before its values are evaluated.

use std::panic::Location;

use super::error::Enrichment;
use super::flatten::{EnrichmentLimits, Flattener};
use super::target::LateOptions;
use super::warn::not_installed;
use crate::redaction::Redaction;
use crate::ticket::Ticket;

#[inline]
pub(super) fn layer_exists() -> bool {
    false
}

pub(crate) enum Destination {}

impl Destination {
    pub(super) fn of_span(
        _: Option<&tracing::Span>,
        _: Option<Box<LateOptions>>,
    ) -> Result<Self, BeginError> {
        Err(BeginError::NotInstalled)
    }

    pub(super) fn of_session(_: Option<Box<LateOptions>>) -> Result<Self, BeginError> {
        Err(BeginError::NotInstalled)
    }

    pub(super) fn limits(&self) -> EnrichmentLimits {
        match *self {}
    }

    pub(super) fn redaction(&self) -> Option<Redaction> {
        match *self {}
    }

    pub(super) fn ticket(&self) -> Option<Ticket> {
        match *self {}
    }

    pub(super) fn apply(self, _: &mut Flattener, _: &'static Location<'static>) {
        match self {}
    }
}

/// Why an enrichment has no destination.
#[derive(Debug)]
pub enum BeginError {
    /// There is no layer.
    NotInstalled,
}

impl BeginError {
    #[inline]
    pub(super) fn outcome(self, caller: &'static Location<'static>) -> Enrichment {
        match self {
            Self::NotInstalled => not_installed(caller),
        }
    }
}
