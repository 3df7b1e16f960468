//! The environment: the variables of the OpenTelemetry specification, those for proxies, and six of our
//! own.
//!
//! Reading never fails. A value that is malformed, unsupported or not Unicode is skipped and leaves an
//! [`EnvironmentIssue`]; the next in precedence counts (the general variable after the one of the signal, then
//! the default). An empty value counts as unset, by the specification. Only [`Environment::read`] touches
//! the environment of the process.
//!
//! Endpoints and certificate files can only be checked together with the builder's settings (the
//! protocol decides what an endpoint may be). They are kept as [candidates](otlp::EnvCandidate), which
//! [`OtlpConfig::resolve`](crate::setup::otlp::OtlpConfig::resolve) checks.

mod issue;
#[cfg(feature = "_otlp")]
pub(super) mod otlp;
#[cfg(feature = "_otlp")]
pub(super) mod proxy;
mod reader;
mod value;

use std::ffi::OsString;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Sampler;

#[cfg(feature = "_otlp")]
use crate::otlp::Signal;
use crate::settings::Events;
use crate::ticket::TicketKeys;
use issue::TICKET_KEYS;
pub(crate) use issue::{EnvironmentIssue, redact_endpoint};
use reader::Reader;
#[cfg(feature = "_otlp")]
pub(crate) use value::check_header;
pub(crate) use value::{Propagator, TracesExporter, needs_feature};
use value::{
    boolean, count, events, milliseconds, outbox_directory, outbox_policy, resource_attributes,
    size, ticket_keys,
};

/// The settings read from the environment; `None` where a variable is unset or unusable.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `OTEL_SDK_DISABLED`.
    pub(crate) sdk_disabled: Option<bool>,
    /// `OTEL_SERVICE_NAME`; wins over `service.name` in `resource_attributes`.
    pub(crate) service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`, percent-decoded; of a key given twice, the last value.
    pub(crate) resource_attributes: Option<Vec<KeyValue>>,
    /// `OTEL_TRACES_EXPORTER`.
    pub(crate) traces_exporter: Option<TracesExporter>,
    /// `OTEL_TRACES_SAMPLER` with `OTEL_TRACES_SAMPLER_ARG`.
    pub(crate) sampler: Option<Sampler>,
    /// `OTEL_PROPAGATORS`; empty for `none`.
    pub(crate) propagators: Option<Vec<Propagator>>,
    /// `OTEL_BSP_SCHEDULE_DELAY`.
    pub(crate) bsp_schedule_delay: Option<Duration>,
    /// `OTEL_BSP_EXPORT_TIMEOUT`.
    pub(crate) bsp_export_timeout: Option<Duration>,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`, never zero.
    pub(crate) bsp_max_queue_size: Option<usize>,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, never zero and never more than `bsp_max_queue_size`
    /// where that is set.
    pub(crate) bsp_max_export_batch_size: Option<usize>,
    /// `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, or `OTEL_ATTRIBUTE_COUNT_LIMIT`.
    pub(crate) span_attribute_count_limit: Option<u32>,
    /// `OTEL_SPAN_EVENT_COUNT_LIMIT`.
    pub(crate) span_event_count_limit: Option<u32>,
    /// `OTEL_SPAN_LINK_COUNT_LIMIT`.
    pub(crate) span_link_count_limit: Option<u32>,
    /// `OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT`.
    pub(crate) event_attribute_count_limit: Option<u32>,
    /// `OTEL_LINK_ATTRIBUTE_COUNT_LIMIT`.
    pub(crate) link_attribute_count_limit: Option<u32>,
    /// `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, or `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`.
    pub(crate) attribute_value_length_limit: Option<u32>,
    /// `OTEL_EXPORTER_OTLP_*`, with `OTEL_EXPORTER_OTLP_TRACES_*`.
    #[cfg(feature = "_otlp")]
    pub(crate) otlp: otlp::OtlpVariables,
    /// `HTTPS_PROXY` and the like.
    #[cfg(feature = "_otlp")]
    pub(crate) proxy: proxy::ProxyVariables,
    /// `FEEDBACK_TRACE_FILTER`.
    pub(crate) trace_filter: Option<String>,
    /// `RUST_LOG`.
    pub(crate) rust_log: Option<String>,
    /// `FEEDBACK_TICKET_KEYS`.
    pub(crate) ticket_keys: Option<TicketKeys>,
    /// `FEEDBACK_EVENTS`.
    pub(crate) events: Option<Events>,
    /// `OTEL_EXPORTER_OTLP_*`, with `OTEL_EXPORTER_OTLP_LOGS_*`, and what was skipped of them.
    #[cfg(feature = "_otlp")]
    pub(crate) otlp_logs: (otlp::OtlpVariables, Vec<EnvironmentIssue>),
    /// `FEEDBACK_OUTBOX_DIR`.
    pub(crate) outbox_directory: Option<String>,
    /// `FEEDBACK_OUTBOX_POLICY`: whether it is `write_ahead`.
    pub(crate) outbox_writes_ahead: Option<bool>,
    /// The values that were skipped, and why.
    pub(crate) issues: Vec<EnvironmentIssue>,
}

