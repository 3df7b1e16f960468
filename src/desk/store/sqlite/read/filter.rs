//! Filters over stored feedback.
//!
//! Each condition becomes a few bit sets of row numbers, by reading the leaves of one field. The nearest
//! value decides: that of a span itself, else any in its trace, else that of its session. A trace matches
//! if any of its spans does, a session if itself or any of its traces does.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::super::{Result, stored};
use super::attributes::{AttributeScan, ModelScan, each_tokens};
use super::bits::Bits;
use super::field::Field;
use super::that_came;
use crate::desk::answer::field::AnswerField;
use crate::desk::query::Range;
use crate::desk::query::datum::Datum;
use crate::desk::query::filter::{Condition, Filter, Operand, Operator, Subject};
use crate::desk::query::property::Property;
use crate::desk::store::json::trace_id_of;

/// A filter that was looked up.
pub(super) struct FilterSets<'c> {
    connection: &'c Connection,
    conditions: Vec<ConditionSets>,
    /// Of targets that are sessions, their sessions.
    session_of: HashMap<i64, i64>,
}

/// Where one condition holds.
#[derive(Default)]
struct ConditionSets {
    negated: bool,
    /// Whether only a value of the target itself counts, not that of its trace or session.
    is_of_row: bool,
    /// Targets that have a value of their own, and those whose value fits.
    target_has: Bits,
    target_fits: Bits,
    /// For attributes of resources: those that fit.
    resource_fits: Option<Bits>,
    trace_has: Bits,
    trace_fits: Bits,
    session_has: Bits,
    session_fits: Bits,
}

