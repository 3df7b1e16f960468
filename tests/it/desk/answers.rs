//! What an answer was: spans of each convention, as lists, traces and files show them.

mod recorded;

use serde_json::{Value as Json, json};

use super::*;

/// The conventions, and the trace that each file has.
const CONVENTIONS: [(&str, u64, &str); 6] = [
    ("semantic conventions", 0x11, include_str!("answers/semantic_conventions.json")),
    ("structured", 0x12, include_str!("answers/semantic_conventions_structured.json")),
    ("OpenInference", 0x13, include_str!("answers/openinference.json")),
    ("OpenLLMetry", 0x14, include_str!("answers/openllmetry.json")),
    ("AI SDK", 0x15, include_str!("answers/ai_sdk.json")),
    ("Langfuse", 0x16, include_str!("answers/langfuse.json")),
];

fn with_all() -> Rig {
    let rig = Rig::new();
    for (_, _, request) in CONVENTIONS {
        post(&rig.desk.http_endpoint().unwrap(), &serde_json::from_str(request).unwrap());
    }
    rig
}

/// The answer of the span that has this name.
fn answer_of(rig: &Rig, trace: u64, name: &str) -> Json {
    let trace = rig.get(&format!("/api/v1/traces/{trace:032x}"));
    let spans = trace["spans"].as_array().unwrap();
    spans.iter().find(|span| span["name"] == name).unwrap()["answer"].clone()
}

fn text(text: &str) -> Json {
    json!([{ "type": "text", "text": text }])
}

/// The row of the data set about a trace.
fn row(rig: &Rig, trace: u64) -> Json {
    let rows = rig.get("/api/v1/dataset")["rows"].clone();
    let id = format!("{trace:032x}");
    rows.as_array().unwrap().iter().find(|row| row["trace_id"] == *id).unwrap().clone()
}

#[test]
fn a_trace_has_the_same_conversation_by_each_convention() {
    let rig = with_all();
    let names = [
        "chat gpt-4o",
        "chat gpt-4o",
        "ChatCompletion",
        "openai.chat",
        "ai.generateText.doGenerate",
        "answer",
    ];
    for ((convention, trace, _), name) in CONVENTIONS.into_iter().zip(names) {
        let answer = answer_of(&rig, trace, name);
        assert_eq!(answer["system"], text("Be brief."), "{convention}");
        let input = answer["input"].as_array().unwrap();
        let roles: Vec<_> = input.iter().map(|message| &message["role"]).collect();
        assert_eq!(roles, ["user", "assistant", "tool"], "{convention}");
        assert_eq!(input[0]["parts"], text("Weather in Paris?"), "{convention}");
        let call = input[1]["parts"].as_array().unwrap().last().unwrap();
        let expected = json!({ "type": "tool_call", "id": "call_1", "name": "get_weather",
                               "arguments": { "location": "Paris" } });
        assert_eq!(*call, expected, "{convention}");
        let result = &input[2]["parts"][0];
        assert_eq!(result["type"], "tool_result", "{convention}");
        assert_eq!(result["id"], "call_1", "{convention}");
        assert_eq!(result["result"], "rainy, 14 °C", "{convention}");
        assert_eq!(answer["output"][0]["role"], "assistant", "{convention}");
        assert_eq!(answer["output"][0]["parts"], text("It rains in Paris, at 14 °C."));
        assert_eq!(answer["output"].as_array().unwrap().len(), 1, "{convention}");
        assert_eq!(answer["model"], "gpt-4o-2024-08-06", "{convention}");
        let tokens = ["input_tokens", "output_tokens", "total_tokens"].map(|key| &answer[key]);
        assert_eq!(tokens, [&json!(97), &json!(12), &json!(109)], "{convention}");
        if convention != "Langfuse" {
            assert_eq!(answer["tools"][0]["name"], "get_weather", "{convention}");
            assert_eq!(answer["tools"][0]["description"], "The weather of a place", "{convention}");
            assert_eq!(answer["tools"][0]["parameters"]["type"], "object", "{convention}");
        }
        assert_eq!(answer["cut"], false);
        // The span of the request has no attributes of an answer.
        assert_eq!(answer_of(&rig, trace, "POST /ask"), Json::Null);
    }
    let reasoning = answer_of(&rig, 0x11, "chat gpt-4o")["input"][1]["parts"][0].clone();
    assert_eq!(reasoning, json!({ "type": "reasoning", "text": "I need the tool." }));
    assert_eq!(answer_of(&rig, 0x11, "chat gpt-4o")["output"][0]["finish_reason"], "stop");
    assert_eq!(answer_of(&rig, 0x11, "chat gpt-4o")["agent"], "Forecaster");
}

