use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::bounds::{LONGEST_TEXT, MOST_MESSAGES};
use super::fuzz::{is_sound, is_within_the_limits, read_lines, structured};
use super::*;
use crate::collector::ReceivedEvent;
use crate::collector::receive::value::Value;

fn answer(attributes: impl IntoIterator<Item = (String, Value)>) -> Option<Answer> {
    Answer::of(&attributes.into_iter().collect(), &[])
}

fn one(key: &str, value: impl Into<Value>) -> Option<Answer> {
    answer([(key.to_owned(), value.into())])
}

fn input(value: Json) -> Json {
    let answer = one("langfuse.observation.input", value.to_string()).unwrap_or_default();
    serde_json::to_value(answer.input).unwrap()
}

#[test]
fn other_attributes_are_no_answer() {
    assert_eq!(one("http.route", "/ask"), None);
    assert_eq!(one("llmx.model_name", "m"), None);
    assert_eq!(one("llm.is_streaming", true), None);
    assert_eq!(one("gen_ai.prompt.0.role", "user"), None);
    assert_eq!(one("input.value", ""), None);
    assert_eq!(answer([]), None);
}

#[test]
fn a_plain_text_is_a_message_without_a_role() {
    let found = one("input.value", "Why?").unwrap();
    let expected = Message {
        role: None,
        parts: vec![Part::Text { text: "Why?".to_owned() }],
        finish_reason: None,
    };
    assert_eq!(found.input, [expected]);
    assert_eq!(plain(&found.input), "Why?");
    // What looks like JSON and is none stays as it is.
    assert_eq!(plain(&one("input.value", "[not json").unwrap().input), "[not json");
    assert_eq!(plain(&one("input.value", 42).unwrap().input), "42");
    let found = one("input.value", r#"{"question": "Why?"}"#).unwrap();
    assert_eq!(plain(&found.input), json!({ "question": "Why?" }));
}

#[test]
fn messages_of_vendors_and_frameworks_are_read() {
    let user = json!({ "role": "user", "parts": [{ "type": "text", "text": "Why?" }] });
    for value in [
        json!([{ "role": "user", "content": "Why?" }]),
        json!([[{ "role": "user", "content": "Why?" }]]),
        json!([{ "type": "human", "content": "Why?" }]),
        json!([{ "id": ["HumanMessage"], "kwargs": { "type": "human", "content": "Why?" } }]),
        json!({ "model": "m", "messages": [{ "role": "user", "content": "Why?" }] }),
        json!({ "prompt": "Why?" }),
        json!([{ "role": "user", "parts": [{ "text": "Why?" }] }]),
        json!([{ "role": "user", "content": [{ "type": "input_text", "text": "Why?" }] }]),
        json!({ "choices": [{ "index": 0, "message": { "role": "user", "content": "Why?" } }] }),
    ] {
        assert_eq!(input(value.clone()), json!([user]), "{value}");
    }
    let call = json!([{ "role": "assistant", "content": [
        { "type": "tool_use", "id": "t", "name": "look", "input": { "at": 1 } },
    ] }]);
    let part = json!({ "type": "tool_call", "id": "t", "name": "look", "arguments": { "at": 1 } });
    assert_eq!(input(call)[0]["parts"], json!([part]));
    let result = json!([{ "role": "user", "content": [
        { "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "text", "text": "1" }] },
    ] }]);
    assert_eq!(input(result)[0]["parts"][0]["type"], "tool_result");
    let image = json!([{ "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "https://example.org/a.png" } },
    ] }]);
    assert_eq!(input(image)[0]["parts"][0]["kind"], "image_url");
    let refusal = json!([{ "role": "assistant", "content": null, "refusal": "No." }]);
    assert_eq!(input(refusal)[0]["parts"], json!([{ "type": "text", "text": "No." }]));
}

#[test]
fn messages_are_found_in_what_a_framework_puts_around_them() {
    let user = json!({ "role": "user", "parts": [{ "type": "text", "text": "Why?" }] });
    let message = json!({ "type": "human", "data": { "type": "human", "content": "Why?" } });
    for value in [
        json!([message]),
        json!({ "messages": [message] }),
        json!({ "inputs": { "messages": [message] }, "tags": [] }),
        json!([{ "update": { "messages": [message] }, "goto": [] }]),
        json!({ "outputs": [{ "update": { "messages": [message] } }], "kwargs": {} }),
        json!({ "input": { "output": message } }),
        json!({ "generations": [[{ "text": "Why?", "message": message }]] }),
    ] {
        assert_eq!(input(value.clone())[0]["parts"], user["parts"], "{value}");
        assert_eq!(input(value.clone())[0]["role"], "user", "{value}");
    }
    // A function with such a name in its arguments is none.
    for value in [json!({ "input": "Why?", "k": 3 }), json!({ "output": [1, 2] })] {
        assert_eq!(input(value.clone())[0]["parts"][0]["value"], value);
    }
    let deep = (0..9).fold(json!([message]), |inner, _| json!({ "output": inner }));
    assert_eq!(input(deep)[0]["parts"][0]["type"], "other");
}

#[test]
fn a_message_of_an_event_is_one_of_the_conversation() {
    let event = |name: &str, attributes: &[(&str, &str)]| ReceivedEvent {
        name: format!("gen_ai.{name}"),
        time_unix_nano: 0,
        attributes: attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
            .collect(),
        dropped_attributes_count: 0,
    };
    let events = [
        event("system.message", &[("content", "Be brief.")]),
        event("user.message", &[("gen_ai.event.content", r#"{"content": "Why?"}"#)]),
        event("evaluation.result", &[("content", "no message")]),
        event("choice", &[("message", "Because."), ("finish_reason", "stop")]),
    ];
    let found = Answer::of(&BTreeMap::new(), &events).unwrap();
    assert_eq!(plain_parts(&found.system), "Be brief.");
    assert_eq!((plain(&found.input), plain(&found.output)), (json!("Why?"), json!("Because.")));
    assert_eq!(found.input[0].role.as_deref(), Some("user"));
    assert_eq!(found.output[0].finish_reason.as_deref(), Some("stop"));
    assert_eq!(Answer::of(&BTreeMap::new(), &events[2..3]), None);
    // Attributes of the span come before those of an event, and messages before events.
    let details = event(
        "client.inference.operation.details",
        &[("gen_ai.output.messages", "Details"), ("gen_ai.request.model", "of the event")],
    );
    let own = [("gen_ai.request.model".to_owned(), Value::from("of the span"))];
    let found = Answer::of(&own.into(), &[details, events[3].clone()]).unwrap();
    assert_eq!(plain(&found.output), "Details");
    assert_eq!(found.model.as_deref(), Some("of the span"));
}

#[test]
fn a_list_that_is_no_conversation_is_a_value() {
    let value = json!(["a", { "b": 1 }, 12_345_678_901_234_567_890_u64]);
    let found = one("input.value", value.to_string()).unwrap();
    // An integer beyond 2^53 is a text, as in all answers.
    assert_eq!(plain(&found.input), json!(["a", { "b": 1 }, "12345678901234567890"]));
}

#[test]
fn positions_are_numbers_and_gaps_close_up() {
    let keys = [("10", "c"), ("2", "b"), ("0", "a"), ("x", "no")];
    let found =
        answer(keys.map(|(at, text)| (format!("gen_ai.prompt.{at}.content"), Value::from(text))));
    let texts: Vec<_> = found.unwrap().input.iter().map(|each| plain_parts(&each.parts)).collect();
    assert_eq!(texts, ["a", "b", "c"]);
}

#[test]
fn the_end_of_a_long_conversation_is_kept() {
    let messages: Vec<_> = (0..1_000)
        .map(|at| json!({ "role": "user", "content": format!("{at} {}", "x".repeat(7_000)) }))
        .collect();
    let found = answer([
        ("gen_ai.input.messages".to_owned(), Value::from(Json::from(messages).to_string())),
        ("gen_ai.output.messages".to_owned(), Value::from("the answer")),
    ]);
    let found = found.unwrap();
    is_within_the_limits(&found);
    assert!(found.cut);
    assert_eq!(plain(&found.output), "the answer");
    assert_eq!(found.input.len(), MOST_MESSAGES);
    let last = plain_parts(&found.input[MOST_MESSAGES - 1].parts);
    assert!(last.as_str().unwrap().starts_with("999 x"), "{last}");
}

#[test]
fn a_long_text_ends_with_an_ellipsis() {
    let found = one("output.value", "é".repeat(LONGEST_TEXT + 1)).unwrap();
    let text = plain(&found.output);
    assert_eq!(text.as_str().unwrap().chars().count(), LONGEST_TEXT + 1);
    assert!(found.cut && text.as_str().unwrap().ends_with("é…"));
}

#[test]
fn a_deep_value_is_cut_or_left_as_text() {
    for levels in [30, 100, 200, 100_000] {
        let text = "[".repeat(levels) + &"]".repeat(levels);
        is_within_the_limits(&one("input.value", text.clone()).unwrap());
        is_within_the_limits(&one("gen_ai.input.messages", text).unwrap());
    }
    let text = r#"{"a":"#.repeat(60) + "1" + &"}".repeat(60);
    let found = one("input.value", text).unwrap();
    assert!(found.cut);
    is_within_the_limits(&found);
    let key = format!("gen_ai.prompt.0{}", ".a".repeat(5_000));
    assert_eq!(one(&key, "x"), None);
}

#[test]
fn tokens_are_numbers_however_they_are_written() {
    for value in [Value::Int(7), Value::Double(7.0), Value::from("7")] {
        let found = one("gen_ai.usage.input_tokens", value).unwrap();
        assert_eq!((found.input_tokens, found.total_tokens), (Some(7), None));
    }
    for value in [Value::Int(-7), Value::Double(7.5), Value::Double(f64::NAN), Value::from("many")]
    {
        assert_eq!(one("gen_ai.usage.input_tokens", value), None);
    }
    let both =
        ["input", "output"].map(|of| (format!("gen_ai.usage.{of}_tokens"), Value::Int(i64::MAX)));
    assert_eq!(answer(both), None);
}

#[test]
fn parents_in_a_circle_are_no_endless_search() {
    let found = |span, parent| SpanAnswer { span, parent, answer: one("llm.model_name", "m") };
    let spans = [found(1, 2), found(2, 1), found(3, 3)];
    assert_eq!(in_trace(&spans, Some(2)).model.as_deref(), Some("m"));
    assert_eq!(in_trace(&spans, Some(9)).model, None);
}

/// Keys that are read, some with positions, and others.
fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.system_instructions",
            "gen_ai.tool.definitions",
            "gen_ai.tool.name",
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.call.result",
            "gen_ai.prompt",
            "gen_ai.prompt.0",
            "gen_ai.completion",
            "gen_ai.usage.input_tokens",
            "gen_ai.response.model",
            "input.value",
            "output.value",
            "ai.prompt",
            "ai.prompt.messages",
            "ai.prompt.tools",
            "ai.response.text",
            "ai.response.toolCalls",
            "ai.response.object",
            "langfuse.observation.input",
            "langfuse.observation.output",
            "langfuse.observation.usage_details",
            "traceloop.entity.input",
            "traceloop.span.kind",
            "traceloop.entity.name",
            "tool.name",
        ])
        .prop_map(str::to_owned),
        "(gen_ai\\.prompt|gen_ai\\.completion|llm\\.input_messages|llm\\.output_messages|llm\\.tools|llm\\.prompts|llm\\.request\\.functions)\\.[0-9]{1,3}(\\.(message|role|content|contents|tool_calls|tool_call|function|name|arguments|text|0|1|tool|json_schema|type)){0,5}",
        "[a-z.0-9]{0,20}",
    ]
}

