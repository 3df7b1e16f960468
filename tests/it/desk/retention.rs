//! What the limits of a store delete: no more than they must, and that for good.

use std::collections::BTreeSet;

use super::*;

/// A span whose every name is its own, with a text in all of them.
fn distinct(trace: u64, text: &str) -> Span {
    let mut span = span(&format!("name-{text}"), trace, 1, NEW_YEAR + trace)
        .with(&format!("key-{text}"), format!("value-{text}"))
        .with("session.id", format!("session-{text}"))
        .of(&format!("service-{text}"), "1");
    span.json["status"] = json!({ "code": 2, "message": format!("status-{text}") });
    span
}

fn with_feedback(span: Span, text: &str) -> Span {
    span.with(&format!("feedback.field-{text}"), true)
        .with("feedback.comment", format!("comment-{text}"))
}

fn used(rig: &Rig) -> u64 {
    rig.get("/api/v1/status")["used_bytes"].as_u64().unwrap()
}

fn traces(rig: &Rig, query: &str) -> u64 {
    rig.get(&format!("/api/v1/traces?limit=1{query}"))["total"].as_u64().unwrap()
}

/// Names, resources, fields and sessions are given back with the traces that have them, so a limit of
/// size leaves about as much as fits, and first of all feedback.
#[test]
fn distinct_names_do_not_use_up_the_limit_of_size() {
    const LIMIT: u64 = 3_000_000;
    let rig = Rig::with(|options| options.with_max_bytes(LIMIT));
    let filler = "x".repeat(200);
    let send = |from: u64| {
        for first in (from..from + 6_000).step_by(1_000) {
            let spans = (first..first + 1_000).map(|id| distinct(id, &format!("{filler}{id}")));
            rig.send(spans);
        }
    };
    let vote =
        |trace: u64| carrier((trace, 1), 90_000 + trace, NEW_YEAR).with("feedback.rating", true);
    rig.send([distinct(1, "judged")]);
    rig.send([vote(1)]);
    send(2);
    until(|| used(&rig) <= LIMIT);
    let first_left = traces(&rig, "");
    assert!(first_left > 500, "{first_left}");
    rig.send([vote(6_001)]);
    send(10_000);
    until(|| used(&rig) <= LIMIT);
    let left = traces(&rig, "");
    assert!(left * 10 > first_left * 7, "{left} of {first_left}");
    assert_eq!(traces(&rig, "&filter=feedback.rating%20is%20true"), 2);
    assert_eq!(
        rig.get("/api/v1/traces?limit=1")["rows"][0]["trace_id"],
        format!("{:032x}", 15_999)
    );
}

/// All bytes of the files of a store.
fn bytes_of(directory: &Directory) -> Vec<u8> {
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(&directory.0).unwrap() {
        bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    bytes
}

/// The texts that are between `<` and `>` in the files.
fn marks(directory: &Directory) -> BTreeSet<String> {
    let bytes = bytes_of(directory);
    let mut marks = BTreeSet::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'<') {
        let rest = &bytes[at + 1..bytes.len().min(at + 20)];
        if let Some(end) = rest.iter().position(|byte| *byte == b'>')
            && let Ok(text) = std::str::from_utf8(&rest[..end])
            && text.starts_with("mark")
        {
            marks.insert(text.to_owned());
        }
    }
    marks
}

#[test]
fn what_is_deleted_by_age_is_in_no_file() {
    let rig = Rig::with(|options| options.with_max_age(Duration::from_secs(2)));
    let spans = (1..=300).map(|id| {
        let text = format!("<mark{id}>");
        with_feedback(distinct(id, &text), &text)
    });
    rig.send(spans);
    rig.send([carrier((1, 1), 1_000, NEW_YEAR).with("feedback.comment", "<mark-late>")]);
    until(|| rig.get("/api/v1/status")["spans"] == 0);
    until(|| marks(&rig.directory).is_empty());
}

