//! Reads `ExportTraceServiceResponse` and `ExportLogsServiceResponse`, which are foreign bytes.

use prost::Message;

use super::ExportReply;
use crate::export::connection::response::excerpt;

/// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceResponse`, and that of logs.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess` and `ExportLogsPartialSuccess`. The official Collector sends an empty one with every success.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

impl PartialSuccess {
    /// An integer of 64 bits is a string in the JSON of protobuf; a number is accepted too.
    fn of_json(response: serde_json::Value) -> Self {
        let partial = &response["partialSuccess"];
        let rejected = match &partial["rejectedSpans"] {
            serde_json::Value::Null => &partial["rejectedLogRecords"],
            of_traces => of_traces,
        };
        let of_text = || rejected.as_str().and_then(|text| text.parse().ok());
        let message = partial["errorMessage"].as_str().unwrap_or_default();
        Self {
            rejected: rejected.as_i64().or_else(of_text).unwrap_or_default(),
            error_message: message.to_owned(),
        }
    }
}

/// The reply of a success, in protobuf or, by some collectors whatever the request, in JSON. A body that
/// can't be decoded counts as empty, since the request was accepted.
pub(super) fn reply(body: &[u8]) -> ExportReply {
    let partial = match body {
        [b'{', ..] => serde_json::from_slice(body).ok().map(PartialSuccess::of_json),
        _ => Response::decode(body).ok().and_then(|response| response.partial_success),
    };
    let PartialSuccess { rejected, error_message } = partial.unwrap_or_default();
    let rejected = u64::try_from(rejected).unwrap_or(0);
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
        let partial = PartialSuccess { rejected: 3, error_message: "quota".to_owned() };
        let body = Response { partial_success: Some(partial) }.encode_to_vec();
        assert_eq!(reply(&body), ExportReply { rejected: 3, message: "quota".to_owned() });
    }

    #[test]
    fn a_partial_success_may_be_json() {
        let body = br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"quota"}}"#;
        assert_eq!(reply(body), ExportReply { rejected: 3, message: "quota".to_owned() });
        let body = br#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"quota"}}"#;
        assert_eq!(reply(body), ExportReply { rejected: 3, message: "quota".to_owned() });
        let body = br#"{"partialSuccess":{"rejectedSpans":4}}"#;
        assert_eq!(reply(body), ExportReply { rejected: 4, message: String::new() });
        assert_eq!(reply(b"{}"), reply(&[]));
    }

    proptest! {
        #[test]
        fn garbage_is_read_as_nothing_worse_than_a_reply(body: Vec<u8>) {
            let _ = reply(&body);
        }
    }
}
