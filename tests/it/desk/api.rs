//! The API: what it returns for spans that arrived.

use std::io::Read;

use serde_json::{Value as Json, json};
use tracing_feedback::{Compression, Protocol, enrich_session, enrich_span};
use tracing_subscriber::prelude::*;

use super::*;
use crate::show::with_timeout;

#[test]
fn feedback_of_a_traced_service_arrives_by_each_protocol() {
    let compressions = [None, Some(Compression::Gzip), Some(Compression::Zstd)];
    let protocols = [Protocol::Grpc, Protocol::HttpProtobuf, Protocol::HttpJson];
    let combinations = protocols
        .into_iter()
        .flat_map(|protocol| compressions.map(|compression| (protocol, compression)));
    for (protocol, compression) in combinations {
        with_timeout(move || {
            let rig = Rig::new();
            let endpoint = match protocol {
                Protocol::Grpc => rig.desk.endpoint().unwrap(),
                _ => rig.desk.http_endpoint().unwrap(),
            };
            let mut builder = tracing_feedback::builder()
                .with_service_name("chat")
                .with_protocol(protocol)
                .with_endpoint(endpoint);
            if let Some(compression) = compression {
                builder = builder.with_compression(compression);
            }
            let (layer, telemetry) = builder.build().unwrap();
            let subscriber = tracing_subscriber::registry().with(layer);
            tracing::subscriber::with_default(subscriber, || {
                let span = tracing::info_span!("answer", session.id = "s-1");
                let _entered = span.enter();
                enrich_span!(feedback = { "rating": true, "step": { "retry": 2 } });
                enrich_session!(feedback = { "stars": 5 });
            });
            telemetry.flush().unwrap();
            let list = rig.get("/api/v1/traces");
            assert_eq!(list["total"], 1, "{protocol:?}");
            let row = &list["rows"][0];
            assert_eq!(row["name"], "answer");
            assert_eq!(row["service"], "chat");
            assert_eq!(row["session_id"], "s-1");
            let fields: Vec<_> = row["feedback"]
                .as_array()
                .unwrap()
                .iter()
                .map(|leaf| format!("{}={}", leaf["field"].as_str().unwrap(), leaf["value"]))
                .collect();
            assert_eq!(fields, ["feedback.rating=true", "feedback.step.retry=2"]);
            let session = rig.get("/api/v1/sessions/s-1");
            assert_eq!(session["feedback"][0]["field"], "feedback.stars");
            assert_eq!(session["traces"], 1);
            telemetry.shutdown().unwrap();
        });
    }
}

fn documents(rig: &Rig, trace: u64) -> Json {
    let trace = rig.get(&format!("/api/v1/traces/{trace:032x}"));
    let mut leaves = serde_json::Map::new();
    for span in trace["spans"].as_array().unwrap() {
        if let Some(namespaces) = span["document"]["namespaces"].as_object() {
            for leaf in namespaces.values().flat_map(|leaves| leaves.as_array().unwrap()) {
                leaves.insert(leaf["field"].as_str().unwrap().to_owned(), leaf["value"].clone());
            }
        }
    }
    Json::Object(leaves)
}

#[test]
fn a_change_of_mind_moves_chart_list_and_trace_and_a_retraction_removes() {
    let rig = Rig::new();
    let answer = span("answer", 1, 1, NEW_YEAR)
        .with("feedback.rating", true)
        .with("feedback.comment", "good")
        .with("feedback.edits.0.value", "a")
        .with("feedback.edits.1.value", "b");
    // The change of mind comes first.
    let flip = carrier((1, 1), 9, NEW_YEAR + HOUR)
        .with("feedback.rating", false)
        .with("feedback.user_id", "u-17")
        .with("feedback.edits.0.value", "c")
        .with("tracing_feedback.cleared", json!(["feedback.edits"]));
    rig.send([flip.clone()]);
    assert_eq!(rig.names(""), Vec::<String>::new());
    let waiting = rig.get("/api/v1/waiting");
    assert_eq!(waiting["rows"][0]["reason"], "its target has not come");
    assert_eq!(waiting["rows"][0]["span_id"], format!("{:016x}", 1));

    rig.send([answer.clone()]);
    rig.send([flip, answer]);
    assert_eq!(rig.get("/api/v1/waiting")["total"], 0);
    assert_eq!(
        documents(&rig, 1),
        json!({ "feedback.rating": false, "feedback.comment": "good", "feedback.user_id": "u-17",
                "feedback.edits.0.value": "c" })
    );
    let share = |measure: &str| {
        let chart =
            rig.get(&format!("/api/v1/chart?field=feedback.rating&measure={measure},count"));
        (chart["total"]["overall"][measure].clone(), chart["values"].clone())
    };
    assert_eq!(share("percent-true"), (json!(0.0), json!(1)));
    assert_eq!(rig.names("filter=feedback.rating+is+true"), Vec::<String>::new());
    assert_eq!(rig.names("filter=feedback.rating+is+false"), ["answer"]);
    let positions = rig.get("/api/v1/chart?field=feedback.edits.1.value");
    assert_eq!(positions["values"], 0);

    rig.send([carrier((1, 1), 10, NEW_YEAR + 2 * HOUR)
        .with("tracing_feedback.cleared", json!(["feedback.rating", "feedback.edits"]))]);
    assert_eq!(share("percent-true"), (Json::Null, json!(0)));
    assert_eq!(
        documents(&rig, 1),
        json!({ "feedback.comment": "good", "feedback.user_id": "u-17" })
    );
    let trace = rig.get(&format!("/api/v1/traces/{:032x}", 1));
    let history = trace["spans"][0]["document"]["history"].as_array().unwrap();
    assert_eq!(history.len(), 3);
    assert_eq!(history[0]["late"], false);
    assert_eq!((&history[1]["by"], &history[1]["late"]), (&json!("u-17"), &json!(true)));
    assert_eq!(history[1]["retracted"], json!(["feedback.edits.1.value"]));
    assert_eq!(history[2]["retracted"], json!(["feedback.edits.0.value", "feedback.rating"]));
    assert_eq!(rig.get("/api/v1/status")["spans"], 3);
}