#[test]
fn what_is_deleted_by_size_is_in_no_file() {
    let rig = Rig::with(|options| options.with_max_bytes(700_000));
    let filler = "x".repeat(500);
    for first in (1..=800).step_by(100) {
        rig.send((first..first + 100).map(|id| {
            let text = format!("<mark{id}>");
            with_feedback(distinct(id, &text), &text).with("filler", filler.clone())
        }));
    }
    until(|| used(&rig) <= 700_000);
    let expected = || -> BTreeSet<String> {
        let list = rig.get("/api/v1/traces?limit=500");
        let rows = list["rows"].as_array().unwrap();
        let name = |row: &Json| row["name"].as_str().unwrap().to_owned();
        let inner =
            |name: String| name.trim_start_matches("name-<").trim_end_matches('>').to_owned();
        rows.iter().map(name).map(inner).collect()
    };
    assert!(expected().len() > 50);
    until(|| marks(&rig.directory) == expected());
}

/// A desk that is stopped before it has cleaned up leaves that to the next, whatever its limits.
#[test]
fn what_a_stopped_desk_has_deleted_the_next_one_cleans_up() {
    let directory = Directory::new();
    let options = Options::new(directory.store()).with_any_ports();
    let desk = Desk::start(options.clone().with_max_bytes(700_000)).unwrap();
    let filler = "x".repeat(500);
    for first in (1..=600).step_by(100) {
        let spans = (first..first + 100).map(|id| {
            let text = format!("<mark{id}>");
            with_feedback(distinct(id, &text), &text).with("filler", filler.clone())
        });
        post(&desk.http_endpoint().unwrap(), &request(spans));
    }
    drop(desk);
    let rig = Rig { desk: Desk::start(options).unwrap(), directory };
    let stored = traces(&rig, "");
    until(|| marks(&rig.directory).len() as u64 == stored);
}

/// Data of last year that is received today is a day old tomorrow.
#[test]
fn the_limit_of_age_counts_from_when_something_was_received() {
    let rig = Rig::with(|options| options.with_max_age(Duration::from_secs(24 * 3_600)));
    rig.send([span("old", 1, 1, NEW_YEAR), span("older", 2, 1, NEW_YEAR - 400 * DAY)]);
    let connection = rusqlite::Connection::open(rig.directory.store()).unwrap();
    connection.busy_timeout(LONG).unwrap();
    let sql = "UPDATE traces SET touched = touched - 86500000000000 WHERE start = ?1";
    assert_eq!(connection.execute(sql, [i64::try_from(NEW_YEAR).unwrap()]).unwrap(), 1);
    until(|| rig.names("") == ["older"]);
}

#[test]
fn limits_that_leave_nothing_are_refused() {
    let directory = Directory::new();
    let options = || Options::new(directory.store()).with_any_ports();
    for (options, part) in [
        (options().with_max_age(Duration::ZERO), "would delete all"),
        (options().with_max_bytes(0), "would delete all"),
        (options().with_max_bytes(100_000), "512KiB or more"),
    ] {
        let error = Desk::start(options).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    for (flag, variable) in
        [("--keep-days", "FEEDBACK_DESK_KEEP_DAYS"), ("--keep-bytes", "FEEDBACK_DESK_KEEP_BYTES")]
    {
        let of_flag = program(&directory.store()).args([flag, "0"]).output().unwrap();
        let of_variable = program(&directory.store()).env(variable, "0").output().unwrap();
        for output in [of_flag, of_variable] {
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{error}");
            assert!(error.contains("would delete all"), "{error}");
        }
    }
    assert!(!directory.store().exists());
}

#[test]
fn an_import_says_what_the_limits_of_the_desk_will_delete() {
    let directory = Directory::new();
    let file = directory.0.join("traces.json");
    let filler = "x".repeat(700_000);
    let spans = [span("old", 1, 1, NEW_YEAR - 400 * DAY).with("filler", filler)];
    std::fs::write(&file, request(spans).to_string()).unwrap();
    let import = || {
        let output = program(&directory.store()).arg("import").arg(&file).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let options = Options::new(directory.store()).with_any_ports();
    let days = Duration::from_secs(30 * 24 * 3_600);
    drop(Desk::start(options.clone().with_max_age(days).with_max_bytes(600_000)).unwrap());
    let said = import();
    assert!(said.contains("a limit of 30 days (--keep-days)"), "{said}");
    assert!(said.contains("--keep-bytes 600000") && said.contains("will delete"), "{said}");
    drop(Desk::start(options).unwrap());
    assert_eq!(import(), "");
}
