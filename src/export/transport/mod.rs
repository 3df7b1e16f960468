//! Transport: encoded requests to a collector, by gRPC or HTTP.
//!
//! Both transports have one anatomy: [`Transport::send`] makes one attempt and says what the
//! collector made of it, in the terms of the
//! [OTLP specification](https://opentelemetry.io/docs/specs/otlp/): taken, taken in part, a passing
//! failure, too large, or a failure that would only repeat itself, be it the request's own fault or
//! not. [`retry`] repeats attempts until a deadline.

#[cfg(feature = "grpc")]
pub(crate) mod grpc;
#[cfg(feature = "http-proto")]
pub(crate) mod http;
mod response;
pub(crate) mod retry;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

/// An encoded `ExportTraceServiceRequest`, in pieces that follow one another.
pub(crate) type Pieces = Vec<Bytes>;

/// One attempt at a time to hand a request to a collector.
pub(crate) trait Transport: Send {
    /// The exporter that it makes, as OpenTelemetry's semantic conventions name it.
    const COMPONENT: &'static str;

    /// Sends one request.
    fn send(&mut self, request: Pieces) -> impl Future<Output = Result<Reply, Failure>> + Send;
}

/// What a collector said to a request it has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// How many of the spans it has rejected all the same.
    pub(crate) rejected: u64,
    /// Why, or a warning about what it has taken.
    pub(crate) message: String,
}

impl Reply {
    /// Tells what the collector had to say about what it has taken.
    pub(crate) fn log_message(self) {
        let message = self.message;
        if !message.is_empty() {
            tracing::warn!(target: "tracing_feedback", "the collector says: {message}");
        }
    }
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It may be taken later, and not before `wait` if the collector said so.
    Retryable { message: String, wait: Option<Duration> },
    /// Parts of it may be taken.
    TooLarge { message: String },
    /// It never will: the collector has looked at it.
    Rejected { message: String },
    /// The collector hasn't looked at it, and what is in the way (a key, a path, a fault of its own)
    /// won't pass by itself. The specification has it dropped; whoever can keep it may wait.
    Permanent { message: String },
}

impl Failure {
    /// What was said, and when to come back if that was said too.
    pub(crate) fn into_parts(self) -> (String, Option<Duration>) {
        match self {
            Self::Retryable { message, wait } => (message, wait),
            Self::TooLarge { message }
            | Self::Rejected { message }
            | Self::Permanent { message } => (message, None),
        }
    }
}

/// What caused an error, as an addition to its own text. Libraries repeat themselves here: a cause
/// is told once.
fn causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut last) = (String::new(), error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !last.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
            last = next;
        }
        source = cause.source();
    }
    text
}
