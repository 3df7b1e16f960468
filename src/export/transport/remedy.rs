//! What the text of an error says beside its status: the remedy for an endpoint that speaks another protocol
//! (libraries report what they could not parse), and that a request is too large.

/// The remedy for an error of gRPC, to be appended to its text; empty if there is none to name.
#[cfg(feature = "grpc")]
pub(super) fn for_grpc(error: &str) -> &'static str {
    const NOT_HTTP2: &[&str] = &["frame with invalid size", "invalid frame", "PROTOCOL_ERROR"];
    const NOT_GRPC: &[&str] = &["invalid compression flag", "grpc-status header missing"];
    if has_any(error, NOT_HTTP2) {
        "; is this a port for gRPC? By convention 4317 is, and 4318 is for HTTP; or it may want `https://`"
    } else if has_any(error, NOT_GRPC) {
        "; is this a port for gRPC? By convention 4317 is, and 4318 is for HTTP"
    } else {
        for_tls(error)
    }
}

/// As [`for_grpc`], for an error of HTTP.
#[cfg(any(feature = "http-proto", feature = "http-json"))]
pub(super) fn for_http(error: &str) -> &'static str {
    const NOT_HTTP1: &[&str] =
        &["invalid HTTP version", "invalid HTTP status", "invalid HTTP header"];
    if has_any(error, NOT_HTTP1) {
        "; is this a port for HTTP? By convention 4318 is, and 4317 is for gRPC; or it may want `https://`"
    } else {
        for_tls(error)
    }
}

/// Whether an error says that the request is too large. Receivers, and proxies before them, use many statuses
/// for that, among them such as are retried otherwise.
pub(super) fn is_too_large(error: &str) -> bool {
    const TEXTS: &[&str] = &[
        "larger than max",      // grpc-go, grpc-js
        "length too large",     // tonic
        "exceeds maximum size", // grpc-java
        "message exceeds",      // grpc-dotnet
        "body too large",       // the Collector, by HTTP
        "entity too large",     // nginx and others
        "payload too large",    // Envoy
        "http status code 413", // such an answer to gRPC
        "maximum message size",
    ];
    has_any(&error.to_ascii_lowercase(), TEXTS)
}

/// The remedy for a port without TLS, or one whose certificate is not trusted.
fn for_tls(error: &str) -> &'static str {
    if has_any(error, &["InvalidContentType"]) {
        "; does this port have TLS? Without it the endpoint begins with `http://`"
    } else {
        ""
    }
}

fn has_any(error: &str, texts: &[&str]) -> bool {
    texts.iter().any(|text| error.contains(text))
}
