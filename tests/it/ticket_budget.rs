//! The budgets of tickets, over real HTTP: what one holder may send, and that it costs no other user anything.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tracing::{dispatcher, info_span};
use tracing_feedback::collector::Answer;
use tracing_feedback::web::{FeedbackRoutes, feedback_routes};
use tracing_feedback::{
    Builder, EnrichError, SpanExt, TicketBudget, TicketKeys, TicketOptions, enrich_span,
};

use crate::Rig;
use crate::outbox::Directory;
use crate::web::Service;

const ACCEPTED: StatusCode = StatusCode::NO_CONTENT;
const OVER_BUDGET: StatusCode = StatusCode::TOO_MANY_REQUESTS;
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

fn rig(configure: impl FnOnce(Builder) -> Builder) -> Rig {
    let keys = TicketKeys::new([[7; 32]]).unwrap();
    Rig::with(|builder| {
        configure(builder.with_ticket_keys(keys).with_timeout(Duration::from_millis(200)))
    })
}

fn service(rig: &Rig) -> Service {
    let routes = FeedbackRoutes::new()
        .with_subject(|request| Some(request.headers.get("x-user")?.to_str().ok()?.to_owned()));
    Service::start(rig, feedback_routes(routes))
}

fn ticket(rig: &Rig, subject: Option<&str>) -> String {
    let options = TicketOptions::new();
    let options = match subject {
        Some(subject) => options.with_subject(subject),
        None => options,
    };
    dispatcher::with_default(&rig.dispatch, || {
        info_span!("answer").ticket_with(&options).unwrap().to_string()
    })
}

fn vote(service: &Service, ticket: &str, feedback: Value) -> (StatusCode, Value) {
    service.submit(&json!({ "ticket": ticket, "feedback": feedback }))
}

fn reason(problem: &Value) -> &str {
    problem["reason"].as_str().unwrap()
}

/// The different keys of late feedback that have arrived.
fn arrived_keys(rig: &Rig) -> BTreeSet<String> {
    rig.telemetry.flush().unwrap();
    let spans = rig.collector.spans();
    let late = spans.iter().filter(|span| span.name == "feedback");
    late.flat_map(|span| span.attributes.keys().cloned())
        .filter(|key| key.starts_with("feedback."))
        .collect()
}

#[test]
fn one_holder_does_not_fill_the_outbox_for_every_other_user() {
    let directory = Directory::new();
    let rig = rig(|builder| builder.with_outbox(directory.ahead().with_max_bytes(256 * 1024)));
    rig.collector.answer_all(Some(Answer::Unavailable { retry_after: None }));
    let service = service(&rig);
    let greedy = ticket(&rig, None);
    let comment = "c".repeat(300);
    let statuses: Vec<_> =
        (0..549).map(|_| vote(&service, &greedy, json!({ "comment": comment })).0).collect();
    let accepted = statuses.iter().filter(|status| **status == ACCEPTED).count();
    assert!((10..=120).contains(&accepted), "{accepted}");
    assert!(statuses.iter().all(|status| [ACCEPTED, OVER_BUDGET].contains(status)), "{statuses:?}");
    for user in 0..20 {
        let (status, problem) = vote(&service, &ticket(&rig, None), json!({ "rating": true }));
        assert_eq!(status, ACCEPTED, "user {user}: {problem}");
    }
    let stats = rig.telemetry.stats();
    assert_eq!(stats.refused["over_budget"], 549 - accepted as u64);
}

#[test]
fn a_refusal_says_what_was_spent_and_when_to_come_again() {
    let rig = rig(|builder| builder.with_ticket_budget(TicketBudget::new().with_submissions(3600)));
    let service = service(&rig);
    let ticket = ticket(&rig, None);
    let body = json!({ "ticket": ticket, "feedback": { "comment": "c".repeat(15_000) } });
    let refused = (0..100)
        .map(|_| service.send(Method::POST, "/feedback", &[], &body.to_string()))
        .find(|response| response.status() != ACCEPTED)
        .unwrap();
    assert_eq!(refused.status(), OVER_BUDGET);
    let seconds: u64 = refused.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=300).contains(&seconds), "{seconds}");
    let (_, problem) = service.submit(&body);
    assert_eq!(reason(&problem), "over_budget");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("bytes an hour"), "{detail}");
}

#[test]
fn a_ticket_brings_few_different_keys_however_many_are_sent() {
    let rig = rig(|builder| builder);
    let service = service(&rig);
    let ticket = ticket(&rig, None);
    let mut accepted = 0;
    for post in 0..100 {
        let keys = (0..20).map(|key| (format!("k{post}_{key}"), json!(1)));
        let feedback = Value::Object(keys.collect());
        accepted += u32::from(vote(&service, &ticket, feedback).0 == ACCEPTED);
    }
    assert_eq!(accepted, 3);
    assert_eq!(arrived_keys(&rig).len(), 60);
    // A key that it has brought before goes on, and one that is removed is a key too.
    assert_eq!(vote(&service, &ticket, json!({ "k0_0": 2 })).0, ACCEPTED);
    let removed: Value = (0..20)
        .map(|key| (format!("r{key}"), Value::Null))
        .collect::<serde_json::Map<_, _>>()
        .into();
    assert_eq!(vote(&service, &ticket, removed).0, OVER_BUDGET);
}

