//! What instrumentations of models send, recorded by `tests/answers/record`: the same conversation by each.

use super::*;

/// A desk with the spans of a recording, and feedback about the span of its request.
struct Recording {
    rig: Rig,
    spans: Vec<Json>,
}

impl Recording {
    /// `root` is the span of the request.
    fn new(recorded: &str, root: &str) -> Self {
        let rig = Rig::new();
        let recorded: Json = serde_json::from_str(recorded).unwrap();
        let sent = recorded["resourceSpans"].as_array().unwrap().iter();
        let sent = sent.flat_map(|resource| resource["scopeSpans"].as_array().unwrap());
        let sent: Vec<_> = sent.flat_map(|scope| scope["spans"].as_array().unwrap()).collect();
        post(&rig.desk.http_endpoint().unwrap(), &recorded);
        let asked = sent.iter().find(|span| span["name"] == root).unwrap();
        let mut rating = carrier((1, 1), 9, NEW_YEAR).with("feedback.rating", true);
        for id in ["traceId", "spanId"] {
            rating.json["links"][0][id] = asked[id].clone();
        }
        rig.send([rating]);
        let id = asked["traceId"].as_str().unwrap();
        let trace = rig.get(&format!("/api/v1/traces/{id}"));
        let mut spans = trace["spans"].as_array().unwrap().clone();
        spans.retain(|span| span["carrier"] == false);
        spans.sort_by(|a, b| a["start"].as_f64().unwrap().total_cmp(&b["start"].as_f64().unwrap()));
        Self { rig, spans }
    }

    /// The answers of the spans with this name, the earliest first.
    fn answers(&self, name: &str) -> Vec<Json> {
        let spans = self.spans.iter().filter(|span| span["name"] == name);
        spans.map(|span| span["answer"].clone()).collect()
    }

    /// The row of the data set about the request.
    fn row(&self) -> Json {
        let rows = self.rig.get("/api/v1/dataset")["rows"].clone();
        assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
        rows[0].clone()
    }
}

macro_rules! recording {
    ($name:literal, $root:literal) => {
        Recording::new(include_str!(concat!("recorded/", $name, ".json")), $root)
    };
    ($name:literal) => {
        recording!($name, "POST /ask")
    };
}

const ANSWER: &str = "It rains in Paris, at 14 °C.";
const MODEL: &str = "gpt-4o-2024-08-06";

/// Messages with nothing but roles, parts, and what is in them.
fn bare(messages: &Json) -> Json {
    let mut messages = messages.clone();
    for message in messages.as_array_mut().unwrap() {
        message.as_object_mut().unwrap().remove("finish_reason");
        for part in message["parts"].as_array_mut().unwrap() {
            // Some name the tool beside the id of its call.
            if part["type"] == "tool_result" {
                part.as_object_mut().unwrap().remove("name");
            }
        }
    }
    messages
}

fn question() -> Json {
    json!({ "role": "user", "parts": text("Weather in Paris?") })
}

fn call() -> Json {
    json!({ "type": "tool_call", "id": "call_1", "name": "get_weather",
            "arguments": { "location": "Paris" } })
}

fn asks_for_the_tool() -> Json {
    json!({ "role": "assistant", "parts": [call()] })
}

fn result(role: &str) -> Json {
    let part = json!({ "type": "tool_result", "id": "call_1", "result": "rainy, 14 °C" });
    json!({ "role": role, "parts": [part] })
}

fn answers() -> Json {
    json!({ "role": "assistant", "parts": text(ANSWER) })
}

fn tokens(answer: &Json) -> [Json; 3] {
    ["input_tokens", "output_tokens", "total_tokens"].map(|key| answer[key].clone())
}

/// Asserts that the two calls of the model are shown as they were.
fn has_both_calls(first: &Json, second: &Json, model: &str) {
    has_both_calls_with(first, second, model, "tool");
}

/// The same, where the message with the result of the tool has this role.
fn has_both_calls_with(first: &Json, second: &Json, model: &str, role: &str) {
    assert_eq!(bare(&first["input"]), json!([question()]));
    assert_eq!(bare(&first["output"]), json!([asks_for_the_tool()]));
    assert_eq!(tokens(first), [82, 17, 99]);
    let expected = json!([question(), asks_for_the_tool(), result(role)]);
    assert_eq!(bare(&second["input"]), expected);
    assert_eq!(bare(&second["output"]), json!([answers()]));
    assert_eq!(tokens(second), [97, 12, 109]);
    for answer in [first, second] {
        assert_eq!(answer["system"], text("Be brief."));
        assert_eq!(answer["model"], model);
        assert_eq!(answer["cut"], false);
    }
}

