//! The store of many machines: ClickHouse, as the OpenTelemetry Collector's clickhouse exporter fills it.
//! It is only read.
//!
//! | file | idea |
//! | --- | --- |
//! | `address` | which ClickHouse, and which table of it |
//! | `client` | queries over HTTP |
//! | `sql` | literals and templates; in its folder the relations themselves |
//! | `relations` | what every question is made of, and where it is to be had |
//! | `tables`, `ddl` | the desk's own tables, which make it fast, and what makes them |
//! | `kinds` | types, which come back from values |
//! | `field`, `filter`, `groups` | names, filters and groups as SQL |
//! | `chart`, `fields`, `traces`, `sessions`, `targets` | the answers |
//! | `spans` | spans from their rows, and their documents |
//! | `changes` | polls for changes, for open pages |
//! | `forwarding` | targets in the order in which they were changed |
//!
//! What everything rests on is the fold as SQL, `sql/leaves.sql`, which gives what [`crate::fold`] gives. An
//! answer may be of several queries, and what comes in between them shows in the later ones.

mod address;
mod answers;
mod changes;
mod chart;
mod client;
mod ddl;
mod field;
mod fields;
mod filter;
mod forwarding;
mod groups;
mod kinds;
mod relations;
mod sessions;
mod spans;
mod sql;
mod tables;
mod targets;
mod traces;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) use address::Address;
pub(crate) use changes::Changes;
pub(crate) use ddl::ddl;
pub(crate) use forwarding::ClickHouseForwarding;

use super::view::{
    Chart, CommentRow, DatasetRow, FeedbackEvent, FieldRow, List, Neighbours, SessionRow,
    SessionView, Status, TraceRow, TraceView, UnmatchedRow, ValueRow,
};
use super::{Error, Store};
use crate::desk::query::{ChartQuery, Page, Selection, TraceQuery};
use crate::sync::lock;
use client::ClickHouseClient;
use field::Field;
use kinds::Kinds;
use relations::{MATERIALIZE, Relations};
use serde::de::DeserializeOwned;
use sql::text;

type Result<T, E = Error> = std::result::Result<T, E>;

/// How long it is believed what there is.
const FRESH: Duration = Duration::from_secs(5);

/// The reading side of a ClickHouse. Cheap to share.
#[derive(Debug)]
pub(crate) struct ClickHouse {
    client: ClickHouseClient,
    relations: Cached<Relations>,
    kinds: Cached<Kinds>,
    /// Whether a name is an attribute of resources.
    resources: Mutex<HashMap<String, (Instant, bool)>>,
}

/// Something that is asked for anew now and then.
#[derive(Debug)]
struct Cached<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Cached<T> {
    fn get(&self, ask: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        if let Some((since, kept)) = &*lock(&self.0)
            && since.elapsed() < FRESH
        {
            return Ok(Arc::clone(kept));
        }
        let fresh = Arc::new(ask()?); // not under the lock: it takes its time
        *lock(&self.0) = Some((Instant::now(), Arc::clone(&fresh)));
        Ok(fresh)
    }
}

impl ClickHouse {
    /// Looks whether it is one, and has what is needed. A query that takes longer than `limit` ends with
    /// an error.
    ///
    /// # Errors
    ///
    /// It can't be reached, refuses the password, or has no table as the exporter makes it.
    pub(crate) fn open(address: Address, limit: Duration) -> Result<Self> {
        let store = Self {
            client: ClickHouseClient::new(address, limit)?,
            relations: Cached(Mutex::default()),
            kinds: Cached(Mutex::default()),
            resources: Mutex::default(),
        };
        store.relations()?;
        Ok(store)
    }

    /// Whether attributes are in columns of type JSON (`json: true`).
    pub(crate) fn is_json(&self) -> Result<bool> {
        Ok(self.relations()?.attributes != "SpanAttributes")
    }

    /// Drops the cached types, because spans have arrived.
    fn forget(&self) {
        *lock(&self.kinds.0) = None;
    }

