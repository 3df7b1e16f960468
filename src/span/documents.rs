//! The documents that a span carries.

use opentelemetry::Value;

use crate::cold_box::ColdDefault;
use crate::feedback::carrier::DocumentScope;
use crate::feedback::document::Document;
use crate::outbox::Finalizers;

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
}

impl ColdDefault for Documents {
    #[inline]
    fn blank() -> &'static Self {
        static BLANK: Documents =
            Documents { own: Enriched::BLANK, scoped: None, session_is_own: false, ended: None };
        &BLANK
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
}

/// Selects one of a span's documents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DocumentKind {
    Own,
    Scoped(DocumentScope),
}
