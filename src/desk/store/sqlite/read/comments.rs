//! Comments, the data set, and what waits for its target: lists of targets with what they are about.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use serde_json::Map;

use super::super::Result;
use super::super::stored;
use super::field::Field;
use super::filter::FilterSets;
use super::paging;
use super::{asked, documents, resource_text, span_id};
use crate::desk::answer::{Answer, MOST_SPANS, SpanAnswer, in_trace};
use crate::desk::query::datum::Datum;
use crate::desk::query::filter::contains;
use crate::desk::query::time::millis;
use crate::desk::query::{Cursor, Page, Selection};
use crate::desk::store::dataset::{self, Texts, put, put_answer};
use crate::desk::store::json::{datum_json, hex};
use crate::desk::store::view::{CommentRow, DatasetRow, LeafView, List, UnmatchedRow};

pub(super) fn comments(
    connection: &Connection,
    name: &str,
    search: &str,
    selection: &Selection,
    page: &Page,
) -> Result<List<CommentRow>> {
    let field = match Field::of(connection, name)? {
        Field::Leaf(field) => field,
        _ => return asked(format!("`{name}` is not a field of feedback or metrics")),
    };
    let Some(field) = field else {
        return Ok(List { rows: Vec::new(), total: Some(0), next: None });
    };
    let search = search.to_lowercase();
    let mut filter_sets = FilterSets::new(connection, &selection.filter, selection.range)?;
    filter_sets.with_session_targets()?;
    let sql = "SELECT target, trace, resource, given, type, value FROM leaves
               WHERE field = ?1 AND time >= ?2 AND time < ?3 AND type = 3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([field, selection.range.first(), selection.range.end()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (target, trace, resource) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Datum::Text(text) = stored::datum(row, 4, 5)?
            && contains(text, &search)
            && filter_sets.target(target, trace, resource)
        {
            found.push(Cursor { time: row.get(3)?, id: target });
        }
    }
    let (chosen, total, next) = paging::of_found(found, page);
    let key: String = connection
        .prepare_cached("SELECT key FROM fields WHERE id = ?1")?
        .query_row([field], |row| row.get(0))?;
    let sql = "SELECT value FROM leaves WHERE target = ?1 AND field = ?2";
    let mut text = connection.prepare_cached(sql)?;
    let mut rows = Vec::with_capacity(chosen.len());
    for Cursor { time, id } in chosen {
        rows.push(CommentRow {
            field: name.to_owned(),
            text: text.query_row([id, field], |row| row.get(0))?,
            given: millis(time),
            by: documents::giver(connection, id, &key)?,
            about: about(connection, id)?,
        });
    }
    Ok(List { rows, total: Some(total), next })
}

pub(super) fn dataset(
    connection: &Connection,
    selection: &Selection,
    page: &Page,
) -> Result<List<DatasetRow>> {
    let mut filter_sets =
        FilterSets::new(connection, &selection.filter, selection.range)?.of_rows(&selection.filter);
    filter_sets.with_session_targets()?;
    let sql = "SELECT l.target, l.trace, l.resource, l.time
               FROM fields f CROSS JOIN leaves l ON l.field = f.id
               WHERE f.key GLOB 'feedback.*' AND l.time >= ?1 AND l.time < ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([selection.range.first(), selection.range.end()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let target = row.get(0)?;
        if filter_sets.target(target, row.get(1)?, row.get(2)?) {
            found.push(Cursor { time: row.get(3)?, id: target });
        }
    }
    let (chosen, total, next) = paging::of_found(found, page);
    let rows = chosen.into_iter().map(|at| about(connection, at.id)).collect::<Result<_>>()?;
    Ok(List { rows, total: Some(total), next })
}

/// A target with input, output, ground truth and feedback.
pub(super) fn about(connection: &Connection, target: i64) -> Result<DatasetRow> {
    let (trace, span, trace_id, session_id) = connection
        .prepare_cached(
            "SELECT g.trace, g.span, t.trace_id, s.name FROM targets g
             LEFT JOIN traces t ON t.id = g.trace
             LEFT JOIN sessions s ON s.id = iif(g.session != 0, g.session, t.session)
             WHERE g.id = ?1",
        )?
        .query_row([target], |row| {
            let trace_id = row.get::<_, Option<Vec<u8>>>(2)?;
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, trace_id, row.get(3)?))
        })?;
    let mut row = DatasetRow {
        trace_id: trace_id.as_deref().map(hex),
        span_id: (span != 0).then(|| span_id(span)),
        session_id,
        ..dataset::empty()
    };
    let mut texts = Texts::default();
    let resource = leaves(connection, target, &mut row, &mut texts)?;
    if trace != 0 {
        row.name = if span != 0 {
            connection
                .prepare_cached(
                    "SELECT n.name FROM spans s JOIN names n ON n.id = s.name
                     WHERE s.trace = ?1 AND s.span = ?2",
                )?
                .query_row([trace, span], |row| row.get(0))
                .optional()?
        } else {
            connection
                .prepare_cached(
                    "SELECT n.name FROM traces t JOIN names n ON n.id = t.root_name WHERE t.id = ?1",
                )?
                .query_row([trace], |row| row.get(0))
                .optional()?
        };
        if texts.iter().any(Map::is_empty) {
            of_trace(connection, trace, &mut texts)?;
        }
    }
    row.service = resource_text(connection, "service.name", resource)?;
    let answer = (trace != 0).then(|| answer(connection, trace, span)).transpose()?;
    put_answer(&mut row, texts, answer);
    Ok(row)
}

