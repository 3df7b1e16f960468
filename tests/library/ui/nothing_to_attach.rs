fn main() {
    tracing_feedback::enrich_span!();
    tracing_feedback::enrich_session!(session_id = "s",);
}
