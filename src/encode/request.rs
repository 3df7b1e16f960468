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

/// What is the same in every request of a process: the resource, encoded once.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    /// `resource` and `schema_url` of a `ResourceSpans`.
    resource: Vec<u8>,
}

impl Envelope {
    pub(crate) fn new(resource: &Resource) -> Self {
        const ATTRIBUTES: u32 = 1;
        let mut out = Vec::new();
        wire::message(&mut out, RESOURCE, 2, |out| {
            for (key, value) in resource.iter() {
                attributes::append(out, ATTRIBUTES, "", key.as_str(), ValueRef::from(value));
            }
        });
        wire::string(&mut out, RESOURCE_SCHEMA_URL, resource.schema_url().unwrap_or_default());
        Self { resource: out }
    }

    /// A request with the spans of each scope, as [`append_span`](super::append_span) wrote them, in
    /// pieces that follow one another: the spans stay where they are.
    pub(crate) fn request<'a, Piece: AsRef<[u8]> + From<Vec<u8>>>(
        &self,
        scopes: impl IntoIterator<Item = (&'a InstrumentationScope, Vec<Piece>)>,
    ) -> Vec<Piece> {
        let mut pieces = vec![self.resource.clone().into()];
        for (scope, spans) in scopes {
            let mut head = Vec::new();
            append_scope(&mut head, scope);
            wire::string(&mut head, SCOPE_SCHEMA_URL, scope.schema_url().unwrap_or_default());
            pieces.push(tag_and_length(SCOPE_SPANS, head.len() + length(&spans)).into());
            pieces.push(head.into());
            pieces.extend(spans);
        }
        pieces.insert(0, tag_and_length(RESOURCE_SPANS, length(&pieces)).into());
        pieces
    }
}

fn length(pieces: &[impl AsRef<[u8]>]) -> usize {
    pieces.iter().map(|piece| piece.as_ref().len()).sum()
}

fn tag_and_length(field: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    wire::length_of(&mut out, field, length);
    out
}

fn append_scope(out: &mut Vec<u8>, scope: &InstrumentationScope) {
    const NAME: u32 = 1;
    const VERSION: u32 = 2;
    const ATTRIBUTES: u32 = 3;
    wire::message(out, SCOPE, 1, |out| {
        wire::string(out, NAME, scope.name());
        wire::string(out, VERSION, scope.version().unwrap_or_default());
        for attribute in scope.attributes() {
            let value = ValueRef::from(&attribute.value);
            attributes::append(out, ATTRIBUTES, "", attribute.key.as_str(), value);
        }
    });
}
