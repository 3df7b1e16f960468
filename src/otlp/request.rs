//! The fields around the spans of an
//! `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`: the same for many requests.

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use crate::otlp::attributes::{self, ValueRef};
use crate::otlp::protobuf as wire;

/// `ResourceSpans`; its scopes are in [`encoded spans`](crate::otlp::encoded_spans).
const RESOURCE: u32 = 1;
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
