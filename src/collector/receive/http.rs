//! OTLP over HTTP: protobuf and JSON bodies, posted to `/v1/traces`.

use std::future::{pending, poll_fn};
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::Code;

use super::listener::Connection;
use super::refusal::{RETRY_DELAY, RefusalKind, RequestRefusal};
use super::{Answer, Intake, Protocol, RequestHead, json};

/// The longest body, as sent and after decompression, as the official Collector has it by default.
const MAX_BODY: usize = 20 << 20;
/// The largest window of a zstd frame, 32 MiB: a frame may ask for gigabytes, spans don't need
/// them.
const MAX_WINDOW_LOG: u32 = 25;
const TRACES: &str = "/v1/traces";

pub(crate) fn router(intake: Arc<impl Intake>) -> Router {
    Router::new().fallback(serve).with_state(intake)
}

async fn serve<I: Intake>(
    State(intake): State<Arc<I>>,
    connection: Option<Extension<ConnectInfo<Connection>>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let format = parts.headers.get(CONTENT_TYPE).and_then(Format::of);
    let protocol = format.map_or(Protocol::Other, Format::protocol);
    let head = RequestHead::new(protocol, parts.uri.path(), &parts.headers);

    if parts.uri.path() != TRACES {
        let refusal = RequestRefusal::new(RefusalKind::NotFound, format!("send spans to {TRACES}"));
        intake.record_refused(head, &refusal);
        return refuse(format, refusal);
    }
    if parts.method != Method::POST {
        let refusal = RequestRefusal::new(RefusalKind::WrongMethod, "send spans with POST");
        intake.record_refused(head, &refusal);
        return refuse(format, refusal);
    }

    let decoded = match read(body).await {
        Ok(bytes) => decode(format, head.compression.as_deref(), &bytes),
        Err(refusal) => Err(refusal),
    };
    match intake.receive(head, decoded).await {
        Err(refusal) => refuse(format, refusal),
        Ok(Answer::Accept) => accept(format, ExportTraceServiceResponse::default()),
        Ok(Answer::PartialSuccess { rejected, message }) => {
            let partial_success = Some(ExportTracePartialSuccess {
                rejected_spans: rejected,
                error_message: message,
            });
            accept(format, ExportTraceServiceResponse { partial_success })
        }
        Ok(Answer::Unavailable { retry_after }) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let reply = fail(format, status, Code::Unavailable, "unavailable, as scripted");
            with_retry_after(reply, retry_after)
        }
        Ok(Answer::ResourceExhausted { retry_after }) => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let reply = fail(format, status, Code::ResourceExhausted, "exhausted, as scripted");
            with_retry_after(reply, retry_after)
        }
        Ok(Answer::BadRequest { message }) => {
            fail(format, StatusCode::BAD_REQUEST, Code::InvalidArgument, &message)
        }
        Ok(Answer::Silence) => pending().await,
        Ok(Answer::Cut) => {
            if let Some(Extension(ConnectInfo(connection))) = connection {
                connection.cut();
            }
            StatusCode::INTERNAL_SERVER_ERROR.into_response() // not sent: the connection is closed
        }
    }
}

/// The encoding of a request body. The response has the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    Protobuf,
    Json,
}

impl Format {
    fn of(content_type: &HeaderValue) -> Option<Self> {
        let text = content_type.to_str().ok()?;
        let essence = text.split(';').next()?.trim();
        if essence.eq_ignore_ascii_case("application/x-protobuf") {
            Some(Self::Protobuf)
        } else if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::Protobuf => Protocol::HttpProtobuf,
            Self::Json => Protocol::HttpJson,
        }
    }
}

/// Reads a body to its end. The rest of a body that is too long is read and discarded: a sender
/// that is still writing would not see the response.
async fn read(mut body: Body) -> Result<Vec<u8>, RequestRefusal> {
    let mut bytes = Vec::new();
    let mut too_large = false;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame =
            frame.map_err(|error| RequestRefusal::malformed(format!("the body: {error}")))?;
        if let Some(data) = frame.data_ref() {
            too_large |= bytes.len() + data.len() > MAX_BODY;
            if !too_large {
                bytes.extend_from_slice(data);
            }
        }
    }
    if too_large { Err(oversize()) } else { Ok(bytes) }
}

