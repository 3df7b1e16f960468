//! Messages as events of a span. The conventions emit them as log records; these instrumentations, as span events:
//! Strands Agents (both below), and the Azure AI inference client (one event for each message).
//!
//! | event | attributes |
//! | --- | --- |
//! | `gen_ai.client.inference.operation.details` | those of a span: `gen_ai.input.messages`, … |
//! | `gen_ai.system.message`, `.user.`, `.assistant.`, `.tool.message` | `gen_ai.event.content`, a message as JSON; or `content`, `role`, `id` |
//! | `gen_ai.choice` | the same with `message` and `finish_reason` |

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::json::{Attributes, structured};
use crate::collector::ReceivedEvent;

/// The pattern of all names that are read, for a regular expression.
pub(crate) const EVENTS: &str = "^gen_ai[.]";

const DETAILS: &str = "gen_ai.client.inference.operation.details";
const CHOICE: &str = "gen_ai.choice";
/// The events that are messages of the input, and the role of each.
const MESSAGES: [(&str, &str); 4] = [
    ("gen_ai.system.message", "system"),
    ("gen_ai.user.message", "user"),
    ("gen_ai.assistant.message", "assistant"),
    ("gen_ai.tool.message", "tool"),
];

pub(super) fn is_read(name: &str) -> bool {
    name == DETAILS || name == CHOICE || role_of(name).is_some()
}

/// The role of a message of the input.
fn role_of(name: &str) -> Option<&'static str> {
    MESSAGES.iter().find(|(event, _)| *event == name).map(|(_, role)| *role)
}

/// The attributes of a span, and those that only an event with details has.
pub(super) fn with_details<'a>(
    attributes: &'a Attributes,
    events: &[ReceivedEvent],
) -> Cow<'a, Attributes> {
    let mut found = Cow::Borrowed(attributes);
    for event in events.iter().filter(|event| event.name == DETAILS) {
        for (key, value) in &event.attributes {
            if !found.contains_key(key) {
                found.to_mut().insert(key.clone(), value.clone());
            }
        }
    }
    found
}

/// The messages of the input, or the choices of the output, as a list.
pub(super) fn messages(events: &[ReceivedEvent], is_input: bool) -> Option<Json> {
    let found: Vec<Json> = events
        .iter()
        .filter_map(|event| match (is_input, role_of(&event.name)) {
            (true, Some(role)) => Some(message(event, role)),
            (false, None) if event.name == CHOICE => Some(message(event, "assistant")),
            _ => None,
        })
        .collect();
    (!found.is_empty()).then_some(Json::Array(found))
}

/// The arguments or the result in the span of a tool.
pub(super) fn of_tool(events: &[ReceivedEvent], is_input: bool) -> Option<Json> {
    let name = if is_input { "gen_ai.tool.message" } else { CHOICE };
    let event = events.iter().find(|event| event.name == name)?;
    message(event, "tool").get_mut("content").map(Json::take)
}

fn message(event: &ReceivedEvent, role: &str) -> Json {
    let mut found = match event.attributes.get("gen_ai.event.content").map(structured) {
        Some(Json::Object(content)) => content,
        Some(content) => Map::from_iter([("content".to_owned(), content)]),
        None => {
            let members = event.attributes.iter();
            members.map(|(key, value)| (key.clone(), structured(value))).collect()
        }
    };
    // The message of a choice has its role and content within, or is the content.
    match found.remove("message") {
        Some(Json::Object(mut inner)) => {
            inner.extend(found);
            found = inner;
        }
        Some(content) => drop(found.insert("content".to_owned(), content)),
        None => {}
    }
    found.entry("role").or_insert_with(|| Json::from(role));
    Json::Object(found)
}
