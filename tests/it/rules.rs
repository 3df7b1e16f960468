//! The rules of merging, read naively and by RFC 7396, and documents to try them on. The crate's own rule
//! book gives the same, and so does RFC 7396, wherever the two departures from it don't come in.

use std::collections::BTreeMap;

use opentelemetry::trace::SpanId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;
use proptest::test_runner::Config;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tracing_feedback::collector::Value;
use tracing_feedback::fold::Document;
use tracing_feedback::fold::{Submission, fold};

/// JSON whose objects keep the order of their keys, and may hold one twice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Leaf(Leaf),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaf {
    Bool(bool),
    Int(i64),
    /// Beyond `i64`.
    Big(u64),
    Double(f64),
    Text(String),
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Leaf(Leaf::Bool(value)) => serializer.serialize_bool(*value),
            Self::Leaf(Leaf::Int(value)) => serializer.serialize_i64(*value),
            Self::Leaf(Leaf::Big(value)) => serializer.serialize_u64(*value),
            Self::Leaf(Leaf::Double(value)) => serializer.serialize_f64(*value),
            Self::Leaf(Leaf::Text(value)) => serializer.serialize_str(value),
            Self::Array(values) => serializer.collect_seq(values),
            Self::Object(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl Leaf {
    /// The attribute it becomes.
    fn value(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Big(value) => Value::String(value.to_string()),
            Self::Double(value) => Value::Double(*value),
            Self::Text(value) => Value::String(value.clone()),
        }
    }
}

// ---- the rules, read naively -----------------------------------------------------------------------

type Path = Vec<String>;

/// What one enrichment clears, and what it sets after that.
#[derive(Clone, Debug, Default)]
struct Patch {
    cleared: Vec<Path>,
    set: BTreeMap<Path, Value>,
}

impl Patch {
    fn of(document: &Json) -> Self {
        let mut patch = Self::default();
        patch.walk(&vec!["feedback".to_owned()], document);
        patch
    }

    fn walk(&mut self, path: &Path, json: &Json) {
        match json {
            Json::Null => self.remove(path),
            Json::Leaf(leaf) => {
                for way in proper_prefixes(path) {
                    if self.set.contains_key(&way) {
                        self.cleared.push(way);
                    }
                }
                set(&mut self.set, path, leaf.value());
            }
            Json::Array(values) => {
                self.remove(path);
                for (at, value) in values.iter().enumerate() {
                    self.walk(&under(path, &at.to_string()), value);
                }
            }
            Json::Object(entries) => {
                for (key, value) in entries {
                    self.walk(&under(path, key), value);
                }
            }
        }
    }

    fn remove(&mut self, path: &Path) {
        remove(&mut self.set, path);
        self.cleared.push(path.clone());
    }
}

fn under(path: &Path, key: &str) -> Path {
    path.iter().cloned().chain(key.split('.').map(str::to_owned)).collect()
}

fn proper_prefixes(path: &Path) -> Vec<Path> {
    (1..path.len()).map(|length| path[..length].to_vec()).collect()
}

fn remove(attributes: &mut BTreeMap<Path, Value>, path: &Path) {
    attributes.retain(|key, _| !key.starts_with(path));
}

fn set(attributes: &mut BTreeMap<Path, Value>, path: &Path, value: Value) {
    attributes.retain(|key, _| !key.starts_with(path) && !path.starts_with(key));
    attributes.insert(path.clone(), value);
}

fn apply(attributes: &mut BTreeMap<Path, Value>, patch: &Patch) {
    for path in &patch.cleared {
        remove(attributes, path);
    }
    for (path, value) in &patch.set {
        set(attributes, path, value.clone());
    }
}

fn dotted(attributes: BTreeMap<Path, Value>) -> BTreeMap<String, Value> {
    attributes.into_iter().map(|(path, value)| (path.join("."), value)).collect()
}

