//! Computes the leaves of a target from the documents about it. The rules of folding are in
//! [`crate::feedback::fold`].

use std::collections::{BTreeMap, HashMap};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, params};

use super::Result;
use super::cache::RowCache;
use super::stored::{self, SPAN_COLUMNS};
use crate::collector::receive::value::Value;
use crate::desk::store::batch::{SpanFeedback, nanos};
use crate::desk::store::history::{DatedValue, dated};
use crate::desk::store::leaf::{Leaf, LeafType};
use crate::feedback::fold::fold;
use crate::feedback::repetition::{Arrival, MOST_APART, repetitions};

/// The time and the resource that the leaves of a target repeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TargetAnchor {
    pub(super) time: i64,
    pub(super) resource: i64,
}

/// The row numbers of a target: its trace, the id of its span, its session. What it lacks is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TargetKey {
    pub(super) trace: i64,
    pub(super) span: i64,
    pub(super) session: i64,
}

/// A target that has to be folded again.
#[derive(Debug, Default)]
pub(super) struct PendingRefold {
    /// All documents about the target, if this transaction has created it.
    new: Option<NewTarget>,
    /// The documents that this transaction adds to an older target.
    added: TargetDocuments,
    /// All its documents have to be read from the file.
    to_reload: bool,
}

#[derive(Debug)]
struct NewTarget {
    key: TargetKey,
    anchor: Option<TargetAnchor>,
    documents: TargetDocuments,
}

/// The documents about one target.
#[derive(Debug, Default)]
struct TargetDocuments {
    own: Option<SpanFeedback>,
    /// With the traces they came in.
    submissions: Vec<([u8; 16], SpanFeedback)>,
}

impl PendingRefold {
    /// A target that this transaction has created.
    pub(super) fn of_new(key: TargetKey) -> Self {
        let new = NewTarget { key, anchor: None, documents: TargetDocuments::default() };
        Self { new: Some(new), ..Self::default() }
    }

    /// A target whose documents are all in the file.
    pub(super) fn of_stored() -> Self {
        Self { to_reload: true, ..Self::default() }
    }

    /// Makes the refold read all documents from the file.
    pub(super) fn reload(&mut self) {
        *self = Self::of_stored();
    }

    /// Adds a document.
    pub(super) fn add(
        &mut self,
        feedback: &SpanFeedback,
        trace_id: [u8; 16],
        anchor: TargetAnchor,
    ) {
        match &mut self.new {
            _ if self.to_reload => {}
            None => self.added.add(feedback.clone(), trace_id),
            Some(new) => {
                if feedback.is_own {
                    new.anchor = Some(anchor);
                }
                new.documents.add(feedback.clone(), trace_id);
            }
        }
    }
}

impl TargetDocuments {
    fn add(&mut self, feedback: SpanFeedback, trace_id: [u8; 16]) {
        if feedback.is_own {
            self.own = Some(feedback);
        } else {
            self.submissions.push((trace_id, feedback));
        }
    }

    fn is_empty(&self) -> bool {
        self.own.is_none() && self.submissions.is_empty()
    }

    /// The time of the earliest document.
    fn first(&self) -> i64 {
        let submissions = self.submissions.iter().map(|(_, feedback)| feedback);
        let times = self.own.iter().chain(submissions);
        times.map(|feedback| nanos(feedback.submission.time_unix_nano)).min().unwrap_or(0)
    }

    /// When the last submission was made.
    fn latest(&self) -> Option<i64> {
        let times = self.submissions.iter().map(|(_, feedback)| feedback.submission.time_unix_nano);
        times.map(nanos).max()
    }

    /// Removes the log records that repeat what spans state.
    fn leave_out_repetitions(&mut self) {
        let submissions = self.submissions.iter().map(|(_, feedback)| feedback);
        let stated: Vec<_> = submissions.chain(&self.own).map(SpanFeedback::stated).collect();
        let mut left_out = repetitions(&stated).into_iter();
        self.submissions.retain(|_| !left_out.next().unwrap_or(false));
    }

