//! The metrics of a layer about itself, by OpenTelemetry.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use opentelemetry_sdk::trace::{Sampler, SpanData, SpanExporter, SpanLimits};
use tracing::{dispatcher, info_span};
use tracing_feedback::collector::Answer;
use tracing_feedback::{Events, Protocol, Telemetry, enrich_span};

use crate::Rig;
use crate::log_receiver::{LogAnswer, LogReceiver};
use crate::show::with_timeout;

/// A provider of metrics, and what it has exported.
struct Metrics {
    provider: SdkMeterProvider,
    exporter: InMemoryMetricExporter,
}

impl Metrics {
    fn new() -> Self {
        let exporter = InMemoryMetricExporter::default();
        let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
        Self { provider, exporter }
    }

    fn of(telemetry: &Telemetry) -> Self {
        let metrics = Self::new();
        telemetry.register_metrics(&metrics.provider);
        metrics
    }

    /// A line for each value, by name: name, unit, kind, attributes, value.
    fn collect(&self) -> Vec<String> {
        self.exporter.reset();
        self.provider.force_flush().unwrap();
        let collected = self.exporter.get_finished_metrics().unwrap();
        let scopes = || collected.iter().flat_map(|resource| resource.scope_metrics());
        for scope in scopes() {
            assert_eq!(scope.scope().name(), "tracing-feedback");
            assert_eq!(scope.scope().version(), Some(env!("CARGO_PKG_VERSION")));
            let schema = scope.scope().schema_url().unwrap();
            assert!(schema.starts_with("https://opentelemetry.io/schemas/1."), "{schema}");
        }
        let mut lines: Vec<_> =
            scopes().flat_map(|scope| scope.metrics()).flat_map(lines).collect();
        lines.sort_unstable();
        lines
    }

    /// The lines of one metric, without its name.
    fn one(&self, name: &str) -> Vec<String> {
        let of_it = |line: String| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
        self.collect().into_iter().filter_map(of_it).collect()
    }

    /// The value of the one line of a metric that has this error, or none.
    fn value(&self, name: &str, error: &str) -> i64 {
        let end = if error.is_empty() { String::new() } else { format!(" {error}") };
        let lines = self.one(name);
        let mut of_error = lines.iter().filter_map(|line| {
            let (labels, value) = line.split_once("] = ")?;
            let labels = labels.split_once('[')?.1;
            let is_it = match labels.split_once(' ') {
                Some((_, of)) => of == error,
                None => error.is_empty(),
            };
            is_it.then(|| value.parse().unwrap())
        });
        let value = of_error.next().unwrap_or_else(|| panic!("{name}{end}: {lines:?}"));
        assert_eq!(of_error.next(), None, "{name}{end}");
        value
    }
}

/// All values of a metric, a line each.
fn lines(metric: &Metric) -> Vec<String> {
    assert!(!metric.description().is_empty());
    let sum = |monotonic| if monotonic { "counter" } else { "up-down counter" };
    let points: Vec<_> = match metric.data() {
        AggregatedMetrics::U64(MetricData::Sum(of)) => of
            .data_points()
            .map(|point| {
                (sum(of.is_monotonic()), show(point.attributes()), point.value().to_string())
            })
            .collect(),
        AggregatedMetrics::I64(MetricData::Sum(of)) => of
            .data_points()
            .map(|point| {
                (sum(of.is_monotonic()), show(point.attributes()), point.value().to_string())
            })
            .collect(),
        AggregatedMetrics::F64(MetricData::Gauge(of)) => of
            .data_points()
            .map(|point| ("gauge", show(point.attributes()), point.value().to_string()))
            .collect(),
        other => panic!("{}: {other:?}", metric.name()),
    };
    let (name, unit) = (metric.name(), metric.unit());
    let line = |(kind, attributes, value)| format!("{name} {unit} {kind} {attributes} = {value}");
    points.into_iter().map(line).collect()
}

