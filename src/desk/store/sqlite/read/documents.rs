//! What is said about a target, and how it came about.

use std::collections::{BTreeMap, HashSet};

use opentelemetry::trace::SpanId;
use rusqlite::{Connection, OptionalExtension};

use super::super::Result;
use super::super::refold::dated;
use super::super::stored::{self, Leaf, SPAN_COLUMNS};
use super::{datum_json, json, span_id};
use crate::collector::ReceivedSpan;
use crate::collector::receive::value::Value;
use crate::desk::query::datum::{Datum, Kind};
use crate::desk::query::time::millis;
use crate::desk::store::batch::{Voice, nanos, text};
use crate::desk::store::view::{Change, Document, Said, SaidRow};
use crate::fold::{Submission, fold};

/// Changes of one target that are told; the folded values are of all.
const MOST_CHANGES: usize = 500;

/// Where it may stand who has said something.
const SPEAKERS: [&str; 6] = [
    "feedback.user_id",
    "feedback.user",
    "user_properties.user_id",
    "user_properties.id",
    "enduser.id",
    "user.id",
];

/// The folded document of a target with its history.
pub(super) fn document(connection: &Connection, target: i64) -> Result<Document> {
    let mut statement = connection.prepare_cached(
        "SELECT f.key, l.type, l.value, l.given
         FROM leaves l JOIN fields f ON f.id = l.field WHERE l.target = ?1 ORDER BY f.key",
    )?;
    let mut rows = statement.query([target])?;
    let mut namespaces: BTreeMap<String, Vec<Said>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let field: String = row.get(0)?;
        let datum = stored::datum(row, 1, 2)?;
        let namespace = field.split('.').next().unwrap_or_default().to_owned();
        namespaces.entry(namespace).or_default().push(Said {
            kind: datum.kind(),
            value: datum_json(datum),
            given: millis(row.get(3)?),
            field,
            span_id: None,
        });
    }
    drop(rows);
    Ok(Document { namespaces, history: history(connection, target)? })
}

/// A value with where it comes from, to be folded like any other.
type Told = (Value, i64);

