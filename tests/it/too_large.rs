//! Spans that are too large for a receiver: they arrive with their largest values cut, in their place in the
//! trace, with their feedback. The test collector takes 4 MiB by gRPC and 20 MiB by HTTP, as the official one.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, KeyValue, StringValue, Value as OtelValue};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanLimits;
use prost::Message;
use tracing::{Dispatch, dispatcher, info, info_span};
use tracing_feedback::collector::{Collector, Value};
use tracing_feedback::{Builder, Protocol, SpanExt, Telemetry, enrich_span};
use tracing_subscriber::prelude::*;

use crate::Rig;
use crate::outbox::Directory;
use crate::show::{eventually, is_child, one};

const MIB: usize = 1 << 20;
const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];
const MARK: &str = "… (cut: the span was too large)";

fn text(value: &Value) -> &str {
    match value {
        Value::String(text) => text,
        other => panic!("{other:?}"),
    }
}

/// Asserts that the one span "huge" has arrived with its feedback, and was counted.
fn assert_arrived(rig: &Rig, what: &str) -> tracing_feedback::collector::ReceivedSpan {
    let huge = one(&rig.collector, "huge");
    assert_eq!(huge.attributes["feedback.rating"], Value::Bool(false), "{what}");
    assert_eq!(huge.attributes["session.id"], "s", "{what}");
    let stats = rig.telemetry.stats();
    assert_eq!((stats.truncated, stats.dropped), (1, 0), "{what}: {stats:?}");
    huge
}

#[test]
fn an_oversized_field_is_cut_and_the_verdict_arrives_in_the_trace() {
    for protocol in PROTOCOLS {
        let rig = Rig::over(protocol);
        rig.run(|| {
            let _root = info_span!("root", session.id = "s").entered();
            let huge = info_span!("huge", prompt = "é".repeat(5 * MIB / 2), small = "kept");
            huge.in_scope(|| {
                info_span!("child").in_scope(|| ());
                assert!(enrich_span!(feedback = { "rating": false, "comment": "no" }).is_ok());
            });
        });
        let what = protocol.to_string();
        let huge = assert_arrived(&rig, &what);
        let prompt = text(&huge.attributes["prompt"]);
        assert!(prompt.len() > 3 * MIB && prompt.ends_with(MARK), "{what}: {}", prompt.len());
        assert!(prompt.trim_end_matches(MARK).chars().all(|it| it == 'é'), "{what}");
        assert_eq!(huge.attributes["small"], "kept", "{what}");
        assert_eq!(huge.attributes["feedback.comment"], "no", "{what}");
        assert_eq!(huge.dropped_attributes_count, 1, "{what}");
        assert!(huge.duplicate_keys.is_empty(), "{what}");
        assert!(is_child(&huge, &one(&rig.collector, "root")), "{what}");
        assert!(is_child(&one(&rig.collector, "child"), &huge), "{what}");
    }
}

