//! Tickets: the right to attach feedback to one span or session, as text that a browser can hold.
//!
//! Users rate an answer after they have read it: its span has ended, the rating comes in another
//! request, and the browser holds no secret. So the service sends a [`Ticket`] with the answer. A
//! client that sends the text of the ticket back can attach feedback to that span (or session),
//! until the ticket expires, within the namespaces and keys that it allows, and to nothing else.
//!
//! A [`Ticket`] is made by issuing ([`ticket`](crate::ticket()),
//! [`SpanExt::ticket`](crate::SpanExt::ticket), [`Session::ticket`](crate::Session::ticket)) or by
//! verifying a text ([`TicketVerifier`]), and in no other way, so that a `Ticket` needs no further
//! check. [`binary`] describes the bytes of its text, [`keys`] the keys that sign it.

mod accounts;
mod binary;
mod budget;
mod charge;
mod error;
mod issue;
mod keys;
mod options;
mod verify;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::SpanContext;
use sha2::{Digest, Sha256};

pub(crate) use accounts::TicketAccounts;
pub use budget::TicketBudget;
pub(crate) use charge::{Charge, Cost, OverBudget};
pub use error::{TicketError, TicketKeyError};
pub(crate) use issue::issue;
pub use keys::TicketKeys;
pub use options::TicketOptions;
pub use verify::TicketVerifier;

use crate::session::Session;
use binary::Claims;

/// The right to attach feedback to one span or session.
///
/// [`ticket`](crate::ticket()), [`SpanExt::ticket`](crate::SpanExt::ticket) and
/// [`Session::ticket`](crate::Session::ticket) issue one; its text, of at most 512 characters that
/// are safe in a URL, goes to the front end with the answer. When it comes back a
/// [`TicketVerifier`] turns the text into a ticket again, which is then the `target` of
/// [`enrich_span!`](crate::enrich_span) and [`enrich_session!`](crate::enrich_session).
///
/// The text is signed, not encrypted: anyone who holds it can read the ids in it. Cheap to clone.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// use tracing_feedback::{EnrichError, TicketKeys, enrich_span};
///
/// let (layer, telemetry) = tracing_feedback::builder()
///     .with_ticket_keys(TicketKeys::new([[7; 32]])?) // a secret, of course
///     .build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// let text = tracing::info_span!("answer").in_scope(tracing_feedback::ticket)?.to_string();
///
/// // Later, with what the browser has sent:
/// let ticket = telemetry.ticket_verifier().verify(&text)?;
/// assert!(enrich_span!(target = &ticket, id = "vote-1", feedback = { "rating": true }).is_ok());
/// let outcome = enrich_span!(target = &ticket, metrics = { "score": 1.0 });
/// let key = "metrics.score".to_owned();
/// assert_eq!(outcome.into_result(), Err(EnrichError::NotAllowed { key }));
/// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a ticket has no effect before it is sent to a front end or used as a target"]
pub struct Ticket {
    inner: Arc<Inner>,
}

struct Inner {
    text: String,
    claims: Claims,
    /// The identity of the subject's account, over all of its tickets.
    subject_account: Option<u128>,
}

impl Ticket {
    /// `subject` is the one that the ticket was issued to, if any.
    fn new(text: String, claims: Claims, subject: Option<&str>) -> Self {
        let subject_account = subject.map(|subject| identity(b"subject ", subject.as_bytes()));
        Self { inner: Arc::new(Inner { text, claims, subject_account }) }
    }

