//! Messages of a conversation, in every shape that the conventions and the vendors' APIs have.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::Tool;
use super::bounds::{Budget, MOST_MESSAGES, MOST_PARTS, MOST_TOOLS, parsed};

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Message {
    /// `user`, `assistant`, `tool`, …; `None` where the convention does not tell, as for the input of a function.
    pub(crate) role: Option<String>,
    pub(crate) parts: Vec<Part>,
    /// Why the model stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finish_reason: Option<String>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Part {
    Text {
        text: String,
    },
    Reasoning {
        text: String,
    },
    /// A call that the model asks for.
    ToolCall {
        id: Option<String>,
        name: Option<String>,
        arguments: Json,
    },
    /// What a tool returned.
    ToolResult {
        /// The id of the call.
        id: Option<String>,
        name: Option<String>,
        result: Json,
    },
    /// An image, a file, or a value that is no text.
    Other {
        kind: Option<String>,
        value: Json,
    },
}

/// A conversation as it stands in an attribute.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) system: Vec<Part>,
    pub(super) messages: Vec<Message>,
}

/// Reads messages from a value: a list of messages, an object that contains one, a list of parts, a text, or any other
/// value. `role` is that of messages without one.
pub(super) fn conversation(value: &Json, role: Option<&str>, budget: &mut Budget) -> Conversation {
    let mut found = Conversation::default();
    let whole = std::slice::from_ref(value);
    let mut messages = match value {
        Json::Array(list) if !list.is_empty() && list.iter().all(is_message) => list.as_slice(),
        // A batch of one, as LangChain's.
        Json::Array(list)
            if list.len() == 1 && (list[0].is_array() || holds_messages(&list[0])) =>
        {
            return conversation(&list[0], role, budget);
        }
        Json::Object(map) if !is_message(value) => {
            if let Some(inner) = request_or_response(map) {
                found = conversation(inner, role.or(Some("user")), budget);
                if let Some(system) = map.get("system").filter(|system| !system.is_null()) {
                    found.system = parts(system, budget);
                }
                return found;
            }
            if let Some(inner) = wrapped(map, DEEPEST_WRAP) {
                return conversation(inner, role, budget);
            }
            whole
        }
        _ => whole,
    };
    while let [first, rest @ ..] = messages
        && is_system(first)
    {
        let inner = unwrapped(first);
        let content = ["content", "parts", "contents"].into_iter().find_map(|key| inner.get(key));
        found.system.extend(parts(content.unwrap_or(&Json::Null), budget));
        messages = rest;
    }
    let first = messages.len().saturating_sub(MOST_MESSAGES);
    budget.is_cut |= first > 0;
    // The last ones first, so that the limits leave out the beginning.
    found.messages =
        messages[first..].iter().rev().map(|each| message(each, role, budget)).collect();
    found.messages.reverse();
    found.messages.retain(|message| !message.parts.is_empty());
    found
}

fn message(value: &Json, role: Option<&str>, budget: &mut Budget) -> Message {
    let inner = unwrapped(value);
    let is_it = is_message(value) || has_text(value);
    let (Some(message), true) = (inner.as_object(), is_it) else {
        let parts = parts(value, budget);
        return Message { role: role.map(str::to_owned), parts, finish_reason: None };
    };
    let role = role_of(inner).or(role);
    let reasons = ["finish_reason", "finishReason"];
    // OpenAI's API has it beside the message, LangChain in a member of either.
    let around =
        [Some(inner), Some(value), inner.get("response_metadata"), value.get("generation_info")];
    let finish_reason =
        around.into_iter().flatten().find_map(|around| text_at(around.as_object()?, &reasons));
    let content = ["parts", "contents", "content", "text"]
        .into_iter()
        .find_map(|key| message.get(key).filter(|content| !content.is_null()));
    let call_id = text_at(message, &["tool_call_id", "toolCallId"])
        .or_else(|| text_at(message, &["id"]).filter(|_| role == Some("tool")));
    let mut found = match content {
        // The result of a tool, as a message of its own.
        Some(content @ (Json::String(_) | Json::Array(_) | Json::Object(_)))
            if (role == Some("tool") || call_id.is_some()) && !has_typed_results(content) =>
        {
            vec![Part::ToolResult {
                id: call_id.map(|id| budget.name(id)),
                name: text_at(message, &["name", "tool_name"]).map(|name| budget.name(name)),
                result: tool_output(content, budget),
            }]
        }
        Some(content) => parts(content, budget),
        None => Vec::new(),
    };
    if let Some(refusal) = text_at(message, &["refusal"]) {
        found.push(Part::Text { text: budget.text(refusal) });
    }
    for key in ["tool_calls", "toolCalls"] {
        let calls = message.get(key).and_then(Json::as_array).into_iter().flatten();
        found.extend(calls.take(MOST_PARTS).filter_map(|call| tool_call(call, budget)));
    }
    if let Some(call) = message.get("function_call") {
        found.extend(tool_call(call, budget));
    }
    if let Some(name) = text_at(message, &["function_call_name"]) {
        let arguments = message.get("function_call_arguments_json").unwrap_or(&Json::Null);
        let (name, arguments) = (Some(budget.name(name)), json(arguments, budget));
        found.push(Part::ToolCall { id: None, name, arguments });
    }
    Message {
        role: role.map(|role| budget.name(role)),
        finish_reason: finish_reason.map(|reason| budget.name(reason)),
        parts: found,
    }
}

