//! Datadog: end-user feedback in LLM Observability.
//!
//! `POST /api/intake/llm-obs/v2/eval-metric` appends events. None is ever changed or deleted: of several with one
//! label about one target the latest counts. So a changed vote is an event with a later time, and a deletion is refused
//! here, with the reason. A repeated call repeats its events with the same times and contents, as the time of the last
//! one is the memo. A span that has not come is not missed.
//! Source: <https://docs.datadoghq.com/llm_observability/investigate/evaluations/end_user_feedback/>.

use http::{HeaderName, Method, StatusCode};
use serde_json::{Value as Json, json};

use super::backend::{
    Backend, BackendKind, Call, Change, ChangeOutcome, Outcome, Planned, Reply, Request,
};
use super::names;
use super::setup::BackendSetup;
use super::wanted::{Item, Source};
use crate::collector::Target;
use crate::desk::store::json::datum_json;
use crate::desk::store::leaf::Leaf;

pub(super) const KIND: BackendKind = BackendKind {
    name: "datadog",
    variables: &["DD_API_KEY"],
    parameters: &["ml_app"],
    version: 1,
    make: |setup| Ok(Box::new(Datadog::new(setup)?)),
};

/// Events of one request.
const MOST: usize = 500;
/// About how large a request gets, in bytes.
const ENOUGH_BYTES: usize = 1 << 20;

const PATH: &str = "/api/intake/llm-obs/v2/eval-metric";

struct Datadog {
    key: String,
    /// The application of every event, instead of the service of its target.
    ml_app: Option<String>,
}

impl Datadog {
    fn new(setup: &BackendSetup) -> Result<Self, String> {
        Ok(Self {
            key: setup.secret("DD_API_KEY").ok_or("set DD_API_KEY")?.to_owned(),
            ml_app: setup.parameter("ml_app").map(str::to_owned),
        })
    }

    fn event(&self, change: &Change<'_>, item: &Item, time: i64) -> Json {
        let text = item.text();
        let (kind, value) = match &item.value {
            Leaf::Bool(value) => ("boolean", json!(value)),
            value @ (Leaf::Int(_) | Leaf::Double(_)) => ("score", datum_json(value.datum())),
            _ if item.is_category() && !text.is_empty() => ("categorical", json!(text)),
            _ => ("text", json!(text)),
        };
        let ml_app = self.ml_app.as_deref().or(change.target.service.as_deref());
        // The person is not known, or not to be known there.
        let by = item.by.as_deref().filter(|by| !by.is_empty()).unwrap_or("unknown");
        let by_machine = matches!(item.source, Source::Code | Source::Model);
        let mut event = json!({
            "event_kind": "feedback",
            "ml_app": ml_app.unwrap_or("unknown"),
            "timestamp_ms": time,
            "metric_type": kind,
            "label": label(change.field),
            "submitter": { "id": by, "type": if by_machine { "agent" } else { "user" } },
            "tags": [
                format!("feedback_id:{}", names::hex_id(&change.target.target, change.field)),
                format!("feedback_source:{}", item.source.name()),
            ],
        });
        event[format!("{kind}_value")] = value;
        match &change.target.target {
            Target::Span(_, span) => {
                event["span_id"] = json!(u64::from_be_bytes(span.to_bytes()).to_string());
            }
            Target::Trace(trace) => event["trace_id"] = json!(trace.to_string()),
            Target::Session(id) => event["session_id"] = json!(id),
        }
        if let (Leaf::Bool(value), "feedback.rating") = (&item.value, change.field) {
            event["assessment"] = json!(if *value { "pass" } else { "fail" });
        }
        if let Some(explanation) = &item.explanation {
            event["reasoning"] = json!(explanation);
        }
        event
    }
}

impl Backend for Datadog {
    fn headers(&self) -> Vec<(HeaderName, String)> {
        vec![(HeaderName::from_static("dd-api-key"), self.key.clone())]
    }

