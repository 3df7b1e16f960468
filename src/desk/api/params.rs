//! The parameters of a request, parsed strictly: an unknown, repeated or malformed parameter is an error,
//! because a view that ignores a filter shows wrong data.

use std::str::FromStr;

use crate::desk::answer::field::AnswerField;
use crate::desk::query::filter::Filter;
use crate::desk::query::measure::Measure;
use crate::desk::query::time::{Zone, instant};
use crate::desk::query::{ChartQuery, Compare, Page, Range, Selection, TimeBasis, TraceQuery};

/// The longest accepted query string.
const LONGEST: usize = 16 << 10;
const MOST: usize = 64;
/// The default number of rows of a page.
const ROWS: usize = 50;
const MOST_ROWS: usize = 500;
/// The default number of groups of a chart.
const TOP: usize = 5;
const MOST_GROUPS: usize = 50;
const MOST_MEASURES: usize = 16;

/// An error says what is wrong with the request.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// A query string; each parameter is removed when it is read.
#[derive(Debug, Default)]
pub(crate) struct Params {
    rest: Vec<(String, String)>,
}

impl Params {
    /// Parses the text after the question mark.
    pub(crate) fn parse(query: &str) -> Result<Self> {
        if query.len() > LONGEST {
            return Err(format!("the query is longer than {LONGEST} bytes"));
        }
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            rest.push((decoded(name)?, decoded(value)?));
        }
        if rest.len() > MOST {
            Err(format!("more than {MOST} parameters"))
        } else {
            Ok(Self { rest })
        }
    }

    /// All values of a parameter.
    fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, rest) =
            std::mem::take(&mut self.rest).into_iter().partition(|(known, _)| known == name);
        self.rest = rest;
        taken.into_iter().map(|(_, value): (String, String)| value).collect()
    }

    /// The only value of a parameter. An empty value counts as missing.
    pub(crate) fn one(&mut self, name: &str) -> Result<Option<String>> {
        let mut values = self.all(name);
        match values.len() {
            0 => Ok(None),
            1 => Ok(values.pop().filter(|value| !value.is_empty())),
            _ => Err(format!("`{name}` is given more than once")),
        }
    }

    pub(crate) fn required(&mut self, name: &str) -> Result<String> {
        self.one(name)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    fn parsed<T: FromStr<Err: ToString>>(&mut self, name: &str) -> Result<Option<T>> {
        let parse = |text: String| {
            text.parse().map_err(|error: T::Err| format!("`{name}`: {}", error.to_string()))
        };
        self.one(name)?.map(parse).transpose()
    }

    /// Refuses parameters that were not read.
    pub(crate) fn finish(self) -> Result<()> {
        match self.rest.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("unknown parameter `{name}`: see /api")),
        }
    }

    /// `tz`: the zone of times without an offset, and of days. Read once, before what it applies to.
    fn zone(&mut self) -> Result<Zone> {
        Ok(self.parsed("tz")?.unwrap_or_default())
    }

    /// `filter` (any number of them), `service`, `from`, `to`, `tz`.
    pub(crate) fn selection(&mut self) -> Result<Selection> {
        let zone = self.zone()?;
        self.selection_in(&zone)
    }

    fn selection_in(&mut self, zone: &Zone) -> Result<Selection> {
        let mut filter = Filter::default();
        for text in self.all("filter") {
            let more = text.parse::<Filter>().map_err(|error| error.to_string())?;
            filter = filter.and(more).map_err(|error| error.to_string())?;
        }
        if let Some(service) = self.one("service")? {
            let more = Filter::is("service.name", &service);
            filter = filter.and(more).map_err(|error| error.to_string())?;
        }
        let mut time = |name: &str| -> Result<Option<i64>> {
            let parse =
                |text: String| instant(&text, zone).map_err(|error| format!("`{name}`: {error}"));
            self.one(name)?.map(parse).transpose()
        };
        Ok(Selection { filter, range: Range::of(time("from")?, time("to")?) })
    }

    /// `limit`, `cursor`.
    pub(crate) fn page(&mut self) -> Result<Page> {
        let limit = self.limit(ROWS, MOST_ROWS)?;
        Ok(Page { limit, after: self.parsed("cursor")? })
    }

    pub(crate) fn limit(&mut self, usual: usize, most: usize) -> Result<usize> {
        match self.parsed::<usize>("limit")? {
            None => Ok(usual),
            Some(limit) if (1..=most).contains(&limit) => Ok(limit),
            Some(_) => Err(format!("`limit` must be from 1 to {most}")),
        }
    }

    /// `span`: the id of a span.
    pub(crate) fn span_id(&mut self) -> Result<Option<u64>> {
        let Some(id) = self.one("span")? else { return Ok(None) };
        let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(&id, 16).ok().filter(|_| is_id);
        number.map(Some).ok_or_else(|| "`span`: a span id has 16 hexadecimal digits".to_owned())
    }

    /// `time=start` or `time=given`.
    fn basis(&mut self) -> Result<TimeBasis> {
        match self.one("time")?.as_deref() {
            None | Some("start") => Ok(TimeBasis::Start),
            Some("given") => Ok(TimeBasis::Given),
            Some(other) => Err(format!("`time` must be `start` or `given`, not `{other}`")),
        }
    }

    /// A list of all traces, without pages.
    pub(crate) fn all_traces(&mut self) -> Result<TraceQuery> {
        let basis = self.basis()?;
        let field = self.one("field")?;
        let mut selection = self.selection()?;
        // Tokens are values of traces themselves, at their start.
        let of = match field {
            Some(field) if matches!(AnswerField::of(&field), Some(AnswerField::Tokens(_))) => {
                let filter = selection.filter.and(Filter::has(&field));
                selection.filter = filter.map_err(|error| error.to_string())?;
                None
            }
            field => field.map(|field| (field, basis)),
        };
        Ok(TraceQuery { selection, of, page: Page::default() })
    }

    /// One page of the list.
    pub(crate) fn traces(&mut self) -> Result<TraceQuery> {
        Ok(TraceQuery { page: self.page()?, ..self.all_traces()? })
    }

    pub(crate) fn chart(&mut self) -> Result<ChartQuery> {
        let measures = match self.one("measure")? {
            None => Vec::new(),
            Some(list) => {
                list.split(',').map(str::parse).collect::<std::result::Result<Vec<Measure>, _>>()?
            }
        };
        if measures.len() > MOST_MEASURES {
            return Err(format!("more than {MOST_MEASURES} measures"));
        }
        let top = self.parsed("top")?.unwrap_or(TOP);
        if !(1..=MOST_GROUPS).contains(&top) {
            return Err(format!("`top` must be from 1 to {MOST_GROUPS}"));
        }
        let compare = match self.one("compare")? {
            None => None,
            Some(text) if text == "previous" => Some(Compare::Previous),
            Some(text) => match text.strip_prefix("version:") {
                Some(version) => Some(Compare::Version(version.to_owned())),
                None => {
                    return Err("`compare` must be `previous` or `version:` followed by a version"
                        .to_owned());
                }
            },
        };
        let bucket = match self.one("bucket")?.as_deref() {
            None | Some("auto") => None,
            Some(bucket) => Some(bucket.parse().map_err(|error| format!("`bucket`: {error}"))?),
        };
        let zone = self.zone()?;
        Ok(ChartQuery {
            field: self.required("field")?,
            measures,
            selection: self.selection_in(&zone)?,
            basis: self.basis()?,
            bucket,
            zone,
            group: self.one("group")?,
            top,
            compare,
        })
    }
}

