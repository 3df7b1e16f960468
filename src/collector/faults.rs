//! Scripted answers: the faults that a test orders from the collector.

use std::collections::VecDeque;
use std::time::Duration;

/// How the collector answers one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The answer without a script: the spans are kept, and a request that is not valid OTLP is
    /// refused.
    #[default]
    Accept,
    /// gRPC `UNAVAILABLE`, with `RetryInfo` where `retry_after` is given; HTTP 503, with
    /// `Retry-After` in seconds, rounded up. The spans are not kept.
    Unavailable {
        /// After how long the sender is asked to retry.
        retry_after: Option<Duration>,
    },
    /// gRPC `RESOURCE_EXHAUSTED`, which is to be retried only where `retry_after` is given, as
    /// `RetryInfo`; HTTP 429, with `Retry-After` in seconds, rounded up. The spans are not kept.
    ResourceExhausted {
        /// After how long the sender is asked to retry.
        retry_after: Option<Duration>,
    },
    /// gRPC `INVALID_ARGUMENT`, HTTP 400: never to be sent again. The spans are not kept.
    BadRequest {
        /// The message in the response.
        message: String,
    },
    /// Success, except for the first `rejected` spans of the request, which are not kept.
    PartialSuccess {
        /// How many spans are rejected; 0 with a message is a warning.
        rejected: i64,
        /// The message in the response.
        message: String,
    },
    /// The request is read and never answered while the collector lives. The spans are not kept.
    Silence,
    /// The TCP connection is closed without an answer. The spans are not kept.
    Cut,
}

/// The answers to come: those in the queue first, each once, then the standing one.
#[derive(Debug, Default)]
pub(super) struct Script {
    queue: VecDeque<Answer>,
    standing: Option<Answer>,
}

impl Script {
    pub(super) fn push(&mut self, answer: Answer) {
        self.queue.push_back(answer);
    }

    pub(super) fn set_standing(&mut self, answer: Option<Answer>) {
        self.standing = answer;
    }

    pub(super) fn next(&mut self) -> Answer {
        self.queue.pop_front().or_else(|| self.standing.clone()).unwrap_or_default()
    }
}
