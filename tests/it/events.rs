//! Events: every enrichment of `feedback` and `metrics` also arrives as log records.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use serde_json::json;
use tracing::{Dispatch, dispatcher, info_span};
use tracing_feedback::collector::Collector;
use tracing_feedback::{
    BuildError, Builder, Compression, DropReason, Events, OutboxOptions, OutboxPolicy, Protocol,
    Session, SpanExt, Telemetry, TicketKeys, TicketOptions, enrich, enrich_session, enrich_span,
    ticket, ticket_with,
};
use tracing_subscriber::prelude::*;

use crate::log_receiver::{ArrivedLog, LogAnswer, LogReceiver};
use crate::outbox::Directory;
use crate::show::eventually;
use crate::web;

const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];

/// A receiver of spans and log records, and a subscriber that sends there.
struct Rig {
    receiver: LogReceiver,
    telemetry: Telemetry,
    dispatch: Dispatch,
}

impl Rig {
    fn new() -> Self {
        Self::over(Protocol::Grpc)
    }

    fn over(protocol: Protocol) -> Self {
        Self::with(protocol, |builder| builder)
    }

    fn with(protocol: Protocol, configure: impl FnOnce(Builder) -> Builder) -> Self {
        Self::of(LogReceiver::start(), protocol, configure)
    }

    fn of(
        receiver: LogReceiver,
        protocol: Protocol,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let builder = tracing_feedback::builder()
            .with_service_name("chat")
            .with_endpoint(receiver.endpoint(protocol))
            .with_protocol(protocol)
            .with_timeout(Duration::from_secs(10))
            .with_ticket_keys(keys())
            .with_events(Events::GenAi);
        let (layer, telemetry) = configure(builder).build().unwrap();
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        Self { receiver, telemetry, dispatch }
    }

    fn inside<T>(&self, work: impl FnOnce() -> T) -> T {
        dispatcher::with_default(&self.dispatch, work)
    }

    /// Does something inside the subscriber, and waits until everything of it has arrived.
    fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let result = self.inside(work);
        self.telemetry.flush().unwrap();
        result
    }
}

fn keys() -> TicketKeys {
    TicketKeys::new([[7; 32]]).unwrap()
}

fn one(logs: Vec<ArrivedLog>) -> ArrivedLog {
    let [log] = <[ArrivedLog; 1]>::try_from(logs).unwrap();
    log
}

fn ids(log: &ArrivedLog) -> (Vec<u8>, Vec<u8>) {
    (log.record.trace_id.clone(), log.record.span_id.clone())
}

fn ids_of(context: &SpanContext) -> (Vec<u8>, Vec<u8>) {
    (context.trace_id().to_bytes().into(), context.span_id().to_bytes().into())
}

fn target() -> SpanContext {
    let (trace_id, span_id) = (TraceId::from(0xabc), SpanId::from(0xdef));
    SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, true, TraceState::NONE)
}

// ---- what a record says ------------------------------------------------------------------------

