//! The handle of a layer's telemetry.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::export::FlushError;
use crate::export::stats::Stats;
use crate::layer::FeedbackSpanProcessor;
use crate::settings::EnvironmentIssue;
use crate::span::LayerCore;
use crate::sync::lock;

/// Flushes, shuts down and counts what a layer exports. Keep it until the service ends: dropping it
/// shuts down, for at most five seconds.
///
/// ```
/// # #[cfg(feature = "collector")] {
/// # use tracing_subscriber::prelude::*;
/// # let collector = tracing_feedback::collector::Collector::start()?;
/// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
/// # let (layer, telemetry) = builder.build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// tracing::info_span!("answer").in_scope(|| ());
/// telemetry.flush()?;
/// assert_eq!(collector.spans().len(), 1);
///
/// tracing::info_span!("another").in_scope(|| ());
/// telemetry.shutdown()?;
/// assert_eq!(collector.spans().len(), 2);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping the handle shuts telemetry down: keep it until the service ends"]
pub struct Telemetry {
    core: Arc<LayerCore>,
    #[cfg(feature = "metrics")]
    metrics: Arc<super::metrics::MetricsSource>,
}

/// How long `flush` and `shutdown` wait.
const LIMIT: Duration = Duration::from_secs(30);
/// How long dropping the handle waits.
const DROP_LIMIT: Duration = Duration::from_secs(5);

