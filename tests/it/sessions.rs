//! Sessions: where they begin, which spans inherit them, how they cross services, and their
//! feedback.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::trace::{FutureExt, TraceContextExt};
use proptest::prelude::{any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use tracing::field::Empty;
use tracing::{Instrument, Span, dispatcher, info_span, instrument};
use tracing_feedback::collector::Collector;
use tracing_feedback::{
    EnrichError, Session, SessionIdError, SpanExt, enrich_session, enrich_span, propagation,
};
use tracing_subscriber::prelude::*;

use crate::show::{Log, attributes, is_child, one};
use crate::{Rig, build};

/// `name session`, a line a span, in the order of their names.
fn sessions(collector: &Collector) -> String {
    let mut lines: Vec<_> = collector
        .spans()
        .iter()
        .map(|span| {
            let session = span.attribute("session.id").map(|id| id.as_str().unwrap().to_owned());
            format!("{} {}\n", span.name, session.as_deref().unwrap_or("-"))
        })
        .collect();
    lines.sort();
    lines.concat()
}

fn with_id(id: &str) -> Session {
    Session::with_id(id).unwrap()
}

// ---- where they begin --------------------------------------------------------------------------

#[test]
fn a_session_begins_with_a_field_and_is_inherited_from_then_on() {
    let rig = Rig::new();
    rig.run(|| {
        let a = info_span!("a", session.id = "one").entered();
        assert_eq!(Session::current(), Some(with_id("one")));
        info_span!("a1").in_scope(|| info_span!("a2").in_scope(|| ()));
        info_span!("a3", session.id = %"other").in_scope(|| info_span!("a4").in_scope(|| ()));
        info_span!(parent: None, "a5").in_scope(|| ());
        drop(a);
        let b = info_span!("b", session.id = Empty).entered();
        let b1 = info_span!("b1");
        b.record("session.id", "two");
        b1.in_scope(|| info_span!("b1 below").in_scope(|| ()));
        info_span!("b2").in_scope(|| ());
    });
    assert_eq!(
        sessions(&rig.collector),
        "a one\na1 one\na2 one\na3 other\na4 other\na5 -\nb two\nb1 -\nb1 below -\nb2 two\n"
    );
}

#[test]
fn a_session_set_on_a_span_and_one_of_the_builder() {
    let rig = Rig::with(|builder| builder.with_session(with_id("default")));
    rig.run(|| {
        let a = info_span!("a");
        a.set_session(&with_id("set")).unwrap();
        a.in_scope(|| info_span!("a1").in_scope(|| ()));
        info_span!("b").in_scope(|| info_span!("b1").in_scope(|| ()));
        info_span!("c", session.id = "field").in_scope(|| ());
        info_span!("d", session.id = 17).in_scope(|| ());
    });
    assert_eq!(sessions(&rig.collector), "a set\na1 set\nb default\nb1 default\nc field\nd 17\n");
}

#[test]
fn ids_that_baggage_could_not_carry_are_refused() {
    let collector = Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, |builder| builder);
    let log = Log::default();
    let subscriber = tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false))
        .with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let span = info_span!("span", session.id = Empty).entered();
        // A field recorded later is warned about here; for the fields of a new span see another
        // test.
        for id in ["", "two words", "a,b", "a;b", "a\\b", "a\"b", "100%", "ü", &"x".repeat(129)] {
            span.record("session.id", id);
            assert_eq!(Session::current(), None, "{id}");
            info_span!("below").in_scope(|| ());
        }
        span.record("session.id", &"x".repeat(128)[..]);
        assert_eq!(Session::current().unwrap().id().len(), 128);
        let outcome = enrich_session!(session_id = "two words", feedback = { "rating": 1 });
        let error = SessionIdError::Character { character: ' ' };
        assert_eq!(outcome.into_result(), Err(EnrichError::InvalidSessionId(error)));
    });
    telemetry.flush().unwrap();
    let below = collector.spans().into_iter().filter(|span| span.name == "below");
    assert!(below.into_iter().all(|span| span.attribute("session.id").is_none()));
    assert_eq!(telemetry.stats().refused["invalid_session_id"], 10);
    assert_eq!(log.count("the field session.id was refused"), 1, "{}", log.text());
}