#[test]
fn every_leaf_arrives_as_a_record_about_its_span() {
    for protocol in PROTOCOLS {
        let rig = Rig::over(protocol);
        let answer = rig.run(|| {
            let answer =
                info_span!("answer", gen_ai.response.id = "r-1", gen_ai.conversation.id = "c-1");
            answer.in_scope(|| {
                enrich_span!(
                    feedback = {
                        "rating": true,
                        "stars": 4,
                        "comment": "Too long",
                        "step1": { "retry": false },
                        "tone": "friendly",
                    },
                    metrics = { "relevance": 0.25 },
                    inputs = { "question": "Why?" },
                );
            });
            answer.span_context().unwrap()
        });
        let logs = rig.receiver.logs();
        let lines: BTreeSet<_> = logs.iter().map(ArrivedLog::line).collect();
        assert_eq!(
            lines.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "comment is Too long because Too long",
                "rating = 1.0 is true because Too long",
                "relevance = 0.25",
                "stars = 4.0 because Too long",
                "step1.retry = 0.0 is false because Too long",
                "tone is friendly because Too long",
            ],
            "{protocol}"
        );
        assert_eq!(logs.len(), 6);
        let times: BTreeSet<_> = logs.iter().map(|log| log.record.time_unix_nano).collect();
        assert_eq!(times.len(), 1);
        for log in &logs {
            assert_eq!(log.record.event_name, "gen_ai.evaluation.result");
            assert_eq!(ids(log), ids_of(&answer));
            assert_eq!(log.record.flags, 1);
            assert_eq!(log.record.body, None);
            let time = log.record.time_unix_nano;
            assert!(time > 1_600_000_000_000_000_000 && log.record.observed_time_unix_nano == time);
            assert_eq!(log.text("tracing_feedback.time_unix_nano"), time.to_string());
            assert_eq!(log.text("gen_ai.response.id"), "r-1");
            assert_eq!(log.text("gen_ai.conversation.id"), "c-1");
            let is_metric = log.text("gen_ai.evaluation.name") == "relevance";
            let namespace = if is_metric { "metrics" } else { "feedback" };
            assert_eq!(log.text("tracing_feedback.namespace"), namespace);
            for absent in ["id", "scope", "retracted"] {
                assert_eq!(log.text(&format!("tracing_feedback.{absent}")), "");
            }
            assert_eq!((log.service.as_str(), log.scope.as_str()), ("chat", "tracing-feedback"));
        }
        let path = if protocol == Protocol::Grpc { "grpc" } else { "/v1/logs" };
        assert!(rig.receiver.paths().iter().all(|own| own == path));
        let stats = rig.telemetry.stats();
        assert_eq!((stats.exported, stats.events.exported, stats.events.dropped), (1, 6, 0));
    }
}

/// As the test collector decodes them.
#[test]
fn the_test_collector_gets_spans_and_events_of_one_service() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        let endpoint = match protocol {
            Protocol::Grpc => collector.endpoint(),
            _ => collector.http_endpoint(),
        };
        let rig = Rig::with(protocol, |builder| builder.with_endpoint(endpoint));
        rig.run(|| {
            info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 0.1 + 0.2 }));
        });
        let (spans, events) = (collector.spans(), collector.events());
        assert_eq!((spans.len(), events.len()), (1, 1), "{protocol}");
        let event = &events[0];
        assert_eq!(event.event_name, "gen_ai.evaluation.result");
        assert_eq!((event.trace_id, event.span_id), (spans[0].trace_id, spans[0].span_id));
        assert_eq!(event.attributes["gen_ai.evaluation.score.value"], 0.1 + 0.2);
        assert_eq!(event.resource["service.name"], "chat");
        assert_eq!(event.time_unix_nano, event.observed_time_unix_nano);
        assert!(event.duplicate_keys.is_empty());
    }
}

#[test]
fn an_enrichment_without_opinions_emits_nothing_and_leaves_its_span_as_it_is() {
    let rig = Rig::new();
    rig.run(|| {
        let span = info_span!("answer");
        enrich_span!(span = &span, inputs = { "question": "Why?" });
        // The span has not started: its parent can still be set.
        span.set_parent(opentelemetry::Context::new()).unwrap();
    });
    assert_eq!(rig.receiver.requests(), [0; 0]);
}

#[test]
fn a_retraction_is_a_record_without_a_score() {
    let rig = Rig::new();
    rig.run(|| {
        info_span!("answer").in_scope(|| {
            enrich_span!(feedback = { "rating": 5, "step1": { "retry": true } });
            enrich_span!(feedback = { "rating": null, "edits": [{ "value": "Albany" }] });
            enrich::current_span().metrics(&json!(null)).apply();
        });
    });
    assert_eq!(
        rig.receiver.lines(),
        [
            "rating = 5.0",
            "step1.retry = 1.0 is true",
            "rating retracted",
            // An array replaces what stood under its key.
            "edits retracted",
            "edits.0.value is Albany",
            " retracted",
        ]
    );
    let logs = rig.receiver.logs();
    let whole = logs.last().unwrap();
    assert_eq!(whole.text("tracing_feedback.namespace"), "metrics");
    assert!(!whole.attributes.contains_key("gen_ai.evaluation.name"));
}

