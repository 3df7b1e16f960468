//! What a JSON document is: OTLP/JSON, one of its dialects that can be told apart and are read as well, or
//! something that is refused by its name.
//!
//! | dialect | differs by |
//! | --- | --- |
//! | protobuf's own JSON | field names in snake_case, ids in base64, enums by name |
//! | Tempo | the same, under `batches` or `trace` |
//! | OTLP before 0.19 | `instrumentationLibrarySpans` |
//! | a list | requests in an array |

use serde_json::{Map, Value as Json};

use crate::collector::receive::budget::MemoryBudget;
use crate::collector::receive::decode::{Format, decode};
use crate::collector::receive::decoded::DecodedRequest;
use crate::collector::receive::json::base64;
use crate::printable::Printable;

/// The requests of a document, or why it has none.
pub(super) fn requests(text: &[u8]) -> Result<Vec<DecodedRequest>, String> {
    let (readable, refused) = match read(text) {
        Ok(request) if has_spans(&request) && request.refused.count == 0 => {
            return Ok(vec![request]);
        }
        // Some of its spans may be in a dialect.
        Ok(request) if has_spans(&request) => (Some(request), None),
        // An empty request, a dialect, or something else.
        Ok(_) => (None, None),
        Err(refused) => (None, Some(refused)),
    };
    let document: Json = serde_json::from_slice(text).map_err(|error| not_json(text, &error))?;
    match document {
        Json::Array(items) => items.into_iter().map(of_object).collect(),
        document if is_canonical(&document) => {
            // What is wrong with it is not its dialect, unless it can be read as one.
            match (of_object(document), readable) {
                (Ok(request), Some(readable))
                    if readable.refused.count <= request.refused.count =>
                {
                    Ok(vec![readable])
                }
                (Ok(request), _) => Ok(vec![request]),
                (Err(_), Some(readable)) => Ok(vec![readable]),
                (Err(error), None) => Err(refused.unwrap_or(error)),
            }
        }
        document => of_object(document).map(|request| vec![request]),
    }
}

fn has_spans(request: &DecodedRequest) -> bool {
    let mut groups = request.message.resource_spans.iter().flat_map(|group| &group.scope_spans);
    groups.any(|group| !group.spans.is_empty())
}

fn read(text: &[u8]) -> Result<DecodedRequest, String> {
    decode(Format::Json, None, text, &MemoryBudget::default().lease())
        .map_err(|refusal| refusal.reason)
}

fn not_json(text: &[u8], error: &serde_json::Error) -> String {
    match text.trim_ascii_start().first() {
        Some(b'{' | b'[') => error.to_string(),
        _ if text.iter().any(|byte| *byte < b'\t') => {
            "this is no text: the Collector's file exporter writes what is read here with `format: json`"
                .to_owned()
        }
        _ => "this is no JSON: a line is a request, `{\"resourceSpans\": …}`".to_owned(),
    }
}

fn is_canonical(document: &Json) -> bool {
    document.get("resourceSpans").is_some()
}

fn of_object(document: Json) -> Result<DecodedRequest, String> {
    let Json::Object(mut object) = document else {
        return Err("this is no request: `{\"resourceSpans\": …}` is expected".to_owned());
    };
    if object.is_empty() {
        return Ok(DecodedRequest::default());
    }
    if let Some(Json::Object(trace)) = object.get_mut("trace") {
        object = std::mem::take(trace);
    }
    // One of the groups of a request.
    if ["scopeSpans", "scope_spans"].iter().any(|key| object.contains_key(*key)) {
        object =
            Map::from_iter([("resourceSpans".to_owned(), Json::Array(vec![Json::Object(object)]))]);
    }
    if !["resourceSpans", "resource_spans", "batches"].iter().any(|key| object.contains_key(*key)) {
        return Err(name_of(&object));
    }
    let mut document = Json::Object(object);
    normalize(&mut document);
    read(document.to_string().as_bytes())
}

/// Turns a dialect into OTLP/JSON. All names of objects are names of fields there: the keys of attributes are
/// values.
fn normalize(value: &mut Json) {
    match value {
        Json::Array(items) => items.iter_mut().for_each(normalize),
        Json::Object(object) => {
            for (name, mut value) in std::mem::take(object) {
                let name = field_name(&name);
                match (name.as_str(), &value) {
                    ("traceId" | "spanId" | "parentSpanId", Json::String(id)) => {
                        value = Json::from(hexadecimal_id(id));
                    }
                    ("kind" | "code", Json::String(name)) => {
                        value = enumerator(name).map_or(value, Json::from);
                    }
                    _ => normalize(&mut value),
                }
                object.insert(name, value);
            }
        }
        _ => {}
    }
}

/// `resource_spans` as `resourceSpans`, and the names of before as those of today.
fn field_name(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut is_upper = false;
    for character in name.chars() {
        match character {
            '_' => is_upper = true,
            character if is_upper => {
                camel.push(character.to_ascii_uppercase());
                is_upper = false;
            }
            character => camel.push(character),
        }
    }
    match camel.as_str() {
        "batches" => "resourceSpans".to_owned(),
        "instrumentationLibrarySpans" => "scopeSpans".to_owned(),
        "instrumentationLibrary" => "scope".to_owned(),
        _ => camel,
    }
}

