//! MLflow: assessments, by a server that answers as MLflow 3.17.2 does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::server::{Request, check_keys};
use super::*;

#[derive(Default)]
pub(super) struct Mlflow {
    pub(super) traces: BTreeSet<String>,
    /// By id: trace and assessment.
    pub(super) assessments: BTreeMap<String, (String, Json)>,
}

impl Mlflow {
    fn not_found(message: &str) -> (u16, Json) {
        (404, json!({ "error_code": "RESOURCE_DOES_NOT_EXIST", "message": message }))
    }
}

impl Strict for Mlflow {
    fn answer(&mut self, request: &Request) -> (u16, Json) {
        let path = request.path.strip_prefix("/api/3.0/mlflow/traces/tr-").unwrap();
        let (trace, rest) = path.split_once("/assessments").unwrap();
        let id = rest.strip_prefix('/');
        if !self.traces.contains(trace) {
            return Self::not_found("Trace not found.");
        }
        match (request.method.as_str(), id) {
            ("POST", None) => {
                check_keys(&request.body, &["assessment"], &[]);
                let assessment = request.body["assessment"].clone();
                check_keys(
                    &assessment,
                    &[
                        "assessment_id",
                        "assessment_name",
                        "trace_id",
                        "source",
                        "metadata",
                        "valid",
                    ],
                    &["span_id", "feedback", "expectation", "rationale"],
                );
                check_keys(&assessment["source"], &["source_type", "source_id"], &[]);
                assert!(
                    ["HUMAN", "CODE", "LLM_JUDGE"]
                        .contains(&assessment["source"]["source_type"].as_str().unwrap())
                );
                assert!(assessment["metadata"].as_object().unwrap().values().all(Json::is_string));
                assert!(!assessment["assessment_name"].as_str().unwrap().contains('.'));
                let id = assessment["assessment_id"].as_str().unwrap().to_owned();
                assert!(id.len() <= 50);
                if self.assessments.contains_key(&id) {
                    let message = "Failed to create assessment due to a constraint violation.";
                    return (500, json!({ "error_code": "INTERNAL_ERROR", "message": message }));
                }
                self.assessments.insert(id, (trace.to_owned(), assessment.clone()));
                (200, json!({ "assessment": assessment }))
            }
            ("PATCH", Some(id)) => {
                check_keys(&request.body, &["assessment", "update_mask"], &[]);
                let patch = &request.body["assessment"];
                let Some((_, assessment)) =
                    self.assessments.get_mut(id).filter(|(of, _)| of == trace)
                else {
                    return Self::not_found("Assessment not found.");
                };
                for path in request.body["update_mask"].as_str().unwrap().split(',') {
                    let path = if path == "assessmentName" { "assessment_name" } else { path };
                    assert!(
                        ["assessment_name", "feedback", "expectation", "rationale", "metadata"]
                            .contains(&path)
                    );
                    assert!(assessment.get(path).is_some(), "{path} can't be added");
                    assessment[path] = patch[path].clone();
                }
                (200, json!({ "assessment": assessment }))
            }
            ("DELETE", Some(id)) => {
                if self.assessments.get(id).is_some_and(|(of, _)| of == trace) {
                    self.assessments.remove(id);
                }
                (200, json!({}))
            }
            _ => (404, json!({ "error_code": "ENDPOINT_NOT_FOUND", "message": "no" })),
        }
    }
}

fn start(traces: &[u64]) -> (Arc<Mutex<Mlflow>>, Server) {
    let mlflow =
        Mlflow { traces: traces.iter().copied().map(trace_id).collect(), ..Mlflow::default() };
    let mlflow = Arc::new(Mutex::new(mlflow));
    let server = Server::new(Arc::clone(&mlflow));
    (mlflow, server)
}