#[test]
fn a_refused_id_leaves_the_session_as_it_was() {
    let rig = Rig::new();
    rig.run(|| {
        let _a = info_span!("a", session.id = "good").entered();
        Span::current().record("session.id", "not good");
        info_span!("b", session.id = "nor this").in_scope(|| ());
    });
    assert_eq!(sessions(&rig.collector), "a good\nb good\n");
}

// ---- inheritance -------------------------------------------------------------------------------

#[instrument]
async fn step(n: u32) {
    tokio::task::yield_now().await;
    info_span!("inside", n).in_scope(|| ());
}

#[test]
fn sessions_follow_the_usual_tools_of_tracing() {
    let rig = Rig::new();
    rig.run(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let dispatch = rig.dispatch.clone();
        let request = info_span!("request", session.id = "s");
        let subscribed = |work| {
            let dispatch = dispatch.clone();
            tracing::instrument::WithSubscriber::with_subscriber(work, dispatch)
        };
        runtime.block_on(async {
            step(1).instrument(request.clone()).await;
            let spawned = subscribed(step(2).instrument(request.clone()));
            tokio::spawn(spawned).await.unwrap();
            let in_current = request.in_scope(|| subscribed(step(3).in_current_span()));
            tokio::spawn(in_current).await.unwrap();
        });
        let (there, dispatch) = (request.clone(), rig.dispatch.clone());
        let work = move || {
            dispatcher::with_default(&dispatch, || {
                there.in_scope(|| info_span!("thread").in_scope(|| ()))
            });
        };
        thread::spawn(work).join().unwrap();
        // Alone, nothing is inherited.
        let alone = subscribed(step(4).instrument(Span::none()));
        runtime.block_on(runtime.spawn(alone)).unwrap();
    });
    let spans = rig.collector.spans();
    let of = |n: i64| {
        let step =
            spans.iter().find(|span| span.name == "step" && span.attributes["n"] == n).unwrap();
        let inside =
            spans.iter().find(|span| span.name == "inside" && span.attributes["n"] == n).unwrap();
        assert!(is_child(inside, step));
        assert_eq!(step.attribute("session.id"), inside.attribute("session.id"));
        step.attribute("session.id").map(|id| id.to_string())
    };
    assert_eq!(
        [1, 2, 3, 4].map(of),
        [Some("\"s\"".to_owned()), Some("\"s\"".to_owned()), Some("\"s\"".to_owned()), None]
    );
    assert_eq!(one(&rig.collector, "thread").attributes["session.id"], "s");
}

// ---- their feedback ----------------------------------------------------------------------------

#[test]
fn feedback_on_a_session_lands_on_its_outermost_open_span() {
    let rig = Rig::new();
    rig.run(|| {
        let _server = info_span!("server").entered();
        let _outer = info_span!("outer", session.id = "s").entered();
        let _middle = info_span!("middle", session.id = "other").entered();
        let _inner = info_span!("inner", session.id = "s").entered();
        assert!(enrich_session!(feedback = { "rating": 1, "words": ["a", "b"] }).is_ok());
        assert!(enrich_session!(feedback = { "rating": 5, "words": ["c"] }).is_ok());
        // The caller's own session, given by its id.
        assert!(enrich_session!(session_id = "s", metadata = { "plan": "free" }).is_ok());
    });
    assert_eq!(
        rig.collector.tree(),
        "server\n  outer (session)\n      feedback.words cleared\n      feedback.rating = 5\n      \
         feedback.words.0 = \"c\"\n      metadata.plan = \"free\"\n    middle\n      inner\n"
    );
    let outer = one(&rig.collector, "outer");
    assert!(outer.attributes["tracing_feedback.time_unix_nano"].as_i64().unwrap() > 0);
    let feedback = rig.collector.session_feedback("s");
    let shown: Vec<_> = feedback.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(shown, ["feedback.rating=5", "feedback.words.0=\"c\"", "metadata.plan=\"free\""]);
}

