//! Field kinds: what a span field sets, by its name.

use crate::feedback::carrier::OWN_PREFIX;
use crate::record::Timings;
use crate::session::SESSION_ID;
use crate::settings::{Convention, is_feedback, namespaced};

/// What a field sets.
pub(super) enum FieldKind<'k> {
    Name,
    Kind,
    StatusCode,
    StatusDescription,
    Session,
    /// The feedback document, under this key.
    Feedback(&'k str),
    /// An attribute under a key that enrichments may set, too: this key without the convention's
    /// prefix.
    Namespaced(&'k str),
    /// A busy or idle time, which the layer measures itself.
    Timing,
    /// Nothing: the prefix of this crate's own attributes is reserved.
    Reserved,
    Attribute,
}

impl<'k> FieldKind<'k> {
    pub(super) fn of(key: &'k str, convention: Convention) -> Self {
        match key {
            "otel.name" => Self::Name,
            "otel.kind" => Self::Kind,
            "otel.status_code" => Self::StatusCode,
            "otel.status_description" => Self::StatusDescription,
            SESSION_ID => Self::Session,
            Timings::BUSY | Timings::IDLE => Self::Timing,
            key if key.starts_with(OWN_PREFIX) => Self::Reserved,
            key => match namespaced(key, convention) {
                Some(bare) if is_feedback(bare) => Self::Feedback(bare),
                Some(bare) => Self::Namespaced(bare),
                None => Self::Attribute,
            },
        }
    }
}

/// Whether a field named `key` that a span is created with is an attribute and nothing else.
pub(super) fn is_plain(key: &str, convention: Convention) -> bool {
    matches!(FieldKind::of(key, convention), FieldKind::Attribute | FieldKind::Namespaced(_))
}
