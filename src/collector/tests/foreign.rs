//! Feedback in the forms of other emitters: what each states, and that it counts once.

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use proptest::prelude::*;
use serde_json::json;

use super::super::foreign;
use super::super::receive::received;
use super::super::role::feedback_with_events;
use super::logs;
use super::*;

const TRACE: u128 = 0xabc;
const SPAN: u64 = 0xdef;
const SECOND: u64 = 1_000_000_000;

fn about() -> Target {
    Target::Span(TraceId::from(TRACE), SpanId::from(SPAN))
}

fn answer() -> Span {
    Span { end_time_unix_nano: 10 * SECOND, ..named("answer", TRACE, SPAN) }
}

fn attributes(list: &[(&str, Value)]) -> Vec<KeyValue> {
    list.iter().map(|(key, value)| key_value(key, value.clone())).collect()
}

/// A log record about the answer.
fn record(time_unix_nano: u64, list: &[(&str, Value)]) -> LogRecord {
    LogRecord {
        event_name: "gen_ai.evaluation.result".into(),
        time_unix_nano,
        trace_id: TRACE.to_be_bytes().to_vec(),
        span_id: SPAN.to_be_bytes().to_vec(),
        attributes: attributes(list),
        ..LogRecord::default()
    }
}

fn events(records: impl IntoIterator<Item = LogRecord>) -> Vec<ReceivedLogRecord> {
    super::super::receive::log_record::log_records(logs::of(records))
}

/// What is folded of spans and records, as JSON.
fn folded(
    spans: impl IntoIterator<Item = Span>,
    records: impl IntoIterator<Item = LogRecord>,
    target: &Target,
) -> serde_json::Value {
    let (spans, events) = (received(spans), events(records));
    let once = feedback_with_events(&spans, &events, target);
    let (again, repeated) = (spans.iter().chain(&spans), [events.clone(), events].concat());
    assert_eq!(feedback_with_events(again, &repeated, target), once, "delivered twice");
    serde_json::from_str(&Value::Map(once).to_string()).unwrap()
}

fn of_records(records: impl IntoIterator<Item = LogRecord>) -> serde_json::Value {
    folded([answer()], records, &about())
}

fn rating(value: f64, label: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("gen_ai.evaluation.name", "rating".into()),
        ("gen_ai.evaluation.score.value", value.into()),
        ("gen_ai.evaluation.score.label", label.into()),
    ]
}

#[test]
fn a_log_record_of_a_user_is_feedback() {
    let mut vote = rating(0.0, "false");
    vote.push(("gen_ai.evaluation.explanation", "Wrong capital".into()));
    vote.push(("openlit.score.idempotency_key", "vote-17".into()));
    let expected = json!({"feedback.rating": false, "feedback.comment": "Wrong capital"});
    assert_eq!(of_records([record(20, &vote)]), expected);
    // The same key is the same vote, whenever it is sent again.
    let again = record(30 * SECOND, &vote);
    let other = record(25 * SECOND, &rating(1.0, "true"));
    let expected = json!({"feedback.rating": true, "feedback.comment": "Wrong capital"});
    assert_eq!(of_records([record(20, &vote), again, other]), expected);
}

#[test]
fn a_change_of_mind_and_back_is_three_votes() {
    let (up, down) = (rating(1.0, "true"), rating(0.0, "false"));
    let votes = [record(20, &up), record(30, &down), record(40, &up)];
    assert_eq!(of_records(votes.clone()), json!({"feedback.rating": true}));
    assert_eq!(of_records(votes.into_iter().rev()), json!({"feedback.rating": true}));
}

#[test]
fn a_record_without_a_time_counts_by_when_it_was_observed() {
    let observed = |time, list: &[(&str, Value)]| LogRecord {
        observed_time_unix_nano: time,
        ..record(0, list)
    };
    let votes = [observed(30, &rating(1.0, "true")), observed(20, &rating(0.0, "false"))];
    assert_eq!(of_records(votes), json!({"feedback.rating": true}));
}

