//! The attributes of the conventions, and which of them count.
//!
//! Sources: the registry of the [GenAI semantic conventions](https://opentelemetry.io/docs/specs/semconv/gen-ai/),
//! [OpenInference](https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md), OpenLLMetry's
//! instrumentations (`chat_wrappers.py`), the [AI SDK](https://ai-sdk.dev/docs/ai-sdk-core/telemetry), and
//! Langfuse (`LangfuseOtelSpanAttributes`).

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::Answer;
use super::bounds::{Budget, DEEPEST, MOST_VALUES};
use super::events;
use super::field::{MOST_DIGITS, Tokens};
use super::json::{Attributes, structured};
use super::message::{
    Conversation, Message, Part, conversation, parts, tool_arguments, tool_call, tool_output, tools,
};
use crate::collector::ReceivedEvent;
use crate::collector::receive::value::Value;

/// What the names of all attributes begin with that are read here.
pub(crate) const PREFIXES: [&str; 10] = [
    "agent.",
    "ai.",
    "embedding.",
    "gen_ai.",
    "input.",
    "langfuse.",
    "llm.",
    "output.",
    "tool.",
    "traceloop.",
];

/// Where messages are.
#[derive(Clone, Copy)]
enum Source {
    /// In one attribute, as JSON text, structured, or as a text. Its messages have this role where they name none.
    One(&'static str, Option<&'static str>),
    /// In attributes with positions in their names, which begin so.
    Indexed(&'static str, &'static str),
    /// The call of a tool, in a span of the tool.
    Tool,
    /// The response of the AI SDK, whose parts have attributes of their own.
    AiSdk,
    /// In events of the span, one for each message.
    Events,
}

use Source::{AiSdk, Events, Indexed, One, Tool};

/// The most structured first.
const INPUTS: [Source; 13] = [
    Tool,
    One("gen_ai.input.messages", Some("user")),
    Indexed("gen_ai.prompt.", "user"),
    Indexed("llm.input_messages.", "user"),
    One("ai.prompt.messages", Some("user")),
    Events,
    One("langfuse.observation.input", None),
    One("ai.prompt", Some("user")),
    Indexed("llm.prompts.", "user"),
    One("input.value", None),
    One("traceloop.entity.input", None),
    One("gen_ai.prompt", Some("user")),
    One("langfuse.trace.input", None),
];
const OUTPUTS: [Source; 12] = [
    Tool,
    One("gen_ai.output.messages", Some("assistant")),
    Indexed("gen_ai.completion.", "assistant"),
    Indexed("llm.output_messages.", "assistant"),
    AiSdk,
    Events,
    One("langfuse.observation.output", None),
    Indexed("llm.choices.", "assistant"),
    One("output.value", None),
    One("traceloop.entity.output", None),
    One("gen_ai.completion", Some("assistant")),
    One("langfuse.trace.output", None),
];
pub(crate) const MODELS: [&str; 9] = [
    "gen_ai.response.model",
    "llm.response.model_name",
    "ai.response.model",
    "langfuse.observation.model.name",
    "gen_ai.request.model",
    "llm.request.model_name",
    "llm.model_name",
    "ai.model.id",
    "embedding.model_name",
];
pub(crate) const INPUT_TOKENS: [&str; 5] = [
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
];
pub(crate) const OUTPUT_TOKENS: [&str; 5] = [
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
];
pub(crate) const TOTAL_TOKENS: [&str; 4] = [
    "gen_ai.usage.total_tokens",
    "llm.usage.total_tokens",
    "llm.token_count.total",
    "ai.usage.totalTokens",
];
/// Tokens as JSON: Langfuse's own names, or those of OpenAI's API as they came.
pub(crate) const USAGE: &str = "langfuse.observation.usage_details";
pub(crate) const USAGE_OF_INPUT: [&str; 3] = ["input", "prompt_tokens", "input_tokens"];
pub(crate) const USAGE_OF_OUTPUT: [&str; 3] = ["output", "completion_tokens", "output_tokens"];
pub(crate) const USAGE_OF_BOTH: [&str; 2] = ["total", "total_tokens"];

