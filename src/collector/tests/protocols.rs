//! The three protocols, as clients use and misuse them.

use std::time::Instant;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use prost::Message;
use tonic::Code;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::*;

/// A span with something in every field.
fn full() -> ExportTraceServiceRequest {
    let map = KeyValueList { values: vec![key_value("inner", 1)] };
    let map = AnyValue { value: Some(any_value::Value::KvlistValue(map)) };
    let span = Span {
        trace_state: "vendor=1".into(),
        parent_span_id: vec![0, 0, 0, 0, 0, 0, 0, 9],
        flags: 0x101,
        kind: trace::span::SpanKind::Server.into(),
        start_time_unix_nano: 1_700_000_000_000_000_001,
        end_time_unix_nano: 1_700_000_000_000_000_002,
        dropped_attributes_count: 1,
        dropped_events_count: 2,
        dropped_links_count: 3,
        events: vec![span::Event {
            name: "event".into(),
            time_unix_nano: 7,
            attributes: vec![key_value("n", 1)],
            dropped_attributes_count: 4,
        }],
        links: vec![span::Link {
            trace_id: 5_u128.to_be_bytes().to_vec(),
            span_id: 6_u64.to_be_bytes().to_vec(),
            trace_state: "vendor=2".into(),
            flags: 1,
            attributes: vec![key_value("l", "x")],
            dropped_attributes_count: 5,
        }],
        status: Some(trace::Status { message: "broken".into(), code: 2 }),
        ..named("full", 0x0102, 0x0304)
            .with("bool", true)
            .with("int", i64::MIN)
            .with("double", 0.25)
            .with("nan", f64::NAN)
            .with("string", "ü\n")
            .with("array", Value::Array(vec![Value::from("a"), Value::from(1), Value::Empty]))
            .with("none", Value::Array(vec![]))
            .with("bytes", Value::Bytes(vec![0, 255, 7, 62]))
            .with("empty", Value::Empty)
            .with("twice", 1)
            .with("twice", 2)
    };
    let mut request = request([span]);
    let group = &mut request.resource_spans[0];
    group.resource = Some(Resource {
        attributes: vec![key_value("service.name", "chat")],
        ..Default::default()
    });
    group.scope_spans[0].scope = Some(InstrumentationScope {
        name: "library".into(),
        version: "1.2".into(),
        attributes: vec![key_value("s", true)],
        dropped_attributes_count: 0,
    });
    group.scope_spans[0].spans[0].attributes.push(KeyValue {
        key: "map".into(),
        value: Some(map),
        key_strindex: 0,
    });
    request
}

/// The same span, written by hand as the specification of OTLP/JSON has it.
const FULL_JSON: &str = r#"{"resourceSpans": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "chat"}}]},
    "scopeSpans": [{
        "scope": {"name": "library", "version": "1.2",
                  "attributes": [{"key": "s", "value": {"boolValue": true}}]},
        "futureField": {"ignored": [1, 2, 3]},
        "spans": [{
            "traceId": "00000000000000000000000000000102", "spanId": "0000000000000304",
            "parentSpanId": "0000000000000009", "traceState": "vendor=1", "flags": 257,
            "name": "full", "kind": 2,
            "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": 1700000000000000002,
            "droppedAttributesCount": 1, "droppedEventsCount": 2, "droppedLinksCount": 3,
            "status": {"code": 2, "message": "broken"},
            "events": [{"name": "event", "timeUnixNano": "7", "droppedAttributesCount": 4,
                        "attributes": [{"key": "n", "value": {"intValue": 1}}]}],
            "links": [{"traceId": "00000000000000000000000000000005",
                       "spanId": "0000000000000006", "traceState": "vendor=2", "flags": 1,
                       "attributes": [{"key": "l", "value": {"stringValue": "x"}}],
                       "droppedAttributesCount": 5}],
            "attributes": [
                {"key": "bool", "value": {"boolValue": true}},
                {"key": "int", "value": {"intValue": "-9223372036854775808"}},
                {"key": "double", "value": {"doubleValue": 0.25}},
                {"key": "nan", "value": {"doubleValue": "NaN"}},
                {"key": "string", "value": {"stringValue": "\u00fc\n"}},
                {"key": "array", "value": {"arrayValue": {"values": [
                    {"stringValue": "a"}, {"intValue": "1"}, {}]}}},
                {"key": "none", "value": {"arrayValue": {}}},
                {"key": "bytes", "value": {"bytesValue": "AP8HPg=="}},
                {"key": "map", "value": {"kvlistValue": {"values": [
                    {"key": "inner", "value": {"intValue": "1"}}]}}},
                {"key": "empty", "value": null},
                {"key": "twice", "value": {"intValue": 1}},
                {"key": "twice", "value": {"intValue": 2}}
            ]
        }]
    }]
}]}"#;

