//! Why feedback is not on disk.

use std::io;

/// Why feedback that was written ahead is not on disk yet.
///
/// [`enrich::persist`](crate::enrich::persist) answers it, and
/// [`FlushError::outbox`](crate::FlushError::outbox) has it where a `flush` or a `shutdown` fails for this
/// reason.
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
    /// A file of the outbox could not be written or synced. The feedback stays in memory and writing it
    /// is tried again; until then it would be lost with the process. See to the disk: its space, its
    /// permissions.
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
}

impl PersistError {
    /// No `From`: which I/O error makes a [`Write`](Self::Write) is an internal matter.
    #[cfg_attr(not(feature = "outbox"), allow(dead_code))]
    pub(super) fn of_write(error: &io::Error) -> Self {
        Self::Write { kind: error.kind(), message: error.to_string() }
    }
}
