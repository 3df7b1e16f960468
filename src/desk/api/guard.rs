//! Access to a port: the token, and protection from pages of other sites, whether they name this machine or
//! resolve to it (DNS rebinding).

use std::net::Ipv6Addr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use sha2::{Digest, Sha256};

use super::base_path::BasePath;
use super::params::Params;

/// The cookie of a browser that has given the token.
const NAME: &str = "feedback_desk_token";
/// Hashed with the token to make the value of the cookie, from which the token can't be computed.
const COOKIE_KEY: &str = "feedback-desk cookie";
/// Whether a request comes from a page, and of which site. All browsers send it
/// ([Fetch Metadata](https://www.w3.org/TR/fetch-metadata/)); other clients don't.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The access rules of a port.
#[derive(Clone)]
pub(crate) struct Guard {
    /// Whether only this machine can connect. Then the `Host` has to be a name of this machine, or an
    /// allowed one.
    is_local: bool,
    hosts: AllowedHosts,
    /// Where the page is: of the cookie, and of redirects.
    pub(super) base: BasePath,
    token: Option<Arc<AccessToken>>,
}

/// Names by which a reverse proxy asks for the desk, in lower case and without a port.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedHosts(Arc<[String]>);

impl AllowedHosts {
    pub(crate) fn read(names: &[String]) -> Result<Self, String> {
        let read = |text: &String| {
            name_of(text).ok_or_else(|| {
                format!(
                    "the allowed host `{text}` is not a name: use for example desk.example.com, as it is \
                     in the address of the page"
                )
            })
        };
        Ok(Self(names.iter().map(read).collect::<Result<_, _>>()?))
    }

    fn contains(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else { return false };
        name_of(host).is_some_and(|name| self.0.contains(&name))
    }
}

/// Hashes are compared, so that the time of the comparison reveals nothing about the token.
struct AccessToken {
    hash: [u8; 32],
    cookie: String,
    cookie_hash: [u8; 32],
}

impl Guard {
    pub(crate) fn new(
        is_local: bool,
        token: Option<&str>,
        hosts: AllowedHosts,
        base: BasePath,
    ) -> Self {
        let token = token.map(|token| {
            let cookie =
                hexadecimal(&Sha256::new().chain_update(COOKIE_KEY).chain_update(token).finalize());
            let cookie_hash = Sha256::digest(&cookie).into();
            Arc::new(AccessToken { hash: Sha256::digest(token).into(), cookie, cookie_hash })
        });
        Self { is_local, hosts, base, token }
    }

    fn is_host_allowed(&self, request: &Request) -> bool {
        if !self.is_local {
            return true; // the token protects it
        }
        let headers = request.headers().get_all(HOST).into_iter().map(HeaderValue::as_bytes);
        let address = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let mut named = headers.chain(address).peekable();
        named.peek().is_some()
            && named.all(|host| is_of_this_machine(host) || self.hosts.contains(host))
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
        let mut of_cookie = cookies
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == NAME)
            .map(|(_, value)| value);
        bearer.is_some_and(|given| token.is(given)) || of_cookie.any(|given| token.is_cookie(given))
    }
}

impl AccessToken {
    fn is(&self, given: &str) -> bool {
        <[u8; 32]>::from(Sha256::digest(given)) == self.hash
    }

    fn is_cookie(&self, given: &str) -> bool {
        <[u8; 32]>::from(Sha256::digest(given)) == self.cookie_hash
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a page of another site has made the request. Following a link to a page of the desk is no such
/// request: a browser shows the page, and the other site sees nothing of it.
fn is_of_another_site(request: &Request) -> bool {
    let header = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    let is_followed_link = header(MODE) == Some(b"navigate")
        && request.method() == Method::GET
        && !request.uri().path().starts_with("/api");
    let site = header(SITE);
    !is_followed_link && site.is_some_and(|site| site != b"same-origin" && site != b"none")
}

/// A loopback name with any port.
fn is_of_this_machine(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    name_of(host).is_some_and(|name| ["localhost", "::1", "127.0.0.1"].contains(&name.as_str()))
}

/// The name in a `Host` header, without the port and the dot that may end a whole name, in one spelling: in
/// lower case, an IPv6 address as short as possible. `None` if it is no name.
fn name_of(host: &str) -> Option<String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.to_string(), port)
        }
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let name = name.strip_suffix('.').unwrap_or(name);
            let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            let is_name = !name.is_empty() && name.bytes().all(is_of_name);
            (is_name.then(|| name.to_ascii_lowercase())?, port)
        }
    };
    let is_port = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

