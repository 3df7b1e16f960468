//! The endpoint: checks and completes the text from code or environment, by the rules of the specification.

use std::fmt;

use http::Uri;

use crate::otlp::Signal;
use crate::setup::env::otlp::{EnvCandidate, OtlpVariables};
use crate::setup::env::{EnvironmentIssue, needs_feature, redact_endpoint};
use crate::setup::error::ConfigError;
use crate::setup::protocol::Protocol;

/// Where requests go: a checked URI with a scheme that this build supports.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(String);

impl Endpoint {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_unix(&self) -> bool {
        self.0.starts_with("unix:")
    }

    #[cfg(feature = "tls")]
    pub(super) fn is_https(&self) -> bool {
        self.0.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"))
    }

    /// With the port of `http` if it has none: a tunnel through a proxy would take that of `https`.
    #[cfg(feature = "grpc")]
    pub(super) fn with_port(&self) -> String {
        match self.0.parse::<Uri>() {
            Ok(uri) if uri.scheme_str() == Some("http") && uri.port().is_none() => {
                let path = uri.path_and_query().map_or("", |path| path.as_str());
                format!("http://{}:80{path}", uri.host().unwrap_or_default())
            }
            _ => self.0.clone(),
        }
    }

    /// Whether the host is this machine, which a proxy can't reach.
    pub(super) fn is_loopback(&self) -> bool {
        let Ok(uri) = self.0.parse::<Uri>() else { return false };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redact_endpoint(&self.0).fmt(f)
    }
}

/// Resolves the endpoint: from the code, from the environment, or the default of `protocol`. An endpoint of
/// the environment that can't be used is skipped and added to its issues.
pub(super) fn resolve(
    code: Option<&str>,
    signal: Signal,
    protocol: Protocol,
    variables: &OtlpVariables,
    issues: &mut Vec<EnvironmentIssue>,
) -> Result<Endpoint, ConfigError> {
    let rules = EndpointRules { signal, protocol, insecure: variables.insecure.unwrap_or(false) };
    if let Some(text) = code {
        return check_endpoint(text, EndpointOrigin::Code, rules).map_err(|error| {
            let endpoint = redact_endpoint(text);
            match error {
                EndpointError::FeatureOff(feature) => {
                    ConfigError::feature_off("the endpoint", &endpoint, feature)
                }
                EndpointError::Malformed(reason) => ConfigError::Endpoint { endpoint, reason },
            }
        });
    }
    for EnvCandidate { variable, value, is_of_signal } in &variables.endpoint {
        let origin = if *is_of_signal {
            EndpointOrigin::SignalVariable
        } else {
            EndpointOrigin::GeneralVariable
        };
        match check_endpoint(value, origin, rules) {
            Ok(endpoint) => return Ok(endpoint),
            Err(error) => issues.push(EnvironmentIssue::new(variable, value, error.into_reason())),
        }
    }
    Ok(Endpoint(match is_grpc(protocol) {
        true => "http://localhost:4317".to_owned(),
        false => format!("http://localhost:4318{}", signal.http_path()),
    }))
}

fn is_grpc(protocol: Protocol) -> bool {
    match protocol {
        #[cfg(feature = "grpc")]
        Protocol::Grpc => true,
        #[cfg(feature = "http-proto")]
        Protocol::HttpProtobuf => false,
        #[cfg(feature = "http-json")]
        Protocol::HttpJson => false,
    }
}

/// Where an endpoint was set, which decides whether the signal's path is added to its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EndpointOrigin {
    Code,
    SignalVariable,
    GeneralVariable,
}

/// What an endpoint is for.
#[derive(Clone, Copy)]
pub(super) struct EndpointRules {
    pub(super) signal: Signal,
    pub(super) protocol: Protocol,
    /// Whether an endpoint without a scheme is one without TLS.
    pub(super) insecure: bool,
}

/// Why an endpoint can't be used.
pub(super) enum EndpointError {
    FeatureOff(&'static str),
    Malformed(String),
}

impl EndpointError {
    fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed(reason.into())
    }

    pub(super) fn into_reason(self) -> String {
        match self {
            Self::FeatureOff(feature) => needs_feature(feature),
            Self::Malformed(reason) => reason,
        }
    }
}

/// Checks a text and completes it to an endpoint, by the rules of the specification for the variables.
pub(super) fn check_endpoint(
    text: &str,
    origin: EndpointOrigin,
    EndpointRules { signal, protocol, insecure }: EndpointRules,
) -> Result<Endpoint, EndpointError> {
    let text = text.trim();
    let grpc = is_grpc(protocol);
    if let Some(path) = text.strip_prefix("unix:") {
        return if !grpc {
            Err(EndpointError::malformed("is a Unix socket, which only `grpc` can use"))
        } else if !cfg!(unix) || path.trim_start_matches("//").is_empty() {
            Err(EndpointError::malformed("isn't a Unix socket: write `unix:///path/to/socket`"))
        } else {
            Ok(Endpoint(text.to_owned()))
        };
    }
    let has_scheme =
        text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(['/', '?', '#']));
    let full = if has_scheme {
        text.to_owned()
    } else if grpc {
        format!("{}://{text}", if insecure { "http" } else { "https" })
    } else {
        return Err(EndpointError::malformed(
            "has no scheme: write `http://` or `https://` before it",
        ));
    };
    let uri: Uri = full.parse().map_err(|error| {
        EndpointError::malformed(format!("isn't a URI ({error}): write `http://host:port`"))
    })?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(EndpointError::malformed(
            "has credentials in it: give them as a header, `authorization`",
        ));
    }
    let port = authority.strip_prefix(uri.host().unwrap_or_default()).unwrap_or_default();
    let port_is_sound =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if uri.host().is_none_or(str::is_empty) || !port_is_sound {
        return Err(EndpointError::malformed(
            "has no usable host and port: write `http://host:port`",
        ));
    }
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if cfg!(feature = "tls") => {}
        Some("https") if !has_scheme => {
            return Err(EndpointError::malformed(format!(
                "has no scheme, which means `https`, and that {}; or write `http://` before it",
                needs_feature("tls")
            )));
        }
        Some("https") => return Err(EndpointError::FeatureOff("tls")),
        _ => return Err(EndpointError::malformed("has an unknown scheme: use `http` or `https`")),
    }
    let full = if grpc { full } else { signal_url(&uri, origin, signal) };
    // The HTTP client has its own URL parser, which is stricter.
    #[cfg(feature = "_http-client")]
    if !grpc && let Err(error) = reqwest::Url::parse(&full) {
        return Err(EndpointError::malformed(format!(
            "isn't a URL ({error}): write `http://host:port`"
        )));
    }
    Ok(Endpoint(full))
}

/// The URL that HTTP requests go to.
fn signal_url(uri: &Uri, origin: EndpointOrigin, signal: Signal) -> String {
    let (path, of_signal) = (uri.path(), signal.http_path());
    let trimmed = path.trim_end_matches('/');
    let path = match origin {
        EndpointOrigin::SignalVariable => path.to_owned(),
        EndpointOrigin::Code if trimmed.ends_with(of_signal) => path.to_owned(),
        // The code names one endpoint for both signals, perhaps with the path for spans.
        EndpointOrigin::Code if trimmed.ends_with(Signal::Traces.http_path()) => {
            let base = trimmed.strip_suffix(Signal::Traces.http_path()).unwrap_or_default();
            format!("{base}{of_signal}")
        }
        EndpointOrigin::Code | EndpointOrigin::GeneralVariable => {
            format!("{}{of_signal}", path.strip_suffix('/').unwrap_or(path))
        }
    };
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{authority}{path}{query}")
}
