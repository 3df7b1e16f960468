//! What belongs to a whole process, in processes of their own: the global subscriber and
//! propagator, `init`, and the environment. The tests start this very binary again, with the
//! variables they are about, and look at what a collector got and at what was printed.

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::fmt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing::field::Empty;
use tracing::{debug_span, info, info_span};
use tracing_feedback::collector::{Collector, ReceivedSpan};
use tracing_feedback::{
    BuildError, EnrichError, Session, SpanExt, Telemetry, enrich_session, enrich_span, propagation,
};
use tracing_subscriber::prelude::*;

/// The variable that selects the part of a process.
const PART: &str = "TRACING_FEEDBACK_TEST_PART";

/// The way into the processes that the other tests start; by itself it does nothing.
#[test]
fn part() {
    match env::var(PART).as_deref() {
        Ok("service") => service(),
        Ok("disabled") => disabled(),
        Ok("propagate") => propagate(),
        Ok("strict") => strict(),
        Ok("builder") => with_builder(),
        Ok("everything") => everything(),
        Ok("tracing debug") => tracing_debug(),
        Ok("two layers") => two_layers(),
        Ok("readme") => readme(),
        Ok("init twice") => init_twice(),
        Ok("tickets") => tickets(),
        Ok("nothing installed") => nothing_installed(),
        #[cfg(unix)]
        Ok("signals") => signals(),
        Ok(other) => panic!("no such part: {other}"),
        Err(_) => {}
    }
}

/// Plays a part in a process with these variables and no others. Returns what it printed.
fn play(part: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "part", "--nocapture", "--test-threads=1"])
        .env_clear()
        .env(PART, part)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success(), "{part} with {variables:?}:\n{text}");
    text
}

/// A collector, and what a service with these variables sends there and prints.
fn serve(variables: &[(&str, &str)]) -> (Collector, String) {
    let collector = Collector::start().unwrap();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())];
    all.extend(variables);
    let text = play("service", &all);
    (collector, text)
}

fn one(collector: &Collector, name: &str) -> ReceivedSpan {
    let spans = collector.spans();
    let mut named = spans.iter().filter(|span| span.name == name);
    let span = named.next().unwrap_or_else(|| panic!("no {name} in\n{}", collector.tree()));
    assert!(named.next().is_none(), "several {name} in\n{}", collector.tree());
    span.clone()
}

// ---- the service that most tests look at -------------------------------------------------------

/// All from the environment.
fn service() {
    let telemetry = tracing_feedback::init().unwrap();
    {
        let span = info_span!("answer", session.id = "conversation-42", long = "0123456789", n = 1);
        let _span = span.entered();
        info!(first = 1, second = 2, "logged");
        info!("logged again");
        let _ = tracing::Span::current().set_attribute("list", long_list()); // it may be filtered out
        let _hidden = debug_span!("details").entered();
        println!("outcome: {:?}", enrich_span!(feedback = { "rating": 5 }).into_result());
    }
    telemetry.flush().unwrap();
    println!("stats: {:?}", telemetry.stats());
}

fn long_list() -> opentelemetry::Value {
    let texts = ["12345678", "äöüßäöüß", "1"].map(opentelemetry::StringValue::from);
    opentelemetry::Value::Array(texts.to_vec().into())
}

const TREE: &str = "answer\n    feedback.rating = 5\n";

#[test]
fn init_takes_all_from_the_environment() {
    let (collector, text) = serve(&[
        ("OTEL_SERVICE_NAME", "chat"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment=test,region=eu%20west,service.name=no",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=secret"),
    ]);
    assert_eq!(collector.tree(), TREE);
    let span = one(&collector, "answer");
    assert_eq!(span.attributes["session.id"], "conversation-42");
    assert_eq!(span.events.len(), 2);
    assert_eq!(span.resource["service.name"], "chat");
    assert_eq!(span.resource["deployment.environment"], "test");
    assert_eq!(span.resource["region"], "eu west");
    assert_eq!(collector.requests()[0].headers["x-api-key"], "secret");
    // The logs are there too.
    assert!(text.contains("logged again"), "{text}");
    assert!(!text.contains("WARN"), "{text}");
}

