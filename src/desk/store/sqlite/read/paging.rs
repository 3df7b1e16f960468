//! Pages of lists, the latest first.

use rusqlite::Rows;

use super::super::Result;
use crate::desk::query::{Cursor, Page};

/// A page of the rows that are in. A row begins with its time and its id, and rows come the latest
/// first. Returns the ids, how many rows are in, and where the next page begins.
pub(super) fn of_rows(
    rows: &mut Rows<'_>,
    page: &Page,
    is_in: impl Fn(i64) -> bool,
) -> Result<(Vec<i64>, u64, Option<String>)> {
    let (mut ids, mut count, mut last, mut has_more) = (Vec::new(), 0, None, false);
    while let Some(row) = rows.next()? {
        let at = Cursor { time: row.get(0)?, id: row.get(1)? };
        if !is_in(at.id) {
            continue;
        }
        count += 1;
        if page.after.is_some_and(|after| at >= after) {
            continue;
        }
        if ids.len() < page.limit {
            ids.push(at.id);
            last = Some(at);
        } else {
            has_more = true; // it goes on for the count alone
        }
    }
    let next = last.filter(|_| has_more).map(|last| last.to_string());
    Ok((ids, count, next))
}

/// A page of what was found, the latest first, each once.
pub(super) fn of_found(mut found: Vec<Cursor>, page: &Page) -> (Vec<Cursor>, u64, Option<String>) {
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.dedup();
    let total = found.len() as u64;
    let begin = page.after.map_or(0, |after| found.partition_point(|at| *at >= after));
    let rest = &found[begin..];
    let chosen = rest[..rest.len().min(page.limit)].to_vec();
    let next =
        (chosen.len() < rest.len()).then(|| chosen.last().map(ToString::to_string)).flatten();
    (chosen, total, next)
}