#[test]
fn a_filter_narrows_lists_counts_charts_values_and_exports_alike() {
    let rig = Rig::new();
    let spans = (1..=30_u64).map(|id| {
        let mut span = span(&format!("t{id}"), id, 1, NEW_YEAR + id * HOUR)
            .of("chat", if id % 2 == 0 { "1" } else { "2" })
            .with("session.id", format!("s{}", id % 5));
        if id % 3 != 0 {
            span = span.with("feedback.rating", id % 6 < 3).with("feedback.stars", id % 5);
        }
        if id % 4 == 0 {
            span = span.with("feedback.comment", format!("Comment {id}"));
        }
        span
    });
    rig.send(spans);
    let is_false = |id: &u64| !id.is_multiple_of(3) && id % 6 >= 3;
    let expected: Vec<_> = (1..=30).rev().filter(is_false).map(|id| format!("t{id}")).collect();
    let filter = "filter=feedback.rating+is+false";
    assert_eq!(rig.names(filter), expected);
    let count = json!(expected.len());
    assert_eq!(rig.get(&format!("/api/v1/traces?{filter}&limit=1"))["total"], count);
    let chart = rig.get(&format!("/api/v1/chart?field=feedback.stars&bucket=day&{filter}"));
    assert_eq!(chart["values"], count);
    let chart = rig.get(&format!("/api/v1/chart?field=feedback.rating&{filter}"));
    assert_eq!(chart["total"]["overall"]["percent-false"], 100.0);
    let values = rig.get(&format!("/api/v1/values?field=feedback.rating&{filter}"));
    assert_eq!(values["rows"], json!([{ "value": "false", "count": expected.len() }]));
    let export =
        get(&rig.desk.address(), &format!("/api/v1/export/traces?format=jsonl&{filter}"), &[]);
    assert_eq!(export.text().lines().count(), expected.len());
    let comments = rig.get(&format!("/api/v1/comments?search=comment&{filter}"));
    let both = |id: &u64| is_false(id) && id.is_multiple_of(4);
    assert_eq!(comments["total"], (1..=30).filter(both).count());

    assert_eq!(rig.get("/api/v1/traces?filter=has+no+feedback.rating")["total"], 10);
    assert_eq!(rig.get("/api/v1/traces?filter=has+no+feedback")["total"], 8);
    assert_eq!(rig.get("/api/v1/traces?filter=has+ground+truth")["total"], 0);
    assert_eq!(rig.get("/api/v1/traces?filter=service.version+is+2")["total"], 15);
    assert_eq!(rig.get("/api/v1/traces?service=chat")["total"], 30);
    assert_eq!(rig.get("/api/v1/traces?filter=name+contains+T1")["total"], 11);
    assert_eq!(rig.get("/api/v1/traces?filter=session.id+is+s1")["total"], 6);
    assert_eq!(
        rig.get("/api/v1/traces?filter=feedback.stars+%3E%3D+3&filter=duration+%3C+2000")["total"],
        8
    );
    assert_eq!(rig.get("/api/v1/sessions?filter=feedback.comment+is+%22Comment+8%22")["total"], 1);
    assert_eq!(rig.get("/api/v1/traces?from=2026-01-01T10:00Z&to=2026-01-01T20:00Z")["total"], 10);
    assert!(rig.error("/api/v1/traces?filter=rating").contains("expected is, is not"));
    assert!(rig.error("/api/v1/traces?limit=0").contains("limit"));
}

