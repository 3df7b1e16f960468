//! Verifying: from an untrusted text to a [`Ticket`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;

use super::Ticket;
use super::binary::{Claims, MOST_BYTES, MOST_CHARACTERS, SIGNATURE_BYTES, VERSION};
use super::error::TicketError;
use super::keys::TicketKeys;
use crate::clock;

/// Verifies an untrusted text, and turns it into a [`Ticket`] or returns the reason for a refusal.
///
/// The signature is checked first, in constant time, against one key after the other; nothing else
/// is trusted before. Then the times: a ticket is valid from its issue, with a tolerance of [one
/// minute](Self::DEFAULT_CLOCK_SKEW) for an issuer whose clock is ahead, until the millisecond
/// before its expiry, with no tolerance. Then the subject.
///
/// Made by [`Telemetry::ticket_verifier`](crate::Telemetry::ticket_verifier) or
/// [`TicketKeys::verifier`]. Cheap to clone; a verifier follows the rotation of its keys.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// # use tracing_feedback::TicketKeys;
/// # let keys = TicketKeys::new([[7; 32]])?;
/// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use tracing_feedback::{SpanExt, TicketError};
///
/// let ticket = tracing::info_span!("answer").ticket()?;
/// let verifier = telemetry.ticket_verifier();
/// assert_eq!(verifier.verify(ticket.as_str())?.span_context(), ticket.span_context());
///
/// let mut forged = ticket.to_string();
/// let last = if forged.pop() == Some('A') { 'E' } else { 'A' };
/// forged.push(last);
/// assert_eq!(verifier.verify(&forged), Err(TicketError::BadSignature));
/// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a verifier does nothing before `verify`"]
pub struct TicketVerifier {
    keys: TicketKeys,
    subject: Option<Arc<str>>,
    clock_skew: Duration,
}

impl TicketVerifier {
    /// How far the clock of a ticket's issuer may be ahead by default: one minute.
    pub const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(60);

    pub(super) fn new(keys: TicketKeys) -> Self {
        Self { keys, subject: None, clock_skew: Self::DEFAULT_CLOCK_SKEW }
    }

    /// The subject that sends the ticket: the signed-in user, as the service identifies users. A
    /// ticket that was issued to a subject is refused without it; a ticket without a subject is
    /// accepted either way.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::TicketKeys;
    /// # let keys = TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{SpanExt, TicketError, TicketOptions};
    ///
    /// let options = TicketOptions::new().with_subject("user-17");
    /// let ticket = tracing::info_span!("answer").ticket_with(&options)?;
    /// let verifier = telemetry.ticket_verifier();
    /// assert_eq!(verifier.verify(ticket.as_str()), Err(TicketError::SubjectMissing));
    /// assert!(verifier.with_subject("user-17").verify(ticket.as_str()).is_ok());
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_subject(mut self, subject: impl Into<Arc<str>>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// How far the clock of a ticket's issuer may be ahead of this service's clock.
    pub fn with_clock_skew(mut self, clock_skew: Duration) -> Self {
        self.clock_skew = clock_skew;
        self
    }

    /// Verifies a text, and returns its ticket.
    ///
    /// # Errors
    ///
    /// The text is refused: see [`TicketError`].
    pub fn verify(&self, text: &str) -> Result<Ticket, TicketError> {
        self.verify_at_milliseconds(text, clock::now() / 1_000_000)
    }

    /// As [`verify`](Self::verify), at the time `now`.
    ///
    /// # Errors
    ///
    /// The text is refused: see [`TicketError`].
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::TicketKeys;
    /// # let keys = TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use std::time::Duration;
    /// use tracing_feedback::{SpanExt, TicketError};
    ///
    /// let ticket = tracing::info_span!("answer").ticket()?;
    /// let (text, end) = (ticket.as_str(), ticket.expires_at());
    /// let verifier = telemetry.ticket_verifier();
    /// assert!(verifier.verify_at(text, end - Duration::from_millis(1)).is_ok());
    /// assert_eq!(verifier.verify_at(text, end), Err(TicketError::Expired));
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify_at(&self, text: &str, now: SystemTime) -> Result<Ticket, TicketError> {
        self.verify_at_milliseconds(text, clock::unix_nanos(now) / 1_000_000)
    }

    fn verify_at_milliseconds(&self, text: &str, now: u64) -> Result<Ticket, TicketError> {
        let keys = self.keys.all();
        if keys.is_empty() {
            return Err(TicketError::NoKeys);
        }
        if text.len() > MOST_CHARACTERS {
            return Err(TicketError::TooLong { length: text.len() });
        }
        let mut bytes = [0; MOST_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        let bytes = length.ok().and_then(|length| bytes.get(..length));
        let bytes = bytes.ok_or(TicketError::Malformed)?;
        let (signed, signature) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(TicketError::Malformed)?;
        match signed.first() {
            Some(&VERSION) => {}
            Some(&version) => return Err(TicketError::UnknownVersion { version }),
            None => return Err(TicketError::Malformed),
        }
        let mut keys = keys.iter();
        let key = keys.find(|key| key.signature(signed).verify_slice(signature).is_ok());
        let key = key.ok_or(TicketError::BadSignature)?;

        let claims = Claims::decode(signed).ok_or(TicketError::Malformed)?;
        let clock_skew = u64::try_from(self.clock_skew.as_millis()).unwrap_or(u64::MAX);
        if claims.issued > now.saturating_add(clock_skew) {
            return Err(TicketError::NotYetValid);
        }
        if claims.expires <= now {
            return Err(TicketError::Expired);
        }
        match (&claims.subject, &self.subject) {
            (None, _) => {}
            (Some(_), None) => return Err(TicketError::SubjectMissing),
            (Some(hash), Some(subject)) => {
                let expected = key.subject(&claims.target(), subject);
                expected.verify_truncated_left(hash).map_err(|_| TicketError::WrongSubject)?;
            }
        }
        // Another subject's name counts only where it was checked.
        let subject = self.subject.as_deref().filter(|_| claims.subject.is_some());
        Ok(Ticket::new(text.to_owned(), claims, subject))
    }
}

impl TicketKeys {
    /// A verifier of tickets that any service has signed with one of these keys.
    ///
    /// ```
    /// use tracing_feedback::{TicketError, TicketKeys};
    ///
    /// let verifier = TicketKeys::new([[7; 32]])?.verifier();
    /// assert_eq!(verifier.verify("AQ"), Err(TicketError::Malformed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verifier(&self) -> TicketVerifier {
        TicketVerifier::new(self.clone())
    }
}

impl fmt::Debug for TicketVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketVerifier")
            .field("keys", &self.keys)
            .field("has_subject", &self.subject.is_some())
            .field("clock_skew", &self.clock_skew)
            .finish()
    }
}
