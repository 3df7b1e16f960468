//! Persistent formats stay readable: files that version 0.1.0 wrote, kept in `tests/golden`.
//!
//! A change that can't read them would lose feedback when a service is updated, so the files are never
//! written anew; a later format adds files of its own.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::trace::SpanId;
use tracing_feedback::collector::{Collector, Target, feedback};
use tracing_feedback::{Events, OutboxOptions, TicketKeys};

use crate::outbox::Directory;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A copy of the outbox, and options by which nothing in it is too old: the tests are about the format.
fn outbox() -> (Directory, OutboxOptions) {
    let directory = Directory::new();
    copy(&Path::new(GOLDEN).join("outbox"), &directory.0);
    let options = OutboxOptions::new(&directory.0)
        .with_max_age(Duration::from_secs(u32::MAX.into()))
        .with_max_feedback_age(Duration::from_secs(u32::MAX.into()));
    (directory, options)
}

#[test]
fn an_outbox_of_version_0_1_is_delivered() {
    let (directory, options) = outbox();
    let collector = Collector::start().unwrap();
    let (_layer, telemetry) = tracing_feedback::builder()
        .with_endpoint(collector.endpoint())
        .with_outbox(options)
        .build()
        .unwrap();
    let spans = collector.wait_for_spans(5, Duration::from_secs(30)).unwrap();
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["answer", "answer", "feedback", "feedback", "turn"]);
    assert!(spans.iter().all(|span| span.resource["service.name"] == "chat"));

    let rated = spans.iter().find(|span| span.attribute("question").is_some()).unwrap();
    // The vote that came late wins over the rating that the span brought, and its id is the one it had.
    let folded = feedback(&spans, &Target::Span(rated.trace_id, rated.span_id));
    assert_eq!(folded["feedback.rating"], false);
    assert_eq!(folded["feedback.edits.0.value"], "Albany");
    assert_eq!(folded["feedback.comment"], "Wrong");
    let session = feedback(&spans, &Target::Session("conversation-42".to_owned()));
    assert_eq!(session["feedback.stars"], 4);
    telemetry.shutdown().unwrap();
    // A service without events leaves log records to one with them, as a version does that doesn't know them.
    assert!(directory.0.join(LOG_RECORDS).exists());
}

/// A segment of log records.
const LOG_RECORDS: &str = "logs/cd9837ba15851c93/feedback/0000000001.segment";

#[test]
fn log_records_in_an_outbox_of_version_0_1_are_delivered() {
    let (directory, options) = outbox();
    let collector = Collector::start().unwrap();
    let (_layer, telemetry) = tracing_feedback::builder()
        .with_endpoint(collector.endpoint())
        .with_outbox(options)
        .with_events(Events::GenAi)
        .build()
        .unwrap();
    let events = collector.wait_for_events(3, Duration::from_secs(30)).unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let attribute = |key: &str| event.attributes[key].to_string();
            attribute("tracing_feedback.namespace") + &attribute("gen_ai.evaluation.name")
        })
        .collect();
    assert_eq!(told, [r#""feedback""comment""#, r#""feedback""rating""#, r#""metrics""score""#]);
    assert_eq!(events[0].attributes["gen_ai.evaluation.score.label"], "Great");
    assert_eq!(events[1].attributes["gen_ai.evaluation.score.value"], 5.0);
    assert_eq!(events[2].attributes["tracing_feedback.id"], "vote-1");
    assert_eq!(events[2].span_id, SpanId::from(0xdef));
    assert!(events.iter().all(|event| event.resource["service.name"] == "chat"));
    telemetry.shutdown().unwrap();
    assert!(!directory.0.join(LOG_RECORDS).exists());
}

#[test]
fn tickets_of_version_0_1_are_verified() {
    let text = fs::read_to_string(Path::new(GOLDEN).join("tickets.txt")).unwrap();
    let [of_span, of_subject, of_session]: [&str; 3] =
        text.lines().collect::<Vec<_>>().try_into().unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(1_796_000_000); // after they were issued
    let verifier = TicketKeys::new([[7; 32]]).unwrap().verifier();

    let ticket = verifier.verify_at(of_span, now).unwrap();
    assert_ne!(ticket.span_context().unwrap().span_id(), SpanId::INVALID);
    assert_eq!(ticket.session().unwrap().id(), "conversation-42");
    assert!(!ticket.has_subject() && ticket.keys().is_none());

    assert!(verifier.verify_at(of_subject, now).is_err());
    let ticket = verifier.clone().with_subject("user-17").verify_at(of_subject, now).unwrap();
    assert!(ticket.has_subject() && ticket.keys().unwrap().eq(["rating"]));

    let ticket = verifier.verify_at(of_session, now).unwrap();
    assert!(ticket.span_context().is_none());
    assert_eq!(ticket.session().unwrap().id(), "conversation-42");
}
