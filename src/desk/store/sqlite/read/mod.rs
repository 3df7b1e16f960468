//! The answers to queries, each from one state of the file.
//!
//! | file | idea |
//! | --- | --- |
//! | `field` | what a name means |
//! | `fields` | which names and values there are |
//! | `bits`, `filter` | filters, as sets of rows |
//! | `groups` | which group a target belongs to |
//! | `paging` | one page of a list |
//! | `attributes` | attributes that have no index |
//! | `traces`, `sessions`, `trace` | the lists, and one trace |
//! | `documents` | the documents about a target, and their history |
//! | `comments` | comments, the data set, what waits for its target |
//! | `chart` | charts |

mod attributes;
mod bits;
mod chart;
mod comments;
mod documents;
mod field;
mod fields;
mod filter;
mod groups;
mod paging;
mod sessions;
mod trace;
mod traces;

use rusqlite::{Connection, OptionalExtension};

use super::counters::counter;
use super::{Result, Sqlite, retention, schema};
use crate::desk::query::time::millis;
use crate::desk::query::{ChartQuery, Page, Selection, TraceQuery};
use crate::desk::store::json::hex;
use crate::desk::store::view::{
    Chart, CommentRow, DatasetRow, FeedbackEvent, FieldRow, List, Neighbours, SessionRow,
    SessionView, Status, TraceRow, TraceView, UnmatchedRow, ValueRow,
};
use crate::desk::store::{Error, Store};

impl Store for Sqlite {
    fn status(&self) -> Result<Status> {
        self.read(status)
    }

    fn fields(&self, search: &str, limit: usize) -> Result<List<FieldRow>> {
        self.read(|connection| fields::fields(connection, search, limit))
    }

    fn values(
        &self,
        field: &str,
        search: &str,
        selection: &Selection,
        limit: usize,
    ) -> Result<List<ValueRow>> {
        self.read(|connection| fields::values(connection, field, search, selection, limit))
    }

    fn traces(&self, query: &TraceQuery) -> Result<List<TraceRow>> {
        self.read(|connection| traces::traces(connection, query))
    }

    fn neighbours(&self, trace_id: [u8; 16], query: &TraceQuery) -> Result<Neighbours> {
        self.read(|connection| traces::neighbours(connection, trace_id, query))
    }

    fn trace(&self, trace_id: [u8; 16], asked: Option<u64>) -> Result<Option<TraceView>> {
        self.read(|connection| trace::trace(connection, trace_id, asked))
    }

    fn sessions(&self, selection: &Selection, page: &Page) -> Result<List<SessionRow>> {
        self.read(|connection| sessions::sessions(connection, selection, page))
    }

    fn session(&self, id: &str) -> Result<Option<SessionView>> {
        self.read(|connection| sessions::session(connection, id))
    }

    fn chart(&self, query: &ChartQuery) -> Result<Chart> {
        self.read(|connection| chart::chart(connection, query))
    }

    fn comments(
        &self,
        field: &str,
        search: &str,
        selection: &Selection,
        page: &Page,
    ) -> Result<List<CommentRow>> {
        self.read(|connection| comments::comments(connection, field, search, selection, page))
    }

    fn unmatched(&self, page: &Page) -> Result<List<UnmatchedRow>> {
        self.read(|connection| comments::unmatched(connection, page))
    }

    fn dataset(&self, selection: &Selection, page: &Page) -> Result<List<DatasetRow>> {
        self.read(|connection| comments::dataset(connection, selection, page))
    }

    fn feedback_after(
        &self,
        after: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<FeedbackEvent>, i64)> {
        self.read(|connection| documents::feedback_after(connection, after, limit))
    }
}

fn status(connection: &Connection) -> Result<Status> {
    let one = |sql: &str| -> Result<i64> {
        Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    };
    let some = |sql: &str| -> Result<Option<f64>> {
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_row([], |row| row.get::<_, Option<i64>>(0))?.map(millis))
    };
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT text FROM resource_texts WHERE key = 'service.name' ORDER BY text",
    )?;
    let services = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let pages = connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))?;
    let size = connection.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))?;
    Ok(Status {
        version: env!("CARGO_PKG_VERSION"),
        store: "sqlite",
        schema: schema::VERSION,
        spans: counter(connection, "spans")?,
        traces: that_came(connection)?,
        documents: counter(connection, "documents")?,
        waiting: one("SELECT count(*) FROM targets g WHERE g.arrived = 0
             AND EXISTS (SELECT 1 FROM leaves l WHERE l.target = g.id)")?,
        adrift: one("SELECT count(*) FROM documents WHERE target = 0")?,
        used_bytes: retention::used(connection)?,
        file_bytes: (pages * size).unsigned_abs(),
        services,
        demo: one(
            "SELECT EXISTS (SELECT 1 FROM resource_texts WHERE key = 'demo' AND text = 'true')",
        )? > 0,
        first: some("SELECT min(start) FROM traces WHERE start IS NOT NULL")?,
        last: some("SELECT max(start) FROM traces WHERE start IS NOT NULL")?,
    })
}

/// The number of traces with a received span, which is the length of a list without a filter.
fn that_came(connection: &Connection) -> Result<i64> {
    let sql = "SELECT count(*) FROM traces WHERE start IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

fn span_id(id: i64) -> String {
    hex(&id.to_be_bytes())
}

/// The `service.name`, or another attribute, of a resource.
fn resource_text(connection: &Connection, key: &str, resource: i64) -> Result<Option<String>> {
    let sql = "SELECT text FROM resource_texts WHERE key = ?1 AND resource = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row((key, resource), |row| row.get(0)).optional()?)
}

/// A question that is at fault.
fn asked<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::Asked(what.into()))
}
