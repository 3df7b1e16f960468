//! Stands in for TLS where the feature is off: there is nothing to configure.

use crate::setup::env::Environment;
use crate::setup::error::ConfigError;

#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions;

#[derive(Debug, Default)]
pub(crate) struct Tls;

pub(super) fn resolve(_: &TlsOptions, _: &mut Environment) -> Result<Tls, ConfigError> {
    Ok(Tls)
}
