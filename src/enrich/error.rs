//! The errors of an enrichment, and its outcome.

use std::time::Duration;

use crate::printable::Printable;
use crate::session::SessionIdError;

/// Why an enrichment, or a part of it, was refused or changed.
///
/// An error affects only what it names: if one key is refused, its siblings are kept.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use tracing_feedback::{EnrichError, enrich_span};
///
/// let _span = tracing::info_span!("answer").entered();
/// let outcome = enrich_span!(feedback = { "rating": 5, "score": f64::NAN });
/// let errors: Vec<_> = outcome.errors().collect();
/// assert_eq!(errors, [&EnrichError::NotFinite { key: "feedback.score".to_owned() }]);
/// // `feedback.rating` was kept.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnrichError {
    /// The current subscriber has no layer of this crate.
    #[error(
        "the layer is not installed in the current subscriber: call `tracing_feedback::init()`, or \
         add the layer of `tracing_feedback::builder().build()` to a `tracing_subscriber::Registry`"
    )]
    NotInstalled,
    /// Telemetry was switched off by `OTEL_SDK_DISABLED`.
    #[error("telemetry is switched off by the environment variable OTEL_SDK_DISABLED")]
    SdkDisabled,
    /// The caller is not in a captured span, and no target was given.
    #[error("no captured span is active here: call this inside a span, or give `span` or `target`")]
    NoActiveSpan,
    /// The span given explicitly isn't captured: a filter hides it, or it is `Span::none()`.
    #[error(
        "the given span is disabled by a filter, so it can't carry anything: give another span"
    )]
    SpanDisabled,
    /// The span given explicitly is captured by a layer of another crate.
    #[error(
        "the given span is captured by another layer: for one of `tracing-opentelemetry`, switch on the \
         feature `tracing-opentelemetry` of this crate, or leave `span` out and call this inside the span"
    )]
    OtherLayer,
    /// Telemetry was shut down before the call.
    #[error("telemetry was shut down: enrich before `Telemetry::shutdown`")]
    ShutDown,
    /// This process was forked after the layer was built, and has no thread that exports.
    #[error("this process was forked after the layer was built: build the layer after the fork")]
    Forked,
    /// The queue is full of feedback that could not be sent yet.
    #[error(
        "the queue is full of feedback that could not be sent yet: try again later, or raise its \
         limit (`with_max_queue_bytes`)"
    )]
    QueueFull,
    /// The outbox, which is written ahead, can't store the enrichment. The enrichment was attached all the
    /// same, and is lost only if the process crashes before the collector has received it.
    #[error(
        "the feedback was attached, but the outbox can't store it now: check its disk and its limits \
         (`OutboxOptions::with_max_bytes`)"
    )]
    NotDurable,
    /// The target's trace id or span id is zero.
    #[error("the target is not a valid span context: its trace id or span id is zero")]
    InvalidTarget,
    /// `session_id` is not a valid session id.
    #[error(transparent)]
    InvalidSessionId(#[from] SessionIdError),
    /// `id` was given for an enrichment that is not a late submission.
    #[error("`id` names a late submission: give `target`, or the `session_id` of another session")]
    IdWithoutTarget,
    /// The target is the ticket of a session, which has no span.
    #[error("the ticket is for a session and names no span: use `enrich_session!`")]
    TicketOfSession,
    /// `session_id` is not the session of the ticket, or the ticket has no session.
    #[error("the ticket is not for the session given by `session_id`: leave `session_id` out")]
    ForeignSession,
    /// The ticket doesn't allow the namespace or the top-level key, which is refused with everything
    /// under it. Other keys are kept.
    #[error(
        "the ticket doesn't allow {key}: leave it out, or issue tickets that allow it \
         (`TicketOptions::with_namespaces`, `with_keys`)",
        key = Printable(.key)
    )]
    NotAllowed {
        /// The namespace and the top-level key.
        key: String,
    },
    /// The ticket, or its subject, has spent its budget (`TicketBudget`). Nothing of the enrichment was kept.
    #[error(
        "the ticket has spent its budget of {what}: try again in {} seconds, or raise the budget \
         (`with_ticket_budget`); for feedback of the service itself give a `SpanContext` as target",
        seconds(*retry_after)
    )]
    OverBudget {
        /// What was spent, such as `submissions an hour`.
        what: &'static str,
        /// After how long the same enrichment will be accepted.
        retry_after: Duration,
    },
    /// Feedback that came with tickets fills its share of the queue, or of the outbox: half of each. The rest is
    /// for the service's own. Nothing of the enrichment was kept.
    #[error(
        "feedback that waits fills the share that tickets may use: try again later, or raise the limit \
         (`with_max_queue_bytes`, `OutboxOptions::with_max_bytes`)"
    )]
    ShareFull,
    /// A key that came with a ticket is longer than 128 characters, or has one that is not visible. The key is
    /// refused, the others are kept.
    #[error(
        "{key} can't be a key of a ticket: use at most 128 visible characters, and no spaces",
        key = Printable(.key)
    )]
    UnfitKey {
        /// The beginning of the full key, its invisible characters escaped.
        key: String,
    },
    /// The value given for a namespace is neither an object nor null.
    #[error("{namespace} takes an object (or null to retract all of it), not {found}", namespace = Printable(.namespace))]
    NotAnObject {
        /// The namespace, for example `feedback`.
        namespace: String,
        /// What was given instead.
        found: &'static str,
    },
    /// The value is NaN or an infinity. The key is refused, the others are kept.
    #[error("{key} is not a finite number: leave it out, or send it as a string", key = Printable(.key))]
    NotFinite {
        /// The full key.
        key: String,
    },
    /// The value has a type that no attribute can hold. The key is refused, the others are kept.
    #[error("{key} holds {found}, which no attribute can hold: send a string instead", key = Printable(.key))]
    Unsupported {
        /// The full key.
        key: String,
        /// The type that was found.
        found: &'static str,
    },
    /// The key can't be a path: it is empty, has an empty segment, or is not a string. The key is refused,
    /// the others are kept.
    #[error("a key under {parent} {reason}: use a non-empty string", parent = Printable(.parent))]
    InvalidKey {
        /// The full key of the object that has this key.
        parent: String,
        /// What is wrong with the key.
        reason: &'static str,
    },
    /// The value nests too deeply for separate attributes. The deeper values were kept as one JSON string
    /// at `key`.
    #[error("{key} nests more than {limit}: the deeper values were kept there as one JSON string", key = Printable(.key))]
    TooDeep {
        /// The deepest key allowed, which now holds the JSON string.
        key: String,
        /// The limit that was exceeded: `5 objects` or `2 arrays`.
        limit: &'static str,
    },
    /// The value nests deeper than any value is read. The key is refused, the others are kept.
    #[error("{key} nests more than {limit} and was refused", key = Printable(.key))]
    TooDeepToKeep {
        /// The key that was refused.
        key: String,
        /// The limit that was exceeded.
        limit: &'static str,
    },
    /// A string was longer than the limit and was cut, between two characters.
    #[error("{key} is longer than {limit} and was cut", key = Printable(.key))]
    Truncated {
        /// The full key.
        key: String,
        /// The limit with its unit.
        limit: String,
    },
    /// Values that nest too deeply don't fit into one JSON string. The key is refused.
    #[error("{key} as a JSON string is longer than {limit} bytes and was refused", key = Printable(.key))]
    JsonTooLong {
        /// The full key.
        key: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The enrichment as a whole is too large. The keys before `key` are kept.
    #[error(
        "the enrichment holds more than {limit} bytes: {key} and the keys after it were refused",
        key = Printable(.key)
    )]
    TooLarge {
        /// The first key that did not fit.
        key: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The span can't hold as many attributes as the enrichment has leaves.
    #[error(
        "{dropped} of the keys were dropped: a span holds at most {limit} attributes \
         (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, `with_span_limits`)"
    )]
    LimitExceeded {
        /// The number of attributes a span may have.
        limit: usize,
        /// How many leaves, or removals, were dropped.
        dropped: usize,
    },
    /// The value's own `Serialize`, or its `Display`, failed. What it wrote before is kept, as are the other keys;
    /// of a value that lies so deep that it is part of a JSON string, nothing is kept.
    #[error("{key} could not be serialized: {message}", key = Printable(.key), message = Printable(.message))]
    Serialize {
        /// The full key.
        key: String,
        /// The message of the implementation.
        message: String,
    },
    /// The function given to `with_redaction` panicked on this key. The value was dropped.
    #[error("the redaction function panicked on {key}, so its value was dropped", key = Printable(.key))]
    RedactionPanicked {
        /// The full key.
        key: String,
    },
}

