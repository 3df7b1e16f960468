//! This layer against the one that people have today: the same program under both gives the same
//! spans, but for the differences that `docs/migration.md` lists.
//!
//! The programs are random, by a seed that a failure prints with the program, cut to the steps that it
//! takes. `DIFFERENTIAL_PROGRAMS` is how many are run, `DIFFERENTIAL_SEED` the first seed:
//!
//! ```console
//! $ DIFFERENTIAL_PROGRAMS=10000 DIFFERENTIAL_SEED=1 cargo test --all-features --test it differential
//! ```

mod compare;
mod program;
mod run;

use program::Program;
use run::{Ours, Side, Theirs};

/// What differs between the layers for this program.
fn difference(program: &Program) -> Option<String> {
    compare::difference(&Ours::run(program), &Theirs::run(program))
}

/// The program without the steps that its difference doesn't need.
fn shortened(mut program: Program) -> (Program, String) {
    let mut found = difference(&program).unwrap_or_default();
    let mut at = program.steps.len();
    while at > 0 {
        at -= 1;
        let mut shorter = program.clone();
        shorter.steps.remove(at);
        if let Some(difference) = difference(&shorter) {
            (program, found) = (shorter, difference);
            at = at.min(program.steps.len());
        }
    }
    (program, found)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_programs_give_the_same_spans_under_both_layers() {
    let programs = variable("DIFFERENTIAL_PROGRAMS").unwrap_or(300);
    let first = variable("DIFFERENTIAL_SEED").unwrap_or(20_261_129);
    for seed in first..first + programs {
        let program = Program::random(seed);
        if difference(&program).is_some() {
            let (program, difference) = shortened(program);
            panic!("seed {seed}: ours +, theirs -\n{difference}\n{program:#?}");
        }
    }
}
