//! Views as files: CSV and JSON lines, with the same filters as the view.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, RETRY_AFTER};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::body::{PieceSender, pieces};
use super::params::{Params, Result};
use super::{Api, ApiError};
use crate::desk::query::{ChartQuery, Page, Selection, TraceQuery};
use crate::desk::store::view::{Chart, List, Series};
use crate::desk::store::{Error, Store};
use crate::printable::is_printable;

/// Rows that are looked up at once.
const ROWS: usize = 500;
/// The first character of a CSV file: it is UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// Concurrent downloads.
pub(super) const MOST_EXPORTS: usize = 16;
/// How long a reader may take for a piece, which is as many rows.
const LONGEST_PIECE: Duration = Duration::from_secs(60);

/// What is exported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ExportView {
    Traces(TraceQuery),
    Sessions(Selection),
    Comments { field: String, search: String, selection: Selection },
    Dataset(Selection),
    Chart(Box<ChartQuery>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportFormat {
    Csv,
    Jsonl,
}

/// The views and the columns of their CSV.
const TRACES: &[&str] = &[
    "trace_id",
    "start",
    "duration_ms",
    "name",
    "service",
    "version",
    "spans",
    "errors",
    "session_id",
    "feedback",
];
const SESSIONS: &[&str] = &[
    "session_id",
    "start",
    "last",
    "service",
    "traces",
    "traces_with_feedback",
    "feedback_leaves",
    "spans",
    "errors",
    "feedback",
];
const DATASET: &[&str] = &[
    "trace_id",
    "span_id",
    "session_id",
    "start",
    "name",
    "service",
    "system",
    "input",
    "output",
    "model",
    "agent",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "tools",
    "ground_truth",
    "feedback",
    "metrics",
];
const COMMENTS: &[&str] = &[
    "given",
    "by",
    "field",
    "text",
    "trace_id",
    "span_id",
    "session_id",
    "start",
    "name",
    "service",
    "system",
    "input",
    "output",
    "model",
    "agent",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "tools",
    "ground_truth",
    "feedback",
    "metrics",
];

impl ExportView {
    pub(crate) fn parse(name: &str, params: &mut Params) -> Result<Self> {
        Ok(match name {
            "traces" => Self::Traces(params.traces()?),
            "sessions" => Self::Sessions(params.selection()?),
            "comments" => Self::Comments {
                field: params.one("field")?.unwrap_or_else(|| super::COMMENT.to_owned()),
                search: params.one("search")?.unwrap_or_default(),
                selection: params.selection()?,
            },
            "dataset" => Self::Dataset(params.selection()?),
            "chart" => Self::Chart(Box::new(params.chart()?)),
            _ => {
                return Err(format!(
                    "there is no view `{name}`: there are traces, sessions, comments, dataset, chart"
                ));
            }
        })
    }
}

impl ExportFormat {
    pub(crate) fn parse(params: &mut Params) -> Result<Self> {
        match params.one("format")?.as_deref() {
            None | Some("csv") => Ok(Self::Csv),
            Some("jsonl") => Ok(Self::Jsonl),
            Some(other) => Err(format!("`format` is `csv` or `jsonl`, not `{other}`")),
        }
    }
}

pub(super) async fn export(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let parse = || {
        let mut params = Params::parse(query.as_deref().unwrap_or_default())?;
        let format = ExportFormat::parse(&mut params)?;
        let view = ExportView::parse(&name, &mut params)?;
        params.finish()?;
        Ok((view, format))
    };
    let (view, format) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => return ApiError::new(StatusCode::BAD_REQUEST, error).into_response(),
    };
    let (content_type, extension) = match format {
        ExportFormat::Csv => ("text/csv; charset=utf-8", "csv"),
        ExportFormat::Jsonl => ("application/x-ndjson", "jsonl"),
    };
    let disposition = format!("attachment; filename=\"feedback-{name}.{extension}\"");
    let Ok(export) = Arc::clone(&api.exports).try_acquire_owned() else {
        let reason = "too many downloads at a time: try again".to_owned();
        let refusal = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason);
        return ([(RETRY_AFTER, "10")], refusal).into_response();
    };
    let (sender, body) = pieces();
    let (first, begun) = tokio::sync::oneshot::channel();
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || {
        let _export = export;
        let buffer = Vec::new();
        let mut out = ExportWriter { sender, first: Some(first), format, buffer, handle, api };
        match write(&view, &mut out) {
            Ok(true) => out.sender.finish(),
            Ok(false) => {} // the client has disconnected, or has stopped reading
            Err(error) => {
                // After the first piece the connection is closed without an end of the body.
                if let Some(first) = out.first.take() {
                    let _ = first.send(Err(error));
                }
            }
        }
    });
    match begun.await {
        Ok(Ok(())) => {
            let headers =
                [(CONTENT_TYPE, content_type.to_owned()), (CONTENT_DISPOSITION, disposition)];
            (headers, body).into_response()
        }
        Ok(Err(error)) => ApiError::from(error).into_response(),
        Err(_) => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "nothing was exported".to_owned())
                .into_response()
        }
    }
}