    /// The text for the client: at most 512 characters of base64url.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::TicketKeys;
    /// # let keys = TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// let ticket = tracing::info_span!("answer").in_scope(tracing_feedback::ticket)?;
    /// assert_eq!(ticket.as_str(), ticket.to_string());
    /// assert!(ticket.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.inner.text
    }

    /// The span that the ticket is for, marked as remote; `None` for a ticket of a session.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::TicketKeys;
    /// # let keys = TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::SpanExt;
    ///
    /// let span = tracing::info_span!("answer");
    /// let ticket = span.ticket()?;
    /// let about = ticket.span_context().unwrap();
    /// assert_eq!(about.span_id(), span.span_context()?.span_id());
    /// assert!(about.is_remote() && about.is_sampled());
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn span_context(&self) -> Option<&SpanContext> {
        self.inner.claims.span.as_ref()
    }

    /// The session that the ticket is for, or that its span belongs to. A service can join the
    /// session of a verified ticket: the signature proves that the id is genuine.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::TicketKeys;
    /// # let keys = TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{Session, SpanExt};
    ///
    /// let turn = tracing::info_span!("turn", session.id = "conversation-42");
    /// let text = turn.ticket()?.to_string();
    ///
    /// // The next question comes with the ticket of the last answer.
    /// let ticket = telemetry.ticket_verifier().verify(&text)?;
    /// let next = tracing::info_span!("turn");
    /// if let Some(session) = ticket.session() {
    ///     next.set_session(session)?;
    /// }
    /// assert_eq!(next.in_scope(Session::current).unwrap().id(), "conversation-42");
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn session(&self) -> Option<&Session> {
        self.inner.claims.session.as_ref()
    }

    /// When the ticket was issued, to the millisecond.
    pub fn issued_at(&self) -> SystemTime {
        time(self.inner.claims.issued)
    }

    /// The time from which on the ticket is refused.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::TicketKeys;
    /// # let keys = TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::TicketOptions;
    ///
    /// let ticket = tracing::info_span!("answer").in_scope(tracing_feedback::ticket)?;
    /// let lives = ticket.expires_at().duration_since(ticket.issued_at())?;
    /// assert_eq!(lives, TicketOptions::DEFAULT_TIME_TO_LIVE);
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn expires_at(&self) -> SystemTime {
        time(self.inner.claims.expires)
    }

    /// The namespaces that the ticket allows.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::TicketKeys;
    /// # let keys = TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// let ticket = tracing::info_span!("answer").in_scope(tracing_feedback::ticket)?;
    /// assert_eq!(ticket.namespaces().collect::<Vec<_>>(), ["feedback"]);
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn namespaces(&self) -> impl Iterator<Item = &'static str> {
        self.inner.claims.namespaces.names()
    }

    /// The top-level keys that the ticket allows in its namespaces; `None` allows all.
    pub fn keys(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        let keys = &self.inner.claims.keys;
        (!keys.is_empty()).then(|| keys.iter().map(String::as_str))
    }

    /// Whether the ticket was issued to a subject, and is refused for any other.
    pub fn has_subject(&self) -> bool {
        self.inner.claims.subject.is_some()
    }

    /// Checks that the ticket allows enriching the top-level `key` of `namespace`. An enrichment
    /// with the ticket makes the same check.
    ///
    /// # Errors
    ///
    /// [`TicketError::NotAllowed`], which names the key.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::TicketKeys;
    /// # let keys = TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{SpanExt, TicketError, TicketOptions};
    ///
    /// let options = TicketOptions::new().with_keys(["rating", "comment"]);
    /// let ticket = tracing::info_span!("answer").ticket_with(&options)?;
    /// assert_eq!(ticket.check("feedback", "rating"), Ok(()));
    /// let key = "feedback.ground_truth".to_owned();
    /// assert_eq!(ticket.check("feedback", "ground_truth"), Err(TicketError::NotAllowed { key }));
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check(&self, namespace: &str, key: &str) -> Result<(), TicketError> {
        let key = format!("{namespace}.{key}");
        if self.permits(&key) { Ok(()) } else { Err(TicketError::NotAllowed { key }) }
    }

    /// Whether the leaf at the full key, from the bare namespace on, may be set or removed.
    pub(crate) fn permits(&self, key: &str) -> bool {
        let Claims { namespaces, keys, .. } = &self.inner.claims;
        let mut segments = key.split('.');
        if !segments.next().is_some_and(|namespace| namespaces.contains(namespace)) {
            return false;
        }
        // A ticket for some keys doesn't allow setting the namespace as a whole.
        keys.is_empty() || segments.next().is_some_and(|key| keys.iter().any(|kept| kept == key))
    }

    /// The identities of the accounts that pay for feedback with this ticket: that of the ticket, and that of its
    /// subject.
    fn accounts(&self) -> (u128, Option<u128>) {
        let of_ticket = identity(b"ticket ", &self.inner.claims.nonce);
        (of_ticket, self.inner.subject_account)
    }

    /// The identity of the submitter, which scopes the ids of submissions: the subject, or this one
    /// ticket if it has no subject.
    pub(crate) fn holder(&self) -> Vec<u8> {
        let Claims { subject, nonce, .. } = &self.inner.claims;
        match subject {
            Some(subject) => [b"subject ", subject.as_slice()].concat(),
            None => [b"holder ", nonce.as_slice()].concat(),
        }
    }
}

/// The identity of an account. It is a hash, so that all have one size, and none shows a subject.
fn identity(kind: &[u8], name: &[u8]) -> u128 {
    let hash = Sha256::new().chain_update(kind).chain_update(name).finalize();
    hash.first_chunk().map_or(0, |first| u128::from_be_bytes(*first))
}

fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The claims without the text, which with its signature is only for the holder.
impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("span_context", &self.span_context())
            .field("session", &self.session())
            .field("issued_at", &self.issued_at())
            .field("expires_at", &self.expires_at())
            .field("namespaces", &self.namespaces().collect::<Vec<_>>())
            .field("keys", &self.inner.claims.keys)
            .field("has_subject", &self.has_subject())
            .finish_non_exhaustive()
    }
}

/// Tickets are equal if their texts are.
impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Ticket {}

/// Serialized as its text, for the response to the client.
impl serde::Serialize for Ticket {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
