//! The limits of what a collector answers, which is foreign bytes.
//!
//! The [OTLP specification](https://opentelemetry.io/docs/specs/otlp/) asks clients for such limits, and not
//! to retry a request whose response is beyond them.

/// The longest response to a request that was accepted, after decompression.
pub(crate) const MAX_RESPONSE: usize = 4 * 1024 * 1024;
/// How much of the response to a request that failed is read; for gRPC the size of headers and trailers.
pub(crate) const MAX_ERROR: usize = 64 * 1024;
/// How many characters of a collector's message are kept.
#[cfg(feature = "_otlp-path")]
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

/// The beginning of a collector's message, on one line.
#[cfg(feature = "_otlp-path")]
pub(crate) fn excerpt(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
}
