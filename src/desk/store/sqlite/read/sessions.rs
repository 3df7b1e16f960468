//! Sessions: the list, and one with its traces.

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::super::Result;
use super::super::write::session_target;
use super::filter::FilterSets;
use super::{documents, paging, resource_text, traces};
use crate::desk::query::time::millis;
use crate::desk::query::{Page, Selection};
use crate::desk::store::view::{List, SessionRow, SessionView};

/// The traces of a session that are listed with it.
const MOST_TRACES: i64 = 500;

pub(super) fn sessions(
    connection: &Connection,
    selection: &Selection,
    page: &Page,
) -> Result<List<SessionRow>> {
    let mut filter_sets = FilterSets::new(connection, &selection.filter, selection.range)?;
    filter_sets.with_sessions()?;
    // One is in the range if any of it may be: it lasts from its first trace to its last.
    // Without an end the index has all that is asked for.
    let (is_before_end, end) = match selection.range.to {
        Some(end) => ("AND start < ?2", Some(end)),
        None => ("", None),
    };
    let sql = format!(
        "SELECT last, id FROM sessions WHERE last >= ?1 {is_before_end} ORDER BY last DESC, id DESC"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let bounds = [Some(selection.range.first()), end];
    let mut rows = statement.query(params_from_iter(bounds.into_iter().flatten()))?;
    let (ids, total, next) = paging::of_rows(&mut rows, page, |id| filter_sets.session(id))?;
    let rows = ids.into_iter().map(|id| row(connection, id)).collect::<Result<_>>()?;
    Ok(List { rows, total: Some(total), next })
}

pub(super) fn session(connection: &Connection, id: &str) -> Result<Option<SessionView>> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT id FROM sessions WHERE name = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(session) = found else { return Ok(None) };
    let target = session_target(connection, session)?;
    let row = row(connection, session)?;
    if row.traces == 0 && target.is_none() {
        return Ok(None);
    }
    let document = match target {
        Some(target) => Some(documents::document(connection, target)?),
        None => None,
    };
    let sql = "SELECT id FROM traces WHERE session = ?1 AND start IS NOT NULL
               ORDER BY start, id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let ids: Vec<i64> =
        statement.query_map([session, MOST_TRACES], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let list = ids.into_iter().map(|id| traces::row(connection, id)).collect::<Result<_>>()?;
    Ok(Some(SessionView { row, document, list }))
}

fn row(connection: &Connection, id: i64) -> Result<SessionRow> {
    let mut statement = connection.prepare_cached(
        "SELECT s.name, s.start, s.last, s.resource, count(t.id), count(nullif(t.feedback, 0)),
                coalesce(sum(t.feedback), 0), coalesce(sum(t.spans), 0), coalesce(sum(t.errors), 0)
         FROM sessions s LEFT JOIN traces t ON t.session = s.id AND t.start IS NOT NULL
         WHERE s.id = ?1",
    )?;
    let (mut view, resource) = statement.query_row([id], |row| {
        let view = SessionRow {
            session_id: row.get(0)?,
            service: None,
            start: row.get::<_, Option<i64>>(1)?.map(millis),
            last: row.get::<_, Option<i64>>(2)?.map(millis),
            traces: row.get(4)?,
            traces_with_feedback: row.get(5)?,
            feedback_leaves: row.get(6)?,
            spans: row.get(7)?,
            errors: row.get(8)?,
            feedback: Vec::new(),
        };
        Ok((view, row.get::<_, Option<i64>>(3)?.unwrap_or(0)))
    })?;
    view.service = resource_text(connection, "service.name", resource)?;
    view.feedback = traces::said(connection, 0, id)?;
    Ok(view)
}
