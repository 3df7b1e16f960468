//! What a library pays without the layer: the macros compile, their values are never evaluated, and the
//! outcome says that no layer is installed.

use std::cell::Cell;

use tracing_feedback::opentelemetry::trace::SpanContext;
use tracing_feedback::{EnrichError, enrich, enrich_session, enrich_span};

fn main() {
    let evaluated = Cell::new(0);
    let value = || {
        evaluated.set(evaluated.get() + 1);
        5
    };
    let target = SpanContext::empty_context();
    for outcome in [
        enrich_span!(feedback = { "rating": value(), "edits": [{ "value": value() }] }),
        enrich_span!(target = target, id = "vote-1", feedback = { "rating": value() }),
        enrich_session!(session_id = "conversation-42", metrics = { "score": value() }),
        enrich::current_span().metadata(&[("key", 1)]).apply(),
    ] {
        assert_eq!(outcome.into_result(), Err(EnrichError::NotInstalled));
    }
    assert_eq!(evaluated.get(), 0);
    println!("4 enrichments without a layer, no value evaluated");
}
