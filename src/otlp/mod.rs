//! OTLP: everything that is bytes of the protocol, in three stages that never build a tree between
//! them.
//!
//! 1. **Attributes are OTLP bytes where they are recorded.** A field or enrichment is written once,
//!    as a `KeyValue` message ([`attributes`]), into the buffer of its span ([`encode_buffer`]).
//! 2. **A span is OTLP bytes where it is handed over to export.** [`Packed`] appends one
//!    `opentelemetry.proto.trace.v1.Span` message a record ([`span`]) and copies the attributes.
//! 3. **A request is OTLP bytes where it is sent.** [`encoded_items`] puts [resource and
//!    scope](request) in front of the spans of many batches, without copying or decoding them.
//!
//! A span that is too large for a receiver is [cut](truncate) before it waits for its export, and cut further
//! if the receiver refuses it all the same.
//!
//! The rules of the wire format are in [`protobuf`]; field numbers stand in each file next to the
//! names the `.proto` files give them
//! ([opentelemetry-proto](https://github.com/open-telemetry/opentelemetry-proto) 1.x). What is
//! encoded here decodes to the same as what `opentelemetry-otlp` sends; a test compares the two.

pub(crate) mod attributes;
pub(crate) mod encode_buffer;
#[cfg(any(feature = "_otlp-path", feature = "outbox"))]
pub(crate) mod encoded_items;
mod log_record;
mod message;
mod packed;
pub(crate) mod protobuf;
pub(crate) mod request;
mod signal;
mod span;
pub(crate) mod truncate;

pub(crate) use log_record::encoded_log_record;
pub(crate) use packed::Packed;
pub(crate) use signal::Signal;
pub(crate) use span::encoded;

#[cfg(test)]
mod tests;