#[test]
fn feedback_on_a_trace_or_a_session_is_about_no_span() {
    let rig = Rig::new();
    let (turn, other) = rig.run(|| {
        let turn = info_span!("turn").in_scope(|| {
            info_span!("answer").in_scope(|| enrich_session!(feedback = { "of": "trace" }));
            tracing::Span::current().span_context().unwrap()
        });
        info_span!("turn", session.id = "s-1").in_scope(|| {
            enrich_session!(feedback = { "of": "session" });
        });
        enrich_session!(session_id = "s-2", id = "vote-1", feedback = { "of": "late session" });
        enrich_session!(target = target(), feedback = { "of": "late trace" });
        enrich_session!(session_id = "s-3", target = target(), feedback = { "of": "target" });
        (turn, target())
    });
    let logs = rig.receiver.logs();
    let labels: Vec<_> = logs.iter().map(|log| log.text("gen_ai.evaluation.score.label")).collect();
    assert_eq!(labels, ["trace", "session", "late session", "late trace", "target"]);
    let about: Vec<_> = logs
        .iter()
        .map(|log| (log.text("tracing_feedback.scope"), log.text("session.id")))
        .collect();
    let about: Vec<_> =
        about.iter().map(|(scope, session)| (scope.as_str(), session.as_str())).collect();
    assert_eq!(
        about,
        [("trace", ""), ("session", "s-1"), ("session", "s-2"), ("trace", ""), ("session", "s-3")]
    );
    let (none, (turn, _), (trace, span)) = (Vec::new(), ids_of(&turn), ids_of(&other));
    let expected = [
        (turn, none.clone()),
        (none.clone(), none.clone()),
        (none.clone(), none.clone()),
        (trace.clone(), none),
        (trace, span),
    ];
    assert_eq!(logs.iter().map(ids).collect::<Vec<_>>(), expected);
    assert_eq!(logs[2].text("tracing_feedback.id"), "vote-1");
}

#[test]
fn late_feedback_names_its_target_and_its_submission() {
    let rig = Rig::new();
    rig.run(|| {
        enrich_span!(target = target(), id = "vote-7", metrics = { "score": 3 });
    });
    let log = one(rig.receiver.logs());
    assert_eq!(ids(&log), ids_of(&target()));
    assert_eq!(log.text("tracing_feedback.id"), "vote-7");
    assert_eq!(log.text("tracing_feedback.namespace"), "metrics");
    assert_eq!(log.record.flags, 1);
}

/// Names of submissions are their holder's own: another holder's of the same name is another submission.
#[test]
fn the_submissions_of_two_holders_have_two_ids() {
    let rig = Rig::new();
    let answer = rig.run(|| {
        let answer = info_span!("answer", session.id = "s").entered();
        let holders = ["user-1", "user-2"].map(|user| {
            let issued = ticket_with(&TicketOptions::new().with_subject(user)).unwrap();
            keys().verifier().with_subject(user).verify(issued.as_str()).unwrap()
        });
        let context = answer.span_context().unwrap();
        drop(answer);
        for ticket in [&holders[0], &holders[1], &holders[0]] {
            // The third is the first again.
            enrich_span!(target = ticket, id = "vote", feedback = { "rating": true });
        }
        context
    });
    let logs = rig.receiver.logs();
    let submissions: Vec<_> = logs.iter().map(|log| log.text("tracing_feedback.id")).collect();
    let [one, other, again] = &submissions[..] else { panic!("{submissions:?}") };
    assert!(one != other && one == again, "{submissions:?}");
    for log in &logs {
        assert_eq!(ids(log), ids_of(&answer));
        assert_eq!(log.text("session.id"), "s");
    }
}

