//! The edge of a service over real HTTP: traces and sessions come in, tickets go out, feedback
//! comes back.

use std::net::TcpListener;
use std::time::Duration;

use axum::extract::Path;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use axum::{Json, Router};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceId, TracerProvider};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor};
use reqwest::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, ETAG, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;
use tracing_feedback::collector::{Answer, ReceivedSpan};
use tracing_feedback::web::{
    ClientAddress, FeedbackHttpLayer, FeedbackRoutes, TICKET_HEADER, feedback_routes,
};
use tracing_feedback::{
    Session, SpanExt, Ticket, TicketError, TicketKeys, TicketOptions, enrich_span,
};
use tracing_subscriber::prelude::*;

use crate::Rig;
use crate::outbox::Directory;
use crate::rig::is_alone;
use crate::show::{one, status};

/// A service on a loopback port, until it is dropped.
pub(crate) struct Service {
    url: String,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Service {
    /// Runs in the subscriber of `rig`.
    pub(crate) fn start(rig: &Rig, router: Router) -> Self {
        Self::within(rig.dispatch.clone(), router)
    }

    pub(crate) fn within(dispatch: Dispatch, router: Router) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let router = router.layer(from_fn(move |request: axum::extract::Request, next: Next| {
            next.run(request).with_subscriber(dispatch.clone())
        }));
        runtime.spawn(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        // A client of `reqwest` needs a TLS provider, even if it never uses TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { url, runtime, client: reqwest::Client::new() }
    }

    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.runtime.block_on(request.body(body.to_owned()).send()).unwrap()
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send(Method::GET, path, headers, "")
    }

    pub(crate) fn submit(&self, submission: &Value) -> (StatusCode, Value) {
        self.post(&submission.to_string(), &[("content-type", "application/json")])
    }

    /// Status and body, a problem unless it was taken.
    pub(crate) fn post(&self, body: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
        let response = self.send(Method::POST, "/feedback", headers, body);
        let status = response.status();
        let is_busy =
            [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        assert_eq!(response.headers().contains_key(RETRY_AFTER), is_busy, "{response:?}");
        if status == StatusCode::NO_CONTENT {
            return (status, Value::Null);
        }
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body = self.runtime.block_on(response.text()).unwrap();
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], status.as_u16());
        (status, problem)
    }
}

fn keys() -> TicketKeys {
    TicketKeys::new([[7; 32]]).unwrap()
}

fn rig() -> Rig {
    Rig::with(|builder| builder.with_ticket_keys(keys()).with_session_propagation(true))
}

fn answering(layer: FeedbackHttpLayer) -> Router {
    let router = Router::new()
        .route("/answer/{id}", get(async |Path(id): Path<u32>| format!("answer {id}")))
        .route("/fails", get(async || StatusCode::BAD_GATEWAY));
    router.layer(layer)
}

/// The spans of the server, once they have arrived.
fn served(rig: &Rig) -> Vec<ReceivedSpan> {
    rig.telemetry.flush().unwrap();
    let spans = rig.collector.spans();
    spans.into_iter().filter(|span| span.kind == SpanKind::Server).collect()
}

fn ticket_of(response: &Response) -> String {
    response.headers()[TICKET_HEADER.as_str()].to_str().unwrap().to_owned()
}

#[test]
fn a_request_continues_its_callers_trace_in_a_server_span() {
    let rig = rig();
    let service = Service::start(&rig, answering(FeedbackHttpLayer::new()));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", traceparent), ("user-agent", "browser/1")];
    assert_eq!(service.get("/answer/42?token=secret", &headers).status(), StatusCode::OK);

    rig.telemetry.flush().unwrap();
    let span = one(&rig.collector, "GET /answer/{id}");
    assert_eq!(span.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span.parent_span_id, SpanId::from(0xb7ad_6b71_6920_3331));
    let port = service.url.rsplit(':').next().unwrap().parse::<i64>().unwrap();
    let expected = json!({
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/answer/{id}",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.path": "/answer/42",
        "url.scheme": "http",
        "user_agent.original": "browser/1",
    });
    for (key, value) in expected.as_object().unwrap() {
        let expected = match value {
            Value::Number(number) => number.to_string(),
            value => value.as_str().unwrap().to_owned(),
        };
        assert_eq!(span.attributes[key.as_str()].to_string().trim_matches('"'), expected, "{key}");
    }
    assert!(!format!("{span:?}").contains("secret"));
    assert_eq!(status(&span), "unset");
}