#[test]
fn whatever_makes_a_span_too_large_is_cut() {
    fn context() -> SpanContext {
        let (trace_id, span_id) = (TraceId::from(7), SpanId::from(7));
        SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, true, TraceState::NONE)
    }
    fn long() -> String {
        "x".repeat(5 * MIB)
    }
    type Make = fn(&tracing::Span);
    let ways: [(&str, Make); 11] = [
        ("name", |span| {
            span.record("otel.name", long());
        }),
        ("event field", |span| span.in_scope(|| info!(body = long(), "an event"))),
        ("event message", |span| span.in_scope(|| info!("{}", long()))),
        ("event name", |span| span.add_event(long(), Vec::new()).unwrap()),
        ("event attribute", |span| {
            span.add_event("e", vec![KeyValue::new("body", long())]).unwrap();
        }),
        ("link attribute", |span| {
            let attributes = vec![KeyValue::new("body", long())];
            span.add_link_with_attributes(context(), attributes).unwrap();
        }),
        ("status", |span| span.set_status(Status::error(long())).unwrap()),
        ("attribute", |span| span.set_attribute("body", long()).unwrap()),
        ("key", |span| span.set_attribute(long(), "value").unwrap()),
        ("array of strings", |span| {
            let strings = (0..5).map(|_| StringValue::from("é".repeat(MIB / 2))).collect();
            span.set_attribute("body", OtelValue::Array(Array::String(strings))).unwrap();
        }),
        ("array of numbers", |span| {
            let numbers = (0..MIB as i64).collect();
            span.set_attribute("body", OtelValue::Array(Array::I64(numbers))).unwrap();
        }),
    ];
    for protocol in [Protocol::Grpc, Protocol::HttpJson] {
        for (what, make) in ways {
            if (what, protocol) == ("array of numbers", Protocol::HttpJson) {
                continue; // as JSON each number takes more than 20 bytes
            }
            let rig = Rig::over(protocol);
            rig.run(|| {
                let huge =
                    info_span!("huge", session.id = "s", otel.name = tracing::field::Empty, a = 1);
                make(&huge);
                assert!(enrich_span!(span = &huge, feedback = { "rating": false }).is_ok());
            });
            let what = format!("{what} over {protocol}");
            let spans = rig.collector.spans();
            assert_eq!(spans.len(), 1, "{what}");
            let huge = &spans[0];
            assert_eq!(huge.attributes["feedback.rating"], Value::Bool(false), "{what}");
            assert_eq!(huge.attributes["session.id"], "s", "{what}");
            assert_eq!(huge.attributes["a"], 1_i64, "{what}");
            let stats = rig.telemetry.stats();
            assert_eq!((stats.truncated, stats.dropped), (1, 0), "{what}: {stats:?}");
        }
    }
}

#[test]
fn many_fields_of_medium_size_are_cut_to_one_length_and_small_ones_stay() {
    let rig = Rig::new();
    rig.run(|| {
        let huge = info_span!("huge", session.id = "s");
        for at in 0..100 {
            huge.set_attribute(format!("medium.{at}"), "m".repeat(60_000)).unwrap();
        }
        huge.set_attribute("small", "s".repeat(20_000)).unwrap();
        let answer = "a".repeat(200_000);
        assert!(
            enrich_span!(span = &huge, feedback = { "rating": false }, outputs = { "answer": answer })
                .is_ok()
        );
    });
    let huge = assert_arrived(&rig, "medium");
    let lengths: BTreeSet<_> =
        (0..100).map(|at| text(&huge.attributes[&format!("medium.{at}")]).len()).collect();
    assert_eq!(lengths.len(), 1, "{lengths:?}");
    assert!(lengths.iter().all(|length| (30_000..40_000).contains(length)), "{lengths:?}");
    assert_eq!(text(&huge.attributes["small"]).len(), 20_000);
    assert_eq!(text(&huge.attributes["outputs.answer"]).len(), 200_000, "feedback goes last");
    assert_eq!(huge.dropped_attributes_count, 100);
}

#[test]
fn many_small_values_are_dropped_from_the_last_and_counted() {
    let rig = Rig::with(|builder| {
        builder.with_span_limits(SpanLimits {
            max_events_per_span: 1_000_000,
            max_attributes_per_span: 1_000_000,
            ..SpanLimits::default()
        })
    });
    rig.run(|| {
        let huge = info_span!("huge", session.id = "s", field = 1);
        for at in 0..50_000_i64 {
            let attributes = vec![KeyValue::new("at", at), KeyValue::new("text", "t".repeat(80))];
            huge.add_event("e", attributes).unwrap();
        }
        assert!(enrich_span!(span = &huge, feedback = { "rating": false }).is_ok());
    });
    let huge = assert_arrived(&rig, "events");
    let kept = huge.events.len();
    assert!((10_000..50_000).contains(&kept), "{kept}");
    assert_eq!(huge.events[kept - 1].attributes["at"], kept as i64 - 1);
    assert_eq!(huge.dropped_events_count as usize, 50_000 - kept);
    assert_eq!(huge.attributes["field"], 1_i64);
}

