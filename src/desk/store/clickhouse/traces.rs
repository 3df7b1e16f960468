//! Traces: the list, and one of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::field::Field;
use super::filter::{FilterContext, within};
use super::relations::DURATION;
use super::spans::{SpanRow, documents};
use super::sql::{list, text};
use super::{ClickHouse, Result, asked};
use crate::desk::query::time::millis;
use crate::desk::query::{Cursor, Page, Selection, TraceQuery};
use crate::desk::store::history::one;
use crate::desk::store::json::hex;
use crate::desk::store::tree::{self, MOST_SPANS, SpanDetails, SpanPlace};
use crate::desk::store::view::{LeafView, List, Neighbours, TraceRow, TraceView, UnmatchedSpan};

/// What is shown of a trace's feedback in a row.
pub(super) const MOST_SAID: usize = 50;

/// Where a trace stands in a list: `at` a time and, of those with one time, by a number.
#[derive(serde::Deserialize)]
struct TracePosition {
    trace_id: String,
    number: i64,
    at: i64,
    total: u64,
}

/// The columns of a [`TracePosition`] but the last, of a row of `traces` as `t`, which stands at its start.
const TRACE_POSITION: &str = "t.trace_id AS trace_id, t.number AS number, t.start AS at";

/// The columns of a trace with a received span.
#[derive(serde::Deserialize)]
struct TraceColumns {
    trace_id: String,
    start: i64,
    finish: i64,
    spans: i64,
    errors: i64,
    session_id: String,
    root_name: String,
    root_resource: u64,
}

impl ClickHouse {
    pub(super) fn list_traces(&self, query: &TraceQuery) -> Result<List<TraceRow>> {
        match self.found(query)? {
            Some(found) => self.page_of_traces(&found, &query.page),
            None => Ok(List { rows: Vec::new(), total: Some(0), next: None }),
        }
    }

