//! The work that the benchmarks measure: a request span with nine leaf spans of two fields each.

use std::hint::black_box;

/// Spans of one request.
pub(crate) const SPANS: u64 = 10;

pub(crate) fn request(user: u64) {
    let _request = tracing::info_span!("request", user, path = "/answer").entered();
    for step in 0..SPANS - 1 {
        let _leaf = tracing::info_span!("leaf", step, query = "capital of New York").entered();
        black_box(step);
    }
}