#[test]
fn turning_logs_down_never_turns_feedback_off() {
    for filter in ["off", "error", "none_of_ours=trace"] {
        let (collector, text) = serve(&[("RUST_LOG", filter)]);
        assert_eq!(collector.tree(), TREE, "{filter}");
        assert_eq!(one(&collector, "answer").events.len(), 2, "{filter}");
        assert!(!text.contains("logged"), "{filter}: {text}");
    }
}

#[test]
fn what_is_captured_has_a_filter_of_its_own() {
    let (collector, text) = serve(&[("FEEDBACK_TRACE_FILTER", "debug"), ("RUST_LOG", "warn")]);
    assert_eq!(collector.tree(), "answer\n  details\n      feedback.rating = 5\n");
    assert!(!text.contains("logged"), "{text}");

    let (collector, text) = serve(&[("FEEDBACK_TRACE_FILTER", "off")]);
    assert_eq!(collector.tree(), "");
    assert!(text.contains("logged again"), "{text}");
    assert!(text.contains("outcome: Err(NoActiveSpan)"), "{text}");

    let (collector, text) = serve(&[("FEEDBACK_TRACE_FILTER", "!!=??"), ("RUST_LOG", "warn,=")]);
    assert_eq!(collector.tree(), TREE, "the default");
    assert!(text.contains("FEEDBACK_TRACE_FILTER"), "{text}");
    assert!(text.contains("RUST_LOG"), "{text}");
}

#[test]
fn protocols_of_the_environment() {
    for protocol in ["http/protobuf", "http/json"] {
        let collector = Collector::start().unwrap();
        play(
            "service",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http_endpoint()),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ],
        );
        assert_eq!(collector.tree(), TREE, "{protocol}");
        assert_eq!(collector.requests()[0].compression.as_deref(), Some("gzip"), "{protocol}");
    }
}

#[test]
fn a_sampler_of_the_environment() {
    let (collector, text) = serve(&[("OTEL_TRACES_SAMPLER", "always_off")]);
    assert_eq!(collector.tree(), TREE, "feedback is kept whatever the sampler says");
    let span = one(&collector, "answer");
    assert_eq!(span.flags & 1, 0);
    assert_eq!(span.attributes["tracing_feedback.sampled"], false);
    assert!(text.contains("exported: 1"), "{text}");

    let variables =
        [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "1")];
    let (collector, _) = serve(&variables);
    assert_eq!(one(&collector, "answer").flags & 1, 1);
}

#[test]
fn limits_of_the_environment() {
    let (collector, text) = serve(&[
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "1"),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "2"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4"),
    ]);
    let span = one(&collector, "answer");
    assert_eq!(span.attributes.len(), 3);
    assert!(span.dropped_attributes_count > 0);
    // Whatever the limits: the session whole, and the feedback.
    assert_eq!(span.attributes["session.id"], "conversation-42");
    assert_eq!(span.attributes["feedback.rating"], 5);
    assert_eq!((span.events.len(), span.dropped_events_count), (1, 1));
    assert_eq!(span.events[0].attributes.len(), 2);
    assert_eq!(span.events[0].attributes["target"], "glob");
    assert!(text.contains("Ok(())"), "{text}");

    let (collector, _) = serve(&[("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4")]);
    let span = one(&collector, "answer");
    assert_eq!(span.attributes["long"], "0123");
    assert_eq!(span.attributes["list"], ["1234", "äöüß", "1"]);
    assert_eq!(span.attributes["session.id"], "conversation-42");
}

