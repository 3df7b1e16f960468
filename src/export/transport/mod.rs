//! Transport: encoded requests to a collector, by gRPC or HTTP.
//!
//! Both transports have one anatomy: [`Transport::send`] makes one attempt and returns the outcome,
//! in the terms of the [OTLP specification](https://opentelemetry.io/docs/specs/otlp/): full
//! success, partial success, retryable failure, too large, rejected, or permanent failure.
//! [`retry`] repeats attempts until a deadline.

#[cfg(feature = "grpc")]
pub(crate) mod grpc;
#[cfg(any(feature = "http-proto", feature = "http-json"))]
pub(crate) mod http;
mod remedy;
mod response;
pub(crate) mod retry;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::otlp::Signal;

/// An encoded `ExportTraceServiceRequest` or `ExportLogsServiceRequest`, in pieces that follow one another.
pub(crate) type RequestPieces = Vec<Bytes>;

/// Sends requests of one signal to a collector, one attempt at a time.
pub(crate) trait Transport: Send {
    /// The name of an exporter of such requests in OpenTelemetry's semantic conventions.
    fn component(&self, signal: Signal) -> &'static str;

    /// Sends one request.
    fn send(
        &mut self,
        request: RequestPieces,
    ) -> impl Future<Output = Result<ExportReply, SendFailure>> + Send;

    /// Whether it accepts nothing any more until it [reconnects](Self::reconnect).
    fn has_died(&self) -> bool {
        false
    }

    /// Gives up the connection: the next request is sent on another one. It is called after a request
    /// that had no answer, or when the transport has died; no request is under way.
    fn reconnect(&mut self);
}

/// A collector's reply to a request it has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportReply {
    /// How many of the items it has rejected: a partial success.
    pub(crate) rejected: u64,
    /// The reason for the rejection, or a warning about accepted items.
    pub(crate) message: String,
}

impl ExportReply {
    /// Logs the collector's message about accepted items, if there is one.
    pub(crate) fn log_message(self) {
        let message = self.message;
        if !message.is_empty() {
            tracing::warn!(target: "tracing_feedback", "the collector says: {message}");
        }
    }
}

/// Why a request was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendFailure {
    /// It may be accepted later, after `wait` if the collector asked for a delay.
    Retryable { message: String, wait: Option<Duration> },
    /// It is too large; parts of it may be accepted.
    TooLarge { message: String },
    /// It will never be accepted: the collector has examined it.
    Rejected { message: String },
    /// The collector hasn't examined it, and a retry is not expected to help: a wrong key or path,
    /// or a fault of the collector. The specification asks to drop it; a sink with an outbox may
    /// keep it.
    Permanent { message: String },
}

impl SendFailure {
    /// The message, and the delay that the collector asked for.
    pub(crate) fn into_parts(self) -> (String, Option<Duration>) {
        match self {
            Self::Retryable { message, wait } => (message, wait),
            Self::TooLarge { message }
            | Self::Rejected { message }
            | Self::Permanent { message } => (message, None),
        }
    }
}

/// The causes of an error, to be appended to its own text. Libraries often repeat a cause in the
/// text above it; it is listed once.
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
