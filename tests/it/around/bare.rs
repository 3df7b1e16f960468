//! Spans made by the OpenTelemetry API alone: enriching them and folding what arrived give what the
//! [rules](crate::rules) say.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, TraceContextExt, Tracer as _};
use opentelemetry_sdk::trace::{Sampler, SpanLimits};
use proptest::collection::vec;
use proptest::prelude::*;
use tracing_feedback::collector::Value;
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

    /// Spans below each other that start and end in any order, some of which begin a session: each
    /// enrichment, of a key of its own, arrives where it belongs, once.
    #[test]
    fn nothing_is_lost_in_any_tree(
        steps in vec((0..8_u8, any::<prop::sample::Index>(), 0..3_u8), 1..120),
    ) {
        struct Open {
            context: Context,
            session: Option<String>,
        }
        static SERVICE: OnceLock<Service> = OnceLock::new();
        let service = service(&SERVICE);
        let tracer = &service.tracer;
        let (mut open, mut all) = (Vec::<Open>::new(), Vec::new());
        let mut expected = BTreeMap::<Target, BTreeMap<String, Value>>::new();
        for (key, (step, which, session)) in steps.into_iter().enumerate() {
            let at = (!open.is_empty()).then(|| which.index(open.len()));
            let document = serde_json::json!({ format!("k{key}"): key });
            let mut expect = |target| {
                let of_target = expected.entry(target).or_default();
                of_target.insert(format!("feedback.k{key}"), (key as i64).into());
            };
            match (step, at) {
                (0..3, _) | (_, None) => {
                    let mut builder = tracer.span_builder("span");
                    let parent = at.filter(|_| step > 0).map(|at| &open[at]);
                    let begun = (session > 0).then(|| format!("session-{session}"));
                    if let Some(id) = &begun {
                        builder = builder.with_attributes([KeyValue::new("session.id", id.clone())]);
                    }
                    let outer = parent.map_or_else(Context::new, |parent| parent.context.clone());
                    let session = begun.or_else(|| parent?.session.clone());
                    let context = outer.with_span(builder.start_with_context(tracer, &outer));
                    all.push(context.span().span_context().clone());
                    open.push(Open { context, session });
                }
                (3 | 4, Some(at)) => {
                    let _active = open[at].context.clone().attach();
                    prop_assert!(enrich::current_span().feedback(&document).apply().is_ok());
                    let span = Context::current().span().span_context().clone();
                    expect(Target::Span(span.trace_id().to_string(), span.span_id().to_string()));
                }
                (5 | 6, Some(at)) => {
                    let Open { context, session } = &open[at];
                    let _active = context.clone().attach();
                    prop_assert!(enrich::session().feedback(&document).apply().is_ok());
                    let trace = context.span().span_context().trace_id().to_string();
                    expect(session.clone().map_or(Target::Trace(trace), Target::Session));
                }
                (_, Some(at)) => open.swap_remove(at).context.span().end(),
            }
        }
        while !open.is_empty() {
            open.swap_remove(open.len() / 2).context.span().end();
        }
        let arrived = service.arrived();
        prop_assert!(arrived.iter().all(|span| span.duplicate_keys.is_empty()));
        let collector = &service.collector;
        let mut got = BTreeMap::new();
        for span in all {
            let (trace, id) = (span.trace_id().to_string(), span.span_id().to_string());
            let feedback = collector.feedback(span.trace_id(), span.span_id());
            got.insert(Target::Span(trace.clone(), id), feedback);
            got.insert(Target::Trace(trace), collector.trace_feedback(span.trace_id()));
        }
        for session in ["session-1", "session-2"] {
            got.insert(Target::Session(session.to_owned()), collector.session_feedback(session));
        }
        got.retain(|_, feedback| !feedback.is_empty());
        prop_assert_eq!(got, expected);
    }
}

/// What feedback is about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Span(String, String),
    Session(String),
    Trace(String),
}