fn has_the_tool(answer: &Json) {
    let tools = answer["tools"].as_array().unwrap();
    assert_eq!(tools.len(), 1, "{answer}");
    assert_eq!(tools[0]["name"], "get_weather");
    assert_eq!(tools[0]["description"], "The weather of a place");
    assert_eq!(tools[0]["parameters"]["properties"]["location"]["type"], "string");
}

/// Asserts that a span of the tool has its call and what it returned.
fn is_of_the_tool(answer: &Json, id: &Json) {
    let call = answer["input"][0]["parts"][0].clone();
    assert_eq!((&call["type"], &call["id"]), (&json!("tool_call"), id));
    assert_eq!(call["name"], "get_weather");
    assert_eq!(call["arguments"], json!({ "location": "Paris" }));
    let result = answer["output"][0]["parts"][0].clone();
    assert_eq!((&result["type"], &result["id"]), (&json!("tool_result"), id));
    assert_eq!(result["result"], "rainy, 14 °C");
}

/// Asserts what the data set has of the request, whose answer is in the spans of both calls.
fn is_a_row_of_both_calls(row: &Json, model: &str) {
    assert_eq!((&row["output"], &row["system"]), (&json!(ANSWER), &json!("Be brief.")));
    assert_eq!(row["model"], model);
    assert_eq!(tokens(row), [179, 29, 208]);
    assert_eq!(row["feedback"]["rating"], true);
}

fn is_recorded(recording: &Recording, name: &str) {
    let [first, second] = recording.answers(name).try_into().unwrap();
    has_both_calls(&first, &second, MODEL);
    has_the_tool(&second);
    is_a_row_of_both_calls(&recording.row(), MODEL);
    assert_eq!(recording.row()["input"].as_array().unwrap().len(), 3);
    assert_eq!(recording.row()["tools"], json!(["get_weather"]));
}

#[test]
fn tokens_of_agents_and_their_calls_count_once() {
    for (emitter, recorded, traces) in [
        ("OpenLLMetry", recording!("langchain_openllmetry"), 1),
        ("OpenInference", recording!("langchain_openinference"), 1),
        ("LangSmith", recording!("langchain_langsmith"), 1),
        ("Strands", recording!("strands"), 1),
        ("Azure", recording!("azure_inference"), 1),
        ("Langfuse", recording!("langfuse", "answer"), 1),
        ("AI SDK", recording!("ai_sdk"), 2),
        ("rig", recording!("rig"), 2),
        ("genai", recording!("genai"), 1),
    ] {
        let chart = "/api/v1/chart?field=answer.tokens.total&measure=count,sum";
        let found = recorded.rig.get(chart)["total"]["overall"].clone();
        let expected = json!({ "count": f64::from(traces), "sum": f64::from(traces * 208) });
        assert_eq!(found, expected, "{emitter}");
    }
}

#[test]
fn openllmetry_of_the_openai_package() {
    let recording = recording!("openai_chat_openllmetry");
    is_recorded(&recording, "openai.chat");
    assert_eq!(recording.answers("openai.chat")[1]["output"][0]["finish_reason"], "stop");
}

#[test]
fn openllmetry_with_positions_in_names() {
    let recording = recording!("openai_chat_openllmetry_older");
    is_recorded(&recording, "openai.chat");
    assert_eq!(recording.answers("openai.chat")[0]["output"][0]["finish_reason"], "tool_calls");
}

#[test]
fn openinference_of_the_openai_package() {
    is_recorded(&recording!("openai_chat_openinference"), "ChatCompletion");
}

#[test]
fn the_instrumentation_of_opentelemetry() {
    is_recorded(&recording!("openai_chat_official"), "chat gpt-4o");
    is_recorded(&recording!("openai_responses_official"), "chat gpt-4o");
    // By its former name it left the tools out.
    let recording = recording!("openai_chat_official_v2");
    let [first, second] = recording.answers("chat gpt-4o").try_into().unwrap();
    has_both_calls(&first, &second, MODEL);
    is_a_row_of_both_calls(&recording.row(), MODEL);
}

