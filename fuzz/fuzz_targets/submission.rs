//! Any body of any type where browsers send feedback, and any feedback with a good ticket. Every one
//! is answered by a documented status, and what is refused by a problem that says nothing of secrets.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, header};
use libfuzzer_sys::fuzz_target;
use tower_service::Service;
use tracing_feedback::web::{FeedbackRoutes, TICKET_HEADER, feedback_routes};
use tracing_feedback::{SpanExt, Telemetry, TicketKeys};
use tracing_subscriber::prelude::*;

#[derive(Arbitrary, Debug)]
enum Input<'i> {
    /// Anyone's bytes.
    Body { content_type: Option<&'i [u8]>, ticket: Option<&'i [u8]>, body: &'i [u8] },
    /// Feedback, as text, with a good ticket.
    Feedback { feedback: &'i str, id: Option<&'i str> },
}

struct Rig {
    router: Router,
    ticket: String,
    dispatch: tracing::Dispatch,
    _telemetry: Telemetry,
}

static RIG: LazyLock<Rig> = LazyLock::new(|| {
    let keys = TicketKeys::new([[7; 32]]).expect("a key of 32 bytes");
    let (layer, telemetry) = tracing_feedback::builder()
        .with_exporter(Nowhere)
        .with_ticket_keys(keys)
        .with_ticket_budget(tracing_feedback::TicketBudget::new()
            .with_submissions(u32::MAX)
            .with_bytes(u64::MAX))
        .build()
        .expect("nothing was told that could be wrong");
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
    let ticket = tracing::dispatcher::with_default(&dispatch, || {
        tracing::info_span!("answer", session.id = "conversation-42").ticket()
    });
    let ticket = ticket.expect("a span and a key").to_string();
    let layer = tracing_feedback::web::FeedbackHttpLayer::new().with_new_sessions(true);
    let router = feedback_routes(FeedbackRoutes::new()).layer(layer);
    Rig { router, ticket, dispatch, _telemetry: telemetry }
});

#[derive(Debug)]
struct Nowhere;

impl opentelemetry_sdk::trace::SpanExporter for Nowhere {
    async fn export(
        &self,
        _: Vec<opentelemetry_sdk::trace::SpanData>,
    ) -> opentelemetry_sdk::error::OTelSdkResult {
        Ok(())
    }
}

fuzz_target!(|input: Input<'_>| {
    let Rig { router, ticket, dispatch, .. } = &*RIG;
    let mut request = Request::builder().method(Method::POST).uri("/feedback");
    let body = match input {
        Input::Body { content_type, ticket, body } => {
            if let Some(content_type) = content_type {
                request = request.header(header::CONTENT_TYPE, content_type);
            }
            if let Some(ticket) = ticket {
                request = request.header(TICKET_HEADER, ticket);
            }
            body.to_vec()
        }
        Input::Feedback { feedback, id } => {
            let id = serde_json::to_string(&id).expect("a text is JSON");
            format!(r#"{{"ticket":"{ticket}","id":{id},"feedback":{feedback}}}"#).into_bytes()
        }
    };
    let Ok(request) = request.body(Body::from(body)) else { return }; // no header has such bytes
    tracing::dispatcher::with_default(dispatch, || {
        let answer = futures_executor::block_on(async {
            let response = router.clone().call(request).await.expect("a router answers");
            let (parts, body) = response.into_parts();
            (parts, to_bytes(body, 1 << 20).await.expect("a body"))
        });
        let (parts, body) = answer;
        if parts.status == 204 {
            assert!(body.is_empty());
            return;
        }
        assert!([400, 403, 410, 413, 415, 422, 429, 503].contains(&parts.status.as_u16()), "{parts:?}");
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem");
        assert_eq!(problem["status"], parts.status.as_u16());
        assert!(problem["reason"].is_string() && problem["detail"].is_string());
        assert!(!problem.to_string().contains(ticket.as_str()));
    });
});