/// What counts of what was said about a target, in the order of folding: the own document first, and
/// each span id once.
fn spoken(connection: &Connection, target: i64) -> Result<Vec<(ReceivedSpan, Voice)>> {
    let mut spoken = Vec::new();
    let sql = format!(
        "SELECT {SPAN_COLUMNS} FROM documents d JOIN spans s ON s.id = d.span
         JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         WHERE d.target = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([target])?;
    while let Some(row) = rows.next()? {
        let span = stored::span(row)?;
        if let Some(voice) = Voice::of(&span) {
            spoken.push((span, voice));
        }
    }
    spoken.sort_by_key(|(span, voice)| {
        let Submission { time_unix_nano, span_id, .. } = &voice.submission;
        (!voice.is_own, *time_unix_nano, span_id.to_bytes(), span.trace_id.to_bytes())
    });
    let mut seen: HashSet<SpanId> = HashSet::new();
    spoken.retain(|(_, voice)| voice.is_own || seen.insert(voice.submission.span_id));
    Ok(spoken)
}

/// Who has given a field its value, if it is said.
pub(super) fn giver(connection: &Connection, target: i64, field: &str) -> Result<Option<String>> {
    let spoken = spoken(connection, target)?;
    let last = spoken
        .iter()
        .rev()
        .find(|(_, voice)| voice.submission.attributes.iter().any(|(key, _)| key == field));
    Ok(last.and_then(|(span, voice)| speaker(span, voice)))
}

/// Each change in the order in which they apply. Folding the state with the next submission gives
/// the state after it, so there is no rule here that [`fold`] does not know.
fn history(connection: &Connection, target: i64) -> Result<Vec<Change>> {
    let mut state: BTreeMap<String, Told> = BTreeMap::new();
    let mut changes = Vec::new();
    for (span, voice) in spoken(connection, target)? {
        let before = state.clone();
        let by = speaker(&span, &voice);
        let said: Vec<_> = voice.submission.attributes.clone();
        let time = nanos(voice.submission.time_unix_nano);
        let submission = dated(voice.submission);
        state = fold(state, [submission]);
        let retracted =
            before.into_keys().filter(|key| !state.contains_key(key)).collect::<Vec<_>>();
        changes.push(Change {
            time: millis(time),
            by,
            span_id: span.span_id.to_string(),
            trace_id: span.trace_id.to_string(),
            late: span.is_carrier(),
            set: said.iter().map(|(key, value)| one(key, value, time)).collect(),
            retracted,
        });
    }
    let surplus = changes.len().saturating_sub(MOST_CHANGES);
    changes.drain(..surplus);
    Ok(changes)
}

/// Who has said it, if the feedback or its span says so.
fn speaker(span: &ReceivedSpan, voice: &Voice) -> Option<String> {
    let said = |name: &str| {
        let of_document = voice.submission.attributes.iter().find(|(key, _)| key == name);
        of_document.map(|(_, value)| value).or_else(|| span.attribute(name)).map(text)
    };
    SPEAKERS.into_iter().find_map(said)
}

fn one(key: &str, value: &Value, given: i64) -> Said {
    let leaf = Leaf::of(key, value.clone());
    let (kind, value) = match &leaf {
        Leaf::Bool(value) => (Kind::Bool, datum_json(Datum::Bool(*value))),
        Leaf::Int(value) => (Kind::Number, datum_json(Datum::Int(*value))),
        Leaf::Double(value) => (Kind::Number, datum_json(Datum::Double(*value))),
        Leaf::Text(text) => (Kind::Text, datum_json(Datum::Text(text))),
        Leaf::Other(_) => (Kind::Other, json(value)),
    };
    Said { field: key.to_owned(), kind, value, given: millis(given), span_id: None }
}

/// What arrived after another thing.
pub(super) fn said_after(
    connection: &Connection,
    after: Option<i64>,
    limit: usize,
) -> Result<(Vec<SaidRow>, i64)> {
    let sql = "SELECT coalesce(max(id), 0) FROM documents";
    let end: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    let Some(after) = after else { return Ok((Vec::new(), end)) };
    let sql = format!(
        "SELECT {SPAN_COLUMNS}, d.id, a.trace_id, g.span, x.name, m.name
         FROM documents d JOIN spans s ON s.id = d.span JOIN traces t ON t.id = s.trace
         JOIN names n ON n.id = s.name
         LEFT JOIN targets g ON g.id = d.target LEFT JOIN traces a ON a.id = g.trace
         LEFT JOIN sessions x ON x.id = g.session
         LEFT JOIN spans o ON o.trace = g.trace AND o.span = g.span
         LEFT JOIN names m ON m.id = o.name
         WHERE d.id > ?1 ORDER BY d.id LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query([after, limit])?;
    let (mut said, mut last) = (Vec::new(), after);
    while let Some(row) = rows.next()? {
        last = row.get(8)?;
        let span = stored::span(row)?;
        let Some(voice) = Voice::of(&span) else { continue };
        let trace: Option<[u8; 16]> = row.get(9).optional()?.flatten();
        let about: Option<i64> = row.get(10)?;
        let session: Option<String> = row.get(11)?;
        let time = nanos(voice.submission.time_unix_nano);
        let scope = match (&session, about) {
            (_, None) => "none",
            (Some(_), _) => "session",
            (None, Some(0)) => "trace",
            (None, Some(_)) => "span",
        };
        said.push(SaidRow {
            time: millis(time),
            by: speaker(&span, &voice),
            scope,
            trace_id: trace.map(|id| super::hex(&id)),
            span_id: about.filter(|id| *id != 0).map(span_id),
            session_id: session,
            name: row.get(12)?,
            late: span.is_carrier(),
            set: voice
                .submission
                .attributes
                .iter()
                .map(|(key, value)| one(key, value, time))
                .collect(),
            cleared: voice.submission.cleared.clone(),
        });
    }
    Ok((said, last))
}
