//! MLflow: assessments of traces.
//!
//! `POST /api/3.0/mlflow/traces/{trace_id}/assessments` makes one, under an id of our own; the same id again is an
//! error (500, "constraint violation"). `PATCH …/{id}` changes value, rationale and metadata, not the source. `DELETE`
//! of what is not there is a success. So a record is created, patched where it is known to be there with the same
//! source, and otherwise deleted and made again. An unknown trace is 404. An assessment of a span stands on its trace
//! with the span's id; that of a session on the latest trace that the session had then, with the session in the
//! metadata.
//! Sources: `server/handlers.py`, `store/tracking/sqlalchemy_store.py` of 3.17.2.

use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Value as Json, json};

use super::backend::{
    Backend, BackendKind, Call, Change, ChangeOutcome, Known, Outcome, Planned, Reply, Request,
};
use super::names;
use super::setup::BackendSetup;
use super::wanted::{Item, Source};
use crate::collector::Target;
use crate::desk::store::json::{datum_json, hex};
use crate::desk::store::leaf::Leaf;

pub(super) const KIND: BackendKind = BackendKind {
    name: "mlflow",
    variables: &["MLFLOW_TRACKING_TOKEN"],
    parameters: &[],
    version: 1,
    make: |setup| Ok(Box::new(Mlflow::new(setup))),
};

/// Characters of the column of a source's id.
const LONGEST_SOURCE: usize = 250;

/// The calls about one assessment, as [`Call::step`].
const CREATE: u8 = 0;
const PATCH: u8 = 1;
/// Before it is created anew.
const REPLACE: u8 = 2;
const DELETE: u8 = 3;
/// After [`REPLACE`].
const CREATE_AGAIN: u8 = 4;

struct Mlflow {
    token: Option<String>,
}

impl Mlflow {
    fn new(setup: &BackendSetup) -> Self {
        Self { token: setup.secret("MLFLOW_TRACKING_TOKEN").map(str::to_owned) }
    }
}

impl Backend for Mlflow {
    fn headers(&self) -> Vec<(HeaderName, String)> {
        let bearer = |token: &String| (header::AUTHORIZATION, format!("Bearer {token}"));
        self.token.iter().map(bearer).collect()
    }

