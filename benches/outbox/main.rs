//! What an outbox costs while the collector is there, and how fast it is emptied afterwards.
//!
//! ```console
//! $ cargo bench --bench outbox --features outbox
//! $ cargo bench --bench outbox --features outbox -- --spans 10000000
//! ```
//!
//! First the wire path as it is, with an outbox that spills, and with one that is written ahead,
//! take turns: CPU time of the thread that makes spans without feedback, and of the one that
//! enriches fresh spans by a literal of five leaves. Then a process leaves a million spans (one in
//! a hundred rated) on disk, since its collector isn't there, and another one sends them to a
//! receiver, each in a process of its own.
//!
//! Argument: `--spans` is how many (1,000,000). With `--test`, or not run by `cargo bench`, there
//! is one tiny round.

#[path = "../process/mod.rs"]
mod process;
mod replay;
mod turns;
#[path = "../work/mod.rs"]
mod work;

use std::path::PathBuf;

use process::Helper;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["receiver"] => return process::serve(),
        ["fill", directory, spans] => return replay::fill(directory, number(spans)),
        ["replay", directory, endpoint] => return replay::replay(directory, endpoint),
        _ => {}
    }
    let is_full = arguments.contains(&"--bench") && !arguments.contains(&"--test");
    let argument = arguments.iter().skip_while(|argument| **argument != "--spans").nth(1);
    let spans = argument.map_or(1_000_000, |spans| number(spans));
    let (rounds, requests, spans) = if is_full { (15, 3000, spans) } else { (1, 10, 1000) };

    let mut receiver = Helper::start(&["receiver"]);
    let endpoint = receiver.read_line();
    turns::print(&endpoint, rounds, requests);
    receiver.end();
    replay::print(spans);
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number of spans")
}

/// A directory for an outbox, removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("tracing-feedback-bench-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