#[test]
fn pages_follow_each_other_without_gap_or_repetition() {
    let rig = Rig::new();
    // Several of one time.
    rig.send(
        (1..=23).map(|id| span(&format!("t{id}"), id, 1, NEW_YEAR + id / 4).with("feedback.a", 1)),
    );
    for list in ["traces", "dataset"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = rig.get(&format!("/api/v1/{list}?limit=5{cursor}"));
            assert_eq!(page["total"], 23);
            let rows = page["rows"].as_array().unwrap();
            seen.extend(rows.iter().map(|row| row["trace_id"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let expected: Vec<_> = (1..=23).rev().map(|id| format!("{id:032x}")).collect();
        assert_eq!(seen, expected, "{list}");
    }
}

/// Traces that were received and some that were not: of trace 3 there are two carriers, of trace 4
/// one about all of it, trace 5 was received without the rated span.
fn unmatched_feedback() -> Vec<Span> {
    vec![
        span("one", 1, 1, NEW_YEAR).with("feedback.rating", true),
        span("two", 2, 1, NEW_YEAR + DAY).with("feedback.rating", false),
        carrier((3, 1), 9, NEW_YEAR + DAY + HOUR).with("feedback.rating", true),
        carrier((3, 2), 10, NEW_YEAR + 2 * DAY)
            .with("feedback.rating", false)
            .with("feedback.comment", "Where is it?")
            .with("user.id", "u-3"),
        carrier((4, 0), 11, NEW_YEAR + 2 * DAY + HOUR)
            .with("tracing_feedback.scope", "trace")
            .with("feedback.rating", false),
        span("five", 5, 1, NEW_YEAR + 2 * HOUR),
        carrier((5, 2), 12, NEW_YEAR + 3 * DAY).with("feedback.rating", true),
        span("six", 6, 1, NEW_YEAR + HOUR),
    ]
}

#[test]
fn a_bucket_has_exactly_its_traces_also_those_that_have_not_come() {
    let rig = Rig::new();
    rig.send(unmatched_feedback());
    let ids = |query: &str| -> Vec<u64> {
        let list = rig.get(&format!("/api/v1/traces?{query}"));
        let rows = list["rows"].as_array().unwrap();
        assert_eq!(list["total"], rows.len());
        let id = |row: &Json| u64::from_str_radix(row["trace_id"].as_str().unwrap(), 16).unwrap();
        rows.iter().map(id).collect()
    };
    for clock in ["start", "given"] {
        let of = format!("field=feedback.rating&time={clock}");
        let chart = rig.get(&format!("/api/v1/chart?{of}&bucket=day&measure=count"));
        let buckets = chart["buckets"].as_array().unwrap();
        let counts = chart["total"]["points"]["count"].as_array().unwrap();
        let found: Vec<_> = buckets
            .windows(2)
            .map(|edge| ids(&format!("{of}&from={}&to={}", edge[0], edge[1])))
            .collect();
        // A trace that has not come stands where its value does, in each bucket that has one.
        assert_eq!(found, [vec![1], vec![3, 2], vec![4, 3], vec![5]], "{clock}");
        assert_eq!(counts.iter().filter_map(Json::as_f64).sum::<f64>(), 6.0);
        for (count, traces) in counts.iter().zip(&found) {
            assert_eq!(*count, traces.len() as f64);
        }
        assert_eq!(ids(&of), [4, 3, 2, 5, 1]);
        assert_eq!(ids(&format!("{of}&filter=feedback.rating+is+false")), [4, 3, 2]);
        assert_eq!(ids(&format!("{of}&filter=service.name+is+chat")), [2, 5, 1]);
    }
    // By the time at which it was given a value may be later than what was said first.
    rig.send([carrier((7, 1), 13, NEW_YEAR).with("feedback.comment", "First")]);
    rig.send([carrier((7, 1), 14, NEW_YEAR + 4 * DAY).with("feedback.rating", true)]);
    for (clock, expected) in [("start", NEW_YEAR), ("given", NEW_YEAR + 4 * DAY)] {
        let list = rig.get(&format!("/api/v1/traces?field=feedback.rating&time={clock}&limit=500"));
        let mut rows = list["rows"].as_array().unwrap().iter();
        let row = rows.find(|row| row["trace_id"] == format!("{:032x}", 7)).unwrap();
        assert_eq!(row["start"], (expected / 1_000_000) as f64, "{clock}");
    }
    rig.send([carrier((7, 1), 15, NEW_YEAR + 5 * DAY)
        .with("tracing_feedback.cleared", json!(["feedback"]))]);
    // Lists of no field are of what has come.
    assert_eq!(ids(""), [2, 5, 6, 1]);
    assert_eq!(ids("filter=feedback.rating+is+false"), [2]);
    assert_eq!(rig.get("/api/v1/waiting")["total"], 3);

    let list = rig.get("/api/v1/traces?field=feedback.rating&limit=2");
    let rows = list["rows"].as_array().unwrap();
    let trace = &rows[1];
    assert_eq!((&trace["spans"], &trace["name"]), (&json!(0), &json!("")));
    assert_eq!(trace["service"], Json::Null);
    assert_eq!(trace["start"], ((NEW_YEAR + DAY + HOUR) / 1_000_000) as f64);
    let fields: Vec<_> = trace["feedback"]
        .as_array()
        .unwrap()
        .iter()
        .map(|leaf| (leaf["field"].as_str().unwrap(), leaf["value"].clone()))
        .collect();
    assert_eq!(
        fields,
        [
            ("feedback.rating", json!(true)),
            ("feedback.comment", json!("Where is it?")),
            ("feedback.rating", json!(false)),
        ]
    );
    // The pages of the list follow each other, and its file has the same rows.
    let rest = rig.get(&format!(
        "/api/v1/traces?field=feedback.rating&limit=5&cursor={}",
        list["next"].as_str().unwrap()
    ));
    let names: Vec<_> = rest["rows"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["two", "five", "one"]);
    let path = "/api/v1/export/traces?field=feedback.rating&format=jsonl";
    assert_eq!(get(&rig.desk.address(), path, &[]).text().lines().count(), 5);

    // When it is received it moves to the time at which it began.
    rig.send([
        span("three", 3, 1, NEW_YEAR + 4 * DAY),
        span("child", 3, 2, NEW_YEAR + 4 * DAY + 1),
    ]);
    assert_eq!(ids("field=feedback.rating"), [3, 4, 2, 5, 1]);
}

#[test]
fn data_set_and_comments_have_what_charts_count() {
    let rig = Rig::new();
    rig.send(unmatched_feedback());
    let total = |path: &str| rig.get(&format!("/api/v1/{path}"))["total"].clone();
    let counted = |query: &str| rig.get(&format!("/api/v1/chart?{query}"))["values"].clone();
    for narrow in ["", "&from=2026-01-02", "&to=2026-01-03", "&filter=feedback.rating+is+false"] {
        // Each target has a rating here, so the data set is of as many.
        assert_eq!(
            total(&format!("dataset?{narrow}")),
            counted(&format!("field=feedback.rating{narrow}"))
        );
        assert_eq!(
            total(&format!("comments?{narrow}")),
            counted(&format!("field=feedback.comment{narrow}"))
        );
    }
    assert_eq!(total("dataset"), 6);
    let comment = &rig.get("/api/v1/comments")["rows"][0];
    assert_eq!(comment["trace_id"], format!("{:032x}", 3));
    assert_eq!((&comment["name"], &comment["input"]), (&Json::Null, &Json::Null));
    assert_eq!(comment["start"], ((NEW_YEAR + 2 * DAY) / 1_000_000) as f64);
}

#[test]
fn each_row_of_the_data_set_meets_the_filter() {
    let rig = Rig::new();
    rig.send([
        // Two rated spans of a trace, of which one has a ground truth; then one of each alone.
        span("both", 1, 1, NEW_YEAR)
            .with("feedback.rating", false)
            .with("feedback.ground_truth", "Albany")
            .with("session.id", "s"),
        span("both", 1, 2, NEW_YEAR + 1).with("feedback.rating", true).with("metrics.score", 3),
        span("truth", 2, 1, NEW_YEAR + 2).with("feedback.ground_truth", "x"),
        span("rated", 3, 1, NEW_YEAR + 3)
            .with("feedback.rating", false)
            .with("session.id", "s")
            .with("metadata.plan", "team"),
        carrier((9, 1), 9, NEW_YEAR + 4)
            .with("tracing_feedback.scope", "session")
            .with("session.id", "s")
            .with("feedback.stars", 5),
    ]);
    let ground_truth = |row: &Json| !row["ground_truth"].is_null();
    let rating = |row: &Json| row["feedback"]["rating"].clone();
    type Holds<'h> = &'h dyn Fn(&Json) -> bool;
    let filters: [(&str, usize, Holds<'_>); 8] = [
        ("has ground truth", 2, &ground_truth),
        ("has no ground truth", 3, &|row| !ground_truth(row)),
        ("has feedback.ground_truth", 2, &ground_truth),
        ("feedback.rating is false", 2, &|row| rating(row) == false),
        ("feedback.rating is not false", 3, &|row| rating(row) != false),
        ("metrics.score >= 3", 1, &|row| row["metrics"]["score"] == 3),
        ("feedback.stars is 5", 1, &|row| row["feedback"]["stars"] == 5),
        ("has feedback", 5, &|_| true),
    ];
    for (filter, count, holds) in filters {
        let query = format!("filter={}", filter.replace(' ', "+").replace(">=", "%3E%3D"));
        let rows = rig.get(&format!("/api/v1/dataset?{query}"))["rows"].clone();
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), count, "{filter}");
        assert!(rows.iter().all(holds), "{filter}: {rows:?}");
        let path = format!("/api/v1/export/dataset?format=jsonl&{query}");
        let export = get(&rig.desk.address(), &path, &[]).text();
        assert_eq!(export.lines().count(), count, "{filter}");
    }
    // What a row does not show is looked for around it.
    assert_eq!(rig.get("/api/v1/dataset?filter=metadata.plan+is+team")["total"], 2);
}

#[test]
fn a_trace_that_was_not_received_has_its_feedback() {
    let rig = Rig::new();
    rig.send(unmatched_feedback());
    let feedback = |about: &Json| about["document"]["namespaces"]["feedback"].clone();
    let trace = rig.get(&format!("/api/v1/traces/{:032x}", 3));
    assert_eq!((&trace["start"], &trace["document"]), (&Json::Null, &Json::Null));
    let waiting = trace["waiting"].as_array().unwrap();
    assert_eq!(waiting.len(), 2);
    assert_eq!(waiting[0]["span_id"], format!("{:016x}", 1));
    assert_eq!(feedback(&waiting[0])[0]["value"], true);
    assert_eq!(waiting[1]["document"]["history"][0]["by"], "u-3");
    // About all of it, and about one span of what else has come.
    let trace = rig.get(&format!("/api/v1/traces/{:032x}", 4));
    assert_eq!((&feedback(&trace)[0]["value"], &trace["waiting"]), (&json!(false), &json!([])));
    let trace = rig.get(&format!("/api/v1/traces/{:032x}", 5));
    assert_eq!(feedback(&trace["waiting"][0])[0]["value"], true);
    assert_eq!(rig.get(&format!("/api/v1/traces/{:032x}", 1))["waiting"], json!([]));
    rig.send([span("late", 5, 2, NEW_YEAR + 3 * HOUR)]);
    let trace = rig.get(&format!("/api/v1/traces/{:032x}", 5));
    assert_eq!(trace["waiting"], json!([]));
    assert_eq!(feedback(&trace["spans"][1])[0]["value"], true);
}

/// Two answers of one session with late feedback of every kind, and feedback about spans that were not
/// received.
fn judged() -> Vec<Span> {
    let session = |span: Span| span.with("session.id", "s");
    let scope = |span: Span, scope: &str| span.with("tracing_feedback.scope", scope);
    let mut spans = unmatched_feedback();
    spans.extend([
        session(span("answer", 8, 1, NEW_YEAR + DAY)).with("feedback.rating", true),
        session(span("search", 8, 2, NEW_YEAR + DAY + 1000)).child_of(1),
        session(span("answer", 9, 1, NEW_YEAR + 2 * DAY)),
        session(carrier((8, 1), 21, NEW_YEAR + DAY + HOUR))
            .with("feedback.rating", false)
            .with("feedback.comment", "Wrong")
            .with("user.id", "u-1"),
        session(carrier((8, 1), 22, NEW_YEAR + DAY + 2 * HOUR))
            .with("feedback.edits.0.value", "a")
            .with("tracing_feedback.cleared", json!(["feedback.rating"])),
        carrier((8, 2), 23, NEW_YEAR + 5 * DAY).of("evaluator", "2").with("metrics.score", 0.5),
        session(scope(carrier((8, 1), 24, NEW_YEAR + 6 * DAY), "trace")).with("feedback.rating", 3),
        session(scope(carrier((9, 1), 25, NEW_YEAR + 6 * DAY + 1), "session"))
            .with("feedback.solved", true),
        carrier((9, 1), 26, NEW_YEAR + 7 * DAY).with("feedback.rating", false),
    ]);
    spans
}

/// Whether a carrier is a trace of its own or a child of its target shows nowhere, but in the carriers
/// themselves.
#[test]
fn in_which_trace_a_carrier_is_changes_no_answer() {
    let (own, target) = (Rig::new(), Rig::new());
    own.send(judged());
    target.send(judged().into_iter().map(|span| match span.json["name"] == "feedback" {
        true => in_the_trace_of_its_target(span),
        false => span,
    }));
    let mut paths: Vec<_> = [
        "traces",
        "traces?field=feedback.rating&time=given",
        "traces?filter=has+feedback",
        "traces?filter=duration+%3C+2000",
        "traces?filter=metrics.score+%3E+0",
        "traces?filter=service.name+is+evaluator",
        "traces?filter=user.id+is+u-1",
        "sessions",
        "sessions/s",
        "fields",
        "comments",
        "dataset",
        "waiting",
        "values?field=name",
        "chart?field=feedback.rating&measure=percent-true,count&bucket=day&group=name",
        "chart?field=feedback.rating&measure=count&bucket=day&time=given&group=service.name",
        "chart?field=metrics.score&measure=avg,count&bucket=hour",
    ]
    .map(str::to_owned)
    .into();
    for id in 1..=9_u64 {
        paths.push(format!("traces/{id:032x}"));
        paths.push(format!("traces/{id:032x}/neighbours"));
    }
    for path in &paths {
        let get = |rig: &Rig| {
            let reply = get(&rig.desk.address(), &format!("/api/v1/{path}"), &[]);
            (reply.status, without_places(serde_json::from_str(&reply.text()).unwrap()))
        };
        assert_eq!(get(&own), get(&target), "{path}");
    }
    for view in ["traces", "comments", "dataset", "sessions"] {
        let path = format!("/api/v1/export/{view}?format=jsonl");
        let file = |rig: &Rig| get(&rig.desk.address(), &path, &[]).text();
        assert_eq!(file(&own), file(&target), "{path}");
    }
    let counted = |rig: &Rig| {
        let status = rig.get("/api/v1/status");
        ["spans", "traces", "documents", "waiting", "adrift", "services", "first", "last"]
            .map(|key| status[key].clone())
    };
    assert_eq!(counted(&own), counted(&target));
}

/// An answer without the ids of the traces that carriers are in, nor of their parents, and without their
/// durations. Carriers about a session, which only a trace that they are in shows, are left out.
fn without_places(mut answer: Json) -> Json {
    fn visit(value: &mut Json) {
        match value {
            Json::Array(values) => {
                let scope = |span: &Json| span["attributes"]["tracing_feedback.scope"].clone();
                values.retain(|span| span["carrier"] != true || scope(span) != "session");
                values.iter_mut().for_each(visit);
            }
            Json::Object(values) => {
                if values.get("carrier") == Some(&json!(true)) {
                    for key in ["trace_id", "parent_id", "duration_ms"] {
                        values.remove(key);
                    }
                } else if values.contains_key("late") {
                    values.remove("trace_id"); // a change in the history
                }
                values.values_mut().for_each(visit);
            }
            _ => {}
        }
    }
    visit(&mut answer);
    answer
}

#[test]
fn a_trace_has_the_carriers_about_it_from_whichever_trace_and_does_not_grow_by_them() {
    let rig = Rig::new();
    rig.send(judged());
    let trace = rig.get(&format!("/api/v1/traces/{:032x}", 8));
    let spans = trace["spans"].as_array().unwrap();
    let shown: Vec<_> = spans
        .iter()
        .map(|span| (span["span_id"].as_str().unwrap(), &span["depth"], &span["carrier"]))
        .map(|(id, depth, carrier)| (id.trim_start_matches('0'), depth.clone(), carrier == true))
        .collect();
    let expected = [
        ("1", 0, false),
        ("2", 1, false),
        ("17", 2, true),
        ("15", 1, true),
        ("16", 1, true),
        ("18", 1, true),
    ];
    assert_eq!(shown, expected.map(|(id, depth, carrier)| (id, json!(depth), carrier)));
    assert_eq!(trace["duration_ms"], 1_000.001);
    let row = &rig.get("/api/v1/traces?filter=feedback.comment+is+Wrong")["rows"][0];
    assert_eq!((&row["spans"], &row["duration_ms"]), (&json!(2), &json!(1_000.001)));

    // The trace of a carrier is in no list, and has the carrier with its link.
    assert_eq!(rig.get("/api/v1/status")["traces"], 6);
    let id = spans[3]["trace_id"].as_str().unwrap();
    assert_ne!(id, trace["trace_id"]);
    let carrier = rig.get(&format!("/api/v1/traces/{id}"));
    assert_eq!((&carrier["start"], &carrier["waiting"]), (&Json::Null, &json!([])));
    let [span] = carrier["spans"].as_array().unwrap().as_slice() else { panic!("{carrier}") };
    assert_eq!(span["links"][0]["trace_id"], trace["trace_id"]);
    assert_eq!(rig.get(&format!("/api/v1/traces?filter=trace_id+is+{id}"))["total"], 0);
}

/// Any sender can link a carrier to any span. The carrier changes the feedback of that span alone.
#[test]
fn forged_links_change_nothing_but_their_target() {
    let rig = Rig::new();
    rig.send(judged());
    let before = rig.get(&format!("/api/v1/traces/{:032x}", 8));
    let vote = |id: u64| carrier((8, 1), id, NEW_YEAR + 8 * DAY).with("feedback.rating", 99);
    let mut to_itself = vote(41);
    to_itself.json["links"] =
        json!([{ "traceId": to_itself.json["traceId"], "spanId": to_itself.json["spanId"] }]);
    let mut to_nothing = vote(42);
    to_nothing.json["links"] = json!([{ "traceId": "", "spanId": "" }]);
    let mut without = vote(43);
    without.json["links"] = json!([]);
    // In the trace of the answer, and below it, but about another span.
    let mut wrong_parent = in_the_trace_of_its_target(vote(44));
    wrong_parent.json["links"] =
        json!([{ "traceId": format!("{:032x}", 7), "spanId": format!("{:016x}", 1) }]);
    // A carrier that has the ids of the answer's trace and of a span of it.
    let mut of_a_span = in_the_trace_of_its_target(carrier((9, 1), 1, NEW_YEAR + DAY + 500))
        .with("feedback.rating", 98);
    of_a_span.json["spanId"] = json!(format!("{:016x}", 1));
    of_a_span.json["traceId"] = json!(format!("{:032x}", 0x8000));
    let scope = |span: Span| span.with("tracing_feedback.scope", "trace");
    rig.send([
        to_itself,
        to_nothing,
        without,
        wrong_parent,
        of_a_span,
        vote(45).linked_to((9, 1)),
        scope(vote(46)).linked_to((9, 1)),
    ]);
    let after = rig.get(&format!("/api/v1/traces/{:032x}", 8));
    let without_wrong_parent = |trace: &Json| {
        let mut trace = trace.clone();
        trace["spans"]
            .as_array_mut()
            .unwrap()
            .retain(|span| span["span_id"] != format!("{:016x}", 44));
        trace
    };
    assert_eq!(without_wrong_parent(&after), before);
    let documents = rig.get(&format!("/api/v1/traces/{:032x}", 9));
    let rating = &documents["spans"][0]["document"]["namespaces"]["feedback"][0]["value"];
    assert_eq!(*rating, false, "a later vote than the forged one");
    let status = rig.get("/api/v1/status");
    assert_eq!(status["adrift"], 4, "{status}");
}

#[test]
fn neighbours_are_those_of_the_list_whatever_it_is_narrowed_to() {
    let rig = Rig::new();
    rig.send(unmatched_feedback());
    // Several of one time.
    rig.send((11..=40).map(|id| {
        let answer = span("answer", id, 1, NEW_YEAR + id / 4 * HOUR);
        if id % 3 == 0 { answer.with("feedback.rating", id % 2 == 0) } else { answer }
    }));
    let whole = |query: &str| {
        let list = rig.get(&format!("/api/v1/traces?limit=500&{query}"));
        let rows = list["rows"].as_array().unwrap().clone();
        rows.into_iter().map(|mut row| row["trace_id"].take()).collect::<Vec<_>>()
    };
    let around = |id: &Json, query: &str| {
        rig.get(&format!("/api/v1/traces/{}/neighbours?{query}", id.as_str().unwrap()))
    };
    for (query, size) in [
        ("", 34),
        ("filter=feedback.rating+is+false", 6),
        ("filter=has+feedback&from=2026-01-01T04:00Z&to=2026-01-01T09:00Z", 6),
        ("from=2026-01-01T04:00Z&to=2026-01-01T08:00Z", 16),
        ("field=feedback.rating", 15),
        ("field=feedback.rating&time=given&from=2026-01-02", 4),
        ("service=nobody", 0),
    ] {
        let list = whole(query);
        assert_eq!(list.len(), size, "{query}");
        for (at, id) in list.iter().enumerate() {
            let newer = at.checked_sub(1).and_then(|at| list.get(at)).unwrap_or(&Json::Null);
            let older = list.get(at + 1).unwrap_or(&Json::Null);
            let expected = json!({
                "newer": newer, "older": older, "position": at + 1, "total": list.len(),
            });
            assert_eq!(around(id, query), expected, "{query} {at}");
        }
    }
    // A trace that has left the list, by a change of mind, still has its neighbours there.
    let query = "filter=feedback.rating+is+false";
    let list = whole(query);
    let id = list[2].as_str().unwrap();
    let number = u64::from_str_radix(id, 16).unwrap();
    rig.send([carrier((number, 1), 99, NEW_YEAR + 5 * DAY).with("feedback.rating", true)]);
    assert_eq!(
        around(&list[2], query),
        json!({ "newer": list[1], "older": list[3], "position": null, "total": list.len() - 1 })
    );
    // An unknown trace, and one that is not in a list of received traces.
    for id in [7_777, 3] {
        assert_eq!(
            around(&json!(format!("{id:032x}")), ""),
            json!({ "newer": null, "older": null, "position": null, "total": 34 })
        );
    }
    assert!(rig.error("/api/v1/traces/7/neighbours").contains("32 hexadecimal digits"));
    let path = format!("/api/v1/traces/{:032x}/neighbours?limit=5", 1);
    assert!(rig.error(&path).contains("unknown parameter `limit`"));
}

#[test]
fn sessions_and_traces_have_documents_of_their_own() {
    let rig = Rig::new();
    let scoped = |name: &str, trace: u64, id: u64, scope: &str, time: u64| {
        span(name, trace, id, time)
            .with("tracing_feedback.scope", scope)
            .with("tracing_feedback.time_unix_nano", time)
            .with("session.id", "s")
    };
    rig.send([
        scoped("one", 1, 1, "session", NEW_YEAR).with("feedback.rating", 1),
        scoped("two", 2, 2, "session", NEW_YEAR + HOUR).with("feedback.rating", 2),
        scoped("three", 3, 3, "trace", NEW_YEAR + 2 * HOUR).with("feedback.rating", 3),
        span("child", 3, 4, NEW_YEAR + 2 * HOUR + 1).child_of(3).with("metrics.rating", 9),
    ]);
    let session = rig.get("/api/v1/sessions/s");
    assert_eq!(session["document"]["namespaces"]["feedback"][0]["value"], 2);
    assert_eq!(session["document"]["history"].as_array().unwrap().len(), 2);
    assert_eq!(session["traces"], 3);
    // Feedback on the session, and scores of evaluators, don't count as feedback on its traces.
    assert_eq!(
        (&session["traces_with_feedback"], &session["feedback_leaves"]),
        (&json!(1), &json!(1))
    );
    rig.send([carrier((1, 1), 5, NEW_YEAR + DAY)
        .with("feedback.comment", "Late")
        .with("feedback.edits.0.value", "x")]);
    let row = &rig.get("/api/v1/sessions")["rows"][0];
    assert_eq!((&row["traces_with_feedback"], &row["feedback_leaves"]), (&json!(2), &json!(3)));
    let names: Vec<_> =
        session["list"].as_array().unwrap().iter().map(|row| &row["name"]).collect();
    assert_eq!(names, ["one", "two", "three"]);
    let trace = rig.get(&format!("/api/v1/traces/{:032x}", 3));
    assert_eq!(trace["document"]["namespaces"]["feedback"][0]["value"], 3);
    assert_eq!(trace["session_document"]["namespaces"]["feedback"][0]["value"], 2);
    let child = &trace["spans"][1];
    assert_eq!((&child["name"], &child["depth"]), (&json!("child"), &json!(1)));
    assert_eq!(child["document"]["namespaces"]["metrics"][0]["value"], 9);
    assert!(child["document"]["namespaces"].get("feedback").is_none());
    // The session's rating counts once, at its start, and where a trace has none of its own.
    let chart = rig.get("/api/v1/chart?field=feedback.rating&bucket=hour&measure=avg");
    assert_eq!(chart["total"]["points"]["avg"], json!([2.0, null, 3.0]));
    assert_eq!(rig.names("filter=feedback.rating+is+2"), ["two", "one"]);
    assert_eq!(rig.names("filter=feedback.rating+is+3"), ["three"]);
    assert_eq!(rig.get("/api/v1/sessions?filter=feedback.rating+is+3")["total"], 1);
}

#[test]
fn a_data_set_has_input_output_ground_truth_and_feedback() {
    let rig = Rig::new();
    rig.send([
        span("ask", 1, 1, NEW_YEAR)
            .with("feedback.rating", false)
            .with("feedback.ground_truth", 42),
        span("generate", 1, 2, NEW_YEAR + 1)
            .child_of(1)
            .with("inputs.question", "Why?")
            .with("outputs.answer", "Because")
            .with("outputs.tokens", 7),
        span("other", 2, 1, NEW_YEAR + 2)
            .with("honeyhive_feedback.rating", true)
            .with("input.value", "In")
            .with("output.value", "Out"),
    ]);
    let rows = rig.get("/api/v1/dataset")["rows"].clone();
    assert_eq!(rows[0]["input"], "In");
    assert_eq!(rows[0]["output"], "Out");
    assert_eq!(rows[0]["feedback"], json!({ "rating": true }));
    assert_eq!(rows[1]["input"], "Why?");
    assert_eq!(rows[1]["output"], json!({ "answer": "Because", "tokens": 7 }));
    assert_eq!(rows[1]["ground_truth"], "42");
    assert_eq!(rows[1]["feedback"], json!({ "rating": false }));
    let csv = get(&rig.desk.address(), "/api/v1/export/dataset", &[]);
    assert!(csv.head.contains("content-type: text/csv"));
    assert_eq!(csv.text().lines().count(), 3);
    assert!(csv.body.starts_with(b"\xef\xbb\xbftrace_id,"), "spreadsheets need the mark");
    let fields = rig.get("/api/v1/fields?search=GROUND");
    assert_eq!(fields["rows"][0]["field"], "feedback.ground_truth");
    assert_eq!(fields["rows"][0]["type"], "string");
}

#[test]
fn no_cell_of_an_export_is_a_formula() {
    let rig = Rig::new();
    let comments = ["=1+1", " =1", "\n=1", "\u{3000}＝1", "a\n=1", "a;=1", "\u{200b}@x"];
    let sent = comments
        .iter()
        .zip(1..)
        .map(|(comment, id)| span("=cmd", id, 1, NEW_YEAR + id).with("feedback.comment", *comment));
    rig.send(sent);
    let export = |format: &str| {
        get(&rig.desk.address(), &format!("/api/v1/export/comments?format={format}"), &[]).text()
    };
    let csv = export("csv");
    for text in
        ["'=1+1", "' =1", "\"'\n'=1\"", "'\u{3000}＝1", "\"a\n'=1\"", "\"a;'=1\"", "'\u{200b}@x"]
    {
        assert!(csv.contains(&format!(",{text},")), "{text:?}: {csv}");
    }
    assert!(csv.contains(",'=cmd,") && !csv.contains(",=cmd"), "{csv}");
    // JSON has the exact texts, and no mark.
    let texts: Vec<Json> =
        export("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<_> = texts.iter().rev().map(|row| row["text"].as_str().unwrap()).collect();
    assert_eq!(texts, comments);
}

#[test]
fn a_comment_says_who_gave_it() {
    let rig = Rig::new();
    let late = |id: u64, hours: u64| carrier((2, 1), id, NEW_YEAR + hours * HOUR);
    rig.send([
        span("one", 1, 1, NEW_YEAR)
            .with("honeyhive_feedback.comment", "By the span")
            .with("user.id", "u-1"),
        span("two", 2, 1, NEW_YEAR).with("feedback.comment", "At first").with("user.id", "u-2"),
        // Three change their mind; the last of them about something else.
        late(9, 1).with("feedback.comment", "Then").with("feedback.user_id", "u-9"),
        late(10, 3).with("feedback.comment", "At last").with("user.id", "u-10"),
        late(11, 4).with("feedback.rating", true).with("user.id", "u-11"),
        late(12, 2).with("feedback.comment", "In between").with("user.id", "u-12"),
        span("three", 3, 1, NEW_YEAR).with("feedback.comment", "By nobody"),
    ]);
    let rows = rig.get("/api/v1/comments");
    let mut comments: Vec<_> = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["text"].as_str().unwrap(), row["by"].clone()))
        .collect();
    comments.sort_by_key(|(text, _)| *text);
    assert_eq!(
        comments,
        [("At last", json!("u-10")), ("By nobody", Json::Null), ("By the span", json!("u-1")),]
    );
    let by_name = rig.get("/api/v1/comments?field=honeyhive_feedback.comment&search=span");
    assert_eq!(by_name["rows"][0]["by"], "u-1");
    let csv = get(&rig.desk.address(), "/api/v1/export/comments?search=last", &[]).text();
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("\u{feff}given,by,field,text,"), "{csv}");
    assert!(lines.next().unwrap().contains(",u-10,feedback.comment,At last,"), "{csv}");
}

