//! The list of traces, and what stands around one of it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Result, stored};
use super::bits::Bits;
use super::field::{self, Field};
use super::filter::FilterSets;
use super::{asked, resource_text, span_id};
use crate::desk::query::datum::ValueKind;
use crate::desk::query::time::millis;
use crate::desk::query::{Cursor, Range, TimeBasis, TraceQuery};
use crate::desk::store::json::{datum_json, hex};
use crate::desk::store::view::{LeafView, List, Neighbours, TraceRow};

/// What is shown of a trace's feedback in a row.
const MOST_SAID: usize = 50;

pub(super) fn traces(connection: &Connection, query: &TraceQuery) -> Result<List<TraceRow>> {
    let listing = Listing::of(connection, query)?;
    let total = listing.counted()?;
    let page = &query.page;
    let (mut chosen, mut count, mut next) = (Vec::new(), 0_u64, None);
    listing.each(|at| {
        count += 1;
        if page.after.is_some_and(|after| at >= after) {
            return ControlFlow::Continue(());
        }
        if chosen.len() < page.limit {
            chosen.push(at);
            let is_last = total == Some(count);
            return if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
        if next.is_none() {
            next = chosen.last().map(Cursor::to_string);
        }
        // It goes on for the count alone.
        if total.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let rows = chosen
        .into_iter()
        .map(|at| Ok(TraceRow { start: millis(at.time), ..row(connection, at.id)? }))
        .collect::<Result<_>>()?;
    Ok(List { rows, total: Some(total.unwrap_or(count)), next })
}

/// Which traces stand around one in a list.
pub(super) fn neighbours(
    connection: &Connection,
    trace_id: [u8; 16],
    query: &TraceQuery,
) -> Result<Neighbours> {
    let listing = Listing::of(connection, query)?;
    let total = listing.counted()?;
    let place = listing.place(trace_id)?;
    let (mut count, mut position) = (0_u64, None);
    let (mut newer, mut older) = (None, None);
    listing.each(|at| {
        count += 1;
        match place.map(|place| at.cmp(&place)) {
            Some(Ordering::Greater) => newer = Some(at.id),
            Some(Ordering::Equal) => position = Some(count),
            Some(Ordering::Less) if older.is_none() => older = Some(at.id),
            _ => {}
        }
        let is_found = place.is_none() || older.is_some();
        if total.is_some() && is_found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let name = |id: Option<i64>| id.map(|id| trace_id_of_row(connection, id)).transpose();
    Ok(Neighbours {
        newer: name(newer)?,
        older: name(older)?,
        position,
        total: total.unwrap_or(count),
    })
}

/// The traces of a list, in their order.
struct Listing<'c> {
    connection: &'c Connection,
    /// Within which they begin.
    range: Range,
    members: Members<'c>,
    /// Traces without a received span, at the time of their value, the latest first.
    unmatched: Vec<Cursor>,
}

/// The traces with a received span that are in the list.
enum Members<'c> {
    Fitting(FilterSets<'c>),
    Found(Bits),
}

impl<'c> Listing<'c> {
    fn of(connection: &'c Connection, query: &TraceQuery) -> Result<Self> {
        let TraceQuery { selection, of, .. } = query;
        let basis = of.as_ref().map_or(TimeBasis::Start, |(_, basis)| *basis);
        let of_targets = basis.of_targets(selection.range);
        let mut filter_sets = FilterSets::new(connection, &selection.filter, of_targets)?;
        let Some((field, basis)) = of else {
            let (range, members) = (selection.range, Members::Fitting(filter_sets));
            return Ok(Self { connection, range, members, unmatched: Vec::new() });
        };
        filter_sets.with_session_targets()?;
        let (found, unmatched) =
            with_value(connection, selection.range, &filter_sets, field, *basis)?;
        let mut unmatched: Vec<_> =
            unmatched.into_iter().map(|(id, time)| Cursor { time, id }).collect();
        unmatched.sort_unstable_by(|a, b| b.cmp(a));
        // The range has been about the values.
        Ok(Self { connection, range: Range::default(), members: Members::Found(found), unmatched })
    }

    /// How many there are, where that takes no look at each.
    fn counted(&self) -> Result<Option<u64>> {
        match &self.members {
            Members::Fitting(filter_sets) if filter_sets.is_open() => {}
            // The sets of a filter have no times, so within a range each trace is looked at.
            _ if self.range != Range::default() => return Ok(None),
            Members::Fitting(filter_sets) => return Ok(Some(filter_sets.count_traces()?)),
            Members::Found(found) => {
                return Ok(Some(found.count() + self.unmatched.len() as u64));
            }
        }
        let sql = "SELECT count(*) FROM traces
                   WHERE start IS NOT NULL AND start >= ?1 AND start < ?2";
        let range = [self.range.first(), self.range.end()];
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(Some(statement.query_row(range, |row| row.get::<_, i64>(0))?.unsigned_abs()))
    }

    /// Calls `visit` with each trace, the latest first, until it returns `Break`.
    fn each(&self, mut visit: impl FnMut(Cursor) -> ControlFlow<()>) -> Result<()> {
        let sql = "SELECT start, id FROM traces
                   WHERE start IS NOT NULL AND start >= ?1 AND start < ?2
                   ORDER BY start DESC, id DESC";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([self.range.first(), self.range.end()])?;
        let mut unmatched = self.unmatched.iter().copied().peekable();
        while let Some(row) = rows.next()? {
            let at = Cursor { time: row.get(0)?, id: row.get(1)? };
            let is_in = match &self.members {
                Members::Fitting(filter_sets) => filter_sets.trace(at.id),
                Members::Found(found) => found.get(at.id),
            };
            if !is_in {
                continue;
            }
            while let Some(later) = unmatched.next_if(|unmatched| *unmatched > at) {
                if visit(later).is_break() {
                    return Ok(());
                }
            }
            if visit(at).is_break() {
                return Ok(());
            }
        }
        let _ = unmatched.try_for_each(visit); // a break has no effect here
        Ok(())
    }

    /// Where a trace stands in the order of the list, or would if it was in.
    fn place(&self, trace_id: [u8; 16]) -> Result<Option<Cursor>> {
        let sql = "SELECT id, start FROM traces WHERE trace_id = ?1";
        let found: Option<(i64, Option<i64>)> = self
            .connection
            .prepare_cached(sql)?
            .query_row([trace_id.as_slice()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(found.and_then(|(id, start)| match start {
            Some(time) => Some(Cursor { time, id }),
            None => self.unmatched.iter().copied().find(|unmatched| unmatched.id == id),
        }))
    }
}

/// The traces with a value of a field that a chart counts: those with a received span, and the others with
/// the time of their first value.
fn with_value(
    connection: &Connection,
    range: Range,
    filter_sets: &FilterSets<'_>,
    name: &str,
    basis: TimeBasis,
) -> Result<(Bits, HashMap<i64, i64>)> {
    let (mut with, mut waiting) = (Bits::default(), HashMap::new());
    let field = match Field::of(connection, name)? {
        Field::Leaf(Some(field)) => field,
        Field::Leaf(None) => return Ok((with, waiting)),
        _ => return asked(format!("`{name}` is not a field of feedback or metrics")),
    };
    let kind = ValueKind::most_frequent(field::counts(connection, field)?);
    let sql = "SELECT l.target, l.trace, l.resource, l.time, l.given, l.type, l.value, t.session
               FROM leaves l LEFT JOIN targets t ON l.trace = 0 AND t.id = l.target
               WHERE l.field = ?1 AND l.time >= ?2 AND l.time < ?3";
    let of_targets = basis.of_targets(range);
    let bounds = [field, of_targets.first(), of_targets.end()];
    let mut of_session = connection.prepare_cached("SELECT id FROM traces WHERE session = ?1")?;
    let mut has_come =
        connection.prepare_cached("SELECT start IS NOT NULL FROM traces WHERE id = ?1")?;
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(bounds)?;
    while let Some(row) = rows.next()? {
        let (start, given): (i64, i64) = (row.get(3)?, row.get(4)?);
        let time = if basis == TimeBasis::Start { start } else { given };
        let (trace, resource): (i64, i64) = (row.get(1)?, row.get(2)?);
        if !range.holds(time)
            || stored::datum(row, 5, 6)?.kind() != kind
            || !filter_sets.target(row.get(0)?, trace, resource)
        {
            continue;
        }
        if trace == 0 {
            let mut traces = of_session.query([row.get::<_, Option<i64>>(7)?])?;
            while let Some(row) = traces.next()? {
                with.set(row.get(0)?);
            }
        } else if resource != 0 || has_come.query_row([trace], |row| row.get(0))? {
            // A received target has a resource, and its trace has a received span.
            with.set(trace);
        } else {
            waiting.entry(trace).and_modify(|first| *first = time.min(*first)).or_insert(time);
        }
    }
    Ok((with, waiting))
}

fn trace_id_of_row(connection: &Connection, id: i64) -> Result<String> {
    let mut statement = connection.prepare_cached("SELECT trace_id FROM traces WHERE id = ?1")?;
    Ok(statement.query_row([id], |row| Ok(hex(row.get_ref(0)?.as_blob()?)))?)
}

/// One row of the list. Its start is 0 if no span of the trace was received.
pub(super) fn row(connection: &Connection, id: i64) -> Result<TraceRow> {
    let mut statement = connection.prepare_cached(
        "SELECT t.trace_id, n.name, t.start, t.finish, t.spans, t.errors, s.name, t.root_resource,
                t.feedback
         FROM traces t LEFT JOIN names n ON n.id = t.root_name
         LEFT JOIN sessions s ON s.id = t.session WHERE t.id = ?1",
    )?;
    let (mut view, resource, has_feedback) = statement.query_row([id], |row| {
        let (start, finish): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
        let view = TraceRow {
            trace_id: hex(row.get_ref(0)?.as_blob()?),
            name: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
            service: None,
            version: None,
            start: millis(start.unwrap_or(0)),
            duration_ms: duration(start, finish),
            spans: row.get(4)?,
            errors: row.get(5)?,
            session_id: row.get(6)?,
            feedback: Vec::new(),
        };
        Ok((view, row.get::<_, Option<i64>>(7)?.unwrap_or(0), row.get::<_, i64>(8)? > 0))
    })?;
    view.service = resource_text(connection, "service.name", resource)?;
    view.version = resource_text(connection, "service.version", resource)?;
    if has_feedback {
        view.feedback = said(connection, id, 0)?;
    }
    Ok(view)
}

/// In milliseconds.
pub(super) fn duration(start: Option<i64>, finish: Option<i64>) -> f64 {
    start.zip(finish).map_or(0.0, |(start, finish)| millis(finish.saturating_sub(start)))
}

/// The feedback in a trace, or about a session.
pub(super) fn said(connection: &Connection, trace: i64, session: i64) -> Result<Vec<LeafView>> {
    let mut statement = connection.prepare_cached(
        "SELECT f.key, l.type, l.value, l.given, t.span
         FROM targets t JOIN leaves l ON l.target = t.id JOIN fields f ON f.id = l.field
         WHERE t.trace = ?1 AND t.session = ?2 AND f.key GLOB 'feedback.*'
         ORDER BY l.time, t.span, f.key LIMIT ?3",
    )?;
    let mut rows = statement.query(params![trace, session, MOST_SAID as i64])?;
    let mut said = Vec::new();
    while let Some(row) = rows.next()? {
        let datum = stored::datum(row, 1, 2)?;
        let span: i64 = row.get(4)?;
        said.push(LeafView {
            field: row.get(0)?,
            kind: datum.kind(),
            value: datum_json(datum),
            given: millis(row.get(3)?),
            span_id: (span != 0).then(|| span_id(span)),
        });
    }
    Ok(said)
}
