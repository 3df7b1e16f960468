//! OTLP over gRPC, for requests that are encoded already.

mod channel;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::{ExportReply, RequestPieces, SendFailure, Transport, causes, remedy, response};
use crate::export::connection::response::excerpt;
use crate::otlp::Signal;
pub(crate) use channel::GrpcConnector;
use channel::{Channels, FramedChannel, FramedMessage};

/// A client for a collector, and what makes its channels.
#[derive(Debug)]
pub(crate) struct GrpcTransport {
    channels: Channels,
    client: Grpc<FramedChannel>,
    metadata: MetadataMap,
    /// The method that requests go to.
    method: PathAndQuery,
    /// Whether the channel's worker has ended, by a panic or for good. It accepts nothing any more.
    has_died: bool,
}

impl GrpcTransport {
    /// Without a `connector` it connects to a Unix socket.
    pub(crate) fn new(
        signal: Signal,
        endpoint: Endpoint,
        connector: Option<GrpcConnector>,
        metadata: MetadataMap,
        compression: Option<CompressionEncoding>,
    ) -> Self {
        let channels = Channels::new(endpoint, connector, compression);
        let client = channels.client();
        let method = PathAndQuery::from_static(signal.grpc_method());
        Self { channels, client, metadata, method, has_died: false }
    }

    /// Ends the tasks of the channel, as a panic in one of them does.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        self.channels.close();
    }
}

impl Transport for GrpcTransport {
    fn component(&self, signal: Signal) -> &'static str {
        match signal {
            Signal::Traces => "otlp_grpc_span_exporter",
            Signal::Logs => "otlp_grpc_log_exporter",
        }
    }

    async fn send(&mut self, request: RequestPieces) -> Result<ExportReply, SendFailure> {
        if let Err(error) = self.client.ready().await {
            self.has_died = true;
            let message = format!("the channel has died: {error}{}", causes(&error));
            return Err(SendFailure::Retryable { message, wait: None });
        }
        let mut request = if self.channels.is_compressed() {
            Request::new(request.concat().into())
        } else {
            framed(request)?
        };
        *request.metadata_mut() = self.metadata.clone();
        match self.client.unary(request, self.method.clone(), EncodedCodec).await {
            Ok(answer) => Ok(response::reply(&answer.into_inner())),
            Err(status) => Err(failure(&status, self.channels.is_in_message())),
        }
    }

    fn has_died(&self) -> bool {
        self.has_died
    }

    fn reconnect(&mut self) {
        self.channels.close();
        self.client = self.channels.client();
        self.has_died = false;
    }
}

impl Drop for GrpcTransport {
    fn drop(&mut self) {
        self.channels.close();
    }
}

/// By the table of the specification:
/// <https://opentelemetry.io/docs/specs/otlp/#failures>.
///
/// `is_in_message` means that the collector has begun a response and not ended it. A status without a cause
/// is then about that response, which is too long or no response of gRPC.
fn failure(status: &Status, is_in_message: bool) -> SendFailure {
    let text = excerpt(status.message());
    let mut message = format!("{:?}: {text}{}", status.code(), causes(status));
    message.push_str(remedy::for_grpc(&message));
    if is_in_message && std::error::Error::source(status).is_none() {
        return SendFailure::Permanent { message };
    }
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        _ if remedy::is_too_large(&message) => SendFailure::TooLarge { message },
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
