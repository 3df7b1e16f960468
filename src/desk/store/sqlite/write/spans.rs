//! Spans: one row each, and which of two spans with the same ids stays.

use std::cmp::Reverse;

use rusqlite::{OptionalExtension, Row, Statement, Transaction, named_params, params};

use super::documents::PendingDocument;
use super::traces::{Root, SpanTotals};
use super::{IS_CARRIER, IS_ERROR, IS_OWN_RECORD, IS_TRANSLATED, Pass};
use crate::desk::store::batch::{NewSpan, SpanBatch, SpanFeedback, nanos};
use crate::desk::store::sqlite::Result;
use crate::desk::store::sqlite::refold::TargetAnchor;
use crate::desk::store::sqlite::stored::{self, SPAN_COLUMNS};

impl<'b> Pass<'_, 'b> {
    pub(super) fn spans(&mut self, batch: &'b SpanBatch) -> Result<()> {
        let resources: Vec<_> =
            batch.resources.iter().map(|new| self.resource(new)).collect::<Result<_>>()?;
        let scopes: Vec<_> =
            batch.scopes.iter().map(|new| self.scope(new)).collect::<Result<_>>()?;
        for span in &batch.spans {
            self.span(span, resources[span.resource], scopes[span.scope])?;
        }
        Ok(())
    }

    fn span(&mut self, span: &'b NewSpan, resource: i64, scope: i64) -> Result<()> {
        let name = self.name(&span.name)?;
        let session = match &span.session {
            Some(session) if !span.is_carrier => Some(self.session(session)?),
            _ => None,
        };
        let trace = self.trace(&span.trace_id)?;
        let flags = flags(span);
        let row = NewSpanRow { trace, name, resource, scope, flags, span };
        let is_new = row.insert(&mut self.insert_span)?;
        let id = if is_new {
            self.written.spans += 1;
            self.uses.count([name, scope, resource], 1);
            self.transaction.last_insert_rowid()
        } else {
            match self.replace(&row)? {
                Some(id) => id,
                None => return Ok(()),
            }
        };
        let Some(state) = self.traces.get_mut(&span.trace_id) else { return Ok(()) };
        let root = Root {
            has_parent: span.parent_id != 0,
            start: span.start,
            span: span.span_id,
            name,
            resource,
        };
        state.touched = state.touched.max(self.received);
        state.add(&SpanTotals { start: span.start, finish: span.end, flags, root });
        if !is_new {
            state.to_recount = true;
        }
        if let Some(session) = session {
            match state.session {
                None => {
                    state.session = Some(session);
                    state.is_new_in_session = true;
                }
                Some(first) if first == session => {}
                Some(_) => state.to_recount = true,
            }
        }
        if state.unmatched > 0 {
            self.arrived.push((trace, span.span_id as i64));
        }
        if let Some(feedback) = &span.feedback {
            self.pending.push(PendingDocument {
                feedback,
                trace,
                trace_id: span.trace_id,
                span_id: span.span_id,
                span_row: id,
                anchor: TargetAnchor { time: span.start, resource },
            });
        }
        Ok(())
    }

    /// Decides between a stored span and a new one with the same ids. They are nearly always the same
    /// span, sent again; then nothing is written. Otherwise the smaller one by [`SpanOrder`] stays,
    /// whichever arrived first. Returns the row, if the new span took it.
    fn replace(&mut self, new: &NewSpanRow<'_>) -> Result<Option<i64>> {
        let span_id = new.span.span_id as i64;
        let Some(old) = StoredSpan::find_different(self.transaction, new)? else { return Ok(None) };
        let hash = self
            .transaction
            .prepare_cached("SELECT hash FROM resources WHERE id = ?1")?
            .query_row([new.resource], |row| row.get("hash"))?;
        let id = old.id;
        let old_resource = old.resource;
        let old_shared = [old.name_row, old.scope, old.resource];
        let was_counted = old.feedback.as_ref().is_some_and(SpanFeedback::is_counted);
        if old.order() <= new.order(hash) {
            return Ok(None);
        }
        let withdrawn: Option<i64> = self
            .transaction
            .prepare_cached("DELETE FROM documents WHERE span = ?1 RETURNING target")?
            .query_row([id], |row| row.get("target"))
            .optional()?;
        if let Some(target) = withdrawn {
            self.written.documents -= i64::from(was_counted);
            self.refolds.entry(target).or_default().reload();
        }
        self.transaction
            .prepare_cached("DELETE FROM trace_resources WHERE resource = ?1 AND trace = ?2")?
            .execute([old_resource, new.trace])?;
        // The replaced span may be of this very transaction: its document is not written yet.
        self.pending.retain(|document| document.span_row != id);
        new.update(self.transaction, id)?;
        self.uses.count(old_shared, -1);
        self.uses.count([new.name, new.scope, new.resource], 1);
        // Feedback about this span has to move to its new start.
        self.arrived.push((new.trace, span_id));
        Ok(Some(id))
    }
}

