//! Whatever a value holds ends in a documented attribute or a named error, and costs no more than
//! the key it stands at: never a panic, a stack overflow or a lost sibling.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex};

use opentelemetry_sdk::trace::SpanLimits;
use serde::Serialize;
use serde::ser::{
    Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTupleVariant, Serializer,
};
use serde_json::json;
use serde_json::value::RawValue;
use tracing_feedback::collector::{Answer, ReceivedSpan, Value};
use tracing_feedback::{EnrichError, Enrichment, SpanExt, enrich, enrich_span};
use tracing_subscriber::layer::SubscriberExt;

use crate::Rig;

const KIB: usize = 1024;

type Attributes = BTreeMap<String, Value>;

/// Attaches `value` to a span and returns the outcome and the span as it arrived.
fn attach_with<T: Serialize + ?Sized>(rig: &Rig, value: &T) -> (Vec<EnrichError>, ReceivedSpan) {
    let (outcome, context) = rig.run(|| {
        let span = tracing::info_span!("answer");
        let outcome = enrich::span(&span).feedback(value).apply();
        (outcome, span.span_context().unwrap())
    });
    let spans = rig.collector.spans();
    let span = spans.into_iter().find(|span| span.span_id == context.span_id()).unwrap();
    assert!(span.duplicate_keys.is_empty(), "{:?}", span.duplicate_keys);
    (all(&outcome), span)
}

/// The same, with the attributes alone and the default settings.
fn attach<T: Serialize + ?Sized>(value: &T) -> (Vec<EnrichError>, Attributes) {
    static RIG: LazyLock<Rig> = LazyLock::new(Rig::new);
    let (errors, span) = attach_with(&RIG, value);
    (errors, span.attributes)
}

fn all(outcome: &Enrichment) -> Vec<EnrichError> {
    outcome.errors().cloned().collect()
}

/// The attributes with these keys, the namespace left out.
fn feedback<const N: usize>(attributes: [(&str, Value); N]) -> Attributes {
    attributes.into_iter().map(|(key, value)| (format!("feedback.{key}"), value)).collect()
}

fn key(key: &str) -> String {
    format!("feedback.{key}")
}

/// Attaches `value` on a thread with a stack of 2 MiB, as threads have by default.
fn attach_on_a_small_stack<T: Serialize + Sync + ?Sized>(
    value: &T,
) -> (Vec<EnrichError>, Attributes) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(2048 * KIB);
        thread.spawn_scoped(scope, || attach(value)).unwrap().join().unwrap()
    })
}

/// `value` under the key `bad`, between two siblings.
#[derive(Serialize)]
struct Siblings<T> {
    before: bool,
    bad: T,
    after: i32,
}

fn siblings<T>(bad: T) -> Siblings<T> {
    Siblings { before: true, bad, after: 2 }
}

/// `bad` is refused with this error alone, and its siblings are kept.
fn refused<T: Serialize + Clone>(bad: T, error: impl Fn(String) -> EnrichError) {
    let (errors, attributes) = attach(&siblings(bad.clone()));
    assert_eq!(errors, [error(key("bad"))]);
    assert_eq!(attributes, feedback([("before", true.into()), ("after", 2.into())]));
    refused_within_json(bad, error);
}

