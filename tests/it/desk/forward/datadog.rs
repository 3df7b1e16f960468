//! Datadog takes what it gets, and deletes nothing.

use std::sync::{Arc, Mutex};

use super::server::Request;
use super::*;

/// The values it was told.
#[derive(Default)]
struct Datadog(Vec<Json>);

impl Strict for Datadog {
    fn answer(&mut self, request: &Request) -> (u16, Json) {
        assert_eq!(request.header("dd-api-key"), Some("k"));
        let events = request.body["data"]["attributes"]["metrics"].as_array().unwrap();
        self.0.extend(events.iter().map(|event| event["boolean_value"].clone()));
        (202, json!({}))
    }
}

#[test]
fn what_was_refused_is_no_longer_refused_once_it_is_no_longer_wanted() {
    if std::env::var_os("DD_API_KEY").is_none() {
        let test = "desk::forward::datadog::what_was_refused_is_no_longer_refused_once_it_is_no_longer_wanted";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env("DD_API_KEY", "k")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let datadog = Arc::new(Mutex::new(Datadog::default()));
    let server = Server::new(Arc::clone(&datadog));
    let rig = desk_to("datadog", &server, |options| options);
    let vote = |id: u64| carrier((1, 1), id, NEW_YEAR + id * HOUR);
    rig.send([span("answer", 1, 1, NEW_YEAR), vote(2).with("feedback.rating", true)]);
    until(|| rig.forwarding()["told"] == 1);
    rig.send([vote(3).with("tracing_feedback.cleared", json!(["feedback.rating"]))]);
    until(|| rig.forwarding()["refused"] == 1);
    rig.send([vote(4).with("feedback.rating", true)]);
    until(|| rig.forwarding()["refused"] == 0);
    assert_eq!(rig.settle()["told"], 1);
    assert_eq!(datadog.lock().unwrap().0, [json!(true)], "it has that value still");
}
