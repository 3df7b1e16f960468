//! Arize Phoenix: annotations of spans, traces and sessions.
//!
//! `POST /v1/{span,trace,session}_annotations?sync=true` replaces an annotation with the same name, target and
//! `identifier`. With `sync` a target that Phoenix does not have is answered by 404, which names it, and nothing of
//! the request is stored; without it Phoenix waits in memory, and forgets what it waited for. A deletion finds
//! annotations by name and `identifier` alone, so the identifier holds the target.
//! Sources: `server/api/routers/v1/{spans,traces,sessions,annotations}.py` of 20.26.1.

use std::collections::BTreeMap;

use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Value as Json, json};

use super::backend::{
    Backend, BackendKind, Call, Change, ChangeOutcome, Outcome, Planned, Reply, Request, TargetKind,
};
use super::names;
use super::setup::{BackendSetup, encoded};
use super::wanted::Item;
use crate::collector::Target;
use crate::desk::store::leaf::LeafType;

pub(super) const KIND: BackendKind = BackendKind {
    name: "phoenix",
    variables: &["PHOENIX_API_KEY"],
    parameters: &["project"],
    version: 1,
    make: |setup| Ok(Box::new(Phoenix::new(setup))),
};

/// Annotations of one request. Phoenix has no limit; it writes them one by one in one transaction.
const MOST: usize = 1_000;
/// About how large a request gets, in bytes.
const ENOUGH_BYTES: usize = 2 << 20;
/// A longer text, or one of several lines, is an explanation rather than a label.
const LONGEST_LABEL: usize = 64;

struct Phoenix {
    key: Option<String>,
    /// The project of a target whose resource names none.
    project: String,
}

impl Phoenix {
    fn new(setup: &BackendSetup) -> Self {
        Self {
            key: setup.secret("PHOENIX_API_KEY").map(str::to_owned),
            project: setup.parameter("project").unwrap_or("default").to_owned(),
        }
    }

    fn delete(&self, change: &Change<'_>) -> Request {
        let project = change.target.project.as_deref().unwrap_or(&self.project);
        let path = format!(
            "/v1/projects/{}/{}_annotations?delete_all=true&name={}&identifier={}",
            encoded(project),
            TargetKind::of(&change.target.target).name(),
            encoded(&names::name(KIND.name, change.field)),
            encoded(&identifier(change))
        );
        Request::new(Method::DELETE, path)
    }
}

impl Backend for Phoenix {
    fn headers(&self) -> Vec<(HeaderName, String)> {
        let bearer = |key: &String| (header::AUTHORIZATION, format!("Bearer {key}"));
        self.key.iter().map(bearer).collect()
    }

