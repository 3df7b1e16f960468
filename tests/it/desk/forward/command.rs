//! `feedback-desk forward`.

use std::sync::Arc;

use super::phoenix::Phoenix;
use super::*;

fn forward(store: &Path, arguments: &[&str]) -> (bool, String, String) {
    let output = program(store).arg("forward").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_check_says_what_would_be_told_and_tells_nothing() {
    let phoenix = Phoenix::with_targets((1..=3).map(span_id));
    let server = Server::new(Arc::clone(&phoenix));
    let url = format!("phoenix={}", server.url);
    let directory = Directory::new();
    let store = directory.store();
    let rate = |desk: &Desk, ids: std::ops::RangeInclusive<u64>| {
        let rated = ids.map(|id| span("answer", id, id, NEW_YEAR).with("feedback.rating", true));
        post(&desk.http_endpoint().unwrap(), &request(rated));
    };
    let options = || Options::new(&store).with_any_ports();
    {
        let desk = Desk::start(options().with_forward(&url).unwrap()).unwrap();
        rate(&desk, 1..=2);
        // Told, and written down.
        until(|| {
            let status = get(&desk.address(), "/api/v1/forwarding", &[]).text();
            let status: Json = serde_json::from_str(&status).unwrap();
            status["backends"][0]["told"] == 2
        });
        assert_eq!(phoenix.lock().unwrap().annotations.len(), 2);
    }
    {
        let desk = Desk::start(options()).unwrap();
        rate(&desk, 3..=3);
        let change = carrier((1, 1), 9, NEW_YEAR + HOUR).with("feedback.rating", false);
        let retract = carrier((2, 2), 10, NEW_YEAR + HOUR)
            .with("tracing_feedback.cleared", json!(["feedback.rating"]));
        post(&desk.http_endpoint().unwrap(), &request([change, retract]));
    }
    server.forget_requests();
    let (is_done, out, err) = forward(&store, &["--check", "--forward", &url]);
    assert!(is_done, "{err}");
    assert_eq!(
        out,
        format!(
            "{url}\n  can be reached\n  would be told of 3 of 3 targets: 1 records created, 1 changed, \
             1 deleted\n"
        )
    );
    let asked: Vec<_> = server.requests().into_iter().map(|it| (it.method, it.path)).collect();
    assert_eq!(asked, [("GET".to_owned(), "/v1/projects".to_owned())]);

    let (is_done, out, _) = forward(&store, &["--status"]);
    assert!(is_done);
    assert_eq!(
        out,
        format!(
            "{url}\n  2 records told, 0 targets wait for their span, 3 for the backend, 0 records refused\n"
        )
    );
    let (is_done, out, err) =
        forward(&store, &["--check", "--json", "--forward", "phoenix=http://127.0.0.1:1"]);
    assert!(!is_done && err.contains("not every backend"), "{err}");
    let checked: Json = serde_json::from_str(&out).unwrap();
    assert!(checked["problem"].as_str().unwrap().contains("can't be reached"), "{checked}");
    assert_eq!(checked["creates"], 2, "what was told to another backend does not count");
}

#[test]
fn a_retry_by_the_command_reaches_the_running_desk() {
    let phoenix = Phoenix::with_targets([span_id(2)]);
    let server = Server::new(Arc::clone(&phoenix));
    let rig = desk_to("phoenix", &server, |options| options);
    rig.send([span("answer", 1, 1, NEW_YEAR).with("feedback.rating", true)]);
    until(|| rig.forwarding()["waiting_for_target"] == 1);
    // Its pauses have grown.
    for _ in 0..3 {
        let calls = server.requests().len();
        rig.retry_forwarding();
        until(|| server.requests().len() > calls);
    }
    phoenix.lock().unwrap().targets.insert(span_id(1));
    let (is_done, _, err) = forward(&rig.directory.store(), &["--retry"]);
    assert!(is_done, "{err}");
    until(|| phoenix.lock().unwrap().annotations.len() == 1);
}

#[test]
fn a_command_line_that_asks_for_nothing_is_refused() {
    let directory = Directory::new();
    for (arguments, reason) in [
        (&[] as &[&str], "--check, --status or --retry"),
        (&["--check"], "--forward KIND=URL"),
        (&["--status"], "there is no"),
        (&["--check", "--forward", "nothing=http://a"], "there are phoenix"),
    ] {
        if reason != "there is no" {
            drop(Desk::start(Options::new(directory.store()).with_any_ports()).unwrap());
        } else {
            std::fs::remove_file(directory.store()).unwrap();
        }
        let (is_done, _, err) = forward(&directory.store(), arguments);
        assert!(!is_done && err.contains(reason), "{arguments:?}: {err}");
    }
}
