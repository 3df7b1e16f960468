//! Tickets: late feedback from the holder of a ticket reaches the span and session that it was
//! issued for, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opentelemetry::trace::SpanId;
use opentelemetry_sdk::trace::Sampler;
use tracing::info_span;
use tracing_feedback::collector::{Collector, ReceivedSpan, Value};
use tracing_feedback::{
    EnrichError, Session, SpanExt, Ticket, TicketError, TicketKeys, TicketOptions, TicketVerifier,
    enrich, enrich_session, enrich_span, ticket, ticket_with,
};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

use crate::rig::is_alone;
use crate::show::{attributes, one};
use crate::{Rig, build};

fn keys() -> TicketKeys {
    TicketKeys::new([[7; 32]]).unwrap()
}

fn with_keys() -> Rig {
    Rig::with(|builder| builder.with_ticket_keys(keys()))
}

/// A ticket as it comes back: as text, to a service with the keys.
fn sent(ticket: &Ticket) -> Ticket {
    keys().verifier().verify(ticket.as_str()).unwrap()
}

fn options() -> TicketOptions {
    TicketOptions::new()
}

/// A ticket for a span `answer`, which has ended.
fn answered(options: &TicketOptions) -> Ticket {
    info_span!("answer").in_scope(|| ticket_with(options)).unwrap()
}

/// The folded feedback on the span that the ticket is about.
fn feedback(collector: &Collector, ticket: &Ticket) -> String {
    let about = ticket.span_context().unwrap();
    show(&collector.feedback(about.trace_id(), about.span_id()))
}

fn show(feedback: &BTreeMap<String, Value>) -> String {
    let shown: Vec<_> = feedback.iter().map(|(key, value)| format!("{key}={value}")).collect();
    shown.join(" ")
}

fn carriers(collector: &Collector) -> Vec<ReceivedSpan> {
    collector.spans().into_iter().filter(ReceivedSpan::is_carrier).collect()
}

/// The ids of all carriers, each once.
fn carrier_ids(collector: &Collector) -> BTreeSet<[u8; 8]> {
    carriers(collector).iter().map(|carrier| carrier.span_id.to_bytes()).collect()
}

// ---- late feedback -----------------------------------------------------------------------------

#[test]
fn late_feedback_reaches_its_span_through_another_service() {
    let asked = with_keys();
    let text = asked.run(|| {
        let answer = info_span!("answer", session.id = "s").entered();
        assert!(enrich_span!(feedback = { "rating": 1, "shown": true }).is_ok());
        let text = ticket().unwrap().to_string();
        drop(answer);
        text
    });
    // Another service, which has the keys and nothing else.
    let (layer, telemetry) = build(&asked.collector, |builder| builder.with_ticket_keys(keys()));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let _request = info_span!("POST /feedback").entered();
        let ticket = telemetry.ticket_verifier().verify(&text).unwrap();
        assert!(enrich_span!(target = &ticket, id = "vote-1", feedback = { "rating": 5 }).is_ok());
    });
    telemetry.flush().unwrap();

    let (answer, carrier) = (one(&asked.collector, "answer"), one(&asked.collector, "feedback"));
    let folded = asked.collector.feedback(answer.trace_id, answer.span_id);
    assert_eq!(show(&folded), "feedback.rating=5 feedback.shown=true");
    // OpenInference's correlation rule: one link, to the target; the session by its attribute.
    assert_ne!(carrier.trace_id, answer.trace_id);
    let [link] = carrier.links.as_slice() else { panic!("{:?}", carrier.links) };
    assert_eq!((link.trace_id, link.span_id), (answer.trace_id, answer.span_id));
    assert_eq!(carrier.attributes["session.id"], "s");
    assert_eq!(carrier.attributes["tracing_feedback.late"], true);
    assert!(carrier.attribute("tracing_feedback.scope").is_none());
}

