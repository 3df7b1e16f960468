//! Times as users write them: instants, offsets from UTC, and chart buckets from a minute to a month.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::{Timestamp, ToSpan, tz};

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// The interval of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bucket {
    Minute,
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
}

pub(crate) const BUCKETS: [Bucket; 5] =
    [Bucket::Minute, Bucket::Hour, Bucket::Day, Bucket::Week, Bucket::Month];

/// An offset from UTC, as in `+05:30`. Names of time zones are not accepted: ClickHouse computes buckets
/// of one length from one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UtcOffset(tz::Offset);

impl Bucket {
    /// The start of the bucket that contains a time.
    pub(crate) fn start(self, time: i64, offset: UtcOffset) -> i64 {
        let local = offset.local(time);
        let midnight = local.date().to_datetime(jiff::civil::Time::midnight());
        offset.instant(match self {
            Self::Minute => local.with().second(0).subsec_nanosecond(0).build().unwrap_or(local),
            Self::Hour => {
                local.with().minute(0).second(0).subsec_nanosecond(0).build().unwrap_or(local)
            }
            Self::Day => midnight,
            Self::Week => midnight.saturating_sub(local.weekday().to_monday_zero_offset().days()),
            Self::Month => midnight.first_of_month(),
        })
    }

    /// The start of the bucket after the one that starts here.
    pub(crate) fn next(self, start: i64, offset: UtcOffset) -> i64 {
        match self.length() {
            Some(length) => start.saturating_add(length),
            None => offset.instant(offset.local(start).first_of_month().saturating_add(1.month())),
        }
    }

    /// The length of each bucket; `None` for months, which differ.
    pub(crate) fn length(self) -> Option<i64> {
        match self {
            Self::Minute => Some(MINUTE),
            Self::Hour => Some(HOUR),
            Self::Day => Some(DAY),
            Self::Week => Some(7 * DAY),
            Self::Month => None,
        }
    }

    /// The bucket that divides a range of this length into about sixty.
    pub(crate) fn for_length(length: i64) -> Self {
        match length {
            ..=7_200_000_000_000 => Self::Minute,
            length if length <= 4 * DAY => Self::Hour,
            length if length <= 120 * DAY => Self::Day,
            length if length <= 730 * DAY => Self::Week,
            _ => Self::Month,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

impl FromStr for Bucket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        BUCKETS.into_iter().find(|bucket| bucket.name() == text).ok_or_else(|| {
            format!("`{text}` is not an interval: use minute, hour, day, week or month")
        })
    }
}

/// Milliseconds since the epoch for JSON, to the microsecond.
pub(crate) fn millis(nanos: i64) -> f64 {
    (nanos / 1_000) as f64 / 1_000.0
}

/// Reads an instant: milliseconds since the epoch, or RFC 3339, whose time of day and offset may be
/// left out.
pub(crate) fn instant(text: &str) -> Result<i64, String> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(millis.saturating_mul(1_000_000));
    }
    fractional_millis(text).or_else(|| date_time(text)).ok_or_else(|| {
        format!(
            "`{text}` is not a time: use milliseconds since 1970, a date, or a time such as \
             2026-01-31T12:00:00Z"
        )
    })
}

/// Milliseconds as this crate writes them: `1767225600000.5`, microseconds after the point.
fn fractional_millis(text: &str) -> Option<i64> {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.')?;
    if !is_number(whole) || !is_number(fraction) || !(1..=6).contains(&fraction.len()) {
        return None;
    }
    let (millis, nanos): (i64, i64) =
        (whole.parse().ok()?, format!("{fraction:0<6}").parse().ok()?);
    Some(millis.saturating_mul(1_000_000).saturating_add(nanos))
}

fn date_time(text: &str) -> Option<i64> {
    // Stricter than jiff: only the extended format, with minutes where there is an hour, no named zone.
    let (date, rest) = text.split_at_checked(10)?;
    if date.as_bytes()[4] != b'-' || !(rest.is_empty() || rest.as_bytes().get(3) == Some(&b':')) {
        return None;
    }
    let pieces = Pieces::parse(text).ok()?;
    if pieces.time_zone_annotation().is_some() {
        return None;
    }
    let local = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    let offset = pieces.to_numeric_offset().unwrap_or(tz::Offset::UTC);
    Some(nanos(offset.to_timestamp(local).ok()?))
}

impl UtcOffset {
    pub(crate) fn nanos(self) -> i64 {
        i64::from(self.0.seconds()) * SECOND
    }

    fn local(self, time: i64) -> DateTime {
        self.0.to_datetime(timestamp(time))
    }

    /// The instant of a local time, at the ends of the calendar the nearest there is.
    fn instant(self, local: DateTime) -> i64 {
        match self.0.to_timestamp(local) {
            Ok(timestamp) => nanos(timestamp),
            Err(_) if local.year() > 1970 => i64::MAX,
            Err(_) => i64::MIN,
        }
    }
}

impl Default for UtcOffset {
    fn default() -> Self {
        Self(tz::Offset::UTC)
    }
}