    /// Which traces stand around one in a list.
    pub(super) fn around(&self, trace_id: [u8; 16], query: &TraceQuery) -> Result<Neighbours> {
        let none = Neighbours { newer: None, older: None, position: None, total: 0 };
        let Some(found) = self.found(query)? else { return Ok(none) };
        let is_it = format!("trace_id = {}", text(&hex(&trace_id)));
        // Where it stands, or would if it were in the list.
        let places: Vec<(i64, i64)> = self.rows(&format!(
            "SELECT at, number FROM (
                 SELECT at, number, 0 AS rank FROM ({found}) WHERE {is_it}
                 UNION ALL SELECT start AS at, number, 1 FROM {} WHERE {is_it}
             ) ORDER BY rank LIMIT 1",
            self.relations()?.traces
        ))?;
        let Some((at, number)) = places.first() else {
            let (total,) = self.row(&format!("SELECT count() FROM ({found})"))?;
            return Ok(Neighbours { total, ..none });
        };
        let place = format!("(toInt64({at}), toInt64({number}))");
        let (newer, older, newers, is_in, total): (String, String, u64, u64, u64) =
            self.row(&format!(
                "SELECT argMinIf(trace_id, (at, number), (at, number) > {place}),
                        argMaxIf(trace_id, (at, number), (at, number) < {place}),
                        countIf((at, number) > {place}), countIf({is_it}), count()
                 FROM ({found})"
            ))?;
        let given = |id: String| Some(id).filter(|id| !id.is_empty());
        Ok(Neighbours {
            newer: given(newer),
            older: given(older),
            position: (is_in > 0).then_some(newers + 1),
            total,
        })
    }

    /// The traces of a list as a query, with [`TRACE_POSITION`]; `None` if it can have none.
    fn found(&self, query: &TraceQuery) -> Result<Option<String>> {
        let TraceQuery { selection, of, .. } = query;
        let (relations, kinds) = (self.relations()?, self.kinds()?);
        let context = FilterContext { relations: &relations, kinds: &kinds };
        Ok(match of {
            None => {
                let Selection { filter, range } = selection;
                let filter_sql = self.filter_sql(&context, filter, *range)?;
                Some(format!(
                    "SELECT {TRACE_POSITION} FROM {} AS t WHERE {} AND {}",
                    relations.traces,
                    within(*range, "t.start"),
                    filter_sql.trace()
                ))
            }
            Some((name, basis)) => {
                let key = match self.field(name)? {
                    Field::Leaf(key) => key,
                    _ => return asked(format!("`{name}` is not a field of feedback or metrics")),
                };
                let Some(kind) = kinds.of(&key).kind else { return Ok(None) };
                let filter_sql = (&selection.filter, selection.range, *basis);
                let values = self.values_of(&context, (&key, kind), filter_sql, None)?;
                Some(with_value(&values, &relations.traces, kinds.of(&key).has_sessions))
            }
        })
    }

    /// A page of a list, the latest first. Only what is on it is looked at closely.
    fn page_of_traces(&self, found: &str, page: &Page) -> Result<List<TraceRow>> {
        let mut places: Vec<TracePosition> = self.rows(&format!(
            "SELECT * FROM (SELECT *, count() OVER () AS total FROM ({found})) WHERE {}
             ORDER BY at DESC, number DESC LIMIT {}",
            after(page, "at", "number"),
            page.limit + 1
        ))?;
        let total = places.first().map_or(0, |place| place.total);
        let next = next(&places, page, |place| Cursor { time: place.at, id: place.number });
        places.truncate(page.limit);
        Ok(List { rows: self.trace_rows(&places)?, total: Some(total), next })
    }

    /// The rows of a list with their feedback.
    fn trace_rows(&self, places: &[TracePosition]) -> Result<Vec<TraceRow>> {
        let ids = list(places.iter().map(|place| &place.trace_id));
        let rows: Vec<TraceColumns> = self.rows(&format!(
            "SELECT trace_id, start, finish, spans, errors, session_id, root_name, root_resource
             FROM {} WHERE trace_id IN ({ids})",
            self.relations()?.traces
        ))?;
        let mut rows: HashMap<_, _> =
            rows.into_iter().map(|row| (row.trace_id.clone(), row)).collect();
        let mut said = self.said(&format!("trace_id IN ({ids})"), "trace_id")?;
        let resources = self.resources(rows.values().map(|row| row.root_resource))?;
        let views = places.iter().map(|place| {
            let feedback = said.remove(&place.trace_id).unwrap_or_default();
            let view = TraceRow {
                trace_id: place.trace_id.clone(),
                name: String::new(),
                service: None,
                version: None,
                start: millis(place.at),
                duration_ms: 0.0,
                spans: 0,
                errors: 0,
                session_id: None,
                feedback,
            };
            let Some(row) = rows.remove(&place.trace_id) else { return view }; // it has not come
            let resource = resources.get(&row.root_resource);
            let text = |key: &str| resource.and_then(|resource| resource.get(key)).cloned();
            TraceRow {
                name: row.root_name,
                service: text("service.name"),
                version: text("service.version"),
                start: millis(row.start),
                duration_ms: duration(Some(row.start), Some(row.finish)),
                spans: row.spans,
                errors: row.errors,
                session_id: Some(row.session_id).filter(|id| !id.is_empty()),
                ..view
            }
        });
        Ok(views.collect())
    }

    /// The feedback of the leaves that fit, by one of their columns.
    pub(super) fn said(&self, condition: &str, by: &str) -> Result<HashMap<String, Vec<LeafView>>> {
        let kinds = self.kinds()?;
        let rows: Vec<(String, String, String, i64, String)> = self.rows(&format!(
            "SELECT {by}, field, value, given, span_id FROM {}
             WHERE {condition} AND startsWith(field, 'feedback.')
             ORDER BY {by}, time, span_id, field LIMIT {MOST_SAID} BY {by}",
            self.relations()?.leaves
        ))?;
        let mut said: HashMap<String, Vec<LeafView>> = HashMap::new();
        for (id, field, value, given, span_id) in rows {
            let value = kinds.value(&field, value);
            let span_id = Some(span_id).filter(|id| !id.is_empty());
            said.entry(id).or_default().push(LeafView { span_id, ..one(&field, &value, given) });
        }
        Ok(said)
    }

    /// The attributes of resources, by their hashes.
    pub(super) fn resources(
        &self,
        hashes: impl Iterator<Item = u64>,
    ) -> Result<HashMap<u64, BTreeMap<String, String>>> {
        let mut hashes: Vec<_> = hashes.collect();
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.is_empty() {
            return Ok(HashMap::new());
        }
        let hashes: Vec<_> = hashes.iter().map(u64::to_string).collect();
        let rows: Vec<(u64, BTreeMap<String, String>)> = self.rows(&format!(
            "SELECT hash, attributes FROM {} WHERE hash IN ({})",
            self.relations()?.resources,
            hashes.join(", ")
        ))?;
        Ok(rows.into_iter().collect())
    }

    pub(super) fn traces_of_session(&self, session: &str, most: usize) -> Result<Vec<TraceRow>> {
        let places: Vec<TracePosition> = self.rows(&format!(
            "SELECT {TRACE_POSITION}, toUInt64(0) AS total FROM {} AS t WHERE t.session_id = {}
             ORDER BY at, number LIMIT {most}",
            self.relations()?.traces,
            text(session)
        ))?;
        self.trace_rows(&places)
    }

    pub(super) fn view_trace(
        &self,
        trace_id: [u8; 16],
        asked: Option<u64>,
    ) -> Result<Option<TraceView>> {
        let trace_id = hex(&trace_id);
        let is_it = format!("TraceId = {}", text(&trace_id));
        let mut spans = self.spans(&is_it, MOST_SPANS + 1)?;
        let TraceExtent { start, end, session_id } = match spans.len() > MOST_SPANS {
            true => self.extent(&is_it)?,
            false => TraceExtent::of(&spans),
        };
        let mut about = format!("trace_id = {}", text(&trace_id));
        if let Some(session) = &session_id {
            about = format!("({about} OR session_id = {})", text(session));
        }
        let speaking = self.speaking(&about)?;
        // Carriers in other traces that are about this one.
        spans.extend(speaking.iter().filter(|row| row.is_elsewhere(&trace_id)).cloned());
        let is_long = spans.len() > MOST_SPANS;
        let mut truncated = false;
        let with_feedback: HashSet<_> = speaking.iter().map(ids).collect();
        let mut documents = documents(speaking);
        if is_long {
            truncated = self.shorten(&mut spans, &trace_id, asked, |row| {
                let about = (trace_id.clone(), row.1.clone(), String::new());
                with_feedback.contains(row) || documents.contains_key(&about)
            })?;
        }
        spans.sort_by_key(|row| (row.start, row.span.span_id.to_bytes()));
        if spans.is_empty() && documents.is_empty() {
            return Ok(None);
        }
        let of_span = |id: String| (trace_id.clone(), id, String::new());
        let views = spans
            .iter()
            .map(|row| {
                let about = SpanDetails {
                    service: row.resource.get("service.name").cloned(),
                    scope: row.span.scope.name.clone(),
                    resource: tree::object(&row.span.resource),
                    document: match row.is_elsewhere(&trace_id) {
                        true => None,
                        false => {
                            let about = of_span(row.span.span_id.to_string());
                            // A carrier is no target: what is about it waits as well.
                            match row.span.is_carrier() {
                                true => documents.get(&about).cloned(),
                                false => documents.remove(&about),
                            }
                        }
                    },
                };
                tree::view(&row.span, about)
            })
            .collect();
        let of_session = |id: &String| (String::new(), String::new(), id.clone());
        let session_document = session_id.as_ref().and_then(|id| documents.remove(&of_session(id)));
        let document = documents.remove(&of_span(String::new()));
        // The other documents are about spans that were not received, or are carriers.
        let mut waiting: Vec<_> = documents
            .into_iter()
            .map(|((_, span_id, _), document)| UnmatchedSpan { span_id, document })
            .collect();
        waiting.sort_unstable_by(|a, b| a.span_id.cmp(&b.span_id));
        Ok(Some(TraceView {
            start: start.map(millis),
            duration_ms: duration(start, end),
            document,
            session_document,
            trace_id,
            session_id,
            spans: tree::in_tree(views),
            truncated,
            waiting,
        }))
    }

    /// The extent of a trace of which not all spans are read.
    fn extent(&self, is_it: &str) -> Result<TraceExtent> {
        let relations = self.relations()?;
        let (spans, start, end, session_id): (u64, i64, i64, String) = self.row(&format!(
            "SELECT count(), min(begin), max(begin + duration),
                    argMinIf(session, (begin, SpanId, -duration), session != '')
             FROM (SELECT SpanId, toUnixTimestamp64Nano(Timestamp) AS begin, {DURATION} AS duration, {} AS session
                   FROM {} WHERE {is_it} AND {})",
            relations.fill("{session}"),
            relations.spans,
            relations.fill("{late} != 'true'")
        ))?;
        let has_own = spans > 0;
        Ok(TraceExtent {
            start: has_own.then_some(start),
            end: has_own.then_some(end),
            session_id: Some(session_id).filter(|id| !id.is_empty()),
        })
    }

    /// Leaves out the spans of a long trace that are not shown, and reads those that are. Returns whether
    /// any were left out.
    fn shorten(
        &self,
        spans: &mut Vec<SpanRow>,
        trace_id: &str,
        asked: Option<u64>,
        has_feedback: impl Fn(&(String, String)) -> bool,
    ) -> Result<bool> {
        let is_it = format!("TraceId = {}", text(trace_id));
        let own: Vec<(String, String, i64)> = self.rows(&format!(
            "SELECT SpanId, ParentSpanId, toUnixTimestamp64Nano(Timestamp) FROM {}
             WHERE {is_it} ORDER BY Timestamp, SpanId LIMIT 1 BY SpanId",
            self.relations()?.spans
        ))?;
        let number = |id: &str| u64::from_str_radix(id, 16).unwrap_or(0);
        let mut places: Vec<_> = own
            .iter()
            .map(|(span, parent, start)| {
                let place = SpanPlace {
                    span: number(span),
                    parent: number(parent),
                    is_elsewhere: false,
                    has_feedback: has_feedback(&(trace_id.to_owned(), span.clone())),
                };
                (*start, (trace_id.to_owned(), span.clone()), place)
            })
            .collect();
        for row in spans.iter().filter(|row| row.is_elsewhere(trace_id)) {
            let (ids, parent) = (ids(row), row.span.parent_span_id.to_bytes());
            let place = SpanPlace {
                span: number(&ids.1),
                parent: u64::from_be_bytes(parent),
                is_elsewhere: true,
                has_feedback: true,
            };
            places.push((row.start, ids, place));
        }
        places.sort_by(|(start, (_, span), _), (other, (_, other_span), _)| {
            (start, span).cmp(&(other, other_span))
        });
        let in_order: Vec<_> = places.iter().map(|(.., place)| *place).collect();
        let shown = tree::shown(&in_order, asked);
        let shown: HashSet<_> = places
            .iter()
            .zip(shown)
            .filter(|(_, shown)| *shown)
            .map(|((_, ids, _), _)| ids)
            .collect();
        spans.retain(|row| shown.contains(&ids(row)));
        let read: HashSet<_> = spans.iter().map(ids).collect();
        let missing: Vec<_> = shown.iter().filter(|ids| !read.contains(**ids)).collect();
        for some in missing.chunks(1_000) {
            let list: Vec<_> = some.iter().map(|(_, span)| text(span)).collect();
            let condition = format!("{is_it} AND SpanId IN ({})", list.join(", "));
            spans.extend(self.spans(&condition, MOST_SPANS)?);
        }
        Ok(shown.len() < places.len())
    }
}

