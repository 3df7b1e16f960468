//! The macros: every form of their grammar, where each enrichment lands, and the outcome where
//! there is no place for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::Sampler;
use serde::Serialize;
use serde_json::json;
use tracing::Instrument;
use tracing::instrument::WithSubscriber;
use tracing_feedback::collector::{Collector, ReceivedSpan, Value};
use tracing_feedback::{
    Convention, EnrichError, Enrichment, LateTraces, SessionIdError, SpanExt, enrich,
    enrich_session, enrich_span,
};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::prelude::*;

use super::{Rig, build};
use crate::rig::is_alone;

type Attributes = BTreeMap<String, Value>;

/// What lands on a span around `work`.
fn on_a_span<T>(work: impl FnOnce() -> T) -> Attributes {
    let rig = Rig::new();
    rig.run(|| tracing::info_span!("answer").in_scope(work));
    let mut spans = rig.collector.spans();
    spans.retain(|span| span.name == "answer");
    spans.remove(0).attributes
}

fn attributes<const N: usize>(attributes: [(&str, Value); N]) -> Attributes {
    attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn only(outcome: Enrichment) -> EnrichError {
    let errors: Vec<_> = outcome.errors().collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    outcome.into_result().unwrap_err()
}

fn late(rig: &Rig) -> ReceivedSpan {
    let mut carriers: Vec<_> =
        rig.collector.spans().into_iter().filter(ReceivedSpan::is_carrier).collect();
    assert_eq!(carriers.len(), 1);
    carriers.remove(0)
}

/// A span of another service.
fn remote(id: u64) -> SpanContext {
    let flags = TraceFlags::SAMPLED;
    SpanContext::new(TraceId::from(77), SpanId::from(id), flags, true, TraceState::default())
}

// ---- values ----------------------------------------------------------------------------------------

#[test]
fn literals_are_written_as_in_json() {
    let got = on_a_span(|| {
        let outcome = enrich_span!(feedback = {
            "bool": true,
            "int": -5,
            "double": -0.5,
            "text": "a \"quoted\" text",
            "raw": r#"{"not": "nested"}"#,
            "null": null,
            "object": { "a": { "b": { "c": { "d": { "e": 1 } } } } },
            "array": [1, "two", [3.0, null, true], { "four": 4 }, null, []],
            "empty": {},
            "dotted.key": 1,
            7: "number",
            'c': "char",
            true: "bool",
        });
        assert!(outcome.is_ok(), "{outcome:?}");
    });
    let expected = [
        ("feedback.bool", true.into()),
        ("feedback.int", (-5).into()),
        ("feedback.double", (-0.5).into()),
        ("feedback.text", "a \"quoted\" text".into()),
        ("feedback.raw", r#"{"not": "nested"}"#.into()),
        ("feedback.object.a.b.c.d.e", 1.into()),
        ("feedback.array.0", 1.into()),
        ("feedback.array.1", "two".into()),
        ("feedback.array.2.0", 3.0.into()),
        ("feedback.array.2.2", true.into()),
        ("feedback.array.3.four", 4.into()),
        ("feedback.dotted.key", 1.into()),
        ("feedback.7", "number".into()),
        ("feedback.c", "char".into()),
        ("feedback.true", "bool".into()),
    ];
    assert_eq!(got, attributes(expected));
}

#[test]
fn a_literal_of_any_kind_is_a_value() {
    const ZERO: u8 = 0;
    let (five, yes) = (5, true);
    let got = on_a_span(|| {
        let outcome = enrich_span!(feedback = {
            "char": 'c',
            "byte": b'a',
            "bytes": b"ab",
            "suffixed": 7_u64,
            "beyond_i64": 18446744073709551615_u64,
            "single": 0.5_f32,
            "negative": -five,
            "not": !yes,
            "sum": 1 + 2,
            "block": { five }.max(2),
            "method": "text".len(),
            "joined": concat!("a", 1, true),
            "constant": ZERO,
            "name": five,
            "list": [-1, -five, "text", b'a', five, 1 + 1],
        });
        assert!(outcome.is_ok(), "{outcome:?}");
        let outcome = enrich_span!(feedback = { "c": c"text", "none": b"" });
        let found = "bytes";
        let expected = EnrichError::Unsupported { key: "feedback.c".to_owned(), found };
        assert_eq!(only(outcome), expected);
    });
    let expected = [
        ("feedback.char", "c".into()),
        ("feedback.byte", 97.into()),
        ("feedback.bytes.0", 97.into()),
        ("feedback.bytes.1", 98.into()),
        ("feedback.suffixed", 7.into()),
        ("feedback.beyond_i64", "18446744073709551615".into()),
        ("feedback.single", 0.5.into()),
        ("feedback.negative", (-5).into()),
        ("feedback.not", false.into()),
        ("feedback.sum", 3.into()),
        ("feedback.block", 5.into()),
        ("feedback.method", 4.into()),
        ("feedback.joined", "a1true".into()),
        ("feedback.constant", 0.into()),
        ("feedback.name", 5.into()),
        ("feedback.list.0", (-1).into()),
        ("feedback.list.1", (-5).into()),
        ("feedback.list.2", "text".into()),
        ("feedback.list.3", 97.into()),
        ("feedback.list.4", 5.into()),
        ("feedback.list.5", 2.into()),
    ];
    assert_eq!(got, attributes(expected));
}

#[test]
fn values_are_any_expressions() {
    #[derive(Serialize)]
    struct Edit {
        value: &'static str,
        old: Option<&'static str>,
    }
    let user = String::from("u-1");
    let scores = [0.5, 0.75];
    let map = HashMap::from([("k", 1)]);
    let some = Some(3);
    let none = None::<i32>;
    struct Counter {
        field: u8,
    }
    let counter = Counter { field: 9 };
    let got = on_a_span(|| {
        let outcome = enrich_span!(feedback = {
            "ident": user,
            "reference": &user,
            "method": user.to_uppercase(),
            "chain": user.chars().rev().collect::<String>(),
            "index": scores[1],
            "map": map["k"],
            "field": counter.field,
            "length": [1, 2].len(),
            "sum": 1 + 2 * 3,
            "negative": -scores.len().try_into().unwrap_or(0_i64),
            "cast": user.len() as f64,
            "not": !user.is_empty(),
            "if": if scores.len() > 1 { "many" } else { "one" },
            "match": match some { Some(value) => value * 2, None => 0 },
            "block": ({ let x = 2; x * 2 }),
            "closure": some.map(|x| x - 1),
            "macro": format!("{}-{}", 1, 2),
            "some": some,
            "none": none,
            "tuple": (1, "two"),
            "struct": Edit { value: "new", old: None },
            "vec": vec![Edit { value: "a", old: Some("b") }],
            "turbofish": Vec::<u8>::with_capacity(3).capacity() >= 3,
            "path": i64::MAX,
            "elements": [user.len(), scores[0], [map["k"]], { "deep": user }, Some(1), none,],
        });
        assert!(outcome.is_ok(), "{outcome:?}");
    });
    let expected = [
        ("ident", "u-1".into()),
        ("reference", "u-1".into()),
        ("method", "U-1".into()),
        ("chain", "1-u".into()),
        ("index", 0.75.into()),
        ("map", 1.into()),
        ("field", 9.into()),
        ("length", 2.into()),
        ("sum", 7.into()),
        ("negative", (-2).into()),
        ("cast", 3.0.into()),
        ("not", true.into()),
        ("if", "many".into()),
        ("match", 6.into()),
        ("block", 4.into()),
        ("closure", 2.into()),
        ("macro", "1-2".into()),
        ("some", 3.into()),
        ("tuple.0", 1.into()),
        ("tuple.1", "two".into()),
        ("struct.value", "new".into()),
        ("vec.0.value", "a".into()),
        ("vec.0.old", "b".into()),
        ("turbofish", true.into()),
        ("path", i64::MAX.into()),
        ("elements.0", 3.into()),
        ("elements.1", 0.5.into()),
        ("elements.2.0", 1.into()),
        ("elements.3.deep", "u-1".into()),
        ("elements.4", 1.into()),
    ]
    .map(|(key, value): (&str, Value)| (format!("feedback.{key}"), value));
    assert_eq!(got, BTreeMap::from(expected));
}

#[test]
fn keys_are_literals_names_or_expressions() {
    let name = "name";
    let owned = String::from("owned");
    let part = 3;
    fn key() -> &'static str {
        "called"
    }
    let got = on_a_span(|| {
        let outcome = enrich_span!(feedback = {
            name: 1,
            (owned): 2,
            (format!("step{part}")): { "literal": 3, (name): { owned: 4 }, "null": null },
            key(): 5,
            "fixed": {
                name: [1, { (key()): 2 }, [3, null], null, name],
                "last": true,
            },
            self::NAME: 6,
            ("dotted.".to_owned() + name): 7,
            "list": [{ name: 8 }, { "x": { (owned): 9 } }],
        });
        assert!(outcome.is_ok(), "{outcome:?}");
    });
    let expected = [
        ("name", 1),
        ("owned", 2),
        ("step3.literal", 3),
        ("step3.name.owned", 4),
        ("called", 5),
        ("fixed.name.0", 1),
        ("fixed.name.1.called", 2),
        ("fixed.name.2.0", 3),
        ("constant", 6),
        ("dotted.name", 7),
        ("list.0.name", 8),
        ("list.1.x.owned", 9),
    ]
    .map(|(key, value)| (format!("feedback.{key}"), Value::Int(value)));
    let mut expected = BTreeMap::from(expected);
    expected.insert("feedback.fixed.last".to_owned(), true.into());
    expected.insert("feedback.fixed.name.4".to_owned(), "name".into());
    assert_eq!(got, expected);
}

const NAME: &str = "constant";

/// What the compiler can't check in a literal is checked when it runs.
#[test]
fn keys_that_are_expressions_keep_to_the_limits() {
    let k = "k";
    let got = on_a_span(|| {
        let outcome = enrich_span!(feedback = {
            "a": { k: { k: { k: { k: { k: 1 } } } } },
            "b": { k: [[[1], { k: 2 }]] },
            (""): 3,
            "c": { (k.repeat(2)): 4, ("."): 5 },
        });
        let errors: Vec<_> = outcome.errors().map(EnrichError::reason).collect();
        assert_eq!(errors, ["too_deep", "invalid_key", "invalid_key"]);
    });
    let expected = [
        ("feedback.a.k.k.k.k.k", 1.into()),
        ("feedback.b.k.0.0", "[1]".into()),
        ("feedback.b.k.0.1.k", 2.into()),
        ("feedback.c.kk", 4.into()),
    ];
    assert_eq!(got, attributes(expected));
}

#[test]
fn arrays_of_any_length() {
    let last = "last";
    let got = on_a_span(|| {
        assert!(enrich_span!(feedback = { "a": { "0": 1, "99": 1 } }).is_ok());
        let outcome = enrich_span!(feedback = {
            "a": [
                0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                23, 24, 25, 26, 27, 28, 29, 30, 31, 32, null, { "x": 34 }, [35], last, -37, 38, 39,
            ],
            "after": [true],
        });
        assert!(outcome.is_ok(), "{outcome:?}");
    });
    for at in (0..33).chain([38, 39]) {
        assert_eq!(got[&format!("feedback.a.{at}")], at);
    }
    assert_eq!(got["feedback.a.34.x"], 34);
    assert_eq!(got["feedback.a.35.0"], 35);
    assert_eq!(got["feedback.a.36"], "last");
    assert_eq!(got["feedback.a.37"], -37);
    assert_eq!(got["feedback.after.0"], true);
    assert_eq!(got.len(), 40);
}

#[test]
fn a_namespace_takes_any_value_that_is_an_object() {
    #[derive(Serialize)]
    struct Opinion {
        rating: u8,
    }
    let opinion = Opinion { rating: 3 };
    let document = json!({ "comment": "ok" });
    let got = on_a_span(|| {
        assert!(enrich_span!(feedback = opinion).is_ok());
        assert!(enrich_span!(feedback = &document).is_ok());
        assert!(enrich_span!(feedback = json!({ "made": "here" })).is_ok());
        assert!(enrich_span!(feedback = Opinion { rating: 4 }).is_ok());
        assert!(enrich_span!(feedback = BTreeMap::from([("k", 1)]),).is_ok());
        assert!(enrich_span!(feedback = {}).is_ok());
        assert!(enrich_span!(metrics = opinion, metadata = null).is_ok());
        assert_eq!(only(enrich_span!(feedback = 5)).reason(), "not_an_object");
        assert_eq!(only(enrich_span!(feedback = "text")).reason(), "not_an_object");
        assert_eq!(only(enrich_span!(feedback = [1])).reason(), "not_an_object");
    });
    let expected = [
        ("feedback.rating", 4.into()),
        ("feedback.comment", "ok".into()),
        ("feedback.made", "here".into()),
        ("feedback.k", 1.into()),
        ("metrics.rating", 3.into()),
    ];
    assert_eq!(got, attributes(expected));
}

#[test]
fn all_namespaces_in_one_call() {
    let got = on_a_span(|| {
        let outcome = enrich_span!(
            feedback = { "a": 1 },
            metrics = { "a": 2 },
            metadata = { "a": 3 },
            user_properties = { "a": 4 },
            inputs = { "a": 5 },
            outputs = { "a": 6 },
            config = { "a": 7 },
        );
        assert!(outcome.is_ok(), "{outcome:?}");
    });
    let expected = [
        ("feedback.a", 1.into()),
        ("metrics.a", 2.into()),
        ("metadata.a", 3.into()),
        ("user_properties.a", 4.into()),
        ("inputs.a", 5.into()),
        ("outputs.a", 6.into()),
        ("config.a", 7.into()),
    ];
    assert_eq!(got, attributes(expected));
}

#[test]
fn null_retracts_a_key_or_a_whole_namespace() {
    let got = on_a_span(|| {
        let _ = enrich_span!(
            feedback = { "a": 1, "b": { "c": 2, "d": 3 }, "e": [4] },
            metrics = { "a": 1, "b": [2] },
            config = { "a": 1 },
        );
        let _ = enrich_span!(metrics = null, feedback = { "b": null, "e": [] }, config = null,);
        let _ = enrich_span!(config = { "b": 2 });
    });
    assert_eq!(got, attributes([("feedback.a", 1.into()), ("config.b", 2.into())]));
}

/// A statement, with or without a use for its outcome, and an expression.
#[test]
fn the_macros_are_statements() {
    fn rated() -> Result<(), EnrichError> {
        enrich_span!(feedback = { "rating": 1 }).into_result()?;
        enrich_session!(feedback = { "rating": 2 }).into_result()
    }
    let got = on_a_span(|| {
        enrich_span!(feedback = { "a": 1 });
        if true {
            enrich_span!(feedback = { "b": 1 });
        }
        rated().unwrap();
        // A value may enrich in turn.
        let outer = |value| enrich_span!(feedback = { "c": value }).is_ok();
        let _ = enrich_span!(feedback = { "d": outer(2), "e": 3 });
    });
    let expected = [
        ("feedback.a", 1.into()),
        ("feedback.b", 1.into()),
        ("feedback.c", 2.into()),
        ("feedback.d", true.into()),
        ("feedback.e", 3.into()),
        ("feedback.rating", 1.into()),
    ];
    assert_eq!(got, attributes(expected));
}

#[test]
fn fields_and_enrichments_are_one_document() {
    #[tracing::instrument(fields(feedback.rating = 1, feedback.kept = true))]
    fn answer() {
        let _ = enrich_span!(feedback = { "rating": { "stars": 5 } });
        tracing::Span::current().record("feedback.kept", false);
    }
    let rig = Rig::new();
    rig.run(answer);
    let expected = [("feedback.rating.stars", 5.into()), ("feedback.kept", false.into())];
    assert_eq!(rig.collector.spans()[0].attributes, attributes(expected));
}

// ---- async -------------------------------------------------------------------------------------------

async fn number(value: i32) -> i32 {
    tokio::task::yield_now().await;
    value
}

async fn checked(value: Result<i32, &'static str>) -> Result<i32, &'static str> {
    tokio::task::yield_now().await;
    value
}

async fn rate(value: Result<i32, &'static str>) -> Result<(), &'static str> {
    let key = "key";
    let outcome = enrich_span!(
        feedback = {
            "awaited": number(1).await,
            "checked": checked(value).await?,
            "nested": { (key): { "deep": number(2).await }, "list": [number(3).await, value?] },
        },
        metrics = { "after": number(4).await },
    );
    assert!(outcome.is_ok(), "{outcome:?}");
    let _ = enrich_session!(feedback = { "awaited": checked(value).await? });
    Ok(())
}

#[test]
fn values_may_await_and_return_early() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let rig = Rig::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    rig.run(|| {
        let good = rate(Ok(5)).instrument(tracing::info_span!("good"));
        let bad = rate(Err("no")).instrument(tracing::info_span!("bad"));
        let good = runtime.spawn(is_send(good).with_current_subscriber());
        let bad = runtime.spawn(is_send(bad).with_current_subscriber());
        assert_eq!(runtime.block_on(good).unwrap(), Ok(()));
        assert_eq!(runtime.block_on(bad).unwrap(), Err("no"));
    });
    let spans = rig.collector.spans();
    let named = |name| spans.iter().find(|span| span.name == name).unwrap();
    let expected = [
        ("feedback.awaited", 1.into()),
        ("feedback.checked", 5.into()),
        ("feedback.nested.key.deep", 2.into()),
        ("feedback.nested.list.0", 3.into()),
        ("feedback.nested.list.1", 5.into()),
        ("metrics.after", 4.into()),
    ];
    assert_eq!(named("good").attributes, attributes(expected));
    assert_eq!(named("bad").attributes, attributes([]), "it returned before it was done");
}

// ---- options -----------------------------------------------------------------------------------------

#[test]
fn options_come_in_any_order() {
    let rig = Rig::new();
    let target = remote(1);
    rig.run(|| {
        let span = tracing::info_span!("given");
        let id = String::from("owned");
        let outcomes = [
            enrich_span!(span = &span, feedback = { "a": 1 }),
            enrich_span!(span = &span, metrics = { "a": 1 },),
            enrich_span!(target = &target, feedback = { "n": 1 }),
            enrich_span!(target = target.clone(), id = "x", feedback = { "n": 2 }),
            enrich_span!(id = id, target = &target, feedback = { "n": 3 },),
            enrich_span!(span = &span, id = format!("x{}", 4), target = &target, feedback = { "n": 4 }),
            enrich_span!(target = &target, span = &span, feedback = { "n": 5 }),
            enrich_session!(session_id = "s", feedback = { "n": 6 }),
            enrich_session!(id = "x", session_id = String::from("s"), feedback = { "n": 7 }),
            enrich_session!(target = &target, session_id = &String::from("s"), id = "y", feedback = { "n": 8 }),
            enrich_session!(session_id = "s", id = "z", target = &target, feedback = { "n": 9 },),
            enrich_session!(target = &target, feedback = { "n": 10 }),
        ];
        for outcome in outcomes {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
    });
    let mut spans = rig.collector.spans();
    let given = spans.iter().position(|span| span.name == "given").unwrap();
    let expected = [("feedback.a", 1.into()), ("metrics.a", 1.into())];
    assert_eq!(spans.remove(given).attributes, attributes(expected));
    let got: BTreeSet<_> =
        spans.iter().filter_map(|span| span.attributes["feedback.n"].as_i64()).collect();
    assert_eq!(got, (1..=10).collect());
    assert_eq!(spans.len(), 10);
}

/// The same without macros.
#[test]
fn the_functions_do_the_same() {
    let rig = Rig::new();
    let target = remote(1);
    rig.run(|| {
        let _root = tracing::info_span!("root", session.id = "s").entered();
        let span = tracing::info_span!("answer");
        let value = json!({ "a": 1 });
        let all = |enricher: enrich::Enricher| {
            enricher
                .metrics(&value)
                .metadata(&value)
                .user_properties(&value)
                .inputs(&value)
                .outputs(&value)
                .config(&value)
                .apply()
        };
        assert!(all(enrich::span(&span).feedback(&value)).is_ok());
        span.in_scope(|| assert!(enrich::session().feedback(&value).apply().is_ok()));
        let request = || enrich::current_span().target(&target).id("x");
        assert!(request().feedback(&value).apply().is_ok());
        assert!(enrich_span!(target = &target, id = "x", feedback = { "a": 1 }).is_ok());
        let outcome = enrich::session().session_id("t").id("x").metrics(&value).apply();
        assert!(outcome.is_ok());
    });
    let spans = rig.collector.spans();
    let named = |name| spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!(named("answer").attributes.len(), 8, "seven and the session");
    assert_eq!(named("root").attributes["feedback.a"], 1);
    let is_about_target = |span: &&ReceivedSpan| match span.links.as_slice() {
        [link] => link.trace_id == target.trace_id() && link.span_id == target.span_id(),
        _ => false,
    };
    let about_target: Vec<_> = spans.iter().filter(is_about_target).collect();
    assert_eq!(about_target.len(), 2);
    assert_eq!(about_target[0].span_id, about_target[1].span_id);
    assert_eq!(about_target[0].trace_id, about_target[1].trace_id);
}

// ---- where there is no place -----------------------------------------------------------------------------

fn never() -> i32 {
    unreachable!("values are evaluated only if there is a place for them")
}

#[test]
fn without_a_layer() {
    if !is_alone(concat!(module_path!(), "::without_a_layer")) {
        return;
    }
    let check = || {
        assert_eq!(only(enrich_span!(feedback = { "a": never() })), EnrichError::NotInstalled);
        let span = tracing::info_span!("answer");
        let outcome = enrich_span!(span = &span, feedback = { "a": never(), ("k"): never() });
        assert_eq!(only(outcome), EnrichError::NotInstalled);
        assert_eq!(only(enrich_session!(feedback = { "a": never() })), EnrichError::NotInstalled);
    };
    check();
    tracing::subscriber::with_default(tracing_subscriber::registry(), check);
}

#[test]
fn without_a_span() {
    let rig = Rig::new();
    rig.run(|| {
        let no_span = EnrichError::NoActiveSpan;
        assert_eq!(only(enrich_span!(feedback = { "a": never() })), no_span);
        assert_eq!(only(enrich_session!(feedback = { "a": never() })), no_span);
        let outcome = enrich_span!(span = &tracing::Span::none(), feedback = { "a": never() });
        assert_eq!(only(outcome), EnrichError::SpanDisabled);
        let outcome = enrich_span!(span = &tracing::Span::current(), feedback = { "a": never() });
        assert_eq!(only(outcome), EnrichError::SpanDisabled);
        // Both of these need none.
        assert!(enrich_span!(target = remote(1), feedback = { "a": 1 }).is_ok());
        assert!(enrich_session!(session_id = "s", feedback = { "a": 1 }).is_ok());
    });
    let expected = BTreeMap::from([("no_active_span", 2), ("span_disabled", 2)]);
    assert_eq!(rig.telemetry.stats().refused, expected);
    assert_eq!(rig.collector.spans().len(), 2);
}

#[test]
fn a_span_that_a_filter_hides_is_passed_over_or_refused() {
    let collector = Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, |builder| builder);
    let layer = layer.with_filter(filter_fn(|metadata| metadata.name() != "hidden"));
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let alone = tracing::info_span!("hidden");
        alone.in_scope(|| {
            let outcome = enrich_span!(feedback = { "a": never() });
            assert_eq!(only(outcome), EnrichError::NoActiveSpan);
        });
        let _root = tracing::info_span!("root").entered();
        let hidden = tracing::info_span!("hidden").entered();
        assert!(enrich_span!(feedback = { "implicit": true }).is_ok());
        let outcome = enrich_span!(span = &hidden, feedback = { "a": never() });
        assert_eq!(only(outcome), EnrichError::SpanDisabled);
        // Below the level no layer sees the span.
        let debug = tracing::debug_span!("debug").entered();
        assert!(enrich_span!(feedback = { "debug": true }).is_ok());
        let outcome = enrich_span!(span = &debug, feedback = { "a": never() });
        assert_eq!(only(outcome), EnrichError::SpanDisabled);
    });
    telemetry.flush().unwrap();
    let [root] = &collector.spans()[..] else { panic!("{:?}", collector.spans()) };
    let expected = [("feedback.implicit", true.into()), ("feedback.debug", true.into())];
    assert_eq!(root.attributes, attributes(expected));
}

