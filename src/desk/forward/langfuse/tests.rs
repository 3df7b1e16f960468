use super::*;
use crate::desk::forward::backend::Known;
use crate::desk::forward::backend::tests::{change, planned, reply};
use crate::desk::forward::wanted::tests::{items_of, target, text};

const ID: &str = "id";

fn langfuse() -> Langfuse {
    let keys = [("LANGFUSE_PUBLIC_KEY", "pk"), ("LANGFUSE_SECRET_KEY", "sk")];
    Langfuse::new(&BackendSetup::of(&[], &keys)).unwrap()
}

/// The scores of a call, with `ID` for their ids.
fn scores(call: &Call) -> Vec<Json> {
    let mut scores = call.request.body.as_ref().unwrap().as_array().unwrap().clone();
    scores.iter_mut().for_each(|score| score["id"] = json!(ID));
    scores
}

#[test]
fn every_type_of_leaf_has_its_body() {
    let long = "x".repeat(501);
    let target = target(&[
        ("feedback.comment", text("slow")),
        ("feedback.ground_truth", text("Albany")),
        ("feedback.rating", Leaf::Bool(false)),
        ("feedback.reason", text("length")),
        ("feedback.stars", Leaf::Int(4)),
        ("feedback.step1.note", text(&long)),
        ("metrics.relevance", Leaf::Double(0.5)),
    ]);
    let items = items_of(&target);
    let changes: Vec<_> = items.iter().map(|item| change(&target, item)).collect();
    let all: Vec<usize> = (0..changes.len()).collect();
    let call = planned(&langfuse(), &changes, &all).remove(0);
    assert_eq!((call.request.method.as_str(), call.request.path.as_str()), ("POST", SCORES));
    assert_eq!(langfuse().headers(), [(header::AUTHORIZATION, "Basic cGs6c2s=".to_owned())]);
    let score = |kind: &str, field: &str, source: &str, value: Json| {
        json!({
            "id": ID, "traceId": "0000000000000000000000000000000a",
            "observationId": "000000000000000b", "dataType": kind, "value": value,
            "name": field.strip_prefix("feedback.").unwrap_or(field),
            "metadata": { "field": field, "source": source, "submitter": "u-17" },
            "timestamp": "1970-01-01T00:00:01Z",
        })
    };
    let mut rating = score("BOOLEAN", "feedback.rating", "user", json!(0));
    rating["comment"] = json!("slow");
    let mut note = score("TEXT", "feedback.step1.note", "user", json!("x".repeat(500)));
    note["comment"] = json!(long);
    assert_eq!(
        scores(&call),
        [
            score("CORRECTION", "feedback.ground_truth", "user", json!("Albany")),
            rating,
            score("CATEGORICAL", "feedback.reason", "user", json!("length")),
            score("NUMERIC", "feedback.stars", "user", json!(4)),
            note,
            score("NUMERIC", "metrics.relevance", "code", json!(0.5)),
        ]
    );
    let ids = call.request.body.unwrap();
    assert_eq!(ids[1]["id"], names::hex_id(&target.target, "feedback.rating"));
}

#[test]
fn traces_and_sessions_are_named_by_their_ids_and_a_session_has_no_correction() {
    let mut of_trace = target(&[("feedback.rating", Leaf::Int(1))]);
    of_trace.target = Target::Trace(opentelemetry::trace::TraceId::from(0xc));
    let mut of_session = target(&[("feedback.ground_truth", text("a b"))]);
    of_session.target = Target::Session("s 1".to_owned());
    let (one, two) = (items_of(&of_trace), items_of(&of_session));
    let changes = [change(&of_trace, &one[0]), change(&of_session, &two[0])];
    let call = planned(&langfuse(), &changes, &[0, 1]).remove(0);
    let scores = scores(&call);
    assert_eq!(scores[0]["traceId"], "0000000000000000000000000000000c");
    assert_eq!((&scores[0]["observationId"], &scores[0]["sessionId"]), (&Json::Null, &Json::Null));
    assert_eq!(scores[1]["sessionId"], "s 1");
    assert_eq!((&scores[1]["traceId"], &scores[1]["dataType"]), (&Json::Null, &json!("TEXT")));
}

