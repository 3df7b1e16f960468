//! The pipeline: everything arrives, or is counted; nothing a service does waits for it.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{
    SpanContext, TraceContextExt, TraceFlags, TraceState, Tracer, TracerProvider,
};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter, SpanProcessor};
use tracing::{Dispatch, dispatcher, info, info_span};
use tracing_feedback::collector::{Answer, Collector, Outcome, Protocol as Received};
use tracing_feedback::{
    Builder, Compression, DropReason, EnrichError, Protocol, SpanLoss, Telemetry, enrich_span,
};
use tracing_subscriber::prelude::*;

use crate::show::{one, with_timeout};
use crate::{Rig, build};

const LONG: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(10);

fn spans(n: usize) {
    for n in 0..n {
        info_span!("span", n).in_scope(|| ());
    }
}

fn in_subscriber(rig: &Rig, work: impl FnOnce()) {
    dispatcher::with_default(&rig.dispatch, work);
}

// ---- around it ---------------------------------------------------------------------------------

/// Builds, traces and flushes, all in one place.
fn everything() {
    let rig = Rig::new();
    rig.run(|| spans(3));
    assert_eq!(rig.collector.spans().len(), 3);
    let Rig { collector, telemetry, dispatch, .. } = rig;
    dispatcher::with_default(&dispatch, || spans(2));
    telemetry.shutdown().unwrap();
    assert_eq!(collector.spans().len(), 5);
}

#[test]
fn it_needs_no_runtime_around_it_and_minds_none() {
    with_timeout(|| {
        everything();
        let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
        current.block_on(async { everything() });
        let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        multi.block_on(async { everything() });
        multi.block_on(async { tokio::spawn(async { everything() }).await.unwrap() });
    });
}

#[test]
fn every_protocol_with_every_compression() {
    let protocols = [
        (Protocol::Grpc, Received::Grpc),
        (Protocol::HttpProtobuf, Received::HttpProtobuf),
        (Protocol::HttpJson, Received::HttpJson),
    ];
    let compressions = [
        (None, None),
        (Some(Compression::Gzip), Some("gzip")),
        (Some(Compression::Zstd), Some("zstd")),
    ];
    for (protocol, received) in protocols {
        for (compression, compressed) in compressions {
            let collector = Collector::start().unwrap();
            let (layer, telemetry) = build(&collector, |builder| {
                let endpoint = match protocol {
                    Protocol::Grpc => collector.endpoint(),
                    _ => collector.http_endpoint(),
                };
                let builder = builder
                    .with_endpoint(endpoint)
                    .with_protocol(protocol)
                    .with_header("x-api-key", "secret");
                match compression {
                    Some(compression) => builder.with_compression(compression),
                    None => builder,
                }
            });
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                let _span = info_span!("span", text = "repeat ".repeat(100)).entered();
                assert!(
                    enrich_span!(feedback = { "rating": 5, "edits": [{ "value": "x" }] }).is_ok()
                );
                info!("event");
            });
            telemetry.flush().unwrap();
            let case = format!("{protocol:?} {compression:?}");
            assert_eq!(
                collector.tree(),
                "span\n    feedback.edits.0.value = \"x\"\n    feedback.rating = 5\n",
                "{case}"
            );
            let request = &collector.requests()[0];
            assert_eq!(request.protocol, received, "{case}");
            assert_eq!(request.compression.as_deref(), compressed, "{case}");
            assert_eq!(request.headers["x-api-key"], "secret", "{case}");
        }
    }
}

// ---- errors of flush ---------------------------------------------------------------------------

