//! The outbox, as told by code and environment.

use std::sync::Arc;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use super::env::{EnvIssue, Environment, OUTBOX_DIR};
use super::error::BuildError;
use crate::otlp::request::{resource_fields, scope_fields};
use crate::outbox::{Outbox, OutboxOptions, OutboxPolicy};

/// What the code says.
pub(super) type Options = Option<OutboxOptions>;

/// Opens the outbox that was asked for, if any, for a sink that `is_otlp` can put spans aside.
///
/// # Errors
///
/// The code asks for one that can't be had. What the environment asks for in vain is an issue.
pub(super) fn open(
    told: Options,
    environment: &mut Environment,
    is_otlp: bool,
    resource: &Resource,
    scope: &InstrumentationScope,
) -> Result<Option<Arc<Outbox>>, BuildError> {
    let is_told = told.is_some();
    let directory = environment.outbox_directory.take();
    let Some(mut options) = told.or_else(|| directory.map(OutboxOptions::new)) else {
        return Ok(None);
    };
    if !is_told && let Some(writes_ahead) = environment.outbox_writes_ahead {
        options.policy = if writes_ahead { OutboxPolicy::WriteAhead } else { OutboxPolicy::Spill };
    }
    let path = options.path.clone();
    let opened = match is_otlp {
        true => Outbox::open(options, resource_fields(resource), scope_fields(scope))
            .map_err(|source| BuildError::Outbox { path: path.clone(), source }),
        false => Err(BuildError::OutboxWithoutOtlp),
    };
    match opened {
        Ok(outbox) => Ok(Some(outbox)),
        Err(error) if is_told => Err(error),
        Err(error) => {
            let path = path.to_string_lossy();
            let reason = format!("can't be used: {error}");
            environment.issues.push(EnvIssue::new(OUTBOX_DIR, &path, reason));
            Ok(None)
        }
    }
}
