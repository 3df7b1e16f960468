//! Merging: enriching an open span, folding what arrived late, and the [rules](crate::rules) give the
//! same attributes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::SpanLimits;
use proptest::collection::vec;
use proptest::prelude::*;
use tracing::{Dispatch, dispatcher};
use tracing_feedback::collector::Value;
use tracing_feedback::{LateTraces, SpanExt, Telemetry, enrich};

use super::Rig;
use crate::rules::{Json, by_the_rfc, config, from_tree, history, naive};

/// Two services that send to one collector: their carriers are in traces of their own, or children
/// of their targets.
struct Services {
    own: Rig,
    target: (Dispatch, Telemetry),
}

impl Services {
    fn new() -> Self {
        // What happens past the limit is not the subject here.
        let limits = SpanLimits { max_attributes_per_span: 10_000, ..SpanLimits::default() };
        let own = Rig::with(|builder| builder.with_span_limits(limits));
        let target = own.other_service(|builder| {
            builder.with_span_limits(limits).with_late_traces(LateTraces::Target)
        });
        Self { own, target }
    }

    /// Does something in the first service, and waits until everything of both has arrived.
    fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let result = self.own.run(work);
        self.target.1.flush().unwrap();
        result
    }

    /// Sends late feedback by the one or the other, from a span of that service.
    fn late<T>(&self, is_child: bool, send: impl FnOnce() -> T) -> T {
        let dispatch = if is_child { &self.target.0 } else { &self.own.dispatch };
        dispatcher::with_default(dispatch, || tracing::info_span!("request").in_scope(send))
    }
}

