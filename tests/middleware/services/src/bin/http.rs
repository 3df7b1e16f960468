//! `axum-tracing-opentelemetry` and `reqwest-tracing`.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use axum_tracing_opentelemetry::middleware::{OtelAxumLayer, OtelInResponseLayer};
use http::{Extensions, HeaderMap, HeaderName, StatusCode};
use opentelemetry::trace::{SpanKind, Status};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use reqwest_tracing::TracingMiddleware;
use services::{Rig, Way, answer, caller, continues, ids, is_child, named, text};
use tracing_feedback::web::{
    ClientAddress, FeedbackHttpLayer, FeedbackRoutes, TICKET_HEADER, feedback_routes,
};
use tracing_feedback::{TicketOptions, propagation};
use tracing_opentelemetry_instrumentation_sdk::{find_current_context, http::inject_context};

/// Writes the span of `TracingMiddleware` into the headers. It is added after that middleware, which has no feature
/// for OpenTelemetry 0.33 that does it.
struct Inject(Way);

#[async_trait::async_trait]
impl Middleware for Inject {
    async fn handle(
        &self,
        mut request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        match self.0 {
            Way::Kept => {}
            Way::Replaced => propagation::inject(request.headers_mut()),
            Way::Beside | Way::BesideReplaced => {
                inject_context(&find_current_context(), request.headers_mut())
            }
        }
        next.run(request, extensions).await
    }
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async { axum::serve(listener, service).await.unwrap() });
    url
}

#[derive(Clone)]
struct Downstream {
    client: ClientWithMiddleware,
    url: String,
}

/// Answers with a ticket, and with the header that the downstream service has received.
async fn ask(State(downstream): State<Downstream>, Path(id): Path<String>) -> String {
    let ticket = answer(&id);
    let got = downstream.client.get(&downstream.url).send().await.unwrap().text().await.unwrap();
    format!("{ticket} {got}")
}

async fn echo(headers: HeaderMap) -> String {
    let header = headers.get("traceparent");
    header.map(|header| header.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::main]
async fn main() {
    let way = Way::from_args();
    let rig = Rig::install(way);
    let client = ClientBuilder::new(reqwest::Client::new())
        .with(TracingMiddleware::default())
        .with(Inject(way))
        .build();
    let url = serve(Router::new().route("/", get(echo))).await;
    let router = Router::new()
        .route("/ask/{id}", get(ask))
        .route("/fails", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/health", get(async || "up"))
        .with_state(Downstream { client, url });
    let is_traced: fn(&str) -> bool = |path| path != "/health";
    let router = match way.is_replaced() {
        true => {
            let layer = FeedbackHttpLayer::new()
                .with_filter(is_traced)
                .with_query(true)
                .with_client_address(ClientAddress::Forwarded)
                .with_trace_header(HeaderName::from_static("traceparent"))
                .with_new_sessions(true)
                .with_tickets(TicketOptions::new());
            router.layer(layer)
        }
        false => {
            let layer = OtelAxumLayer::default().filter(is_traced).try_extract_client_ip(true);
            router.layer(OtelInResponseLayer).layer(layer)
        }
    };
    let url = serve(router.merge(feedback_routes(FeedbackRoutes::new()))).await;

    let browser = reqwest::Client::new();
    let send = |path: &str| {
        let request = browser.get(format!("{url}{path}")).header("traceparent", caller());
        request.header("x-forwarded-for", "192.0.2.1").header("user-agent", "browser/1").send()
    };
    let response = send("/ask/42?q=Albany").await.unwrap();
    let header = response.headers()["traceparent"].to_str().unwrap().to_owned();
    let server_ticket = response.headers().get(TICKET_HEADER).cloned();
    let body = response.text().await.unwrap();
    let (ticket, got) = body.split_once(' ').unwrap();
    assert_eq!(send("/fails").await.unwrap().status(), 500);
    assert_eq!(send("/health").await.unwrap().status(), 200);
    let vote = format!(r#"{{"ticket": "{ticket}", "feedback": {{"comment": "right"}}}}"#);
    let vote = browser.post(format!("{url}/feedback")).body(vote).send();
    assert_eq!(vote.await.unwrap().status(), 204);

    let spans = rig.spans(5);
    let (server, child) = (&spans["GET /ask/{id}"], &spans["answer"]);
    let (client, failed) = (&spans["GET"], &spans["GET /fails"]);
    // The server span.
    assert_eq!((server.kind.clone(), client.kind.clone()), (SpanKind::Server, SpanKind::Client));
    let mut expected = vec![
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "/ask/{id}"),
        ("url.path", "/ask/42"),
        ("url.query", "q=Albany"),
        ("server.address", "127.0.0.1"),
        ("user_agent.original", "browser/1"),
        ("network.protocol.version", "1.1"),
    ];
    if way.is_replaced() {
        assert!(server_ticket.is_some() && server.attribute("session.id").is_some());
        // `axum-tracing-opentelemetry` 0.42.1 has no `client.address`: its span doesn't declare the field.
        expected.push(("client.address", "192.0.2.1"));
        expected.push(("network.peer.address", "127.0.0.1"));
        expected.push(("url.scheme", "http"));
    }
    for (key, value) in expected {
        assert_eq!(text(server, key).as_deref(), Some(value), "{key}");
    }
    assert!(matches!(failed.status, Status::Error { .. }), "{failed:?}");
    assert_eq!(server.status, Status::Unset);
    assert!(server.attribute("server.port").is_some());
    assert!(is_child(child, server) && is_child(client, server));
    // With the caller's trace.
    assert_eq!(continues(server), way != Way::Kept);
    assert_eq!(continues(failed), way != Way::Kept);
    rig.assert_feedback(child);
    // The headers for the caller and for the downstream service.
    assert_eq!(named(&header), ids(server));
    match way {
        Way::Kept => assert_eq!(got, ""),
        _ => assert_eq!(named(got), ids(client)),
    }
    println!("http {way:?}: as the table says");
}