/// The parts of a message, or of instructions.
pub(super) fn parts(content: &Json, budget: &mut Budget) -> Vec<Part> {
    let inner;
    let content = match content {
        // OpenLLMetry writes a list of parts as text.
        Json::String(text) => match parsed(text) {
            Some(list @ Json::Array(_)) if is_list_of_parts(&list) => {
                inner = list;
                &inner
            }
            _ => content,
        },
        content => content,
    };
    match content {
        Json::Null => Vec::new(),
        Json::String(text) if text.is_empty() => Vec::new(),
        Json::Array(list) if is_list_of_parts(content) => {
            budget.is_cut |= list.len() > MOST_PARTS;
            list.iter().take(MOST_PARTS).map(|each| part(each, budget)).collect()
        }
        one => vec![part(one, budget)],
    }
}

fn part(value: &Json, budget: &mut Budget) -> Part {
    let value = value.get("message_content").unwrap_or(value);
    let map = match value {
        Json::String(text) => return Part::Text { text: budget.text(text) },
        Json::Number(_) | Json::Bool(_) => return Part::Text { text: value.to_string() },
        Json::Object(map) => map,
        other => return Part::Other { kind: None, value: budget.value(other) },
    };
    let kind = text_at(map, &["type"]);
    let text =
        |budget: &mut Budget, keys: &[&str]| text_at(map, keys).map(|text| budget.text(text));
    let found = match kind {
        Some("text" | "input_text" | "output_text") | None if has_only_text(map, kind) => {
            text(budget, &["content", "text"]).map(|text| Part::Text { text })
        }
        Some("reasoning" | "thinking") => {
            text(budget, &["content", "text", "thinking", "reasoning"])
                .map(|text| Part::Reasoning { text })
        }
        Some("tool_call" | "tool-call" | "tool_use" | "function_call" | "function") => {
            tool_call(value, budget)
        }
        Some("tool_call_response" | "tool-result" | "tool_result" | "function_call_output") => {
            Some(tool_result(map, budget))
        }
        // Those of Bedrock have no type.
        None if map.contains_key("toolUse") => tool_call(value, budget),
        None => {
            let result = map.get("toolResult").and_then(Json::as_object);
            result.map(|result| tool_result(result, budget))
        }
        _ => None,
    };
    found.unwrap_or_else(|| Part::Other {
        kind: kind.map(|kind| budget.name(kind)),
        value: budget.value(value),
    })
}

/// A call of a tool: flat, with the `function` of OpenAI's API, or in what a convention puts around it.
pub(super) fn tool_call(value: &Json, budget: &mut Budget) -> Option<Part> {
    let inner = ["tool_call", "toolUse"].into_iter().find_map(|key| value.get(key));
    let map = inner.unwrap_or(value).as_object()?;
    let function = map.get("function").and_then(Json::as_object).unwrap_or(map);
    let name = text_at(function, &["name", "toolName", "tool_name"]);
    let arguments = ["arguments", "args", "input", "parameters"]
        .into_iter()
        .find_map(|key| function.get(key))
        .unwrap_or(&Json::Null);
    // Of the two ids in OpenAI's Responses API the result names `call_id`.
    let id = text_at(map, &["call_id", "id", "toolCallId", "tool_call_id", "toolUseId"]);
    if name.is_none() && arguments.is_null() {
        return None;
    }
    Some(Part::ToolCall {
        id: id.map(|id| budget.name(id)),
        name: name.map(|name| budget.name(name)),
        arguments: json(arguments, budget),
    })
}

