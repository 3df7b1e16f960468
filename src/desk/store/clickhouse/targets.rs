//! Targets: comments, the data set, and what waits for its target.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::field::Field;
use super::filter::{FilterContext, contains, within};
use super::kinds::{Kinds, is_of};
use super::relations::DURATION;
use super::spans::{SpanDocuments, TargetIds, values};
use super::sql::{list, text};
use super::traces::{after, next};
use super::{ClickHouse, Result, asked};
use crate::collector::ReceivedEvent;
use crate::desk::answer::{Answer, EVENTS, MOST_SPANS, PREFIXES, SpanAnswer, in_trace};
use crate::desk::query::datum::ValueKind;
use crate::desk::query::time::millis;
use crate::desk::query::{Cursor, Page, Selection};
use crate::desk::store::batch::{SpanFeedback, nanos};
use crate::desk::store::dataset::{self, Texts, put, put_answer};
use crate::desk::store::history::{self, one};
use crate::desk::store::view::{CommentRow, DatasetRow, LeafView, List, UnmatchedRow};

/// The number of a target by which pages go.
const NUMBER: &str = "toInt64(bitAnd(toUInt64(target), 0x7fffffffffffffff))";

/// A target on a page: where it stands, which one it is, and how many there are.
#[derive(serde::Deserialize)]
struct FoundTarget {
    at: i64,
    number: i64,
    target: String,
    text: String,
    total: u64,
}

/// A target, with where it lies.
#[derive(serde::Deserialize)]
struct TargetRow {
    target: String,
    trace_id: String,
    span_id: String,
    session_id: String,
    time: i64,
    resource: u64,
}

/// A span in which an answer is looked for.
#[derive(serde::Deserialize)]
struct AnswerColumns {
    trace_id: String,
    span_id: String,
    parent_id: String,
    begin: i64,
    attributes: BTreeMap<String, String>,
    event_names: Vec<String>,
    event_attributes: Vec<BTreeMap<String, String>>,
}

/// What is known of a trace.
#[derive(serde::Deserialize)]
struct TraceSummary {
    trace_id: String,
    root_name: String,
    session_id: String,
}

/// The spans of traces in which answers are looked for, by trace.
type TraceAnswers = HashMap<String, Vec<SpanAnswer>>;

impl ClickHouse {
    pub(super) fn list_comments(
        &self,
        name: &str,
        search: &str,
        selection: &Selection,
        page: &Page,
    ) -> Result<List<CommentRow>> {
        let key = match self.field(name)? {
            Field::Leaf(key) => key,
            _ => return asked(format!("`{name}` is not a field of feedback or metrics")),
        };
        let (relations, kinds) = (self.relations()?, self.kinds()?);
        let context = FilterContext { relations: &relations, kinds: &kinds };
        let filter_sql = self.filter_sql(&context, &selection.filter, selection.range)?;
        let is_text = match kinds.of(&key).kind {
            Some(kind @ (ValueKind::Bool | ValueKind::Number)) => {
                format!("NOT ({})", is_of(kind, "l.value"))
            }
            _ => "1".to_owned(),
        };
        let found = format!(
            "SELECT l.given AS at, {NUMBER} AS number, toString(l.target) AS id, l.value AS text
             FROM {} AS l WHERE l.field = {} AND {is_text} AND {} AND {} AND {}",
            relations.leaves,
            text(&key),
            contains("l.value", &search.to_lowercase()),
            within(selection.range, "l.time"),
            filter_sql.leaf(kinds.of(&key).has_sessions)
        );
        let (found, total, next) = self.page_of_targets(&found, page)?;
        let mut about = self.about(&found)?;
        let mut by = self.givers(&found, &key)?;
        let rows = found.into_iter().filter_map(|found| {
            let about = about.remove(&found.target)?;
            Some(CommentRow {
                field: name.to_owned(),
                text: found.text,
                given: millis(found.at),
                by: by.remove(&found.target),
                about,
            })
        });
        Ok(List { rows: rows.collect(), total, next })
    }

    /// The author of a field's value for each of these targets, if known.
    fn givers(&self, found: &[FoundTarget], key: &str) -> Result<HashMap<String, String>> {
        let spoken = self.spoken_about(found)?.into_iter();
        let given =
            spoken.filter_map(|(target, (_, spoken))| Some((target, history::giver(spoken, key)?)));
        Ok(given.collect())
    }

