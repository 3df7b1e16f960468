//! The proxy of the environment through which the collector is reached, the same for all protocols.

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

use super::endpoint::Endpoint;
use crate::setup::env::EnvironmentIssue;
use crate::setup::env::proxy::{ProxyVariable, ProxyVariables};

/// An HTTP proxy.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    /// Without credentials.
    pub(crate) uri: Uri,
    /// `Proxy-Authorization`, if there are credentials.
    pub(crate) authorization: Option<HeaderValue>,
}

/// The proxy for an endpoint, if there is one: the variable for the endpoint's scheme, or `ALL_PROXY`, and
/// none for hosts of `NO_PROXY`, for this machine and for Unix sockets. A value that can't be used is skipped
/// and added to the issues of the environment.
pub(super) fn resolve(
    endpoint: &Endpoint,
    variables: &ProxyVariables,
    issues: &mut Vec<EnvironmentIssue>,
) -> Option<Proxy> {
    let uri: Uri = endpoint.as_str().parse().ok()?;
    if endpoint.is_unix() || endpoint.is_loopback() {
        return None;
    }
    let of_scheme = match uri.scheme_str() {
        Some("https") => &variables.https,
        _ => &variables.http,
    };
    let none = variables.none.as_deref().unwrap_or_default();
    for ProxyVariable { variable, value } in [of_scheme, &variables.all].into_iter().flatten() {
        let find = |none| Matcher::builder().all(value.as_str()).no(none).build().intercept(&uri);
        let reason = match find("") {
            Some(proxy) if proxy.uri().scheme_str() == Some("http") => {
                let found = find(none)?;
                return Some(Proxy {
                    uri: found.uri().clone(),
                    authorization: found.basic_auth().cloned(),
                });
            }
            Some(_) => "isn't an HTTP proxy, and no other is supported: write `http://host:port`",
            None => "isn't a proxy: write `http://host:port`",
        };
        issues.push(EnvironmentIssue::new(variable, value, reason));
    }
    None
}
