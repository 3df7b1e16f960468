//! What there is: counts, names, and values.

use super::field::Field;
use super::filter::{FilterContext, contains, within};
use super::groups::{of_answers, trace_group};
use super::kinds::is_of;
use super::sql::text;
use super::{ClickHouse, Result, asked};
use crate::desk::query::Selection;
use crate::desk::query::datum::ValueKind;
use crate::desk::query::filter;
use crate::desk::query::time::millis;
use crate::desk::store::view::{FieldRow, List, Status, ValueRow};

impl ClickHouse {
    pub(super) fn look(&self) -> Result<Status> {
        let relations = self.relations()?;
        let (spans,): (i64,) = self.row(&format!("SELECT count() FROM {}", relations.spans))?;
        let (traces, first, last): (i64, Option<i64>, Option<i64>) = self.row(&format!(
            "SELECT count() AS n, if(n = 0, NULL, min(start)), if(n = 0, NULL, max(start)) FROM {}",
            relations.traces
        ))?;
        let (documents, adrift): (i64, i64) = self.row(&format!(
            "SELECT uniqExact(by_trace, by_span), uniqExactIf((by_trace, by_span), target = 0) FROM {}",
            relations.said
        ))?;
        let (waiting,): (i64,) = self
            .row(&format!("SELECT uniqExactIf(target, NOT arrived) FROM {}", relations.leaves))?;
        let services: Vec<(String,)> = self.rows(&format!(
            "SELECT DISTINCT attributes['service.name'] AS service FROM {}
             WHERE mapContains(attributes, 'service.name') ORDER BY service",
            relations.resources
        ))?;
        let (demo,): (u64,) = self.row(&format!(
            "SELECT countIf(attributes['demo'] = 'true') FROM {}",
            relations.resources
        ))?;
        let (_, used, _) = self.seen()?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            store: "clickhouse",
            schema: 0,
            spans,
            traces,
            documents,
            waiting,
            adrift,
            used_bytes: used,
            file_bytes: used,
            services: services.into_iter().map(|(service,)| service).collect(),
            demo: demo > 0,
            first: first.map(millis),
            last: last.map(millis),
        })
    }

    pub(super) fn list_fields(&self, search: &str, limit: usize) -> Result<List<FieldRow>> {
        let search = search.to_lowercase();
        let kinds = self.kinds()?;
        let relations = self.relations()?;
        let attributes: Vec<(String, i64)> = self.rows(&format!(
            "SELECT key, count() FROM {} ARRAY JOIN mapKeys(attributes) AS key GROUP BY key",
            relations.resources
        ))?;
        let (traces,): (i64,) = self.row(&format!("SELECT count() FROM {}", relations.traces))?;
        let said = kinds.all().map(|(field, known)| FieldRow::said(field, known.counts));
        let of_resources =
            attributes.into_iter().map(|(key, count)| FieldRow::of_resources(key, count));
        let all = said.chain(of_resources).chain(FieldRow::of_traces(traces));
        let mut found: Vec<_> = all.filter(|row| filter::contains(&row.field, &search)).collect();
        FieldRow::sort(&mut found);
        let total = Some(found.len() as u64);
        found.truncate(limit);
        Ok(List { rows: found, total, next: None })
    }

    pub(super) fn list_values(
        &self,
        name: &str,
        search: &str,
        selection: &Selection,
        limit: usize,
    ) -> Result<List<ValueRow>> {
        let search = search.to_lowercase();
        let (relations, kinds) = (self.relations()?, self.kinds()?);
        let context = FilterContext { relations: &relations, kinds: &kinds };
        let filter_sql = self.filter_sql(&context, &selection.filter, selection.range)?;
        let of_traces = |value: &str, joins: &str| {
            format!(
                "SELECT {value} AS value, 1 AS is_of_kind FROM {} AS t {joins} WHERE {} AND {}",
                relations.traces,
                within(selection.range, "t.start"),
                filter_sql.trace()
            )
        };
        let field = self.field(name)?;
        // For a field with values of several types, each value has its type.
        let mixed = match &field {
            Field::Leaf(key) => kinds.of(key).mixed(),
            _ => None,
        };
        let of_kind = match mixed {
            Some(kind) => format!(", {} AS is_of_kind", is_of(kind, "l.value")),
            None => ", 1 AS is_of_kind".to_owned(),
        };
        let values = match field {
            Field::Leaf(key) => format!(
                "SELECT l.value AS value{of_kind} FROM {} AS l WHERE l.field = {} AND {} AND {}",
                relations.leaves,
                text(&key),
                within(selection.range, "l.time"),
                filter_sql.leaf(kinds.of(&key).has_sessions)
            ),
            Field::Trace(property) => of_traces(&trace_group(property), ""),
            Field::Answer(field) => {
                let joins = format!(
                    "INNER JOIN ({}) AS of_trace ON of_trace.trace_id = t.trace_id",
                    of_answers(&relations, field, selection.range)
                );
                of_traces("toNullable(of_trace.value)", &joins)
            }
            Field::Resource => {
                let joins = format!(
                    "LEFT ANY JOIN (SELECT hash, attributes[{0}] AS value FROM {1}
                         WHERE mapContains(attributes, {0})) AS resource
                     ON resource.hash = t.root_resource",
                    text(name),
                    relations.resources
                );
                of_traces("resource.value", &joins)
            }
            Field::Attribute => {
                return asked(format!("nothing is known of the values of `{name}`"));
            }
        };
        let rows: Vec<(String, u8, u64, u64)> = self.rows(&format!(
            "SELECT assumeNotNull(value) AS text, is_of_kind, count() AS n, count() OVER () FROM ({values})
             WHERE isNotNull(value) AND {} GROUP BY text, is_of_kind
             ORDER BY n DESC, text, is_of_kind DESC LIMIT {limit}",
            contains("value", &search)
        ))?;
        let total = Some(rows.first().map_or(0, |(.., total)| *total));
        let rows = rows.into_iter().map(|(value, is_of_kind, count, _)| {
            let kind = mixed.map(|kind| if is_of_kind == 1 { kind } else { ValueKind::Text });
            ValueRow { value, kind, count }
        });
        let rows = rows.collect();
        Ok(List { rows, total, next: None })
    }
}
