//! OTLP over gRPC. tonic does framing and compression; the answer comes from the [`Intake`].

use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request as HttpRequest, State};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::{Extension, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use prost::bytes::Buf;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::budget::{MemoryBudget, MemoryLease};
use super::decode::{Format, decode_apart};
use super::decoded::DecodedSignal;
use super::listener::Connection;
use super::refusal::{RETRY_DELAY, RefusalKind, RequestRefusal};
use super::signal::Signal;
use super::{Answer, Intake, Protocol, RequestHead, body};

/// The longest message after decompression, as the official Collector has it by default.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;
/// What stands before a message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;
const ONE_MESSAGE: &str = "a request must have exactly one message";

/// Serves OTLP over gRPC within `budget`. `max_message` is the longest message, as sent and after
/// decompression, in bytes.
pub(crate) fn router(intake: Arc<impl Intake>, budget: MemoryBudget, max_message: usize) -> Router {
    Router::new().fallback(serve).with_state((intake, budget, max_message))
}

async fn serve<I: Intake>(
    State((intake, budget, max_message)): State<(Arc<I>, MemoryBudget, usize)>,
    connection: Option<Extension<ConnectInfo<Connection>>>,
    request: HttpRequest,
) -> HttpResponse {
    let path = request.uri().path();
    let content_type = request.headers().get(CONTENT_TYPE);
    if !content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        let refusal = RequestRefusal::new(RefusalKind::Unsupported, "this port accepts only gRPC");
        intake.record_refused(RequestHead::new(Protocol::Other, path, request.headers()), &refusal);
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, refusal.reason).into_response();
    }
    let head = RequestHead::new(Protocol::Grpc, path, request.headers());
    let Some(signal) = Signal::of_grpc_method(path) else {
        let refusal =
            RequestRefusal::new(RefusalKind::NotFound, format!("there is no method {path}"));
        intake.record_refused(head, &refusal);
        return status(refusal).into_http();
    };

    let connection = connection.map(|Extension(ConnectInfo(connection))| connection);
    let call = Arc::new(Call { intake, connection, head: Mutex::new(Some(head)) });
    let lease = budget.lease();
    let (mut parts, body) = request.into_parts();
    // Read within the budget before tonic sees it: tonic allocates as much as a frame announces.
    let body = match body::read(body, FRAME_HEAD + max_message, &lease).await {
        Ok(body) => body,
        Err(refusal) => return call.refuse(refusal).await,
    };
    let is_compressed = body.first().is_some_and(|flag| *flag != 0);
    let reserved = if is_compressed { max_message } else { body.len() };
    if let Err(refusal) = lease.take(reserved) {
        return call.refuse(refusal).await;
    }
    // Responses have the compression of the request, whether or not the sender declares that it
    // accepts it, as those of the official Collector.
    let encoding = parts.headers.get("grpc-encoding").cloned();
    let identity = HeaderValue::from_static("identity");
    parts.headers.insert("grpc-accept-encoding", encoding.unwrap_or(identity));
    let mut server = Grpc::new(MessageCodec)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(max_message);
    let export = Export { call: Arc::clone(&call), signal, lease: Some(lease), reserved };
    let response = server.unary(export, HttpRequest::from_parts(parts, Body::from(body))).await;
    if call.head.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        return response.map(Body::new);
    }
    // tonic couldn't read the message and has made a response. The intake records the request,
    // too.
    let refusal = Status::from_header_map(response.headers())
        .map_or_else(|| RequestRefusal::malformed("no message"), |status| refusal(&status));
    call.refuse(refusal).await
}

/// The method `Export` of a signal's service, for one request.
struct Export<I> {
    call: Arc<Call<I>>,
    signal: Signal,
    /// Taken by the request's only message.
    lease: Option<MemoryLease>,
    /// What the lease has taken for the message, before its length was known.
    reserved: usize,
}