#[test]
fn a_vote_from_a_browser_arrives_as_a_record() {
    use tracing_feedback::web::{FeedbackRoutes, feedback_routes};

    let rig = Rig::new();
    let (text, answer) = rig.inside(|| {
        info_span!("answer").in_scope(|| {
            let answer = tracing::Span::current().span_context().unwrap();
            (ticket().unwrap().as_str().to_owned(), answer)
        })
    });
    let service =
        web::Service::within(rig.dispatch.clone(), feedback_routes(FeedbackRoutes::new()));
    let (status, _) = service.submit(&json!({ "ticket": text, "feedback": { "rating": true } }));
    rig.telemetry.flush().unwrap();
    assert_eq!(status, reqwest::StatusCode::NO_CONTENT);
    let log = one(rig.receiver.logs());
    assert_eq!(log.line(), "rating = 1.0 is true");
    assert_eq!(ids(&log), ids_of(&answer));
}

#[test]
fn records_hold_what_redaction_and_the_limits_have_left() {
    let rig = Rig::with(Protocol::Grpc, |builder| {
        builder.with_max_string_bytes(8).with_redaction(|key, value| match key {
            "feedback.email" => None,
            "feedback.comment" => Some("[hidden] by the service".into()),
            _ => Some(value),
        })
    });
    rig.run(|| {
        info_span!("answer").in_scope(|| {
            enrich_span!(feedback = {
                "comment": "my name is Ada",
                "email": "ada@example.org",
                "tone": "unfriendly",
            });
            // Refused, with its errors.
            enrich_span!(feedback = { "score": f64::NAN });
        });
    });
    let lines = rig.receiver.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("comment is [hidden]"), "{lines:?}");
    assert!(lines[1].starts_with("tone is unfriend because [hidden]"), "{lines:?}");
    assert!(!format!("{:?}", rig.receiver.logs()).contains("Ada"));
}

#[test]
fn fields_of_spans_are_no_enrichments() {
    let rig = Rig::new();
    rig.run(|| info_span!("answer", feedback.rating = 5).in_scope(|| ()));
    assert_eq!(rig.receiver.lines(), [""; 0]);
    assert_eq!(rig.telemetry.stats().events, Default::default());
}

#[test]
fn without_events_nothing_is_sent() {
    for configure in [
        (|builder: Builder| builder.with_events(Events::None)) as fn(Builder) -> Builder,
        |builder| builder.with_events(Events::GenAi).with_events(Events::None),
    ] {
        let rig = Rig::with(Protocol::Grpc, configure);
        rig.run(|| info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 })));
        assert_eq!(rig.receiver.requests(), [0; 0]);
        assert_eq!(rig.telemetry.stats().events, Default::default());
    }
}

// ---- where records go --------------------------------------------------------------------------

#[test]
fn records_go_where_spans_go_or_to_an_endpoint_of_their_own() {
    let spans = Collector::start().unwrap();
    for (protocol, path) in [
        (Protocol::Grpc, "grpc"),
        (Protocol::HttpProtobuf, "/v1/logs"),
        (Protocol::HttpJson, "/v1/logs"),
    ] {
        let receiver = LogReceiver::start();
        let endpoint = receiver.endpoint(protocol).to_owned();
        let rig = Rig::of(receiver, protocol, |builder| {
            let of_spans = match protocol {
                Protocol::Grpc => spans.endpoint(),
                _ => spans.http_endpoint(),
            };
            builder
                .with_endpoint(of_spans)
                .with_events_endpoint(endpoint)
                .with_header("x-tenant", "t-1")
                .with_compression(Compression::Gzip)
        });
        rig.run(|| info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 })));
        let log = one(rig.receiver.logs());
        assert_eq!(log.headers["x-tenant"], "t-1");
        assert_eq!(rig.receiver.paths(), [path]);
        if protocol != Protocol::Grpc {
            assert_eq!(log.headers["content-encoding"], "gzip");
        }
        assert_eq!(spans.spans().len(), 1);
        spans.clear();
    }
}

/// Set in a process whose environment configures events.
const CONFIGURED: &str = "TRACING_FEEDBACK_TEST_CONFIGURED";

