//! Channels of gRPC, one after the other, which send messages as they are and read bounded responses.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Frame, SizeHint};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::export::connection::Resolver;
use crate::export::connection::response::{MAX_ERROR, MAX_RESPONSE};
use crate::export::transport::RequestPieces;

/// Makes channels to one collector, of which the last is in use.
#[derive(Debug)]
pub(super) struct Channels {
    endpoint: Endpoint,
    /// `None` for a Unix socket.
    connector: Option<GrpcConnector>,
    compression: Option<CompressionEncoding>,
    tasks: ChannelTasks,
    is_in_message: Arc<AtomicBool>,
}

impl Channels {
    pub(super) fn new(
        endpoint: Endpoint,
        connector: Option<GrpcConnector>,
        compression: Option<CompressionEncoding>,
    ) -> Self {
        let tasks = ChannelTasks::default();
        let endpoint =
            endpoint.executor(tasks.clone()).http2_max_header_list_size(MAX_ERROR as u32);
        Self { endpoint, connector, compression, tasks, is_in_message: Arc::default() }
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.compression.is_some()
    }

    /// A client on a channel of its own, which connects with the first request.
    pub(super) fn client(&self) -> Grpc<FramedChannel> {
        let channel = match &self.connector {
            Some(GrpcConnector::Direct(connector)) => {
                self.endpoint.connect_with_connector_lazy(connector.clone())
            }
            Some(GrpcConnector::Tunnel(tunnel)) => {
                self.endpoint.connect_with_connector_lazy(tunnel.clone())
            }
            None => self.endpoint.connect_lazy(),
        };
        let channel = FramedChannel { channel, is_in_message: self.is_in_message.clone() };
        let client = Grpc::new(channel).max_decoding_message_size(MAX_RESPONSE);
        match self.compression {
            // The official Collector replies in the encoding of the request.
            Some(encoding) => client.send_compressed(encoding).accept_compressed(encoding),
            None => client,
        }
    }

    /// Whether the last response has begun, and has not come to its trailers.
    pub(super) fn is_in_message(&self) -> bool {
        self.is_in_message.load(Ordering::Relaxed)
    }

    /// Closes the connections of the channel at once.
    pub(super) fn close(&self) {
        crate::sync::lock(&self.tasks.0).abort_all();
    }
}

/// What connects a channel by TCP.
#[derive(Clone, Debug)]
pub(crate) enum GrpcConnector {
    Direct(HttpConnector<Resolver>),
    /// Through an HTTP proxy, by `CONNECT`.
    Tunnel(Tunnel<HttpConnector<Resolver>>),
}

impl GrpcConnector {
    /// Connects by `connector`, through a proxy if there is one: its URI and `Proxy-Authorization`.
    pub(crate) fn new(
        connector: HttpConnector<Resolver>,
        proxy: Option<(http::Uri, Option<HeaderValue>)>,
    ) -> Self {
        match proxy {
            None => Self::Direct(connector),
            Some((uri, None)) => Self::Tunnel(Tunnel::new(uri, connector)),
            Some((uri, Some(authorization))) => {
                Self::Tunnel(Tunnel::new(uri, connector).with_auth(authorization))
            }
        }
    }
}

/// The tasks of a channel: its worker and its connections. A connection that is dead would remain until
/// the system gives it up, after a quarter of an hour, if its task were not aborted.
#[derive(Clone, Debug, Default)]
struct ChannelTasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for ChannelTasks {
    fn execute(&self, task: F) {
        let mut tasks = crate::sync::lock(&self.0);
        while tasks.try_join_next().is_some() {} // those that have ended
        tasks.spawn(task);
    }
}

/// A channel that takes a message as it is from the request's extensions, if there is one: tonic
/// copies what it encodes into a buffer of its own, which grows with it.
#[derive(Clone, Debug)]
pub(super) struct FramedChannel {
    channel: Channel,
    is_in_message: Arc<AtomicBool>,
}

impl Service<http::Request<Body>> for FramedChannel {
    type Response = http::Response<ResponseBody>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let response = match request.extensions_mut().remove::<FramedMessage>() {
            Some(message) => self.channel.call(request.map(|_| Body::new(message))),
            None => self.channel.call(request),
        };
        let is_in_message = self.is_in_message.clone();
        is_in_message.store(false, Ordering::Relaxed);
        Box::pin(async move {
            Ok(response.await?.map(|body| ResponseBody { body, left: MAX_RESPONSE, is_in_message }))
        })
    }
}

/// The body with one message that isn't compressed: its prefix, then its bytes.
#[derive(Clone, Debug)]
pub(super) struct FramedMessage(std::vec::IntoIter<Bytes>);

impl FramedMessage {
    /// `None` if its length doesn't fit into the prefix.
    pub(super) fn new(mut message: RequestPieces) -> Option<Self> {
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

/// A response of at most [`MAX_RESPONSE`] bytes. tonic limits a message, but not how many follow one
/// another.
pub(super) struct ResponseBody {
    body: Body,
    left: usize,
    is_in_message: Arc<AtomicBool>,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.is_in_message.store(frame.is_data(), Ordering::Relaxed);
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(left) = self.left.checked_sub(length) else {
                let message = format!("the response is longer than {MAX_RESPONSE} bytes");
                return Poll::Ready(Some(Err(Status::resource_exhausted(message))));
            };
            self.left = left;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
