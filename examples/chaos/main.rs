//! Proof that feedback is not lost: collectors and services that fail in every way there is, and
//! what arrives in the end.
//!
//! ```text
//! cargo run --release --example chaos --features axum,collector,http-proto,outbox -- --rounds 100
//! ```
//!
//! Every scenario starts this program again, as a service under load and as the port of a
//! collector, and lets something happen to them: `--list` lists them, `--only NAME` plays those
//! whose name begins so, `--rounds` is how often processes are killed, `--seed` repeats a run's
//! moments and places. In the end the service has to report that nothing waits any more, and then
//! must hold:
//!
//! - feedback that was acknowledged, by `flush` or by a 204, was received: folded, once, with the
//!   last value given,
//! - nothing was received that was not given,
//! - of the spans that a service has made, if it ended regularly, each was received, or is counted
//!   as lost by its `stats()`,
//! - nothing is left on disk but what the collector has rejected.
//!
//! The folder: `service` and `gate` are the roles, `process` is a service as seen from outside,
//! `ledger` judges, `world` is the setting of a scenario, `outages`, `crashes` and `disks` are the
//! scenarios.

mod crashes;
mod disks;
mod gate;
mod ledger;
mod outages;
mod process;
mod random;
mod segments;
mod service;
mod table;
mod world;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use table::Row;
use world::{Scenario, World};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Most of a scenario is waiting, so several are played at the same time.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("service") => service::serve(&arguments[1..]).map(|()| true),
        Some(role @ ("gate" | "refuse")) => match &arguments[1..] {
            [port, what] => play_port(role, port, what).map(|()| true),
            _ => Err("a port and what it is for".into()),
        },
        _ => Arguments::read(arguments).and_then(|arguments| play(&arguments)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn play_port(role: &str, port: &str, what: &str) -> Result<()> {
    match role {
        "gate" => gate::gate(port.parse()?, what),
        _ => gate::refuse_all(port.parse()?, what.parse()?),
    }
}

/// The arguments.
struct Arguments {
    rounds: usize,
    seed: u64,
    only: Option<String>,
    is_list: bool,
}

impl Arguments {
    fn read(words: Vec<String>) -> Result<Self> {
        let mut arguments = Self { rounds: 5, seed: 1, only: None, is_list: false };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => arguments.rounds = value()?.parse()?,
                "--seed" => arguments.seed = value()?.parse()?,
                "--only" => arguments.only = Some(value()?),
                "--list" => arguments.is_list = true,
                _ => {
                    let usage = "[--rounds N] [--only NAME] [--seed N] [--list]";
                    return Err(format!("{word:?} is no argument: {usage}").into());
                }
            }
        }
        Ok(arguments)
    }
}

/// Plays the selected scenarios. Returns whether all of them went well.
fn play(arguments: &Arguments) -> Result<bool> {
    let mut scenarios = [crashes::SCENARIOS, disks::SCENARIOS, outages::SCENARIOS].concat();
    if let Some(only) = &arguments.only {
        scenarios.retain(|scenario| scenario.name.starts_with(only));
    }
    if arguments.is_list {
        for Scenario { name, about, .. } in &scenarios {
            println!("{name:<22} {about}");
        }
        return Ok(true);
    }
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = scenarios.get(number) else { return };
                    let row = play_one(scenario, number, arguments);
                    eprintln!("{}: {}", row.scenario, row.verdict());
                    rows.lock().expect("no thread panics").push((number, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner()?;
    rows.sort_by_key(|(number, _)| *number);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    table::print(&rows);
    Ok(!rows.is_empty() && rows.iter().all(Row::has_passed))
}

fn play_one(scenario: &Scenario, number: usize, arguments: &Arguments) -> Row {
    let seed = arguments.seed.wrapping_mul(1009).wrapping_add(number as u64);
    let played = World::new(scenario, seed, arguments.rounds).map(|mut world| {
        let played = (scenario.play)(&mut world);
        let mut row = world.check(scenario);
        if let Err(error) = played {
            row.outcome.problems.push(error.to_string());
        }
        row
    });
    played.unwrap_or_else(|error| {
        let mut row = Row::new(scenario.name);
        row.outcome.problems.push(error.to_string());
        row
    })
}
