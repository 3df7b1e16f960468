//! Sends one of everything to the collector that the `OTEL_*` variables name, and prints what must
//! arrive there, a JSON line each: `tests/otelcol/run` compares it with what the official Collector
//! has written. The expectations are written by hand in [`expectations`]; none is derived from what
//! the library did.
//!
//! ```text
//! OTEL_SERVICE_NAME=typecheck \
//! OTEL_RESOURCE_ATTRIBUTES='deployment.environment.name=check,team=caf%C3%A9' \
//!     cargo run --example typecheck
//! ```

use std::error::Error;
use std::fmt;
use std::net::Ipv4Addr;

use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::field::Empty;
use tracing::{info, info_span, instrument, warn};
use tracing_feedback::{Session, SpanExt as _, enrich_session, enrich_span};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const CONTROL: &str = "line\nbreak \"quoted\" back\\slash\ttab \u{1} nul \0 end";
const UNICODE: &str = "naïve Ω 漢字 🦀 e\u{301}";

fn main() -> Result<(), Box<dyn Error>> {
    let (layer, telemetry) = tracing_feedback::builder()
        .with_location(true)
        .with_threads(true)
        .with_target(true)
        .with_level(true)
        .with_tracked_inactivity(true)
        .build()?;
    tracing_subscriber::registry().with(layer).init();

    values();
    errors();
    kinds_and_statuses();
    outer(1, "one");
    talkative();
    let answered = answer("capital of New York");
    session()?;
    job();
    telemetry.flush()?;

    // All feedback below is on spans that have ended.
    enrich_span!(
        target = answered.clone(),
        feedback = {
            "rating": false,
            "late_comment": "on second thought",
            "edits": [{ "value": "Albany, NY" }],
        }
    );
    enrich_span!(target = answered, id = "withdrawn-1", feedback = { "score": null });
    enrich_session!(session_id = "conversation-1", feedback = { "resolved": false });
    telemetry.flush()?;
    telemetry.shutdown()?;

    for line in expectations() {
        println!("{line}");
    }
    Ok(())
}

/// Every type of attribute; links to what happened before.
fn values() {
    let first = info_span!("first", yes = true, no = false, never = Empty);
    let second = info_span!(
        "integers",
        zero = 0_i64,
        negative = -1_i64,
        least = i64::MIN,
        most = i64::MAX,
        small = 7_u8,
        unsigned = 42_u64,
        unsigned_most = i64::MAX as u64,
        unsigned_beyond = u64::MAX,
        wide = u128::MAX,
        wide_negative = i128::MIN,
        some = Some(3_i64),
        none = None::<i64>,
    );
    let third = info_span!(
        "floats",
        sum = 0.1_f64 + 0.2_f64,
        tiny = 5e-324_f64,
        huge = f64::MAX,
        negative = -0.5_f64,
        whole = 2.0_f64,
    );
    let fourth = info_span!(
        "texts",
        plain = "plain",
        empty = "",
        control = CONTROL,
        unicode = UNICODE,
        debug = ?[Some(1), None],
        display = %Ipv4Addr::LOCALHOST,
        a.dotted.key = "dotted",
        later = Empty,
        twice = "first",
    );
    fourth.record("later", "recorded later");
    fourth.record("twice", "second");
    let follower = info_span!("follower");
    follower.follows_from(&first);
    follower.follows_from(&fourth);
    drop((first, second, third, fourth, follower));
}

