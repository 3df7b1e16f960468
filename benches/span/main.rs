//! What a span costs the thread that makes it, by its CPU time.
//!
//! ```console
//! $ cargo bench --bench span
//! $ cargo bench --bench span -- minimal fastrace --rounds 30
//! ```
//!
//! The work is the same for all: requests of ten spans with two fields each. Each contestant is a process of
//! its own, this program run once more, whose only subscriber it is. They take turns for some rounds; the first
//! is thrown away, and medians are printed. The threads that make spans are pinned, each to a core of its own,
//! where the system can do that.
//!
//! *Registry* is that of `tracing-subscriber` with a layer that does nothing; *without a layer* it
//! never removes a span, and is a new one for every turn. *Default* is as the layers come,
//! *minimal* with location, threads, target, inactivity and context activation off on both sides.
//! This layer sends what it captures to a receiver, a process of its own, by OTLP over gRPC; its
//! peers end in exporters that drop everything, and so does this layer *with_exporter*, in the same one.
//! *Sampled* and *unsampled* is this layer with a sampler of the SDK that takes every trace, or none; with
//! *keep on* unsampled traces are held, and dropped for new ones, since no feedback arrives; *rated* is the same
//! with feedback after one request in a hundred.
//!
//! Arguments: words choose the contestants that have one of them in their name, the registry always takes
//! part; `--rounds` is how many count (15). With `--test`, or not run by `cargo bench`, there is one tiny round.

mod contestant;
#[path = "../discard/mod.rs"]
mod discard;
#[path = "../process/mod.rs"]
mod process;
#[path = "../work/mod.rs"]
mod work;

use std::io::stdin;
use std::thread;
use std::time::Duration;

use cpu_time::ThreadTime;

use contestant::Ready;
use process::Helper;
use work::SPANS;

/// How long the exporting threads have between two turns.
const PAUSE: Duration = Duration::from_millis(100);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [role] if role == "receiver" => process::serve(),
        [role, name, endpoint] if role == "contestant" => take_turns(name, endpoint),
        _ => compare(&arguments),
    }
}

fn compare(arguments: &[String]) {
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let rounds = arguments.iter().skip_while(|argument| *argument != "--rounds").nth(1);
    let number = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(15);
    let (number, requests) =
        if has("--bench") && !has("--test") { (number, 5000) } else { (1, 10) };
    let words = arguments.iter().filter(|word| !word.starts_with("--") && Some(*word) != rounds);
    let words: Vec<_> = words.collect();
    let is_chosen = |name: &str| {
        words.is_empty() || name == "registry" || words.iter().any(|word| name.contains(*word))
    };

    let mut receiver = Helper::start(&["receiver"]);
    let endpoint = receiver.read_line();
    let names = contestant::ALL.iter().map(|contestant| contestant.name);
    let mut contestants: Vec<_> = names
        .filter(|name| is_chosen(name))
        .map(|name| (name, Helper::start(&["contestant", name, &endpoint])))
        .collect();
    let mut before = None;
    for threads in [1, 2] {
        println!("\nns of CPU time a span, {threads} thread(s)\n");
        let nanos = measure(&mut contestants, number, requests, threads);
        print(&nanos, before.as_deref());
        before = Some(nanos);
    }
    contestants.into_iter().for_each(|(_, contestant)| contestant.end());
    receiver.end();
}