#[test]
fn what_an_evaluator_states_is_metrics() {
    let mut of_code = rating(0.0, "fail");
    of_code.push(("gen_ai.evaluation.explanation", "No source".into()));
    of_code.push(("gen_ai.evaluation.evaluator.source", r#"{"name":"IsGrounded"}"#.into()));
    assert_eq!(
        of_records([record(20, &of_code)]),
        json!({"metrics.rating": false, "metrics.rating_explanation": "No source"})
    );
    let failed = [
        ("gen_ai.evaluation.name", "grounded".into()),
        ("gen_ai.evaluation.evaluator.source", "{}".into()),
        ("gen_ai.evaluation.explanation", "no answer".into()),
        ("error.type", "TimeoutError".into()),
    ];
    assert_eq!(
        of_records([record(20, &failed)]),
        json!({"metrics.grounded_error": "TimeoutError", "metrics.grounded_explanation": "no answer"})
    );
    let mut of_model = rating(4.0, "pass");
    of_model.push(("microsoft.gen_ai.evaluation.actor.type", "model".into()));
    assert_eq!(
        of_records([record(20, &of_model)]),
        json!({"metrics.rating": 4.0, "metrics.rating_label": "pass"})
    );
}

#[test]
fn feedback_of_foundry_is_read_with_its_scale() {
    let stars = |kind: &str| {
        let properties = json!({
            "gen_ai.evaluation.type": kind, "microsoft.human_evaluation.source": "end_user",
        });
        let mut stars = rating(1.0, "pass");
        stars.push(("microsoft.custom_event.name", "gen_ai.evaluation.result".into()));
        stars.push(("internal_properties", properties.to_string().into()));
        LogRecord { event_name: String::new(), ..record(20, &stars) }
    };
    let of_scale = json!({"feedback.rating": 1.0, "feedback.rating_label": "pass"});
    assert_eq!(of_records([stars("ordinal")]), of_scale);
    assert_eq!(of_records([stars("boolean")]), json!({"feedback.rating": true}));
    let mut human = rating(1.0, "pass");
    human.push(("microsoft.gen_ai.human_evaluation.source", "end_user".into()));
    human.push(("microsoft.gen_ai.evaluation.actor.type", "human".into()));
    assert_eq!(of_records([record(20, &human)]), json!({"feedback.rating": true}));
}

#[test]
fn a_record_is_about_its_span_its_trace_or_its_session() {
    let vote = rating(1.0, "true");
    let expected = json!({"feedback.rating": true});
    let of_trace = LogRecord { span_id: vec![], ..record(20, &vote) };
    let trace = Target::Trace(TraceId::from(TRACE));
    assert_eq!(folded([], [of_trace], &trace), expected);
    for key in ["session.id", "gen_ai.conversation.id"] {
        let mut vote = vote.clone();
        vote.push((key, "conversation-42".into()));
        let of_session = LogRecord { trace_id: vec![], ..record(20, &vote) };
        let session = Target::Session("conversation-42".into());
        assert_eq!(folded([], [of_session], &session), expected, "{key}");
        // With a span it is about the span.
        assert_eq!(folded([], [record(20, &vote)], &session), json!({}), "{key}");
        vote.push(("tracing_feedback.scope", "session".into()));
        assert_eq!(folded([], [record(20, &vote)], &session), expected, "{key}");
    }
    let mut vote = vote;
    vote.push(("tracing_feedback.scope", "trace".into()));
    assert_eq!(folded([], [record(20, &vote)], &trace), expected);
}

/// An event of this crate about the answer.
fn own(time: u64, name: &str, namespace: &str, rest: &[(&'static str, Value)]) -> LogRecord {
    let mut list = vec![
        ("gen_ai.evaluation.name", name.into()),
        ("tracing_feedback.namespace", namespace.into()),
        ("tracing_feedback.time_unix_nano", Value::Int(time as i64)),
    ];
    list.extend(rest.iter().cloned());
    record(time + 5, &list)
}

#[test]
fn events_of_this_crate_are_read_where_no_span_states_the_same() {
    let score = |value: f64| ("gen_ai.evaluation.score.value", Value::Double(value));
    let label = |text: &str| ("gen_ai.evaluation.score.label", Value::from(text));
    let comment = ("gen_ai.evaluation.explanation", Value::from("Slow"));
    let records = [
        own(1, "rating", "feedback", &[score(1.0), label("true"), comment.clone()]),
        own(1, "comment", "feedback", &[label("Slow"), comment.clone()]),
        own(1, "step1.retry", "feedback", &[score(0.0), label("false"), comment.clone()]),
        own(1, "relevance", "metrics", &[score(0.5), comment]),
        own(1, "ground_truth", "feedback", &[label("Albany")]),
        own(2, "rating", "feedback", &[("tracing_feedback.retracted", true.into())]),
    ];
    let expected = json!({
        "feedback.step1.retry": false, "feedback.comment": "Slow", "feedback.ground_truth": "Albany",
        "metrics.relevance": 0.5,
    });
    assert_eq!(of_records(records), expected);
}

#[test]
fn what_an_enrichment_removes_it_removes_before_it_sets_others() {
    let score = [("gen_ai.evaluation.score.value", Value::Double(1.0))];
    let retracted = [("tracing_feedback.retracted", Value::Bool(true))];
    let mut of_namespace = own(3, "", "metrics", &retracted);
    of_namespace.attributes.remove(0);
    // An array that replaces another one, a namespace that is retracted, and what is set beside it.
    let mut records = vec![own(1, "edits.0.value", "feedback", &score)];
    records.push(own(1, "edits.1.value", "feedback", &score));
    records.push(own(1, "relevance", "metrics", &score));
    records.push(own(2, "edits.0.value", "feedback", &score));
    records.push(own(2, "edits", "feedback", &retracted));
    records.push(of_namespace);
    for name in ["a", "b", "c", "d", "e", "f"] {
        records.push(own(3, name, "metrics", &score));
    }
    let expected = json!({
        "feedback.edits.0.value": 1.0, "metrics.a": 1.0, "metrics.b": 1.0, "metrics.c": 1.0,
        "metrics.d": 1.0, "metrics.e": 1.0, "metrics.f": 1.0,
    });
    assert_eq!(of_records(records), expected);
}

#[test]
fn events_of_this_crate_change_nothing_beside_the_spans_that_state_the_same() {
    let score = |value: f64| [("gen_ai.evaluation.score.value", Value::Double(value))];
    let carrier = |time: u64, value: i64| {
        named("feedback", 0x77, 0x100 + time)
            .linked_to(TRACE, SPAN)
            .started_at(time)
            .with("tracing_feedback.late", true)
            .with("tracing_feedback.time_unix_nano", time as i64)
            .with("feedback.stars", value)
    };
    // Enriched twice while it was open, and once after its end.
    let spans = [answer().with("feedback.rating", 2), carrier(20 * SECOND, 4)];
    let records = [
        own(1, "rating", "feedback", &score(1.0)),
        own(2, "rating", "feedback", &score(2.0)),
        own(20 * SECOND, "stars", "feedback", &score(4.0)),
    ];
    let expected = json!({"feedback.rating": 2, "feedback.stars": 4}); // ints, as the spans have them
    assert_eq!(folded(spans.clone(), records.clone(), &about()), expected);
    // One record alone, and without its successor.
    let expected_first = folded(spans, records[..1].to_vec(), &about());
    assert_eq!(expected_first, expected);
}

#[test]
fn an_event_of_a_span_is_about_the_span() {
    let event = |time_unix_nano, list: &[(&str, Value)]| span::Event {
        name: "gen_ai.evaluation.result".into(),
        time_unix_nano,
        attributes: attributes(list),
        ..span::Event::default()
    };
    let judged = Span {
        events: vec![event(2, &rating(1.0, "true")), event(3, &rating(0.0, "false"))],
        ..answer()
    };
    assert_eq!(folded([judged.clone()], [], &about()), json!({"feedback.rating": false}));
    // OpenLIT sends the same as a log record, a moment later.
    let record = record(4, &rating(0.0, "false"));
    assert_eq!(folded([judged], [record], &about()), json!({"feedback.rating": false}));
    // On a span that traces an evaluation and links to what it evaluates.
    let evaluation = Span {
        events: vec![event(20, &rating(0.5, ""))],
        ..named("evaluate", 9, 9)
            .linked_to(TRACE, SPAN)
            .with("openinference.span.kind", "EVALUATOR")
    };
    assert_eq!(folded([evaluation], [], &about()), json!({"feedback.rating": 0.5}));
}

#[test]
fn the_evaluation_span_of_genai_is_about_its_parent() {
    let evaluation = named("gen_ai.evaluation.result", TRACE, 0x10)
        .child_of(SPAN)
        .started_at(20)
        .with("gen_ai.evaluation.name", "Relevance")
        .with("gen_ai.evaluation.score.value", 4.0)
        .with("gen_ai.evaluation.score.label", "relevant")
        .with("gen_ai.evaluation.explanation", "On the topic");
    let expected = json!({
        "feedback.Relevance": 4.0, "feedback.Relevance_label": "relevant",
        "feedback.comment": "On the topic",
    });
    assert_eq!(folded([answer(), evaluation], [], &about()), expected);
}

#[test]
fn annotations_of_openinference_are_read_inline_and_post_hoc() {
    let list = [
        ("annotations.0.annotation.name", "correctness".into()),
        ("annotations.0.annotation.score", Value::Int(1)),
        ("annotations.0.annotation.label", "correct".into()),
        ("annotations.0.annotation.annotator_kind", "HUMAN".into()),
        ("evaluations.0.evaluation.name", "hallucination".into()),
        ("evaluations.0.evaluation.score", Value::Double(0.25)),
        ("evaluations.0.evaluation.explanation", "Unsupported".into()),
        ("evaluations.0.evaluation.annotator_kind", "LLM".into()),
        ("trace.annotations.0.annotation.name", "quality".into()),
        ("trace.annotations.0.annotation.score", Value::Double(0.5)),
        ("trace.annotations.0.annotation.annotator_kind", "CODE".into()),
        ("session.annotations.0.annotation.name", "coherence".into()),
        ("session.annotations.0.annotation.label", "coherent".into()),
        ("session.id", "conversation-42".into()),
        // No judgement: without a name, without a result, with an index that is none.
        ("annotations.1.annotation.score", Value::Int(1)),
        ("annotations.2.annotation.name", "empty".into()),
        ("annotations.x.annotation.name", "none".into()),
    ];
    let of_span = json!({
        "feedback.correctness": 1, "feedback.correctness_label": "correct",
        "metrics.hallucination": 0.25, "metrics.hallucination_explanation": "Unsupported",
    });
    let inline = Span { attributes: attributes(&list), ..answer() };
    // The link of a span of another kind than EVALUATOR is not the target of its annotations.
    let chain = inline.clone().with("openinference.span.kind", "CHAIN").linked_to(7, 7);
    let post_hoc = Span { attributes: attributes(&list), ..named("judge", 9, 9) };
    for (what, span) in
        [("inline", inline), ("chain", chain), ("post-hoc", post_hoc.linked_to(TRACE, SPAN))]
    {
        assert_eq!(folded([span.clone()], [], &about()), of_span, "{what}");
        let trace = Target::Trace(TraceId::from(TRACE));
        assert_eq!(folded([span.clone()], [], &trace), json!({"metrics.quality": 0.5}), "{what}");
        let session = Target::Session("conversation-42".into());
        assert_eq!(
            folded([span], [], &session),
            json!({"feedback.coherence": "coherent"}),
            "{what}"
        );
    }
    // The same result in both terms counts once.
    let both = [
        ("annotations.0.annotation.name", "tone".into()),
        ("annotations.0.annotation.label", "kind".into()),
        ("evaluations.0.evaluation.name", "tone".into()),
        ("evaluations.0.evaluation.label", "kind".into()),
    ];
    let span = Span { attributes: attributes(&both), ..answer() };
    assert_eq!(foreign::of_span(&received([span])[0]).len(), 1);
}

#[test]
fn the_annotation_span_of_logfire_is_about_its_parent() {
    let annotation = named("feedback: rating", TRACE, 0x20)
        .child_of(SPAN)
        .with("logfire.span_type", "annotation")
        .with("logfire.msg", "feedback: rating = True")
        .with("logfire.feedback.name", "rating")
        .with("rating", true)
        .with("logfire.feedback.comment", "Thank you")
        .with("user.id", "u-17");
    let expected = json!({"feedback.rating": true, "feedback.comment": "Thank you"});
    assert_eq!(folded([answer(), annotation.clone()], [], &about()), expected);
    let carrier = &received(foreign::of_span(&received([annotation.clone()])[0]))[0];
    assert_eq!(carrier.attributes["user.id"], "u-17");
    let ordinary = Span { attributes: annotation.attributes[1..].to_vec(), ..annotation };
    assert_eq!(folded([answer(), ordinary], [], &about()), json!({}));
}

#[test]
fn the_expected_output_of_a_langfuse_experiment_is_the_ground_truth() {
    let item = answer()
        .with("langfuse.experiment.item.expected_output", "Albany")
        .with("langfuse.experiment.item.root_observation_id", format!("{SPAN:016x}"));
    let expected = json!({"feedback.ground_truth": "Albany"});
    assert_eq!(folded([item.clone()], [], &about()), expected);
    // A span below it has the same attributes.
    let below = Span { attributes: item.attributes, ..named("generation", TRACE, 9) };
    let of_below = Target::Span(TraceId::from(TRACE), SpanId::from(9));
    assert_eq!(folded([below], [], &of_below), json!({}));
}

#[test]
fn a_judgement_that_names_no_target_is_about_nothing() {
    let lost = LogRecord { trace_id: vec![], span_id: vec![], ..record(20, &rating(1.0, "true")) };
    let carrier = foreign::of_log_record(&events([lost])[0]).unwrap();
    assert_eq!(received([carrier])[0].role(), Role::Adrift);
    let root = named("gen_ai.evaluation.result", TRACE, 1)
        .with("gen_ai.evaluation.name", "x")
        .with("gen_ai.evaluation.score.value", 1.0);
    let carriers = foreign::of_span(&received([root])[0]);
    assert_eq!(received(carriers)[0].role(), Role::Adrift);
}

#[test]
fn the_collector_folds_events_that_it_received() {
    let collector = Collector::start().unwrap();
    block_on(export(&collector, request([answer().with("feedback.stars", 3)]), None)).unwrap();
    let vote = logs::of([record(20, &rating(1.0, "true"))]);
    for _ in 0..2 {
        let body = prost::Message::encode_to_vec(&vote);
        let headers = [("content-type", PROTOBUF)];
        assert_eq!(http(&collector, "POST", "/v1/logs", &headers, &body).unwrap().status, 200);
    }
    let feedback = collector.feedback(TraceId::from(TRACE), SpanId::from(SPAN));
    assert_eq!(feedback["feedback.rating"], true);
    assert_eq!(feedback["feedback.stars"], 3);
    assert_eq!(collector.events().len(), 2);
}

/// The ids of a judgement are stored, and compared with those of what arrives later.
#[test]
fn the_ids_of_carriers_stay_the_same() {
    let carrier = foreign::of_log_record(&events([record(20, &rating(1.0, "true"))])[0]).unwrap();
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&carrier.trace_id), "eb602a47a1781309d6d1422b21a99c63");
    assert_eq!(hex(&carrier.span_id), "a1d02ed6d16eefa7");
    let score = ("gen_ai.evaluation.score.value", Value::Double(1.0));
    let own = own(20, "rating", "feedback", &[score]);
    let carrier = foreign::of_log_record(&events([own])[0]).unwrap();
    assert_eq!(hex(&carrier.trace_id), "7805a845905c65fe34a603be8c1cdd36");
    assert_eq!(hex(&carrier.span_id), "cedfaef50c73761c");
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "true",
            "fail",
            "LLM",
            "annotation",
            "session",
            "trace",
            "{\"a\":1}"
        ])
        .prop_map(Value::from),
        prop::collection::vec(".{0,3}".prop_map(Value::from), 0..3).prop_map(Value::Array),
        Just(Value::Empty),
    ]
}