#[test]
fn a_public_endpoint_begins_a_trace_and_links_to_what_the_caller_claims() {
    let rig = rig();
    let layer = FeedbackHttpLayer::new().with_public_endpoint(true);
    let service = Service::start(&rig, answering(layer));
    // Not sampled, if it were for the caller to say.
    let claimed = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let headers = [("traceparent", claimed), ("baggage", "session.id=claimed")];
    assert_eq!(service.get("/answer/1", &headers).status(), StatusCode::OK);
    assert_eq!(service.get("/answer/2", &[("traceparent", "garbage")]).status(), StatusCode::OK);

    let [first, second] = served(&rig).try_into().unwrap();
    assert_ne!(first.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(first.parent_span_id, SpanId::INVALID);
    assert_eq!(first.flags & 1, 1, "sampled by this service's sampler");
    assert!(first.attribute("session.id").is_none());
    let links: Vec<_> = first.links.iter().map(|link| (link.trace_id, link.span_id)).collect();
    let named = (
        TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap(),
        SpanId::from_hex("b7ad6b7169203331").unwrap(),
    );
    assert_eq!(links, [named]);
    assert_eq!((second.parent_span_id, second.links.len()), (SpanId::INVALID, 0));
}

#[test]
fn errors_of_the_server_are_its_spans_and_those_of_clients_are_not() {
    let rig = rig();
    let service = Service::start(&rig, answering(FeedbackHttpLayer::new()));
    service.get("/fails", &[]);
    service.get("/answer/none", &[]);
    service.send(Method::from_bytes(b"BREW").unwrap(), "/answer/1", &[], "");
    rig.telemetry.flush().unwrap();
    let failed = one(&rig.collector, "GET /fails");
    assert_eq!(failed.attributes["error.type"], "502");
    assert!(status(&failed).starts_with("error"), "{}", status(&failed));
    let refused = one(&rig.collector, "GET /answer/{id}");
    assert_eq!(refused.attributes["http.response.status_code"], 400);
    assert_eq!(status(&refused), "unset");
    let other = one(&rig.collector, "_OTHER /answer/{id}");
    assert_eq!(other.attributes["http.request.method_original"], "BREW");
}

#[test]
fn a_path_that_is_filtered_out_passes_as_if_the_layer_were_not_there() {
    let rig = rig();
    let layer = FeedbackHttpLayer::new()
        .with_filter(|path| path != "/fails")
        .with_new_sessions(true)
        .with_tickets(TicketOptions::new())
        .with_trace_header("traceresponse".parse().unwrap());
    let service = Service::start(&rig, answering(layer));
    let filtered = service.get("/fails?a=b", &[]);
    assert_eq!(filtered.status(), StatusCode::BAD_GATEWAY);
    assert!(!filtered.headers().contains_key(TICKET_HEADER.as_str()));
    assert!(!filtered.headers().contains_key("traceresponse"));
    let answer = service.get("/answer/1", &[]);
    let [span] = served(&rig).try_into().unwrap();
    assert_eq!(span.name, "GET /answer/{id}");
    let named = format!("00-{}-{}-01", span.trace_id, span.span_id);
    assert_eq!(answer.headers()["traceresponse"], named);
}

#[test]
fn the_clients_address_is_that_of_the_connection_or_of_trusted_proxies() {
    let proxied = [("forwarded", "for=\"[2001:db8::7]:4711\";proto=https, for=192.0.2.1")];
    let named = [("x-forwarded-for", "unknown, 192.0.2.1")];
    type Case<'a> = (ClientAddress, &'a [(&'a str, &'a str)], Option<&'a str>);
    let cases: [Case<'_>; 6] = [
        (ClientAddress::Omitted, &proxied, None),
        (ClientAddress::Peer, &proxied, Some("127.0.0.1")),
        (ClientAddress::Forwarded, &proxied, Some("2001:db8::7")),
        (
            ClientAddress::Forwarded,
            &[("x-forwarded-for", "192.0.2.9, 192.0.2.1")],
            Some("192.0.2.9"),
        ),
        (ClientAddress::Forwarded, &named, None),
        (ClientAddress::Forwarded, &[], Some("127.0.0.1")),
    ];
    for (which, headers, expected) in cases {
        let rig = rig();
        let router = answering(FeedbackHttpLayer::new().with_client_address(which));
        // What `into_make_service_with_connect_info` does, which `Service` doesn't use.
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 4711));
        let router = router.layer(axum::Extension(axum::extract::ConnectInfo(peer)));
        Service::start(&rig, router).get("/answer/1", headers);
        let [span] = served(&rig).try_into().unwrap();
        let text =
            |key| span.attribute(key).map(|value| value.to_string().trim_matches('"').to_owned());
        assert_eq!(text("client.address").as_deref(), expected, "{which:?} {headers:?}");
        let peer = (which != ClientAddress::Omitted).then(|| "127.0.0.1".to_owned());
        assert_eq!(text("network.peer.address"), peer);
        assert_eq!(text("network.peer.port"), peer.map(|_| "4711".to_owned()));
    }
}

