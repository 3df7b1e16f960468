//! The work that the benchmarks measure: a request span with nine leaf spans of two fields each.

use std::borrow::Cow;
use std::hint::black_box;

use fastrace::prelude::{LocalSpan, Span, SpanContext};

/// Spans of one request.
pub(crate) const SPANS: u64 = 10;

pub(crate) fn request(user: u64) {
    let _request = tracing::info_span!("request", user, path = "/answer").entered();
    for step in 0..SPANS - 1 {
        let _leaf = tracing::info_span!("leaf", step, query = "capital of New York").entered();
        black_box(step);
    }
}

#[allow(dead_code)] // not every benchmark has it
/// The same as [`request`], by the API of `fastrace`.
pub(crate) fn fastrace_request(user: u64) {
    let request = Span::root("request", SpanContext::random())
        .with_properties(|| [("user", number(user)), ("path", "/answer".into())]);
    let _request = request.set_local_parent();
    for step in 0..SPANS - 1 {
        let _leaf = LocalSpan::enter_with_local_parent("leaf")
            .with_properties(|| [("step", number(step)), ("query", "capital of New York".into())]);
        black_box(step);
    }
}

#[allow(dead_code)]
/// Properties are text.
fn number(number: u64) -> Cow<'static, str> {
    number.to_string().into()
}
