//! `feedback-desk tail`.

use std::io::Write;
use std::thread;
use std::time::Duration;

use super::chart::LONGEST;
use super::json::printable_json;
use super::{CommandError, CommandResult};
use crate::desk::query::time::rfc3339;
use crate::desk::store::location::Location;
use crate::desk::store::view::{FeedbackEvent, LeafView};
use crate::printable::printable;

/// The interval between two queries.
const INTERVAL: Duration = Duration::from_millis(250);
const ROWS: usize = 500;

/// Prints feedback as it arrives, until the process is stopped.
pub(super) fn tail(store: &Location, is_json: bool, is_all: bool) -> CommandResult {
    let store = store.open(LONGEST).map_err(CommandError::Failed)?;
    let (_, end) = store.feedback_after(None, 0).map_err(CommandError::failed)?;
    let mut after = if is_all { 0 } else { end };
    let mut out = std::io::stdout().lock();
    loop {
        let (rows, last) = store.feedback_after(Some(after), ROWS).map_err(CommandError::failed)?;
        for row in &rows {
            let line = if is_json {
                printable_json(&serde_json::to_string(row).map_err(CommandError::failed)?)
            } else {
                match line(row) {
                    Some(line) => line,
                    None => continue, // not about feedback
                }
            };
            writeln!(out, "{line}").map_err(CommandError::write)?;
        }
        out.flush().map_err(CommandError::write)?;
        if last == after {
            thread::sleep(INTERVAL);
        }
        after = last;
    }
}

/// `2026-01-31T12:00:00Z  answer  feedback.rating = false  (late, by u-17)`.
fn line(row: &FeedbackEvent) -> Option<String> {
    let is_feedback = |key: &str| key == "feedback" || key.starts_with("feedback.");
    let set = row.set.iter().filter(|said| is_feedback(&said.field));
    let cleared = row.cleared.iter().filter(|key| is_feedback(key));
    let said: Vec<String> = cleared
        .map(|key| format!("{} retracted", printable(key)))
        .chain(set.map(|LeafView { field, value, .. }| {
            format!("{} = {}", printable(field), printable(&value.to_string()))
        }))
        .collect();
    if said.is_empty() {
        return None;
    }
    let about = match (row.scope, &row.name, &row.session_id, &row.trace_id) {
        ("session", _, Some(session), _) => format!("session {session}"),
        ("trace", _, _, Some(trace)) => format!("trace {trace}"),
        (_, Some(name), ..) => name.clone(),
        (_, None, _, Some(trace)) => format!("trace {trace} (target not received)"),
        _ => "(about nothing)".to_owned(),
    };
    let by = row.by.as_deref().map(|by| format!("by {}", printable(by)));
    let marks: Vec<_> = row.late.then(|| "late".to_owned()).into_iter().chain(by).collect();
    let marks = if marks.is_empty() { String::new() } else { format!("  ({})", marks.join(", ")) };
    let time = rfc3339((row.time * 1e6) as i64 / 1_000_000 * 1_000_000);
    Some(format!("{time}  {}  {}{marks}", printable(&about), said.join("  ")))
}
