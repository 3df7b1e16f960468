//! Documents and targets: which spans carry feedback about what, and whether the target has arrived.

use std::collections::HashSet;

use opentelemetry::trace::TraceId;
use rusqlite::{OptionalExtension, named_params, params};

use super::Pass;
use crate::collector::Target;
use crate::desk::store::batch::{SpanFeedback, nanos};
use crate::desk::store::sqlite::Result;
use crate::desk::store::sqlite::refold::{PendingRefold, TargetAnchor, TargetKey};

/// The feedback of a new span, until its target has a row.
pub(super) struct PendingDocument<'b> {
    pub(super) feedback: &'b SpanFeedback,
    /// The span that carries it.
    pub(super) trace: i64,
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: u64,
    pub(super) span_row: i64,
    /// The start and resource of that span. For its own document they are those of the target.
    pub(super) anchor: TargetAnchor,
}

/// A document whose target has row numbers; `None` if it has no target.
pub(super) struct ResolvedDocument<'b> {
    document: PendingDocument<'b>,
    target: Option<TargetKey>,
}

impl<'b> Pass<'_, 'b> {
    /// Gives each target the row numbers of its trace and session. A trace without any span gets a
    /// number here, so this comes before traces are written.
    pub(super) fn resolve_targets(&mut self) -> Result<Vec<ResolvedDocument<'b>>> {
        let pending = std::mem::take(&mut self.pending);
        let mut resolved = Vec::with_capacity(pending.len());
        for document in pending {
            let key = |trace, span, session| Some(TargetKey { trace, span, session });
            let target = match &document.feedback.target {
                None => None,
                Some(_) if document.feedback.is_own => {
                    key(document.trace, document.span_id as i64, 0)
                }
                Some(Target::Span(trace, span)) => {
                    let span = i64::from_be_bytes(span.to_bytes());
                    key(self.target_trace(trace)?, span, 0)
                }
                Some(Target::Trace(trace)) => key(self.target_trace(trace)?, 0, 0),
                Some(Target::Session(id)) => key(0, 0, self.session(id)?),
            };
            resolved.push(ResolvedDocument { document, target });
        }
        Ok(resolved)
    }

    /// The trace that feedback is about. Retention counts its age from the latest feedback on.
    fn target_trace(&mut self, trace_id: &TraceId) -> Result<i64> {
        let trace_id = trace_id.to_bytes();
        let id = self.trace(&trace_id)?;
        if let Some(trace) = self.traces.get_mut(&trace_id) {
            trace.touched = trace.touched.max(self.received);
            trace.is_changed = true;
        }
        Ok(id)
    }

    pub(super) fn documents(&mut self, resolved: Vec<ResolvedDocument<'b>>) -> Result<()> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO documents (target, trace, span, span_id, own, time)
             VALUES (:target, :trace, :span, :span_id, :own, :time)",
        )?;
        for ResolvedDocument { document, target } in resolved {
            let target = match target {
                Some(key) => {
                    let target = self.target(key, document.feedback.is_own)?;
                    let PendingDocument { feedback, trace_id, anchor, .. } = document;
                    self.refolds.entry(target).or_default().add(feedback, trace_id, anchor);
                    target
                }
                None => NO_TARGET,
            };
            insert.execute(named_params! {
                ":target": target,
                ":trace": document.trace,
                ":span": document.span_row,
                ":span_id": document.span_id as i64,
                ":own": document.feedback.is_own,
                ":time": nanos(document.feedback.submission.time_unix_nano),
            })?;
            self.written.documents += i64::from(document.feedback.is_counted());
        }
        Ok(())
    }

    /// The row of a target, a new one if there is none.
    fn target(&mut self, key: TargetKey, is_own: bool) -> Result<i64> {
        let TargetKey { trace, span, session } = key;
        let found = self
            .transaction
            .prepare_cached(
                "SELECT id FROM targets WHERE trace = ?1 AND span = ?2 AND session = ?3",
            )?
            .query_row([trace, span, session], |row| row.get("id"))
            .optional()?;
        if let Some(id) = found {
            return Ok(id);
        }
        let arrived = is_own || span == 0 || self.has_arrived(trace, span)?;
        self.transaction
            .prepare_cached(
                "INSERT INTO targets (trace, span, session, arrived, changed)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![trace, span, session, arrived, self.change])?;
        let id = self.transaction.last_insert_rowid();
        if !arrived {
            self.add_unmatched(trace, 1)?;
        }
        self.refolds.insert(id, PendingRefold::of_new(key));
        Ok(id)
    }

    /// Matches targets with spans that have arrived since, and folds targets again whose span was
    /// replaced.
    pub(super) fn match_targets(&mut self) -> Result<()> {
        let mut find = self.transaction.prepare_cached(
            "SELECT id, arrived FROM targets WHERE trace = ?1 AND span = ?2 AND session = 0",
        )?;
        let mut update = self
            .transaction
            .prepare_cached("UPDATE targets SET arrived = :arrived WHERE id = :id")?;
        let mut seen = HashSet::new();
        for (trace, span) in std::mem::take(&mut self.arrived) {
            if !seen.insert((trace, span)) {
                continue;
            }
            let found = find
                .query_row([trace, span], |row| Ok((row.get("id")?, row.get("arrived")?)))
                .optional()?;
            let Some((target, had_arrived)): Option<(i64, bool)> = found else { continue };
            self.refolds.entry(target).or_default().reload();
            let arrived = self.has_arrived(trace, span)?;
            if arrived != had_arrived {
                update.execute(named_params! { ":id": target, ":arrived": arrived })?;
                self.add_unmatched(trace, if arrived { -1 } else { 1 })?;
            }
        }
        Ok(())
    }

    /// Whether a target's span is stored. A carrier is never a target.
    fn has_arrived(&self, trace: i64, span: i64) -> Result<bool> {
        let sql = "SELECT 1 FROM spans WHERE trace = ?1 AND span = ?2 AND flags & 1 = 0";
        Ok(self.transaction.prepare_cached(sql)?.exists([trace, span])?)
    }

    fn add_unmatched(&self, trace: i64, by: i64) -> Result<()> {
        let sql = "UPDATE traces SET waiting = waiting + ?2 WHERE id = ?1";
        self.transaction.prepare_cached(sql)?.execute([trace, by])?;
        Ok(())
    }
}

/// In `documents.target`: feedback without a trace or session id.
const NO_TARGET: i64 = 0;