    /// The folded document, each value with the time it was given.
    fn fold(mut self) -> BTreeMap<String, DatedValue> {
        self.leave_out_repetitions();
        let own = self.own.take().map(|own| dated(own.submission).attributes).unwrap_or_default();
        self.fold_onto(own)
    }

    /// The same, on top of what is folded already.
    fn fold_onto(mut self, own: Vec<(String, DatedValue)>) -> BTreeMap<String, DatedValue> {
        // Of several submissions with one span id and one time the first counts, so their order must not
        // depend on their arrival.
        self.submissions.sort_by_key(|(trace_id, _)| *trace_id);
        fold(own, self.submissions.into_iter().map(|(_, feedback)| dated(feedback.submission)))
    }
}

/// All documents about a target.
fn documents_about(connection: &Connection, target: i64) -> Result<TargetDocuments> {
    let sql = format!(
        "SELECT t.trace_id AS trace_id, {SPAN_COLUMNS} FROM documents d JOIN spans s ON s.id = d.span
         JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         WHERE d.target = ?1 ORDER BY d.id"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([target])?;
    let mut documents = TargetDocuments::default();
    while let Some(row) = rows.next()? {
        let span = stored::span(row)?;
        if let Some(feedback) = SpanFeedback::of(&span) {
            documents.add(feedback, span.trace_id.to_bytes());
        }
    }
    Ok(documents)
}

/// Deletes the row of a session without traces and without feedback about it.
pub(super) fn remove_unused_session(connection: &Connection, session: i64) -> Result<()> {
    let sql = "DELETE FROM sessions WHERE id = ?1 AND start IS NULL AND NOT EXISTS (
                   SELECT 1 FROM targets WHERE trace = 0 AND span = 0 AND session = ?1)";
    connection.prepare_cached(sql)?.execute([session])?;
    Ok(())
}

/// Why targets are folded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefoldCause {
    /// Spans were received, in the transaction of this number.
    Feedback { change: i64 },
    /// Traces were deleted. That takes no feedback back: backends to which it was forwarded keep it.
    Retention,
}

/// Folds targets, and counts the values that this adds and removes.
pub(super) struct Refold<'t> {
    transaction: &'t Transaction<'t>,
    cause: RefoldCause,
    cache: &'t mut RowCache,
    insert: CachedStatement<'t>,
    /// Change of the number of values, by field and the four types that it counts.
    fields: HashMap<i64, [i64; 4]>,
    /// Change of the number of leaves in the namespace `feedback`, by trace.
    feedback: HashMap<i64, i64>,
}

/// The columns of a leaf that differ between the leaves of a target.
#[derive(Debug, PartialEq)]
struct LeafRow {
    field: i64,
    given: i64,
    leaf: Leaf,
    is_feedback: bool,
}

