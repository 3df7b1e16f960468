//! Targets as forwarding reads them, and where it keeps its state.

use std::time::Duration;

use opentelemetry::trace::SpanId;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use rusqlite::Connection;

use super::Error;
use super::leaf::Leaf;
use crate::collector::Target;

/// A target with the folded feedback about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ForwardTarget {
    /// The row of the target, by which the state of forwarding names it.
    pub(crate) row: i64,
    pub(crate) position: ChangePosition,
    pub(crate) target: Target,
    /// Of the resource of the target, if it was received.
    pub(crate) service: Option<String>,
    /// `openinference.project.name` of the resource: the project of Phoenix.
    pub(crate) project: Option<String>,
    /// The latest trace of a session.
    pub(crate) latest_trace: Option<[u8; 16]>,
    /// The root span of a trace, or of the latest trace of a session, if it was received. It has no parent.
    pub(crate) root: Option<SpanId>,
    /// The leaves of `feedback` and `metrics`, by key. Empty if all feedback was retracted.
    pub(crate) leaves: Vec<ForwardLeaf>,
}

/// A leaf, with its author.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ForwardLeaf {
    pub(crate) key: String,
    pub(crate) value: Leaf,
    /// When it was given, in nanoseconds since the epoch.
    pub(crate) given: i64,
    pub(crate) by: Option<String>,
    /// `metadata.evaluator_kind` of the submission that has set it.
    pub(crate) evaluator: Option<String>,
}

/// The leaf of a submission that says what has made its metrics: `code`, `model` or `expert`.
pub(super) const EVALUATOR_KIND: &str = "metadata.evaluator_kind";

/// A position in the order in which targets were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChangePosition {
    pub(crate) changed: i64,
    pub(crate) row: i64,
}

/// Spans and log records, as they came.
#[derive(Clone, Debug)]
pub(crate) struct SpanPage {
    pub(crate) request: ExportTraceServiceRequest,
    pub(crate) logs: ExportLogsServiceRequest,
    /// How many spans and log records there are.
    pub(crate) spans: usize,
    /// The row of the last one.
    pub(crate) last: i64,
}

/// A change of the state, made in one transaction.
pub(crate) type StateChange = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

/// What forwarding needs of a store. From threads that may wait.
pub(crate) trait ForwardStore: Send + Sync {
    /// Targets changed after a position, in that order: at most `limit`, and fewer where they are large.
    fn changed_after(
        &self,
        after: ChangePosition,
        limit: usize,
    ) -> Result<Vec<ForwardTarget>, Error>;

    /// These targets, in any order, without those that are gone.
    fn targets(&self, rows: &[i64]) -> Result<Vec<ForwardTarget>, Error>;

    /// How many targets were changed after a position.
    fn count_after(&self, after: ChangePosition) -> Result<u64, Error>;

    /// The next spans after one, in the order in which they were stored first; `None` if there is none.
    fn spans_after(&self, after: i64, limit: usize) -> Result<Option<SpanPage>, Error>;

    /// How many spans there are after one, and up to it.
    fn count_spans(&self, after: i64) -> Result<[u64; 2], Error>;

    /// The ids of targets, for people.
    fn names(&self, rows: &[i64]) -> Result<Vec<(i64, Target)>, Error>;

    /// Reads the tables `forward_…` of `sqlite/schema.rs`.
    fn read_state(
        &self,
        read: &mut dyn FnMut(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), Error>;

    /// How old changes are when they are first seen, where that is not at once.
    fn settles_after(&self) -> Option<Duration> {
        None
    }

    /// Changes them. When it returns, the change survives the process.
    fn write_state(&self, change: StateChange) -> Result<(), Error>;
}