    fn plan(&self, changes: &[Change<'_>], which: &[usize]) -> Vec<Planned> {
        let mut plan = Vec::new();
        let mut open = Events::default();
        for &at in which {
            let change = &changes[at];
            let Some(item) = change.wanted else {
                let reason = "Datadog can't delete feedback: the last value stays there".to_owned();
                plan.push(Planned::Outcome(at, ChangeOutcome::Refused(reason)));
                continue;
            };
            let time = time_of(change, item);
            let event = self.event(change, item, time);
            open.bytes += event.to_string().len();
            open.events.push(event);
            open.changes.push(at);
            open.memos.push(format!("{time} {}", item.hash()));
            if open.events.len() >= MOST || open.bytes >= ENOUGH_BYTES {
                plan.extend(std::mem::take(&mut open).call());
            }
        }
        plan.extend(open.call());
        plan
    }

    fn outcome(&self, _: &[Change<'_>], _: &Call, reply: &Reply) -> Outcome {
        // The body of a success is empty, or an empty object.
        let is_empty = reply.body.trim_ascii().is_empty() || reply.json() == Some(json!({}));
        match reply.status {
            StatusCode::OK | StatusCode::ACCEPTED if is_empty => Outcome::Done,
            // The test agent of Datadog.
            StatusCode::OK if reply.text() == "200: OK" => Outcome::Done,
            StatusCode::ACCEPTED if reply.json().is_some() => Outcome::Done,
            _ => reply.problem(),
        }
    }

    fn probe(&self) -> Request {
        Request::new(Method::GET, "/api/v1/validate")
    }
}

/// The events of a request.
#[derive(Default)]
struct Events {
    events: Vec<Json>,
    changes: Vec<usize>,
    memos: Vec<String>,
    bytes: usize,
}

impl Events {
    /// The call that sends them, if there are any.
    fn call(self) -> Option<Planned> {
        let Self { events, changes, memos, .. } = self;
        let body = json!({
            "data": { "type": "evaluation_metric", "attributes": { "metrics": events } },
        });
        let request = Request::new(Method::POST, PATH).with_json(body);
        (!changes.is_empty()).then(|| Call { memos, ..Call::new(request, changes) }.into())
    }
}

/// The time of an event, in milliseconds: when the vote was given, but after the event that it supersedes. One that may
/// have been sent already is repeated with its time.
fn time_of(change: &Change<'_>, item: &Item) -> i64 {
    let last = change.memo.and_then(|memo| memo.split_once(' '));
    let number = |text: &str| text.parse::<i64>().ok();
    match last.and_then(|(time, hash)| number(time).zip(number(hash))) {
        Some((time, hash)) if hash == item.hash() => time,
        Some((time, _)) => item.given_ms().max(time + 1),
        None => item.given_ms(),
    }
}

/// A label begins with a letter.
fn label(field: &str) -> String {
    let name = names::name(KIND.name, field);
    if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return name;
    }
    let mut label = format!("f_{name}");
    label.truncate(names::longest(KIND.name)); // it is ASCII
    label
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceId};

    use super::*;
    use crate::desk::forward::backend::Known;
    use crate::desk::forward::backend::tests::{change, planned, reply};
    use crate::desk::forward::wanted::tests::{items_of, target, text};

    fn datadog() -> Datadog {
        Datadog::new(&BackendSetup::of(&[], &[("DD_API_KEY", "k")])).unwrap()
    }

    fn events(call: &Call) -> Vec<Json> {
        let body = call.request.body.as_ref().unwrap();
        assert_eq!(body["data"]["type"], "evaluation_metric");
        body["data"]["attributes"]["metrics"].as_array().unwrap().clone()
    }

    #[test]
    fn every_type_of_leaf_has_its_body() {
        let mut target = target(&[
            ("feedback.comment", text("slow")),
            ("feedback.ground_truth", text("Albany")),
            ("feedback.rating", Leaf::Bool(false)),
            ("feedback.reason", text("length")),
            ("feedback.step1.retry", Leaf::Bool(true)),
            ("metrics.relevance", Leaf::Double(0.5)),
        ]);
        target.target = Target::Span(TraceId::from(0xa), SpanId::from(u64::MAX));
        let items = items_of(&target);
        let changes: Vec<_> = items.iter().map(|item| change(&target, item)).collect();
        let call = planned(&datadog(), &changes, &[0, 1, 2, 3, 4]).remove(0);
        assert_eq!((call.request.method.as_str(), call.request.path.as_str()), ("POST", PATH));
        assert_eq!(datadog().headers(), [(HeaderName::from_static("dd-api-key"), "k".to_owned())]);
        let events = events(&call);
        let expect = |at: usize, label: &str, by: &str, source: &str, content: Json| {
            let mut event = json!({
                "event_kind": "feedback", "span_id": "18446744073709551615", "ml_app": "chat",
                "timestamp_ms": 1_000, "label": label, "submitter": { "id": "u-17", "type": by },
                "tags": [
                    format!("feedback_id:{}", names::hex_id(&target.target, changes[at].field)),
                    format!("feedback_source:{source}"),
                ],
            });
            event.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
            assert_eq!(events[at], event);
        };
        let truth = json!({ "metric_type": "text", "text_value": "Albany" });
        expect(0, "ground_truth", "user", "user", truth);
        let rating = json!({
            "metric_type": "boolean", "boolean_value": false, "assessment": "fail", "reasoning": "slow",
        });
        expect(1, "rating", "user", "user", rating);
        let reason = json!({ "metric_type": "categorical", "categorical_value": "length" });
        expect(2, "reason", "user", "user", reason);
        let retry = json!({ "metric_type": "boolean", "boolean_value": true });
        expect(3, "step1_retry", "user", "user", retry);
        let relevance = json!({ "metric_type": "score", "score_value": 0.5 });
        expect(4, "metrics_relevance", "agent", "code", relevance);
    }

