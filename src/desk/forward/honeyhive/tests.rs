use super::*;
use crate::desk::forward::backend::tests::{change, planned, reply};
use crate::desk::forward::wanted::tests::{items_of, target, text};
use crate::desk::store::forwarding::ForwardTarget;

const EVENT: &str = "7f22137a-6911-4ed3-bc36-110f1dde6b66";

fn honeyhive() -> HoneyHive {
    HoneyHive::new(&BackendSetup::of(&[], &[("HH_API_KEY", "k")])).unwrap()
}

fn found() -> Reply {
    let event = json!({ "event_id": EVENT, "session_id": "s-2" });
    reply(200, json!({ "events": [event], "count": 1 }).to_string())
}

#[test]
fn an_event_is_found_by_the_ids_of_its_span_and_then_told() {
    let target = target(&[
        ("feedback.comment", text("slow")),
        ("feedback.ground_truth", text("Albany")),
        ("feedback.rating", Leaf::Bool(false)),
        ("feedback.step1.stars", Leaf::Int(4)),
        ("metrics.relevance", Leaf::Double(0.5)),
    ]);
    let items = items_of(&target);
    let changes: Vec<_> = items.iter().map(|item| change(&target, item)).collect();
    let search = planned(&honeyhive(), &changes, &[0, 1, 2, 3]).remove(0);
    assert_eq!(
        (&search.request.method, search.request.path.as_str(), search.request.body.clone()),
        (
            &Method::POST,
            "/v1/events/search",
            Some(json!({ "limit": 1, "filters": [
                {
                    "field": "metadata.trace_id", "operator": "is", "type": "string",
                    "value": "0000000000000000000000000000000a",
                },
                {
                    "field": "metadata.span_id", "operator": "is", "type": "string",
                    "value": "000000000000000b",
                },
            ]}))
        )
    );
    assert_eq!(honeyhive().headers(), [(header::AUTHORIZATION, "Bearer k".to_owned())]);
    let none = reply(200, r#"{"events":[],"count":0}"#);
    let missing = Outcome::missing(&search, "HoneyHive has no such event yet");
    assert_eq!(honeyhive().outcome(&changes, &search, &none), missing);
    let Outcome::Next(next) = honeyhive().outcome(&changes, &search, &found()) else { panic!() };
    assert_eq!(
        (&next[0].request.method, next[0].request.path.clone(), next[0].request.body.clone()),
        (
            &Method::PUT,
            format!("/v1/events/{EVENT}"),
            Some(json!({
                "feedback": {
                    "ground_truth": "Albany", "rating": false, "comment": "slow", "step1.stars": 4,
                },
                "metrics": { "relevance": 0.5 },
                "metadata": {
                    "feedback.ground_truth.by": "u-17", "feedback.rating.by": "u-17",
                    "feedback.step1.stars.by": "u-17", "metrics.relevance.by": "u-17",
                },
            }))
        )
    );
    let explained = format!("{EVENT}{EXPLAINED}");
    assert_eq!(next[0].memos, [EVENT, &explained, EVENT, EVENT]);
}

#[test]
fn a_deletion_clears_and_a_comment_goes_with_what_it_explains() {
    let target = target(&[("feedback.comment", text("slow"))]);
    let items = items_of(&target);
    let memo = format!("{EVENT}{EXPLAINED}");
    let mut rating = change(&target, &items[0]);
    (rating.field, rating.wanted) = ("feedback.rating", None);
    (rating.known, rating.memo) = (Known::Present, Some(memo.as_str()));
    let body = |changes: &[Change<'_>], which: &[usize]| {
        let call = planned(&honeyhive(), changes, which).remove(0);
        assert_eq!(call.request.path, format!("/v1/events/{EVENT}"));
        call.request.body.unwrap()
    };
    let by = json!({ "feedback.rating.by": null });
    assert_eq!(
        body(&[rating.clone()], &[0]),
        json!({ "feedback": { "rating": null, "comment": null }, "metadata": by })
    );
    // Deletions come after the changes of all targets.
    let mut of_other = target.clone();
    of_other.row = 2;
    let changes = [change(&target, &items[0]), change(&of_other, &items[0]), rating];
    let changed = body(&changes, &[0, 1, 2]);
    assert_eq!(changed["feedback"], json!({ "rating": null, "comment": "slow" }));
}

#[test]
fn feedback_about_a_trace_is_on_its_root_span_and_apart_from_that_of_the_span() {
    let mut target =
        target(&[("feedback.comment", text("slow")), ("feedback.rating", Leaf::Bool(true))]);
    let items = items_of(&target);
    target.target = Target::Trace(opentelemetry::trace::TraceId::from(0xa));
    target.root = Some(opentelemetry::trace::SpanId::from(2));
    let changes = [change(&target, &items[0])];
    let search = planned(&honeyhive(), &changes, &[0]).remove(0);
    let filters = &search.request.body.as_ref().unwrap()["filters"];
    assert_eq!(filters[1]["value"], "0000000000000002");
    let Outcome::Next(next) = honeyhive().outcome(&changes, &search, &found()) else { panic!() };
    assert_eq!(
        next[0].request.body.as_ref().unwrap(),
        &json!({
            "feedback": { "trace.rating": true, "trace.comment": "slow" },
            "metadata": { "feedback.trace.rating.by": "u-17" },
        })
    );
}

#[test]
fn a_session_is_the_event_with_its_id_or_that_of_a_span_of_it() {
    let mut target = target(&[("feedback.rating", Leaf::Int(1))]);
    let items = items_of(&target);
    target.target = Target::Session(EVENT.to_owned());
    let call = planned(&honeyhive(), &[change(&target, &items[0])], &[0]).remove(0);
    assert_eq!(call.request.path, format!("/v1/events/{EVENT}"));

    target.target = Target::Session("s-1".to_owned());
    let plan = honeyhive().plan(&[change(&target, &items[0])], &[0]);
    assert!(matches!(plan[0], Planned::Outcome(0, ChangeOutcome::Missing(_))), "{plan:?}");
    target.latest_trace = Some([1; 16]);
    target.root = Some(opentelemetry::trace::SpanId::from(2));
    let changes = [change(&target, &items[0])];
    let search = planned(&honeyhive(), &changes, &[0]).remove(0);
    let Outcome::Next(next) = honeyhive().outcome(&changes, &search, &found()) else { panic!() };
    assert_eq!(next[0].request.path, "/v1/events/s-2");
}

#[test]
fn an_answer_means_what_honeyhive_says_of_it() {
    let target = target(&[("feedback.rating", Leaf::Int(1))]);
    let items = items_of(&target);
    let mut changes = [change(&target, &items[0])];
    let search = planned(&honeyhive(), &changes, &[0]).remove(0);
    for (status, body) in [(200, "<html>"), (200, "{}"), (401, "{}"), (404, "{}"), (500, "")] {
        let outcome = honeyhive().outcome(&changes, &search, &reply(status, body));
        assert!(matches!(outcome, Outcome::Down { .. }), "{status} {body}");
    }
    changes[0].memo = Some(EVENT);
    let put = planned(&honeyhive(), &changes, &[0]).remove(0);
    let outcome = |status, body: &str| honeyhive().outcome(&changes, &put, &reply(status, body));
    assert_eq!(outcome(200, "{}"), Outcome::Done);
    assert!(matches!(outcome(200, "<html>"), Outcome::Down { .. }));
    assert!(
        matches!(outcome(404, r#"{"message":"no"}"#), Outcome::Next(next) if next[0].step == SEARCH)
    );
    assert!(matches!(outcome(404, "<html>"), Outcome::Down { .. }));
    assert!(matches!(outcome(400, "{}"), Outcome::Refused(_)));
}

#[test]
fn a_comment_is_cleared_after_a_lost_call_unless_another_leaf_has_it() {
    let mut target = target(&[
        ("feedback.accuracy", Leaf::Int(1)),
        ("feedback.comment", text("slow")),
        ("feedback.stars", Leaf::Int(2)),
    ]);
    let cleared = |target: &ForwardTarget, at: usize| {
        let items = items_of(target);
        let mut change = change(target, &items[at]);
        (change.known, change.memo) = (Known::Unknown, Some(EVENT));
        let call = planned(&honeyhive(), &[change], &[0]).remove(0);
        call.request.body.unwrap()["feedback"].get("comment").cloned()
    };
    assert_eq!(cleared(&target, 0), Some(json!("slow")));
    assert_eq!(cleared(&target, 1), None, "the other one has it");
    target.leaves.retain(|leaf| leaf.key != "feedback.comment");
    assert_eq!(cleared(&target, 1), Some(Json::Null));
}
