//! The options of an outbox.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The options of an outbox: where it is, what is stored in it, and how much.
///
/// | | default |
/// | --- | --- |
/// | policy | [`OutboxPolicy::Spill`] |
/// | bytes | 512 MiB |
/// | age of spans without feedback | 7 days |
/// | age of feedback | 30 days |
///
/// A path alone is an outbox with the defaults.
///
/// ```
/// use std::time::Duration;
/// use tracing_feedback::{OutboxOptions, OutboxPolicy};
///
/// let options = OutboxOptions::new("/var/lib/chat/outbox")
///     .with_policy(OutboxPolicy::WriteAhead)
///     .with_max_bytes(64 * 1024 * 1024)
///     .with_max_age(Duration::from_secs(24 * 60 * 60));
/// assert_eq!(options.policy(), OutboxPolicy::WriteAhead);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "options do nothing before `with_outbox`"]
pub struct OutboxOptions {
    pub(crate) path: PathBuf,
    pub(crate) policy: OutboxPolicy,
    pub(crate) max_bytes: u64,
    pub(crate) max_age: Duration,
    pub(crate) max_feedback_age: Duration,
}

impl OutboxOptions {
    /// An outbox in the directory `path`, which is created if it is missing. Processes of one user may share
    /// it. On Unix a directory is refused that belongs to another user, or that others may write to: building
    /// the layer is then an error ([`BuildError::Outbox`](crate::BuildError::Outbox)) that names the remedy.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            path: path.into(),
            policy: OutboxPolicy::default(),
            max_bytes: 512 * 1024 * 1024,
            max_age: 7 * DAY,
            max_feedback_age: 30 * DAY,
        }
    }

    /// What is written to disk, and when.
    pub fn with_policy(mut self, policy: OutboxPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How many bytes this process may store. At the limit, the oldest spans without feedback are
    /// dropped. Acknowledged feedback is never dropped to make room: further feedback is refused
    /// instead. While [events](crate::Events) are emitted, a quarter is for their log records.
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long spans without feedback may wait.
    pub fn with_max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// How long feedback may wait. It is personal data, which should not be stored forever.
    pub fn with_max_feedback_age(mut self, age: Duration) -> Self {
        self.max_feedback_age = age;
        self
    }

    /// The policy.
    pub fn policy(&self) -> OutboxPolicy {
        self.policy
    }
}

impl From<&str> for OutboxOptions {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl From<String> for OutboxOptions {
    fn from(path: String) -> Self {
        Self::new(path)
    }
}

impl From<&Path> for OutboxOptions {
    fn from(path: &Path) -> Self {
        Self::new(path)
    }
}

impl From<PathBuf> for OutboxOptions {
    fn from(path: PathBuf) -> Self {
        Self::new(path)
    }
}

/// What is written to disk, and when.
///
/// ```
/// use tracing_feedback::OutboxPolicy;
///
/// assert_eq!(OutboxPolicy::default(), OutboxPolicy::Spill);
/// assert_eq!("write_ahead".parse(), Ok(OutboxPolicy::WriteAhead));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutboxPolicy {
    /// Spans and feedback that could not be delivered after the retries. They survive an outage of
    /// the collector and a regular end of the process. While the collector is available, nothing is
    /// written.
    #[default]
    Spill,
    /// Every enrichment when it is made, and spans as with [`Spill`](Self::Spill). Feedback
    /// survives a crash, too: it is on disk within 20 ms, and at once where a caller waits for it
    /// (`Telemetry::flush`, the 204 of the feedback routes). Span fields named `feedback.…` are not
    /// enrichments: they are exported with their span.
    WriteAhead,
}

/// An unknown name of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown outbox policy {value:?}: use `spill` or `write_ahead`")]
pub struct OutboxPolicyError {
    value: String,
}

impl FromStr for OutboxPolicy {
    type Err = OutboxPolicyError;

    fn from_str(value: &str) -> Result<Self, OutboxPolicyError> {
        match value.trim().to_ascii_lowercase().replace('-', "_").as_str() {
            "spill" => Ok(Self::Spill),
            "write_ahead" => Ok(Self::WriteAhead),
            _ => Err(OutboxPolicyError { value: value.to_owned() }),
        }
    }
}
