//! Issuing: a signed [`Ticket`] for a span or session.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use opentelemetry::trace::SpanContext;

use super::Ticket;
use super::binary::{Claims, MOST_CHARACTERS, SIGNATURE_BYTES, SUBJECT_BYTES};
use super::error::TicketError;
use super::keys::TicketKeys;
use super::options::TicketOptions;
use crate::clock;
use crate::random;
use crate::session::Session;

/// Issues a ticket now. At least one of `span` and `session` must be given.
pub(crate) fn issue(
    keys: &TicketKeys,
    span: Option<&SpanContext>,
    session: Option<Session>,
    options: &TicketOptions,
) -> Result<Ticket, TicketError> {
    issue_at(keys, span, session, options, clock::now() / 1_000_000)
}

/// Issues a ticket at `now`, in milliseconds since the Unix epoch.
pub(super) fn issue_at(
    keys: &TicketKeys,
    span: Option<&SpanContext>,
    session: Option<Session>,
    options: &TicketOptions,
    now: u64,
) -> Result<Ticket, TicketError> {
    let keys = keys.all();
    let key = keys.first().ok_or(TicketError::NoKeys)?;
    let subject = options.subject()?;
    let mut claims = Claims {
        span: span.map(|span| {
            let (trace_id, span_id) = (span.trace_id(), span.span_id());
            SpanContext::new(trace_id, span_id, span.trace_flags(), true, Default::default())
        }),
        session,
        issued: now,
        expires: now.saturating_add(options.milliseconds()?),
        nonce: random::number().to_be_bytes(),
        subject: None,
        namespaces: options.namespaces()?,
        keys: options.keys()?,
    };
    if let Some(subject) = subject {
        let hash = key.subject(&claims.target(), subject).finalize().into_bytes();
        claims.subject = hash.first_chunk::<SUBJECT_BYTES>().copied();
    }
    let mut bytes = claims.encode();
    let length = (4 * (bytes.len() + SIGNATURE_BYTES)).div_ceil(3);
    if length > MOST_CHARACTERS {
        return Err(TicketError::TooLong { length });
    }
    let signature = key.signature(&bytes).finalize().into_bytes();
    bytes.extend_from_slice(&signature);
    Ok(Ticket::new(URL_SAFE_NO_PAD.encode(bytes), claims, subject))
}
