//! The documents that a span carries.

use opentelemetry::Value;

use crate::cold_box::ColdDefault;
use crate::feedback::carrier::Scope;
use crate::feedback::document::Document;
use crate::outbox::Finalizers;

/// The documents of a span, and what else few spans have.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// The feedback document of the span itself.
    pub(crate) own: Enriched,
    /// The document of the session or trace that this span speaks for.
    pub(super) scoped: Option<Box<(Scope, Enriched)>>,
    /// That the session was given to this very span rather than inherited.
    pub(crate) session_is_own: bool,
    /// When the OpenTelemetry API said that it ended.
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
    /// Whether it was enriched, as opposed to plain fields whose names lie in a namespace.
    pub(crate) is_feedback: bool,
    /// For what of it the outbox holds already.
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

/// Which of a span's documents is meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DocumentKind {
    Own,
    Scoped(Scope),
}
