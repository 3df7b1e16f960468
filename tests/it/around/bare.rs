//! Spans made by the OpenTelemetry API alone: enriching them and folding what arrived give what the
//! [rules](crate::rules) say.

use std::sync::OnceLock;

use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, TraceContextExt, Tracer as _};
use opentelemetry_sdk::trace::{Sampler, SpanLimits};
use proptest::collection::vec;
use proptest::prelude::*;
use tracing_feedback::enrich;

use super::Service;
use crate::rules::{Json, config, history, naive};

fn service(cell: &'static OnceLock<Service>) -> &'static Service {
    let service = cell.get_or_init(|| {
        // What happens past the limit is not the subject here.
        let limits = SpanLimits { max_attributes_per_span: 10_000, ..SpanLimits::default() };
        Service::with(|builder| builder.with_span_limits(limits), Sampler::AlwaysOn)
    });
    service.collector.clear();
    service
}

fn enrich_active(document: &Json) {
    let outcome = enrich::current_span().feedback(document).apply();
    assert!(outcome.is_ok(), "{outcome:?}");
}

fn enrich_session(document: &Json) {
    let outcome = enrich::session().feedback(document).apply();
    assert!(outcome.is_ok(), "{outcome:?}");
}

fn enrich_late(target: &SpanContext, document: &Json) {
    let outcome = enrich::current_span().target(target).feedback(document).apply();
    assert!(outcome.is_ok(), "{outcome:?}");
}

proptest! {
    #![proptest_config(config(24))]

    /// Documents on an open span up to a number, then some after it was ended while it is active, and the
    /// rest by its context.
    #[test]
    fn a_span_equals_its_carriers(
        histories in vec(
            (history(true), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..16,
        ),
    ) {
        static SERVICE: OnceLock<Service> = OnceLock::new();
        let service = service(&SERVICE);
        let mut spans = Vec::new();
        for (history, one, other) in &histories {
            let (one, other) = (one.index(history.len() + 1), other.index(history.len() + 1));
            let (open, ended) = (one.min(other), one.max(other));
            spans.push(service.tracer.in_span("answer", |context| {
                history[..open].iter().for_each(enrich_active);
                context.span().end();
                history[open..ended].iter().for_each(enrich_active);
                context.span().span_context().clone()
            }));
            let context = spans.last().unwrap();
            history[ended..].iter().for_each(|document| enrich_late(context, document));
        }
        let arrived = service.arrived();
        prop_assert!(arrived.iter().all(|span| span.duplicate_keys.is_empty()));
        for ((history, ..), span) in histories.iter().zip(spans) {
            let got = service.collector.feedback(span.trace_id(), span.span_id());
            prop_assert_eq!(got, naive(history));
        }
    }

    /// Attributes in the namespace are the beginning of the document.
    #[test]
    fn attributes_are_the_first_of_its_documents(
        histories in vec(history(true), 1..16),
    ) {
        static SERVICE: OnceLock<Service> = OnceLock::new();
        let service = service(&SERVICE);
        let mut spans = Vec::new();
        for history in &histories {
            let attributes = naive(&history[..1]).into_iter().map(|(key, value)| {
                use tracing_feedback::collector::Value;
                match value {
                    Value::Bool(value) => KeyValue::new(key, value),
                    Value::Int(value) => KeyValue::new(key, value),
                    Value::Double(value) => KeyValue::new(key, value),
                    Value::String(value) => KeyValue::new(key, value),
                    other => panic!("{other:?}"),
                }
            });
            let builder = service.tracer.span_builder("answer").with_attributes(attributes);
            let context = Context::current_with_span(builder.start(&service.tracer));
            let _active = context.clone().attach();
            history[1..].iter().for_each(enrich_active);
            spans.push(context.span().span_context().clone());
        }
        service.arrived();
        for (history, span) in histories.iter().zip(spans) {
            let got = service.collector.feedback(span.trace_id(), span.span_id());
            prop_assert_eq!(got, naive(history));
        }
    }

    /// Also where the span that speaks for its session or trace has feedback of its own, and where the
    /// session goes on after the span has ended.
    #[test]
    fn a_session_equals_its_carriers(
        histories in vec(
            (
                history(true),
                prop_oneof![Just(vec![]), history(true)],
                any::<prop::sample::Index>(),
                any::<bool>(),
            ),
            1..12,
        ),
    ) {
        static SERVICE: OnceLock<Service> = OnceLock::new();
        let service = service(&SERVICE);
        let tracer = &service.tracer;
        let mut spans = Vec::new();
        for (at, (session, own, split, has_session)) in histories.iter().enumerate() {
            let id = format!("conversation-{at}");
            let (open, late) = session.split_at(split.index(session.len() + 1));
            let mut builder = tracer.span_builder("turn");
            if *has_session {
                builder = builder.with_attributes([KeyValue::new("session.id", id.clone())]);
            }
            let context = Context::current_with_span(builder.start(tracer));
            let span = context.span().span_context().clone();
            {
                let _active = context.attach();
                own.iter().for_each(enrich_active);
                // From within: it lands on the outermost span.
                open.iter().for_each(|document| {
                    tracer.in_span("step", |_| tracer.in_span("tool", |_| enrich_session(document)));
                });
            }
            for document in late {
                let session = enrich::session();
                let session =
                    if *has_session { session.session_id(&id) } else { session.target(&span) };
                let outcome = session.feedback(document).apply();
                assert!(outcome.is_ok(), "{outcome:?}");
            }
            spans.push(span);
        }
        let arrived = service.arrived();
        prop_assert!(arrived.iter().all(|span| span.duplicate_keys.is_empty()));
        for (at, ((session, own, _, has_session), span)) in histories.iter().zip(&spans).enumerate() {
            let got = match has_session {
                true => service.collector.session_feedback(&format!("conversation-{at}")),
                false => service.collector.trace_feedback(span.trace_id()),
            };
            prop_assert_eq!(got, naive(session));
            let got = service.collector.feedback(span.trace_id(), span.span_id());
            prop_assert_eq!(got, naive(own), "the span's own");
        }
    }
}
