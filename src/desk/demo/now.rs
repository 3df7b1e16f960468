//! One conversation of this moment, by the layer and the macros, as a service would write it.

use std::thread::sleep;
use std::time::Duration;

use opentelemetry::trace::SpanContext;
use tracing::{dispatcher, info, info_span};

use super::DemoError;
use super::random::DemoIds;
use super::service::Service;
use super::texts::{MARKUP, TOPICS, Topic};
use crate::{SpanExt, enrich_session, enrich_span};

/// The number of requests.
const TURNS: usize = 3;

pub(super) fn happen(
    service: &Service,
    ids: &DemoIds,
    (seed, today): (u64, u64),
) -> Result<usize, DemoError> {
    ids.begin([seed, today, DemoIds::OF_NOW]);
    let session = format!("demo-{today}-now");
    dispatcher::with_default(&service.dispatch, || conversation(&session))?;
    Ok(TURNS)
}

fn conversation(session: &str) -> Result<(), DemoError> {
    let mut answers = Vec::with_capacity(TURNS);
    for (topic, is_right) in TOPICS.iter().zip([true, true, false]).take(TURNS) {
        answers.push(answer(session, topic, is_right)?);
    }
    // Late feedback, to a span that has ended. With an id it is the same when it is sent again.
    let [returns, order, capital] = answers.as_slice() else { return Ok(()) };
    enrich_span!(target = returns, id = "demo-1", feedback = { "rating": true, "stars": 5 })
        .into_result()?;
    enrich_span!(target = order, id = "demo-2", feedback = { "rating": false }).into_result()?;
    enrich_span!(
        target = order,
        id = "demo-3",
        feedback = { "rating": true, "comment": "Sorry, you were right about Thursday.", "copied": true }
    )
    .into_result()?;
    enrich_span!(
        target = capital,
        id = "demo-4",
        feedback = {
            "rating": false,
            "stars": 1,
            "comment": MARKUP,
            "edits": [{ "value": "The capital of New York is Albany.", "seconds": 12 }],
        },
        metrics = { "score": 0.12, "grounded": false, "latency_bucket": "under 1 s" }
    )
    .into_result()?;
    Ok(())
}

fn answer(session: &str, topic: &Topic, is_right: bool) -> Result<SpanContext, DemoError> {
    let span = info_span!(
        "answer",
        otel.kind = "server",
        session.id = session,
        user.id = "u-17",
        http.route = "/chat",
        http.request.method = "POST",
        http.response.status_code = 200,
    );
    let context = span.span_context()?;
    span.in_scope(|| {
        let work = |milliseconds| sleep(Duration::from_millis(milliseconds));
        info_span!("retrieve", otel.kind = "client", retrieval.documents = 6).in_scope(|| work(9));
        info_span!("rerank", rerank.kept = 4).in_scope(|| work(2));
        if let Some(tool) = topic.tool {
            info_span!("execute_tool", gen_ai.tool.name = tool).in_scope(|| work(12));
        }
        info_span!("chat demo-model", otel.kind = "client", gen_ai.request.model = "demo-model")
            .in_scope(|| {
                work(30);
                info!("the answer is written");
            });
        let text = if is_right { topic.right } else { topic.wrong };
        enrich_span!(
            inputs = { "question": topic.question },
            outputs = { "answer": text },
            user_properties = { "user_id": "u-17", "plan": "plus" }
        )
        .into_result()?;
        if !is_right {
            enrich_span!(feedback = { "ground_truth": topic.right }).into_result()?;
            // About the whole conversation, so far.
            enrich_session!(feedback = { "solved": false, "stars": 3 }).into_result()?;
        }
        Ok(context)
    })
}