/// What a sequence of enrichments amounts to.
pub(crate) fn naive(documents: &[Json]) -> BTreeMap<String, Value> {
    let mut attributes = BTreeMap::new();
    for document in documents {
        apply(&mut attributes, &Patch::of(document));
    }
    dotted(attributes)
}

// ---- the crate's own rule book, without a collector -------------------------------------------------

fn patch(document: &Json) -> Document<Value> {
    fn walk(patch: &mut Document<Value>, key: String, json: &Json) {
        match json {
            Json::Null => patch.remove(key),
            Json::Leaf(leaf) => patch.set(key, leaf.value()),
            Json::Array(values) => {
                patch.remove(key.clone());
                for (at, value) in values.iter().enumerate() {
                    walk(patch, format!("{key}.{at}"), value);
                }
            }
            Json::Object(entries) => {
                for (name, value) in entries {
                    walk(patch, format!("{key}.{name}"), value);
                }
            }
        }
    }
    let mut patch = Document::default();
    walk(&mut patch, "feedback".to_owned(), document);
    patch
}

fn leaves(document: &Document<Value>) -> BTreeMap<String, Value> {
    document.leaves().map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

fn submission(span_id: u64, time_unix_nano: u64, patch: &Document<Value>) -> Submission<Value> {
    Submission::new(SpanId::from(span_id), time_unix_nano, leaves(patch))
        .with_cleared(patch.cleared().map(str::to_owned))
}

// ---- RFC 7396 ------------------------------------------------------------------------------------

pub(crate) type Tree = serde_json::Value;

/// The RFC's pseudo code, line by line.
fn merge_patch(target: Tree, patch: &Tree) -> Tree {
    let Tree::Object(entries) = patch else { return patch.clone() };
    let mut target = match target {
        Tree::Object(target) => target,
        _ => serde_json::Map::new(),
    };
    for (name, value) in entries {
        if value.is_null() {
            target.remove(name);
        } else {
            let old = target.remove(name).unwrap_or(Tree::Null);
            target.insert(name.clone(), merge_patch(old, value));
        }
    }
    Tree::Object(target)
}

fn flatten(key: &str, tree: &Tree, into: &mut BTreeMap<String, Value>) {
    match tree {
        Tree::Null => None,
        Tree::Bool(value) => into.insert(key.to_owned(), Value::Bool(*value)),
        Tree::String(text) => into.insert(key.to_owned(), Value::String(text.clone())),
        Tree::Number(number) => {
            let value = if let Some(int) = number.as_i64() {
                Value::Int(int)
            } else if number.is_u64() {
                Value::String(number.to_string())
            } else {
                Value::Double(number.as_f64().unwrap())
            };
            into.insert(key.to_owned(), value)
        }
        Tree::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                flatten(&format!("{key}.{at}"), value, into);
            }
            None
        }
        Tree::Object(entries) => {
            for (name, value) in entries {
                flatten(&format!("{key}.{name}"), value, into);
            }
            None
        }
    };
}

fn has_leaf(tree: &Tree) -> bool {
    let mut attributes = BTreeMap::new();
    flatten("", tree, &mut attributes);
    !attributes.is_empty()
}

/// Whether one of the two departures comes in: an object without a leaf over something, or an object
/// over an array.
fn departs(target: &Tree, patch: &Tree) -> bool {
    let (Tree::Object(target), Tree::Object(entries)) = (target, patch) else { return false };
    entries.iter().filter(|(_, value)| value.is_object()).any(|(name, value)| {
        match target.get(name) {
            Some(Tree::Array(_)) => has_leaf(&target[name]),
            Some(Tree::Object(_)) => departs(&target[name], value),
            Some(_) => !has_leaf(value),
            None => false,
        }
    })
}