/// The same services for all cases of a property: what a case sends is forgotten before the next.
fn services(cell: &'static OnceLock<Services>) -> &'static Services {
    let services = cell.get_or_init(Services::new);
    services.own.collector.clear();
    services
}

/// Which carriers are children of their targets, by position.
#[derive(Clone, Copy, Debug)]
struct Kinds(u8);

impl Kinds {
    const OWN: Self = Self(0);
    const TARGET: Self = Self(u8::MAX);

    fn is_child(self, at: usize) -> bool {
        self.0 >> (at % 8) & 1 == 1
    }
}

fn enrich_open(span: &tracing::Span, document: &Json) {
    let outcome = enrich::span(span).feedback(document).apply();
    assert!(outcome.is_ok(), "{outcome:?}");
}

fn enrich_late(target: &opentelemetry::trace::SpanContext, document: &Json) {
    let outcome = enrich::current_span().target(target).feedback(document).apply();
    assert!(outcome.is_ok(), "{outcome:?}");
}

/// Documents on an open span up to a number, and as carriers from there on.
fn span_with_late(
    services: &Services,
    history: &[Json],
    open: usize,
    kinds: Kinds,
) -> (TraceId, SpanId) {
    let span = tracing::info_span!("answer");
    for document in &history[..open] {
        enrich_open(&span, document);
    }
    let context = span.span_context().unwrap();
    drop(span);
    for (at, document) in history[open..].iter().enumerate() {
        services.late(kinds.is_child(at), || enrich_late(&context, document));
    }
    (context.trace_id(), context.span_id())
}

fn assert_no_duplicates(services: &Services) {
    for span in services.own.collector.spans() {
        assert!(span.duplicate_keys.is_empty(), "{:?}", span.duplicate_keys);
    }
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn a_span_in_the_process_equals_its_carriers(
        histories in vec((history(true), any::<prop::sample::Index>(), any::<u8>()), 1..24),
    ) {
        static SERVICES: OnceLock<Services> = OnceLock::new();
        let services = services(&SERVICES);
        let mut cases = Vec::new();
        services.run(|| {
            for (history, split, kinds) in &histories {
                let late = |open, kinds| span_with_late(services, history, open, kinds);
                let split = split.index(history.len());
                let targets = [
                    late(history.len(), Kinds::OWN),
                    late(1, Kinds::OWN),
                    late(0, Kinds::TARGET),
                    late(0, Kinds(*kinds)),
                    late(split, Kinds(*kinds)),
                ];
                cases.push((history, targets));
            }
        });
        assert_no_duplicates(services);
        for (history, targets) in cases {
            let expected = naive(history);
            for (trace_id, span_id) in targets {
                prop_assert_eq!(&services.own.collector.feedback(trace_id, span_id), &expected);
            }
        }
    }

    #[test]
    fn a_span_follows_rfc_7396(histories in vec(history(false), 1..24)) {
        static SERVICES: OnceLock<Services> = OnceLock::new();
        let services = services(&SERVICES);
        let mut cases = Vec::new();
        services.run(|| {
            for history in &histories {
                let (history, expected) = by_the_rfc(history);
                if !history.is_empty() {
                    let late = |open| span_with_late(services, &history, open, Kinds::OWN);
                    cases.push(([late(history.len()), late(1)], expected));
                }
            }
        });
        for (targets, expected) in cases {
            for (trace_id, span_id) in targets {
                prop_assert_eq!(&services.own.collector.feedback(trace_id, span_id), &expected);
            }
        }
    }

    /// Also where the span that speaks for its session or trace has feedback of its own, and where
    /// the session goes on after the span has ended.
    #[test]
    fn a_session_in_the_process_equals_its_carriers(
        histories in vec(
            (
                history(true),
                prop_oneof![Just(vec![]), history(true)],
                any::<prop::sample::Index>(),
                any::<u8>(),
            ),
            1..16,
        ),
    ) {
        static SERVICES: OnceLock<Services> = OnceLock::new();
        let services = services(&SERVICES);
        let mut spans = Vec::new();
        services.run(|| {
            for (at, (session, own, split, kinds)) in histories.iter().enumerate() {
                let open = format!("open-{at}");
                let root = tracing::info_span!("turn", session.id = open);
                let context = root.span_context().unwrap();
                for at in 0..session.len().max(own.len()) {
                    if let Some(document) = own.get(at) {
                        enrich_open(&root, document);
                    }
                    if let Some(document) = session.get(at) {
                        // From within: it lands on the outermost span of the session.
                        let outcome = root.in_scope(|| {
                            let inner = tracing::info_span!("inner");
                            inner.in_scope(|| enrich::session().feedback(document).apply())
                        });
                        assert!(outcome.is_ok(), "{outcome:?}");
                    }
                }
                drop(root);

                let late = |id: &str, documents: &[Json]| for document in documents {
                    let outcome = enrich::session().session_id(id).feedback(document).apply();
                    assert!(outcome.is_ok(), "{outcome:?}");
                };
                late(&format!("late-{at}"), session);

                let both = format!("both-{at}");
                let (first, rest) = session.split_at(split.index(session.len() + 1));
                let root = tracing::info_span!("turn", session.id = both);
                for document in first {
                    root.in_scope(|| enrich::session().feedback(document).apply());
                }
                drop(root);
                late(&both, rest);

                // Without a session: the trace.
                let root = tracing::info_span!("turn");
                let trace = root.span_context().unwrap();
                for document in own {
                    enrich_open(&root, document);
                }
                for document in first {
                    root.in_scope(|| enrich::session().feedback(document).apply());
                }
                drop(root);
                for (at, document) in rest.iter().enumerate() {
                    let outcome = services.late(Kinds(*kinds).is_child(at), || {
                        enrich::session().target(&trace).feedback(document).apply()
                    });
                    assert!(outcome.is_ok(), "{outcome:?}");
                }
                spans.push((context, trace));
            }
        });
        assert_no_duplicates(services);
        let collector = &services.own.collector;
        for (at, ((session, own, ..), (span, trace))) in histories.iter().zip(&spans).enumerate() {
            let expected = naive(session);
            for kind in ["open", "late", "both"] {
                let got = collector.session_feedback(&format!("{kind}-{at}"));
                prop_assert_eq!(&got, &expected, "{}", kind);
            }
            prop_assert_eq!(&collector.trace_feedback(trace.trace_id()), &expected);
            for context in [span, trace] {
                let got = collector.feedback(context.trace_id(), context.span_id());
                prop_assert_eq!(&got, &naive(own), "the span's own");
            }
        }
    }
}

proptest! {
    #![proptest_config(config(16))]

    /// What is on spans that are still open at shutdown leaves as carriers.
    #[test]
    fn feedback_on_open_spans_leaves_at_shutdown(
        own in history(true), session in history(true), ancestors in 0..3_usize,
    ) {
        let Rig { collector, telemetry, dispatch, .. } = Rig::new();
        let context = dispatcher::with_default(&dispatch, || {
            let root = tracing::info_span!("turn", session.id = "s");
            let mut span = root.clone();
            for _ in 0..ancestors {
                span = tracing::info_span!(parent: &span, "inner");
            }
            for document in &own {
                enrich_open(&span, document);
            }
            for document in &session {
                span.in_scope(|| enrich::session().feedback(document).apply());
            }
            telemetry.shutdown().unwrap();
            span.span_context().unwrap()
        });
        let got = collector.feedback(context.trace_id(), context.span_id());
        prop_assert_eq!(got, naive(&own));
        prop_assert_eq!(collector.session_feedback("s"), naive(&session));
    }
}

#[test]
fn the_type_of_each_leaf_is_kept() {
    let document = serde_json::json!({
        "bool": true, "int": 1, "double": 1.0, "string": "1", "text": "true",
        "least": i64::MIN, "most": i64::MAX, "more": u64::MAX, "zero": -0.0, "large": 1e300,
    });
    let rig = Rig::new();
    let contexts = rig.run(|| {
        let span = tracing::info_span!("answer");
        let context = span.span_context().unwrap();
        assert!(enrich::span(&span).feedback(&document).apply().is_ok());
        drop(span);
        let other = tracing::info_span!("answer").span_context().unwrap();
        assert!(enrich::current_span().target(&other).feedback(&document).apply().is_ok());
        [context, other]
    });
    for context in contexts {
        let got = rig.collector.feedback(context.trace_id(), context.span_id());
        let expected: [(&str, Value); 10] = [
            ("bool", true.into()),
            ("double", 1.0.into()),
            ("int", 1.into()),
            ("large", 1e300.into()),
            ("least", i64::MIN.into()),
            ("more", "18446744073709551615".into()),
            ("most", i64::MAX.into()),
            ("string", "1".into()),
            ("text", "true".into()),
            ("zero", (-0.0).into()),
        ];
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(key, value)| (format!("feedback.{key}"), value)).collect();
        assert_eq!(got, expected);
        assert!(matches!(got["feedback.zero"], Value::Double(zero) if zero.is_sign_negative()));
    }
}