fn tool_result(map: &Map<String, Json>, budget: &mut Budget) -> Part {
    let ids = ["call_id", "id", "tool_use_id", "toolCallId", "tool_call_id", "toolUseId"];
    let id = text_at(map, &ids);
    let result = ["response", "result", "output", "content"]
        .into_iter()
        .find_map(|key| map.get(key))
        .unwrap_or(&Json::Null);
    Part::ToolResult {
        id: id.map(|id| budget.name(id)),
        name: text_at(map, &["name", "toolName"]).map(|name| budget.name(name)),
        result: tool_output(result, budget),
    }
}

/// What a tool returned, without what LangChain and the AI SDK put around it, and without the list around a single text.
pub(super) fn tool_output(value: &Json, budget: &mut Budget) -> Json {
    let inner = value.as_str().and_then(parsed);
    let value = inner.as_ref().unwrap_or(value);
    let is_result = |value: &Json| role_of(unwrapped(value)) == Some("tool");
    let value = value.get("output").filter(|inner| is_result(inner)).unwrap_or(value);
    let content = unwrapped(value).get("content").filter(|_| is_result(value));
    // The AI SDK puts an output into an object with its type: `{"type": "text", "value": …}`.
    let is_typed = matches!(value.get("type").and_then(Json::as_str), Some("text" | "json"));
    let typed = value.get("value").filter(|_| is_typed);
    let value = content.or(typed).unwrap_or(value);
    let text = match value.as_array().map(Vec::as_slice) {
        Some([Json::Object(part)]) if has_only_text(part, None) => part.get("text"),
        Some([Json::Object(part)]) if text_at(part, &["type"]) == Some("text") => {
            part.get("text").filter(|_| part.len() == 2)
        }
        _ => None,
    };
    json(text.unwrap_or(value), budget)
}

/// The arguments of a call of a tool, without what LangChain's callbacks put around them.
pub(super) fn tool_arguments(value: &Json, budget: &mut Budget) -> Json {
    let inner = value.get("inputs").filter(|_| value.get("input_str").is_some());
    json(inner.unwrap_or(value), budget)
}

/// The tools of a list of definitions: flat, or with the `function` of OpenAI's API, each as an object or as text.
pub(super) fn tools(value: &Json, budget: &mut Budget) -> Vec<Tool> {
    let list = match value {
        Json::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    budget.is_cut |= list.len() > MOST_TOOLS;
    let found = list.iter().take(MOST_TOOLS).filter_map(|each| {
        let each = each.get("tool").unwrap_or(each);
        let schema = each.get("json_schema").unwrap_or(each);
        let text = schema.as_str().and_then(parsed);
        let map = text.as_ref().unwrap_or(schema).as_object()?;
        let function = map.get("function").and_then(Json::as_object).unwrap_or(map);
        let parameters = ["parameters", "input_schema", "inputSchema"]
            .into_iter()
            .find_map(|key| function.get(key))
            .unwrap_or(&Json::Null);
        let parameters =
            parameters.get("json").filter(|inner| inner.is_object()).unwrap_or(parameters);
        let name = text_at(function, &["name"])?;
        Some(Tool {
            name: budget.name(name),
            description: text_at(function, &["description"]).map(|text| budget.text(text)),
            parameters: json(parameters, budget),
        })
    });
    found.collect()
}

/// A value, parsed if it is JSON as text.
pub(super) fn json(value: &Json, budget: &mut Budget) -> Json {
    match value.as_str().and_then(parsed) {
        Some(parsed) => budget.value(&parsed),
        None => budget.value(value),
    }
}

/// How many levels are looked into for messages, and for those in what is found there.
const DEEPEST_WRAP: usize = 4;

/// What a request or a response as a whole has of messages, of the AI SDK or of a vendor's API.
fn request_or_response(map: &Map<String, Json>) -> Option<&Json> {
    ["messages", "prompt", "choices", "generations"]
        .into_iter()
        .find_map(|key| map.get(key).filter(|inner| inner.is_array() || inner.is_string()))
}

/// The messages in the arguments or the result of a function, as of LangChain's callbacks and of a step of LangGraph.
fn wrapped(map: &Map<String, Json>, levels: usize) -> Option<&Json> {
    let inner = ["inputs", "outputs", "input", "output", "update"].into_iter();
    inner.filter_map(|key| map.get(key)).find(|inner| holds_messages_below(inner, levels))
}

/// Whether a value consists of messages, or of what is around some.
fn holds_messages(value: &Json) -> bool {
    holds_messages_below(value, DEEPEST_WRAP)
}

fn holds_messages_below(value: &Json, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return false };
    match value {
        Json::Array(list) if list.len() == 1 && !is_message(&list[0]) => {
            holds_messages_below(&list[0], levels)
        }
        Json::Array(list) => !list.is_empty() && list.iter().all(is_message),
        Json::Object(map) => {
            is_message(value)
                || request_or_response(map).is_some()
                || wrapped(map, levels).is_some()
        }
        _ => false,
    }
}

