//! Spans from the exporter's rows, and their documents.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use serde::Deserialize;

use super::kinds::{Kinds, guessed};
use super::relations::DURATION;
use super::sql::text;
use super::{ClickHouse, Result};
use crate::collector::receive::received::{ReceivedEvent, ReceivedLink};
use crate::collector::receive::value::Value;
use crate::collector::{ReceivedSpan, Role, Scope, Target};
use crate::desk::query::time::millis;
use crate::desk::store::Error;
use crate::desk::store::batch::{SpanFeedback, nanos};
use crate::desk::store::history::{self, one, speaker};
use crate::desk::store::session::{SESSION_KEYS, session_of};
use crate::desk::store::view::{DocumentView, FeedbackEvent};
use crate::feedback::document::is_in_namespace;

/// A span, with what a view of it shows as it stands in its row.
#[derive(Clone)]
pub(super) struct SpanRow {
    pub(super) span: ReceivedSpan,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) resource: BTreeMap<String, String>,
}

impl SpanRow {
    pub(super) fn session(&self) -> Option<String> {
        session_of(|key| self.span.attribute(key).cloned())
    }

    /// Whether it is a carrier in another trace that is about this one.
    pub(super) fn is_elsewhere(&self, trace_id: &str) -> bool {
        let about = match self.span.role() {
            Role::Submission(Target::Span(about, _) | Target::Trace(about)) => about,
            _ => return false,
        };
        about != self.span.trace_id && about.to_string() == trace_id
    }
}

/// The columns of [`SPAN_COLUMNS`].
#[derive(Deserialize)]
struct SpanColumns {
    trace_id: String,
    span_id: String,
    parent_id: String,
    name: String,
    kind: String,
    start: i64,
    duration: i64,
    status: String,
    message: String,
    scope: String,
    attributes: BTreeMap<String, String>,
    resource: BTreeMap<String, String>,
    event_names: Vec<String>,
    event_times: Vec<i64>,
    event_attributes: Vec<BTreeMap<String, String>>,
    link_traces: Vec<String>,
    link_spans: Vec<String>,
    link_attributes: Vec<BTreeMap<String, String>>,
}

/// The target of a document: trace, span and session, as in the relation `said`.
pub(super) type TargetIds = (String, String, String);

/// Spans with documents about one target.
pub(super) type SpanDocuments = Vec<(ReceivedSpan, SpanFeedback)>;

impl ClickHouse {
    /// Spans that match, by their start; repeated deliveries count once, by the longest row.
    pub(super) fn spans(&self, condition: &str, most: usize) -> Result<Vec<SpanRow>> {
        let (relations, kinds) = (self.relations()?, self.kinds()?);
        let rows: Vec<SpanColumns> = self.rows(&format!(
            "SELECT TraceId, SpanId, ParentSpanId, SpanName, SpanKind, toUnixTimestamp64Nano(Timestamp),
                    {DURATION}, StatusCode, StatusMessage, ScopeName, {}, {}, Events.Name,
                    arrayMap(time -> toUnixTimestamp64Nano(time), Events.Timestamp), {}, Links.TraceId,
                    Links.SpanId, {}
             FROM {} WHERE {condition} ORDER BY Timestamp, SpanId, {DURATION} DESC
             LIMIT 1 BY TraceId, SpanId LIMIT {most}",
            relations.attributes,
            relations.resource_attributes,
            relations.event_attributes,
            relations.link_attributes,
            relations.spans,
        ))?;
        rows.into_iter().map(|row| span(row, &kinds)).collect()
    }

    /// The documents of the targets that match a condition on the relation `said`.
    pub(super) fn documents(&self, condition: &str) -> Result<HashMap<TargetIds, DocumentView>> {
        Ok(documents(self.speaking(condition)?))
    }

    /// The same, before folding.
    pub(super) fn spoken(&self, condition: &str) -> Result<HashMap<TargetIds, SpanDocuments>> {
        Ok(by_target(self.speaking(condition)?))
    }

    /// The spans with matching documents.
    pub(super) fn speaking(&self, condition: &str) -> Result<Vec<SpanRow>> {
        let said = &self.relations()?.said;
        let condition = format!(
            "(TraceId, SpanId) IN (SELECT by_trace, by_span FROM {said} WHERE {condition})"
        );
        self.spans(&condition, 100_000)
    }

