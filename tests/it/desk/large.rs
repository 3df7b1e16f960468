//! Large traces and large texts.

use super::*;

/// A trace of 10,500 spans: a root, and below it a chain of the last hundred.
fn send_long_trace(rig: &Rig) {
    let spans: Vec<_> = (1..=10_500_u64)
        .map(|id| {
            let span = span(&format!("s{id}"), 1, id, NEW_YEAR + id);
            match id {
                1 => span,
                2..=10_400 => span.child_of(1),
                _ => span.child_of(id - 1),
            }
        })
        .collect();
    for some in spans.chunks(2_000) {
        rig.send(some.to_vec());
    }
}

fn shown(rig: &Rig, query: &str) -> Vec<Json> {
    let trace = rig.get(&format!("/api/v1/traces/{:032x}{query}", 1));
    assert_eq!(trace["truncated"], true);
    assert_eq!(trace["waiting"], json!([]));
    trace["spans"].as_array().unwrap().clone()
}

#[test]
fn what_is_judged_or_asked_for_is_shown_of_a_long_trace() {
    let rig = Rig::new();
    send_long_trace(&rig);
    let names = |spans: &[Json]| -> Vec<String> {
        spans.iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect()
    };
    let plain = shown(&rig, "");
    assert_eq!(plain.len(), 10_000);
    assert!(!names(&plain).contains(&"s10450".to_owned()));
    assert!(rig.error(&format!("/api/v1/traces/{:032x}?span=7", 1)).contains("16 hexadecimal"));

    // Asked for: with its ancestors, so it is as deep as it was made.
    let asked = shown(&rig, &format!("?span={:016x}", 10_450));
    let found = asked.iter().find(|span| span["name"] == "s10450").unwrap();
    assert_eq!(found["depth"], 51);
    assert!(!names(&asked).contains(&"s10460".to_owned()));

    // Judged, in its own trace and from another one, and with feedback of its own.
    rig.send([carrier((1, 10_460), 90_000, NEW_YEAR + HOUR).with("feedback.rating", false)]);
    let late = carrier((1, 10_470), 90_001, NEW_YEAR + HOUR).with("feedback.rating", true);
    rig.send([in_the_trace_of_its_target(late)]);
    let own = span("own", 1, 10_600, NEW_YEAR + 2 * HOUR).with("feedback.rating", true);
    rig.send([own.child_of(10_500)]);
    let judged = shown(&rig, "");
    for (name, rating) in [("s10460", false), ("s10470", true), ("own", true)] {
        let found = judged.iter().find(|span| span["name"] == name).expect(name);
        let leaf = &found["document"]["namespaces"]["feedback"][0];
        assert_eq!(leaf["value"], rating, "{name}");
    }
    assert_eq!(judged.iter().filter(|span| span["carrier"] == true).count(), 2);
}
