//! The error of `flush` and `shutdown`: not everything has arrived.

use std::collections::BTreeMap;
use std::fmt;

use super::stats::DropReason;
use crate::outbox::PersistError;
use crate::printable::printable;

/// Some spans did not arrive, or some feedback is not on disk: how many, and why.
///
/// Every loss is reported once, by the first `flush` or `shutdown` after it.
///
/// ```
/// use std::time::Duration;
/// use tracing_feedback::DropReason;
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
/// assert_eq!((error.lost(), error.pending(), error.outbox()), (1, 0, None));
/// match error.losses() {
///     [loss] if loss.reason == DropReason::ExportFailed => assert_eq!(loss.spans, 1),
///     losses => panic!("{losses:?}"),
/// }
/// assert!(error.to_string().starts_with("1 spans did not arrive: 1 export_failed ("));
/// assert!(telemetry.flush().is_ok()); // it was reported
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushError {
    losses: Vec<SpanLoss>,
    pending: u64,
    outbox: Option<PersistError>,
    span_processors: Vec<String>,
}

impl FlushError {
    /// `outbox` is why feedback could not be made durable.
    pub(super) fn of(
        losses: BTreeMap<DropReason, Loss>,
        pending: u64,
        outbox: Option<PersistError>,
    ) -> Result<(), Self> {
        if losses.is_empty() && pending == 0 && outbox.is_none() {
            return Ok(());
        }
        let losses = losses
            .into_iter()
            .map(|(reason, Loss { spans, message })| SpanLoss { reason, spans, message })
            .collect();
        Err(Self { losses, pending, outbox, span_processors: Vec::new() })
    }

    /// `flushed` with what span processors have failed with.
    pub(crate) fn with_processors(
        flushed: Result<(), Self>,
        failures: Vec<String>,
    ) -> Result<(), Self> {
        if failures.is_empty() {
            return flushed;
        }
        let none =
            Self { losses: Vec::new(), pending: 0, outbox: None, span_processors: Vec::new() };
        Err(Self { span_processors: failures, ..flushed.err().unwrap_or(none) })
    }

    /// The number of spans lost since the last report: the sum over [`losses`](Self::losses).
    pub fn lost(&self) -> u64 {
        self.losses.iter().map(|loss| loss.spans).sum()
    }

    /// Spans that were neither delivered nor dropped within the time limit.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Why feedback could not be written to the outbox, if that failed. The feedback is still in memory, and
    /// is lost if the process ends now. `None` without an outbox.
    pub fn outbox(&self) -> Option<&PersistError> {
        self.outbox.as_ref()
    }

    /// Why [span processors](crate::Builder::with_span_processor) could not be flushed or shut down:
    /// a message for each that failed.
    pub fn span_processors(&self) -> &[String] {
        &self.span_processors
    }

    /// The spans lost since the last report: one entry for each reason, in the order of
    /// [`DropReason`]; none where spans are only [pending](Self::pending).
    pub fn losses(&self) -> &[SpanLoss] {
        &self.losses
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut and = "";
        if !self.losses.is_empty() {
            write!(f, "{} spans did not arrive: ", self.lost())?;
            for (at, loss) in self.losses.iter().enumerate() {
                write!(f, "{}{loss}", if at > 0 { ", " } else { "" })?;
            }
            and = "; ";
        }
        if self.pending > 0 {
            write!(f, "{and}{} spans had not arrived within the time limit", self.pending)?;
            and = "; ";
        }
        if let Some(error) = &self.outbox {
            write!(f, "{and}{error}")?;
            and = "; ";
        }
        for failure in &self.span_processors {
            write!(f, "{and}a span processor failed: {failure}")?;
            and = "; ";
        }
        Ok(())
    }
}

impl std::error::Error for FlushError {}

/// Spans that were lost for one reason.
///
/// It displays as, for example, `3 rejected (no such tenant)`. [`FlushError`] has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpanLoss {
    /// Why the spans were dropped.
    pub reason: DropReason,
    /// The number of spans, at least 1.
    pub spans: u64,
    /// The last message of the exporter, the collector or the outbox about them, if there was one.
    pub message: Option<String>,
}

impl fmt::Display for SpanLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.spans, self.reason)?;
        match &self.message {
            Some(message) => write!(f, " ({})", printable(message)),
            None => Ok(()),
        }
    }
}

/// Spans lost for one reason since the last report.
#[derive(Default)]
pub(super) struct Loss {
    pub(super) spans: u64,
    pub(super) message: Option<String>,
}
