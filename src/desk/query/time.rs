//! Time as people read it: instants, offsets from UTC, and buckets from a minute to a month.

use std::fmt;
use std::str::FromStr;

pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// What a chart collects values by.
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

/// An offset from UTC, as in `+05:30`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offset {
    nanos: i64,
}

impl Bucket {
    /// The beginning of the bucket a time lies in.
    pub(crate) fn start(self, time: i64, offset: Offset) -> i64 {
        let local = time.saturating_add(offset.nanos);
        let start = match self {
            Self::Minute => local - local.rem_euclid(MINUTE),
            Self::Hour => local - local.rem_euclid(HOUR),
            Self::Day => local - local.rem_euclid(DAY),
            // The epoch was a Thursday.
            Self::Week => local - (local + 3 * DAY).rem_euclid(7 * DAY),
            Self::Month => {
                let (year, month, _) = civil(local.div_euclid(DAY));
                days(year, month, 1).saturating_mul(DAY)
            }
        };
        start.saturating_sub(offset.nanos)
    }

    /// The beginning of the bucket after the one that begins here.
    pub(crate) fn next(self, start: i64, offset: Offset) -> i64 {
        match self {
            Self::Minute => start.saturating_add(MINUTE),
            Self::Hour => start.saturating_add(HOUR),
            Self::Day => start.saturating_add(DAY),
            Self::Week => start.saturating_add(7 * DAY),
            Self::Month => {
                let local = start.saturating_add(offset.nanos);
                let (year, month, _) = civil(local.div_euclid(DAY));
                let next =
                    if month == 12 { days(year + 1, 1, 1) } else { days(year, month + 1, 1) };
                next.saturating_mul(DAY).saturating_sub(offset.nanos)
            }
        }
    }

    /// How long each is, if all are of one length.
    pub(crate) fn length(self) -> Option<i64> {
        match self {
            Self::Minute => Some(MINUTE),
            Self::Hour => Some(HOUR),
            Self::Day => Some(DAY),
            Self::Week => Some(7 * DAY),
            Self::Month => None,
        }
    }

    /// The one that cuts a stretch of time into about sixty pieces.
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
        BUCKETS
            .into_iter()
            .find(|bucket| bucket.name() == text)
            .ok_or_else(|| format!("`{text}` is none of minute, hour, day, week, month"))
    }
}

/// Milliseconds since the epoch for JSON, to the microsecond.
pub(crate) fn millis(nanos: i64) -> f64 {
    (nanos / 1_000) as f64 / 1_000.0
}

/// An instant: milliseconds since the epoch, or RFC 3339, whose time of day and offset may be left
/// out.
pub(crate) fn instant(text: &str) -> Result<i64, String> {
    let wrong = || {
        format!(
            "`{text}` is no time: write milliseconds since 1970, or a date, or \
             2026-01-31T12:00:00Z"
        )
    };
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(millis.saturating_mul(1_000_000));
    }
    let digits = |text: &str| -> Option<i64> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    };
    // As this crate writes them: `1767225600000.0`, microseconds behind the point.
    if let Some((whole, fraction)) = text.split_once('.')
        && let (Some(millis), Some(_)) = (digits(whole), digits(fraction))
        && fraction.len() <= 6
    {
        let nanos = digits(&format!("{fraction:0<6}")).unwrap_or(0);
        return Ok(millis.saturating_mul(1_000_000).saturating_add(nanos));
    }
    let (date, rest) = text.split_at_checked(10).ok_or_else(wrong)?;
    let mut parts = date.split('-').map(digits);
    let date = (|| Some((parts.next()??, parts.next()??, parts.next()??)))();
    let (year, month, day) = date.filter(|_| parts.next().is_none()).ok_or_else(wrong)?;
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || civil(days(year, month, day)).2 != day
    {
        return Err(wrong());
    }
    let midnight = days(year, month, day).saturating_mul(DAY);
    let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
        return if rest.is_empty() { Ok(midnight) } else { Err(wrong()) };
    };
    let zone = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone);
    let offset = match zone {
        "" | "Z" | "z" => Offset::default(),
        zone => zone.parse().map_err(|_| wrong())?,
    };
    let mut parts = clock.splitn(3, ':');
    let hour = parts.next().and_then(digits).filter(|hour| *hour < 24).ok_or_else(wrong)?;
    let minute = parts.next().and_then(digits).filter(|minute| *minute < 60).ok_or_else(wrong)?;
    let (second, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => {
            let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
            let second = digits(second).filter(|second| *second < 61).ok_or_else(wrong)?;
            let fraction = fraction.get(..fraction.len().min(9)).ok_or_else(wrong)?;
            let padded = format!("{fraction:0<9}");
            (second, digits(&padded).filter(|_| !fraction.is_empty()).ok_or_else(wrong)?)
        }
    };
    let of_day = hour * HOUR + minute * MINUTE + second * SECOND + fraction;
    Ok(midnight.saturating_add(of_day).saturating_sub(offset.nanos))
}

impl Offset {
    pub(crate) fn nanos(self) -> i64 {
        self.nanos
    }
}

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no offset from UTC: write +02:00");
        if matches!(text, "Z" | "z" | "UTC") {
            return Ok(Self::default());
        }
        // A `+` in a query string is a space.
        let (sign, rest) = match text.split_at_checked(1).ok_or_else(wrong)? {
            ("+" | " ", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return Err(wrong()),
        };
        let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
        let two = |text: &str| -> Option<i64> {
            let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse().ok()).flatten()
        };
        let hours = two(hours).filter(|hours| *hours <= 18).ok_or_else(wrong)?;
        let minutes = two(minutes).filter(|minutes| *minutes < 60).ok_or_else(wrong)?;
        Ok(Self { nanos: sign * (hours * HOUR + minutes * MINUTE) })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { '-' } else { '+' };
        let minutes = self.nanos.abs() / MINUTE;
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// A bucket's beginning as people write it, in its own offset.
pub(crate) fn label(start: i64, bucket: Bucket, offset: Offset) -> String {
    let local = start.saturating_add(offset.nanos);
    let (year, month, day) = civil(local.div_euclid(DAY));
    let minutes = local.rem_euclid(DAY) / MINUTE;
    match bucket {
        Bucket::Month => format!("{year:04}-{month:02}"),
        Bucket::Day | Bucket::Week => format!("{year:04}-{month:02}-{day:02}"),
        Bucket::Hour | Bucket::Minute => {
            format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
        }
    }
}

/// RFC 3339 in UTC, to the nanosecond where it has any.
pub(crate) fn rfc3339(time: i64) -> String {
    let (year, month, day) = civil(time.div_euclid(DAY));
    let of_day = time.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / HOUR, of_day % HOUR / MINUTE, of_day % MINUTE / SECOND);
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    match of_day % SECOND {
        0 => text + "Z",
        nanos => format!("{text}.{}Z", format!("{nanos:09}").trim_end_matches('0')),
    }
}

/// Days since the epoch of a date of the Gregorian calendar (Howard Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since the epoch (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
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
}