#[test]
fn batches_of_the_environment() {
    let (collector, _) =
        serve(&[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"), ("FEEDBACK_TRACE_FILTER", "debug")]);
    let sizes: Vec<_> = collector.requests().iter().map(|request| request.spans).collect();
    assert_eq!(sizes, [1, 1]);
    let (collector, _) = serve(&[("OTEL_BSP_MAX_QUEUE_SIZE", "1")]);
    assert_eq!(collector.tree(), TREE);
}

#[test]
fn propagators_of_the_environment() {
    for (value, names) in [
        ("tracecontext", "{\"traceparent\"}"),
        ("baggage", "{\"baggage\"}"),
        ("baggage,tracecontext", "{\"baggage\", \"traceparent\"}"),
        ("none", "{}"),
    ] {
        let text = play("propagate", &[("OTEL_PROPAGATORS", value)]);
        assert_eq!(text.matches(&format!("names: {names}")).count(), 2, "{value}: {text}");
    }
}

/// What is written into headers, by this crate and by the global propagator.
fn propagate() {
    let _telemetry = tracing_feedback::init().unwrap();
    let _span = info_span!("span").entered();
    let baggage = [opentelemetry::KeyValue::new("tenant", "acme")];
    let _baggage = Context::current().with_baggage(baggage).attach();
    let (mut ours, mut by_api) = (HashMap::<String, String>::new(), HashMap::new());
    propagation::inject(&mut ours);
    opentelemetry::global::get_text_map_propagator(|propagator| propagator.inject(&mut by_api));
    for headers in [ours, by_api] {
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
        println!("names: {:?}", headers.map(|(name, _)| name).collect::<BTreeSet<_>>());
    }
}

#[test]
fn no_exporter() {
    let (collector, text) = serve(&[("OTEL_TRACES_EXPORTER", "none")]);
    assert!(collector.requests().is_empty());
    assert!(text.contains("outcome: Ok(())"), "{text}");
}

#[test]
fn spans_on_standard_output() {
    let (collector, text) = serve(&[("OTEL_TRACES_EXPORTER", "console"), ("RUST_LOG", "off")]);
    assert!(collector.requests().is_empty());
    assert!(text.contains("answer") && text.contains("feedback.rating"), "{text}");
}

const MALFORMED: &[(&str, &str)] = &[
    ("OTEL_TRACES_SAMPLER", "sometimes"),
    ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
    ("OTEL_RESOURCE_ATTRIBUTES", "no equals sign"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier pigeon"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "long"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "tight"),
    ("OTEL_PROPAGATORS", "pigeon"),
    ("OTEL_TRACES_EXPORTER", "fax"),
    ("OTEL_SDK_DISABLED", "perhaps"),
];

#[test]
fn what_is_malformed_is_ignored_with_a_warning_that_names_it() {
    let (collector, text) = serve(MALFORMED);
    assert_eq!(collector.tree(), TREE, "{text}");
    for (variable, value) in MALFORMED {
        let warnings = text.lines().filter(|line| line.contains("WARN") && line.contains(variable));
        assert_eq!(warnings.count(), 1, "{variable}={value}:\n{text}");
    }
}

/// A service that has a subscriber of its own, and adds the layer to it.
fn with_builder() {
    let (layer, telemetry) = tracing_feedback::builder().build().unwrap();
    let issues = telemetry.environment_issues();
    println!("{} issues", issues.len());
    assert!(issues.iter().all(|issue| issue.to_string().contains(issue.variable)));
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stdout).with_ansi(false);
    tracing_subscriber::registry().with(logs).with(layer).init();
    tracing::info_span!("answer").in_scope(|| ());
    let _ = telemetry.shutdown();
}

#[test]
fn a_layer_that_is_added_to_a_subscriber_warns_there_of_the_environment() {
    let collector = Collector::start().unwrap();
    let mut variables = MALFORMED[..10].to_vec();
    variables.push(("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://host"));
    variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()));
    let text = play("builder", &variables);
    assert!(text.contains("11 issues"), "{text}");
    for (variable, value) in &variables[..11] {
        let warnings = text.lines().filter(|line| line.contains("WARN") && line.contains(variable));
        assert_eq!(warnings.count(), 1, "{variable}={value}:\n{text}");
    }
    assert_eq!(collector.spans().len(), 1, "{text}");
}

#[test]
fn what_is_malformed_is_an_error_where_asked() {
    for (variable, value) in MALFORMED {
        let text = play("strict", &[(variable, value)]);
        assert!(text.contains(&format!("refused: the environment variable {variable}")), "{text}");
    }
}

