//! The documents that a span carries.

use opentelemetry::Value;

use crate::cold_box::ColdDefault;
use crate::feedback::carrier::DocumentScope;
use crate::feedback::document::{AttributeKey, Document};
use crate::otlp::attributes::Attributes;
use crate::outbox::Finalizers;
use crate::settings::{Convention, is_feedback, namespaced};

/// The documents of a span, and other data that few spans have.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// The feedback document of the span itself.
    pub(crate) own: Enriched,
    /// The document of the session or trace, which this span carries.
    pub(super) scoped: Option<Box<(DocumentScope, Enriched)>>,
    /// Whether the session was set on this span, rather than inherited.
    pub(crate) session_is_own: bool,
    /// The end time set through the OpenTelemetry API.
    pub(crate) ended: Option<u64>,
    /// How many events happened in the span, where they are counted.
    pub(crate) event_count: u32,
}

impl ColdDefault for Documents {
    #[inline]
    fn blank() -> &'static Self {
        static BLANK: Documents = Documents {
            own: Enriched::BLANK,
            scoped: None,
            session_is_own: false,
            ended: None,
            event_count: 0,
        };
        &BLANK
    }
}

impl Documents {
    /// Sets a leaf of the span's own document. Returns how many leaves, of at most `most`, were left
    /// out.
    pub(crate) fn set_leaf(&mut self, key: AttributeKey, value: Value, most: usize) -> u32 {
        let mut patch = Document::default();
        patch.set(key, value);
        let left_out = self.own.document.apply_within(patch, most);
        u32::try_from(left_out).unwrap_or(u32::MAX)
    }
}

/// A document, and when it was last enriched.
#[derive(Debug, Default)]
pub(crate) struct Enriched {
    pub(crate) document: Document<Value>,
    pub(crate) time: u64,
    /// Whether the document counts as feedback: by an enrichment, or by a field in the namespace
    /// `feedback`. Fields in the other namespaces alone don't count.
    pub(crate) is_feedback: bool,
    /// The finalizers of its patches that the outbox holds already.
    pub(super) finalizers: Finalizers,
}

impl Enriched {
    const BLANK: Self = Self {
        document: Document::BLANK,
        time: 0,
        is_feedback: false,
        finalizers: Finalizers::NONE,
    };

    /// A copy that takes the finalizers over: they then wait for the copy to arrive.
    pub(super) fn copy_with_finalizers(&mut self) -> Self {
        let Self { document, time, is_feedback, finalizers } = self;
        let (time, is_feedback) = (*time, *is_feedback);
        let finalizers = std::mem::take(finalizers);
        Self { document: document.clone(), time, is_feedback, finalizers }
    }

    /// Whether the document sets or removes `key`, or something above or under it.
    pub(crate) fn has(&self, key: &str) -> bool {
        let mut leaves = self.document.leaves();
        let mut cleared = self.document.cleared();
        leaves.any(|(leaf, _)| is_at_or_under(leaf, key) || is_at_or_under(key, leaf))
            || cleared.any(|cleared| is_at_or_under(key, cleared))
    }

    /// Removes the attributes that the document has replaced or removed, by the rules of merging:
    /// fields in the namespaces of enrichments. Those in the namespace `feedback` are in the document
    /// itself.
    pub(super) fn replace_fields(&self, attributes: &mut Attributes, convention: Convention) {
        let mut leaves = self.document.leaves();
        let mut cleared = self.document.cleared();
        let is_feedback = leaves.all(|(key, _)| is_feedback(key)) && cleared.all(is_feedback);
        if !is_feedback {
            attributes.retain(|key| match namespaced(key, convention) {
                Some(bare) => !self.has(bare),
                None => true,
            });
        }
    }
}

/// Whether `key` is `other`, or lies under it.
fn is_at_or_under(key: &str, other: &str) -> bool {
    key.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether one of the attributes is in a namespace of enrichments, so that it would be taken for a part
/// of the document that its span carries.
pub(super) fn has_namespaced(attributes: &Attributes, convention: Convention) -> bool {
    attributes.keys().any(|key| namespaced(key, convention).is_some())
}

/// Selects one of a span's documents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DocumentKind {
    Own,
    Scoped(DocumentScope),
}

impl DocumentKind {
    pub(crate) fn scope(self) -> Option<DocumentScope> {
        match self {
            Self::Own => None,
            Self::Scoped(scope) => Some(scope),
        }
    }
}