/// Refuses requests without access.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if !guard.is_host_allowed(&request) {
        let reason = "this desk only serves localhost: the Host header names another machine. Behind a \
                      proxy, allow its name with --allow-host\n";
        return (StatusCode::FORBIDDEN, reason).into_response();
    }
    if is_of_another_site(&request) {
        let reason = "this desk serves no pages of other sites: open it by itself\n";
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
    /// `PATH?token=…` becomes a cookie and `PATH`, so that the token does not stay in the address.
    fn sign_in(&self, request: &Request) -> Option<Response> {
        let mut params = Params::parse(request.uri().query()?).ok()?;
        let given = params.one("token").ok()??;
        let token = self.token.as_ref().filter(|token| token.is(&given))?;
        let base = self.base.as_str();
        // Lax: the cookie is sent when a user follows a link from another site. What pages of other sites load
        // themselves is refused.
        let cookie = format!(
            "{NAME}={}; Path={}; HttpOnly; SameSite=Lax; Max-Age=2592000",
            token.cookie,
            if base.is_empty() { "/" } else { base },
        );
        let back = format!("{base}{}", without_token(request.uri()));
        let headers = [
            (SET_COOKIE, HeaderValue::from_str(&cookie).ok()?),
            (LOCATION, HeaderValue::from_str(&back).ok()?),
        ];
        Some((StatusCode::SEE_OTHER, headers).into_response())
    }
}

/// The address without the token. It begins with one slash, so that it stays on this desk.
fn without_token(address: &Uri) -> String {
    let path = format!("/{}", address.path().trim_start_matches(['/', '\\']));
    let query = address.query().unwrap_or_default();
    let kept: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("token=")).collect();
    if kept.is_empty() { path } else { format!("{path}?{}", kept.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_stays_on_this_desk() {
        for (address, back) in [
            ("/?token=x", "/"),
            ("/traces/1?token=x&tab=2", "/traces/1?tab=2"),
            ("/traces?a=1&token=x", "/traces?a=1"),
            ("//evil.example/?token=x", "/evil.example/"),
            ("/\\evil.example?token=x", "/evil.example"),
        ] {
            let Ok(address) = address.parse() else { continue };
            assert_eq!(without_token(&address), back);
        }
    }

    #[test]
    fn an_allowed_host_is_one_name() {
        let read = |names: &[&str]| {
            AllowedHosts::read(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let hosts = read(&["Desk.example.com", "other.example:8443", "[2001:db8::1]"]).unwrap();
        for host in [
            "desk.example.com",
            "DESK.example.com:1",
            "desk.example.com.",
            "other.example",
            "[2001:db8::1]:443",
            "[2001:0DB8:0::1]",
        ] {
            assert!(hosts.contains(host.as_bytes()), "{host}");
        }
        for host in ["example.com", "a.desk.example.com", "desk.example.com.evil.example", ""] {
            assert!(!hosts.contains(host.as_bytes()), "{host}");
        }
        for name in [
            "",
            "*",
            "*.example.com",
            "https://desk.example.com",
            "a b",
            "a/b",
            "a:x",
            "[a]",
            "[::1",
            "[::1]x",
            "::1",
            ".",
            "a:1:2",
        ] {
            assert!(read(&[name]).is_err(), "{name}");
        }
    }

    #[test]
    fn names_of_this_machine_are_few() {
        for host in [
            "localhost",
            "LOCALHOST:4320",
            "localhost.",
            "localhost.:4320",
            "127.0.0.1:1",
            "[::1]:4320",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
        ] {
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
            "[::1",
            "[::1]evil.example",
            "localhost:80:evil.example",
            "localhost:evil.example",
            "localhost@evil.example",
            "localhost..",
            "localhost\u{a0}",
        ] {
            assert!(!is_of_this_machine(host.as_bytes()), "{host}");
        }
    }
}
