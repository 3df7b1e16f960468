//! The documents about a target, and their history.

use rusqlite::{Connection, OptionalExtension};

use super::super::Result;
use super::super::stored::{self, SPAN_COLUMNS};
use super::super::write::IS_OWN_RECORD;
use super::span_id;
use crate::collector::ReceivedSpan;
use crate::desk::query::time::millis;
use crate::desk::store::batch::{SpanFeedback, nanos};
use crate::desk::store::history::{self, one, speaker};
use crate::desk::store::json::hex;
use crate::desk::store::view::{DocumentView, FeedbackEvent};

/// The folded document of a target with its history.
pub(super) fn document(connection: &Connection, target: i64) -> Result<DocumentView> {
    Ok(history::document(spoken(connection, target)?))
}

/// The author of a field's value, if known.
pub(super) fn giver(connection: &Connection, target: i64, field: &str) -> Result<Option<String>> {
    Ok(history::giver(spoken(connection, target)?, field))
}

/// The spans with documents about a target, in no particular order.
fn spoken(connection: &Connection, target: i64) -> Result<Vec<(ReceivedSpan, SpanFeedback)>> {
    let sql = format!(
        "SELECT t.trace_id AS trace_id, {SPAN_COLUMNS} FROM documents d JOIN spans s ON s.id = d.span
         JOIN traces t ON t.id = s.trace JOIN names n ON n.id = s.name
         WHERE d.target = ?1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([target])?;
    let mut spoken = Vec::new();
    while let Some(row) = rows.next()? {
        let span = stored::span(row)?;
        if let Some(feedback) = SpanFeedback::of(&span) {
            spoken.push((span, feedback));
        }
    }
    Ok(spoken)
}

/// What arrived after another thing. Log records that repeat what spans state are left out.
pub(super) fn feedback_after(
    connection: &Connection,
    after: Option<i64>,
    limit: usize,
) -> Result<(Vec<FeedbackEvent>, i64)> {
    let sql = "SELECT coalesce(max(id), 0) FROM documents";
    let end: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    let Some(after) = after else { return Ok((Vec::new(), end)) };
    let sql = format!(
        "SELECT t.trace_id AS trace_id, {SPAN_COLUMNS}, d.id AS document,
                a.trace_id AS target_trace, g.span AS target_span, x.name AS target_session,
                m.name AS target_name
         FROM documents d JOIN spans s ON s.id = d.span JOIN traces t ON t.id = s.trace
         JOIN names n ON n.id = s.name
         LEFT JOIN targets g ON g.id = d.target LEFT JOIN traces a ON a.id = g.trace
         LEFT JOIN sessions x ON x.id = g.session
         LEFT JOIN spans o ON o.trace = g.trace AND o.span = g.span
         LEFT JOIN names m ON m.id = o.name
         WHERE d.id > ?1 AND s.flags & {IS_OWN_RECORD} = 0 ORDER BY d.id LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query([after, limit])?;
    let (mut said, mut last, mut count) = (Vec::new(), after, 0);
    while let Some(row) = rows.next()? {
        last = row.get("document")?;
        count += 1;
        let span = stored::span(row)?;
        let Some(feedback) = SpanFeedback::of(&span) else { continue };
        let trace: Option<[u8; 16]> = row.get("target_trace").optional()?.flatten();
        let about: Option<i64> = row.get("target_span")?;
        let session: Option<String> = row.get("target_session")?;
        let time = nanos(feedback.submission.time_unix_nano);
        let scope = match (&session, about) {
            (_, None) => "none",
            (Some(_), _) => "session",
            (None, Some(0)) => "trace",
            (None, Some(_)) => "span",
        };
        said.push(FeedbackEvent {
            time: millis(time),
            by: speaker(&span, &feedback),
            scope,
            trace_id: trace.map(|id| hex(&id)),
            span_id: about.filter(|id| *id != 0).map(span_id),
            session_id: session,
            name: row.get("target_name")?,
            late: span.is_carrier(),
            set: feedback
                .submission
                .attributes
                .iter()
                .map(|(key, value)| one(key, value, time))
                .collect(),
            cleared: feedback.submission.cleared.clone(),
        });
    }
    // What is left out at the end need not be looked at again.
    Ok((said, if count < limit { last.max(end) } else { last }))
}
