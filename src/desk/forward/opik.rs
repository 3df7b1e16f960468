//! Opik: feedback scores of spans, traces and threads.
//!
//! `PUT /v1/private/{spans,traces,traces/threads}/feedback-scores` replaces the score with the same name of the same
//! target by the owner of the key; `POST …/feedback-scores/delete` deletes it. A thread is named by its id, but spans and
//! traces have ids of Opik's own: UUIDs of version 7, whose last 80 bits are the beginning of the SHA-256 of the
//! OpenTelemetry id, and whose time is that of the span of the trace that Opik saw first. So a span is searched by
//! the end of its id, and the id that was found is the memo. A score is a number: a text is the category of a 1.
//! Sources: `OpenTelemetryMapper.java` and `SpanField.java` of the backend, `opik/rest_api` of the SDK 2.2.122.

use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::backend::{
    Backend, BackendKind, Call, Change, ChangeOutcome, Outcome, Planned, Reply, Request,
    TargetKind, by_target,
};
use super::names::{self, is_uuid, uuid};
use super::setup::BackendSetup;
use super::wanted::Item;
use crate::collector::Target;
use crate::desk::store::json::datum_json;
use crate::desk::store::leaf::Leaf;

pub(super) const KIND: BackendKind = BackendKind {
    name: "opik",
    variables: &["OPIK_API_KEY"],
    parameters: &["project", "workspace"],
    version: 1,
    make: |setup| Ok(Box::new(Opik::new(setup))),
};

/// Scores of one request. Opik takes 1,000.
const MOST: usize = 500;
/// About how large a request gets, in bytes.
const ENOUGH_BYTES: usize = 1 << 20;
/// Opik stores 9 digits before the point, and 9 behind it.
const TOO_LARGE: f64 = 1e9;

/// The calls about scores, as [`Call::step`].
const PUT: u8 = 0;
const DELETE: u8 = 1;
const SEARCH: u8 = 2;

struct Opik {
    /// Opik in one's own hands has none.
    key: Option<String>,
    workspace: String,
    project: String,
}

/// The path of what a score is of. A session is a thread there.
fn path_of(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Span => "/v1/private/spans",
        TargetKind::Trace => "/v1/private/traces",
        TargetKind::Session => "/v1/private/traces/threads",
    }
}

impl Opik {
    fn new(setup: &BackendSetup) -> Self {
        let parameter = |name, default: &str| setup.parameter(name).unwrap_or(default).to_owned();
        Self {
            key: setup.secret("OPIK_API_KEY").map(str::to_owned),
            workspace: parameter("workspace", "default"),
            project: parameter("project", "Default Project"),
        }
    }

    /// The call that looks for the id of a span or trace, for these changes of it.
    fn search(&self, change: &Change<'_>, which: Vec<usize>) -> Option<Call> {
        let end = id_end(&change.target.target)?;
        let body = json!({
            "project_name": self.project,
            "filters": [{ "field": "id", "operator": "ends_with", "value": end }],
            "limit": 1,
        });
        let path = format!("{}/search", path_of(TargetKind::of(&change.target.target)));
        let request = Request::new(Method::POST, path).with_json(body);
        Some(Call { step: SEARCH, ..Call::new(request, which) })
    }