#[test]
fn after_shutdown() {
    let Rig { collector, telemetry, dispatch, .. } = Rig::new();
    tracing::dispatcher::with_default(&dispatch, || {
        let span = tracing::info_span!("answer").entered();
        // The telemetry ends while the values are evaluated.
        let mut telemetry = Some(telemetry);
        let outcome =
            enrich_span!(feedback = { "a": telemetry.take().unwrap().shutdown().is_ok() });
        assert_eq!(only(outcome), EnrichError::ShutDown);
        let shut_down = EnrichError::ShutDown;
        assert_eq!(only(enrich_span!(feedback = { "a": never() })), shut_down);
        assert_eq!(only(enrich_span!(span = &span, feedback = { "a": never() })), shut_down);
        let outcome = enrich_span!(target = remote(1), feedback = { "a": never() });
        assert_eq!(only(outcome), shut_down);
        assert_eq!(only(enrich_session!(feedback = { "a": never() })), shut_down);
        let outcome = enrich_session!(session_id = "s", feedback = { "a": never() });
        assert_eq!(only(outcome), shut_down);
    });
    assert_eq!(collector.spans(), []);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let rig = Rig::new();
    rig.run(|| {
        let _root = tracing::info_span!("root", session.id = "own").entered();
        let invalid = EnrichError::InvalidTarget;
        let outcome = enrich_span!(target = SpanContext::NONE, feedback = { "a": never() });
        assert_eq!(only(outcome), invalid);
        let outcome = enrich_session!(target = SpanContext::NONE, feedback = { "a": never() });
        assert_eq!(only(outcome), invalid);
        let outcome = enrich_span!(target = remote(0), feedback = { "a": never() });
        assert_eq!(only(outcome), invalid);

        let no_target = EnrichError::IdWithoutTarget;
        assert_eq!(only(enrich_span!(id = "x", feedback = { "a": never() })), no_target);
        assert_eq!(only(enrich_session!(id = "x", feedback = { "a": never() })), no_target);

        let long = "x".repeat(129);
        let bad = [
            ("", SessionIdError::Empty),
            ("two words", SessionIdError::Character { character: ' ' }),
            ("a,b", SessionIdError::Character { character: ',' }),
            ("é", SessionIdError::Character { character: 'é' }),
            (&long, SessionIdError::TooLong { length: 129 }),
        ];
        for (id, error) in bad {
            let expected = EnrichError::InvalidSessionId(error);
            let outcome = enrich_session!(session_id = id, feedback = { "a": never() });
            assert_eq!(only(outcome), expected);
            let target = remote(1);
            let outcome =
                enrich_session!(target = target, session_id = id, feedback = { "a": never() });
            assert_eq!(only(outcome), expected);
        }
    });
    assert_eq!(rig.collector.spans().len(), 1);
}

