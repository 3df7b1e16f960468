fn main() {
    tracing_feedback::enrich_span!(feedback);
}