#[test]
fn the_query_is_sent_by_choice_and_without_credentials() {
    let rig = rig();
    let layer = FeedbackHttpLayer::new().with_query(true);
    let service = Service::start(&rig, answering(layer));
    service.get("/answer/1?q=Albany&sig=secret&X-Amz-Signature=secret&flag", &[]);
    let [span] = served(&rig).try_into().unwrap();
    let query = &span.attributes["url.query"];
    assert_eq!(*query, "q=Albany&sig=REDACTED&X-Amz-Signature=REDACTED&flag");
}

/// A service of gRPC that fails as the request's metadata says.
struct Chat;

#[tonic::async_trait]
impl TraceService for Chat {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        enrich_span!(feedback = { "asked": true });
        match request.metadata().get("fails").map(|code| code.to_str().unwrap()) {
            Some("internal") => Err(tonic::Status::internal("no model")),
            Some(_) => Err(tonic::Status::not_found("no such answer")),
            None => Ok(tonic::Response::new(ExportTraceServiceResponse::default())),
        }
    }
}

#[test]
fn a_request_of_grpc_has_a_span_of_its_method_and_the_status_of_its_error() {
    let rig = rig();
    let routes = tonic::service::Routes::new(TraceServiceServer::new(Chat));
    let router = routes.into_axum_router().layer(FeedbackHttpLayer::new());
    let service = Service::start(&rig, router);
    service.runtime.block_on(async {
        let mut client = TraceServiceClient::connect(service.url.clone()).await.unwrap();
        for fails in [None, Some("internal"), Some("not_found")] {
            let mut request = tonic::Request::new(ExportTraceServiceRequest::default());
            let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
            if let Some(code) = fails {
                request.metadata_mut().insert("fails", code.parse().unwrap());
            }
            assert_eq!(client.export(request).await.is_err(), fails.is_some());
        }
    });
    service.get("/no.such.Service/Method", &[("content-type", "application/grpc")]);

    let spans = served(&rig);
    let method = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let of_method: Vec<_> = spans.iter().filter(|span| span.name == method).collect();
    let seen: Vec<_> = of_method
        .iter()
        .map(|span| {
            assert_eq!(span.attributes["rpc.system.name"], "grpc");
            assert_eq!(span.attributes["rpc.method"], method);
            assert_eq!(span.attributes["server.address"], "127.0.0.1");
            assert_eq!(span.attributes["feedback.asked"], true);
            assert_eq!(span.parent_span_id, SpanId::from(0xb7ad_6b71_6920_3331));
            assert!(span.attribute("http.request.method").is_none());
            let code = span.attribute("rpc.response.status_code").map(ToString::to_string);
            (code, span.attribute("error.type").is_some(), status(span))
        })
        .collect();
    let code = |text: &str| Some(format!("\"{text}\""));
    let expected = [
        (None, false, "unset".to_owned()),
        (code("INTERNAL"), true, "error: ".to_owned()),
        (code("NOT_FOUND"), false, "unset".to_owned()),
    ];
    assert_eq!(seen, expected);
    let unknown = spans.iter().find(|span| span.name == "no.such.Service/Method").unwrap();
    assert_eq!(unknown.attributes["rpc.response.status_code"], "UNIMPLEMENTED");
}

