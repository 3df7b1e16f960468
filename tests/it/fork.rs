//! A process that is forked after its layer was built. It is this test binary, started again, since a
//! process with other tests in it can't be forked.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::fork::{Fork, fork};
use tracing::{info, info_span};
use tracing_feedback::collector::Collector;
use tracing_feedback::{
    DropReason, EnrichError, OutboxOptions, OutboxPolicy, PersistError, Session, SpanExt,
    Telemetry, TicketKeys, enrich, enrich_session, enrich_span, propagation,
};
use tracing_subscriber::prelude::*;

use crate::show::Log;

/// The variable with the endpoint, in the process that was started to be forked.
const ENDPOINT: &str = "TRACING_FEEDBACK_TEST_FORK";
/// The variable with a directory for what the children report.
const DIRECTORY: &str = "TRACING_FEEDBACK_TEST_DIRECTORY";
/// What is logged once in a child.
const WARNING: &str = "doesn't export its spans";
/// How many children there are.
const CHILDREN: usize = 25;
/// How many spans each makes.
const SPANS: usize = 300;

/// The process that was started to be forked; by itself it does nothing.
#[test]
fn part() {
    let Ok(endpoint) = std::env::var(ENDPOINT) else { return };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let log = Log::default();
    let outbox = OutboxOptions::new(directory.join("outbox")).with_policy(OutboxPolicy::WriteAhead);
    let (layer, telemetry) = tracing_feedback::builder()
        .with_endpoint(&endpoint)
        .with_outbox(outbox)
        .with_ticket_keys(TicketKeys::new([[7; 32]]).unwrap())
        .build()
        .unwrap();
    let writer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.clone());
    tracing_subscriber::registry().with(layer).with(writer).init();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Other threads hold locks of the layer nearly all the time.
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _span = info_span!("busy").entered();
                    enrich_span!(feedback = { "rating": 1 });
                    let _ = telemetry.stats();
                }
            });
        }
        let outer = info_span!("outer").entered();
        enrich_span!(feedback = { "rating": 1 });
        let mut children = Vec::new();
        for number in 0..CHILDREN {
            info_span!("before").in_scope(|| ());
            match fork().unwrap() {
                Fork::Parent(child) => children.push(child),
                Fork::Child => {
                    let work = AssertUnwindSafe(|| {
                        report(&directory.join(number.to_string()), ids());
                        child(&telemetry, &log, &endpoint, number);
                    });
                    exit(i32::from(catch_unwind(work).is_err()));
                }
            }
            report(&directory.join("parent"), ids());
        }
        drop(outer);
        is_over.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(60);
        for child in children {
            let status = loop {
                match ::fork::waitpid_nohang(child).unwrap() {
                    None if Instant::now() > deadline => panic!("a child hangs"),
                    None => thread::sleep(Duration::from_millis(1)),
                    Some(status) => break status,
                }
            };
            assert_eq!(status, 0);
        }
    });
    assert_eq!(log.count(WARNING), 0);
    telemetry.flush().unwrap();
    println!("ended");
}

/// The ids of some spans, traces, sessions and tickets.
fn ids() -> BTreeSet<String> {
    let span = || {
        let context = info_span!(parent: None, "made").span_context().ok()?;
        Some([context.span_id().to_string(), context.trace_id().to_string()])
    };
    let ticket = || info_span!("made").ticket().ok().map(|ticket| ticket.to_string());
    let mut ids: BTreeSet<_> = (0..20).filter_map(|_| span()).flatten().collect();
    ids.extend((0..3).map(|_| Session::new().to_string()));
    ids.extend(ticket());
    ids
}

fn report(path: &Path, ids: BTreeSet<String>) {
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    ids.iter().for_each(|id| writeln!(file, "{id}").unwrap());
}

/// What a child does. Nothing of it waits for a thread that isn't there.
fn child(telemetry: &Telemetry, log: &Log, endpoint: &str, number: usize) {
    let before = telemetry.stats().dropped;
    for _ in 0..SPANS {
        let span = info_span!("child").entered();
        info!("event");
        propagation::inject(&mut HashMap::new());
        drop(span);
    }
    let stats = telemetry.stats();
    let dropped = stats.dropped_by_reason["forked"] as usize;
    assert!(dropped >= SPANS && stats.dropped - before >= SPANS as u64, "{stats:?}");
    assert_eq!(stats.queued, 0);

    let refused = |outcome: tracing_feedback::Enrichment| {
        assert_eq!(outcome.into_result(), Err(EnrichError::Forked));
    };
    refused(enrich_span!(feedback = { "rating": 2 }));
    refused(enrich_session!(session_id = "another", feedback = { "rating": 2 }));
    let limit = Duration::from_secs(5);
    assert_eq!(enrich::persist(limit), Err(PersistError::Forked));
    let persisted = futures_executor::block_on(enrich::persist_async(limit));
    assert_eq!(persisted, Err(PersistError::Forked));

    let error = telemetry.flush().unwrap_err();
    assert_eq!(error.losses()[0].reason, DropReason::Forked);
    assert!(error.lost() >= SPANS as u64 && error.pending() == 0, "{error}");
    assert_eq!(telemetry.flush(), Ok(()));
    assert_eq!(log.count(WARNING), 1, "{}", log.text());

    if number == 0 {
        // A layer that is built in the child exports.
        let (layer, own) = tracing_feedback::builder().with_endpoint(endpoint).build().unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            info_span!("worker").in_scope(|| enrich_span!(feedback = { "rating": 3 }));
            own.shutdown().unwrap();
        });
    }
    assert_eq!(telemetry.shutdown(), Ok(()));
}

#[test]
fn a_forked_process_says_so_and_never_hangs() {
    let directory =
        std::env::temp_dir().join(format!("tracing-feedback-fork-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let collector = Collector::start().unwrap();
    let process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fork::part", "--nocapture", "--test-threads=1"])
        .env(ENDPOINT, collector.endpoint())
        .env(DIRECTORY, &directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = process.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success() && text.contains("ended"), "{text}");

    let (mut all, mut complete) = (BTreeSet::new(), 0);
    let names = (0..CHILDREN).map(|number| number.to_string()).chain(["parent".to_owned()]);
    for name in names {
        let text = std::fs::read_to_string(directory.join(&name)).unwrap();
        let ids: BTreeSet<_> = text.lines().map(str::to_owned).collect();
        assert_eq!(ids.len(), text.lines().count());
        // A child that has detected the fork makes no more spans.
        complete += usize::from(ids.len() >= 44);
        let again: Vec<_> = ids.intersection(&all).collect();
        assert!(again.is_empty(), "{name}: made by several processes: {again:?}");
        all.extend(ids);
    }
    assert!(complete > CHILDREN / 2, "{complete}");
    let spans = collector.spans();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert_eq!((named("outer"), named("before"), named("worker")), (1, CHILDREN, 1));
    assert_eq!(named("child"), 0);
    let _ = std::fs::remove_dir_all(directory);
}
