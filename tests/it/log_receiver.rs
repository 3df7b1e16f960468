//! A receiver of OTLP log records, by all three protocols, made of the types of `opentelemetry-proto`. It takes
//! spans too, and forgets them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use tokio::net::TcpListener;
use tracing_feedback::Protocol;

/// What the receiver answers to a request with log records, instead of taking them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogAnswer {
    Unavailable,
    TooLarge,
    BadRequest,
    /// Takes all but so many.
    Partial(i64),
    NotFound,
}

/// A log record that arrived.
#[derive(Clone, Debug)]
pub(crate) struct ArrivedLog {
    pub(crate) record: LogRecord,
    pub(crate) attributes: BTreeMap<String, Value>,
    pub(crate) service: String,
    pub(crate) scope: String,
    /// The headers or the metadata of its request.
    pub(crate) headers: HeaderMap,
}

impl ArrivedLog {
    /// Name, score, label and explanation, as one line.
    pub(crate) fn line(&self) -> String {
        let mut line = self.text("gen_ai.evaluation.name");
        for (mark, key) in [
            (" = ", "gen_ai.evaluation.score.value"),
            (" is ", "gen_ai.evaluation.score.label"),
            (" because ", "gen_ai.evaluation.explanation"),
        ] {
            if self.attributes.contains_key(key) {
                line.push_str(&format!("{mark}{}", self.text(key)));
            }
        }
        if self.attributes.get("tracing_feedback.retracted") == Some(&Value::BoolValue(true)) {
            line.push_str(" retracted");
        }
        line
    }

    /// The text of an attribute; empty if there is none.
    pub(crate) fn text(&self, key: &str) -> String {
        match self.attributes.get(key) {
            None => String::new(),
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::DoubleValue(number)) => format!("{number:?}"),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::BoolValue(value)) => value.to_string(),
            Some(other) => format!("{other:?}"),
        }
    }
}

#[derive(Default)]
struct Received {
    logs: Vec<ArrivedLog>,
    /// The number of records in each request, those refused among them.
    requests: Vec<usize>,
    script: VecDeque<LogAnswer>,
    /// The answer to every request without one in the script.
    always: Option<LogAnswer>,
    paths: Vec<String>,
}

#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<Received>, Condvar)>);

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Received> {
        self.0.0.lock().unwrap()
    }

    /// Takes a request, and says what to answer.
    fn take(
        &self,
        request: ExportLogsServiceRequest,
        headers: &HeaderMap,
    ) -> Result<ExportLogsServiceResponse, LogAnswer> {
        let mut received = self.lock();
        let mut logs = Vec::new();
        for resource in request.resource_logs {
            let of_resource = resource.resource.unwrap_or_default().attributes;
            let service = of_resource.iter().find(|own| own.key == "service.name");
            let service = service.and_then(|own| own.value.clone()).and_then(text);
            for scope in resource.scope_logs {
                let name = scope.scope.unwrap_or_default().name;
                for record in scope.log_records {
                    let mut attributes = BTreeMap::new();
                    for KeyValue { key, value, .. } in &record.attributes {
                        let value = value.clone().and_then(|value| value.value).unwrap();
                        let before = attributes.insert(key.clone(), value);
                        assert_eq!(before, None, "{key} stands twice");
                    }
                    logs.push(ArrivedLog {
                        record,
                        attributes,
                        service: service.clone().unwrap_or_default(),
                        scope: name.clone(),
                        headers: headers.clone(),
                    });
                }
            }
        }
        received.requests.push(logs.len());
        let answer = received.script.pop_front().or(received.always);
        let partial = match answer {
            Some(LogAnswer::Partial(rejected)) => {
                logs.drain(..usize::try_from(rejected).unwrap().min(logs.len()));
                let error_message = "quota".to_owned();
                Some(ExportLogsPartialSuccess { rejected_log_records: rejected, error_message })
            }
            Some(answer) => {
                self.0.1.notify_all();
                return Err(answer);
            }
            None => None,
        };
        received.logs.extend(logs);
        self.0.1.notify_all();
        Ok(ExportLogsServiceResponse { partial_success: partial })
    }
}

