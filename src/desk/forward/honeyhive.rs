//! HoneyHive: the feedback and metrics of events.
//!
//! `PUT /v1/events/{event_id}` merges members into `feedback`, `metrics` and `metadata` of an event. There is no way to
//! delete one, so a deletion sets it to null. An event of a span has an id of HoneyHive's own, which is searched by the
//! ids in its metadata, and is the memo. A session is the event with its id, always a UUID; where the session here has
//! another id, HoneyHive has made one up, and the event of a span of the session knows it. Feedback about a trace stands
//! on its root span, under names that begin with `trace.`. Names are paths with dots, not nested, since a merge may end at the first level.
//! Sources: `honeyhive/_generated` of the SDK 1.7.0, <https://docs.honeyhive.ai/v2/sdk-reference>.

use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Map, Value as Json, json};

use super::backend::{
    Backend, BackendKind, Call, Change, ChangeOutcome, Known, Outcome, Planned, Reply, Request,
    by_target,
};
use super::names::{self, is_uuid};
use super::setup::{BackendSetup, encoded};
use crate::collector::Target;
use crate::desk::store::json::datum_json;
use crate::desk::store::leaf::Leaf;

pub(super) const KIND: BackendKind = BackendKind {
    name: "honeyhive",
    variables: &["HH_API_KEY"],
    parameters: &[],
    version: 1,
    make: |setup| Ok(Box::new(HoneyHive::new(setup)?)),
};

/// The calls about an event, as [`Call::step`].
const SEARCH: u8 = 0;
/// With an id that was known before.
const PUT: u8 = 1;
/// With the id that the search has found, or that of a session.
const PUT_FOUND: u8 = 2;

/// In a memo behind the id: the comment of the event explains this leaf.
const EXPLAINED: &str = " explained";

struct HoneyHive {
    key: String,
}

impl HoneyHive {
    fn new(setup: &BackendSetup) -> Result<Self, String> {
        Ok(Self { key: setup.secret("HH_API_KEY").ok_or("set HH_API_KEY")?.to_owned() })
    }
}

impl Backend for HoneyHive {
    fn headers(&self) -> Vec<(HeaderName, String)> {
        vec![(header::AUTHORIZATION, format!("Bearer {}", self.key))]
    }

