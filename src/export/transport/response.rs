//! Reads `ExportTraceServiceResponse`, which is foreign bytes.

use prost::Message;

use super::ExportReply;
use crate::export::connection::response::excerpt;

/// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`. The official Collector sends an empty one with every success.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// The reply of a success. A body that can't be decoded counts as empty, since the request was
/// accepted.
pub(super) fn reply(body: &[u8]) -> ExportReply {
    let partial = Response::decode(body).ok().and_then(|response| response.partial_success);
    let PartialSuccess { rejected_spans, error_message } = partial.unwrap_or_default();
    let rejected = u64::try_from(rejected_spans).unwrap_or(0);
    ExportReply { rejected, message: excerpt(&error_message) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_partial_success_rejects_nothing() {
        let taken = ExportReply { rejected: 0, message: String::new() };
        assert_eq!(reply(&[]), taken);
        assert_eq!(reply(&[0x0a, 0x00]), taken);
    }

    #[test]
    fn a_partial_success_has_its_count_and_message() {
        let partial = PartialSuccess { rejected_spans: 3, error_message: "quota".to_owned() };
        let body = Response { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(reply(&body), ExportReply { rejected: 3, message: "quota".to_owned() });
    }

    proptest! {
        #[test]
        fn garbage_is_read_as_nothing_worse_than_a_reply(body: Vec<u8>) {
            let _ = reply(&body);
        }
    }
}
