//! OTLP over gRPC, for requests that are encoded already.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use http_body::Frame;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::channel::ResponseFuture;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use tower_service::Service;

use super::{ExportReply, RequestPieces, SendFailure, Transport, causes, response};
use crate::export::connection::Resolver;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A channel to a collector, and what makes another one.
#[derive(Debug)]
pub(crate) struct GrpcTransport {
    endpoint: Endpoint,
    /// `None` for a Unix socket.
    connector: Option<HttpConnector<Resolver>>,
    metadata: MetadataMap,
    compression: Option<CompressionEncoding>,
    client: Grpc<FramedChannel>,
    tasks: ChannelTasks,
    /// Whether the channel's worker has ended, by a panic or for good. It accepts nothing any more.
    has_died: bool,
}

impl GrpcTransport {
    pub(crate) fn new(
        endpoint: Endpoint,
        connector: Option<HttpConnector<Resolver>>,
        metadata: MetadataMap,
        compression: Option<CompressionEncoding>,
    ) -> Self {
        let tasks = ChannelTasks::default();
        let endpoint = endpoint.executor(tasks.clone());
        let client = client(&endpoint, &connector, compression);
        Self { endpoint, connector, metadata, compression, client, tasks, has_died: false }
    }

    /// Ends the tasks of the channel, as a panic in one of them does.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        self.tasks.abort();
    }
}

/// A client on a channel of its own, which connects with the first request.
fn client(
    endpoint: &Endpoint,
    connector: &Option<HttpConnector<Resolver>>,
    compression: Option<CompressionEncoding>,
) -> Grpc<FramedChannel> {
    let channel = match connector {
        Some(connector) => endpoint.connect_with_connector_lazy(connector.clone()),
        None => endpoint.connect_lazy(),
    };
    let client = Grpc::new(FramedChannel(channel));
    match compression {
        // The official Collector replies in the encoding of the request.
        Some(encoding) => client.send_compressed(encoding).accept_compressed(encoding),
        None => client,
    }
}

/// The tasks of a channel: its worker and its connections. Aborting them closes the connections at
/// once; otherwise one that is dead would remain until the system gives it up, after a quarter of an
/// hour.
#[derive(Clone, Debug, Default)]
struct ChannelTasks(Arc<Mutex<JoinSet<()>>>);

impl ChannelTasks {
    fn abort(&self) {
        crate::sync::lock(&self.0).abort_all();
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for ChannelTasks {
    fn execute(&self, task: F) {
        let mut tasks = crate::sync::lock(&self.0);
        while tasks.try_join_next().is_some() {} // those that have ended
        tasks.spawn(task);
    }
}

impl Transport for GrpcTransport {
    const COMPONENT: &'static str = "otlp_grpc_span_exporter";

    async fn send(&mut self, request: RequestPieces) -> Result<ExportReply, SendFailure> {
        if let Err(error) = self.client.ready().await {
            self.has_died = true;
            let message = format!("the channel has died: {error}{}", causes(&error));
            return Err(SendFailure::Retryable { message, wait: None });
        }
        let mut request = if self.compression.is_some() {
            Request::new(request.concat().into())
        } else {
            framed(request)?
        };
        *request.metadata_mut() = self.metadata.clone();
        let path = PathAndQuery::from_static(EXPORT);
        match self.client.unary(request, path, EncodedCodec).await {
            Ok(answer) => Ok(response::reply(&answer.into_inner())),
            Err(status) => Err(failure(&status)),
        }
    }

    fn has_died(&self) -> bool {
        self.has_died
    }

    fn reconnect(&mut self) {
        self.tasks.abort();
        self.client = client(&self.endpoint, &self.connector, self.compression);
        self.has_died = false;
    }
}

impl Drop for GrpcTransport {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

/// By the table of the specification:
/// <https://opentelemetry.io/docs/specs/otlp/#failures>.
fn failure(status: &Status) -> SendFailure {
    let message = format!("{:?}: {}{}", status.code(), status.message(), causes(status));
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => {
            SendFailure::Retryable { message, wait: wait.filter(|wait| !wait.is_zero()) }
        }
        // With a retry delay the collector recovers; without, the request is too large for it.
        Code::ResourceExhausted if wait.is_some() => SendFailure::Retryable { message, wait },
        Code::ResourceExhausted => SendFailure::TooLarge { message },
        // A status with a cause wasn't sent by the collector: the connection failed.
        _ if std::error::Error::source(status).is_some() => {
            SendFailure::Retryable { message, wait: None }
        }
        Code::InvalidArgument => SendFailure::Rejected { message },
        _ => SendFailure::Permanent { message },
    }
}

/// A request whose message takes the [`FramedChannel`].
fn framed(message: RequestPieces) -> Result<Request<Bytes>, SendFailure> {
    let message = FramedMessage::new(message).ok_or_else(|| SendFailure::TooLarge {
        message: "a message of gRPC has at most 4 GiB".to_owned(),
    })?;
    let mut request = Request::new(Bytes::new());
    request.extensions_mut().insert(message);
    Ok(request)
}

/// A channel that takes a message as it is from the request's extensions, if there is one: tonic
/// copies what it encodes into a buffer of its own, which grows with it.
#[derive(Clone, Debug)]
struct FramedChannel(Channel);

impl Service<http::Request<Body>> for FramedChannel {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> ResponseFuture {
        match request.extensions_mut().remove::<FramedMessage>() {
            Some(message) => self.0.call(request.map(|_| Body::new(message))),
            None => self.0.call(request),
        }
    }
}

/// The body with one message that isn't compressed: its prefix, then its bytes.
#[derive(Clone, Debug)]
struct FramedMessage(std::vec::IntoIter<Bytes>);

impl FramedMessage {
    /// `None` if its length doesn't fit into the prefix.
    fn new(mut message: RequestPieces) -> Option<Self> {
        let length = message.iter().map(Bytes::len).sum::<usize>();
        let mut prefix = vec![0]; // not compressed
        prefix.extend_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
        message.insert(0, prefix.into());
        Some(Self(message.into_iter()))
    }
}

impl http_body::Body for FramedMessage {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.len() == 0
    }
}

/// A codec that leaves bytes as they are, in both directions.
#[derive(Clone, Copy, Debug)]
struct EncodedCodec;

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for EncodedCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