#[test]
fn the_span_around_the_service_can_do_as_well() {
    let rig = rig();
    let inner = answering(FeedbackHttpLayer::new().with_span(false).with_new_sessions(true));
    let router = inner.layer(from_fn(async |request: axum::extract::Request, next: Next| {
        use tracing::Instrument;
        next.run(request).instrument(tracing::info_span!("of the service")).await
    }));
    let service = Service::start(&rig, router);
    service.get("/answer/1", &[]);
    rig.telemetry.flush().unwrap();
    assert_eq!(rig.collector.spans().len(), 1);
    assert!(one(&rig.collector, "of the service").attributes.contains_key("session.id"));
}

#[test]
fn spans_of_another_layer_continue_traces_and_have_sessions_and_tickets() {
    let exporter = InMemorySpanExporter::default();
    let builder = tracing_feedback::builder().with_ticket_keys(keys());
    let processor = SimpleSpanProcessor::new(exporter.clone());
    let (processor, telemetry) = builder.build_around(processor).unwrap();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let other = tracing_opentelemetry::layer().with_tracer(provider.tracer("chat"));
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(other));
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for is_public in [false, true] {
        let layer = FeedbackHttpLayer::new()
            .with_public_endpoint(is_public)
            .with_new_sessions(true)
            .with_trace_header("traceresponse".parse().unwrap())
            .with_tickets(TicketOptions::new());
        let service = Service::within(dispatch.clone(), answering(layer));
        let response = service.get("/answer/1", &[("traceparent", caller)]);
        drop(service); // and with it the span, if it has not ended yet

        let [span] = exporter.get_finished_spans().unwrap().try_into().unwrap();
        exporter.reset();
        assert_eq!((span.name.as_ref(), &span.span_kind), ("GET /answer/{id}", &SpanKind::Server));
        let names_caller = |context: &SpanContext, id: SpanId| {
            caller == format!("00-{}-{id}-01", context.trace_id())
        };
        assert_eq!(names_caller(&span.span_context, span.parent_span_id), !is_public);
        let links: Vec<_> = span.links.iter().map(|link| &link.span_context).collect();
        let links_caller = links.iter().any(|link| names_caller(link, link.span_id()));
        assert_eq!(links_caller, is_public);
        let ids = (span.span_context.trace_id(), span.span_context.span_id());
        let named = response.headers()["traceresponse"].to_str().unwrap();
        assert_eq!(named, format!("00-{}-{}-01", ids.0, ids.1));
        let ticket = telemetry.ticket_verifier().verify(&ticket_of(&response)).unwrap();
        let target = ticket.span_context().unwrap();
        assert_eq!((target.trace_id(), target.span_id()), ids);
        let session = span.attributes.iter().find(|own| own.key.as_str() == "session.id").unwrap();
        assert_eq!(ticket.session().unwrap().id(), session.value.as_str());
    }
}

