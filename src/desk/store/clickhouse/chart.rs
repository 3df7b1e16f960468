//! Charts. ClickHouse computes the figures; what it has to be told are the buckets and the groups.

use std::collections::BTreeMap;

use super::field::Field;
use super::groups::Groups;
use super::kinds;
use super::narrow::{Narrowed, Scene, within};
use super::sql::{text, texts};
use super::{ClickHouse, Result, asked};
use crate::desk::query::datum::Kind;
use crate::desk::query::filter::Filter;
use crate::desk::query::{ChartQuery, Clock, Range};
use crate::desk::store::drawing::{self, Figures, Plan};
use crate::desk::store::view::{Chart, Part, Series};

impl ClickHouse {
    pub(super) fn draw(&self, query: &ChartQuery) -> Result<Chart> {
        let key = match self.field(&query.field)? {
            Field::Leaf(key) => key,
            _ => return asked(format!("`{}` is not a field of feedback or metrics", query.field)),
        };
        let (relations, kinds) = (self.relations()?, self.kinds()?);
        let scene = Scene { relations: &relations, kinds: &kinds };
        drawing::chart(query, kinds.of(&key).counts, |plan, filter, range| {
            Drawing { store: self, scene: &scene, query, key: &key, plan }.part(filter, range)
        })
    }

    /// Values of a field as a query: where in time each stands (`at`), its group if there is one (`g`),
    /// whether it is of a type (`fits`), and itself as a number (`v`).
    pub(super) fn values_of(
        &self,
        scene: &Scene<'_>,
        (key, kind): (&str, Kind),
        (filter, range, clock): (&Filter, Range, Clock),
        group: Option<&str>,
    ) -> Result<String> {
        let of_targets = clock.of_targets(range);
        let narrowed = self.narrowed(scene, filter, of_targets)?;
        let groups = match group {
            Some(name) => Groups::of(scene, name, &self.field(name)?, of_targets),
            None => {
                Groups { joins: String::new(), group: "CAST(NULL, 'Nullable(String)')".to_owned() }
            }
        };
        let at = if clock == Clock::Start { "l.time" } else { "l.given" };
        Ok(format!(
            "SELECT {at} AS at, {} AS g, {} AS fits, {} AS v, l.trace_id AS trace_id, l.session_id AS session_id
             FROM {} AS l {} WHERE l.field = {} AND {} AND {}",
            groups.group,
            kinds::is_of(kind, "l.value"),
            kinds::to_number(kind, "l.value"),
            scene.relations.leaves,
            groups.joins,
            text(key),
            within(range, at),
            narrowed.leaf(scene.kinds.of(key).has_sessions),
        ))
    }

    pub(super) fn narrowed(
        &self,
        scene: &Scene<'_>,
        filter: &Filter,
        range: Range,
    ) -> Result<Narrowed> {
        let mut failed = None;
        let field = |name: &str| {
            self.field(name).unwrap_or_else(|error| {
                failed = Some(error);
                Field::Attribute
            })
        };
        let narrowed = Narrowed::new(scene, filter, range, field);
        failed.map_or(Ok(narrowed), Err)
    }
}

struct Drawing<'q> {
    store: &'q ClickHouse,
    scene: &'q Scene<'q>,
    query: &'q ChartQuery,
    key: &'q str,
    plan: &'q mut Plan,
}

/// A group, whether it is all, how many values it has and how many of other types, and from when to when.
type Size = (Option<String>, u8, u64, u64, Option<i64>, Option<i64>, u64);

/// Which group and which bucket, whether each is all, how many values, and the measures.
type Figure = (usize, u8, i64, u8, u64, Vec<Option<f64>>);

impl Drawing<'_> {
    fn part(&mut self, filter: &Filter, range: Range) -> Result<Part> {
        let group = self.query.group.as_deref();
        let values = self.store.values_of(
            self.scene,
            (self.key, self.plan.kind),
            (filter, range, self.query.clock),
            group,
        )?;
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
        let edges = self.plan.edges(first.zip(last), range, self.query.offset)?;
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
                    None => continue, // nobody asked for groups
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
        let left_out = BTreeMap::from([(Kind::Text.name(), others)]);
        let left_out = left_out.into_iter().filter(|(_, count)| *count > 0).collect();
        let figures = Figures { values: count, left_out, total, groups, other_groups };
        Ok(self.plan.part(range, self.query.offset, &edges, figures))
    }

    /// All figures in one pass: of each group and all, in each bucket and over all of the time.
    fn figures(
        &self,
        values: &str,
        names: &[Option<String>],
        edges: &[i64],
    ) -> Result<Vec<Figure>> {
        let Some(first) = edges.first() else { return Ok(Vec::new()) };
        let bucket = match self.plan.bucket().length() {
            Some(length) => format!("intDiv(at - toInt64({first}), {length})"),
            None => {
                let month = |time: &str| {
                    let offset = self.query.offset.nanos();
                    format!(
                        "toRelativeMonthNum(fromUnixTimestamp64Nano(toInt64({time} + {offset}), 'UTC'))"
                    )
                };
                format!("toInt64({}) - toInt64({})", month("at"), month(&first.to_string()))
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