#[test]
fn each_place_in_the_code_warns_once() {
    if !is_alone(concat!(module_path!(), "::each_place_in_the_code_warns_once")) {
        return;
    }
    #[derive(Clone, Default)]
    struct Warnings(Arc<Mutex<Vec<u32>>>);
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warnings {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            struct Line(u32);
            impl tracing::field::Visit for Line {
                fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
                    if field.name() == "line" {
                        self.0 = value as u32;
                    }
                }
                fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
            }
            if event.metadata().target() == "tracing_feedback" {
                let mut line = Line(0);
                event.record(&mut line);
                self.0.lock().unwrap().push(line.0);
            }
        }
    }
    let warnings = Warnings::default();
    let subscriber = tracing_subscriber::registry().with(warnings.clone());
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 {
            let _ = enrich_span!(feedback = { "a": 1 });
            let _ = enrich_session!(feedback = { "a": 1 });
        }
        let _ = enrich::session().feedback(&json!({})).apply();
    });
    let lines = warnings.0.lock().unwrap().clone();
    let here = line!();
    assert_eq!(lines, [here - 6, here - 5, here - 3], "the lines of the calls");
}

// ---- sessions and traces ----------------------------------------------------------------------------------

#[test]
fn session_feedback_lands_on_the_outermost_span_of_the_session() {
    let rig = Rig::new();
    rig.run(|| {
        let _before = tracing::info_span!("before").entered();
        let _outer = tracing::info_span!("outer", session.id = "s").entered();
        let _other = tracing::info_span!("other", session.id = "t").entered();
        assert!(enrich_session!(feedback = { "of": "t" }).is_ok());
        let _inner = tracing::info_span!("inner", session.id = "s").entered();
        let _leaf = tracing::info_span!("leaf").entered();
        assert!(enrich_session!(feedback = { "of": "s" }).is_ok());
        assert!(enrich_session!(session_id = "s", feedback = { "again": true }).is_ok());
    });
    let spans = rig.collector.spans();
    assert_eq!(spans.len(), 5);
    for span in spans {
        match &*span.name {
            "outer" => {
                assert_eq!(span.attributes["feedback.of"], "s");
                assert_eq!(span.attributes["feedback.again"], true);
                assert_eq!(span.attributes["session.id"], "s");
                assert_eq!(span.attributes["tracing_feedback.scope"], "session");
                let time = span.attributes["tracing_feedback.time_unix_nano"].as_i64().unwrap();
                assert!(time as u64 >= span.start_time_unix_nano);
                assert_eq!(span.attributes.len(), 5, "{:?}", span.attributes);
            }
            "other" => {
                assert_eq!(span.attributes["feedback.of"], "t");
                assert_eq!(span.attributes["session.id"], "t");
            }
            _ => assert!(span.feedback_attributes().next().is_none()),
        }
    }
    let expected = attributes([("feedback.of", "s".into()), ("feedback.again", true.into())]);
    assert_eq!(rig.collector.session_feedback("s"), expected);
}