impl Answer {
    /// Reads the attributes and events of a span. `None` if it is about no answer.
    pub(crate) fn of(attributes: &Attributes, events: &[ReceivedEvent]) -> Option<Self> {
        let has_events = events.iter().any(|event| events::is_read(&event.name));
        let has_attributes =
            || PREFIXES.iter().any(|prefix| under(attributes, prefix).next().is_some());
        if !has_events && !has_attributes() {
            return None;
        }
        let attributes = &*events::with_details(attributes, events);
        let mut budget = Budget::new();
        let messages = |source: Source, is_input: bool, budget: &mut Budget| {
            messages(source, is_input, attributes, events, budget)
        };
        // The output first: the limits leave out the beginning of a long conversation.
        let mut output = first(&OUTPUTS, attributes, &mut budget, |source, budget| {
            messages(source, false, budget)
        });
        let system = attributes
            .get("gen_ai.system_instructions")
            .map(|value| parts(&structured(value), &mut budget));
        let input = first(&INPUTS, attributes, &mut budget, |source, budget| {
            messages(source, true, budget)
        });
        // The state of LangGraph at its end begins with what it was at its start.
        let asked = input.messages.len();
        if output.messages.len() > asked && output.messages.starts_with(&input.messages) {
            output.messages.drain(..asked);
        }
        let [input_tokens, output_tokens, total_tokens] = tokens(attributes);
        let answer = Self {
            system: match system {
                Some(system) if !system.is_empty() => system,
                _ => input.system,
            },
            input: input.messages,
            output: output.messages,
            model: model(attributes).map(|model| budget.name(&model)),
            agent: agent(attributes, &mut budget),
            tools: defined_tools(attributes, &mut budget),
            input_tokens,
            output_tokens,
            total_tokens,
            cut: budget.is_cut,
        };
        (!answer.is_empty()).then_some(answer)
    }
}

/// The model that answered, else the one that was asked for.
pub(crate) fn model(attributes: &Attributes) -> Option<String> {
    let mut names = MODELS.iter().filter_map(|key| scalar(attributes.get(*key)?));
    names.find(|name| !name.is_empty())
}

/// The tokens of the input, of the output, and both, by the span's own count or as their sum.
pub(crate) fn tokens(attributes: &Attributes) -> Tokens {
    let usage = attributes.get(USAGE).map(structured).unwrap_or_default();
    let tokens = |keys: &[&str], members: &[&str]| {
        let mut own = keys.iter().filter_map(|key| count(attributes.get(*key)?));
        let mut members = members.iter().filter_map(|member| usage.get(member)?.as_i64());
        own.next().or_else(|| members.find(is_count))
    };
    let input = tokens(&INPUT_TOKENS, &USAGE_OF_INPUT);
    let output = tokens(&OUTPUT_TOKENS, &USAGE_OF_OUTPUT);
    let total = tokens(&TOTAL_TOKENS, &USAGE_OF_BOTH);
    [input, output, total.or_else(|| Some(input? + output?))]
}

/// Whether an attribute is one that [`model`] or [`tokens`] reads.
pub(crate) fn is_of_model_or_tokens(key: &str) -> bool {
    let keys: [&[&str]; 5] = [&MODELS, &INPUT_TOKENS, &OUTPUT_TOKENS, &TOTAL_TOKENS, &[USAGE]];
    keys.iter().any(|keys| keys.contains(&key))
}

/// What the first source has that has anything.
fn first(
    sources: &[Source],
    attributes: &Attributes,
    budget: &mut Budget,
    read: impl Fn(Source, &mut Budget) -> Option<Conversation>,
) -> Conversation {
    let found = sources.iter().find_map(|source| {
        // A source without the attribute costs nothing.
        let is_there = match source {
            One(key, _) => attributes.contains_key(*key),
            Indexed(prefix, _) => under(attributes, prefix).next().is_some(),
            Tool | AiSdk | Events => true,
        };
        let found = is_there.then(|| read(*source, budget)).flatten()?;
        (!found.messages.is_empty() || !found.system.is_empty()).then_some(found)
    });
    found.unwrap_or_default()
}

