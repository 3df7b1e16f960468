//! Large traces and large texts.

use super::*;

/// A trace of 10,500 spans: a root, and below it a chain of the last hundred.
fn send_long_trace(rig: &Rig) {
    let spans: Vec<_> = (1..=10_500_u64)
        .map(|id| {
            let span = span(&format!("s{id}"), 1, id, NEW_YEAR + id);
            match id {
                1 => span,
                2..=10_400 => span.child_of(1),
                _ => span.child_of(id - 1),
            }
        })
        .collect();
    for some in spans.chunks(2_000) {
        rig.send(some.to_vec());
    }
}

fn shown(rig: &Rig, query: &str) -> Vec<Json> {
    let trace = rig.get(&format!("/api/v1/traces/{:032x}{query}", 1));
    assert_eq!(trace["truncated"], true);
    assert_eq!(trace["waiting"], json!([]));
    trace["spans"].as_array().unwrap().clone()
}

#[test]
fn what_is_judged_or_asked_for_is_shown_of_a_long_trace() {
    let rig = Rig::new();
    send_long_trace(&rig);
    let names = |spans: &[Json]| -> Vec<String> {
        spans.iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect()
    };
    let plain = shown(&rig, "");
    assert_eq!(plain.len(), 10_000);
    assert!(!names(&plain).contains(&"s10450".to_owned()));
    assert!(rig.error(&format!("/api/v1/traces/{:032x}?span=7", 1)).contains("16 hexadecimal"));

    // Asked for: with its ancestors, so it is as deep as it was made.
    let asked = shown(&rig, &format!("?span={:016x}", 10_450));
    let found = asked.iter().find(|span| span["name"] == "s10450").unwrap();
    assert_eq!(found["depth"], 51);
    assert!(!names(&asked).contains(&"s10460".to_owned()));

    // Judged, in its own trace and from another one, and with feedback of its own.
    rig.send([carrier((1, 10_460), 90_000, NEW_YEAR + HOUR).with("feedback.rating", false)]);
    let late = carrier((1, 10_470), 90_001, NEW_YEAR + HOUR).with("feedback.rating", true);
    rig.send([in_the_trace_of_its_target(late)]);
    let own = span("own", 1, 10_600, NEW_YEAR + 2 * HOUR).with("feedback.rating", true);
    rig.send([own.child_of(10_500)]);
    let judged = shown(&rig, "");
    for (name, rating) in [("s10460", false), ("s10470", true), ("own", true)] {
        let found = judged.iter().find(|span| span["name"] == name).expect(name);
        let leaf = &found["document"]["namespaces"]["feedback"][0];
        assert_eq!(leaf["value"], rating, "{name}");
    }
    assert_eq!(judged.iter().filter(|span| span["carrier"] == true).count(), 2);
}

#[test]
fn lists_have_the_beginning_of_a_text_and_traces_all_of_it() {
    let rig = Rig::new();
    let long = "ü".repeat(300_000);
    rig.send([span("answer", 1, 1, NEW_YEAR)
        .with("input.value", long.clone())
        .with("outputs.text", long.clone())
        .with("feedback.comment", long.clone())
        .with("session.id", "s")]);
    let beginning = "ü".repeat(1_000) + "…";
    for (path, place) in [
        ("/api/v1/dataset", "/rows/0/input"),
        ("/api/v1/dataset", "/rows/0/output"),
        ("/api/v1/dataset", "/rows/0/feedback/comment"),
        ("/api/v1/comments", "/rows/0/text"),
        ("/api/v1/comments", "/rows/0/input"),
        ("/api/v1/traces", "/rows/0/feedback/0/value"),
        ("/api/v1/sessions/s", "/list/0/feedback/0/value"),
        ("/api/v1/values?field=feedback.comment", "/rows/0/value"),
    ] {
        let list = rig.get(path);
        assert!(list.to_string().len() < 20_000, "{path}");
        assert_eq!(list.pointer(place), Some(&Json::from(beginning.clone())), "{path}: {list}");
        let row = list["rows"].get(0).or(list["list"].get(0)).unwrap();
        assert_eq!(row["cut"], true, "{path}");
    }
    let trace = rig.get(&format!("/api/v1/traces/{:032x}", 1));
    assert_eq!(trace["spans"][0]["attributes"]["input.value"], long);
    let export = get(&rig.desk.address(), "/api/v1/export/comments?format=jsonl", &[]);
    assert!(export.text().contains(&long));
}