/// Where rows go.
struct ExportWriter {
    api: Api,
    handle: Handle,
    sender: PieceSender,
    /// Told when the first query has succeeded.
    first: Option<tokio::sync::oneshot::Sender<std::result::Result<(), Error>>>,
    format: ExportFormat,
    buffer: Vec<u8>,
}

impl ExportWriter {
    /// Runs a query, as one of the few that run at a time: a slow reader holds up no other.
    fn query<T>(
        &self,
        query: impl FnOnce(&dyn Store) -> std::result::Result<T, Error>,
    ) -> std::result::Result<T, Error> {
        let _permit = self.handle.block_on(self.api.permit());
        query(&*self.api.store)
    }

    /// Sends the buffer. Returns whether the client is still connected, and reads.
    fn flush(&mut self) -> bool {
        if let Some(first) = self.first.take() {
            let _ = first.send(Ok(()));
        }
        let piece = std::mem::take(&mut self.buffer);
        let sent = async { timeout(LONGEST_PIECE, self.sender.send(piece)).await };
        self.handle.block_on(sent).unwrap_or(false)
    }

    fn row(&mut self, columns: &[&str], row: &Map<String, Json>) {
        match self.format {
            ExportFormat::Jsonl => {
                // Into memory, of what was JSON already: it can't fail.
                let _ = serde_json::to_writer(&mut self.buffer, row);
                self.buffer.push(b'\n');
            }
            ExportFormat::Csv => {
                let cells = columns.iter().map(|column| row.get(*column).unwrap_or(&Json::Null));
                self.buffer.extend_from_slice(csv_line(cells.map(cell)).as_bytes());
            }
        }
    }

    fn head(&mut self, columns: &[&str]) {
        if self.format == ExportFormat::Csv {
            let line = csv_line(columns.iter().map(|column| (*column).to_owned()));
            // Without it, spreadsheets read the file in the character set of the machine.
            self.buffer.extend_from_slice(BYTE_ORDER_MARK.as_bytes());
            self.buffer.extend_from_slice(line.as_bytes());
        }
    }
}

/// Writes a view. Returns whether it was read to its end.
fn write(view: &ExportView, out: &mut ExportWriter) -> std::result::Result<bool, Error> {
    match view {
        ExportView::Traces(query) => {
            pages(out, TRACES, |store, page| store.traces(&TraceQuery { page, ..query.clone() }))
        }
        ExportView::Sessions(selection) => {
            pages(out, SESSIONS, |store, page| store.sessions(selection, &page))
        }
        ExportView::Comments { field, search, selection } => {
            pages(out, COMMENTS, |store, page| store.comments(field, search, selection, &page))
        }
        ExportView::Dataset(selection) => {
            pages(out, DATASET, |store, page| store.dataset(selection, &page))
        }
        ExportView::Chart(query) => {
            let chart = out.query(|store| store.chart(query))?;
            let (columns, rows) = table(&chart);
            let columns: Vec<_> = columns.iter().map(String::as_str).collect();
            out.head(&columns);
            for row in rows {
                out.row(&columns, &row);
            }
            Ok(out.flush())
        }
    }
}

