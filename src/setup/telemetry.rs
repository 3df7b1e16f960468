//! The handle of a layer's telemetry.

use std::sync::Arc;
use std::time::Duration;

use crate::capture::FeedbackSpanProcessor;
use crate::pipeline::FlushError;
use crate::pipeline::stats::Stats;
use crate::state::Installation;

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
    installation: Arc<Installation>,
}

/// How long `flush` and `shutdown` wait.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a dropped handle waits.
const LIMIT_OF_DROP: Duration = Duration::from_secs(5);

impl Telemetry {
    pub(super) fn new(installation: Arc<Installation>) -> Self {
        Self { installation }
    }

    pub(super) fn installation(&self) -> &Arc<Installation> {
        &self.installation
    }

    /// Waits until everything that has ended so far has reached the collector, for at most 30
    /// seconds.
    ///
    /// It blocks the thread, though not the export: in asynchronous code call it where blocking is
    /// allowed, for example in `tokio::task::spawn_blocking`.
    ///
    /// What the collector rejects of a request it has taken counts as lost. An SDK exporter, and with
    /// it http/json, can't tell that (`opentelemetry-otlp` answers `Ok`): there such spans count as
    /// arrived.
    ///
    /// # Errors
    ///
    /// How many spans did not arrive, of all since the last report, and why.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tracing_subscriber::prelude::*;
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint("http://127.0.0.1:9") // no one listens there
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
    /// As [`flush`](Self::flush); spans whose fate isn't known by then are named as pending.
    pub fn flush_within(&self, limit: Duration) -> Result<(), FlushError> {
        self.installation.flush(limit)
    }

    /// As [`flush`](Self::flush), then stops. Feedback on spans that are still open leaves by itself.
    /// Spans that are [held](crate::Stats::held), or end afterwards, are dropped and counted, and
    /// enrichments refused.
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
        self.installation.shutdown(limit)
    }

    /// What has become of spans and enrichments so far.
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
        self.installation.pipeline().map(|pipeline| pipeline.stats()).unwrap_or_default()
    }

    /// What verifies the tickets that were signed with this layer's keys.
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
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no one listens
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tickets")]
    pub fn ticket_verifier(&self) -> crate::TicketVerifier {
        self.installation.settings.ticket_keys.verifier()
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
        self.installation.settings.ticket_keys.clone()
    }

    /// Takes spans made with the OpenTelemetry API into the same pipeline.
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
        FeedbackSpanProcessor::new(self.installation.clone())
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if !self.installation.is_shut_down()
            && let Err(error) = self.installation.shutdown(LIMIT_OF_DROP)
        {
            tracing::warn!(target: "tracing_feedback", "telemetry was shut down: {error}");
        }
    }
}