    /// Feedback after a position, in the order of arrival in the desk's own table.
    pub(super) fn follow(
        &self,
        after: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<FeedbackEvent>, i64)> {
        let relations = self.relations()?;
        if !relations.has_tables {
            let what = "to follow feedback as it arrives ClickHouse needs the desk's own tables: see \
                        `feedback-desk clickhouse --ddl`";
            return super::asked(what);
        }
        let Some(after) = after else {
            let sql = format!("SELECT toUnixTimestamp64Micro(max(seen)) FROM {}", relations.said);
            return Ok((Vec::new(), self.row::<(i64,)>(&sql)?.0));
        };
        let found: Vec<(String, String, i64)> = self.rows(&format!(
            "SELECT by_trace, by_span, toUnixTimestamp64Micro(seen) AS at FROM {}
             WHERE seen > fromUnixTimestamp64Micro(toInt64({after})) ORDER BY at LIMIT {limit} WITH TIES",
            relations.said
        ))?;
        let end = found.last().map_or(after, |(.., at)| *at);
        if found.is_empty() {
            return Ok((Vec::new(), end));
        }
        let ids: Vec<_> = found
            .iter()
            .map(|(trace, span, _)| format!("({}, {})", text(trace), text(span)))
            .collect();
        let spans =
            self.spans(&format!("(TraceId, SpanId) IN ({})", ids.join(", ")), usize::MAX >> 1)?;
        let mut spans: HashMap<_, _> = spans
            .into_iter()
            .map(|row| ((row.span.trace_id.to_string(), row.span.span_id.to_string()), row.span))
            .collect();
        let mut said = Vec::with_capacity(found.len());
        for (trace, span, _) in found {
            let Some(span) = spans.remove(&(trace, span)) else { continue };
            let Some(feedback) = SpanFeedback::of(&span) else { continue };
            said.push((span, feedback));
        }
        let names = self.names(said.iter().filter_map(|(_, feedback)| feedback.target.as_ref()))?;
        Ok((said.iter().map(|(span, feedback)| arrived(span, feedback, &names)).collect(), end))
    }

    /// The names of targets that are spans.
    fn names<'t>(
        &self,
        targets: impl Iterator<Item = &'t Target>,
    ) -> Result<HashMap<TargetIds, String>> {
        let ids: Vec<_> = targets
            .map(key)
            .filter(|(_, span, _)| !span.is_empty())
            .map(|(trace, span, _)| format!("({}, {})", text(&trace), text(&span)))
            .collect();
        self.names_of(&ids)
    }

    /// The same for pairs of ids, as SQL.
    pub(super) fn names_of(&self, ids: &[String]) -> Result<HashMap<TargetIds, String>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows: Vec<(String, String, String)> = self.rows(&format!(
            "SELECT TraceId, SpanId, argMax(SpanName, {DURATION}) FROM {} WHERE (TraceId, SpanId) IN ({})
             GROUP BY TraceId, SpanId",
            self.relations()?.spans,
            ids.join(", ")
        ))?;
        let names = rows.into_iter();
        Ok(names.map(|(trace, span, name)| ((trace, span, String::new()), name)).collect())
    }
}

/// The documents of all targets that these spans have feedback about.
pub(super) fn documents(speaking: Vec<SpanRow>) -> HashMap<TargetIds, DocumentView> {
    let spoken = by_target(speaking).into_iter();
    spoken.map(|(about, spoken)| (about, history::document(spoken))).collect()
}

fn by_target(speaking: Vec<SpanRow>) -> HashMap<TargetIds, SpanDocuments> {
    let mut spoken: HashMap<TargetIds, SpanDocuments> = HashMap::new();
    for SpanRow { span, .. } in speaking {
        if let Some(feedback) = SpanFeedback::of(&span)
            && let Some(about) = &feedback.target
        {
            spoken.entry(key(about)).or_default().push((span, feedback));
        }
    }
    spoken
}

/// The feedback of one span, as `tail` shows it.
fn arrived(
    span: &ReceivedSpan,
    feedback: &SpanFeedback,
    names: &HashMap<TargetIds, String>,
) -> FeedbackEvent {
    let about = feedback.target.as_ref().map(key);
    let time = nanos(feedback.submission.time_unix_nano);
    let scope = match &feedback.target {
        None => "none",
        Some(Target::Session(_)) => "session",
        Some(Target::Trace(_)) => "trace",
        Some(Target::Span(..)) => "span",
    };
    let name = about.as_ref().and_then(|about| names.get(about)).cloned();
    let (trace_id, span_id, session_id) = about.unwrap_or_default();
    let given = |id: String| Some(id).filter(|id| !id.is_empty());
    FeedbackEvent {
        time: millis(time),
        by: speaker(span, feedback),
        scope,
        trace_id: given(trace_id),
        span_id: given(span_id),
        session_id: given(session_id),
        name,
        late: span.is_carrier(),
        set: feedback
            .submission
            .attributes
            .iter()
            .map(|(key, value)| one(key, value, time))
            .collect(),
        cleared: feedback.submission.cleared.clone(),
    }
}

