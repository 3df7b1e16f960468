//! `tracing-actix-web`, without a feature for a version of OpenTelemetry: it has none for 0.33.

use std::collections::HashMap;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::{App, Error, HttpServer, web};
use opentelemetry::trace::{SpanKind, Status};
use services::{Rig, Way, answer, caller, continues, is_child, text, vote};
use tracing::Span;
use tracing_actix_web::{DefaultRootSpanBuilder, RootSpanBuilder, TracingLogger};
use tracing_feedback::{SpanExt, TicketVerifier, propagation};

/// The headers as text; those of actix aren't those of the crate `http`.
fn headers(request: &ServiceRequest) -> HashMap<String, String> {
    let headers = request.headers().iter();
    headers
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// Continues the caller's trace on this crate's layer.
struct Continues;

impl RootSpanBuilder for Continues {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let span = DefaultRootSpanBuilder::on_request_start(request);
        let _ = span.set_parent(propagation::extract(&headers(request)));
        span
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        DefaultRootSpanBuilder::on_request_end(span, outcome);
    }
}

/// The same on `tracing-opentelemetry`.
struct ContinuesBeside;

impl RootSpanBuilder for ContinuesBeside {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let span = DefaultRootSpanBuilder::on_request_start(request);
        let caller = opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.extract(&headers(request))
        });
        let _ = tracing_opentelemetry::OpenTelemetrySpanExt::set_parent(&span, caller);
        span
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        DefaultRootSpanBuilder::on_request_end(span, outcome);
    }
}

async fn ask(id: web::Path<String>) -> String {
    answer(&id)
}

async fn rate(ticket: web::Path<String>, verifier: web::Data<TicketVerifier>) -> &'static str {
    vote(&verifier, &ticket);
    "thank you"
}

async fn fails() -> Result<String, Error> {
    Err(actix_web::error::ErrorInternalServerError("no model"))
}

fn serve<T: RootSpanBuilder + 'static>(rig: &Rig) -> String {
    let verifier = web::Data::new(rig.ticket_verifier());
    let app = move || {
        let app = App::new().wrap(TracingLogger::<T>::new()).app_data(verifier.clone());
        let app = app.route("/rate/{ticket}", web::get().to(rate));
        app.route("/ask/{id}", web::get().to(ask)).route("/fails", web::get().to(fails))
    };
    let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    actix_web::rt::spawn(server.run());
    url
}

#[actix_web::main]
async fn main() {
    let way = Way::from_args();
    let rig = Rig::install(way);
    let url = match way {
        Way::Kept => serve::<DefaultRootSpanBuilder>(&rig),
        Way::Replaced => serve::<Continues>(&rig),
        Way::Beside | Way::BesideReplaced => serve::<ContinuesBeside>(&rig),
    };
    let client = reqwest::Client::new();
    let send =
        |path: &str| client.get(format!("{url}{path}")).header("traceparent", caller()).send();
    let ticket = send("/ask/42").await.unwrap().text().await.unwrap();
    assert_eq!(send("/fails").await.unwrap().status(), 500);
    assert_eq!(send(&format!("/rate/{ticket}")).await.unwrap().status(), 200);

    let spans = rig.spans(5);
    let (server, child, failed) = (&spans["GET /ask/{id}"], &spans["answer"], &spans["GET /fails"]);
    assert_eq!(server.kind, SpanKind::Server);
    for (key, value) in
        [("http.method", "GET"), ("http.route", "/ask/{id}"), ("http.status_code", "200")]
    {
        assert_eq!(text(server, key).as_deref(), Some(value), "{key}");
    }
    assert!(matches!(failed.status, Status::Error { .. }), "{failed:?}");
    assert!(is_child(child, server));
    assert_eq!(continues(server), way != Way::Kept);
    rig.assert_feedback(child);
    println!("actix {way:?}: as the table says");
}
