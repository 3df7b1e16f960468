//! `tonic-tracing-opentelemetry`, around a server and a client of OTLP, which stands for any service.

use opentelemetry::trace::{SpanKind, Status as SpanStatus};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use services::{Rig, Way, answer, caller, continues, ids, is_child, named, text, vote};
use tonic::service::InterceptorLayer;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_tracing_opentelemetry::middleware::{client, filters, server};
use tower::ServiceBuilder;
use tracing_feedback::web::FeedbackHttpLayer;
use tracing_feedback::{TicketVerifier, propagation};

type Reply = Result<Response<ExportTraceServiceResponse>, Status>;

const METHOD: &str = "opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn reply(text: String) -> Reply {
    let partial_success = ExportTracePartialSuccess { rejected_spans: 0, error_message: text };
    Ok(Response::new(ExportTraceServiceResponse { partial_success: Some(partial_success) }))
}

/// Answers with the header that it has received.
struct Echo;

#[tonic::async_trait]
impl TraceService for Echo {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Reply {
        let header = request.metadata().get("traceparent");
        reply(header.map(|header| header.to_str().unwrap().to_owned()).unwrap_or_default())
    }
}

/// Answers with a ticket, and with the header that the downstream service has received. Takes votes.
struct Ask {
    downstream: String,
    verifier: TicketVerifier,
    way: Way,
}

#[tonic::async_trait]
impl TraceService for Ask {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Reply {
        if request.metadata().contains_key("fails") {
            return Err(Status::internal("no model"));
        }
        if let Some(ticket) = request.metadata().get("ticket") {
            vote(&self.verifier, ticket.to_str().unwrap());
            return reply(String::new());
        }
        let ticket = answer("42");
        let way = self.way;
        let channel =
            Channel::from_shared(self.downstream.clone()).unwrap().connect().await.unwrap();
        let inject = InterceptorLayer::new(move |mut request: Request<()>| {
            if way.is_replaced() {
                propagation::inject(request.metadata_mut());
            }
            Ok(request)
        });
        // The interceptor is inside the middleware, so it is called within the span of the call.
        let channel =
            ServiceBuilder::new().layer(client::OtelGrpcLayer).layer(inject).service(channel);
        let got =
            TraceServiceClient::new(channel).export(ExportTraceServiceRequest::default()).await?;
        let got = got.into_inner().partial_success.unwrap().error_message;
        reply(format!("{ticket} {got}"))
    }
}

async fn listen() -> (TcpIncoming, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (TcpIncoming::from(listener), url)
}

#[tokio::main]
async fn main() {
    let way = Way::from_args();
    let rig = Rig::install(way);
    let (incoming, downstream) = listen().await;
    let echo = Server::builder().add_service(TraceServiceServer::new(Echo));
    tokio::spawn(echo.serve_with_incoming(incoming));
    let (incoming, url) = listen().await;
    let ask = TraceServiceServer::new(Ask { downstream, verifier: rig.ticket_verifier(), way });
    if way.is_replaced() {
        let layer = FeedbackHttpLayer::new().with_filter(filters::reject_healthcheck);
        let server = Server::builder().layer(layer).add_service(ask);
        tokio::spawn(server.serve_with_incoming(incoming));
    } else {
        let layer = server::OtelGrpcLayer::default().filter(filters::reject_healthcheck);
        let server = Server::builder().layer(layer).add_service(ask);
        tokio::spawn(server.serve_with_incoming(incoming));
    }

    let mut client = TraceServiceClient::connect(url).await.unwrap();
    let mut request = Request::new(ExportTraceServiceRequest::default());
    request.metadata_mut().insert("traceparent", caller().parse().unwrap());
    let reply = client.export(request).await.unwrap().into_inner().partial_success.unwrap();
    let (ticket, got) = reply.error_message.split_once(' ').unwrap();

    let spans = rig.all(3);
    let of_kind = |kind| spans.iter().find(|span| span.kind == kind).unwrap();
    let (server, call) = (of_kind(SpanKind::Server), of_kind(SpanKind::Client));
    let child = spans.iter().find(|span| span.name == "answer").unwrap();
    assert_eq!((server.name.as_str(), call.name.as_str()), (METHOD, METHOD));
    assert_eq!(text(server, "server.address").as_deref(), Some("127.0.0.1"));
    match way.is_replaced() {
        true => {
            assert_eq!(text(server, "rpc.system.name").as_deref(), Some("grpc"));
            assert_eq!(text(server, "rpc.method").as_deref(), Some(METHOD));
        }
        false => {
            assert_eq!(text(server, "rpc.system").as_deref(), Some("grpc"));
            assert_eq!(text(server, "rpc.method").as_deref(), Some("Export"));
            assert_eq!(text(server, "rpc.grpc.status_code").as_deref(), Some("0"));
        }
    }
    assert!(is_child(child, server) && is_child(call, server));
    assert_eq!(continues(server), way != Way::Kept);
    // The downstream service receives the span of the call. With the middleware alone on this crate's layer it
    // receives the server span instead.
    assert_eq!(named(got), if way == Way::Kept { ids(server) } else { ids(call) });

    // A vote, by the ticket.
    let mut request = Request::new(ExportTraceServiceRequest::default());
    request.metadata_mut().insert("ticket", ticket.parse().unwrap());
    client.export(request).await.unwrap();
    rig.all(5);
    rig.assert_feedback(child);

    // An error of the server.
    rig.clear();
    let mut request = Request::new(ExportTraceServiceRequest::default());
    request.metadata_mut().insert("fails", "yes".parse().unwrap());
    assert!(client.export(request).await.is_err());
    let failed = &rig.all(1)[0];
    assert!(matches!(failed.status, SpanStatus::Error { .. }), "{failed:?}");
    match way.is_replaced() {
        true => {
            assert_eq!(text(failed, "rpc.response.status_code").as_deref(), Some("INTERNAL"));
        }
        false => assert_eq!(text(failed, "rpc.grpc.status_code").as_deref(), Some("13")),
    }
    println!("grpc {way:?}: as the table says");
}
