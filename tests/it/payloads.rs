//! The first thing anyone sends, over every protocol, with exactly its types.

use tracing::info_span;
use tracing_feedback::collector::Value;
use tracing_feedback::{Protocol, enrich_session, enrich_span};

use crate::Rig;
use crate::show::one;

#[test]
fn two_payloads_arrive_over_every_protocol_with_their_types() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson] {
        let rig = Rig::over(protocol);
        rig.run(|| {
            let _root = info_span!("request", session.id = "s").entered();
            info_span!("answer").in_scope(|| {
                let user_id = "u-1";
                let outcome = enrich_span!(feedback = {
                    "rating": true,
                    "comment": "The model hallucinated the capital of New York",
                    "user_id": user_id,
                    "ground_truth": "The capital of New York is Albany",
                });
                assert!(outcome.is_ok(), "{outcome:?}");
            });
            let outcome = enrich_session!(feedback = {
                "rating": 5,
                "comment": "Great experience",
                "step1": { "retry": true },
                "edits": [{ "value": "New York" }],
            });
            assert!(outcome.is_ok(), "{outcome:?}");
        });

        let answer = &one(&rig.collector, "answer").attributes;
        assert_eq!(answer["feedback.rating"], Value::Bool(true), "{protocol}");
        assert_eq!(
            answer["feedback.comment"], "The model hallucinated the capital of New York",
            "{protocol}"
        );
        assert_eq!(answer["feedback.user_id"], "u-1", "{protocol}");
        let truth = "The capital of New York is Albany";
        assert_eq!(answer["feedback.ground_truth"], truth, "{protocol}");

        let session = rig.collector.session_feedback("s");
        let expected = [
            ("feedback.comment", Value::String("Great experience".into())),
            ("feedback.edits.0.value", Value::String("New York".into())),
            ("feedback.rating", Value::Int(5)),
            ("feedback.step1.retry", Value::Bool(true)),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value)).into();
        assert_eq!(session, expected, "{protocol}");
    }
}