    /// The calls for changes whose ids are known: those that set scores, and those that delete them.
    fn calls(&self, changes: &[Change<'_>], which: &[(usize, String)]) -> Vec<Planned> {
        let mut plan = Vec::new();
        for kind in TargetKind::ALL {
            let mut open = Scores::default();
            for (at, id) in which {
                let change = &changes[*at];
                if TargetKind::of(&change.target.target) != kind {
                    continue;
                }
                let Some(item) = change.wanted else {
                    plan.push(self.delete(change, *at, id, kind).into());
                    continue;
                };
                if item.score().is_some_and(|score| score.abs() >= TOO_LARGE) {
                    let reason = "Opik takes numbers below 1,000,000,000".to_owned();
                    plan.push(Planned::Outcome(*at, ChangeOutcome::Refused(reason)));
                    continue;
                }
                open.add(self.score(change, item, id, kind), *at, id);
                if open.scores.len() >= MOST || open.bytes >= ENOUGH_BYTES {
                    plan.extend(std::mem::take(&mut open).call(kind));
                }
            }
            plan.extend(open.call(kind));
        }
        plan
    }

    fn score(&self, change: &Change<'_>, item: &Item, id: &str, kind: TargetKind) -> Json {
        let text = item.text();
        let (value, category, reason) = match &item.value {
            Leaf::Bool(value) => (json!(u8::from(*value)), Some(text), None),
            value @ (Leaf::Int(_) | Leaf::Double(_)) => (datum_json(value.datum()), None, None),
            _ if item.is_category() => (json!(1), Some(text), None),
            _ => (json!(1), None, Some(text)),
        };
        let mut score = json!({
            "project_name": self.project,
            "name": names::name(KIND.name, change.field),
            "value": value,
            "source": "sdk",
        });
        score[if kind == TargetKind::Session { "thread_id" } else { "id" }] = json!(id);
        if let Some(category) = category {
            score["category_name"] = json!(category);
        }
        if let Some(reason) = item.explanation.clone().or(reason) {
            score["reason"] = json!(reason);
        }
        score
    }

    fn delete(&self, change: &Change<'_>, at: usize, id: &str, kind: TargetKind) -> Call {
        let name = names::name(KIND.name, change.field);
        let (path, body) = match kind {
            TargetKind::Session => {
                let body =
                    json!({ "project_name": self.project, "thread_id": id, "names": [name] });
                (format!("{}/feedback-scores/delete", path_of(kind)), body)
            }
            TargetKind::Span | TargetKind::Trace => {
                (format!("{}/{id}/feedback-scores/delete", path_of(kind)), json!({ "name": name }))
            }
        };
        let request = Request::new(Method::POST, path).with_json(body);
        Call { step: DELETE, memo: Some(id.to_owned()), ..Call::new(request, vec![at]) }
    }
}

impl Backend for Opik {
    fn headers(&self) -> Vec<(HeaderName, String)> {
        // The bare key, without `Bearer`.
        let key = self.key.iter().map(|key| (header::AUTHORIZATION, key.clone()));
        let workspace = (HeaderName::from_static("comet-workspace"), self.workspace.clone());
        key.chain([workspace]).collect()
    }

    fn plan(&self, changes: &[Change<'_>], which: &[usize]) -> Vec<Planned> {
        let mut known = Vec::new();
        let mut searched = Vec::new();
        for &at in which {
            let change = &changes[at];
            match (&change.target.target, change.memo) {
                (Target::Session(id), _) => known.push((at, id.clone())),
                (_, Some(id)) => known.push((at, id.to_owned())),
                (..) => searched.push(at),
            }
        }
        let mut plan = self.calls(changes, &known);
        let search = |which: Vec<usize>| self.search(&changes[which[0]], which);
        let searched = by_target(changes, &searched);
        plan.extend(searched.into_iter().filter_map(search).map(Planned::Call));
        plan
    }

    fn outcome(&self, changes: &[Change<'_>], call: &Call, reply: &Reply) -> Outcome {
        let target = &changes[call.changes[0]].target.target;
        match (call.step, reply.status) {
            (PUT | DELETE, StatusCode::NO_CONTENT) => Outcome::Done,
            (SEARCH, StatusCode::OK) => match found(target, reply) {
                Ok(Some(id)) => {
                    let which: Vec<_> = call.changes.iter().map(|at| (*at, id.clone())).collect();
                    let plan = self.calls(changes, &which);
                    let mut outcomes = vec![ChangeOutcome::Unsent; call.changes.len()];
                    let mut calls = Vec::new();
                    for planned in plan {
                        match planned {
                            Planned::Call(call) => calls.push(call),
                            Planned::Outcome(at, outcome) => {
                                let at = call.changes.iter().position(|it| *it == at);
                                at.into_iter().for_each(|at| outcomes[at] = outcome.clone());
                            }
                        }
                    }
                    // Either all are to be sent, or those that can't be are set aside first.
                    match calls.iter().map(|call| call.changes.len()).sum::<usize>() {
                        sent if sent == call.changes.len() => Outcome::Next(calls),
                        _ => Outcome::Each(outcomes),
                    }
                }
                // What is not there has no scores.
                Ok(None) => {
                    let outcome = |at: &usize| match changes[*at].wanted {
                        Some(_) => ChangeOutcome::Missing(missing(target)),
                        None => ChangeOutcome::Done,
                    };
                    Outcome::Each(call.changes.iter().map(outcome).collect())
                }
                Err(()) => reply.problem(),
            },
            // The thread is not known yet, or takes no scores yet.
            (PUT, StatusCode::NOT_FOUND | StatusCode::CONFLICT)
                if matches!(target, Target::Session(_)) && is_answer(reply) =>
            {
                match call.changes.as_slice() {
                    [_] => Outcome::missing(call, &format!("Opik: {}", reply.message())),
                    // Which one it is, single calls tell.
                    _ => Outcome::Refused(reply.message()),
                }
            }
            (DELETE, StatusCode::NOT_FOUND) if is_answer(reply) => Outcome::Done,
            _ => reply.problem(),
        }
    }

    fn probe(&self) -> Request {
        Request::new(Method::GET, "/v1/private/projects")
    }
}

/// The scores of a request.
#[derive(Default)]
struct Scores {
    scores: Vec<Json>,
    changes: Vec<usize>,
    memos: Vec<String>,
    bytes: usize,
}

impl Scores {
    fn add(&mut self, score: Json, at: usize, id: &str) {
        self.bytes += score.to_string().len();
        self.scores.push(score);
        self.changes.push(at);
        self.memos.push(id.to_owned());
    }

    /// The call that sends them, if there are any.
    fn call(self, kind: TargetKind) -> Option<Planned> {
        let Self { scores, changes, memos, .. } = self;
        let path = format!("{}/feedback-scores", path_of(kind));
        let request = Request::new(Method::PUT, path).with_json(json!({ "scores": scores }));
        (!changes.is_empty())
            .then(|| Call { step: PUT, memos, ..Call::new(request, changes) }.into())
    }
}

/// The end of the id that Opik gives to a span or trace: all but its time.
fn id_end(target: &Target) -> Option<String> {
    let hash = match target {
        Target::Span(_, span) => Sha256::digest(span.to_bytes()),
        Target::Trace(trace) => Sha256::digest(trace.to_bytes()),
        Target::Session(_) => return None,
    };
    let mut id = [0; 16];
    id[6..].copy_from_slice(&hash[..10]);
    id[6] = id[6] & 0x0f | 0x70;
    id[8] = id[8] & 0x3f | 0x80;
    Some(uuid(&id)[13..].to_owned())
}

/// The id in the answer of a search, a JSON object a line.
fn found(target: &Target, reply: &Reply) -> Result<Option<String>, ()> {
    let text = reply.text();
    let end = id_end(target).ok_or(())?;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let json: Json = serde_json::from_str(line).map_err(drop)?;
        let id = json["id"].as_str().ok_or(())?;
        if is_uuid(id) && id.ends_with(&end) {
            return Ok(Some(id.to_owned()));
        }
    }
    Ok(None)
}

fn missing(target: &Target) -> String {
    let what = if matches!(target, Target::Trace(_)) { "trace" } else { "span" };
    format!("Opik has no such {what} yet")
}

/// Whether an error is one of Opik, not of something before it.
fn is_answer(reply: &Reply) -> bool {
    serde_json::from_slice::<Json>(&reply.body).is_ok_and(|json| json.is_object())
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceId};