impl FromStr for UtcOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "Z" | "z" | "UTC") {
            return Ok(Self::default());
        }
        let wrong = || format!("`{text}` is not an offset from UTC: use for example +02:00");
        // A `+` in a query string is a space.
        let (sign, rest) = match text.split_at_checked(1).ok_or_else(wrong)? {
            ("+" | " ", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return Err(wrong()),
        };
        let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
        let two_digits = |text: &str| -> Option<i32> {
            let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse().ok()).flatten()
        };
        let hours = two_digits(hours).filter(|hours| *hours <= 18).ok_or_else(wrong)?;
        let minutes = two_digits(minutes).filter(|minutes| *minutes < 60).ok_or_else(wrong)?;
        tz::Offset::from_seconds(sign * (hours * 60 + minutes) * 60).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0.is_negative() { '-' } else { '+' };
        let minutes = self.0.seconds().abs() / 60;
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// The start of a bucket as text, in local time.
pub(crate) fn label(start: i64, bucket: Bucket, offset: UtcOffset) -> String {
    let format = match bucket {
        Bucket::Month => "%Y-%m",
        Bucket::Day | Bucket::Week => "%Y-%m-%d",
        Bucket::Hour | Bucket::Minute => "%Y-%m-%d %H:%M",
    };
    offset.local(start).strftime(format).to_string()
}

/// RFC 3339 in UTC, with as many decimals as needed.
pub(crate) fn rfc3339(time: i64) -> String {
    timestamp(time).to_string()
}

fn timestamp(time: i64) -> Timestamp {
    Timestamp::from_nanosecond(time.into()).unwrap_or_default() // in range: i64 ends in 2262
}

fn nanos(timestamp: Timestamp) -> i64 {
    let nanos = timestamp.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_in_every_way_they_are_written() {
        let noon = 1_769_860_800 * SECOND; // 2026-01-31T12:00:00Z
        for text in [
            "1769860800000",
            "1769860800000.0",
            "2026-01-31T12:00:00Z",
            "2026-01-31 12:00",
            "2026-01-31T14:00:00+02:00",
            "2026-01-31T06:30:00.000-05:30",
        ] {
            assert_eq!(instant(text), Ok(noon), "{text}");
        }
        assert_eq!(instant("1769860800000.000001"), Ok(noon + 1));
        assert_eq!(instant("2026-01-31"), Ok(noon - 12 * HOUR));
        assert_eq!(instant("2026-01-31T12:00:00.000000001Z"), Ok(noon + 1));
        assert_eq!(rfc3339(noon + 120_000_000), "2026-01-31T12:00:00.12Z");
        for text in [
            "",
            "yesterday",
            "2026-02-30",
            "2026-1-1",
            "2026-01-31T25:00Z",
            "2026-01-31x",
            "2026-01-31T12",
            "äääääääää",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00+2",
            "1769860800000.",
            "2026-01-31T12:00[Europe/Berlin]",
            "2026-01-31T1200",
            "1769860800000.0000001",
        ] {
            assert!(instant(text).is_err(), "{text}");
        }
    }

    #[test]
    fn buckets_begin_where_their_offset_says() {
        let time = instant("2026-03-01T01:30:45Z").unwrap();
        let start = |bucket: Bucket, offset: &str| {
            let offset = offset.parse().unwrap();
            rfc3339(bucket.start(time, offset))
        };
        assert_eq!(start(Bucket::Minute, "Z"), "2026-03-01T01:30:00Z");
        assert_eq!(start(Bucket::Hour, "+05:30"), "2026-03-01T01:30:00Z");
        assert_eq!(start(Bucket::Day, "Z"), "2026-03-01T00:00:00Z");
        assert_eq!(start(Bucket::Day, "-02:00"), "2026-02-28T02:00:00Z");
        assert_eq!(start(Bucket::Week, "Z"), "2026-02-23T00:00:00Z");
        assert_eq!(start(Bucket::Month, "Z"), "2026-03-01T00:00:00Z");
        assert_eq!(start(Bucket::Month, "-02:00"), "2026-02-01T02:00:00Z");
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in BUCKETS {
            for offset in ["Z", "+05:30", "-09:00"] {
                let offset = offset.parse().unwrap();
                let mut start = bucket.start(instant("2023-12-30T23:00:00Z").unwrap(), offset);
                for _ in 0..100 {
                    let next = bucket.next(start, offset);
                    assert!(next > start);
                    assert_eq!(bucket.start(next, offset), next);
                    assert_eq!(bucket.start(next - 1, offset), start);
                    start = next;
                }
            }
        }
    }

    #[test]
    fn offsets_are_read_as_they_are_written() {
        for (text, shown) in
            [("Z", "+00:00"), ("+02:00", "+02:00"), (" 05:30", "+05:30"), ("-09", "-09:00")]
        {
            assert_eq!(text.parse::<UtcOffset>().unwrap().to_string(), shown, "{text}");
        }
        for text in
            ["", "2", "+2", "02:00", "+19:00", "+02:60", "+0200", "+02:00:00", "Europe/Berlin"]
        {
            assert!(text.parse::<UtcOffset>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_have_buckets_too() {
        for time in [i64::MIN, i64::MAX] {
            for bucket in BUCKETS {
                assert!(bucket.start(time, UtcOffset::default()) <= time);
                assert!(!label(time, bucket, UtcOffset::default()).is_empty());
            }
        }
        assert_eq!(instant("9999-01-01"), Ok(i64::MAX));
    }
}
