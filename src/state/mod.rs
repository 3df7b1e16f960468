//! The state of open spans, between capture and enrichment on one side and the pipeline on the other.
//!
//! Each captured span has one [`SpanState`], in the table of the [open] ones or in the extensions of
//! the registry, and is shared by [`SpanHandle`]s. Capture changes it with what `tracing` says,
//! enrichment [merges](merge) into it what users [say](said); when the span closes ([end]) it becomes a
//! [`SpanRecord`](crate::record::SpanRecord). What can't wait for a span, or has none, leaves as a
//! [carrier]. [`Installation`] is what all spans of one layer share; [`locate`] finds it and the span
//! around a caller from the current subscriber, by what the thread has [entered].

pub(crate) mod carrier;
mod end;
pub(crate) mod entered;
mod handle;
mod installation;
mod layer;
mod locate;
mod merge;
mod open;
mod place;
mod said;
mod span;
mod spare;
mod timings;

pub(crate) use handle::SpanHandle;
pub(crate) use installation::{Ids, Installation, Sampling};
pub use layer::FeedbackLayer;
pub(crate) use locate::{Claim, Located, current, installation_here, locate_current, locate_span};
pub(crate) use said::{DocumentKind, Scope};
pub(crate) use span::{Captured, Live, SpanState};
