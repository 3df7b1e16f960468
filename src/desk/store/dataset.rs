//! The input and output of a target.

use serde_json::{Map, Value as Json};

use super::view::DatasetRow;

/// The attributes of OpenInference for input and output.
pub(crate) const INPUT: &str = "input.value";
pub(crate) const OUTPUT: &str = "output.value";

/// Inputs and outputs, by their keys without the namespace.
pub(crate) type Texts = [Map<String, Json>; 2];

/// Puts a leaf, given by key, text and value, into its place in the row of a target.
pub(crate) fn put(
    row: &mut DatasetRow,
    texts: &mut Texts,
    key: &str,
    text: impl FnOnce() -> String,
    value: Json,
) {
    let Some((namespace, rest)) = key.split_once('.') else { return };
    match (namespace, rest) {
        ("feedback", "ground_truth") => row.ground_truth = Some(text()),
        ("inputs", rest) => drop(texts[0].insert(rest.to_owned(), value)),
        ("outputs", rest) => drop(texts[1].insert(rest.to_owned(), value)),
        ("feedback", rest) => drop(row.feedback.insert(rest.to_owned(), value)),
        ("metrics", rest) => drop(row.metrics.insert(rest.to_owned(), value)),
        _ => {}
    }
}

/// A single leaf is the value itself.
pub(crate) fn plain(texts: Map<String, Json>) -> Json {
    if texts.len() > 1 {
        return Json::Object(texts);
    }
    texts.into_iter().next().map_or(Json::Null, |(_, value)| value)
}
