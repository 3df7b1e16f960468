//! LangSmith: feedback of runs.
//!
//! `POST /feedback` creates one, under an id of our own. `PATCH /feedback/{id}` changes score, value, comment and
//! correction, not its source; null clears one of them. `DELETE /feedback/{id}` deletes it. The run of a span has
//! the id of the span, padded with zeros to the left; one that has not come is 404. Feedback about a trace stands
//! on its root run, that about a session on the root run of the trace that was its latest then. `session_id` is the
//! project there, not a conversation.
//! Sources: `langsmith/client.py`, `langsmith/schemas.py` of the SDK 0.15.1.

use http::{HeaderName, Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::backend::{
    Backend, BackendKind, Call, Change, ChangeOutcome, Known, Outcome, Planned, Reply, Request,
};
use super::names::{self, is_uuid, uuid};
use super::setup::BackendSetup;
use super::wanted::{Item, Source};
use crate::collector::Target;
use crate::desk::store::leaf::Leaf;

pub(super) const KIND: BackendKind = BackendKind {
    name: "langsmith",
    variables: &["LANGSMITH_API_KEY"],
    parameters: &["project"],
    version: 1,
    make: |setup| Ok(Box::new(LangSmith::new(setup)?)),
};

/// The calls about one feedback, as [`Call::step`].
const CREATE: u8 = 0;
const PATCH: u8 = 1;
/// Before it is created anew.
const REPLACE: u8 = 2;
const DELETE: u8 = 3;
/// After [`REPLACE`].
const CREATE_AGAIN: u8 = 4;

struct LangSmith {
    key: String,
    /// The id of the project.
    project: Option<String>,
}

impl LangSmith {
    fn new(setup: &BackendSetup) -> Result<Self, String> {
        let key = setup.secret("LANGSMITH_API_KEY").ok_or("set LANGSMITH_API_KEY")?.to_owned();
        let project = setup.parameter("project").map(str::to_owned);
        if project.as_ref().is_some_and(|project| !is_uuid(project)) {
            return Err("`project` is the id of a project, a UUID".to_owned());
        }
        Ok(Self { key, project })
    }

    fn create(&self, change: &Change<'_>, item: &Item, at: usize) -> Call {
        let mut metadata = json!({ "field": item.field, "source": item.source.name() });
        if let Some(by) = &item.by {
            metadata["submitter"] = json!(by);
        }
        let time = Timestamp::from_millisecond(item.given_ms()).unwrap_or_default().to_string();
        let mut feedback = json!({
            "id": feedback_id(change),
            "run_id": run_of(change),
            "key": names::name(KIND.name, change.field),
            "feedback_source": { "type": source_type(item), "metadata": metadata },
            "created_at": time,
            "modified_at": time,
        });
        if let Some(trace) = trace_of(change) {
            feedback["trace_id"] = json!(trace);
        }
        if let Some(project) = &self.project {
            feedback["session_id"] = json!(project);
        }
        for (name, value) in content(change, item) {
            if !value.is_null() {
                feedback[name] = value;
            }
        }
        let request = Request::new(Method::POST, "/feedback").with_json(feedback);
        Call { step: CREATE, memo: memo_of(change, item), ..Call::new(request, vec![at]) }
    }

    /// The first call about a feedback.
    fn plan_one(&self, change: &Change<'_>, at: usize) -> Planned {
        if run_of(change).is_none() && change.wanted.is_some() {
            let reason = "the root span of its trace has not been received".to_owned();
            return Planned::Outcome(at, ChangeOutcome::Missing(reason));
        }
        let call = match (change.wanted, change.known) {
            (None, _) => delete(change, at, DELETE),
            (Some(item), Known::Absent) => self.create(change, item, at),
            (Some(item), Known::Present) if change.memo == memo_of(change, item).as_deref() => {
                patch(change, item, at)
            }
            // The memo is that of the last attempt, which may not have arrived.
            (Some(_), _) => delete(change, at, REPLACE),
        };
        Planned::Call(call)
    }
}

impl Backend for LangSmith {
    fn headers(&self) -> Vec<(HeaderName, String)> {
        vec![(HeaderName::from_static("x-api-key"), self.key.clone())]
    }

    fn plan(&self, changes: &[Change<'_>], which: &[usize]) -> Vec<Planned> {
        which.iter().map(|at| self.plan_one(&changes[*at], *at)).collect()
    }

    fn outcome(&self, changes: &[Change<'_>], call: &Call, reply: &Reply) -> Outcome {
        let at = call.changes[0];
        let change = &changes[at];
        let is_done = reply.json().is_some();
        // An error of LangSmith, not of something before it.
        let is_answer = serde_json::from_slice::<Json>(&reply.body)
            .is_ok_and(|json| json["detail"].is_string());
        let is_unknown = reply.status == StatusCode::NOT_FOUND && is_answer;
        let is_repeated = reply.status == StatusCode::CONFLICT && is_answer;
        match (call.step, change.wanted) {
            (DELETE, _) if is_done || is_unknown => Outcome::Done,
            (REPLACE, Some(item)) if is_done || is_unknown => {
                Outcome::Next(vec![Call { step: CREATE_AGAIN, ..self.create(change, item, at) }])
            }
            (CREATE | CREATE_AGAIN | PATCH, _) if is_done => Outcome::Done,
            (PATCH, Some(item)) if is_unknown => Outcome::Next(vec![self.create(change, item, at)]),
            (CREATE | CREATE_AGAIN, _) if is_unknown => {
                Outcome::missing(call, "LangSmith has no such run yet")
            }
            // The state was lost: it is there already.
            (CREATE, Some(_)) if is_repeated => Outcome::Next(vec![delete(change, at, REPLACE)]),
            _ => reply.problem(),
        }
    }

    fn probe(&self) -> Request {
        Request::new(Method::GET, "/feedback?limit=1")
    }
}

/// The run that the feedback stands on: where it was put first, else that of the target.
fn run_of(change: &Change<'_>) -> Option<String> {
    let before = change.memo.and_then(|memo| memo.split_once(' ')).map(|(run, _)| run.to_owned());
    let span = match &change.target.target {
        Target::Span(_, span) => Some(*span),
        Target::Trace(_) | Target::Session(_) => change.target.root,
    };
    before.or_else(|| {
        span.map(|span| {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&span.to_bytes());
            uuid(&id)
        })
    })
}

/// The trace of the run. A session has several.
fn trace_of(change: &Change<'_>) -> Option<String> {
    match &change.target.target {
        Target::Span(trace, _) | Target::Trace(trace) => Some(uuid(&trace.to_bytes())),
        Target::Session(_) => None,
    }
}

/// The run and the source of a feedback, neither of which can be changed: `RUN api/user/u-17`.
fn memo_of(change: &Change<'_>, item: &Item) -> Option<String> {
    let by = item.by.as_deref().unwrap_or_default();
    Some(format!("{} {}/{}/{by}", run_of(change)?, source_type(item), item.source.name()))
}

fn source_type(item: &Item) -> &'static str {
    if item.source == Source::Model { "model" } else { "api" }
}

fn feedback_id(change: &Change<'_>) -> String {
    // Of the form of a UUID that is made of a name.
    let mut id = names::record_id(&change.target.target, change.field);
    id[6] = id[6] & 0x0f | 0x50;
    id[8] = id[8] & 0x3f | 0x80;
    uuid(&id)
}

/// What a patch may change; null where there is nothing.
fn content(change: &Change<'_>, item: &Item) -> [(&'static str, Json); 4] {
    let text = match &item.value {
        Leaf::Text(_) | Leaf::Other(_) => Some(item.text()),
        _ => None,
    };
    let score = match &item.value {
        Leaf::Bool(value) => json!(u8::from(*value)),
        Leaf::Int(value) => json!(value),
        // LangSmith refuses more decimals.
        Leaf::Double(value) => json!(format!("{value:.4}").parse::<f64>().unwrap_or(*value)),
        Leaf::Text(_) | Leaf::Other(_) => Json::Null,
    };
    let path = names::path(change.field);
    let is_comment = path.rsplit('.').next() == Some("comment");
    let comment = item.explanation.as_ref().or(text.as_ref().filter(|_| is_comment));
    let value = text.as_ref().filter(|_| !is_comment && !item.is_ground_truth);
    let correction = text.as_ref().filter(|_| item.is_ground_truth);
    [
        ("score", score),
        ("value", json!(value)),
        ("comment", json!(comment)),
        ("correction", correction.map_or(Json::Null, |text| json!({ path: text }))),
    ]
}