fn pages<T: Serialize>(
    out: &mut ExportWriter,
    columns: &[&str],
    look: impl Fn(&dyn Store, Page) -> std::result::Result<List<T>, Error>,
) -> std::result::Result<bool, Error> {
    out.head(columns);
    let mut after = None;
    loop {
        let list = out.query(|store| look(store, Page { limit: ROWS, after }))?;
        for row in &list.rows {
            if let Ok(Json::Object(mut row)) = serde_json::to_value(row) {
                if let Some(Json::Array(said)) = row.get("feedback") {
                    let flat = flat(said);
                    row.insert("feedback".to_owned(), flat);
                }
                out.row(columns, &row);
            }
        }
        let is_read = out.flush();
        match list.next.and_then(|next| next.parse().ok()) {
            Some(next) if is_read => after = Some(next),
            _ => return Ok(is_read),
        }
    }
}

/// A list of leaves as an object. Where several spans of a trace have the same field, as a list.
fn flat(said: &[Json]) -> Json {
    let mut flat = Map::new();
    for one in said {
        let (Some(field), Some(value)) = (one["field"].as_str(), one.get("value")) else {
            continue;
        };
        let key = field.strip_prefix("feedback.").unwrap_or(field);
        match flat.get_mut(key) {
            None => {
                flat.insert(key.to_owned(), value.clone());
            }
            Some(Json::Array(values)) => values.push(value.clone()),
            Some(first) => *first = Json::Array(vec![first.take(), value.clone()]),
        }
    }
    Json::Object(flat)
}

/// A chart as rows: a bucket of a group each, and the measures.
pub(crate) fn table(chart: &Chart) -> (Vec<String>, Vec<Map<String, Json>>) {
    let mut columns: Vec<_> = ["part", "group", "bucket"].map(str::to_owned).into();
    columns.extend(chart.measures.iter().cloned());
    let mut rows = Vec::new();
    let others = chart.compare.iter().map(|other| (other.with.as_str(), &other.part));
    for (name, part) in [("", &chart.part)].into_iter().chain(others) {
        let series: Vec<&Series> =
            if part.groups.is_empty() { vec![&part.total] } else { part.groups.iter().collect() };
        for series in series {
            let group = match (&series.group, series.is_other) {
                (_, true) => Json::from("(other)"),
                (Some(group), _) => Json::from(group.as_str()),
                (None, _) => Json::Null,
            };
            for (at, label) in part.labels.iter().enumerate() {
                let mut row = Map::new();
                row.insert("part".to_owned(), Json::from(name));
                row.insert("group".to_owned(), group.clone());
                row.insert("bucket".to_owned(), Json::from(label.as_str()));
                for measure in &chart.measures {
                    let points = series.points.get(measure);
                    let value = points.and_then(|points| points.get(at).copied().flatten());
                    row.insert(measure.clone(), Json::from(value));
                }
                rows.push(row);
            }
        }
    }
    (columns, rows)
}

fn cell(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// A line of RFC 4180, of cells that a spreadsheet takes for text or numbers.
pub(crate) fn csv_line(cells: impl Iterator<Item = String>) -> String {
    let mut line = String::new();
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            line.push(',');
        }
        let cell = csv_text(&cell);
        let is_blank = |end: Option<char>| end.is_some_and(char::is_whitespace);
        if cell.contains(|each: char| matches!(each, '"' | ',' | ';') || each.is_control())
            || is_blank(cell.chars().next())
            || is_blank(cell.chars().next_back())
        {
            line.push('"');
            line.push_str(&cell.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(&cell);
        }
    }
    line.push_str("\r\n");
    line
}