#[test]
fn escapes_in_a_value_are_found_by_what_they_mean() {
    let rig = Rig::new();
    let json = r#"{"content": "Gr\u00fc\u00dfe \ud83d\ude00"}"#;
    rig.send([span("answer", 1, 1, NEW_YEAR)
        .with("input.value", json)
        .with("feedback.comment", json)]);
    for query in [
        "filter=feedback.comment%20contains%20%22gr%C3%BC%C3%9Fe%20%F0%9F%98%80%22",
        "filter=input.value%20contains%20%22Gr%C3%BC%C3%9Fe%22",
        r"filter=input.value%20contains%20u00fc",
    ] {
        assert_eq!(rig.names(query), ["answer"], "{query}");
    }
    let comments = rig.get("/api/v1/comments?search=Gr%C3%BC%C3%9Fe");
    assert_eq!(comments["total"], 1);
}

#[test]
fn a_finished_span_stays_for_the_state_that_was_sent_before_it_had_ended() {
    for is_finished_first in [false, true] {
        let rig = Rig::new();
        let mut pending = span("pending", 1, 1, NEW_YEAR).with("feedback.rating", false);
        pending.json["endTimeUnixNano"] = Json::from("0");
        let mut partial = span("partial", 1, 1, NEW_YEAR);
        partial.json["endTimeUnixNano"] = Json::from((NEW_YEAR + 5).to_string());
        let finished = span("finished", 1, 1, NEW_YEAR).with("feedback.rating", true);
        let mut states = [pending, partial, finished];
        if is_finished_first {
            states.reverse();
        }
        states.into_iter().for_each(|state| rig.send([state]));
        assert_eq!(rig.names(""), ["finished"]);
        let row = rig.get("/api/v1/traces")["rows"][0].clone();
        assert_eq!(row["duration_ms"], 1_000.0);
        assert_eq!(row["feedback"][0]["value"], true);
    }
}

#[test]
fn a_session_id_that_is_empty_is_none_and_an_int_is_its_digits() {
    let rig = Rig::new();
    let about_session = |id: u64, session: Json| {
        span("feedback", 10 + id, id, NEW_YEAR)
            .with("tracing_feedback.scope", "session")
            .with("tracing_feedback.late", true)
            .with("session.id", session)
            .with("feedback.stars", 5)
    };
    rig.send([
        span("one", 1, 1, NEW_YEAR).with("session.id", ""),
        span("two", 2, 1, NEW_YEAR).with("session.id", ""),
        span("three", 3, 1, NEW_YEAR).with("session.id", 42),
        about_session(1, Json::from(42)),
        about_session(2, Json::from("")),
    ]);
    let sessions = rig.get("/api/v1/sessions");
    assert_eq!(sessions["total"], 1, "{sessions}");
    assert_eq!(sessions["rows"][0]["session_id"], "42");
    assert_eq!(sessions["rows"][0]["feedback"][0]["value"], 5);
    for trace in [1, 2] {
        let trace = rig.get(&format!("/api/v1/traces/{trace:032x}"));
        assert_eq!(trace["session_id"], Json::Null);
    }
    assert_eq!(rig.get("/api/v1/waiting")["total"], 1);
}

/// What one protocol takes, the other takes: 20 MiB.
#[test]
fn both_protocols_have_one_limit() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::trace::v1 as trace;
    use tonic::codec::CompressionEncoding;

    let rig = Rig::new();
    let request = |id: u8, length: usize| {
        let text = any_value::Value::StringValue("x".repeat(length));
        let value = Some(AnyValue { value: Some(text) });
        let attributes = vec![KeyValue { key: "text".to_owned(), value, key_strindex: 0 }];
        let (trace_id, span_id) = (vec![id; 16], vec![1; 8]);
        let span = trace::Span { trace_id, span_id, attributes, ..trace::Span::default() };
        let spans = vec![span];
        let group = trace::ScopeSpans { spans, ..trace::ScopeSpans::default() };
        let scope_spans = vec![group];
        let group = trace::ResourceSpans { scope_spans, ..trace::ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![group] }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = TraceServiceClient::connect(rig.desk.endpoint().unwrap()).await.unwrap();
        let mut zipped = client
            .clone()
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
        let mut plain = client;
        plain.export(request(1, 19 << 20)).await.unwrap();
        zipped.export(request(2, 19 << 20)).await.unwrap();
        plain.export(request(3, 21 << 20)).await.unwrap_err();
        zipped.export(request(4, 21 << 20)).await.unwrap_err();
    });
    assert_eq!(rig.get("/api/v1/traces")["total"], 2);
}
