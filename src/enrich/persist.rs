//! The wait until feedback is on disk.

use std::time::Duration;

use crate::clock;
use crate::layer::locate::current_core;
use crate::outbox::PersistError;

/// Waits until all feedback so far is on disk, for at most `limit`.
///
/// A service calls this before it confirms feedback to a user: after `Ok` the feedback survives a crash.
/// [`feedback_routes`](https://docs.rs/tracing-feedback/latest/tracing_feedback/web/fn.feedback_routes.html)
/// do it before they answer 204; a handler of any other framework calls this function, or in asynchronous
/// code [`persist_async`], after the enrichment.
///
/// With an outbox that is written ahead (`OutboxPolicy::WriteAhead`) it waits for the feedback of all threads
/// to the layer of the current subscriber. That is written at once, with one sync for all waiting calls.
/// Feedback that the outbox could not store is not waited for: its outcome has
/// [`NotDurable`](crate::EnrichError::NotDurable), so check the outcome first.
///
/// Returns `Ok` at once if nothing is written ahead: without the feature `outbox`, without an outbox
/// (`Builder::with_outbox`) or with its policy `Spill`, and without a layer. Then `Ok` means no more than
/// the enrichment's outcome: the feedback is in memory, and on its way to the collector.
///
/// It blocks the thread. To wait until the feedback has arrived at the collector, use
/// [`Telemetry::flush`](crate::Telemetry::flush).
///
/// # Errors
///
/// The feedback is not on disk: see [`PersistError`]. It was attached all the same, and may still reach the
/// disk and the collector, so a client that sends it again should use the same
/// [`id`](super::SpanRequest::id).
///
/// ```
/// # #[cfg(all(feature = "outbox", feature = "grpc"))] {
/// use std::time::Duration;
/// use tracing_feedback::{OutboxOptions, OutboxPolicy, enrich, enrich_session};
/// # use tracing_subscriber::prelude::*;
/// # let directory = std::env::temp_dir().join(format!("persist-doc-{}", std::process::id()));
///
/// let outbox = OutboxOptions::new(&directory).with_policy(OutboxPolicy::WriteAhead);
/// let (layer, telemetry) = tracing_feedback::builder()
///     .with_endpoint("http://127.0.0.1:9") // nothing listens there
///     .with_outbox(outbox)
///     .build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
///
/// enrich_session!(session_id = "conversation-42", feedback = { "resolved": true }).into_result()?;
/// enrich::persist(Duration::from_secs(5))?;
/// assert_eq!(telemetry.stats().outbox_spans, 1); // on disk: answer the user
/// # telemetry.shutdown_within(Duration::ZERO).ok();
/// # std::fs::remove_dir_all(directory)?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn persist(limit: Duration) -> Result<(), PersistError> {
    let core = current_core();
    core.map_or(Ok(()), |core| core.persist(clock::after(limit)))
}

/// As [`persist`], without blocking the thread. It needs no particular runtime.
///
/// The call determines the feedback that is waited for, and the deadline, not the first poll of the future.
/// Dropping the future ends the wait, and cancels nothing.
///
/// # Errors
///
/// As [`persist`].
///
/// ```
/// use std::time::Duration;
/// use tracing_feedback::{PersistError, enrich};
///
/// /// The status that a handler answers with, in any framework.
/// async fn status_of(outcome: tracing_feedback::Enrichment) -> u16 {
///     if !outcome.is_ok() {
///         return 422;
///     }
///     match enrich::persist_async(Duration::from_secs(5)).await {
///         Ok(()) => 204,
///         Err(PersistError::TimedOut) => 504,
///         Err(_) => 503,
///     }
/// }
/// # use tracing_subscriber::prelude::*;
/// # let (layer, _telemetry) = tracing_feedback::builder().build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
///
/// let _span = tracing::info_span!("answer").entered();
/// let outcome = tracing_feedback::enrich_span!(feedback = { "rating": 5 });
/// let status = futures_executor::block_on(status_of(outcome));
/// assert_eq!(status, 204); // at once: there is no outbox here
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn persist_async(
    limit: Duration,
) -> impl Future<Output = Result<(), PersistError>> + Send + 'static {
    let core = current_core();
    let persisted = core.map(|core| core.persist_async(clock::after(limit)));
    async move {
        match persisted {
            Some(persisted) => persisted.await,
            None => Ok(()),
        }
    }
}
