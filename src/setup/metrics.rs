//! The counts of [`Stats`] as OpenTelemetry metrics.
//!
//! All instruments are observable: their callbacks read the counters when metrics are collected, so
//! that they cost spans nothing. Names are those of the semantic conventions for
//! [SDK metrics](https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/) where they have one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue};

use crate::export::stats::{DropReason, Stats};
use crate::span::LayerCore;

/// The schema of the semantic conventions that the names are from.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";

/// What the callbacks read. The handle holds it and the callbacks a weak reference, so they end with the
/// handle, even if the layer lives on.
#[derive(Debug)]
pub(super) struct MetricsSource {
    core: Arc<LayerCore>,
    /// The number of this layer among the layers of the process that have metrics.
    number: OnceLock<u64>,
}

impl MetricsSource {
    pub(super) fn new(core: &Arc<LayerCore>) -> Arc<Self> {
        Arc::new(Self { core: core.clone(), number: OnceLock::new() })
    }

    fn number(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        *self.number.get_or_init(|| NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Registers the instruments with a provider.
pub(super) fn register(source: &Arc<MetricsSource>, provider: &dyn MeterProvider) {
    let Some(pipeline) = source.core.pipeline() else { return };
    let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA)
        .build();
    let number = source.number();
    let registration = Registration {
        meter: provider.meter_with_scope(scope),
        source: Arc::downgrade(source),
        layer: component_attributes("tracing_feedback::FeedbackLayer", number),
        exporter: component_attributes(pipeline.exporter(), number),
        log_exporter: source
            .core
            .events()
            .map(|events| component_attributes(events.exporter(), number)),
    };
    // Metrics of log records are there only if events are emitted.
    let is_present = |component| {
        registration.log_exporter.is_some()
            || !matches!(component, Component::Events | Component::LogExporter)
    };
    let counters = COUNTERS.iter().filter(|metric| is_present(metric.component));
    counters.for_each(|metric| registration.counter(metric));
    // A queue without a limit has no metric of its capacity: the limits never change.
    let Some(now) = MetricValues::of(&source.core) else { return };
    let levels = LEVELS.iter().filter(|metric| is_present(metric.component));
    let present = levels.filter(|metric| (metric.read)(&now).is_some());
    present.for_each(|metric| registration.level(metric));
    let gauges = GAUGES.iter().filter(|metric| is_present(metric.component));
    gauges.for_each(|metric| registration.gauge(metric));
}

/// The attributes of a component of the pipeline. The conventions have no component type for the layer,
/// and ask for the name of its Rust type then.
fn component_attributes(kind: &'static str, number: u64) -> [KeyValue; 2] {
    [
        KeyValue::new("otel.component.type", kind),
        KeyValue::new("otel.component.name", format!("{kind}/{number}")),
    ]
}

/// The component that a metric is about.
#[derive(Clone, Copy)]
enum Component {
    Layer,
    Exporter,
    /// The layer, if it emits events.
    Events,
    LogExporter,
}

struct Metric<T> {
    name: &'static str,
    unit: &'static str,
    component: Component,
    description: &'static str,
    read: fn(&MetricValues) -> T,
}

/// The values of the metrics at one time.
struct MetricValues {
    stats: Stats,
    /// As [`Pipeline::limits`] returns them.
    limits: (Option<usize>, usize),
}

impl MetricValues {
    fn of(core: &LayerCore) -> Option<Self> {
        Some(Self { stats: core.stats(), limits: core.pipeline()?.limits() })
    }
}

/// The counts so far, each with its `error.type`, if any.
type Counts = Vec<(Option<&'static str>, u64)>;

const SPANS: &str = "{span}";
const LOG_RECORDS: &str = "{log_record}";
const BYTES: &str = "By";

const COUNTERS: &[Metric<Counts>] = &[
    Metric {
        name: "otel.sdk.processor.span.processed",
        unit: SPANS,
        component: Component::Layer,
        description: "Spans given to the exporter, or dropped before",
        read: |now| {
            outcome_counts(now.stats.submitted, &now.stats.dropped_by_reason, error_before_export)
        },
    },
    Metric {
        name: "otel.sdk.exporter.span.exported",
        unit: SPANS,
        component: Component::Exporter,
        description: "Spans whose export has finished, either successful or failed",
        read: |now| {
            outcome_counts(now.stats.exported, &now.stats.dropped_by_reason, error_of_export)
        },
    },
    Metric {
        name: "tracing_feedback.span.retried",
        unit: SPANS,
        component: Component::Exporter,
        description: "Spans sent again after a temporary failure",
        read: |now| vec![(None, now.stats.retried)],
    },
    Metric {
        name: "tracing_feedback.exporter.reconnected",
        unit: "{connection}",
        component: Component::Exporter,
        description: "Connections given up, since they were dead or a request had no answer",
        read: |now| vec![(None, now.stats.reconnected)],
    },
    Metric {
        name: "tracing_feedback.span.unsampled",
        unit: SPANS,
        component: Component::Layer,
        description: "Spans that were not sampled and carried no feedback",
        read: |now| vec![(None, now.stats.unsampled)],
    },
    Metric {
        name: "tracing_feedback.feedback.dropped",
        unit: SPANS,
        component: Component::Layer,
        description: "Dropped spans that carried feedback",
        read: |now| vec![(None, now.stats.dropped_feedback)],
    },
    Metric {
        name: "tracing_feedback.attribute.dropped",
        unit: "{attribute}",
        component: Component::Layer,
        description: "Attributes dropped by a limit",
        read: |now| vec![(None, now.stats.dropped_attributes)],
    },
    Metric {
        name: "tracing_feedback.span.truncated",
        unit: SPANS,
        component: Component::Layer,
        description: "Spans that were too large, and exported with a part of their values",
        read: |now| vec![(None, now.stats.truncated)],
    },
    Metric {
        name: "tracing_feedback.enrichment.refused",
        unit: "{enrichment}",
        component: Component::Layer,
        description: "Enrichments refused or changed",
        read: |now| {
            let refused = now.stats.refused.iter();
            refused.map(|(reason, count)| (Some(*reason), *count)).collect()
        },
    },
    Metric {
        name: "tracing_feedback.outbox.span.rejected",
        unit: SPANS,
        component: Component::Exporter,
        description: "Spans that the collector rejected permanently, kept in the outbox",
        read: |now| vec![(None, now.stats.rejected)],
    },
    Metric {
        name: "tracing_feedback.outbox.span.replayed",
        unit: SPANS,
        component: Component::Exporter,
        description: "Spans that were delivered to the collector from disk",
        read: |now| vec![(None, now.stats.replayed)],
    },
    Metric {
        name: "otel.sdk.processor.log.processed",
        unit: LOG_RECORDS,
        component: Component::Events,
        description: "Log records given to the exporter, or dropped before",
        read: |now| {
            let events = &now.stats.events;
            outcome_counts(events.submitted, &events.dropped_by_reason, error_before_export)
        },
    },
    Metric {
        name: "otel.sdk.exporter.log.exported",
        unit: LOG_RECORDS,
        component: Component::LogExporter,
        description: "Log records whose export has finished, either successful or failed",
        read: |now| {
            let events = &now.stats.events;
            outcome_counts(events.exported, &events.dropped_by_reason, error_of_export)
        },
    },
    Metric {
        name: "tracing_feedback.log.retried",
        unit: LOG_RECORDS,
        component: Component::LogExporter,
        description: "Log records sent again after a temporary failure",
        read: |now| vec![(None, now.stats.events.retried)],
    },
    Metric {
        name: "tracing_feedback.log.truncated",
        unit: LOG_RECORDS,
        component: Component::Events,
        description: "Log records that were too large, and exported with a part of their values",
        read: |now| vec![(None, now.stats.events.truncated)],
    },
    Metric {
        name: "tracing_feedback.outbox.log.rejected",
        unit: LOG_RECORDS,
        component: Component::LogExporter,
        description: "Log records that the collector rejected permanently, kept in the outbox",
        read: |now| vec![(None, now.stats.events.rejected)],
    },
    Metric {
        name: "tracing_feedback.outbox.log.replayed",
        unit: LOG_RECORDS,
        component: Component::LogExporter,
        description: "Log records that were delivered to the collector from disk",
        read: |now| vec![(None, now.stats.events.replayed)],
    },
];

const LEVELS: &[Metric<Option<u64>>] = &[
    Metric {
        name: "otel.sdk.processor.span.queue.size",
        unit: SPANS,
        component: Component::Layer,
        description: "Spans that wait to be exported",
        read: |now| Some(now.stats.queued),
    },
    Metric {
        name: "otel.sdk.processor.span.queue.capacity",
        unit: SPANS,
        component: Component::Layer,
        description: "Spans that may wait to be exported",
        read: |now| now.limits.0.map(|spans| spans as u64),
    },
    Metric {
        name: "otel.sdk.exporter.span.inflight",
        unit: SPANS,
        component: Component::Exporter,
        description: "Spans given to the exporter and not yet exported",
        read: |now| Some(now.stats.in_flight),
    },
    Metric {
        name: "tracing_feedback.queue.memory.usage",
        unit: BYTES,
        component: Component::Layer,
        description: "Approximate memory of the spans that wait to be exported",
        read: |now| Some(now.stats.queued_bytes),
    },
    Metric {
        name: "tracing_feedback.queue.memory.limit",
        unit: BYTES,
        component: Component::Layer,
        description: "Memory that spans may take while they wait to be exported",
        read: |now| Some(now.limits.1 as u64),
    },
    Metric {
        name: "tracing_feedback.outbox.size",
        unit: SPANS,
        component: Component::Exporter,
        description: "Spans that wait on disk",
        read: |now| Some(now.stats.outbox_spans),
    },
    Metric {
        name: "tracing_feedback.outbox.disk.usage",
        unit: BYTES,
        component: Component::Exporter,
        description: "The disk space of the outbox",
        read: |now| Some(now.stats.outbox_bytes),
    },
    Metric {
        name: "otel.sdk.processor.log.queue.size",
        unit: LOG_RECORDS,
        component: Component::Events,
        description: "Log records that wait to be exported",
        read: |now| Some(now.stats.events.queued),
    },
    Metric {
        name: "otel.sdk.exporter.log.inflight",
        unit: LOG_RECORDS,
        component: Component::LogExporter,
        description: "Log records given to the exporter and not yet exported",
        read: |now| Some(now.stats.events.in_flight),
    },
    Metric {
        name: "tracing_feedback.outbox.log.size",
        unit: LOG_RECORDS,
        component: Component::LogExporter,
        description: "Log records that wait on disk",
        read: |now| Some(now.stats.events.outbox_records),
    },
    Metric {
        name: "tracing_feedback.outbox.log.disk.usage",
        unit: BYTES,
        component: Component::LogExporter,
        description: "The disk space of log records in the outbox",
        read: |now| Some(now.stats.events.outbox_bytes),
    },
];

const GAUGES: &[Metric<Option<f64>>] = &[Metric {
    name: "tracing_feedback.outbox.age",
    unit: "s",
    component: Component::Exporter,
    description: "How long the oldest span on disk has waited",
    read: |now| now.stats.outbox_age.map(|age| age.as_secs_f64()),
}];

/// The count of successes, and the count of every `error.type`, even if it is zero: the first loss is
/// then visible as an increase.
fn outcome_counts(
    succeeded: u64,
    dropped_by_reason: &BTreeMap<&'static str, u64>,
    error: fn(DropReason) -> Option<&'static str>,
) -> Counts {
    let dropped = |reason: DropReason| dropped_by_reason.get(reason.as_str()).copied().unwrap_or(0);
    let failed = DropReason::ALL
        .into_iter()
        .filter_map(|reason| Some((Some(error(reason)?), dropped(reason))));
    std::iter::once((None, succeeded)).chain(failed).collect()
}

/// The `error.type` of a span that was dropped before it reached the exporter.
fn error_before_export(reason: DropReason) -> Option<&'static str> {
    match reason {
        DropReason::QueueFull => Some("queue_full"),
        DropReason::AfterShutdown => Some("already_shutdown"),
        DropReason::TimedOut => Some("timed_out"),
        DropReason::Forked => Some("forked"),
        DropReason::ExportFailed | DropReason::Rejected | DropReason::Discarded => None,
    }
}

/// The `error.type` of a span whose export failed.
fn error_of_export(reason: DropReason) -> Option<&'static str> {
    match reason {
        DropReason::ExportFailed => Some("export_failed"),
        DropReason::Rejected => Some("rejected"),
        DropReason::Discarded => Some("discarded"),
        DropReason::QueueFull
        | DropReason::AfterShutdown
        | DropReason::TimedOut
        | DropReason::Forked => None,
    }
}

/// What the instruments of one layer are built from.
struct Registration {
    meter: Meter,
    source: Weak<MetricsSource>,
    layer: [KeyValue; 2],
    exporter: [KeyValue; 2],
    /// `None` if no events are emitted.
    log_exporter: Option<[KeyValue; 2]>,
}

impl Registration {
    fn counter(&self, metric: &'static Metric<Counts>) {
        let (source, component) = (self.source.clone(), self.attributes(metric.component));
        let instrument = self.meter.u64_observable_counter(metric.name).with_unit(metric.unit);
        let observe = move |instrument: &dyn AsyncInstrument<u64>| {
            for (error, count) in read(&source, metric).unwrap_or_default() {
                let mut attributes = component.to_vec();
                attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
                instrument.observe(count, &attributes);
            }
        };
        instrument.with_description(metric.description).with_callback(observe).build();
    }