/// Whole seconds, rounded up, at least one.
pub(crate) fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1)
}

impl EnrichError {
    /// Whether the value that the error names was attached all the same, changed or at risk: a string that
    /// was cut ([`Truncated`](Self::Truncated)), values that nest too deeply and were kept as JSON text
    /// ([`TooDeep`](Self::TooDeep)), feedback that the outbox could not write
    /// ([`NotDurable`](Self::NotDurable)). `false` if the value was refused.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{EnrichError, enrich_span};
    ///
    /// let _span = tracing::info_span!("answer").entered();
    /// let edits = serde_json::json!([[[1]]]);
    /// let outcome = enrich_span!(feedback = { "score": f64::NAN, "edits": edits });
    /// let kept: Vec<_> = outcome.errors().map(EnrichError::was_kept).collect();
    /// assert_eq!(kept, [false, true]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn was_kept(&self) -> bool {
        matches!(self, Self::Truncated { .. } | Self::TooDeep { .. } | Self::NotDurable)
    }

    /// The name under which [`Stats::refused`](crate::Stats::refused) counts this error.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{EnrichError, enrich_span};
    ///
    /// let outcome = enrich_span!(feedback = { "rating": 5 });
    /// assert_eq!(outcome.errors().next().map(EnrichError::reason), Some("no_active_span"));
    /// assert_eq!(telemetry.stats().refused["no_active_span"], 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotInstalled => "not_installed",
            Self::SdkDisabled => "sdk_disabled",
            Self::NoActiveSpan => "no_active_span",
            Self::SpanDisabled => "span_disabled",
            Self::OtherLayer => "other_layer",
            Self::ShutDown => "shut_down",
            Self::Forked => "forked",
            Self::QueueFull => "queue_full",
            Self::NotDurable => "not_durable",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidSessionId(_) => "invalid_session_id",
            Self::IdWithoutTarget => "id_without_target",
            Self::TicketOfSession => "ticket_of_session",
            Self::ForeignSession => "foreign_session",
            Self::NotAllowed { .. } => "not_allowed",
            Self::OverBudget { .. } => "over_budget",
            Self::ShareFull => "share_full",
            Self::UnfitKey { .. } => "unfit_key",
            Self::NotAnObject { .. } => "not_an_object",
            Self::NotFinite { .. } => "not_finite",
            Self::Unsupported { .. } => "unsupported",
            Self::InvalidKey { .. } => "invalid_key",
            Self::TooDeep { .. } => "too_deep",
            Self::TooDeepToKeep { .. } => "too_deep_to_keep",
            Self::Truncated { .. } => "truncated",
            Self::JsonTooLong { .. } => "json_too_long",
            Self::TooLarge { .. } => "too_large",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::Serialize { .. } => "serialize",
            Self::RedactionPanicked { .. } => "redaction_panicked",
        }
    }
}

