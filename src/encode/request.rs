//! `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest` around spans that are encoded
//! already.

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use crate::attributes::{self, ValueRef};
use crate::protobuf as wire;

/// `ExportTraceServiceRequest`.
const RESOURCE_SPANS: u32 = 1;

/// `ResourceSpans`.
const RESOURCE: u32 = 1;
const SCOPE_SPANS: u32 = 2;
const RESOURCE_SCHEMA_URL: u32 = 3;

/// `ScopeSpans`; its spans are in `span`.
const SCOPE: u32 = 1;
const SCOPE_SCHEMA_URL: u32 = 3;

/// `resource` and `schema_url` of a `ResourceSpans`.
pub(crate) fn resource_fields(resource: &Resource) -> Vec<u8> {
    const ATTRIBUTES: u32 = 1;
    let mut out = Vec::new();
    wire::message(&mut out, RESOURCE, 2, |out| {
        for (key, value) in resource.iter() {
            attributes::append(out, ATTRIBUTES, "", key.as_str(), ValueRef::from(value));
        }
    });
    wire::string(&mut out, RESOURCE_SCHEMA_URL, resource.schema_url().unwrap_or_default());
    out
}

/// `scope` and `schema_url` of a `ScopeSpans`.
pub(crate) fn scope_fields(scope: &InstrumentationScope) -> Vec<u8> {
    const NAME: u32 = 1;
    const VERSION: u32 = 2;
    const ATTRIBUTES: u32 = 3;
    let mut out = Vec::new();
    wire::message(&mut out, SCOPE, 1, |out| {
        wire::string(out, NAME, scope.name());
        wire::string(out, VERSION, scope.version().unwrap_or_default());
        for attribute in scope.attributes() {
            let value = ValueRef::from(&attribute.value);
            attributes::append(out, ATTRIBUTES, "", attribute.key.as_str(), value);
        }
    });
    wire::string(&mut out, SCOPE_SCHEMA_URL, scope.schema_url().unwrap_or_default());
    out
}

/// Appends a `ResourceSpans` to a request that is made of pieces which follow one another: the spans
/// of each scope, as [`Packed`](super::Packed) encodes them, stay where they are.
pub(crate) fn append_resource<Piece: AsRef<[u8]> + From<Vec<u8>>>(
    request: &mut Vec<Piece>,
    resource: Piece,
    scopes: impl IntoIterator<Item = (Piece, Vec<Piece>)>,
) {
    let mut pieces = vec![resource];
    for (scope, spans) in scopes {
        let length = scope.as_ref().len() + length(&spans);
        pieces.push(tag_and_length(SCOPE_SPANS, length).into());
        pieces.push(scope);
        pieces.extend(spans);
    }
    request.push(tag_and_length(RESOURCE_SPANS, length(&pieces)).into());
    request.extend(pieces);
}

fn length(pieces: &[impl AsRef<[u8]>]) -> usize {
    pieces.iter().map(|piece| piece.as_ref().len()).sum()
}

fn tag_and_length(field: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    wire::length_of(&mut out, field, length);
    out
}
