//! The table of results.

use crate::ledger::Outcome;

#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    /// The policy and the protocol, or how the scenario was set up.
    pub(crate) how: String,
    pub(crate) rounds: usize,
    /// Whether the scenario was skipped.
    pub(crate) is_skipped: bool,
    pub(crate) outcome: Outcome,
}

impl Row {
    pub(crate) fn new(scenario: &'static str) -> Self {
        Self { scenario, ..Self::default() }
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.outcome.problems.is_empty()
    }

    pub(crate) fn verdict(&self) -> &'static str {
        match self.has_passed() {
            true if self.is_skipped => "not played",
            true => "ok",
            false => "FAILED",
        }
    }

    fn cells(&self) -> [String; 10] {
        let Self { outcome, .. } = self;
        let spans = |of: fn((u64, u64, u64)) -> u64| {
            outcome.spans.map_or_else(|| "-".to_owned(), |spans| of(spans).to_string())
        };
        [
            self.scenario.to_owned(),
            self.how.clone(),
            self.rounds.to_string(),
            outcome.acked.to_string(),
            outcome.received.to_string(),
            outcome.duplicates.to_string(),
            spans(|spans| spans.0),
            spans(|spans| spans.1),
            spans(|spans| spans.2),
            self.verdict().to_owned(),
        ]
    }
}

const HEAD: [&str; 10] = [
    "scenario",
    "how",
    "rounds",
    "acknowledged",
    "received",
    "duplicates",
    "spans made",
    "received",
    "lost",
    "verdict",
];
/// Columns of text; the others are numbers.
const TEXT: [usize; 3] = [0, 1, 9];

pub(crate) fn print(rows: &[Row]) {
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    let width = |at: usize| {
        let of_head = HEAD[at].len();
        cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0).max(of_head)
    };
    let widths: [usize; 10] = std::array::from_fn(width);
    let line = |row: &[String; 10]| {
        let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, width))| {
            if TEXT.contains(&at) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    println!(
        "Feedback acknowledged and received, and the spans of services that ended regularly\n"
    );
    println!("{}", line(&HEAD.map(str::to_owned)));
    println!("{}", widths.map(|width| "-".repeat(width)).join("  "));
    cells.iter().for_each(|row| println!("{}", line(row)));
    for row in rows.iter().filter(|row| row.outcome.overruled > 0) {
        let (scenario, overruled) = (row.scenario, row.outcome.overruled);
        println!("\n{scenario}: {overruled} changes of mind that no one had acknowledged when the");
        println!("service was killed have arrived, but count less than what they changed.");
    }
    for row in rows.iter().filter(|row| !row.has_passed()) {
        println!("\n{} ({}):", row.scenario, row.how);
        row.outcome.problems.iter().for_each(|problem| println!("  {problem}"));
    }
}