    /// The rows of a query, in which relations may be named.
    fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>> {
        let relations = self.relations()?;
        let once = [(MATERIALIZE, "1")];
        let settings = if relations.is_materialized { &once[..] } else { &[] };
        self.client.rows_with(&relations.query(sql), settings)
    }

    /// The only row of a query that has one.
    fn row<T: DeserializeOwned>(&self, sql: &str) -> Result<T> {
        let none = || Error::Engine("an answer without a row".to_owned());
        self.rows(sql)?.into_iter().next().ok_or_else(none)
    }

    fn client(&self) -> &ClickHouseClient {
        &self.client
    }

    fn relations(&self) -> Result<Arc<Relations>> {
        self.relations.get(|| Relations::find(&self.client))
    }

    fn kinds(&self) -> Result<Arc<Kinds>> {
        self.kinds.get(|| {
            let rows = self.rows(&Kinds::query(&self.relations()?.leaves))?;
            Ok(Kinds::new(rows, self.client.address().types()))
        })
    }

    /// The meaning of a name.
    fn field(&self, name: &str) -> Result<Field> {
        if let Some(field) = Field::of(name) {
            return Ok(field);
        }
        let known = lock(&self.resources).get(name).copied();
        let is_resource = match known.filter(|(since, _)| since.elapsed() < FRESH) {
            Some((_, is_resource)) => is_resource,
            None => {
                let sql = format!(
                    "SELECT count() FROM (SELECT 1 FROM {} WHERE mapContains(attributes, {}) LIMIT 1)",
                    self.relations()?.resources,
                    text(name)
                );
                let is_resource = self.row::<(u64,)>(&sql)?.0 > 0;
                let mut known = lock(&self.resources);
                known.retain(|_, (since, _)| since.elapsed() < FRESH);
                known.insert(name.to_owned(), (Instant::now(), is_resource));
                is_resource
            }
        };
        Ok(if is_resource { Field::Resource } else { Field::Attribute })
    }
}

impl Store for ClickHouse {
    fn status(&self) -> Result<Status> {
        self.look()
    }

    fn fields(&self, search: &str, limit: usize) -> Result<List<FieldRow>> {
        self.list_fields(search, limit)
    }

    fn values(
        &self,
        field: &str,
        search: &str,
        selection: &Selection,
        limit: usize,
    ) -> Result<List<ValueRow>> {
        self.list_values(field, search, selection, limit)
    }

    fn traces(&self, query: &TraceQuery) -> Result<List<TraceRow>> {
        self.list_traces(query)
    }

    fn neighbours(&self, trace_id: [u8; 16], query: &TraceQuery) -> Result<Neighbours> {
        self.around(trace_id, query)
    }

    fn trace(&self, trace_id: [u8; 16], asked: Option<u64>) -> Result<Option<TraceView>> {
        self.view_trace(trace_id, asked)
    }

    fn sessions(&self, selection: &Selection, page: &Page) -> Result<List<SessionRow>> {
        self.list_sessions(selection, page)
    }

    fn session(&self, id: &str) -> Result<Option<SessionView>> {
        self.view_session(id)
    }

    fn chart(&self, query: &ChartQuery) -> Result<Chart> {
        self.draw(query)
    }

    fn comments(
        &self,
        field: &str,
        search: &str,
        selection: &Selection,
        page: &Page,
    ) -> Result<List<CommentRow>> {
        self.list_comments(field, search, selection, page)
    }

    fn unmatched(&self, page: &Page) -> Result<List<UnmatchedRow>> {
        self.list_unmatched(page)
    }

    fn dataset(&self, selection: &Selection, page: &Page) -> Result<List<DatasetRow>> {
        self.list_targets(selection, page)
    }

    fn feedback_after(
        &self,
        after: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<FeedbackEvent>, i64)> {
        self.follow(after, limit)
    }
}

/// A question that is at fault.
fn asked<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::Asked(what.into()))
}