/// Name, value, rationale and author, by name.
fn shown(mlflow: &Mutex<Mlflow>) -> Vec<String> {
    let assessments = mlflow.lock().unwrap().assessments.clone();
    let mut shown: Vec<String> = assessments
        .into_values()
        .map(|(trace, it)| {
            let kind = if it["expectation"].is_object() { "expectation" } else { "feedback" };
            let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {}: {kind} {} ({}) by {}",
                trace.trim_start_matches('0'),
                text(&it["assessment_name"]),
                it[kind]["value"],
                text(&it["rationale"]),
                text(&it["source"]["source_id"])
            )
        })
        .collect();
    shown.sort();
    shown
}

#[test]
fn assessments_follow_votes_their_authors_and_retractions() {
    let (mlflow, server) = start(&[1, 2]);
    let rig = desk_to("mlflow", &server, |options| options);
    rig.send([
        span("answer", 1, 1, NEW_YEAR)
            .with("session.id", "s-1")
            .with("feedback.rating", true)
            .with("feedback.comment", "fine")
            .with("feedback.ground_truth", "Albany"),
        carrier((1, 1), 9, NEW_YEAR)
            .with("tracing_feedback.scope", "session")
            .with("session.id", "s-1")
            .with("feedback.stars", 4),
    ]);
    let become_so = |expected: &[&str]| {
        let end = Instant::now() + LONG;
        while shown(&mlflow) != expected {
            assert!(Instant::now() < end, "{:#?}\n{}", shown(&mlflow), rig.forwarding());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let truth = "1 ground_truth: expectation \"Albany\" () by unknown";
    let stars = "1 stars: feedback 4 () by unknown";
    become_so(&[truth, "1 rating: feedback true (fine) by unknown", stars]);

    let vote = |id: u64| carrier((1, 1), id, NEW_YEAR + id * HOUR);
    rig.send([vote(2).with("feedback.rating", false)]);
    become_so(&[truth, "1 rating: feedback false (fine) by unknown", stars]);
    // The author can't be changed in place.
    rig.send([vote(3).with("feedback.rating", true).with("tracing_feedback.by", "u-17")]);
    become_so(&[truth, "1 rating: feedback true (fine) by u-17", stars]);
    rig.send([vote(4).with("tracing_feedback.cleared", json!(["feedback.comment"]))]);
    become_so(&[truth, "1 rating: feedback true () by u-17", stars]);
    // A session stays where it was put.
    rig.send([span("answer", 2, 1, NEW_YEAR + DAY).with("session.id", "s-1")]);
    rig.send([vote(5)
        .with("tracing_feedback.scope", "session")
        .with("session.id", "s-1")
        .with("feedback.stars", 5)]);
    become_so(&[truth, "1 rating: feedback true () by u-17", "1 stars: feedback 5 () by unknown"]);
    rig.send([
        vote(6).with("tracing_feedback.cleared", json!(["feedback"])),
        vote(7)
            .with("tracing_feedback.scope", "session")
            .with("session.id", "s-1")
            .with("tracing_feedback.cleared", json!(["feedback.stars"])),
    ]);
    become_so(&[]);
}

#[test]
fn a_desk_that_has_lost_its_state_makes_nothing_twice() {
    let (mlflow, server) = start(&[1]);
    let rated = || span("answer", 1, 1, NEW_YEAR).with("feedback.rating", true);
    for rating in [true, false] {
        let rig = desk_to("mlflow", &server, |options| options);
        rig.send([rated(), carrier((1, 1), 2, NEW_YEAR + HOUR).with("feedback.rating", rating)]);
        let expected = format!("1 rating: feedback {rating} () by unknown");
        until(|| shown(&mlflow) == [expected.as_str()]);
    }
}

#[test]
fn a_trace_that_comes_later_gets_its_assessment() {
    let (mlflow, server) = start(&[]);
    let rig = desk_to("mlflow", &server, |options| options);
    rig.send([span("answer", 1, 1, NEW_YEAR).with("feedback.rating", true)]);
    until(|| rig.forwarding()["waiting_for_target"] == 1);
    mlflow.lock().unwrap().traces.insert(trace_id(1));
    rig.retry_forwarding();
    until(|| shown(&mlflow).len() == 1);
}
