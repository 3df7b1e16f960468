//! What can be asked of a store: filters, time, measures. Nothing here knows a store.

pub(crate) mod datum;
pub(crate) mod filter;
pub(crate) mod measure;
pub(crate) mod property;
pub(crate) mod time;

use filter::Filter;
use measure::Measure;
use time::{Bucket, UtcOffset};

/// A stretch of time in nanoseconds since the epoch: from the first, before the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
}

impl Range {
    pub(crate) fn holds(self, time: i64) -> bool {
        self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
    }

    pub(crate) fn first(self) -> i64 {
        self.from.unwrap_or(i64::MIN)
    }

    /// Exclusive, so that a value at the very end of time is left out where no end was given. There
    /// are none.
    pub(crate) fn end(self) -> i64 {
        self.to.unwrap_or(i64::MAX)
    }
}

/// Which time of a value counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TimeBasis {
    /// When its target began.
    #[default]
    Start,
    /// When it was given.
    Given,
}

impl TimeBasis {
    /// The range within which targets begin, as far as it can be told.
    pub(crate) fn of_targets(self, range: Range) -> Range {
        if self == Self::Start { range } else { Range::default() }
    }
}

/// What every view is narrowed to.
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

/// A place in a list that is sorted by time and then by number.
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
        parse().ok_or_else(|| "`cursor` is not one this API has given".to_owned())
    }
}

/// A list of traces.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TraceQuery {
    pub(crate) selection: Selection,
    /// Only traces with a value of this field, and the range is about the value. Of some nothing may
    /// have come but what was said: they stand at the time of their first such value.
    pub(crate) of: Option<(String, TimeBasis)>,
    pub(crate) page: Page,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChartQuery {
    pub(crate) field: String,
    /// Empty: all that its type has.
    pub(crate) measures: Vec<Measure>,
    pub(crate) selection: Selection,
    pub(crate) basis: TimeBasis,
    /// `None`: a bucket that gives about sixty of them.
    pub(crate) bucket: Option<Bucket>,
    pub(crate) offset: UtcOffset,
    pub(crate) group: Option<String>,
    pub(crate) top: usize,
    pub(crate) compare: Option<Compare>,
}

/// What a chart is put beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// The stretch of the same length before it.
    Previous,
    /// Another `service.version`.
    Version(String),
}
