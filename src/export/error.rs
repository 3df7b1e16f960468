//! What `flush` and `shutdown` have to say when not everything has arrived.

use std::collections::BTreeMap;
use std::fmt;

use super::stats::DropReason;

/// Some spans did not arrive: how many, and why.
///
/// Every loss is reported once, by the first `flush` or `shutdown` after it.
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
/// assert_eq!((error.lost(), error.pending()), (1, 0));
/// assert!(error.reasons().next().unwrap().starts_with("1 export_failed"));
/// assert!(telemetry.flush().is_ok()); // it was reported
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushError {
    lost: u64,
    pending: u64,
    reasons: Vec<String>,
    outbox: Option<String>,
}

impl FlushError {
    /// `outbox` is why feedback could not be made durable.
    pub(super) fn of(
        losses: BTreeMap<DropReason, Loss>,
        pending: u64,
        outbox: Option<String>,
    ) -> Result<(), Self> {
        let lost = losses.values().map(|loss| loss.spans).sum();
        if lost == 0 && pending == 0 && outbox.is_none() {
            return Ok(());
        }
        let reasons = losses
            .into_iter()
            .map(|(why, loss)| match loss.message {
                Some(message) => format!("{} {} ({message})", loss.spans, why.reason()),
                None => format!("{} {}", loss.spans, why.reason()),
            })
            .collect();
        Err(Self { lost, pending, reasons, outbox })
    }

    /// Spans that are lost, since the last report.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Spans whose state was not known when the time was over.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Why feedback could not be written to the outbox, if it is so: it waits in memory, and would be
    /// lost with the process.
    pub fn outbox(&self) -> Option<&str> {
        self.outbox.as_deref()
    }

    /// A line for each reason: how many, its name as in [`Stats::dropped_by_reason`], and what the
    /// exporter said last.
    ///
    /// [`Stats::dropped_by_reason`]: crate::Stats::dropped_by_reason
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().map(String::as_str)
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lost > 0 {
            write!(f, "{} spans did not arrive: {}", self.lost, self.reasons.join(", "))?;
        }
        if self.pending > 0 {
            let and = if self.lost > 0 { "; " } else { "" };
            write!(f, "{and}{} spans had not arrived when the time was over", self.pending)?;
        }
        if let Some(reason) = &self.outbox {
            let and = if self.lost + self.pending > 0 { "; " } else { "" };
            write!(f, "{and}feedback could not be written to the outbox: {reason}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FlushError {}

/// Spans lost for one reason since the last report.
#[derive(Default)]
pub(super) struct Loss {
    pub(super) spans: u64,
    pub(super) message: Option<String>,
}