#[test]
fn without_a_session_it_lands_on_the_local_root() {
    let rig = Rig::new();
    let remote = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    rig.run(|| {
        let _unrelated = info_span!("unrelated").entered();
        let server = info_span!("server");
        let headers = HashMap::from([("traceparent".to_owned(), remote)]);
        server.set_parent(propagation::extract(&headers)).unwrap();
        let _server = server.entered();
        let _inner = info_span!("inner").entered();
        assert!(enrich_session!(feedback = { "rating": 4 }).is_ok());
    });
    let server = one(&rig.collector, "server");
    assert_eq!(server.attributes["tracing_feedback.scope"], "trace");
    assert_eq!(
        rig.collector.tree(),
        "unrelated\nserver (trace)\n    feedback.rating = 4\n  inner\n"
    );
    assert_eq!(rig.collector.trace_feedback(server.trace_id)["feedback.rating"], 4);
    assert!(rig.collector.feedback(server.trace_id, server.span_id).is_empty());
}

#[test]
fn beside_feedback_of_its_own_a_span_sends_the_sessions_as_a_carrier() {
    let rig = Rig::new();
    rig.run(|| {
        let _span = info_span!("span", session.id = "s").entered();
        assert!(enrich_session!(feedback = { "rating": 5 }).is_ok());
        assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
    });
    assert_eq!(
        rig.collector.tree(),
        "span\n    feedback.rating = 1\n  feedback (late, session)\n      feedback.rating = 5\n"
    );
    let (span, carrier) = (one(&rig.collector, "span"), one(&rig.collector, "feedback"));
    assert_eq!(attributes(&span), "feedback.rating=1 session.id=\"s\"");
    assert_eq!(carrier.links.len(), 1);
    assert_eq!(carrier.links[0].span_id, span.span_id);
    assert_eq!(carrier.attributes["session.id"], "s");
    assert_eq!(carrier.end_time_unix_nano, carrier.start_time_unix_nano + 1);
    assert_ne!(carrier.trace_id, span.trace_id);
    assert_eq!(rig.collector.session_feedback("s")["feedback.rating"], 5);
    assert_eq!(rig.collector.feedback(span.trace_id, span.span_id)["feedback.rating"], 1);
}

#[test]
fn another_session_and_a_late_one_get_carriers() {
    let rig = Rig::new();
    rig.run(|| {
        // No span is around.
        assert!(enrich_session!(session_id = "past", feedback = { "rating": 2 }).is_ok());
        let _span = info_span!("span", session.id = "s").entered();
        assert!(
            enrich_session!(session_id = "past", id = "n1", feedback = { "done": true }).is_ok()
        );
    });
    assert_eq!(
        rig.collector.tree(),
        "feedback (late, session)\n    feedback.rating = 2\nspan\nfeedback (late, session)\n    \
         feedback.done = true\n"
    );
    let feedback = rig.collector.session_feedback("past");
    assert_eq!(
        (&feedback["feedback.rating"], &feedback["feedback.done"]),
        (&2.into(), &true.into())
    );
    assert!(
        rig.collector
            .spans()
            .iter()
            .filter(|span| span.name == "feedback")
            .all(|span| { span.links.is_empty() && span.attributes["session.id"] == "past" })
    );
}

#[test]
fn feedback_on_open_spans_leaves_at_shutdown() {
    let collector = Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, |builder| builder);
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    dispatcher::with_default(&dispatch, || {
        let open = info_span!("open", session.id = "s").entered();
        let context = open.span_context().unwrap();
        assert!(enrich_span!(feedback = { "rating": 1, "words": ["a"] }).is_ok());
        assert!(enrich_span!(feedback = { "words": [] }).is_ok());
        assert!(enrich_session!(feedback = { "rating": 5 }).is_ok());
        let by_field = info_span!("open too", feedback.rating = 3);
        by_field.in_scope(|| ());
        info_span!("closed").in_scope(|| ());
        telemetry.shutdown().unwrap();

        assert_eq!(
            collector.tree(),
            "feedback (late)\n    feedback.words cleared\n    feedback.rating = 1\nfeedback (late, \
             session)\n    feedback.rating = 5\nfeedback (late)\n    feedback.rating = 3\nclosed\n"
        );
        assert_eq!(collector.feedback(context.trace_id(), context.span_id()).len(), 1);
        assert_eq!(collector.session_feedback("s")["feedback.rating"], 5);
        let outcome = enrich_span!(feedback = { "rating": 2 }).into_result();
        assert_eq!(outcome, Err(EnrichError::ShutDown));
        drop(open);
    });
    assert_eq!(collector.spans().len(), 4);
}

