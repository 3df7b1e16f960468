//! Charts: the values of a field over time, by group, as what they amount to.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

use super::super::{Result, stored};
use super::asked;
use super::attributes::each_tokens;
use super::field::{self, Field};
use super::filter::FilterSets;
use super::groups::{Group, Groups};
use crate::desk::answer::field::{AnswerField, TokenCount};
use crate::desk::query::filter::Filter;
use crate::desk::query::measure::Measure;
use crate::desk::query::{ChartQuery, Range, TimeBasis};
use crate::desk::store::chart_plan::{self, ChartPlan, Figures};
use crate::desk::store::view::{Chart, ChartPart, Series};

pub(super) fn chart(connection: &Connection, query: &ChartQuery) -> Result<Chart> {
    let source = match Field::of(connection, &query.field)? {
        Field::Leaf(field) => ValueSource::Leaves(field),
        Field::Answer(AnswerField::Tokens(count)) => ValueSource::Tokens(count),
        _ => return asked(chart_plan::is_no_field_of_charts(&query.field)),
    };
    let counts = match source {
        ValueSource::Leaves(Some(field)) => field::counts(connection, field)?,
        ValueSource::Leaves(None) => [0; 4],
        ValueSource::Tokens(_) => chart_plan::NUMBERS,
    };
    chart_plan::chart(query, counts, |plan, filter, range| {
        ChartBuilder { connection, query, source, plan }.part(filter, range)
    })
}

/// Where the values of a chart are from.
#[derive(Clone, Copy)]
enum ValueSource {
    /// Leaves of documents, by their field; `None` if there are none.
    Leaves(Option<i64>),
    /// The answers of traces.
    Tokens(TokenCount),
}

struct ChartBuilder<'q> {
    connection: &'q Connection,
    query: &'q ChartQuery,
    source: ValueSource,
    plan: &'q mut ChartPlan,
}

/// A value that counts.
#[derive(Clone, Copy)]
struct ChartValue {
    time: i64,
    group: Group,
    /// Of text there is nothing but its presence.
    value: f64,
}

