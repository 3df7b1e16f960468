//! Charts. ClickHouse computes the figures for given buckets and groups.

use std::collections::BTreeMap;

use super::answers;
use super::field::Field;
use super::filter::{FilterContext, FilterSql, within};
use super::groups::Groups;
use super::kinds;
use super::sql::{text, texts};
use super::{ClickHouse, Result, asked};
use crate::desk::answer::field::{AnswerField, TokenCount};
use crate::desk::query::datum::ValueKind;
use crate::desk::query::filter::Filter;
use crate::desk::query::{ChartQuery, Range, TimeBasis};
use crate::desk::store::chart_plan::{self, ChartPlan, Figures};
use crate::desk::store::view::{Chart, ChartPart, Series};

impl ClickHouse {
    pub(super) fn draw(&self, query: &ChartQuery) -> Result<Chart> {
        let (relations, kinds) = (self.relations()?, self.kinds()?);
        let context = FilterContext { relations: &relations, kinds: &kinds };
        let field = self.field(&query.field)?;
        let counts = match &field {
            Field::Leaf(key) => kinds.of(key).counts,
            Field::Answer(AnswerField::Tokens(_)) => chart_plan::NUMBERS,
            _ => return asked(chart_plan::is_no_field_of_charts(&query.field)),
        };
        chart_plan::chart(query, counts, |plan, filter, range| {
            ChartBuilder { store: self, context: &context, query, field: &field, plan }
                .part(filter, range)
        })
    }

    /// Values of a field as a query: where in time each stands (`at`), its group if there is one (`g`),
    /// whether it is of a type (`fits`), and itself as a number (`v`).
    pub(super) fn values_of(
        &self,
        context: &FilterContext<'_>,
        (key, kind): (&str, ValueKind),
        (filter, range, basis): (&Filter, Range, TimeBasis),
        group: Option<&str>,
    ) -> Result<String> {
        let of_targets = basis.of_targets(range);
        let filter_sql = self.filter_sql(context, filter, of_targets)?;
        let groups = match group {
            Some(name) => Groups::of(context, name, &self.field(name)?, of_targets),
            None => Groups::none(),
        };
        let at = if basis == TimeBasis::Start { "l.time" } else { "l.given" };
        Ok(format!(
            "SELECT {at} AS at, {} AS g, {} AS fits, {} AS v, l.trace_id AS trace_id, l.session_id AS session_id
             FROM {} AS l {} WHERE l.field = {} AND {} AND {}",
            groups.group,
            kinds::is_of(kind, "l.value"),
            kinds::to_number(kind, "l.value"),
            context.relations.leaves,
            groups.joins,
            text(key),
            within(range, at),
            filter_sql.leaf(context.kinds.of(key).has_sessions),
        ))
    }

    /// The same of the tokens of traces that begin in the range.
    fn tokens_of(
        &self,
        context: &FilterContext<'_>,
        count: TokenCount,
        (filter, range): (&Filter, Range),
        group: Option<&str>,
    ) -> Result<String> {
        let filter_sql = self.filter_sql(context, filter, range)?;
        let groups = match group {
            Some(name) => Groups::of(context, name, &self.field(name)?, range),
            None => Groups::none(),
        };
        // As rows of `leaves`, so that groups find what they join to.
        let values = format!(
            "SELECT toUInt128(0) AS target, t.trace_id AS trace_id, '' AS session_id,
                    t.root_resource AS resource, t.start AS time, c.value AS value
             FROM {} AS t INNER JOIN ({}) AS c ON c.trace_id = t.trace_id WHERE {} AND {}",
            context.relations.traces,
            answers::tokens(context.relations, count, range),
            within(range, "t.start"),
            filter_sql.trace(),
        );
        Ok(format!(
            "SELECT l.time AS at, {} AS g, 1 AS fits, toFloat64(l.value) AS v FROM ({values}) AS l {}",
            groups.group, groups.joins,
        ))
    }