#[test]
fn values_of_mixed_types_are_told_apart() {
    let rig = Rig::new();
    let values = [json!(true), json!(true), json!("true"), json!("5"), json!(5), json!(5.0)];
    rig.send(values.into_iter().zip(1..).map(|(value, id)| {
        let answer = span("answer", id, 1, NEW_YEAR + id * HOUR).with("feedback.mixed", value);
        answer
            .with("feedback.plain", "true")
            .with("feedback.two", if id < 3 { json!(id) } else { json!("1") })
    }));
    let values = |query: &str| rig.get(&format!("/api/v1/values?{query}"))["rows"].clone();
    assert_eq!(
        values("field=feedback.mixed"),
        json!([
            { "value": "5", "type": "number", "count": 2 },
            { "value": "true", "type": "bool", "count": 2 },
            { "value": "5", "type": "string", "count": 1 },
            { "value": "true", "type": "string", "count": 1 },
        ])
    );
    // Of one type here, and the same row as elsewhere.
    let two_hours = "field=feedback.mixed&to=2026-01-01T02:30Z";
    assert_eq!(values(two_hours), json!([{ "value": "true", "type": "bool", "count": 2 }]));
    assert_eq!(
        values("field=feedback.two")[0],
        json!({ "value": "1", "type": "string", "count": 4 })
    );
    assert_eq!(values("field=feedback.plain"), json!([{ "value": "true", "count": 6 }]));
    assert_eq!(values("field=service.name"), json!([{ "value": "chat", "count": 6 }]));
}

