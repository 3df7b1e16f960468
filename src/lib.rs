//! An OpenTelemetry-native `tracing` layer with users' feedback.
mod document;
pub mod fold;
mod record;
pub use document::Document;
