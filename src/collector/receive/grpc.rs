//! OTLP over gRPC. tonic does framing, compression and decoding; the answer comes from the
//! [`Intake`].

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request as HttpRequest, State};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::{Extension, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::{Code, Request, Response, Status, async_trait};
use tonic_types::{ErrorDetails, StatusExt};

use super::listener::Connection;
use super::refusal::{RETRY_DELAY, RefusalKind, RequestRefusal};
use super::{Answer, Intake, Protocol, RequestHead};

/// The longest message after decompression, as the official Collector has it by default.
const MAX_MESSAGE: usize = 4 << 20;
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

pub(crate) fn router(intake: Arc<impl Intake>) -> Router {
    Router::new().fallback(serve).with_state(intake)
}

async fn serve<I: Intake>(
    State(intake): State<Arc<I>>,
    connection: Option<Extension<ConnectInfo<Connection>>>,
    mut request: HttpRequest,
) -> HttpResponse {
    let path = request.uri().path();
    let content_type = request.headers().get(CONTENT_TYPE);
    if !content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        let refusal = RequestRefusal::new(RefusalKind::Unsupported, "this port accepts only gRPC");
        intake.record_refused(RequestHead::new(Protocol::Other, path, request.headers()), &refusal);
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, refusal.reason).into_response();
    }
    let head = RequestHead::new(Protocol::Grpc, path, request.headers());
    if path != EXPORT {
        let refusal =
            RequestRefusal::new(RefusalKind::NotFound, format!("there is no method {path}"));
        intake.record_refused(head, &refusal);
        return status(refusal).into_http();
    }

    let connection = connection.map(|Extension(ConnectInfo(connection))| connection);
    let call = Arc::new(Call { intake, connection, head: Mutex::new(Some(head)) });
    let mut service = TraceServiceServer::from_arc(Arc::clone(&call))
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(MAX_MESSAGE);
    // Responses have the compression of the request, whether or not the sender declares that it
    // accepts it, as those of the official Collector.
    let encoding = request.headers().get("grpc-encoding").cloned();
    let identity = HeaderValue::from_static("identity");
    request.headers_mut().insert("grpc-accept-encoding", encoding.unwrap_or(identity));
    let Ok(response) = service.call(request).await; // its error type is `Infallible`
    if call.head.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        return response.map(axum::body::Body::new).into_response();
    }
    // tonic couldn't decode the message and has made a response. The intake records the request,
    // too.
    let refusal = Status::from_header_map(response.headers())
        .map_or_else(|| RequestRefusal::malformed("no message"), |status| refusal(&status));
    match call.answer(Err(refusal)).await {
        Ok(_) => response.map(axum::body::Body::new).into_response(),
        Err(status) => status.into_http(),
    }
}

/// One request on its way to the intake.
struct Call<I> {
    intake: Arc<I>,
    connection: Option<Connection>,
    /// Taken when the request is passed to the intake.
    head: Mutex<Option<RequestHead>>,
}

#[async_trait]
impl<I: Intake> TraceService for Call<I> {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.answer(Ok(request.into_inner())).await.map(Response::new)
    }
}

impl<I: Intake> Call<I> {
    async fn answer(
        &self,
        decoded: Result<ExportTraceServiceRequest, RequestRefusal>,
    ) -> Result<ExportTraceServiceResponse, Status> {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(head) = head else {
            return Err(Status::internal("a request must have exactly one message"));
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
