//! The signals that the receiver takes: spans and log records. Their requests have one form, down to the numbers of
//! the fields: items by resource, and below it by scope.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::measure::MessageKind;

/// A signal of OpenTelemetry that the receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Logs,
}

impl Signal {
    /// The signal that is posted to this path.
    pub(super) fn of_http_path(path: &str) -> Option<Self> {
        match path {
            "/v1/traces" => Some(Self::Traces),
            "/v1/logs" => Some(Self::Logs),
            _ => None,
        }
    }

    /// The signal that is exported by this method of gRPC.
    pub(super) fn of_grpc_method(path: &str) -> Option<Self> {
        match path {
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Self::Traces),
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Self::Logs),
            _ => None,
        }
    }

    /// The name in JSON of the number of items that are rejected. In protobuf both signals have the same number and
    /// type for it.
    pub(super) fn rejected_in_json(self) -> &'static str {
        match self {
            Self::Traces => "rejectedSpans",
            Self::Logs => "rejectedLogRecords",
        }
    }
}

/// The items under one resource.
#[derive(Debug)]
pub(crate) struct ResourceGroup<T> {
    pub(crate) resource: Option<Resource>,
    pub(crate) scopes: Vec<ScopeGroup<T>>,
}

/// The items under one instrumentation scope.
#[derive(Debug)]
pub(crate) struct ScopeGroup<T> {
    pub(crate) scope: Option<InstrumentationScope>,
    pub(crate) items: Vec<T>,
}

/// The message of an export request.
pub(crate) trait ExportRequest: Message + Default {
    /// Its kind, to measure it.
    const KIND: MessageKind;
    /// A span or a log record.
    type Item: Message + Default;

    fn of_groups(groups: Vec<ResourceGroup<Self::Item>>) -> Self;
    fn into_groups(self) -> Vec<ResourceGroup<Self::Item>>;
    fn has_items(&self) -> bool;
}

macro_rules! export_requests {
    ($($request:ident($kind:ident): $groups:ident: $group:ident { $scopes:ident: $scope:ident { $items:ident: $item:ident } })*) => {$(
        impl ExportRequest for $request {
            const KIND: MessageKind = MessageKind::$kind;
            type Item = $item;

            fn of_groups(groups: Vec<ResourceGroup<$item>>) -> Self {
                let scope = |group: ScopeGroup<$item>| $scope {
                    scope: group.scope,
                    $items: group.items,
                    ..$scope::default()
                };
                let group = |group: ResourceGroup<$item>| $group {
                    resource: group.resource,
                    $scopes: group.scopes.into_iter().map(scope).collect(),
                    ..$group::default()
                };
                Self { $groups: groups.into_iter().map(group).collect() }
            }

            fn into_groups(self) -> Vec<ResourceGroup<$item>> {
                let scope = |group: $scope| ScopeGroup { scope: group.scope, items: group.$items };
                let group = |group: $group| ResourceGroup {
                    resource: group.resource,
                    scopes: group.$scopes.into_iter().map(scope).collect(),
                };
                self.$groups.into_iter().map(group).collect()
            }

            fn has_items(&self) -> bool {
                let mut scopes = self.$groups.iter().flat_map(|group| &group.$scopes);
                scopes.any(|group| !group.$items.is_empty())
            }
        }
    )*};
}

export_requests! {
    ExportTraceServiceRequest(TraceRequest):
        resource_spans: ResourceSpans { scope_spans: ScopeSpans { spans: Span } }
    ExportLogsServiceRequest(LogsRequest):
        resource_logs: ResourceLogs { scope_logs: ScopeLogs { log_records: LogRecord } }
}