#[test]
fn keys_of_tickets_are_visible_and_short() {
    let rig = rig(|builder| builder);
    let service = service(&rig);
    let ticket = ticket(&rig, None);
    let long = "k".repeat(15_000);
    for key in [&*long, "a\0b", "a\nb", "a\u{202e}b", "a b", "\u{200b}", "\u{feff}a"] {
        let nested = json!({ "step": { key: { "x": [1] } } });
        for feedback in [json!({ key: 1 }), nested, json!({ key: null })] {
            let (status, problem) = vote(&service, &ticket, feedback);
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{key:?}");
            assert_eq!(reason(&problem), "unfit_key", "{key:?}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.len() < 400 && detail.contains("128 visible"), "{detail}");
            assert!(
                !detail.contains(['\0', '\n', '\u{202e}', '\u{200b}', '\u{feff}']),
                "{detail:?}"
            );
        }
    }
    assert_eq!(vote(&service, &ticket, json!({ "größe": 1, "評価": { "x-y_z": 2 } })).0, ACCEPTED);
    let expected = ["feedback.größe", "feedback.評価.x-y_z"].map(str::to_owned);
    assert_eq!(arrived_keys(&rig), expected.into());
}

#[test]
fn a_subject_pays_for_all_of_its_tickets() {
    let budget = TicketBudget::new().with_submissions(5);
    let rig = rig(|builder| builder.with_ticket_budget(budget));
    let service = service(&rig);
    let submit = |user: &str| {
        let body = json!({ "ticket": ticket(&rig, Some(user)), "feedback": { "rating": 1 } });
        service.post(&body.to_string(), &[("x-user", user)]).0
    };
    let accepted = (0..100).filter(|_| submit("u-1") == ACCEPTED).count();
    assert_eq!(accepted, 20, "four times that of a ticket");
    assert_eq!(submit("u-1"), OVER_BUDGET);
    assert_eq!(submit("u-2"), ACCEPTED);
    // A ticket without a subject has an account of its own, whichever user is signed in.
    let anonymous = json!({ "ticket": ticket(&rig, None), "feedback": { "rating": 1 } });
    assert_eq!(service.post(&anonymous.to_string(), &[("x-user", "u-1")]).0, ACCEPTED);
}

#[test]
fn a_submission_that_is_sent_again_is_charged_once() {
    let rig = rig(|builder| builder.with_ticket_budget(TicketBudget::new().with_submissions(2)));
    let service = service(&rig);
    let ticket = ticket(&rig, None);
    let submit = |id: &str| {
        service.submit(&json!({ "ticket": ticket, "id": id, "feedback": { "rating": 1 } })).0
    };
    assert!((0..50).all(|_| submit("first") == ACCEPTED));
    assert_eq!(submit("second"), ACCEPTED);
    assert_eq!(submit("third"), OVER_BUDGET);
    assert_eq!(submit("first"), ACCEPTED);
    assert_eq!(submit("third"), OVER_BUDGET, "a refusal is no submission");
    rig.telemetry.flush().unwrap();
    let carriers = rig.collector.spans().into_iter().filter(|span| span.name == "feedback");
    let ids: Vec<_> = carriers.map(|span| span.span_id.to_string()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 2);
    assert!(ids.len() <= 5, "copies are sent on a few times: {}", ids.len());
}

#[test]
fn tickets_use_a_share_of_the_queue_and_leave_the_rest_to_the_service() {
    let rig = rig(|builder| {
        builder.with_max_queue_bytes(256 * 1024).with_timeout(Duration::from_secs(60))
    });
    rig.collector.answer_all(Some(Answer::Silence));
    let service = service(&rig);
    let comment = "c".repeat(4000);
    let statuses: Vec<_> = (0..200)
        .map(|_| vote(&service, &ticket(&rig, None), json!({ "comment": comment })))
        .collect();
    let refused = statuses.iter().find(|(status, _)| *status != ACCEPTED).unwrap();
    assert_eq!((refused.0, reason(&refused.1)), (UNAVAILABLE, "share_full"));
    let accepted = statuses.iter().filter(|(status, _)| *status == ACCEPTED).count();
    assert!((16..100).contains(&accepted), "{accepted}"); // some are being sent
    dispatcher::with_default(&rig.dispatch, || {
        let answer = info_span!("answer").span_context().unwrap();
        let outcome = enrich_span!(target = answer, feedback = { "rating": true });
        assert!(outcome.is_ok(), "{outcome:?}");
    });
    drop(service);
    let _ = rig.telemetry.shutdown_within(Duration::ZERO);
}

#[test]
fn a_handler_of_the_service_pays_as_a_route_does_and_the_service_itself_does_not() {
    let rig = rig(|builder| builder.with_ticket_budget(TicketBudget::new().with_submissions(2)));
    let text = ticket(&rig, None);
    rig.run(|| {
        let ticket = rig.telemetry.ticket_verifier().verify(&text).unwrap();
        let rate = || enrich_span!(target = &ticket, feedback = { "rating": 1 }).into_result();
        assert_eq!((rate(), rate()), (Ok(()), Ok(())));
        match rate() {
            Err(EnrichError::OverBudget { what: "submissions an hour", retry_after }) => {
                assert_eq!(
                    retry_after.as_secs().div_ceil(10),
                    180,
                    "half an hour: {retry_after:?}"
                );
            }
            other => panic!("{other:?}"),
        }
        let own = ticket.span_context().unwrap();
        assert!((0..100).all(|_| enrich_span!(target = own, feedback = { "rating": 1 }).is_ok()));
    });
    let carriers = rig.collector.spans().into_iter().filter(|span| span.name == "feedback");
    assert_eq!(carriers.count(), 102);
}