#[test]
fn a_session_is_joined_by_proof_or_by_the_services_word() {
    let rig = rig();
    let layer = FeedbackHttpLayer::new()
        .with_trusted_session_header("x-session".parse().unwrap())
        .with_trusted_session_cookie("session");
    let service = Service::start(&rig, answering(layer));
    let session = Session::with_id("conversation-42").unwrap();
    let ticket = rig.run(|| session.ticket().unwrap());
    let foreign =
        Rig::with(|builder| builder.with_ticket_keys(TicketKeys::new([[8; 32]]).unwrap()));
    let forged = foreign.run(|| session.ticket().unwrap());

    let joined = |headers: &[(&str, &str)]| {
        rig.collector.clear();
        service.get("/answer/1", headers);
        let span = served(&rig).remove(0);
        span.attributes.get("session.id").map(|id| id.to_string().trim_matches('"').to_owned())
    };
    assert_eq!(joined(&[]), None);
    assert_eq!(joined(&[("feedback-ticket", ticket.as_str())]).unwrap(), "conversation-42");
    assert_eq!(joined(&[("feedback-ticket", forged.as_str())]), None);
    assert_eq!(joined(&[("x-session", "of the gateway")]), None); // no id of a session
    assert_eq!(joined(&[("x-session", "of-the-gateway")]).unwrap(), "of-the-gateway");
    assert_eq!(joined(&[("cookie", "a=b; session=\"of-a-cookie\"")]).unwrap(), "of-a-cookie");
    assert_eq!(joined(&[("baggage", "session.id=of-baggage")]).unwrap(), "of-baggage");
    assert_eq!(rig.telemetry.stats().refused["bad_signature"], 1);
}

#[test]
fn a_request_that_joins_a_session_starts_none() {
    let rig = rig();
    let router = Router::new().route("/session", get(async |session: Session| session.to_string()));
    let layer = FeedbackHttpLayer::new().with_new_sessions(true);
    let service = Service::start(&rig, router.layer(layer));
    let session = |headers: &[(&str, &str)]| {
        let response = service.get("/session", headers);
        service.runtime.block_on(response.text()).unwrap()
    };
    assert_eq!(session(&[("baggage", "session.id=of-baggage")]), "of-baggage");
    assert_ne!(session(&[]), session(&[]));
}

#[test]
fn what_the_service_does_not_trust_joins_nothing() {
    let rig = Rig::with(|builder| builder.with_ticket_keys(keys()));
    let layer = FeedbackHttpLayer::new().with_new_sessions(true);
    let service = Service::start(&rig, answering(layer));
    let claims = [
        ("x-session", "claimed"),
        ("cookie", "session=claimed"),
        ("baggage", "session.id=claimed"),
    ];
    service.get("/answer/1", &claims);
    service.get("/answer/2", &claims);
    let ids: Vec<_> =
        served(&rig).iter().map(|span| span.attributes["session.id"].to_string()).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]); // each has started one of its own
    assert!(!ids.iter().any(|id| id.contains("claimed")));
}

#[test]
fn feedback_comes_back_with_the_ticket_of_an_answer() {
    let rig = rig();
    let layer = FeedbackHttpLayer::new().with_new_sessions(true).with_tickets(TicketOptions::new());
    let router = answering(layer).merge(feedback_routes(FeedbackRoutes::new()));
    let service = Service::start(&rig, router);
    let ticket = ticket_of(&service.get("/answer/1", &[]));
    let submit = |feedback: Value, id: &str| {
        let submission = json!({ "ticket": ticket, "feedback": feedback, "id": id });
        assert_eq!(service.submit(&submission).0, StatusCode::NO_CONTENT);
    };
    submit(json!({ "rating": true, "comment": "right" }), "first");
    submit(json!({ "rating": true, "comment": "right" }), "first"); // sent again
    submit(json!({ "rating": false }), "second"); // a change of mind
    submit(json!({ "comment": null, "edits": [{ "value": "Albany" }] }), "third");

    let span = served(&rig).remove(0);
    let feedback = rig.collector.feedback(span.trace_id, span.span_id);
    let feedback: Vec<_> = feedback.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(feedback, ["feedback.edits.0.value=\"Albany\"", "feedback.rating=false"]);
    let carriers = rig.collector.spans().into_iter().filter(|span| span.is_carrier());
    let sessions: Vec<_> = carriers.map(|span| span.attributes["session.id"].clone()).collect();
    assert_eq!(sessions, vec![span.attributes["session.id"].clone(); 4]);
}