/// The outcome of an enrichment. It may be ignored: refusals are also counted in
/// [`Stats`](crate::Stats) and warned about once per call site.
///
/// ```
/// use tracing_feedback::{EnrichError, enrich_span};
///
/// // No layer is installed here, which is an error.
/// let outcome = enrich_span!(feedback = { "rating": true });
/// assert!(!outcome.is_ok());
/// assert_eq!(outcome.into_result(), Err(EnrichError::NotInstalled));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enrichment {
    first: Option<EnrichError>,
    more: Vec<EnrichError>,
}

impl Enrichment {
    /// How many errors are kept. It bounds the outcome of an enrichment with a million bad keys, whose
    /// errors repeat each other.
    const MOST: usize = 32;

    /// Whether everything was attached unchanged.
    #[inline]
    pub fn is_ok(&self) -> bool {
        self.first.is_none()
    }

    /// The errors, of everything that was refused or changed, in the order they were found (the first 32).
    pub fn errors(&self) -> impl Iterator<Item = &EnrichError> {
        self.first.iter().chain(&self.more)
    }

    /// The outcome as a `Result`, for `?`.
    ///
    /// # Errors
    ///
    /// The first of the [`errors`](Self::errors).
    pub fn into_result(self) -> Result<(), EnrichError> {
        self.first.map_or(Ok(()), Err)
    }

    /// Adds an error, if there is one.
    pub(crate) fn extend(&mut self, error: Option<EnrichError>) {
        error.into_iter().for_each(|error| self.push(error));
    }

    pub(crate) fn push(&mut self, error: EnrichError) {
        if self.first.is_none() {
            self.first = Some(error);
        } else if self.more.len() < Self::MOST - 1 {
            self.more.push(error);
        }
    }
}

impl From<EnrichError> for Enrichment {
    #[inline]
    fn from(error: EnrichError) -> Self {
        Self { first: Some(error), more: Vec::new() }
    }
}
