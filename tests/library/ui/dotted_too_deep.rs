fn main() {
    tracing_feedback::enrich_span!(feedback = { "1.2.3.4": { "5.6.7": true } });
}