#[test]
fn flush_names_how_many_were_lost_and_why() {
    let rig = Rig::new();
    rig.collector.answer_all(Some(Answer::BadRequest { message: "no quota for you".into() }));
    in_subscriber(&rig, || spans(3));
    let error = rig.telemetry.flush().unwrap_err();
    assert_eq!((error.lost(), error.pending()), (3, 0));
    let [SpanLoss { reason, spans: 3, message: Some(message), .. }] = error.losses() else {
        panic!("{error:?}");
    };
    assert_eq!(*reason, DropReason::ExportFailed);
    assert_eq!(error.outbox(), None);
    let text = error.to_string();
    assert!(text.starts_with("3 spans did not arrive: 3 export_failed"), "{text}");
    // What the collector said is not to be had from this exporter; its code is.
    assert!(message.contains("InvalidArgument") && text.contains(message), "{text}");
    // Said once. After recovery all is well.
    rig.collector.answer_all(None);
    rig.telemetry.flush().unwrap();
    rig.run(|| spans(2));
    let stats = rig.telemetry.stats();
    assert_eq!((stats.exported, stats.dropped, stats.queued), (2, 3, 0));
    assert_eq!(stats.dropped_by_reason["export_failed"], 3);
}

#[test]
fn flush_tells_of_a_collector_that_is_gone() {
    let Rig { collector, telemetry, dispatch, .. } =
        Rig::with(|builder| builder.with_timeout(Duration::from_secs(1)));
    drop(collector);
    dispatcher::with_default(&dispatch, || {
        info_span!("rated").in_scope(|| enrich_span!(feedback = { "rating": 1 }));
        spans(1);
    });
    let error = telemetry.flush().unwrap_err();
    assert_eq!(error.lost(), 2, "{error}");
    assert_eq!(telemetry.stats().dropped_feedback, 1);
}

#[test]
fn flush_says_what_is_pending_when_its_time_is_over() {
    let rig = Rig::with(|builder| builder.with_timeout(Duration::from_millis(500)));
    rig.collector.answer_next(Answer::Silence);
    in_subscriber(&rig, || spans(2));
    let error = rig.telemetry.flush_within(Duration::from_millis(1)).unwrap_err();
    assert_eq!((error.lost(), error.pending()), (0, 2));
    assert!(error.to_string().contains("2 spans had not arrived"), "{error}");
    let error = rig.telemetry.flush().unwrap_err();
    assert_eq!((error.lost(), error.pending()), (2, 0));
}

#[test]
fn the_export_timeout_ends_a_request_that_otlp_would_still_wait_for() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
        let rig = Rig::over_with(protocol, |builder| {
            builder
                .with_timeout(Duration::from_secs(600))
                .with_export_timeout(Duration::from_millis(200))
        });
        rig.collector.answer_next(Answer::Silence);
        in_subscriber(&rig, || spans(2));
        let error = rig.telemetry.flush().unwrap_err();
        assert_eq!((error.lost(), error.pending()), (2, 0), "{protocol}");
    }
}

#[test]
fn a_partial_success_is_reported_with_its_message() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let rig = Rig::over(protocol);
        let partial = |rejected| Answer::PartialSuccess { rejected, message: "too old".into() };
        rig.collector.answer_next(partial(2));
        in_subscriber(&rig, || spans(3));
        let error = rig.telemetry.flush().unwrap_err();
        assert_eq!((error.lost(), error.pending()), (2, 0));
        assert!(error.to_string().contains("2 rejected (too old)"), "{error}");
        let stats = rig.telemetry.stats();
        assert_eq!((stats.exported, stats.dropped_by_reason["rejected"]), (1, 2));
        // A warning rejects nothing.
        rig.collector.answer_next(partial(0));
        rig.run(|| spans(1));
    }
}

#[test]
fn a_partial_success_looks_like_success_to_an_sdk_exporter() {
    let rig = Rig::over(Protocol::HttpJson);
    rig.collector.answer_next(Answer::PartialSuccess { rejected: 2, message: "too old".into() });
    rig.run(|| spans(3));
    assert_eq!(rig.collector.spans().len(), 1);
    assert_eq!(rig.telemetry.stats().exported, 3, "as documented");
}

#[test]
fn flushing_from_many_threads() {
    let rig = Rig::new();
    thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for _ in 0..5 {
                    rig.run(|| spans(3));
                }
            });
        }
    });
    assert_eq!(rig.collector.spans().len(), 120);
}

// ---- batches and the queue ---------------------------------------------------------------------

#[test]
fn a_batch_holds_at_most_the_configured_number() {
    let rig = Rig::with(|builder| builder.with_max_export_batch_size(7).with_schedule_delay(LONG));
    rig.run(|| spans(50));
    let sizes: Vec<_> = rig.collector.requests().iter().map(|request| request.spans).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 50);
    assert!(sizes.iter().all(|size| (1..=7).contains(size)), "{sizes:?}");
}