#[test]
fn late_feedback_on_a_session_by_the_ticket_of_one_of_its_spans() {
    let rig = with_keys();
    rig.run(|| {
        let turn = info_span!("turn", session.id = "s");
        let ticket = sent(&turn.ticket().unwrap());
        drop(turn);
        let outcome = enrich_session!(target = ticket.clone(), feedback = { "resolved": true });
        assert!(outcome.is_ok());
        // The session that the ticket names may be given again, and no other.
        let same = enrich_session!(session_id = "s", target = &ticket, feedback = { "n": 1 });
        assert!(same.is_ok());
        let other = enrich_session!(session_id = "t", target = &ticket, feedback = { "n": 2 });
        assert_eq!(other.into_result(), Err(EnrichError::ForeignSession));
    });
    let turn = one(&rig.collector, "turn");
    let session = rig.collector.session_feedback("s");
    assert_eq!(show(&session), "feedback.n=1 feedback.resolved=true");
    assert!(rig.collector.session_feedback("t").is_empty());
    assert!(rig.collector.feedback(turn.trace_id, turn.span_id).is_empty());
    for carrier in carriers(&rig.collector) {
        assert_eq!(carrier.links.len(), 1);
        assert_eq!(carrier.links[0].span_id, turn.span_id);
    }
}

#[test]
fn a_ticket_speaks_for_no_session_but_its_own() {
    let rig = with_keys();
    rig.run(|| {
        let root = info_span!("root");
        let ticket = sent(&root.ticket().unwrap());
        // In the same trace, but of a session: not what the ticket names.
        let _caller = info_span!(parent: &root, "caller", session.id = "s").entered();
        assert!(enrich_session!(target = &ticket, feedback = { "n": 1 }).is_ok());
        let given = enrich_session!(session_id = "s", target = &ticket, feedback = { "n": 2 });
        assert_eq!(given.into_result(), Err(EnrichError::ForeignSession));
    });
    let carrier = one(&rig.collector, "feedback");
    assert_eq!(carrier.attributes["tracing_feedback.scope"], "trace");
    assert!(carrier.attribute("session.id").is_none());
    assert_eq!(show(&rig.collector.trace_feedback(carrier.links[0].trace_id)), "feedback.n=1");
    assert_eq!(show(&rig.collector.trace_feedback(carrier.trace_id)), "");
}

#[test]
fn a_ticket_of_a_session_is_about_no_span() {
    let rig = with_keys();
    rig.run(|| {
        let session = Session::with_id("s").unwrap();
        let ticket = sent(&session.ticket().unwrap()); // no span is around
        assert_eq!((ticket.span_context(), ticket.session()), (None, Some(&session)));
        for _ in 0..2 {
            let vote =
                enrich_session!(target = &ticket, id = "vote-1", feedback = { "resolved": true });
            assert!(vote.is_ok());
        }
        let outcome = enrich_span!(target = &ticket, feedback = { "rating": 5 });
        assert_eq!(outcome.into_result(), Err(EnrichError::TicketOfSession));
        let other = enrich_session!(session_id = "t", target = &ticket, feedback = { "n": 2 });
        assert_eq!(other.into_result(), Err(EnrichError::ForeignSession));

        // It lets a service join the session.
        let turn = info_span!("turn");
        turn.set_session(ticket.session().unwrap()).unwrap();
    });
    assert_eq!(show(&rig.collector.session_feedback("s")), "feedback.resolved=true");
    assert_eq!(one(&rig.collector, "turn").attributes["session.id"], "s");
    let [first, second] = &carriers(&rig.collector)[..] else { panic!("not two") };
    assert_eq!((first.trace_id, first.span_id), (second.trace_id, second.span_id));
    assert!(first.links.is_empty() && first.parent_span_id == SpanId::INVALID);
    assert_eq!(rig.telemetry.stats().refused["ticket_of_session"], 1);
    assert_eq!(rig.telemetry.stats().refused["foreign_session"], 1);
}

