//! The service over HTTP: of two answers one is judged, and the feedback arrives on its span.

use std::time::Duration;

use serde_json::{Value, json};
use tracing_feedback::TicketKeys;
use tracing_feedback::collector::{Collector, ReceivedSpan};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

const SOON: Duration = Duration::from_secs(20);

struct Page {
    http: reqwest::Client,
    service: String,
}

impl Page {
    async fn post(&self, path: &str, body: Value) -> reqwest::Response {
        let request = self.http.post(format!("{}{path}", self.service)).json(&body);
        request.send().await.unwrap().error_for_status().unwrap()
    }

    /// The answer to a question, and its ticket.
    async fn ask(&self, question: &str) -> (String, String) {
        let answer = self.post("/ask", json!({ "question": question })).await;
        let answer: Value = answer.json().await.unwrap();
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        (text("answer"), text("ticket"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thumb_is_about_the_answer_it_was_given_on() {
    let collector = Collector::start().unwrap();
    let (layer, telemetry) = tracing_feedback::builder()
        .with_endpoint(collector.endpoint())
        .with_ticket_keys(TicketKeys::new([[7; 32]]).unwrap())
        .build()
        .unwrap();
    tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)).init();
    let service = llm::service(llm::model::start().await.unwrap(), "none");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, service).await });
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = Page { http, service: address };

    // The page, and the module that its script imports.
    for path in ["/", "/page.js", "/feedback.js"] {
        let found = page.http.get(format!("{}{path}", page.service)).send().await.unwrap();
        assert_eq!(found.status(), 200, "{path}");
    }

    let (wrong, ticket) = page.ask("What is the capital of New York?").await;
    assert_eq!(wrong, "The capital of New York is New York City.");
    let (unknown, _) = page.ask("What is the capital of Atlantis?").await;
    assert_eq!(unknown, "I don't know.");
    page.post("/feedback", json!({ "ticket": ticket, "feedback": { "rating": false } })).await;

    tokio::task::spawn_blocking(move || {
        telemetry.shutdown().unwrap();
        // Of each question the span of the request, that of the answer, and the call of the model; and the feedback.
        let spans = collector.wait_for_spans(7, SOON).unwrap();
        let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
        let [judged, other] = named("answer").try_into().unwrap();
        assert_eq!(collector.feedback(judged.trace_id, judged.span_id)["feedback.rating"], false);
        assert!(collector.feedback(other.trace_id, other.span_id).is_empty());
        // The model was called below it, and its span has the conversation.
        let call: Vec<&ReceivedSpan> = named("chat");
        let call = call.iter().find(|call| call.parent_span_id == judged.span_id).unwrap();
        let text = |key: &str| call.attribute(key).unwrap().as_str().unwrap().to_owned();
        assert!(text("gen_ai.input.messages").contains("What is the capital of New York?"));
        assert!(text("gen_ai.output.messages").contains(&wrong));
        assert_eq!(text("gen_ai.response.model"), "gpt-4o-2024-08-06");
    })
    .await
    .unwrap();
}
