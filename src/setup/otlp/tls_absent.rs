//! Stands in for TLS where the feature is off: there is nothing to configure.

use crate::setup::env::EnvironmentIssue;
use crate::setup::env::otlp::OtlpVariables;
use crate::setup::error::ConfigError;

#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions;

#[derive(Debug, Default)]
pub(crate) struct Tls;

pub(super) fn resolve(
    _: &TlsOptions,
    _: &OtlpVariables,
    _: &mut Vec<EnvironmentIssue>,
) -> Result<Tls, ConfigError> {
    Ok(Tls)
}