/// The same where `bad` lies so deep that it would become JSON text.
fn refused_within_json<T: Serialize + Clone>(bad: T, error: impl Fn(String) -> EnrichError) {
    let (errors, attributes) = attach(&deep(siblings(bad.clone())));
    assert_eq!(errors, [error(key(&format!("{DEEP}.bad"))), too_deep(DEEP, "5 objects")]);
    assert_eq!(attributes, feedback([(DEEP, r#"{"before":true,"after":2}"#.into())]));

    // In an array the others keep their place.
    let (errors, attributes) = attach(&deep(json_array(bad)));
    assert_eq!(errors[0], error(key(&format!("{DEEP}.list.1"))));
    assert_eq!(attributes, feedback([(DEEP, r#"{"list":[1,null,3]}"#.into())]));
}

#[derive(Serialize)]
struct List<T> {
    list: (i32, T, i32),
}

fn json_array<T>(bad: T) -> List<T> {
    List { list: (1, bad, 3) }
}

/// Where the object of [`deep`] stands: the deepest key allowed.
const DEEP: &str = "1.2.3.4.5.6";

fn deep<T: Serialize>(value: T) -> impl Serialize {
    DEEP.rsplit('.').fold(Nested::Value(value), |value, key| {
        Nested::Object(BTreeMap::from([(key, Box::new(value))]))
    })
}

#[derive(Serialize)]
#[serde(untagged)]
enum Nested<T> {
    Object(BTreeMap<&'static str, Box<Nested<T>>>),
    Value(T),
}

fn too_deep(at: &str, limit: &'static str) -> EnrichError {
    EnrichError::TooDeep { key: key(at), limit }
}

// ---- scalars ---------------------------------------------------------------------------------------

#[test]
fn nan_and_the_infinities_are_refused_with_their_key() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(value, |key| EnrichError::NotFinite { key });
    }
    refused(f32::NAN, |key| EnrichError::NotFinite { key });
}

#[test]
fn bytes_are_refused_with_their_key() {
    #[derive(Clone)]
    struct Bytes;
    impl Serialize for Bytes {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(b"\x00\xff")
        }
    }
    refused(Bytes, |key| EnrichError::Unsupported { key, found: "bytes" });
}

#[test]
fn scalars_of_every_type_become_what_the_table_says() {
    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    struct Newtype(u8);
    #[derive(Serialize)]
    struct Scalars {
        i8: i8,
        u32: u32,
        u64: u64,
        u64_beyond: u64,
        i128: i128,
        i128_beyond: i128,
        u128: u128,
        u128_beyond: u128,
        f32: f32,
        f64: f64,
        char: char,
        empty: &'static str,
        newtype: Newtype,
        some: Option<Option<bool>>,
        unit: Unit,
    }
    let scalars = Scalars {
        i8: -1,
        u32: u32::MAX,
        u64: i64::MAX as u64,
        u64_beyond: i64::MAX as u64 + 1,
        i128: i64::MIN.into(),
        i128_beyond: i128::from(i64::MIN) - 1,
        u128: 7,
        u128_beyond: u128::MAX,
        f32: 0.5,
        f64: 2.0,
        char: '\u{1F600}',
        empty: "",
        newtype: Newtype(3),
        some: Some(Some(true)),
        unit: Unit,
    };
    let (errors, attributes) = attach(&scalars);
    assert_eq!(errors, []);
    assert_eq!(
        attributes,
        feedback([
            ("i8", (-1).into()),
            ("u32", 4_294_967_295.into()),
            ("u64", i64::MAX.into()),
            ("u64_beyond", "9223372036854775808".into()),
            ("i128", i64::MIN.into()),
            ("i128_beyond", "-9223372036854775809".into()),
            ("u128", 7.into()),
            ("u128_beyond", "340282366920938463463374607431768211455".into()),
            ("f32", 0.5.into()),
            ("f64", 2.0.into()),
            ("char", "\u{1F600}".into()),
            ("empty", "".into()),
            ("newtype", 3.into()),
            ("some", true.into()),
        ])
    );
    // Deeper than attributes go, numbers have no bound.
    let (errors, attributes) = attach(&deep(scalars));
    assert_eq!(errors, [too_deep(DEEP, "5 objects")]);
    assert_eq!(
        attributes[&key(DEEP)],
        "{\"i8\":-1,\"u32\":4294967295,\"u64\":9223372036854775807,\
         \"u64_beyond\":9223372036854775808,\"i128\":-9223372036854775808,\
         \"i128_beyond\":-9223372036854775809,\"u128\":7,\
         \"u128_beyond\":340282366920938463463374607431768211455,\"f32\":0.5,\"f64\":2.0,\
         \"char\":\"\u{1F600}\",\"empty\":\"\",\"newtype\":3,\"some\":true,\"unit\":null}"
    );
}

#[test]
fn variants_are_written_as_serde_json_writes_them() {
    #[derive(Serialize)]
    enum Variants {
        Nothing,
        Newtype(u8),
        Tuple(u8, bool),
        Struct { rating: u8 },
    }
    #[derive(Serialize)]
    struct All {
        unit: Variants,
        newtype: Variants,
        tuple: Variants,
        structure: Variants,
    }
    let all = || All {
        unit: Variants::Nothing,
        newtype: Variants::Newtype(1),
        tuple: Variants::Tuple(2, true),
        structure: Variants::Struct { rating: 3 },
    };
    let (errors, attributes) = attach(&all());
    assert_eq!(errors, []);
    assert_eq!(
        attributes,
        feedback([
            ("unit", "Nothing".into()),
            ("newtype.Newtype", 1.into()),
            ("tuple.Tuple.0", 2.into()),
            ("tuple.Tuple.1", true.into()),
            ("structure.Struct.rating", 3.into()),
        ])
    );
    let (_, attributes) = attach(&deep(all()));
    assert_eq!(attributes[&key(DEEP)], serde_json::to_string(&all()).unwrap());

    // At the top a variant with a value is an object, and one without is a string.
    for (variant, expected) in [
        (Variants::Newtype(1), feedback([("Newtype", 1.into())])),
        (Variants::Tuple(2, true), feedback([("Tuple.0", 2.into()), ("Tuple.1", true.into())])),
        (Variants::Struct { rating: 3 }, feedback([("Struct.rating", 3.into())])),
    ] {
        assert_eq!(attach(&variant), (vec![], expected));
    }
    let (errors, _) = attach(&Variants::Nothing);
    assert_eq!(errors, [not_an_object("a string")]);
}

// ---- absent, null and the top value --------------------------------------------------------------------

fn not_an_object(found: &'static str) -> EnrichError {
    EnrichError::NotAnObject { namespace: "feedback".to_owned(), found }
}

#[test]
fn only_an_object_or_null_may_stand_at_the_top() {
    fn refused<T: Serialize>(value: T, found: &'static str) {
        let (errors, attributes) = attach(&value);
        assert_eq!(errors, [not_an_object(found)]);
        assert_eq!(attributes, Attributes::new());
    }
    refused(true, "a bool");
    refused('c', "a string");
    refused("text", "a string");
    refused(1_u128, "a number");
    refused(f64::NAN, "a number");
    refused([1, 2], "an array");
    refused(&[[1]][..], "an array");
    refused(json!([{ "a": 1 }]), "an array");
    refused(Some(Some(1)), "a number");
    refused(raw("[1]"), "an array");

    // A second namespace is taken all the same.
    let rig = Rig::new();
    rig.run(|| {
        let _span = tracing::info_span!("answer").entered();
        let outcome = enrich_span!(feedback = [1, 2], metrics = { "score": 1 });
        assert_eq!(all(&outcome), [not_an_object("an array")]);
    });
    assert_eq!(rig.collector.spans()[0].attributes["metrics.score"], 1);
}

/// `before`, then `value`, and what is left.
fn after<T: Serialize>(before: serde_json::Value, value: &T) -> Attributes {
    static RIG: LazyLock<Rig> = LazyLock::new(Rig::new);
    let context = RIG.run(|| {
        let span = tracing::info_span!("answer");
        assert!(enrich::span(&span).feedback(&before).apply().is_ok());
        let outcome = enrich::span(&span).feedback(value).apply();
        assert!(outcome.is_ok(), "{outcome:?}");
        span.span_context().unwrap()
    });
    RIG.collector.feedback(context.trace_id(), context.span_id())
}

#[test]
fn none_changes_nothing_and_null_retracts() {
    #[derive(Serialize, Clone, Copy)]
    struct Unit;
    #[derive(Serialize)]
    struct Absent {
        none: Option<i32>,
        some_none: Option<Option<i32>>,
        null: serde_json::Value,
        unit: (),
        some_unit: Option<()>,
        unit_struct: Unit,
        object: HashMap<&'static str, Option<i32>>,
    }
    let absent = || Absent {
        none: None,
        some_none: Some(None),
        null: serde_json::Value::Null,
        unit: (),
        some_unit: Some(()),
        unit_struct: Unit,
        object: HashMap::from([("none", None)]),
    };
    let before = json!({
        "none": 1, "some_none": 2, "null": 3, "unit": { "a": 4 }, "some_unit": [5, 6],
        "unit_struct": 7, "object": { "none": 8 },
    });
    let left = after(before, &absent());
    let expected = [("none", 1.into()), ("some_none", 2.into()), ("object.none", 8.into())];
    assert_eq!(left, feedback(expected));

    // In an array, which replaces what was there as a whole, both leave a gap.
    let array = BTreeMap::from([("a", (None::<i32>, (), Unit, 9))]);
    let left = after(json!({ "a": [1, 2, 3, 4, 5], "b": 1 }), &array);
    assert_eq!(left, feedback([("a.3", 9.into()), ("b", 1.into())]));

    // In JSON text.
    let (_, attributes) = attach(&deep(absent()));
    let text = r#"{"null":null,"unit":null,"some_unit":null,"unit_struct":null,"object":{}}"#;
    assert_eq!(attributes[&key(DEEP)], text);
    let (_, attributes) = attach(&deep(BTreeMap::from([("a", (None::<i32>, (), 1))])));
    assert_eq!(attributes[&key(DEEP)], r#"{"a":[null,null,1]}"#);

    // At the top.
    let before = || json!({ "a": 1, "b": { "c": 2 } });
    assert_eq!(after(before(), &None::<Absent>).len(), 2);
    assert_eq!(after(before(), &json!({})).len(), 2);
    assert_eq!(after(before(), &()), Attributes::new());
    assert_eq!(after(before(), &serde_json::Value::Null), Attributes::new());
    assert_eq!(after(before(), &Some(Unit)), Attributes::new());
    assert_eq!(after(before(), &Some(json!({ "a": null }))), feedback([("b.c", 2.into())]));
}

#[test]
fn the_ground_truth_is_an_ordinary_leaf() {
    let (errors, attributes) = attach(&json!({ "ground_truth": "Albany", "rating": false }));
    assert_eq!(errors, []);
    let expected = [("ground_truth", "Albany".into()), ("rating", false.into())];
    assert_eq!(attributes, feedback(expected));
}

// ---- keys ----------------------------------------------------------------------------------------

/// Any value as the key of one entry, between two that are fine.
#[derive(Clone)]
struct Entry<K>(K);

impl<K: Serialize> Serialize for Entry<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("before", &true)?;
        map.serialize_entry(&self.0, &json!({ "lost": { "with": "its key" } }))?;
        map.serialize_entry("after", &2)?;
        map.end()
    }
}

#[test]
fn keys_that_can_be_text_are_text() {
    #[derive(Serialize, PartialEq, Eq, Hash)]
    enum Key {
        Stars,
    }
    #[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
    struct Name(&'static str);
    #[derive(Serialize)]
    struct Maps {
        ints: HashMap<i64, u8>,
        bools: HashMap<bool, u8>,
        chars: HashMap<char, u8>,
        variants: HashMap<Key, u8>,
        names: BTreeMap<Name, u8>,
        large: HashMap<u128, u8>,
    }
    let maps = Maps {
        ints: HashMap::from([(-3, 1)]),
        bools: HashMap::from([(true, 2)]),
        chars: HashMap::from([('x', 3)]),
        variants: HashMap::from([(Key::Stars, 4)]),
        names: BTreeMap::from([(Name("n"), 5)]),
        large: HashMap::from([(u128::MAX, 6)]),
    };
    let (errors, attributes) = attach(&maps);
    assert_eq!(errors, []);
    assert_eq!(
        attributes,
        feedback([
            ("ints.-3", 1.into()),
            ("bools.true", 2.into()),
            ("chars.x", 3.into()),
            ("variants.Stars", 4.into()),
            ("names.n", 5.into()),
            ("large.340282366920938463463374607431768211455", 6.into()),
        ])
    );
}

#[test]
fn keys_that_are_no_path_are_refused_with_their_parent() {
    #[derive(Clone, Serialize)]
    struct Structure {
        a: u8,
    }
    #[derive(Clone, Serialize)]
    enum Variant {
        Newtype(u8),
    }
    fn check<K: Serialize + Clone>(bad: K, reason: &'static str) {
        let error = |parent: &str| EnrichError::InvalidKey { parent: parent.to_owned(), reason };
        let (errors, attributes) = attach(&Entry(bad.clone()));
        assert_eq!(errors, [error("feedback")]);
        assert_eq!(attributes, feedback([("before", true.into()), ("after", 2.into())]));
        let (errors, attributes) = attach(&BTreeMap::from([("in", Entry(bad))]));
        assert_eq!(errors, [error("feedback.in")]);
        assert_eq!(attributes, feedback([("in.before", true.into()), ("in.after", 2.into())]));
    }
    let not_a_string = "is not a string";
    check(1.5_f64, not_a_string);
    check(f32::NAN, not_a_string);
    check((1, 2), not_a_string);
    check([1_u8; 3], not_a_string);
    check(Structure { a: 1 }, not_a_string);
    check(Variant::Newtype(1), not_a_string);
    check(None::<&str>, not_a_string);
    check(Some("text"), not_a_string);
    check((), not_a_string);
    check(json!({ "a": 1 }), not_a_string);
    check(Fails(Half::Nothing), "could not be serialized");

    check("", "is empty");
    for bad in [".", ".a", "a.", "a..b", "..", ".a."] {
        check(bad, "has nothing between two dots, or before the first or after the last one");
    }
}

#[test]
fn within_json_text_any_string_is_a_key() {
    let odd = json!({ "": 1, ".": 2, "a..b": 3, "\u{0}\"": 4, "{": "[", "[": "{" });
    let (errors, attributes) = attach(&deep(&odd));
    assert_eq!(errors, [too_deep(DEEP, "5 objects")]);
    let text = attributes[&key(DEEP)].as_str().unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), odd);
}

#[test]
fn control_characters_pass_through() {
    let odd = "\0\u{1}\t\n\u{7f}\u{85}\u{202e}\u{feff}";
    let document = BTreeMap::from([(odd, odd), ("plain", "text")]);
    let (errors, attributes) = attach(&document);
    assert_eq!(errors, []);
    assert_eq!(attributes, feedback([(odd, odd.into()), ("plain", "text".into())]));
}

#[test]
fn dotted_keys_are_nesting() {
    let (errors, attributes) = attach(&json!({ "a.b": { "c.d": 1 }, "e": 2 }));
    assert_eq!(errors, []);
    assert_eq!(attributes, feedback([("a.b.c.d", 1.into()), ("e", 2.into())]));
    // Each dot counts as an object: 5 are fine, and a key has no JSON text to become.
    let (errors, attributes) = attach(&json!({ "1.2.3.4.5.6": 1, "a.b.c.d.e.f.g": 2, "z": 3 }));
    let limit = "5 objects";
    assert_eq!(errors, [EnrichError::TooDeepToKeep { key: key("a.b.c.d.e.f.g"), limit }]);
    assert_eq!(attributes, feedback([(DEEP, 1.into()), ("z", 3.into())]));
}

// ---- depth ----------------------------------------------------------------------------------------

/// Nests `depth` times without holding any of it in memory.
#[derive(Clone, Copy)]
struct Nest {
    shape: Shape,
    depth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Map,
    Struct,
    Seq,
    Some,
    Newtype,
    NewtypeVariant,
    TupleVariant,
    StructVariant,
    /// An object, an option and a newtype in turn.
    Mixed,
}

impl Serialize for Nest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { shape, depth } = *self;
        if depth == 0 {
            return serializer.serialize_bool(true);
        }
        let inner = Self { shape, depth: depth - 1 };
        let shape = match shape {
            Shape::Mixed => [Shape::Map, Shape::Some, Shape::Newtype][depth % 3],
            shape => shape,
        };
        match shape {
            Shape::Map => serializer.collect_map([("k", inner)]),
            Shape::Struct => {
                let mut fields = serializer.serialize_struct("Nest", 1)?;
                fields.serialize_field("k", &inner)?;
                fields.end()
            }
            Shape::Seq => serializer.collect_seq([inner]),
            Shape::Some => serializer.serialize_some(&inner),
            Shape::Newtype | Shape::Mixed => serializer.serialize_newtype_struct("Nest", &inner),
            Shape::NewtypeVariant => serializer.serialize_newtype_variant("Nest", 0, "k", &inner),
            Shape::TupleVariant => {
                let mut fields = serializer.serialize_tuple_variant("Nest", 0, "k", 1)?;
                fields.serialize_field(&inner)?;
                fields.end()
            }
            Shape::StructVariant => {
                let mut fields = serializer.serialize_struct_variant("Nest", 0, "k", 1)?;
                fields.serialize_field("k", &inner)?;
                fields.end()
            }
        }
    }
}

fn nest(shape: Shape, depth: usize) -> Nest {
    Nest { shape, depth }
}

#[test]
fn what_nests_too_deep_for_attributes_is_kept_as_json() {
    let with = |deepest: &str, value: Value| {
        feedback([("before", true.into()), ("after", 2.into()), (deepest, value)])
    };
    let deepest = "bad.k.k.k.k.k";
    let (errors, attributes) = attach(&siblings(nest(Shape::Map, 5)));
    assert_eq!((errors, attributes), (vec![], with(deepest, true.into())));

    for (depth, text) in [
        (6, r#"{"k":true}"#),
        (7, r#"{"k":{"k":true}}"#),
        (10, r#"{"k":{"k":{"k":{"k":{"k":true}}}}}"#),
    ] {
        for shape in [Shape::Map, Shape::Struct, Shape::NewtypeVariant] {
            let (errors, attributes) = attach(&siblings(nest(shape, depth)));
            assert_eq!(errors, [too_deep(deepest, "5 objects")], "{shape:?} {depth}");
            assert_eq!(attributes, with(deepest, text.into()), "{shape:?} {depth}");
        }
    }

    let (errors, attributes) = attach(&siblings(nest(Shape::Seq, 2)));
    assert_eq!((errors, attributes), (vec![], with("bad.0.0", true.into())));
    for (depth, text) in [(3, "[true]"), (4, "[[true]]")] {
        let (errors, attributes) = attach(&siblings(nest(Shape::Seq, depth)));
        assert_eq!(errors, [too_deep("bad.0.0", "2 arrays")]);
        assert_eq!(attributes, with("bad.0.0", text.into()));
    }
    // Containers without a leaf are nothing at any depth: no text stands for them.
    for empty in [json!([[[]]]), json!([[[[], {}]]]), json!([[[{ "k": {} }]]])] {
        let (errors, attributes) = attach(&json!({ "a": empty, "before": true }));
        assert_eq!((errors, attributes), (vec![], feedback([("before", true.into())])), "{empty}");
    }
    let (errors, attributes) = attach(&json!({ "a": [[[null]]], "before": true }));
    assert_eq!(errors, [too_deep("a.0.0", "2 arrays")]);
    let kept = [("a.0.0", "[null]".into()), ("before", true.into())];
    assert_eq!(attributes, feedback(kept));

    // It replaces what was there, like any leaf.
    let rig = Rig::new();
    rig.run(|| {
        let _span = tracing::info_span!("answer").entered();
        let _ = enrich_span!(feedback = { "a": [[1, 2]] });
        let outcome = enrich::current_span().feedback(&json!({ "a": [[[1], 2]] })).apply();
        assert_eq!(all(&outcome), [too_deep("a.0.0", "2 arrays")]);
    });
    let expected = feedback([("a.0.0", "[1]".into()), ("a.0.1", 2.into())]);
    assert_eq!(rig.collector.spans()[0].attributes, expected);
}

#[test]
fn beyond_128_levels_the_key_is_refused_on_a_small_stack() {
    let deepest = "bad.k.k.k.k.k";
    // With the object at the top, 128 levels.
    let (errors, attributes) = attach_on_a_small_stack(&siblings(nest(Shape::Map, 127)));
    assert_eq!(errors, [too_deep(deepest, "5 objects")]);
    let text = attributes[&key(deepest)].as_str().unwrap();
    assert_eq!(text, format!("{}true{}", r#"{"k":"#.repeat(122), "}".repeat(122)));
    assert_eq!(attributes.len(), 3);

    for depth in [128, 129, 20_000] {
        let (errors, attributes) = attach_on_a_small_stack(&siblings(nest(Shape::Map, depth)));
        let [EnrichError::TooDeepToKeep { key: refused, limit: "128 levels" }, kept] = &errors[..]
        else {
            panic!("{errors:?}");
        };
        assert!(refused.starts_with("feedback.bad.k.k.k"), "{refused}");
        assert_eq!(*kept, too_deep(deepest, "5 objects"));
        let text = attributes[&key(deepest)].as_str().unwrap();
        assert_eq!(text, format!("{}{{}}{}", r#"{"k":"#.repeat(121), "}".repeat(121)));
        assert_eq!(attributes["feedback.after"], 2);
    }

    for shape in [
        Shape::Struct,
        Shape::Seq,
        Shape::NewtypeVariant,
        Shape::TupleVariant,
        Shape::StructVariant,
        Shape::Mixed,
    ] {
        for depth in [128, 129, 20_000] {
            let (errors, attributes) = attach_on_a_small_stack(&siblings(nest(shape, depth)));
            let is_refused =
                errors.iter().any(|error| matches!(error, EnrichError::TooDeepToKeep { .. }));
            assert!(is_refused || (shape == Shape::Mixed && depth < 1000), "{shape:?} {errors:?}");
            assert!(errors.iter().any(|error| matches!(error, EnrichError::TooDeep { .. })));
            assert_eq!(attributes["feedback.before"], true);
            assert_eq!(attributes["feedback.after"], 2);
        }
    }
}

/// Options and newtypes are no containers, but they nest all the same.
#[test]
fn options_and_newtypes_are_read_to_a_bound() {
    for shape in [Shape::Some, Shape::Newtype] {
        for depth in [1, 128] {
            let (errors, attributes) = attach_on_a_small_stack(&siblings(nest(shape, depth)));
            assert_eq!(errors, []);
            assert_eq!(attributes["feedback.bad"], true);
        }
        let (errors, attributes) = attach_on_a_small_stack(&siblings(nest(shape, 20_000)));
        let limit = "512 options and newtypes";
        assert_eq!(errors, [EnrichError::TooDeepToKeep { key: key("bad"), limit }]);
        assert_eq!(attributes, feedback([("before", true.into()), ("after", 2.into())]));
    }
    // As keys.
    let (errors, attributes) = attach_on_a_small_stack(&Entry(nest(Shape::Newtype, 10)));
    assert_eq!(errors, []);
    assert_eq!(attributes["feedback.true.lost.with"], "its key");
    let (errors, attributes) = attach_on_a_small_stack(&Entry(nest(Shape::Newtype, 20_000)));
    let reason = "nests too deep";
    assert_eq!(errors, [EnrichError::InvalidKey { parent: "feedback".to_owned(), reason }]);
    assert_eq!(attributes, feedback([("before", true.into()), ("after", 2.into())]));
}

#[test]
fn trees_in_memory_may_be_as_deep() {
    let mut value = json!(true);
    for _ in 0..20_000 {
        let mut object = serde_json::Map::new();
        object.insert("k".to_owned(), value);
        value = object.into();
    }
    // Dropping it would take more stack than there is.
    let value = ManuallyDrop::new(value);
    let (errors, attributes) = attach_on_a_small_stack(&siblings(&*value));
    assert!(matches!(errors[0], EnrichError::TooDeepToKeep { .. }), "{errors:?}");
    assert_eq!(attributes["feedback.after"], 2);
}

// ---- values that fail ---------------------------------------------------------------------------------

/// A `Serialize` that fails half way.
#[derive(Clone, Copy)]
struct Fails(Half);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Half {
    /// Before it has written anything.
    Nothing,
    Struct,
    Map,
    Seq,
    /// Within containers that are still open.
    Nested,
}

const HALVES: [Half; 5] = [Half::Nothing, Half::Struct, Half::Map, Half::Seq, Half::Nested];

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Half::Nothing => {}
            Half::Struct => {
                let mut fields = serializer.serialize_struct("Fails", 2)?;
                fields.serialize_field("written", &1)?;
            }
            Half::Map => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("written", &1)?;
                map.serialize_key("lost")?;
            }
            Half::Seq => {
                let mut seq = serializer.serialize_seq(None)?;
                seq.serialize_element("written")?;
            }
            Half::Nested => {
                let mut fields = serializer.serialize_struct_variant("Fails", 0, "in", 1)?;
                fields.serialize_field("written", &json!({ "a": [{ "b": 1 }] }))?;
            }
        }
        Err(S::Error::custom("out of words"))
    }
}

fn failure(key: String) -> EnrichError {
    EnrichError::Serialize { key, message: "out of words".to_owned() }
}

#[test]
fn a_value_that_fails_half_way_costs_no_more_than_itself() {
    let written: [&[(&str, Value)]; 5] = [
        &[],
        &[("bad.written", Value::Int(1))],
        &[("bad.written", Value::Int(1))],
        &[("bad.0", Value::String("written".to_owned()))],
        &[("bad.in.written.a.0.b", Value::Int(1))],
    ];
    for (half, written) in HALVES.into_iter().zip(written) {
        let (errors, attributes) = attach(&siblings(Fails(half)));
        assert_eq!(errors, [failure(key("bad"))], "{half:?}");
        let mut expected = feedback([("before", true.into()), ("after", 2.into())]);
        expected.extend(written.iter().map(|(at, value)| (key(at), value.clone())));
        assert_eq!(attributes, expected, "{half:?}");
    }
    // At the top.
    let (errors, attributes) = attach(&Fails(Half::Struct));
    assert_eq!(errors, [failure("feedback".to_owned())]);
    assert_eq!(attributes, feedback([("written", 1.into())]));
}

/// Half a JSON text is none: there nothing of the failed value is kept, and all of its siblings.
#[test]
fn a_value_that_fails_within_json_text_leaves_valid_json() {
    for half in HALVES {
        refused_within_json(Fails(half), failure);
    }
    // The failed value would have been the JSON text itself.
    let (errors, attributes) = attach(&deep(Fails(Half::Struct)));
    assert_eq!(errors, [failure(key(DEEP))]);
    assert_eq!(attributes, Attributes::new());
    let (errors, attributes) = attach(&siblings([[[Fails(Half::Seq)]]]));
    assert_eq!(errors, [failure(key("bad.0.0.0")), too_deep("bad.0.0", "2 arrays")]);
    assert_eq!(attributes["feedback.bad.0.0"], "[null]");
    assert_eq!(attributes["feedback.after"], 2);
}

/// A panic is the value's own: it goes on to the caller, and nothing of ours is in a bad state
/// after.
#[test]
fn a_panic_of_a_value_passes_through() {
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            std::panic::panic_any("on purpose")
        }
    }
    let rig = Rig::new();
    rig.run(|| {
        let _span = tracing::info_span!("answer").entered();
        let _ = enrich_span!(feedback = { "before": 1 });
        let panic = catch_unwind(AssertUnwindSafe(|| {
            enrich_span!(feedback = { "lost": true, "bad": Panics });
        }));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"on purpose"));
        assert!(enrich_span!(feedback = { "after": 2 }).is_ok());
    });
    let expected = feedback([("before", 1.into()), ("after", 2.into())]);
    assert_eq!(rig.collector.spans()[0].attributes, expected);
}

/// A `Display` and `Debug` that fail half way, as those of a date with an invalid format do.
#[derive(Clone)]
struct Unformatted;

impl fmt::Display for Unformatted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half a da")?;
        Err(fmt::Error)
    }
}