#[test]
fn what_browsers_send_when_a_page_goes_is_taken() {
    let rig = rig();
    let service = Service::start(&rig, feedback_routes(FeedbackRoutes::new()));
    let ticket = rig.run(|| tracing::info_span!("answer").ticket().unwrap());
    let submission = json!({ "ticket": ticket, "feedback": { "copied": true } }).to_string();
    for content_type in ["text/plain;charset=UTF-8", "Application/JSON; charset=utf-8"] {
        let answer = service.post(&submission, &[("content-type", content_type)]);
        assert_eq!(answer.0, StatusCode::NO_CONTENT, "{content_type}");
    }
    assert_eq!(service.post(&submission, &[]).0, StatusCode::NO_CONTENT); // a blob without a type
    rig.telemetry.flush().unwrap();
    assert_eq!(rig.collector.spans().iter().filter(|span| span.is_carrier()).count(), 3);
}

#[test]
fn what_is_refused_says_why_and_leaves_nothing() {
    let rig = rig();
    let service = Service::start(&rig, feedback_routes(FeedbackRoutes::new()));
    let span = rig.run(|| tracing::info_span!("answer"));
    let ticket = rig.run(|| span.ticket().unwrap());
    let refused = |submission: Value, expected: u16, reason: &str, detail: &str| {
        let (status, problem) = service.submit(&submission);
        assert_eq!((status.as_u16(), problem["reason"].as_str()), (expected, Some(reason)));
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
    };
    let good = json!({ "rating": 5 });

    refused(json!({ "feedback": good }), 400, "malformed", "`ticket`");
    refused(json!({ "ticket": ticket, "feedback": [1] }), 400, "malformed", "object");
    refused(json!({ "ticket": "(none)", "feedback": good }), 400, "malformed", "not a ticket");
    let mut forged = ticket.to_string();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.insert(forged.len() - 20, last); // another signature of the same length
    refused(json!({ "ticket": forged, "feedback": good }), 403, "bad_signature", "not issued by");
    let mine = TicketOptions::new().with_subject("me");
    let mine = rig.run(|| span.ticket_with(&mine).unwrap());
    refused(json!({ "ticket": mine, "feedback": good }), 403, "subject_missing", "another user");
    let narrow = TicketOptions::new().with_keys(["rating"]);
    let narrow = rig.run(|| span.ticket_with(&narrow).unwrap());
    let more = json!({ "rating": 5, "comment": "no" });
    refused(json!({ "ticket": narrow, "feedback": more }), 403, "not_allowed", "feedback.comment");
    let short = TicketOptions::new().with_time_to_live(Duration::from_millis(1));
    let short = rig.run(|| span.ticket_with(&short).unwrap());
    let verifier = rig.telemetry.ticket_verifier();
    while verifier.verify(short.as_str()) != Err(TicketError::Expired) {
        std::thread::yield_now();
    }
    refused(json!({ "ticket": short, "feedback": good }), 410, "expired", "expired");
    let deep = json!({ "rating": 5, "a": [[[1]]] });
    refused(json!({ "ticket": ticket, "feedback": deep }), 422, "too_deep", "feedback.a.0.0");
    let many: serde_json::Map<_, _> = (0..124).map(|n| (format!("k{n}"), n.into())).collect();
    refused(json!({ "ticket": ticket, "feedback": many }), 422, "limit_exceeded", "128");

    assert_eq!(service.post("{", &[]).0, 400);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(service.post("rating=5", &form).0, 415);
    let long = json!({ "ticket": ticket, "feedback": { "comment": "x".repeat(16 * 1024) } });
    assert_eq!(service.submit(&long).0, 413);

    drop(span);
    rig.telemetry.flush().unwrap();
    assert_eq!(rig.collector.spans().iter().filter(|span| span.is_carrier()).count(), 0);
}

