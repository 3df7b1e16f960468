//! Times as users write them: instants, time zones, and chart buckets from a minute to a month.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::{self, TimeZone};
use jiff::{Timestamp, ToSpan};

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

/// A time zone: a name such as `Europe/Berlin`, whose offset from UTC changes within a year, or an offset
/// as in `+05:30`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zone(TimeZone);

impl Bucket {
    /// The start of the bucket that contains a time.
    pub(crate) fn start(self, time: i64, zone: &Zone) -> i64 {
        let local = zone.local(time);
        match self {
            Self::Minute => zone.floor(time, MINUTE),
            Self::Hour => zone.floor(time, HOUR),
            Self::Day => zone.midnight(local.date()),
            Self::Week => {
                let days = local.weekday().to_monday_zero_offset().days();
                zone.midnight(local.date().saturating_sub(days))
            }
            Self::Month => zone.midnight(local.date().first_of_month()),
        }
    }

    /// The start of the bucket after the one that starts here. A day may have 23 or 25 hours.
    pub(crate) fn next(self, start: i64, zone: &Zone) -> i64 {
        let date = zone.local(start).date();
        match self {
            Self::Minute => zone.ceil(start, MINUTE),
            Self::Hour => zone.ceil(start, HOUR),
            Self::Day => zone.midnight(date.saturating_add(1.day())),
            Self::Week => zone.midnight(date.saturating_add(7.days())),
            Self::Month => zone.midnight(date.first_of_month().saturating_add(1.month())),
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
/// left out. Without an offset it is a time of `zone`.
pub(crate) fn instant(text: &str, zone: &Zone) -> Result<i64, String> {
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(millis.saturating_mul(1_000_000));
    }
    fractional_millis(text).or_else(|| date_time(text, zone)).ok_or_else(|| {
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

fn date_time(text: &str, zone: &Zone) -> Option<i64> {
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
    match pieces.to_numeric_offset() {
        Some(offset) => offset.to_timestamp(local).ok().map(nanos),
        None => Some(zone.instant(local)),
    }
}

impl Zone {
    fn local(&self, time: i64) -> DateTime {
        self.0.to_datetime(timestamp(time))
    }

    /// The begin of the period before one, which is as long. Periods of a day and more are as long by the
    /// clock: before two days, one of them of 23 hours, are two days.
    pub(crate) fn previous(&self, from: i64, to: i64) -> i64 {
        let length = to.saturating_sub(from);
        if length < DAY - 2 * HOUR {
            return from.saturating_sub(length);
        }
        let (begin, end) = (self.local(from), self.local(to));
        match begin.checked_sub(end.duration_since(begin)) {
            Ok(local) => self.instant(local),
            Err(_) => i64::MIN,
        }
    }

    /// The last multiple of `length`, in local time, that is not after `time`; or the change of the clocks
    /// since then. (Where they change by half an hour, an hour ends with the change.)
    fn floor(&self, time: i64, length: i64) -> i64 {
        let floor = time.saturating_sub(self.past(time, length));
        let change = self.0.preceding(timestamp(time.saturating_add(1))).next();
        change.map_or(floor, |change| floor.max(nanos(change.timestamp())))
    }

    /// The first multiple of `length`, in local time, that is after `time`; or the change of the clocks
    /// before that.
    fn ceil(&self, time: i64, length: i64) -> i64 {
        let ceil = time.saturating_add(length - self.past(time, length));
        let change = self.0.following(timestamp(time)).next();
        change.map_or(ceil, |change| ceil.min(nanos(change.timestamp())))
    }

    /// The time since the last multiple of `length`, in local time.
    fn past(&self, time: i64, length: i64) -> i64 {
        let offset = i64::from(self.0.to_offset(timestamp(time)).seconds()) * SECOND;
        (time.rem_euclid(length) + offset.rem_euclid(length)).rem_euclid(length)
    }

    /// The instant at which a day begins: where the clocks skip midnight, the first after it. At the ends of
    /// the calendar the nearest there is.
    fn midnight(&self, date: Date) -> i64 {
        self.instant(date.to_datetime(Time::midnight()))
    }

    fn instant(&self, local: DateTime) -> i64 {
        match self.0.to_timestamp(local) {
            Ok(timestamp) => nanos(timestamp),
            Err(_) if local.year() > 1970 => i64::MAX,
            Err(_) => i64::MIN,
        }
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "Z" | "z" | "UTC") {
            return Ok(Self::default());
        }
        match text.as_bytes().first() {
            // A `+` in a query string is a space.
            Some(b'+' | b'-' | b' ') => offset(text).map(|offset| Self(TimeZone::fixed(offset))),
            _ => TimeZone::get(text).ok().map(Self),
        }
        .ok_or_else(|| {
            format!(
                "`{text}` is not a time zone: use a name such as Europe/Berlin, or an offset from UTC \
                 such as +02:00"
            )
        })
    }
}

fn offset(text: &str) -> Option<tz::Offset> {
    let (sign, rest) = text.split_at_checked(1)?;
    let sign = if sign == "-" { -1 } else { 1 };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
    let two_digits = |text: &str| -> Option<i32> {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| text.parse().ok()).flatten()
    };
    let hours = two_digits(hours).filter(|hours| *hours <= 18)?;
    let minutes = two_digits(minutes).filter(|minutes| *minutes < 60)?;
    tz::Offset::from_seconds(sign * (hours * 60 + minutes) * 60).ok()
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.0.iana_name().filter(|name| *name != "UTC") {
            return f.write_str(name);
        }
        let seconds = self.0.to_fixed_offset().map_or(0, |offset| offset.seconds());
        let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// The start of a bucket as text, in local time.
pub(crate) fn label(start: i64, bucket: Bucket, zone: &Zone) -> String {
    let format = match bucket {
        Bucket::Month => "%Y-%m",
        Bucket::Day | Bucket::Week => "%Y-%m-%d",
        Bucket::Hour | Bucket::Minute => "%Y-%m-%d %H:%M",
    };
    zone.local(start).strftime(format).to_string()
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

    fn utc(text: &str) -> Result<i64, String> {
        instant(text, &Zone::default())
    }

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
            assert_eq!(utc(text), Ok(noon), "{text}");
        }
        assert_eq!(utc("1769860800000.000001"), Ok(noon + 1));
        assert_eq!(utc("2026-01-31"), Ok(noon - 12 * HOUR));
        assert_eq!(utc("2026-01-31T12:00:00.000000001Z"), Ok(noon + 1));
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
            assert!(utc(text).is_err(), "{text}");
        }
    }

    #[test]
    fn buckets_begin_where_their_offset_says() {
        let time = utc("2026-03-01T01:30:45Z").unwrap();
        let start = |bucket: Bucket, zone: &str| {
            let zone = zone.parse().unwrap();
            rfc3339(bucket.start(time, &zone))
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
            for (zone, from) in [
                ("Z", "2023-12-30T23:00:00Z"),
                ("+05:30", "2023-12-30T23:00:00Z"),
                ("-09:00", "2023-12-30T23:00:00Z"),
                // The clocks change on 29 March and 25 October 2026.
                ("Europe/Berlin", "2026-03-28T20:00:00Z"),
                ("Europe/Berlin", "2026-10-24T20:00:00Z"),
                // By half an hour, on 4 April 2026.
                ("Australia/Lord_Howe", "2026-04-03T20:00:00Z"),
                // At midnight, on 6 September 2026: that day begins at one o'clock.
                ("America/Santiago", "2026-09-05T20:00:00Z"),
            ] {
                let zone: Zone = zone.parse().unwrap();
                let mut start = bucket.start(utc(from).unwrap(), &zone);
                for _ in 0..100 {
                    let next = bucket.next(start, &zone);
                    assert!(next > start, "{zone} {}", rfc3339(start));
                    assert_eq!(bucket.start(next, &zone), next, "{zone} {}", rfc3339(next));
                    assert_eq!(bucket.start(next - 1, &zone), start, "{zone} {}", rfc3339(next));
                    start = next;
                }
            }
        }
    }

    #[test]
    fn days_of_a_named_zone_change_with_its_clocks() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let start = |time: &str| rfc3339(Bucket::Day.start(utc(time).unwrap(), &berlin));
        assert_eq!(start("2026-01-15T12:00:00Z"), "2026-01-14T23:00:00Z");
        assert_eq!(start("2026-06-15T12:00:00Z"), "2026-06-14T22:00:00Z");
        let spring = utc("2026-03-28T23:00:00Z").unwrap();
        assert_eq!(Bucket::Day.next(spring, &berlin) - spring, 23 * HOUR);
        let autumn = utc("2026-10-24T22:00:00Z").unwrap();
        assert_eq!(Bucket::Day.next(autumn, &berlin) - autumn, 25 * HOUR);
        // What is said without an offset is said in the zone.
        assert_eq!(instant("2026-06-15", &berlin), utc("2026-06-14T22:00:00Z"));
        assert_eq!(instant("2026-01-15T08:00", &berlin), utc("2026-01-15T07:00:00Z"));
        assert_eq!(instant("2026-01-15T08:00Z", &berlin), utc("2026-01-15T08:00:00Z"));
    }