#[test]
fn a_full_batch_leaves_at_once_and_a_small_one_after_the_delay() {
    let rig = Rig::with(|builder| builder.with_max_export_batch_size(5).with_schedule_delay(LONG));
    in_subscriber(&rig, || spans(5));
    rig.collector.wait_for_spans(5, TIMEOUT).unwrap();
    assert_eq!(rig.collector.requests()[0].spans, 5);

    let rig = Rig::with(|builder| builder.with_schedule_delay(Duration::from_millis(20)));
    in_subscriber(&rig, || spans(1));
    rig.collector.wait_for_spans(1, TIMEOUT).unwrap();
    in_subscriber(&rig, || spans(1));
    rig.collector.wait_for_spans(2, TIMEOUT).unwrap();
}

#[test]
fn batches_stay_below_what_a_receiver_takes() {
    let rig = Rig::with(|builder| builder.with_schedule_delay(LONG));
    let text = "x".repeat(100_000);
    rig.run(|| {
        for _ in 0..100 {
            info_span!("large", text).in_scope(|| ());
        }
        // Larger than a batch alone: it goes by itself.
        info_span!("huge", text = "x".repeat(3_000_000)).in_scope(|| ());
    });
    assert_eq!(rig.collector.spans().len(), 101);
    assert!(rig.collector.requests().len() >= 6);
}

/// A pipeline whose exporter holds its first batch, of one span, until the gate is dropped.
fn held(
    configure: impl FnOnce(Builder) -> Builder,
) -> (Dispatch, Telemetry, Kept, mpsc::Sender<()>) {
    let (gate, is_open) = mpsc::channel::<()>();
    let (arrived, has_arrived) = mpsc::channel::<()>();
    let is_open = Mutex::new(is_open);
    let (exporter, kept) = custom(move |_| {
        let _ = arrived.send(());
        let _ = is_open.lock().unwrap().recv(); // an error is what opens it
    });
    let builder = tracing_feedback::builder()
        .with_exporter(exporter)
        .with_schedule_delay(Duration::from_millis(1));
    let (layer, telemetry) = configure(builder).build().unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    dispatcher::with_default(&dispatch, || info_span!("first").in_scope(|| ()));
    has_arrived.recv().unwrap();
    (dispatch, telemetry, kept, gate)
}

#[test]
fn the_queue_is_bounded_by_bytes() {
    let (dispatch, telemetry, kept, gate) = held(|builder| builder.with_max_queue_bytes(200_000));
    let text = "x".repeat(10_000);
    dispatcher::with_default(&dispatch, || {
        for _ in 0..1_000 {
            info_span!("large", text).in_scope(|| ());
        }
    });
    let stats = telemetry.stats();
    assert!((10..=20).contains(&stats.queued), "{stats:?}");
    assert_eq!(stats.dropped_by_reason["queue_full"], 1_000 - stats.queued);
    drop(gate);
    let error = telemetry.flush().unwrap_err();
    assert_eq!(error.lost(), 1_000 - stats.queued);
    assert!(error.to_string().contains("queue_full"), "{error}");
    assert_eq!(kept.lock().unwrap().len() as u64, 1 + stats.queued);
    dispatcher::with_default(&dispatch, || spans(1));
    telemetry.flush().unwrap();
}