impl Telemetry {
    pub(super) fn new(core: Arc<LayerCore>) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            metrics: super::metrics::MetricsSource::new(&core),
            core,
        }
    }

    pub(super) fn core(&self) -> &Arc<LayerCore> {
        &self.core
    }

    /// Waits until every span that has ended so far has reached the collector, for at most 30
    /// seconds.
    ///
    /// It blocks the calling thread, not the export: in asynchronous code use
    /// [`flush_async`](Self::flush_async), or call it where blocking is allowed, for example in
    /// `tokio::task::spawn_blocking`.
    ///
    /// Spans that the collector rejects in a partial success count as lost. An SDK exporter, and with
    /// it http/json, can't report them (`opentelemetry-otlp` returns `Ok`): there such spans count as
    /// arrived.
    ///
    /// # Errors
    ///
    /// Spans were lost since the last report, or have not arrived yet. The error has their numbers and
    /// the reason.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tracing_subscriber::prelude::*;
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint("http://127.0.0.1:9") // nothing listens there
    ///     .with_timeout(Duration::from_millis(50))
    ///     .build()?;
    /// tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
    ///     tracing::info_span!("answer").in_scope(|| ());
    /// });
    /// let error = telemetry.flush().unwrap_err();
    /// assert_eq!(error.lost(), 1);
    /// # Ok::<(), tracing_feedback::BuildError>(())
    /// ```
    pub fn flush(&self) -> Result<(), FlushError> {
        self.flush_within(LIMIT)
    }

    /// As [`flush`](Self::flush), for at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush); spans that are still on their way by then are reported as pending.
    pub fn flush_within(&self, limit: Duration) -> Result<(), FlushError> {
        self.core.flush(limit)
    }

    /// The variables of the environment whose values were skipped, wholly or in part, when the layer was
    /// built. They are logged as warnings once the layer is part of a subscriber, by
    /// [`init`](crate::init) at once.
    ///
    /// ```
    /// let (_layer, telemetry) = tracing_feedback::builder().build()?;
    /// assert!(telemetry.environment_issues().is_empty(), "{:?}", telemetry.environment_issues());
    /// # Ok::<(), tracing_feedback::BuildError>(())
    /// ```
    pub fn environment_issues(&self) -> &[EnvironmentIssue] {
        &self.core.settings.environment_issues
    }

    /// As [`flush`](Self::flush), then stops the export. Feedback on spans that are still open is sent
    /// without them, as carriers. Spans that are [held](crate::Stats::held), or end afterwards, are dropped
    /// and counted, and later enrichments are refused.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use tracing_feedback::{EnrichError, enrich_span};
    ///
    /// telemetry.shutdown()?;
    /// let _span = tracing::info_span!("answer").entered();
    /// let outcome = enrich_span!(feedback = { "rating": 5 });
    /// assert_eq!(outcome.into_result(), Err(EnrichError::ShutDown));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self) -> Result<(), FlushError> {
        self.shutdown_within(LIMIT)
    }

    /// As [`shutdown`](Self::shutdown), for at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`flush_within`](Self::flush_within).
    pub fn shutdown_within(&self, limit: Duration) -> Result<(), FlushError> {
        self.core.shutdown(limit)
    }

    /// As [`flush`](Self::flush), without blocking the thread that awaits it: the wait runs on a thread of
    /// its own, and needs no particular runtime.
    ///
    /// The flush begins when this is called, and goes on if the future is dropped.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush). If the thread can't be started, the call does not wait, and spans that
    /// have not arrived yet are reported as pending.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    /// # let (layer, telemetry) = builder.build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// tracing::info_span!("answer").in_scope(|| ());
    /// telemetry.flush_async().await?;
    /// assert_eq!(collector.spans().len(), 1);
    /// # Ok::<(), tracing_feedback::FlushError>(())
    /// # })?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush_async(&self) -> impl Future<Output = Result<(), FlushError>> + Send + 'static {
        let core = self.core.clone();
        spawn_wait(move |limit| core.flush(limit))
    }

    /// As [`shutdown`](Self::shutdown), without blocking the thread that awaits it, as
    /// [`flush_async`](Self::flush_async).
    ///
    /// # Errors
    ///
    /// As [`flush_async`](Self::flush_async).
    ///
    /// ```
    /// # let (_layer, telemetry) = tracing_feedback::builder().build()?;
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// telemetry.shutdown_async().await?;
    /// # Ok::<(), tracing_feedback::FlushError>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown_async(&self) -> impl Future<Output = Result<(), FlushError>> + Send + 'static {
        let core = self.core.clone();
        spawn_wait(move |limit| core.shutdown(limit))
    }

    /// The counts of spans and enrichments so far, by their outcome.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// tracing_feedback::enrich_span!(feedback = { "rating": 5 }); // no span is open
    /// assert_eq!(telemetry.stats().refused["no_active_span"], 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// The verifier of tickets that were signed with this layer's keys.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// use tracing_feedback::{SpanExt, TicketKeys};
    ///
    /// let keys = TicketKeys::new([[7; 32]])?; // a secret, of course
    /// let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// let ticket = tracing::info_span!("answer").ticket()?;
    ///
    /// let verifier = telemetry.ticket_verifier(); // cheap to clone, for every handler
    /// assert_eq!(verifier.verify(ticket.as_str())?, ticket);
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // there is no collector
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tickets")]
    pub fn ticket_verifier(&self) -> crate::TicketVerifier {
        self.core.ticket_keys.verifier()
    }

    /// Another handle on this layer's ticket keys, to rotate them.
    ///
    /// ```
    /// use tracing_feedback::TicketKeys;
    ///
    /// let (_layer, telemetry) = tracing_feedback::builder().build()?;
    /// assert!(telemetry.ticket_keys().is_empty());
    /// telemetry.ticket_keys().set(TicketKeys::new([[7; 32]])?);
    /// assert_eq!(telemetry.ticket_keys().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tickets")]
    pub fn ticket_keys(&self) -> crate::TicketKeys {
        self.core.ticket_keys.clone()
    }

    /// Registers the counts of [`stats`](Self::stats) with a provider of OpenTelemetry metrics, yours
    /// or `&*opentelemetry::global::meter_provider()`.
    ///
    /// | metric | | |
    /// | --- | --- | --- |
    /// | `otel.sdk.processor.span.queue.size` | `{span}` | spans that wait to be exported |
    /// | `otel.sdk.processor.span.queue.capacity` | `{span}` | only where the queue is limited by number |
    /// | `otel.sdk.processor.span.processed` | `{span}` | given to the exporter, or dropped before: `error.type` is `queue_full`, `already_shutdown` or `timed_out` |
    /// | `otel.sdk.exporter.span.inflight` | `{span}` | given to the exporter and not yet exported |
    /// | `otel.sdk.exporter.span.exported` | `{span}` | accepted by the collector, or not: `error.type` is `export_failed`, `rejected` or `discarded` |
    /// | `tracing_feedback.queue.memory.usage`, `….limit` | `By` | memory of the queue, and its limit |
    /// | `tracing_feedback.span.retried` | `{span}` | sent again |
    /// | `tracing_feedback.exporter.reconnected` | `{connection}` | given up, since they were dead or a request had no answer |
    /// | `tracing_feedback.span.unsampled` | `{span}` | not sampled, and without feedback |
    /// | `tracing_feedback.feedback.dropped` | `{span}` | dropped spans that carried feedback |
    /// | `tracing_feedback.attribute.dropped` | `{attribute}` | dropped by a limit |
    /// | `tracing_feedback.enrichment.refused` | `{enrichment}` | `error.type` is its [reason](crate::EnrichError::reason) |
    /// | `tracing_feedback.outbox.size` | `{span}` | spans that wait on disk |
    /// | `tracing_feedback.outbox.disk.usage` | `By` | disk space of the outbox |
    /// | `tracing_feedback.outbox.age` | `s` | age of the oldest span on disk, while there is one |
    /// | `tracing_feedback.outbox.span.rejected`, `….replayed` | `{span}` | rejected permanently, and delivered from disk |
    /// | `otel.sdk.processor.log.queue.size`, `otel.sdk.processor.log.processed`, `otel.sdk.exporter.log.inflight`, `otel.sdk.exporter.log.exported`, `tracing_feedback.log.retried`, `tracing_feedback.log.truncated`, `tracing_feedback.outbox.log.*` | `{log_record}`, `By` | the same for the log records of [events](crate::Builder::with_events), only where they are on |
    ///
    /// Sizes, limits and spans in flight are up-down counters, the age is a gauge, all others are
    /// counters. `otel.component.type` and `otel.component.name` identify the component: the exporter
    /// (`otlp_grpc_span_exporter`, or the type of your own) or the layer
    /// (`tracing_feedback::FeedbackLayer`). A second layer in the process has another name.
    ///
    /// The counters are read when metrics are collected, so that they cost spans nothing. The instruments
    /// hold a weak reference, and report nothing once this handle is dropped: to have the last counts, call
    /// [`shutdown`](Self::shutdown), then let the provider export, then drop the handle. If
    /// `OTEL_SDK_DISABLED` has switched telemetry off, nothing is reported.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    /// use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
    ///
    /// let metrics = InMemoryMetricExporter::default(); // any exporter will do
    /// let provider = SdkMeterProvider::builder().with_periodic_exporter(metrics.clone()).build();
    /// let (layer, telemetry) = builder.build()?;
    /// telemetry.register_metrics(&provider);
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// tracing::info_span!("answer").in_scope(|| ());
    ///
    /// telemetry.shutdown()?;
    /// provider.shutdown()?;
    /// let collected = metrics.get_finished_metrics()?;
    /// let scope = collected[0].scope_metrics().next().unwrap();
    /// assert_eq!(scope.scope().name(), "tracing-feedback");
    /// let names: Vec<_> = scope.metrics().map(|metric| metric.name()).collect();
    /// assert!(names.contains(&"otel.sdk.exporter.span.exported"));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "metrics")]
    pub fn register_metrics(&self, provider: &dyn opentelemetry::metrics::MeterProvider) {
        super::metrics::register(&self.metrics, provider);
    }

    /// Makes a span processor that exports spans of the OpenTelemetry API through the same pipeline.
    ///
    /// ```
    /// use opentelemetry_sdk::trace::SdkTracerProvider;
    ///
    /// let (_layer, telemetry) = tracing_feedback::builder().build()?;
    /// let provider =
    ///     SdkTracerProvider::builder().with_span_processor(telemetry.span_processor()).build();
    /// # drop(provider);
    /// # Ok::<(), tracing_feedback::BuildError>(())
    /// ```
    pub fn span_processor(&self) -> FeedbackSpanProcessor {
        FeedbackSpanProcessor::new(self.core.clone())
    }
}

