//! The session of a span.

use crate::collector::receive::value::Value;
use crate::collector::role::session_id;

/// The attributes that name a session: the first that has an id counts. Those after `session.id` are what the GenAI
/// semantic conventions and Langfuse call a conversation or session.
pub(crate) const SESSION_KEYS: [&str; 3] =
    ["session.id", "gen_ai.conversation.id", "langfuse.session.id"];

/// The session by the attributes of a span.
pub(crate) fn session_of(attribute: impl Fn(&str) -> Option<Value>) -> Option<String> {
    SESSION_KEYS.iter().find_map(|key| session_id(&attribute(key)?))
}
