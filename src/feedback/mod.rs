//! Feedback: the one rule book, for the process that is enriched and for the reader of its spans.
//!
//! A [document](document) is all feedback about one target, kept flat, with the rules by which two
//! of them merge. A [carrier](carrier) is a span that brings a document without its target.
//! [`fold`] applies the same rules to the spans and carriers that a backend received;
//! [repetitions](repetition) of what spans state are left out of it.

#[cfg(feature = "layer")]
pub(crate) mod carrier;
pub(crate) mod document;
pub mod fold;
#[cfg(feature = "collector")]
pub(crate) mod repetition;
