fn main() {
    tracing_feedback::enrich_span!(feedbak = { "rating": 1 });
}