#[test]
fn traces_are_counted_when_they_have_come() {
    let rig = Rig::new();
    let counts = || {
        let status = rig.get("/api/v1/status");
        let fields = rig.get("/api/v1/fields?search=duration");
        let list = rig.get("/api/v1/traces?limit=1");
        assert_eq!(
            (&list["total"], &fields["rows"][0]["count"]),
            (&status["traces"], &status["traces"])
        );
        (status["traces"].clone(), status["waiting"].clone())
    };
    assert_eq!(counts(), (json!(0), json!(0)));
    rig.send(unmatched_feedback());
    assert_eq!(counts(), (json!(4), json!(3)));
    rig.send([span("three", 3, 1, NEW_YEAR)]);
    assert_eq!(counts(), (json!(5), json!(2)));
}

#[test]
fn a_span_attribute_filters_and_groups_without_an_index() {
    let rig = Rig::new();
    rig.send((1..=6_u64).map(|id| {
        span(&format!("t{id}"), id, 1, NEW_YEAR + id)
            .with("http.route", if id % 2 == 0 { "/a" } else { "/b" })
            .with("feedback.stars", id)
    }));
    assert_eq!(rig.names("filter=http.route+is+%22/a%22"), ["t6", "t4", "t2"]);
    let chart = rig.get("/api/v1/chart?field=feedback.stars&measure=sum&group=http.route");
    let groups = chart["groups"].as_array().unwrap();
    let sums: Vec<_> =
        groups.iter().map(|group| (&group["group"], &group["overall"]["sum"])).collect();
    assert_eq!(sums, [(&json!("/a"), &json!(12.0)), (&json!("/b"), &json!(9.0))]);
}

