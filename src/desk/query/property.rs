//! Properties that every trace has, whatever attributes its spans have.

use super::datum::ValueKind;

/// A property of every trace.
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

/// By name, with their type.
pub(crate) const PROPERTIES: [(&str, Property, ValueKind); 5] = [
    ("name", Property::Name, ValueKind::Text),
    ("duration", Property::Duration, ValueKind::Number),
    ("status", Property::Status, ValueKind::Text),
    ("session.id", Property::SessionId, ValueKind::Text),
    ("trace_id", Property::TraceId, ValueKind::Text),
];

impl Property {
    pub(crate) fn of(name: &str) -> Option<Self> {
        let found = PROPERTIES.iter().find(|(known, ..)| *known == name);
        found.map(|(_, property, _)| *property)
    }
}