#[test]
fn a_service_that_can_take_nothing_now_says_so() {
    if !is_alone(concat!(module_path!(), "::a_service_that_can_take_nothing_now_says_so")) {
        return;
    }
    let submission = json!({ "ticket": "any", "feedback": { "rating": 5 } });
    let without_keys = Rig::new();
    let service = Service::start(&without_keys, feedback_routes(FeedbackRoutes::new()));
    assert_eq!(service.submit(&submission).1["reason"], "no_keys");

    let service = Service::within(Dispatch::none(), feedback_routes(FeedbackRoutes::new()));
    assert_eq!(service.submit(&submission).1["reason"], "not_installed");

    let rig = rig();
    let service = Service::start(&rig, feedback_routes(FeedbackRoutes::new()));
    let ticket = rig.run(|| tracing::info_span!("answer").ticket().unwrap());
    rig.telemetry.shutdown().unwrap();
    let (status, problem) = service.submit(&json!({ "ticket": ticket, "feedback": { "a": 1 } }));
    assert_eq!((status.as_u16(), &problem["reason"]), (503, &json!("shut_down")));
}

#[test]
fn a_ticket_of_someone_counts_where_they_are_signed_in() {
    let rig = rig();
    let routes = FeedbackRoutes::new()
        .with_subject(|request| Some(request.headers.get("x-user")?.to_str().ok()?.to_owned()));
    let service = Service::start(&rig, feedback_routes(routes));
    let mine = TicketOptions::new().with_subject("me");
    let ticket = rig.run(|| tracing::info_span!("answer").ticket_with(&mine).unwrap());
    let body = json!({ "ticket": ticket, "feedback": { "rating": 5 } }).to_string();
    assert_eq!(service.post(&body, &[("x-user", "me")]).0, StatusCode::NO_CONTENT);
    let (status, problem) = service.post(&body, &[("x-user", "you")]);
    assert_eq!((status.as_u16(), &problem["reason"]), (403, &json!("wrong_subject")));
}

#[test]
fn pages_of_other_origins_are_let_in_by_name() {
    let rig = rig();
    let routes =
        FeedbackRoutes::new().with_allowed_origins(["https://shop.example".parse().unwrap()]);
    let service = Service::start(&rig, feedback_routes(routes));
    let allowed = |service: &Service, origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        let response = service.send(Method::OPTIONS, "/feedback", &headers, "");
        response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).cloned()
    };
    assert_eq!(allowed(&service, "https://shop.example").unwrap(), "https://shop.example");
    assert_eq!(allowed(&service, "https://evil.example"), None);

    let everyone = FeedbackRoutes::new().with_allowed_origins(["*".parse().unwrap()]);
    let service = Service::start(&rig, feedback_routes(everyone));
    assert_eq!(allowed(&service, "https://any.example").unwrap(), "*");
}

