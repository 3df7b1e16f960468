fn main() {
    let span = tracing::Span::current();
    tracing_feedback::enrich_session!(span = &span, feedback = { "rating": 1 });
}
