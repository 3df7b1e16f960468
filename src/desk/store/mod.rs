//! Storage of spans, and queries.
//!
//! [`Store`] is the interface that the API and the command line use. `sqlite` is the store of one
//! machine; one that reads what other systems keep answers the same questions in the same [`view`]s.
//!
//! | file | idea |
//! | --- | --- |
//! | `location` | which store |
//! | `view` | the answers |
//! | `batch` | what a store takes |
//! | `leaf`, `json` | values, and how the API writes them |
//! | `history`, `dataset`, `tree`, `chart_plan` | what every store's answers have in common: documents, rows of a data set, traces, charts |
//! | `forwarding` | targets as forwarding reads them, and its state |
//! | `sqlite` | the store of one machine |
//! | `clickhouse` | that of many: what the Collector's exporter has written |

pub(crate) mod batch;
mod chart_plan;
pub(crate) mod clickhouse;
mod dataset;
pub(crate) mod forwarding;
mod history;
pub(crate) mod json;
pub(crate) mod leaf;
pub(crate) mod location;
mod session;
pub(crate) mod sqlite;
mod tree;
pub(crate) mod view;

use super::query::{ChartQuery, Page, Selection, TraceQuery};
use view::{
    Chart, CommentRow, DatasetRow, FeedbackEvent, FieldRow, List, Neighbours, SessionRow,
    SessionView, Status, TraceRow, TraceView, UnmatchedRow, ValueRow,
};

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The query is invalid.
    #[error("{0}")]
    Asked(String),
    /// The query takes too long.
    #[error("this takes too long: narrow the time range, or filter by fields of feedback only")]
    TooLong,
    /// Stored data can't be read.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// An error of SQLite.
    #[error("{0}")]
    Sqlite(rusqlite::Error),
    /// An error of ClickHouse, or no answer.
    #[error("ClickHouse: {0}")]
    Engine(String),
}

/// The version of the stored data, and its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreVersion {
    /// Increases with each change of the data.
    pub(crate) version: u64,
    /// Bytes in use.
    pub(crate) used: u64,
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => Self::TooLong,
            _ => Self::Sqlite(error),
        }
    }
}

/// The queries of the views. Answers hold folded feedback, and are consistent in themselves.
pub(crate) trait Store: Send + Sync {
    fn status(&self) -> Result<Status, Error>;

    /// Fields whose key contains a text, the most used first.
    fn fields(&self, search: &str, limit: usize) -> Result<List<FieldRow>, Error>;

    /// The values of a field, the most frequent first.
    fn values(
        &self,
        field: &str,
        search: &str,
        selection: &Selection,
        limit: usize,
    ) -> Result<List<ValueRow>, Error>;

    /// Traces, the latest first.
    fn traces(&self, query: &TraceQuery) -> Result<List<TraceRow>, Error>;

    /// The traces before and after one in this list. The page of the query is ignored.
    fn neighbours(&self, trace_id: [u8; 16], query: &TraceQuery) -> Result<Neighbours, Error>;

    /// A trace. Of a very long one the first spans, those with feedback and the span `asked`, with their
    /// ancestors.
    fn trace(&self, trace_id: [u8; 16], asked: Option<u64>) -> Result<Option<TraceView>, Error>;

    /// Sessions, by last activity.
    fn sessions(&self, selection: &Selection, page: &Page) -> Result<List<SessionRow>, Error>;

    fn session(&self, id: &str) -> Result<Option<SessionView>, Error>;

    fn chart(&self, query: &ChartQuery) -> Result<Chart, Error>;

    /// Texts of a field that contain `search`, the latest first.
    fn comments(
        &self,
        field: &str,
        search: &str,
        selection: &Selection,
        page: &Page,
    ) -> Result<List<CommentRow>, Error>;

    /// Feedback whose target was not received, or that has no target.
    fn unmatched(&self, page: &Page) -> Result<List<UnmatchedRow>, Error>;

    /// Inputs, outputs, ground truths and feedback, side by side.
    fn dataset(&self, selection: &Selection, page: &Page) -> Result<List<DatasetRow>, Error>;

    /// Feedback in the order of arrival, after the position `after`, and the new position. Without `after`
    /// only the position of the end.
    fn feedback_after(
        &self,
        after: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<FeedbackEvent>, i64), Error>;
}