/// An id in base64 as hexadecimal digits. They are told apart by their length: 24 and 12 characters for 16
/// and 8 bytes.
fn hexadecimal_id(id: &str) -> String {
    let is_base64 = [24, 22, 12, 11].contains(&id.len());
    match base64(id).filter(|bytes| is_base64 && [16, 8].contains(&bytes.len())) {
        Some(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        None => id.to_owned(),
    }
}

/// The number of an enumerator, by `opentelemetry/proto/trace/v1/trace.proto`.
fn enumerator(name: &str) -> Option<i32> {
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
    let kind = SpanKind::from_str_name(name).map(i32::from);
    kind.or_else(|| StatusCode::from_str_name(name).map(i32::from))
}

/// What an object is that has no spans of OTLP, and what to do instead.
fn name_of(object: &Map<String, Json>) -> String {
    let has = |key: &str| object.contains_key(key);
    let first = |key: &str| object.get(key).and_then(|value| value.get(0));
    let what = if has("resourceLogs") || has("resource_logs") {
        "OTLP logs, not traces"
    } else if has("resourceMetrics") || has("resource_metrics") {
        "OTLP metrics, not traces"
    } else if has("traceID") || first("data").is_some_and(|trace| trace.get("traceID").is_some()) {
        "Jaeger's JSON"
    } else if has("localEndpoint") || has("traceId") && has("id") && has("timestamp") {
        "Zipkin's JSON"
    } else if has("SpanContext") || has("context") || has("instrumentationScope") {
        "the output of a console exporter"
    } else {
        let keys: Vec<_> =
            object.keys().take(3).map(|key| format!("`{}`", Printable(key))).collect();
        return format!(
            "an object with {} is not OTLP/JSON, which has `resourceSpans`",
            keys.join(", ")
        );
    };
    format!(
        "this is {what}: send or export the traces as OTLP/JSON (the Collector's file exporter does)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name",
        "value":{"stringValue":"chat"}}]},"scopeSpans":[{"scope":{"name":"lib"},"spans":[{
        "traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331",
        "parentSpanId":"00f067aa0ba902b7","name":"answer","kind":2,"status":{"code":2},
        "startTimeUnixNano":"1","attributes":[{"key":"a_b","value":{"intValue":"1"}}]}]}]}]}"#;

    fn expected() -> DecodedRequest {
        read(SPAN.as_bytes()).unwrap()
    }

    /// The same as protobuf's own JSON writes it.
    fn as_protobuf_writes_it() -> String {
        SPAN.replace("resourceSpans", "resource_spans")
            .replace("scopeSpans", "scope_spans")
            .replace("traceId", "trace_id")
            .replace("spanId", "span_id")
            .replace("parentSpanId", "parent_span_id")
            .replace("startTimeUnixNano", "start_time_unix_nano")
            .replace("0af7651916cd43dd8448eb211c80319c", "CvdlGRbNQ92ESOshHIAxnA==")
            .replace("b7ad6b7169203331", "t61rcWkgMzE=")
            .replace("00f067aa0ba902b7", "APBnqgupArc=")
            .replace("\"kind\":2", "\"kind\":\"SPAN_KIND_SERVER\"")
            .replace("\"code\":2", "\"code\":\"STATUS_CODE_ERROR\"")
    }

    #[test]
    fn dialects_are_read_as_what_they_mean() {
        let protobuf = as_protobuf_writes_it();
        let tempo = protobuf.replace("resource_spans", "batches");
        let old = SPAN
            .replace("scopeSpans", "instrumentationLibrarySpans")
            .replace("\"scope\"", "\"instrumentationLibrary\"");
        for (what, text, count) in [
            ("OTLP", SPAN.to_owned(), 1),
            ("protobuf", protobuf.clone(), 1),
            ("Tempo", tempo, 1),
            ("Tempo 2", format!("{{\"trace\":{SPAN}}}"), 1),
            ("before 0.19", old, 1),
            ("a list", format!("[{SPAN},{protobuf}]"), 2),
        ] {
            let found = requests(text.as_bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(found, vec![expected(); count], "{what}");
        }
        assert_eq!(requests(b"{}").unwrap(), [DecodedRequest::default()]);
    }

    #[test]
    fn one_span_may_be_in_a_dialect() {
        let named = SPAN.replace(r#""kind":2"#, r#""kind":"SPAN_KIND_SERVER""#);
        let begin = named
            .find(
                r#"{
        "traceId""#,
            )
            .unwrap();
        let span = &named[begin..named.len() - "]}]}]}".len()];
        for (other, refused) in
            [(span.replace(r#""SPAN_KIND_SERVER""#, "2"), 0), ("5".to_owned(), 1)]
        {
            let text = named.replace(span, &format!("{span},{other}"));
            let found = requests(text.as_bytes()).unwrap();
            assert_eq!(found[0].refused.count, refused);
            assert_eq!(
                found[0].message.resource_spans[0].scope_spans[0].spans[0],
                expected().message.resource_spans[0].scope_spans[0].spans[0]
            );
        }
    }

    #[test]
    fn what_is_not_read_is_refused_by_its_name() {
        for (text, name) in [
            (r#"{"data":[{"traceID":"1","spans":[],"processes":{}}]}"#, "Jaeger"),
            (r#"{"traceID":"1","spans":[]}"#, "Jaeger"),
            (r#"[{"traceId":"1","id":"2","localEndpoint":{}}]"#, "Zipkin"),
            (r#"{"name":"a","context":{"trace_id":"0x1"},"start_time":""}"#, "console exporter"),
            (r#"{"Name":"a","SpanContext":{}}"#, "console exporter"),
            (r#"{"resourceLogs":[]}"#, "logs"),
            (r#"{"resourceMetrics":[]}"#, "metrics"),
            (r#"{"rows":1,"x\n":2}"#, r"`rows`, `x\n`"),
            ("3", "no request"),
            ("time,name\n", "no JSON"),
            ("\u{1}\u{2}", "no text"),
            (r#"{"resourceSpans":3}"#, "resourceSpans: "),
            ("{\"resourceSpans\":[", "EOF"),
        ] {
            let error = requests(text.as_bytes()).unwrap_err();
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