#[test]
fn without_a_session_it_is_the_trace() {
    let rig = Rig::new();
    let context = rig.run(|| {
        let root = tracing::info_span!("root");
        let _root = root.enter();
        let _leaf = tracing::info_span!("leaf").entered();
        assert!(enrich_session!(feedback = { "a": 1, "b": 2 }).is_ok());
        assert!(enrich_session!(feedback = { "a": { "c": 3 }, "b": null, "d": [4] }).is_ok());
        root.span_context().unwrap()
    });
    let spans = rig.collector.spans();
    let root = spans.iter().find(|span| span.name == "root").unwrap();
    assert_eq!(root.attributes["tracing_feedback.scope"], "trace");
    assert!(root.attribute("session.id").is_none());
    let cleared: BTreeSet<_> = root.attributes["tracing_feedback.cleared"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(cleared, BTreeSet::from(["feedback.a", "feedback.b", "feedback.d"]));
    let expected = attributes([("feedback.a.c", 3.into()), ("feedback.d.0", 4.into())]);
    assert_eq!(rig.collector.trace_feedback(context.trace_id()), expected);
    assert_eq!(rig.collector.feedback(context.trace_id(), context.span_id()), attributes([]));
}

#[test]
fn a_session_leaves_as_a_carrier_where_the_span_has_feedback_of_its_own() {
    let rig = Rig::new();
    let context = rig.run(|| {
        let root = tracing::info_span!("root", session.id = "s");
        let _root = root.enter();
        assert!(enrich_span!(feedback = { "own": 1 }).is_ok());
        assert!(enrich_session!(feedback = { "of": "session", "gone": null }).is_ok());
        root.span_context().unwrap()
    });
    let carrier = late(&rig);
    assert_eq!(carrier.links[0].span_id, context.span_id());
    let time = carrier.start_time_unix_nano as i64;
    let expected = [
        ("feedback.of", "session".into()),
        ("session.id", "s".into()),
        ("tracing_feedback.cleared", vec!["feedback.gone"].into()),
        ("tracing_feedback.late", true.into()),
        ("tracing_feedback.scope", "session".into()),
        ("tracing_feedback.time_unix_nano", time.into()),
    ];
    assert_eq!(carrier.attributes, attributes(expected));
    let spans = rig.collector.spans();
    let root = spans.iter().find(|span| span.name == "root").unwrap();
    let expected = [("feedback.own", 1.into()), ("session.id", "s".into())];
    assert_eq!(root.attributes, attributes(expected));
}

/// Several spans carry documents of one session: those are ordered as wholes, by their last
/// enrichment.
#[test]
fn documents_of_several_places_order_as_wholes() {
    let rig = Rig::new();
    rig.run(|| {
        let first = tracing::info_span!(parent: None, "first", session.id = "s");
        let second = tracing::info_span!(parent: None, "second", session.id = "s");
        let _ = first.in_scope(|| enrich_session!(feedback = { "a": 1, "x": 1 }));
        let _ = second.in_scope(|| enrich_session!(feedback = { "a": 2, "y": 2 }));
        let _ = first.in_scope(|| enrich_session!(feedback = { "b": 3, "y": null }));
        drop(first); // the later document arrives first
        rig.telemetry.flush().unwrap();
    });
    let expected = [("feedback.a", 1.into()), ("feedback.b", 3.into()), ("feedback.x", 1.into())];
    assert_eq!(rig.collector.session_feedback("s"), attributes(expected));
}

#[test]
fn many_threads_enrich_one_span() {
    let rig = Rig::new();
    rig.run(|| {
        let span = tracing::info_span!("answer");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (span, dispatch) = (&span, &rig.dispatch);
                scope.spawn(move || {
                    tracing::dispatcher::with_default(dispatch, || {
                        for at in 0..10 {
                            let key = format!("t{thread}.{at}");
                            let _ = enrich_span!(span = span, feedback = { "last": at, (key): at });
                        }
                    });
                });
            }
        });
    });
    let span = &rig.collector.spans()[0];
    assert_eq!(span.attributes.len(), 81);
    assert_eq!(span.duplicate_keys, Vec::<String>::new());
    for thread in 0..8 {
        assert_eq!(span.attributes[&format!("feedback.t{thread}.9")], 9);
    }
}