    fn plan(&self, changes: &[Change<'_>], which: &[usize]) -> Vec<Planned> {
        let mut calls = Vec::new();
        let mut open: BTreeMap<TargetKind, (Vec<Json>, Vec<usize>, usize)> = BTreeMap::new();
        for &at in which {
            let change = &changes[at];
            let Some(item) = change.wanted else {
                calls.push(Call::new(self.delete(change), vec![at]));
                continue;
            };
            let scope = TargetKind::of(&change.target.target);
            let (data, ids, bytes) = open.entry(scope).or_default();
            let annotation = annotation(change, item);
            *bytes += annotation.to_string().len();
            data.push(annotation);
            ids.push(at);
            if data.len() >= MOST || *bytes >= ENOUGH_BYTES {
                calls.extend(open.remove(&scope).map(|(data, ids, _)| upsert(scope, data, ids)));
            }
        }
        calls.extend(open.into_iter().map(|(scope, (data, ids, _))| upsert(scope, data, ids)));
        calls.into_iter().map(Planned::Call).collect()
    }

    fn outcome(&self, changes: &[Change<'_>], call: &Call, reply: &Reply) -> Outcome {
        let is_deletion = call.request.method == Method::DELETE;
        match reply.status {
            StatusCode::NO_CONTENT if is_deletion => Outcome::Done,
            // The project is not there, and so no annotation in it.
            StatusCode::NOT_FOUND if is_deletion && reply.message().starts_with("Project ") => {
                Outcome::Done
            }
            StatusCode::OK if !is_deletion => {
                let json = reply.json();
                let made = json.as_ref().and_then(|json| json["data"].as_array()).map(Vec::len);
                if made == Some(call.changes.len()) { Outcome::Done } else { reply.problem() }
            }
            StatusCode::NOT_FOUND => missing(changes, call, reply),
            _ => reply.problem(),
        }
    }

    fn probe(&self) -> Request {
        Request::new(Method::GET, "/v1/projects?limit=1")
    }
}

fn upsert(scope: TargetKind, data: Vec<Json>, changes: Vec<usize>) -> Call {
    let path = format!("/v1/{}_annotations?sync=true", scope.name());
    Call::new(Request::new(Method::POST, path).with_json(json!({ "data": data })), changes)
}

/// Holds the target: a deletion has no other way to name it.
fn identifier(change: &Change<'_>) -> String {
    let namespace = change.field.split('.').next().unwrap_or_default();
    format!("tracing-feedback/{}/{namespace}", target_id(&change.target.target))
}

fn target_id(target: &Target) -> String {
    match target {
        Target::Span(_, span) => span.to_string(),
        Target::Trace(trace) => trace.to_string(),
        Target::Session(id) => id.clone(),
    }
}

fn annotation(change: &Change<'_>, item: &Item) -> Json {
    let target = &change.target.target;
    let mut result = json!({});
    let text = item.text();
    match item.value.kind() {
        // A bool has no type of its own.
        LeafType::Bool => {
            result["score"] = json!(item.score());
            result["label"] = json!(text);
        }
        LeafType::Int | LeafType::Double => result["score"] = json!(item.score()),
        LeafType::Text | LeafType::Other => {
            let is_label = !item.is_ground_truth
                && text.chars().count() <= LONGEST_LABEL
                && !text.contains('\n');
            result[if is_label { "label" } else { "explanation" }] = json!(text);
        }
    }
    if let Some(explanation) = &item.explanation {
        result["explanation"] = json!(explanation);
    }
    let mut metadata = json!({ "field": item.field });
    if let Some(by) = &item.by {
        metadata["submitter"] = json!(by);
    }
    let mut annotation = json!({
        "name": names::name(KIND.name, change.field),
        "annotator_kind": item.source.annotator_kind(),
        "result": result,
        "metadata": metadata,
        "identifier": identifier(change),
    });
    annotation[format!("{}_id", TargetKind::of(target).name())] = json!(target_id(target));
    annotation
}

/// 404 names the targets that are missing, and then nothing of the request was stored:
/// `Spans with IDs 00f067aa0ba902b7, b7ad6b7169203331 do not exist.`
fn missing(changes: &[Change<'_>], call: &Call, reply: &Reply) -> Outcome {
    let message = serde_json::from_slice::<Json>(&reply.body)
        .ok()
        .and_then(|json| json["detail"].as_str().map(str::to_owned))
        .unwrap_or_else(|| reply.text());
    let ids = message
        .split_once(" with IDs ")
        .and_then(|(_, rest)| rest.trim_end().strip_suffix(" do not exist."));
    let Some(ids) = ids else { return reply.problem() };
    let ids: Vec<&str> = ids.split(", ").collect();
    let of = |at: &usize| {
        let target = &changes[*at].target.target;
        match ids.contains(&target_id(target).as_str()) {
            true => ChangeOutcome::Missing(format!(
                "Phoenix has no such {} yet",
                TargetKind::of(target).name()
            )),
            false => ChangeOutcome::Unsent,
        }
    };
    let each: Vec<_> = call.changes.iter().map(of).collect();
    if each.iter().all(|outcome| *outcome == ChangeOutcome::Unsent) {
        return reply.problem();
    }
    Outcome::Each(each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::forward::Selection;
    use crate::desk::forward::backend::Known;
    use crate::desk::forward::backend::tests::{planned, reply};
    use crate::desk::forward::wanted::items;
    use crate::desk::forward::wanted::tests::{target, text};
    use crate::desk::store::forwarding::ForwardTarget;
    use crate::desk::store::leaf::Leaf;

    const ALL: Selection = Selection { has_metrics: true, has_texts: true };

    fn phoenix() -> Phoenix {
        Phoenix::new(&BackendSetup::of(&[], &[("PHOENIX_API_KEY", "k")]))
    }

    fn change<'a>(target: &'a ForwardTarget, item: &'a Item) -> Change<'a> {
        let known = Known::Absent;
        Change { target, field: &item.field, wanted: Some(item), known, memo: None }
    }

    fn calls(changes: &[Change<'_>], which: &[usize]) -> Vec<Call> {
        planned(&phoenix(), changes, which)
    }

    #[test]
    fn every_type_of_leaf_has_its_body() {
        let target = target(&[
            ("feedback.comment", text("slow")),
            ("feedback.ground_truth", text("Albany")),
            ("feedback.rating", Leaf::Bool(false)),
            ("feedback.reason", text("length")),
            ("feedback.stars", Leaf::Int(4)),
            ("metrics.relevance", Leaf::Double(0.5)),
        ]);
        let items = items(&target, ALL);
        let changes: Vec<_> = items.iter().map(|item| change(&target, item)).collect();
        let calls = calls(&changes, &[0, 1, 2, 3, 4]);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].request.method, Method::POST);
        assert_eq!(calls[0].request.path, "/v1/span_annotations?sync=true");
        let annotation = |name: &str, kind: &str, field: &str, result: Json| {
            let namespace = field.split('.').next().unwrap();
            json!({
                "span_id": "000000000000000b", "name": name, "annotator_kind": kind,
                "result": result, "metadata": { "field": field, "submitter": "u-17" },
                "identifier": format!("tracing-feedback/000000000000000b/{namespace}"),
            })
        };
        assert_eq!(
            calls[0].request.body.as_ref().unwrap()["data"],
            json!([
                annotation(
                    "ground_truth",
                    "HUMAN",
                    "feedback.ground_truth",
                    json!({ "explanation": "Albany" })
                ),
                annotation(
                    "rating",
                    "HUMAN",
                    "feedback.rating",
                    json!({ "score": 0.0, "label": "false", "explanation": "slow" })
                ),
                annotation("reason", "HUMAN", "feedback.reason", json!({ "label": "length" })),
                annotation("stars", "HUMAN", "feedback.stars", json!({ "score": 4.0 })),
                annotation(
                    "metrics.relevance",
                    "CODE",
                    "metrics.relevance",
                    json!({ "score": 0.5 })
                ),
            ])
        );
        assert_eq!(phoenix().headers(), [(header::AUTHORIZATION, "Bearer k".to_owned())]);
    }

    #[test]
    fn traces_and_sessions_have_calls_of_their_own_and_deletions_name_their_target() {
        let mut of_trace = target(&[("feedback.rating", Leaf::Int(1))]);
        of_trace.target = Target::Trace(opentelemetry::trace::TraceId::from(0xc));
        let mut of_session = target(&[("feedback.rating", Leaf::Int(2))]);
        of_session.target = Target::Session("a b".to_owned());
        of_session.project = Some("chat/1".to_owned());
        let (one, two) = (items(&of_trace, ALL), items(&of_session, ALL));
        let mut changes = vec![change(&of_trace, &one[0]), change(&of_session, &two[0])];
        let calls = self::calls(&changes, &[0, 1]);
        let shown: Vec<_> = calls
            .iter()
            .map(|call| (call.request.path.as_str(), call.request.body.clone().unwrap()))
            .collect();
        assert_eq!(shown[0].0, "/v1/trace_annotations?sync=true");
        assert_eq!(shown[0].1["data"][0]["trace_id"], "0000000000000000000000000000000c");
        assert_eq!(shown[1].0, "/v1/session_annotations?sync=true");
        assert_eq!(shown[1].1["data"][0]["session_id"], "a b");

        for change in &mut changes {
            change.wanted = None;
        }
        let calls = self::calls(&changes, &[1, 0]);
        let paths: Vec<_> = calls.iter().map(|call| call.request.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/v1/projects/chat%2F1/session_annotations?delete_all=true&name=rating\
                 &identifier=tracing-feedback%2Fa%20b%2Ffeedback",
                "/v1/projects/default/trace_annotations?delete_all=true&name=rating\
                 &identifier=tracing-feedback%2F0000000000000000000000000000000c%2Ffeedback",
            ]
        );
        assert!(calls.iter().all(|call| call.request.method == Method::DELETE));
    }

    #[test]
    fn a_span_that_is_missing_costs_only_itself() {
        let one = target(&[("feedback.rating", Leaf::Int(1))]);
        let mut other = one.clone();
        other.target = Target::Span(
            opentelemetry::trace::TraceId::from(1),
            opentelemetry::trace::SpanId::from(0xc),
        );
        let items = items(&one, ALL);
        let changes = [change(&one, &items[0]), change(&other, &items[0])];
        let call = &calls(&changes, &[0, 1])[0];
        let outcome = |status, body: &str| phoenix().outcome(&changes, call, &reply(status, body));
        let missing = ChangeOutcome::Missing("Phoenix has no such span yet".to_owned());
        for body in [
            r#"{"detail":"Spans with IDs 000000000000000c do not exist."}"#,
            "Spans with IDs 000000000000000c do not exist.",
        ] {
            let expected = Outcome::Each(vec![ChangeOutcome::Unsent, missing.clone()]);
            assert_eq!(outcome(404, body), expected);
        }
        assert_eq!(outcome(200, r#"{"data":[{"id":"a"},{"id":"b"}]}"#), Outcome::Done);
        for (status, body) in [
            (404, r#"{"detail":"Not Found"}"#),
            (404, "Spans with IDs 000000000000000d do not exist."),
            (200, r#"{"data":[{"id":"a"}]}"#),
            (200, "<html>"),
            (301, ""),
            (401, "Invalid token"),
            (500, "<html>"),
        ] {
            assert!(matches!(outcome(status, body), Outcome::Down { .. }), "{status} {body}");
        }
        assert!(matches!(outcome(422, "no"), Outcome::Refused(_)));
    }
}
