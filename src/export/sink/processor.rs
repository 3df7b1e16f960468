//! The sink that hands records to a span processor of the OpenTelemetry SDK.

use std::time::Duration;

use opentelemetry::trace::{SpanContext, TraceFlags};
use opentelemetry_sdk::trace::SpanData;

use super::exporter::span_data;
use super::{Backpressure, Batch, Delivery, MOST_SPANS_OF_SDK, Sink};

/// Hands each record to `hand_over`. A record that is exported though its trace isn't sampled gets the
/// flag of a sampled one: processors export nothing else.
pub(crate) struct ProcessorSink<F> {
    hand_over: F,
}

impl<F: Fn(SpanData) -> Result<(), &'static str>> ProcessorSink<F> {
    pub(crate) fn new(hand_over: F) -> Self {
        Self { hand_over }
    }
}

impl<F: Fn(SpanData) -> Result<(), &'static str>> Sink for ProcessorSink<F> {
    fn component(&self) -> &'static str {
        "span_processor"
    }

    fn most_spans(&self) -> usize {
        MOST_SPANS_OF_SDK
    }

    fn export(&mut self, batches: Vec<Batch>, _: &Backpressure) -> Delivery {
        let mut delivery = Delivery::default();
        for batch in batches {
            let mut feedback = batch.feedback as u64;
            batch.read(|record, scope| {
                let mut span = span_data(record, scope);
                span.span_context = sampled(&span.span_context);
                match (self.hand_over)(span) {
                    Ok(()) => delivery.exported += 1,
                    Err(message) => {
                        // Which of the spans have it isn't known here: at worst too many are counted.
                        let with_feedback = feedback.min(1);
                        feedback -= with_feedback;
                        delivery.fail(1, with_feedback, message.to_owned());
                    }
                }
            });
        }
        delivery
    }

    fn shutdown(&mut self, _: Duration) -> Result<Delivery, String> {
        Ok(Delivery::default())
    }
}

/// The context with the flag of a sampled span.
pub(crate) fn sampled(context: &SpanContext) -> SpanContext {
    SpanContext::new(
        context.trace_id(),
        context.span_id(),
        context.trace_flags() | TraceFlags::SAMPLED,
        context.is_remote(),
        context.trace_state().clone(),
    )
}