/// The message in what a convention or an API puts around it.
fn unwrapped(value: &Json) -> &Json {
    let inner = ["message", "prompt", "completion"].into_iter().find_map(|key| value.get(key));
    let value = inner.filter(|inner| inner.is_object()).unwrap_or(value);
    // LangChain's messages as they are serialized, in one of two ways.
    let has_type = |value: &&Json| value.get("type").is_some_and(Json::is_string);
    let kwargs = value.get("kwargs").filter(has_type);
    let data = || value.get("data").filter(has_type).filter(|_| has_type(&value));
    kwargs.or_else(data).unwrap_or(value)
}

fn role_of(message: &Json) -> Option<&str> {
    if let Some(role) = message.get("role").and_then(Json::as_str) {
        return Some(role);
    }
    // LangChain names the type of a message.
    match message.get("type").and_then(Json::as_str)? {
        "human" => Some("user"),
        "ai" => Some("assistant"),
        role @ ("system" | "tool") => Some(role),
        _ => None,
    }
}

fn is_message(value: &Json) -> bool {
    let inner = unwrapped(value);
    let has = |key| inner.get(key).is_some_and(|content| !content.is_null());
    let has_content =
        ["content", "contents", "parts", "tool_calls", "toolCalls", "function_call", "refusal"]
            .into_iter()
            .any(has);
    inner.get("role").is_some_and(Json::is_string)
        || has_content && (role_of(inner).is_some() || inner.get("type").is_none())
        || has("function_call_name")
        || !std::ptr::eq(inner, value) && has("text")
}

fn is_system(value: &Json) -> bool {
    is_message(value) && matches!(role_of(unwrapped(value)), Some("system" | "developer"))
}

fn has_text(value: &Json) -> bool {
    value.get("text").is_some_and(Json::is_string) && value.get("type").is_none()
}

fn has_only_text(map: &Map<String, Json>, kind: Option<&str>) -> bool {
    kind.is_some() || map.len() == 1 && map.contains_key("text")
}

/// Whether the content of a message has results as parts of their own.
fn has_typed_results(content: &Json) -> bool {
    let parts = content.as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().any(|part| {
        let kind = part.get("type").and_then(Json::as_str);
        matches!(kind, Some("tool_call_response" | "tool-result" | "tool_result"))
            || part.get("toolResult").is_some()
    })
}

fn is_list_of_parts(value: &Json) -> bool {
    let is_part = |each: &Json| {
        let each = each.get("message_content").unwrap_or(each);
        each.get("type").is_some_and(Json::is_string)
            || has_text(each)
            || ["toolUse", "toolResult"].into_iter().any(|key| each.get(key).is_some())
    };
    value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(is_part))
}

/// The first of these members that is a text.
fn text_at<'m>(map: &'m Map<String, Json>, keys: &[&str]) -> Option<&'m str> {
    keys.iter().find_map(|key| map.get(*key)?.as_str())
}