impl ChartBuilder<'_> {
    fn part(&mut self, filter: &Filter, range: Range) -> Result<ChartPart> {
        let groups = match &self.query.group {
            Some(name) => {
                let of_targets = self.query.basis.of_targets(range);
                Some(Groups::of(self.connection, name, of_targets)?)
            }
            None => None,
        };
        let (mut values, left_out) = match self.source {
            ValueSource::Leaves(None) => Default::default(),
            ValueSource::Leaves(Some(field)) => {
                self.leaves(field, filter, range, groups.as_ref())?
            }
            ValueSource::Tokens(count) => {
                (self.tokens(count, filter, range, groups.as_ref())?, BTreeMap::new())
            }
        };
        // Nothing but implausible times is a chart of them.
        let (mut out_of_time, plausible) = (0, chart_plan::plausible(range));
        if values.iter().any(|value| plausible.holds(value.time)) {
            let before = values.len();
            values.retain(|value| plausible.holds(value.time));
            out_of_time = (before - values.len()) as u64;
        }
        let times = || values.iter().map(|value| value.time);
        let spread = times().min().zip(times().max());
        let edges = self.plan.edges(spread, range, &self.query.zone)?;
        let buckets = edges.len().saturating_sub(1);
        let place = |time: i64| edges.partition_point(|start| *start <= time).saturating_sub(1);

        // By value within bucket: each measure takes values that are sorted.
        let count = values.len() as u64;
        let total = self.series(None, false, values.iter().copied(), buckets, place);
        let (mut shown, mut other_groups) = (Vec::new(), 0);
        if let Some(groups) = &groups {
            let mut sizes: HashMap<Group, u64> = HashMap::new();
            for value in &values {
                *sizes.entry(value.group).or_default() += 1;
            }
            let mut ranked: Vec<_> = sizes.into_iter().collect();
            let name = |group: Group| groups.name(group);
            ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| name(a.0).cmp(&name(b.0))));
            let top = self.query.top.min(ranked.len());
            other_groups = ranked.len() - top;
            let rank: HashMap<Group, usize> =
                ranked.iter().take(top).enumerate().map(|(at, (group, _))| (*group, at)).collect();
            let rank_of = |value: &ChartValue| rank.get(&value.group).copied().unwrap_or(top);
            values.sort_by_key(rank_of);
            for run in values.chunk_by(|a, b| rank_of(a) == rank_of(b)) {
                let is_other = rank_of(&run[0]) == top;
                let group = if is_other { None } else { name(run[0].group).map(str::to_owned) };
                let run = run.iter().copied();
                shown.push(self.series(group, is_other, run, buckets, place));
            }
        }
        let figures =
            Figures { values: count, left_out, out_of_time, total, groups: shown, other_groups };
        Ok(self.plan.part(range, &self.query.zone, &edges, figures))
    }

    fn leaves(
        &self,
        field: i64,
        filter: &Filter,
        range: Range,
        groups: Option<&Groups>,
    ) -> Result<(Vec<ChartValue>, BTreeMap<&'static str, u64>)> {
        let (mut values, mut left_out) = (Vec::new(), BTreeMap::new());
        let of_targets = self.query.basis.of_targets(range);
        let mut filter_sets = FilterSets::new(self.connection, filter, of_targets)?;
        filter_sets.with_session_targets()?;
        let sql = "SELECT target, trace, resource, time, given, type, value FROM leaves
                   WHERE field = ?1 AND time >= ?2 AND time < ?3";
        let basis = self.query.basis;
        let bounds = [field, of_targets.first(), of_targets.end()];
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(bounds)?;
        while let Some(row) = rows.next()? {
            let time = if basis == TimeBasis::Start { row.get(3)? } else { row.get(4)? };
            let (target, trace, resource) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if !range.holds(time) || !filter_sets.target(target, trace, resource) {
                continue;
            }
            let datum = stored::datum(row, 5, 6)?;
            if datum.kind() != self.plan.kind {
                *left_out.entry(datum.kind().name()).or_default() += 1;
                continue;
            }
            let group = groups.map_or(0, |groups| groups.of_target(target, trace, resource));
            values.push(ChartValue { time, group, value: datum.number().unwrap_or(0.0) });
        }
        Ok((values, left_out))
    }

    /// The tokens of traces that begin in the range.
    fn tokens(
        &self,
        count: TokenCount,
        filter: &Filter,
        range: Range,
        groups: Option<&Groups>,
    ) -> Result<Vec<ChartValue>> {
        let filter_sets = FilterSets::new(self.connection, filter, range)?;
        let sql = "SELECT id, start, root_resource FROM traces WHERE start >= ?1 AND start < ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([range.first(), range.end()])?;
        let mut traces: HashMap<i64, (i64, i64)> = HashMap::new();
        while let Some(row) = rows.next()? {
            let trace = row.get(0)?;
            if filter_sets.trace(trace) {
                let resource = row.get::<_, Option<i64>>(2)?.unwrap_or(0);
                traces.insert(trace, (row.get(1)?, resource));
            }
        }
        let mut values = Vec::new();
        each_tokens(self.connection, range, |trace, tokens| {
            if let (Some((time, resource)), Some(tokens)) = (traces.get(&trace), count.of(tokens)) {
                let group = groups.map_or(0, |groups| groups.of_target(0, trace, *resource));
                values.push(ChartValue { time: *time, group, value: tokens as f64 });
            }
        })?;
        Ok(values)
    }

    fn series(
        &self,
        group: Option<String>,
        is_other: bool,
        values: impl Iterator<Item = ChartValue>,
        buckets: usize,
        place: impl Fn(i64) -> usize,
    ) -> Series {
        let mut by_bucket: Vec<Vec<f64>> = vec![Vec::new(); buckets];
        let mut all = Vec::new();
        for value in values {
            if let Some(bucket) = by_bucket.get_mut(place(value.time)) {
                bucket.push(value.value);
            }
            all.push(value.value);
        }
        by_bucket.iter_mut().for_each(|values| values.sort_unstable_by(f64::total_cmp));
        all.sort_unstable_by(f64::total_cmp);
        let named = |measure: &Measure| measure.to_string();
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        Series {
            group,
            is_other,
            values: all.len() as u64,
            overall: self
                .plan
                .measures
                .iter()
                .map(|measure| (named(measure), finite(measure.of(&all))))
                .collect(),
            points: self
                .plan
                .measures
                .iter()
                .map(|measure| {
                    let points = by_bucket.iter().map(|values| finite(measure.of(values)));
                    (named(measure), points.collect())
                })
                .collect(),
        }
    }
}