/// Feedback is kept whatever the sampler decided: on the spans, or as carriers where these aren't recorded.
#[test]
fn feedback_on_unsampled_spans_is_exported() {
    let rig = Rig::with_sampler(Sampler::AlwaysOff);
    let [root, rated] = rig.run(|| {
        let root = tracing::info_span!("root", session.id = "s");
        let _root = root.enter();
        let _ = enrich_session!(feedback = { "of": "session" });
        tracing::info_span!("silent").in_scope(|| ());
        let rated = tracing::info_span!("rated").entered();
        let _ = enrich_span!(feedback = { "a": 1 });
        let _ = enrich_span!(target = root.span_context().unwrap(), feedback = { "late": 1 });
        [root.span_context().unwrap(), rated.span_context().unwrap()]
    });
    let spans = rig.collector.spans();
    let mut names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    names.sort_unstable();
    if rig.records_unsampled() {
        assert_eq!(names, ["feedback", "rated", "root"]);
        assert_eq!(rig.telemetry.stats().unsampled, 1);
        assert_eq!(rig.collector.session_feedback("s")["feedback.of"], "session");
    } else {
        assert_eq!(names, ["feedback", "feedback", "feedback"]);
        // The SDK drops the attributes of a span that isn't recorded, and `session.id` with them.
        assert_eq!(rig.collector.trace_feedback(rated.trace_id())["feedback.of"], "session");
    }
    for span in &spans {
        let is_late = span.is_carrier();
        assert_eq!(span.flags & 1, u32::from(is_late), "{}", span.name);
        let sampled = span.attribute("tracing_feedback.sampled");
        assert_eq!(sampled, (!is_late).then_some(&Value::Bool(false)), "{}", span.name);
    }
    for (span, expected) in [(root, ("feedback.late", 1)), (rated, ("feedback.a", 1))] {
        let got = rig.collector.feedback(span.trace_id(), span.span_id());
        assert_eq!(got, attributes([(expected.0, expected.1.into())]));
    }
}