/// Runs this test's process again with these variables, and `work` in it.
fn with_variables(test: &str, variables: &[(&str, &str)], work: impl FnOnce()) {
    if std::env::var_os(CONFIGURED).is_some() {
        return work();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("events::{test}"), "--nocapture"])
        .envs(variables.iter().copied())
        .env(CONFIGURED, "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn the_environment_switches_events_on_and_says_where_they_go() {
    let (spans, receiver) = (Collector::start().unwrap(), LogReceiver::start());
    let own_path = format!("{}/own/path", receiver.endpoint(Protocol::HttpJson));
    let variables = [
        ("FEEDBACK_EVENTS", "genai"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", spans.endpoint()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=general"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"), // malformed: one issue for both signals
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &own_path),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-tenant=logs"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "later"),
    ];
    with_variables("the_environment_switches_events_on_and_says_where_they_go", &variables, || {
        let (layer, telemetry) = tracing_feedback::builder().build().unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 }));
        });
        telemetry.flush().unwrap();
        let issues = telemetry.environment_issues();
        let variables: Vec<_> = issues.iter().map(|issue| issue.variable).collect();
        let (general, of_logs) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT");
        assert_eq!(variables, [general, of_logs]);
        // What the code says wins.
        let builder = tracing_feedback::builder().with_events(Events::None);
        assert_eq!(builder.build().unwrap().1.environment_issues().len(), 1);
    });
    if std::env::var_os(CONFIGURED).is_none() {
        let log = one(receiver.logs());
        assert_eq!(receiver.paths(), ["/own/path"]);
        assert_eq!(log.headers["x-tenant"], "logs");
        assert_eq!(log.headers["content-type"], "application/json");
        assert_eq!(log.headers["content-encoding"], "gzip");
        assert_eq!(spans.spans().len(), 1);
    }
}

#[test]
fn an_environment_that_leaves_records_no_way_is_an_issue() {
    let variables = [("FEEDBACK_EVENTS", "genai"), ("OTEL_TRACES_EXPORTER", "none")];
    with_variables("an_environment_that_leaves_records_no_way_is_an_issue", &variables, || {
        let (_layer, telemetry) = tracing_feedback::builder().build().unwrap();
        let [issue] = telemetry.environment_issues() else { panic!() };
        assert_eq!(issue.variable, "FEEDBACK_EVENTS");
        assert!(issue.reason.contains("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"), "{issue}");
    });
}

#[test]
fn an_unknown_kind_of_events_is_an_issue() {
    let variables = [("FEEDBACK_EVENTS", "otel")];
    with_variables("an_unknown_kind_of_events_is_an_issue", &variables, || {
        let error = tracing_feedback::builder().with_strict_env(true).build().unwrap_err();
        assert!(error.to_string().contains("use `genai` or `none`"), "{error}");
    });
}

#[test]
fn an_sdk_exporter_takes_no_records_so_they_need_an_endpoint() {
    let exporter = opentelemetry_sdk::trace::InMemorySpanExporter::default();
    let builder = || tracing_feedback::builder().with_exporter(exporter.clone());
    let error = builder().with_events(Events::GenAi).build().unwrap_err();
    assert!(matches!(error, BuildError::EventsWithoutOtlp), "{error}");
    let error = error.to_string();
    assert!(error.contains("with_events_endpoint"), "{error}");

    let receiver = LogReceiver::start();
    let (layer, telemetry) = builder()
        .with_events(Events::GenAi)
        .with_events_endpoint(receiver.endpoint(Protocol::Grpc))
        .build()
        .unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 }));
    });
    telemetry.flush().unwrap();
    assert_eq!(exporter.get_finished_spans().unwrap().len(), 1);
    assert_eq!(receiver.lines(), ["rating = 5.0"]);
}

