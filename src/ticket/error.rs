//! What can be wrong with a ticket, and with the keys that sign it.

use std::time::Duration;

use super::binary::MOST_CHARACTERS;

/// Why a ticket was not issued, or a text was refused as one.
///
/// Of what comes from outside no error tells more than its class: nothing says in what a signature
/// failed.
///
/// ```
/// use tracing_feedback::{TicketError, TicketKeys};
///
/// let verifier = TicketKeys::new([[7; 32]])?.verifier();
/// assert_eq!(verifier.verify("nonsense"), Err(TicketError::Malformed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// There is no key to sign or to check with.
    #[error(
        "no ticket keys are configured: give `builder().with_ticket_keys(…)`, or set \
         FEEDBACK_TICKET_KEYS to 32 random bytes in base64url"
    )]
    NoKeys,

    /// Issuing: the current subscriber has no layer of this crate.
    #[error(
        "the layer is not installed in the current subscriber: call `tracing_feedback::init()`, or \
         add the layer of `tracing_feedback::builder().build()` to a `tracing_subscriber::Registry`"
    )]
    NotInstalled,
    /// Issuing: telemetry was switched off by `OTEL_SDK_DISABLED`, so there is nothing to rate.
    #[error("telemetry is switched off by the environment variable OTEL_SDK_DISABLED")]
    SdkDisabled,
    /// Issuing: no captured span is around the caller.
    #[error(
        "no captured span is active here: call this inside a span, or `SpanExt::ticket` on one"
    )]
    NoActiveSpan,
    /// Issuing: the span isn't captured. A filter hides it, or it is `Span::none()`.
    #[error("the given span is disabled by a filter, so no one can rate it: give another span")]
    SpanDisabled,
    /// Issuing: a time to live that no ticket can have.
    #[error("a ticket can't live for {given:?}: give a millisecond to ten years")]
    InvalidTimeToLive {
        /// What was given.
        given: Duration,
    },
    /// Issuing: a ticket that would allow nothing.
    #[error("a ticket has to allow a namespace: leave `with_namespaces` out, or give `feedback`")]
    NoNamespace,
    /// Issuing: a namespace that there isn't.
    #[error(
        "unknown namespace {namespace:?}: use feedback, metrics, metadata, user_properties, \
         inputs, outputs or config"
    )]
    UnknownNamespace {
        /// What was given.
        namespace: String,
    },
    /// Issuing: something that can't be a top-level key.
    #[error("the top-level key {key:?} {reason}")]
    InvalidKey {
        /// What was given.
        key: String,
        /// What is wrong with it, and what would be right.
        reason: &'static str,
    },
    /// Issuing: the empty string as a subject, which is more likely someone unknown than someone.
    #[error("a subject can't be empty: leave `with_subject` out where there is none")]
    EmptySubject,

    /// More characters than a ticket has. It is refused whether it is issued or verified.
    #[error(
        "a ticket has at most {MOST_CHARACTERS} characters, and this one {length}: allow fewer or \
         shorter top-level keys where it is issued"
    )]
    TooLong {
        /// How many characters it has.
        length: usize,
    },

    /// Verifying: a text that is no ticket.
    #[error("this is no ticket: send the text of one as it was issued")]
    Malformed,
    /// Verifying: a ticket of a version that is not known here.
    #[error("the ticket is of version {version}, which is not known here: update this service")]
    UnknownVersion {
        /// The version it says it has.
        version: u8,
    },
    /// Verifying: no key that is configured here has signed this text.
    #[error(
        "the ticket's signature is not of any key configured here: it was altered, or the key that \
         signed it has to be kept among the older ones"
    )]
    BadSignature,
    /// Verifying: issued in the future, by more than clocks may differ.
    #[error(
        "the ticket was issued in the future: set the clocks, or allow for more difference \
         (`TicketVerifier::with_clock_skew`)"
    )]
    NotYetValid,
    /// Verifying: its time is over.
    #[error(
        "the ticket has expired: issue another, or let tickets live longer \
         (`TicketOptions::with_time_to_live`)"
    )]
    Expired,
    /// Verifying: it was issued to someone, and the verifier was not told to whom it belongs now.
    #[error(
        "the ticket was issued to a subject: say who sends it (`TicketVerifier::with_subject`)"
    )]
    SubjectMissing,
    /// Verifying: it was issued to someone else.
    #[error("the ticket was issued to another subject: send one that was issued to this one")]
    WrongSubject,
    /// [`Ticket::check`](crate::Ticket::check): the ticket doesn't allow the key.
    #[error(
        "the ticket doesn't allow {key}: leave it out, or issue tickets that do \
         (`TicketOptions::with_namespaces`, `with_keys`)"
    )]
    NotAllowed {
        /// The namespace and the top-level key.
        key: String,
    },
}

impl TicketError {
    /// A name for this class of error, for counters and for answers.
    ///
    /// ```
    /// use tracing_feedback::TicketError;
    ///
    /// assert_eq!(TicketError::BadSignature.reason(), "bad_signature");
    /// ```
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoKeys => "no_keys",
            Self::NotInstalled => "not_installed",
            Self::SdkDisabled => "sdk_disabled",
            Self::NoActiveSpan => "no_active_span",
            Self::SpanDisabled => "span_disabled",
            Self::InvalidTimeToLive { .. } => "invalid_time_to_live",
            Self::NoNamespace => "no_namespace",
            Self::UnknownNamespace { .. } => "unknown_namespace",
            Self::InvalidKey { .. } => "invalid_key",
            Self::EmptySubject => "empty_subject",
            Self::TooLong { .. } => "too_long",
            Self::Malformed => "malformed",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::BadSignature => "bad_signature",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::SubjectMissing => "subject_missing",
            Self::WrongSubject => "wrong_subject",
            Self::NotAllowed { .. } => "not_allowed",
        }
    }
}

/// Why keys can't be ticket keys. It says which, never what they are.
///
/// ```
/// use tracing_feedback::{TicketKeyError, TicketKeys};
///
/// let error = TicketKeys::new(["a password"]).unwrap_err();
/// assert_eq!(error, TicketKeyError::TooShort { position: 1, length: 10 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketKeyError {
    /// No key at all.
    #[error("there is no key: give at least one, of 32 random bytes or more")]
    Empty,
    /// Text that is not base64url.
    #[error(
        "key {position} isn't base64url: write 32 random bytes with letters, digits, `-` and `_` \
         (`head -c 32 /dev/urandom | basenc --base64url`)"
    )]
    NotBase64 {
        /// Which one, from 1.
        position: usize,
    },
    /// A key that could be guessed.
    #[error("key {position} has {length} bytes: give 32 random bytes or more")]
    TooShort {
        /// Which one, from 1.
        position: usize,
        /// How many bytes it has.
        length: usize,
    },
}
