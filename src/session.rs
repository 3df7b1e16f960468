//! Sessions: an id shared by the traces of one conversation.
//!
//! A session begins with a span that has a field `session.id`, with a [`Session`] set on a span, or
//! with the builder's `with_session`. Spans created under it from then on inherit it, and every one
//! of them carries the attribute `session.id`.
//!
//! An id that arrives from outside is a claim, not a proof: anyone can send a header. Join a
//! session by an id only where your service has decided to trust it.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "layer")]
use crate::random;

/// The attribute and the baggage member that hold the id.
pub(crate) const SESSION_ID: &str = "session.id";

/// One conversation: an id shared by its traces.
///
/// ```
/// use tracing_feedback::Session;
///
/// let session = Session::with_id("conversation-42")?;
/// assert_eq!(session.id(), "conversation-42");
/// assert_ne!(Session::new(), Session::new());
/// # Ok::<(), tracing_feedback::SessionIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[must_use = "a session has no effect before it is set on a span or a builder"]
pub struct Session {
    id: Arc<str>,
}

impl Session {
    /// A session with a random id of 32 hexadecimal digits: another one at every call. There is no
    /// `Default`, since two sessions made by it would be different conversations.
    ///
    /// ```
    /// use tracing_feedback::Session;
    ///
    /// let session = Session::new();
    /// assert_eq!(session.id().len(), 32);
    /// assert_ne!(session, Session::new());
    /// ```
    #[cfg(feature = "layer")]
    #[expect(clippy::new_without_default, reason = "a default is always the same")]
    pub fn new() -> Self {
        let id = format!("{:016x}{:016x}", random::number(), random::number());
        Self { id: id.into() }
    }

    /// A session with the given id.
    ///
    /// # Errors
    ///
    /// An id is 1 to 128 visible ASCII characters without `"`, `,`, `;`, `\` and `%`, so that it
    /// survives [W3C baggage](https://www.w3.org/TR/baggage/#value) unchanged.
    ///
    /// ```
    /// use tracing_feedback::Session;
    ///
    /// let error = Session::with_id("two words").unwrap_err();
    /// assert!(error.to_string().contains("' '"), "{error}");
    /// ```
    pub fn with_id(id: impl AsRef<str>) -> Result<Self, SessionIdError> {
        let id = id.as_ref();
        match id.len() {
            0 => return Err(SessionIdError::Empty),
            length @ 129.. => return Err(SessionIdError::TooLong { length }),
            _ => {}
        }
        let forbidden =
            |c: &char| !c.is_ascii_graphic() || matches!(c, '"' | ',' | ';' | '\\' | '%');
        match id.chars().find(forbidden) {
            Some(character) => Err(SessionIdError::Character { character }),
            None => Ok(Self { id: id.into() }),
        }
    }

    /// The id.
    ///
    /// ```
    /// use tracing_feedback::Session;
    ///
    /// assert_eq!(Session::with_id("conversation-42")?.id(), "conversation-42");
    /// # Ok::<(), tracing_feedback::SessionIdError>(())
    /// ```
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.id).finish()
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// Why a string can't be a session id.
///
/// ```
/// use tracing_feedback::{Session, SessionIdError};
///
/// assert_eq!(Session::with_id(""), Err(SessionIdError::Empty));
/// assert_eq!(Session::with_id("x".repeat(129)), Err(SessionIdError::TooLong { length: 129 }));
/// assert_eq!(Session::with_id("a;b"), Err(SessionIdError::Character { character: ';' }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionIdError {
    /// The empty string.
    #[error("a session id can't be empty: give 1 to 128 visible ASCII characters")]
    Empty,
    /// More than 128 bytes.
    #[error("a session id has at most 128 characters, not {length}: give a shorter one, or a hash")]
    TooLong {
        /// The length of the given id in bytes.
        length: usize,
    },
    /// A character that W3C baggage can't carry unchanged.
    #[error(
        "a session id can't contain {character:?}: use visible ASCII without '\"', ',', ';', '\\' \
         and '%'"
    )]
    Character {
        /// The first such character.
        character: char,
    },
}