#[test]
fn feedback_that_is_too_large_by_itself_is_cut_and_keeps_its_link() {
    let rig = Rig::with(|builder| {
        builder.with_max_string_bytes(64 * MIB).with_max_enrichment_bytes(64 * MIB)
    });
    let target = rig.run(|| {
        let target = info_span!("target").span_context().unwrap();
        let comment = "c".repeat(6 * MIB);
        let feedback = serde_json::json!({ "rating": false, "comment": comment });
        assert!(enrich_span!(target = &target, feedback = feedback).is_ok());
        target
    });
    let carrier = one(&rig.collector, "feedback");
    assert_eq!(carrier.links[0].span_id, target.span_id());
    assert_eq!(carrier.attributes["tracing_feedback.late"], Value::Bool(true));
    let feedback = rig.collector.feedback(target.trace_id(), target.span_id());
    assert_eq!(feedback["feedback.rating"], Value::Bool(false));
    assert!(text(&feedback["feedback.comment"]).ends_with(MARK));
    assert_eq!(rig.telemetry.stats().truncated, 1);
}

#[test]
fn an_oversized_resource_and_scope_do_not_cost_every_span() {
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "chat"),
            KeyValue::new("process.command_line", "x".repeat(5 * MIB)),
        ])
        .build();
    let rig = Rig::with(|builder| builder.with_resource(resource));
    rig.run(|| {
        info_span!("huge", session.id = "s", text = "x".repeat(5 * MIB)).in_scope(|| {
            assert!(enrich_span!(feedback = { "rating": false }).is_ok());
        });
    });
    let huge = assert_arrived(&rig, "resource");
    assert_eq!(huge.resource["service.name"], "chat");
    assert!(text(&huge.resource["process.command_line"]).ends_with(MARK));
}

/// A receiver that takes requests of `most` bytes. It keeps the spans.
struct SmallReceiver {
    endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Receive(Arc<Mutex<Vec<Span>>>);

impl Receive {
    fn keep(&self, request: ExportTraceServiceRequest) {
        let scopes = request.resource_spans.into_iter().flat_map(|it| it.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|it| it.spans));
    }
}