#[test]
fn a_change_has_the_id_and_the_time_of_the_first_vote_and_a_deletion_the_id() {
    let target = target(&[("feedback.rating", Leaf::Bool(false))]);
    let mut item = items_of(&target).remove(0);
    let first = planned(&langfuse(), &[change(&target, &item)], &[0]).remove(0);
    assert_eq!(first.memos, ["1000"]);
    item.given = 9_000_000_000;
    item.value = Leaf::Bool(true);
    let mut changed = change(&target, &item);
    (changed.known, changed.memo) = (Known::Present, Some("1000"));
    let second = planned(&langfuse(), &[changed.clone()], &[0]).remove(0);
    assert_eq!(second.memos, ["1000"]);
    let body = |call: &Call| call.request.body.as_ref().unwrap()[0].clone();
    assert_eq!(body(&second)["timestamp"], body(&first)["timestamp"]);
    assert_eq!(body(&second)["id"], body(&first)["id"]);
    assert_eq!(body(&second)["value"], 1);

    changed.wanted = None;
    let deletion = planned(&langfuse(), &[changed], &[0]).remove(0);
    let path = format!("{SCORES}/{}", body(&first)["id"].as_str().unwrap());
    assert_eq!((deletion.request.method, deletion.request.path), (Method::DELETE, path));
}

#[test]
fn an_answer_means_what_langfuse_says_of_it() {
    let target =
        target(&[("feedback.rating", Leaf::Bool(false)), ("feedback.stars", Leaf::Int(1))]);
    let items = items_of(&target);
    let mut changes: Vec<_> = items.iter().map(|item| change(&target, item)).collect();
    let list = planned(&langfuse(), &changes, &[0, 1]).remove(0);
    let of_list = |status, body: &str| langfuse().outcome(&changes, &list, &reply(status, body));
    assert_eq!(of_list(202, r#"{"message":"Accepted"}"#), Outcome::Done);
    let rejected = r#"{"accepted":1,"rejected":1,"errors":[{"message":"no"}]}"#;
    assert_eq!(of_list(207, rejected), Outcome::Refused(r#"207 [{"message":"no"}]"#.to_owned()));
    for (status, body) in [(202, "<html>"), (207, "x"), (401, "{}"), (404, "{}"), (500, "{}")] {
        assert!(matches!(of_list(status, body), Outcome::Down { .. }), "{status} {body}");
    }

    // A server that takes one object.
    let Outcome::Next(each) = of_list(400, r#"{"message":"expected object"}"#) else { panic!() };
    assert_eq!(each.len(), 2);
    assert_eq!(each[1].request.body.as_ref().unwrap()["name"], "stars");
    assert_eq!((each[1].changes.as_slice(), each[1].step), ([1].as_slice(), ONE));
    let of_one = |status, body: &str| langfuse().outcome(&changes, &each[0], &reply(status, body));
    assert_eq!(of_one(200, r#"{"id":"a"}"#), Outcome::Done);
    assert!(matches!(of_one(400, r#"{"message":"no"}"#), Outcome::Refused(_)));

    changes[0].wanted = None;
    let deletion = planned(&langfuse(), &changes, &[0]).remove(0);
    let gone = |status, body: &str| langfuse().outcome(&changes, &deletion, &reply(status, body));
    assert_eq!(gone(202, r#"{"message":"accepted"}"#), Outcome::Done);
    assert_eq!(gone(404, r#"{"message":"Score not found"}"#), Outcome::Done);
    for status in [200, 404] {
        assert!(matches!(gone(status, "<html>"), Outcome::Down { .. }));
    }
}

#[test]
fn a_key_that_is_missing_is_named() {
    let setup = BackendSetup::of(&[], &[("LANGFUSE_PUBLIC_KEY", "pk")]);
    assert_eq!(Langfuse::new(&setup).err().unwrap(), "set LANGFUSE_SECRET_KEY");
}