fn messages(
    source: Source,
    is_input: bool,
    attributes: &Attributes,
    events: &[ReceivedEvent],
    budget: &mut Budget,
) -> Option<Conversation> {
    Some(match source {
        One(key, role) => conversation(&structured(attributes.get(key)?), role, budget),
        Indexed(prefix, role) => {
            conversation(&nested(attributes, prefix, budget)?, Some(role), budget)
        }
        Tool => {
            let (role, part) = called_tool(attributes, events, is_input, budget)?;
            one_message(role, vec![part])
        }
        AiSdk => one_message(Some("assistant"), ai_sdk(attributes, budget)),
        Events => {
            let role = if is_input { "user" } else { "assistant" };
            conversation(&events::messages(events, is_input)?, Some(role), budget)
        }
    })
}

fn one_message(role: Option<&str>, parts: Vec<Part>) -> Conversation {
    let message = Message { role: role.map(str::to_owned), parts, finish_reason: None };
    let messages = if message.parts.is_empty() { Vec::new() } else { vec![message] };
    Conversation { messages, ..Conversation::default() }
}

/// The call that a span of a tool is about, or its result.
fn called_tool(
    attributes: &Attributes,
    events: &[ReceivedEvent],
    is_input: bool,
    budget: &mut Budget,
) -> Option<(Option<&'static str>, Part)> {
    let names = ["gen_ai.tool.name", "ai.toolCall.name", "tool.name"];
    let name = Some(name(attributes, &names, budget)?);
    let id = self::name(attributes, &["gen_ai.tool.call.id", "ai.toolCall.id", "tool.id"], budget);
    // LangSmith has both as a prompt and a completion.
    let keys: &[&str] = match is_input {
        true => &["gen_ai.tool.call.arguments", "ai.toolCall.args", "input.value", "gen_ai.prompt"],
        false => {
            &["gen_ai.tool.call.result", "ai.toolCall.result", "output.value", "gen_ai.completion"]
        }
    };
    let value = keys.iter().find_map(|key| attributes.get(*key)).map(structured);
    let value = value.or_else(|| events::of_tool(events, is_input));
    Some(match is_input {
        true => {
            let arguments = tool_arguments(&value.unwrap_or_default(), budget);
            (Some("assistant"), Part::ToolCall { id, name, arguments })
        }
        false => {
            // The AI SDK writes a text as JSON, too.
            let value = match value? {
                Json::String(text) if text.starts_with('"') => {
                    serde_json::from_str(&text).unwrap_or(Json::String(text))
                }
                value => value,
            };
            (Some("tool"), Part::ToolResult { id, name, result: tool_output(&value, budget) })
        }
    })
}

/// The parts of a response of the AI SDK; `ai.result.*` is what its first versions wrote.
fn ai_sdk(attributes: &Attributes, budget: &mut Budget) -> Vec<Part> {
    let mut found = Vec::new();
    let get = |name: &str| {
        let keys = [format!("ai.response.{name}"), format!("ai.result.{name}")];
        keys.iter().find_map(|key| attributes.get(key)).map(structured)
    };
    if let Some(Json::String(text)) = get("reasoning") {
        found.push(Part::Reasoning { text: budget.text(&text) });
    }
    if let Some(value) = attributes.get("ai.response.text").or(attributes.get("ai.result.text"))
        && let Some(text) = scalar(value).filter(|text| !text.is_empty())
    {
        found.push(Part::Text { text: budget.text(&text) });
    }
    if let Some(value) = get("object") {
        found.push(Part::Other { kind: None, value: budget.value(&value) });
    }
    if let Some(Json::Array(calls)) = get("toolCalls") {
        let calls = calls.iter().take(super::bounds::MOST_PARTS);
        found.extend(calls.filter_map(|call| tool_call(call, budget)));
    }
    found
}

