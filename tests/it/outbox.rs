//! The outbox: what can't be delivered waits on disk, and arrives.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tracing::info_span;
use tracing_feedback::collector::{Answer, Collector};
use tracing_feedback::{Builder, OutboxOptions, OutboxPolicy, Protocol, enrich_span};

use crate::Rig;

const SOON: Duration = Duration::from_secs(30);
const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

/// A directory that is gone with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tracing-feedback-outbox-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn options(&self) -> OutboxOptions {
        OutboxOptions::new(&self.0)
    }

    fn ahead(&self) -> OutboxOptions {
        self.options().with_policy(OutboxPolicy::WriteAhead)
    }

    /// All files under it, with these endings.
    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.0.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|it| it == extension) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A rig whose spans are exported at once, or put aside.
fn rig(protocol: Protocol, outbox: OutboxOptions) -> Rig {
    let collector = Collector::start().unwrap();
    let endpoint = match protocol {
        Protocol::Grpc => collector.endpoint().to_owned(),
        _ => collector.http_endpoint().to_owned(),
    };
    Rig::of(collector, |builder| {
        impatient(builder).with_protocol(protocol).with_endpoint(endpoint).with_outbox(outbox)
    })
}

fn impatient(builder: Builder) -> Builder {
    builder.with_timeout(Duration::from_millis(100)).with_schedule_delay(Duration::from_millis(100))
}

/// Some spans, the first of which is rated.
fn answers(n: usize) {
    for at in 0..n {
        info_span!("answer", at).in_scope(|| {
            if at == 0 {
                enrich_span!(feedback = { "rating": 5 });
            }
        });
    }
}

#[test]
fn what_an_outage_holds_up_arrives_afterwards() {
    for protocol in PROTOCOLS {
        for failure in [Answer::Unavailable { retry_after: None }, Answer::Cut, Answer::Silence] {
            let directory = Directory::new();
            let rig = rig(protocol, directory.options());
            rig.collector.answer_all(Some(failure));
            rig.run(|| answers(10)); // it is safe on disk, which is all that `flush` promises
            let stats = rig.telemetry.stats();
            assert_eq!((stats.spooled, stats.dropped, stats.exported), (10, 0, 0));
            assert!(stats.spooled_bytes > 0 && stats.oldest_spooled.is_some());

            rig.collector.answer_all(None);
            let spans = rig.collector.wait_for_spans(10, SOON).unwrap();
            assert_eq!(spans.len(), 10);
            assert!(spans.iter().all(|span| span.name == "answer"));
            assert_eq!(spans[0].attributes["feedback.rating"], 5); // feedback first
            rig.telemetry.shutdown().unwrap();
            let stats = rig.telemetry.stats();
            assert_eq!((stats.spooled, stats.replayed, stats.exported), (0, 10, 10));
            assert_eq!(directory.files("segment"), [] as [PathBuf; 0]);
        }
    }
}

#[test]
fn what_is_written_ahead_and_arrives_is_on_disk_no_more() {
    for protocol in PROTOCOLS {
        let directory = Directory::new();
        let rig = rig(protocol, directory.ahead());
        rig.run(|| answers(10));
        assert_eq!(rig.collector.spans().len(), 10); // and no carrier
        rig.telemetry.shutdown().unwrap();
        let stats = rig.telemetry.stats();
        assert_eq!((stats.exported, stats.replayed, stats.spooled), (10, 0, 0));
        assert_eq!(directory.files("segment"), [] as [PathBuf; 0]);
    }
}
