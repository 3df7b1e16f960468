//! Decoding of foreign bytes: any input gives spans or a refusal with a reason.

use proptest::prelude::*;
use prost::Message;

use super::super::receive::budget::MemoryBudget;
use super::super::receive::decode::{self, Format};
use super::super::receive::decoded::DecodedRequest;
use super::super::receive::log_record::log_records;
use super::super::receive::received::spans;
use super::super::receive::refusal::{RefusalKind, RequestRefusal};
use super::*;

fn decode(
    format: Format,
    compression: Option<&str>,
    body: &[u8],
) -> Result<Vec<ReceivedSpan>, RequestRefusal> {
    let lease = MemoryBudget::default().lease();
    let request: DecodedRequest = decode::decode(format, compression, body, &lease)?;
    match request.refused.first {
        Some(refusal) => Err(refusal),
        None => spans(request.message),
    }
}

fn decode_logs(
    format: Format,
    compression: Option<&str>,
    body: &[u8],
) -> Result<Vec<ReceivedLogRecord>, RequestRefusal> {
    let request = decode::decode(format, compression, body, &MemoryBudget::default().lease())?;
    match request.refused.first {
        Some(refusal) => Err(refusal),
        None => Ok(log_records(request.message)),
    }
}

const FORMATS: [Format; 2] = [Format::Protobuf, Format::Json];
const COMPRESSIONS: [Option<&str>; 4] = [None, Some("gzip"), Some("zstd"), Some("br")];

fn decode_in_every_way(body: &[u8]) {
    super::super::__read_feedback(body);
    for format in FORMATS {
        for compression in COMPRESSIONS {
            if let Err(refusal) = decode(format, compression, body) {
                assert!(!refusal.reason.is_empty());
            }
            if let Err(refusal) = decode_logs(format, compression, body) {
                assert!(!refusal.reason.is_empty());
            }
        }
    }
}

fn valid() -> (Vec<u8>, String) {
    let span = named("answer", 1, 1)
        .child_of(2)
        .linked_to(3, 4)
        .with("feedback.rating", true)
        .with("list", vec!["a", "b"])
        .with("bytes", Value::Bytes(vec![1, 2, 3]));
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"answer","kind":1,
        "traceId":"00000000000000000000000000000001","spanId":"0000000000000001",
        "startTimeUnixNano":"1","attributes":[{"key":"a","value":{"doubleValue":"NaN"}},
        {"key":"b","value":{"bytesValue":"AQID"}},{"key":"c","value":{"arrayValue":{"values":
        [{"intValue":"1"}]}}}]}]}]}]}"#;
    (request([span]).encode_to_vec(), json.to_owned())
}

