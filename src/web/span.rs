//! The server span, by the [semantic conventions for
//! HTTP](https://opentelemetry.io/docs/specs/semconv/http/http-spans/).

use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Version};
use tracing::Span;
use tracing::field::Empty;

use super::HttpLayerSettings;
use super::client_address::Client;

/// The values of these parameters of a query are credentials.
const SENSITIVE_PARAMETERS: [&str; 5] =
    ["X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "X-Goog-Signature"];

/// The span of `request`, a child of the current span unless the endpoint is public.
pub(super) fn open<B>(request: &Request<B>, settings: &HttpLayerSettings) -> Span {
    let (method, original) = method(request.method());
    let route = route(request);
    let name = match route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    };
    let (address, port) = server(request);
    let client = Client::of(request, settings.client_address);
    let query = request.uri().query().filter(|_| settings.has_query).map(without_credentials);
    macro_rules! request_span {
        ($($parent:tt)*) => {
            tracing::info_span!(
                $($parent)*
                "request",
                "otel.name" = name,
                "otel.kind" = "server",
                "http.request.method" = method,
                "http.request.method_original" = original,
                "http.route" = route,
                "url.path" = request.uri().path(),
                "url.query" = query,
                "url.scheme" = request.uri().scheme_str().unwrap_or("http"),
                "server.address" = address,
                "server.port" = port.map(i64::from),
                "client.address" = client.address,
                "network.peer.address" = client.peer.map(|peer| peer.ip().to_string()),
                "network.peer.port" = client.peer.map(|peer| i64::from(peer.port())),
                "user_agent.original" = text(request.headers(), &USER_AGENT),
                "network.protocol.version" = version(request.version()),
                "http.response.status_code" = Empty,
                "error.type" = Empty,
                "otel.status_code" = Empty,
            )
        };
    }
    if settings.is_public { request_span!(parent: None,) } else { request_span!() }
}

/// Records the status of a response. A status of 4xx is no error of the server.
///
/// Numbers are recorded as `i64`: `tracing-opentelemetry` makes strings of unsigned ones.
pub(super) fn record_status(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        record_error(span, status.as_str());
    }
}

/// Records an error: the service has failed, or has responded with a status of 5xx.
pub(super) fn record_error(span: &Span, error_type: &str) {
    span.record("error.type", error_type);
    span.record("otel.status_code", "ERROR");
}

/// The method, or `_OTHER` and the original of an unknown one.
fn method(method: &Method) -> (&str, Option<&str>) {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    match method.as_str() {
        known if KNOWN.contains(&known) => (known, None),
        other => ("_OTHER", Some(other)),
    }
}

#[cfg(feature = "axum")]
fn route<B>(request: &Request<B>) -> Option<&str> {
    request.extensions().get::<axum::extract::MatchedPath>().map(|path| path.as_str())
}

#[cfg(not(feature = "axum"))]
fn route<B>(_: &Request<B>) -> Option<&str> {
    None
}

/// The host name and port by which the client has addressed the server.
pub(super) fn server<B>(request: &Request<B>) -> (Option<String>, Option<u16>) {
    let host = text(request.headers(), &HOST);
    let authority = match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => host.and_then(|host| host.parse::<http::uri::Authority>().ok()),
    };
    let Some(authority) = authority else { return (None, None) };
    (Some(authority.host().to_owned()), authority.port_u16())
}

/// The query, without the values that the semantic conventions name as credentials.
fn without_credentials(query: &str) -> String {
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((key, _)) if SENSITIVE_PARAMETERS.contains(&key) => format!("{key}=REDACTED"),
        _ => parameter.to_owned(),
    });
    parameters.collect::<Vec<_>>().join("&")
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_09 => Some("0.9"),
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