/// The variable for the outbox; also named in its errors.
pub(crate) const OUTBOX_DIR: &str = "FEEDBACK_OUTBOX_DIR";

/// The variable for events.
pub(crate) const EVENTS: &str = "FEEDBACK_EVENTS";

impl Environment {
    /// Reads the environment of the process.
    pub(crate) fn read() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// Reads the variables that `lookup` finds.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        // Apart, since they are of no account while no events are emitted.
        #[cfg(feature = "_otlp")]
        let otlp_logs = {
            let mut reader = Reader::new(&lookup);
            (otlp::read(&mut reader, Signal::Logs), reader.into_issues())
        };
        let mut reader = Reader::new(lookup);
        let mut environment = Self {
            sdk_disabled: reader.parse("OTEL_SDK_DISABLED", boolean),
            service_name: reader.text("OTEL_SERVICE_NAME"),
            resource_attributes: reader.parse("OTEL_RESOURCE_ATTRIBUTES", resource_attributes),
            traces_exporter: reader.traces_exporter(),
            sampler: reader.sampler(),
            propagators: reader.propagators(),
            bsp_schedule_delay: reader.parse("OTEL_BSP_SCHEDULE_DELAY", milliseconds),
            bsp_export_timeout: reader.parse("OTEL_BSP_EXPORT_TIMEOUT", milliseconds),
            bsp_max_queue_size: reader.parse("OTEL_BSP_MAX_QUEUE_SIZE", size),
            bsp_max_export_batch_size: reader.parse("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", size),
            span_attribute_count_limit: reader
                .first(["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"], count),
            span_event_count_limit: reader.parse("OTEL_SPAN_EVENT_COUNT_LIMIT", count),
            span_link_count_limit: reader.parse("OTEL_SPAN_LINK_COUNT_LIMIT", count),
            event_attribute_count_limit: reader.parse("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", count),
            link_attribute_count_limit: reader.parse("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", count),
            attribute_value_length_limit: reader.first(
                ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"],
                count,
            ),
            #[cfg(feature = "_otlp")]
            otlp: otlp::read(&mut reader, Signal::Traces),
            #[cfg(feature = "_otlp")]
            proxy: proxy::read(&mut reader),
            trace_filter: reader.text("FEEDBACK_TRACE_FILTER"),
            rust_log: reader.text("RUST_LOG"),
            ticket_keys: reader.parse(TICKET_KEYS, ticket_keys),
            events: reader.parse(EVENTS, events),
            #[cfg(feature = "_otlp")]
            otlp_logs,
            outbox_directory: reader.parse(OUTBOX_DIR, outbox_directory),
            outbox_writes_ahead: reader.parse("FEEDBACK_OUTBOX_POLICY", outbox_policy),
            issues: Vec::new(),
        };
        // If only the batch size is set here, the queue size may be set in code: the export compares them.
        if let (Some(batch), Some(queue)) =
            (environment.bsp_max_export_batch_size, environment.bsp_max_queue_size)
            && batch > queue
        {
            environment.bsp_max_export_batch_size = None;
            reader.issue(
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                &batch.to_string(),
                format!("is more than OTEL_BSP_MAX_QUEUE_SIZE, {queue}: set at most that"),
            );
        }
        environment.issues = reader.into_issues();
        environment
    }
}

#[cfg(test)]
mod tests;
