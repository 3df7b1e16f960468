//! TLS: loads certificates and keys from code and environment, and configures the clients.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::endpoint::Endpoint;
use crate::setup::env::otlp::{EnvCandidate, OtlpVariables};
use crate::setup::env::{EnvironmentIssue, redact_endpoint};
use crate::setup::error::ConfigError;

/// Certificates and keys given in code.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// The root that the collector's certificate is verified with, instead of the system's roots.
    pub(crate) ca_certificate: Option<Pem>,
    pub(crate) client_certificate: Option<Pem>,
    pub(crate) client_key: Option<Pem>,
}

/// A certificate or key in PEM.
#[derive(Clone)]
pub(crate) struct Pem(pub(crate) Vec<u8>);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem(..)")
    }
}

/// The certificates and keys that were found and checked, in PEM.
#[derive(Default)]
pub(crate) struct Tls {
    /// The roots to trust instead of the system's.
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<Identity>,
}

/// The client's certificate chain and its key.
pub(crate) type Identity = (Vec<u8>, Vec<u8>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

const CA: &str = "CA certificate";
const CERTIFICATE: &str = "client certificate";
const KEY: &str = "client key";

type Check = fn(&[u8]) -> Result<(), String>;

/// A PEM, and the variable that names its file; `None` for a PEM given in code.
type PemSource = (Vec<u8>, Option<EnvCandidate>);

/// Reads certificates and keys and checks that TLS can use them, so that an error shows at start-up and not
/// with the first export.
pub(super) fn resolve(
    code: &TlsOptions,
    variables: &OtlpVariables,
    issues: &mut Vec<EnvironmentIssue>,
) -> Result<Tls, ConfigError> {
    let ca =
        find(CA, &code.ca_certificate, &variables.certificate, issues, |pem| roots(pem).map(drop))?;
    let certificate =
        find(CERTIFICATE, &code.client_certificate, &variables.client_certificate, issues, {
            |pem| chain(pem).map(drop)
        })?;
    let key = find(KEY, &code.client_key, &variables.client_key, issues, |pem| {
        private_key(pem).map(drop)
    })?;
    Ok(Tls { ca: ca.map(|(pem, _)| pem), identity: pair(certificate, key, issues)? })
}

fn find(
    what: &'static str,
    code: &Option<Pem>,
    candidates: &[EnvCandidate],
    issues: &mut Vec<EnvironmentIssue>,
    check: Check,
) -> Result<Option<PemSource>, ConfigError> {
    if let Some(Pem(pem)) = code {
        return match check(pem) {
            Ok(()) => Ok(Some((pem.clone(), None))),
            Err(reason) => Err(ConfigError::Certificate { what, reason }),
        };
    }
    for candidate in candidates {
        let read = std::fs::read(Path::new(&candidate.value))
            .map_err(|error| format!("can't be read ({error}): name a readable PEM file"))
            .and_then(|pem| check(&pem).map(|()| pem));
        match read {
            Ok(pem) => return Ok(Some((pem, Some(candidate.clone())))),
            Err(reason) => {
                issues.push(EnvironmentIssue::new(candidate.variable, &candidate.value, reason));
            }
        }
    }
    Ok(None)
}

/// Pairs the client certificate with its key. One without the other is an error.
fn pair(
    certificate: Option<PemSource>,
    key: Option<PemSource>,
    issues: &mut Vec<EnvironmentIssue>,
) -> Result<Option<Identity>, ConfigError> {
    let (what, reason, from) = match (certificate, key) {
        (None, None) => return Ok(None),
        (Some((certificate, from)), Some((key, key_from))) => {
            let identity = Some((certificate, key));
            match client_config(RootCertStore::empty(), &identity) {
                Ok(_) => return Ok(identity),
                // An issue of the environment only if both are from it: code must give a matching pair.
                Err(reason) => (KEY, reason, from.and(key_from)),
            }
        }
        (Some((_, from)), None) => {
            (CERTIFICATE, "has no key with it: give the client key too".to_owned(), from)
        }
        (None, Some((_, from))) => {
            (KEY, "has no certificate with it: give the client certificate too".to_owned(), from)
        }
    };
    match from {
        Some(EnvCandidate { variable, value, .. }) => {
            issues.push(EnvironmentIssue::new(variable, &value, reason));
            Ok(None)
        }
        None => Err(ConfigError::Certificate { what, reason }),
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err("holds no `BEGIN CERTIFICATE`: give a certificate in PEM".to_owned())
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("isn't PEM ({error}): give a certificate in PEM")),
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "holds no private key: give an unencrypted one in PEM".to_owned())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(chain(pem)?) {
        (0, _) => Err("holds no X.509 certificate that can be a root".to_owned()),
        _ => Ok(roots),
    }
}

#[cfg(feature = "_http-client")]
fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    match roots.add_parsable_certificates(found.certs) {
        (0, _) => Err("the system has no root certificates: install them, or give a CA \
                       certificate"
            .to_owned()),
        _ => Ok(roots),
    }
}

/// The TLS configuration of a client. It uses ring, whatever crypto provider the process has installed.
fn client_config(
    roots: RootCertStore,
    identity: &Option<Identity>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match identity {
        None => Ok(config.with_no_client_auth()),
        Some((certificate, key)) => config
            .with_client_auth_cert(chain(certificate)?, private_key(key)?)
            .map_err(|error| format!("doesn't fit the certificate ({error})")),
    }
}

impl Tls {
    #[cfg(feature = "grpc")]
    pub(super) fn for_tonic(&self) -> tonic::transport::ClientTlsConfig {
        use tonic::transport::{Certificate, ClientTlsConfig};

        let config = match &self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match &self.identity {
            Some((certificate, key)) => {
                config.identity(tonic::transport::Identity::from_pem(certificate, key))
            }
            None => config,
        }
    }

    #[cfg(feature = "_http-client")]
    pub(super) fn for_reqwest(&self, endpoint: &Endpoint) -> Result<ClientConfig, ConfigError> {
        let roots = match &self.ca {
            // `http` verifies no certificate, and reading the system's roots is slow.
            _ if !endpoint.is_https() => Ok(RootCertStore::empty()),
            Some(ca) => roots(ca),
            None => system_roots(),
        };
        roots.and_then(|roots| client_config(roots, &self.identity)).map_err(|reason| {
            ConfigError::Exporter { endpoint: redact_endpoint(endpoint.as_str()), reason }
        })
    }
}
