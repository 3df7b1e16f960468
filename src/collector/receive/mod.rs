//! The receiver: OTLP over gRPC and HTTP. It decodes the message of a request, passes it to an
//! [`Intake`], and encodes the [`Answer`]. The intake stores spans and log records: that of the test
//! collector in memory, that of the desk in a file.
//!
//! | file | idea |
//! | --- | --- |
//! | `listener` | a loopback listener; a connection that can be cut |
//! | `grpc`, `http` | one protocol each: from a request to a message, from an [`Answer`] to a response |
//! | `signal` | the signals, spans and log records, and what their requests have in common |
//! | `body`, `decode`, `json`, `decoded` | from a body to a message |
//! | `salvage` | the items that can be read, where one can't |
//! | `budget`, `measure` | the memory of requests in flight; how much a message takes |
//! | `refusal` | why a request is refused, whatever the protocol |
//! | `received`, `log_record`, `value` | spans, log records and attribute values as they arrived |
//!
//! Both protocols read foreign bytes: their size is bounded before and after decompression (4 MiB
//! over gRPC, 20 MiB over HTTP, as the official Collector does by default), and so is the memory
//! that one message, and all of them together, take when they are decoded. Nesting is bounded by
//! the decoders, and nothing panics. What takes long is decoded on a thread of its own.

mod body;
pub(crate) mod budget;
pub(crate) mod decode;
pub(crate) mod decoded;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod listener;
pub(crate) mod log_record;
mod measure;
pub(crate) mod received;
pub(crate) mod refusal;
mod salvage;
pub(crate) mod signal;
pub(crate) mod value;

use std::collections::BTreeMap;

use super::faults::Answer;
use ::http::HeaderMap;
use decoded::DecodedSignal;
use refusal::RequestRefusal;

/// Stores the spans and log records that the receiver has read.
pub(crate) trait Intake: Send + Sync + 'static {
    /// Takes one export request, or the reason why it could not be decoded, and returns the answer.
    /// The response is sent when the future completes, so an intake that stores them durably
    /// completes it after they are durable.
    fn receive(
        &self,
        head: RequestHead,
        decoded: Result<DecodedSignal, RequestRefusal>,
    ) -> impl Future<Output = Result<Answer, RequestRefusal>> + Send;

    /// Records a request that is not an export of traces or logs at all.
    fn record_refused(&self, head: RequestHead, refusal: &RequestRefusal);
}

/// How a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP with a protobuf body.
    HttpProtobuf,
    /// OTLP over HTTP with a JSON body.
    HttpJson,
    /// HTTP that isn't OTLP: another content type, or none.
    Other,
}

/// A request without its body.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) protocol: Protocol,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) compression: Option<String>,
}

impl RequestHead {
    pub(crate) fn new(protocol: Protocol, path: &str, headers: &HeaderMap) -> Self {
        let mut map: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            map.entry(name.as_str().to_owned())
                .and_modify(|values| {
                    values.push_str(", ");
                    values.push_str(&value);
                })
                .or_insert_with(|| value.into_owned());
        }
        let encoding = match protocol {
            Protocol::Grpc => map.get("grpc-encoding"),
            _ => map.get("content-encoding"),
        };
        let compression = encoding
            .map(|encoding| encoding.trim().to_ascii_lowercase())
            .filter(|encoding| !encoding.is_empty() && encoding != "identity");
        Self { protocol, path: path.to_owned(), headers: map, compression }
    }
}