    #[test]
    fn every_event_has_one_target_and_a_label_that_begins_with_a_letter() {
        let mut target = target(&[("feedback.1st", Leaf::Int(1))]);
        let items = items_of(&target);
        for (of, name, id) in [
            (Target::Trace(TraceId::from(0xc)), "trace_id", "0000000000000000000000000000000c"),
            (Target::Session("s 1".to_owned()), "session_id", "s 1"),
        ] {
            target.target = of;
            let event =
                events(&planned(&datadog(), &[change(&target, &items[0])], &[0])[0]).remove(0);
            assert_eq!((&event[name], &event["label"]), (&json!(id), &json!("f_1st")));
            let targets = ["span_id", "trace_id", "session_id"];
            assert_eq!(targets.iter().filter(|name| !event[**name].is_null()).count(), 1);
        }
    }

    #[test]
    fn a_changed_vote_is_later_and_a_repeated_event_is_the_same() {
        let target = target(&[("feedback.rating", Leaf::Bool(false))]);
        let mut item = items_of(&target).remove(0);
        let first = planned(&datadog(), &[change(&target, &item)], &[0]).remove(0);
        let memo = first.memos[0].clone();
        let repeated = {
            let mut change = change(&target, &item);
            (change.known, change.memo) = (Known::Unknown, Some(memo.as_str()));
            planned(&datadog(), &[change], &[0]).remove(0)
        };
        assert_eq!(repeated.request, first.request);
        // The value of the fold is now an older one, since the newer vote was retracted.
        item.value = Leaf::Bool(true);
        for (given, expected) in [(0, 1_001), (9_000_000_000, 9_000)] {
            item.given = given;
            let mut change = change(&target, &item);
            (change.known, change.memo) = (Known::Present, Some(memo.as_str()));
            let call = planned(&datadog(), &[change], &[0]).remove(0);
            assert_eq!(events(&call)[0]["timestamp_ms"], expected);
        }
    }

    #[test]
    fn a_deletion_is_refused_with_the_reason() {
        let target = target(&[("feedback.rating", Leaf::Bool(false))]);
        let items = items_of(&target);
        let mut change = change(&target, &items[0]);
        (change.wanted, change.known) = (None, Known::Present);
        let [Planned::Outcome(0, ChangeOutcome::Refused(reason))] =
            &datadog().plan(&[change], &[0])[..]
        else {
            panic!()
        };
        assert!(reason.contains("can't delete"), "{reason}");
    }

    #[test]
    fn an_answer_means_what_datadog_says_of_it() {
        let call = Call::new(Request::new(Method::POST, PATH), vec![0]);
        let outcome = |status, body: &str| datadog().outcome(&[], &call, &reply(status, body));
        for (status, body) in [(202, ""), (202, "{}"), (200, ""), (200, "200: OK")] {
            assert_eq!(outcome(status, body), Outcome::Done, "{status} {body}");
        }
        for (status, body) in [(200, "<html>"), (202, "<html>"), (403, "{}"), (429, ""), (500, "")]
        {
            assert!(matches!(outcome(status, body), Outcome::Down { .. }), "{status} {body}");
        }
        assert!(matches!(outcome(400, r#"{"errors":["no"]}"#), Outcome::Refused(_)));
    }
}
