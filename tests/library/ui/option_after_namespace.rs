fn main() {
    tracing_feedback::enrich_span!(feedback = { "rating": 1 }, id = "vote-1");
}
