//! What an answer of a model was: its input, output, system prompt, model, tokens, tools and agent, read from the
//! attributes of a span by whichever convention wrote them.
//!
//! | convention | input and output | model and tokens |
//! | --- | --- | --- |
//! | GenAI semantic conventions | `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions` as JSON text or structured, `gen_ai.tool.*` | `gen_ai.response.model`, `gen_ai.request.model`, `gen_ai.usage.*` |
//! | OpenLLMetry | `gen_ai.prompt.N.*`, `gen_ai.completion.N.*`, `traceloop.entity.input` and `.output` | `gen_ai.*`, `llm.usage.total_tokens` |
//! | OpenInference | `llm.input_messages.N.*`, `llm.output_messages.N.*`, `input.value`, `output.value` | `llm.model_name`, `llm.token_count.*` |
//! | Vercel AI SDK | `ai.prompt.messages`, `ai.prompt`, `ai.response.*`, `ai.toolCall.*` | `ai.response.model`, `ai.model.id`, `ai.usage.*` |
//! | LangSmith | `gen_ai.prompt`, `gen_ai.completion` | `gen_ai.request.model`, `gen_ai.usage.*` |
//! | Langfuse | `langfuse.observation.input` and `.output`, `langfuse.trace.*` | `langfuse.observation.model.name`, `.usage_details` |
//!
//! Where a span has several of them, the most structured one counts: messages before a text. Those in span events are read
//! by [`events`]. `inputs.*` and `outputs.*` are no attributes here but leaves of a document, which may have changed since
//! the span ended; they come before all of these, where the two are put together (`store/dataset.rs`).
//!
//! | file | |
//! | --- | --- |
//! | `attributes` | which attributes there are, and which of them count |
//! | `events` | messages that are events of a span |
//! | `json` | values of attributes as JSON |
//! | `message` | messages and their parts, of every shape that the conventions have |
//! | `field` | model and tokens as fields of filters, groups and charts |
//! | `bounds` | limits of what is kept: attributes are foreign data |
//! | `fuzz` | any answer, for the fuzz target |
//! | `in_trace` | in which span of a trace the answer is that feedback is about |

mod attributes;
mod bounds;
mod events;
pub(crate) mod field;
mod fuzz;
mod in_trace;
mod json;
mod message;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::Value as Json;

pub(crate) use self::attributes::{
    INPUT_TOKENS, MODELS, OUTPUT_TOKENS, PREFIXES, TOTAL_TOKENS, USAGE, USAGE_OF_BOTH,
    USAGE_OF_INPUT, USAGE_OF_OUTPUT, is_of_model_or_tokens, model, tokens,
};
pub(crate) use self::events::EVENTS;
pub(super) use self::fuzz::read_lines;
pub(crate) use self::in_trace::{MOST_SPANS, SpanAnswer, in_trace};
pub(crate) use self::message::{Message, Part};

/// What an answer was. All of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Answer {
    /// The system prompt: instructions that are not part of the conversation, or stand at its beginning.
    pub(crate) system: Vec<Part>,
    /// The conversation so far. The last message is what is answered.
    pub(crate) input: Vec<Message>,
    pub(crate) output: Vec<Message>,
    /// The model that answered, else the one that was asked for.
    pub(crate) model: Option<String>,
    pub(crate) agent: Option<String>,
    /// The tools that the model could call.
    pub(crate) tools: Vec<Tool>,
    pub(crate) input_tokens: Option<i64>,
    pub(crate) output_tokens: Option<i64>,
    /// The sum of both, if the span has no total of its own.
    pub(crate) total_tokens: Option<i64>,
    /// Whether something is left out beyond the limits of [`bounds`].
    pub(crate) cut: bool,
}

/// A tool that the model could call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// The JSON schema of its arguments.
    pub(crate) parameters: Json,
}

impl Answer {
    fn has_content(&self) -> bool {
        !self.input.is_empty() || !self.output.is_empty() || !self.system.is_empty()
    }

    fn has_tokens(&self) -> bool {
        [self.input_tokens, self.output_tokens, self.total_tokens].iter().any(Option::is_some)
    }

    fn is_empty(&self) -> bool {
        let names = [&self.model, &self.agent];
        !self.has_content()
            && !self.has_tokens()
            && self.tools.is_empty()
            && names.iter().all(|name| name.is_none())
    }
}

/// A conversation as one value: the text of its only message, and otherwise the list of its messages. Nothing is `null`.
pub(crate) fn plain(messages: &[Message]) -> Json {
    match messages {
        [] => Json::Null,
        [Message { parts, .. }] if matches!(parts.as_slice(), [Part::Text { .. }]) => {
            plain_parts(parts)
        }
        [Message { role: None, parts, .. }] => plain_parts(parts),
        messages => serde_json::to_value(messages).unwrap_or_default(), // strings as keys: it can't fail
    }
}

/// The same for the parts of one message.
pub(crate) fn plain_parts(parts: &[Part]) -> Json {
    match parts {
        [] => Json::Null,
        [Part::Text { text }] => Json::from(text.as_str()),
        [Part::Other { kind: None, value }] => value.clone(),
        parts => serde_json::to_value(parts).unwrap_or_default(),
    }
}
