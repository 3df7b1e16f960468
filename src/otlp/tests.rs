//! What is encoded here decodes to what the SDK's exporters send for the same record.

use std::sync::{Arc, LazyLock};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as ProtoKeyValue};
use opentelemetry_proto::tonic::logs::v1 as logs;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::request::{resource_fields, scope_fields};
use super::{Packed, Signal, encoded_log_record, truncate};
use crate::export::sink::exporter::span_data;
use crate::otlp::attributes::{Attributes, ValueRef};
use crate::otlp::encoded_items::{EncodedItems, append_resource, request};
use crate::record::{
    Common, Enrichments, Event, Link, LogRecord, Parent, SharedAttributes, SpanRecord, Timings,
};

fn text() -> impl Strategy<Value = String> {
    // Lengths around those at which an attribute is no longer short, and a length takes more bytes.
    prop_oneof![
        ".{0,12}",
        (50_usize..60).prop_map(|length| "z".repeat(length)),
        (120_usize..140).prop_map(|length| "x".repeat(length)),
        (16_370_usize..16_400).prop_map(|length| "y".repeat(length)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        prop_oneof![any::<i64>(), -200_i64..200].prop_map(Value::I64),
        prop_oneof![Just(0.0), -1e300..1e300].prop_map(Value::F64),
        text().prop_map(Value::from),
        vec(any::<bool>(), 0..4).prop_map(|values| Value::Array(Array::Bool(values))),
        vec(any::<i64>(), 0..4).prop_map(|values| Value::Array(Array::I64(values))),
        vec(-1e9..1e9, 0..4).prop_map(|values| Value::Array(Array::F64(values))),
        vec(".{0,8}", 0..4).prop_map(|values| {
            Value::Array(Array::String(values.into_iter().map(Into::into).collect()))
        }),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z.]{1,10}", 1 => (50_usize..60).prop_map(|length| "k".repeat(length))]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    vec((key(), value()), 0..6).prop_map(|given| {
        let mut attributes = Attributes::default();
        for (key, value) in &given {
            attributes.set(key, ValueRef::from(value));
        }
        attributes
    })
}

fn trace_state() -> impl Strategy<Value = TraceState> {
    vec(("[a-z]{1,5}", "[a-z0-9]{1,5}"), 0..3)
        .prop_map(|members| TraceState::from_key_value(members).unwrap_or_default())
}

fn context() -> impl Strategy<Value = SpanContext> {
    (1_u128.., 1_u64.., any::<bool>(), any::<bool>(), trace_state()).prop_map(
        |(trace, span, sampled, remote, state)| {
            let flags = TraceFlags::default().with_sampled(sampled);
            SpanContext::new(TraceId::from(trace), SpanId::from(span), flags, remote, state)
        },
    )
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![Just(Status::Unset), Just(Status::Ok), text().prop_map(Status::error)]
}

fn kind() -> impl Strategy<Value = SpanKind> {
    prop_oneof![
        Just(SpanKind::Internal),
        Just(SpanKind::Server),
        Just(SpanKind::Client),
        Just(SpanKind::Producer),
        Just(SpanKind::Consumer),
    ]
}

fn scope(name: &str) -> Arc<InstrumentationScope> {
    let scope = InstrumentationScope::builder(name.to_owned())
        .with_version("1.2")
        .with_schema_url("https://example.com/scope")
        .with_attributes([KeyValue::new("library", name.to_owned())]);
    Arc::new(scope.build())
}

/// The attributes of two threads.
static THREADS: LazyLock<[Arc<SharedAttributes>; 2]> = LazyLock::new(|| {
    [1, 2].map(|id| {
        let mut attributes = Attributes::default();
        attributes.set("thread.id", ValueRef::I64(id));
        Arc::new(attributes.into())
    })
});