// ---- carriers --------------------------------------------------------------------------------------------

/// An unsampled span of another service, with a trace state.
fn unsampled() -> SpanContext {
    let state = TraceState::from_key_value([("ot", "th:8;rv:9b8233f7e3a151")]).unwrap();
    SpanContext::new(TraceId::from(5), SpanId::from(6), TraceFlags::NOT_SAMPLED, true, state)
}

/// A carrier about [`unsampled`]. All but its place, which the caller asserts, is as the design says.
fn carrier_about_unsampled(late_traces: LateTraces) -> ReceivedSpan {
    let rig = Rig::with(|builder| builder.with_late_traces(late_traces));
    let target = unsampled();
    rig.run(|| {
        // The span around the caller has no part in it.
        let _span = tracing::info_span!("elsewhere", session.id = "s").entered();
        let outcome = enrich_span!(target = &target, feedback = {
            "rating": 1, "gone": null, "list": ["x"], "step": { "retry": true },
        });
        assert!(outcome.is_ok(), "{outcome:?}");
    });
    let carrier = late(&rig);
    assert_eq!(carrier.name, "feedback");
    assert_eq!(carrier.end_time_unix_nano, carrier.start_time_unix_nano + 1);
    assert_eq!(carrier.flags & 0xff, 1, "sampled");
    let [link] = &carrier.links[..] else { panic!("{:?}", carrier.links) };
    assert_eq!((link.trace_id, link.span_id), (target.trace_id(), target.span_id()));
    assert_eq!(link.trace_state, target.trace_state().header());
    assert_eq!(link.flags & 0x3ff, 0x300, "not sampled, and remote");
    let time = carrier.start_time_unix_nano as i64;
    let expected = [
        ("feedback.rating", 1.into()),
        ("feedback.list.0", "x".into()),
        ("feedback.step.retry", true.into()),
        ("tracing_feedback.cleared", vec!["feedback.gone", "feedback.list"].into()),
        ("tracing_feedback.late", true.into()),
        ("tracing_feedback.time_unix_nano", time.into()),
    ];
    assert_eq!(carrier.attributes, attributes(expected));
    assert_eq!(carrier.duplicate_keys, Vec::<String>::new());
    carrier
}