    /// The documents about each of these targets, with their ids.
    fn spoken_about(
        &self,
        found: &[FoundTarget],
    ) -> Result<HashMap<String, (TargetIds, SpanDocuments)>> {
        let targets = found.iter().filter(|found| !found.target.is_empty());
        let ids: Vec<_> = targets.map(|found| format!("toUInt128('{}')", found.target)).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let is_in = format!("target IN ({})", ids.join(", "));
        let targets: Vec<(String, String, String, String)> = self.rows(&format!(
            "SELECT DISTINCT toString(target), trace_id, span_id, session_id FROM {} WHERE {is_in}",
            self.relations()?.said
        ))?;
        let mut spoken = self.spoken(&is_in)?;
        let about = targets.into_iter().filter_map(|(target, trace, span, session)| {
            let about = (trace, span, session);
            let spoken = spoken.remove(&about)?;
            Some((target, (about, spoken)))
        });
        Ok(about.collect())
    }

    pub(super) fn list_targets(
        &self,
        selection: &Selection,
        page: &Page,
    ) -> Result<List<DatasetRow>> {
        let (relations, kinds) = (self.relations()?, self.kinds()?);
        let context = FilterContext { relations: &relations, kinds: &kinds };
        let filter_sql = self
            .filter_sql(&context, &selection.filter, selection.range)?
            .of_rows(&selection.filter);
        let mut said = kinds.all().filter(|(field, _)| field.starts_with("feedback."));
        let has_sessions = said.any(|(_, known)| known.has_sessions);
        let found = format!(
            "SELECT any(l.time) AS at, {NUMBER} AS number, toString(l.target) AS id, '' AS text
             FROM {} AS l WHERE startsWith(l.field, 'feedback.') AND {} AND {} GROUP BY l.target",
            relations.leaves,
            within(selection.range, "l.time"),
            filter_sql.leaf(has_sessions)
        );
        let (found, total, next) = self.page_of_targets(&found, page)?;
        let mut about = self.about(&found)?;
        let rows = found.into_iter().filter_map(|found| about.remove(&found.target)).collect();
        Ok(List { rows, total, next })
    }

    /// A page of rows with `at`, `number`, `id` and `text`, the latest first.
    fn page_of_targets(
        &self,
        found: &str,
        page: &Page,
    ) -> Result<(Vec<FoundTarget>, Option<u64>, Option<String>)> {
        let mut rows: Vec<FoundTarget> = self.rows(&format!(
            "SELECT at, number, id, text, total FROM (SELECT *, count() OVER () AS total FROM ({found}))
             WHERE {} ORDER BY at DESC, number DESC LIMIT {}",
            after(page, "at", "number"),
            page.limit + 1
        ))?;
        let total = rows.first().map_or(0, |row| row.total);
        let next = next(&rows, page, |row| Cursor { time: row.at, id: row.number });
        rows.truncate(page.limit);
        Ok((rows, Some(total), next))
    }

    /// Targets with input, output, ground truth and feedback.
    fn about(&self, found: &[FoundTarget]) -> Result<HashMap<String, DatasetRow>> {
        if found.is_empty() {
            return Ok(HashMap::new());
        }
        let (relations, kinds) = (self.relations()?, self.kinds()?);
        let ids: Vec<_> =
            found.iter().map(|found| format!("toUInt128('{}')", found.target)).collect();
        let is_in = format!("target IN ({})", ids.join(", "));
        let places: Vec<TargetRow> = self.rows(&format!(
            "SELECT toString(target), any(trace_id), any(span_id), any(session_id), any(time), any(resource)
             FROM {} WHERE {is_in} GROUP BY target",
            relations.leaves
        ))?;
        let leaves: Vec<(String, String, String)> = self.rows(&format!(
            "SELECT toString(target) AS id, field, value FROM {} WHERE {is_in} ORDER BY id, field",
            relations.leaves
        ))?;
        let mut said: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for (target, field, value) in leaves {
            said.entry(target).or_default().push((field, value));
        }
        let traces = self.traces_by_id(&places)?;
        let elsewhere = self.texts_of(&places, &kinds)?;
        let answers = self.answers_of(&places, &kinds)?;
        let pairs: Vec<_> = places
            .iter()
            .filter(|place| !place.span_id.is_empty())
            .map(|place| format!("({}, {})", text(&place.trace_id), text(&place.span_id)))
            .collect();
        let names = self.names_of(&pairs)?;
        let resources = self.resources(places.iter().map(|place| place.resource))?;
        let rows = places.into_iter().map(|place| {
            let trace = traces.get(&place.trace_id);
            let mut row = DatasetRow {
                trace_id: given(&place.trace_id),
                span_id: given(&place.span_id),
                session_id: given(&place.session_id).or_else(|| given(&trace?.session_id)),
                name: match place.span_id.as_str() {
                    "" => trace.map(|trace| trace.root_name.clone()),
                    _ => {
                        let key = (place.trace_id.clone(), place.span_id.clone(), String::new());
                        names.get(&key).cloned()
                    }
                },
                service: resources
                    .get(&place.resource)
                    .and_then(|resource| resource.get("service.name"))
                    .cloned(),
                start: millis(place.time),
                ..dataset::empty()
            };
            let said = said.remove(&place.target).unwrap_or_default();
            let mut texts = Texts::default();
            for (field, text) in said {
                let value = one(&field, &kinds.value(&field, text.clone()), 0).value;
                put(&mut row, &mut texts, &field, || text, value);
            }
            for (at, own) in texts.iter_mut().enumerate() {
                if own.is_empty()
                    && let Some(of_trace) = elsewhere.get(&place.trace_id)
                {
                    own.clone_from(&of_trace[at]);
                }
            }
            let span = u64::from_str_radix(&place.span_id, 16).ok();
            let answer = answers.get(&place.trace_id).map(|spans| in_trace(spans, span));
            put_answer(&mut row, texts, answer);
            (place.target, row)
        });
        Ok(rows.collect())
    }