/// The median of each contestant's rounds.
fn measure(
    contestants: &mut [(&'static str, Helper)],
    rounds: usize,
    requests: u64,
    threads: usize,
) -> Vec<(&'static str, f64)> {
    let mut all = vec![Vec::new(); contestants.len()];
    for _round in 0..=rounds {
        for ((_, contestant), nanos) in contestants.iter_mut().zip(&mut all) {
            let turn = contestant.request(&format!("{requests} {threads}"));
            nanos.push(turn.parse::<f64>().expect("a number"));
            thread::sleep(if requests > 1000 { PAUSE } else { Duration::ZERO });
        }
    }
    let median = |mut nanos: Vec<f64>| {
        nanos.remove(0); // cold
        nanos.sort_by(f64::total_cmp);
        nanos[nanos.len() / 2]
    };
    contestants.iter().map(|(name, _)| *name).zip(all.into_iter().map(median)).collect()
}

/// Runs in a process of its own: takes a turn for each line, with the number of requests and threads.
fn take_turns(name: &str, endpoint: &str) {
    let contestant = contestant::ALL.iter().find(|contestant| contestant.name == name);
    let ready = contestant.map(|contestant| contestant.set_up(endpoint)).expect("a contestant");
    for line in stdin().lines().map_while(Result::ok) {
        let (requests, threads) = line.split_once(' ').expect("two numbers");
        let (requests, threads) = (requests.parse().expect("one"), threads.parse().expect("one"));
        println!("{}", turn(&ready, requests, threads));
    }
}

fn turn(ready: &Ready, requests: u64, threads: usize) -> f64 {
    let work = || {
        (0..requests / 5).for_each(|user| (ready.request)(user)); // the thread is new, and cold
        let before = ThreadTime::now();
        (0..requests).for_each(|user| (ready.request)(user));
        before.elapsed().as_nanos() as f64
    };
    let dispatch = ready.of_turn.map(|dispatch| dispatch());
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let nanos: f64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let core = cores.get(number % cores.len().max(1)).copied();
                let dispatch = dispatch.as_ref();
                scope.spawn(move || {
                    core.map(core_affinity::set_for_current);
                    match dispatch {
                        Some(dispatch) => tracing::dispatcher::with_default(dispatch, work),
                        None => work(),
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("it ends")).sum()
    });
    nanos / (requests * SPANS) as f64 / threads as f64
}

/// Prints the table, and the ratios of the contestants that took part. `before` is what they have cost on
/// one thread.
fn print(nanos: &[(&'static str, f64)], before: Option<&[(&'static str, f64)]>) {
    let find = |nanos: &[(&str, f64)], name: &str| {
        nanos.iter().find(|(of, _)| *of == name).map(|(_, nanos)| *nanos)
    };
    let of = |name: &str| find(nanos, name);
    let registry = of("registry").expect("the registry takes part");
    println!(
        "| {:<32} | {:>7} | {:>14} | {:>12} |",
        "", "a span", "above registry", "of 1 thread's"
    );
    println!("| --- | ---: | ---: | ---: |");
    for (name, nanos) in nanos {
        let above = nanos - registry;
        let of_one = before.and_then(|before| {
            let above_before = find(before, name)? - find(before, "registry")?;
            Some(format!("{:.2}", above / above_before)).filter(|_| above_before > 0.0)
        });
        let of_one = of_one.unwrap_or_default();
        println!("| {name:<32} | {nanos:>7.1} | {above:>14.1} | {of_one:>12} |");
    }
    let ratio = |what: &str, ours: Option<f64>, peer: Option<f64>| {
        if let (Some(ours), Some(peer)) = (ours, peer) {
            println!("{what}: {:.2}", ours / peer);
        }
    };
    let above = |name: &str| of(name).map(|nanos| nanos - registry);
    for settings in ["default", "minimal"] {
        for ours in ["tracing-feedback", "ours with_exporter"] {
            let ours = format!("{ours}, {settings}");
            for peer in [format!("tracing-opentelemetry, {settings}"), "fastrace".to_owned()] {
                ratio(&format!("above registry: {ours} / {peer}"), above(&ours), above(&peer));
            }
        }
    }
    let kept = of("ours, unsampled, keep on");
    ratio("unsampled, a span: keep on / keep off", kept, of("ours, unsampled"));
    ratio("a span: unsampled, keep on / sampled", kept, of("ours, sampled"));
    if let Some(before) = before {
        ratio(
            "the registry itself, of what it costs on one thread",
            Some(registry),
            find(before, "registry"),
        );
    }
}