/// The two departures from the RFC, one by one.
#[test]
fn empty_objects_replace_nothing_and_objects_merge_with_arrays_by_position() {
    let parse = |text: &str| from_tree(&serde_json::from_str(text).unwrap());
    let after =
        |documents: &[&str]| naive(&documents.iter().map(|text| parse(text)).collect::<Vec<_>>());
    let rig = Rig::new();
    for (documents, expected) in [
        (&[r#"{"a": 1}"#, r#"{"a": {}}"#][..], r#"{"a": 1}"#),
        (&[r#"{"a": 1}"#, r#"{"a": {"b": null}}"#], r#"{"a": 1}"#),
        (&[r#"{"a": 1}"#, r#"{"a": {"b": []}}"#], r#"{"a": 1}"#),
        (&[r#"{"a": [1, 2]}"#, r#"{"a": {}}"#], r#"{"a": [1, 2]}"#),
        (&[r#"{"a": [1, 2]}"#, r#"{"a": []}"#], "{}"),
        (&[r#"{"a": 1}"#, r#"{"a": []}"#], "{}"),
        (&[r#"{"a": [1, 2, 3]}"#, r#"{"a": [4]}"#], r#"{"a": [4]}"#),
        (
            &[r#"{"a": [{"b": 1, "c": 2}, 3]}"#, r#"{"a": {"0": {"b": "x"}}}"#],
            r#"{"a": [{"b": "x", "c": 2}, 3]}"#,
        ),
        (&[r#"{"a": 1}"#, r#"{"a.b": 2}"#], r#"{"a": {"b": 2}}"#),
        (
            &[r#"{"a": {"b": 1}, "a-b": 1, "ab": 1}"#, r#"{"a": 2}"#],
            r#"{"a": 2, "a-b": 1, "ab": 1}"#,
        ),
        (&[r#"{"a": {"b": 1}, "a-b": 1, "ab": 1}"#, r#"{"a": null}"#], r#"{"a-b": 1, "ab": 1}"#),
    ] {
        let context = rig.run(|| {
            let span = tracing::info_span!("answer");
            for text in documents {
                enrich_open(&span, &parse(text));
            }
            span.span_context().unwrap()
        });
        let got = rig.collector.feedback(context.trace_id(), context.span_id());
        assert_eq!(got, after(&[expected]), "{documents:?}");
        assert_eq!(got, after(documents), "{documents:?}");
    }
}