    fn traces_by_id(&self, places: &[TargetRow]) -> Result<HashMap<String, TraceSummary>> {
        let ids = places.iter().map(|place| &place.trace_id).filter(|id| !id.is_empty());
        let rows: Vec<TraceSummary> = self.rows(&format!(
            "SELECT trace_id, root_name, session_id FROM {} WHERE trace_id IN ({})",
            self.relations()?.traces,
            list(ids)
        ))?;
        Ok(rows.into_iter().map(|trace| (trace.trace_id.clone(), trace)).collect())
    }

    /// Inputs and outputs that were recorded in traces: of the first span that has any.
    fn texts_of(&self, places: &[TargetRow], kinds: &Kinds) -> Result<HashMap<String, Texts>> {
        let ids = places.iter().map(|place| &place.trace_id).filter(|id| !id.is_empty());
        let rows: Vec<(String, String, String, String)> = self.rows(&format!(
            "SELECT trace_id, span_id, field, value FROM {} WHERE trace_id IN ({})
                 AND (startsWith(field, 'inputs.') OR startsWith(field, 'outputs.'))
             ORDER BY trace_id, time, span_id, field",
            self.relations()?.leaves,
            list(ids)
        ))?;
        let mut found: HashMap<String, Texts> = HashMap::new();
        let mut first: HashMap<(String, usize), String> = HashMap::new();
        for (trace, span, field, value) in rows {
            let Some((namespace, rest)) = field.split_once('.') else { continue };
            let at = usize::from(namespace == "outputs");
            let of = first.entry((trace.clone(), at)).or_insert_with(|| span.clone());
            if *of == span {
                let value = one(&field, &kinds.value(&field, value), 0).value;
                found.entry(trace).or_default()[at].insert(rest.to_owned(), value);
            }
        }
        Ok(found)
    }

