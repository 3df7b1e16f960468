#![deny(unused_must_use)]

use tracing_feedback::web::{FeedbackHttpLayer, FeedbackRoutes};
use tracing_feedback::{KeepLimits, OutboxOptions, Session, TicketKeys, TicketOptions};

fn main() {
    let (layer, telemetry) = tracing_feedback::builder().build().unwrap();
    tracing_feedback::builder().with_service_name("chat");
    tracing_feedback::builder().build().unwrap().0;
    tracing_feedback::init().unwrap();
    telemetry.stats();
    telemetry.span_processor();
    telemetry.ticket_keys();
    telemetry.ticket_verifier();
    telemetry.flush_async();
    drop(layer);
    tracing_feedback::enrich::persist_async(std::time::Duration::ZERO);
    tracing_feedback::enrich::current_span();
    tracing_feedback::enrich::session().feedback(&true);
    Session::new();
    TicketKeys::default();
    TicketOptions::new();
    KeepLimits::default();
    OutboxOptions::new("outbox");
    FeedbackHttpLayer::new();
    FeedbackRoutes::new();
    tracing_feedback::collector::Collector::start().unwrap();
    tracing_feedback::desk::Options::new("desk.sqlite").with_any_ports();
}