#[test]
fn late_feedback_about_a_span_that_was_never_exported_arrives() {
    let rig = Rig::with(|b| b.with_sampler(Sampler::AlwaysOff).with_ticket_keys(keys()));
    let ticket = rig.run(|| {
        let ticket = sent(&answered(&options()));
        assert!(!ticket.span_context().unwrap().is_sampled());
        assert!(enrich_span!(target = &ticket, feedback = { "rating": 1 }).is_ok());
        ticket
    });
    let carrier = one(&rig.collector, "feedback");
    assert_eq!(rig.collector.spans().len(), 1);
    assert_eq!(carrier.flags & 1, 1);
    assert_eq!(carrier.links.len(), 1);
    assert_eq!(carrier.links[0].span_id, ticket.span_context().unwrap().span_id());
    assert_eq!(carrier.links[0].flags & 1, 0, "the link says that its target is not there");
    assert_eq!(feedback(&rig.collector, &ticket), "feedback.rating=1");
}

#[test]
fn a_submission_by_ticket_sent_twice_is_one_trace_of_its_own() {
    let rig = with_keys();
    let ticket = rig.run(|| {
        let ticket = sent(&answered(&options()));
        for _ in 0..2 {
            let _ = enrich_span!(target = &ticket, id = "1", feedback = { "rating": 1 });
        }
        ticket
    });
    let [first, second] = &carriers(&rig.collector)[..] else { panic!("not two") };
    assert_eq!((first.trace_id, first.span_id), (second.trace_id, second.span_id));
    assert_ne!(first.trace_id, ticket.span_context().unwrap().trace_id());
    assert_eq!(feedback(&rig.collector, &ticket), "feedback.rating=1");
}

// ---- submissions -------------------------------------------------------------------------------

#[test]
fn a_change_of_mind_wins_by_time_and_null_retracts() {
    let rig = with_keys();
    rig.run(|| {
        let ticket = sent(&answered(&options()));
        let vote = |id, rating| {
            let outcome = enrich_span!(target = &ticket, id = id, feedback = { "rating": rating });
            assert!(outcome.is_ok());
            rig.telemetry.flush().unwrap();
            feedback(&rig.collector, &ticket)
        };
        assert_eq!(vote("1", Some(1)), "feedback.rating=1");
        assert_eq!(vote("2", Some(5)), "feedback.rating=5");
        assert_eq!(vote("1", Some(1)), "feedback.rating=5", "the first once more");

        let more = enrich_span!(target = &ticket, id = "3", feedback = {
            "comment": "wrong", "edits": ["a", "b"], "rating": null,
        });
        assert!(more.is_ok());
        rig.telemetry.flush().unwrap();
        let folded = "feedback.comment=\"wrong\" feedback.edits.0=\"a\" feedback.edits.1=\"b\"";
        assert_eq!(feedback(&rig.collector, &ticket), folded);
        let carrier = carriers(&rig.collector).pop().unwrap();
        let cleared = &carrier.attributes["tracing_feedback.cleared"];
        assert_eq!(*cleared, ["feedback.edits", "feedback.rating"]);

        assert!(enrich_span!(target = &ticket, id = "4", feedback = null).is_ok());
        rig.telemetry.flush().unwrap();
        assert_eq!(feedback(&rig.collector, &ticket), "");
    });
}

#[test]
fn one_id_is_one_submission_of_whoever_holds_the_ticket() {
    let rig = with_keys();
    let submit = |ticket: &Ticket| {
        rig.run(|| {
            let outcome = enrich_span!(target = ticket, id = "1", feedback = { "rating": 1 });
            assert!(outcome.is_ok());
        });
        carrier_ids(&rig.collector).len()
    };
    // One span, rated by many.
    let [one, other, of_17, again_of_17, of_18] = rig.run(|| {
        let _span = info_span!("answer").entered();
        let of = |subject: &str| ticket_with(&options().with_subject(subject)).unwrap();
        [ticket().unwrap(), ticket().unwrap(), of("user-17"), of("user-17"), of("user-18")]
    });
    assert_eq!(submit(&one), 1);
    assert_eq!(submit(&sent(&one)), 1, "the same ticket, sent again");
    assert_eq!(submit(&sent(&other)), 2, "another holder");
    assert_eq!(submit(&of_17), 3);
    assert_eq!(submit(&again_of_17), 3, "the same subject, with another ticket");
    assert_eq!(submit(&of_18), 4);
    // Nor can a holder claim what the service submits by itself.
    rig.run(|| {
        let target = one.span_context().unwrap();
        let _ = enrich_span!(target = target, id = "1", feedback = { "rating": 2 });
    });
    assert_eq!(carrier_ids(&rig.collector).len(), 5);
}

