//! Folding: from received spans to documents.

use super::*;

const TRACE: u128 = 0xA;
const OTHER_TRACE: u128 = 0xB;

fn about_span(spans: &[ReceivedSpan], span_id: u64) -> String {
    show(feedback(spans, &Target::Span(TraceId::from(TRACE), SpanId::from(span_id))))
}

fn about_session(spans: &[ReceivedSpan], id: &str) -> String {
    show(feedback(spans, &Target::Session(id.into())))
}

fn about_trace(spans: &[ReceivedSpan], trace_id: u128) -> String {
    show(feedback(spans, &Target::Trace(TraceId::from(trace_id))))
}

fn show(document: BTreeMap<String, Value>) -> String {
    let lines: Vec<_> = document.iter().map(|(key, value)| format!("{key}={value}")).collect();
    lines.join(" ")
}

fn carrier(trace_id: u128, span_id: u64, time: i64) -> Span {
    named("feedback", trace_id, span_id)
        .with("tracing_feedback.late", true)
        .with("tracing_feedback.time_unix_nano", time)
}

fn scoped(scope: &str, trace_id: u128, span_id: u64, time: i64) -> Span {
    named("root", trace_id, span_id)
        .with("tracing_feedback.scope", scope)
        .with("tracing_feedback.time_unix_nano", time)
}

#[test]
fn only_the_namespaces_count_with_either_prefix() {
    let span = named("answer", TRACE, 1)
        .with("feedback.rating", true)
        .with("honeyhive_metrics.score", 0.5)
        .with("metadata.a", 1)
        .with("user_properties.plan", "free")
        .with("inputs.q", "?")
        .with("outputs.a.0", "!")
        .with("config.model", "m")
        .with("config", "a field of that name")
        .with("feedbacks.rating", 1)
        .with("honeyhive_other.x", 1)
        .with("http.feedback.x", 1)
        .with("session.id", "s");
    assert_eq!(
        about_span(&received([span]), 1),
        "config.model=\"m\" feedback.rating=true honeyhive_metrics.score=0.5 inputs.q=\"?\" \
         metadata.a=1 outputs.a.0=\"!\" user_properties.plan=\"free\""
    );
}

#[test]
fn carriers_apply_by_their_time_however_they_arrive() {
    let own = named("answer", TRACE, 1)
        .with("feedback.rating", 1)
        .with("feedback.edits.0", "a")
        .with("feedback.edits.1", "b");
    let first = carrier(TRACE, 20, 100).linked_to(TRACE, 1).with("feedback.rating", 2);
    let second = carrier(TRACE, 10, 200)
        .linked_to(TRACE, 1)
        .with("feedback.rating", 3)
        .with("feedback.edits.0", "c")
        .with("tracing_feedback.cleared", vec!["feedback.edits"]);
    let expected = "feedback.edits.0=\"c\" feedback.rating=3";
    let arrivals = [
        [&own, &first, &second, &second, &first, &own],
        [&second, &first, &own, &own, &first, &second],
    ];
    for arrival in arrivals {
        assert_eq!(about_span(&received(arrival.into_iter().cloned()), 1), expected);
    }
    // Before its target has arrived, a carrier counts by itself.
    assert_eq!(about_span(&received([second]), 1), expected);
}

#[test]
fn a_target_sent_twice_counts_as_it_came_first_and_a_submission_by_its_earliest() {
    let own = |rating: i64| named("answer", TRACE, 1).with("feedback.rating", rating);
    assert_eq!(about_span(&received([own(1), own(2)]), 1), "feedback.rating=1");

    let vote = |time, rating: i64| {
        carrier(TRACE, 5, time).linked_to(TRACE, 1).with("feedback.rating", rating)
    };
    let between = carrier(TRACE, 6, 15).linked_to(TRACE, 1).with("feedback.rating", 9);
    let spans = received([own(1), vote(20, 3), between, vote(10, 2)]);
    assert_eq!(about_span(&spans, 1), "feedback.rating=9");
}

#[test]
fn a_submission_without_a_time_counts_by_its_start_and_a_single_cleared_key_may_be_a_string() {
    let timeless = named("feedback", TRACE, 4)
        .with("tracing_feedback.late", true)
        .with("tracing_feedback.cleared", "feedback.comment")
        .with("feedback.rating", 2)
        .linked_to(TRACE, 1)
        .started_at(50);
    let own = named("answer", TRACE, 1).with("feedback.comment", "x");
    let earlier = carrier(TRACE, 2, 40).linked_to(TRACE, 1).with("feedback.rating", 1);
    let later = carrier(TRACE, 3, 60).linked_to(TRACE, 1).with("feedback.rating", 3);
    let spans = received([own.clone(), timeless.clone(), earlier]);
    assert_eq!(about_span(&spans, 1), "feedback.rating=2");
    assert_eq!(about_span(&received([own, later, timeless]), 1), "feedback.rating=3");
}