#[test]
fn the_responses_of_openai() {
    is_recorded(&recording!("openai_responses_openinference"), "Response");
    // OpenLLMetry has the id of the item in the place of that of the call.
    let recording = recording!("openai_responses_openllmetry");
    let [first, mut second] = recording.answers("openai.response").try_into().unwrap();
    assert_eq!(first["output"][0]["parts"][0]["id"], "fc_1");
    assert_eq!(second["input"][1]["parts"][0]["id"], "call_1");
    second["input"][1]["parts"][0]["id"] = json!("call_1");
    assert_eq!(bare(&second["output"]), json!([answers()]));
    assert_eq!(tokens(&second), [97, 12, 109]);
    is_a_row_of_both_calls(&recording.row(), MODEL);
    // Before, it left out what was said since the question.
    let recording = recording!("openai_responses_openllmetry_older");
    let [_, second] = recording.answers("openai.response").try_into().unwrap();
    assert_eq!(bare(&second["input"]), json!([question()]));
    assert_eq!(bare(&second["output"]), json!([answers()]));
    has_the_tool(&second);
    is_a_row_of_both_calls(&recording.row(), MODEL);
}

#[test]
fn openllmetry_of_langchain() {
    let recording = recording!("langchain_openllmetry");
    let [first, second] = recording.answers("ChatOpenAI.chat").try_into().unwrap();
    has_both_calls(&first, &second, MODEL);
    has_the_tool(&second);
    is_of_the_tool(&recording.answers("execute_tool get_weather")[0], &Json::Null);
    // The agent returns the whole conversation; what it was asked is not shown twice.
    let agent = &recording.answers("Forecaster.workflow")[0];
    assert_eq!(bare(&agent["input"]), json!([question()]));
    let said = json!([asks_for_the_tool(), result("tool"), answers()]);
    assert_eq!(bare(&agent["output"]), said);
    let [step, _] = recording.answers("execute_task model").try_into().unwrap();
    assert_eq!(bare(&step["input"]), json!([question()]));
    assert_eq!(bare(&step["output"]), json!([asks_for_the_tool()]));
    let row = recording.row();
    assert_eq!((&row["agent"], &row["model"]), (&json!("Forecaster"), &json!(MODEL)));
    assert_eq!((bare(&row["output"]), tokens(&row)), (said, [179, 29, 208].map(Json::from)));
}

#[test]
fn openinference_of_langchain() {
    let recording = recording!("langchain_openinference");
    let [first, second] = recording.answers("ChatOpenAI").try_into().unwrap();
    has_both_calls(&first, &second, MODEL);
    has_the_tool(&second);
    let tool = &recording.answers("get_weather")[0];
    // Of a single argument it has the value.
    assert_eq!(tool["input"][0]["parts"][0]["arguments"], "Paris");
    assert_eq!(tool["output"][0]["parts"][0]["result"], "rainy, 14 °C");
    let agent = &recording.answers("Forecaster")[0];
    assert_eq!(bare(&agent["input"]), json!([question()]));
    let said = json!([asks_for_the_tool(), result("tool"), answers()]);
    assert_eq!(bare(&agent["output"]), said);
    assert_eq!(bare(&recording.row()["output"]), said);
}

#[test]
fn langsmith_of_langchain() {
    let recording = recording!("langchain_langsmith");
    let [first, second] = recording.answers("ChatOpenAI").try_into().unwrap();
    has_both_calls(&first, &second, "gpt-4o");
    assert_eq!(second["output"][0]["finish_reason"], "stop");
    has_the_tool(&second);
    is_of_the_tool(&recording.answers("get_weather")[0], &json!("call_1"));
    let agent = &recording.answers("Forecaster")[0];
    assert_eq!(bare(&agent["input"]), json!([question()]));
    let said = json!([asks_for_the_tool(), result("tool"), answers()]);
    assert_eq!(bare(&agent["output"]), said);
    let row = recording.row();
    assert_eq!((bare(&row["output"]), tokens(&row)), (said, [179, 29, 208].map(Json::from)));
}

