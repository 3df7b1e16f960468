//! The bytes of a ticket. Its text is their encoding in base64url without padding.
//!
//! The first byte is the version, 1. Then come parts, each one preceded by its length in one byte;
//! numbers are big-endian:
//!
//! | part | bytes |
//! | --- | --- |
//! | span | 16 of the trace id, 8 of the span id, 1 of the trace flags; empty for a ticket of a session |
//! | session | the id in ASCII; empty where there is none |
//! | issued | 8: milliseconds since the Unix epoch |
//! | expires | 8: the same |
//! | nonce | 8 random bytes, so that two tickets for one span have two holders |
//! | subject | 16 of a keyed hash; empty for a ticket without a subject |
//! | namespaces | 1: a bit for each, in the order of [`NAMESPACES`] |
//! | keys | each top-level key that is allowed, a part of its own; none where all are |
//!
//! The last 32 bytes are HMAC-SHA256 over everything before them. Only the version is read before
//! this signature has been verified. The claims are validated even then: a service with the key
//! may run another version of this crate, with a bug in it.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use crate::feedback::document::NAMESPACES;
use crate::session::Session;

pub(super) const VERSION: u8 = 1;

/// The most characters of a ticket's text, so that it fits into a header, a cookie or a URL.
pub(super) const MOST_CHARACTERS: usize = 512;
/// The most bytes that fit into them.
pub(super) const MOST_BYTES: usize = MOST_CHARACTERS / 4 * 3;

pub(super) const SIGNATURE_BYTES: usize = 32;
pub(super) const SUBJECT_BYTES: usize = 16;

/// The end of the year 9999: a later time is refused.
const LATEST: u64 = 253_402_300_799_999;

/// The claims of a ticket.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claims {
    pub(super) span: Option<SpanContext>,
    pub(super) session: Option<Session>,
    /// Milliseconds since the Unix epoch.
    pub(super) issued: u64,
    pub(super) expires: u64,
    pub(super) nonce: [u8; 8],
    pub(super) subject: Option<[u8; SUBJECT_BYTES]>,
    pub(super) namespaces: Namespaces,
    /// Top-level keys; empty allows all.
    pub(super) keys: Vec<String>,
}

impl Claims {
    /// The bytes to be signed, the version first.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MOST_BYTES);
        bytes.push(VERSION);
        let mut part = |part: &[u8]| {
            // No part is longer than a byte can count: session ids and keys have at most 128 bytes.
            let length = u8::try_from(part.len()).unwrap_or(u8::MAX);
            bytes.push(length);
            bytes.extend_from_slice(&part[..length.into()]);
        };
        part(span_bytes(self.span.as_ref()).as_ref().map_or(&[], |bytes| bytes));
        part(self.session.as_ref().map_or(&[], |session| session.id().as_bytes()));
        part(&self.issued.to_be_bytes());
        part(&self.expires.to_be_bytes());
        part(&self.nonce);
        part(self.subject.as_ref().map_or(&[], |hash| hash));
        part(&[self.namespaces.0]);
        for key in &self.keys {
            part(key.as_bytes());
        }
        bytes
    }

    /// Reads what `encode` wrote. `None` for anything else.
    pub(super) fn decode(signed: &[u8]) -> Option<Self> {
        let [VERSION, rest @ ..] = signed else { return None };
        let mut parts = Parts(rest);
        let span = match parts.next()? {
            [] => None,
            bytes => Some(span_of(bytes)?),
        };
        let session = match parts.next()? {
            [] => None,
            id => Some(Session::with_id(std::str::from_utf8(id).ok()?).ok()?),
        };
        let issued = parts.time()?;
        let expires = parts.time()?;
        let nonce = parts.next()?.try_into().ok()?;
        let subject = match parts.next()? {
            [] => None,
            hash => Some(hash.try_into().ok()?),
        };
        let namespaces = match parts.next()? {
            &[bits] => Namespaces::of_bits(bits)?,
            _ => return None,
        };
        let mut keys = Vec::new();
        while !parts.0.is_empty() {
            keys.push(std::str::from_utf8(parts.next()?).ok()?.to_owned());
        }
        let is_about_something = span.is_some() || session.is_some();
        let claims = Self { span, session, issued, expires, nonce, subject, namespaces, keys };
        is_about_something.then_some(claims)
    }

    /// The span or session as bytes, to be hashed with the subject.
    pub(super) fn target(&self) -> Vec<u8> {
        match (span_bytes(self.span.as_ref()), &self.session) {
            (Some(bytes), _) => [b"span ", &bytes[..24]].concat(),
            (None, Some(session)) => [b"session ", session.id().as_bytes()].concat(),
            (None, None) => Vec::new(),
        }
    }
}

fn span_bytes(span: Option<&SpanContext>) -> Option<[u8; 25]> {
    let span = span?;
    let mut bytes = [0; 25];
    bytes[..16].copy_from_slice(&span.trace_id().to_bytes());
    bytes[16..24].copy_from_slice(&span.span_id().to_bytes());
    bytes[24] = span.trace_flags().to_u8();
    Some(bytes)
}

fn span_of(bytes: &[u8]) -> Option<SpanContext> {
    let bytes: &[u8; 25] = bytes.try_into().ok()?;
    let (trace_id, rest) = bytes.split_first_chunk()?;
    let (span_id, flags) = rest.split_first_chunk()?;
    let (trace_id, span_id) = (TraceId::from_bytes(*trace_id), SpanId::from_bytes(*span_id));
    let flags = TraceFlags::new(*flags.first()?);
    let span = SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE);
    span.is_valid().then_some(span)
}

/// Parts that are left to be read.
struct Parts<'b>(&'b [u8]);

impl<'b> Parts<'b> {
    fn next(&mut self) -> Option<&'b [u8]> {
        let (&length, rest) = self.0.split_first()?;
        let (part, rest) = rest.split_at_checked(length.into())?;
        self.0 = rest;
        Some(part)
    }

    fn time(&mut self) -> Option<u64> {
        let time = u64::from_be_bytes(self.next()?.try_into().ok()?);
        (time <= LATEST).then_some(time)
    }
}

/// A set of namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespaces(u8);

impl Namespaces {
    fn bit(namespace: &str) -> Option<u8> {
        let at = NAMESPACES.iter().position(|name| *name == namespace)?;
        1_u8.checked_shl(u32::try_from(at).ok()?)
    }

    fn of_bits(bits: u8) -> Option<Self> {
        let all =
            NAMESPACES.iter().filter_map(|name| Self::bit(name)).fold(0, |all, bit| all | bit);
        (bits != 0 && bits & !all == 0).then_some(Self(bits))
    }

    /// Adds a namespace. Returns `false` if none has this name.
    pub(super) fn insert(&mut self, namespace: &str) -> bool {
        let bit = Self::bit(namespace);
        self.0 |= bit.unwrap_or(0);
        bit.is_some()
    }

    pub(super) fn contains(self, namespace: &str) -> bool {
        Self::bit(namespace).is_some_and(|bit| self.0 & bit != 0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        NAMESPACES.into_iter().filter(move |name| self.contains(name))
    }
}
