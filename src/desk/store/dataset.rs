//! The input and output of a target.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::view::DatasetRow;
use crate::desk::answer::{self, Answer};

/// Inputs and outputs, by their keys without the namespace.
pub(crate) type Texts = [Map<String, Json>; 2];

/// A row of which nothing is known yet.
pub(crate) fn empty() -> DatasetRow {
    DatasetRow {
        trace_id: None,
        span_id: None,
        session_id: None,
        name: None,
        service: None,
        start: 0.0,
        system: Json::Null,
        input: Json::Null,
        output: Json::Null,
        model: None,
        agent: None,
        input_tokens: None,
        output_tokens: None,
        total_tokens: None,
        tools: None,
        ground_truth: None,
        feedback: BTreeMap::new(),
        metrics: BTreeMap::new(),
    }
}

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

/// Puts what the answer was into a row: the inputs and outputs of documents before those of attributes.
pub(crate) fn put_answer(row: &mut DatasetRow, texts: Texts, answer: Option<Answer>) {
    let [input, output] = texts.map(plain);
    let answer = answer.unwrap_or_default();
    let or = |own: Json, other: Json| if own.is_null() { other } else { own };
    row.system = answer::plain_parts(&answer.system);
    row.input = or(input, answer::plain(&answer.input));
    row.output = or(output, answer::plain(&answer.output));
    row.model = answer.model;
    row.agent = answer.agent;
    row.input_tokens = answer.input_tokens;
    row.output_tokens = answer.output_tokens;
    row.total_tokens = answer.total_tokens;
    let tools: Vec<_> = answer.tools.into_iter().map(|tool| tool.name).collect();
    row.tools = (!tools.is_empty()).then_some(tools);
}

/// A single leaf is the value itself.
fn plain(texts: Map<String, Json>) -> Json {
    if texts.len() > 1 {
        return Json::Object(texts);
    }
    texts.into_iter().next().map_or(Json::Null, |(_, value)| value)
}
