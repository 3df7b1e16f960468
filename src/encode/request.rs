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

    /// A request with the spans of each scope, as [`append_span`](super::append_span) wrote them.
    pub(crate) fn request<'a, S: IntoIterator<Item = &'a [u8]>>(
        &self,
        scopes: impl IntoIterator<Item = (&'a InstrumentationScope, S)>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        wire::message(&mut out, RESOURCE_SPANS, 4, |out| {
            out.extend_from_slice(&self.resource);
            for (scope, spans) in scopes {
                wire::message(out, SCOPE_SPANS, 4, |out| {
                    append_scope(out, scope);
                    spans.into_iter().for_each(|spans| out.extend_from_slice(spans));
                    wire::string(out, SCOPE_SCHEMA_URL, scope.schema_url().unwrap_or_default());
                });
            }
        });
        out
    }
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