pub(super) fn key(target: &Target) -> TargetIds {
    match target {
        Target::Span(trace, span) => (trace.to_string(), span.to_string(), String::new()),
        Target::Trace(trace) => (trace.to_string(), String::new(), String::new()),
        Target::Session(id) => (String::new(), String::new(), id.clone()),
    }
}

fn span(row: SpanColumns, kinds: &Kinds) -> Result<SpanRow> {
    let damaged = |what: &str, id: &str| Error::Damaged(format!("`{id}` is no {what}"));
    let trace_id =
        TraceId::from_hex(&row.trace_id).map_err(|_| damaged("trace id", &row.trace_id))?;
    let span_id = SpanId::from_hex(&row.span_id).map_err(|_| damaged("span id", &row.span_id))?;
    let end = row.start.saturating_add(row.duration);
    let events = row.event_names.into_iter().zip(row.event_times).zip(row.event_attributes);
    let links = row.link_traces.iter().zip(&row.link_spans).zip(row.link_attributes);
    let span = ReceivedSpan {
        name: row.name,
        trace_id,
        span_id,
        parent_span_id: SpanId::from_hex(&row.parent_id).unwrap_or(SpanId::INVALID),
        kind: match row.kind.as_str() {
            "Server" => SpanKind::Server,
            "Client" => SpanKind::Client,
            "Producer" => SpanKind::Producer,
            "Consumer" => SpanKind::Consumer,
            _ => SpanKind::Internal,
        },
        start_time_unix_nano: row.start.unsigned_abs(),
        end_time_unix_nano: end.unsigned_abs(),
        flags: 0,
        trace_state: String::new(),
        attributes: values(row.attributes, kinds),
        duplicate_keys: Vec::new(),
        events: events
            .map(|((name, time), attributes)| ReceivedEvent {
                name,
                time_unix_nano: time.unsigned_abs(),
                attributes: values(attributes, kinds),
                dropped_attributes_count: 0,
            })
            .collect(),
        links: links
            .map(|((trace, span), attributes)| ReceivedLink {
                trace_id: TraceId::from_hex(trace).unwrap_or(TraceId::INVALID),
                span_id: SpanId::from_hex(span).unwrap_or(SpanId::INVALID),
                trace_state: String::new(),
                flags: 0,
                attributes: values(attributes, kinds),
                dropped_attributes_count: 0,
            })
            .collect(),
        status: match row.status.as_str() {
            "Ok" => Status::Ok,
            "Error" => Status::error(row.message),
            _ => Status::Unset,
        },
        dropped_attributes_count: 0,
        dropped_events_count: 0,
        dropped_links_count: 0,
        resource: Arc::new(row.resource.iter().map(text_pair).collect()),
        scope: Arc::new(Scope { name: row.scope, ..Scope::default() }),
    };
    Ok(SpanRow { span, start: row.start, end, resource: row.resource })
}

pub(super) fn values(texts: BTreeMap<String, String>, kinds: &Kinds) -> BTreeMap<String, Value> {
    let values = texts.into_iter().map(|(key, text)| {
        let value = value(&key, text, kinds);
        (key, value)
    });
    values.collect()
}

/// Keys from an array as the exporter writes it, or as ClickHouse writes it from a column of type JSON.
fn keys(text: String) -> Value {
    if let Ok(keys) = serde_json::from_str::<Vec<String>>(&text) {
        return Value::Array(keys.into_iter().map(Value::String).collect());
    }
    match text.strip_prefix("['").and_then(|rest| rest.strip_suffix("']")) {
        Some(keys) => Value::Array(keys.split("','").map(Value::from).collect()),
        None => Value::String(text),
    }
}

/// Of resources nothing is guessed: a version is text, whatever it looks like.
fn text_pair((key, text): (&String, &String)) -> (String, Value) {
    (key.clone(), Value::String(text.clone()))
}

/// The value of an attribute out of its text.
fn value(key: &str, text: String, kinds: &Kinds) -> Value {
    if SESSION_KEYS.contains(&key) {
        return Value::String(text);
    }
    if key == "tracing_feedback.time_unix_nano" {
        return text.parse().map_or(Value::String(text), Value::Int);
    }
    if key == "tracing_feedback.cleared" {
        return keys(text);
    }
    if is_in_namespace(key) {
        return kinds.value(key.strip_prefix("honeyhive_").unwrap_or(key), text);
    }
    guessed(text)
}