    use super::*;
    use crate::desk::forward::backend::Known;
    use crate::desk::forward::backend::tests::{change, planned, reply};
    use crate::desk::forward::wanted::tests::{items_of, target, text};

    const ID: &str = "018bcfe5-687b-79a1-8e17-2e40dc859aed";
    /// Whose SHA-256 has given [`ID`].
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

    fn opik() -> Opik {
        Opik::new(&BackendSetup::of(&[("project", "chat")], &[("OPIK_API_KEY", "k")]))
    }

    fn of_span(leaves: &[(&str, Leaf)]) -> crate::desk::store::forwarding::ForwardTarget {
        let mut target = target(leaves);
        target.target = Target::Span(TraceId::from(0xa), SpanId::from(SPAN));
        target
    }

    #[test]
    fn a_span_is_found_by_the_end_of_its_id_and_then_told() {
        let target = of_span(&[
            ("feedback.comment", text("slow")),
            ("feedback.ground_truth", text("Albany")),
            ("feedback.rating", Leaf::Bool(false)),
            ("feedback.reason", text("length")),
            ("feedback.stars", Leaf::Int(4)),
            ("metrics.relevance", Leaf::Double(0.5)),
        ]);
        let items = items_of(&target);
        let changes: Vec<_> = items.iter().map(|item| change(&target, item)).collect();
        let search = planned(&opik(), &changes, &[0, 1, 2, 3, 4]).remove(0);
        let path = "/v1/private/spans/search";
        assert_eq!((&search.request.method, search.request.path.as_str()), (&Method::POST, path));
        assert_eq!(
            search.request.body,
            Some(json!({
                "project_name": "chat", "limit": 1,
                "filters": [{ "field": "id", "operator": "ends_with", "value": &ID[13..] }],
            }))
        );
        let headers = [
            (header::AUTHORIZATION, "k".to_owned()),
            (HeaderName::from_static("comet-workspace"), "default".to_owned()),
        ];
        assert_eq!(opik().headers(), headers);

        let missing = opik().outcome(&changes, &search, &reply(200, ""));
        assert_eq!(missing, Outcome::missing(&search, "Opik has no such span yet"));
        let answer = reply(200, format!("{{\"id\":\"{ID}\",\"name\":\"answer\"}}\n"));
        let Outcome::Next(calls) = opik().outcome(&changes, &search, &answer) else { panic!() };
        assert_eq!(calls.len(), 1);
        assert_eq!((&calls[0].request.method, calls[0].memos.len()), (&Method::PUT, 5));
        assert_eq!(calls[0].request.path, "/v1/private/spans/feedback-scores");
        let score = |name: &str, content: Json| {
            let mut score =
                json!({ "id": ID, "project_name": "chat", "name": name, "source": "sdk" });
            score.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
            score
        };
        assert_eq!(
            calls[0].request.body.as_ref().unwrap()["scores"],
            json!([
                score("ground_truth", json!({ "value": 1, "reason": "Albany" })),
                score("rating", json!({ "value": 0, "category_name": "false", "reason": "slow" })),
                score("reason", json!({ "value": 1, "category_name": "length" })),
                score("stars", json!({ "value": 4 })),
                score("metrics.relevance", json!({ "value": 0.5 })),
            ])
        );
        assert_eq!(opik().outcome(&changes, &calls[0], &reply(204, "")), Outcome::Done);
    }

