//! The errors of tickets, and of the keys that sign them.

use std::time::Duration;

use super::binary::MOST_CHARACTERS;
use crate::printable::Printable;

/// Why a ticket was not issued, or a text was refused as one.
///
/// An error about a text from outside reveals only its class, never in which way a signature is
/// wrong.
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
    /// Issuing: the span isn't captured. A filter disables it, or it is `Span::none()`.
    #[error("the given span is disabled by a filter, so it can't be rated: give another span")]
    SpanDisabled,
    /// Issuing: the given span is captured by a layer of another crate.
    #[error(
        "the given span is captured by another layer: for one of `tracing-opentelemetry`, switch on the \
         feature `tracing-opentelemetry` of this crate, or call `ticket` inside the span"
    )]
    OtherLayer,
    /// Issuing: a time to live that no ticket can have.
    #[error("a ticket can't live for {given:?}: give a millisecond to ten years")]
    InvalidTimeToLive {
        /// The given time to live.
        given: Duration,
    },
    /// Issuing: a ticket that would allow nothing.
    #[error("a ticket has to allow a namespace: leave `with_namespaces` out, or give `feedback`")]
    NoNamespace,
    /// Issuing: an unknown namespace.
    #[error(
        "unknown namespace {namespace:?}: use feedback, metrics, metadata, user_properties, \
         inputs, outputs or config"
    )]
    UnknownNamespace {
        /// The given namespace.
        namespace: String,
    },
    /// Issuing: something that can't be a top-level key.
    #[error("the top-level key {key:?} {reason}")]
    InvalidKey {
        /// The given key.
        key: String,
        /// What is wrong with it, and what would be right.
        reason: &'static str,
    },
    /// Issuing: an empty subject, which is more likely a missing user than a user.
    #[error("a subject can't be empty: leave `with_subject` out where there is none")]
    EmptySubject,

    /// Issuing and verifying: more than the 512 characters of a ticket.
    #[error(
        "a ticket has at most {MOST_CHARACTERS} characters, and this one {length}: allow fewer or \
         shorter top-level keys where it is issued"
    )]
    TooLong {
        /// How many characters it has.
        length: usize,
    },

    /// Verifying: a text that is not a ticket.
    #[error("this is not a ticket: send the text of a ticket as it was issued")]
    Malformed,
    /// Verifying: a ticket of an unknown version.
    #[error("the ticket has the unknown version {version}: update this service")]
    UnknownVersion {
        /// The version in the ticket.
        version: u8,
    },
    /// Verifying: no key that is configured here has signed this text.
    #[error(
        "the ticket's signature is not of any key configured here: it was altered, or the key that \
         signed it has to be kept among the older ones"
    )]
    BadSignature,
    /// Verifying: the ticket was issued in the future, by more than clocks may differ.
    #[error(
        "the ticket was issued in the future: set the clocks, or allow for more difference \
         (`TicketVerifier::with_clock_skew`)"
    )]
    NotYetValid,
    /// Verifying: the ticket has expired.
    #[error(
        "the ticket has expired: issue another, or let tickets live longer \
         (`TicketOptions::with_time_to_live`)"
    )]
    Expired,
    /// Verifying: the ticket was issued to a subject, and the verifier has none to compare.
    #[error(
        "the ticket was issued to a subject: give the subject that sends it \
         (`TicketVerifier::with_subject`)"
    )]
    SubjectMissing,
    /// Verifying: the ticket was issued to another subject.
    #[error("the ticket was issued to another subject: send one that was issued to this one")]
    WrongSubject,
    /// [`Ticket::check`](crate::Ticket::check): the ticket doesn't allow the key.
    #[error(
        "the ticket doesn't allow {key}: leave it out, or issue tickets that allow it \
         (`TicketOptions::with_namespaces`, `with_keys`)",
        key = Printable(.key)
    )]
    NotAllowed {
        /// The namespace and the top-level key.
        key: String,
    },
}

impl TicketError {
    /// A name of this class of error, for metrics and responses.
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
            Self::OtherLayer => "other_layer",
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

/// Why ticket keys were refused. The error has the position of the key, never its bytes.
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
        /// The position of the key, from 1.
        position: usize,
    },
    /// A key that is short enough to be guessed.
    #[error("key {position} has {length} bytes: give 32 random bytes or more")]
    TooShort {
        /// The position of the key, from 1.
        position: usize,
        /// The length of the key in bytes.
        length: usize,
    },
}