/// The type of the component, and its error. The name is the type's and a number.
fn show<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let of = |attributes: &[(String, String)], key: &str| {
        let of_key = attributes.iter().find(|(other, _)| other == key);
        of_key.map(|(_, value)| value.clone())
    };
    let attributes: Vec<_> = attributes
        .map(|attribute| (attribute.key.to_string(), attribute.value.to_string()))
        .collect();
    let kind = of(&attributes, "otel.component.type").unwrap();
    let name = of(&attributes, "otel.component.name").unwrap();
    let number = name.strip_prefix(&kind).and_then(|rest| rest.strip_prefix('/')).unwrap();
    assert!(number.parse::<u64>().is_ok(), "{name}");
    let error = of(&attributes, "error.type");
    assert_eq!(attributes.len(), 2 + usize::from(error.is_some()), "{attributes:?}");
    format!("[{kind}{}]", error.map(|error| format!(" {error}")).unwrap_or_default())
}

const LONG: Duration = Duration::from_secs(3600);

fn in_subscriber(rig: &Rig, work: impl FnOnce()) {
    dispatcher::with_default(&rig.dispatch, work);
}

fn spans(n: usize) {
    for n in 0..n {
        info_span!("span", n).in_scope(|| ());
    }
}

#[test]
fn metrics_have_the_names_units_and_attributes_of_the_conventions() {
    let rig = Rig::with(|builder| builder.with_max_queue_size(1000).with_max_queue_bytes(1 << 20));
    let metrics = Metrics::of(&rig.telemetry);
    rig.run(|| {
        spans(3);
        assert!(!enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    let expected = "\
otel.sdk.exporter.span.exported {span} counter [otlp_grpc_span_exporter discarded] = 0
otel.sdk.exporter.span.exported {span} counter [otlp_grpc_span_exporter export_failed] = 0
otel.sdk.exporter.span.exported {span} counter [otlp_grpc_span_exporter rejected] = 0
otel.sdk.exporter.span.exported {span} counter [otlp_grpc_span_exporter] = 3
otel.sdk.exporter.span.inflight {span} up-down counter [otlp_grpc_span_exporter] = 0
otel.sdk.processor.span.processed {span} counter [tracing_feedback::FeedbackLayer already_shutdown] = 0
otel.sdk.processor.span.processed {span} counter [tracing_feedback::FeedbackLayer forked] = 0
otel.sdk.processor.span.processed {span} counter [tracing_feedback::FeedbackLayer queue_full] = 0
otel.sdk.processor.span.processed {span} counter [tracing_feedback::FeedbackLayer timed_out] = 0
otel.sdk.processor.span.processed {span} counter [tracing_feedback::FeedbackLayer] = 3
otel.sdk.processor.span.queue.capacity {span} up-down counter [tracing_feedback::FeedbackLayer] = 1000
otel.sdk.processor.span.queue.size {span} up-down counter [tracing_feedback::FeedbackLayer] = 0
tracing_feedback.attribute.dropped {attribute} counter [tracing_feedback::FeedbackLayer] = 0
tracing_feedback.enrichment.refused {enrichment} counter [tracing_feedback::FeedbackLayer no_active_span] = 1
tracing_feedback.exporter.reconnected {connection} counter [otlp_grpc_span_exporter] = 0
tracing_feedback.feedback.dropped {span} counter [tracing_feedback::FeedbackLayer] = 0
tracing_feedback.outbox.disk.usage By up-down counter [otlp_grpc_span_exporter] = 0
tracing_feedback.outbox.size {span} up-down counter [otlp_grpc_span_exporter] = 0
tracing_feedback.outbox.span.rejected {span} counter [otlp_grpc_span_exporter] = 0
tracing_feedback.outbox.span.replayed {span} counter [otlp_grpc_span_exporter] = 0
tracing_feedback.queue.memory.limit By up-down counter [tracing_feedback::FeedbackLayer] = 1048576
tracing_feedback.queue.memory.usage By up-down counter [tracing_feedback::FeedbackLayer] = 0
tracing_feedback.span.retried {span} counter [otlp_grpc_span_exporter] = 0
tracing_feedback.span.truncated {span} counter [tracing_feedback::FeedbackLayer] = 0
tracing_feedback.span.unsampled {span} counter [tracing_feedback::FeedbackLayer] = 0";
    assert_eq!(metrics.collect().join("\n"), expected);
}

#[test]
fn what_the_collector_did_not_take_is_an_error_of_the_exporter() {
    let rig = Rig::new();
    let metrics = Metrics::of(&rig.telemetry);
    rig.collector.answer_next(Answer::BadRequest { message: "no such tenant".into() });
    in_subscriber(&rig, || {
        info_span!("rated").in_scope(|| enrich_span!(feedback = { "rating": 1 }));
        spans(1);
    });
    assert_eq!(rig.telemetry.flush().unwrap_err().lost(), 2);
    rig.collector.answer_next(Answer::PartialSuccess { rejected: 3, message: "too old".into() });
    in_subscriber(&rig, || spans(4));
    assert_eq!(rig.telemetry.flush().unwrap_err().lost(), 3);
    rig.collector.answer_next(Answer::Unavailable { retry_after: None });
    rig.run(|| spans(5));

    assert_eq!(
        metrics.one("otel.sdk.exporter.span.exported"),
        [
            "{span} counter [otlp_grpc_span_exporter discarded] = 0",
            "{span} counter [otlp_grpc_span_exporter export_failed] = 2",
            "{span} counter [otlp_grpc_span_exporter rejected] = 3",
            "{span} counter [otlp_grpc_span_exporter] = 6",
        ]
    );
    // All of it was submitted, which is all that can be asked of a processor.
    assert_eq!(metrics.value("otel.sdk.processor.span.processed", ""), 11);
    assert_eq!(metrics.value("tracing_feedback.feedback.dropped", ""), 1);
    assert_eq!(metrics.value("tracing_feedback.span.retried", ""), 5);
}

#[test]
fn what_waits_and_what_is_in_flight_can_be_watched() {
    let rig = Rig::with(|builder| {
        builder.with_schedule_delay(LONG).with_timeout(Duration::from_millis(500))
    });
    let metrics = Metrics::of(&rig.telemetry);
    in_subscriber(&rig, || spans(4));
    assert_eq!(metrics.value("otel.sdk.processor.span.queue.size", ""), 4);
    let usage = metrics.value("tracing_feedback.queue.memory.usage", "");
    assert!((100..10_000).contains(&usage), "{usage}");
    assert_eq!(metrics.value("tracing_feedback.queue.memory.limit", ""), 44 << 20);
    // The queue is bounded by bytes: how many spans fit isn't known.
    assert_eq!(metrics.one("otel.sdk.processor.span.queue.capacity"), [""; 0]);

    rig.collector.answer_next(Answer::Silence);
    rig.telemetry.flush_within(Duration::from_millis(50)).unwrap_err();
    assert_eq!(metrics.value("otel.sdk.processor.span.queue.size", ""), 0);
    assert_eq!(metrics.value("tracing_feedback.queue.memory.usage", ""), 0);
    assert_eq!(metrics.value("otel.sdk.processor.span.processed", ""), 4);
    assert_eq!(metrics.value("otel.sdk.exporter.span.inflight", ""), 4);
    assert_eq!(metrics.value("otel.sdk.exporter.span.exported", ""), 0);
    assert_eq!(rig.telemetry.flush().unwrap_err().lost(), 4);
    assert_eq!(metrics.value("otel.sdk.exporter.span.inflight", ""), 0);
    assert_eq!(metrics.value("otel.sdk.exporter.span.exported", "export_failed"), 4);
}

#[test]
fn what_never_reached_the_exporter_is_an_error_of_the_layer() {
    let rig = Rig::with(|builder| {
        builder.with_schedule_delay(LONG).with_max_queue_size(16).with_max_export_batch_size(8)
    });
    let metrics = Metrics::of(&rig.telemetry);
    rig.collector.answer_all(Some(Answer::Silence));
    in_subscriber(&rig, || spans(100));
    rig.telemetry.shutdown_within(Duration::from_millis(100)).unwrap_err();
    in_subscriber(&rig, || spans(2));
    let of = |error| metrics.value("otel.sdk.processor.span.processed", error);
    let stats = rig.telemetry.stats();
    assert!(of("queue_full") > 50, "{stats:?}");
    assert!(of("timed_out") > 0, "{stats:?}");
    assert_eq!(of("already_shutdown"), 2);
    assert_eq!(of("") + of("queue_full") + of("timed_out") + of("already_shutdown"), 102);
}

#[test]
fn what_is_left_out_on_purpose_is_counted() {
    let rig = Rig::with(|builder| {
        let limits = SpanLimits { max_attributes_per_span: 2, ..SpanLimits::default() };
        builder.with_sampler(Sampler::AlwaysOff).with_span_limits(limits)
    });
    let metrics = Metrics::of(&rig.telemetry);
    rig.run(|| {
        spans(3);
        let _span = info_span!("rated").entered();
        let _ = enrich_span!(feedback = { "a": 1, "b": 2, "c": 3, "d": f64::NAN });
    });
    assert_eq!(metrics.value("tracing_feedback.span.unsampled", ""), 3);
    let dropped = rig.telemetry.stats().dropped_attributes;
    assert!(dropped > 0);
    assert_eq!(metrics.value("tracing_feedback.attribute.dropped", ""), dropped as i64);
    assert_eq!(
        metrics.one("tracing_feedback.enrichment.refused"),
        [
            "{enrichment} counter [tracing_feedback::FeedbackLayer limit_exceeded] = 1",
            "{enrichment} counter [tracing_feedback::FeedbackLayer not_finite] = 1",
        ]
    );
}

/// An exporter of a service's own.
#[derive(Debug)]
struct Mine;

impl SpanExporter for Mine {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

#[test]
fn an_exporter_goes_by_the_name_of_its_protocol_or_type() {
    for (protocol, kind) in [
        (Protocol::Grpc, "otlp_grpc_span_exporter"),
        (Protocol::HttpProtobuf, "otlp_http_span_exporter"),
        (Protocol::HttpJson, "otlp_http_json_span_exporter"),
    ] {
        let rig = Rig::over(protocol);
        let metrics = Metrics::of(&rig.telemetry);
        rig.run(|| spans(2));
        let exported = metrics.one("otel.sdk.exporter.span.exported");
        assert_eq!(exported.last(), Some(&format!("{{span}} counter [{kind}] = 2")));
    }
    let rig = Rig::with(|builder| builder.with_exporter(Mine));
    let metrics = Metrics::of(&rig.telemetry);
    rig.run(|| spans(2));
    let exported = metrics.one("otel.sdk.exporter.span.exported");
    assert_eq!(exported.last().unwrap(), "{span} counter [it::metrics::Mine] = 2");
}

#[test]
fn two_layers_are_told_apart_and_one_registered_twice_counts_once() {
    let (one, two) = (Rig::new(), Rig::new());
    let metrics = Metrics::of(&one.telemetry);
    two.telemetry.register_metrics(&metrics.provider);
    two.telemetry.register_metrics(&metrics.provider);
    one.run(|| spans(1));
    two.run(|| spans(2));
    let mut exported = metrics.one("otel.sdk.exporter.span.exported");
    exported.retain(|line| line.contains("[otlp_grpc_span_exporter]"));
    let counter = |n| format!("{{span}} counter [otlp_grpc_span_exporter] = {n}");
    exported.dedup(); // A registration may have a stream of its own, of the same values.
    assert_eq!(exported, [counter(1), counter(2)]);
}

#[test]
fn the_last_counts_are_there_until_the_handle_is_gone() {
    let Rig { collector, telemetry, dispatch, .. } = Rig::new();
    let metrics = Metrics::of(&telemetry);
    dispatcher::with_default(&dispatch, || spans(3));
    telemetry.shutdown().unwrap();
    assert_eq!(metrics.value("otel.sdk.exporter.span.exported", ""), 3);
    drop(telemetry);
    // The layer is still there, and has no metrics.
    dispatcher::with_default(&dispatch, || spans(1));
    assert_eq!(metrics.collect(), [""; 0]);
    drop(collector);
}

#[test]
fn metrics_keep_nothing_alive() {
    let token = Arc::new(());
    let held = token.clone();
    let rig = Rig::with(|builder| {
        builder.with_redaction(move |_, value| {
            let _held = &held;
            Some(value)
        })
    });
    let metrics = Metrics::of(&rig.telemetry);
    assert!(!metrics.collect().is_empty());
    assert_eq!(Arc::strong_count(&token), 2);
    drop(rig);
    assert_eq!(Arc::strong_count(&token), 1);
    assert_eq!(metrics.collect(), [""; 0]);
}

#[test]
fn collecting_while_spans_end_and_telemetry_shuts_down() {
    with_timeout(|| {
        let rig = Rig::new();
        let metrics = Metrics::of(&rig.telemetry);
        thread::scope(|threads| {
            let ending: Vec<_> =
                (0..4).map(|_| threads.spawn(|| in_subscriber(&rig, || spans(2000)))).collect();
            let collecting = threads.spawn(|| {
                let counted =
                    (0..50).map(|_| metrics.value("otel.sdk.processor.span.processed", ""));
                let counted: Vec<_> = counted.collect();
                assert!(counted.is_sorted(), "a counter only grows: {counted:?}");
            });
            ending.into_iter().for_each(|thread| thread.join().unwrap());
            rig.telemetry.shutdown().unwrap();
            collecting.join().unwrap();
        });
        assert_eq!(metrics.value("otel.sdk.exporter.span.exported", ""), 8000);
    });
}

#[test]
fn log_records_have_metrics_only_while_events_are_emitted() {
    let receiver = LogReceiver::start();
    let rig = Rig::with(|builder| {
        builder.with_events(Events::GenAi).with_events_endpoint(receiver.endpoint(Protocol::Grpc))
    });
    let metrics = Metrics::of(&rig.telemetry);
    receiver.answer_next(LogAnswer::Partial(1));
    dispatcher::with_default(&rig.dispatch, || {
        info_span!("answer").in_scope(|| enrich_span!(feedback = { "a": 1, "b": 2, "c": 3 }));
    });
    rig.telemetry.flush().unwrap_err();
    assert_eq!(metrics.value("otel.sdk.processor.log.processed", ""), 3);
    assert_eq!(metrics.value("otel.sdk.exporter.log.exported", ""), 2);
    assert_eq!(metrics.value("otel.sdk.exporter.log.exported", "rejected"), 1);
    assert_eq!(metrics.value("otel.sdk.processor.log.queue.size", ""), 0);
    let exported = metrics.one("otel.sdk.exporter.log.exported");
    assert!(
        exported[0].starts_with("{log_record} counter [otlp_grpc_log_exporter"),
        "{exported:?}"
    );
    // Spans are counted apart.
    assert_eq!(metrics.value("otel.sdk.exporter.span.exported", ""), 1);

    let without = Rig::new();
    let metrics = Metrics::of(&without.telemetry);
    assert_eq!(metrics.one("otel.sdk.exporter.log.exported"), [""; 0]);
    assert!(metrics.collect().iter().all(|line| !line.contains("log_record")));
}
