//! What a name means.

use crate::collector::role::is_in_namespace;
use crate::desk::query::property::Property;

/// What a filter, a group or a chart can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// A leaf of what was said, by its full key.
    Leaf(String),
    /// An attribute of a resource.
    Resource,
    Trace(Property),
    /// Any other attribute of a span, which has to be looked for in each.
    Attribute,
}

impl Field {
    /// What can be told from the name alone. `None`: an attribute, of a resource or of spans.
    pub(super) fn of(name: &str) -> Option<Self> {
        if let Some(property) = Property::of(name) {
            return Some(Self::Trace(property));
        }
        is_in_namespace(name)
            .then(|| Self::Leaf(name.strip_prefix("honeyhive_").unwrap_or(name).to_owned()))
    }
}
