//! `otlp`: spans go on as they came, to the test collector, which is a real receiver.

use tracing_feedback::collector::{Answer, Collector, ReceivedSpan};

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