impl Debug for Unformatted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Unformatted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&fmt::Error)
    }
}

impl Serialize for Unformatted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is kept of it.
const HALF: &str = "half a da… (formatting failed)";

#[test]
fn a_field_whose_formatting_fails_keeps_what_was_written() {
    let rig = Rig::new();
    rig.run(|| {
        let span = tracing::info_span!(
            "answer",
            display = %Unformatted,
            debug = ?Unformatted,
            a.key.that.is.too.long.to.be.prepared.for.writing.it.again.and.again = ?Unformatted,
            level = %Unformatted,
            error = &Unformatted as &(dyn std::error::Error + 'static),
            recorded = tracing::field::Empty,
        );
        span.record("recorded", tracing::field::display(Unformatted));
        span.in_scope(|| {
            tracing::info!(field = %Unformatted, "on {}", Unformatted);
            tracing::error!(error = &Unformatted as &(dyn std::error::Error + 'static), "failed");
        });
    });
    let span = &rig.collector.spans()[0];
    for key in ["display", "debug", "level", "error", "recorded", "exception.message"] {
        assert_eq!(span.attributes[key], *HALF, "{key}");
    }
    let long = span.attributes.iter().find(|(key, _)| key.starts_with("a.key")).unwrap();
    assert_eq!(*long.1, *HALF);
    let [first, second] = &span.events[..] else { panic!("{:?}", span.events) };
    assert_eq!(first.name, format!("on {HALF}"));
    assert_eq!(first.attributes["field"], *HALF);
    assert_eq!(second.attributes["error"], *HALF);
    assert_eq!(rig.telemetry.stats().refused["formatting_failed"], 9);
}

#[test]
fn a_value_whose_formatting_fails_keeps_what_was_written() {
    let failed = |key| EnrichError::Serialize { key, message: "its `Display` failed".to_owned() };
    let (errors, attributes) = attach(&siblings(Unformatted));
    assert_eq!(errors, [failed(key("bad"))]);
    let expected = [("before", true.into()), ("bad", HALF.into()), ("after", 2.into())];
    assert_eq!(attributes, feedback(expected));
    refused_within_json(Unformatted, failed);

    /// A map with such a key, and an error that can't be formatted.
    struct Map;
    impl Serialize for Map {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry(&Unformatted, &1)?;
            map.serialize_entry("good", &2)?;
            Err(S::Error::custom(Unformatted))
        }
    }
    let (errors, attributes) = attach(&Map);
    let parent = "feedback".to_owned();
    assert_eq!(
        errors,
        [
            EnrichError::InvalidKey { parent: parent.clone(), reason: "could not be formatted" },
            EnrichError::Serialize { key: parent, message: HALF.to_owned() },
        ]
    );
    assert_eq!(attributes, feedback([("good", 2.into())]));
}

// ---- foreign JSON ---------------------------------------------------------------------------------------

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

#[test]
fn raw_json_is_taken_as_the_value_it_stands_for() {
    let text =
        r#"{"a": {"b": [1, 2.5, "\u00e9\ud83d\ude00"]}, "c": null, "d": 18446744073709551615}"#;
    let (errors, attributes) = attach(&raw(text));
    assert_eq!(errors, []);
    assert_eq!(
        attributes,
        feedback([
            ("a.b.0", 1.into()),
            ("a.b.1", 2.5.into()),
            ("a.b.2", "\u{e9}\u{1F600}".into()),
            ("d", "18446744073709551615".into()),
        ])
    );
    let (errors, attributes) = attach(&deep(siblings(raw(r#"{"a" : [ 1 ]}"#))));
    assert_eq!(errors, [too_deep(DEEP, "5 objects")]);
    assert_eq!(attributes[&key(DEEP)], r#"{"before":true,"bad":{"a":[1]},"after":2}"#);
}

#[test]
fn raw_json_that_means_nothing_is_refused() {
    let deep_text = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    for text in [r#""\ud800""#, r#"{"a": ["\udc00\ud800"]}"#, "1e400", &deep_text] {
        let (errors, attributes) = attach_on_a_small_stack(&siblings(raw(text)));
        let [EnrichError::Serialize { key: refused, message }] = &errors[..] else {
            panic!("{errors:?}");
        };
        assert_eq!(*refused, key("bad"));
        assert!(!message.is_empty());
        assert_eq!(attributes, feedback([("before", true.into()), ("after", 2.into())]));

        let (errors, attributes) = attach(&deep(siblings(raw(text))));
        assert!(matches!(errors[0], EnrichError::Serialize { .. }), "{errors:?}");
        assert_eq!(attributes[&key(DEEP)], r#"{"before":true,"after":2}"#);
    }
}

// ---- sizes -----------------------------------------------------------------------------------------

#[test]
fn a_hundred_thousand_keys() {
    let rig = Rig::new();
    let many: Vec<_> = (0..100_000).map(|at| format!("k{at:06}")).collect();
    let keys: BTreeMap<_, _> = many.iter().map(|key| (key, true)).collect();
    let (errors, span) = attach_with(&rig, &keys);
    let [
        EnrichError::TooLarge { limit: 1_048_576, .. },
        EnrichError::LimitExceeded { limit: 128, dropped },
    ] = &errors[..]
    else {
        panic!("{errors:?}");
    };
    assert!(*dropped > 10_000, "{dropped}");
    let first: Vec<_> = many[..128].iter().map(|at| key(at)).collect();
    assert!(span.attributes.keys().eq(&first), "what came first: {:?}", span.attributes);
    let refused = rig.telemetry.stats().refused;
    assert_eq!(refused, BTreeMap::from([("limit_exceeded", 1), ("too_large", 1)]));

    // As nulls, with and without a leaf behind them.
    let nulls: BTreeMap<_, _> = many.iter().map(|key| (key, ())).collect();
    let (errors, _) = attach(&nulls);
    let is_limit = |error: &EnrichError| matches!(error, EnrichError::LimitExceeded { .. });
    assert!(errors.iter().any(is_limit), "{errors:?}");
    let (errors, attributes) = attach(&json!({ "kept": 1, "nulls": nulls }));
    assert!(errors.iter().any(is_limit), "{errors:?}");
    assert_eq!(attributes, feedback([("kept", 1.into())]));

    // In one JSON text.
    let (errors, attributes) = attach(&siblings([[[&keys]]]));
    assert_eq!(errors, [EnrichError::JsonTooLong { key: key("bad.0.0"), limit: 256 * KIB }]);
    assert_eq!(attributes, feedback([("before", true.into()), ("after", 2.into())]));

    // So many bad ones are not named one by one.
    let bad: BTreeMap<_, _> = many.iter().map(|key| (key, f64::NAN)).collect();
    let (errors, attributes) = attach(&bad);
    assert_eq!(errors.len(), 32);
    assert_eq!(attributes, Attributes::new());
}

#[test]
fn long_strings_are_cut_between_two_characters() {
    let limit = || "262144 bytes".to_owned();
    let long = "x".repeat(10_000_000);
    let (errors, attributes) = attach(&siblings(&long));
    assert_eq!(errors, [EnrichError::Truncated { key: key("bad"), limit: limit() }]);
    assert_eq!(attributes["feedback.bad"].as_str().unwrap().len(), 256 * KIB);
    assert_eq!(attributes["feedback.after"], 2);

    for (before, kept) in [("", 256 * KIB), ("a", 256 * KIB - 3), ("ab", 256 * KIB - 2)] {
        let text = format!("{before}{}", "\u{1F600}".repeat(66_000));
        let (errors, attributes) = attach(&siblings(&text));
        assert_eq!(errors, [EnrichError::Truncated { key: key("bad"), limit: limit() }]);
        assert!(attributes["feedback.bad"] == text[..kept]);
    }
    let just_right = "\u{1F600}".repeat(64 * KIB);
    let (errors, attributes) = attach(&siblings(&just_right));
    assert_eq!(errors, []);
    assert!(attributes["feedback.bad"] == *just_right);
}

#[test]
fn a_json_text_is_never_cut() {
    let limit = 256 * KIB;
    let long = "x".repeat(10_000_000);
    for text in [&long[..], &long[..limit - 8], &"\0".repeat(60_000)] {
        let (errors, attributes) = attach(&siblings(deep(json!({ "bad": text, "x": 1 }))));
        assert_eq!(errors, [EnrichError::JsonTooLong { key: key("bad.1.2.3.4.5"), limit }]);
        assert_eq!(attributes, feedback([("before", true.into()), ("after", 2.into())]));
    }
    // With its braces and quotes it fits exactly.
    let text = "x".repeat(limit - r#"{"a":""}"#.len());
    let (errors, attributes) = attach(&deep(BTreeMap::from([("a", &text)])));
    assert_eq!(errors, [too_deep(DEEP, "5 objects")]);
    assert_eq!(attributes[&key(DEEP)].as_str().unwrap().len(), limit);
}

#[test]
fn one_enrichment_holds_at_most_a_mebibyte() {
    let part = "x".repeat(250 * KIB);
    let parts: BTreeMap<_, _> = ["a", "b", "c", "d", "e", "f"].map(|key| (key, &part)).into();
    let (errors, attributes) = attach(&parts);
    assert_eq!(errors, [EnrichError::TooLarge { key: key("e"), limit: 1024 * KIB }]);
    assert!(attributes.keys().eq(&["a", "b", "c", "d"].map(key)));
}

#[test]
fn the_sizes_are_settings() {
    let rig = Rig::with(|builder| builder.with_max_string_bytes(10).with_max_enrichment_bytes(64));
    let (errors, span) = attach_with(&rig, &json!({ "a": "0123456789", "b": "0123456789x" }));
    assert_eq!(errors, [EnrichError::Truncated { key: key("b"), limit: "10 bytes".to_owned() }]);
    let same = Value::from("0123456789");
    assert_eq!(span.attributes, feedback([("a", same.clone()), ("b", same)]));

    let (errors, span) = attach_with(&rig, &json!({ "deep": [[[1, 2, 3, 4, 5]]], "x": 1 }));
    assert_eq!(errors, [EnrichError::JsonTooLong { key: key("deep.0.0"), limit: 10 }]);
    assert_eq!(span.attributes, feedback([("x", 1.into())]));

    // Keys count with their namespace, and whatever is no string as eight bytes: 18 each.
    let (errors, span) = attach_with(&rig, &json!({ "a": 1, "b": 2, "c": 3, "d": 4, "e": 5 }));
    assert_eq!(errors, [EnrichError::TooLarge { key: key("d"), limit: 64 }]);
    assert_eq!(span.attributes.len(), 3);
}

// ---- the number of attributes ---------------------------------------------------------------------------

fn many(keys: std::ops::Range<usize>) -> BTreeMap<String, bool> {
    keys.map(|at| (format!("k{at:03}"), true)).collect()
}

fn limit_exceeded(limit: usize, dropped: usize) -> EnrichError {
    EnrichError::LimitExceeded { limit, dropped }
}

#[test]
fn enrichments_come_before_fields_and_what_is_dropped_is_counted() {
    let rig = Rig::new();
    let (errors, span) = attach_with(&rig, &many(0..200));
    assert_eq!(errors, [limit_exceeded(128, 72)]);
    let kept: Vec<_> = many(0..128).keys().map(|at| key(at)).collect();
    assert!(span.attributes.keys().eq(&kept));

    rig.collector.clear();
    rig.run(|| {
        let _span = tracing::info_span!("answer", session.id = "s", x = 1, y = 2, z = 3).entered();
        let outcome = enrich::current_span().feedback(&many(0..125)).apply();
        assert!(outcome.is_ok(), "{outcome:?}");
    });
    let span = &rig.collector.spans()[0];
    assert_eq!(span.attributes.len(), 128);
    assert_eq!(span.attributes["session.id"], "s");
    assert_eq!(span.attributes.keys().filter(|key| key.starts_with("feedback.")).count(), 125);
    assert_eq!(span.dropped_attributes_count, 1);
}

#[test]
fn a_full_span_can_still_be_corrected() {
    let rig = Rig::with(|builder| {
        builder.with_span_limits(SpanLimits { max_attributes_per_span: 4, ..SpanLimits::default() })
    });
    rig.run(|| {
        let _span = tracing::info_span!("answer", field = 1).entered();
        assert!(enrich_span!(feedback = { "a": 1, "b": { "c": 1, "d": 1 }, "e": 1 }).is_ok());
        assert!(enrich_span!(feedback = { "a": 2 }).is_ok());
        let outcome = enrich_span!(feedback = { "f": 1, "a": 3 });
        assert_eq!(all(&outcome), [limit_exceeded(4, 1)]);
        // What it removes makes room.
        assert!(enrich_span!(feedback = { "b": 2, "f": 1 }).is_ok());
    });
    let expected = [("a", 3.into()), ("b", 2.into()), ("e", 1.into()), ("f", 1.into())];
    assert_eq!(rig.collector.spans()[0].attributes, feedback(expected));
}

#[test]
fn a_carrier_keeps_what_it_is_about_before_its_leaves() {
    let rig = Rig::new();
    for (keys, dropped) in [(126, 0), (127, 1), (128, 2)] {
        rig.collector.clear();
        rig.run(|| {
            let target = tracing::info_span!("answer").span_context().unwrap();
            let outcome = enrich::current_span().target(&target).feedback(&many(0..keys)).apply();
            let expected = if dropped > 0 { vec![limit_exceeded(128, dropped)] } else { vec![] };
            assert_eq!(all(&outcome), expected);
        });
        let carrier = rig.collector.spans().into_iter().find(ReceivedSpan::is_carrier).unwrap();
        assert_eq!(carrier.attributes.len(), 128);
        assert_eq!(carrier.dropped_attributes_count as usize, dropped);
        assert!(carrier.attribute("tracing_feedback.time_unix_nano").is_some());
    }
    rig.collector.clear();
    rig.run(|| {
        let document = json!({ "gone": null, "kept": many(0..124) });
        let outcome = enrich::session().session_id("s").feedback(&document).apply();
        assert_eq!(all(&outcome), [limit_exceeded(128, 1)]);
    });
    let carrier = &rig.collector.spans()[0];
    assert_eq!(carrier.attributes.len(), 128);
    assert_eq!(carrier.attributes["session.id"], "s");
    assert_eq!(carrier.attributes["tracing_feedback.scope"], "session");
    assert_eq!(carrier.attributes["tracing_feedback.cleared"], ["feedback.gone"]);
    assert_eq!(carrier.attributes["feedback.kept.k122"], true);
    assert!(carrier.attribute("feedback.kept.k123").is_none());
}

// ---- redaction -----------------------------------------------------------------------------------------

#[test]
fn redaction_sees_every_leaf_before_it_becomes_json() {
    use opentelemetry::Value as Given;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let rig = Rig::with(|builder| {
        let seen = seen.clone();
        builder.with_redaction(move |key, value| {
            seen.lock().unwrap().push((key.to_owned(), value.clone()));
            match key.rsplit('.').next().unwrap() {
                "secret" => None,
                "mail" => Some("***".into()),
                "age" => Some(Given::F64(1.5)),
                _ => Some(value),
            }
        })
    });
    let person = json!({ "secret": "s", "mail": "a@b.c", "age": 42, "ok": true });
    let (errors, span) = attach_with(&rig, &person);
    assert_eq!(errors, []);
    let expected = [("mail", "***".into()), ("age", 1.5.into()), ("ok", true.into())];
    assert_eq!(span.attributes, feedback(expected));

    seen.lock().unwrap().clear();
    let (errors, span) = attach_with(&rig, &deep(json!({ "people": [person, "x"] })));
    assert_eq!(errors, [too_deep(DEEP, "5 objects")]);
    let text = span.attributes[&key(DEEP)].as_str().unwrap();
    let expected = json!({ "people": [{ "mail": "***", "age": 1.5, "ok": true }, "x"] });
    assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), expected);
    assert_eq!(span.attributes.len(), 1);
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let at = |name: &str| key(&format!("{DEEP}.people.{name}"));
    assert_eq!(
        seen,
        [
            (at("0.age"), Given::I64(42)),
            (at("0.mail"), "a@b.c".into()),
            (at("0.ok"), Given::Bool(true)),
            (at("0.secret"), "s".into()),
            (at("1"), "x".into()),
        ]
    );
}

#[test]
fn a_redaction_that_panics_costs_no_more_than_the_value() {
    let rig = Rig::with(|builder| {
        builder.with_redaction(|key, value| {
            if key.ends_with("bad") {
                std::panic::panic_any("on purpose");
            }
            Some(value)
        })
    });
    let panicked = |key| EnrichError::RedactionPanicked { key };
    let (errors, span) = attach_with(&rig, &siblings(1));
    assert_eq!(errors, [panicked(key("bad"))]);
    assert_eq!(span.attributes, feedback([("before", true.into()), ("after", 2.into())]));
    let (errors, span) = attach_with(&rig, &deep(siblings("s")));
    assert_eq!(errors[0], panicked(key(&format!("{DEEP}.bad"))));
    assert_eq!(span.attributes, feedback([(DEEP, r#"{"before":true,"after":2}"#.into())]));
    assert_eq!(rig.telemetry.stats().refused["redaction_panicked"], 2);

    // Fields pass through the same function.
    rig.collector.clear();
    rig.run(|| drop(tracing::info_span!("answer", very.bad = 1, good = 2)));
    let span = &rig.collector.spans()[0];
    assert_eq!(span.attributes, BTreeMap::from([("good".to_owned(), Value::Int(2))]));
    assert_eq!(rig.telemetry.stats().refused["redaction_panicked"], 3);
}

// ---- the outcome ----------------------------------------------------------------------------------------

#[test]
fn every_refusal_is_counted_by_its_reason() {
    let rig = Rig::new();
    let (errors, _) =
        attach_with(&rig, &json!({ "": 1, "a": [[[1]]], "b": "x".repeat(300 * KIB) }));
    assert_eq!(errors.len(), 3);
    let expected = BTreeMap::from([("invalid_key", 1), ("too_deep", 1), ("truncated", 1)]);
    assert_eq!(rig.telemetry.stats().refused, expected);
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("feedback"), "{text}: names the key");
    }
}

/// Would be a line of its own in a log, and rewrite a terminal.
const FORGED: &str = "a\nERROR forged\u{1b}[2J\u{202e}b";
const ESCAPED: &str = "a\\nERROR forged\\u{1b}[2J\\u{202e}b";

#[test]
fn a_foreign_key_forges_no_line_of_a_log() {
    let log = crate::show::Log::default();
    let (layer, telemetry) = tracing_feedback::builder().build().unwrap();
    let writer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.clone());
    let subscriber = tracing_subscriber::registry().with(layer).with(writer);
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("answer");
        let outcome = enrich::span(&span).feedback(&HashMap::from([(FORGED, f64::NAN)])).apply();
        let error = outcome.errors().next().unwrap().to_string();
        assert!(
            error.starts_with(&format!("feedback.{ESCAPED} is not a finite number")),
            "{error}"
        );
    });
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    assert!(log.text().contains(ESCAPED), "{}", log.text());
    drop(telemetry);
}

#[test]
fn what_a_collector_says_forges_no_line() {
    let rig = Rig::new();
    rig.collector.answer_next(Answer::PartialSuccess { rejected: 1, message: FORGED.to_owned() });
    rig.collector.answer_next(Answer::BadRequest { message: FORGED.to_owned() });
    for _ in 0..2 {
        let span = || drop(tracing::info_span!("answer").entered());
        tracing::dispatcher::with_default(&rig.dispatch, span);
        let error = rig.telemetry.flush().unwrap_err().to_string();
        assert!(error.contains(ESCAPED) && error.lines().count() == 1, "{error}");
    }
}