fn assert_full(span: &ReceivedSpan) {
    assert_eq!(span.name, "full");
    assert_eq!(span.trace_id, TraceId::from(0x0102));
    assert_eq!(span.span_id, SpanId::from(0x0304));
    assert_eq!(span.parent_span_id, SpanId::from(9));
    assert_eq!(span.kind, SpanKind::Server);
    assert_eq!(span.start_time_unix_nano, 1_700_000_000_000_000_001);
    assert_eq!(span.end_time_unix_nano, 1_700_000_000_000_000_002);
    assert_eq!(span.flags, 0x101);
    assert_eq!(span.trace_state, "vendor=1");
    assert_eq!(span.attributes["bool"], true);
    assert_eq!(span.attributes["int"], i64::MIN);
    assert_eq!(span.attributes["double"], 0.25);
    assert!(span.attributes["nan"].as_f64().unwrap().is_nan());
    assert_eq!(span.attributes["string"], "ü\n");
    let mixed = Value::Array(vec![Value::from("a"), Value::from(1), Value::Empty]);
    assert_eq!(span.attributes["array"], mixed);
    assert_eq!(span.attributes["none"], Value::Array(vec![]));
    assert_eq!(span.attributes["bytes"], Value::Bytes(vec![0, 255, 7, 62]));
    assert_eq!(span.attributes["map"].to_string(), r#"{"inner":1}"#);
    assert_eq!(span.attributes["empty"], Value::Empty);
    assert_eq!(span.attributes["twice"], 2);
    assert_eq!(span.duplicate_keys, ["twice"]);
    assert_eq!(span.attributes.len(), 11);
    assert_eq!(span.attribute("absent"), None);
    let [event] = span.events.as_slice() else { panic!("{:?}", span.events) };
    assert_eq!((event.name.as_str(), event.time_unix_nano), ("event", 7));
    assert_eq!(event.attributes["n"], 1);
    assert_eq!(event.dropped_attributes_count, 4);
    let [link] = span.links.as_slice() else { panic!("{:?}", span.links) };
    assert_eq!((link.trace_id, link.span_id), (TraceId::from(5), SpanId::from(6)));
    assert_eq!((link.trace_state.as_str(), link.flags), ("vendor=2", 1));
    assert_eq!(link.attributes["l"], "x");
    assert_eq!(link.dropped_attributes_count, 5);
    assert_eq!(span.status, Status::error("broken"));
    assert_eq!(span.dropped_attributes_count, 1);
    assert_eq!(span.dropped_events_count, 2);
    assert_eq!(span.dropped_links_count, 3);
    assert_eq!(span.resource["service.name"], "chat");
    assert_eq!((span.scope.name.as_str(), span.scope.version.as_str()), ("library", "1.2"));
    assert_eq!(span.scope.attributes["s"], true);
}

#[test]
fn grpc_takes_every_field_with_every_compression() {
    let collector = Collector::start().unwrap();
    let compressions = [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)];
    for compression in compressions {
        let response = block_on(export(&collector, full(), compression)).unwrap();
        let partial = response.partial_success.unwrap(); // there, and it rejects nothing
        assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (0, ""));
    }
    collector.wait_for_spans(3, LONG).unwrap().iter().for_each(assert_full);
    let requests = collector.requests();
    let compressed: Vec<_> =
        requests.iter().map(|request| request.compression.as_deref()).collect();
    assert_eq!(compressed, [None, Some("gzip"), Some("zstd")]);
    for request in &requests {
        assert_eq!((request.protocol, request.spans), (Protocol::Grpc, 1));
        assert_eq!(request.outcome, Outcome::Accepted);
        assert_eq!(request.headers["content-type"], "application/grpc");
    }
}

