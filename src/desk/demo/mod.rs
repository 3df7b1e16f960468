//! The demo: thirty days of generated requests and feedback.
//!
//! | file | idea |
//! | --- | --- |
//! | `random` | random numbers and ids, both from the seed |
//! | `texts` | questions, answers and comments |
//! | `plan` | the requests and feedback of a day: a function of seed and day alone |
//! | `service` | the layer and its pipeline, over OTLP into the receiver of the desk |
//! | `past` | a day of the plan as spans |
//! | `now` | one conversation of this moment |
//!
//! ```text
//! plan ─► past (OpenTelemetry API) ─┐
//!         now  (layer and macros)  ─┴► pipeline ─► OTLP over gRPC ─► the desk's own port
//! ```
//!
//! The layer and the macros take all times from the clock. Past days are generated with the OpenTelemetry
//! API, whose spans take a start and an end, through
//! [`Telemetry::span_processor`](crate::Telemetry::span_processor): the same pipeline, the same
//! encoding. Its feedback uses the documented attributes, as any service may: leaves under
//! `feedback.*` and `metrics.*`, and for late feedback a span `feedback` with `tracing_feedback.late`, `tracing_feedback.time_unix_nano` and a link to its
//! target. The last conversation happens now, and uses the layer and the macros.
//!
//! Every resource has `deployment.environment.name = "demo"` and `demo = true`. A second run sends the
//! same ids, so it changes nothing; a run on the next day adds a day.

mod now;
mod past;
mod plan;
mod random;
mod service;
mod texts;

use std::time::SystemTime;

use crate::clock;
use crate::{BuildError, FlushError};
use random::DemoIds;
use service::Service;

pub(super) use plan::{DAY, DAYS};

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    #[error("the demo can't be set up: {0}")]
    Build(#[from] BuildError),
    #[error("the demo data did not arrive: {0}")]
    Flush(#[from] FlushError),
    #[error("the demo could not record feedback: {0}")]
    Enrich(#[from] crate::EnrichError),
    #[error("the demo can't name a session: {0}")]
    Session(#[from] crate::SessionIdError),
    #[error("the demo has no span for its feedback: {0}")]
    Span(#[from] crate::SpanError),
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Whole days since 1970, the last not included: today has only the conversation of now.
    pub(super) days: (u64, u64),
    pub(super) requests: usize,
    /// Spans, carriers of feedback among them.
    pub(super) spans: u64,
}

/// Sends the demo to a receiver, and returns when all of it is acknowledged.
pub(super) fn send(
    endpoint: &str,
    token: Option<&str>,
    seed: u64,
    now: SystemTime,
) -> Result<Sent, DemoError> {
    let today = clock::unix_nanos(now) / DAY;
    let days = (today.saturating_sub(DAYS), today);
    let ids = DemoIds::default();
    let service = |name, version| Service::start((name, version), endpoint, token, &ids);
    let services = past::Services {
        old: service(plan::ASSISTANT, plan::OLD)?,
        new: service(plan::ASSISTANT, plan::NEW)?,
        evaluator: service(plan::EVALUATOR, "0.9.1")?,
    };
    let mut requests = 0;
    for day in days.0..days.1 {
        let plan = plan::of_day(seed, day);
        requests += plan.requests();
        past::tell(&services, &ids, &plan)?;
        services.flush()?; // day by day, so that little waits in memory
    }
    requests += now::happen(&services.new, &ids, (seed, today))?;
    services.flush()?;
    Ok(Sent { days, requests, spans: services.sent() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::store::Store;
    use crate::desk::store::sqlite::Sqlite;
    use crate::desk::{Desk, Options};
    use std::time::Duration;

    #[test]
    fn a_run_of_tomorrow_adds_a_day() {
        let directory = std::env::temp_dir().join(format!("demo-days-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("desk.sqlite");
        let desk = Desk::start(Options::new(&file).with_any_ports()).unwrap();
        let status = || Sqlite::new(&file, Duration::from_secs(60)).status().unwrap();
        // Feedback whose span is lost: its ids are those of no other span.
        let day = 20_460;
        let at = |day: u64| clock::system_time(day * DAY + DAY / 2);
        let endpoint = desk.endpoint().unwrap();
        let first = send(&endpoint, None, 1, at(day)).unwrap();
        let before = status();
        assert_eq!(before.spans.unsigned_abs(), first.spans);
        let second = send(&endpoint, None, 1, at(day + 1)).unwrap();
        let (after, added) = (status(), (status().spans - before.spans).unsigned_abs());
        assert!(0 < added && added < second.spans / 10, "{added} of {}", second.spans);
        assert_eq!((before.waiting, after.waiting), (6, 7));
        drop(desk);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
