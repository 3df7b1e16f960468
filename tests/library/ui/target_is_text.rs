fn main() {
    let text = String::new();
    tracing_feedback::enrich_span!(target = text, feedback = { "rating": true });
}