#[test]
fn http_takes_every_field_in_both_formats_with_every_compression() {
    let collector = Collector::start().unwrap();
    let wire = full().encode_to_vec();
    for (content_type, body, answer) in [
        (PROTOBUF, wire.as_slice(), b"".as_slice()),
        ("Application/JSON; charset=utf-8", FULL_JSON.as_bytes(), b"{}".as_slice()),
    ] {
        let gzip = {
            let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = zstd::encode_all(body, 0).unwrap();
        for (encoding, body) in [("identity", body), ("gzip", &gzip), ("zstd", &zstd)] {
            let headers = [("Content-Type", content_type), ("Content-Encoding", encoding)];
            let reply = http(&collector, "POST", "/v1/traces", &headers, body).unwrap();
            assert_eq!((reply.status, reply.body.as_slice()), (200, answer), "{encoding}");
        }
    }
    let spans = collector.wait_for_spans(6, LONG).unwrap();
    assert_eq!(spans.len(), 6);
    spans.iter().for_each(assert_full);
    let seen: Vec<_> = collector
        .requests()
        .into_iter()
        .map(|request| (request.protocol, request.compression))
        .collect();
    let compressions = [None, Some("gzip".to_owned()), Some("zstd".to_owned())];
    let expected = [Protocol::HttpProtobuf, Protocol::HttpJson]
        .into_iter()
        .flat_map(|protocol| compressions.iter().map(move |how| (protocol, how.clone())));
    assert!(seen.into_iter().eq(expected));
}

#[test]
fn http_refuses_what_is_not_otlp() {
    let collector = Collector::start().unwrap();
    let json = [("content-type", JSON)];
    let protobuf = [("content-type", PROTOBUF)];
    let deflate = [("content-type", JSON), ("content-encoding", "deflate")];
    let gzip = [("content-type", JSON), ("content-encoding", "gzip")];
    let text = [("content-type", "text/plain")];
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8], u16);
    let cases: &[Case<'_>] = &[
        ("POST", "/v1/metrics", &json, b"{}", 404),
        ("PUT", "/v1/traces", &json, b"{}", 405),
        ("POST", "/v1/traces", &text, b"{}", 415),
        ("POST", "/v1/traces", &[], b"{}", 415),
        ("POST", "/v1/traces", &deflate, b"{}", 415),
        ("POST", "/v1/traces", &gzip, b"{}", 400),
        ("POST", "/v1/traces", &json, b"{", 400),
        ("POST", "/v1/traces", &protobuf, b"{}", 400),
    ];
    for (at, (method, path, headers, body, status)) in cases.iter().enumerate() {
        let reply = http(&collector, method, path, headers, body).unwrap();
        assert_eq!(reply.status, *status, "{method} {path} {headers:?}");
        let request = &collector.requests()[at];
        assert_eq!((request.path.as_str(), request.spans), (*path, 0));
        let Outcome::Refused { reason } = &request.outcome else { panic!("{request:?}") };
        let message = if headers.contains(&protobuf[0]) {
            let status = tonic_types::Status::decode(reply.body.as_slice()).unwrap();
            assert_eq!(status.code, i32::from(Code::InvalidArgument));
            status.message
        } else {
            let status: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            status["message"].as_str().unwrap().to_owned()
        };
        assert_eq!(message, *reason);
    }
    assert_eq!(collector.spans(), []);
}

#[test]
fn http_bodies_are_bounded_before_and_after_decompression() {
    let collector = Collector::start().unwrap();
    let plain = vec![b' '; (20 << 20) + 1];
    assert_eq!(post(&collector, JSON, &plain).unwrap().status, 413);
    assert_eq!(post(&collector, JSON, &plain[1..]).unwrap().status, 400); // it fits, but is empty

    let bomb = zstd::encode_all(plain.as_slice(), 0).unwrap();
    assert!(bomb.len() < 10_000);
    let headers = [("content-type", JSON), ("content-encoding", "zstd")];
    let reply = http(&collector, "POST", "/v1/traces", &headers, &bomb).unwrap();
    assert_eq!(reply.status, 413);
}

