fn main() {
    tracing_feedback::enrich_span!(feedback = { "a..b": 1 });
}
