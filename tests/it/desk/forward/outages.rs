//! Forwarding while a backend fails: no record is lost or made twice, other backends get theirs, and the status has
//! the reason.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use super::phoenix::Phoenix;
use super::server::Fault;
use super::*;

fn rated(id: u64) -> Span {
    span("answer", id, id, NEW_YEAR).with("feedback.rating", true)
}

#[test]
fn a_backend_at_fault_keeps_no_other_waiting_and_loses_nothing() {
    let faults = [
        (Fault::Hang, ""),
        (Fault::Close, "can't be reached"),
        (Fault::CloseAfter, "can't be reached"),
        (Fault::Answer(500, "", "oh"), "500 oh"),
        (Fault::Answer(429, "retry-after: 1\r\n", "slowly"), "429 slowly"),
        (Fault::Answer(401, "", "who?"), "check PHOENIX_API_KEY"),
        (Fault::Answer(200, "content-type: text/html\r\n", "<html>"), "an HTML page"),
        (Fault::Answer(302, "location: /login\r\n", ""), "redirects"),
    ];
    for (fault, reason) in faults {
        let targets: Vec<_> = (1..=3).map(span_id).collect();
        let (good, bad) = (Phoenix::with_targets(targets.clone()), Phoenix::with_targets(targets));
        let (server, faulty) = (Server::new(Arc::clone(&good)), Server::new(Arc::clone(&bad)));
        faulty.set_fault(fault.clone());
        let rig = Rig::with(|options| {
            let options = options.with_forward(&format!("phoenix={}", server.url)).unwrap();
            options.with_forward(&format!("phoenix={}?project=default", faulty.url)).unwrap()
        });
        rig.send((1..=3).map(rated));
        let told = |phoenix: &Mutex<Phoenix>| phoenix.lock().unwrap().results().len();
        until(|| told(&good) == 3);
        let status = || {
            let backends = rig.get("/api/v1/forwarding")["backends"].clone();
            let of = |it: &&Json| it["name"].as_str().unwrap().contains(&faulty.url);
            backends.as_array().unwrap().iter().find(of).unwrap().clone()
        };
        if fault != Fault::Hang {
            until(|| status()["reason"].as_str().is_some_and(|text| text.contains(reason)));
            assert!(status()["failed"].is_number() && status()["next"].is_number(), "{fault:?}");
        }
        assert_eq!(status()["waiting_for_backend"], 3, "{fault:?}");
        faulty.set_fault(None);
        until(|| {
            rig.retry_forwarding(); // rather than to wait for the end of the pause
            told(&bad) == 3
        });
        until(|| status()["waiting_for_backend"] == 0);
        assert_eq!(status()["reason"], Json::Null, "{fault:?}");
        assert_eq!(status()["told"], 3);
    }
}

#[test]
fn retry_after_is_kept() {
    let phoenix = Phoenix::with_targets([span_id(1)]);
    let server = Server::new(Arc::clone(&phoenix));
    server.set_fault(Fault::Answer(429, "retry-after: 3\r\n", ""));
    let rig = desk_to("phoenix", &server, |options| options);
    rig.send([rated(1)]);
    until(|| server.requests().len() == 1);
    let asked = Instant::now();
    server.set_fault(None);
    until(|| !phoenix.lock().unwrap().annotations.is_empty());
    assert!(asked.elapsed() >= Duration::from_millis(2_500), "{:?}", asked.elapsed());
}

#[test]
fn what_a_backend_refuses_is_shown_with_its_reason_and_tried_again_on_demand() {
    struct Picky(Arc<Mutex<Phoenix>>, Arc<Mutex<bool>>);
    impl Strict for Picky {
        fn answer(&mut self, request: &super::server::Request) -> (u16, Json) {
            let refuses = *self.1.lock().unwrap();
            if refuses && request.body.to_string().contains("stars") {
                return (422, json!({ "detail": "no stars here" }));
            }
            self.0.lock().unwrap().answer(request)
        }
    }
    let phoenix = Phoenix::with_targets((1..=8).map(span_id));
    let refuses = Arc::new(Mutex::new(true));
    let server =
        Server::new(Arc::new(Mutex::new(Picky(Arc::clone(&phoenix), Arc::clone(&refuses)))));
    let rig = desk_to("phoenix", &server, |options| options);
    rig.send(
        (1..=8).map(|id| if id == 5 { rated(id).with("feedback.stars", 4) } else { rated(id) }),
    );
    let status = rig.settle();
    assert_eq!(phoenix.lock().unwrap().annotations.len(), 8, "the others are not refused with it");
    assert_eq!((&status["told"], &status["refused"]), (&json!(8), &json!(1)));
    assert_eq!(status["listed"][0]["reason"], "stars: 422 no stars here");
    assert_eq!(status["listed"][0]["span_id"], span_id(5).as_str());

    let calls = server.requests().len();
    rig.send([span("other", 9, 9, NEW_YEAR).with("feedback.reason", "x")]);
    until(|| rig.forwarding()["waiting_for_target"] == 1);
    assert_eq!(server.requests().len(), calls + 1, "it is not tried again by itself");

    *refuses.lock().unwrap() = false;
    rig.retry_forwarding();
    until(|| phoenix.lock().unwrap().annotations.len() == 9);
    until(|| rig.forwarding()["refused"] == 0);
}

/// A binary with a secret in its environment.
#[test]
fn a_secret_reaches_the_backend_and_no_other_place() {
    const SECRET: &str = "s3cr3t-key-of-phoenix";
    let phoenix = Phoenix::with_targets([span_id(1)]);
    let server = Server::new(Arc::clone(&phoenix));
    let directory = Directory::new();
    // The backend repeats the key that it refuses.
    phoenix.lock().unwrap().key = Some("another".to_owned());
    let mut child = program(&directory.store())
        .args(["--port", "0", "--grpc-port", "0", "--http-port", "0"])
        .args(["--forward", &format!("phoenix={}", server.url)])
        .env("PHOENIX_API_KEY", SECRET)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut http, mut page) = (String::new(), String::new());
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
        let address = || line.rsplit(' ').next().unwrap().to_owned();
        if line.contains("OTLP over HTTP") {
            http = address();
        } else if line.contains("page and API") {
            page = address();
        }
        said += &line;
        if line.contains("Ctrl-C") {
            break;
        }
    }
    post(&http, &request([rated(1)]));
    let status = || get(&page, "/api/v1/forwarding", &[]).text();
    until(|| status().contains("check PHOENIX_API_KEY"));
    said += &status();
    said += &std::fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
    phoenix.lock().unwrap().key = Some(SECRET.to_owned());
    until(|| !phoenix.lock().unwrap().annotations.is_empty());
    assert!(
        server.requests().iter().any(|request| {
            request.header("authorization") == Some(&format!("Bearer {SECRET}"))
        })
    );
    said += &status();
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    said += &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Invalid token") && said.contains("pauses"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    for file in std::fs::read_dir(&directory.0).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "it is in the store");
    }
}

#[test]
fn a_url_with_a_password_is_refused_with_the_remedy() {
    let directory = Directory::new();
    let output = program(&directory.store())
        .args(["--forward", "phoenix=http://me:pass-word@localhost:6006"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("set PHOENIX_API_KEY") && !error.contains("pass-word"), "{error}");
}
