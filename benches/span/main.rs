//! What a span costs the thread that makes it, by its CPU time.
//!
//! ```console
//! $ cargo bench --bench span
//! $ cargo bench --bench span -- --rounds 30
//! ```
//!
//! The work is the same for all: requests of ten spans with two fields each. The contestants take
//! turns, in one process, for some rounds; the first is thrown away, and medians are printed.
//! *Registry* is that of `tracing-subscriber` with a layer that does nothing; *without a layer* it
//! never removes a span, and is a new one for every turn. *Default* is as the layers come,
//! *minimal* with location, threads, target, inactivity and context activation off on both sides.
//! This layer sends what it captures to a receiver, a process of its own, by OTLP over gRPC; its
//! peers end in exporters that drop everything, and so does this layer *with_exporter*, in the same one. *Sampled* and *unsampled* is this layer with a
//! sampler of the SDK that takes every trace, or none; with *keep on* unsampled traces are held,
//! and dropped for new ones, since no feedback arrives.
//!
//! Argument: `--rounds` is how many count (15). With `--test`, or not run by `cargo bench`, there
//! is one tiny round.

mod contestant;
#[path = "../discard/mod.rs"]
mod discard;
#[path = "../process/mod.rs"]
mod process;
#[path = "../work/mod.rs"]
mod work;

use std::thread;
use std::time::Duration;

use cpu_time::ThreadTime;

use contestant::Contestant;
use process::Helper;
use work::SPANS;

/// How long the exporting threads have between two turns.
const PAUSE: Duration = Duration::from_millis(100);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if arguments == ["receiver"] {
        return process::serve();
    }
    let argument = arguments.iter().skip_while(|argument| *argument != "--rounds").nth(1);
    let rounds = argument.and_then(|rounds| rounds.parse().ok()).unwrap_or(15);
    let (rounds, requests) =
        if has("--bench") && !has("--test") { (rounds, 5000) } else { (1, 10) };

    let mut receiver = Helper::start(&["receiver"]);
    let contestants = contestant::all(&receiver.read_line());
    println!("one thread, ns of its CPU time a span\n");
    let registry = print(&contestants, &measure(&contestants, rounds, requests, 1), None);
    println!("\ntwo threads, ns of CPU time of each a span\n");
    print(&contestants, &measure(&contestants, rounds, requests, 2), registry);
    drop(contestants);
    receiver.end();
}

/// The median of each contestant's rounds.
fn measure(contestants: &[Contestant], rounds: usize, requests: u64, threads: usize) -> Vec<f64> {
    let mut all = vec![Vec::new(); contestants.len()];
    for _round in 0..=rounds {
        for (contestant, nanos) in contestants.iter().zip(&mut all) {
            nanos.push(turn(contestant, requests, threads));
            thread::sleep(if requests > 1000 { PAUSE } else { Duration::ZERO });
        }
    }
    let median = |mut nanos: Vec<f64>| {
        nanos.remove(0); // cold
        nanos.sort_by(f64::total_cmp);
        nanos[nanos.len() / 2]
    };
    all.into_iter().map(median).collect()
}

fn turn(contestant: &Contestant, requests: u64, threads: usize) -> f64 {
    let work = || {
        (0..requests / 5).for_each(|user| (contestant.request)(user)); // the thread is new, and cold
        let before = ThreadTime::now();
        (0..requests).for_each(|user| (contestant.request)(user));
        before.elapsed().as_nanos() as f64
    };
    let dispatch = (contestant.dispatch)();
    let nanos: f64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| tracing::dispatcher::with_default(&dispatch, work)))
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("it ends")).sum()
    });
    nanos / (requests * SPANS) as f64 / threads as f64
}

/// Prints the table. `of_one_thread` is what the registry has cost there.
fn print(contestants: &[Contestant], nanos: &[f64], of_one_thread: Option<f64>) -> Option<f64> {
    let of = |name: &str| {
        let at = contestants.iter().position(|contestant| contestant.name == name)?;
        Some(nanos[at])
    };
    let registry = of("registry")?;
    println!("| {:<32} | {:>7} | {:>14} | {:>10} |", "", "a span", "above registry", "× registry");
    println!("| --- | ---: | ---: | ---: |");
    for (contestant, nanos) in contestants.iter().zip(nanos) {
        let (name, above) = (contestant.name, nanos - registry);
        println!("| {name:<32} | {nanos:>7.1} | {above:>14.1} | {:>10.2} |", above / registry);
    }
    for settings in ["default", "minimal"] {
        for ours in ["tracing-feedback", "ours with_exporter"] {
            let ours = format!("{ours}, {settings}");
            let ours_above = of(&ours)? - registry;
            for peer in [format!("tracing-opentelemetry, {settings}"), "fastrace".to_owned()] {
                let peer_above = of(&peer)? - registry;
                println!("above registry: {ours} / {peer}: {:.2}", ours_above / peer_above);
            }
        }
    }
    let (off, on) = (of("ours, unsampled")?, of("ours, unsampled, keep on")?);
    println!("unsampled, a span: keep on / keep off: {:.2}", on / off);
    let sampled = of("ours, sampled")?;
    println!("a span: unsampled, keep on / sampled: {:.2}", on / sampled);
    if let Some(before) = of_one_thread {
        println!("the registry itself: {:.2} of what it costs on one thread", registry / before);
    }
    Some(registry)
}
