//! The state of open spans, between capture and enrichment on one side and the pipeline on the other.
//!
//! Each captured span has one [`SpanState`], in the table of the [open] ones or in the extensions of
//! the registry, and is shared by [`SpanHandle`]s. Capture changes it with what `tracing` says,
//! enrichment [merges](merge) into it what users [say](said); when the span closes ([end]) it becomes a
//! [`SpanRecord`](crate::record::SpanRecord). What can't wait for a span, or has none, leaves as a
//! [carrier](crate::feedback::carrier). [`LayerCore`] is what all spans of one layer share; [`locate`] finds it and the span
//! around a caller from the current subscriber, by what the thread has [entered].

mod documents;
mod end;
mod handle;
mod layer_core;
mod merge;
mod pool;
mod send;
pub(crate) mod span_stack;
mod span_table;
mod state;
mod timings;
mod trace_place;

pub(crate) use documents::DocumentKind;
pub(crate) use handle::SpanHandle;
pub(crate) use layer_core::{IdSource, LayerCore, Sampling};
pub(crate) use send::Put;
pub(crate) use state::{Captured, Live, SpanState};
