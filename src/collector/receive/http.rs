//! OTLP over HTTP: protobuf and JSON bodies, posted to `/v1/traces` and `/v1/logs`.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::Code;

use super::budget::{MemoryBudget, MemoryLease};
use super::decode::{Format, MAX_BODY, decode_apart};
use super::decoded::DecodedSignal;
use super::listener::Connection;
use super::refusal::{RETRY_DELAY, RefusalKind, RequestRefusal};
use super::signal::Signal;
use super::{Answer, Intake, Protocol, RequestHead, body};

/// Serves OTLP over HTTP within `budget`.
pub(crate) fn router(intake: Arc<impl Intake>, budget: MemoryBudget) -> Router {
    Router::new().fallback(serve).with_state((intake, budget))
}

async fn serve<I: Intake>(
    State((intake, budget)): State<(Arc<I>, MemoryBudget)>,
    connection: Option<Extension<ConnectInfo<Connection>>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let format = parts.headers.get(CONTENT_TYPE).and_then(format_of);
    let protocol = format.map_or(Protocol::Other, Format::protocol);
    let head = RequestHead::new(protocol, parts.uri.path(), &parts.headers);

    let Some(signal) = Signal::of_http_path(parts.uri.path()) else {
        let reason = "send spans to /v1/traces, and log records to /v1/logs";
        let refusal = RequestRefusal::new(RefusalKind::NotFound, reason);
        intake.record_refused(head, &refusal);
        return refuse(format, refusal);
    };
    if parts.method != Method::POST {
        let refusal =
            RequestRefusal::new(RefusalKind::WrongMethod, "send spans and log records with POST");
        intake.record_refused(head, &refusal);
        return refuse(format, refusal);
    }

    let decoded = message(signal, format, head.compression.clone(), body, budget.lease()).await;
    // The lease ends with the answer.
    let (decoded, _lease) = match decoded {
        Ok((message, lease)) => (Ok(message), Some(lease)),
        Err(refusal) => (Err(refusal), None),
    };
    match intake.receive(head, decoded).await {
        Err(refusal) => refuse(format, refusal),
        Ok(Answer::Accept) => accept(signal, format, ExportTraceServiceResponse::default()),
        Ok(Answer::PartialSuccess { rejected, message }) => {
            let partial_success = Some(ExportTracePartialSuccess {
                rejected_spans: rejected,
                error_message: message,
            });
            accept(signal, format, ExportTraceServiceResponse { partial_success })
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

/// The format of a body, by its content type.
fn format_of(content_type: &HeaderValue) -> Option<Format> {
    let text = content_type.to_str().ok()?;
    let essence = text.split(';').next()?.trim();
    if essence.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Format::Protobuf)
    } else if essence.eq_ignore_ascii_case("application/json") {
        Some(Format::Json)
    } else {
        None
    }
}

/// Reads and decodes the body of a request.
async fn message(
    signal: Signal,
    format: Option<Format>,
    compression: Option<String>,
    body: Body,
    lease: MemoryLease,
) -> Result<(DecodedSignal, MemoryLease), RequestRefusal> {
    let body = body::read(body, MAX_BODY, &lease).await?;
    let Some(format) = format else {
        let reason = "the content type is neither application/x-protobuf nor application/json";
        return Err(RequestRefusal::new(RefusalKind::Unsupported, reason));
    };
    decode_apart(signal, format, compression, body, lease).await
}

/// The response of a signal. In protobuf those of both are the same bytes.
fn accept(
    signal: Signal,
    format: Option<Format>,
    response: ExportTraceServiceResponse,
) -> Response {
    let json = match &response.partial_success {
        None => serde_json::json!({}),
        Some(partial) => serde_json::json!({ "partialSuccess": {
            signal.rejected_in_json(): partial.rejected_spans.to_string(), // proto3's JSON has an int64 as a string
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
