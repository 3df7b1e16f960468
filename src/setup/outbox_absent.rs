//! Stands in for the configuration of the outbox where its feature is off.

use std::sync::Arc;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use super::env::Environment;
use super::error::BuildError;
use crate::outbox::Outbox;

/// Nothing can be configured.
#[derive(Debug, Default)]
pub(super) struct OutboxSetting(());

impl OutboxSetting {
    pub(super) fn take(&mut self) -> Self {
        Self(())
    }
}

pub(super) fn is_configured(_: &OutboxSetting, _: &Environment) -> bool {
    false
}

pub(super) fn open(
    _: OutboxSetting,
    _: &mut Environment,
    _: bool,
    _: bool,
    _: &Resource,
    _: &InstrumentationScope,
) -> Result<[Option<Arc<Outbox>>; 2], BuildError> {
    Ok([None, None])
}