fn flags(span: &NewSpan) -> i64 {
    let is_own_record = span.feedback.as_ref().is_some_and(|feedback| !feedback.is_counted());
    let flags = [
        (span.is_carrier, IS_CARRIER),
        (span.is_error, IS_ERROR),
        (span.is_translated, IS_TRANSLATED),
        (is_own_record, IS_OWN_RECORD),
    ];
    flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum()
}

/// A new span with the numbers of the rows it refers to.
pub(super) struct NewSpanRow<'b> {
    trace: i64,
    name: i64,
    resource: i64,
    scope: i64,
    flags: i64,
    span: &'b NewSpan,
}

impl NewSpanRow<'_> {
    /// The columns in the order of [`insert`](Self::insert). Parameters are bound by position: binding
    /// eleven names for each span costs several percent of the writer's time.
    pub(super) const INSERT: &'static str =
        "INSERT INTO spans (trace, span, parent, start, duration, name, resource, scope, kind,
                            flags, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (trace, span) DO NOTHING";

    /// Returns whether there was no span with these ids.
    fn insert(&self, statement: &mut Statement<'_>) -> Result<bool> {
        let inserted = statement.execute(params![
            self.trace,
            self.span.span_id as i64,
            self.span.parent_id as i64,
            self.span.start,
            self.duration(),
            self.name,
            self.resource,
            self.scope,
            self.span.kind,
            self.flags,
            self.span.body,
        ])?;
        Ok(inserted > 0)
    }

    fn update(&self, transaction: &Transaction<'_>, id: i64) -> Result<()> {
        let sql = "UPDATE spans SET parent = :parent, start = :start, duration = :duration,
                       name = :name, resource = :resource, scope = :scope, kind = :kind,
                       flags = :flags, body = :body
                   WHERE id = :id";
        transaction.prepare_cached(sql)?.execute(named_params! {
            ":id": id,
            ":parent": self.span.parent_id as i64,
            ":start": self.span.start,
            ":duration": self.duration(),
            ":name": self.name,
            ":resource": self.resource,
            ":scope": self.scope,
            ":kind": self.span.kind,
            ":flags": self.flags,
            ":body": self.span.body,
        })?;
        Ok(())
    }

    fn duration(&self) -> i64 {
        self.span.end - self.span.start
    }

    fn order(&self, resource_hash: Vec<u8>) -> SpanOrder {
        SpanOrder {
            longest: Reverse(if self.span.is_carrier { 0 } else { self.duration() }),
            feedback_time: feedback_time(self.span.feedback.as_ref(), self.span.start),
            start: self.span.start,
            duration: self.duration(),
            parent: self.span.parent_id as i64,
            kind: self.span.kind,
            name: self.span.name.clone(),
            resource_hash,
            body: self.span.body.clone(),
        }
    }
}

