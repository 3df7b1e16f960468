//! Which names there are, and which values they have.

use std::collections::HashMap;

use rusqlite::Connection;

use super::super::Result;
use super::super::stored;
use super::field::{self, Field};
use super::filter::FilterSets;
use super::groups::Groups;
use super::that_came;
use crate::desk::query::Selection;
use crate::desk::query::datum::ValueKind;
use crate::desk::query::filter::contains;
use crate::desk::store::Error;
use crate::desk::store::view::{FieldRow, List, ValueRow};

pub(super) fn fields(
    connection: &Connection,
    search: &str,
    limit: usize,
) -> Result<List<FieldRow>> {
    let search = search.to_lowercase();
    let mut found = Vec::new();
    let mut statement = connection.prepare_cached(
        "SELECT key, bools, numbers, texts, others FROM fields
         WHERE bools + numbers + texts + others > 0",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        if !contains(key, &search) {
            continue;
        }
        let counts = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
        found.push(FieldRow::said(key, counts));
    }
    let sql = "SELECT key, count(*) FROM resource_texts GROUP BY key";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let field: String = row.get(0)?;
        if contains(&field, &search) {
            found.push(FieldRow::of_resources(field, row.get(1)?));
        }
    }
    let of_traces = FieldRow::of_traces(that_came(connection)?);
    found.extend(of_traces.filter(|row| contains(&row.field, &search)));
    FieldRow::sort(&mut found);
    let total = Some(found.len() as u64);
    found.truncate(limit);
    Ok(List { rows: found, total, next: None })
}

pub(super) fn values(
    connection: &Connection,
    name: &str,
    search: &str,
    selection: &Selection,
    limit: usize,
) -> Result<List<ValueRow>> {
    let search = search.to_lowercase();
    let mut counts: HashMap<(String, Option<ValueKind>), u64> = HashMap::new();
    match Field::of(connection, name)? {
        Field::Leaf(None) => {}
        Field::Leaf(Some(field)) => {
            // Whatever it is filter_sets to, so that a row is the same in every view.
            let types = field::counts(connection, field)?;
            let is_mixed = types.iter().filter(|count| **count > 0).count() > 1;
            let mut filter_sets = FilterSets::new(connection, &selection.filter, selection.range)?;
            filter_sets.with_session_targets()?;
            let sql = "SELECT target, trace, resource, type, value FROM leaves
                       WHERE field = ?1 AND time >= ?2 AND time < ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows =
                statement.query([field, selection.range.first(), selection.range.end()])?;
            while let Some(row) = rows.next()? {
                if !filter_sets.target(row.get(0)?, row.get(1)?, row.get(2)?) {
                    continue;
                }
                let datum = stored::datum(row, 3, 4)?;
                let text = datum.text();
                if contains(&text, &search) {
                    *counts.entry((text, is_mixed.then_some(datum.kind()))).or_default() += 1;
                }
            }
        }
        Field::Resource | Field::Trace(_) | Field::Answer(_) => {
            let groups = Groups::of(connection, name, selection.range)?;
            let mut filter_sets = FilterSets::new(connection, &selection.filter, selection.range)?;
            filter_sets.with_session_targets()?;
            let sql = "SELECT id, root_resource FROM traces
                       WHERE start IS NOT NULL AND start >= ?1 AND start < ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([selection.range.first(), selection.range.end()])?;
            while let Some(row) = rows.next()? {
                let trace = row.get(0)?;
                let resource = row.get::<_, Option<i64>>(1)?.unwrap_or(0);
                if filter_sets.trace(trace)
                    && let Some(text) = groups.name(groups.of_target(0, trace, resource))
                    && contains(text, &search)
                {
                    *counts.entry((text.to_owned(), None)).or_default() += 1;
                }
            }
        }
        Field::Attribute => {
            return Err(Error::Asked(format!("nothing is known of the values of `{name}`")));
        }
    }
    let total = Some(counts.len() as u64);
    let mut rows: Vec<_> =
        counts.into_iter().map(|((value, kind), count)| ValueRow { value, kind, count }).collect();
    rows.sort_by(|a, b| {
        b.count.cmp(&a.count).then_with(|| (&a.value, a.kind).cmp(&(&b.value, b.kind)))
    });
    rows.truncate(limit);
    Ok(List { rows, total, next: None })
}