#[test]
fn a_span_that_closes_while_its_feedback_is_put_together() {
    let rig = Rig::new();
    let rating_after = |span: tracing::span::EnteredSpan| {
        drop(span);
        1
    };
    rig.run(|| {
        let span = info_span!("span", session.id = "s").entered();
        let outcome = enrich_session!(feedback = { "rating": rating_after(span) });
        assert!(outcome.is_ok(), "{outcome:?}");
    });
    assert_eq!(
        rig.collector.tree(),
        "span\n  feedback (late, session)\n      feedback.rating = 1\n"
    );
    assert_eq!(rig.collector.session_feedback("s")["feedback.rating"], 1);
}

#[test]
fn feedback_given_before_shutdown_leaves_however_busy_its_spans_are() {
    let collector = Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, |builder| builder);
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let counts = [const { AtomicI64::new(-1) }; 4];
    let span = dispatcher::with_default(&dispatch, || info_span!("open"));
    let context = span.span_context().unwrap();
    let before = thread::scope(|threads| {
        for (thread, count) in counts.iter().enumerate() {
            let (span, dispatch) = (&span, &dispatch);
            threads.spawn(move || {
                let _default = dispatcher::set_default(dispatch);
                for n in 0.. {
                    let key = format!("thread{thread}");
                    let outcome = enrich_span!(span = span, feedback = { key: n });
                    match outcome.into_result() {
                        Ok(()) => count.store(n, Ordering::Release),
                        Err(error) => return assert_eq!(error, EnrichError::ShutDown),
                    }
                }
            });
        }
        while counts.iter().any(|count| count.load(Ordering::Acquire) < 20) {
            thread::yield_now();
        }
        let before = counts.each_ref().map(|count| count.load(Ordering::Acquire));
        telemetry.shutdown().unwrap();
        before
    });
    let feedback = collector.feedback(context.trace_id(), context.span_id());
    for (thread, before) in before.into_iter().enumerate() {
        let arrived = feedback[&format!("feedback.thread{thread}")].as_i64().unwrap();
        assert!(arrived >= before, "{arrived} < {before}");
    }
}

// ---- across services ---------------------------------------------------------------------------

/// Headers of both kinds, filled by the same call.
fn injected() -> (HashMap<String, String>, HeaderMap) {
    let (mut map, mut headers) = (HashMap::new(), HeaderMap::new());
    propagation::inject(&mut map);
    propagation::inject(&mut headers);
    assert_eq!(map.len(), headers.len());
    for (name, value) in &map {
        // Baggage has no order.
        let header = headers[name.as_str()].to_str().unwrap();
        assert_eq!(sorted(header), sorted(value));
    }
    (map, headers)
}

fn sorted(list: &str) -> Vec<&str> {
    let mut members: Vec<_> = list.split(',').collect();
    members.sort();
    members
}

/// A front end calls a back end, each with its own layer: what the back end made of it, and the
/// baggage it would pass on.
fn cross(front_trusts: bool, back_trusts: bool) -> (String, Vec<String>) {
    let front = Rig::with(|builder| builder.with_session_propagation(front_trusts));
    let back = Rig::with(|builder| builder.with_session_propagation(back_trusts));
    let (map, headers) = front.run(|| {
        let _span = info_span!("front", session.id = "conversation-42").entered();
        let baggage = [opentelemetry::KeyValue::new("tenant", "acme")];
        let _baggage = Context::current().with_baggage(baggage).attach();
        injected()
    });
    let mut onwards = Vec::new();
    for context in
        [back.run(|| propagation::extract(&map)), back.run(|| propagation::extract(&headers))]
    {
        back.run(|| {
            let span = info_span!("back");
            span.set_parent(context).unwrap();
            span.in_scope(|| {
                info_span!("below").in_scope(|| ());
                let mut members: Vec<_> =
                    injected().0["baggage"].split(',').map(str::to_owned).collect();
                members.sort();
                onwards.extend(members);
            });
        });
    }
    let front_span = one(&front.collector, "front");
    for span in back.collector.spans().iter().filter(|span| span.name == "back") {
        assert!(is_child(span, &front_span));
    }
    (sessions(&back.collector), onwards)
}