fn event_names() -> impl Strategy<Value = String> {
    let names =
        ["user.message", "tool.message", "choice", "client.inference.operation.details", "x"];
    prop::sample::select(names.to_vec()).prop_map(|name| format!("gen_ai.{name}"))
}

fn event_keys() -> impl Strategy<Value = String> {
    let keys = ["gen_ai.event.content", "content", "message", "role", "gen_ai.input.messages"];
    prop::sample::select(keys.to_vec()).prop_map(str::to_owned)
}

/// JSON with the members that messages have.
fn values() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
        prop::sample::select(vec![
            "user",
            "system",
            "tool",
            "human",
            "text",
            "tool_call",
            "tool_result",
            "reasoning",
            "[{\"type\":\"text\",\"text\":\"x\"}]",
            "{\"a\":[1]}",
        ])
        .prop_map(Json::from),
    ];
    let member = prop::sample::select(vec![
        "role",
        "content",
        "contents",
        "parts",
        "type",
        "text",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "id",
        "messages",
        "prompt",
        "message",
        "system",
        "choices",
        "response",
        "result",
        "tool_call_id",
        "function_call",
        "kwargs",
        "refusal",
        "input",
        "output",
        "inputs",
        "update",
        "data",
        "generations",
        "toolUse",
        "toolResult",
        "value",
        "x",
    ]);
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::btree_map(member.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn lines_of_the_fuzz_target_are_attributes_and_events() {
    read_lines("gen_ai.prompt.0.content=Why?\n@gen_ai.choice message=Because.\nnonsense\n@x\n");
    // A name that is cut, without any content.
    read_lines(&format!("gen_ai.request.model={}", "m".repeat(500)));
    read_lines("gen_ai.input.messages==[{\"role\": \"user\", \"content\": \"Why?\"}]\r\nx==[");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_attributes_give_an_answer_within_the_limits(
        attributes in prop::collection::btree_map(keys(), (values(), any::<bool>()), 0..12),
        events in prop::collection::vec((event_names(), event_keys(), values()), 0..6),
    ) {
        let events: Vec<_> = events
            .into_iter()
            .map(|(name, key, value)| ReceivedEvent {
                name,
                time_unix_nano: 0,
                attributes: BTreeMap::from([(key, structured(&value))]),
                dropped_attributes_count: 0,
            })
            .collect();
        let attributes: BTreeMap<_, _> = attributes
            .into_iter()
            .map(|(key, (value, is_text))| {
                let value = if is_text { Value::String(value.to_string()) } else { structured(&value) };
                (key, value)
            })
            .collect();
        if let Some(answer) = Answer::of(&attributes, &events) {
            is_sound(&answer);
        }
    }
}
