//! Phoenix: annotations, by a server that refuses what Phoenix's own models refuse
//! (`server/api/routers/v1/annotations.py`, 20.26.1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::server::{Request, check_keys};
use super::*;

/// An annotation's target, name and identifier: what Phoenix upserts by.
type Key = (String, String, String);

#[derive(Default)]
pub(super) struct Phoenix {
    /// Spans, traces and sessions.
    pub(super) targets: BTreeSet<String>,
    pub(super) annotations: BTreeMap<Key, Json>,
    pub(super) key: Option<String>,
}

impl Phoenix {
    pub(super) fn with_targets<T: Into<String>>(
        targets: impl IntoIterator<Item = T>,
    ) -> Arc<Mutex<Self>> {
        let targets = targets.into_iter().map(Into::into).collect();
        Arc::new(Mutex::new(Self { targets, ..Self::default() }))
    }

    /// Results by target and name.
    pub(super) fn results(&self) -> BTreeMap<(String, String), Json> {
        let results = self.annotations.iter().map(|((target, name, _), annotation)| {
            ((target.clone(), name.clone()), annotation["result"].clone())
        });
        let results: BTreeMap<_, _> = results.collect();
        assert_eq!(results.len(), self.annotations.len(), "nothing is there twice");
        results
    }

    fn upsert(&mut self, scope: &str, request: &Request) -> (u16, Json) {
        assert_eq!(request.query, [("sync".to_owned(), "true".to_owned())]);
        check_keys(&request.body, &["data"], &[]);
        let id = format!("{scope}_id");
        let (mut missing, mut new) = (Vec::new(), Vec::new());
        for annotation in request.body["data"].as_array().unwrap() {
            check_keys(
                annotation,
                &["name", "annotator_kind", &id],
                &["result", "metadata", "identifier"],
            );
            check_keys(&annotation["result"], &[], &["label", "score", "explanation"]);
            let text = |key: &str| annotation[key].as_str().unwrap().to_owned();
            assert!(["HUMAN", "LLM", "CODE"].contains(&text("annotator_kind").as_str()));
            assert!(annotation["metadata"].is_object());
            for (key, is_right) in [
                (
                    "label",
                    annotation["result"]["label"].as_str().is_none_or(|text| text.len() <= 64),
                ),
                ("score", annotation["result"].get("score").is_none_or(Json::is_number)),
            ] {
                assert!(is_right, "{key} of {annotation}");
            }
            if text("name") == "note" {
                return (400, json!({ "detail": "The name 'note' is reserved" }));
            }
            if !self.targets.contains(&text(&id)) {
                missing.push(text(&id));
            }
            new.push(((text(&id), text("name"), text("identifier")), annotation.clone()));
        }
        if !missing.is_empty() {
            let kind = ["Spans", "Traces", "Sessions"]
                .into_iter()
                .find(|kind| kind.to_lowercase().starts_with(scope));
            let ids = missing.join(", ");
            return (
                404,
                json!({ "detail": format!("{} with IDs {ids} do not exist.", kind.unwrap()) }),
            );
        }
        let ids: Vec<_> = new.iter().map(|_| json!({ "id": "U3Bhbg==" })).collect();
        self.annotations.extend(new);
        (200, json!({ "data": ids }))
    }

    /// Finds annotations by name and identifier alone, whatever their target.
    fn delete(&mut self, request: &Request) -> (u16, Json) {
        if request.parameter("delete_all") != Some("true") {
            return (422, json!({ "detail": "delete_all or a time range" }));
        }
        let name = request.parameter("name").unwrap();
        let identifier = request.parameter("identifier").unwrap();
        self.annotations.retain(|(_, of, by), _| of != name || by != identifier);
        (204, Json::Null)
    }
}

impl Strict for Phoenix {
    fn answer(&mut self, request: &Request) -> (u16, Json) {
        if let Some(key) = &self.key
            && request.header("authorization") != Some(&format!("Bearer {key}"))
        {
            return (
                401,
                json!({ "detail": format!("Invalid token {:?}", request.header("authorization")) }),
            );
        }
        for scope in ["span", "trace", "session"] {
            if request.path == format!("/v1/{scope}_annotations") {
                assert_eq!(request.method, "POST");
                return self.upsert(scope, request);
            }
            if request.path == format!("/v1/projects/default/{scope}_annotations") {
                assert_eq!(request.method, "DELETE");
                return self.delete(request);
            }
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/projects") => (200, json!({ "data": [] })),
            _ => (404, json!({ "detail": "Not Found" })),
        }
    }
}

fn start(targets: &[String]) -> (Arc<Mutex<Phoenix>>, Server) {
    let phoenix = Phoenix::with_targets(targets.iter().cloned());
    let server = Server::new(Arc::clone(&phoenix));
    (phoenix, server)
}

