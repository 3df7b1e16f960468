//! Any attributes, for the fuzz target and the property tests of this repository.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::bounds::{DEEPEST, LONGEST_ANSWER, MOST_MESSAGES, MOST_PARTS, MOST_TOOLS, MOST_VALUES};
use super::{Answer, SpanAnswer, in_trace, plain, plain_parts};
use crate::collector::ReceivedEvent;
use crate::collector::receive::value::Value;

/// Reads an answer from lines, each an attribute: `key=text`, or `key==json` for a structured value. `@name` before it
/// is the event that has it.
///
/// # Panics
///
/// If the answer is beyond the limits, or the answer of a trace of this span is another one.
pub(in crate::desk) fn read_lines(lines: &str) {
    let (mut attributes, mut events) = (BTreeMap::new(), Vec::<ReceivedEvent>::new());
    for line in lines.lines() {
        let (event, attribute) = match line.strip_prefix('@').and_then(|rest| rest.split_once(' '))
        {
            Some((event, attribute)) => (Some(event), attribute),
            None => (None, line),
        };
        let Some((key, value)) = attribute.split_once('=') else { continue };
        let json = value.strip_prefix('=').and_then(|json| serde_json::from_str(json).ok());
        let value = json.map_or_else(|| Value::from(value), |json: Json| structured(&json));
        match event {
            None => drop(attributes.insert(key.to_owned(), value)),
            Some(name) => events.push(ReceivedEvent {
                name: name.to_owned(),
                time_unix_nano: 0,
                attributes: BTreeMap::from([(key.to_owned(), value)]),
                dropped_attributes_count: 0,
            }),
        }
    }
    if let Some(answer) = Answer::of(&attributes, &events) {
        is_sound(&answer);
    }
}

/// Asserts what holds for every answer that is read.
///
/// # Panics
///
/// If it does not.
pub(in crate::desk) fn is_sound(answer: &Answer) {
    assert!(!answer.is_empty());
    is_within_the_limits(answer);
    plain(&answer.input);
    plain(&answer.output);
    plain_parts(&answer.system);
    let span = SpanAnswer { span: 1, parent: 0, answer: Some(answer.clone()) };
    assert_eq!(in_trace(&[span], Some(1)), *answer);
}

pub(super) fn is_within_the_limits(answer: &Answer) {
    assert!(answer.input.len() <= MOST_MESSAGES && answer.output.len() <= MOST_MESSAGES);
    // A message has its content, a refusal, and calls, each of them limited.
    let parts = answer.input.iter().chain(&answer.output).map(|message| message.parts.len());
    assert!(parts.max().unwrap_or(0) <= 3 * MOST_PARTS + 3);
    assert!(answer.tools.len() <= MOST_TOOLS);
    let (characters, values, depth) = size(&serde_json::to_value(answer).unwrap());
    // Beside the foreign texts: names of members, and the ends of texts that were cut.
    assert!(characters <= 2 * LONGEST_ANSWER, "{characters}");
    assert!(values <= 8 * MOST_VALUES, "{values}");
    // The value itself, in a part of a message of the input of the answer.
    assert!(depth <= DEEPEST + 8, "{depth}");
}

/// Characters and values in JSON, and how deep it is.
fn size(value: &Json) -> (usize, usize, usize) {
    let (characters, inner): (usize, Vec<&Json>) = match value {
        Json::String(text) => (text.chars().count(), vec![]),
        Json::Array(values) => (0, values.iter().collect()),
        Json::Object(map) => {
            (map.keys().map(|key| key.chars().count()).sum(), map.values().collect())
        }
        _ => (0, vec![]),
    };
    let sizes = inner.into_iter().map(size);
    let (more, values, depth) =
        sizes.fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2.max(one.2)));
    (characters + more, values + 1, depth + 1)
}

/// The same value of an attribute.
pub(super) fn structured(value: &Json) -> Value {
    match value {
        Json::Null => Value::Empty,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number
            .as_i64()
            .map_or_else(|| Value::Double(number.as_f64().unwrap_or_default()), Value::Int),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(values) => Value::Array(values.iter().map(structured).collect()),
        Json::Object(map) => {
            Value::Map(map.iter().map(|(key, value)| (key.clone(), structured(value))).collect())
        }
    }
}
