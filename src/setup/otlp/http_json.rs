//! http/json: the exporter of `opentelemetry-otlp`, configured so that settings mean the same as for the
//! other two protocols.
//!
//! That exporter reads the environment too. Headers from there override the headers that it is given, and a
//! compression from there applies if none is given, so code could not win over a variable. Therefore its
//! HTTP client is replaced by one that sets the configured headers and encoding, which have been resolved
//! from code and environment already.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use opentelemetry_http::{Bytes, HttpClient, HttpError, ResponseBodyTooLarge};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};

use crate::export::connection::response::{
    BodyEnd, MAX_ERROR, MAX_RESPONSE, foreign_content_type, read,
};
use crate::setup::protocol::Compression;

/// Makes the exporter, which sends by `client`.
pub(super) fn exporter(
    client: Client,
    endpoint: &str,
    timeout: Duration,
    compression: Compression,
) -> Result<SpanExporter, ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpJson)
        .with_timeout(timeout)
        .with_retry_policy(RetryPolicy::recommended())
        .with_http_client(client);
    match compression {
        Compression::None => exporter,
        #[cfg(feature = "gzip")]
        Compression::Gzip => exporter.with_compression(opentelemetry_otlp::Compression::Gzip),
        #[cfg(feature = "zstd")]
        Compression::Zstd => exporter.with_compression(opentelemetry_otlp::Compression::Zstd),
    }
    .build()
}

/// Sends the requests of the exporter with the configured headers and encoding.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) inner: reqwest::Client,
    pub(super) headers: HeaderMap,
    /// Put before the exporter's `user-agent`, unless the configured headers have one.
    pub(super) product: &'static str,
    /// Whether a compression is configured.
    pub(super) is_compressed: bool,
    /// Whether it was logged that the answers are not a collector's.
    pub(super) has_logged: AtomicBool,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut headers = self.headers.clone();
        if !headers.contains_key(USER_AGENT) {
            let of_exporter =
                request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
            let agent = format!("{} {}", self.product, of_exporter.unwrap_or_default());
            headers.extend(HeaderValue::from_str(agent.trim()).map(|agent| (USER_AGENT, agent)));
        }
        // Not taken from the exporter's headers: variables may have replaced those that describe the body.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(encoding) = BodyEncoding::of(request.body()) {
            match encoding.decoded(request.body()).filter(|_| !self.is_compressed) {
                Some(body) => *request.body_mut() = body,
                None => {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
                }
            }
        }
        *request.headers_mut() = headers;
        let mut answer = self.inner.execute(request.try_into()?).await?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        let is_success = answer.status().is_success();
        let limit = if is_success { MAX_RESPONSE } else { MAX_ERROR };
        match read(&mut answer, limit).await {
            // The exporter doesn't retry it.
            (_, BodyEnd::TooLong) if is_success => return Err(ResponseBodyTooLarge::new().into()),
            // As over http/protobuf the status decides: a body that can't be read counts as empty.
            (_, BodyEnd::Failed(_)) => {}
            (body, _) => {
                if is_success
                    && let Some(content_type) = foreign_content_type(response.headers(), &body)
                {
                    self.log_foreign(&content_type);
                    // The exporter would take it for a success, and retries no request with this status.
                    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                }
                *response.body_mut() = body.into();
            }
        }
        Ok(response)
    }
}

impl Client {
    /// Logs once that it is not a collector that answers.
    fn log_foreign(&self, content_type: &str) {
        if !self.has_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "tracing_feedback",
                "the answer to an export is no response of OTLP (its content type is {content_type}): does \
                 another service, a proxy or a login page answer at this endpoint?"
            );
        }
    }
}

/// The encoding of a body, by the magic number that gzip and zstd begin with; JSON begins with `{`.
#[derive(Clone, Copy)]
enum BodyEncoding {
    Gzip,
    Zstd,
}

impl BodyEncoding {
    fn of(body: &[u8]) -> Option<Self> {
        match body {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The body without its encoding. `None` where this build can't decode it: another crate of the build
    /// may enable a compression of the exporter that this one has no feature for.
    #[cfg_attr(not(any(feature = "gzip", feature = "zstd")), expect(unused_variables))]
    fn decoded(self, body: &[u8]) -> Option<Bytes> {
        match self {
            #[cfg(feature = "gzip")]
            Self::Gzip => {
                let mut decoded = Vec::new();
                std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(body), &mut decoded)
                    .ok()?;
                Some(decoded.into())
            }
            #[cfg(feature = "zstd")]
            Self::Zstd => zstd::decode_all(body).ok().map(Bytes::from),
            #[allow(unreachable_patterns, reason = "reachable unless both are on")]
            _ => None,
        }
    }
}
