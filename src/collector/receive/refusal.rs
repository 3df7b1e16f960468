//! Why the receiver itself refuses a request, whatever the protocol.

use std::fmt;
use std::time::Duration;

/// When a sender is asked to come back to a receiver that could not keep its spans.
pub(crate) const SOON: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The bytes are not the message they should be: 400, INVALID_ARGUMENT.
    Malformed,
    /// More bytes than the receiver takes: 413, RESOURCE_EXHAUSTED.
    TooLarge,
    /// A type or compression it doesn't know: 415, UNIMPLEMENTED.
    Unsupported,
    /// No such path: 404, UNIMPLEMENTED.
    NotFound,
    /// Not a `POST`: 405.
    WrongMethod,
    /// Nothing is wrong with the request, but it can't be kept now: 503, UNAVAILABLE, come back.
    Unavailable,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self::new(Kind::Malformed, reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