    fn level(&self, metric: &'static Metric<Option<u64>>) {
        let (source, component) = (self.source.clone(), self.attributes(metric.component));
        let instrument = self.meter.i64_observable_up_down_counter(metric.name);
        let observe = move |instrument: &dyn AsyncInstrument<i64>| {
            if let Some(level) = read(&source, metric).flatten() {
                instrument.observe(i64::try_from(level).unwrap_or(i64::MAX), &component);
            }
        };
        let instrument = instrument.with_unit(metric.unit).with_description(metric.description);
        instrument.with_callback(observe).build();
    }

    fn gauge(&self, metric: &'static Metric<Option<f64>>) {
        let (source, component) = (self.source.clone(), self.attributes(metric.component));
        let instrument = self.meter.f64_observable_gauge(metric.name).with_unit(metric.unit);
        let observe = move |instrument: &dyn AsyncInstrument<f64>| {
            if let Some(value) = read(&source, metric).flatten() {
                instrument.observe(value, &component);
            }
        };
        instrument.with_description(metric.description).with_callback(observe).build();
    }

    fn attributes(&self, component: Component) -> [KeyValue; 2] {
        match component {
            Component::Layer | Component::Events => self.layer.clone(),
            Component::Exporter => self.exporter.clone(),
            Component::LogExporter => self.log_exporter.as_ref().unwrap_or(&self.exporter).clone(),
        }
    }
}

/// The current value of a metric; `None` once the handle is dropped.
fn read<T>(source: &Weak<MetricsSource>, metric: &Metric<T>) -> Option<T> {
    MetricValues::of(&source.upgrade()?.core).map(|now| (metric.read)(&now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::stats::EventStats;
    use std::time::Duration;

    #[test]
    fn an_outbox_has_its_metrics() {
        let stats = Stats {
            outbox_spans: 3,
            outbox_bytes: 900,
            outbox_age: Some(Duration::from_millis(1500)),
            rejected: 2,
            replayed: 7,
            events: EventStats {
                outbox_records: 4,
                outbox_bytes: 800,
                rejected: 1,
                replayed: 6,
                ..EventStats::default()
            },
            ..Stats::default()
        };
        let now = MetricValues { stats, limits: (None, 1) };
        let counters = COUNTERS.iter().flat_map(|metric| {
            let counts = (metric.read)(&now).into_iter();
            counts.map(|(_, count)| (metric.name, count as f64))
        });
        let levels =
            LEVELS.iter().filter_map(|metric| Some((metric.name, (metric.read)(&now)? as f64)));
        let gauges = GAUGES.iter().filter_map(|metric| Some((metric.name, (metric.read)(&now)?)));
        let mut of_outbox: Vec<_> = counters
            .chain(levels)
            .chain(gauges)
            .filter(|(name, _)| name.starts_with("tracing_feedback.outbox."))
            .collect();
        of_outbox.sort_by_key(|(name, _)| *name);
        assert_eq!(
            of_outbox,
            [
                ("tracing_feedback.outbox.age", 1.5),
                ("tracing_feedback.outbox.disk.usage", 900.0),
                ("tracing_feedback.outbox.log.disk.usage", 800.0),
                ("tracing_feedback.outbox.log.rejected", 1.0),
                ("tracing_feedback.outbox.log.replayed", 6.0),
                ("tracing_feedback.outbox.log.size", 4.0),
                ("tracing_feedback.outbox.size", 3.0),
                ("tracing_feedback.outbox.span.rejected", 2.0),
                ("tracing_feedback.outbox.span.replayed", 7.0),
            ]
        );
        // An empty outbox has no age.
        let now = MetricValues { stats: Stats::default(), limits: (None, 1) };
        assert!(GAUGES.iter().all(|metric| (metric.read)(&now).is_none()));
    }
}
