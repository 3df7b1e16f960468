//! What was told to each backend, what waits and what was refused.

use serde::Serialize;

use super::names::target_text;
use super::state;
use crate::collector::Target;
use crate::desk::query::time::millis;
use crate::desk::store::Error;
use crate::desk::store::forwarding::{ChangePosition, ForwardStore};

/// Refused records, and targets that wait, that a status lists for each backend.
const MOST_LISTED: i64 = 50;

/// The state of forwarding, as the API writes it. Times are milliseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(in crate::desk) struct ForwardingStatus {
    pub(in crate::desk) backends: Vec<BackendStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::desk) struct BackendStatus {
    /// `KIND=URL`
    pub(in crate::desk) name: String,
    /// Whether this desk forwards to it; otherwise an earlier one did.
    pub(in crate::desk) is_active: bool,
    /// Leaves that it has.
    pub(in crate::desk) told: i64,
    /// Targets that it does not have yet.
    pub(in crate::desk) waiting_for_target: i64,
    /// Targets that it was not told of yet, or fails on.
    pub(in crate::desk) waiting_for_backend: u64,
    /// Leaves that it will not take.
    pub(in crate::desk) refused: i64,
    /// When it last took something.
    pub(in crate::desk) reached: Option<f64>,
    /// Since when it takes nothing, why, and when it is tried next.
    pub(in crate::desk) failed: Option<f64>,
    pub(in crate::desk) reason: Option<String>,
    pub(in crate::desk) next: Option<f64>,
    /// The first of the refused and waiting ones.
    pub(in crate::desk) listed: Vec<ListedTarget>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::desk) struct ListedTarget {
    pub(in crate::desk) is_refused: bool,
    pub(in crate::desk) target: String,
    pub(in crate::desk) trace_id: Option<String>,
    pub(in crate::desk) span_id: Option<String>,
    pub(in crate::desk) session_id: Option<String>,
    pub(in crate::desk) reason: String,
    /// The next attempt; a refused one has none.
    pub(in crate::desk) next: Option<f64>,
}

/// The status of every backend that was ever forwarded to; `active` are those of this desk.
pub(in crate::desk) fn status(
    store: &dyn ForwardStore,
    active: &[String],
) -> Result<ForwardingStatus, Error> {
    let mut found = Vec::new();
    store.read_state(&mut |connection| {
        found.clear();
        let mut statement = connection.prepare_cached(
            "SELECT id, name, changed, target, reached, failed, reason, next FROM forward_backends
             ORDER BY name",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let count = |sql: &str| -> rusqlite::Result<i64> {
                connection.prepare_cached(sql)?.query_row([id], |row| row.get(0))
            };
            let name: String = row.get(1)?;
            let time = |time: Option<i64>| time.filter(|time| *time > 0).map(millis);
            let failed = time(row.get(5)?);
            let status = BackendStatus {
                is_active: active.contains(&name),
                name,
                told: count("SELECT count(*) FROM forward_told WHERE backend = ?1 AND hash != 0")?,
                waiting_for_target: count(
                    "SELECT count(*) FROM forward_waiting WHERE backend = ?1 AND is_missing = 1",
                )?,
                waiting_for_backend: count(
                    "SELECT count(*) FROM forward_waiting WHERE backend = ?1 AND is_missing = 0",
                )?
                .unsigned_abs(),
                refused: count(
                    "SELECT count(*) FROM forward_told WHERE backend = ?1 AND refused IS NOT NULL",
                )?,
                reached: time(row.get(4)?),
                failed,
                reason: row.get(6)?,
                next: time(row.get(7)?).filter(|_| failed.is_some()),
                listed: Vec::new(),
            };
            let position = ChangePosition { changed: row.get(2)?, row: row.get(3)? };
            let mut listed: Vec<(i64, bool, String, Option<i64>)> = Vec::new();
            let mut statement = connection.prepare_cached(
                "SELECT target, 1, reason, NULL FROM forward_told
                 WHERE backend = ?1 AND refused IS NOT NULL LIMIT ?2",
            )?;
            let refused = statement.query_map([id, MOST_LISTED], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get::<_, Option<_>>(2)?.unwrap_or_default(),
                    row.get(3)?,
                ))
            })?;
            for row in refused {
                listed.push(row?);
            }
            let mut statement = connection.prepare_cached(
                "SELECT target, 0, reason, next FROM forward_waiting WHERE backend = ?1
                 ORDER BY next LIMIT ?2",
            )?;
            let waiting = statement.query_map([id, MOST_LISTED], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            for row in waiting {
                listed.push(row?);
            }
            found.push((status, position, listed));
        }
        Ok(())
    })?;
    let mut backends = Vec::new();
    for (mut status, position, listed) in found {
        let is_of_spans = status.name.starts_with("otlp=");
        if is_of_spans {
            let [after, before] = store.count_spans(position.row)?;
            status.waiting_for_backend = after;
            status.told = i64::try_from(before).unwrap_or(i64::MAX);
        } else {
            status.waiting_for_backend += store.count_after(position)?;
        }
        let rows: Vec<i64> = listed.iter().map(|(row, ..)| *row).collect();
        let names: std::collections::HashMap<i64, Target> =
            store.names(&rows)?.into_iter().collect();
        for (row, is_refused, reason, next) in listed {
            status.listed.extend(match names.get(&row) {
                Some(target) => Some(listed_target(target, is_refused, reason, next.map(millis))),
                None if is_of_spans => Some(ListedTarget {
                    is_refused,
                    target: "spans".to_owned(),
                    trace_id: None,
                    span_id: None,
                    session_id: None,
                    reason,
                    next: None,
                }),
                None => None, // deleted meanwhile
            });
        }
        backends.push(status);
    }
    Ok(ForwardingStatus { backends })
}

fn listed_target(
    target: &Target,
    is_refused: bool,
    reason: String,
    next: Option<f64>,
) -> ListedTarget {
    let (trace_id, span_id, session_id) = match target {
        Target::Span(trace, span) => (Some(trace.to_string()), Some(span.to_string()), None),
        Target::Trace(trace) => (Some(trace.to_string()), None, None),
        Target::Session(id) => (None, None, Some(id.clone())),
    };
    let target = target_text(target);
    ListedTarget { is_refused, target, trace_id, span_id, session_id, reason, next }
}

/// Makes everything due that waits or was refused, at one backend or at all. Returns whether there is such a one.
pub(in crate::desk) fn retry(
    store: &dyn ForwardStore,
    name: Option<String>,
) -> Result<bool, Error> {
    let mut id = None;
    if let Some(name) = &name {
        store.read_state(&mut |connection| {
            id = state::find(connection, name)?;
            Ok(())
        })?;
        if id.is_none() {
            return Ok(false);
        }
    }
    store.write_state(Box::new(move |connection| state::retry(connection, id)))?;
    Ok(true)
}
