//! What is known of every trace, whatever its spans say.

use super::datum::Kind;

/// What is known of every trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// The name of its root.
    Name,
    /// In milliseconds.
    Duration,
    /// `error` if a span of it failed, otherwise `ok`.
    Status,
    SessionId,
    TraceId,
}

/// By name, with what they are measured by.
pub(crate) const PROPERTIES: [(&str, Property, Kind); 5] = [
    ("name", Property::Name, Kind::Text),
    ("duration", Property::Duration, Kind::Number),
    ("status", Property::Status, Kind::Text),
    ("session.id", Property::SessionId, Kind::Text),
    ("trace_id", Property::TraceId, Kind::Text),
];

impl Property {
    pub(crate) fn of(name: &str) -> Option<Self> {
        let found = PROPERTIES.iter().find(|(known, ..)| *known == name);
        found.map(|(_, property, _)| *property)
    }
}