impl<I: Intake> UnaryService<Vec<u8>> for Export<I> {
    // In bytes the responses of both signals are the same.
    type Response = ExportTraceServiceResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::Response>, Status>> + Send>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let (call, lease) = (Arc::clone(&self.call), self.lease.take());
        let (signal, reserved) = (self.signal, self.reserved);
        Box::pin(async move {
            let Some(lease) = lease else { return Err(Status::internal(ONE_MESSAGE)) };
            let message = request.into_inner();
            lease.give_back(reserved.saturating_sub(message.len()));
            // The lease ends with the answer.
            let decoded = decode_apart(signal, Format::Protobuf, None, message, lease).await;
            let (decoded, _lease) = match decoded {
                Ok((message, lease)) => (Ok(message), Some(lease)),
                Err(refusal) => (Err(refusal), None),
            };
            call.answer(decoded).await.map(Response::new)
        })
    }
}

/// Messages as bytes one way, so that they are measured before they are decoded, and encoded by
/// `prost` the other.
struct MessageCodec;

impl Codec for MessageCodec {
    type Encode = ExportTraceServiceResponse;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for MessageCodec {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn encode(&mut self, message: Self::Item, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for MessageCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// One request on its way to the intake.
struct Call<I> {
    intake: Arc<I>,
    connection: Option<Connection>,
    /// Taken when the request is passed to the intake.
    head: Mutex<Option<RequestHead>>,
}

impl<I: Intake> Call<I> {
    /// Answers a request whose message could not be read.
    async fn refuse(&self, refusal: RequestRefusal) -> HttpResponse {
        match self.answer(Err(refusal.clone())).await {
            Ok(_) => status(refusal).into_http(),
            Err(status) => status.into_http(),
        }
    }

    async fn answer(
        &self,
        decoded: Result<DecodedSignal, RequestRefusal>,
    ) -> Result<ExportTraceServiceResponse, Status> {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(head) = head else {
            return Err(Status::internal(ONE_MESSAGE));
        };
        match self.intake.receive(head, decoded).await.map_err(status)? {
            // As the official Collector does: the field is present and rejects nothing.
            Answer::Accept => Ok(ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess::default()),
            }),
            Answer::PartialSuccess { rejected, message } => Ok(ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans: rejected,
                    error_message: message,
                }),
            }),
            Answer::Unavailable { retry_after } => {
                Err(with_retry_info(Code::Unavailable, "unavailable, as scripted", retry_after))
            }
            Answer::ResourceExhausted { retry_after } => {
                Err(with_retry_info(Code::ResourceExhausted, "exhausted, as scripted", retry_after))
            }
            Answer::BadRequest { message } => Err(Status::invalid_argument(message)),
            Answer::Silence => pending().await,
            Answer::Cut => {
                if let Some(connection) = &self.connection {
                    connection.cut();
                }
                Err(Status::aborted("cut, as scripted")) // not sent: the connection is closed
            }
        }
    }
}

fn with_retry_info(code: Code, message: &str, retry_after: Option<Duration>) -> Status {
    match retry_after {
        Some(delay) => {
            let details = ErrorDetails::with_retry_info(Some(delay));
            Status::with_error_details(code, message, details)
        }
        None => Status::new(code, message),
    }
}

fn refusal(status: &Status) -> RequestRefusal {
    let kind = match status.code() {
        // tonic's codes for a message that is too long as sent, and for one that is too long after
        // decompression.
        Code::OutOfRange | Code::ResourceExhausted => RefusalKind::TooLarge,
        Code::Unimplemented => RefusalKind::Unsupported,
        _ => RefusalKind::Malformed,
    };
    RequestRefusal::new(kind, status.message())
}

fn status(refusal: RequestRefusal) -> Status {
    if refusal.kind == RefusalKind::Unavailable {
        return with_retry_info(Code::Unavailable, &refusal.reason, Some(RETRY_DELAY));
    }
    let code = match refusal.kind {
        RefusalKind::Malformed => Code::InvalidArgument,
        RefusalKind::TooLarge => Code::ResourceExhausted,
        RefusalKind::Unsupported | RefusalKind::NotFound | RefusalKind::WrongMethod => {
            Code::Unimplemented
        }
        RefusalKind::Unavailable => Code::Unavailable,
    };
    Status::new(code, refusal.reason)
}
