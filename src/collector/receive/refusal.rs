//! Why the receiver refuses a request, independent of the protocol.

use std::fmt;
use std::time::Duration;

use crate::printable::printable;

/// After how long a sender is asked to retry when its spans could not be stored.
pub(crate) const RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestRefusal {
    pub(crate) kind: RefusalKind,
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RefusalKind {
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

impl RequestRefusal {
    /// `reason` may name what the sender has sent, such as a span's name: it is made printable.
    pub(crate) fn new(kind: RefusalKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: printable(&reason.into()) }
    }

    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self::new(RefusalKind::Malformed, reason)
    }
}

impl fmt::Display for RequestRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
