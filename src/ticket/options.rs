//! The options of a ticket: what it allows, to which subject, and for how long.

use std::fmt;
use std::time::Duration;

use super::binary::Namespaces;
use super::error::TicketError;

/// The longest time to live: ten years, so that no date overflows.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The most bytes of a top-level key.
const MOST_KEY_BYTES: usize = 128;

/// The options of a ticket: what it allows, to which subject, and for how long.
///
/// | | default |
/// | --- | --- |
/// | time to live | 7 days |
/// | namespaces | `feedback` |
/// | top-level keys | all |
/// | subject | none: the ticket is accepted from anyone who holds it |
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// # use tracing_feedback::TicketKeys;
/// # let keys = TicketKeys::new([[7; 32]])?;
/// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use std::time::Duration;
/// use tracing_feedback::{SpanExt, TicketOptions};
///
/// let options = TicketOptions::new()
///     .with_time_to_live(Duration::from_secs(3600))
///     .with_keys(["rating", "comment"])
///     .with_subject("user-17");
/// let ticket = tracing::info_span!("answer").ticket_with(&options)?;
/// assert!(ticket.has_subject());
/// assert!(ticket.keys().unwrap().eq(["rating", "comment"]));
/// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "options do nothing before a ticket is issued with them"]
pub struct TicketOptions {
    time_to_live: Duration,
    namespaces: Vec<String>,
    keys: Vec<String>,
    subject: Option<String>,
}

impl TicketOptions {
    /// The default time to live: 7 days.
    pub const DEFAULT_TIME_TO_LIVE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// The defaults.
    pub fn new() -> Self {
        Self {
            time_to_live: Self::DEFAULT_TIME_TO_LIVE,
            namespaces: vec!["feedback".to_owned()],
            keys: Vec::new(),
            subject: None,
        }
    }

    /// How long the ticket is accepted, counted in whole milliseconds.
    pub fn with_time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// The namespaces that the ticket allows, instead of `feedback` alone. `metrics` is for
    /// evaluators: think twice before you let a browser have it.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::TicketKeys;
    /// # let keys = TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{SpanExt, TicketOptions};
    ///
    /// let options = TicketOptions::new().with_namespaces(["feedback", "metadata"]);
    /// let ticket = tracing::info_span!("answer").ticket_with(&options)?;
    /// assert!(ticket.check("metadata", "viewport").is_ok());
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_namespaces<N: Into<String>>(
        mut self,
        namespaces: impl IntoIterator<Item = N>,
    ) -> Self {
        self.namespaces = namespaces.into_iter().map(Into::into).collect();
        self
    }

    /// The top-level keys that the ticket allows in its namespaces, with everything below them:
    /// `rating` allows `feedback.rating`. An empty list allows every key.
    pub fn with_keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// The subject that the ticket is issued to: the signed-in user, as the service identifies
    /// users. The ticket is refused when another subject sends it
    /// ([`TicketVerifier::with_subject`](crate::TicketVerifier::with_subject)). It contains a keyed
    /// hash, which doesn't reveal the subject.
    ///
    /// The `id` of a submission identifies it among all submissions of the subject, whichever of
    /// the subject's tickets they come with, as long as the same key signs them. Without a subject
    /// it identifies the submission among those that come with this one ticket.
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    pub(super) fn subject(&self) -> Result<Option<&str>, TicketError> {
        match self.subject.as_deref() {
            Some("") => Err(TicketError::EmptySubject),
            subject => Ok(subject),
        }
    }

    pub(super) fn milliseconds(&self) -> Result<u64, TicketError> {
        let given = self.time_to_live;
        match u64::try_from(given.as_millis()) {
            Ok(milliseconds @ 1..) if given <= LONGEST => Ok(milliseconds),
            _ => Err(TicketError::InvalidTimeToLive { given }),
        }
    }

    pub(super) fn namespaces(&self) -> Result<Namespaces, TicketError> {
        let mut namespaces = Namespaces::default();
        for namespace in &self.namespaces {
            if !namespaces.insert(namespace) {
                let namespace = namespace.clone();
                return Err(TicketError::UnknownNamespace { namespace });
            }
        }
        if namespaces.is_empty() { Err(TicketError::NoNamespace) } else { Ok(namespaces) }
    }

    pub(super) fn keys(&self) -> Result<Vec<String>, TicketError> {
        for key in &self.keys {
            let reason = if key.is_empty() {
                "is empty: leave it out"
            } else if key.contains('.') {
                "is a path: give its first part"
            } else if key.len() > MOST_KEY_BYTES {
                "has more than 128 bytes: give a shorter one"
            } else {
                continue;
            };
            return Err(TicketError::InvalidKey { key: key.clone(), reason });
        }
        Ok(self.keys.clone())
    }
}

impl Default for TicketOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Omits the subject, which must not get into logs.
impl fmt::Debug for TicketOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketOptions")
            .field("time_to_live", &self.time_to_live)
            .field("namespaces", &self.namespaces)
            .field("keys", &self.keys)
            .field("has_subject", &self.subject.is_some())
            .finish()
    }
}