    fn plan(&self, changes: &[Change<'_>], which: &[usize]) -> Vec<Planned> {
        which.iter().map(|at| plan_one(&changes[*at], *at)).collect()
    }

    fn outcome(&self, changes: &[Change<'_>], call: &Call, reply: &Reply) -> Outcome {
        let at = call.changes[0];
        let change = &changes[at];
        let is_unknown =
            reply.status == StatusCode::NOT_FOUND && error_code(reply) == "RESOURCE_DOES_NOT_EXIST";
        let is_violation = reply.status.as_u16() >= 400
            && !error_code(reply).is_empty()
            && reply.message().contains("constraint violation");
        match (call.step, change.wanted) {
            // Of the trace: what is not there has no assessments.
            (DELETE, _) if is_unknown || reply.json().is_some() => Outcome::Done,
            (REPLACE, Some(item)) if reply.json().is_some() => {
                Outcome::Next(vec![Call { step: CREATE_AGAIN, ..create(change, item, at) }])
            }
            // The assessment, or its trace: creating it tells which.
            (PATCH, Some(item)) if is_unknown => Outcome::Next(vec![create(change, item, at)]),
            (CREATE | CREATE_AGAIN | REPLACE, _) if is_unknown => {
                Outcome::missing(call, "MLflow has no such trace yet")
            }
            (CREATE | CREATE_AGAIN | PATCH, _)
                if reply.json().is_some_and(|json| json["assessment"].is_object()) =>
            {
                Outcome::Done
            }
            // The state was lost: it is there already.
            (CREATE, Some(_)) if is_violation => Outcome::Next(vec![delete(change, at, REPLACE)]),
            (CREATE_AGAIN, _) if is_violation => {
                Outcome::Refused("another trace has an assessment with its id".to_owned())
            }
            _ => reply.problem(),
        }
    }

    fn probe(&self) -> Request {
        Request::new(Method::GET, "/api/2.0/mlflow/experiments/get?experiment_id=0")
    }
}

/// The first call about an assessment.
fn plan_one(change: &Change<'_>, at: usize) -> Planned {
    if trace_of(change).is_none() {
        let reason = "the session has no trace to attach it to yet".to_owned();
        return Planned::Outcome(at, ChangeOutcome::Missing(reason));
    }
    let call = match (change.wanted, change.known) {
        (None, _) => delete(change, at, DELETE),
        (Some(item), Known::Absent) => create(change, item, at),
        (Some(item), Known::Present) if change.memo == memo_of(change, item).as_deref() => {
            patch(change, item, at)
        }
        (Some(_), _) => delete(change, at, REPLACE),
    };
    Planned::Call(call)
}

/// The trace that the assessment stands on: where it was put first, else that of the target.
fn trace_of(change: &Change<'_>) -> Option<String> {
    let before = change.memo.and_then(|memo| memo.split_once(' ')).map(|(trace, _)| trace);
    before.map(str::to_owned).or_else(|| match &change.target.target {
        Target::Span(trace, _) | Target::Trace(trace) => Some(trace.to_string()),
        Target::Session(_) => change.target.latest_trace.map(|trace| hex(&trace)),
    })
}

/// The trace and the source of an assessment, neither of which can be changed: `TRACE HUMAN/u-17`.
fn memo_of(change: &Change<'_>, item: &Item) -> Option<String> {
    let (kind, id) = source(item);
    Some(format!("{} {kind}/{id}", trace_of(change)?))
}

fn source(item: &Item) -> (&'static str, String) {
    let kind = match item.source {
        Source::Model => "LLM_JUDGE",
        other => other.annotator_kind(),
    };
    let id = item.by.as_deref().unwrap_or("unknown").chars().take(LONGEST_SOURCE).collect();
    (kind, id)
}

fn assessment_id(change: &Change<'_>) -> String {
    format!("a-{}", names::hex_id(&change.target.target, change.field))
}

fn path(change: &Change<'_>) -> String {
    format!("/api/3.0/mlflow/traces/tr-{}/assessments", trace_of(change).unwrap_or_default())
}

fn path_of_one(change: &Change<'_>) -> String {
    format!("{}/{}", path(change), assessment_id(change))
}

/// Value, rationale and metadata, which a patch may change.
fn content(change: &Change<'_>, item: &Item) -> Json {
    let value = match &item.value {
        Leaf::Other(text) => json!(text),
        value => datum_json(value.datum()),
    };
    let mut metadata = json!({ "tracing_feedback.field": item.field });
    if let Target::Session(id) = &change.target.target {
        metadata["mlflow.trace.session"] = json!(id);
    }
    let mut content = json!({
        "assessment_name": names::name(KIND.name, change.field),
        "metadata": metadata,
    });
    if item.is_ground_truth {
        content["expectation"] = json!({ "value": value });
    } else {
        content["feedback"] = json!({ "value": value });
        content["rationale"] = json!(item.explanation.as_deref().unwrap_or_default());
    }
    content
}

fn create(change: &Change<'_>, item: &Item, at: usize) -> Call {
    let mut assessment = content(change, item);
    let (kind, id) = source(item);
    assessment["assessment_id"] = json!(assessment_id(change));
    assessment["trace_id"] = json!(format!("tr-{}", trace_of(change).unwrap_or_default()));
    assessment["source"] = json!({ "source_type": kind, "source_id": id });
    assessment["valid"] = json!(true);
    if let Target::Span(_, span) = &change.target.target {
        assessment["span_id"] = json!(span.to_string());
    }
    let request = Request::new(Method::POST, path(change));
    let request = request.with_json(json!({ "assessment": assessment }));
    Call { step: CREATE, memo: memo_of(change, item), ..Call::new(request, vec![at]) }
}

fn patch(change: &Change<'_>, item: &Item, at: usize) -> Call {
    let mask = if item.is_ground_truth { "expectation" } else { "feedback,rationale" };
    let body = json!({
        "assessment": content(change, item),
        "update_mask": format!("assessmentName,{mask},metadata"),
    });
    let request = Request::new(Method::PATCH, path_of_one(change)).with_json(body);
    Call { step: PATCH, memo: memo_of(change, item), ..Call::new(request, vec![at]) }
}

fn delete(change: &Change<'_>, at: usize, step: u8) -> Call {
    let request = Request::new(Method::DELETE, path_of_one(change));
    let memo = change.wanted.and_then(|item| memo_of(change, item));
    Call { step, memo, ..Call::new(request, vec![at]) }
}

/// The `error_code` of an answer of MLflow.
fn error_code(reply: &Reply) -> String {
    let json: Option<Json> = serde_json::from_slice(&reply.body).ok();
    json.and_then(|json| json["error_code"].as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::forward::Selection;
    use crate::desk::forward::backend::tests::{planned, reply};
    use crate::desk::forward::wanted::items;
    use crate::desk::forward::wanted::tests::{target, text};
    use crate::desk::store::forwarding::ForwardTarget;

    const TRACES: &str = "/api/3.0/mlflow/traces/tr-0000000000000000000000000000000a/assessments";
    const NO_TRACE: &str =
        r#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"Trace with ID 'tr-1' not found."}"#;
    const VIOLATION: &str = r#"{"error_code":"INTERNAL_ERROR","message":"Failed to create assessment for trace 'tr-1' due to a constraint violation."}"#;

    fn mlflow() -> Mlflow {
        Mlflow::new(&BackendSetup::of(&[], &[("MLFLOW_TRACKING_TOKEN", "t")]))
    }

    fn change<'a>(target: &'a ForwardTarget, item: &'a Item) -> Change<'a> {
        let known = Known::Absent;
        Change { target, field: &item.field, wanted: Some(item), known, memo: None }
    }

    fn of(leaves: &[(&str, Leaf)]) -> (ForwardTarget, Vec<Item>) {
        let target = target(leaves);
        let items = items(&target, Selection { has_metrics: true, has_texts: true });
        (target, items)
    }

    #[test]
    fn a_rating_with_a_comment_is_created_patched_and_deleted() {
        let (target, items) =
            of(&[("feedback.comment", text("slow")), ("feedback.rating", Leaf::Bool(false))]);
        let mut change = change(&target, &items[0]);
        let id = assessment_id(&change);
        let call = planned(&mlflow(), &[change.clone()], &[0]).remove(0);
        assert_eq!((call.request.method, call.request.path.as_str()), (Method::POST, TRACES));
        assert_eq!(
            call.request.body,
            Some(json!({ "assessment": {
                "assessment_id": id, "assessment_name": "rating",
                "trace_id": "tr-0000000000000000000000000000000a", "span_id": "000000000000000b",
                "source": { "source_type": "HUMAN", "source_id": "u-17" },
                "feedback": { "value": false }, "rationale": "slow", "valid": true,
                "metadata": { "tracing_feedback.field": "feedback.rating" },
            }}))
        );
        let memo = "0000000000000000000000000000000a HUMAN/u-17";
        assert_eq!(call.memo.as_deref(), Some(memo));

        (change.known, change.memo) = (Known::Present, Some(memo));
        let call = planned(&mlflow(), &[change.clone()], &[0]).remove(0);
        assert_eq!(
            (call.request.method, call.request.path),
            (Method::PATCH, format!("{TRACES}/{id}"))
        );
        assert_eq!(
            call.request.body,
            Some(json!({
                "assessment": {
                    "assessment_name": "rating", "feedback": { "value": false }, "rationale": "slow",
                    "metadata": { "tracing_feedback.field": "feedback.rating" },
                },
                "update_mask": "assessmentName,feedback,rationale,metadata",
            }))
        );

        change.wanted = None;
        let call = planned(&mlflow(), &[change], &[0]).remove(0);
        assert_eq!(
            (call.request.method, call.request.path, call.request.body),
            (Method::DELETE, format!("{TRACES}/{id}"), None)
        );
    }

    #[test]
    fn a_ground_truth_is_an_expectation_and_a_score_is_of_code() {
        let (target, items) = of(&[
            ("feedback.ground_truth", text("Albany")),
            ("metrics.relevance", Leaf::Double(0.5)),
        ]);
        let changes = [change(&target, &items[0]), change(&target, &items[1])];
        let calls = planned(&mlflow(), &changes, &[0, 1]);
        let assessment = |at: usize| calls[at].request.body.as_ref().unwrap()["assessment"].clone();
        assert_eq!(assessment(0)["expectation"], json!({ "value": "Albany" }));
        assert_eq!(assessment(0)["feedback"], Json::Null);
        assert_eq!(assessment(1)["source"]["source_type"], "CODE");
        assert_eq!(assessment(1)["assessment_name"], "metrics_relevance");
    }

    #[test]
    fn what_is_not_known_or_by_another_author_is_deleted_before_it_is_created() {
        let (target, items) = of(&[("feedback.rating", Leaf::Bool(false))]);
        let mut change = change(&target, &items[0]);
        for (known, memo) in [
            (Known::Unknown, None),
            (Known::Unknown, Some("0000000000000000000000000000000a HUMAN/u-17")),
            (Known::Present, Some("0000000000000000000000000000000a HUMAN/u-18")),
        ] {
            (change.known, change.memo) = (known, memo);
            let changes = [change.clone()];
            let call = planned(&mlflow(), &changes, &[0]).remove(0);
            assert_eq!((&call.request.method, call.step), (&Method::DELETE, REPLACE));
            let Outcome::Next(next) = mlflow().outcome(&changes, &call, &reply(200, "{}")) else {
                panic!()
            };
            assert_eq!(next[0].request.method, Method::POST);
            assert_eq!(
                next[0].memo.as_deref(),
                Some("0000000000000000000000000000000a HUMAN/u-17")
            );
        }
    }

    #[test]
    fn a_session_stays_on_the_trace_where_it_was_put() {
        let (mut target, items) = of(&[("feedback.rating", Leaf::Bool(false))]);
        target.target = Target::Session("s".to_owned());
        let mut change = change(&target, &items[0]);
        let waits = Planned::Outcome(
            0,
            ChangeOutcome::Missing("the session has no trace to attach it to yet".to_owned()),
        );
        assert_eq!(mlflow().plan(&[change.clone()], &[0]), [waits]);
        let mut moved = target.clone();
        moved.latest_trace = Some([2; 16]);
        change.target = &moved;
        let call = planned(&mlflow(), &[change.clone()], &[0]).remove(0);
        assert!(call.request.path.contains(&"02".repeat(16)), "{}", call.request.path);
        assert_eq!(
            call.request.body.unwrap()["assessment"]["metadata"]["mlflow.trace.session"],
            "s"
        );
        (change.known, change.memo) = (Known::Present, Some("01010101 HUMAN/u-17"));
        let call = planned(&mlflow(), &[change], &[0]).remove(0);
        assert!(call.request.path.contains("/tr-01010101/"), "{}", call.request.path);
    }

    #[test]
    fn answers_are_told_apart() {
        let (target, items) = of(&[("feedback.rating", Leaf::Bool(false))]);
        let changes = [change(&target, &items[0])];
        let outcome = |step, status, body: &str| {
            let call = Call { step, ..create(&changes[0], &items[0], 0) };
            mlflow().outcome(&changes, &call, &reply(status, body))
        };
        let missing =
            Outcome::Each(vec![ChangeOutcome::Missing("MLflow has no such trace yet".to_owned())]);
        assert_eq!(outcome(CREATE, 200, r#"{"assessment":{}}"#), Outcome::Done);
        assert_eq!(outcome(CREATE, 404, NO_TRACE), missing);
        assert_eq!(outcome(REPLACE, 404, NO_TRACE), missing);
        assert_eq!(outcome(DELETE, 404, NO_TRACE), Outcome::Done);
        assert_eq!(outcome(DELETE, 200, "{}"), Outcome::Done);
        assert!(matches!(outcome(PATCH, 404, NO_TRACE), Outcome::Next(_)));
        assert!(matches!(outcome(CREATE, 500, VIOLATION), Outcome::Next(_)));
        assert!(matches!(outcome(CREATE_AGAIN, 500, VIOLATION), Outcome::Refused(_)));
        for (step, status, body) in [
            (CREATE, 200, "<html>"),
            (CREATE, 200, "{}"),
            (DELETE, 200, "<html>"),
            (CREATE, 404, "Not Found"),
            (CREATE, 500, r#"{"error_code":"INTERNAL_ERROR","message":"no"}"#),
            (CREATE, 401, ""),
        ] {
            let found = outcome(step, status, body);
            assert!(matches!(found, Outcome::Down { .. }), "{step} {status} {body}: {found:?}");
        }
    }
}
