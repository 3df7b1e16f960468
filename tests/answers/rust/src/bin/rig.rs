//! An agent of `rig`, with message contents in its spans, against the server of `../model_server.py`.

use std::convert::Infallible;

use rig::prelude::*;
use rig::providers::openai::{OpenAIConfig, Route};
use serde_json::{Value, json};
use tracing::Instrument as _;

#[derive(serde::Deserialize)]
struct Place {
    #[allow(dead_code)] // the weather is the same everywhere
    location: String,
}

struct GetWeather;

impl Tool for GetWeather {
    const NAME: &'static str = "get_weather";
    type Args = Place;
    type Output = String;
    type Error = Infallible;

    fn description(&self) -> String {
        "The weather of a place".to_owned()
    }

    fn parameters(&self) -> Value {
        json!({ "type": "object", "properties": { "location": { "type": "string" } }, "required": ["location"] })
    }

    async fn call(&self, _: &mut ToolContext, _: Place) -> Result<String, Infallible> {
        Ok("rainy, 14 °C".to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = tracing_feedback::init()?;
    let model = OpenAIConfig::from_env()?.with_route(Route::Chat).client().completion("gpt-4o");
    let agent = AgentBuilder::new(model)
        .name("Forecaster")
        .preamble("Be brief.")
        .tool(GetWeather)
        .record_content_telemetry(true)
        .build();
    let ask = async { agent.prompt("Weather in Paris?").max_turns(3).await };
    let answer = ask.instrument(tracing::info_span!("POST /ask")).await?;
    println!("{}", answer.output());
    // Where no span is open, the agent has one of its own.
    let answer = agent.prompt("Weather in Paris?").max_turns(3).await?;
    println!("{}", answer.output());
    telemetry.shutdown()?;
    Ok(())
}
