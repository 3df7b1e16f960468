//! TLS of the desk's own HTTP clients: the system's roots, by rustls with ring.

#[cfg(feature = "tls")]
use std::sync::Arc;

/// Configures TLS, also for `http`: without a configuration the client looks for a provider of the process, and
/// panics if there is none.
#[cfg(feature = "tls")]
pub(super) fn prepare(
    http: reqwest::ClientBuilder,
    is_secure: bool,
) -> Result<reqwest::ClientBuilder, String> {
    let mut roots = rustls::RootCertStore::empty();
    if is_secure {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(http.tls_backend_preconfigured(config))
}

#[cfg(not(feature = "tls"))]
pub(super) fn prepare(
    http: reqwest::ClientBuilder,
    is_secure: bool,
) -> Result<reqwest::ClientBuilder, String> {
    match is_secure {
        true => Err("https:// needs the feature `tls`".to_owned()),
        false => Ok(http),
    }
}
