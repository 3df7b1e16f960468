//! A decoded request: its message, and what of it can't be read.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::refusal::RequestRefusal;

/// The message of a request, by its signal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DecodedSignal {
    Traces(DecodedRequest<ExportTraceServiceRequest>),
    Logs(DecodedRequest<ExportLogsServiceRequest>),
}

/// The message of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DecodedRequest<M = ExportTraceServiceRequest> {
    pub(crate) message: M,
    /// What can't be read, and is not in the message.
    pub(crate) refused: RefusedItems,
}

impl<M> From<M> for DecodedRequest<M> {
    fn from(message: M) -> Self {
        Self { message, refused: RefusedItems::default() }
    }
}

/// Spans or log records of a request that are not valid OTLP, and are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RefusedItems {
    pub(crate) count: u64,
    /// What is wrong with the first. With a count of 0 it is about the resource or the scope of items, or about
    /// text that is not as it was sent: the items are taken.
    pub(crate) first: Option<RequestRefusal>,
}

impl RefusedItems {
    pub(crate) fn add(&mut self, refusal: RequestRefusal) {
        self.count += 1;
        self.first.get_or_insert(refusal);
    }
}