/// A cell in which nothing is a formula. One that a spreadsheet would run gets a `'` in front; so does a part
/// of it that is a cell of its own for a program that takes line feeds, semicolons or tabs for the ends of
/// cells, wherever they stand
/// ([CSV injection](https://owasp.org/www-community/attacks/CSV_Injection)).
fn csv_text(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len() + 1);
    if is_formula(cell) {
        text.push('\'');
    }
    let mut rest = cell;
    while let Some(end) = rest.find(is_end_of_cell) {
        let after = end + rest[end..].chars().next().map_or(0, char::len_utf8);
        text.push_str(&rest[..after]);
        rest = &rest[after..];
        let part = &rest[..rest.find(is_end_of_cell).unwrap_or(rest.len())];
        if is_formula(part) {
            text.push('\'');
        }
    }
    text.push_str(rest);
    text
}

fn is_end_of_cell(each: char) -> bool {
    matches!(
        each,
        '\n' | '\r' | '\t' | ';' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// Whether a text begins as a formula does, after characters that are not seen. A number is none.
fn is_formula(text: &str) -> bool {
    if text.starts_with(['\t', '\r']) {
        return true;
    }
    let is_unseen = |each: char| each.is_whitespace() || !is_printable(each) || is_ignorable(each);
    let seen = text.trim_start_matches(is_unseen);
    let is_number = || {
        text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
            && text.parse::<f64>().is_ok()
    };
    seen.starts_with(FORMULA) && !is_number()
}

/// Characters without a shape of their own, which may be left out where a text is shown (`Default_Ignorable_Code_Point`).
/// They may stand in any text: emoji are made with them.
fn is_ignorable(each: char) -> bool {
    matches!(each,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

/// The first characters of formulas, also full-width and small, as East Asian spreadsheets take them, and the
/// minus sign.
const FORMULA: [char; 13] = [
    '=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}', '\u{fe66}', '\u{fe62}',
    '\u{fe63}', '\u{fe6b}', '\u{2212}',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_quoted_and_no_formula() {
        let line = |cells: &[&str]| csv_line(cells.iter().map(|cell| (*cell).to_owned()));
        assert_eq!(line(&["a", "b,c", "d\"e", ""]), "a,\"b,c\",\"d\"\"e\",\r\n");
        assert_eq!(line(&["=1+1", "-5", "-x", "@x"]), "'=1+1,-5,'-x,'@x\r\n");
        assert_eq!(line(&["a;b", " a", "a\t"]), "\"a;b\",\" a\",\"a\t\"\r\n");
        for (cell, text) in [
            ("-1.5e-3", "-1.5e-3"),
            ("1-2", "1-2"),
            ("a = b", "a = b"),
            ("a-b\nc=d", "a-b\nc=d"),
            ("-inf", "'-inf"),
            ("+NaN", "'+NaN"),
            (" =1", "' =1"),
            ("\u{a0}\u{3000}@x", "'\u{a0}\u{3000}@x"),
            ("\u{feff}=1", "'\u{feff}=1"),
            ("\u{200b}\u{202e}=1", "'\u{200b}\u{202e}=1"),
            ("\u{ad}\u{34f}\u{fe0f}\u{3164}\u{200d}=1", "'\u{ad}\u{34f}\u{fe0f}\u{3164}\u{200d}=1"),
            ("\n=1", "'\n'=1"),
            ("\tx", "'\tx"),
            ("\rx", "'\rx"),
            ("\0=1", "'\0=1"),
            ("a\n=1", "a\n'=1"),
            ("a\r\n  +1\nb", "a\r\n'  +1\nb"),
            ("a;=1;b", "a;'=1;b"),
            ("a\t@x", "a\t'@x"),
            ("a\u{2028}-x", "a\u{2028}'-x"),
            ("＝1", "'＝1"),
            ("＋1", "'＋1"),
            ("－x", "'－x"),
            ("＠x", "'＠x"),
            ("−x", "'−x"),
        ] {
            assert_eq!(csv_text(cell), text, "{cell:?}");
        }
    }
}