#[test]
fn browsers_get_the_module_once() {
    let rig = rig();
    let routes = FeedbackRoutes::new().with_path("api/feedback/");
    let service = Service::start(&rig, feedback_routes(routes));
    let response = service.get("/api/feedback.js", &[]);
    assert_eq!(response.headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
    let tag = response.headers()[ETAG].to_str().unwrap().to_owned();
    let module = service.runtime.block_on(response.text()).unwrap();
    assert!(module.len() < 2048 && module.contains("sendBeacon"), "{module}");
    assert_eq!(module.matches(r"(\/feedback)").count(), 1, "{module}");
    let rate = FeedbackRoutes::new().with_path("/api/v1.0/rate.it");
    let other = Service::start(&rig, feedback_routes(rate));
    let response = other.get("/api/v1.0/rate.it.js", &[]);
    let renamed = other.runtime.block_on(response.text()).unwrap();
    assert_eq!(renamed, module.replace(r"(\/feedback)", r"(\/rate\.it)"));
    let again = service.get("/api/feedback.js", &[("if-none-match", &tag)]);
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[test]
fn handlers_ask_for_a_session_and_a_ticket() {
    let rig = rig();
    let router = Router::new()
        .route("/session", get(async |session: Session| session.id().to_owned()))
        .route("/maybe", get(async |session: Option<Session>| Json(session.is_some())))
        .route("/ticket", get(async |ticket: Ticket| ticket.to_string()));
    let service = Service::start(&rig, router.layer(FeedbackHttpLayer::new()));
    let session = Session::with_id("conversation-42").unwrap();
    let ticket = rig.run(|| session.ticket().unwrap());
    let text = |path: &str, headers: &[(&str, &str)]| {
        let response = service.get(path, headers);
        let status = response.status();
        (status.as_u16(), service.runtime.block_on(response.text()).unwrap())
    };
    let header = [("feedback-ticket", ticket.as_str())];
    assert_eq!(text("/session", &header), (200, "conversation-42".to_owned()));
    assert_eq!(text("/maybe", &header).1, "true");
    assert_eq!(text("/maybe", &[]).1, "false");
    assert_eq!(text("/session", &[]).0, 400);
    assert_eq!(text("/ticket", &header), (200, ticket.to_string()));
    assert_eq!(text("/ticket", &[]).0, 400);
    assert_eq!(text("/ticket", &[("feedback-ticket", "none")]).0, 400);
}

#[test]
fn with_an_outbox_that_is_written_ahead_taken_means_on_disk() {
    let directory = Directory::new();
    let rig = Rig::with(|builder| builder.with_ticket_keys(keys()).with_outbox(directory.ahead()));
    rig.collector.answer_all(Some(Answer::Silence));
    let service = Service::start(&rig, feedback_routes(FeedbackRoutes::new()));
    let new_ticket = || {
        tracing::dispatcher::with_default(&rig.dispatch, || {
            tracing::info_span!("answer").ticket().unwrap()
        })
    };
    let ticket = new_ticket();
    let on_disk = || {
        let files = directory.files("segment");
        let files = files.iter().map(|path| std::fs::read(path).unwrap());
        let text = files.flatten().collect::<Vec<_>>();
        String::from_utf8_lossy(&text).matches("feedback.rating").count()
    };
    for at in 1..=3 {
        let submission = json!({ "ticket": ticket, "feedback": { "rating": at }, "id": "vote" });
        assert_eq!(service.submit(&submission).0, StatusCode::NO_CONTENT);
        assert_eq!(on_disk(), at);
    }

    // Nothing can be written where there is no directory.
    std::fs::remove_dir_all(&directory.0).unwrap();
    std::fs::write(&directory.0, "a file").unwrap();
    let big = "x".repeat(15 * 1024);
    let mut problems = (0..400).map(|at| {
        // Until the segment is full that was open already, and can still be written. Of many users: one of
        // them may not send so much.
        let id = at.to_string();
        let submission =
            json!({ "ticket": new_ticket(), "feedback": { "comment": big }, "id": id });
        service.submit(&submission)
    });
    let (status, problem) =
        problems.find(|(status, _)| *status != StatusCode::NO_CONTENT).expect("it can't go on");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["reason"], "not_durable");
    drop(problems);
    rig.telemetry.shutdown_within(Duration::ZERO).unwrap_err();
    std::fs::remove_file(&directory.0).unwrap();
}
