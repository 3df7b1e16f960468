//! The meaning of a field's name.

use crate::desk::answer::field::AnswerField;
use crate::desk::query::property::Property;
use crate::feedback::document::is_in_namespace;

/// What the field of a filter, a group or a chart refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// A leaf of documents, by its full key.
    Leaf(String),
    /// An attribute of a resource.
    Resource,
    Trace(Property),
    /// Model or tokens of an answer, by whichever convention, found by a scan.
    Answer(AnswerField),
    /// Any other attribute of spans, found by a scan.
    Attribute,
}

impl Field {
    /// The field, if its name alone decides. `None`: an attribute, of a resource or of spans.
    pub(super) fn of(name: &str) -> Option<Self> {
        if let Some(property) = Property::of(name) {
            return Some(Self::Trace(property));
        }
        if let Some(field) = AnswerField::of(name) {
            return Some(Self::Answer(field));
        }
        is_in_namespace(name)
            .then(|| Self::Leaf(name.strip_prefix("honeyhive_").unwrap_or(name).to_owned()))
    }
}
