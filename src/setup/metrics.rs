//! What [`Stats`] count, as OpenTelemetry metrics.
//!
//! All instruments are observable: their callbacks read the counters when metrics are collected, and
//! no span does anything for them. Names are those of the semantic conventions for
//! [SDK metrics](https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/) where they have one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue};

use crate::export::Pipeline;
use crate::export::stats::{DropReason, Stats};
use crate::span::LayerCore;

/// The conventions that the names are from.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";

/// What the callbacks watch. It goes with the handle, though the layer lives on.
#[derive(Debug)]
pub(super) struct Source {
    core: Arc<LayerCore>,
    /// Which of the process's layers this is, of those that have metrics.
    number: OnceLock<u64>,
}

impl Source {
    pub(super) fn new(core: &Arc<LayerCore>) -> Arc<Self> {
        Arc::new(Self { core: core.clone(), number: OnceLock::new() })
    }

    fn number(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        *self.number.get_or_init(|| NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Registers what is counted with a provider.
pub(super) fn register(source: &Arc<Source>, provider: &dyn MeterProvider) {
    let Some(pipeline) = source.core.pipeline() else { return };
    let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA)
        .build();
    let number = source.number();
    let registration = Registration {
        meter: provider.meter_with_scope(scope),
        source: Arc::downgrade(source),
        layer: component("tracing_feedback::FeedbackLayer", number),
        exporter: component(pipeline.exporter(), number),
    };
    COUNTERS.iter().for_each(|metric| registration.counter(metric));
    // Whether there is such a limit is known by now.
    let now = Reading::of(pipeline);
    let there = LEVELS.iter().filter(|metric| (metric.read)(&now).is_some());
    there.for_each(|metric| registration.level(metric));
    GAUGES.iter().for_each(|metric| registration.gauge(metric));
}

/// A component of the pipeline, as attributes. That of the layer has no name in the conventions, which
/// then ask for the type's.
fn component(kind: &'static str, number: u64) -> [KeyValue; 2] {
    [
        KeyValue::new("otel.component.type", kind),
        KeyValue::new("otel.component.name", format!("{kind}/{number}")),
    ]
}

/// Whose a metric is.
#[derive(Clone, Copy)]
enum Of {
    Layer,
    Exporter,
}

struct Metric<T> {
    name: &'static str,
    unit: &'static str,
    of: Of,
    description: &'static str,
    read: fn(&Reading) -> T,
}

/// What there is to say now.
struct Reading {
    stats: Stats,
    /// As [`Pipeline::limits`] has them.
    limits: (Option<usize>, usize),
}

impl Reading {
    fn of(pipeline: &Pipeline) -> Self {
        Self { stats: pipeline.stats(), limits: pipeline.limits() }
    }
}

/// What has been counted so far, each with its `error.type`, if it has one.
type Counts = Vec<(Option<&'static str>, u64)>;

const SPANS: &str = "{span}";
const BYTES: &str = "By";

const COUNTERS: &[Metric<Counts>] = &[
    Metric {
        name: "otel.sdk.processor.span.processed",
        unit: SPANS,
        of: Of::Layer,
        description: "Spans given to the exporter, or dropped before",
        read: |now| finished(&now.stats, |stats| stats.submitted, before_export),
    },
    Metric {
        name: "otel.sdk.exporter.span.exported",
        unit: SPANS,
        of: Of::Exporter,
        description: "Spans whose export has finished, either successful or failed",
        read: |now| finished(&now.stats, |stats| stats.exported, by_export),
    },
    Metric {
        name: "tracing_feedback.span.retried",
        unit: SPANS,
        of: Of::Exporter,
        description: "Spans sent again after a passing failure",
        read: |now| vec![(None, now.stats.retried)],
    },
    Metric {
        name: "tracing_feedback.span.unsampled",
        unit: SPANS,
        of: Of::Layer,
        description: "Spans the sampler left out, and which carried no feedback",
        read: |now| vec![(None, now.stats.unsampled)],
    },
    Metric {
        name: "tracing_feedback.feedback.dropped",
        unit: SPANS,
        of: Of::Layer,
        description: "Dropped spans that carried feedback",
        read: |now| vec![(None, now.stats.dropped_feedback)],
    },
    Metric {
        name: "tracing_feedback.attribute.dropped",
        unit: "{attribute}",
        of: Of::Layer,
        description: "Attributes past a limit",
        read: |now| vec![(None, now.stats.dropped_attributes)],
    },
    Metric {
        name: "tracing_feedback.enrichment.refused",
        unit: "{enrichment}",
        of: Of::Layer,
        description: "Enrichments refused or changed",
        read: |now| {
            let refused = now.stats.refused.iter();
            refused.map(|(reason, count)| (Some(*reason), *count)).collect()
        },
    },
    Metric {
        name: "tracing_feedback.outbox.span.rejected",
        unit: SPANS,
        of: Of::Exporter,
        description: "Spans the collector has refused for good, kept in the outbox",
        read: |now| vec![(None, now.stats.rejected)],
    },
    Metric {
        name: "tracing_feedback.outbox.span.replayed",
        unit: SPANS,
        of: Of::Exporter,
        description: "Spans that have reached the collector from disk",
        read: |now| vec![(None, now.stats.replayed)],
    },
];

const LEVELS: &[Metric<Option<u64>>] = &[
    Metric {
        name: "otel.sdk.processor.span.queue.size",
        unit: SPANS,
        of: Of::Layer,
        description: "Spans that wait to be exported",
        read: |now| Some(now.stats.queued),
    },
    Metric {
        name: "otel.sdk.processor.span.queue.capacity",
        unit: SPANS,
        of: Of::Layer,
        description: "Spans that may wait to be exported",
        read: |now| now.limits.0.map(|spans| spans as u64),
    },
    Metric {
        name: "otel.sdk.exporter.span.inflight",
        unit: SPANS,
        of: Of::Exporter,
        description: "Spans in the exporter's hands",
        read: |now| Some(now.stats.in_flight),
    },
    Metric {
        name: "tracing_feedback.queue.memory.usage",
        unit: BYTES,
        of: Of::Layer,
        description: "Memory of the spans that wait to be exported, about",
        read: |now| Some(now.stats.queued_bytes),
    },
    Metric {
        name: "tracing_feedback.queue.memory.limit",
        unit: BYTES,
        of: Of::Layer,
        description: "Memory that spans may take while they wait to be exported",
        read: |now| Some(now.limits.1 as u64),
    },
    Metric {
        name: "tracing_feedback.outbox.size",
        unit: SPANS,
        of: Of::Exporter,
        description: "Spans that wait on disk",
        read: |now| Some(now.stats.outbox_spans),
    },
    Metric {
        name: "tracing_feedback.outbox.disk.usage",
        unit: BYTES,
        of: Of::Exporter,
        description: "The room they take there",
        read: |now| Some(now.stats.outbox_bytes),
    },
];

const GAUGES: &[Metric<Option<f64>>] = &[Metric {
    name: "tracing_feedback.outbox.age",
    unit: "s",
    of: Of::Exporter,
    description: "How long the oldest span on disk has waited",
    read: |now| now.stats.outbox_age.map(|age| age.as_secs_f64()),
}];

/// What went well, and every way in which it didn't: also those that never came about, so that the
/// first loss is seen as a rise.
fn finished(
    stats: &Stats,
    well: fn(&Stats) -> u64,
    error: fn(DropReason) -> Option<&'static str>,
) -> Counts {
    let dropped = |why: DropReason| stats.dropped_by_reason.get(why.as_str()).copied().unwrap_or(0);
    let failed =
        DropReason::ALL.into_iter().filter_map(|why| Some((Some(error(why)?), dropped(why))));
    std::iter::once((None, well(stats))).chain(failed).collect()
}

/// The `error.type` of a span that never came to the exporter.
fn before_export(why: DropReason) -> Option<&'static str> {
    match why {
        DropReason::QueueFull => Some("queue_full"),
        DropReason::AfterShutdown => Some("already_shutdown"),
        DropReason::TimedOut => Some("timed_out"),
        DropReason::ExportFailed | DropReason::Rejected | DropReason::Discarded => None,
    }
}

/// The `error.type` of a span that the exporter did not bring to its end.
fn by_export(why: DropReason) -> Option<&'static str> {
    match why {
        DropReason::ExportFailed => Some("export_failed"),
        DropReason::Rejected => Some("rejected"),
        DropReason::Discarded => Some("discarded"),
        DropReason::QueueFull | DropReason::AfterShutdown | DropReason::TimedOut => None,
    }
}

/// What the instruments of one layer are made with.
struct Registration {
    meter: Meter,
    source: Weak<Source>,
    layer: [KeyValue; 2],
    exporter: [KeyValue; 2],
}

impl Registration {
    fn counter(&self, metric: &'static Metric<Counts>) {
        let (source, component) = (self.source.clone(), self.component(metric.of));
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
        let (source, component) = (self.source.clone(), self.component(metric.of));
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
        let (source, component) = (self.source.clone(), self.component(metric.of));
        let instrument = self.meter.f64_observable_gauge(metric.name).with_unit(metric.unit);
        let observe = move |instrument: &dyn AsyncInstrument<f64>| {
            if let Some(value) = read(&source, metric).flatten() {
                instrument.observe(value, &component);
            }
        };
        instrument.with_description(metric.description).with_callback(observe).build();
    }

    fn component(&self, of: Of) -> [KeyValue; 2] {
        match of {
            Of::Layer => self.layer.clone(),
            Of::Exporter => self.exporter.clone(),
        }
    }
}

/// What a metric says now; nothing once the handle is gone.
fn read<T>(source: &Weak<Source>, metric: &Metric<T>) -> Option<T> {
    source.upgrade()?.core.pipeline().map(|pipeline| (metric.read)(&Reading::of(pipeline)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_outbox_has_its_metrics() {
        let stats = Stats {
            outbox_spans: 3,
            outbox_bytes: 900,
            outbox_age: Some(Duration::from_millis(1500)),
            rejected: 2,
            replayed: 7,
            ..Stats::default()
        };
        let now = Reading { stats, limits: (None, 1) };
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
                ("tracing_feedback.outbox.size", 3.0),
                ("tracing_feedback.outbox.span.rejected", 2.0),
                ("tracing_feedback.outbox.span.replayed", 7.0),
            ]
        );
        // While nothing waits, nothing is old.
        let now = Reading { stats: Stats::default(), limits: (None, 1) };
        assert!(GAUGES.iter().all(|metric| (metric.read)(&now).is_none()));
    }
}
