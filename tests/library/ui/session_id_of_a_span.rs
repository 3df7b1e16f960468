fn main() {
    tracing_feedback::enrich_span!(session_id = "s", feedback = { "rating": 1 });
}
