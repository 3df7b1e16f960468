//! What a span costs until it has arrived: end to end, by OTLP over gRPC to a loopback receiver.
//!
//! ```console
//! $ cargo bench --bench export
//! $ cargo bench --bench export -- paced tracing-feedback fastrace --rounds 5 --seconds 10
//! ```
//!
//! The work is that of `span`, requests of ten spans made by one thread: *paced*, 100,000 spans a
//! second for some seconds, or one *burst* of 200,000 as fast as possible. Receiver and contestant
//! are processes of their own, this program run once more, new in every round. A contestant is
//! warmed up by a second of paced work; then its work is measured until it is shut down. The
//! contestants take turns, the first round is thrown away, and medians are printed. Times are CPU
//! time, in nanoseconds a span:
//!
//! - *app thread*: of the thread that makes the spans; *above registry*: less that of the bare
//!   registry, which exports nothing.
//! - *process*: of all threads until everything has arrived; *above registry*: as before. A contestant
//!   that drops spans saves the cost of their export: *per delivered* divides that by the spans that
//!   have arrived, not by those that were made.
//! - *delivered*: the share of the spans that the receiver has counted.
//! - *peak*: the most memory that was resident, the program itself included, where there is `/proc`.
//!
//! Arguments: names of loads and contestants choose among them, the registry always takes part;
//! `--rounds` is how many count (3), `--seconds` the length of the paced load (5). With `--test`, or
//! not run by `cargo bench`, there is one tiny round.

mod contestant;
mod job;
mod plan;
#[path = "../process/mod.rs"]
mod process;
mod table;
#[path = "../work/mod.rs"]
mod work;

use contestant::Contestant;
use job::{Cost, Job, Load};
use plan::Plan;
use process::Helper;
use table::Outcome;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [role] if role == "receiver" => process::serve(),
        [role, job] if role == "contestant" => {
            serde_json::from_str::<Job>(job).expect("a job").run();
        }
        _ => match Plan::from_arguments(arguments) {
            Ok(plan) => run(&plan),
            Err(message) => {
                eprintln!("{message}");
                std::process::exit(2);
            }
        },
    }
}

fn run(plan: &Plan) {
    for (name, load) in &plan.loads {
        let mut outcomes: Vec<_> =
            plan.contestants.iter().map(|contestant| (*contestant, Vec::new())).collect();
        for round in 0..plan.cold_rounds + plan.rounds {
            for (contestant, rounds) in &mut outcomes {
                let outcome = measure(*contestant, plan.warm_up, *load);
                if round >= plan.cold_rounds {
                    rounds.push(outcome);
                }
            }
        }
        println!("\n{name}: {} spans, ns of CPU time a span\n", load.spans());
        table::print(&outcomes);
    }
}

fn measure(contestant: Contestant, warm_up: Load, load: Load) -> Outcome {
    let mut receiver = Helper::start(&["receiver"]);
    let job = Job { contestant, endpoint: receiver.read_line(), warm_up, load };
    let mut worker = Helper::start(&["contestant", &serde_json::to_string(&job).expect("JSON")]);
    assert_eq!(worker.read_line(), "warm");
    let before = received(&mut receiver);
    let cost: Cost = serde_json::from_str(&worker.request_line()).expect("a cost");
    worker.end();
    let arrived = received(&mut receiver) - before;
    receiver.end();

    let spans = load.spans() as f64;
    Outcome {
        thread_nanos: cost.thread.as_nanos() as f64 / spans,
        process_nanos: cost.process.as_nanos() as f64 / spans,
        delivered: arrived as f64 / spans,
        peak_mib: cost.peak_kib.map_or(f64::NAN, |kib| kib as f64 / 1024.0),
    }
}

fn received(receiver: &mut Helper) -> u64 {
    receiver.request_line().parse().expect("a number of spans")
}