#[test]
fn an_answer_that_is_known_comes_without_a_body() {
    let rig = Rig::new();
    rig.send([span("answer", 1, 1, NEW_YEAR).with("feedback.comment", "x".repeat(500))]);
    let ask = |path: &str, tag: &str| get(&rig.desk.address(), path, &[("if-none-match", tag)]);
    let tag_of = |reply: &Reply| {
        let mut lines = reply.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(name, _)| name.eq_ignore_ascii_case("etag")).unwrap().1.to_owned()
    };
    for path in ["/api/v1/dataset", "/api/v1/comments", "/api/v1/sessions", "/api/v1/fields"] {
        let first = ask(path, "\"other\"");
        assert_eq!(first.status, 200, "{path}");
        assert!(!first.body.is_empty());
        let tag = tag_of(&first);
        // Spans without feedback concern none of these.
        rig.send((2..10).map(|id| span("unrelated", 100 + id, id, NEW_YEAR)));
        let again = ask(path, &tag);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}: {}", again.head);
        assert_eq!(tag_of(&again), tag);
    }
    let tag = tag_of(&ask("/api/v1/comments", ""));
    rig.send([span("answer", 2, 2, NEW_YEAR).with("feedback.comment", "another")]);
    let changed = ask("/api/v1/comments", &tag);
    assert_eq!(changed.status, 200);
    assert_ne!(tag_of(&changed), tag);
    // An error is no answer that could be the same.
    assert_eq!(ask("/api/v1/comments?limit=0", "*").status, 400);
}