/// Percent-decoding, with `+` for a space.
pub(crate) fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let pair = digit().zip(digit());
                let (high, low) =
                    pair.ok_or_else(|| format!("`{text}`: a `%` takes two hexadecimal digits"))?;
                (high << 4 | low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| format!("`{text}` is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_strictly() {
        let chart = |query: &str| {
            let mut params = Params::parse(query)?;
            let chart = params.chart()?;
            params.finish()?;
            Ok::<_, String>(chart)
        };
        let query = chart(
            "field=feedback.stars&measure=avg,percentage%3E%3D4&bucket=day&tz=%2B02:00\
             &filter=feedback.rating+is+false&service=chat&from=2026-01-01&group=service.version",
        )
        .unwrap();
        assert_eq!(query.field, "feedback.stars");
        assert_eq!(query.measures.len(), 2);
        assert_eq!(
            query.selection.filter.to_string(),
            "feedback.rating is false and service.name is chat"
        );
        assert_eq!(query.zone.to_string(), "+02:00");
        assert_eq!(query.selection.range.from, instant("2025-12-31T22:00:00Z", &query.zone).ok());
        for (query, error) in [
            ("", "`field` is missing"),
            ("field=a&field=b", "`field` is given more than once"),
            ("field=a&fliter=x", "unknown parameter `fliter`: see /api"),
            ("field=%zz", "`%zz`: a `%` takes two hexadecimal digits"),
            ("field=a&top=0", "`top` must be from 1 to 50"),
            (
                "field=a&bucket=year",
                "`bucket`: `year` is not an interval: use minute, hour, day, week or month",
            ),
        ] {
            assert_eq!(chart(query).unwrap_err(), error);
        }
    }
}