#[test]
fn a_submission_is_the_same_through_whichever_service_it_comes() {
    let submitted = |ticket: &Ticket| {
        let rig = with_keys();
        rig.run(|| {
            let _ = enrich_span!(target = ticket, id = "1", feedback = { "rating": 1 });
        });
        carrier_ids(&rig.collector)
    };
    let ticket = with_keys().run(|| answered(&options()));
    assert_eq!(submitted(&ticket), submitted(&sent(&ticket)));
}

// ---- what a ticket allows ----------------------------------------------------------------------

fn not_allowed(key: &str) -> EnrichError {
    EnrichError::NotAllowed { key: key.to_owned() }
}

#[test]
fn what_a_ticket_does_not_allow_is_refused_by_name_and_the_rest_is_kept() {
    let rig = with_keys();
    let ticket = rig.run(|| {
        let ticket = sent(&answered(&options()));
        let outcome = enrich_span!(
            target = &ticket,
            feedback = { "rating": 1, "deep": { "er": true } },
            metrics = { "score": 1.0, "of": { "some": 1, "more": 2 }, "list": [1, 2] },
            config = null,
            metadata = {},
        );
        let errors: Vec<_> = outcome.errors().cloned().collect();
        let expected = ["metrics.score", "metrics.of", "metrics.list", "config"].map(not_allowed);
        assert_eq!(errors, expected);
        ticket
    });
    assert_eq!(feedback(&rig.collector, &ticket), "feedback.deep.er=true feedback.rating=1");
    let carrier = one(&rig.collector, "feedback");
    assert!(!attributes(&carrier).contains("metrics"), "{}", attributes(&carrier));
    assert!(carrier.attribute("tracing_feedback.cleared").is_none());
    assert_eq!(rig.telemetry.stats().refused["not_allowed"], 4);
}

