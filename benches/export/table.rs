//! The table: what each contestant has cost, and how ours compares with its peers.

use crate::contestant::Contestant;

/// Times are CPU time, in nanoseconds a span.
const COLUMNS: [&str; 7] = [
    "app thread",
    "above registry",
    "process",
    "above registry",
    "per delivered",
    "delivered, %",
    "peak, MiB",
];

/// The figures of a turn; NaN where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// CPU time of the thread that made the spans, a span.
    pub(crate) thread_nanos: f64,
    /// CPU time of its process, a span.
    pub(crate) process_nanos: f64,
    /// The share of the spans, from 0 to 1.
    pub(crate) delivered: f64,
    pub(crate) peak_mib: f64,
}

/// Prints the median of each contestant's rounds, the registry first.
pub(crate) fn print(outcomes: &[(Contestant, Vec<Outcome>)]) {
    let medians: Vec<_> =
        outcomes.iter().map(|(contestant, rounds)| (*contestant, median(rounds))).collect();
    let Some((_, registry)) = medians.first() else { return };
    let row_of = |contestant: Contestant| {
        let (_, outcome) = medians.iter().find(|(other, _)| *other == contestant)?;
        Some(row(outcome, registry))
    };

    line("", COLUMNS.map(str::to_owned));
    line("---", COLUMNS.map(|_| "---:".to_owned()));
    for (contestant, outcome) in &medians {
        let decimals = |value| if value < 150.0 { 1 } else { 0 };
        line(contestant.name(), row(outcome, registry).map(|value| cell(value, decimals(value))));
    }
    for of_ours in [Contestant::Ours, Contestant::OursWithExporter] {
        for peer in [Contestant::OpenTelemetry, Contestant::Fastrace] {
            if let (Some(ours), Some(its)) = (row_of(of_ours), row_of(peer)) {
                let ratios = std::array::from_fn(|column| cell(ours[column] / its[column], 2));
                line(&format!("{} / {}", of_ours.name(), peer.name()), ratios);
            }
        }
    }
}

fn row(outcome: &Outcome, registry: &Outcome) -> [f64; COLUMNS.len()] {
    let process_above = outcome.process_nanos - registry.process_nanos;
    [
        outcome.thread_nanos,
        outcome.thread_nanos - registry.thread_nanos,
        outcome.process_nanos,
        process_above,
        process_above / outcome.delivered,
        100.0 * outcome.delivered,
        outcome.peak_mib,
    ]
}

/// The median of each figure by itself.
fn median(rounds: &[Outcome]) -> Outcome {
    let median = |figure: fn(&Outcome) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        (figures[figures.len() / 2] + figures[(figures.len() - 1) / 2]) / 2.0
    };
    Outcome {
        thread_nanos: median(|outcome| outcome.thread_nanos),
        process_nanos: median(|outcome| outcome.process_nanos),
        delivered: median(|outcome| outcome.delivered),
        peak_mib: median(|outcome| outcome.peak_mib),
    }
}

fn line(head: &str, cells: [String; COLUMNS.len()]) {
    let cells = cells.map(|cell| format!(" {cell:>14} |"));
    println!("| {head:<42} |{}", cells.concat());
}

fn cell(value: f64, decimals: usize) -> String {
    if value.is_nan() { String::new() } else { format!("{value:.decimals$}") }
}