#[test]
fn beside_a_provider_records_are_about_its_spans() {
    use opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor};

    if !crate::rig::is_alone(concat!(
        module_path!(),
        "::beside_a_provider_records_are_about_its_spans"
    )) {
        return;
    }
    let exporter = InMemorySpanExporter::default();
    let processor = || SimpleSpanProcessor::new(exporter.clone());
    let build = || tracing_feedback::builder().with_events(Events::GenAi);
    let error = build().build_around(processor()).unwrap_err();
    assert!(matches!(error, BuildError::EventsWithoutOtlp), "{error}");

    let receiver = LogReceiver::start();
    let (processor, telemetry) = build()
        .with_events_endpoint(receiver.endpoint(Protocol::Grpc))
        .build_around(processor())
        .unwrap();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let answer = provider.tracer("chat").in_span("answer", |context| {
        assert!(enrich_span!(feedback = { "rating": false }).is_ok());
        context.span().span_context().clone()
    });
    enrich_span!(target = &answer, feedback = { "comment": "Wrong" });
    telemetry.flush().unwrap();
    let logs = receiver.logs();
    assert_eq!(receiver.lines(), ["rating = 0.0 is false", "comment is Wrong because Wrong"]);
    assert!(logs.iter().all(|log| ids(log) == ids_of(&answer)));
    // The carrier goes to the wrapped processor as before.
    assert_eq!(exporter.get_finished_spans().unwrap().len(), 2);
    provider.shutdown().unwrap();
    assert_eq!(telemetry.stats().events.exported, 2);
}

// ---- failures ----------------------------------------------------------------------------------

#[test]
fn a_passing_failure_passes() {
    for protocol in PROTOCOLS {
        let rig = Rig::over(protocol);
        rig.receiver.answer_next(LogAnswer::Unavailable);
        rig.receiver.answer_next(LogAnswer::Unavailable);
        rig.run(|| info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 })));
        assert_eq!(rig.receiver.requests(), [1, 1, 1], "{protocol}");
        assert_eq!(rig.receiver.lines(), ["rating = 5.0"]);
        let stats = rig.telemetry.stats();
        assert_eq!((stats.events.exported, stats.events.retried, stats.retried), (1, 2, 0));
    }
}

#[test]
fn what_a_collector_rejects_is_reported_and_counted() {
    for protocol in PROTOCOLS {
        let rig = Rig::over(protocol);
        let two = || {
            info_span!("answer").in_scope(|| enrich_span!(feedback = { "a": 1, "b": 2 }));
        };
        rig.receiver.answer_next(LogAnswer::Partial(1));
        rig.inside(two);
        let error = rig.telemetry.flush().unwrap_err();
        let [loss] = error.event_losses() else { panic!("{error}") };
        assert_eq!((loss.reason, loss.records), (DropReason::Rejected, 1), "{protocol}");
        assert_eq!((error.lost(), error.pending(), error.pending_events()), (0, 0, 0));
        let expected = "1 log records did not arrive: 1 rejected (quota)";
        assert_eq!(error.to_string(), expected);

        rig.receiver.answer_next(LogAnswer::BadRequest);
        rig.inside(two);
        let error = rig.telemetry.flush().unwrap_err();
        assert_eq!(error.event_losses()[0].records, 2);
        let events = rig.telemetry.stats().events;
        assert_eq!((events.exported, events.dropped, events.submitted), (1, 3, 4));
        assert_eq!(events.dropped_by_reason["rejected"], 1);
        assert_eq!(rig.telemetry.stats().dropped, 0);
    }
}

#[test]
fn a_request_that_is_too_large_arrives_in_parts() {
    let rig = Rig::new();
    rig.receiver.answer_next(LogAnswer::TooLarge);
    rig.receiver.answer_next(LogAnswer::TooLarge);
    rig.run(|| {
        let leaves: std::collections::BTreeMap<_, _> =
            (0..8).map(|at| (format!("leaf{at}"), at)).collect();
        info_span!("answer").in_scope(|| enrich::current_span().feedback(&leaves).apply());
    });
    assert_eq!(rig.receiver.requests(), [8, 4, 2, 2, 4]);
    assert_eq!(rig.receiver.logs().len(), 8);
}

