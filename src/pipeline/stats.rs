//! Counters of everything that was exported, dropped or refused.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a span did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Drop {
    QueueFull,
    ExportFailed,
    Rejected,
    AfterShutdown,
    TimedOut,
}

impl Drop {
    const ALL: [Self; 5] =
        [Self::QueueFull, Self::ExportFailed, Self::Rejected, Self::AfterShutdown, Self::TimedOut];

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ExportFailed => "export_failed",
            Self::Rejected => "rejected",
            Self::AfterShutdown => "after_shutdown",
            Self::TimedOut => "timed_out",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    exported: AtomicU64,
    dropped: [AtomicU64; Drop::ALL.len()],
    dropped_feedback: AtomicU64,
    dropped_attributes: AtomicU64,
    unsampled: AtomicU64,
    retried: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    pub(crate) fn exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, why: Drop, spans: u64, feedback: u64) {
        self.dropped[why as usize].fetch_add(spans, Ordering::Relaxed);
        self.dropped_feedback.fetch_add(feedback, Ordering::Relaxed);
    }

    pub(crate) fn dropped_attributes(&self, attributes: u64) {
        self.dropped_attributes.fetch_add(attributes, Ordering::Relaxed);
    }

    pub(crate) fn retried(&self, spans: u64) {
        self.retried.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn unsampled(&self, spans: u64) {
        self.unsampled.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        *crate::sync::lock(&self.refused).entry(reason).or_default() += 1;
    }

    pub(crate) fn read(&self, queued: u64, held: u64) -> Stats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let dropped: BTreeMap<_, _> = Drop::ALL
            .into_iter()
            .map(|why| (why.reason(), load(&self.dropped[why as usize])))
            .filter(|(_, spans)| *spans > 0)
            .collect();
        Stats {
            exported: load(&self.exported),
            queued,
            held,
            dropped: dropped.values().sum(),
            dropped_by_reason: dropped,
            dropped_feedback: load(&self.dropped_feedback),
            dropped_attributes: load(&self.dropped_attributes),
            unsampled: load(&self.unsampled),
            retried: load(&self.retried),
            spooled: 0,
            refused: crate::sync::lock(&self.refused).clone(),
        }
    }
}

/// What has become of the spans and enrichments so far. Counters only grow, but for `queued`
/// and `held`.
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
pub struct Stats {
    /// Spans that the exporter has taken, carriers of feedback among them.
    pub exported: u64,
    /// Spans that wait to be exported right now.
    pub queued: u64,
    /// Unsampled spans that are held right now, since [feedback](crate::Keep) may still ask for them.
    pub held: u64,
    /// Spans that were dropped, for whatever reason.
    pub dropped: u64,
    /// The same by reason: `queue_full`, `export_failed`, `rejected`, `after_shutdown`,
    /// `timed_out`.
    pub dropped_by_reason: BTreeMap<&'static str, u64>,
    /// How many of the dropped spans carried feedback.
    pub dropped_feedback: u64,
    /// Attributes past a limit.
    pub dropped_attributes: u64,
    /// Spans the sampler left out, and for which no feedback asked. Those that are held count once
    /// they are dropped.
    pub unsampled: u64,
    /// Spans that were sent again after a passing failure. An SDK exporter retries by itself and
    /// doesn't tell, so this counts what the pipeline itself sends again.
    pub retried: u64,
    /// Spans that wait on disk.
    pub spooled: u64,
    /// Enrichments that were refused or changed, by [reason](crate::EnrichError::reason). Fields that
    /// were lost to a redaction that panicked count as `redaction_panicked` too.
    pub refused: BTreeMap<&'static str, u64>,
}
