//! A process that leaves spans behind, and one that sends them.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use tracing::Dispatch;
use tracing_feedback::{OutboxOptions, enrich_span};
use tracing_subscriber::prelude::*;

use crate::Directory;
use crate::process::Helper;
use crate::work::{SPANS, request};

fn options(directory: &str) -> OutboxOptions {
    OutboxOptions::new(directory).with_max_bytes(u64::MAX / 2)
}

/// Leaves so many spans in the outbox.
pub(crate) fn fill(directory: &str, spans: u64) {
    let (layer, telemetry) = tracing_feedback::builder()
        .with_endpoint("http://127.0.0.1:9") // nothing listens there
        .with_timeout(Duration::from_millis(100))
        .with_outbox(options(directory))
        .build()
        .expect("a layer");
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        for user in 0..spans / SPANS {
            if user % 10 == 0 {
                let _request = tracing::info_span!("rated").entered();
                (0..SPANS - 1).for_each(|step| drop(tracing::info_span!("leaf", step)));
                enrich_span!(feedback = { "rating": user % 2 == 0, "comment": "so so" });
            } else {
                request(user);
            }
            if user % 5000 == 0 {
                telemetry.flush().expect("the disk takes it");
            }
        }
    });
    telemetry.shutdown().expect("the disk takes it");
    let stats = telemetry.stats();
    println!("{} {}", stats.outbox_spans, stats.outbox_bytes);
}

/// Sends all spans, and prints how long that took and the peak memory.
pub(crate) fn replay(directory: &str, endpoint: &str) {
    let (began, before) = (Instant::now(), ProcessTime::now());
    let (_layer, telemetry) = tracing_feedback::builder()
        .with_endpoint(endpoint)
        .with_outbox(options(directory))
        .build()
        .expect("a layer");
    while telemetry.stats().outbox_spans > 0 || telemetry.stats().replayed == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let cpu = before.elapsed().as_millis();
    println!("{} {cpu} {}", began.elapsed().as_millis(), peak_kib());
    let _answer = std::io::stdin().read_line(&mut String::new());
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

pub(crate) fn print(spans: u64) {
    let directory = Directory::new("replay");
    let path = directory.0.to_str().expect("a path that is text");
    let mut filler = Helper::start(&["fill", path, &spans.to_string()]);
    let filled = filler.read_line();
    filler.end();
    let mut receiver = Helper::start(&["receiver"]);
    let endpoint = receiver.read_line();
    let mut replayer = Helper::start(&["replay", path, &endpoint]);
    let (filled, replayed) = (numbers(&filled), numbers(&replayer.read_line()));
    let [spans, bytes] = filled[..] else { panic!("{filled:?}") };
    let [millis, cpu, peak] = replayed[..] else { panic!("{replayed:?}") };
    let received = receiver.request_line();
    replayer.end();
    receiver.end();
    let rate = spans as f64 / millis.max(1) as f64 * 1000.0;
    println!("\n{spans} spans on disk, {} MiB", bytes >> 20);
    println!("received {received} in {millis} ms: {rate:.0} a second");
    println!("of the process that sent them: CPU {cpu} ms, peak memory {} MiB", peak >> 10);
}

fn numbers(line: &str) -> Vec<u64> {
    line.split(' ').map(|number| number.parse().expect("a number")).collect()
}