#[test]
fn a_span_of_a_tool_has_its_call_and_result() {
    let rig = with_all();
    for (trace, name, id) in [
        (0x11, "execute_tool get_weather", json!("call_1")),
        (0x13, "get_weather", Json::Null),
        (0x15, "ai.toolCall", json!("call_1")),
    ] {
        let answer = answer_of(&rig, trace, name);
        let call = json!({ "type": "tool_call", "id": id, "name": "get_weather",
                           "arguments": { "location": "Paris" } });
        assert_eq!(answer["input"][0]["parts"], json!([call]));
        let result = &answer["output"][0]["parts"][0];
        assert_eq!(
            (&result["type"], &result["name"]),
            (&json!("tool_result"), &json!("get_weather"))
        );
    }
    let answer = answer_of(&rig, 0x11, "execute_tool get_weather");
    assert_eq!(answer["output"][0]["parts"][0]["result"], json!({ "sky": "rain", "celsius": 14 }));
    // By OpenLLMetry it is a function with arguments.
    let answer = answer_of(&rig, 0x14, "get_weather.tool");
    let expected = json!([{ "type": "other", "kind": null,
                            "value": { "args": [], "kwargs": { "location": "Paris" } } }]);
    assert_eq!(answer["input"], json!([{ "role": null, "parts": expected }]));
}

#[test]
fn feedback_about_a_request_has_the_answer_of_the_model_below_it() {
    let rig = with_all();
    assert_eq!(rig.get("/api/v1/dataset")["total"], CONVENTIONS.len());
    for (convention, trace, _) in CONVENTIONS {
        let row = row(&rig, trace);
        assert_eq!(row["output"], "It rains in Paris, at 14 °C.", "{convention}");
        assert_eq!(row["system"], "Be brief.", "{convention}");
        match convention {
            // Of its two spans the outer one is the answer.
            "AI SDK" => {
                assert_eq!(row["input"], "Weather in Paris?");
                assert_eq!((&row["model"], &row["total_tokens"]), (&json!("gpt-4o"), &json!(190)));
            }
            _ => {
                assert_eq!(row["input"].as_array().unwrap().len(), 3, "{convention}");
                assert_eq!(row["model"], "gpt-4o-2024-08-06", "{convention}");
                assert_eq!(row["input_tokens"], 97, "{convention}");
                assert_eq!(row["output_tokens"], 12, "{convention}");
            }
        }
    }
    let comments = "/api/v1/comments?field=feedback.comment";
    rig.send([carrier((0x14, 1), 9, NEW_YEAR + HOUR).with("feedback.comment", "Wet")]);
    let comment = rig.get(comments)["rows"][0].clone();
    assert_eq!((&comment["text"], &comment["model"]), (&json!("Wet"), &json!("gpt-4o-2024-08-06")));
    assert_eq!(comment["output"], "It rains in Paris, at 14 °C.");
}

