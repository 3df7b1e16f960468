//! A service that answers questions by a model, and takes thumbs for its answers. The agent is one of `rig`, whose spans
//! follow the GenAI semantic conventions: `feedback-desk` shows the conversation beside the feedback.

pub mod model;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rig::prelude::*;
use rig::providers::openai::{OpenAIConfig, Route};
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, info_span};
use tracing_feedback::web::{FeedbackHttpLayer, FeedbackRoutes, feedback_routes};
use tracing_feedback::{SpanExt as _, Ticket};

/// The service, asking the model `gpt-4o` of an OpenAI server at a base URL.
pub fn service(base_url: String, api_key: &str) -> Router {
    let mut config = OpenAIConfig::new(api_key).with_route(Route::Chat);
    config.base_url = base_url;
    let agent = AgentBuilder::new(config.client().completion("gpt-4o"))
        .name("guide")
        .preamble("Be brief.")
        // Questions and answers are in the spans. Off by default, for they may be private.
        .record_content_telemetry(true)
        .build();
    Router::new()
        .route("/ask", post(ask))
        // Opens server spans. A ticket that comes with a question brings the session of the answer before it.
        .layer(FeedbackHttpLayer::new().with_new_sessions(true))
        .merge(feedback_routes(FeedbackRoutes::new()))
        .route("/", get(async || Html(include_str!("index.html"))))
        .route(
            "/page.js",
            get(async || ([(header::CONTENT_TYPE, "text/javascript")], include_str!("page.js"))),
        )
        .with_state(Arc::new(agent))
}

#[derive(Deserialize)]
struct Question {
    question: String,
}

#[derive(Serialize)]
struct Answer {
    answer: String,
    /// A ticket: its holder may give feedback on this answer.
    ticket: Ticket,
}

async fn ask(
    State(agent): State<Arc<Agent>>,
    Json(Question { question }): Json<Question>,
) -> Result<Json<Answer>, Failed> {
    // Feedback is about this span; those of the agent's calls are below it.
    let span =
        info_span!("answer", gen_ai.operation.name = "invoke_agent", gen_ai.agent.name = "guide");
    let prompt = async { agent.prompt(question).await };
    let answer = prompt.instrument(span.clone()).await?.output().to_owned();
    Ok(Json(Answer { answer, ticket: span.ticket()? }))
}

/// Anything that went wrong, as a sentence.
struct Failed(String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::BAD_GATEWAY, self.0).into_response()
    }
}
