//! The crate `genai` with its feature `otel`, against the server of `../model_server.py`. Message contents are in its spans
//! if `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` is `true`.

use futures::StreamExt as _;
use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, ChatOptions, ChatRequest, ChatStreamEvent, Tool, ToolResponse};
use genai::otel::agent::ExecuteToolSpan;
use genai::resolver::{AuthData, Endpoint, ServiceTargetResolver};
use genai::{Client, ModelIden, ServiceTarget};
use serde_json::json;
use tracing::Instrument as _;

const MODEL: &str = "gpt-4o";

async fn ask(client: &Client) -> Result<String, Box<dyn std::error::Error>> {
    let tool = Tool::new("get_weather").with_description("The weather of a place").with_schema(json!({
        "type": "object", "properties": { "location": { "type": "string" } }, "required": ["location"],
    }));
    let request = ChatRequest::from_system("Be brief.")
        .append_message(ChatMessage::user("Weather in Paris?"))
        .with_tools(vec![tool]);
    let calls = client.exec_chat(MODEL, request.clone(), None).await?.into_tool_calls();
    let call = calls.first().ok_or("no call of a tool")?;
    let span = ExecuteToolSpan::new(&call.fn_name).with_call_id(&call.call_id).start();
    let result = span.in_scope(|| ToolResponse::new(call.call_id.clone(), "rainy, 14 °C"));
    drop(span);
    let request = request.append_message(calls).append_message(result);
    let options = ChatOptions::default().with_capture_usage(true).with_capture_content(true);
    let mut stream = client.exec_chat_stream(MODEL, request, Some(&options)).await?.stream;
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        if let ChatStreamEvent::Chunk(chunk) = event? {
            text += &chunk.content;
        }
    }
    Ok(text)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = tracing_feedback::init()?;
    let base = std::env::var("OPENAI_BASE_URL")? + "/";
    let resolver = ServiceTargetResolver::from_resolver_fn(move |target: ServiceTarget| {
        let model = ModelIden::new(AdapterKind::OpenAI, target.model.model_name);
        let endpoint = Endpoint::from_owned(base.clone());
        Ok(ServiceTarget { endpoint, auth: AuthData::from_single("none"), model })
    });
    let client = Client::builder().with_service_target_resolver(resolver).build()?;
    println!("{}", ask(&client).instrument(tracing::info_span!("POST /ask")).await?);
    telemetry.shutdown()?;
    Ok(())
}