#[test]
fn feedback_about_another_target_is_not_about_the_span_that_carries_it() {
    let spans = received([
        scoped("session", TRACE, 1, 10).with("session.id", "s").with("feedback.a", 1),
        scoped("trace", TRACE, 2, 10).with("feedback.b", 1),
        carrier(TRACE, 3, 10).linked_to(TRACE, 1).with("feedback.c", 1),
        carrier(TRACE, 4, 10).with("feedback.d", 1), // linked to nothing
        carrier(TRACE, 5, 10).linked_to(TRACE, 9).linked_to(TRACE, 8).with("feedback.e", 1),
        scoped("session", TRACE, 6, 10).with("feedback.f", 1), // of no session
    ]);
    assert_eq!(about_span(&spans, 1), "feedback.c=1");
    for silent in [2, 3, 4, 5, 6, 8, 9] {
        assert_eq!(about_span(&spans, silent), "", "{silent}");
    }
    assert_eq!(about_session(&spans, "s"), "feedback.a=1");
    assert_eq!(about_session(&spans, ""), "");
    assert_eq!(about_trace(&spans, TRACE), "feedback.b=1");
    assert_eq!(spans[3].role(), Role::Adrift);
    assert_eq!(spans[5].role(), Role::Adrift);
}

#[test]
fn a_session_is_one_document_over_traces_and_carriers() {
    let spans = received([
        scoped("session", OTHER_TRACE, 2, 200)
            .with("session.id", "s")
            .with("feedback.rating", 2)
            .with("tracing_feedback.cleared", vec!["feedback.tags"]),
        scoped("session", TRACE, 1, 100)
            .with("session.id", "s")
            .with("feedback.rating", 1)
            .with("feedback.tags.0", "x"),
        carrier(0xC, 3, 300)
            .with("tracing_feedback.scope", "session")
            .with("session.id", "s")
            .with("feedback.comment", "late"),
        scoped("session", TRACE, 4, 400).with("session.id", "other").with("feedback.rating", 9),
        named("in it", TRACE, 5).with("session.id", "s").with("feedback.rating", 7),
    ]);
    assert_eq!(about_session(&spans, "s"), "feedback.comment=\"late\" feedback.rating=2");
    assert_eq!(about_span(&spans, 5), "feedback.rating=7");
}

#[test]
fn a_carrier_in_a_trace_of_its_own_counts_for_the_one_it_is_linked_to() {
    let spans = received([
        scoped("trace", TRACE, 1, 100).with("feedback.rating", 1),
        carrier(OTHER_TRACE, 2, 200)
            .with("tracing_feedback.scope", "trace")
            .linked_to(TRACE, 1)
            .with("feedback.rating", 2),
        carrier(OTHER_TRACE, 3, 300).linked_to(TRACE, 1).with("feedback.own", true),
    ]);
    assert_eq!(about_trace(&spans, TRACE), "feedback.rating=2");
    assert_eq!(about_trace(&spans, OTHER_TRACE), "");
    assert_eq!(about_span(&spans, 1), "feedback.own=true");
    // A link of a span that is no carrier is about something else.
    let follower = scoped("trace", TRACE, 1, 1).linked_to(OTHER_TRACE, 9).with("feedback.a", 1);
    assert_eq!(about_trace(&received([follower]), TRACE), "feedback.a=1");
}

#[test]
fn the_link_says_what_a_carrier_is_about_whichever_trace_it_is_in() {
    let trace = |span: Span| span.with("tracing_feedback.scope", "trace");
    let spans = received([
        // In the trace of another span, below that span: an older version, and a wrong parent.
        carrier(OTHER_TRACE, 2, 10).child_of(9).linked_to(TRACE, 1).with("feedback.span", true),
        trace(carrier(OTHER_TRACE, 3, 10).child_of(9).linked_to(TRACE, 1))
            .with("feedback.trace", 1),
        named("answer", OTHER_TRACE, 9),
    ]);
    assert_eq!(about_span(&spans, 1), "feedback.span=true");
    assert_eq!(about_trace(&spans, TRACE), "feedback.trace=1");
    assert_eq!(about_trace(&spans, OTHER_TRACE), "");
}