#[test]
fn a_receiver_without_logs_is_named_with_its_path() {
    let rig = Rig::over(Protocol::HttpProtobuf);
    rig.receiver.answer_all(Some(LogAnswer::NotFound));
    rig.inside(|| info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 })));
    let error = rig.telemetry.flush().unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("`/v1/logs` of port 4318"), "{error}");
}

#[test]
fn spans_do_not_push_records_out_of_the_queue() {
    let spans = Collector::start().unwrap();
    let receiver = LogReceiver::start();
    receiver.answer_all(Some(LogAnswer::Unavailable));
    spans.answer_all(Some(tracing_feedback::collector::Answer::Unavailable { retry_after: None }));
    let endpoint = receiver.endpoint(Protocol::Grpc).to_owned();
    let rig = Rig::of(receiver, Protocol::Grpc, |builder| {
        builder
            .with_endpoint(spans.endpoint())
            .with_events_endpoint(endpoint)
            .with_max_queue_bytes(64 * 1024)
    });
    rig.inside(|| {
        for _ in 0..10 {
            info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 }));
        }
        for at in 0..5_000 {
            info_span!("work", at).in_scope(|| ());
        }
    });
    assert!(rig.telemetry.stats().dropped > 0);
    rig.receiver.answer_all(None);
    spans.answer_all(None);
    let _ = rig.telemetry.flush(); // spans were dropped
    assert_eq!(rig.receiver.logs().len(), 10);
    assert_eq!(rig.telemetry.stats().events.dropped, 0);
}

#[test]
fn a_shutdown_delivers_both_or_says_what_is_missing() {
    let rig = Rig::new();
    rig.inside(|| {
        let _open = info_span!("answer").entered();
        enrich_span!(feedback = { "rating": 5 });
        rig.telemetry.shutdown().unwrap();
        assert!(!enrich_span!(feedback = { "rating": 6 }).is_ok());
    });
    assert_eq!(rig.receiver.lines(), ["rating = 5.0"]);

    let rig = Rig::new();
    rig.receiver.answer_all(Some(LogAnswer::Unavailable));
    rig.inside(|| info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 })));
    let error = rig.telemetry.shutdown_within(Duration::from_millis(400)).unwrap_err();
    assert_eq!((error.pending(), error.pending_events()), (0, 1), "{error}");
    assert!(error.to_string().contains("1 log records had not arrived"), "{error}");
}

// ---- the outbox --------------------------------------------------------------------------------

#[test]
fn what_an_outage_holds_up_arrives_afterwards() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let directory = Directory::new();
        let rig = Rig::with(protocol, |builder| {
            builder
                .with_timeout(Duration::from_millis(300))
                .with_schedule_delay(Duration::from_millis(50))
                .with_outbox(OutboxOptions::new(&directory.0))
        });
        rig.receiver.answer_all(Some(LogAnswer::Unavailable));
        rig.run(|| {
            info_span!("answer").in_scope(|| enrich_span!(feedback = { "a": 1, "b": 2 }));
        });
        let stats = rig.telemetry.stats();
        assert_eq!((stats.events.outbox_records, stats.outbox_spans), (2, 0), "{protocol}");
        assert!(stats.events.outbox_bytes > 0 && stats.events.outbox_age.is_some());
        let segments = directory.files("segment");
        assert!(segments.iter().all(|path| path.starts_with(directory.0.join("logs"))));
        let bytes = std::fs::read(&segments[0]).unwrap();
        assert_eq!(bytes[..12], *b"TFOUTBOX\x02\0\x01\0");

        rig.receiver.answer_all(None);
        let logs = rig.receiver.wait_for(2);
        assert_eq!(logs.len(), 2);
        eventually(|| rig.telemetry.stats().events.outbox_records == 0);
        let events = rig.telemetry.stats().events;
        assert_eq!((events.replayed, events.exported, events.dropped), (2, 2, 0));
        rig.telemetry.shutdown().unwrap();
    }
}