fn text(value: AnyValue) -> Option<String> {
    match value.value? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[tonic::async_trait]
impl LogsService for Shared {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        let (metadata, _, request) = request.into_parts();
        self.lock().paths.push("grpc".to_owned());
        let taken = self.take(request, &metadata.into_headers());
        taken.map(tonic::Response::new).map_err(|answer| match answer {
            LogAnswer::Unavailable => tonic::Status::unavailable("later"),
            LogAnswer::TooLarge => tonic::Status::resource_exhausted("too large"),
            LogAnswer::NotFound => tonic::Status::unimplemented("no such service"),
            _ => tonic::Status::invalid_argument("no such tenant"),
        })
    }
}

#[tonic::async_trait]
impl TraceService for Shared {
    async fn export(
        &self,
        _: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn export_by_http(
    State(shared): State<Shared>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared.lock().paths.push(uri.path().to_owned());
    let encoding = headers.get("content-encoding").map(|encoding| encoding.to_str().unwrap());
    let body = match encoding {
        None => body.to_vec(),
        Some("gzip") => {
            let mut decoded = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&body[..]), &mut decoded)
                .unwrap();
            decoded
        }
        Some(other) => panic!("{other}"),
    };
    let is_json = headers["content-type"] == "application/json";
    let request: ExportLogsServiceRequest = match is_json {
        true => serde_json::from_slice(&body).unwrap(),
        false => ExportLogsServiceRequest::decode(&body[..]).unwrap(),
    };
    match shared.take(request, &headers) {
        Ok(response) if is_json => {
            let headers = [("content-type", "application/json")];
            (headers, serde_json::to_vec(&response).unwrap()).into_response()
        }
        Ok(response) => {
            ([("content-type", "application/x-protobuf")], response.encode_to_vec()).into_response()
        }
        Err(answer) => match answer {
            LogAnswer::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            LogAnswer::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            LogAnswer::NotFound => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        }
        .into_response(),
    }
}

/// A receiver on two ports of its own. It ends with the value.
pub(crate) struct LogReceiver {
    shared: Shared,
    grpc: String,
    http: String,
    runtime: Option<tokio::runtime::Runtime>,
}

impl LogReceiver {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shared = Shared::default();
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (grpc, http) = (bind(), bind());
        let endpoint =
            |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let endpoints = (endpoint(&grpc), endpoint(&http));
        let logs = LogsServiceServer::new(shared.clone())
            .max_decoding_message_size(usize::MAX)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
        let traces = TraceServiceServer::new(shared.clone())
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
        let incoming = tonic::transport::server::TcpIncoming::from(grpc);
        let server = tonic::transport::Server::builder().add_service(logs).add_service(traces);
        runtime.spawn(server.serve_with_incoming(incoming));
        let router = axum::Router::new()
            .route("/v1/logs", post(export_by_http))
            .route("/own/path", post(export_by_http))
            .route("/v1/traces", post(|| async { "" }))
            .layer(DefaultBodyLimit::disable())
            .with_state(shared.clone());
        runtime.spawn(async move { axum::serve(http, router).await });
        Self { shared, grpc: endpoints.0, http: endpoints.1, runtime: Some(runtime) }
    }

    pub(crate) fn endpoint(&self, protocol: Protocol) -> &str {
        match protocol {
            Protocol::Grpc => &self.grpc,
            _ => &self.http,
        }
    }

    pub(crate) fn answer_next(&self, answer: LogAnswer) {
        self.shared.lock().script.push_back(answer);
    }

    pub(crate) fn answer_all(&self, answer: Option<LogAnswer>) {
        self.shared.lock().always = answer;
    }

    /// The records that were taken so far.
    pub(crate) fn logs(&self) -> Vec<ArrivedLog> {
        self.shared.lock().logs.clone()
    }

    /// The [lines](ArrivedLog::line) of all records.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.logs().iter().map(ArrivedLog::line).collect()
    }

    /// The number of records in each request, and the paths.
    pub(crate) fn requests(&self) -> Vec<usize> {
        self.shared.lock().requests.clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.shared.lock().paths.clone()
    }

    /// Waits until so many records were taken.
    pub(crate) fn wait_for(&self, records: usize) -> Vec<ArrivedLog> {
        let until = Instant::now() + Duration::from_secs(60);
        let mut received = self.shared.lock();
        while received.logs.len() < records {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {records} arrived", received.logs.len());
            received = self.shared.0.1.wait_timeout(received, left).unwrap().0;
        }
        received.logs.clone()
    }
}

impl Drop for LogReceiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
