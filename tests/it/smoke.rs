use tracing_feedback::{enrich_session, enrich_span};

use crate::Rig;

#[test]
fn the_first_payload_arrives_with_its_types() {
    let rig = Rig::new();
    rig.run(|| {
        let _span = tracing::info_span!("answer", question = "capital?").entered();
        let user_id = "u-1";
        let outcome = enrich_span!(feedback = {
            "rating": true,
            "comment": "The model hallucinated the capital of New York",
            "user_id": user_id,
            "ground_truth": "The capital of New York is Albany",
            "step1": { "retry": true },
            "edits": [{ "value": "New York" }],
        });
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(enrich_session!(feedback = { "rating": 5 }).is_ok());
    });
    println!("{}", rig.collector.tree());
    let spans = rig.collector.spans();
    let span = spans.iter().find(|span| span.name == "answer").unwrap();
    assert_eq!(span.attributes["feedback.rating"], true);
    assert_eq!(span.attributes["feedback.step1.retry"], true);
    assert_eq!(span.attributes["feedback.edits.0.value"], "New York");
    println!("{span:#?}");
}
