//! Why the receiver refuses a request, independent of the protocol.

use std::fmt;
use std::time::Duration;

/// After how long a sender is asked to retry when its spans could not be stored.
pub(crate) const SOON: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The bytes are not a valid message: 400, INVALID_ARGUMENT.
    Malformed,
    /// More bytes than the receiver accepts: 413, RESOURCE_EXHAUSTED.
    TooLarge,
    /// An unknown content type or compression: 415, UNIMPLEMENTED.
    Unsupported,
    /// No such path: 404, UNIMPLEMENTED.
    NotFound,
    /// Not a `POST`: 405.
    WrongMethod,
    /// A valid request whose spans can't be stored now: 503, UNAVAILABLE, to be retried.
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