#[test]
fn the_ai_sdk() {
    let recording = recording!("ai_sdk");
    let [first, second] = recording.answers("ai.generateText.doGenerate").try_into().unwrap();
    has_both_calls(&first, &second, MODEL);
    has_the_tool(&second);
    is_of_the_tool(&recording.answers("ai.toolCall")[0], &json!("call_1"));
    let row = recording.row();
    is_a_row_of_both_calls(&row, "gpt-4o");
    assert_eq!(row["input"], "Weather in Paris?");

    let recording = recording!("ai_sdk", "POST /stream");
    let [first, second] = recording.answers("ai.streamText.doStream").try_into().unwrap();
    has_both_calls(&first, &second, MODEL);
    has_the_tool(&second);
    is_a_row_of_both_calls(&recording.row(), "gpt-4o");
}

#[test]
fn the_crate_rig() {
    let recording = recording!("rig");
    let [first, second] = recording.answers("chat").try_into().unwrap();
    // A result is a message of the user, as in the API of Anthropic.
    has_both_calls_with(&first, &second, MODEL, "user");
    is_of_the_tool(&recording.answers("execute_tool")[0], &json!("call_1"));
    let row = recording.row();
    is_a_row_of_both_calls(&row, MODEL);
    assert_eq!(row["agent"], "Forecaster");
    // Without a span around it, the agent has its own.
    let recording = recording!("rig", "invoke_agent");
    let agent = &recording.answers("invoke_agent")[0];
    assert_eq!((&agent["input"], &agent["output"]), (&json!([question()]), &json!([answers()])));
    assert_eq!(tokens(agent), [179, 29, 208]);
    is_a_row_of_both_calls(&recording.row(), MODEL);
}

#[test]
fn the_crate_genai() {
    let recording = recording!("genai");
    let [first, mut second] = recording.answers("chat gpt-4o").try_into().unwrap();
    // Of a stream it knows the model that was asked for only.
    assert_eq!(second["model"], "gpt-4o");
    is_a_row_of_both_calls(&recording.row(), "gpt-4o");
    second["model"] = json!(MODEL);
    has_both_calls(&first, &second, MODEL);
    has_the_tool(&second);
}

#[test]
fn langfuse() {
    let recording = recording!("langfuse", "answer");
    let [first, second] = recording.answers("OpenAI-generation").try_into().unwrap();
    has_both_calls(&first, &second, MODEL);
    has_the_tool(&second);
    let row = recording.row();
    assert_eq!((&row["output"], &row["model"]), (&json!(ANSWER), &json!(MODEL)));
    assert_eq!(tokens(&row), [179, 29, 208]);
}

#[test]
fn strands_has_messages_as_events() {
    let recording = recording!("strands");
    let [first, second] = recording.answers("chat").try_into().unwrap();
    has_both_calls(&first, &second, "gpt-4o");
    assert_eq!(second["output"][0]["finish_reason"], "end_turn");
    is_of_the_tool(&recording.answers("execute_tool get_weather")[0], &json!("call_1"));
    let row = recording.row();
    assert_eq!((&row["input"], &row["system"]), (&json!("Weather in Paris?"), &json!("Be brief.")));
    assert_eq!(row["output"].as_str().unwrap().trim_end(), ANSWER);
    assert_eq!(
        (&row["agent"], tokens(&row)),
        (&json!("Forecaster"), [179, 29, 208].map(Json::from))
    );
}

#[test]
fn strands_has_the_details_of_a_call_as_events() {
    let recording = recording!("strands_latest");
    let [first, second] = recording.answers("chat").try_into().unwrap();
    has_both_calls_with(&first, &second, "gpt-4o", "user");
    is_of_the_tool(&recording.answers("execute_tool get_weather")[0], &json!("call_1"));
    has_the_tool(&recording.answers("invoke_agent Forecaster")[0]);
    let row = recording.row();
    assert_eq!((&row["input"], &row["system"]), (&json!("Weather in Paris?"), &json!("Be brief.")));
    assert_eq!(row["output"].as_str().unwrap().trim_end(), ANSWER);
    assert_eq!(row["tools"], json!(["get_weather"]));
}

#[test]
fn the_azure_client_has_messages_as_events() {
    let recording = recording!("azure_inference");
    let [first, second] = recording.answers("chat gpt-4o").try_into().unwrap();
    has_both_calls(&first, &second, MODEL);
    assert_eq!(second["output"][0]["finish_reason"], "stop");
    is_a_row_of_both_calls(&recording.row(), MODEL);
}