#[test]
fn a_session_crosses_only_where_both_sides_trust_it() {
    let none = "back -\nback -\nbelow -\nbelow -\n".to_owned();
    let other = vec!["tenant=acme".to_owned(); 2];
    assert_eq!(cross(false, false), (none.clone(), other.clone()));
    assert_eq!(cross(false, true), (none.clone(), other.clone()));
    assert_eq!(cross(true, false), (none, other));
    let all = ["session.id=conversation-42", "tenant=acme"].map(str::to_owned);
    assert_eq!(
        cross(true, true),
        (
            "back conversation-42\nback conversation-42\nbelow conversation-42\nbelow \
             conversation-42\n"
                .to_owned(),
            [all.clone(), all].concat()
        )
    );
}

#[test]
fn a_session_of_ones_own_wins_over_a_claim() {
    let rig = Rig::with(|builder| builder.with_session_propagation(true));
    rig.run(|| {
        let claim = propagation::extract(&HashMap::from([(
            "baggage".to_owned(),
            "session.id=claimed".to_owned(),
        )]));
        let own = info_span!("own", session.id = "own");
        own.set_parent(claim.clone()).unwrap();
        own.in_scope(|| info_span!("own below").in_scope(|| ()));
        let joined = info_span!("joined");
        joined.set_parent(claim.clone()).unwrap();
        joined.in_scope(|| ());
        // Middleware that attaches the context instead.
        let _claim = claim.attach();
        info_span!("attached").in_scope(|| info_span!("attached below").in_scope(|| ()));
    });
    assert_eq!(
        sessions(&rig.collector),
        "attached below claimed\nattached claimed\njoined claimed\nown below own\nown own\n"
    );
}

#[test]
fn a_session_that_began_late_is_propagated() {
    let rig = Rig::with(|builder| builder.with_session_propagation(true));
    rig.run(|| {
        let span = info_span!("span", session.id = Empty).entered();
        assert!(!injected().0.contains_key("baggage"));
        span.record("session.id", "late");
        assert_eq!(injected().0["baggage"], "session.id=late");
        span.set_session(&with_id("later")).unwrap();
        assert_eq!(injected().0["baggage"], "session.id=later");
        info_span!("child").in_scope(|| assert_eq!(injected().0["baggage"], "session.id=later"));
    });
}

#[test]
fn a_claim_in_a_foreign_context_is_not_passed_on() {
    let rig = Rig::new();
    rig.run(|| {
        // Another propagator has read everything.
        let members = [("session.id", "claimed"), ("tenant", "acme")];
        let members = members.map(|(key, value)| opentelemetry::KeyValue::new(key, value));
        let _foreign = Context::new().with_baggage(members).attach();
        let _span = info_span!("span").entered();
        assert_eq!(Session::current(), None);
        assert_eq!(injected().0["baggage"], "tenant=acme");
    });
    assert_eq!(sessions(&rig.collector), "span -\n");
}