/// Decodes the message in a body. Foreign bytes: the body may contain anything.
pub(crate) fn decode(
    format: Option<Format>,
    compression: Option<&str>,
    body: &[u8],
) -> Result<ExportTraceServiceRequest, RequestRefusal> {
    let Some(format) = format else {
        let reason = "the content type is neither application/x-protobuf nor application/json";
        return Err(RequestRefusal::new(RefusalKind::Unsupported, reason));
    };
    let decompressed;
    let body = match compression {
        None => body,
        Some(compression) => {
            decompressed = decompress(compression, body)?;
            &decompressed
        }
    };
    match format {
        Format::Protobuf => ExportTraceServiceRequest::decode(body)
            .map_err(|error| RequestRefusal::malformed(error.to_string())),
        Format::Json => {
            json::request(body).map_err(|error| RequestRefusal::malformed(error.to_string()))
        }
    }
}

fn decompress(compression: &str, body: &[u8]) -> Result<Vec<u8>, RequestRefusal> {
    let mut bytes = Vec::new();
    // One byte over the limit distinguishes a body that is too long from one that just fits.
    let most = MAX_BODY as u64 + 1;
    let read = match compression {
        "gzip" => flate2::read::MultiGzDecoder::new(body).take(most).read_to_end(&mut bytes),
        "zstd" => zstd_decoder(body).and_then(|zstd| zstd.take(most).read_to_end(&mut bytes)),
        other => {
            let reason = format!("the content encoding `{other}` is neither gzip nor zstd");
            return Err(RequestRefusal::new(RefusalKind::Unsupported, reason));
        }
    };
    match read {
        Ok(length) if length > MAX_BODY => Err(oversize()),
        Ok(_) => Ok(bytes),
        Err(error) => Err(RequestRefusal::malformed(format!("{compression}: {error}"))),
    }
}

fn zstd_decoder(body: &[u8]) -> io::Result<impl Read> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}

fn oversize() -> RequestRefusal {
    RequestRefusal::new(RefusalKind::TooLarge, format!("the body is longer than {MAX_BODY} bytes"))
}

fn accept(format: Option<Format>, response: ExportTraceServiceResponse) -> Response {
    let json = match &response.partial_success {
        None => serde_json::json!({}),
        Some(partial) => serde_json::json!({ "partialSuccess": {
            "rejectedSpans": partial.rejected_spans.to_string(), // proto3's JSON has an int64 as a string
            "errorMessage": partial.error_message,
        }}),
    };
    reply(StatusCode::OK, format, response.encode_to_vec(), json)
}

fn refuse(format: Option<Format>, refusal: RequestRefusal) -> Response {
    let (status, code) = match refusal.kind {
        RefusalKind::Malformed => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
        RefusalKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
        RefusalKind::Unsupported => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented),
        RefusalKind::NotFound => (StatusCode::NOT_FOUND, Code::NotFound),
        RefusalKind::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented),
        RefusalKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
    };
    let mut reply = fail(format, status, code, &refusal.reason);
    if refusal.kind == RefusalKind::WrongMethod {
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if refusal.kind == RefusalKind::Unavailable {
        return with_retry_after(reply, Some(RETRY_DELAY));
    }
    reply
}

/// The body of a failure is a `google.rpc.Status`.
fn fail(format: Option<Format>, status: StatusCode, code: Code, message: &str) -> Response {
    let code = i32::from(code);
    let json = serde_json::json!({ "code": code, "message": message });
    let wire = tonic_types::Status { code, message: message.to_owned(), details: vec![] };
    reply(status, format, wire.encode_to_vec(), json)
}

fn with_retry_after(mut reply: Response, retry_after: Option<Duration>) -> Response {
    if let Some(delay) = retry_after {
        let seconds = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0));
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// A response in the format of the request, or in JSON where that is neither protobuf nor JSON.
fn reply(
    status: StatusCode,
    format: Option<Format>,
    wire: Vec<u8>,
    json: serde_json::Value,
) -> Response {
    let (content_type, body) = match format {
        Some(Format::Protobuf) => ("application/x-protobuf", wire),
        _ => ("application/json", json.to_string().into_bytes()),
    };
    (status, [(CONTENT_TYPE, content_type)], body).into_response()
}
