//! Queries: filters, time, measures. Independent of any store.

pub(crate) mod datum;
pub(crate) mod filter;
pub(crate) mod measure;
pub(crate) mod property;
pub(crate) mod time;

use filter::Filter;
use measure::Measure;
use time::{Bucket, Zone};

/// A time range in nanoseconds since the epoch: from `from` (inclusive) to `to` (exclusive).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
}

impl Range {
    /// A range without the ends that no timestamp of OTLP reaches, before 1970 or at the end of what an
    /// `i64` can hold: they are open.
    pub(crate) fn of(from: Option<i64>, to: Option<i64>) -> Self {
        Self { from: from.filter(|from| *from >= 0), to: to.filter(|to| *to < i64::MAX) }
    }

    pub(crate) fn holds(self, time: i64) -> bool {
        self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
    }

    pub(crate) fn first(self) -> i64 {
        self.from.unwrap_or(i64::MIN)
    }

    /// Exclusive; without an end it is the last instant that an `i64` can hold.
    pub(crate) fn end(self) -> i64 {
        self.to.unwrap_or(i64::MAX)
    }
}

/// The time by which a value is dated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TimeBasis {
    /// The start of its target.
    #[default]
    Start,
    /// The time of the feedback.
    Given,
}

impl TimeBasis {
    /// The range of the targets' starts; unlimited if the range applies to the time of feedback.
    pub(crate) fn of_targets(self, range: Range) -> Range {
        if self == Self::Start { range } else { Range::default() }
    }
}

/// The filter and the time range of a view.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection {
    pub(crate) filter: Filter,
    pub(crate) range: Range,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Page {
    pub(crate) limit: usize,
    /// Where the page before ended.
    pub(crate) after: Option<Cursor>,
}

/// A position in a list that is sorted by time, then by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    pub(crate) time: i64,
    pub(crate) id: i64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.time, self.id)
    }
}

impl std::str::FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (time, id) = text.split_once('.')?;
            Some(Self { time: time.parse().ok()?, id: id.parse().ok()? })
        };
        parse().ok_or_else(|| "`cursor` is invalid: use the `next` of a list".to_owned())
    }
}

/// A list of traces.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TraceQuery {
    pub(crate) selection: Selection,
    /// Only traces with a value of this field; the range applies to the value. Traces without a received
    /// span are included, at the time of their first such value.
    pub(crate) of: Option<(String, TimeBasis)>,
    pub(crate) page: Page,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChartQuery {
    pub(crate) field: String,
    /// Empty: all measures of the field's type.
    pub(crate) measures: Vec<Measure>,
    pub(crate) selection: Selection,
    pub(crate) basis: TimeBasis,
    /// `None`: the interval that gives about sixty buckets.
    pub(crate) bucket: Option<Bucket>,
    pub(crate) zone: Zone,
    pub(crate) group: Option<String>,
    pub(crate) top: usize,
    pub(crate) compare: Option<Compare>,
}

/// The comparison of a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// The period of the same length before.
    Previous,
    /// Another `service.version`.
    Version(String),
}
