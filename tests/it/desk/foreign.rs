//! Feedback in the forms of other emitters: received, folded, listed with its history, and counted once.

use std::io::{BufRead, BufReader};

use super::*;

const TRACE: u64 = 7;
const ANSWER: u64 = 8;

fn attributes(list: &[(&str, Json)]) -> Json {
    list.iter().map(|(key, value)| json!({ "key": key, "value": any(value.clone()) })).collect()
}

/// A log record about the answer.
fn record(time: u64, list: &[(&str, Json)]) -> Json {
    json!({
        "eventName": "gen_ai.evaluation.result", "timeUnixNano": time.to_string(),
        "traceId": format!("{TRACE:032x}"), "spanId": format!("{ANSWER:016x}"),
        "attributes": attributes(list),
    })
}

fn vote(value: bool) -> Vec<(&'static str, Json)> {
    vec![
        ("gen_ai.evaluation.name", "rating".into()),
        ("gen_ai.evaluation.score.value", f64::from(u8::from(value)).into()),
        ("gen_ai.evaluation.score.label", value.to_string().into()),
    ]
}

impl Rig {
    /// Log records by OTLP over http/json. When it returns their feedback is kept.
    fn send_logs(&self, records: impl IntoIterator<Item = Json>) -> Json {
        let records: Vec<_> = records.into_iter().collect();
        let scope = json!({ "name": "openlit.score" });
        let resource = attributes(&[("service.name", "chat".into())]);
        let body = json!({ "resourceLogs": [{
            "resource": { "attributes": resource },
            "scopeLogs": [{ "scope": scope, "logRecords": records }],
        }]});
        let endpoint = self.desk.http_endpoint().unwrap();
        let reply = try_post_to(&endpoint, "/v1/logs", &body, "");
        assert_eq!(reply.status, 200, "{}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// The document about the answer.
    fn document(&self) -> Json {
        let trace = self.get(&format!("/api/v1/traces/{TRACE:032x}"));
        let spans = trace["spans"].as_array().unwrap();
        let id = format!("{ANSWER:016x}");
        spans.iter().find(|span| span["span_id"] == id.as_str()).unwrap()["document"].clone()
    }

    /// Each change of the answer's feedback: what it set, and the form in which it arrived.
    fn history(&self) -> Vec<(String, Json)> {
        let document = self.document();
        let changes = document["history"].as_array().unwrap().iter();
        let set = |change: &Json| {
            let leaves = change["set"].as_array().unwrap().iter();
            let leaves =
                leaves.map(|leaf| format!("{}={}", leaf["field"].as_str().unwrap(), leaf["value"]));
            leaves.collect::<Vec<_>>().join(" ")
        };
        changes.map(|change| (set(change), change["form"].clone())).collect()
    }

    /// What `tail --all` prints of the first so many votes, and that nothing but the vote that is given then follows.
    fn tail(&self, count: usize) -> Vec<String> {
        let mut tail = program(&self.directory.store())
            .args(["tail", "--all"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        let mut said = lines.map(|line| line.unwrap().split("  ").nth(2).unwrap().to_owned());
        let first = said.by_ref().take(count).collect();
        self.send([carrier((TRACE, ANSWER), 9, NEW_YEAR + HOUR).with("feedback.last", 1)]);
        assert_eq!(said.next().unwrap(), "feedback.last = 1");
        tail.kill().unwrap();
        tail.wait().unwrap();
        first
    }

    fn documents(&self) -> u64 {
        self.get("/api/v1/status")["documents"].as_u64().unwrap()
    }

    /// What a filter finds.
    fn count(&self, filter: &str) -> usize {
        self.names(&format!("filter={}", filter.replace(' ', "%20"))).len()
    }
}

fn answer() -> Span {
    span("answer", TRACE, ANSWER, NEW_YEAR)
}

#[test]
fn a_log_record_is_folded_into_the_answer_it_is_about_and_counts_once() {
    let rig = Rig::new();
    let mut first = vote(false);
    first.push(("gen_ai.evaluation.explanation", "Wrong capital".into()));
    first.push(("enduser.id", "u-17".into()));
    first.push(("openlit.score.idempotency_key", "vote-17".into()));
    // Before the span it is about, and twice.
    for _ in 0..2 {
        rig.send_logs([
            record(NEW_YEAR + 5 * SECOND, &first),
            json!({ "body": any("a line".into()) }),
        ]);
        assert_eq!(rig.get("/api/v1/status")["waiting"], 1);
    }
    rig.send([answer()]);
    assert_eq!(rig.get("/api/v1/status")["waiting"], 0);
    let expected = "feedback.comment=\"Wrong capital\" feedback.rating=false".to_owned();
    assert_eq!(rig.history(), [(expected, json!("log record"))]);
    assert_eq!(rig.document()["history"][0]["by"], "u-17");
    // A change of mind.
    rig.send_logs([record(NEW_YEAR + 9 * SECOND, &vote(true))]);
    assert_eq!(rig.history()[1], ("feedback.rating=true".to_owned(), json!("log record")));
    assert_eq!(rig.documents(), 2);
    assert_eq!(rig.count("feedback.rating is true"), 1);
    assert_eq!(rig.count("feedback.rating is false"), 0);
    // A record is no span: no trace is listed for it, and the tree has the answer alone.
    assert_eq!(rig.names(""), ["answer"]);
    let trace = rig.get(&format!("/api/v1/traces/{TRACE:032x}"));
    assert_eq!(trace["spans"].as_array().unwrap().len(), 1);
}

#[test]
fn a_record_that_cannot_be_read_costs_itself_only() {
    let rig = Rig::new();
    rig.send([answer()]);
    let broken = json!({ "traceId": 5 });
    let response = rig.send_logs([broken, record(NEW_YEAR, &vote(true))]);
    assert_eq!(response["partialSuccess"]["rejectedLogRecords"], "1");
    assert_eq!(rig.history().len(), 1);
    // And where nothing else is feedback.
    let response =
        rig.send_logs([json!({ "traceId": 5 }), json!({ "body": any("a line".into()) })]);
    assert_eq!(response["partialSuccess"]["rejectedLogRecords"], "1");
}

/// An event of this crate about the answer.
fn own(time: u64, list: &[(&str, Json)]) -> Json {
    let mut list = list.to_vec();
    list.push(("tracing_feedback.namespace", "feedback".into()));
    list.push(("tracing_feedback.time_unix_nano", time.into()));
    record(time, &list)
}

#[test]
fn spans_and_events_of_one_service_count_once_in_any_order() {
    let late = NEW_YEAR + 60 * SECOND;
    let spans = || {
        [
            answer().with("feedback.rating", false),
            carrier((TRACE, ANSWER), 1, late).with("feedback.rating", true),
        ]
    };
    let records = || [own(NEW_YEAR + 5, &vote(false)), own(late, &vote(true))];
    let expected = [
        ("feedback.rating=false".to_owned(), Json::Null),
        ("feedback.rating=true".to_owned(), Json::Null),
    ];
    for spans_first in [true, false] {
        let rig = Rig::new();
        if spans_first {
            rig.send(spans());
        }
        rig.send_logs(records());
        rig.send(spans());
        rig.send_logs(records());
        assert_eq!(rig.history(), expected, "spans first: {spans_first}");
        assert_eq!(rig.documents(), 2, "spans first: {spans_first}");
        assert_eq!(rig.tail(2), ["feedback.rating = false", "feedback.rating = true"]);
    }
    // Where the spans go elsewhere, the records count.
    let rig = Rig::new();
    rig.send_logs(records());
    rig.send([answer()]);
    let own_record = json!("own log record");
    let expected = expected.map(|(set, _)| (set, own_record.clone()));
    assert_eq!(rig.history(), expected);
    assert_eq!(rig.count("feedback.rating is true"), 1);
}

#[test]
fn span_events_annotations_and_spans_of_other_emitters_are_folded() {
    let rig = Rig::new();
    let mut judged = answer()
        .with("annotations.0.annotation.name", "tone")
        .with("annotations.0.annotation.label", "kind")
        .with("annotations.0.annotation.annotator_kind", "LLM");
    judged.json["events"] = json!([{
        "name": "gen_ai.evaluation.result", "timeUnixNano": (NEW_YEAR + 5).to_string(),
        "attributes": attributes(&vote(false)),
    }]);
    let logfire = span("feedback: stars", TRACE, 20, NEW_YEAR + 10 * SECOND)
        .child_of(ANSWER)
        .with("logfire.span_type", "annotation")
        .with("logfire.feedback.name", "stars")
        .with("stars", 4);
    let genai = span("gen_ai.evaluation.result", TRACE, 21, NEW_YEAR + 20 * SECOND)
        .child_of(ANSWER)
        .with("gen_ai.evaluation.name", "relevance")
        .with("gen_ai.evaluation.score.value", 0.5);
    for _ in 0..2 {
        rig.send([judged.clone(), logfire.clone(), genai.clone()]);
        // OpenLIT sends the score of an open span as a record, too.
        rig.send_logs([record(NEW_YEAR + 6, &vote(false))]);
    }
    let expected = [
        ("feedback.rating=false", "span event"),
        ("metrics.tone=\"kind\"", "OpenInference annotation"),
        ("feedback.stars=4", "Logfire annotation"),
        ("feedback.relevance=0.5", "evaluation span"),
    ];
    let expected = expected.map(|(set, form)| (set.to_owned(), json!(form)));
    assert_eq!(rig.history(), expected);
    // What came on a span stays on it, and the spans are in their trace.
    let trace = rig.get(&format!("/api/v1/traces/{TRACE:032x}"));
    let names: Vec<_> =
        trace["spans"].as_array().unwrap().iter().map(|span| span["name"].clone()).collect();
    assert_eq!(names, ["answer", "feedback: stars", "gen_ai.evaluation.result"]);
}

#[test]
fn feedback_about_a_session_or_about_nothing_is_kept_too() {
    let rig = Rig::new();
    let mut of_session = vote(true);
    of_session.push(("gen_ai.conversation.id", "conversation-42".into()));
    let without_span = |list: &[(&str, Json)]| {
        let mut record = record(NEW_YEAR, list);
        (record["traceId"], record["spanId"]) = (json!(""), json!(""));
        record
    };
    let mut of_response = vote(false);
    of_response.push(("gen_ai.response.id", "chatcmpl-1".into()));
    rig.send_logs([without_span(&of_session), without_span(&of_response)]);
    let session = rig.get("/api/v1/sessions/conversation-42");
    assert_eq!(session["document"]["namespaces"]["feedback"][0]["value"], true, "{session}");
    assert_eq!(rig.get("/api/v1/status")["adrift"], 1);
}

#[test]
fn a_request_with_more_judgements_than_it_has_room_for_is_refused() {
    let rig = Rig::new();
    let judged = |count: usize| {
        let event = json!({
            "name": "gen_ai.evaluation.result", "timeUnixNano": "1", "attributes": attributes(&vote(true)),
        });
        let mut span = answer();
        span.json["events"] = Json::Array(vec![event; count]);
        request([span])
    };
    let endpoint = rig.desk.http_endpoint().unwrap();
    let reply = try_post(&endpoint, &judged(50_001), "");
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert!(reply.text().contains("send fewer spans"), "{}", reply.text());
    post(&endpoint, &judged(5_000));
    // All are the same.
    assert_eq!(rig.history().len(), 1);
}