#[test]
fn grpc_messages_are_bounded_before_and_after_decompression() {
    let collector = Collector::start().unwrap();
    let large = || request([named("large", 1, 1).with("text", "x".repeat(4 << 20))]);
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let status = block_on(export(&collector, large(), compression)).unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{compression:?}: {status}");
    }
    assert_eq!(collector.requests().len(), 3);
    assert_eq!(collector.spans(), []);
}

#[test]
fn grpc_messages_are_bounded_when_decoded() {
    let collector = Collector::start().unwrap();
    // Empty spans: two bytes each on the wire, hundreds in memory.
    let spans = [2 << 3 | 2, 0].repeat(1_500_000);
    let message = [2_u8, 1].into_iter().fold(spans, |inner, number| {
        let mut message = vec![number << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut message);
        message.extend_from_slice(&inner);
        message
    });
    assert!(message.len() < 4 << 20);
    let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let status = block_on(call(&collector, export, &message)).unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("send fewer spans"), "{status}");
}

#[test]
fn a_request_that_takes_long_to_decode_delays_no_other() {
    let collector = Collector::start().unwrap();
    let span = format!(r#"{{"name":"x","ignored":[{}0]}}"#, "1,".repeat(60));
    let spans = vec![span; 110_000].join(",");
    let slow = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    assert!(slow.len() < 20 << 20);
    // Sent to its last byte before the next request begins: its answer comes later all the same.
    let mut waiting =
        send(&collector, "POST", "/v1/traces", &[("content-type", JSON)], slow.as_bytes()).unwrap();
    let quick = post(&collector, JSON, b"{}").unwrap();
    assert_eq!(quick.status, 200);
    waiting.set_nonblocking(true).unwrap();
    let early = waiting.read(&mut [0]).expect_err("its answer came first");
    assert_eq!(early.kind(), io::ErrorKind::WouldBlock);
    waiting.set_nonblocking(false).unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}"); // the spans have no ids
}

#[test]
fn ids_that_are_none_are_refused_with_all_that_came_with_them() {
    let collector = Collector::start().unwrap();
    let good = || named("good", 1, 1);
    let bad = [
        Span { trace_id: vec![1; 15], ..good() },
        Span { trace_id: vec![], ..good() },
        Span { trace_id: vec![0; 16], ..good() },
        Span { span_id: vec![1; 9], ..good() },
        Span { span_id: vec![0; 8], ..good() },
        Span { parent_span_id: vec![1; 7], ..good() },
        Span { links: vec![span::Link { span_id: vec![1; 3], ..Default::default() }], ..good() },
    ];
    for bad in bad {
        let request = request([good(), bad]);
        let reply = post(&collector, PROTOBUF, &request.encode_to_vec()).unwrap();
        assert_eq!(reply.status, 400, "{request:?}");
        let status = block_on(export(&collector, request, None)).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(collector.spans(), []);
    let no_parent = Span { parent_span_id: vec![0; 8], ..good() };
    block_on(export(&collector, request([no_parent]), None)).unwrap();
    assert_eq!(collector.spans()[0].parent_span_id, SpanId::INVALID);
}

/// Sends bytes where a message should be.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        let length = prost::bytes::Buf::remaining(buffer);
        prost::bytes::Buf::advance(buffer, length);
        Ok(Some(()))
    }
}

async fn call(
    collector: &Collector,
    path: &'static str,
    bytes: &[u8],
) -> Result<(), tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel(collector).await);
    grpc.ready().await.unwrap();
    let path = ::http::uri::PathAndQuery::from_static(path);
    grpc.unary(tonic::Request::new(bytes.to_vec()), path, Raw).await.map(drop)
}

