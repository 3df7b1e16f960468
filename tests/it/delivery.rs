//! The wire path: retries, the delays that a collector asks for, and requests that are too large
//! for it.

use std::time::Duration;

use tracing::info_span;
use tracing_feedback::collector::{Answer, Outcome, Value};
use tracing_feedback::{Protocol, enrich_span};

use crate::Rig;

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

fn spans(n: usize) {
    for at in 0..n {
        info_span!("span", at).in_scope(|| ());
    }
}

#[test]
fn a_passing_failure_passes() {
    let unavailable = Answer::Unavailable { retry_after: None };
    for protocol in PROTOCOLS {
        for failure in [unavailable.clone(), Answer::Cut] {
            let rig = Rig::over(protocol);
            rig.collector.answer_next(failure.clone());
            rig.collector.answer_next(failure.clone());
            rig.run(|| spans(3));
            assert_eq!(rig.collector.spans().len(), 3);
            let outcomes: Vec<_> =
                rig.collector.requests().into_iter().map(|request| request.outcome).collect();
            let failed = Outcome::Scripted(failure.clone());
            assert_eq!(outcomes, [failed.clone(), failed, Outcome::Accepted]);
            let stats = rig.telemetry.stats();
            assert_eq!((stats.exported, stats.retried, stats.dropped), (3, 6, 0));
        }
    }
}

#[test]
fn a_collector_that_says_when_to_come_back_is_believed() {
    let retry_after = Duration::from_secs(1);
    for protocol in PROTOCOLS {
        for answer in [
            Answer::Unavailable { retry_after: Some(retry_after) },
            Answer::ResourceExhausted { retry_after: Some(retry_after) },
        ] {
            let rig = Rig::over(protocol);
            rig.collector.answer_next(answer);
            rig.run(|| spans(1));
            let requests = rig.collector.requests();
            let pause = requests[1].received_at - requests[0].received_at;
            assert!(pause >= retry_after, "{pause:?}");
        }
    }
}

#[test]
fn a_final_failure_is_not_repeated() {
    for protocol in PROTOCOLS {
        let rig = Rig::over(protocol);
        rig.collector.answer_next(Answer::BadRequest { message: "no such tenant".into() });
        tracing::dispatcher::with_default(&rig.dispatch, || spans(2));
        let error = rig.telemetry.flush().unwrap_err();
        assert_eq!((error.lost(), error.pending()), (2, 0));
        assert!(error.to_string().contains("no such tenant"), "{error}");
        assert_eq!(rig.collector.requests().len(), 1);
        rig.run(|| spans(1));
        assert_eq!(rig.collector.spans().len(), 1);
    }
}

#[test]
fn a_failure_that_does_not_pass_is_given_up_in_time() {
    for protocol in PROTOCOLS {
        let rig = Rig::over(protocol);
        rig.collector.answer_all(Some(Answer::Unavailable { retry_after: None }));
        tracing::dispatcher::with_default(&rig.dispatch, || {
            let _span = info_span!("rated").entered();
            assert!(enrich_span!(feedback = { "rating": 1 }).is_ok());
        });
        let error = rig.telemetry.flush().unwrap_err();
        assert_eq!((error.lost(), error.pending()), (1, 0), "{error}");
        assert!(rig.collector.requests().len() > 3);
        assert_eq!(rig.telemetry.stats().dropped_feedback, 1);
    }
}

#[test]
fn a_request_that_is_too_large_arrives_in_parts() {
    let rig = Rig::new();
    // Without a retry delay, the status of a gRPC collector is about the size.
    for _ in 0..3 {
        rig.collector.answer_next(Answer::ResourceExhausted { retry_after: None });
    }
    rig.run(|| spans(100));
    let at: Vec<_> =
        rig.collector.spans().iter().map(|span| span.attributes["at"].clone()).collect();
    assert_eq!(at, (0..100_i64).map(Value::from).collect::<Vec<_>>());
    let sizes: Vec<_> = rig.collector.requests().iter().map(|request| request.spans).collect();
    assert_eq!(sizes, [100, 50, 25, 12, 13, 25, 50]);
}

#[test]
fn spans_of_several_scopes_arrive_under_their_own() {
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    let rig = Rig::new();
    let processor = rig.telemetry.span_processor();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    rig.run(|| {
        for name in ["first", "second", "first"] {
            provider.tracer(name).in_span("theirs", |_| ());
            info_span!("ours").in_scope(|| ());
        }
    });
    assert_eq!(rig.collector.requests().len(), 1);
    let spans = rig.collector.spans();
    let mut scopes: Vec<_> = spans.iter().map(|span| (&*span.name, &*span.scope.name)).collect();
    scopes.sort_unstable();
    let ours = ("ours", "tracing-feedback");
    assert_eq!(
        scopes,
        [ours, ours, ours, ("theirs", "first"), ("theirs", "first"), ("theirs", "second")]
    );
}