    pub(super) fn filter_sql(
        &self,
        context: &FilterContext<'_>,
        filter: &Filter,
        range: Range,
    ) -> Result<FilterSql> {
        let mut failed = None;
        let field = |name: &str| {
            self.field(name).unwrap_or_else(|error| {
                failed = Some(error);
                Field::Attribute
            })
        };
        let filter_sql = FilterSql::new(context, filter, range, field);
        failed.map_or(Ok(filter_sql), Err)
    }
}

struct ChartBuilder<'q> {
    store: &'q ClickHouse,
    context: &'q FilterContext<'q>,
    query: &'q ChartQuery,
    field: &'q Field,
    plan: &'q mut ChartPlan,
}

/// A group, whether it is all, how many values it has and how many of other types, and from when to when.
type Size = (Option<String>, u8, u64, u64, Option<i64>, Option<i64>, u64);

/// Which group and which bucket, whether each is all, how many values, and the measures.
type Figure = (usize, u8, i64, u8, u64, Vec<Option<f64>>);

impl ChartBuilder<'_> {
    fn part(&mut self, filter: &Filter, range: Range) -> Result<ChartPart> {
        let group = self.query.group.as_deref();
        let values = match self.field {
            Field::Leaf(key) => {
                let basis = self.query.basis;
                let key = (key.as_str(), self.plan.kind);
                self.store.values_of(self.context, key, (filter, range, basis), group)?
            }
            Field::Answer(AnswerField::Tokens(count)) => {
                self.store.tokens_of(self.context, *count, (filter, range), group)?
            }
            _ => return asked(chart_plan::is_no_field_of_charts(&self.query.field)),
        };
        let (values, out_of_time) = self.in_plausible_time(values, range)?;
        let top = self.query.top;
        // All of them first, then the largest groups.
        let sizes: Vec<Size> = self.store.rows(&format!(
            "SELECT g, grouping(g) AS is_all, countIf(fits) AS n, countIf(NOT fits),
                    if(n = 0, NULL, minIf(at, fits)), if(n = 0, NULL, maxIf(at, fits)), count() OVER ()
             FROM ({values}) GROUP BY GROUPING SETS ((g), ()) HAVING is_all = 1 OR n > 0
             ORDER BY is_all DESC, n DESC, g ASC NULLS FIRST LIMIT {}",
            top + 1
        ))?;
        let mut sizes = sizes.into_iter();
        let none = (None, 1, 0, 0, None, None, 0);
        let (_, _, count, others, first, last, rows) = sizes.next().unwrap_or(none);
        let edges = self.plan.edges(first.zip(last), range, &self.query.zone)?;
        let (names, other_groups) = match group {
            Some(_) => {
                let names: Vec<_> = sizes.map(|(name, ..)| name).collect();
                let groups = usize::try_from(rows).unwrap_or(usize::MAX).saturating_sub(1);
                let other = groups - names.len().min(groups);
                (names, other)
            }
            None => (Vec::new(), 0),
        };
        let figures = self.figures(&values, &names, &edges)?;
        let buckets = edges.len().saturating_sub(1);
        let mut total = self.series(None, false, buckets);
        let mut groups: Vec<_> =
            names.into_iter().map(|name| self.series(name, false, buckets)).collect();
        if other_groups > 0 {
            groups.push(self.series(None, true, buckets));
        }
        for (rank, is_all, bucket, is_overall, count, measured) in figures {
            let series = match is_all {
                1 => &mut total,
                _ => match groups.get_mut(rank) {
                    Some(series) => series,
                    None => continue, // a chart without groups
                },
            };
            if count == 0 {
                continue; // the row of all that there is of nothing: a gap, and not zero
            }
            if is_overall == 1 {
                series.values = count;
            }
            for (measure, figure) in self.plan.measures.iter().zip(measured) {
                let name = measure.to_string();
                if is_overall == 1 {
                    series.overall.insert(name, figure);
                } else if let Some(points) = series.points.get_mut(&name)
                    && let Some(point) =
                        usize::try_from(bucket).ok().and_then(|bucket| points.get_mut(bucket))
                {
                    *point = figure;
                }
            }
        }
        let left_out = BTreeMap::from([(ValueKind::Text.name(), others)]);
        let left_out = left_out.into_iter().filter(|(_, count)| *count > 0).collect();
        let figures = Figures { values: count, left_out, out_of_time, total, groups, other_groups };
        Ok(self.plan.part(range, &self.query.zone, &edges, figures))
    }

    /// The values whose time is plausible, and how many others there are. Nothing but implausible times is
    /// a chart of them.
    fn in_plausible_time(&self, values: String, range: Range) -> Result<(String, u64)> {
        let Range { from: Some(from), to: Some(to) } = chart_plan::plausible(range) else {
            return Ok((values, 0));
        };
        if range.from.is_some() && range.to.is_some() {
            return Ok((values, 0));
        }
        let is_plausible = format!("at >= toInt64({from}) AND at < toInt64({to})");
        let (inside, outside): (u64, u64) = self.store.row(&format!(
            "SELECT countIf(fits AND {is_plausible}), countIf(fits AND NOT ({is_plausible})) FROM ({values})"
        ))?;
        if inside == 0 || outside == 0 {
            return Ok((values, 0));
        }
        Ok((format!("SELECT * FROM ({values}) WHERE NOT fits OR ({is_plausible})"), outside))
    }

    /// All figures in one query: of each group and of all values, in each bucket and over the whole range.
    fn figures(
        &self,
        values: &str,
        names: &[Option<String>],
        edges: &[i64],
    ) -> Result<Vec<Figure>> {
        let Some(first) = edges.first() else { return Ok(Vec::new()) };
        // Buckets of one length by division. Those of a zone whose clocks change, and months, by their edges.
        let length = edges[1..].first().map_or(1, |second| second - first);
        let bucket = match edges.windows(2).all(|pair| pair[1] - pair[0] == length) {
            true => format!("intDiv(at - toInt64({first}), {length})"),
            false => {
                let list = |numbers: &mut dyn Iterator<Item = i64>| {
                    let texts: Vec<_> = numbers.map(|number| number.to_string()).collect();
                    format!("CAST([{}], 'Array(Int64)')", texts.join(", "))
                };
                let starts = list(&mut edges.iter().copied());
                let numbers = list(&mut (0..).take(edges.len()));
                format!(
                    "transform(roundDown(toInt64(at), {starts}), {starts}, {numbers}, toInt64(-1))"
                )
            }
        };
        // The others stand behind the last.
        let of_null = names.iter().position(Option::is_none).unwrap_or(names.len());
        let rank = format!(
            "multiIf(isNull(g), {of_null}, has({0}, assumeNotNull(g)), \
             arrayElement({1}, indexOf({0}, assumeNotNull(g))), {2})",
            format_args!("CAST({}, 'Array(String)')", texts(names.iter().flatten())),
            format_args!(
                "CAST([{}], 'Array(UInt64)')",
                names
                    .iter()
                    .enumerate()
                    .filter_map(|(rank, name)| name.as_ref().map(|_| rank.to_string()))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            names.len(),
        );
        let measures: Vec<_> = self
            .plan
            .measures
            .iter()
            .map(|measure| format!("toFloat64({})", kinds::measure(*measure)))
            .collect();
        self.store.rows(&format!(
            "SELECT rank, grouping(rank) AS is_all, bucket, grouping(bucket) AS is_overall, count(), [{}]
             FROM (SELECT toUInt64({rank}) AS rank, {bucket} AS bucket, v FROM ({values}) WHERE fits)
             GROUP BY GROUPING SETS ((rank, bucket), (rank), (bucket), ())",
            measures.join(", ")
        ))
    }

    fn series(&self, group: Option<String>, is_other: bool, buckets: usize) -> Series {
        let names = || self.plan.measures.iter().map(ToString::to_string);
        Series {
            group,
            is_other,
            values: 0,
            overall: names().map(|name| (name, None)).collect(),
            points: names().map(|name| (name, vec![None; buckets])).collect(),
        }
    }
}