#[test]
fn spans_with_feedback_take_the_place_of_others() {
    let (dispatch, telemetry, kept, gate) = held(|builder| builder.with_max_queue_size(8));
    let rate = |times: i64| {
        for n in 0..times {
            info_span!("rated", n).in_scope(|| enrich_span!(feedback = { "rating": n }));
        }
    };
    dispatcher::with_default(&dispatch, || {
        spans(10);
        rate(5);
        spans(10);
    });
    let stats = telemetry.stats();
    assert_eq!((stats.queued, stats.dropped, stats.dropped_feedback), (8, 17, 0));
    // Whichever thread made the span.
    let provider =
        SdkTracerProvider::builder().with_span_processor(telemetry.span_processor()).build();
    provider.tracer("library").in_span("theirs", |context| {
        context.span().set_attribute(KeyValue::new("feedback.rating", 1));
    });
    assert_eq!(telemetry.stats().dropped_feedback, 0);
    // Feedback doesn't evict feedback.
    dispatcher::with_default(&dispatch, || rate(5));
    let stats = telemetry.stats();
    assert_eq!((stats.queued, stats.dropped, stats.dropped_feedback), (8, 23, 3));
    // A caller that can still get the error does.
    let target = SpanContext::new(1.into(), 2.into(), TraceFlags::SAMPLED, true, TraceState::NONE);
    let late = dispatcher::with_default(&dispatch, || {
        enrich_span!(target = &target, feedback = { "rating": 1 }).into_result()
    });
    assert_eq!(late, Err(EnrichError::QueueFull));
    drop(gate);
    assert_eq!(telemetry.flush().unwrap_err().lost(), 24);
    let kept = kept.lock().unwrap();
    let names: Vec<_> = kept.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, [&["first"], &["rated"; 5][..], &["theirs"], &["rated"; 2]].concat());
}

#[test]
fn a_small_queue_is_emptied_before_it_is_full() {
    let rig = Rig::with(|builder| builder.with_schedule_delay(LONG).with_max_queue_bytes(100_000));
    let text = "x".repeat(10_000);
    in_subscriber(&rig, || {
        for n in 1..=6 {
            info_span!("large", text, n).in_scope(|| ());
        }
    });
    rig.collector.wait_for_spans(4, TIMEOUT).unwrap();
    assert_eq!(rig.telemetry.stats().dropped, 0);
}

#[test]
fn nothing_waits_for_a_silent_collector() {
    let rig = Rig::with(|builder| {
        builder.with_timeout(Duration::from_millis(500)).with_max_export_batch_size(100)
    });
    rig.collector.answer_all(Some(Answer::Silence));
    in_subscriber(&rig, || spans(100));
    rig.collector.wait_for_requests(1, TIMEOUT).unwrap();
    in_subscriber(&rig, || spans(9_900));
    // All of them have ended, and the collector hasn't answered once.
    let silent = |request: &tracing_feedback::collector::ReceivedRequest| {
        request.outcome == Outcome::Scripted(Answer::Silence)
    };
    assert!(rig.collector.requests().iter().all(silent));
    rig.collector.answer_all(None);
    let error = rig.telemetry.flush().unwrap_err();
    let arrived = rig.collector.spans().len() as u64;
    assert_eq!(arrived + error.lost(), 10_000, "{error}");
    assert!(error.lost() >= 100 && arrived > 0, "{error}");
    assert_eq!(rig.telemetry.stats().exported, arrived);
}

// ---- the end -----------------------------------------------------------------------------------

