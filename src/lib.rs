//! An OpenTelemetry-native `tracing` layer that ships `#[instrument]` spans, and what the people who
//! use a service thought of each answer, to any OTLP collector.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod capture;
mod clock;
#[cfg(feature = "collector")]
pub mod collector;
mod document;
#[allow(dead_code)]
mod encode;
pub mod enrich;
pub mod fold;
mod pipeline;
pub mod propagation;
mod quiet;
mod record;
mod redaction;
mod session;
mod settings;
mod setup;
mod sink;
mod state;

pub use capture::{FeedbackLayer, FeedbackSpanProcessor, SpanError, SpanExt};
pub use document::Document;
pub use enrich::{EnrichError, Enrichment};
pub use pipeline::FlushError;
pub use pipeline::stats::Stats;
pub use session::{Session, SessionIdError};
pub use settings::{Convention, LateTraces};
pub use setup::{BuildError, Builder, ConfigError, Telemetry, builder, init};
#[cfg(any(feature = "grpc", feature = "http-proto", feature = "http-json"))]
pub use setup::{Compression, Protocol};

/// What the macros expand to. No part of the API: it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::enrich::flatten::Position;
    pub use crate::enrich::request::Begin;
}

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: what the locks of this crate guard is never left half done
/// by a panic, since nothing foreign is called while they are held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
