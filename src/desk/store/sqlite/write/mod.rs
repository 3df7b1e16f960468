//! One transaction: the spans of some requests, and all that follows from them.
//!
//! It goes in phases, so that each row is looked up and written once, however many spans touch it:
//! spans, then the traces and sessions they belong to, then the targets their feedback is about, and
//! last the leaves of each target whose feedback changed.
//!
//! | file | idea |
//! | --- | --- |
//! | `spans` | rows of spans; two spans with the same ids |
//! | `traces` | the trace of each span: its times, counts and root |
//! | `sessions` | where in time the traces of a session lie |
//! | `documents` | spans that carry feedback, its targets, and whether those have arrived |
//! | `shared_rows` | names, scopes and resources, which many spans share |

mod documents;
mod sessions;
mod shared_rows;
mod spans;
mod traces;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{CachedStatement, Transaction};

use self::documents::PendingDocument;
use self::sessions::AddedTraces;
use self::spans::NewSpanRow;
use self::traces::TraceState;
use super::Result;
use super::cache::RowCache;
use super::counters::{CHANGES, count, counter, set};
use super::refold::{PendingRefold, Refold, RefoldCause, remove_unused_session};
use crate::desk::store::batch::SpanBatch;

pub(super) use self::sessions::{session_target, update_session};
pub(super) use self::shared_rows::SharedUses;

/// `flags` of a span.
pub(super) const IS_CARRIER: i64 = 1;
pub(super) const IS_ERROR: i64 = 2;
/// A carrier that stands for feedback in another form.
pub(super) const IS_TRANSLATED: i64 = 4;
/// And that is a log record of this crate, which repeats what a span or a carrier states.
pub(super) const IS_OWN_RECORD: i64 = 8;

/// What a transaction has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// New spans.
    pub(crate) spans: i64,
    /// New spans with feedback, without the log records that repeat them.
    pub(crate) documents: i64,
}

/// Writes some requests, received at a time in nanoseconds. The caller commits the transaction or rolls
/// it back.
pub(super) fn write(
    transaction: &Transaction<'_>,
    cache: &mut RowCache,
    batches: &[SpanBatch],
    received: i64,
) -> Result<Written> {
    cache.refresh(transaction)?;
    cache.bound();
    let mut pass = Pass::new(transaction, cache, received)?;
    for batch in batches {
        pass.spans(batch)?;
    }
    let documents = pass.resolve_targets()?;
    pass.recount()?;
    pass.flush_traces()?;
    pass.flush_sessions()?;
    pass.documents(documents)?;
    pass.match_targets()?;
    let Finished { refolds, uses, sessions, written, change } = pass.finish();
    if !refolds.is_empty() {
        set(transaction, CHANGES, change)?;
    }
    let mut refold = Refold::new(transaction, cache, RefoldCause::Feedback { change })?;
    for (target, pending) in refolds {
        refold.target(target, pending)?;
    }
    refold.finish()?;
    for session in sessions {
        remove_unused_session(transaction, session)?;
    }
    uses.write(transaction, cache)?;
    count(transaction, "spans", written.spans)?;
    count(transaction, "documents", written.documents)?;
    Ok(written)
}

/// What one transaction collects on its way through the phases.
struct Pass<'t, 'b> {
    transaction: &'t Transaction<'t>,
    cache: &'t mut RowCache,
    /// When the requests were received, in nanoseconds.
    received: i64,
    /// The number of this transaction, for `targets.changed`.
    change: i64,
    insert_span: CachedStatement<'t>,
    find_trace: CachedStatement<'t>,
    traces: HashMap<[u8; 16], TraceState>,
    next_trace: i64,
    sessions: HashMap<String, i64>,
    /// Sessions of which an older trace has changed.
    moved_sessions: BTreeSet<i64>,
    /// By session, the traces that this transaction has created.
    added_traces: BTreeMap<i64, AddedTraces>,
    uses: SharedUses,
    pending: Vec<PendingDocument<'b>>,
    /// Traces and ids of spans that unmatched feedback may be about.
    arrived: Vec<(i64, i64)>,
    /// By target.
    refolds: HashMap<i64, PendingRefold>,
    written: Written,
}

/// What is left to do after the phases of a [`Pass`].
struct Finished {
    refolds: HashMap<i64, PendingRefold>,
    uses: SharedUses,
    /// Sessions that may have become unused.
    sessions: BTreeSet<i64>,
    written: Written,
    change: i64,
}

impl<'t> Pass<'t, '_> {
    fn new(
        transaction: &'t Transaction<'t>,
        cache: &'t mut RowCache,
        received: i64,
    ) -> Result<Self> {
        let last: Option<i64> = transaction
            .prepare_cached("SELECT max(id) FROM traces")?
            .query_row([], |row| row.get(0))?;
        Ok(Self {
            transaction,
            cache,
            received,
            change: counter(transaction, CHANGES)? + 1,
            insert_span: transaction.prepare_cached(NewSpanRow::INSERT)?,
            find_trace: transaction.prepare_cached(
                "SELECT id, start, finish, spans, errors, session, root_span, root_parent,
                        root_start, root_name, root_resource, touched, waiting
                 FROM traces WHERE trace_id = ?1",
            )?,
            traces: HashMap::new(),
            next_trace: last.unwrap_or(0) + 1,
            sessions: HashMap::new(),
            moved_sessions: BTreeSet::new(),
            added_traces: BTreeMap::new(),
            uses: SharedUses::default(),
            pending: Vec::new(),
            arrived: Vec::new(),
            refolds: HashMap::new(),
            written: Written::default(),
        })
    }

    fn finish(self) -> Finished {
        let mut sessions = self.moved_sessions;
        let looked_up = self.sessions.values();
        sessions.extend(looked_up.filter(|session| !self.added_traces.contains_key(session)));
        let Self { refolds, uses, written, change, .. } = self;
        Finished { refolds, uses, sessions, written, change }
    }
}