#[test]
fn what_ended_right_before_shutdown_arrives() {
    let Rig { collector, telemetry, dispatch, .. } = Rig::new();
    dispatcher::with_default(&dispatch, || spans(1_000));
    telemetry.shutdown().unwrap();
    let numbers: BTreeSet<_> =
        collector.spans().iter().map(|span| span.attributes["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..1_000).collect());
}

#[test]
fn shutdown_under_load_loses_nothing_that_ended_before() {
    let Rig { collector, telemetry, dispatch, .. } = Rig::new();
    let ended: Vec<AtomicUsize> = (0..8).map(|_| AtomicUsize::new(0)).collect();
    let is_over = AtomicBool::new(false);
    let before = thread::scope(|threads| {
        for (thread, ended) in ended.iter().enumerate() {
            let (dispatch, is_over) = (&dispatch, &is_over);
            threads.spawn(move || {
                dispatcher::with_default(dispatch, || {
                    for n in 0..5_000 {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        info_span!("span", thread, n).in_scope(|| ());
                        ended.store(n + 1, Ordering::Release);
                    }
                });
            });
        }
        while ended.iter().any(|ended| ended.load(Ordering::Acquire) < 50) {
            thread::yield_now();
        }
        let before: Vec<_> = ended.iter().map(|ended| ended.load(Ordering::Acquire)).collect();
        telemetry.shutdown().unwrap();
        is_over.store(true, Ordering::Relaxed);
        before
    });
    let arrived: BTreeSet<_> = collector
        .spans()
        .iter()
        .map(|span| ["thread", "n"].map(|key| span.attributes[key].as_i64().unwrap() as usize))
        .collect();
    for (thread, before) in before.into_iter().enumerate() {
        for n in 0..before {
            assert!(arrived.contains(&[thread, n]), "{n} of {before} on thread {thread}");
        }
    }
}

#[test]
fn shutdown_gives_up_at_its_limit_and_says_so() {
    let Rig { collector, telemetry, dispatch, .. } =
        Rig::with(|builder| builder.with_timeout(LONG).with_max_export_batch_size(2));
    collector.answer_all(Some(Answer::Silence));
    dispatcher::with_default(&dispatch, || spans(5));
    let error =
        with_timeout(move || telemetry.shutdown_within(Duration::from_millis(100))).unwrap_err();
    assert_eq!((error.lost(), error.pending()), (0, 5));
}

#[test]
fn a_dropped_handle_shuts_down_within_its_limit() {
    let silent = Rig::with(|builder| builder.with_timeout(LONG));
    silent.collector.answer_all(Some(Answer::Silence));
    in_subscriber(&silent, || spans(1));
    let telemetry = silent.telemetry;
    with_timeout(move || drop(telemetry));

    let Rig { collector, telemetry, dispatch, .. } = Rig::new();
    dispatcher::with_default(&dispatch, || spans(3));
    drop(telemetry);
    assert_eq!(collector.spans().len(), 3);
}

#[test]
fn after_shutdown_spans_are_dropped_and_shutting_down_again_is_fine() {
    let Rig { collector, telemetry, dispatch, .. } = Rig::new();
    let processor = telemetry.span_processor();
    dispatcher::with_default(&dispatch, || {
        let open = info_span!("open").entered();
        spans(1);
        telemetry.shutdown().unwrap();
        drop(open);
        spans(3);
        info_span!("rated", feedback.rating = 5).in_scope(|| ());
    });
    processor.force_flush().unwrap();
    processor.shutdown().unwrap();
    assert_eq!(collector.spans().len(), 1);
    let stats = telemetry.stats();
    assert_eq!((stats.dropped_by_reason["after_shutdown"], stats.dropped_feedback), (5, 1));
}

#[test]
fn the_layer_may_go_before_its_handle_and_after_it() {
    let Rig { collector, telemetry, dispatch, .. } = Rig::new();
    dispatcher::with_default(&dispatch, || spans(1));
    drop(dispatch);
    telemetry.flush().unwrap();
    drop(telemetry);
    assert_eq!(collector.spans().len(), 1);
}

// ---- exporters of the SDK ----------------------------------------------------------------------

/// What an exporter does with a batch.
type Export = dyn Fn(&[SpanData]) + Send + Sync;

struct Custom {
    export: Box<Export>,
    kept: Arc<Mutex<Vec<SpanData>>>,
    resource: Arc<Mutex<Option<Resource>>>,
}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Custom")
    }
}

impl SpanExporter for Custom {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        // Timers, tasks and blocking calls all work where an exporter runs.
        tokio::time::sleep(Duration::from_millis(1)).await;
        info_span!("of the exporter").in_scope(|| info!("exporting"));
        let batch = tokio::spawn(async move { batch }).await.unwrap();
        (self.export)(&batch);
        self.kept.lock().unwrap().extend(batch);
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        *self.resource.lock().unwrap() = Some(resource.clone());
    }
}

type Kept = Arc<Mutex<Vec<SpanData>>>;

fn custom(export: impl Fn(&[SpanData]) + Send + Sync + 'static) -> (Custom, Kept) {
    let kept = Kept::default();
    let exporter =
        Custom { export: Box::new(export), kept: kept.clone(), resource: Arc::default() };
    (exporter, kept)
}

fn exporting(exporter: impl SpanExporter + 'static) -> (Dispatch, Telemetry) {
    let builder = tracing_feedback::builder().with_service_name("chat").with_exporter(exporter);
    let (layer, telemetry) = builder.build().unwrap();
    (Dispatch::new(tracing_subscriber::registry().with(layer)), telemetry)
}