    fn plan(&self, changes: &[Change<'_>], which: &[usize]) -> Vec<Planned> {
        // In one call, as a comment that one leaf loses may be that of another one.
        by_target(changes, which).into_iter().flat_map(|which| plan_one(changes, which)).collect()
    }

    fn outcome(&self, changes: &[Change<'_>], call: &Call, reply: &Reply) -> Outcome {
        let target = &changes[call.changes[0]].target.target;
        let is_answer =
            serde_json::from_slice::<Json>(&reply.body).is_ok_and(|json| json.is_object());
        match (call.step, reply.status) {
            (PUT | PUT_FOUND, StatusCode::OK) if is_answer || reply.body.is_empty() => {
                Outcome::Done
            }
            (SEARCH, StatusCode::OK) => {
                let json = reply.json();
                let Some(events) = json.as_ref().and_then(|json| json["events"].as_array()) else {
                    return reply.problem();
                };
                let member =
                    if matches!(target, Target::Session(_)) { "session_id" } else { "event_id" };
                let id =
                    events.first().map(|event| event[member].as_str().filter(|id| !id.is_empty()));
                match id {
                    Some(Some(id)) => {
                        Outcome::Next(vec![put(changes, &call.changes, id, PUT_FOUND)])
                    }
                    Some(None) => reply.problem(),
                    None => gone(changes, call),
                }
            }
            // The event was deleted, and may have come again with another id.
            (PUT, StatusCode::NOT_FOUND) if is_answer => {
                match search(changes, call.changes.clone()) {
                    Some(search) => Outcome::Next(vec![search]),
                    None => gone(changes, call),
                }
            }
            (PUT_FOUND, StatusCode::NOT_FOUND) if is_answer => gone(changes, call),
            _ => reply.problem(),
        }
    }

    fn probe(&self) -> Request {
        Request::new(Method::POST, "/v1/events/search").with_json(json!({ "limit": 1 }))
    }
}

/// The first call about the event of one target.
fn plan_one(changes: &[Change<'_>], which: Vec<usize>) -> Vec<Planned> {
    let change = &changes[which[0]];
    let known = which.iter().find_map(|at| changes[*at].memo).map(id_of);
    let call = match (&change.target.target, known) {
        (Target::Session(id), _) if is_uuid(id) => Some(put(changes, &which, id, PUT_FOUND)),
        (_, Some(id)) => Some(put(changes, &which, id, PUT)),
        _ => search(changes, which.clone()),
    };
    match call {
        Some(call) => vec![call.into()],
        None => {
            let reason = "the root span of its trace has not been received";
            let outcome = |at| Planned::Outcome(at, ChangeOutcome::Missing(reason.to_owned()));
            which.into_iter().map(outcome).collect()
        }
    }
}

/// The id of an event in a memo.
fn id_of(memo: &str) -> &str {
    memo.strip_suffix(EXPLAINED).unwrap_or(memo)
}

/// The call that looks for the event of a target. `None` if its root span is not known.
fn search(changes: &[Change<'_>], which: Vec<usize>) -> Option<Call> {
    let target = &changes[which[0]].target;
    let is = |field: &str, value: String| json!({ "field": field, "operator": "is", "value": value, "type": "string" });
    let latest = target.latest_trace.map(opentelemetry::trace::TraceId::from_bytes);
    let (trace, span) = match &target.target {
        Target::Span(trace, span) => (*trace, *span),
        Target::Trace(trace) => (*trace, target.root?),
        Target::Session(_) => (latest?, target.root?),
    };
    let filters =
        [is("metadata.trace_id", trace.to_string()), is("metadata.span_id", span.to_string())];
    let request = Request::new(Method::POST, "/v1/events/search");
    let request = request.with_json(json!({ "filters": filters, "limit": 1 }));
    Some(Call { step: SEARCH, ..Call::new(request, which) })
}

/// The call that changes an event.
fn put(changes: &[Change<'_>], which: &[usize], id: &str, step: u8) -> Call {
    let mut body: Map<String, Json> = Map::new();
    let mut set = |bucket: &str, name: &str, value: Json| {
        let bucket = body.entry(bucket).or_insert_with(|| json!({}));
        bucket[name] = value;
    };
    // What is cleared first may be set by another leaf.
    for at in which {
        let change = &changes[*at];
        let (bucket, name, comment) = place(change);
        if change.wanted.is_none() {
            set(bucket, &name, Json::Null);
        }
        if change.memo.is_some_and(|memo| memo.ends_with(EXPLAINED)) {
            set(bucket, &comment, Json::Null);
        }
    }
    let mut memos = Vec::new();
    for at in which {
        let change = &changes[*at];
        let (bucket, name, comment) = place(change);
        let author = format!("{bucket}.{name}.by");
        let by = change.wanted.and_then(|item| item.by.as_ref());
        if by.is_some() || change.known != Known::Absent {
            set("metadata", &author, json!(by));
        }
        let explanation = change.wanted.and_then(|item| item.explanation.as_ref());
        memos.push(format!("{id}{}", if explanation.is_some() { EXPLAINED } else { "" }));
        if let Some(explanation) = explanation {
            set(bucket, &comment, json!(explanation));
        }
        let Some(item) = change.wanted else { continue };
        let value = match &item.value {
            Leaf::Other(text) => json!(text),
            value => datum_json(value.datum()),
        };
        set(bucket, &name, value);
    }
    let path = format!("/v1/events/{}", encoded(id));
    let request = Request::new(Method::PUT, path).with_json(body.into());
    Call { step, memos, ..Call::new(request, which.to_vec()) }
}

/// The member of an event that a leaf is, its name there, and that of the comment that explains it.
fn place(change: &Change<'_>) -> (&'static str, String, String) {
    // The root span has feedback of its own.
    let prefix = if matches!(change.target.target, Target::Trace(_)) { "trace." } else { "" };
    let name = names::name(KIND.name, change.field);
    let (bucket, name) = match name.strip_prefix("metrics.") {
        Some(name) if change.field.starts_with("metrics.") => ("metrics", name),
        _ => ("feedback", name.as_str()),
    };
    (bucket, format!("{prefix}{name}"), format!("{prefix}comment"))
}

/// What is not there has no feedback to delete, and will get what it lacks.
fn gone(changes: &[Change<'_>], call: &Call) -> Outcome {
    let outcome = |at: &usize| match changes[*at].wanted {
        Some(_) => ChangeOutcome::Missing("HoneyHive has no such event yet".to_owned()),
        None => ChangeOutcome::Done,
    };
    Outcome::Each(call.changes.iter().map(outcome).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::forward::backend::tests::{planned, reply};
    use crate::desk::forward::wanted::tests::{change, items_of, target, text};

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
        let Outcome::Next(next) = honeyhive().outcome(&changes, &search, &found()) else {
            panic!()
        };
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
        let Outcome::Next(next) = honeyhive().outcome(&changes, &search, &found()) else {
            panic!()
        };
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
        let Outcome::Next(next) = honeyhive().outcome(&changes, &search, &found()) else {
            panic!()
        };
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
        let outcome =
            |status, body: &str| honeyhive().outcome(&changes, &put, &reply(status, body));
        assert_eq!(outcome(200, "{}"), Outcome::Done);
        assert!(matches!(outcome(200, "<html>"), Outcome::Down { .. }));
        assert!(
            matches!(outcome(404, r#"{"message":"no"}"#), Outcome::Next(next) if next[0].step == SEARCH)
        );
        assert!(matches!(outcome(404, "<html>"), Outcome::Down { .. }));
        assert!(matches!(outcome(400, "{}"), Outcome::Refused(_)));
    }
}
