//! What is measured, against a computation that shares nothing with it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use super::*;

/// R-7 by its definition, over values in any order.
fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let h = (sorted.len() as f64 - 1.0) * q;
    let (low, high) = (sorted[h.floor() as usize], sorted[h.ceil() as usize]);
    low + (h - h.floor()) * (high - low)
}

fn expected(measure: &str, values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    Some(match measure {
        "count" => count,
        "sum" => values.iter().sum(),
        "avg" => values.iter().sum::<f64>() / count,
        "median" => quantile(values, 0.5),
        "min" => values.iter().copied().fold(f64::INFINITY, f64::min),
        "max" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "p95" => quantile(values, 0.95),
        "p98" => quantile(values, 0.98),
        "p99" => quantile(values, 0.99),
        "percentage>=2.5" => {
            100.0 * values.iter().filter(|value| **value >= 2.5).count() as f64 / count
        }
        other => panic!("{other}"),
    })
}

fn is_close(found: &serde_json::Value, expected: Option<f64>) -> bool {
    match (found.as_f64(), expected) {
        (None, None) => found.is_null(),
        (Some(found), Some(expected)) => (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
        _ => false,
    }
}

/// Day, version and value of each of many answers.
fn answers() -> Vec<(u64, u64, f64)> {
    let value = prop_oneof![(-5..10_i32).prop_map(f64::from), -1e6..1e6_f64, Just(2.5),];
    // Few days, so that some stay empty.
    let answer = (prop::sample::select(vec![0_u64, 1, 2, 5, 9]), 0..7_u64, value);
    let strategy = prop::collection::vec(answer, 400);
    strategy.new_tree(&mut TestRunner::deterministic()).unwrap().current()
}

#[test]
fn every_measure_is_what_an_independent_computation_says() {
    let rig = Rig::new();
    let answers = answers();
    let spans = answers.iter().enumerate().map(|(at, (day, version, value))| {
        let at = at as u64;
        let value = if value.fract() == 0.0 { json!(*value as i64) } else { json!(value) };
        span("answer", at + 1, 1, NEW_YEAR + day * DAY + at)
            .of("chat", &version.to_string())
            .with("feedback.score", value)
    });
    rig.send(spans);
    let measures = "count,sum,avg,median,min,max,p95,p98,p99,percentage>=2.5";
    let query = format!(
        "/api/v1/chart?field=feedback.score&measure={}&bucket=day&group=service.version&top=3",
        measures.replace(">=", "%3E%3D")
    );
    let chart = rig.get(&query);
    assert_eq!(chart["values"], answers.len());
    assert_eq!(chart["labels"].as_array().unwrap().len(), 10);

    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, version, _) in &answers {
        *sizes.entry(*version).or_default() += 1;
    }
    let mut ranked: Vec<_> = sizes.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let top: Vec<_> = ranked.iter().take(3).map(|(version, _)| *version).collect();
    assert_eq!(chart["other_groups"], ranked.len() - 3);
    let groups = chart["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 4);
    let is_in = |series: usize, version: u64| match series {
        0 => true,
        4 => !top.contains(&version),
        series => top[series - 1] == version,
    };
    for (at, series) in [&chart["total"]].into_iter().chain(groups).enumerate() {
        for measure in measures.split(',') {
            let of = |is_day: &dyn Fn(u64) -> bool| -> Option<f64> {
                let values: Vec<_> = answers
                    .iter()
                    .filter(|(day, version, _)| is_day(*day) && is_in(at, *version))
                    .map(|(_, _, value)| *value)
                    .collect();
                expected(measure, &values)
            };
            let overall = &series["overall"][measure];
            assert!(is_close(overall, of(&|_| true)), "{at} {measure}: {overall}");
            for day in 0..10_u64 {
                let found = &series["points"][measure][day as usize];
                let expected = of(&|other| other == day);
                assert!(is_close(found, expected), "{at} {measure} {day}: {found} {expected:?}");
            }
        }
    }
}

#[test]
fn what_is_of_another_type_is_left_out_and_said_and_an_empty_bucket_is_a_gap() {
    let rig = Rig::new();
    rig.send([
        span("a", 1, 1, NEW_YEAR).with("feedback.rating", true),
        span("b", 2, 1, NEW_YEAR + 2 * DAY).with("feedback.rating", false),
        span("c", 3, 1, NEW_YEAR + 2 * DAY).with("feedback.rating", "yes"),
        span("d", 4, 1, NEW_YEAR).with("feedback.rating", 5),
        span("e", 5, 1, NEW_YEAR).with("metrics.rating", false),
    ]);
    let chart = rig.get("/api/v1/chart?field=feedback.rating&bucket=day");
    assert_eq!(chart["type"], "bool");
    assert_eq!(chart["values"], 2);
    assert_eq!(chart["left_out"], json!({ "string": 1, "number": 1 }));
    let points = &chart["total"]["points"];
    assert_eq!(points["percent-true"], json!([100.0, null, 0.0]));
    assert_eq!(points["count"], json!([1.0, null, 1.0]));
    assert!(
        rig.error("/api/v1/chart?field=feedback.rating&measure=avg").contains("avg is not defined")
    );
    assert!(rig.error("/api/v1/chart?field=service.name").contains("is not a field"));
    assert_eq!(rig.get("/api/v1/chart?field=feedback.nothing")["values"], 0);
}

#[test]
fn a_bucket_shows_exactly_its_traces() {
    let rig = Rig::new();
    let spans = (1..=60_u64).map(|id| {
        let start = NEW_YEAR + id * 7 * HOUR;
        let span = span(&format!("t{id}"), id, 1, start).of("chat", &(id % 2).to_string());
        match id % 5 {
            0 => span,
            1 => span.with("feedback.rating", "other type"),
            other => span.with("feedback.rating", other % 2 == 0),
        }
    });
    rig.send(spans);
    // Half of them have changed their mind, days later.
    rig.send((1..=30_u64).filter(|id| !id.is_multiple_of(5)).map(|id| {
        carrier((2 * id, 1), 99, NEW_YEAR + 40 * DAY + id).with("feedback.rating", id % 3 == 0)
    }));
    for time in ["start", "given"] {
        let narrow = format!("filter=service.version+is+0&time={time}&field=feedback.rating");
        let chart = rig.get(&format!("/api/v1/chart?{narrow}&bucket=week&tz=%2B05:30"));
        let edges = chart["buckets"].as_array().unwrap();
        let counts = chart["total"]["points"]["count"].as_array().unwrap();
        assert_eq!(edges.len(), counts.len() + 1);
        let mut seen = 0;
        for (pair, count) in edges.windows(2).zip(counts) {
            let edge = |edge: &serde_json::Value| edge.as_f64().unwrap() as i64;
            let (from, to) = (edge(&pair[0]), edge(&pair[1]));
            let list = rig.get(&format!("/api/v1/traces?{narrow}&from={from}&to={to}&limit=100"));
            assert_eq!(list["total"], count.as_f64().unwrap_or(0.0) as u64, "{time} {from}");
            seen += list["rows"].as_array().unwrap().len();
        }
        assert_eq!(chart["values"], seen);
    }
}

#[test]
fn two_periods_and_two_versions_stand_beside_each_other() {
    let rig = Rig::new();
    rig.send((0..20_u64).map(|day| {
        span("a", day + 1, 1, NEW_YEAR + day * DAY)
            .of("chat", if day < 10 { "1" } else { "2" })
            .with("feedback.stars", day)
    }));
    let query =
        "/api/v1/chart?field=feedback.stars&measure=avg&bucket=day&from=2026-01-11&to=2026-01-21";
    let chart = rig.get(&format!("{query}&compare=previous"));
    assert_eq!(chart["total"]["overall"]["avg"], 14.5);
    assert_eq!(chart["compare"]["with"], "previous");
    assert_eq!(chart["compare"]["total"]["overall"]["avg"], 4.5);
    assert_eq!(chart["compare"]["labels"][0], "2026-01-01");
    let query = "/api/v1/chart?field=feedback.stars&measure=avg&filter=service.version+is+2";
    let chart = rig.get(&format!("{query}&compare=version:1"));
    assert_eq!(chart["total"]["overall"]["avg"], 14.5);
    assert_eq!(chart["compare"]["total"]["overall"]["avg"], 4.5);
    assert!(rig.error(&format!("{query}&compare=previous")).contains("`from` and `to`"));
}

#[test]
fn days_are_those_of_the_time_zone_whatever_its_clocks_do() {
    let rig = Rig::new();
    // Eight in the evening in Berlin, in UTC: the clocks go forward on 29 March 2026.
    let at = |day: u64, hour: u64| NEW_YEAR + (day - 1) * DAY + hour * HOUR;
    let march = 31 + 28;
    for (id, start) in [
        (1, at(march + 28, 22)), // 23:00 on the 28th
        (2, at(march + 28, 23)), // 00:00 on the 29th
        (3, at(march + 29, 21)), // 23:00 on the 29th, which has 23 hours
        (4, at(march + 29, 22)), // 00:00 on the 30th
    ] {
        rig.send([span("answer", id, 1, start).with("feedback.stars", id)]);
    }
    let chart = |query: &str| {
        let path = format!("/api/v1/chart?field=feedback.stars&measure=count&bucket=day&{query}");
        rig.get(&path)
    };
    let berlin = chart("tz=Europe/Berlin");
    assert_eq!(berlin["tz"], "Europe/Berlin");
    assert_eq!(berlin["labels"], json!(["2026-03-28", "2026-03-29", "2026-03-30"]));
    assert_eq!(berlin["total"]["points"]["count"], json!([1.0, 2.0, 1.0]));
    // A day of that zone, asked for by its date.
    let day = chart("tz=Europe/Berlin&from=2026-03-29&to=2026-03-30");
    assert_eq!(day["values"], 2);
    let traces = rig.get("/api/v1/traces?tz=Europe/Berlin&from=2026-03-29&to=2026-03-30");
    assert_eq!(traces["rows"].as_array().unwrap().len(), 2);
    let error = rig.error("/api/v1/chart?field=feedback.stars&tz=Europe/Nowhere");
    assert!(error.contains("Europe/Nowhere") && error.contains("Europe/Berlin"), "{error}");
}

/// A clock that was never set, and one at the end of time, stretch no chart, and are counted.
#[test]
fn times_that_no_clock_shows_do_not_stretch_a_chart() {
    let rig = Rig::new();
    let at = |trace: u64, start: u64| {
        let mut span = span("answer", trace, 1, NEW_YEAR).with("feedback.rating", true);
        span.json["startTimeUnixNano"] = Json::from(start.to_string());
        span.json["endTimeUnixNano"] = Json::from(start.to_string());
        span
    };
    rig.send([at(1, NEW_YEAR), at(2, NEW_YEAR + 2 * HOUR)]);
    rig.send([at(3, 0), at(4, 1), at(5, u64::MAX), at(6, i64::MAX as u64 - 1)]);
    let chart = "/api/v1/chart?field=feedback.rating";
    for query in [
        "",
        "&from=0001-01-01",
        "&from=0001-01-01T00:00:00Z&to=9999-12-31",
        "&from=-62135596800000",
        "&from=0001-01-01&tz=Europe/Berlin",
        "&group=service.version",
    ] {
        let chart = rig.get(&format!("{chart}{query}"));
        assert_eq!(chart["values"], 2, "{query}: {chart}");
        assert_eq!(chart["out_of_time"], 4, "{query}");
        assert!(chart["labels"].as_array().unwrap().len() <= 181, "{query}: {}", chart["labels"]);
        assert_eq!(chart["bucket"], "minute", "{query}");
    }
    // Asked for, they are there.
    let early = rig.get(&format!("{chart}&from=0&to=1970-01-02"));
    assert_eq!((&early["values"], &early["out_of_time"]), (&json!(2), &json!(0)));
    assert_eq!(rig.get("/api/v1/traces")["total"], 6);
    let list = rig.get("/api/v1/traces?from=0001-01-01&to=9999-12-31");
    assert_eq!(list["total"], 6);
    rig.error(&format!("{chart}&from=0001-01-01&to=2026-01-02&compare=previous"));
}

#[test]
fn a_chart_of_nothing_but_implausible_times_shows_them() {
    let rig = Rig::new();
    rig.send([span("answer", 1, 1, 5 * SECOND).with("feedback.rating", true)]);
    let chart = rig.get("/api/v1/chart?field=feedback.rating");
    assert_eq!((&chart["values"], &chart["out_of_time"]), (&json!(1), &json!(0)));
}
