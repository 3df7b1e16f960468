//! OTLP over gRPC, for requests that are encoded already.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::{Failure, Reply, Transport, causes, response};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A channel to a collector.
#[derive(Debug)]
pub(crate) struct GrpcTransport {
    client: Grpc<Channel>,
    metadata: MetadataMap,
}

impl GrpcTransport {
    pub(crate) fn new(
        channel: Channel,
        metadata: MetadataMap,
        compression: Option<CompressionEncoding>,
    ) -> Self {
        let mut client = Grpc::new(channel);
        if let Some(encoding) = compression {
            // The official Collector answers in the encoding it was asked in.
            client = client.send_compressed(encoding).accept_compressed(encoding);
        }
        Self { client, metadata }
    }
}

impl Transport for GrpcTransport {
    async fn send(&mut self, request: Bytes) -> Result<Reply, Failure> {
        self.client.ready().await.map_err(|error| Failure::Passing {
            message: format!("the collector can't be reached: {error}{}", causes(&error)),
            wait: None,
        })?;
        let mut request = Request::new(request);
        *request.metadata_mut() = self.metadata.clone();
        let path = PathAndQuery::from_static(EXPORT);
        match self.client.unary(request, path, EncodedCodec).await {
            Ok(answer) => Ok(response::reply(&answer.into_inner())),
            Err(status) => Err(failure(&status)),
        }
    }
}

/// By the table of the specification:
/// <https://opentelemetry.io/docs/specs/otlp/#failures>.
fn failure(status: &Status) -> Failure {
    let message = format!("{:?}: {}{}", status.code(), status.message(), causes(status));
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Failure::Passing { message, wait: wait.filter(|wait| !wait.is_zero()) },
        // The collector recovers if it says when; otherwise the request is too large for it.
        Code::ResourceExhausted if wait.is_some() => Failure::Passing { message, wait },
        Code::ResourceExhausted => Failure::TooLarge { message },
        // A status with a cause wasn't sent by the collector: the connection failed.
        _ if std::error::Error::source(status).is_some() => {
            Failure::Passing { message, wait: None }
        }
        _ => Failure::Final { message },
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
