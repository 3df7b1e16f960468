//! Log records over the three protocols, with the limits of spans.

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tonic::Code;

use super::decoding::message;
use super::*;

/// A record with something in every field.
pub(super) fn full() -> ExportLogsServiceRequest {
    let mut request = of([LogRecord {
        time_unix_nano: 1_700_000_000_000_000_001,
        observed_time_unix_nano: 1_700_000_000_000_000_002,
        severity_number: 9,
        severity_text: "INFO".into(),
        body: Some(wire("evaluation: rating=4.5".into())),
        attributes: vec![
            key_value("gen_ai.evaluation.name", "rating"),
            key_value("gen_ai.evaluation.score.value", 4.5),
            key_value("twice", 1),
            key_value("twice", 2),
        ],
        dropped_attributes_count: 3,
        flags: 1,
        trace_id: 0x0102_u128.to_be_bytes().to_vec(),
        span_id: 0x0304_u64.to_be_bytes().to_vec(),
        event_name: "gen_ai.evaluation.result".into(),
    }]);
    let group = &mut request.resource_logs[0];
    group.resource = Some(Resource {
        attributes: vec![key_value("service.name", "chat")],
        ..Default::default()
    });
    group.scope_logs[0].scope = Some(InstrumentationScope {
        name: "library".into(),
        version: "1.2".into(),
        attributes: vec![key_value("s", true)],
        dropped_attributes_count: 0,
    });
    request
}

/// The same record, written by hand as the specification of OTLP/JSON has it.
pub(super) const FULL_JSON: &str = r#"{"resourceLogs": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "chat"}}]},
    "scopeLogs": [{
        "scope": {"name": "library", "version": "1.2",
                  "attributes": [{"key": "s", "value": {"boolValue": true}}]},
        "futureField": {"ignored": [1, 2, 3]},
        "logRecords": [{
            "timeUnixNano": "1700000000000000001", "observedTimeUnixNano": 1700000000000000002,
            "severityNumber": 9, "severityText": "INFO",
            "body": {"stringValue": "evaluation: rating=4.5"},
            "attributes": [
                {"key": "gen_ai.evaluation.name", "value": {"stringValue": "rating"}},
                {"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": 4.5}},
                {"key": "twice", "value": {"intValue": "1"}}, {"key": "twice", "value": {"intValue": 2}}
            ],
            "droppedAttributesCount": 3, "flags": 1,
            "traceId": "00000000000000000000000000000102", "spanId": "0000000000000304",
            "eventName": "gen_ai.evaluation.result"
        }]
    }]
}]}"#;

fn assert_full(event: &ReceivedLogRecord) {
    assert_eq!(event.event_name, "gen_ai.evaluation.result");
    assert_eq!(event.trace_id, TraceId::from(0x0102));
    assert_eq!(event.span_id, SpanId::from(0x0304));
    assert_eq!(event.time_unix_nano, 1_700_000_000_000_000_001);
    assert_eq!(event.observed_time_unix_nano, 1_700_000_000_000_000_002);
    assert_eq!((event.severity_number, event.severity_text.as_str()), (9, "INFO"));
    assert_eq!(event.body, *"evaluation: rating=4.5");
    assert_eq!(event.attributes["gen_ai.evaluation.name"], "rating");
    assert_eq!(event.attributes["gen_ai.evaluation.score.value"], 4.5);
    assert_eq!(event.attributes["twice"], 2);
    assert_eq!(event.duplicate_keys, ["twice"]);
    assert_eq!(event.attributes.len(), 3);
    assert_eq!(event.attribute("absent"), None);
    assert_eq!((event.dropped_attributes_count, event.flags), (3, 1));
    assert_eq!(event.resource["service.name"], "chat");
    assert_eq!((event.scope.name.as_str(), event.scope.version.as_str()), ("library", "1.2"));
    assert_eq!(event.scope.attributes["s"], true);
}

pub(super) fn of(records: impl IntoIterator<Item = LogRecord>) -> ExportLogsServiceRequest {
    let log_records = records.into_iter().collect();
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }],
    }
}

fn event(text: &str) -> LogRecord {
    LogRecord {
        event_name: "gen_ai.evaluation.result".into(),
        attributes: vec![key_value("gen_ai.evaluation.score.label", text)],
        ..LogRecord::default()
    }
}

/// Sends over gRPC as any client would.
async fn export_logs(
    collector: &Collector,
    request: ExportLogsServiceRequest,
    compression: Option<CompressionEncoding>,
) -> Result<ExportLogsServiceResponse, tonic::Status> {
    let mut client = LogsServiceClient::new(channel(collector).await);
    if let Some(compression) = compression {
        client = client.send_compressed(compression).accept_compressed(compression);
    }
    tokio::time::timeout(LONG, client.export(request))
        .await
        .expect("an answer")
        .map(tonic::Response::into_inner)
}

fn post_logs(collector: &Collector, content_type: &str, body: &[u8]) -> HttpReply {
    http(collector, "POST", "/v1/logs", &[("content-type", content_type)], body).unwrap()
}