fn record() -> impl Strategy<Value = SpanRecord> {
    let what = (context(), text(), kind(), status(), any::<u32>(), any::<u32>());
    let held = (
        attributes(),
        vec(("feedback[.][a-z]{1,6}", value()), 0..4),
        vec((text(), any::<u64>(), attributes(), any::<u32>()), 0..3),
        vec((context(), attributes(), any::<u32>()), 0..3),
    );
    let parent = (prop_oneof![Just(0_u64), any::<u64>()], any::<bool>());
    (what, held, parent, 0..u64::MAX / 4, 0..u64::MAX / 4).prop_map(
        |((context, name, kind, status, dropped, dropped_links), held, parent, start, length)| {
            let (attributes, leaves, events, links) = held;
            let mut record = SpanRecord { start, ..SpanRecord::default() };
            record.trace_id = context.trace_id();
            record.span_id = context.span_id();
            record.parent = Parent { span_id: SpanId::from(parent.0), is_remote: parent.1 };
            record.flags = context.trace_flags();
            record.details.trace_state = context.trace_state().clone();
            record.kind = kind;
            record.end = start + length;
            record.details.status = status;
            record.attributes = attributes;
            if dropped % 2 == 0 {
                let mut common = Attributes::default();
                common.set("code.line.number", ValueRef::I64(dropped_links.into()));
                record.callsite =
                    Some(Box::leak(Box::new(Common::new("of the call site", common))));
            }
            if dropped % 2 == 1 || dropped % 3 == 0 {
                record.details.name = Some(name.into());
            }
            record.thread = THREADS.get(dropped as usize % 3).cloned();
            record.timings = (dropped_links % 2 == 0)
                .then_some(Timings { busy: dropped_links.into(), idle: u64::from(dropped) << 20 });
            record.details.dropped_attributes = dropped;
            record.details.dropped_links = dropped_links;
            record.details.enrichments = Enrichments {
                prefix: "honeyhive_",
                leaves: leaves.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            };
            record.details.events = events
                .into_iter()
                .map(|(name, time, attributes, dropped_attributes)| Event {
                    name: name.into(),
                    time,
                    attributes,
                    dropped_attributes,
                })
                .collect();
            record.details.links = links
                .into_iter()
                .map(|(context, attributes, dropped_attributes)| Link {
                    context,
                    attributes,
                    dropped_attributes,
                })
                .collect();
            record
        },
    )
}

#[test]
fn reused_memory_holds_nothing_of_earlier_spans() {
    let text = "long ".repeat(10);
    let record = |number| {
        let mut attributes = Attributes::default();
        attributes.set("number", ValueRef::I64(number));
        attributes.set("text", ValueRef::Str(&text));
        SpanRecord { attributes, thread: Some(THREADS[0].clone()), ..SpanRecord::default() }
    };
    let mut used = Packed::default();
    while used.size() < 60 << 10 {
        used.add(&record(1));
    }
    drop(used.encode());
    let mut again = Packed::default().room_for_more();
    assert_eq!((again.len(), again.size(), again.encoded_size()), (0, 0, 0));
    let mut fresh = Packed::default();
    for packed in [&mut again, &mut fresh] {
        packed.add(&record(2));
    }
    assert_eq!(again.encode(), fresh.encode());
}

#[test]
fn a_selection_counts_the_spans_that_were_too_large() {
    let mut packed = Packed::default();
    for kibibytes in [1, 5000, 1, 5000] {
        let mut attributes = Attributes::default();
        attributes.set("text", ValueRef::Str(&"x".repeat(kibibytes << 10)));
        packed.add(&SpanRecord { attributes, ..SpanRecord::default() });
    }
    assert_eq!(packed.truncated(), 2);
    assert_eq!(packed.select(|number| number < 2).truncated(), 1);
    assert_eq!(packed.select(|number| number == 2).truncated(), 0);
}