#[test]
fn a_carrier_is_a_trace_of_its_own_with_a_link_to_its_target() {
    assert_eq!(LateTraces::default(), LateTraces::Own);
    let carrier = carrier_about_unsampled(LateTraces::default());
    assert_ne!(carrier.trace_id, unsampled().trace_id());
    assert_ne!(carrier.trace_id, TraceId::INVALID);
    assert_eq!(carrier.parent_span_id, SpanId::INVALID);
    assert_eq!(carrier.flags & 0x300, 0x100, "no remote parent");
    assert_eq!(carrier.trace_state, "", "that of the target is about another trace");
}

#[test]
fn a_carrier_may_be_a_child_of_its_target() {
    let carrier = carrier_about_unsampled(LateTraces::Target);
    assert_eq!(carrier.trace_id, unsampled().trace_id());
    assert_eq!(carrier.parent_span_id, unsampled().span_id());
    assert_eq!(carrier.flags & 0x300, 0x300, "its parent is remote");
    assert_eq!(carrier.trace_state, unsampled().trace_state().header());
}

/// A backend takes from a trace's spans how long it is, and how many spans it has.
#[test]
fn late_feedback_adds_nothing_to_the_trace_that_it_is_about() {
    let rig = Rig::new();
    rig.run(|| {
        let answer = tracing::info_span!("answer", session.id = "s");
        let context = answer.span_context().unwrap();
        answer.in_scope(|| {
            assert!(enrich_span!(feedback = { "shown": true }).is_ok());
            assert!(enrich_session!(feedback = { "resolved": true }).is_ok()); // leaves as a carrier
        });
        drop(answer);
        assert!(enrich_span!(target = &context, feedback = { "rating": 1 }).is_ok());
        assert!(enrich_span!(target = &context, id = "vote", feedback = { "rating": 2 }).is_ok());
        assert!(enrich_session!(target = &context, feedback = { "of": "trace" }).is_ok());
        let outcome =
            enrich_session!(target = &context, session_id = "s", feedback = { "stars": 5 });
        assert!(outcome.is_ok());
        assert!(enrich_session!(session_id = "s", feedback = { "n": 1 }).is_ok());
    });
    let spans = rig.collector.spans();
    assert_eq!(spans.len(), 7);
    let answer = spans.iter().find(|span| span.name == "answer").unwrap();
    let in_its_trace = spans.iter().filter(|span| span.trace_id == answer.trace_id);
    assert_eq!(in_its_trace.count(), 1);
    let traces: BTreeSet<_> = spans.iter().map(|span| span.trace_id.to_bytes()).collect();
    assert_eq!(traces.len(), 7, "each carrier is a trace");
}

#[test]
fn session_feedback_without_a_target_is_a_trace_of_its_own() {
    let rig = Rig::new();
    rig.run(|| {
        let _span = tracing::info_span!("elsewhere").entered();
        assert!(enrich_session!(session_id = "s", feedback = { "rating": 1 }).is_ok());
    });
    let carrier = late(&rig);
    assert_eq!(carrier.parent_span_id, SpanId::INVALID);
    assert_eq!(carrier.links, []);
    assert_eq!(carrier.attributes["session.id"], "s");
    assert_eq!(carrier.attributes["tracing_feedback.scope"], "session");
    let spans = rig.collector.spans();
    let elsewhere = spans.iter().find(|span| span.name == "elsewhere").unwrap();
    assert_ne!(carrier.trace_id, elsewhere.trace_id);
    assert_eq!(rig.collector.session_feedback("s")["feedback.rating"], 1);
}

#[test]
fn late_feedback_about_a_session_with_a_target() {
    let rig = Rig::new();
    rig.run(|| {
        let outcome = enrich_session!(target = remote(1), session_id = "s", feedback = { "a": 1 });
        assert!(outcome.is_ok());
        assert!(enrich_session!(target = remote(1), feedback = { "b": 2 }).is_ok());
    });
    for carrier in rig.collector.spans() {
        assert_ne!(carrier.trace_id, remote(1).trace_id());
        assert_eq!(carrier.parent_span_id, SpanId::INVALID);
        let [link] = &carrier.links[..] else { panic!("{:?}", carrier.links) };
        assert_eq!((link.trace_id, link.span_id), (remote(1).trace_id(), SpanId::from(1)));
    }
    let session = rig.collector.session_feedback("s");
    assert_eq!(session, attributes([("feedback.a", 1.into())]));
    let trace = rig.collector.trace_feedback(remote(1).trace_id());
    assert_eq!(trace, attributes([("feedback.b", 2.into())]));
    assert_eq!(rig.collector.feedback(remote(1).trace_id(), SpanId::from(1)), attributes([]));
}

/// The ids of the carriers that `send` makes, in a process of its own, so to speak.
fn sent(
    configure: impl FnOnce(tracing_feedback::Builder) -> tracing_feedback::Builder,
    send: impl FnOnce(),
) -> Vec<(TraceId, SpanId)> {
    let rig = Rig::with(configure);
    rig.run(send);
    rig.collector.spans().iter().map(|span| (span.trace_id, span.span_id)).collect()
}