#[test]
fn what_the_mutations_start_from_is_valid() {
    let (wire, json) = valid();
    assert_eq!(decode(Format::Protobuf, None, &wire).unwrap()[0].name, "answer");
    assert_eq!(decode(Format::Json, None, json.as_bytes()).unwrap()[0].name, "answer");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes(body in proptest::collection::vec(any::<u8>(), 0..512)) {
        decode_in_every_way(&body);
        decode_in_every_way(&zstd::encode_all(body.as_slice(), 0).unwrap());
    }

    #[test]
    fn almost_valid_bytes(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let (wire, json) = valid();
        let logs = [logs::full().encode_to_vec(), logs::FULL_JSON.as_bytes().to_vec()];
        let compressed = zstd::encode_all(wire.as_slice(), 0).unwrap();
        for mut body in [wire, json.into_bytes(), compressed].into_iter().chain(logs) {
            for (at, byte) in &edits {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            if is_cut {
                body.truncate(cut.index(body.len()));
            }
            decode_in_every_way(&body);
        }
    }

    #[test]
    fn json_of_the_wrong_shape(value in ".{0,24}", field in 0_usize..16) {
        let fields = ["traceId", "spanId", "parentSpanId", "flags", "kind", "name", "events", "links",
            "status", "startTimeUnixNano", "attributes", "droppedEventsCount", "traceState", "x", "", "y"];
        let value = serde_json::Value::from(value);
        let name = fields[field];
        for value in [value.clone(), serde_json::json!([value]), serde_json::json!({ "values": value })] {
            let span = serde_json::json!({ name: value });
            let body = serde_json::json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
            decode_in_every_way(body.to_string().as_bytes());
        }
    }
}

#[test]
fn nesting_is_bounded_in_both_formats() {
    let nested = |depth| {
        let mut value = Value::Int(1);
        for _ in 0..depth {
            value = Value::Array(vec![value]);
        }
        request([named("deep", 1, 1).with("deep", value)]).encode_to_vec()
    };
    assert!(decode(Format::Protobuf, None, &nested(30)).is_ok());
    let refusal = decode(Format::Protobuf, None, &nested(60)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Malformed);

    let nested = |depth| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth));
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{
                "traceId":"{:032x}","spanId":"{:016x}",
                "attributes":[{{"key":"a","value":{open}{close}}}]}}]}}]}}]}}"#,
            1, 1
        )
    };
    assert!(decode(Format::Json, None, nested(30).as_bytes()).is_ok());
    assert!(decode(Format::Json, None, nested(60).as_bytes()).is_err());
    let endless = "[".repeat(1 << 20);
    assert!(decode(Format::Json, None, endless.as_bytes()).is_err());
}

