//! What a contestant has to do, and what that costs its process.

use std::io::stdin;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cpu_time::{ProcessTime, ThreadTime};
use serde::{Deserialize, Serialize};

use crate::contestant::Contestant;
use crate::work::SPANS;

const TICK: Duration = Duration::from_millis(1);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) contestant: Contestant,
    pub(crate) endpoint: String,
    pub(crate) warm_up: Load,
    pub(crate) load: Load,
}

/// Requests, made by one thread.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    /// Requests per millisecond; `None` for as fast as possible.
    pub(crate) pace: Option<u64>,
}

/// The cost of a load.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// CPU time of the thread that made the spans.
    pub(crate) thread: Duration,
    /// CPU time of its process until all of them had arrived.
    pub(crate) process: Duration,
    /// The peak memory of the process, where the system reports it.
    pub(crate) peak_kib: Option<u64>,
}

impl Job {
    /// Runs in a process of its own: prints that it is warm, waits for a line, and prints the cost.
    pub(crate) fn run(self) {
        let ready = self.contestant.set_up(&self.endpoint);
        self.warm_up.make(ready.request);
        ready.export.flush();
        println!("warm");
        stdin().read_line(&mut String::new()).expect("a line that says go");

        let (process, thread) = (ProcessTime::now(), ThreadTime::now());
        self.load.make(ready.request);
        let thread = thread.elapsed();
        ready.export.shutdown();
        let cost = Cost { thread, process: process.elapsed(), peak_kib: peak_kib() };
        println!("{}", serde_json::to_string(&cost).expect("a cost is JSON"));
    }
}

impl Load {
    pub(crate) fn spans(self) -> u64 {
        self.requests * SPANS
    }

    fn make(self, request: fn(u64)) {
        let mut due = Instant::now();
        for user in 0..self.requests {
            if self.pace.is_some_and(|pace| user % pace == 0) {
                sleep(due.saturating_duration_since(Instant::now()));
                due += TICK;
            }
            request(user);
        }
    }
}

fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.trim().strip_suffix(" kB")?.parse().ok()
}