#[test]
fn one_name_is_one_submission() {
    let send = || {
        let _ = enrich_span!(target = remote(1), id = "x", feedback = { "a": 1 });
        let _ = enrich_span!(target = remote(1), id = "x", feedback = { "a": 2 });
        let _ = enrich_span!(target = remote(1), id = "y", feedback = { "a": 3 });
        let _ = enrich_span!(target = remote(2), id = "x", feedback = { "a": 4 });
        let _ = enrich_span!(target = remote(1), feedback = { "a": 5 });
        let _ = enrich_session!(session_id = "s", id = "x", feedback = { "a": 6 });
        let _ = enrich_session!(session_id = "s", id = "x", feedback = { "a": 7 });
        let _ = enrich_session!(session_id = "t", id = "x", feedback = { "a": 8 });
        let _ = enrich_session!(session_id = "s", id = "y", feedback = { "a": 9 });
        let _ = enrich_session!(session_id = "sx", id = "y", feedback = { "a": 10 });
        let _ = enrich_session!(session_id = "s", id = "xy", feedback = { "a": 11 });
    };
    let ids = sent(|builder| builder, send);
    assert_eq!(ids.len(), 11);
    assert_eq!(ids[0], ids[1], "its trace too");
    assert_eq!(ids[5], ids[6]);
    let traces: BTreeSet<_> = ids.iter().map(|(trace, _)| trace.to_bytes()).collect();
    assert_eq!(traces.len(), 9);
    let different: BTreeSet<_> = ids.iter().map(|(_, span)| span.to_bytes()).collect();
    assert_eq!(different.len(), 9);
    // By any service that sends it.
    let again = sent(|builder| builder, send);
    for (at, (ours, theirs)) in ids.iter().zip(&again).enumerate() {
        assert_eq!(ours == theirs, at != 4, "only what has no name is random");
    }
    // In whichever trace: a reader takes one span id for one submission.
    let children = sent(|builder| builder.with_late_traces(LateTraces::Target), send);
    for (at, (child, own)) in children.iter().zip(&ids).enumerate() {
        assert_eq!(child.1 == own.1, at != 4);
        assert_eq!(child.0 == remote(1).trace_id(), at < 5, "sessions have no target");
    }
}

#[test]
fn a_submission_sent_twice_counts_once_and_a_change_of_mind_has_a_new_name() {
    let rig = Rig::new();
    rig.run(|| {
        let _ = enrich_span!(target = remote(1), id = "1", feedback = { "a": 1, "b": 1 });
        let _ = enrich_span!(target = remote(1), id = "2", feedback = { "a": 2 });
        let _ = enrich_span!(target = remote(1), id = "1", feedback = { "a": 3, "c": 3 });
    });
    let got = rig.collector.feedback(remote(1).trace_id(), SpanId::from(1));
    assert_eq!(got, attributes([("feedback.a", 2.into()), ("feedback.b", 1.into())]));
}

#[test]
fn late_feedback_folds_over_carriers_of_both_kinds() {
    let rig = Rig::new();
    let (older, telemetry) =
        rig.other_service(|builder| builder.with_late_traces(LateTraces::Target));
    let target = remote(1);
    tracing::dispatcher::with_default(&older, || {
        let _ =
            enrich_span!(target = &target, id = "1", feedback = { "a": 1, "b": 1, "c": [1, 2] });
        let _ = enrich_session!(target = &target, feedback = { "t": 1 });
    });
    telemetry.flush().unwrap();
    rig.run(|| {
        let _caller = tracing::info_span!("caller").entered();
        let _ = enrich_span!(target = &target, id = "2", feedback = { "a": 2, "c": [3] });
        let _ = enrich_span!(target = &target, id = "1", feedback = { "a": 3 }); // repeated
        let _ = enrich_session!(target = &target, feedback = { "t": 2 });
    });
    let got = rig.collector.feedback(target.trace_id(), target.span_id());
    let expected = [("feedback.a", 2.into()), ("feedback.b", 1.into()), ("feedback.c.0", 3.into())];
    assert_eq!(got, attributes(expected));
    let got = rig.collector.trace_feedback(target.trace_id());
    assert_eq!(got, attributes([("feedback.t", 2.into())]));
}

#[test]
fn carriers_live_in_traces_of_their_own() {
    let rig = Rig::new();
    rig.run(|| {
        assert!(enrich_span!(target = remote(1), feedback = { "a": 1 }).is_ok());
        assert!(enrich_span!(target = remote(1), feedback = { "a": { "b": 2 } }).is_ok());
        assert!(enrich_session!(target = remote(1), feedback = { "t": 3 }).is_ok());
    });
    let spans = rig.collector.spans();
    let traces: BTreeSet<_> = spans.iter().map(|span| span.trace_id.to_bytes()).collect();
    assert_eq!(traces.len(), 3);
    for carrier in spans {
        assert_ne!(carrier.trace_id, remote(1).trace_id());
        assert_eq!(carrier.parent_span_id, SpanId::INVALID);
        assert_eq!(carrier.links.len(), 1);
        assert_eq!(carrier.links[0].span_id, SpanId::from(1));
        assert_eq!(carrier.links[0].trace_id, remote(1).trace_id());
    }
    let got = rig.collector.feedback(remote(1).trace_id(), SpanId::from(1));
    assert_eq!(got, attributes([("feedback.a.b", 2.into())]));
    let got = rig.collector.trace_feedback(remote(1).trace_id());
    assert_eq!(got, attributes([("feedback.t", 3.into())]));
}

#[test]
fn the_honeyhive_convention_prefixes_every_key() {
    let rig = Rig::with(|builder| builder.with_convention(Convention::HoneyHive));
    let context = rig.run(|| {
        let span = tracing::info_span!("answer", plain = 1, feedback.field = 2, session.id = "s");
        let _span = span.enter();
        assert!(enrich_span!(feedback = { "a": 1 }, metrics = { "b": 2 }).is_ok());
        assert!(enrich_session!(feedback = { "a": 3 }).is_ok());
        span.span_context().unwrap()
    });
    let session = late(&rig);
    assert_eq!(session.attributes["honeyhive_feedback.a"], 3);
    let spans = rig.collector.spans();
    let answer = spans.iter().find(|span| span.name == "answer").unwrap();
    let expected = [
        ("honeyhive_feedback.a", 1.into()),
        ("honeyhive_feedback.field", 2.into()),
        ("honeyhive_metrics.b", 2.into()),
        ("plain", 1.into()),
        ("session.id", "s".into()),
    ];
    assert_eq!(answer.attributes, attributes(expected));

    rig.collector.clear();
    rig.run(|| {
        let outcome = enrich_span!(target = &context, feedback = { "a": null, "c": [5] });
        assert!(outcome.is_ok());
    });
    let cleared = &late(&rig).attributes["tracing_feedback.cleared"];
    assert_eq!(*cleared, ["honeyhive_feedback.a", "honeyhive_feedback.c"]);
}

#[test]
fn a_span_that_closes_while_its_values_are_evaluated_gets_them_late() {
    let rig = Rig::new();
    let context = rig.run(|| {
        let span = tracing::info_span!("answer");
        let context = span.span_context().unwrap();
        let request = enrich::span(&span).feedback(&json!({ "a": 1 }));
        drop(span);
        assert!(request.apply().is_ok());
        context
    });
    assert_eq!(late(&rig).links[0].span_id, context.span_id());
    let got = rig.collector.feedback(context.trace_id(), context.span_id());
    assert_eq!(got, attributes([("feedback.a", 1.into())]));
}
