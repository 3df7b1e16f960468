//! The receiver: it accepts requests and counts their spans with as little work as possible.

use std::future::{Ready, ready};
use std::io::stdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Request as HttpRequest;
use axum::routing::post;
use prost::Message;
use tonic::server::{Grpc, UnaryService};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Serves until standard input ends. Prints its endpoint first, and then the number of received
/// spans for each line of input.
pub(crate) fn serve() {
    let received = Received::default();
    let counter = received.clone();
    let export = post(async move |request: HttpRequest| {
        // The limit on messages is the default of tonic and of the official Collector: 4 MiB.
        Grpc::new(ProstCodec::<(), ExportTraceServiceRequest>::default())
            .unary(counter.clone(), request)
            .await
    });
    let routes = Routes::from(Router::new().route(EXPORT, export));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let _context = runtime.enter();
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a loopback port");
    println!("http://{}", incoming.local_addr().expect("its address"));
    runtime.spawn(Server::builder().add_routes(routes).serve_with_incoming(incoming));
    for _question in stdin().lines() {
        println!("{}", received.0.load(Ordering::Relaxed));
    }
}

/// Spans received.
#[derive(Clone, Default)]
struct Received(Arc<AtomicU64>);

impl UnaryService<ExportTraceServiceRequest> for Received {
    type Response = ();
    type Future = Ready<Result<Response<()>, Status>>;

    fn call(&mut self, request: Request<ExportTraceServiceRequest>) -> Self::Future {
        let resources = &request.get_ref().resource_spans;
        let scopes = resources.iter().flat_map(|resource| &resource.scope_spans);
        let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
        self.0.fetch_add(spans as u64, Ordering::Relaxed);
        ready(Ok(Response::new(()))) // encoded, an `ExportTraceServiceResponse` is empty as well
    }
}

#[derive(Clone, PartialEq, Message)]
struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    /// Spans that are skipped, and only counted.
    #[prost(message, repeated, tag = "2")]
    spans: Vec<()>,
}
