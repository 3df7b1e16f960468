//! The server span of a gRPC request, by the [semantic conventions for
//! gRPC](https://opentelemetry.io/docs/specs/semconv/rpc/grpc/).

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, Request, Response};
use tracing::Span;
use tracing::field::Empty;

use super::HttpLayerSettings;
use super::client_address::Client;
use super::span;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The names of the [status codes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md), by number.
const STATUS_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The status codes that are errors of a server. The others are those of its client.
const SERVER_ERRORS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// Whether a request is one of gRPC, or of gRPC-Web.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = span::text(request.headers(), &CONTENT_TYPE);
    content_type.is_some_and(|content_type| content_type.starts_with("application/grpc"))
}

/// The span of `request`, a child of the current span unless the endpoint is public.
pub(super) fn open<B>(request: &Request<B>, settings: &HttpLayerSettings) -> Span {
    let method = request.uri().path().trim_start_matches('/');
    let (address, port) = span::server(request);
    let client = Client::of(request, settings.client_address);
    macro_rules! request_span {
        ($($parent:tt)*) => {
            tracing::info_span!(
                $($parent)*
                "request",
                "otel.name" = method,
                "otel.kind" = "server",
                "rpc.system.name" = "grpc",
                "rpc.method" = method,
                "server.address" = address,
                "server.port" = port.map(i64::from),
                "client.address" = client.address,
                "network.peer.address" = client.peer.map(|peer| peer.ip().to_string()),
                "network.peer.port" = client.peer.map(|peer| i64::from(peer.port())),
                "user_agent.original" = span::text(request.headers(), &USER_AGENT),
                "rpc.response.status_code" = Empty,
                "http.response.status_code" = Empty,
                "error.type" = Empty,
                "otel.status_code" = Empty,
            )
        };
    }
    if settings.is_public { request_span!(parent: None,) } else { request_span!() }
}

/// Records the status of a response, if it is known when the response begins: errors are, unless they come
/// after a part of a streamed response. A response that isn't one of gRPC has its status of HTTP.
pub(super) fn record_status<R>(span: &Span, response: &Response<R>) {
    let Some(code) = status_code(response.headers()) else {
        if !response.status().is_success() {
            span::record_status(span, response.status());
        }
        return;
    };
    span.record("rpc.response.status_code", code);
    if SERVER_ERRORS.contains(&code) {
        span::record_error(span, code);
    }
}

fn status_code(headers: &HeaderMap) -> Option<&'static str> {
    let code = span::text(headers, &GRPC_STATUS)?;
    Some(code.parse().ok().and_then(|code: usize| STATUS_CODES.get(code)).unwrap_or(&"UNKNOWN"))
}