#[test]
fn what_a_collector_rejects_is_kept_with_its_reason() {
    let directory = Directory::new();
    let rig =
        Rig::with(Protocol::Grpc, |builder| builder.with_outbox(OutboxOptions::new(&directory.0)));
    rig.receiver.answer_next(LogAnswer::BadRequest);
    rig.inside(|| info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 })));
    let error = rig.telemetry.flush().unwrap_err();
    assert_eq!(error.event_losses()[0].reason, DropReason::Rejected);
    assert_eq!(rig.telemetry.stats().events.rejected, 1);
    let [rejected] = &directory.files("segment")[..] else { panic!() };
    assert!(rejected.starts_with(directory.0.join("logs").join("rejected")));
    let bytes = std::fs::read(rejected).unwrap();
    assert!(bytes.windows(14).any(|window| window == b"no such tenant"));
}

#[test]
fn a_session_of_the_whole_layer_is_in_the_records() {
    let session = Session::with_id("nightly").unwrap();
    let rig = Rig::with(Protocol::Grpc, |builder| builder.with_session(session));
    rig.run(|| info_span!("answer").in_scope(|| enrich_span!(metrics = { "score": 1 })));
    let log = one(rig.receiver.logs());
    assert_eq!(log.attributes["session.id"], Value::StringValue("nightly".to_owned()));
    assert_eq!(log.text("tracing_feedback.scope"), "");
}

/// The variable with the outbox directory of a process that was started to be killed.
const DIRECTORY: &str = "TRACING_FEEDBACK_TEST_EVENTS";

fn written_ahead(builder: Builder, directory: &std::path::Path) -> Builder {
    let options = OutboxOptions::new(directory).with_policy(OutboxPolicy::WriteAhead);
    builder
        .with_timeout(Duration::from_millis(200))
        .with_schedule_delay(Duration::from_millis(50))
        .with_outbox(options)
}

#[test]
fn a_record_that_was_written_is_delivered_after_a_crash() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let receiver = LogReceiver::start();
        receiver.answer_all(Some(LogAnswer::Unavailable));
        let rig = Rig::of(receiver, Protocol::Grpc, |builder| {
            written_ahead(builder, std::path::Path::new(&directory))
        });
        rig.inside(|| {
            let _open = info_span!("answer").entered();
            enrich_span!(feedback = { "rating": 5, "comment": "Great" });
            enrich_span!(target = target(), id = "vote-1", metrics = { "score": 1 });
            enrich::persist(Duration::from_secs(30)).unwrap();
            println!("acknowledged");
            loop {
                std::thread::park();
            }
        });
    }
    let directory = Directory::new();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "events::a_record_that_was_written_is_delivered_after_a_crash"])
        .arg("--nocapture")
        .env(DIRECTORY, &directory.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(victim.stdout.take().unwrap());
    let mut lines = output.lines().map_while(Result::ok);
    let is_acknowledged = lines.any(|line| line.ends_with("acknowledged"));
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(is_acknowledged);

    let rig = Rig::with(Protocol::Grpc, |builder| written_ahead(builder, &directory.0));
    let logs = rig.receiver.wait_for(3);
    // What was sent may come twice, if its acknowledgement was lost.
    let lines: BTreeSet<_> = logs.iter().map(ArrivedLog::line).collect();
    let expected = ["comment is Great because Great", "rating = 5.0 because Great", "score = 1.0"];
    assert_eq!(lines, BTreeSet::from(expected.map(str::to_owned)));
    let late = logs.iter().find(|log| log.line() == "score = 1.0").unwrap();
    assert_eq!((ids(late), late.text("tracing_feedback.id")), (ids_of(&target()), "vote-1".into()));
    assert!(logs.iter().all(|log| log.service == "chat"));
    eventually(|| rig.telemetry.stats().events.outbox_records == 0);
    rig.telemetry.shutdown().unwrap();
    let left = directory.files("segment");
    assert!(!left.iter().any(|path| path.starts_with(directory.0.join("logs"))), "{left:?}");
}
