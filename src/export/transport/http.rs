//! OTLP over HTTP, for requests that are encoded already: with protobuf bodies, or with JSON made of them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{ExportReply, RequestPieces, SendFailure, Transport, causes, remedy, response};
use crate::export::connection::response::{
    BodyEnd, MAX_ERROR, MAX_RESPONSE, excerpt, foreign_content_type, read, retry_after,
};
use crate::otlp::Signal;

/// An HTTP client, and the URL it sends to.
#[derive(Debug)]
pub(crate) struct HttpTransport {
    signal: Signal,
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
    format: BodyFormat,
    encoding: Option<Encoding>,
}

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    #[cfg(feature = "http-proto")]
    Protobuf,
    /// For log records: spans over http/json are sent by the exporter of `opentelemetry-otlp`.
    #[cfg(feature = "http-json")]
    Json,
}

impl BodyFormat {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            #[cfg(feature = "http-proto")]
            Self::Protobuf => "application/x-protobuf",
            #[cfg(feature = "http-json")]
            Self::Json => "application/json",
        })
    }

    /// A request, encoded as protobuf, in this form.
    fn body(self, request: RequestPieces) -> Result<Bytes, String> {
        let request = Bytes::from(request.concat());
        match self {
            #[cfg(feature = "http-proto")]
            Self::Protobuf => Ok(request),
            #[cfg(feature = "http-json")]
            Self::Json => json(request),
        }
    }
}

/// An `ExportLogsServiceRequest` as JSON, by the types of `opentelemetry-proto`.
#[cfg(feature = "http-json")]
fn json(request: Bytes) -> Result<Bytes, String> {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use prost::Message;

    let request = ExportLogsServiceRequest::decode(request).map_err(|error| error.to_string())?;
    serde_json::to_vec(&request).map(Bytes::from).map_err(|error| error.to_string())
}

/// A way to compress bodies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding {
    /// As `Content-Encoding` has it.
    name: &'static str,
    compress: fn(&[u8]) -> std::io::Result<Vec<u8>>,
}

impl HttpTransport {
    pub(crate) fn new(
        signal: Signal,
        client: reqwest::Client,
        url: String,
        mut headers: HeaderMap,
        format: BodyFormat,
        encoding: Option<Encoding>,
    ) -> Self {
        headers.insert(CONTENT_TYPE, format.content_type());
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name));
        }
        Self { signal, client, url, headers, format, encoding }
    }
}

impl Transport for HttpTransport {
    fn component(&self, signal: Signal) -> &'static str {
        match (signal, self.format) {
            #[cfg(feature = "http-json")]
            (Signal::Traces, BodyFormat::Json) => "otlp_http_json_span_exporter",
            #[cfg(feature = "http-json")]
            (Signal::Logs, BodyFormat::Json) => "otlp_http_json_log_exporter",
            #[cfg(feature = "http-proto")]
            (Signal::Traces, BodyFormat::Protobuf) => "otlp_http_span_exporter",
            #[cfg(feature = "http-proto")]
            (Signal::Logs, BodyFormat::Protobuf) => "otlp_http_log_exporter",
        }
    }

    async fn send(&mut self, request: RequestPieces) -> Result<ExportReply, SendFailure> {
        let body = self.format.body(request).map_err(|error| SendFailure::Rejected {
            message: format!("the request could not be encoded: {error}"),
        })?;
        let body = match self.encoding {
            None => body,
            Some(encoding) => match (encoding.compress)(&body) {
                Ok(body) => Bytes::from(body),
                Err(error) => {
                    let message = format!("the request could not be compressed: {error}");
                    return Err(SendFailure::Rejected { message });
                }
            },
        };
        let request = self.client.post(&self.url).headers(self.headers.clone()).body(body);
        let mut answer = request.send().await.map_err(|error| connection_failure(&error))?;
        let status = answer.status();
        let wait = retry_after(answer.headers(), SystemTime::now());
        if !status.is_success() {
            let (body, _) = read(&mut answer, MAX_ERROR).await; // the status decides
            return Err(failure(self.signal, status, wait, &String::from_utf8_lossy(&body)));
        }
        match read(&mut answer, MAX_RESPONSE).await {
            (body, BodyEnd::Whole) => match foreign_content_type(answer.headers(), &body) {
                None => Ok(response::reply(&body)),
                Some(content_type) => {
                    let text = excerpt(&String::from_utf8_lossy(&body));
                    Err(SendFailure::Permanent { message: not_otlp(status, &content_type, &text) })
                }
            },
            // The status decides: a body that can't be read counts as empty.
            (_, BodyEnd::Failed(_)) => Ok(response::reply(&[])),
            (_, BodyEnd::TooLong) => {
                let message = format!("{status}: the response is longer than {MAX_RESPONSE} bytes");
                Err(SendFailure::Permanent { message })
            }
        }
    }

    /// HTTP/1.1 has one request at a time on a connection, and a request that is dropped without its
    /// answer closes it.
    fn reconnect(&mut self) {}
}

/// Says that a success is none, since it was not a collector that answered.
fn not_otlp(status: StatusCode, content_type: &str, text: &str) -> String {
    format!(
        "{status}, but the answer is no response of OTLP (its content type is {content_type}): does \
         another service, a proxy or a login page answer at this endpoint? {text}"
    )
}

/// By the specification: <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>.
fn failure(signal: Signal, status: StatusCode, wait: Option<Duration>, text: &str) -> SendFailure {
    let remedy = match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => format!(
            "; is the path right? By convention OTLP is received at `{}` of port 4318",
            signal.http_path()
        ),
        _ => String::new(),
    };
    let message = format!("{status}: {}{remedy}", excerpt(text));
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => SendFailure::TooLarge { message },
        _ if remedy::is_too_large(&message) => SendFailure::TooLarge { message },
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => SendFailure::Retryable { message, wait },
        StatusCode::BAD_REQUEST => SendFailure::Rejected { message },
        _ => SendFailure::Permanent { message },
    }
}

/// The failure of a request without a response. It is retryable, unless the request could not be
/// built.
fn connection_failure(error: &reqwest::Error) -> SendFailure {
    let mut message = format!("the collector can't be reached: {error}{}", causes(error));
    message.push_str(remedy::for_http(&message));
    if error.is_builder() {
        SendFailure::Permanent { message }
    } else {
        SendFailure::Retryable { message, wait: None }
    }
}

impl Encoding {
    #[cfg(feature = "gzip")]
    pub(crate) const GZIP: Self = Self {
        name: "gzip",
        compress: |body| {
            use std::io::Write;
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(body)?;
            encoder.finish()
        },
    };

    #[cfg(feature = "zstd")]
    pub(crate) const ZSTD: Self = Self {
        name: "zstd",
        compress: |body| zstd::encode_all(body, zstd::DEFAULT_COMPRESSION_LEVEL),
    };
}