#[test]
fn every_field_of_a_record_is_taken_over_every_protocol() {
    let collector = Collector::start().unwrap();
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let response = block_on(export_logs(&collector, full(), compression)).unwrap();
        let partial = response.partial_success.unwrap(); // there, and it rejects nothing
        assert_eq!((partial.rejected_log_records, partial.error_message.as_str()), (0, ""));
    }
    let wire = full().encode_to_vec();
    for (content_type, body, answer) in [
        (PROTOBUF, wire.as_slice(), b"".as_slice()),
        (JSON, FULL_JSON.as_bytes(), b"{}".as_slice()),
    ] {
        let zstd = zstd::encode_all(body, 0).unwrap();
        for (encoding, body) in [("identity", body), ("zstd", &zstd)] {
            let headers = [("content-type", content_type), ("content-encoding", encoding)];
            let reply = http(&collector, "POST", "/v1/logs", &headers, body).unwrap();
            assert_eq!((reply.status, reply.body.as_slice()), (200, answer), "{encoding}");
        }
    }
    let events = collector.wait_for_events(7, LONG).unwrap();
    assert_eq!(events.len(), 7);
    events.iter().for_each(assert_full);
    let requests = collector.requests();
    assert!(requests.iter().all(|request| (request.spans, request.log_records) == (0, 1)));
    assert_eq!(requests[6].protocol, Protocol::HttpJson);
    collector.clear();
    assert_eq!(collector.events(), []);
}

#[test]
fn events_are_kept_and_other_records_are_taken() {
    let collector = Collector::start().unwrap();
    let named = |key: &str| LogRecord {
        attributes: vec![key_value(key, "gen_ai.evaluation.result")],
        ..LogRecord::default()
    };
    let records = [
        LogRecord { body: Some(wire("a log line".into())), ..LogRecord::default() },
        named("event.name"),
        named("microsoft.custom_event.name"),
        LogRecord { event_name: "another".into(), ..named("event.name") },
        // Ids that are not valid are read as absent.
        LogRecord { trace_id: vec![1; 3], span_id: vec![1; 9], ..event("good") },
    ];
    block_on(export_logs(&collector, of(records), None)).unwrap();
    let events = collector.wait_for_events(3, LONG).unwrap();
    assert_eq!(events.len(), 3);
    for event in &events {
        assert_eq!(event.event_name, "gen_ai.evaluation.result");
        assert_eq!((event.trace_id, event.span_id), (TraceId::INVALID, SpanId::INVALID));
    }
    assert_eq!(collector.requests()[0].log_records, 5);
    let error = collector.wait_for_events(4, Duration::from_millis(1)).unwrap_err();
    assert!(error.to_string().starts_with("3 of 4 events arrived within 1ms"), "{error}");
}

#[test]
fn a_record_that_cannot_be_read_costs_itself_only_if_asked() {
    let mut wire = of([event("good"), event("cut?")]).encode_to_vec();
    let at = wire.windows(4).position(|text| text == b"cut?").unwrap();
    wire[at + 3] = 0xc3; // the first byte of two
    let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[
        {"eventName":"gen_ai.evaluation.result"}, {"traceId": 5}]}]}]}"#;
    let collector = Collector::start().unwrap();
    assert_eq!(post_logs(&collector, PROTOBUF, &wire).status, 400);
    assert_eq!(post_logs(&collector, JSON, json.as_bytes()).status, 400);
    assert_eq!(collector.events(), []);

    collector.accept_valid_spans(true);
    let reply = post_logs(&collector, PROTOBUF, &wire);
    let response = ExportLogsServiceResponse::decode(reply.body.as_slice()).unwrap();
    let partial = response.partial_success.unwrap();
    assert_eq!((reply.status, partial.rejected_log_records), (200, 1));
    assert!(partial.error_message.contains("UTF-8"), "{}", partial.error_message);
    let reply = post_logs(&collector, JSON, json.as_bytes());
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedLogRecords"], "1");
    let message = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("resourceLogs[0].scopeLogs[0].logRecords[1].traceId"), "{message}");
    assert_eq!(collector.events().len(), 2);
    // Where none can be read, the request is refused.
    let none = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId": 5}]}]}]}"#;
    assert_eq!(post_logs(&collector, JSON, none.as_bytes()).status, 400);
}

#[test]
fn scripted_answers_are_given_to_logs_too() {
    let collector = Collector::start().unwrap();
    collector.answer_next(Answer::PartialSuccess { rejected: 1, message: "one too many".into() });
    let request = of([event("first"), event("second")]);
    let response = block_on(export_logs(&collector, request.clone(), None)).unwrap();
    assert_eq!(response.partial_success.unwrap().rejected_log_records, 1);
    let events = collector.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].attributes["gen_ai.evaluation.score.label"], "second");

    collector.answer_next(Answer::Unavailable { retry_after: None });
    let status = block_on(export_logs(&collector, request, None)).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(collector.events().len(), 1);
}

/// What logs repeat, `count` times and empty: the smallest on the wire, large in memory.
pub(super) fn empty_items(count: usize) -> Vec<(&'static str, Vec<u8>)> {
    let many = |number: u8| [number << 3 | 2, 0].repeat(count);
    let in_record = |content: &[u8]| message(1, &message(2, &message(2, content)));
    vec![
        ("resources", many(1)),
        ("resource attributes", message(1, &message(1, &many(1)))),
        ("scopes", message(1, &many(2))),
        ("scope attributes", message(1, &message(2, &message(1, &many(3))))),
        ("records", message(1, &message(2, &many(2)))),
        ("attributes", in_record(&many(6))),
        ("values of a body", in_record(&message(5, &message(5, &many(1))))),
    ]
}
