//! Counters of everything that was exported, dropped or refused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::outbox::OutboxUsage;
use crate::sync::lock_unless_orphaned;

/// Why spans were dropped.
///
/// [`FlushError::losses`](crate::FlushError::losses) has the reason of each loss, and
/// [`Stats::dropped_by_reason`] counts spans by the same names.
///
/// ```
/// use tracing_feedback::DropReason;
///
/// assert_eq!(DropReason::QueueFull.as_str(), "queue_full");
/// assert_eq!(DropReason::QueueFull.to_string(), "queue_full");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue was full: spans end faster than they are exported, or the collector can't be reached.
    QueueFull,
    /// The export failed: the collector could not be reached, did not answer in time, or answered with an
    /// error; or the exporter panicked.
    ExportFailed,
    /// The collector rejected the spans permanently, by an error or as a partial success.
    Rejected,
    /// The spans ended after the shutdown.
    AfterShutdown,
    /// The time limit of the shutdown was over before the spans were exported.
    TimedOut,
    /// The outbox was full, or the spans were older than its limit.
    Discarded,
    /// The process was forked after the layer was built: the child has no thread that exports.
    Forked,
}

impl DropReason {
    pub(crate) const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::ExportFailed,
        Self::Rejected,
        Self::AfterShutdown,
        Self::TimedOut,
        Self::Discarded,
        Self::Forked,
    ];

    /// The name by which [`Stats::dropped_by_reason`] counts: `queue_full`, `export_failed`,
    /// `rejected`, `after_shutdown`, `timed_out`, `discarded` or `forked`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ExportFailed => "export_failed",
            Self::Rejected => "rejected",
            Self::AfterShutdown => "after_shutdown",
            Self::TimedOut => "timed_out",
            Self::Discarded => "discarded",
            Self::Forked => "forked",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The numbers of waiting spans and bytes, by place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PipelineGauges {
    pub(crate) queued: u64,
    pub(crate) queued_bytes: u64,
    pub(crate) held: u64,
    pub(crate) outbox: OutboxUsage,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    submitted: AtomicU64,
    in_flight: AtomicU64,
    exported: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    dropped_feedback: AtomicU64,
    dropped_attributes: AtomicU64,
    truncated: AtomicU64,
    unsampled: AtomicU64,
    retried: AtomicU64,
    reconnected: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// Counts spans that are handed to the exporter.
    pub(crate) fn submitted(&self, spans: u64) {
        self.submitted.fetch_add(spans, Ordering::Relaxed);
        self.in_flight.store(spans, Ordering::Relaxed);
    }

    /// Counts the last export as done.
    pub(crate) fn settled(&self) {
        self.in_flight.store(0, Ordering::Relaxed);
    }

    pub(crate) fn exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, why: DropReason, spans: u64, feedback: u64) {
        self.dropped[why as usize].fetch_add(spans, Ordering::Relaxed);
        self.dropped_feedback.fetch_add(feedback, Ordering::Relaxed);
    }

    /// How many spans a forked process has lost so far.
    pub(super) fn forked(&self) -> u64 {
        self.dropped[DropReason::Forked as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn dropped_attributes(&self, attributes: u64) {
        self.dropped_attributes.fetch_add(attributes, Ordering::Relaxed);
    }

    /// Counts spans that lost a part of their values. Returns whether they are the first.
    pub(crate) fn truncated(&self, spans: u64) -> bool {
        spans > 0 && self.truncated.fetch_add(spans, Ordering::Relaxed) == 0
    }

    pub(crate) fn retried(&self, spans: u64) {
        self.retried.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn reconnected(&self, connections: u64) {
        self.reconnected.fetch_add(connections, Ordering::Relaxed);
    }

    pub(crate) fn unsampled(&self, spans: u64) {
        self.unsampled.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        if let Some(mut refused) = lock_unless_orphaned(&self.refused) {
            *refused.entry(reason).or_default() += 1;
        }
    }

    pub(crate) fn read(&self, gauges: PipelineGauges) -> Stats {
        let PipelineGauges { queued, queued_bytes, held, outbox } = gauges;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let dropped: BTreeMap<_, _> = DropReason::ALL
            .into_iter()
            .map(|why| (why.as_str(), load(&self.dropped[why as usize])))
            .filter(|(_, spans)| *spans > 0)
            .collect();
        Stats {
            exported: load(&self.exported),
            submitted: load(&self.submitted),
            in_flight: load(&self.in_flight),
            queued,
            queued_bytes,
            held,
            dropped: dropped.values().sum(),
            dropped_by_reason: dropped,
            dropped_feedback: load(&self.dropped_feedback),
            dropped_attributes: load(&self.dropped_attributes),
            truncated: load(&self.truncated),
            unsampled: load(&self.unsampled),
            retried: load(&self.retried),
            reconnected: load(&self.reconnected),
            outbox_spans: outbox.spans,
            outbox_bytes: outbox.bytes,
            outbox_age: outbox.oldest,
            rejected: outbox.rejected,
            replayed: outbox.replayed,
            refused: lock_unless_orphaned(&self.refused)
                .map(|refused| refused.clone())
                .unwrap_or_default(),
            events: EventStats::default(),
        }
    }
}

/// Counters of spans and enrichments so far. They only grow, except the gauges of what waits right
/// now: `queued`, `queued_bytes`, `in_flight`, `held`, `outbox_spans`, `outbox_bytes` and
/// `outbox_age`.
///
/// ```
/// # #[cfg(feature = "collector")] {
/// use tracing_feedback::collector::Collector;
/// use tracing_subscriber::prelude::*;
///
/// let collector = Collector::start()?;
/// let (layer, telemetry) =
///     tracing_feedback::builder().with_endpoint(collector.endpoint()).build()?;
/// tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
///     tracing::info_span!("work").in_scope(|| ());
/// });
/// telemetry.flush()?;
/// let stats = telemetry.stats();
/// assert_eq!((stats.exported, stats.dropped), (1, 0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "reading the counters has no effect"]
pub struct Stats {
    /// Spans that the exporter has accepted, including carriers of feedback.
    pub exported: u64,
    /// Spans that were handed to the exporter, whatever the outcome.
    pub submitted: u64,
    /// Spans that are being exported right now.
    pub in_flight: u64,
    /// Spans that wait to be exported right now.
    pub queued: u64,
    /// The memory of the queued spans, about, in bytes.
    pub queued_bytes: u64,
    /// Unsampled spans that are held right now, in case [feedback](crate::Keep) arrives on their
    /// traces.
    pub held: u64,
    /// Spans that were dropped, for whatever reason.
    pub dropped: u64,
    /// The same by reason: `queue_full`, `export_failed`, `rejected`, `after_shutdown`,
    /// `timed_out`, `discarded` for spans that became too old in the outbox or were dropped to make
    /// room there, and `forked` for those of a forked process.
    pub dropped_by_reason: BTreeMap<&'static str, u64>,
    /// How many of the dropped spans carried feedback.
    pub dropped_feedback: u64,
    /// Attributes that were dropped by a limit.
    pub dropped_attributes: u64,
    /// Spans that were too large for a receiver, and were exported with a part of their values
    /// (`docs/limits.md`). A span that is cut once more, since the receiver takes even less, counts
    /// again.
    pub truncated: u64,
    /// Unsampled spans that were not exported. Held spans count once they are dropped.
    pub unsampled: u64,
    /// Spans that were sent again after a retryable failure. Retries inside an SDK exporter can't
    /// be seen, so they don't count.
    pub retried: u64,
    /// Connections to the collector that were given up, since a request on them had no answer in time,
    /// or what drives them had died: the next request opened another one. Connections that the collector or the network has closed
    /// don't count, nor those of an SDK exporter.
    pub reconnected: u64,
    /// Spans that wait on disk right now, in the outbox (`Builder::with_outbox`); among them, where
    /// it is written ahead, enrichments that are on their way.
    pub outbox_spans: u64,
    /// Bytes of the outbox on disk right now, its `rejected` files among them.
    pub outbox_bytes: u64,
    /// For how long the oldest spans on disk have waited.
    pub outbox_age: Option<Duration>,
    /// Spans that the collector has rejected, and that were put into the outbox's `rejected` files.
    /// They count as dropped too.
    pub rejected: u64,
    /// Spans that arrived from disk. They count as exported too.
    pub replayed: u64,
    /// Enrichments that were refused or changed, by [reason](crate::EnrichError::reason). Fields
    /// that were lost to a redaction that panicked count as `redaction_panicked` too, calls of a
    /// sampler or id generator that panicked as `sampler_panicked` and `id_generator_panicked`, fields of
    /// which a part is missing because their `Debug` or `Display` failed as `formatting_failed`, and
    /// entered spans that found no room on the stack of OpenTelemetry contexts as
    /// `context_not_attached`.
    pub refused: BTreeMap<&'static str, u64>,
    /// The log records of [events](crate::Events), which all other fields leave out.
    pub events: EventStats,
}

/// Counters of the log records that [events](crate::Events) are sent as. The fields mean the same as those of
/// [`Stats`] for spans; all are zero while no events are emitted.
///
/// ```
/// let (_layer, telemetry) = tracing_feedback::builder().build()?;
/// assert_eq!(telemetry.stats().events, Default::default()); // they are off by default
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventStats {
    /// Log records that the collector has accepted.
    pub exported: u64,
    /// Log records that were handed to the exporter, whatever the outcome.
    pub submitted: u64,
    /// Log records that are being exported right now.
    pub in_flight: u64,
    /// Log records that wait to be exported right now.
    pub queued: u64,
    /// The memory of the queued log records, about, in bytes.
    pub queued_bytes: u64,
    /// Log records that were dropped, for whatever reason.
    pub dropped: u64,
    /// The same by [reason](DropReason).
    pub dropped_by_reason: BTreeMap<&'static str, u64>,
    /// Log records that were too large for a receiver, and were exported with a part of their values.
    pub truncated: u64,
    /// Log records that were sent again after a retryable failure.
    pub retried: u64,
    /// Connections to the collector that were given up.
    pub reconnected: u64,
    /// Log records that wait on disk right now, in the outbox.
    pub outbox_records: u64,
    /// Bytes of log records on disk right now, those of the `rejected` files among them.
    pub outbox_bytes: u64,
    /// For how long the oldest log records on disk have waited.
    pub outbox_age: Option<Duration>,
    /// Log records that the collector has rejected, and that were put into the outbox's `rejected` files.
    pub rejected: u64,
    /// Log records that arrived from disk.
    pub replayed: u64,
}

impl EventStats {
    /// The counts of a pipeline of log records.
    pub(crate) fn of(stats: Stats) -> Self {
        Self {
            exported: stats.exported,
            submitted: stats.submitted,
            in_flight: stats.in_flight,
            queued: stats.queued,
            queued_bytes: stats.queued_bytes,
            dropped: stats.dropped,
            dropped_by_reason: stats.dropped_by_reason,
            truncated: stats.truncated,
            retried: stats.retried,
            reconnected: stats.reconnected,
            outbox_records: stats.outbox_spans,
            outbox_bytes: stats.outbox_bytes,
            outbox_age: stats.outbox_age,
            rejected: stats.rejected,
            replayed: stats.replayed,
        }
    }
}
