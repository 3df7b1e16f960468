//! Access to a port: the token, and protection from pages of other sites that resolve to this machine (DNS
//! rebinding).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use super::params::Params;

/// The cookie that holds the token.
const NAME: &str = "feedback_desk_token";

/// The access rules of a port.
#[derive(Clone)]
pub(crate) struct Guard {
    /// Whether only this machine can connect. Then the `Host` has to be a name of this machine.
    pub(crate) is_local: bool,
    token: Option<Arc<AccessToken>>,
}

struct AccessToken {
    text: String,
    /// Hashes are compared, so that the time of the comparison reveals nothing about the token.
    hash: [u8; 32],
}

impl Guard {
    pub(crate) fn new(is_local: bool, token: Option<&str>) -> Self {
        let token = token.map(|token| {
            Arc::new(AccessToken { text: token.to_owned(), hash: Sha256::digest(token).into() })
        });
        Self { is_local, token }
    }

    fn is_host_allowed(&self, request: &Request) -> bool {
        if !self.is_local {
            return true; // the token protects it
        }
        let header = request.headers().get(HOST).map(HeaderValue::as_bytes);
        let named =
            [request.uri().authority().map(|authority| authority.as_str().as_bytes()), header];
        let mut named = named.into_iter().flatten().peekable();
        named.peek().is_some() && named.all(is_of_this_machine)
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let of_cookie = cookies
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == NAME)
            .map(|(_, token)| token);
        bearer.into_iter().chain(of_cookie).any(|given| token.is(given))
    }
}

impl AccessToken {
    fn is(&self, given: &str) -> bool {
        <[u8; 32]>::from(Sha256::digest(given)) == self.hash
    }
}

/// A loopback name with any port.
fn is_of_this_machine(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name == "::1" || name == "127.0.0.1"
}

/// Refuses requests without access.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if !guard.is_host_allowed(&request) {
        let reason = "this desk only serves localhost: the Host header names another machine\n";
        return (StatusCode::FORBIDDEN, reason).into_response();
    }
    if guard.has_token(request.headers()) {
        return next.run(request).await;
    }
    if let Some(response) = guard.sign_in(&request) {
        return response;
    }
    let reason = "a token is required: `Authorization: Bearer TOKEN`, or /?token=TOKEN once\n";
    (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")], reason).into_response()
}

impl Guard {
    /// `/?token=…` becomes a cookie, so that the token does not stay in the address.
    fn sign_in(&self, request: &Request) -> Option<Response> {
        let mut params = Params::parse(request.uri().query()?).ok()?;
        let given = params.one("token").ok()??;
        let token = self.token.as_ref().filter(|token| token.is(&given))?;
        let cookie =
            format!("{NAME}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000", token.text);
        let headers = [
            (SET_COOKIE, HeaderValue::from_str(&cookie).ok()?),
            (LOCATION, HeaderValue::from_static("/")),
        ];
        Some((StatusCode::SEE_OTHER, headers).into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_few() {
        for host in ["localhost", "LOCALHOST:4320", "127.0.0.1:1", "[::1]:4320", "[::1]"] {
            assert!(is_of_this_machine(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:4320",
            "127.0.0.2",
            "0.0.0.0",
            "[::2]",
            "localhost\u{a0}",
        ] {
            assert!(!is_of_this_machine(host.as_bytes()), "{host}");
        }
    }
}