#[tonic::async_trait]
impl TraceService for Receive {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.keep(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl SmallReceiver {
    /// A server of `tonic`, which answers `OUT_OF_RANGE`.
    fn tonic(most: usize) -> Self {
        Self::start(|listener, receive| async move {
            let service = TraceServiceServer::new(receive).max_decoding_message_size(most);
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await.unwrap();
        })
    }

    /// A server of `axum`, which answers 413.
    fn axum(most: usize) -> Self {
        Self::start(move |listener, receive| async move {
            let export = |body: axum::body::Bytes| async move {
                receive.keep(ExportTraceServiceRequest::decode(body).unwrap());
            };
            let router = axum::Router::new()
                .route("/v1/traces", axum::routing::post(export))
                .layer(axum::extract::DefaultBodyLimit::max(most));
            axum::serve(listener, router).await.unwrap();
        })
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce(tokio::net::TcpListener, Receive) -> F,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(serve(listener, Receive(spans.clone())));
        Self { endpoint, spans, runtime }
    }

    fn names(&self) -> BTreeSet<String> {
        self.spans.lock().unwrap().iter().map(|span| span.name.clone()).collect()
    }

    /// The value of an attribute of the span with this name.
    fn value(&self, name: &str, key: &str) -> AnyValue {
        let spans = self.spans.lock().unwrap();
        let span = spans.iter().find(|span| span.name == name).unwrap();
        let attribute = span.attributes.iter().find(|attribute| attribute.key == key).unwrap();
        attribute.value.clone().unwrap().value.unwrap()
    }
}

fn sending_to(
    endpoint: &str,
    protocol: Protocol,
    configure: impl FnOnce(Builder) -> Builder,
) -> (Dispatch, Telemetry) {
    let builder = tracing_feedback::builder()
        .with_protocol(protocol)
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(5))
        .with_schedule_delay(Duration::from_millis(50));
    let (layer, telemetry) = configure(builder).build().unwrap();
    (Dispatch::new(tracing_subscriber::registry().with(layer)), telemetry)
}

fn spans_of_three_sizes() {
    info_span!("before").in_scope(|| ());
    info_span!("huge", text = "x".repeat(3 * MIB)).in_scope(|| {
        assert!(enrich_span!(feedback = { "rating": false }).is_ok());
    });
    info_span!("medium", text = "x".repeat(2 * MIB)).in_scope(|| ());
    info_span!("after").in_scope(|| ());
}

fn assert_all_arrived(receiver: &SmallReceiver, what: &str) {
    let all = ["after", "before", "huge", "medium"].map(str::to_owned);
    assert_eq!(receiver.names(), all.into(), "{what}");
    assert_eq!(receiver.value("huge", "feedback.rating"), AnyValue::BoolValue(false), "{what}");
    let AnyValue::StringValue(cut) = receiver.value("huge", "text") else { panic!("{what}") };
    assert!(cut.ends_with(MARK) && cut.len() > MIB / 4, "{what}: {}", cut.len());
}

#[test]
fn a_receiver_that_takes_less_gets_less() {
    for (what, receiver, protocol) in [
        ("tonic", SmallReceiver::tonic(MIB), Protocol::Grpc),
        ("axum", SmallReceiver::axum(MIB), Protocol::HttpProtobuf),
    ] {
        for has_outbox in [false, true] {
            receiver.spans.lock().unwrap().clear();
            let directory = Directory::new();
            let (dispatch, telemetry) = sending_to(&receiver.endpoint, protocol, |builder| {
                if has_outbox { builder.with_outbox(directory.ahead()) } else { builder }
            });
            dispatcher::with_default(&dispatch, spans_of_three_sizes);
            telemetry.flush().unwrap();
            assert_all_arrived(&receiver, what);
            let stats = telemetry.stats();
            assert_eq!((stats.exported, stats.dropped), (4, 0), "{what}: {stats:?}");
            assert!(stats.truncated >= 2, "{what}: {stats:?}");
        }
        drop(receiver.runtime);
    }
}

#[test]
fn a_stored_span_that_is_too_large_does_not_block_the_outbox() {
    let directory = Directory::new();
    // Nothing listens there: everything goes to the outbox as it is.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = closed.local_addr().unwrap();
    drop(closed);
    let (dispatch, telemetry) =
        sending_to(&format!("http://{address}"), Protocol::Grpc, |builder| {
            builder.with_timeout(Duration::from_millis(200)).with_outbox(directory.ahead())
        });
    dispatcher::with_default(&dispatch, spans_of_three_sizes);
    telemetry.shutdown_within(Duration::from_secs(10)).unwrap();

    let receiver = SmallReceiver::tonic(MIB);
    let (_dispatch, telemetry) = sending_to(&receiver.endpoint, Protocol::Grpc, |builder| {
        builder.with_outbox(directory.ahead())
    });
    eventually(|| telemetry.stats().outbox_spans == 0 && receiver.names().len() == 4);
    assert_all_arrived(&receiver, "stored");
    let stats = telemetry.stats();
    assert_eq!((stats.rejected, stats.dropped), (0, 0), "{stats:?}");
}

#[test]
fn the_default_receiver_gets_what_the_service_recorded_if_it_fits() {
    let collector = Collector::start().unwrap();
    let rig = Rig::of(collector, |builder| builder);
    rig.run(|| info_span!("large", text = "x".repeat(3 * MIB)).in_scope(|| ()));
    assert_eq!(text(&one(&rig.collector, "large").attributes["text"]).len(), 3 * MIB);
    assert_eq!(rig.telemetry.stats().truncated, 0);
}