#[test]
fn a_carrier_without_exactly_one_valid_link_is_about_nothing() {
    let trace = |span: Span| span.with("tracing_feedback.scope", "trace");
    let adrift = [
        carrier(OTHER_TRACE, 2, 10),
        carrier(OTHER_TRACE, 3, 10).linked_to(TRACE, 1).linked_to(TRACE, 1),
        carrier(OTHER_TRACE, 4, 10).linked_to(TRACE, 0),
        carrier(OTHER_TRACE, 5, 10).linked_to(0, 1),
        trace(carrier(OTHER_TRACE, 6, 10)),
        trace(carrier(OTHER_TRACE, 7, 10).linked_to(TRACE, 1).linked_to(OTHER_TRACE, 1)),
        trace(carrier(OTHER_TRACE, 8, 10).linked_to(0, 1)),
        trace(carrier(OTHER_TRACE, 9, 10).child_of(1).linked_to(TRACE, 1).linked_to(TRACE, 1)),
    ];
    for span in received(adrift.map(|span| span.with("feedback.rating", 1))) {
        assert_eq!(span.role(), Role::Adrift, "{}", span.span_id);
    }
    // A child of its target that has lost its link, and a session, which needs none.
    let child = trace(carrier(TRACE, 2, 10).child_of(1)).with("feedback.rating", 1);
    assert_eq!(about_trace(&received([child]), TRACE), "feedback.rating=1");
    let session = carrier(OTHER_TRACE, 2, 10)
        .with("tracing_feedback.scope", "session")
        .with("session.id", "s")
        .linked_to(TRACE, 1)
        .linked_to(TRACE, 2)
        .with("feedback.rating", 1);
    assert_eq!(about_session(&received([session]), "s"), "feedback.rating=1");
}

#[test]
fn a_collector_answers_from_all_it_received() {
    let collector = Collector::start().unwrap();
    let late = carrier(TRACE, 2, 5).linked_to(TRACE, 1).with("feedback.rating", 2);
    let session = scoped("session", TRACE, 3, 5).with("session.id", "s").with("feedback.a", 1);
    let trace = scoped("trace", TRACE, 4, 5).with("feedback.b", 1);
    block_on(async {
        export(&collector, request([late.clone(), session]), None).await.unwrap();
        export(&collector, request([late, trace, named("answer", TRACE, 1)]), None).await.unwrap();
    });
    let trace_id = TraceId::from(TRACE);
    assert_eq!(show(collector.feedback(trace_id, SpanId::from(1))), "feedback.rating=2");
    assert_eq!(show(collector.session_feedback("s")), "feedback.a=1");
    assert_eq!(show(collector.trace_feedback(trace_id)), "feedback.b=1");
}

#[test]
fn a_tree_shows_each_trace_whatever_the_order_of_arrival() {
    let spans = [
        named("POST /chat", TRACE, 1).started_at(10).with("http.route", "/chat"),
        named("answer", TRACE, 2).child_of(1).started_at(20).with("feedback.rating", true),
        named("b", TRACE, 4).child_of(1).started_at(30).with("metadata.list", vec!["x", "y"]),
        named("a", TRACE, 5).child_of(1).started_at(30),
        carrier(TRACE, 3, 5)
            .child_of(2)
            .linked_to(TRACE, 2)
            .started_at(40)
            .with("feedback.rating", false)
            .with("tracing_feedback.cleared", vec!["feedback.tags"]),
        scoped("session", OTHER_TRACE, 6, 5).with("session.id", "s").with("feedback.stars", 5),
        named("orphan", OTHER_TRACE, 7).child_of(99).started_at(50),
    ];
    let expected = "\
root (session)
    feedback.stars = 5
orphan
POST /chat
  answer
      feedback.rating = false
    feedback (late)
        feedback.tags cleared
        feedback.rating = false
  a
  b
      metadata.list = [\"x\",\"y\"]
";
    assert_eq!(tree::tree(&received(spans.clone())), expected);
    let again = spans.iter().rev().chain(&spans).cloned();
    assert_eq!(tree::tree(&received(again)), expected);
}

#[test]
fn a_tree_shows_a_carrier_below_its_target_also_from_a_trace_of_its_own() {
    let spans = received([
        named("POST /chat", TRACE, 1).started_at(10),
        named("answer", TRACE, 2).child_of(1).started_at(20),
        named("other", OTHER_TRACE, 1).started_at(30),
        carrier(0xC, 3, 5).linked_to(TRACE, 2).started_at(40).with("feedback.rating", 1),
        carrier(0xD, 4, 6).linked_to(0xE, 2).started_at(50).with("feedback.rating", 2),
        carrier(0xC, 5, 7).linked_to(0xC, 5).started_at(60).with("feedback.rating", 3),
    ]);
    let expected = "\
POST /chat
  answer
      feedback.rating = 1
    feedback (late)
        feedback.rating = 1
other
feedback (late)
    feedback.rating = 2
feedback (late)
    feedback.rating = 3
";
    assert_eq!(tree::tree(&spans), expected);
}

#[test]
fn a_tree_survives_parents_in_a_circle_and_long_chains() {
    let circle = received([
        named("a", TRACE, 1).child_of(2),
        named("b", TRACE, 2).child_of(1),
        named("self", TRACE, 3).child_of(3),
    ]);
    assert_eq!(tree::tree(&circle), "a\n  b\nself\n");
    let chain = received((1..=2_000).map(|id| named("x", TRACE, id).child_of(id - 1)));
    assert_eq!(tree::tree(&chain).lines().count(), 2_000);
}