#[test]
fn headers_that_a_proxy_has_split() {
    let rig = Rig::with(|builder| builder.with_session_propagation(true));
    let mut headers = HeaderMap::new();
    let id = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.append("traceparent", id.parse().unwrap());
    for (name, value) in [
        ("tracestate", "a=1"),
        ("tracestate", "b=2"),
        ("baggage", "tenant=acme"),
        ("baggage", "session.id=s"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    rig.run(|| {
        let span = info_span!("span");
        span.set_parent(propagation::extract(&headers)).unwrap();
        span.in_scope(|| {
            let (onwards, _) = injected();
            assert_eq!(onwards["tracestate"], "a=1,b=2");
            assert!(onwards["baggage"].contains("tenant=acme"), "{onwards:?}");
            assert!(onwards["baggage"].contains("session.id=s"), "{onwards:?}");
        });
    });
    assert_eq!(sessions(&rig.collector), "span s\n");
}

#[test]
fn header_names_in_any_case_and_contexts_in_futures() {
    let rig = Rig::new();
    let headers = HashMap::from([(
        "TraceParent".to_owned(),
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    )]);
    rig.run(|| {
        let context = propagation::extract(&headers);
        assert!(context.has_active_span());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(step(1).with_context(context));
    });
    let step = one(&rig.collector, "step");
    assert_eq!(step.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(step.parent_span_id.to_string(), "b7ad6b7169203331");
}

#[test]
fn malformed_headers_are_as_none() {
    let rig = Rig::with(|builder| builder.with_session_propagation(true));
    rig.run(|| {
        for (traceparent, baggage) in [
            ("", ""),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", ";;;"),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", "session.id"),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "session.id=two%20words"),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "=,=,session.id="),
        ] {
            let headers = HashMap::from([
                ("traceparent".to_owned(), traceparent.to_owned()),
                ("baggage".to_owned(), baggage.to_owned()),
            ]);
            let context = propagation::extract(&headers);
            assert!(!context.has_active_span(), "{traceparent}");
            let span = info_span!("span");
            span.set_parent(context).unwrap();
            span.in_scope(|| assert_eq!(Session::current(), None, "{baggage}"));
        }
    });
    assert!(
        rig.collector
            .spans()
            .iter()
            .all(|span| span.parent_span_id.to_string() == "0000000000000000")
    );
}

#[test]
fn no_header_makes_it_panic() {
    let rig = Rig::with(|builder| builder.with_session_propagation(true));
    let like_traceparent = "[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{14,18}-[0-9a-f]{2}(-.*)?";
    let like_baggage = "((session.id|[a-z]{1,3})=[ -~]{0,9}[,;]?){0,40}";
    let headers = (
        prop_oneof![any::<String>(), like_traceparent],
        prop_oneof![any::<String>(), "([a-z@]{1,5}=[ -~]{0,9},?){0,40}"],
        prop_oneof![any::<String>(), like_baggage],
        any::<Vec<u8>>(),
    );
    let mut runner = TestRunner::new(Config::with_cases(300));
    rig.run(|| {
        let outcome = runner.run(&headers, |(traceparent, tracestate, baggage, bytes)| {
            let texts =
                [("traceparent", traceparent), ("tracestate", tracestate), ("baggage", baggage)];
            let mut headers = HeaderMap::new();
            let raw = [("baggage", &bytes[..]), ("tracestate", &bytes[..])];
            for (name, value) in
                texts.iter().map(|(name, text)| (*name, text.as_bytes())).chain(raw)
            {
                if let Ok(value) = http::HeaderValue::from_bytes(value) {
                    headers.append(name, value);
                }
            }
            let map: HashMap<_, _> =
                texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
            for context in [propagation::extract(&map), propagation::extract(&headers)] {
                let span = info_span!("span");
                span.set_parent(context).unwrap();
                span.in_scope(|| {
                    injected();
                    if let Some(session) = Session::current() {
                        assert_eq!(Session::with_id(session.id()), Ok(session));
                    }
                });
            }
            Ok(())
        });
        outcome.unwrap();
    });
}

#[test]
fn late_feedback_from_the_same_trace_belongs_to_its_session() {
    use tracing_feedback::SpanExt;

    let rig = Rig::new();
    rig.run(|| {
        let root = info_span!("root", session.id = "s").entered();
        let answer = info_span!("answer");
        let target = answer.span_context().unwrap();
        drop(answer);
        assert!(enrich_span!(target = &target, feedback = { "rating": 1 }).is_ok());
        assert!(enrich_session!(target = &target, feedback = { "resolved": true }).is_ok());
        drop(root);
        // From outside the session nothing is known of it.
        let _other = info_span!("other", session.id = "t").entered();
        assert!(enrich_span!(target = &target, feedback = { "rating": 2 }).is_ok());
    });
    let spans = rig.collector.spans();
    let sessions: Vec<_> = spans
        .iter()
        .filter(|span| span.is_carrier())
        .map(|span| span.attribute("session.id").map(ToString::to_string))
        .collect();
    assert_eq!(sessions, [Some("\"s\"".into()), Some("\"s\"".into()), None]);
    assert_eq!(rig.collector.session_feedback("s")["feedback.resolved"], true);
}