/// Sorts the leaves of a target into a row; returns its resource.
fn leaves(
    connection: &Connection,
    target: i64,
    row: &mut DatasetRow,
    texts: &mut Texts,
) -> Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT f.key, l.type, l.value, l.time, l.resource
         FROM leaves l JOIN fields f ON f.id = l.field WHERE l.target = ?1 ORDER BY f.key",
    )?;
    let mut rows = statement.query([target])?;
    let mut resource = 0;
    while let Some(found) = rows.next()? {
        let key = found.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let datum = stored::datum(found, 1, 2)?;
        row.start = millis(found.get(3)?);
        resource = found.get(4)?;
        put(row, texts, key, || datum.text(), datum_json(datum));
    }
    Ok(resource)
}

/// Inputs and outputs that were recorded elsewhere in the trace: of the first span that has any.
fn of_trace(connection: &Connection, trace: i64, texts: &mut Texts) -> Result<()> {
    let sql = "SELECT f.key, l.type, l.value, t.span FROM targets t
               JOIN leaves l ON l.target = t.id JOIN fields f ON f.id = l.field
               WHERE t.trace = ?1 AND f.key GLOB ?2 ORDER BY l.time, t.span, f.key";
    for (at, (prefix, pattern)) in
        [("inputs.", "inputs.*"), ("outputs.", "outputs.*")].into_iter().enumerate()
    {
        if !texts[at].is_empty() {
            continue;
        }
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query((trace, pattern))?;
        let mut first = None;
        while let Some(row) = rows.next()? {
            let span: i64 = row.get(3)?;
            if *first.get_or_insert(span) != span {
                break;
            }
            let key = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            let rest = key.strip_prefix(prefix).unwrap_or(key).to_owned();
            texts[at].insert(rest, datum_json(stored::datum(row, 1, 2)?));
        }
    }
    Ok(())
}

/// What the answer was, by the attributes of the target and of other spans of its trace.
fn answer(connection: &Connection, trace: i64, span: i64) -> Result<Answer> {
    let mut statement = connection.prepare_cached(
        "SELECT span, parent, body, start FROM spans
         WHERE trace = ?1 AND flags & 1 = 0
             AND (span = ?2 OR id IN (SELECT id FROM spans WHERE trace = ?1 AND flags & 1 = 0
                                      ORDER BY start, span LIMIT ?3))",
    )?;
    let mut rows = statement.query((trace, span, MOST_SPANS))?;
    let mut spans = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        let found = SpanAnswer {
            span: row.get::<_, i64>(0)? as u64,
            parent: row.get::<_, i64>(1)? as u64,
            answer: stored::answer(body)?,
        };
        spans.push((row.get::<_, i64>(3)?, found));
    }
    spans.sort_unstable_by_key(|(start, found)| (*start, found.span));
    let spans: Vec<_> = spans.into_iter().map(|(_, found)| found).collect();
    Ok(in_trace(&spans, (span != 0).then_some(span as u64)))
}

pub(super) fn unmatched(connection: &Connection, page: &Page) -> Result<List<UnmatchedRow>> {
    // By number: targets below zero are documents without any.
    let sql = "
        SELECT g.id, t.trace_id, g.span, (SELECT max(time) FROM documents WHERE target = g.id) AS at
        FROM targets g JOIN traces t ON t.id = g.trace
        WHERE g.arrived = 0 AND EXISTS (SELECT 1 FROM leaves l WHERE l.target = g.id)
        UNION ALL SELECT -d.id, NULL, 0, d.time FROM documents d WHERE d.target = 0";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let (mut found, mut about) = (Vec::new(), BTreeMap::new());
    while let Some(row) = rows.next()? {
        let at = Cursor { time: row.get::<_, Option<i64>>(3)?.unwrap_or(0), id: row.get(0)? };
        found.push(at);
        about.insert(at.id, (row.get::<_, Option<Vec<u8>>>(1)?, row.get::<_, i64>(2)?));
    }
    let (chosen, total, next) = paging::of_found(found, page);
    let mut rows = Vec::with_capacity(chosen.len());
    for Cursor { time, id } in chosen {
        let (trace_id, span) = about.remove(&id).unwrap_or_default();
        let (reason, said) = if id > 0 {
            ("its target has not come", said_about(connection, id)?)
        } else {
            ("it does not say what it is about", said_by(connection, -id)?)
        };
        rows.push(UnmatchedRow {
            reason,
            trace_id: trace_id.as_deref().map(hex),
            span_id: (span != 0).then(|| span_id(span)),
            given: millis(time),
            said,
        });
    }
    Ok(List { rows, total: Some(total), next })
}

fn said_about(connection: &Connection, target: i64) -> Result<Vec<LeafView>> {
    let document = documents::document(connection, target)?;
    Ok(document.namespaces.into_values().flatten().collect())
}

fn said_by(connection: &Connection, document: i64) -> Result<Vec<LeafView>> {
    let (said, _) = documents::feedback_after(connection, Some(document - 1), 1)?;
    Ok(said.into_iter().flat_map(|row| row.set).collect())
}
