//! Encoding: records as OTLP, straight into bytes.
//!
//! A span becomes one `opentelemetry.proto.trace.v1.Span` message ([`span`]), appended to a buffer
//! where the bytes of other spans are; nothing is built in between, and its own
//! [attributes](crate::attributes) are written already. Until then spans wait [packed]. A
//! [request](crate::shipment) is their bytes with [resource and scope](request) written once in front of them. The rules of the wire format are in
//! [`protobuf`](crate::protobuf); field numbers stand in each file next to the names the `.proto`
//! files give them ([opentelemetry-proto](https://github.com/open-telemetry/opentelemetry-proto)
//! 1.x). What is encoded here decodes to the same as what `opentelemetry-otlp` sends.

mod packed;
pub(crate) mod request;
mod span;
#[cfg(test)]
mod tests;

pub(crate) use packed::Packed;
pub(crate) use span::encoded;