/// The state shared by a waiting thread and the future that awaits it.
#[derive(Default)]
struct Wait {
    result: Option<Result<(), FlushError>>,
    waker: Option<Waker>,
}

/// Runs `wait`, which blocks for up to the limit it is given, on a thread of its own.
fn spawn_wait(
    wait: impl Fn(Duration) -> Result<(), FlushError> + Send + Sync + 'static,
) -> impl Future<Output = Result<(), FlushError>> + Send + 'static {
    let (shared, wait) = (Arc::new(Mutex::new(Wait::default())), Arc::new(wait));
    let of_thread = (shared.clone(), wait.clone());
    let spawned =
        thread::Builder::new().name("tracing-feedback-wait".to_owned()).spawn(move || {
            let (shared, wait) = of_thread;
            let result = wait(LIMIT);
            let mut shared = lock(&shared);
            shared.result = Some(result);
            let waker = shared.waker.take();
            drop(shared); // a waker is foreign code, so it is called without the lock
            waker.into_iter().for_each(Waker::wake);
        });
    if spawned.is_err() {
        let result = wait(Duration::ZERO);
        lock(&shared).result = Some(result);
    }
    poll_fn(move |context| {
        let waker = context.waker().clone();
        let mut shared = lock(&shared);
        match shared.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                let before = shared.waker.replace(waker);
                drop(shared);
                drop(before);
                Poll::Pending
            }
        }
    })
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if !self.core.is_shut_down()
            && let Err(error) = self.core.close(DROP_LIMIT)
        {
            tracing::warn!(target: "tracing_feedback", "telemetry was shut down: {error}");
        }
    }
}