#[test]
fn keys_that_a_ticket_does_not_name_are_refused_wherever_they_come_from() {
    let rig = with_keys();
    let ticket = rig.run(|| {
        let options = options().with_keys(["rating", "comment"]);
        let ticket = sent(&answered(&options));
        let errors = |body: &str| -> Vec<_> {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let outcome = enrich::current_span().target(&ticket).feedback(&body).apply();
            outcome.errors().cloned().collect()
        };
        let refused = |key| vec![not_allowed(key)];
        assert_eq!(errors(r#"{"rating": 1, "comment": {"de": "gut"}}"#), []);
        assert_eq!(errors(r#"{"ratings": 2, "rating": 2}"#), refused("feedback.ratings"));
        assert_eq!(errors(r#"{"ground_truth.text": "x"}"#), refused("feedback.ground_truth"));
        assert_eq!(errors(r#"{"comment.en": "good"}"#), []);
        assert_eq!(errors(r#"{"edits": []}"#), refused("feedback.edits"));
        assert_eq!(errors(r#"{"user_id": null}"#), refused("feedback.user_id"));
        // As a whole the namespace is more than its keys.
        assert_eq!(errors("null"), refused("feedback"));
        let long = "x".repeat(1000);
        let [EnrichError::NotAllowed { key }] = &errors(&format!(r#"{{"{long}": 1}}"#))[..] else {
            panic!("not one error")
        };
        assert!(key.len() < 300);
        let deep = r#"{"a":{"b":{"c":{"d":{"e":{"f":{"g":1}}}}}}}"#;
        assert!(errors(deep).contains(&not_allowed("feedback.a")));
        // Refused keys take nothing with them, in any order.
        let outcome = enrich_span!(target = &ticket, feedback = { "rating": 3 }, feedback = null);
        assert_eq!(outcome.into_result(), Err(not_allowed("feedback")));
        ticket
    });
    let folded = "feedback.comment.de=\"gut\" feedback.comment.en=\"good\" feedback.rating=3";
    assert_eq!(feedback(&rig.collector, &ticket), folded);
}

#[test]
fn a_ticket_may_allow_more_than_feedback() {
    let rig = with_keys();
    let ticket = rig.run(|| {
        let options = options().with_namespaces(["metrics", "feedback"]);
        let ticket = sent(&answered(&options));
        let outcome = enrich_span!(target = &ticket, feedback = { "a": 1 }, metrics = { "b": 2 });
        assert!(outcome.is_ok(), "{outcome:?}");
        ticket
    });
    assert!(ticket.namespaces().eq(["feedback", "metrics"]));
    assert_eq!(feedback(&rig.collector, &ticket), "feedback.a=1 metrics.b=2");
}

// ---- issuing -----------------------------------------------------------------------------------

#[test]
fn a_ticket_is_of_the_nearest_captured_span() {
    let collector = Collector::start().unwrap();
    let (layer, telemetry) = build(&collector, |builder| builder.with_ticket_keys(keys()));
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO));
    tracing::subscriber::with_default(subscriber, || {
        assert_eq!(ticket(), Err(TicketError::NoActiveSpan));
        let hidden = tracing::debug_span!("hidden");
        assert_eq!(hidden.ticket(), Err(TicketError::SpanDisabled));
        assert_eq!(tracing::Span::none().ticket(), Err(TicketError::SpanDisabled));

        let answer = info_span!("answer", session.id = "s").entered();
        let of_answer = answer.span_context().unwrap();
        let hidden = tracing::debug_span!("hidden");
        let ticket = hidden.in_scope(|| info_span!("inner").in_scope(|| hidden.in_scope(ticket)));
        assert_ne!(ticket.unwrap().span_context().unwrap().span_id(), of_answer.span_id());
        let ticket = hidden.in_scope(tracing_feedback::ticket).unwrap();
        let about = ticket.span_context().unwrap();
        assert_eq!(
            (about.trace_id(), about.span_id()),
            (of_answer.trace_id(), of_answer.span_id())
        );
        assert!(about.is_remote() && about.is_sampled());
        assert_eq!(ticket.session().unwrap().id(), "s");
        let ticket = answer.ticket_with(&options().with_time_to_live(Duration::from_secs(1)));
        let ticket = ticket.unwrap();
        assert_eq!(ticket.expires_at(), ticket.issued_at() + Duration::from_secs(1));
    });
    drop(telemetry);
}

#[test]
fn without_a_layer_or_without_keys_no_ticket_is_issued() {
    if !is_alone(concat!(module_path!(), "::without_a_layer_or_without_keys_no_ticket_is_issued")) {
        return;
    }
    assert_eq!(ticket(), Err(TicketError::NotInstalled));

    let rig = Rig::new();
    rig.run(|| {
        let _answer = info_span!("answer").entered();
        for refused in [ticket(), Session::new().ticket()] {
            assert_eq!(refused, Err(TicketError::NoKeys));
        }
        // Keys may come later.
        rig.telemetry.ticket_keys().set(keys());
        assert!(ticket().is_ok());
        assert!(Session::new().ticket().is_ok());
    });
}

#[test]
fn keys_are_rotated_while_the_service_runs() {
    let rig = with_keys();
    let verifier: TicketVerifier = rig.telemetry.ticket_verifier();
    rig.run(|| {
        let _answer = info_span!("answer").entered();
        let before = ticket().unwrap();
        rig.telemetry.ticket_keys().set(TicketKeys::new([[8; 32], [7; 32]]).unwrap());
        let after = ticket().unwrap();
        assert!(verifier.verify(before.as_str()).is_ok());
        assert!(verifier.verify(after.as_str()).is_ok());
        assert_eq!(keys().verifier().verify(after.as_str()), Err(TicketError::BadSignature));
        rig.telemetry.ticket_keys().set(TicketKeys::new([[8; 32]]).unwrap());
        assert_eq!(verifier.verify(before.as_str()), Err(TicketError::BadSignature));
    });
}