    /// The spans of the traces of these targets: the first ones, and the targets.
    fn answers_of(&self, places: &[TargetRow], kinds: &Kinds) -> Result<TraceAnswers> {
        let ids: HashSet<_> =
            places.iter().map(|place| &place.trace_id).filter(|id| !id.is_empty()).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let relations = self.relations()?;
        let prefixes: Vec<_> = PREFIXES.iter().map(|prefix| prefix.trim_end_matches('.')).collect();
        let select = |condition: &str, limit: &str| {
            // Of a span that was received before and after its end, the longer row counts.
            format!(
                "SELECT * FROM (
                     SELECT TraceId, SpanId, ParentSpanId, toUnixTimestamp64Nano(Timestamp) AS begin,
                            mapFilter((key, value) -> match(key, '^({})[.]'), {}) AS read,
                            arrayFilter(name -> match(name, '{EVENTS}'), Events.Name) AS names,
                            arrayFilter((event, name) -> match(name, '{EVENTS}'), {}, Events.Name) AS events
                     FROM {} WHERE {condition} AND {}
                     ORDER BY Timestamp, SpanId, {DURATION} DESC LIMIT 1 BY TraceId, SpanId)
                 ORDER BY begin, SpanId {limit}",
                prefixes.join("|"),
                relations.attributes,
                relations.event_attributes,
                relations.spans,
                relations.fill("{late} != 'true'"),
            )
        };
        let of_traces = select(
            &format!("TraceId IN ({})", list(ids.iter().copied())),
            &format!("LIMIT {MOST_SPANS} BY TraceId"),
        );
        let mut rows: Vec<AnswerColumns> = self.rows(&of_traces)?;
        let known: HashSet<_> =
            rows.iter().map(|row| (row.trace_id.clone(), row.span_id.clone())).collect();
        let missing: Vec<_> = places
            .iter()
            .filter(|place| !place.span_id.is_empty())
            .filter(|place| !known.contains(&(place.trace_id.clone(), place.span_id.clone())))
            .map(|place| format!("({}, {})", text(&place.trace_id), text(&place.span_id)))
            .collect();
        if !missing.is_empty() {
            let is_in = format!("(TraceId, SpanId) IN ({})", missing.join(", "));
            rows.extend(self.rows::<AnswerColumns>(&select(&is_in, ""))?);
        }
        rows.sort_by(|a, b| (a.begin, &a.span_id).cmp(&(b.begin, &b.span_id)));
        let id = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let mut found = TraceAnswers::new();
        for row in rows {
            let events = row.event_names.into_iter().zip(row.event_attributes);
            let events: Vec<_> = events
                .map(|(name, attributes)| ReceivedEvent {
                    name,
                    time_unix_nano: 0, // they are in order
                    attributes: values(attributes, kinds),
                    dropped_attributes_count: 0,
                })
                .collect();
            found.entry(row.trace_id).or_default().push(SpanAnswer {
                span: id(&row.span_id),
                parent: id(&row.parent_id),
                answer: Answer::of(&values(row.attributes, kinds), &events),
            });
        }
        Ok(found)
    }

    pub(super) fn list_unmatched(&self, page: &Page) -> Result<List<UnmatchedRow>> {
        let relations = self.relations()?;
        let found = format!(
            "SELECT max(time) AS at, {NUMBER} AS number, toString(target) AS id, '' AS text FROM {0}
             WHERE target IN (SELECT target FROM {1} WHERE NOT arrived) GROUP BY target
             UNION ALL
             SELECT max(time), toInt64(bitAnd(cityHash64(by_trace, by_span), 0x7fffffffffffffff)), '',
                    concat(by_trace, by_span) FROM {0} WHERE target = 0 GROUP BY by_trace, by_span",
            relations.said, relations.leaves
        );
        let (found, total, next) = self.page_of_targets(&found, page)?;
        let mut spoken = self.spoken_about(&found)?;
        let mut adrift = self.said_adrift(&found)?;
        let rows = found.into_iter().map(|found| {
            let given_at = millis(found.at);
            if found.target.is_empty() {
                return UnmatchedRow {
                    reason: "it does not say what it is about",
                    trace_id: None,
                    span_id: None,
                    given: given_at,
                    said: adrift.remove(&found.text).unwrap_or_default(),
                };
            }
            let ((trace, span, _), spoken) = spoken.remove(&found.target).unwrap_or_default();
            let document = history::document(spoken);
            UnmatchedRow {
                reason: "its target has not come",
                trace_id: given(&trace),
                span_id: given(&span),
                given: given_at,
                said: document.namespaces.into_values().flatten().collect(),
            }
        });
        Ok(List { rows: rows.collect(), total, next })
    }

    /// The leaves of documents without a target, by the concatenated trace and span id of their span.
    fn said_adrift(&self, found: &[FoundTarget]) -> Result<HashMap<String, Vec<LeafView>>> {
        let adrift = found.iter().filter(|found| found.target.is_empty());
        let pairs: Vec<_> = adrift
            .filter_map(|found| found.text.split_at_checked(32))
            .map(|(trace, span)| format!("({}, {})", text(trace), text(span)))
            .collect();
        if pairs.is_empty() {
            return Ok(HashMap::new());
        }
        let is_in = format!("(TraceId, SpanId) IN ({})", pairs.join(", "));
        let said = self.spans(&is_in, pairs.len())?.into_iter().filter_map(|row| {
            let SpanFeedback { submission, .. } = SpanFeedback::of(&row.span)?;
            let time = nanos(submission.time_unix_nano);
            let said = submission.attributes.iter().map(|(key, value)| one(key, value, time));
            Some((format!("{}{}", row.span.trace_id, row.span.span_id), said.collect()))
        });
        Ok(said.collect())
    }
}

fn given(id: &str) -> Option<String> {
    Some(id.to_owned()).filter(|id| !id.is_empty())
}