/// A stored span that has the ids of a new one, and differs from it.
struct StoredSpan {
    id: i64,
    parent: i64,
    start: i64,
    duration: i64,
    kind: i32,
    name: String,
    name_row: i64,
    scope: i64,
    resource: i64,
    resource_hash: Vec<u8>,
    body: Vec<u8>,
    is_carrier: bool,
    feedback: Option<SpanFeedback>,
}

impl StoredSpan {
    /// The stored span, unless it is the same as the new one.
    fn find_different(transaction: &Transaction<'_>, new: &NewSpanRow<'_>) -> Result<Option<Self>> {
        // The id of the trace is a parameter: the trace may be of this transaction, and have no row.
        let sql = format!(
            "SELECT :trace_id AS trace_id, {SPAN_COLUMNS}, s.id AS id, s.name AS name_row,
                    s.resource AS resource, s.scope AS scope, s.flags AS flags, r.hash AS hash
             FROM spans s JOIN names n ON n.id = s.name JOIN resources r ON r.id = s.resource
             WHERE s.trace = :trace AND s.span = :span"
        );
        let mut statement = transaction.prepare_cached(&sql)?;
        let mut rows = statement.query(named_params! {
            ":trace": new.trace,
            ":span": new.span.span_id as i64,
            ":trace_id": new.span.trace_id.as_slice(),
        })?;
        let Some(row) = rows.next()? else { return Ok(None) };
        if is_same(row, new)? {
            return Ok(None);
        }
        Ok(Some(Self { feedback: SpanFeedback::of(&stored::span(row)?), ..Self::of(row)? }))
    }

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            parent: row.get("parent_id")?,
            start: row.get("start")?,
            duration: row.get("duration")?,
            kind: row.get("kind")?,
            name: row.get("name")?,
            name_row: row.get("name_row")?,
            scope: row.get("scope")?,
            resource: row.get("resource")?,
            resource_hash: row.get("hash")?,
            body: row.get("body")?,
            is_carrier: row.get::<_, i64>("flags")? & IS_CARRIER != 0,
            feedback: None,
        })
    }

    fn order(self) -> SpanOrder {
        SpanOrder {
            longest: Reverse(if self.is_carrier { 0 } else { self.duration }),
            feedback_time: feedback_time(self.feedback.as_ref(), self.start),
            start: self.start,
            duration: self.duration,
            parent: self.parent,
            kind: self.kind,
            name: self.name,
            resource_hash: self.resource_hash,
            body: self.body,
        }
    }
}

fn is_same(row: &Row<'_>, new: &NewSpanRow<'_>) -> rusqlite::Result<bool> {
    Ok(row.get::<_, i64>("start")? == new.span.start
        && row.get::<_, i64>("duration")? == new.duration()
        && row.get::<_, i64>("parent_id")? == new.span.parent_id as i64
        && row.get::<_, i32>("kind")? == new.span.kind
        && row.get::<_, i64>("name_row")? == new.name
        && row.get::<_, i64>("resource")? == new.resource
        && row.get::<_, i64>("scope")? == new.scope
        && row.get_ref("body")?.as_blob().is_ok_and(|body| body == new.span.body))
}

/// The order by which one of two spans with the same ids stays: the smaller. It compares contents
/// alone, never row numbers, so the order of arrival makes no difference. A span that was received again,
/// finished, stays for its unfinished state; of two submissions with one id the earlier counts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SpanOrder {
    /// The longer span is the later state of one that was sent before it had ended. Of a carrier it is 0.
    longest: Reverse<i64>,
    feedback_time: i64,
    start: i64,
    duration: i64,
    parent: i64,
    kind: i32,
    name: String,
    resource_hash: Vec<u8>,
    body: Vec<u8>,
}

/// When a span's feedback was given; the start of a span without feedback.
fn feedback_time(feedback: Option<&SpanFeedback>, start: i64) -> i64 {
    feedback.map_or(start, |feedback| nanos(feedback.submission.time_unix_nano))
}