/// An exporter whose end can be waited for.
#[derive(Debug)]
struct Alive(#[allow(dead_code)] mpsc::Sender<()>);

impl SpanExporter for Alive {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

fn strict() {
    match tracing_feedback::builder().with_strict_env(true).build() {
        Err(error @ BuildError::Environment { .. }) => println!("refused: {error}"),
        other => panic!("{other:?}"),
    }
    // What was started for it has ended.
    let (alive, is_over) = mpsc::channel();
    let builder = tracing_feedback::builder().with_exporter(Alive(alive)).with_strict_env(true);
    builder.build().unwrap_err();
    let ended = is_over.recv_timeout(Duration::from_secs(10));
    assert_eq!(ended, Err(mpsc::RecvTimeoutError::Disconnected));
    // Without it the same is only warned about.
    assert!(tracing_feedback::builder().build().is_ok());
}

// ---- switched off ------------------------------------------------------------------------------

#[test]
fn the_sdk_switched_off() {
    let collector = Collector::start().unwrap();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    play("disabled", &[endpoint, ("OTEL_SDK_DISABLED", "true")]);
    assert!(collector.requests().is_empty());
}

fn disabled() {
    let telemetry = tracing_feedback::init().unwrap();
    let refused = |outcome: tracing_feedback::Enrichment| {
        assert_eq!(outcome.into_result(), Err(EnrichError::SdkDisabled));
    };
    refused(enrich_span!(feedback = { "rating": 1 }));
    let span = info_span!("span", session.id = "s").entered();
    refused(enrich_span!(feedback = { "rating": 1 }));
    refused(enrich_span!(span = &span, feedback = { "rating": 1 }));
    refused(enrich_session!(feedback = { "rating": 1 }));
    refused(enrich_session!(session_id = "s", feedback = { "rating": 1 }));
    assert!(span.span_context().is_err());
    assert_eq!(Session::current(), None);

    // What came from elsewhere is passed on.
    let id = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = HashMap::from([
        ("traceparent".to_owned(), id.to_owned()),
        ("baggage".to_owned(), "tenant=acme".to_owned()),
    ]);
    let context = propagation::extract(&headers);
    assert!(context.has_active_span());
    let _context = context.attach();
    let mut onwards = HashMap::new();
    propagation::inject(&mut onwards);
    assert_eq!((onwards["traceparent"].as_str(), onwards["baggage"].as_str()), (id, "tenant=acme"));
    let mut by_api = HashMap::new();
    opentelemetry::global::get_text_map_propagator(|propagator| propagator.inject(&mut by_api));
    assert_eq!(by_api["traceparent"], id);

    telemetry.flush().unwrap();
    assert_eq!(telemetry.stats(), tracing_feedback::Stats::default());
    telemetry.shutdown().unwrap();
}

#[test]
fn a_second_init() {
    let collector = Collector::start().unwrap();
    play("init twice", &[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())]);
    assert_eq!(collector.tree(), "of the first\n");
}

fn init_twice() {
    let telemetry = tracing_feedback::init().unwrap();
    assert!(matches!(tracing_feedback::init(), Err(BuildError::SubscriberSet)));
    let mut headers = HashMap::new();
    info_span!("of the first").in_scope(|| {
        opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.inject(&mut headers)
        });
    });
    assert!(headers.contains_key("traceparent"));
    telemetry.shutdown().unwrap();
}

// ---- a global subscriber that sees everything --------------------------------------------------

