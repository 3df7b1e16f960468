//! The demo: every view has something to show, and it is the same each time.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::*;

/// A desk that was started with `--demo`.
struct Demo {
    child: Child,
    address: String,
    /// Its output, up to the line before it waits.
    printed: String,
}

impl Demo {
    fn start(directory: &Directory, arguments: &[&str]) -> Self {
        let mut child = program(&directory.0.join("real.sqlite"))
            .current_dir(&directory.0)
            .env("OTEL_SDK_DISABLED", "true") // about services, not about the demo
            .args(["--port", "0", "--grpc-port", "0", "--http-port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.contains("Ctrl-C") {
                break;
            }
            printed += &(line + "\n");
        }
        let address = printed.lines().find_map(|line| line.strip_prefix("  page and API    "));
        let address = address.unwrap_or_else(|| panic!("{printed}")).to_owned();
        Self { child, address, printed }
    }

    fn get(&self, path: &str) -> Json {
        let reply = get(&self.address, &format!("/api/v1/{path}"), &[]);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// How many rows a list has on all its pages.
    fn total(&self, path: &str) -> u64 {
        let list = self.get(path);
        assert!(!list["rows"].as_array().unwrap().is_empty(), "{path}: {list}");
        list["total"].as_u64().unwrap_or_default()
    }

    fn filtered(&self, view: &str, filter: &str) -> u64 {
        self.total(&format!(
            "{view}?limit=1&filter={}",
            filter.replace(' ', "%20").replace('>', "%3E")
        ))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_view_has_something_to_show() {
    let directory = Directory::new();
    let demo = Demo::start(&directory, &["--demo"]);
    assert!(demo.printed.contains(&format!("Open {}", demo.address)), "{}", demo.printed);
    // A store of its own, whatever the environment names.
    assert!(directory.0.join("feedback-desk-demo.sqlite").exists());
    assert!(!directory.0.join("real.sqlite").exists());

    let status = demo.get("status");
    assert_eq!(status["demo"], true);
    assert!(status["waiting"].as_u64().unwrap() >= 3, "{status}");
    assert!(status["adrift"].as_u64().unwrap() >= 1, "{status}");

    let traces = demo.total("traces?limit=1");
    assert!((2_000..6_000).contains(&traces), "{traces}");
    assert_eq!(demo.filtered("traces", "deployment.environment.name is demo"), traces);
    for view in ["sessions?limit=1", "comments?limit=1", "dataset?limit=1", "waiting?limit=1"] {
        demo.total(view);
    }
    for filter in [
        "has ground truth",
        "has no feedback",
        "status is error and has feedback",
        "feedback.copied is true",
        "feedback.edits.1.value contains friendly",
        "has feedback.correction",
        "duration > 4000",
    ] {
        assert!(demo.filtered("traces", filter) > 0, "{filter}");
    }
    assert!(demo.filtered("sessions", "feedback.solved is false") > 0);
    // What is meant to be inert is there, as it was written.
    assert!(demo.total("comments?search=%3Cscript%3E&limit=1") > 0);

    for (field, measure) in [
        ("feedback.rating", "percent-true"),
        ("feedback.stars", "avg"),
        ("feedback.copied", "count"),
        ("feedback.comment", "count"),
        ("feedback.edits.0.seconds", "p95"),
        ("metrics.score", "median"),
        ("metrics.latency_bucket", "count"),
    ] {
        let path = format!("chart?field={field}&measure={measure}&bucket=day");
        let chart = demo.get(&path);
        let points = chart["total"]["points"][measure].as_array().unwrap();
        let filled = points.iter().filter(|point| !point.is_null()).count();
        assert!(points.len() >= 28 && filled >= 15, "{path}: {filled} of {}", points.len());
    }
    let change_of_mind = demo.get("comments?search=changed%20my%20mind&limit=1");
    let trace = change_of_mind["rows"][0]["trace_id"].as_str().unwrap();
    let trace = demo.get(&format!("traces/{trace}"));
    let spans = trace["spans"].as_array().unwrap();
    assert!(spans.iter().filter(|span| span["depth"] == 1).count() >= 2, "{trace}");
    let history = spans.iter().find_map(|span| span["document"]["history"].as_array()).unwrap();
    assert!(history.iter().filter(|change| change["late"] == true).count() >= 2, "{trace}");
}

#[test]
fn the_newer_version_is_the_better_one() {
    let directory = Directory::new();
    let demo = Demo::start(&directory, &["--demo", "--demo-seed", "7"]);
    let path = "chart?field=feedback.rating&measure=percent-true&group=service.version";
    let chart = demo.get(path);
    let groups = chart["groups"].as_array().unwrap();
    let share = |version: &str| {
        let group = groups.iter().find(|group| group["group"] == version).unwrap();
        group["overall"]["percent-true"].as_f64().unwrap()
    };
    let (old, new) = (share("1.3.2"), share("1.4.0"));
    assert!(new > old + 8.0, "{old} {new}");
}

#[test]
fn a_second_run_changes_nothing_and_another_seed_is_another_story() {
    let directory = Directory::new();
    let look = |demo: &Demo| {
        let status = demo.get("status");
        let counts =
            ["spans", "traces", "documents", "waiting", "adrift"].map(|key| status[key].clone());
        (counts, demo.get("chart?field=feedback.rating&bucket=day"), demo.total("dataset?limit=1"))
    };
    let first = look(&Demo::start(&directory, &["--demo"]));
    let again = Demo::start(&directory, &["--demo"]);
    assert!(again.printed.contains(", 0 of them new"), "{}", again.printed);
    assert_eq!(first, look(&again));
    drop(again);
    let other = Demo::start(&directory, &["--demo", "--demo-seed", "2", "--store", "other.sqlite"]);
    assert_ne!(first.0, look(&other).0);
    drop(other);
    let plain = Demo::start(&directory, &["--store", "other.sqlite"]);
    assert!(plain.printed.contains("contains demo data"), "{}", plain.printed);
}

#[test]
fn a_demo_is_not_put_among_real_spans() {
    let rig = Rig::new();
    rig.send([span("answer", 1, 1, NEW_YEAR).with("feedback.rating", true)]);
    let store = rig.directory.store();
    let run = |arguments: &[&str]| {
        let output = program(&store).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (is_done, err) = run(&["--demo", "--store", store.to_str().unwrap()]);
    assert!(!is_done && err.contains("real services") && err.contains("--store"), "{err}");
    assert_eq!(rig.get("/api/v1/status")["spans"], 1);
    assert_eq!(rig.get("/api/v1/status")["demo"], false);
    let (is_done, err) = run(&["--demo-seed", "3"]);
    assert!(!is_done && err.contains("requires --demo"), "{err}");
}

#[test]
fn a_demo_finds_its_way_past_a_token() {
    let directory = Directory::new();
    let demo = Demo::start(&directory, &["--demo", "--token", "secret"]);
    assert!(demo.printed.contains(" of them new"), "{}", demo.printed);
    assert_eq!(get(&demo.address, "/api/v1/status", &[]).status, 401);
}
