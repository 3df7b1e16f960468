//! What all charts have in common, wherever their values are kept.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::Error;
use super::batch::nanos;
use super::view::{Chart, ChartComparison, ChartPart, Series};
use crate::clock;
use crate::desk::query::datum::ValueKind;
use crate::desk::query::filter::Filter;
use crate::desk::query::measure::{self, Measure};
use crate::desk::query::time::{Bucket, DAY, SECOND, Zone, label, millis};
use crate::desk::query::{ChartQuery, Compare, Range};

/// More buckets than this are no chart.
const MOST_BUCKETS: usize = 5_000;
const VERSION: &str = "service.version";

/// How many values of each type a field has of which all are numbers.
pub(crate) const NUMBERS: [i64; 4] = [0, 1, 0, 0];

/// Why a chart of a field is refused.
pub(crate) fn is_no_field_of_charts(field: &str) -> String {
    format!(
        "`{field}` is not a field of feedback or metrics, nor `answer.tokens.input`, `.output` or `.total`"
    )
}

/// How a chart is drawn: the same for all its parts.
#[derive(Debug)]
pub(crate) struct ChartPlan {
    pub(crate) kind: ValueKind,
    pub(crate) measures: Vec<Measure>,
    /// The first part chooses it for all.
    bucket: Option<Bucket>,
}

/// A chart, part by part. `counts` are how many values of each type the field has: all of them, so that
/// a filter doesn't turn a chart into another.
pub(crate) fn chart(
    query: &ChartQuery,
    counts: [i64; 4],
    mut draw: impl FnMut(&mut ChartPlan, &Filter, Range) -> Result<ChartPart, Error>,
) -> Result<Chart, Error> {
    let kind = ValueKind::most_frequent(counts);
    let is_known = counts != [0; 4];
    let measures = if query.measures.is_empty() {
        measure::of(kind).to_vec()
    } else {
        if let Some(unfit) = query.measures.iter().find(|measure| !measure.fits(kind))
            && is_known
        {
            let name = kind.name();
            let what = format!("`{}` is a {name}: {unfit} is not defined for it", query.field);
            return Err(Error::Asked(what));
        }
        query.measures.clone()
    };
    let mut plan = ChartPlan { kind, measures, bucket: query.bucket };
    let Range { from, to } = query.selection.range;
    let part = draw(&mut plan, &query.selection.filter, query.selection.range)?;
    let compare = match &query.compare {
        None => None,
        Some(Compare::Previous) => {
            let (Some(from), Some(to)) = (from, to) else {
                let what = "comparing with the previous period requires `from` and `to`";
                return Err(Error::Asked(what.to_owned()));
            };
            let range = Range { from: Some(query.zone.previous(from, to)), to: Some(from) };
            let part = draw(&mut plan, &query.selection.filter, range)?;
            Some(ChartComparison { with: "previous".to_owned(), part })
        }
        Some(Compare::Version(version)) => {
            let filter = query.selection.filter.clone().without(VERSION);
            let filter = filter
                .and(Filter::is(VERSION, version))
                .map_err(|error| Error::Asked(error.to_string()))?;
            let part = draw(&mut plan, &filter, query.selection.range)?;
            Some(ChartComparison { with: version.clone(), part })
        }
    };
    Ok(Chart {
        field: query.field.clone(),
        kind,
        measures: plan.measures.iter().map(Measure::to_string).collect(),
        bucket: plan.bucket().name(),
        tz: query.zone.to_string(),
        filter: query.selection.filter.to_string(),
        part,
        compare,
    })
}

/// The first time that a clock which is set shows: 2000-01-01. A clock that is not begins at 1970.
const FIRST_PLAUSIBLE: i64 = 946_684_800 * SECOND;
/// How far ahead a clock may plausibly be.
const AHEAD: i64 = 366 * DAY;

/// The range in which a chart looks for its first and last value: of an open end, plausible times only. One
/// wrong clock would stretch a chart over centuries otherwise.
pub(crate) fn plausible(range: Range) -> Range {
    let now = nanos(clock::unix_nanos(SystemTime::now()));
    Range {
        from: range.from.or(Some(FIRST_PLAUSIBLE)),
        to: range.to.or(Some(now.saturating_add(AHEAD))),
    }
}

/// What a part of a chart shows.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) values: u64,
    pub(crate) left_out: BTreeMap<&'static str, u64>,
    pub(crate) out_of_time: u64,
    pub(crate) total: Series,
    pub(crate) groups: Vec<Series>,
    pub(crate) other_groups: usize,
}

impl ChartPlan {
    pub(crate) fn bucket(&self) -> Bucket {
        self.bucket.unwrap_or(Bucket::Day)
    }

    /// Where buckets begin, and the last one ends: those of the range, and where it is open, of the first
    /// and the last value. Nothing if there is nothing to draw.
    pub(crate) fn edges(
        &mut self,
        spread: Option<(i64, i64)>,
        range: Range,
        zone: &Zone,
    ) -> Result<Vec<i64>, Error> {
        let first = range.from.or(spread.map(|(first, _)| first));
        let last = range.to.map(|to| to.saturating_sub(1)).or(spread.map(|(_, last)| last));
        let Some((first, last)) = first.zip(last).filter(|(first, last)| first <= last) else {
            return Ok(Vec::new());
        };
        let bucket = *self.bucket.get_or_insert(Bucket::for_length(last.saturating_sub(first)));
        let mut edges = vec![bucket.start(first, zone)];
        loop {
            let next = bucket.next(edges[edges.len() - 1], zone);
            if edges.len() > MOST_BUCKETS {
                return Err(Error::Asked(format!(
                    "more than {MOST_BUCKETS} buckets: choose larger ones or less time"
                )));
            }
            edges.push(next);
            if next > last || next == i64::MAX {
                return Ok(edges);
            }
        }
    }

    /// A part, with its figures by the edges of its buckets.
    pub(crate) fn part(
        &self,
        range: Range,
        zone: &Zone,
        edges: &[i64],
        figures: Figures,
    ) -> ChartPart {
        let Figures { values, left_out, out_of_time, total, groups, other_groups } = figures;
        let starts = edges.split_last().map_or(edges, |(_, starts)| starts);
        ChartPart {
            from: range.from.map(millis),
            to: range.to.map(millis),
            values,
            left_out,
            out_of_time,
            labels: starts.iter().map(|start| label(*start, self.bucket(), zone)).collect(),
            buckets: edges.iter().copied().map(millis).collect(),
            total,
            groups,
            other_groups,
        }
    }
}
