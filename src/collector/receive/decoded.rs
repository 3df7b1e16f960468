//! A decoded request: its message, and what of it can't be read.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::refusal::RequestRefusal;

/// The message of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DecodedRequest {
    pub(crate) message: ExportTraceServiceRequest,
    /// What can't be read, and is not in the message.
    pub(crate) refused: RefusedSpans,
}

impl From<ExportTraceServiceRequest> for DecodedRequest {
    fn from(message: ExportTraceServiceRequest) -> Self {
        Self { message, refused: RefusedSpans::default() }
    }
}

/// Spans of a request that are not valid OTLP, and are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RefusedSpans {
    pub(crate) count: u64,
    /// What is wrong with the first. With a count of 0 it is about the resource or the scope of spans, or about
    /// text that is not as it was sent: the spans are taken.
    pub(crate) first: Option<RequestRefusal>,
}

impl RefusedSpans {
    pub(crate) fn add(&mut self, refusal: RequestRefusal) {
        self.count += 1;
        self.first.get_or_insert(refusal);
    }
}
