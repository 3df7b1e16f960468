//! `feedback-desk chart`.

use std::fmt::Write as _;
use std::time::Duration;

use lexopt::{Parser, ValueExt};
use serde_json::Value as Json;

use super::json::printable_json;
use super::{CommandError, CommandResult, print};
use crate::desk::api::params::Params;
use crate::desk::api::{csv_line, table};
use crate::desk::log::log_line;
use crate::desk::store::location::Location;
use crate::desk::store::view::{Chart, ChartPart};
use crate::printable::printable;

/// On the command line one may wait longer than on a page.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// The flags, as the parameters of the API they are.
#[derive(Debug, Default)]
pub(super) struct ChartCommand {
    pub(super) field: Option<String>,
    query: String,
    format: Option<String>,
}

impl ChartCommand {
    /// Reads one flag, if it is known.
    pub(super) fn flag(&mut self, name: &str, parser: &mut Parser) -> Result<bool, CommandError> {
        let parameter = match name {
            "measure" | "group" | "top" | "filter" | "from" | "to" | "time" | "tz" | "compare" => {
                name
            }
            "by" => "bucket",
            "format" => {
                self.format = Some(parser.value()?.string()?);
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let value = parser.value()?.string()?;
        let _ = write!(self.query, "&{parameter}={}", encoded(&value)); // a String takes all
        Ok(true)
    }

    pub(super) fn run(self, store: &Location) -> CommandResult {
        let Some(field) = self.field else {
            return Err(CommandError::Usage(
                "chart takes a field, as in feedback.rating".to_owned(),
            ));
        };
        let query = format!("field={}{}", encoded(&field), self.query);
        let mut params = Params::parse(&query).map_err(CommandError::Usage)?;
        let query = params.chart().map_err(CommandError::Usage)?;
        params.finish().map_err(CommandError::Usage)?;
        let store = store.open(LONGEST).map_err(CommandError::Failed)?;
        let chart = store.chart(&query).map_err(CommandError::failed)?;
        let text = match self.format.as_deref() {
            None | Some("table") => as_table(&chart),
            Some("csv") => as_csv(&chart),
            Some("json") => {
                let json = serde_json::to_string_pretty(&chart).map_err(CommandError::failed)?;
                printable_json(&json) + "\n"
            }
            Some(other) => {
                return Err(CommandError::Usage(format!(
                    "--format is table, csv or json, not `{other}`"
                )));
            }
        };
        print(&text)?;
        log_line(&values(&chart.part, &chart));
        if let Some(compared) = &chart.compare {
            log_line(&format!("{}: {}", printable(&compared.with), values(&compared.part, &chart)));
        }
        Ok(())
    }
}

/// How many values there are.
fn values(part: &ChartPart, chart: &Chart) -> String {
    let mut text = format!("{} values of type {}", part.values, chart.kind.name());
    for (kind, count) in &part.left_out {
        let _ = write!(text, ", {count} of type {kind} left out");
    }
    if part.out_of_time > 0 {
        let _ = write!(text, ", {} left out because of their time", part.out_of_time);
    }
    text
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn as_csv(chart: &Chart) -> String {
    let (columns, rows) = table(chart);
    let mut text = csv_line(columns.iter().cloned());
    for row in rows {
        text += &csv_line(columns.iter().map(|column| match row.get(column) {
            // It may be shown in a terminal; the CSV of the API is exact.
            Some(Json::String(text)) => printable(text),
            Some(Json::Null) | None => String::new(),
            Some(value) => value.to_string(),
        }));
    }
    text
}

/// Columns of one width, figures to the right.
fn as_table(chart: &Chart) -> String {
    let (mut columns, rows) = table(chart);
    // Empty columns are left out.
    columns.retain(|column| {
        let is_said = |row: &serde_json::Map<String, Json>| {
            !matches!(row.get(column), None | Some(Json::Null)) && row[column] != ""
        };
        chart.measures.contains(column)
            || rows.iter().any(is_said)
            || (column == "group" && !chart.part.groups.is_empty())
    });
    let shown = |row: &serde_json::Map<String, Json>, column: &String| match row.get(column) {
        Some(Json::String(text)) => printable(text),
        Some(Json::Number(number)) => figure(number.as_f64().unwrap_or(f64::NAN)),
        Some(Json::Null) if column == "group" => "(none)".to_owned(),
        _ => String::new(),
    };
    let mut lines = vec![columns.clone()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|column| shown(row, column)).collect()));
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().enumerate().map(|(at, cell)| {
            let (cell, width) = (cell, widths[at]);
            if chart.measures.contains(&columns[at]) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        let cells: Vec<_> = cells.collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Whole numbers as such, others to three places, and beyond 15 digits by their power of ten.
fn figure(value: f64) -> String {
    if value.abs() >= 1e15 {
        format!("{value:e}")
    } else if value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value.abs() < 0.001 {
        format!("{value:.2e}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (100.0, "100"),
            (0.876_543, "0.877"),
            (-1e14, "-100000000000000"),
            (1e300, "1e300"),
            (-1.5e15, "-1.5e15"),
            (0.000_012_34, "1.23e-5"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
