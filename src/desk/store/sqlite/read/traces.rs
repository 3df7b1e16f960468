//! The list of traces.

use rusqlite::{Connection, params};

use super::super::{Result, stored};
use super::bits::Bits;
use super::field::{self, Field};
use super::narrow::Narrowed;
use super::paging;
use super::{asked, resource_text, span_id};
use crate::desk::query::datum::Kind;
use crate::desk::query::time::millis;
use crate::desk::query::{Clock, Narrow, Page, TraceQuery};
use crate::desk::store::json::{datum_json, hex};
use crate::desk::store::view::{List, Said, TraceRow};

/// What is shown of a trace's feedback in a row.
const MOST_SAID: usize = 50;

pub(super) fn traces(connection: &Connection, query: &TraceQuery) -> Result<List<TraceRow>> {
    let TraceQuery { narrow, of, page } = query;
    let clock = of.as_ref().map_or(Clock::Start, |(_, clock)| *clock);
    let of_targets = clock.of_targets(narrow.range);
    let mut narrowed = Narrowed::new(connection, &narrow.filter, of_targets)?;
    let (ids, total, next) = match of {
        None => listed(connection, narrow, page, narrowed.is_open(), |id| narrowed.trace(id))?,
        Some((field, clock)) => {
            narrowed.with_session_targets()?;
            let with = with_value(connection, narrow, &narrowed, field, *clock)?;
            let all = Narrow::default(); // the range has been about the values
            listed(connection, &all, page, false, |id| with.get(id))?
        }
    };
    let rows = ids.into_iter().map(|id| row(connection, id)).collect::<Result<_>>()?;
    Ok(List { rows, total: Some(total), next })
}

/// A page of the traces that are in, and how many there are.
fn listed(
    connection: &Connection,
    narrow: &Narrow,
    page: &Page,
    is_open: bool,
    is_in: impl Fn(i64) -> bool,
) -> Result<(Vec<i64>, u64, Option<String>)> {
    let range = [narrow.range.first(), narrow.range.end()];
    let total = if is_open {
        let sql = "SELECT count(*) FROM traces
                   WHERE start IS NOT NULL AND start >= ?1 AND start < ?2";
        Some(connection.prepare_cached(sql)?.query_row(range, |row| row.get::<_, i64>(0))?)
    } else {
        None
    };
    let sql = "SELECT start, id FROM traces WHERE start IS NOT NULL AND start >= ?1 AND start < ?2
               ORDER BY start DESC, id DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(range)?;
    paging::of_rows(&mut rows, page, total.map(i64::unsigned_abs), is_in)
}

/// The traces with a value of a field that a chart would count.
fn with_value(
    connection: &Connection,
    narrow: &Narrow,
    narrowed: &Narrowed<'_>,
    name: &str,
    clock: Clock,
) -> Result<Bits> {
    let mut with = Bits::default();
    let field = match Field::of(connection, name)? {
        Field::Leaf(Some(field)) => field,
        Field::Leaf(None) => return Ok(with),
        _ => return asked(format!("`{name}` is no field of what was said")),
    };
    let kind = Kind::most_frequent(field::counts(connection, field)?);
    let sql = "SELECT l.target, l.trace, l.resource, l.time, l.given, l.type, l.value, t.session
               FROM leaves l LEFT JOIN targets t ON l.trace = 0 AND t.id = l.target
               WHERE l.field = ?1 AND l.time >= ?2 AND l.time < ?3";
    let of_targets = clock.of_targets(narrow.range);
    let bounds = [field, of_targets.first(), of_targets.end()];
    let mut of_session = connection.prepare_cached("SELECT id FROM traces WHERE session = ?1")?;
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(bounds)?;
    while let Some(row) = rows.next()? {
        let time = if clock == Clock::Start { row.get(3)? } else { row.get(4)? };
        let trace: i64 = row.get(1)?;
        if !narrow.range.holds(time)
            || stored::datum(row, 5, 6)?.kind() != kind
            || !narrowed.target(row.get(0)?, trace, row.get(2)?)
        {
            continue;
        }
        if trace != 0 {
            with.set(trace);
        } else {
            let mut traces = of_session.query([row.get::<_, Option<i64>>(7)?])?;
            while let Some(row) = traces.next()? {
                with.set(row.get(0)?);
            }
        }
    }
    Ok(with)
}

/// One row of the list.
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
pub(super) fn said(connection: &Connection, trace: i64, session: i64) -> Result<Vec<Said>> {
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
        said.push(Said {
            field: row.get(0)?,
            kind: datum.kind(),
            value: datum_json(datum),
            given: millis(row.get(3)?),
            span_id: (span != 0).then(|| span_id(span)),
        });
    }
    Ok(said)
}