/// When a trace began and ended, and its session: that of its first span with one. Carriers do not count.
struct TraceExtent {
    start: Option<i64>,
    end: Option<i64>,
    session_id: Option<String>,
}

impl TraceExtent {
    /// That of a trace with these spans.
    fn of(spans: &[SpanRow]) -> Self {
        let own = spans.iter().filter(|span| !span.span.is_carrier());
        Self {
            start: own.clone().map(|span| span.start).min(),
            end: own.clone().map(|span| span.end).max(),
            session_id: own
                .filter_map(|span| {
                    Some((span.start, span.span.span_id.to_bytes(), span.session()?))
                })
                .min()
                .map(|(_, _, session)| session),
        }
    }
}

/// The trace and span id of a span.
fn ids(row: &SpanRow) -> (String, String) {
    (row.span.trace_id.to_string(), row.span.span_id.to_string())
}

/// The traces with a value that a chart counts; those without a received span stand where
/// their first value does.
fn with_value(values: &str, traces: &str, has_sessions: bool) -> String {
    let mut with = format!(
        "SELECT trace_id, min(at) AS at FROM ({values}) WHERE fits AND trace_id != '' GROUP BY trace_id"
    );
    if has_sessions {
        with = format!(
            "SELECT trace_id, min(at) AS at FROM ({with} UNION ALL
                 SELECT trace_id, start AS at FROM {traces} WHERE session_id IN (
                     SELECT session_id FROM ({values}) WHERE fits AND session_id != ''))
             GROUP BY trace_id"
        );
    }
    format!(
        "SELECT w.trace_id AS trace_id, toInt64(bitAnd(cityHash64(w.trace_id), 0x7fffffffffffffff)) AS number,
                ifNull(t.start, w.at) AS at
         FROM ({with}) AS w LEFT ANY JOIN {traces} AS t ON t.trace_id = w.trace_id"
    )
}

/// Whether a row is after the previous page; the latest rows are first.
pub(super) fn after(page: &Page, time: &str, id: &str) -> String {
    match page.after {
        Some(Cursor { time: before, id: last }) => {
            format!("({time}, {id}) < (toInt64({before}), toInt64({last}))")
        }
        None => "1".to_owned(),
    }
}

/// Where the next page begins, of rows of which one too many was asked for.
pub(super) fn next<T>(rows: &[T], page: &Page, at: impl Fn(&T) -> Cursor) -> Option<String> {
    let last = page.limit.checked_sub(1).and_then(|last| rows.get(last))?;
    (rows.len() > page.limit).then(|| at(last).to_string())
}

/// In milliseconds.
fn duration(start: Option<i64>, finish: Option<i64>) -> f64 {
    start.zip(finish).map_or(0.0, |(start, finish)| millis(finish.saturating_sub(start)))
}