#[test]
fn a_vote_is_created_changed_and_taken_back_in_place() {
    let (phoenix, server) = start(&[span_id(1)]);
    let rig = desk_to("phoenix", &server, |options| options);
    rig.send([span("answer", 1, 1, NEW_YEAR)
        .with("feedback.rating", true)
        .with("feedback.comment", "fine")]);
    rig.settle();
    let key = (span_id(1), "rating".to_owned());
    let results = || phoenix.lock().unwrap().results();
    let fine = json!({ "score": 1.0, "label": "true", "explanation": "fine" });
    assert_eq!(results(), BTreeMap::from([(key.clone(), fine)]));

    rig.send([carrier((1, 1), 2, NEW_YEAR + HOUR).with("feedback.rating", false)]);
    until(|| results()[&key]["score"] == 0.0);
    rig.send([carrier((1, 1), 3, NEW_YEAR + 2 * HOUR)
        .with("tracing_feedback.cleared", json!(["feedback.rating"]))]);
    let comment =
        BTreeMap::from([((span_id(1), "comment".to_owned()), json!({ "label": "fine" }))]);
    until(|| results() == comment);
    rig.send([carrier((1, 1), 4, NEW_YEAR + 3 * HOUR)
        .with("tracing_feedback.cleared", json!(["feedback"]))]);
    until(|| results().is_empty());
    assert_eq!(rig.settle()["told"], 0);

    let calls = server.requests().len();
    rig.send([carrier((1, 1), 4, NEW_YEAR + 3 * HOUR)
        .with("tracing_feedback.cleared", json!(["feedback"]))]);
    rig.send([span("other", 2, 1, NEW_YEAR)]);
    rig.settle();
    assert_eq!(server.requests().len(), calls, "what is equal needs no call");
}

#[test]
fn traces_and_sessions_are_told_and_a_retraction_deletes_of_its_own_target_alone() {
    let (phoenix, server) = start(&[span_id(1), span_id(2), trace_id(1), "s-1".to_owned()]);
    let rig = desk_to("phoenix", &server, |options| options);
    rig.send([
        span("answer", 1, 1, NEW_YEAR).with("session.id", "s-1").with("feedback.rating", true),
        span("answer", 2, 2, NEW_YEAR).with("session.id", "s-1").with("feedback.rating", true),
        carrier((1, 1), 3, NEW_YEAR + HOUR)
            .with("tracing_feedback.scope", "trace")
            .with("feedback.rating", true),
        carrier((1, 1), 4, NEW_YEAR + HOUR)
            .with("tracing_feedback.scope", "session")
            .with("session.id", "s-1")
            .with("feedback.rating", true),
    ]);
    rig.settle();
    let targets = || -> Vec<String> {
        phoenix.lock().unwrap().results().into_keys().map(|(target, _)| target).collect()
    };
    assert_eq!(targets(), [trace_id(1), span_id(1), span_id(2), "s-1".to_owned()]);
    let retract = |id: u64| {
        carrier((1, 1), id, NEW_YEAR + DAY)
            .with("tracing_feedback.cleared", json!(["feedback.rating"]))
    };
    rig.send([retract(5)]);
    until(|| targets().len() == 3);
    assert_eq!(targets(), [trace_id(1), span_id(2), "s-1".to_owned()]);
    rig.send([retract(6).with("tracing_feedback.scope", "session").with("session.id", "s-1")]);
    until(|| targets() == [trace_id(1), span_id(2)]);
}

#[test]
fn a_span_that_comes_later_gets_its_feedback_and_the_others_do_not_wait() {
    let (phoenix, server) = start(&[span_id(1), span_id(3)]);
    let rig = desk_to("phoenix", &server, |options| options);
    rig.send((1..=3).map(|id| span("answer", id, id, NEW_YEAR).with("feedback.rating", true)));
    let has = |id: u64| {
        let phoenix = phoenix.lock().unwrap();
        phoenix.results().contains_key(&(span_id(id), "rating".to_owned()))
    };
    until(|| has(1) && has(3));
    until(|| rig.forwarding()["waiting_for_target"] == 1);
    let status = rig.forwarding();
    assert_eq!(status["listed"][0]["reason"], "Phoenix has no such span yet");
    assert_eq!(status["listed"][0]["span_id"], span_id(2).as_str());
    phoenix.lock().unwrap().targets.insert(span_id(2));
    until(|| has(2));
    until(|| rig.forwarding()["waiting_for_target"] == 0);
}