    #[test]
    fn a_known_id_is_not_searched_again_and_a_session_never() {
        let of_span = of_span(&[("feedback.rating", Leaf::Int(1))]);
        let mut of_session = of_span.clone();
        (of_session.target, of_session.row) = (Target::Session("s 1".to_owned()), 2);
        let items = items_of(&of_span);
        let mut changes = [change(&of_span, &items[0]), change(&of_session, &items[0])];
        (changes[0].known, changes[0].memo) = (Known::Present, Some(ID));
        let calls = planned(&opik(), &changes, &[0, 1]);
        let paths: Vec<_> = calls.iter().map(|call| call.request.path.as_str()).collect();
        assert_eq!(
            paths,
            ["/v1/private/spans/feedback-scores", "/v1/private/traces/threads/feedback-scores"]
        );
        let score = &calls[1].request.body.as_ref().unwrap()["scores"][0];
        assert_eq!((&score["thread_id"], &score["id"]), (&json!("s 1"), &Json::Null));

        changes.iter_mut().for_each(|change| change.wanted = None);
        let calls = planned(&opik(), &changes, &[0, 1]);
        assert_eq!(calls[0].request.path, format!("/v1/private/spans/{ID}/feedback-scores/delete"));
        assert_eq!(calls[0].request.body, Some(json!({ "name": "rating" })));
        assert_eq!(calls[1].request.path, "/v1/private/traces/threads/feedback-scores/delete");
        assert_eq!(
            calls[1].request.body,
            Some(json!({ "project_name": "chat", "thread_id": "s 1", "names": ["rating"] }))
        );
    }

    #[test]
    fn a_number_that_opik_can_not_hold_is_refused_and_the_others_are_sent() {
        let target =
            of_span(&[("feedback.a", Leaf::Int(1_000_000_000)), ("feedback.b", Leaf::Int(1))]);
        let items = items_of(&target);
        let mut changes: Vec<_> = items.iter().map(|item| change(&target, item)).collect();
        let search = planned(&opik(), &changes, &[0, 1]).remove(0);
        let answer = reply(200, format!(r#"{{"id":"{ID}"}}"#));
        let Outcome::Each(each) = opik().outcome(&changes, &search, &answer) else { panic!() };
        assert!(matches!(each[..], [ChangeOutcome::Refused(_), ChangeOutcome::Unsent]), "{each:?}");
        changes.iter_mut().for_each(|change| change.memo = Some(ID));
        let plan = opik().plan(&changes, &[0, 1]);
        assert!(matches!(plan[0], Planned::Outcome(0, ChangeOutcome::Refused(_))));
        assert!(matches!(&plan[1], Planned::Call(call) if call.changes == [1]));
    }

    #[test]
    fn an_answer_means_what_opik_says_of_it() {
        let target = of_span(&[("feedback.rating", Leaf::Int(1))]);
        let items = items_of(&target);
        let mut changes = [change(&target, &items[0])];
        let search = planned(&opik(), &changes, &[0]).remove(0);
        let other = format!(r#"{{"id":"{}"}}"#, ID.replace('e', "f"));
        let outcome = |status, body: &str| opik().outcome(&changes, &search, &reply(status, body));
        assert!(matches!(outcome(200, &other), Outcome::Each(_)), "of another span");
        for (status, body) in [(200, "<html>"), (200, "{}"), (401, "{}"), (404, "{}"), (500, "")] {
            assert!(matches!(outcome(status, body), Outcome::Down { .. }), "{status} {body}");
        }
        changes[0].memo = Some(ID);
        let put = planned(&opik(), &changes, &[0]).remove(0);
        let outcome = |status, body: &str| opik().outcome(&changes, &put, &reply(status, body));
        assert!(matches!(outcome(200, "<html>"), Outcome::Down { .. }));
        assert!(matches!(outcome(422, r#"{"message":"no"}"#), Outcome::Refused(_)));
    }
}
