//! Decoding of foreign bytes: any input gives spans or a refusal with a reason.

use proptest::prelude::*;
use prost::Message;

use super::super::receive::http::{self, Format};
use super::super::receive::received::spans;
use super::super::receive::refusal::{RefusalKind, RequestRefusal};
use super::*;

fn decode(
    format: Option<Format>,
    compression: Option<&str>,
    body: &[u8],
) -> Result<Vec<ReceivedSpan>, RequestRefusal> {
    http::decode(format, compression, body).and_then(spans)
}

const FORMATS: [Option<Format>; 3] = [None, Some(Format::Protobuf), Some(Format::Json)];
const COMPRESSIONS: [Option<&str>; 4] = [None, Some("gzip"), Some("zstd"), Some("br")];

fn decode_in_every_way(body: &[u8]) {
    for format in FORMATS {
        for compression in COMPRESSIONS {
            if let Err(refusal) = decode(format, compression, body) {
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
    assert_eq!(decode(Some(Format::Protobuf), None, &wire).unwrap()[0].name, "answer");
    assert_eq!(decode(Some(Format::Json), None, json.as_bytes()).unwrap()[0].name, "answer");
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
        for mut body in [wire.clone(), json.into_bytes(), zstd::encode_all(wire.as_slice(), 0).unwrap()] {
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
    assert!(decode(Some(Format::Protobuf), None, &nested(30)).is_ok());
    let refusal = decode(Some(Format::Protobuf), None, &nested(60)).unwrap_err();
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
    assert!(decode(Some(Format::Json), None, nested(30).as_bytes()).is_ok());
    assert!(decode(Some(Format::Json), None, nested(60).as_bytes()).is_err());
    let endless = "[".repeat(1 << 20);
    assert!(decode(Some(Format::Json), None, endless.as_bytes()).is_err());
}

#[test]
fn json_says_where_it_is_wrong() {
    let wrong = |body: &str| decode(Some(Format::Json), None, body.as_bytes()).unwrap_err().reason;
    let span = |span: &str| {
        wrong(&format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#))
    };
    let way = "resourceSpans[0].scopeSpans[0].spans[0]";
    assert_eq!(wrong("[]"), "expected an object, found an array");
    assert_eq!(
        span(r#"{"traceId": "xy"}"#),
        format!("{way}.traceId: expected hexadecimal digits in pairs, found a string")
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
        format!("{way}.attributes[0].value.bytesValue: expected base64, found a string")
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
        let spans = decode(Some(Format::Json), None, body.as_bytes()).unwrap();
        assert_eq!(spans[0].attributes["b"], Value::Bytes(bytes), "{text}");
    }
}