#[test]
fn json_says_where_it_is_wrong() {
    let wrong = |body: &str| decode(Format::Json, None, body.as_bytes()).unwrap_err().reason;
    // Without the position in the text, which follows.
    let span = |span: &str| {
        let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
        wrong(&body).rsplit_once(" at line 1 column ").unwrap().0.to_owned()
    };
    let way = "resourceSpans[0].scopeSpans[0].spans[0]";
    assert_eq!(wrong("[]"), "invalid type: sequence, expected an object at line 1 column 0");
    assert_eq!(
        span(r#"{"traceId": "xy"}"#),
        format!("{way}.traceId: expected hexadecimal digits in pairs, found another string")
    );
    assert_eq!(
        span(r#"{"flags": 4294967296}"#),
        format!("{way}.flags: expected an integer in its range, found a number")
    );
    assert_eq!(
        span(r#"{"kind": "SPAN_KIND_SERVER"}"#),
        format!("{way}.kind: expected an integer in its range, found a string")
    );
    assert_eq!(
        span(r#"{"attributes": [{"key": "a", "value": {"bytesValue": "A"}}]}"#),
        format!("{way}.attributes[0].value.bytesValue: expected base64, found another string")
    );
    assert_eq!(
        span(r#"{"attributes": [{"value": {"intValue": 1, "boolValue": true}}]}"#),
        format!("{way}.attributes[0].value: more than one value")
    );
}

#[test]
fn base64_is_read_in_either_alphabet_padded_or_not() {
    for (text, bytes) in [
        ("", vec![]),
        ("/w==", vec![255]),
        ("_w", vec![255]),
        ("+/8=", vec![251, 255]),
        ("-_8", vec![251, 255]),
        ("AQID", vec![1, 2, 3]),
    ] {
        let span = format!(
            r#"{{"traceId":"{:032x}","spanId":"{:016x}","attributes":
            [{{"key":"b","value":{{"bytesValue":"{text}"}}}}]}}"#,
            1, 1
        );
        let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#);
        let spans = decode(Format::Json, None, body.as_bytes()).unwrap();
        assert_eq!(spans[0].attributes["b"], Value::Bytes(bytes), "{text}");
    }
}

/// A field of a message with this content.
pub(super) fn message(number: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut message);
    message.extend_from_slice(content);
    message
}

/// What OTLP repeats, `count` times and empty: the smallest on the wire, large in memory.
fn empty_items(count: usize) -> Vec<(&'static str, Vec<u8>)> {
    let many = |number: u8| [number << 3 | 2, 0].repeat(count);
    let in_span = |content: &[u8]| message(1, &message(2, &message(2, content)));
    let attribute = |value: &[u8]| in_span(&message(9, &message(2, value)));
    vec![
        ("resources", many(1)),
        ("scopes", message(1, &many(2))),
        ("spans", message(1, &message(2, &many(2)))),
        ("attributes", in_span(&many(9))),
        ("events", in_span(&many(11))),
        ("links", in_span(&many(13))),
        ("values", attribute(&message(5, &many(1)))),
        ("pairs", attribute(&message(6, &many(1)))),
        ("resource attributes", message(1, &message(1, &many(1)))),
        ("entities", message(1, &message(1, &many(3)))),
        ("keys of an entity", message(1, &message(1, &message(3, &many(3))))),
        ("keys of a description", message(1, &message(1, &message(3, &many(4))))),
    ]
}

#[test]
fn what_a_message_takes_when_decoded_is_bounded_before_it_is_decoded() {
    for (what, body) in empty_items(3_000_000) {
        let compressed = zstd::encode_all(body.as_slice(), 3).unwrap();
        assert!(compressed.len() < 10_000, "{what}: {} bytes", compressed.len());
        let refusal = decode(Format::Protobuf, Some("zstd"), &compressed).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::TooLarge, "{what}");
        assert!(refusal.reason.contains("send fewer spans"), "{what}: {refusal}");
    }
    for (what, body) in logs::empty_items(3_000_000) {
        let compressed = zstd::encode_all(body.as_slice(), 3).unwrap();
        let refusal = decode_logs(Format::Protobuf, Some("zstd"), &compressed).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::TooLarge, "{what}");
    }
    let records = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}{{}}]}}]}}]}}"#,
        "{},".repeat(2_000_000)
    );
    let refusal = decode_logs(Format::Json, None, records.as_bytes()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::TooLarge);
    for (open, item, close) in [
        (r#"{"resourceSpans":["#, "{},", "{}]}"),
        (r#"{"resourceSpans":[{"scopeSpans":[{"spans":["#, "{},", "{}]}]}]}"),
        (r#"{"resourceSpans":[{"resource":{"attributes":["#, "{},", "{}]}}]}"),
        // One that can't be read, and what is read once more without it.
        (r#"{"resourceSpans":[{"scopeSpans":[{"spans":[5,"#, "{},", "{}]}]}]}"),
        (r#"{"resourceSpans":[{"scopeSpans":[{"spans":[5,{"links":["#, "{},", "{}]}]}]}]}"),
    ] {
        let body = format!("{open}{}{close}", item.repeat(2_000_000));
        let refusal = decode(Format::Json, None, body.as_bytes()).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::TooLarge, "{open}");
    }
}

#[test]
fn a_request_with_little_that_can_be_read_is_refused_soon() {
    let span = r#"{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001"}"#;
    let with = |faults: usize| {
        let body = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}{}]}}]}}]}}"#,
            ",5".repeat(faults)
        );
        let lease = MemoryBudget::default().lease();
        decode::decode::<ExportTraceServiceRequest>(Format::Json, None, body.as_bytes(), &lease)
    };
    assert_eq!(with(10_000).unwrap().refused.count, 10_000);
    let refusal = with(10_001).unwrap_err();
    assert!(refusal.reason.contains("spans[1]"), "{refusal}");
}

#[test]
fn a_large_request_of_ordinary_spans_is_taken() {
    let span = |id: u64| {
        (0..10).fold(named("GET /users/{id}", 1, id), |span, at| {
            span.with(&format!("http.attribute.{at}"), "an ordinary value")
        })
    };
    let body = request((1..40_000).map(span)).encode_to_vec();
    assert!(body.len() > 15 << 20 && body.len() < 20 << 20, "{}", body.len());
    assert_eq!(decode(Format::Protobuf, None, &body).unwrap().len(), 39_999);
}
