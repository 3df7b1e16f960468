//! The fields around the spans of an
//! `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`: the same for many requests.

use opentelemetry::{InstrumentationScope, Value};
use opentelemetry_sdk::Resource;

use crate::otlp::attributes::{self, ValueRef};
use crate::otlp::{protobuf as wire, truncate};

/// `ResourceSpans`; its scopes are in [`encoded spans`](crate::otlp::encoded_items).
const RESOURCE: u32 = 1;
const RESOURCE_SCHEMA_URL: u32 = 3;

/// `ScopeSpans`; its spans are in `span`.
const SCOPE: u32 = 1;
const SCOPE_SCHEMA_URL: u32 = 3;

/// `resource` and `schema_url` of a `ResourceSpans`.
pub(crate) fn resource_fields(resource: &Resource) -> Vec<u8> {
    const ATTRIBUTES: u32 = 1;
    const DROPPED_ATTRIBUTES_COUNT: u32 = 2;
    let mut out = Vec::new();
    let all = resource.iter().map(|(key, value)| (key.as_str(), value));
    wire::message(&mut out, RESOURCE, 2, |out| {
        append_attributes(out, all, ATTRIBUTES, DROPPED_ATTRIBUTES_COUNT);
    });
    wire::string(&mut out, RESOURCE_SCHEMA_URL, resource.schema_url().unwrap_or_default());
    out
}

/// `scope` and `schema_url` of a `ScopeSpans`.
pub(crate) fn scope_fields(scope: &InstrumentationScope) -> Vec<u8> {
    const NAME: u32 = 1;
    const VERSION: u32 = 2;
    const ATTRIBUTES: u32 = 3;
    const DROPPED_ATTRIBUTES_COUNT: u32 = 4;
    let mut out = Vec::new();
    wire::message(&mut out, SCOPE, 1, |out| {
        wire::string(out, NAME, scope.name());
        wire::string(out, VERSION, scope.version().unwrap_or_default());
        let all = scope.attributes().map(|it| (it.key.as_str(), &it.value));
        append_attributes(out, all, ATTRIBUTES, DROPPED_ATTRIBUTES_COUNT);
    });
    wire::string(&mut out, SCOPE_SCHEMA_URL, scope.schema_url().unwrap_or_default());
    out
}

/// Appends attributes, whose values are [cut](truncate) if they are too large: they are in every request.
fn append_attributes<'a>(
    out: &mut Vec<u8>,
    all: impl Iterator<Item = (&'a str, &'a Value)>,
    field: u32,
    dropped: u32,
) {
    let mut encoded = Vec::new();
    for (key, value) in all {
        attributes::append(&mut encoded, attributes::FIELD, "", key, ValueRef::from(value));
    }
    let most = truncate::MOST_RESOURCE;
    out.extend_from_slice(&truncate::attributes_of_other(&encoded, most, field, dropped));
}
