//! Span state: the data of an open span, between capture and enrichment on one side and export on
//! the other.
//!
//! Each captured span has one [`SpanState`], shared by [`SpanHandle`]s and kept in the
//! [table](span_table) of its layer or, on a collision, in the registry's extensions. The layer
//! records in it what `tracing` reports, and enrichment [merges](merge) patches into its
//! [documents]. When the span [ends](end), its [`SpanRecord`](crate::record::SpanRecord) goes to
//! the pipeline. A document that leaves without its span is [sent](send) as a
//! [carrier](crate::feedback::carrier). [`LayerCore`] is what all spans of one layer share;
//! [`crate::layer::locate`] finds it, and the span around a caller, by the thread's
//! [stack](span_stack).

mod documents;
mod end;
mod events;
mod handle;
mod layer_core;
mod merge;
mod otel_spans;
mod pool;
mod process;
mod send;
pub(crate) mod span_stack;
mod span_table;
mod state;
mod timings;
mod trace_place;

pub(crate) use documents::DocumentKind;
pub(crate) use handle::SpanHandle;
pub(crate) use layer_core::UserPart;
pub(crate) use layer_core::{IdSource, LayerCore, Sampling};
use layer_core::{RandomIds, random_span_id, random_trace_id};
pub(crate) use otel_spans::{OtelSpan, OtelSpans};
pub(crate) use process::{ProcessSpans, WrappedProcessor};
pub(crate) use send::Applied;
pub(crate) use state::{Captured, Live, SpanState};