#[test]
fn grpc_refuses_what_is_not_otlp() {
    let collector = Collector::start().unwrap();
    let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let status = block_on(call(&collector, export, b"\xff\xff garbage")).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = block_on(call(&collector, "/some.Service/Export", b"")).unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
    let outcomes: Vec<_> =
        collector.requests().into_iter().map(|request| request.outcome).collect();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused { .. })));
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn spans_that_can_be_read_are_taken_if_asked_over_every_protocol() {
    let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let mut wire = request([named("good", 1, 1), named("cut?", 1, 2)]).encode_to_vec();
    let at = wire.windows(4).position(|text| text == b"cut?").unwrap();
    wire[at + 3] = 0xc3; // the first byte of two
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[
        {"name":"good","traceId":"00000000000000000000000000000001","spanId":"0000000000000001"},
        {"name":"bad","traceId":"z","spanId":"0000000000000002"}]}]}]}"#;
    let collector = Collector::start().unwrap();
    let refused = block_on(call(&collector, export, &wire)).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(post(&collector, PROTOBUF, &wire).unwrap().status, 400);
    assert_eq!(post(&collector, JSON, json.as_bytes()).unwrap().status, 400);
    assert_eq!(collector.spans(), []);

    collector.accept_valid_spans(true);
    block_on(call(&collector, export, &wire)).unwrap();
    assert_eq!(post(&collector, PROTOBUF, &wire).unwrap().status, 200);
    assert_eq!(post(&collector, JSON, json.as_bytes()).unwrap().status, 200);
    assert_eq!(names(&collector.spans()), ["good"; 3]);
}

#[test]
fn a_fault_comes_before_a_refusal() {
    let collector = Collector::start().unwrap();
    collector.answer_next(Answer::BadRequest { message: "as ordered".into() });
    let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let status = block_on(call(&collector, export, b"\xff\xff garbage")).unwrap_err();
    assert_eq!(status.message(), "as ordered");
}

#[test]
fn starting_and_stopping_work_inside_a_single_threaded_runtime() {
    block_on(async {
        let collector = Collector::start().unwrap();
        export(&collector, request([named("a", 1, 1)]), None).await.unwrap();
        assert_eq!(names(&collector.wait_for_spans(1, LONG).unwrap()), ["a"]);
        drop(collector);
    });
}

#[test]
fn waiting_ends_with_the_last_span_or_says_what_is_missing() {
    let collector = Collector::start().unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| collector.wait_for_spans(3, LONG).unwrap());
        let body = request([named("a", 1, 1), named("b", 1, 2)]).encode_to_vec();
        post(&collector, PROTOBUF, &body).unwrap();
        post(&collector, PROTOBUF, &request([named("c", 1, 3)]).encode_to_vec()).unwrap();
        assert_eq!(names(&waiting.join().unwrap()), ["a", "b", "c"]);
    });
    assert!(begun.elapsed() < LONG, "it was not woken, but looked once more at the end");
    let error = collector.wait_for_spans(4, Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.to_string(), "3 of 4 spans arrived within 1ms: `a`, `b`, `c`");
    let error = collector.wait_for_requests(3, Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.to_string(), "2 of 3 requests arrived within 1ms: `/v1/traces`, `/v1/traces`");

    collector.clear();
    assert_eq!((collector.spans().len(), collector.requests().len()), (0, 0));
    assert_eq!(collector.wait_for_spans(0, Duration::ZERO), Ok(vec![]));
}

#[test]
fn dropping_it_is_quick_whatever_is_open_and_closes_what_is() {
    let collector = Collector::start().unwrap();
    collector.answer_next(Answer::Silence);
    let mut silent =
        send(&collector, "POST", "/v1/traces", &[("content-type", JSON)], b"{}").unwrap();
    let mut unfinished = {
        let host = collector.http_endpoint().trim_start_matches("http://");
        TcpStream::connect(host).unwrap()
    };
    unfinished.set_read_timeout(Some(LONG)).unwrap();
    unfinished.write_all(b"POST /v1/traces HTTP/1.1\r\ncontent-length: 10\r\n\r\n{").unwrap();
    let requests = collector.wait_for_requests(1, LONG).unwrap();
    assert_eq!(requests[0].outcome, Outcome::Scripted(Answer::Silence));

    let begun = Instant::now();
    drop(collector);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for stream in [&mut silent, &mut unfinished] {
        let closed = stream.read_to_end(&mut vec![]);
        assert!(
            matches!(&closed, Ok(0))
                || closed.is_err_and(|error| { error.kind() == io::ErrorKind::ConnectionReset })
        );
    }
}