#[test]
fn a_desk_that_starts_again_goes_on_where_it_stopped() {
    let (phoenix, server) = start(&(1..=30).map(span_id).collect::<Vec<_>>());
    let directory = Directory::new();
    let url = format!("phoenix={}", server.url);
    let rate = |ids: std::ops::RangeInclusive<u64>| {
        ids.map(|id| span("answer", id, id, NEW_YEAR).with("feedback.rating", true))
    };
    // A store with feedback, of a desk that forwarded nothing.
    {
        let desk = Desk::start(Options::new(directory.store()).with_any_ports()).unwrap();
        post(&desk.http_endpoint().unwrap(), &request(rate(1..=20)));
    }
    let options = || Options::new(directory.store()).with_any_ports().with_forward(&url).unwrap();
    let told = || phoenix.lock().unwrap().annotations.len();
    {
        let _desk = Desk::start(options()).unwrap();
        until(|| told() == 20);
        assert_eq!(server.requests().len(), 1, "one call for all of them");
    }
    {
        let desk = Desk::start(Options::new(directory.store()).with_any_ports()).unwrap();
        post(&desk.http_endpoint().unwrap(), &request(rate(21..=30)));
    }
    server.forget_requests();
    let _desk = Desk::start(options()).unwrap();
    until(|| told() == 30);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body["data"].as_array().unwrap().len(), 10, "only the new ones");
}

#[test]
fn a_first_run_takes_no_more_calls_than_batches() {
    const TARGETS: u64 = 2_500;
    let (phoenix, server) = start(&(1..=TARGETS).map(span_id).collect::<Vec<_>>());
    let directory = Directory::new();
    {
        let desk = Desk::start(Options::new(directory.store()).with_any_ports()).unwrap();
        let rated = (1..=TARGETS)
            .map(|id| span("answer", id, id, NEW_YEAR).with("feedback.rating", id % 3 > 0));
        post(&desk.http_endpoint().unwrap(), &request(rated));
    }
    let url = format!("phoenix={}", server.url);
    let options = Options::new(directory.store()).with_any_ports().with_forward(&url).unwrap();
    let _desk = Desk::start(options).unwrap();
    until(|| phoenix.lock().unwrap().annotations.len() as u64 == TARGETS);
    let sizes: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.body["data"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
}

#[test]
fn texts_are_deleted_when_they_are_withheld_and_metrics_are_forwarded_by_choice() {
    let (phoenix, server) = start(&[span_id(1)]);
    let directory = Directory::new();
    let url = format!("phoenix={}", server.url);
    let run = |configure: fn(Options) -> Options, told: Json| {
        let options = Options::new(directory.store()).with_any_ports().with_forward(&url).unwrap();
        let desk = Desk::start(configure(options)).unwrap();
        let rated = span("answer", 1, 1, NEW_YEAR)
            .with("feedback.rating", true)
            .with("feedback.reason", "length")
            .with("feedback.user_id", "u-17")
            .with("metrics.rating", 0.5);
        post(&desk.http_endpoint().unwrap(), &request([rated]));
        let shown = || -> Json {
            let annotations = phoenix.lock().unwrap().annotations.clone();
            let shown = annotations.into_iter().map(|((_, name, _), annotation)| {
                let by = annotation["metadata"]["submitter"].clone();
                (name, json!([annotation["annotator_kind"], annotation["result"], by]))
            });
            Json::Object(shown.collect())
        };
        let end = Instant::now() + LONG;
        while shown() != told {
            assert!(Instant::now() < end, "{:#}", shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let rating = json!({ "score": 1.0, "label": "true" });
    let by_user = json!({
        "rating": ["HUMAN", rating, "u-17"], "reason": ["HUMAN", { "label": "length" }, "u-17"],
    });
    run(|options| options, by_user);
    run(
        |options| options.with_forward_metrics(true).with_forward_texts(false),
        json!({
            "rating": ["HUMAN", rating, null], "metrics.rating": ["CODE", { "score": 0.5 }, null],
        }),
    );
}

#[test]
fn what_the_desk_deletes_by_age_stays_in_the_backend() {
    let (phoenix, server) = start(&[span_id(1), "s-1".to_owned()]);
    let rig = desk_to("phoenix", &server, |options| options.with_max_age(Duration::from_secs(1)));
    rig.send([span("answer", 1, 1, NEW_YEAR)
        .with("session.id", "s-1")
        .with("feedback.rating", true)]);
    rig.send([carrier((1, 1), 4, NEW_YEAR + HOUR)
        .with("tracing_feedback.scope", "session")
        .with("session.id", "s-1")
        .with("feedback.stars", 4)]);
    until(|| phoenix.lock().unwrap().annotations.len() == 2);
    until(|| rig.get("/api/v1/status")["documents"] == 0);
    rig.send([carrier((1, 1), 5, NEW_YEAR + DAY)
        .with("tracing_feedback.scope", "session")
        .with("session.id", "s-1")
        .with("feedback.comment", "bye")]);
    until(|| phoenix.lock().unwrap().annotations.len() == 3);
    assert!(server.requests().iter().all(|request| request.method == "POST"));
}
