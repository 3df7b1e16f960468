//! Feedback: the one rule book, for the process that is enriched and for the reader of its spans.
//!
//! A [document](document) is all feedback about one target, kept flat, with the rules by which two
//! of them merge; a [patch](patch) is the change that one enrichment makes to it. A [carrier](carrier) is a
//! span that brings a document without its target. An [event](event) is a log record that repeats one leaf
//! of an enrichment.
//! [`fold`] applies the same rules to the spans and carriers that a backend received;
//! [repetitions](repetition) of what spans state are left out of it.

#[cfg(feature = "layer")]
pub(crate) mod carrier;
pub(crate) mod document;
#[cfg(feature = "layer")]
pub(crate) mod event;
pub mod fold;
pub(crate) mod patch;
#[cfg(feature = "collector")]
pub(crate) mod repetition;