impl<'t> Refold<'t> {
    pub(super) fn new(
        transaction: &'t Transaction<'t>,
        cache: &'t mut RowCache,
        cause: RefoldCause,
    ) -> Result<Self> {
        let insert = transaction.prepare_cached(
            "INSERT INTO leaves (field, time, target, trace, resource, given, type, value)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let (fields, feedback) = (HashMap::new(), HashMap::new());
        Ok(Self { transaction, cause, cache, insert, fields, feedback })
    }

    /// Writes the leaves of a target. A target without documents is removed.
    pub(super) fn target(&mut self, target: i64, pending: PendingRefold) -> Result<()> {
        let is_new = pending.new.is_some();
        let (key, documents, anchor) = match pending.new {
            Some(NewTarget { key, anchor, documents }) => (key, documents, anchor),
            None => {
                let Some((key, latest)) = self.stored_target(target)? else { return Ok(()) };
                let anchor = self.anchor(key)?;
                if let (Some(anchor), false) = (anchor, pending.to_reload)
                    && self.is_continuation(target, key, latest, &pending.added)?
                    && let Some(folded) = self.folded(target)?
                {
                    let latest = pending.added.latest();
                    let document = pending.added.fold_onto(folded);
                    return self.write(target, key.trace, anchor, (document, latest), false);
                }
                (key, documents_about(self.transaction, target)?, anchor)
            }
        };
        let anchor = match anchor {
            Some(anchor) => anchor,
            None => {
                self.anchor(key)?.unwrap_or(TargetAnchor { time: documents.first(), resource: 0 })
            }
        };
        let is_empty = documents.is_empty();
        let latest = documents.latest();
        self.write(target, key.trace, anchor, (documents.fold(), latest), is_new)?;
        if is_empty && !self.is_to_be_taken_back(target)? {
            self.remove(target)?;
        }
        Ok(())
    }

    /// The key of a target, and the time of its latest submission.
    fn stored_target(&self, target: i64) -> Result<Option<(TargetKey, Option<i64>)>> {
        let sql = "SELECT trace, span, session, latest FROM targets WHERE id = ?1";
        let found = self.transaction.prepare_cached(sql)?.query_row([target], |row| {
            let (trace, span, session) = (row.get("trace")?, row.get("span")?, row.get("session")?);
            Ok((TargetKey { trace, span, session }, row.get("latest")?))
        });
        Ok(found.optional()?)
    }

    /// Whether new documents can be folded onto the leaves, without reading the older documents: each
    /// is a submission later than all before, of a span id without an earlier submission, and no log record
    /// that may repeat an older document. Without this a session with much feedback would be folded as a whole for each submission.
    fn is_continuation(
        &self,
        target: i64,
        key: TargetKey,
        latest: Option<i64>,
        added: &TargetDocuments,
    ) -> Result<bool> {
        let mut count = self.transaction.prepare_cached(
            "SELECT count(*) FROM documents WHERE target = ?1 AND own = 0 AND span_id = ?2",
        )?;
        if added.own.is_some() || added.submissions.is_empty() {
            return Ok(false);
        }
        for (_, feedback) in &added.submissions {
            let submission = &feedback.submission;
            if feedback.arrival != Arrival::Span {
                let earliest = nanos(submission.time_unix_nano.saturating_sub(MOST_APART));
                let own = self.end_of_own(target, key.span)?;
                if latest.max(own).is_some_and(|latest| latest >= earliest) {
                    return Ok(false);
                }
            }
            let span = i64::from_be_bytes(submission.span_id.to_bytes());
            let count: i64 = count.query_row([target, span], |row| row.get(0))?;
            let is_later = latest.is_none_or(|latest| nanos(submission.time_unix_nano) > latest);
            if !is_later || count > 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The time of the document that a target's own span has.
    fn end_of_own(&self, target: i64, span: i64) -> Result<Option<i64>> {
        let sql = "SELECT max(time) FROM documents WHERE target = ?1 AND span_id = ?2 AND own = 1";
        let mut statement = self.transaction.prepare_cached(sql)?;
        Ok(statement.query_row([target, span], |row| row.get(0))?)
    }

    /// The leaves of a target as a document; `None` if a leaf doesn't keep its exact value.
    fn folded(&self, target: i64) -> Result<Option<Vec<(String, DatedValue)>>> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT f.key, l.type, l.value, l.given
             FROM leaves l JOIN fields f ON f.id = l.field WHERE l.target = ?1",
        )?;
        let mut rows = statement.query([target])?;
        let mut folded = Vec::new();
        while let Some(row) = rows.next()? {
            let value = match stored::leaf(row, 1, 2)? {
                Leaf::Bool(value) => Value::Bool(value),
                Leaf::Int(value) => Value::Int(value),
                Leaf::Double(value) => Value::Double(value),
                Leaf::Text(text) => Value::String(text),
                Leaf::Other(_) => return Ok(None), // stored as text only
            };
            folded.push((row.get(0)?, (value, row.get(3)?)));
        }
        Ok(Some(folded))
    }

    /// Replaces the leaves of a target by those of a folded document.
    fn write(
        &mut self,
        target: i64,
        trace: i64,
        anchor: TargetAnchor,
        (document, latest): (BTreeMap<String, DatedValue>, Option<i64>),
        is_new: bool,
    ) -> Result<()> {
        if latest.is_some() || !is_new {
            self.transaction
                .prepare_cached("UPDATE targets SET latest = ?2 WHERE id = ?1")?
                .execute(params![target, latest])?;
        }
        let mut rows = Vec::new();
        for (name, (value, given)) in document {
            let field = self.field(&name)?;
            let leaf = Leaf::of(&name, value);
            rows.push(LeafRow { field, given, leaf, is_feedback: name.starts_with("feedback.") });
        }
        rows.sort_by_key(|row| row.field);
        if !is_new && !self.clear(target, trace, anchor, &rows)? {
            return Ok(());
        }
        if let (false, RefoldCause::Feedback { change }) = (is_new, self.cause) {
            self.transaction
                .prepare_cached("UPDATE targets SET changed = ?2 WHERE id = ?1")?
                .execute([target, change])?;
        }
        for row in &rows {
            self.count(trace, row, 1);
            self.insert.execute(params![
                row.field,
                anchor.time,
                target,
                trace,
                anchor.resource,
                row.given,
                row.leaf.kind() as i64,
                row.leaf,
            ])?;
        }
        Ok(())
    }

    /// Writes the counters.
    pub(super) fn finish(self) -> Result<()> {
        let mut update = self.transaction.prepare_cached(
            "UPDATE fields SET bools = bools + ?2, numbers = numbers + ?3, texts = texts + ?4,
                               others = others + ?5
             WHERE id = ?1",
        )?;
        let mut unused = self.transaction.prepare_cached(
            "DELETE FROM fields WHERE id = ?1 AND bools = 0 AND numbers = 0 AND texts = 0
                 AND others = 0 RETURNING key",
        )?;
        for (field, [bools, numbers, texts, others]) in self.fields {
            if [bools, numbers, texts, others] == [0; 4] {
                continue;
            }
            update.execute([field, bools, numbers, texts, others])?;
            if [bools, numbers, texts, others].iter().any(|by| *by < 0) {
                let gone = unused.query_row([field], |row| row.get(0)).optional()?;
                gone.and_then(|key: String| self.cache.fields.remove(&key));
            }
        }
        let mut update = self
            .transaction
            .prepare_cached("UPDATE traces SET feedback = feedback + ?2 WHERE id = ?1")?;
        for (trace, by) in self.feedback {
            if by != 0 {
                update.execute([trace, by])?;
            }
        }
        Ok(())
    }

    /// Removes the leaves of a target, unless they equal the new ones. Returns whether it did.
    fn clear(
        &mut self,
        target: i64,
        trace: i64,
        anchor: TargetAnchor,
        new: &[LeafRow],
    ) -> Result<bool> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT l.field, l.given, l.type, l.value, l.time, l.resource, f.key
             FROM leaves l JOIN fields f ON f.id = l.field WHERE l.target = ?1 ORDER BY l.field",
        )?;
        let mut rows = statement.query([target])?;
        let mut old = Vec::new();
        let mut same = true;
        while let Some(row) = rows.next()? {
            same &= anchor == TargetAnchor { time: row.get(4)?, resource: row.get(5)? };
            old.push(LeafRow {
                field: row.get(0)?,
                given: row.get(1)?,
                leaf: stored::leaf(row, 2, 3)?,
                is_feedback: row.get_ref(6)?.as_str().is_ok_and(|key| key.starts_with("feedback.")),
            });
        }
        drop(rows);
        if same && old == new {
            return Ok(false);
        }
        if self.cause == RefoldCause::Retention {
            for row in old.iter().filter(|row| new.iter().all(|new| new.field != row.field)) {
                self.forget_told(target, row.field)?;
            }
        }
        for row in &old {
            self.count(trace, row, -1);
        }
        self.transaction
            .prepare_cached("DELETE FROM leaves WHERE target = ?1")?
            .execute([target])?;
        Ok(true)
    }

    /// Makes forwarding forget a leaf: a backend that was told of it keeps it.
    fn forget_told(&self, target: i64, field: i64) -> Result<()> {
        let sql = "DELETE FROM forward_told
                   WHERE target = ?1 AND field = (SELECT key FROM fields WHERE id = ?2)";
        self.transaction.prepare_cached(sql)?.execute([target, field])?;
        Ok(())
    }

    /// Whether feedback was taken back of which a backend was told: forwarding needs the target to delete it
    /// there.
    fn is_to_be_taken_back(&self, target: i64) -> Result<bool> {
        let sql = "SELECT 1 FROM forward_told WHERE target = ?1";
        Ok(matches!(self.cause, RefoldCause::Feedback { .. })
            && self.transaction.prepare_cached(sql)?.exists([target])?)
    }

    /// Removes a target without documents.
    fn remove(&mut self, target: i64) -> Result<()> {
        let (trace, arrived, session): (i64, bool, i64) = self
            .transaction
            .prepare_cached("DELETE FROM targets WHERE id = ?1 RETURNING trace, arrived, session")?
            .query_row([target], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        for table in ["forward_told", "forward_waiting"] {
            let sql = format!("DELETE FROM {table} WHERE target = ?1");
            self.transaction.prepare_cached(&sql)?.execute([target])?;
        }
        if session != 0 {
            remove_unused_session(self.transaction, session)?;
        }
        if !arrived {
            self.transaction
                .prepare_cached("UPDATE traces SET waiting = waiting - 1 WHERE id = ?1")?
                .execute([trace])?;
        }
        // A trace that has a row only because of feedback about it.
        self.transaction
            .prepare_cached(
                "DELETE FROM traces AS t WHERE id = ?1
                     AND NOT EXISTS (SELECT 1 FROM spans WHERE trace = t.id)
                     AND NOT EXISTS (SELECT 1 FROM targets WHERE trace = t.id)",
            )?
            .execute([trace])?;
        Ok(())
    }

    fn count(&mut self, trace: i64, row: &LeafRow, by: i64) {
        let kind = match row.leaf.kind() {
            LeafType::Bool => 0,
            LeafType::Int | LeafType::Double => 1,
            LeafType::Text => 2,
            LeafType::Other => 3,
        };
        self.fields.entry(row.field).or_default()[kind] += by;
        if row.is_feedback && trace != 0 {
            *self.feedback.entry(trace).or_default() += by;
        }
    }

    fn anchor(
        &self,
        TargetKey { trace, span, session }: TargetKey,
    ) -> Result<Option<TargetAnchor>> {
        let (sql, values) = if session != 0 {
            ("SELECT start, resource FROM sessions WHERE id = ?1", [session, 0])
        } else if span == 0 {
            ("SELECT start, root_resource FROM traces WHERE id = ?1", [trace, 0])
        } else {
            let sql = "SELECT start, resource FROM spans
                       WHERE trace = ?1 AND span = ?2 AND flags & 1 = 0";
            (sql, [trace, span])
        };
        let mut statement = self.transaction.prepare_cached(sql)?;
        let values = &values[..statement.parameter_count()];
        let found = statement
            .query_row(rusqlite::params_from_iter(values), |row| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
            })
            .optional()?;
        Ok(found.and_then(|(time, resource)| {
            Some(TargetAnchor { time: time?, resource: resource.unwrap_or(0) })
        }))
    }

    fn field(&mut self, key: &str) -> Result<i64> {
        if let Some(id) = self.cache.fields.get(key) {
            return Ok(*id);
        }
        self.transaction
            .prepare_cached("INSERT INTO fields (key) VALUES (?1) ON CONFLICT DO NOTHING")?
            .execute([key])?;
        let id = self
            .transaction
            .prepare_cached("SELECT id FROM fields WHERE key = ?1")?
            .query_row([key], |row| row.get(0))?;
        self.cache.fields.insert(key.to_owned(), id);
        Ok(id)
    }
}
