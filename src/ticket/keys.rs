//! The keys that sign tickets.
//!
//! From every key two others are derived, each by HMAC-SHA256 over a label: one signs tickets, one
//! hashes subjects. So the MAC of some bytes by one of them is of no use in place of the other's.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::error::TicketKeyError;

/// The fewest bytes of a key: the length of a SHA-256 hash.
const FEWEST_BYTES: usize = 32;

const SIGNATURE_LABEL: &[u8] = b"tracing-feedback ticket signature 1";
const SUBJECT_LABEL: &[u8] = b"tracing-feedback ticket subject 1";

/// The keys that sign tickets: the first is the current one, those after it are still accepted.
///
/// A clone is another handle on the same keys, so that they can be rotated while the service runs:
/// put the new key first and keep the older ones for as long as tickets live.
///
/// All services that issue and verify the same tickets have the same keys. Anyone who has a key can
/// forge tickets; [`Debug`] shows the number of keys, and nothing else.
///
/// ```
/// use tracing_feedback::TicketKeys;
///
/// // 32 random bytes each, here as FEEDBACK_TICKET_KEYS has them.
/// let old = "UjGNnMuuKexd4cZLLhxVsmmmZ-WzgHTBGWHqPO3pXqA";
/// let new = "b8ZOJZnSOZd1BAsaz4FrxRIAV1ngyGkTTVpGBWi7Sb0";
/// let keys: TicketKeys = old.parse()?;
/// let (layer, telemetry) =
///     tracing_feedback::builder().with_ticket_keys(keys.clone()).build()?;
///
/// // Months later:
/// keys.set(format!("{new},{old}").parse()?);
/// assert_eq!(telemetry.ticket_keys().len(), 2);
/// # drop(layer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
#[must_use = "keys do nothing before `with_ticket_keys` or `set`"]
pub struct TicketKeys {
    shared: Arc<RwLock<Arc<[DerivedKeys]>>>,
}

/// The two keys derived from one ticket key.
#[derive(Clone)]
pub(super) struct DerivedKeys {
    signature: Hmac<Sha256>,
    subject: Hmac<Sha256>,
}

impl TicketKeys {
    /// The given keys, the current one first.
    ///
    /// # Errors
    ///
    /// There is none, or one has fewer than 32 bytes. They are to be random bytes, not words.
    ///
    /// ```
    /// use tracing_feedback::{TicketKeyError, TicketKeys};
    ///
    /// let none: [&[u8]; 0] = [];
    /// assert_eq!(TicketKeys::new(none).unwrap_err(), TicketKeyError::Empty);
    /// ```
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Self, TicketKeyError> {
        let keys = keys.into_iter().enumerate();
        let keys: Arc<[DerivedKeys]> = keys
            .map(|(at, key)| DerivedKeys::new(at + 1, key.as_ref()))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(TicketKeyError::Empty);
        }
        Ok(Self { shared: Arc::new(RwLock::new(keys)) })
    }

    /// Replaces the keys, for every handle on them and from now on, by those of `other`.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// use tracing_feedback::{SpanExt, TicketError, TicketKeys};
    ///
    /// let keys = TicketKeys::new([[1; 32]])?;
    /// let (layer, telemetry) =
    ///     tracing_feedback::builder().with_ticket_keys(keys.clone()).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// let ticket = tracing::info_span!("answer").ticket()?;
    /// let verifier = telemetry.ticket_verifier();
    ///
    /// keys.set(TicketKeys::new([[2; 32], [1; 32]])?);
    /// assert!(verifier.verify(ticket.as_str()).is_ok());
    /// keys.set(TicketKeys::new([[3; 32], [2; 32]])?);
    /// assert_eq!(verifier.verify(ticket.as_str()), Err(TicketError::BadSignature));
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, other: Self) {
        let keys = other.all();
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The number of keys, the older ones included.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there are no keys, so that no ticket can be issued or verified.
    ///
    /// ```
    /// use tracing_feedback::{TicketError, TicketKeys};
    ///
    /// let keys = TicketKeys::default();
    /// assert!(keys.is_empty());
    /// assert_eq!(keys.verifier().verify("any"), Err(TicketError::NoKeys));
    /// ```
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// The keys as they are now.
    pub(super) fn all(&self) -> Arc<[DerivedKeys]> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// As `FEEDBACK_TICKET_KEYS` has them: comma-separated base64url, with or without padding.
impl FromStr for TicketKeys {
    type Err = TicketKeyError;

    fn from_str(text: &str) -> Result<Self, TicketKeyError> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let decode = |(at, entry)| {
            LENIENT.decode(entry).map_err(|_| TicketKeyError::NotBase64 { position: at + 1 })
        };
        Self::new(entries.enumerate().map(decode).collect::<Result<Vec<_>, _>>()?)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl DerivedKeys {
    fn new(position: usize, key: &[u8]) -> Result<Self, TicketKeyError> {
        let length = key.len();
        if length < FEWEST_BYTES {
            return Err(TicketKeyError::TooShort { position, length });
        }
        let key = mac_of(key);
        let derived = |label| mac_of(&key.clone().chain_update(label).finalize().into_bytes());
        Ok(Self { signature: derived(SIGNATURE_LABEL), subject: derived(SUBJECT_LABEL) })
    }

    /// The MAC of a ticket's bytes, which is its signature.
    pub(super) fn signature(&self, signed: &[u8]) -> Hmac<Sha256> {
        self.signature.clone().chain_update(signed)
    }

    /// The MAC of a subject, which is different for every target: so tickets don't reveal that they
    /// have the same subject.
    pub(super) fn subject(&self, target: &[u8], subject: &str) -> Hmac<Sha256> {
        let mut mac = self.subject.clone();
        for part in [target, subject.as_bytes()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

fn mac_of(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// Base64url as tools write it: some pad, some don't.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
