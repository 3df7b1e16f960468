//! Errors of building a layer and of configuring its export.

use std::path::PathBuf;

/// Why no layer could be built.
///
/// ```
/// use tracing_feedback::{BuildError, builder};
///
/// let error = builder().with_endpoint("localhost").with_header("bad name", "x").build().unwrap_err();
/// assert!(matches!(error, BuildError::Exporter(_)), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An environment variable is malformed or unsupported, and `with_strict_env` is on.
    #[error("the environment variable {variable} is set to {value:?}, which {reason}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// Its value; hidden where it may hold a secret.
        value: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A setting of the exporter can't be used.
    #[error(transparent)]
    Exporter(#[from] ConfigError),
    /// The export thread, or its runtime, could not be started.
    #[error("the export thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
    /// No exporter was given, and no feature for OTLP is enabled.
    #[error(
        "no exporter: enable one of the features `grpc`, `http-proto` and `http-json`, or give one \
         by `with_exporter`"
    )]
    NoExporter,
    /// The directory of the outbox can't be made, or written to.
    #[error(
        "the outbox in {path:?} can't be used: {source}; give a directory that this process may \
         write to"
    )]
    Outbox {
        /// The directory that was given.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// An outbox was configured for an exporter that can't send spans from an outbox.
    #[error(
        "an outbox needs OTLP over gRPC or http/protobuf: choose one of these protocols, and leave out \
         `with_exporter` and OTEL_TRACES_EXPORTER"
    )]
    OutboxWithoutOtlp,
    /// Events were switched on, and there is no way for log records: spans don't leave by OTLP, and no endpoint
    /// is configured.
    #[error(
        "events are log records of OTLP, and spans don't leave by OTLP here: give an endpoint by \
         `with_events_endpoint` or OTEL_EXPORTER_OTLP_LOGS_ENDPOINT, which needs one of the features `grpc`, \
         `http-proto` and `http-json`, or leave out `with_events` and FEEDBACK_EVENTS"
    )]
    EventsWithoutOtlp,
    /// `init` was called after a global subscriber had been set.
    #[error(
        "a global subscriber is set already: add the layer of `tracing_feedback::builder().build()` \
         to it instead of calling `init`"
    )]
    SubscriberSet,
}

/// A setting given in code that can't be used.
///
/// Every variant names the refused value and the remedy. Values that may be secrets
/// (headers, credentials in an endpoint, keys) are never part of it.
///
/// ```
/// use tracing_feedback::{ConfigError, Protocol};
///
/// let error = "thrift".parse::<Protocol>().unwrap_err();
/// assert!(matches!(error, ConfigError::UnknownProtocol { .. }));
/// assert!(error.to_string().contains("use `grpc`, `http/protobuf` or `http/json`"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name of a protocol that OTLP doesn't have.
    #[error("unknown OTLP protocol {value:?}: use `grpc`, `http/protobuf` or `http/json`")]
    UnknownProtocol {
        /// The name that was given.
        value: String,
    },
    /// The name of a compression that isn't supported.
    #[error("unknown compression {value:?}: use `gzip`, `zstd` or `none`")]
    UnknownCompression {
        /// The name that was given.
        value: String,
    },
    /// The setting needs a cargo feature that is not enabled.
    #[error(
        "{setting} needs the cargo feature `{feature}` of `tracing-feedback`: \
         enable it, or choose another value"
    )]
    FeatureOff {
        /// The setting and its value.
        setting: String,
        /// The cargo feature to enable.
        feature: &'static str,
    },
    /// An endpoint that can't be used.
    #[error("the endpoint {endpoint:?} can't be used: {reason}")]
    Endpoint {
        /// The endpoint, without credentials and query.
        endpoint: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A header that can't be sent.
    #[error("the header {name:?} can't be sent: {reason}")]
    Header {
        /// The header's name; its value may be a secret.
        name: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A timeout of zero, within which no export can succeed.
    #[error("a timeout of zero lets no export succeed: give one of at least a millisecond")]
    ZeroTimeout,
    /// A certificate or key that TLS can't use.
    #[error("the {what} can't be used: {reason}")]
    Certificate {
        /// What it is, for example `client key`.
        what: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The exporter could not be built from these settings.
    #[error("the OTLP exporter for {endpoint:?} can't be built: {reason}")]
    Exporter {
        /// The endpoint, without credentials and query.
        endpoint: String,
        /// What is wrong, and where there is a remedy, the remedy.
        reason: String,
    },
}

impl ConfigError {
    pub(super) fn feature_off(setting: &str, value: &str, feature: &'static str) -> Self {
        Self::FeatureOff { setting: format!("{setting} `{}`", value.trim()), feature }
    }
}
