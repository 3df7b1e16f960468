//! The wire path with and without an outbox, in turns.

use std::hint::black_box;
use std::time::Duration;

use cpu_time::ThreadTime;
use tracing::Dispatch;
use tracing_feedback::{OutboxOptions, OutboxPolicy, Telemetry, enrich_span};
use tracing_subscriber::prelude::*;

use crate::Directory;
use crate::work::{SPANS, request};

/// How long the other threads have between two turns.
const PAUSE: Duration = Duration::from_millis(100);
/// Enrichments that are measured together.
const GROUP: usize = 64;

struct Contestant {
    name: &'static str,
    dispatch: Dispatch,
    telemetry: Telemetry,
    spans: Vec<f64>,
    enrichments: Vec<f64>,
    _directory: Option<Directory>,
}

impl Contestant {
    fn new(name: &'static str, endpoint: &str, policy: Option<OutboxPolicy>) -> Self {
        let directory = policy.map(|_| Directory::new(name));
        let mut builder = tracing_feedback::builder().with_endpoint(endpoint);
        if let (Some(directory), Some(policy)) = (&directory, policy) {
            let options = OutboxOptions::new(directory.0.as_path()).with_policy(policy);
            builder = builder.with_outbox(options);
        }
        let (layer, telemetry) = builder.build().expect("a layer");
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        let (spans, enrichments) = (Vec::new(), Vec::new());
        Self { name, dispatch, telemetry, spans, enrichments, _directory: directory }
    }

    fn turn(&mut self, requests: u64) {
        let spans = tracing::dispatcher::with_default(&self.dispatch, || {
            (0..requests / 5).for_each(request); // cold
            let before = ThreadTime::now();
            (0..requests).for_each(request);
            before.elapsed().as_nanos() as f64 / (requests * SPANS) as f64
        });
        self.spans.push(spans);
        self.flush();
        let groups = requests.div_ceil(30);
        let enrichments = tracing::dispatcher::with_default(&self.dispatch, || {
            (0..groups).map(|_| enrich()).sum::<f64>() / (groups as usize * GROUP) as f64
        });
        self.enrichments.push(enrichments);
        self.flush();
    }

    fn flush(&self) {
        self.telemetry.flush().expect("the receiver is there");
        std::thread::sleep(PAUSE);
    }
}

/// Enriches fresh spans, and returns the nanoseconds.
fn enrich() -> f64 {
    let spans: Vec<_> = (0..GROUP).map(|_| tracing::info_span!("answer")).collect();
    let before = ThreadTime::now();
    for span in &spans {
        let outcome = enrich_span!(span = span, feedback = {
            "rating": true,
            "comment": black_box("The model hallucinated the capital of New York"),
            "user_id": black_box("u-17"),
            "stars": 4,
            "step1": { "retry": true },
        });
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    before.elapsed().as_nanos() as f64
}

pub(crate) fn print(endpoint: &str, rounds: usize, requests: u64) {
    let mut contestants = [
        Contestant::new("wire path", endpoint, None),
        Contestant::new("outbox, spill", endpoint, Some(OutboxPolicy::Spill)),
        Contestant::new("outbox, written ahead", endpoint, Some(OutboxPolicy::WriteAhead)),
    ];
    for _round in 0..=rounds {
        contestants.iter_mut().for_each(|contestant| contestant.turn(requests));
    }
    println!("ns of the thread's CPU time\n");
    println!("| {:<24} | {:>10} | {:>13} | {:>6} |", "", "a span", "an enrichment", "more");
    println!("| --- | ---: | ---: | ---: |");
    let of_wire = median(&contestants[0].enrichments);
    for Contestant { name, spans, enrichments, telemetry, .. } in contestants {
        let (spans, enrichments) = (median(&spans), median(&enrichments));
        let more = enrichments - of_wire;
        println!("| {name:<24} | {spans:>10.1} | {enrichments:>13.1} | {more:>6.0} |");
        telemetry.shutdown().expect("the receiver is there");
    }
}

fn median(nanos: &[f64]) -> f64 {
    let mut nanos = nanos[1..].to_vec(); // the first is cold
    nanos.sort_by(f64::total_cmp);
    nanos[nanos.len() / 2]
}