    #[test]
    fn the_period_before_is_as_long_by_the_clock() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        for (from, to, before) in [
            ("2026-03-29", "2026-03-31", "2026-03-27"),
            ("2026-03-30", "2026-03-31", "2026-03-29"),
            ("2026-03-29", "2026-03-30", "2026-03-28"),
            ("2026-10-25", "2026-10-27", "2026-10-23"),
            ("2026-10-26T00:00", "2026-10-26T06:00", "2026-10-25T18:00"),
            ("2026-10-25T12:00", "2026-10-25T18:00", "2026-10-25T06:00"),
            ("2026-10-25T00:00Z", "2026-10-25T01:00Z", "2026-10-24T23:00Z"),
        ] {
            let time = |text| instant(text, &berlin).unwrap();
            assert_eq!(
                rfc3339(berlin.previous(time(from), time(to))),
                rfc3339(time(before)),
                "{from}"
            );
        }
        let utc = Zone::default();
        assert_eq!(utc.previous(10 * DAY, 12 * DAY + 5), 8 * DAY - 5);
        assert!(utc.previous(i64::MIN, i64::MAX) <= 0);
        assert!(utc.previous(0, i64::MAX) < 0);
    }

    #[test]
    fn zones_are_read_as_they_are_written() {
        for (text, shown) in [
            ("Z", "+00:00"),
            ("+02:00", "+02:00"),
            (" 05:30", "+05:30"),
            ("-09", "-09:00"),
            ("Europe/Berlin", "Europe/Berlin"),
            ("europe/berlin", "Europe/Berlin"),
        ] {
            assert_eq!(text.parse::<Zone>().unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "2",
            "+2",
            "02:00",
            "+19:00",
            "+02:60",
            "+0200",
            "+02:00:00",
            "Europe/Nowhere",
            "../etc/passwd",
            "/etc/localtime",
            "posixrules/../x",
        ] {
            assert!(text.parse::<Zone>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_have_buckets_too() {
        for time in [i64::MIN, i64::MAX] {
            for bucket in BUCKETS {
                assert!(bucket.start(time, &Zone::default()) <= time);
                assert!(!label(time, bucket, &Zone::default()).is_empty());
            }
        }
        assert_eq!(utc("9999-01-01"), Ok(i64::MAX));
    }
}