#[test]
fn what_happens_on_the_export_thread_is_never_traced() {
    for protocol in ["grpc", "http/protobuf", "http/json"] {
        play("everything", &[("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]);
    }
}

/// The layer, and the collector with it, under a global subscriber without any filter.
fn everything() {
    let collector = Collector::start().unwrap();
    let endpoint = match env::var("OTEL_EXPORTER_OTLP_PROTOCOL").as_deref() {
        Ok("grpc") => collector.endpoint(),
        _ => collector.http_endpoint(),
    };
    let (layer, telemetry) = tracing_feedback::builder()
        .with_endpoint(endpoint)
        .with_schedule_delay(Duration::from_millis(5))
        .build()
        .unwrap();
    // The subscriber sees events of other crates: without them the test could not fail.
    let (seen, sight) = mpsc::channel();
    let watch = tracing_subscriber::filter::filter_fn(move |metadata| {
        let _ = seen.send(metadata.target().to_owned());
        true
    });
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    tracing_subscriber::registry().with(log.with_filter(watch)).with(layer).init();

    let around = info_span!("around").entered();
    for n in 0..10 {
        info_span!("ours", n).in_scope(|| tracing::trace!("event"));
        telemetry.flush().unwrap();
    }
    drop(around);
    telemetry.flush().unwrap();
    let stats = telemetry.stats();
    // Once more, with spans that the last flush may have caused.
    telemetry.shutdown().unwrap();
    assert_eq!(stats.exported, 11, "{}", collector.tree());
    assert_eq!(collector.tree(), format!("around\n{}", "  ours\n".repeat(10)));
    assert!(one(&collector, "around").events.is_empty());
    let foreign: Vec<_> = sight.try_iter().filter(|target| !target.starts_with("global")).collect();
    assert!(foreign.iter().any(|target| target.starts_with("h")), "{foreign:?}"); // h2, hyper
}

fn global(layer: tracing_feedback::FeedbackLayer, telemetry: Telemetry) -> Telemetry {
    tracing_subscriber::registry().with(layer).init();
    telemetry
}

fn build(collector: &Collector) -> (tracing_feedback::FeedbackLayer, Telemetry) {
    tracing_feedback::builder().with_endpoint(collector.endpoint()).build().unwrap()
}

/// Makes events while it is formatted.
struct TracingDebug;

impl fmt::Debug for TracingDebug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _span = info_span!("formatting").entered();
        info!("formatting");
        let _ = enrich_span!(feedback = { "talks": true });
        let _ = enrich_session!(feedback = { "talks": true });
        propagation::inject(&mut HashMap::new());
        f.write_str("talkative")
    }
}

#[test]
fn values_that_make_spans_while_they_are_recorded() {
    play("tracing debug", &[]);
}

fn tracing_debug() {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let collector = Collector::start().unwrap();
        let (layer, telemetry) = build(&collector);
        let telemetry = global(layer, telemetry);
        let span = info_span!("span", field = ?TracingDebug, later = Empty);
        let entered = span.enter();
        span.record("later", tracing::field::debug(TracingDebug));
        info!(value = ?TracingDebug, "event");
        let _ = enrich_span!(feedback = { "rating": format!("{TracingDebug:?}") });
        span.set_status(Status::error(format!("{TracingDebug:?}"))).unwrap();
        drop(entered);
        drop(span);
        telemetry.shutdown().unwrap();
        let span = one(&collector, "span");
        assert_eq!(span.attributes["field"], "talkative");
        assert_eq!(span.attributes["later"], "talkative");
        assert_eq!(span.events[0].attributes["value"], "talkative");
        let spans = collector.spans();
        let formatting: Vec<_> = spans.iter().filter(|span| span.name == "formatting").collect();
        assert_eq!(formatting.len(), 5);
        assert!(formatting.iter().all(|span| span.attributes["feedback.talks"] == true));
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("a deadlock, or a panic");
}

#[test]
fn a_second_layer_says_that_it_is_inert() {
    let text = play("two layers", &[]);
    assert_eq!(text.matches("stays inert").count(), 1, "{text}");
}

fn two_layers() {
    let collector = Collector::start().unwrap();
    let ((first, to_first), (second, to_second)) = (build(&collector), build(&collector));
    let log = tracing_subscriber::fmt::layer();
    tracing_subscriber::registry().with(log).with(first).with(second).init();
    for _ in 0..3 {
        info_span!("span").in_scope(|| info!("event"));
    }
    to_first.shutdown().unwrap();
    assert_eq!(to_second.stats().exported, 0);
    to_second.shutdown().unwrap();
    assert_eq!(collector.tree(), "span\n".repeat(3));
}

#[test]
fn the_subscriber_of_the_readme_logs_the_service_and_not_its_exporter() {
    let collector = Collector::start().unwrap();
    let text = play("readme", &[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())]);
    let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];
    let is_logged = |line: &&str| levels.iter().any(|level| line.contains(level));
    let logged: Vec<_> = text.lines().filter(is_logged).collect();
    assert!(logged.len() == 1 && logged[0].contains("answered"), "{text}");
    assert_eq!(one(&collector, "answer").events[0].name, "answered");
}

/// The second example of the README.
fn readme() {
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::fmt;

    let (layer, telemetry) = tracing_feedback::builder().build().unwrap();
    tracing_subscriber::registry()
        .with(fmt::layer().with_filter(LevelFilter::INFO))
        .with(layer.with_filter(LevelFilter::INFO))
        .init();
    info_span!("answer").in_scope(|| info!("answered"));
    telemetry.shutdown().unwrap();
}