#[derive(Debug)]
struct Chained(&'static str, Option<Box<Chained>>);

impl fmt::Display for Chained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Chained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

fn errors() {
    let disk = Chained("disk full", None);
    let write = Chained("cannot write", Some(Box::new(disk)));
    let save = Chained("cannot save", Some(Box::new(write)));
    drop(info_span!(
        "failed",
        error = &save as &(dyn Error + 'static),
        otel.status_code = "ERROR",
        otel.status_description = "no such city",
    ));
    let _ = raised();
}

#[instrument(err)]
fn raised() -> Result<(), Chained> {
    Err(Chained("disk full", None))
}

fn kinds_and_statuses() {
    let server = info_span!("server", otel.kind = "server", otel.status_code = "OK").entered();
    drop(info_span!("client", otel.kind = "client"));
    drop(info_span!("producer", otel.kind = "producer"));
    drop(info_span!("consumer", otel.kind = "consumer"));
    let placeholder = info_span!("placeholder", otel.name = Empty, otel.kind = Empty);
    placeholder.in_scope(|| ());
    placeholder.record("otel.name", "renamed");
    placeholder.record("otel.kind", "client");
    drop(placeholder);
    drop(server);
}

#[instrument]
fn outer(depth: u64, text: &str) {
    middle();
}

#[instrument]
fn middle() {
    inner();
}

#[instrument(skip_all, fields(depth = 3))]
fn inner() {}

#[instrument]
fn talkative() {
    info!("a plain message");
    info!(name: "named", answer = 42, ratio = 0.5, sure = true);
    warn!(attempt = 2_u64, beyond = u64::MAX, list = ?[1, 2], text = CONTROL, "retrying {}", "now");
}

#[derive(Serialize)]
struct Extra {
    reviewer: &'static str,
    absent: Option<u32>,
    nothing: (),
}

/// Feedback of all types of JSON, merged, retracted and nested too deeply.
#[instrument(fields(feedback.source = "field"))]
fn answer(question: &str) -> SpanContext {
    enrich_span!(feedback = {
        "rating": true,
        "comment": "The model hallucinated the capital of New York",
        "stars": 4,
        "delta": -3,
        "score": 0.75,
        "exact": u64::MAX,
        "unicode": UNICODE,
        "step1": { "retry": true },
        "edits": [{ "value": "New York" }, { "value": "Boston" }],
        "tags": ["a", "b", "c"],
        "draft": "to be withdrawn",
        "details": { "kept": 1, "withdrawn": { "x": 2 } },
        "grows": "scalar",
        "shrinks": { "x": 1, "y": 2 },
        "emptied": [1, 2],
    });
    enrich_span!(feedback = {
        "stars": 5,
        "draft": null,
        "step1": { "model": "small" },
        "edits": { "0": { "value": "Albany" } },
        "tags": ["z"],
        "details": { "withdrawn": null },
        "grows": { "x": 1 },
        "shrinks": "scalar",
        "emptied": [],
        "ground_truth": "The capital of New York is Albany",
    });
    let extra = Extra { reviewer: "expert", absent: None, nothing: () };
    enrich_span!(
        metrics = { "bleu": 0.5, "passes": 3 },
        metadata = extra,
        user_properties = { "plan": "free" },
        inputs = { "question": question },
        outputs = { "answer": ["Albany"] },
        config = { "temperature": 0.0 },
    );
    enrich_span!(config = null);
    let deep = json!({
        "deep": { "a": { "b": { "c": { "d": { "e": { "f": 1 } } } } } },
        "grid": [[[1, 2]]],
    });
    enrich_span!(feedback = deep);
    opentelemetry::Context::current().span().span_context().clone()
}

/// A session set on a span, and one that comes with a field.
fn session() -> Result<(), Box<dyn Error>> {
    let chat = info_span!("chat");
    chat.set_session(&Session::with_id("conversation-1")?)?;
    chat.in_scope(|| {
        info_span!("turn").in_scope(|| {
            enrich_session!(feedback = { "resolved": true, "topics": ["billing", "refund"] });
        });
    });
    drop(chat);
    let by_field = info_span!("by_field", session.id = "conversation-2");
    by_field.in_scope(|| drop(info_span!("inherits")));
    Ok(())
}

/// Feedback on all of a trace, from deep inside, where there is no session.
#[instrument]
fn job() {
    info_span!("task").in_scope(|| {
        enrich_session!(feedback = { "useful": true });
    });
}

// What must arrive.

fn bool(value: bool) -> Value {
    json!({ "boolValue": value })
}

fn int(value: i64) -> Value {
    json!({ "intValue": value.to_string() })
}

fn double(value: f64) -> Value {
    json!({ "doubleValue": value })
}

fn text(value: &str) -> Value {
    json!({ "stringValue": value })
}

fn texts(values: &[&str]) -> Value {
    json!({ "arrayValue": { "values": values.iter().map(|value| text(value)).collect::<Vec<_>>() } })
}

fn any(kind: &str) -> Value {
    json!({ "any": kind })
}

/// A span as the layer captures it: `expected` and what every span has.
fn captured(mut expected: Value) -> Value {
    let own = expected["attributes"].take();
    let mut attributes = json!({
        "code.file.path": text("examples/typecheck.rs"),
        "code.line.number": any("intValue"),
        "thread.id": any("intValue"),
        "thread.name": text("main"),
        "target": text("typecheck"),
        "level": text("INFO"),
        "busy_ns": any("intValue"),
        "idle_ns": any("intValue"),
    });
    merge(&mut attributes, own);
    expected["attributes"] = attributes;
    let mut optional = location();
    merge(&mut optional, expected["optional"].take());
    expected["optional"] = optional;
    with_resource(expected)
}

fn location() -> Value {
    json!({ "code.module.name": any("stringValue"), "code.function.name": any("stringValue") })
}

/// An event as the layer captures it.
fn event(name: &str, level: &str, own: Value) -> Value {
    let mut attributes = json!({ "target": text("typecheck"), "level": text(level) });
    merge(&mut attributes, own);
    let mut optional = location();
    merge(
        &mut optional,
        json!({
            "code.file.path": text("examples/typecheck.rs"),
            "code.line.number": any("intValue"),
            "exception.type": any("stringValue"),
        }),
    );
    json!({ "name": name, "attributes": attributes, "optional": optional })
}

/// A span that brings feedback later: a trace of its own, and one nanosecond long.
fn carrier(mut expected: Value) -> Value {
    merge(
        &mut expected["attributes"],
        json!({
            "tracing_feedback.late": bool(true),
            "tracing_feedback.time_unix_nano": any("intValue"),
        }),
    );
    expected["name"] = json!("feedback");
    expected["carrier"] = json!(true);
    with_resource(expected)
}

fn with_resource(mut expected: Value) -> Value {
    expected["resource"] = json!({
        "service.name": text("typecheck"),
        "deployment.environment.name": text("check"),
        "team": text("café"),
        "telemetry.sdk.name": text("opentelemetry"),
        "telemetry.sdk.language": text("rust"),
        "telemetry.sdk.version": any("stringValue"),
    });
    expected["resource_optional"] = json!({
        "service.instance.id": any("stringValue"),
        "telemetry.distro.name": any("stringValue"),
        "telemetry.distro.version": any("stringValue"),
    });
    expected
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

fn expectations() -> Vec<Value> {
    let mut lines = expected_values();
    lines.extend(expected_errors());
    lines.extend(expected_shapes());
    lines.extend(expected_feedback());
    lines.extend(expected_sessions());
    lines.extend(expected_events());
    lines
}

fn expected_values() -> Vec<Value> {
    vec![
        captured(json!({
            "name": "first",
            "attributes": { "yes": bool(true), "no": bool(false) },
        })),
        captured(json!({
            "name": "integers",
            "attributes": {
                "zero": int(0),
                "negative": int(-1),
                "least": int(-9223372036854775808),
                "most": int(9223372036854775807),
                "small": int(7),
                "unsigned": int(42),
                "unsigned_most": int(9223372036854775807),
                "unsigned_beyond": text("18446744073709551615"),
                "wide": text("340282366920938463463374607431768211455"),
                "wide_negative": text("-170141183460469231731687303715884105728"),
                "some": int(3),
            },
        })),
        captured(json!({
            "name": "floats",
            "attributes": {
                "sum": double(0.30000000000000004),
                "tiny": double(5e-324),
                "huge": double(1.7976931348623157e308),
                "negative": double(-0.5),
                "whole": double(2.0),
            },
        })),
        captured(json!({
            "name": "texts",
            "attributes": {
                "plain": text("plain"),
                "empty": text(""),
                "control": text("line\nbreak \"quoted\" back\\slash\ttab \u{1} nul \0 end"),
                "unicode": text("naïve Ω 漢字 🦀 e\u{301}"),
                "debug": text("[Some(1), None]"),
                "display": text("127.0.0.1"),
                "a.dotted.key": text("dotted"),
                "later": text("recorded later"),
                "twice": text("second"),
            },
        })),
        captured(json!({
            "name": "follower",
            "attributes": {},
            "links": [{ "span": "first" }, { "span": "texts" }],
        })),
    ]
}

fn expected_errors() -> Vec<Value> {
    vec![
        captured(json!({
            "name": "failed",
            "status": { "code": "error", "message": "no such city" },
            "attributes": {
                "error": text("cannot save"),
                "error.chain": texts(&["cannot write", "disk full"]),
            },
            "optional": {
                "exception.message": text("cannot save"),
                "exception.type": any("stringValue"),
                "exception.stacktrace": { "any": ["stringValue", "arrayValue"] },
            },
        })),
        captured(json!({
            "name": "raised",
            "status": { "code": "error", "message": "disk full" },
            "attributes": {},
            "events": [event("exception", "ERROR", json!({ "exception.message": text("disk full") }))],
        })),
    ]
}

fn expected_shapes() -> Vec<Value> {
    vec![
        captured(json!({
            "name": "server",
            "kind": "server",
            "status": { "code": "ok" },
            "attributes": {},
        })),
        captured(json!({
            "name": "client",
            "kind": "client",
            "parent": "server",
            "attributes": {},
        })),
        captured(json!({
            "name": "producer",
            "kind": "producer",
            "parent": "server",
            "attributes": {},
        })),
        captured(json!({
            "name": "consumer",
            "kind": "consumer",
            "parent": "server",
            "attributes": {},
        })),
        captured(json!({
            "name": "renamed",
            "kind": "client",
            "parent": "server",
            "attributes": {},
        })),
        captured(json!({
            "name": "outer",
            "attributes": { "depth": int(1), "text": text("one") },
        })),
        captured(json!({ "name": "middle", "parent": "outer", "attributes": {} })),
        captured(json!({ "name": "inner", "parent": "middle", "attributes": { "depth": int(3) } })),
        captured(json!({
            "name": "talkative",
            "attributes": {},
            "events": [
                event("a plain message", "INFO", json!({})),
                event(
                    "named",
                    "INFO",
                    json!({ "answer": int(42), "ratio": double(0.5), "sure": bool(true) }),
                ),
                event(
                    "retrying now",
                    "WARN",
                    json!({
                        "attempt": int(2),
                        "beyond": text("18446744073709551615"),
                        "list": text("[1, 2]"),
                        "text": text("line\nbreak \"quoted\" back\\slash\ttab \u{1} nul \0 end"),
                    }),
                ),
            ],
        })),
    ]
}

fn expected_feedback() -> Vec<Value> {
    let mut own = json!({
        "feedback.source": text("field"),
        "feedback.rating": bool(true),
        "feedback.comment": text("The model hallucinated the capital of New York"),
        "feedback.stars": int(5),
        "feedback.delta": int(-3),
        "feedback.score": double(0.75),
        "feedback.exact": text("18446744073709551615"),
        "feedback.unicode": text("naïve Ω 漢字 🦀 e\u{301}"),
        "feedback.step1.retry": bool(true),
        "feedback.step1.model": text("small"),
        "feedback.edits.0.value": text("Albany"),
        "feedback.edits.1.value": text("Boston"),
        "feedback.tags.0": text("z"),
        "feedback.details.kept": int(1),
        "feedback.grows.x": int(1),
        "feedback.shrinks": text("scalar"),
        "feedback.ground_truth": text("The capital of New York is Albany"),
        "feedback.deep.a.b.c.d.e": text("{\"f\":1}"),
        "feedback.grid.0.0": text("[1,2]"),
        "metrics.bleu": double(0.5),
        "metrics.passes": int(3),
        "metadata.reviewer": text("expert"),
        "user_properties.plan": text("free"),
        "inputs.question": text("capital of New York"),
        "outputs.answer.0": text("Albany"),
    });
    // What the two carriers make of it: an array in place of one edit, one key gone.
    let mut folded = own.clone();
    merge(
        &mut folded,
        json!({
            "feedback.rating": bool(false),
            "feedback.late_comment": text("on second thought"),
            "feedback.edits.0.value": text("Albany, NY"),
        }),
    );
    if let Some(folded) = folded.as_object_mut() {
        folded.remove("feedback.edits.1.value");
        folded.remove("feedback.score");
    }
    merge(&mut own, json!({ "question": text("capital of New York") }));
    vec![
        captured(json!({ "name": "answer", "attributes": own })),
        carrier(json!({
            "links": [{ "span": "answer" }],
            "attributes": {
                "feedback.rating": bool(false),
                "feedback.late_comment": text("on second thought"),
                "feedback.edits.0.value": text("Albany, NY"),
                "tracing_feedback.cleared": texts(&["feedback.edits"]),
            },
        })),
        carrier(json!({
            "links": [{ "span": "answer" }],
            "attributes": { "tracing_feedback.cleared": texts(&["feedback.score"]) },
        })),
        json!({ "feedback": { "span": "answer" }, "document": folded }),
    ]
}

fn expected_sessions() -> Vec<Value> {
    let scoped = |scope: &str| {
        json!({
            "tracing_feedback.scope": text(scope),
            "tracing_feedback.time_unix_nano": any("intValue"),
        })
    };
    let mut chat = scoped("session");
    merge(
        &mut chat,
        json!({
            "session.id": text("conversation-1"),
            "feedback.resolved": bool(true),
            "feedback.topics.0": text("billing"),
            "feedback.topics.1": text("refund"),
            "tracing_feedback.cleared": texts(&["feedback.topics"]),
        }),
    );
    let mut job = scoped("trace");
    merge(&mut job, json!({ "feedback.useful": bool(true) }));
    vec![
        captured(json!({ "name": "chat", "attributes": chat })),
        captured(json!({
            "name": "turn",
            "parent": "chat",
            "attributes": { "session.id": text("conversation-1") },
        })),
        carrier(json!({
            "attributes": {
                "session.id": text("conversation-1"),
                "tracing_feedback.scope": text("session"),
                "feedback.resolved": bool(false),
            },
        })),
        json!({
            "feedback": { "session": "conversation-1" },
            "document": {
                "feedback.resolved": bool(false),
                "feedback.topics.0": text("billing"),
                "feedback.topics.1": text("refund"),
            },
        }),
        captured(json!({
            "name": "by_field",
            "attributes": { "session.id": text("conversation-2") },
        })),
        captured(json!({
            "name": "inherits",
            "parent": "by_field",
            "attributes": { "session.id": text("conversation-2") },
        })),
        captured(json!({ "name": "job", "attributes": job })),
        captured(json!({ "name": "task", "parent": "job", "attributes": {} })),
        json!({
            "feedback": { "trace": "job" },
            "document": { "feedback.useful": bool(true) },
        }),
    ]
}

/// The log records of all enrichments: of each first the keys that it removes, then the leaves that it sets.
fn expected_events() -> Vec<Value> {
    let answer = || json!({ "span": "answer" });
    let comment = "The model hallucinated the capital of New York";
    let explained = |name: &str, score: Value| {
        let mut attributes = json!({ "gen_ai.evaluation.explanation": text(comment) });
        merge(&mut attributes, score);
        event_record(name, "feedback", answer(), attributes)
    };
    let of_answer = |name: &str, score: Value| event_record(name, "feedback", answer(), score);
    let retracted = || json!({ "tracing_feedback.retracted": bool(true) });
    let value = |value: f64| json!({ "gen_ai.evaluation.score.value": double(value) });
    let label = |label: &str| json!({ "gen_ai.evaluation.score.label": text(label) });
    let both = |score: f64, of: &str| {
        let mut attributes = value(score);
        merge(&mut attributes, label(of));
        attributes
    };
    let metric = |name: &str, score: f64| event_record(name, "metrics", answer(), value(score));
    let of_session = |name: &str, about: Value, mut score: Value| {
        merge(
            &mut score,
            json!({
                "session.id": text("conversation-1"),
                "tracing_feedback.scope": text("session"),
            }),
        );
        event_record(name, "feedback", about, score)
    };
    let mut of_trace = both(1.0, "true");
    merge(&mut of_trace, json!({ "tracing_feedback.scope": text("trace") }));
    let mut withdrawn = retracted();
    merge(&mut withdrawn, json!({ "tracing_feedback.id": text("withdrawn-1") }));
    vec![
        of_answer("edits", retracted()),
        of_answer("emptied", retracted()),
        of_answer("tags", retracted()),
        explained("comment", label(comment)),
        explained("delta", value(-3.0)),
        explained("details.kept", value(1.0)),
        explained("details.withdrawn.x", value(2.0)),
        explained("draft", label("to be withdrawn")),
        explained("edits.0.value", label("New York")),
        explained("edits.1.value", label("Boston")),
        explained("emptied.0", value(1.0)),
        explained("emptied.1", value(2.0)),
        explained("exact", label("18446744073709551615")),
        explained("grows", label("scalar")),
        explained("rating", both(1.0, "true")),
        explained("score", value(0.75)),
        explained("shrinks.x", value(1.0)),
        explained("shrinks.y", value(2.0)),
        explained("stars", value(4.0)),
        explained("step1.retry", both(1.0, "true")),
        explained("tags.0", label("a")),
        explained("tags.1", label("b")),
        explained("tags.2", label("c")),
        explained("unicode", label("naïve Ω 漢字 🦀 e\u{301}")),
        of_answer("details.withdrawn", retracted()),
        of_answer("draft", retracted()),
        of_answer("emptied", retracted()),
        of_answer("tags", retracted()),
        of_answer("edits.0.value", label("Albany")),
        of_answer("grows.x", value(1.0)),
        of_answer("ground_truth", label("The capital of New York is Albany")),
        of_answer("shrinks", label("scalar")),
        of_answer("stars", value(5.0)),
        of_answer("step1.model", label("small")),
        of_answer("tags.0", label("z")),
        metric("bleu", 0.5),
        metric("passes", 3.0),
        of_answer("grid", retracted()),
        of_answer("deep.a.b.c.d.e", label("{\"f\":1}")),
        of_answer("grid.0.0", label("[1,2]")),
        of_session("topics", json!({}), retracted()),
        of_session("resolved", json!({}), both(1.0, "true")),
        of_session("topics.0", json!({}), label("billing")),
        of_session("topics.1", json!({}), label("refund")),
        event_record("useful", "feedback", json!({ "trace": "job" }), of_trace),
        of_answer("edits", retracted()),
        of_answer("edits.0.value", label("Albany, NY")),
        of_answer("late_comment", label("on second thought")),
        of_answer("rating", both(0.0, "false")),
        of_answer("score", withdrawn),
        of_session("resolved", json!({}), both(0.0, "false")),
    ]
}

/// A log record: `attributes` and what every one has.
fn event_record(name: &str, namespace: &str, about: Value, mut attributes: Value) -> Value {
    merge(
        &mut attributes,
        json!({
            "gen_ai.evaluation.name": text(name),
            "tracing_feedback.namespace": text(namespace),
            "tracing_feedback.time_unix_nano": any("intValue"),
        }),
    );
    with_resource(json!({ "event": name, "about": about, "attributes": attributes }))
}