/// The documents that keep to the RFC, and what it makes of them.
pub(crate) fn by_the_rfc(documents: &[Json]) -> (Vec<Json>, BTreeMap<String, Value>) {
    let mut target = Tree::Object(serde_json::Map::new());
    let mut kept = Vec::new();
    for document in documents {
        let tree = serde_json::to_value(document).unwrap(); // of keys that stand twice, one is left
        if !tree.is_object() || departs(&target, &tree) {
            continue;
        }
        target = merge_patch(target, &tree);
        kept.push(from_tree(&tree));
    }
    let mut attributes = BTreeMap::new();
    flatten("feedback", &target, &mut attributes);
    (kept, attributes)
}

pub(crate) fn from_tree(tree: &Tree) -> Json {
    match tree {
        Tree::Null => Json::Null,
        Tree::Bool(value) => Json::Leaf(Leaf::Bool(*value)),
        Tree::String(text) => Json::Leaf(Leaf::Text(text.clone())),
        Tree::Number(number) => Json::Leaf(match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Leaf::Int(int),
            (None, Some(big)) => Leaf::Big(big),
            (None, None) => Leaf::Double(number.as_f64().unwrap()),
        }),
        Tree::Array(values) => Json::Array(values.iter().map(from_tree).collect()),
        Tree::Object(entries) => Json::Object(
            entries.iter().map(|(key, value)| (key.clone(), from_tree(value))).collect(),
        ),
    }
}

// ---- documents -----------------------------------------------------------------------------------

/// Few keys, so that they meet often; some of them sort around the dot.
const PLAIN: [&str; 6] = ["a", "b", "ab", "a-b", "0", "1"];
const DOTTED: [&str; 5] = ["a.b", "b.a", "a.0", "a.a-b", "b.1"];

fn leaf() -> BoxedStrategy<Json> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Leaf::Bool),
        (-2_i64..3).prop_map(Leaf::Int),
        any::<i64>().prop_map(Leaf::Int),
        (i64::MAX as u64 + 1..=u64::MAX).prop_map(Leaf::Big),
        (-2_i32..3).prop_map(|value| Leaf::Double(value.into())),
        (-1e300..1e300_f64).prop_map(Leaf::Double),
        "[a-c0-9.é\u{1F600}]{0,4}".prop_map(Leaf::Text),
    ];
    leaf.prop_map(Json::Leaf).boxed()
}

/// Documents within the limits: at most 5 nested objects, where a dot in a key counts as one, and at
/// most 2 arrays along any path.
fn document(with_dots: bool) -> BoxedStrategy<Json> {
    // `values[arrays][objects]`: with so much of either left.
    let mut values: Vec<Vec<BoxedStrategy<Json>>> = Vec::new();
    for arrays in 0..=2_usize {
        let mut row: Vec<BoxedStrategy<Json>> = Vec::new();
        for objects in 0..=5_usize {
            let mut choices = vec![(6, leaf()), (2, Just(Json::Null).boxed())];
            if arrays > 0 {
                let elements = vec(values[arrays - 1][objects].clone(), 0..4);
                choices.push((3, elements.prop_map(Json::Array).boxed()));
            }
            if objects > 0 {
                choices.push((5, object(&row[..objects], with_dots)));
            }
            row.push(Union::new_weighted(choices).boxed());
        }
        values.push(row);
    }
    // The top object doesn't count.
    let top = object(&values[2], with_dots);
    prop_oneof![30 => top, 1 => Just(Json::Null)].boxed()
}

/// An object whose values may nest as deeply as the last of `values`.
fn object(values: &[BoxedStrategy<Json>], with_dots: bool) -> BoxedStrategy<Json> {
    let (value, outer) = values.split_last().unwrap();
    let plain = (proptest::sample::select(&PLAIN[..]), value.clone()).boxed();
    let entry = match outer.last() {
        Some(value) if with_dots => {
            let dotted = (proptest::sample::select(&DOTTED[..]), value.clone());
            prop_oneof![3 => plain, 1 => dotted].boxed()
        }
        _ => plain,
    };
    vec(entry.prop_map(|(key, value)| (key.to_owned(), value)), 0..4).prop_map(Json::Object).boxed()
}