#[test]
fn an_exporter_of_ones_own() {
    let (exporter, kept) = custom(|_| ());
    let resource = exporter.resource.clone();
    let (dispatch, telemetry) = exporting(exporter);
    dispatcher::with_default(&dispatch, || {
        info_span!("span").in_scope(|| enrich_span!(feedback = { "rating": 1 }));
    });
    telemetry.flush().unwrap();
    let kept = kept.lock().unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].name, "span");
    let rating =
        kept[0].attributes.iter().find(|attribute| attribute.key.as_str() == "feedback.rating");
    assert_eq!(rating.unwrap().value, opentelemetry::Value::I64(1));
    let resource = resource.lock().unwrap().clone().unwrap();
    let name = resource.get(&opentelemetry::Key::from_static_str("service.name"));
    assert_eq!(name.unwrap().as_str(), "chat");
}

#[test]
fn an_exporter_that_panics() {
    let first = AtomicBool::new(true);
    let (exporter, kept) = custom(move |_| assert!(!first.swap(false, Ordering::Relaxed), "oh no"));
    let (dispatch, telemetry) = exporting(exporter);
    dispatcher::with_default(&dispatch, || spans(2));
    let error = telemetry.flush().unwrap_err();
    assert_eq!(error.lost(), 2);
    assert!(error.to_string().contains("panicked"), "{error}");
    dispatcher::with_default(&dispatch, || spans(1));
    telemetry.flush().unwrap();
    assert_eq!(kept.lock().unwrap().len(), 1);
    telemetry.shutdown().unwrap();
}

#[test]
fn an_exporter_that_blocks() {
    let (go, may_go) = mpsc::channel::<()>();
    let (arrived, has_arrived) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let (exporter, kept) = custom(move |_| {
        arrived.send(()).unwrap();
        may_go.lock().unwrap().recv().unwrap();
    });
    let (dispatch, telemetry) = exporting(exporter);
    dispatcher::with_default(&dispatch, || spans(1));
    let error = telemetry.flush_within(Duration::from_millis(10)).unwrap_err();
    assert_eq!(error.pending(), 1);
    has_arrived.recv().unwrap();
    dispatcher::with_default(&dispatch, || spans(1_000));
    assert_eq!(telemetry.stats().queued, 1_000);
    drop(go); // the first batch panics, and so do all that come
    let error = telemetry.flush().unwrap_err();
    assert_eq!(error.lost(), 1_001);
    assert!(kept.lock().unwrap().is_empty());
}

/// An exporter that never finishes.
#[derive(Debug)]
struct Endless;

impl SpanExporter for Endless {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        pending().await
    }
}

#[test]
fn an_exporter_that_never_ends_is_given_up_on() {
    let builder = tracing_feedback::builder()
        .with_exporter(Endless)
        .with_export_timeout(Duration::from_millis(50));
    let (layer, telemetry) = builder.build().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || spans(2));
    let error = telemetry.flush().unwrap_err();
    assert_eq!(error.lost(), 2);
    assert!(error.to_string().contains("longer than 50ms"), "{error}");
}

#[test]
fn exporters_of_opentelemetry_otlp_made_elsewhere() {
    let collector = Collector::start().unwrap();
    // For a client that could do TLS, though it doesn't here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(reqwest::Client::new())
        .with_endpoint(format!("{}/v1/traces", collector.http_endpoint()))
        .build()
        .unwrap();
    let (dispatch, telemetry) = exporting(http);
    dispatcher::with_default(&dispatch, || info_span!("over http").in_scope(|| ()));
    telemetry.flush().unwrap();
    assert_eq!(one(&collector, "over http").resource["service.name"], "chat");

    // Tonic connects on the runtime it is made in.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let grpc = runtime.block_on(async {
        opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(collector.endpoint())
            .build()
            .unwrap()
    });
    let (dispatch, telemetry) = exporting(grpc);
    dispatcher::with_default(&dispatch, || info_span!("over grpc").in_scope(|| ()));
    telemetry.flush().unwrap();
    one(&collector, "over grpc");
}
