//! What the tests share: messages made by hand and two clients.

mod decoding;
mod faults;
mod folding;
mod foreign;
mod logs;
mod protocols;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, span};
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use super::*;

/// Long enough for any machine; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(20);

fn wire(value: Value) -> AnyValue {
    let value = match value {
        Value::Bool(value) => Some(any_value::Value::BoolValue(value)),
        Value::Int(value) => Some(any_value::Value::IntValue(value)),
        Value::Double(value) => Some(any_value::Value::DoubleValue(value)),
        Value::String(value) => Some(any_value::Value::StringValue(value)),
        Value::Bytes(value) => Some(any_value::Value::BytesValue(value)),
        Value::Array(values) => {
            let values = values.into_iter().map(wire).collect();
            Some(any_value::Value::ArrayValue(ArrayValue { values }))
        }
        Value::Map(_) | Value::Empty => None,
    };
    AnyValue { value }
}

fn key_value(key: &str, value: impl Into<Value>) -> KeyValue {
    KeyValue { key: key.into(), value: Some(wire(value.into())), key_strindex: 0 }
}

fn named(name: &str, trace_id: u128, span_id: u64) -> Span {
    Span {
        name: name.into(),
        trace_id: trace_id.to_be_bytes().to_vec(),
        span_id: span_id.to_be_bytes().to_vec(),
        ..Span::default()
    }
}

/// Sets the fields of a span that matter to a test.
trait With: Sized {
    fn with(self, key: &str, value: impl Into<Value>) -> Self;
    fn child_of(self, parent: u64) -> Self;
    fn linked_to(self, trace_id: u128, span_id: u64) -> Self;
    fn started_at(self, time: u64) -> Self;
}

impl With for Span {
    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.attributes.push(key_value(key, value));
        self
    }

    fn child_of(mut self, parent: u64) -> Self {
        self.parent_span_id = parent.to_be_bytes().to_vec();
        self
    }

    fn linked_to(mut self, trace_id: u128, span_id: u64) -> Self {
        self.links.push(span::Link {
            trace_id: trace_id.to_be_bytes().to_vec(),
            span_id: span_id.to_be_bytes().to_vec(),
            ..span::Link::default()
        });
        self
    }

    fn started_at(mut self, time: u64) -> Self {
        self.start_time_unix_nano = time;
        self
    }
}

fn request(spans: impl IntoIterator<Item = Span>) -> ExportTraceServiceRequest {
    let scope_spans = ScopeSpans { spans: spans.into_iter().collect(), ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        }],
    }
}

/// The spans of a request as a collector keeps them.
fn received(spans: impl IntoIterator<Item = Span>) -> Vec<ReceivedSpan> {
    super::receive::received::spans(request(spans)).unwrap()
}

fn names(spans: &[ReceivedSpan]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn channel(collector: &Collector) -> Channel {
    Channel::from_shared(collector.endpoint().to_owned()).unwrap().connect().await.unwrap()
}

/// Sends over gRPC as any client would.
async fn export(
    collector: &Collector,
    request: ExportTraceServiceRequest,
    compression: Option<CompressionEncoding>,
) -> Result<ExportTraceServiceResponse, tonic::Status> {
    let mut client = TraceServiceClient::new(channel(collector).await);
    if let Some(compression) = compression {
        client = client.send_compressed(compression).accept_compressed(compression);
    }
    tokio::time::timeout(LONG, client.export(request))
        .await
        .expect("an answer")
        .map(tonic::Response::into_inner)
}

/// A response over HTTP, taken apart.
#[derive(Debug)]
struct HttpReply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// Writes a request over HTTP/1.1 and leaves the answer to be read.
fn send(
    collector: &Collector,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<TcpStream> {
    let host = collector.http_endpoint().trim_start_matches("http://");
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(LONG))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    Ok(stream)
}

fn http(
    collector: &Collector,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<HttpReply> {
    let mut bytes = Vec::new();
    send(collector, method, path, headers, body)?.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    Ok(HttpReply { status, head, body: bytes[end + 4..].to_vec() })
}

fn post(collector: &Collector, content_type: &str, body: &[u8]) -> io::Result<HttpReply> {
    http(collector, "POST", "/v1/traces", &[("content-type", content_type)], body)
}

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