impl<'c> FilterSets<'c> {
    /// The range only bounds what has to be looked through.
    pub(super) fn new(connection: &'c Connection, filter: &Filter, range: Range) -> Result<Self> {
        let mut filter_sets =
            Self { connection, conditions: Vec::new(), session_of: HashMap::new() };
        if filter.conditions.is_empty() {
            return Ok(filter_sets);
        }
        let sql = "SELECT id, session FROM targets WHERE trace = 0 AND span = 0";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            filter_sets.session_of.insert(row.get(0)?, row.get(1)?);
        }
        for condition in &filter.conditions {
            let condition_sets = filter_sets.condition_sets(condition, range)?;
            filter_sets.conditions.push(condition_sets);
        }
        Ok(filter_sets)
    }

    /// Whether everything is in.
    pub(super) fn is_open(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether a target is in: its row, that of its trace (0 for a session), that of its resource
    /// (0 if it has not come).
    pub(super) fn target(&self, target: i64, trace: i64, resource: i64) -> bool {
        self.conditions.iter().all(|condition_sets| {
            let fits = if condition_sets.target_has.get(target) {
                condition_sets.target_fits.get(target)
            } else if condition_sets.is_of_row {
                false
            } else if let (Some(fits), true) = (&condition_sets.resource_fits, resource != 0) {
                fits.get(resource)
            } else if trace != 0 {
                condition_sets.trace_fits.get(trace)
            } else {
                let session = self.session_of.get(&target).copied().unwrap_or(0);
                condition_sets.session_fits.get(session)
            };
            fits != condition_sets.negated
        })
    }

    pub(super) fn trace(&self, trace: i64) -> bool {
        self.conditions
            .iter()
            .all(|condition_sets| condition_sets.trace_fits.get(trace) != condition_sets.negated)
    }

    /// How many traces with a received span are in.
    pub(super) fn count_traces(&self) -> Result<u64> {
        let mut out = Bits::default();
        let mut fitting: Option<Bits> = None;
        for condition_sets in &self.conditions {
            match &mut fitting {
                _ if condition_sets.negated => out.add(&condition_sets.trace_fits),
                Some(fitting) => fitting.retain(&condition_sets.trace_fits),
                None => fitting = Some(condition_sets.trace_fits.clone()),
            }
        }
        let without_span = self.without_span()?;
        Ok(match fitting {
            Some(mut fitting) => {
                fitting.remove(&out);
                fitting.remove(&without_span);
                fitting.count()
            }
            None => {
                out.remove(&without_span);
                that_came(self.connection)?.unsigned_abs().saturating_sub(out.count())
            }
        })
    }

    /// The traces of which no span was received: they have nothing but feedback, in them or about them.
    fn without_span(&self) -> Result<Bits> {
        let sql = "SELECT id FROM traces WHERE start IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut found = Bits::default();
        while let Some(row) = rows.next()? {
            found.set(row.get(0)?);
        }
        Ok(found)
    }

    /// Only after [`Self::with_sessions`].
    pub(super) fn session(&self, session: i64) -> bool {
        self.conditions.iter().all(|condition_sets| {
            condition_sets.session_fits.get(session) != condition_sets.negated
        })
    }

    /// Makes [`Self::target`] ask for feedback and metrics of the target itself: for rows that show them.
    pub(super) fn of_rows(mut self, filter: &Filter) -> Self {
        for (condition_sets, condition) in self.conditions.iter_mut().zip(&filter.conditions) {
            // Every row has feedback, which is looked up for traces and sessions only.
            let is_has = matches!(condition, Condition::Has { subject: Subject::Feedback, .. });
            condition_sets.is_of_row = condition.is_of_row() && !is_has;
        }
        self
    }

    /// Makes sessions match by their traces, if there is any feedback about sessions.
    pub(super) fn with_session_targets(&mut self) -> Result<()> {
        if self.session_of.is_empty() { Ok(()) } else { self.with_sessions() }
    }

    /// Makes sessions match by their traces, by reading each trace that has a session.
    pub(super) fn with_sessions(&mut self) -> Result<()> {
        if self.conditions.is_empty() {
            return Ok(());
        }
        let sql = "SELECT session, id FROM traces WHERE session IS NOT NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (session, trace) = (row.get(0)?, row.get(1)?);
            for condition_sets in &mut self.conditions {
                if condition_sets.trace_fits.get(trace) {
                    condition_sets.session_fits.set(session);
                }
            }
        }
        Ok(())
    }

    fn condition_sets(&self, condition: &Condition, range: Range) -> Result<ConditionSets> {
        let mut condition_sets = ConditionSets::default();
        match condition {
            Condition::Has { subject, negated } => {
                condition_sets.negated = *negated;
                match subject {
                    Subject::Feedback => self.has_feedback(&mut condition_sets)?,
                    Subject::GroundTruth => {
                        for field in self.leaves_at_or_under("feedback.ground_truth")? {
                            self.leaf(&mut condition_sets, field, |_| true)?;
                        }
                    }
                    Subject::Field(name) => {
                        self.compare(&mut condition_sets, name, range, |_| true)?
                    }
                }
            }
            Condition::Compare { field, operator, value } => {
                condition_sets.negated = *operator == Operator::IsNot;
                if *operator == Operator::Is
                    && let Some(trace) = self.known_trace(field, value)?
                {
                    trace.into_iter().for_each(|trace| condition_sets.trace_fits.set(trace));
                } else {
                    self.compare(&mut condition_sets, field, range, |datum| {
                        operator.fits(datum, value)
                    })?;
                }
            }
        }
        self.traces_of_sessions(&mut condition_sets)?;
        Ok(condition_sets)
    }

    fn compare(
        &self,
        condition_sets: &mut ConditionSets,
        name: &str,
        range: Range,
        fits: impl Fn(Datum<'_>) -> bool,
    ) -> Result<()> {
        match Field::of(self.connection, name)? {
            Field::Leaf(None) => Ok(()),
            Field::Leaf(Some(field)) => self.leaf(condition_sets, field, fits),
            Field::Resource => self.resource(condition_sets, name, fits),
            Field::Trace(property) => self.property(condition_sets, property, fits),
            Field::Answer(AnswerField::Model) => {
                ModelScan::new(self.connection, range)?.each(|trace, _, model| {
                    if fits(model) {
                        condition_sets.trace_fits.set(trace);
                    }
                })
            }
            Field::Answer(AnswerField::Tokens(count)) => {
                each_tokens(self.connection, range, |trace, tokens| {
                    if count.of(tokens).is_some_and(|tokens| fits(Datum::Int(tokens))) {
                        condition_sets.trace_fits.set(trace);
                    }
                })
            }
            Field::Attribute => {
                AttributeScan::new(self.connection, name, range)?.each(|trace, _, value| {
                    if fits(value) {
                        condition_sets.trace_fits.set(trace);
                    }
                })
            }
        }
    }

    fn leaf(
        &self,
        condition_sets: &mut ConditionSets,
        field: i64,
        fits: impl Fn(Datum<'_>) -> bool,
    ) -> Result<()> {
        let sql = "SELECT target, trace, type, value FROM leaves WHERE field = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([field])?;
        while let Some(row) = rows.next()? {
            let (target, trace) = (row.get(0)?, row.get(1)?);
            let fits = fits(stored::datum(row, 2, 3)?);
            condition_sets.target_has.set(target);
            if fits {
                condition_sets.target_fits.set(target);
            }
            let (has, fit, id) = if trace != 0 {
                (&mut condition_sets.trace_has, &mut condition_sets.trace_fits, trace)
            } else {
                let session = self.session_of.get(&target).copied().unwrap_or(0);
                (&mut condition_sets.session_has, &mut condition_sets.session_fits, session)
            };
            has.set(id);
            if fits {
                fit.set(id);
            }
        }
        Ok(())
    }

    fn resource(
        &self,
        condition_sets: &mut ConditionSets,
        key: &str,
        fits: impl Fn(Datum<'_>) -> bool,
    ) -> Result<()> {
        let sql = "SELECT resource, text FROM resource_texts WHERE key = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([key])?;
        let mut found = Bits::default();
        while let Some(row) = rows.next()? {
            let text = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            if fits(Datum::Text(text)) {
                found.set(row.get(0)?);
            }
        }
        let mut traces = self
            .connection
            .prepare_cached("SELECT trace FROM trace_resources WHERE resource = ?1")?;
        for resource in found.iter() {
            let mut rows = traces.query([resource])?;
            while let Some(row) = rows.next()? {
                condition_sets.trace_fits.set(row.get(0)?);
            }
        }
        condition_sets.resource_fits = Some(found);
        Ok(())
    }

    fn property(
        &self,
        condition_sets: &mut ConditionSets,
        property: Property,
        fits: impl Fn(Datum<'_>) -> bool,
    ) -> Result<()> {
        if property == Property::SessionId {
            let mut statement = self.connection.prepare_cached("SELECT id, name FROM sessions")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let id = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
                if fits(Datum::Text(id)) {
                    condition_sets.session_has.set(row.get(0)?);
                    condition_sets.session_fits.set(row.get(0)?);
                }
            }
            return Ok(());
        }
        let sql = match property {
            Property::Name => return self.name(condition_sets, fits),
            Property::Duration => "SELECT id, finish - start FROM traces WHERE start IS NOT NULL",
            Property::Status => {
                "SELECT id, iif(errors > 0, 'error', 'ok') FROM traces WHERE start IS NOT NULL"
            }
            Property::TraceId | Property::SessionId => {
                "SELECT id, lower(hex(trace_id)) FROM traces WHERE start IS NOT NULL"
            }
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let fits = match row.get_ref(1)? {
                rusqlite::types::ValueRef::Integer(nanos) => {
                    fits(Datum::Double(nanos as f64 / 1e6))
                }
                value => fits(Datum::Text(value.as_str().map_err(rusqlite::Error::from)?)),
            };
            if fits {
                condition_sets.trace_fits.set(row.get(0)?);
            }
        }
        Ok(())
    }

    /// Compares each name once, however many traces have it.
    fn name(
        &self,
        condition_sets: &mut ConditionSets,
        fits: impl Fn(Datum<'_>) -> bool,
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached("SELECT id, name FROM names")?;
        let mut rows = statement.query([])?;
        let mut found = Bits::default();
        while let Some(row) = rows.next()? {
            let name = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            if fits(Datum::Text(name)) {
                found.set(row.get(0)?);
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let sql = "SELECT id, root_name FROM traces WHERE root_name IS NOT NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if found.get(row.get(1)?) {
                condition_sets.trace_fits.set(row.get(0)?);
            }
        }
        Ok(())
    }

    /// `trace_id is …` needs no look at all of them.
    fn known_trace(&self, field: &str, value: &Operand) -> Result<Option<Option<i64>>> {
        if field != "trace_id" {
            return Ok(None);
        }
        let Some(id) = trace_id_of(value.text()) else { return Ok(Some(None)) };
        let mut statement =
            self.connection.prepare_cached("SELECT id FROM traces WHERE trace_id = ?1")?;
        Ok(Some(statement.query_row([id.as_slice()], |row| row.get(0)).optional()?))
    }

    fn has_feedback(&self, condition_sets: &mut ConditionSets) -> Result<()> {
        let sql = "SELECT id FROM traces WHERE feedback > 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            condition_sets.trace_has.set(row.get(0)?);
            condition_sets.trace_fits.set(row.get(0)?);
        }
        let sql = "SELECT t.session FROM targets t WHERE t.trace = 0 AND t.span = 0 AND EXISTS (
                       SELECT 1 FROM leaves l JOIN fields f ON f.id = l.field
                       WHERE l.target = t.id AND f.key GLOB 'feedback.*')";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // Not `session_has`: a trace has no feedback because its session has some.
            condition_sets.session_fits.set(row.get(0)?);
        }
        Ok(())
    }

    fn leaves_at_or_under(&self, key: &str) -> Result<Vec<i64>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id FROM fields WHERE key = ?1 OR key GLOB ?1 || '.*'")?;
        let found = statement.query_map([key], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Feedback about a session counts for its traces without feedback of their own.
    fn traces_of_sessions(&self, condition_sets: &mut ConditionSets) -> Result<()> {
        if condition_sets.session_has.is_empty() {
            return Ok(());
        }
        let sql = "SELECT id FROM traces WHERE session = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        for session in condition_sets.session_has.iter() {
            if !condition_sets.session_fits.get(session) {
                continue;
            }
            let mut rows = statement.query([session])?;
            while let Some(row) = rows.next()? {
                let trace = row.get(0)?;
                if !condition_sets.trace_has.get(trace) {
                    condition_sets.trace_fits.set(trace);
                }
            }
        }
        Ok(())
    }
}