fn any_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![
        prop::sample::select(vec![
            "gen_ai.evaluation.name",
            "gen_ai.evaluation.score.value",
            "gen_ai.evaluation.score.label",
            "gen_ai.evaluation.explanation",
            "error.type",
            "openlit.score.idempotency_key",
            "internal_properties",
            "tracing_feedback.namespace",
            "tracing_feedback.scope",
            "tracing_feedback.retracted",
            "tracing_feedback.time_unix_nano",
            "tracing_feedback.id",
            "session.id",
            "gen_ai.conversation.id",
            "logfire.span_type",
            "logfire.feedback.name",
            "logfire.feedback.comment",
            "annotations.0.annotation.name",
            "annotations.0.annotation.score",
            "annotations.0.annotation.label",
            "session.evaluations.18446744073709551615.evaluation.name",
            "session.evaluations.18446744073709551615.evaluation.label",
            "trace.annotations.1.annotation.name",
            "trace.annotations.1.annotation.explanation",
            "openinference.span.kind",
            "event.name",
            "feedback.rating",
            "tracing_feedback.late",
        ])
        .prop_map(str::to_owned),
        "[a-z.0-9]{0,12}",
    ];
    prop::collection::vec((key, any_value()), 0..10)
        .prop_map(|list| list.iter().map(|(key, value)| key_value(key, value.clone())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    /// Any attributes, on spans, events and records: every carrier is valid, states something, says once what each
    /// attribute is, and is the same when the foreign form arrives again.
    #[test]
    fn whatever_arrives_becomes_valid_carriers_or_none(
        on_span in any_attributes(),
        on_event in any_attributes(),
        on_record in any_attributes(),
        is_evaluation in any::<bool>(),
        parent in 0_u64..2,
        links in 0_usize..3,
        time in any::<u64>(),
    ) {
        let mut span = Span {
            attributes: on_span,
            parent_span_id: parent.to_be_bytes().to_vec(),
            end_time_unix_nano: time,
            start_time_unix_nano: time,
            events: vec![span::Event {
                name: "gen_ai.evaluation.result".into(), attributes: on_event, ..Default::default()
            }],
            ..named(if is_evaluation { "gen_ai.evaluation.result" } else { "x" }, 1, 1)
        };
        for link in 0..links {
            span = span.linked_to(2, link as u64);
        }
        let record = record(time, &[]);
        let record = LogRecord { attributes: on_record, ..record };
        let most = foreign::most_judgements(&span);
        let (span, event) = (&received([span])[0], &events([record])[0]);
        let carriers = |()| {
            let mut carriers = foreign::of_span(span);
            carriers.extend(foreign::of_log_record(event));
            carriers
        };
        prop_assert!(carriers(()).len() <= most + 1);
        prop_assert_eq!(carriers(()), carriers(()));
        for carrier in carriers(()) {
            let shared = (std::sync::Arc::default(), std::sync::Arc::default());
            let carrier = received::span(carrier, &shared.0, &shared.1).unwrap();
            prop_assert!(carrier.is_carrier());
            prop_assert_ne!(carrier.role(), Role::Own);
            let submission = carrier.submission();
            prop_assert!(!submission.attributes.is_empty() || !submission.cleared.is_empty());
            prop_assert_eq!(&carrier.duplicate_keys, &Vec::<String>::new());
        }
    }
}
