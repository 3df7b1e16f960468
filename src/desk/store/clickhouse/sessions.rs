//! Sessions: the list, and one of them.

use super::filter::{FilterContext, within};
use super::sql::{list, text};
use super::traces::{after, next};
use super::{ClickHouse, Result};
use crate::desk::query::time::millis;
use crate::desk::query::{Cursor, Page, Range, Selection};
use crate::desk::store::view::{List, SessionRow, SessionView};

/// The traces of a session that are listed with it.
const MOST_TRACES: usize = 500;

/// What a row of the list is made of.
#[derive(serde::Deserialize)]
struct SessionColumns {
    session_id: String,
    number: i64,
    start: i64,
    last: i64,
    resource: u64,
    traces: i64,
    spans: i64,
    errors: i64,
    with_feedback: i64,
    leaves: i64,
    total: u64,
}

impl ClickHouse {
    pub(super) fn list_sessions(
        &self,
        selection: &Selection,
        page: &Page,
    ) -> Result<List<SessionRow>> {
        let (relations, kinds) = (self.relations()?, self.kinds()?);
        let context = FilterContext { relations: &relations, kinds: &kinds };
        let filter_sql = self.filter_sql(&context, &selection.filter, selection.range)?;
        // Those that were going on in that time.
        let Range { from, to } = selection.range;
        let range = [(Range { from, to: None }, "x.last"), (Range { from: None, to }, "x.start")];
        let range = range.map(|(range, column)| within(range, column).to_string()).join(" AND ");
        let rows = self.session_rows(
            &format!("{range} AND {}", filter_sql.session()),
            &format!(
                "WHERE {} ORDER BY last DESC, number DESC LIMIT {}",
                after(page, "last", "number"),
                page.limit + 1
            ),
        )?;
        let total = rows.first().map_or(0, |row| row.total);
        let next = next(&rows, page, |row| Cursor { time: row.last, id: row.number });
        let rows = rows.into_iter().take(page.limit).collect();
        Ok(List { rows: self.session_views(rows)?, total: Some(total), next })
    }

    fn session_rows(&self, condition: &str, page: &str) -> Result<Vec<SessionColumns>> {
        let relations = self.relations()?;
        let page = format!(
            "SELECT * FROM (
                 SELECT x.session_id AS session_id,
                        toInt64(bitAnd(cityHash64(x.session_id), 0x7fffffffffffffff)) AS number,
                        x.start AS start, x.last AS last, x.resource AS resource, x.traces AS traces,
                        x.spans AS spans, x.errors AS errors, toInt64(0) AS with_feedback, toInt64(0) AS leaves,
                        count() OVER () AS total
                 FROM {} AS x WHERE {condition}) {page}",
            relations.sessions
        );
        let mut rows: Vec<SessionColumns> = self.rows(&page)?;
        let with: Vec<(String, i64, i64)> = self.rows(&format!(
            "SELECT t.session_id, count(), sum(l.leaves) FROM {} AS t INNER JOIN (
                 SELECT trace_id, count() AS leaves FROM {}
                 WHERE startsWith(field, 'feedback.') AND trace_id != '' GROUP BY trace_id
             ) AS l ON l.trace_id = t.trace_id
             WHERE t.session_id IN ({}) GROUP BY t.session_id",
            relations.traces,
            relations.leaves,
            list(rows.iter().map(|row| &row.session_id))
        ))?;
        for row in &mut rows {
            if let Some((_, traces, leaves)) = with.iter().find(|(id, ..)| *id == row.session_id) {
                (row.with_feedback, row.leaves) = (*traces, *leaves);
            }
        }
        Ok(rows)
    }

    fn session_views(&self, rows: Vec<SessionColumns>) -> Result<Vec<SessionRow>> {
        let ids = list(rows.iter().map(|row| &row.session_id));
        let mut said = self.said(&format!("session_id IN ({ids})"), "session_id")?;
        let resources = self.resources(rows.iter().map(|row| row.resource))?;
        let views = rows.into_iter().map(|row| SessionRow {
            feedback: said.remove(&row.session_id).unwrap_or_default(),
            service: resources
                .get(&row.resource)
                .and_then(|resource| resource.get("service.name"))
                .cloned(),
            session_id: row.session_id,
            start: Some(millis(row.start)),
            last: Some(millis(row.last)),
            traces: row.traces,
            traces_with_feedback: row.with_feedback,
            feedback_leaves: row.leaves,
            spans: row.spans,
            errors: row.errors,
        });
        Ok(views.collect())
    }

    pub(super) fn view_session(&self, id: &str) -> Result<Option<SessionView>> {
        let is_it = format!("session_id = {}", text(id));
        let rows = self.session_rows(&format!("x.{is_it}"), "LIMIT 1")?;
        let mut documents = self.documents(&is_it)?;
        let document = documents.remove(&(String::new(), String::new(), id.to_owned()));
        if rows.is_empty() && document.is_none() {
            return Ok(None);
        }
        let row = match self.session_views(rows)?.pop() {
            Some(row) => row,
            None => {
                let mut said = self.said(&is_it, "session_id")?;
                SessionRow {
                    session_id: id.to_owned(),
                    service: None,
                    start: None,
                    last: None,
                    traces: 0,
                    traces_with_feedback: 0,
                    feedback_leaves: 0,
                    spans: 0,
                    errors: 0,
                    feedback: said.remove(id).unwrap_or_default(),
                }
            }
        };
        Ok(Some(SessionView { row, document, list: self.traces_of_session(id, MOST_TRACES)? }))
    }
}