/// A span as an exporter of the SDK gets it, in a form that can be compared: its attributes are sorted by key, and
/// own their texts. An empty array has no type in OTLP, so it is one of texts.
fn sorted(mut span: SpanData) -> SpanData {
    for attribute in &mut span.attributes {
        attribute.key = attribute.key.as_str().to_owned().into();
        if let Value::String(text) = &attribute.value {
            attribute.value = Value::from(text.as_str().to_owned());
        }
        let is_empty = match &attribute.value {
            Value::Array(Array::Bool(values)) => values.is_empty(),
            Value::Array(Array::I64(values)) => values.is_empty(),
            Value::Array(Array::F64(values)) => values.is_empty(),
            _ => false,
        };
        if is_empty {
            attribute.value = Value::Array(Array::String(Vec::new()));
        }
    }
    span.attributes.sort_by(|a, b| a.key.cmp(&b.key));
    span
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_packed_span_is_read_back_as_it_was(records in vec(record(), 0..4)) {
        let scope = scope("test");
        let mut packed = Packed::default();
        for record in &records {
            packed.add(record);
        }
        let mut read = Vec::new();
        packed.read(|record| read.push(sorted(span_data(record, &scope))));
        let expected: Vec<_> =
            records.into_iter().map(|record| sorted(span_data(record, &scope))).collect();
        prop_assert_eq!(read.len(), expected.len());
        for (read, expected) in read.iter().zip(&expected) {
            prop_assert_eq!(format!("{read:?}"), format!("{expected:?}"));
        }
    }

    #[test]
    fn selected_spans_are_as_if_the_others_had_never_been_packed(
        records in vec((record(), any::<bool>()), 0..6),
    ) {
        let mut packed = Packed::default();
        for (record, _) in &records {
            packed.add(record);
        }
        let selection = packed.select(|number| records[number].1);
        let selected = || records.iter().filter(|(_, is_selected)| *is_selected);
        let places: Vec<_> = selection.places().collect();
        let expected: Vec<_> = selected()
            .map(|(record, _)| {
                let is_root = record.parent.is_remote || record.parent.span_id == SpanId::INVALID;
                (record.trace_id, is_root)
            })
            .collect();
        prop_assert_eq!(places, expected);
        let scope = scope("test");
        let most = selection.encoded_size();
        let mut encoded = Vec::new();
        packed.select(|number| records[number].1).read(|record| encoded.push(sorted(span_data(record, &scope))));
        let expected: Vec<_> = selected()
            .map(|(record, _)| {
                let mut alone = Packed::default();
                alone.add(record);
                let mut read = None;
                alone.read(|record| read = Some(sorted(span_data(record, &scope))));
                read
            })
            .collect();
        prop_assert_eq!(encoded.len(), expected.len());
        for (read, expected) in encoded.iter().zip(expected.iter().flatten()) {
            prop_assert_eq!(format!("{read:?}"), format!("{expected:?}"));
        }
        prop_assert!(selection.encode().len() <= most);
    }

    #[test]
    fn a_request_decodes_to_what_an_sdk_exporter_sends(records in vec(record(), 0..4)) {
        let resource = Resource::builder_empty()
            .with_schema_url(
                [KeyValue::new("service.name", "encode"), KeyValue::new("replicas", 3)],
                "https://example.com/resource",
            )
            .build();
        let scope = scope("test");
        let mut packed = Packed::default();
        for record in &records {
            packed.add(record);
        }
        let most = packed.encoded_size();
        let spans = packed.encode();
        prop_assert!(spans.len() <= most);
        let groups = (!records.is_empty()).then(|| (scope_fields(&scope), vec![spans]));
        let mut request = Vec::new();
        append_resource(&mut request, resource_fields(&resource), groups);
        let request = request.concat();

        let with_schema = ResourceAttributesWithSchema::from(&resource);
        let expected = records.into_iter().map(|record| span_data(record, &scope)).collect();
        let expected = group_spans_by_resource_and_scope(expected, &with_schema);
        let mut received = ExportTraceServiceRequest::decode(request.as_slice()).unwrap();
        // A resource is a map: its order means nothing.
        let by_key = |spans: &mut Vec<opentelemetry_proto::tonic::trace::v1::ResourceSpans>| {
            for spans in spans {
                let resource = spans.resource.as_mut().unwrap();
                resource.attributes.sort_by(|a, b| a.key.cmp(&b.key));
            }
        };
        let mut expected = expected;
        by_key(&mut expected);
        by_key(&mut received.resource_spans);
        // Nor does the order of a span's attributes, each of which has a key of its own.
        for spans in [&mut expected, &mut received.resource_spans] {
            let scopes = spans.iter_mut().flat_map(|spans| &mut spans.scope_spans);
            for span in scopes.flat_map(|scope| &mut scope.spans) {
                span.attributes.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
        prop_assert_eq!(received.resource_spans, expected);
    }
}

fn log_record() -> impl Strategy<Value = LogRecord> {
    let ids = (prop_oneof![Just(0_u128), any::<u128>()], prop_oneof![Just(0_u64), any::<u64>()]);
    (ids, any::<bool>(), any::<u64>(), any::<u64>(), attributes()).prop_map(
        |((trace_id, span_id), sampled, time, observed_time, attributes)| LogRecord {
            event_name: "gen_ai.evaluation.result",
            time,
            observed_time,
            trace_id: TraceId::from(trace_id),
            span_id: SpanId::from(span_id),
            flags: TraceFlags::default().with_sampled(sampled),
            attributes,
        },
    )
}

/// The record in the types that are generated from the `.proto` files. Ids that are none are left out.
fn proto_log_record(record: &LogRecord) -> logs::LogRecord {
    let id = |id: &[u8]| if id.iter().all(|byte| *byte == 0) { Vec::new() } else { id.to_vec() };
    let attributes = record.attributes.iter();
    logs::LogRecord {
        time_unix_nano: record.time,
        observed_time_unix_nano: record.observed_time,
        event_name: record.event_name.to_owned(),
        trace_id: id(&record.trace_id.to_bytes()),
        span_id: id(&record.span_id.to_bytes()),
        flags: record.flags.to_u8().into(),
        attributes: attributes
            .map(|(key, value)| ProtoKeyValue {
                key: key.to_owned(),
                value: Some(AnyValue::from(value)),
                ..ProtoKeyValue::default()
            })
            .collect(),
        ..logs::LogRecord::default()
    }
}

fn encoded_items(record: &LogRecord, resource: &Resource, name: &str) -> EncodedItems {
    let (encoded, is_cut) = encoded_log_record(record);
    assert!(!is_cut && encoded.len() <= record.size());
    EncodedItems {
        signal: Signal::Logs,
        resource: resource_fields(resource).into(),
        scope: scope_fields(&scope(name)).into(),
        encoded: encoded.into(),
        items: 1,
        feedback: 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_request_of_log_records_decodes_to_what_was_recorded(
        records in vec((log_record(), any::<bool>()), 0..5),
    ) {
        let resource = Resource::builder_empty()
            .with_schema_url([KeyValue::new("service.name", "encode")], "https://example.com/resource")
            .build();
        let name = |is_first: bool| if is_first { "first" } else { "second" };
        let items: Vec<_> = records
            .iter()
            .map(|(record, is_first)| encoded_items(record, &resource, name(*is_first)))
            .collect();
        let request = request(&items).concat();
        let received = ExportLogsServiceRequest::decode(request.as_slice()).unwrap();

        prop_assert_eq!(received.resource_logs.len(), usize::from(!records.is_empty()));
        for resource in &received.resource_logs {
            prop_assert_eq!(&resource.schema_url, "https://example.com/resource");
            let attributes = &resource.resource.as_ref().unwrap().attributes;
            prop_assert_eq!(&attributes[0].key, "service.name");
        }
        let scopes = received.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        for scope in scopes.clone() {
            prop_assert_eq!(&scope.schema_url, "https://example.com/scope");
            prop_assert_eq!(&scope.scope.as_ref().unwrap().version, "1.2");
            let is_first = scope.scope.as_ref().unwrap().name == "first";
            let of_scope = records.iter().filter(|(_, first)| *first == is_first);
            let expected: Vec<_> = of_scope.map(|(record, _)| proto_log_record(record)).collect();
            prop_assert_eq!(&scope.log_records, &expected);
        }
        prop_assert_eq!(scopes.map(|scope| scope.log_records.len()).sum::<usize>(), records.len());
    }
}

#[test]
fn a_log_record_that_is_too_large_loses_its_largest_values_and_nothing_of_our_own() {
    let mut attributes = Attributes::default();
    let long = "x".repeat(5 << 20);
    attributes.push("gen_ai.evaluation.name", ValueRef::Str("rating"));
    attributes.push("gen_ai.evaluation.explanation", ValueRef::Str(&long));
    attributes.push("tracing_feedback.namespace", ValueRef::Str("feedback"));
    let record = LogRecord {
        event_name: "gen_ai.evaluation.result",
        time: 1,
        observed_time: 2,
        trace_id: TraceId::from(3),
        span_id: SpanId::from(4),
        flags: TraceFlags::SAMPLED,
        attributes,
    };
    let (encoded, is_cut) = encoded_log_record(&record);
    assert!(is_cut && encoded.len() < truncate::MOST_SPAN + 200);
    // A receiver may take even less.
    let less = truncate::encoded_log_record(&encoded, 1000).unwrap();
    assert!(less.len() < 1200, "{}", less.len());
    for (times, encoded) in [(1, encoded), (2, less)] {
        let scope = logs::ScopeLogs::decode(encoded.as_slice()).unwrap();
        let [cut] = &scope.log_records[..] else { panic!("{scope:?}") };
        let mut expected = proto_log_record(&record);
        assert_eq!(cut.dropped_attributes_count, times);
        let (cut_text, cut) = {
            let mut cut = cut.clone();
            let text = cut.attributes.remove(1).value;
            cut.dropped_attributes_count = 0;
            (format!("{text:?}"), cut)
        };
        expected.attributes.remove(1);
        assert_eq!(cut, expected);
        assert!(cut_text.contains(truncate::MARK));
    }
}
