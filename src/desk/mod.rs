//! The desk: keeps spans, shows what was said about them, and charts any field of it.

pub(crate) mod query;
pub(crate) mod store;
