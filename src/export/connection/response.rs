//! The limits of what a collector answers, which is foreign bytes.
//!
//! The [OTLP specification](https://opentelemetry.io/docs/specs/otlp/) asks clients for such limits, and not
//! to retry a request whose response is beyond them.

#[cfg(feature = "_http-client")]
use http::HeaderMap;
#[cfg(feature = "_http-client")]
use http::header::CONTENT_TYPE;

#[cfg(any(feature = "_otlp-path", feature = "_http-client"))]
use crate::printable::printable;

/// The longest response to a request that was accepted, after decompression.
pub(crate) const MAX_RESPONSE: usize = 4 * 1024 * 1024;
/// How much of the response to a request that failed is read; for gRPC the size of headers and trailers.
pub(crate) const MAX_ERROR: usize = 64 * 1024;
/// How many characters of a collector's message are kept.
#[cfg(any(feature = "_otlp-path", feature = "_http-client"))]
const MAX_MESSAGE: usize = 500;

/// What a body was read to.
#[cfg(feature = "_http-client")]
pub(crate) enum BodyEnd {
    /// Its end.
    Whole,
    /// The limit; it is longer.
    TooLong,
    /// A failure of the connection.
    Failed(reqwest::Error),
}

/// Reads a body up to `limit` bytes.
#[cfg(feature = "_http-client")]
pub(crate) async fn read(response: &mut reqwest::Response, limit: usize) -> (Vec<u8>, BodyEnd) {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let left = limit - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(left)]);
                if chunk.len() > left {
                    return (body, BodyEnd::TooLong);
                }
            }
            Ok(None) => return (body, BodyEnd::Whole),
            Err(error) => return (body, BodyEnd::Failed(error)),
        }
    }
}

/// The content type of a body that is no response of OTLP, which is protobuf or JSON: an HTML page of a proxy
/// or of another service, for example. An empty body is a response.
#[cfg(feature = "_http-client")]
pub(crate) fn foreign_content_type(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        // Markup, rather than a collector that doesn't name its format.
        return body.trim_ascii_start().starts_with(b"<").then(|| "unknown".to_owned());
    };
    let content_type = String::from_utf8_lossy(content_type.as_bytes());
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_otlp = is_json(&name)
        || matches!(name.as_str(), "application/x-protobuf" | "application/protobuf");
    (!is_otlp).then(|| excerpt(&name))
}

/// Whether the content type is JSON.
#[cfg(feature = "_http-client")]
fn is_json(name: &str) -> bool {
    name == "application/json" || name.ends_with("+json")
}

/// The beginning of a collector's message, as it may stand in a log line.
#[cfg(any(feature = "_otlp-path", feature = "_http-client"))]
pub(crate) fn excerpt(message: &str) -> String {
    let end = message.char_indices().nth(MAX_MESSAGE).map_or(message.len(), |(at, _)| at);
    printable(message[..end].trim_end())
}
