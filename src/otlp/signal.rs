//! The signals: what kind of telemetry a request, a connection or a segment of the outbox holds.

/// A signal of OTLP. Requests of both have the same structure, with the same field numbers: resources,
/// their scopes, and the items of each scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Spans.
    #[default]
    Traces,
    /// Log records.
    Logs,
}

impl Signal {
    /// What its items are called in messages.
    pub(crate) fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Logs => "log records",
        }
    }

    /// The path of OTLP over HTTP, by the specification.
    #[cfg(feature = "_otlp")]
    pub(crate) fn http_path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
        }
    }

    /// The method of OTLP over gRPC.
    #[cfg(feature = "grpc")]
    pub(crate) fn grpc_method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }
}
