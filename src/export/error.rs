//! The error of `flush` and `shutdown`: not everything has arrived.

use std::collections::BTreeMap;
use std::fmt;

use super::stats::DropReason;
use crate::outbox::PersistError;
use crate::printable::printable;

/// Some spans or log records did not arrive, or some feedback is not on disk: how many, and why.
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
    event_losses: Vec<EventLoss>,
    pending_events: u64,
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
        Err(Self { losses, pending, outbox, ..Self::none() })
    }

    /// The error of nothing.
    fn none() -> Self {
        Self {
            losses: Vec::new(),
            pending: 0,
            outbox: None,
            span_processors: Vec::new(),
            event_losses: Vec::new(),
            pending_events: 0,
        }
    }

    /// `flushed`, the result for spans, with that for the log records of events.
    pub(crate) fn with_events(
        flushed: Result<(), Self>,
        events: Result<(), Self>,
    ) -> Result<(), Self> {
        let Err(events) = events else { return flushed };
        let mut both = flushed.err().unwrap_or_else(Self::none);
        both.event_losses = events
            .losses
            .into_iter()
            .map(|SpanLoss { reason, spans: records, message }| EventLoss {
                reason,
                records,
                message,
            })
            .collect();
        both.pending_events = events.pending;
        both.outbox = both.outbox.or(events.outbox);
        Err(both)
    }

    /// `flushed` with what span processors have failed with.
    pub(crate) fn with_processors(
        flushed: Result<(), Self>,
        failures: Vec<String>,
    ) -> Result<(), Self> {
        if failures.is_empty() {
            return flushed;
        }
        Err(Self { span_processors: failures, ..flushed.err().unwrap_or_else(Self::none) })
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

    /// The log records of [events](crate::Events) lost since the last report: one entry for each reason,
    /// in the order of [`DropReason`].
    pub fn event_losses(&self) -> &[EventLoss] {
        &self.event_losses
    }

    /// Log records of [events](crate::Events) that were neither delivered nor dropped within the time
    /// limit.
    pub fn pending_events(&self) -> u64 {
        self.pending_events
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
        if !self.event_losses.is_empty() {
            let lost: u64 = self.event_losses.iter().map(|loss| loss.records).sum();
            write!(f, "{and}{lost} log records did not arrive: ")?;
            for (at, loss) in self.event_losses.iter().enumerate() {
                write!(f, "{}{loss}", if at > 0 { ", " } else { "" })?;
            }
            and = "; ";
        }
        if self.pending_events > 0 {
            let pending = self.pending_events;
            write!(f, "{and}{pending} log records had not arrived within the time limit")?;
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
        write_loss(f, self.spans, self.reason, self.message.as_deref())
    }
}

/// Log records of [events](crate::Events) that were lost for one reason: see
/// [`FlushError::event_losses`]. It displays as [`SpanLoss`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventLoss {
    /// Why the log records were dropped.
    pub reason: DropReason,
    /// The number of log records, at least 1.
    pub records: u64,
    /// The last message of the collector or the outbox about them, if there was one.
    pub message: Option<String>,
}

impl fmt::Display for EventLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_loss(f, self.records, self.reason, self.message.as_deref())
    }
}

fn write_loss(
    f: &mut fmt::Formatter<'_>,
    count: u64,
    reason: DropReason,
    message: Option<&str>,
) -> fmt::Result {
    write!(f, "{count} {reason}")?;
    match message {
        Some(message) => write!(f, " ({})", printable(message)),
        None => Ok(()),
    }
}

/// Spans lost for one reason since the last report.
#[derive(Default)]
pub(super) struct Loss {
    pub(super) spans: u64,
    pub(super) message: Option<String>,
}