#[test]
fn ticket_keys_of_the_environment() {
    const KEYS: &str = "UjGNnMuuKexd4cZLLhxVsmmmZ-WzgHTBGWHqPO3pXqA,\
                        b8ZOJZnSOZd1BAsaz4FrxRIAV1ngyGkTTVpGBWi7Sb0=";
    let played =
        |keys| play("tickets", &[("FEEDBACK_TICKET_KEYS", keys), ("OTEL_TRACES_EXPORTER", "none")]);
    let text = played(KEYS);
    assert!(text.contains("issued: true, keys: 2, strict: true"), "{text}");
    let text = played("s3cret,s3cret");
    assert!(text.contains("issued: false, keys: 0, strict: false"), "{text}");
    assert!(text.contains("FEEDBACK_TICKET_KEYS"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    let text = played("");
    assert!(text.contains("issued: false, keys: 0, strict: true"), "{text}");
    assert!(text.contains("with_ticket_keys"), "{text}");
}

/// Whether a ticket is issued, and what is printed if keys are malformed.
fn tickets() {
    let strict = tracing_feedback::builder().with_strict_env(true).build();
    if let Err(error) = &strict {
        println!("{error}");
    }
    let telemetry = tracing_feedback::init().unwrap();
    let ticket = info_span!("answer").ticket();
    if let Err(error) = &ticket {
        println!("{error}");
    }
    let (keys, strict) = (telemetry.ticket_keys().len(), strict.is_ok());
    println!("issued: {}, keys: {keys}, strict: {strict}", ticket.is_ok());
}

#[test]
#[cfg(unix)]
fn signals_that_ask_to_stop() {
    let text = play("signals", &[]);
    assert!(text.contains("the end"), "{text}");
}

#[cfg(unix)]
fn signals() {
    use futures_executor::block_on;
    use tokio::time::timeout;
    use tracing_feedback::shutdown_signal;

    fn send(signal: &str) {
        let kill = format!("kill -{signal} {}", std::process::id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
    // Far from any runtime it is an error, neither a signal nor a wait.
    let error = shutdown_signal().err().unwrap();
    assert!(error.to_string().contains("no Tokio runtime"), "{error}");

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let second = Duration::from_secs(1);
    runtime.block_on(async {
        for signal in ["TERM", "INT"] {
            // It catches signals from its creation on, before it is awaited.
            let (one, other) = (shutdown_signal().unwrap(), shutdown_signal().unwrap());
            send(signal);
            timeout(10 * second, one).await.unwrap();
            timeout(10 * second, other).await.unwrap();
            assert!(timeout(second / 5, shutdown_signal().unwrap()).await.is_err(), "{signal}");
        }
        // One that waits already is woken, whichever of the two comes.
        for signal in ["INT", "TERM"] {
            let waiting = tokio::spawn(shutdown_signal().unwrap());
            tokio::time::sleep(second / 10).await;
            assert!(!waiting.is_finished());
            send(signal);
            timeout(10 * second, waiting).await.unwrap().unwrap();
        }
        // A second signal by itself does nothing.
        send("TERM");
        tokio::time::sleep(second / 10).await;
    });
    // The future may be awaited anywhere.
    let stop = {
        let _inside = runtime.enter();
        shutdown_signal().unwrap()
    };
    send("TERM");
    block_on(stop);
    println!("the end");
}

/// In a process of its own: other tests have providers, which late feedback would go to.
fn nothing_installed() {
    let refused = |outcome: tracing_feedback::Enrichment| {
        assert_eq!(outcome.into_result(), Err(EnrichError::NotInstalled));
    };
    let target = opentelemetry::trace::SpanContext::new(
        opentelemetry::trace::TraceId::from(7),
        opentelemetry::trace::SpanId::from(7),
        opentelemetry::trace::TraceFlags::SAMPLED,
        true,
        Default::default(),
    );
    let check = || {
        refused(enrich_span!(target = &target, feedback = { "rating": 1 }));
        refused(enrich_session!(session_id = "s", feedback = { "rating": 1 }));
        assert_eq!(Session::new().ticket(), Err(tracing_feedback::TicketError::NotInstalled));
    };
    check();
    tracing::subscriber::with_default(tracing_subscriber::registry(), check);
}

#[test]
fn late_feedback_where_nothing_is_installed_is_refused() {
    play("nothing installed", &[]);
}
