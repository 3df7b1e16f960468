struct Opinion;

fn main() {
    tracing_feedback::enrich_span!(feedback = { "rating": Opinion });
}