fn defined_tools(attributes: &Attributes, budget: &mut Budget) -> Vec<super::Tool> {
    let found = ["gen_ai.tool.definitions", "ai.prompt.tools"].into_iter().find_map(|key| {
        let found = tools(&structured(attributes.get(key)?), budget);
        (!found.is_empty()).then_some(found)
    });
    let indexed = |budget: &mut Budget| {
        ["llm.tools.", "llm.request.functions."].into_iter().find_map(|prefix| {
            let found = tools(&nested(attributes, prefix, budget)?, budget);
            (!found.is_empty()).then_some(found)
        })
    };
    // Langfuse has the request as a whole.
    let of_request = |budget: &mut Budget| {
        let request = structured(attributes.get("langfuse.observation.input")?);
        request.get("tools").map(|defined| tools(defined, budget))
    };
    found.or_else(|| indexed(budget)).or_else(|| of_request(budget)).unwrap_or_default()
}

fn agent(attributes: &Attributes, budget: &mut Budget) -> Option<String> {
    let is_entity = attributes.get("traceloop.span.kind").is_some_and(|kind| *kind == *"agent");
    let keys = ["gen_ai.agent.name", "agent.name", "traceloop.entity.name"];
    name(attributes, if is_entity { &keys } else { &keys[..2] }, budget)
}

/// The first of these attributes that is a name.
fn name(attributes: &Attributes, keys: &[&str], budget: &mut Budget) -> Option<String> {
    let mut names = keys.iter().filter_map(|key| scalar(attributes.get(*key)?));
    names.find(|name| !name.is_empty()).map(|name| budget.name(&name))
}

/// A number of tokens. Some emitters write it as a double, or as text.
fn count(value: &Value) -> Option<i64> {
    let found = match value {
        Value::Int(count) => *count,
        Value::Double(count) if count.fract() == 0.0 && count.abs() < 1e15 => *count as i64,
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().ok()?
        }
        _ => return None,
    };
    is_count(&found).then_some(found)
}

/// Whether a number may be one of tokens, so that sums of them fit.
fn is_count(count: &i64) -> bool {
    (0..10_i64.pow(MOST_DIGITS)).contains(count)
}

/// The text of a value that is no list and no map. ClickHouse keeps all values as text, so a number is the same as
/// its digits.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Int(_) | Value::Double(_) => Some(value.to_string()),
        _ => None,
    }
}

/// The attributes whose names begin so.
fn under<'a>(
    attributes: &'a Attributes,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let from =
        attributes.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
    from.map_while(move |(key, value)| Some((key.strip_prefix(prefix)?, value)))
}

/// What attributes with positions in their names stand for: `0.message.role` is the role of the message in the first
/// element of a list. `None` if there are no attributes with a position.
fn nested(attributes: &Attributes, prefix: &str, budget: &mut Budget) -> Option<Json> {
    let mut root = Map::new();
    for (at, (rest, value)) in under(attributes, prefix).enumerate() {
        let segments: Vec<_> = rest.splitn(DEEPEST + 1, '.').collect();
        if at >= MOST_VALUES || segments.len() > DEEPEST {
            budget.is_cut = true;
            continue;
        }
        if segments[0].parse::<u32>().is_ok() {
            let value = scalar(value).map_or_else(|| structured(value), Json::String);
            insert(&mut root, &segments, value);
        }
    }
    let list = listed(Json::Object(root));
    list.is_array().then_some(list)
}

fn insert(map: &mut Map<String, Json>, path: &[&str], value: Json) {
    match path {
        [] => {}
        [last] => drop(map.entry(*last).or_insert(value)),
        [first, rest @ ..] => {
            let below = map.entry(*first).or_insert(Json::Null);
            // A text above others gives way to them.
            if !below.is_object() {
                *below = Json::Object(Map::new());
            }
            if let Json::Object(below) = below {
                insert(below, rest, value);
            }
        }
    }
}

/// Turns objects whose members are positions into lists. What is missing in between closes up.
fn listed(value: Json) -> Json {
    let Json::Object(map) = value else { return value };
    let positions: Option<BTreeMap<u32, String>> =
        map.keys().map(|key| Some((key.parse().ok()?, key.clone()))).collect();
    match positions.filter(|positions| !positions.is_empty() && positions.len() == map.len()) {
        Some(positions) => {
            let mut map = map;
            let list = positions.values().filter_map(|key| map.remove(key)).map(listed);
            Json::Array(list.collect())
        }
        None => Json::Object(map.into_iter().map(|(key, value)| (key, listed(value))).collect()),
    }
}