#[test]
fn a_page_is_notified_of_changes() {
    let rig = Rig::new();
    let head =
        format!("GET /api/v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", host(&rig.desk.address()));
    let mut stream = send_request(&rig.desk.address(), &head, b"");
    let mut received = String::new();
    let mut wait_for = |what: &str| {
        while !received.contains(what) {
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).unwrap();
            assert!(read > 0, "{received}");
            received.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    wait_for("\"version\":0");
    rig.send([span("answer", 1, 1, NEW_YEAR)]);
    wait_for("\"version\":1");
    // What changes nothing is no change.
    rig.send([span("answer", 1, 1, NEW_YEAR)]);
    rig.send([span("answer", 2, 1, NEW_YEAR)]);
    wait_for("\"version\":2");
}

#[test]
fn the_oldest_go_first_and_those_with_feedback_last() {
    let rig = Rig::with(|options| options.with_max_bytes(600_000));
    let filler = "x".repeat(2_000);
    for id in 1..=400_u64 {
        let mut span = span("t", id, 1, NEW_YEAR + id * HOUR).with("filler", filler.clone());
        if id % 40 == 0 {
            span = span.with("feedback.rating", true);
        }
        rig.send([span]);
    }
    until(|| rig.get("/api/v1/status")["used_bytes"].as_u64().unwrap() <= 600_000);
    let list = rig.get("/api/v1/traces?limit=500");
    let rows = list["rows"].as_array().unwrap();
    assert!(rows.len() < 400 && rows.len() > 50, "{}", rows.len());
    assert_eq!(rig.get("/api/v1/traces?filter=has+feedback")["total"], 10);
    assert_eq!(rows[0]["trace_id"], format!("{:032x}", 400));
}

/// A store that version 0.1.0 wrote, kept in `tests/golden`: a desk that is updated keeps its history.
#[test]
fn a_store_of_version_0_1_is_read() {
    let directory = Directory::new();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store.sqlite");
    std::fs::copy(golden, directory.store()).unwrap();
    let options = Options::new(directory.store()).with_any_ports();
    let rig = Rig { desk: Desk::start(options).unwrap(), directory };
    assert_eq!(rig.names("filter=feedback.comment%20is%20Wrong"), ["turn"]);
    let chart = "/api/v1/chart?field=feedback.rating";
    let measured = rig.get(chart).to_string();
    assert!(measured.contains("\"count\":1"), "{measured}");
    // And it goes on taking spans.
    rig.send([span("later", 7, 7, NEW_YEAR)]);
    assert!(rig.names("").contains(&"later".to_owned()));
}

#[test]
fn a_period_is_compared_with_as_many_days_across_a_change_of_the_clocks() {
    let rig = Rig::new();
    rig.send([span("a", 1, 1, NEW_YEAR).with("feedback.rating", true)]);
    for (from, to, before) in [
        ("2026-03-29", "2026-03-31", ["2026-03-27", "2026-03-28"]),
        ("2026-10-25", "2026-10-27", ["2026-10-23", "2026-10-24"]),
    ] {
        let chart = rig.get(&format!(
            "/api/v1/chart?field=feedback.rating&bucket=day&tz=Europe/Berlin&from={from}&to={to}\
             &compare=previous"
        ));
        assert_eq!(chart["labels"].as_array().unwrap().len(), 2);
        assert_eq!(chart["compare"]["labels"], json!(before));
    }
}

#[test]
fn numbers_of_many_digits_are_short_texts_that_can_be_filtered_by() {
    let rig = Rig::new();
    for (at, value) in [1e300, -5e-324, 1e21, 0.876_543, 1e15].into_iter().enumerate() {
        let id = at as u64 + 1;
        rig.send(
            [span(&id.to_string(), id, 1, NEW_YEAR + id * HOUR).with("feedback.score", value)],
        );
    }
    let values = rig.get("/api/v1/values?field=feedback.score");
    let mut texts: Vec<_> = values["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["value"].as_str().unwrap())
        .collect();
    texts.sort();
    assert_eq!(texts, ["-5e-324", "0.876543", "1000000000000000", "1e21", "1e300"]);
    for text in texts {
        assert_eq!(rig.names(&format!("filter=feedback.score+is+{text}")).len(), 1, "{text}");
    }
    let chart = rig.get("/api/v1/chart?field=feedback.score&group=feedback.score&measure=count");
    let groups = chart["groups"].as_array().unwrap();
    assert!(groups.iter().all(|group| group["group"].as_str().unwrap().len() < 20), "{groups:?}");
}
