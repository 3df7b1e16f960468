//! The limits of what a collector answers, which is foreign bytes.
//!
//! The [OTLP specification](https://opentelemetry.io/docs/specs/otlp/) asks clients for such limits, and not
//! to retry a request whose response is beyond them.

#[cfg(feature = "_http-client")]
use std::time::{Duration, SystemTime};

#[cfg(feature = "_http-client")]
use http::HeaderMap;
#[cfg(feature = "_http-client")]
use http::header::{CONTENT_TYPE, RETRY_AFTER};

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

/// The value of `Retry-After`, which is seconds or a date ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)).
/// A date that has passed is no delay.
#[cfg(feature = "_http-client")]
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(all(test, feature = "_http-client"))]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_read_in_both_its_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let wait = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
    }
}
