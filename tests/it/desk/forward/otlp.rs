//! `otlp`: spans go on as they came, to the test collector, which is a real receiver.

use tracing_feedback::collector::{Answer, Collector, ReceivedLogRecord, ReceivedSpan};

use super::*;

fn rig_to(collector: &Collector) -> Rig {
    let url = format!("otlp={}", collector.http_endpoint());
    Rig::with(|options| options.with_forward(&url).unwrap())
}

fn rated(id: u64) -> Span {
    span("answer", id, id, NEW_YEAR).of("chat", "1.1").with("feedback.rating", true).with("n", id)
}

/// What a reader can see of spans, in order.
fn shown(mut spans: Vec<ReceivedSpan>) -> Vec<String> {
    spans.sort_by_key(|span| (span.trace_id.to_bytes(), span.span_id.to_bytes()));
    let show = |span: &ReceivedSpan| {
        format!(
            "{} {} {} {} {} {} {:?} {:?} {:?} {:?}",
            span.name,
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.attributes,
            span.links,
            span.events,
            span.resource
        )
    };
    spans.iter().map(show).collect()
}

#[test]
fn spans_and_carriers_arrive_as_they_came_and_once() {
    // The same spans, sent to a collector at once.
    let direct = Collector::start().unwrap();
    let spans = || {
        let mut spans: Vec<Span> = (1..=50).map(rated).collect();
        spans.push(carrier((7, 7), 90, NEW_YEAR + HOUR).with("feedback.rating", false));
        let mut child = span("tool", 7, 91, NEW_YEAR + 1).child_of(7).of("tools", "2");
        child.json["events"] = json!([{ "name": "retry", "timeUnixNano": NEW_YEAR.to_string() }]);
        child.json["kind"] = json!(3);
        spans.push(child);
        spans
    };
    post(direct.http_endpoint(), &request(spans()));

    let collector = Collector::start().unwrap();
    let directory = Directory::new();
    let url = format!("otlp={}", collector.http_endpoint());
    let options = || Options::new(directory.store()).with_any_ports().with_forward(&url).unwrap();
    {
        let desk = Desk::start(options()).unwrap();
        post(&desk.http_endpoint().unwrap(), &request(spans()));
        collector.wait_for_spans(52, LONG).unwrap();
        assert_eq!(shown(collector.spans()), shown(direct.spans()));
        until(|| {
            let status = get(&desk.address(), "/api/v1/forwarding", &[]).text();
            let status: Json = serde_json::from_str(&status).unwrap();
            status["backends"][0]["told"] == 52 && status["backends"][0]["waiting_for_backend"] == 0
        });
    }
    let desk = Desk::start(options()).unwrap();
    post(&desk.http_endpoint().unwrap(), &request(spans().into_iter().chain([rated(99)])));
    collector.wait_for_spans(53, LONG).unwrap();
    assert_eq!(collector.spans().len(), 53, "only the new one");
}

#[test]
fn an_outage_and_a_rejection_lose_no_other_span() {
    let collector = Collector::start().unwrap();
    let rig = rig_to(&collector);
    for _ in 0..2 {
        collector.answer_next(Answer::Unavailable { retry_after: None });
    }
    rig.send((1..=20).map(rated));
    until(|| rig.forwarding()["reason"].as_str().is_some_and(|reason| reason.starts_with("503")));
    assert_eq!(rig.forwarding()["waiting_for_backend"], 20);
    until(|| {
        rig.retry_forwarding();
        collector.spans().len() == 20
    });
    until(|| rig.forwarding()["waiting_for_backend"] == 0);

    collector.answer_next(Answer::PartialSuccess { rejected: 1, message: "too old".to_owned() });
    rig.send([rated(21)]);
    until(|| rig.forwarding()["refused"] == 1);
    assert_eq!(rig.forwarding()["listed"][0]["reason"], "1 spans were rejected: too old");
    rig.send([rated(22)]);
    collector.wait_for_spans(21, LONG).unwrap();
}

#[test]
fn events_arrive_as_the_log_records_they_were() {
    let record = |value: f64| {
        json!({
            "eventName": "gen_ai.evaluation.result",
            "timeUnixNano": NEW_YEAR.to_string(),
            "traceId": format!("{:032x}", 7), "spanId": format!("{:016x}", 7),
            "attributes": [
                { "key": "gen_ai.evaluation.name", "value": { "stringValue": "helpful" } },
                { "key": "gen_ai.evaluation.score.value", "value": { "doubleValue": value } },
                { "key": "openlit.score.idempotency_key", "value": { "stringValue": format!("k{value}") } },
            ],
        })
    };
    let logs = |records: Json| {
        json!({ "resourceLogs": [{
            "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "chat" } }] },
            "scopeLogs": [{ "scope": { "name": "openlit" }, "logRecords": records }],
        }]})
    };
    let collector = Collector::start().unwrap();
    let rig = rig_to(&collector);
    let mut answer = rated(7);
    // A part of a span goes with the span.
    answer.json["events"] = json!([{
        "name": "gen_ai.evaluation.result", "timeUnixNano": NEW_YEAR.to_string(),
        "attributes": [
            { "key": "gen_ai.evaluation.name", "value": { "stringValue": "polite" } },
            { "key": "gen_ai.evaluation.score.value", "value": { "doubleValue": 0.25 } },
        ],
    }]);
    rig.send([answer]);
    let endpoint = rig.desk.http_endpoint().unwrap();
    let both = logs(json!([record(0.5), record(0.75)]));
    assert_eq!(try_post_to(&endpoint, "/v1/logs", &both, "").status, 200);
    let events = collector.wait_for_events(2, LONG).unwrap();
    let spans = collector.wait_for_spans(1, LONG).unwrap();
    assert_eq!((events.len(), spans.len(), collector.spans().len()), (2, 1, 1));
    let direct = Collector::start().unwrap();
    assert_eq!(try_post_to(direct.http_endpoint(), "/v1/logs", &both, "").status, 200);
    let shown = |events: Vec<ReceivedLogRecord>| {
        let shown = events.iter().map(|event| {
            let ids = (event.trace_id, event.span_id, event.time_unix_nano);
            format!("{} {ids:?} {:?} {:?}", event.event_name, event.attributes, event.resource)
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        shown
    };
    assert_eq!(shown(events), shown(direct.events()));
    let folded = collector.feedback(spans[0].trace_id, spans[0].span_id);
    assert_eq!(
        folded.keys().collect::<Vec<_>>(),
        ["feedback.helpful", "feedback.polite", "feedback.rating"]
    );
}