fn path_of_one(change: &Change<'_>) -> String {
    format!("/feedback/{}", feedback_id(change))
}

fn patch(change: &Change<'_>, item: &Item, at: usize) -> Call {
    let body: serde_json::Map<String, Json> =
        content(change, item).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let request = Request::new(Method::PATCH, path_of_one(change)).with_json(body.into());
    Call { step: PATCH, memo: memo_of(change, item), ..Call::new(request, vec![at]) }
}

fn delete(change: &Change<'_>, at: usize, step: u8) -> Call {
    let request = Request::new(Method::DELETE, path_of_one(change));
    let memo = change.wanted.and_then(|item| memo_of(change, item));
    Call { step, memo, ..Call::new(request, vec![at]) }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceId};

    use super::*;
    use crate::desk::forward::backend::tests::{change, planned, reply};
    use crate::desk::forward::wanted::tests::{items_of, target, text};

    const RUN: &str = "00000000-0000-0000-0000-00000000000b";
    const PROJECT: &str = "5b7d6f1e-0c3a-4a53-9f3e-2a1c7c0d9e11";

    fn langsmith() -> LangSmith {
        let keys = [("LANGSMITH_API_KEY", "k")];
        LangSmith::new(&BackendSetup::of(&[("project", PROJECT)], &keys)).unwrap()
    }

    #[test]
    fn every_type_of_leaf_has_its_body() {
        let target = target(&[
            ("feedback.comment", text("slow")),
            ("feedback.ground_truth", text("Albany")),
            ("feedback.rating", Leaf::Bool(false)),
            ("feedback.reason", text("length")),
            ("feedback.stars", Leaf::Int(4)),
            ("metrics.relevance", Leaf::Double(0.123_456)),
        ]);
        let items = items_of(&target);
        let changes: Vec<_> = items.iter().map(|item| change(&target, item)).collect();
        let calls = planned(&langsmith(), &changes, &[0, 1, 2, 3, 4]);
        assert_eq!(langsmith().headers(), [(HeaderName::from_static("x-api-key"), "k".to_owned())]);
        let expect = |at: usize, source: &str, content: Json| {
            let call = &calls[at];
            assert_eq!(
                (&call.request.method, call.request.path.as_str()),
                (&Method::POST, "/feedback")
            );
            let field = changes[at].field;
            let mut body = json!({
                "id": feedback_id(&changes[at]), "run_id": RUN, "session_id": PROJECT,
                "trace_id": "00000000-0000-0000-0000-00000000000a",
                "key": field.strip_prefix("feedback.").unwrap_or(field),
                "feedback_source": {
                    "type": "api",
                    "metadata": { "field": field, "source": source, "submitter": "u-17" },
                },
                "created_at": "1970-01-01T00:00:01Z", "modified_at": "1970-01-01T00:00:01Z",
            });
            body.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
            assert_eq!(call.request.body.as_ref().unwrap(), &body);
        };
        expect(0, "user", json!({ "correction": { "ground_truth": "Albany" } }));
        expect(1, "user", json!({ "score": 0, "comment": "slow" }));
        expect(2, "user", json!({ "value": "length" }));
        expect(3, "user", json!({ "score": 4 }));
        expect(4, "code", json!({ "score": 0.1235 }));
    }

    #[test]
    fn a_change_clears_what_it_does_not_have_and_another_author_is_another_feedback() {
        let target = target(&[("feedback.rating", Leaf::Bool(true))]);
        let items = items_of(&target);
        let mut changed = change(&target, &items[0]);
        let memo = memo_of(&changed, &items[0]).unwrap();
        assert_eq!(memo, format!("{RUN} api/user/u-17"));
        (changed.known, changed.memo) = (Known::Present, Some(memo.as_str()));
        let call = planned(&langsmith(), &[changed.clone()], &[0]).remove(0);
        assert_eq!(
            (call.request.method, call.request.path, call.request.body),
            (
                Method::PATCH,
                format!("/feedback/{}", feedback_id(&changed)),
                Some(json!({ "score": 1, "value": null, "comment": null, "correction": null }))
            )
        );

        changed.known = Known::Unknown;
        let call = planned(&langsmith(), &[changed.clone()], &[0]).remove(0);
        assert_eq!((&call.request.method, call.step), (&Method::DELETE, REPLACE));

        changed.known = Known::Present;
        let other = format!("{RUN} api/user/u-18");
        changed.memo = Some(&other);
        let changes = [changed];
        let call = planned(&langsmith(), &changes, &[0]).remove(0);
        assert_eq!((&call.request.method, call.step), (&Method::DELETE, REPLACE));
        for (status, body) in [(200, "{}"), (404, r#"{"detail":"Feedback not found"}"#)] {
            let Outcome::Next(next) = langsmith().outcome(&changes, &call, &reply(status, body))
            else {
                panic!()
            };
            assert_eq!((&next[0].request.method, next[0].step), (&Method::POST, CREATE_AGAIN));
        }
    }

    #[test]
    fn traces_and_sessions_are_on_their_root_run_and_stay_where_they_were_put() {
        let mut target = target(&[("feedback.rating", Leaf::Bool(true))]);
        let items = items_of(&target);
        for of in [Target::Trace(TraceId::from(0xc)), Target::Session("s".to_owned())] {
            target.target = of;
            target.root = None;
            let plan = langsmith().plan(&[change(&target, &items[0])], &[0]);
            assert!(matches!(plan[0], Planned::Outcome(0, ChangeOutcome::Missing(_))), "{plan:?}");
            target.root = Some(SpanId::from(0xb));
            let mut changed = change(&target, &items[0]);
            let call = planned(&langsmith(), &[changed.clone()], &[0]).remove(0);
            assert_eq!(call.request.body.as_ref().unwrap()["run_id"], RUN);
            let other = call.memo.unwrap().replace('b', "d");
            (changed.known, changed.memo) = (Known::Present, Some(other.as_str()));
            assert_eq!(planned(&langsmith(), &[changed], &[0])[0].request.method, Method::PATCH);
        }
    }

    #[test]
    fn an_answer_means_what_langsmith_says_of_it() {
        let target = target(&[("feedback.rating", Leaf::Bool(true))]);
        let items = items_of(&target);
        let changes = [change(&target, &items[0])];
        let call = planned(&langsmith(), &changes, &[0]).remove(0);
        let outcome =
            |status, body: &str| langsmith().outcome(&changes, &call, &reply(status, body));
        assert_eq!(outcome(200, r#"{"id":"a"}"#), Outcome::Done);
        let missing = Outcome::missing(&call, "LangSmith has no such run yet");
        assert_eq!(outcome(404, r#"{"detail":"Run not found"}"#), missing);
        let Outcome::Next(next) = outcome(409, r#"{"detail":"exists"}"#) else { panic!() };
        assert_eq!(next[0].step, REPLACE);
        assert!(matches!(outcome(422, r#"{"detail":"no"}"#), Outcome::Refused(_)));
        for (status, body) in [(200, "<html>"), (404, "<html>"), (401, "{}"), (500, "{}")] {
            assert!(matches!(outcome(status, body), Outcome::Down { .. }), "{status} {body}");
        }
        // It was deleted there.
        let call = patch(&changes[0], &items[0], 0);
        let unknown = reply(404, r#"{"detail":"Feedback not found"}"#);
        let Outcome::Next(next) = langsmith().outcome(&changes, &call, &unknown) else { panic!() };
        assert_eq!(next[0].request.method, Method::POST);
    }

    #[test]
    fn a_setting_that_is_missing_or_wrong_is_named() {
        let error = |parameters: &[(&str, &str)], keys: &[(&'static str, &str)]| {
            LangSmith::new(&BackendSetup::of(parameters, keys)).err().unwrap()
        };
        assert_eq!(error(&[], &[]), "set LANGSMITH_API_KEY");
        let keys = [("LANGSMITH_API_KEY", "k")];
        assert!(error(&[("project", "chat")], &keys).contains("UUID"));
    }
}