pub(crate) fn history(with_dots: bool) -> BoxedStrategy<Vec<Json>> {
    vec(document(with_dots), 1..7).boxed()
}

pub(crate) fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn documents_merge_by_the_rules(history in history(true)) {
        let mut merged = Document::default();
        let mut submissions = Vec::new();
        for (at, document) in history.iter().enumerate() {
            let patch = patch(document);
            submissions.push(submission(100 - at as u64, at as u64, &patch));
            merged.apply(patch);
        }
        let expected = naive(&history);
        prop_assert_eq!(&leaves(&merged), &expected);
        // The first submission is the span's own attributes, which have no list of cleared keys.
        let own = submissions.remove(0).attributes;
        prop_assert_eq!(&fold(own, submissions), &expected);
        // And all of it as one submission.
        prop_assert_eq!(&fold([], [submission(1, 1, &merged)]), &expected);
    }

    #[test]
    fn documents_merge_by_rfc_7396(history in history(false)) {
        let (history, expected) = by_the_rfc(&history);
        let mut merged = Document::default();
        for document in &history {
            merged.apply(patch(document));
        }
        prop_assert_eq!(&leaves(&merged), &expected);
        prop_assert_eq!(&naive(&history), &expected);
    }

    #[test]
    fn no_key_lies_under_another_and_none_is_cleared_twice(history in history(true)) {
        let mut merged = Document::default();
        for document in &history {
            merged.apply(patch(document));
        }
        let under = |key: &str, root: &str| key == root || key.starts_with(&format!("{root}."));
        for keys in [
            merged.leaves().map(|(key, _)| key).collect::<Vec<_>>(),
            merged.cleared().collect(),
        ] {
            for (at, key) in keys.iter().enumerate() {
                for (other_at, other) in keys.iter().enumerate() {
                    prop_assert!(at == other_at || !under(key, other), "{key} under {other}");
                }
            }
        }
        let keys: Vec<_> = merged.leaves().map(|(key, _)| key).collect();
        prop_assert!(keys.is_sorted());
    }

    /// Time decides, then the span id; of several with one id, the earliest counts.
    #[test]
    fn folding_depends_neither_on_order_nor_on_repetition(
        own in document(true),
        late in vec((1_u64..5, 0_u64..4, document(true)), 0..8),
        order in any::<u64>(),
    ) {
        let mut once: BTreeMap<(u64, u64), Json> = BTreeMap::new(); // by id and time
        for (id, time, document) in late {
            once.entry((id, time)).or_insert(document);
        }
        let own: Vec<_> = leaves(&patch(&own)).into_iter().collect();

        let mut earliest: BTreeMap<u64, (u64, &Json)> = BTreeMap::new();
        for ((id, time), document) in &once {
            earliest.entry(*id).or_insert((*time, document)); // sorted by time within an id
        }
        let mut in_order: Vec<_> =
            earliest.into_iter().map(|(id, (time, document))| (time, id, document)).collect();
        in_order.sort_by_key(|(time, id, _)| (*time, *id));
        let mut expected = BTreeMap::new();
        for (key, value) in &own {
            set(&mut expected, &key.split('.').map(str::to_owned).collect(), value.clone());
        }
        for (_, _, document) in in_order {
            apply(&mut expected, &Patch::of(document));
        }

        let mut arrived: Vec<_> =
            once.iter().map(|((id, time), document)| submission(*id, *time, &patch(document))).collect();
        arrived.extend(arrived.clone());
        // A shuffle by a seed.
        let mut seed = order | 1;
        for at in (1..arrived.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            arrived.swap(at, (seed >> 33) as usize % (at + 1));
        }
        prop_assert_eq!(fold(own, arrived), dotted(expected));
    }
}