#[test]
fn an_export_has_columns_for_the_answer() {
    let rig = with_all();
    let export = |format: &str| {
        get(&rig.desk.address(), &format!("/api/v1/export/dataset?format={format}"), &[]).text()
    };
    let csv = export("csv");
    let head = csv.lines().next().unwrap();
    assert!(
        head.contains(
            "system,input,output,model,agent,input_tokens,output_tokens,total_tokens,tools"
        )
    );
    assert_eq!(csv.matches(",gpt-4o-2024-08-06,").count(), 5, "{csv}");
    assert_eq!(csv.matches(",97,12,109,").count(), 5, "{csv}");
    let rows: Vec<Json> =
        export("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = rows.iter().find(|row| row["trace_id"] == *format!("{:032x}", 0x11)).unwrap();
    assert_eq!(first["input"][1]["parts"][1]["arguments"], json!({ "location": "Paris" }));
    assert_eq!(first["tools"], json!(["get_weather"]));
    assert_eq!(first["total_tokens"], 109);
}

#[test]
fn inputs_and_outputs_of_a_document_come_before_attributes() {
    let rig = Rig::new();
    rig.send([
        span("ask", 1, 1, NEW_YEAR)
            .with("feedback.rating", true)
            .with("outputs.answer", "Shown to the user")
            .with("gen_ai.prompt.0.role", "user")
            .with("gen_ai.prompt.0.content", "42")
            .with("gen_ai.completion.0.content", "Raw"),
        // Feedback about a span beside the model's: the answer is that of the trace.
        span("render", 1, 2, NEW_YEAR + 1).child_of(1).with("feedback.stars", 3),
    ]);
    let rows = rig.get("/api/v1/dataset")["rows"].clone();
    assert_eq!(rows[1]["output"], "Shown to the user");
    assert_eq!(rows[1]["input"], "42");
    assert_eq!(rows[0]["input"], "42");
    // What was retracted is no output any more.
    rig.send([
        carrier((1, 1), 9, NEW_YEAR + HOUR).with("tracing_feedback.cleared", json!(["outputs"]))
    ]);
    assert_eq!(rig.get("/api/v1/dataset")["rows"][1]["output"], "Raw");
}

#[test]
fn tokens_of_several_calls_are_added_and_the_last_has_the_conversation() {
    let rig = Rig::new();
    let call = |id: u64, text: &str, tokens: u64| {
        span("chat", 1, id, NEW_YEAR + id)
            .child_of(1)
            .with("gen_ai.request.model", "m")
            .with("gen_ai.completion.0.content", text)
            .with("gen_ai.usage.input_tokens", tokens)
            .with("gen_ai.usage.output_tokens", 1)
    };
    rig.send([
        span("ask", 1, 1, NEW_YEAR).with("feedback.rating", true),
        call(2, "first", 10),
        call(3, "last", 20),
        span("execute_tool", 1, 4, NEW_YEAR + 4)
            .child_of(1)
            .with("gen_ai.tool.name", "save")
            .with("gen_ai.tool.call.result", "saved"),
    ]);
    let row = &rig.get("/api/v1/dataset")["rows"][0];
    assert_eq!((&row["output"], &row["model"]), (&json!("last"), &json!("m")));
    assert_eq!((&row["input_tokens"], &row["total_tokens"]), (&json!(30), &json!(32)));
}

#[test]
fn a_model_is_a_filter_and_a_group() {
    let rig = Rig::new();
    rig.send((1..=6_u64).map(|id| {
        span(&format!("t{id}"), id, 1, NEW_YEAR + id)
            .with("gen_ai.request.model", if id % 2 == 0 { "large" } else { "small" })
            .with("feedback.stars", id)
    }));
    assert_eq!(rig.names("filter=gen_ai.request.model+is+large"), ["t6", "t4", "t2"]);
    let chart =
        rig.get("/api/v1/chart?field=feedback.stars&measure=sum&group=gen_ai.request.model");
    let groups = chart["groups"].as_array().unwrap();
    let sums: Vec<_> =
        groups.iter().map(|group| (&group["group"], &group["overall"]["sum"])).collect();
    assert_eq!(sums, [(&json!("large"), &json!(12.0)), (&json!("small"), &json!(9.0))]);
}

#[test]
fn the_model_is_one_field_over_all_conventions() {
    let rig = with_all();
    rig.send([span("no model", 1, 1, NEW_YEAR).with("feedback.rating", true)]);
    let names = |filter: &str| rig.names(&format!("filter={filter}")).len();
    // By the AI SDK the first span has the model that was asked for.
    assert_eq!(names("answer.model+is+gpt-4o-2024-08-06"), 6);
    assert_eq!(names("answer.model+is+gpt-4o"), 1);
    assert_eq!(names("answer.model+contains+GPT"), 6);
    assert_eq!(names("has+answer.model"), 6);
    assert_eq!(rig.names("filter=has+no+answer.model"), ["no model"]);
    let values = rig.get("/api/v1/values?field=answer.model");
    let expected =
        json!([{ "value": "gpt-4o-2024-08-06", "count": 5 }, { "value": "gpt-4o", "count": 1 }]);
    assert_eq!(values["rows"], expected);
    let chart = rig.get("/api/v1/chart?field=feedback.rating&group=answer.model");
    let groups: Vec<_> = chart["groups"].as_array().unwrap().iter().collect();
    let groups: Vec<_> =
        groups.iter().map(|group| (&group["group"], &group["overall"]["count"])).collect();
    let expected = [(json!("gpt-4o-2024-08-06"), 5.0), (Json::Null, 1.0), (json!("gpt-4o"), 1.0)];
    assert_eq!(groups.len(), 3);
    for ((group, count), (expected, values)) in groups.into_iter().zip(&expected) {
        assert_eq!((group, count), (expected, &json!(values)), "{chart}");
    }
    let fields = rig.get("/api/v1/fields?search=answer.");
    let fields: Vec<_> =
        fields["rows"].as_array().unwrap().iter().map(|row| &row["field"]).collect();
    let expected =
        ["answer.model", "answer.tokens.input", "answer.tokens.output", "answer.tokens.total"];
    assert_eq!(fields, expected);
}

#[test]
fn tokens_are_numbers_of_a_chart() {
    let rig = with_all();
    rig.send([span("no tokens", 1, 1, NEW_YEAR).with("feedback.rating", true)]);
    let chart = |query: &str| rig.get(&format!("/api/v1/chart?field=answer.tokens.{query}"));
    let total = chart("total&measure=count,sum,max,percentage%3E150&bucket=day");
    assert_eq!((&total["type"], &total["values"]), (&json!("number"), &json!(6)), "{total}");
    // The outer span of the AI SDK has the sum of those below it, which count once.
    let expected =
        json!({ "count": 6.0, "sum": 735.0, "max": 190.0, "percentage>150": 100.0 / 6.0 });
    assert_eq!(total["total"]["overall"], expected);
    assert_eq!(chart("input")["total"]["overall"]["min"], 97.0);
    assert_eq!(chart("output&measure=sum")["total"]["overall"]["sum"], 90.0);
    let groups = chart("input&measure=sum&group=answer.model");
    assert_eq!(groups["groups"][0]["overall"]["sum"], 485.0, "{groups}");
    let filtered = chart("total&measure=sum&filter=answer.model+is+gpt-4o");
    assert_eq!(filtered["total"]["overall"]["sum"], 190.0);
    assert_eq!(rig.names("filter=answer.tokens.total+%3E+150").len(), 1);
    // The traces of a chart.
    assert_eq!(rig.names("field=answer.tokens.input").len(), 6);
    assert_eq!(rig.names("field=answer.tokens.input&filter=answer.model+is+gpt-4o").len(), 1);
    assert_eq!(rig.names("filter=has+no+answer.tokens.total"), ["no tokens"]);
    // A chart is of numbers, and of leaves or tokens.
    assert!(
        rig.error("/api/v1/chart?field=answer.tokens.total&measure=percent-true")
            .contains("number")
    );
    assert!(rig.error("/api/v1/chart?field=answer.model").contains("answer.tokens.input"));
}

#[test]
fn a_conversation_is_a_session_where_no_session_is_named() {
    let rig = with_all();
    let session =
        |trace: u64| rig.get(&format!("/api/v1/traces/{trace:032x}"))["session_id"].clone();
    assert_eq!(session(0x11), "conv-11");
    assert_eq!(session(0x16), "lf-16");
    assert_eq!(session(0x12), Json::Null);
    assert_eq!(rig.get("/api/v1/sessions")["total"], 2);
    assert_eq!(rig.get("/api/v1/sessions/conv-11")["traces"], 1);
    assert_eq!(rig.names("filter=session.id+is+lf-16"), ["POST /ask"]);
    assert_eq!(row(&rig, 0x11)["session_id"], "conv-11");

    let with = |trace: u64, keys: &[(&str, &str)]| {
        let bare = span("ask", trace, 1, NEW_YEAR);
        keys.iter().fold(bare, |span, (key, value)| span.with(key, *value))
    };
    let all = [("langfuse.session.id", "l"), ("gen_ai.conversation.id", "g"), ("session.id", "s")];
    rig.send([
        with(1, &all),
        with(2, &all[..2]),
        with(3, &[("session.id", ""), ("gen_ai.conversation.id", "g")]),
    ]);
    assert_eq!([1, 2, 3].map(session), ["s", "g", "g"]);
    // Feedback about the session as a whole, and a trace of which two spans name different ones.
    rig.send([carrier((9, 9), 9, NEW_YEAR + HOUR)
        .with("tracing_feedback.scope", "session")
        .with("session.id", "g")
        .with("feedback.stars", 4)]);
    let found = rig.get("/api/v1/sessions/g");
    assert_eq!((&found["traces"], &found["feedback"][0]["value"]), (&json!(2), &json!(4)));
    let mut earlier = with(2, &[("gen_ai.conversation.id", "earlier")]);
    earlier.json["spanId"] = Json::from(format!("{:016x}", 5));
    earlier.json["startTimeUnixNano"] = Json::from((NEW_YEAR - SECOND).to_string());
    rig.send([earlier]);
    assert_eq!(session(2), "earlier");
}
