//! Why feedback is not on disk.

use std::io;

/// Why feedback that was written ahead is not on disk yet.
///
/// The error of [`enrich::persist`](crate::enrich::persist), and of a `flush` or `shutdown` that could not
/// write feedback to the outbox ([`FlushError::outbox`](crate::FlushError::outbox)).
///
/// ```
/// use tracing_feedback::PersistError;
///
/// assert_eq!(
///     PersistError::TimedOut.to_string(),
///     "feedback could not be written to the outbox: the disk did not take it in time"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// A file of the outbox could not be written or synced. The feedback stays in memory, and is written
    /// when the disk can be written again; if the process ends before, it is lost. Check the space and the
    /// permissions of the disk.
    #[error("feedback could not be written to the outbox: {message}")]
    Write {
        /// The kind of the error, for example [`io::ErrorKind::StorageFull`].
        kind: io::ErrorKind,
        /// The text of the error.
        message: String,
    },
    /// The disk did not take the feedback within the time limit. It stays in memory, and is still being
    /// written.
    #[error("feedback could not be written to the outbox: the disk did not take it in time")]
    TimedOut,
    /// This process was forked after the layer was built, and has no thread that writes. Build the
    /// layer after the fork.
    #[error("feedback could not be written to the outbox: build the layer after the fork")]
    Forked,
}

impl PersistError {
    /// The error for a failed write or sync. It is no public `From`, which would be part of the API.
    pub(super) fn of_write(error: &io::Error) -> Self {
        Self::Write { kind: error.kind(), message: error.to_string() }
    }
}
