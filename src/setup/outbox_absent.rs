//! What stands in for the outbox where its feature is off.

use std::sync::Arc;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use super::env::Environment;
use super::error::BuildError;
use crate::outbox::Outbox;

/// There is nothing to be told.
#[derive(Debug, Default)]
pub(super) struct Options(());

impl Options {
    pub(super) fn take(&mut self) -> Self {
        Self(())
    }
}

pub(super) fn open(
    _: Options,
    _: &mut Environment,
    _: bool,
    _: &Resource,
    _: &InstrumentationScope,
) -> Result<Option<Arc<Outbox>>, BuildError> {
    Ok(None)
}
