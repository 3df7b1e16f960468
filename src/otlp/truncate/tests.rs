use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::Event, span::Link};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::*;

fn any_value() -> impl Strategy<Value = Value> {
    let text = "[a-zéö…🙂]{0,600}".prop_map(Value::StringValue).boxed();
    let element = text.clone().prop_map(|value| AnyValue { value: Some(value) });
    prop_oneof![
        4 => text,
        1 => any::<bool>().prop_map(Value::BoolValue),
        1 => any::<i64>().prop_map(Value::IntValue),
        1 => any::<f64>().prop_filter("equal to itself", |it| !it.is_nan()).prop_map(Value::DoubleValue),
        1 => vec(element, 0..6).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![
        4 => "[a-z.]{1,30}",
        1 => "[a-z]{260,900}",
        1 => "(feedback|metrics|outputs|honeyhive_feedback)\\.[a-z]{1,9}",
        1 => "tracing_feedback\\.[a-z]{1,9}",
        1 => Just("session.id".to_owned()),
    ];
    let attribute = (key, any_value()).prop_map(|(key, value)| KeyValue {
        key,
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    });
    vec(attribute, 0..20)
}

fn span() -> impl Strategy<Value = Span> {
    let inner = || vec(("[a-zé]{0,700}", attributes()), 0..4);
    let texts = ("[a-zé]{0,700}", "[a-zé]{0,700}");
    (attributes(), inner(), inner(), texts, any::<u32>()).prop_map(
        |(attributes, events, links, (name, message), count)| Span {
            trace_id: vec![7; 16],
            span_id: vec![8; 8],
            name,
            attributes,
            dropped_attributes_count: count / 2,
            events: events
                .into_iter()
                .map(|(name, attributes)| Event {
                    time_unix_nano: 5,
                    name,
                    attributes,
                    dropped_attributes_count: 1,
                })
                .collect(),
            links: links
                .into_iter()
                .map(|(_, attributes)| Link { attributes, flags: 3, ..Link::default() })
                .collect(),
            status: Some(Status { message, code: 2 }),
            flags: 257,
            ..Span::default()
        },
    )
}

/// The attributes of a class, or of those that are never cut.
fn of_class(span: &Span, class: Class) -> Vec<&KeyValue> {
    span.attributes.iter().filter(|it| Class::of(it.key.as_bytes()) == class).collect()
}

proptest! {
    #[test]
    fn a_cut_span_fits_and_is_a_span_with_the_same_identity(span in span(), most in 0..30_000_usize) {
        let encoded = span.encode_to_vec();
        let Some(cut) = span_fields(&encoded, most) else {
            prop_assert!(encoded.len() <= most);
            return Ok(());
        };
        let decoded = Span::decode(&*cut).unwrap(); // texts are UTF-8 still
        prop_assert_eq!(&decoded.trace_id, &span.trace_id);
        prop_assert_eq!((decoded.flags, decoded.status.as_ref().unwrap().code), (257, 2));
        prop_assert_eq!(of_class(&decoded, Class::Protected), of_class(&span, Class::Protected));
        // What can't be cut: the protected attributes, names and a few links of at most 256 bytes each.
        let protected = of_class(&span, Class::Protected);
        let rest: usize = protected.iter().map(|it| it.encoded_len() + 4).sum();
        prop_assert!(cut.len() <= most.max(rest + MOST_LINKS), "{} {most} {rest}", cut.len());
        let dropped = (span.events.len() - decoded.events.len()) as u32;
        prop_assert_eq!(decoded.dropped_events_count, dropped);
        let gone = span.attributes.len() - decoded.attributes.len();
        prop_assert!(decoded.dropped_attributes_count as usize >= gone);
        // Opinions are whole unless everything else is as short as it can be.
        if of_class(&decoded, Class::Opinion) != of_class(&span, Class::Opinion) {
            let long = |it: &&KeyValue| it.encoded_len() > 2 * SHORTEST + 64;
            prop_assert!(!of_class(&decoded, Class::Field).iter().any(long));
        }
    }

    #[test]
    fn any_bytes_are_cut_without_a_panic(bytes in vec(any::<u8>(), 0..2000), most in 0..2000_usize) {
        let _ = span_fields(&bytes, most);
        let _ = encoded_span(&bytes, most);
        let _ = resource_fields(&bytes, most);
    }
}

#[test]
fn every_namespace_is_cut_after_the_fields() {
    for namespace in crate::feedback::document::NAMESPACES {
        for key in [format!("{namespace}.a"), format!("honeyhive_{namespace}.a.b")] {
            assert_ne!(Class::of(key.as_bytes()), Class::Field, "{key}");
        }
    }
    assert_eq!(Class::of(b"feedback_of_theirs.a"), Class::Field);
}

#[test]
fn the_longest_values_get_one_length() {
    assert_eq!(common_length(&mut [1000, 5000, 3000], 1000), 4000);
    assert_eq!(common_length(&mut [1000, 5000, 3000], 4000), 2000);
    assert_eq!(common_length(&mut [1000, 5000, 3000], 7500), 500);
    assert_eq!(common_length(&mut [1000, 5000], 10_000), SHORTEST);
    assert_eq!(common_length(&mut [], 1), SHORTEST);
}
