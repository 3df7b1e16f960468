//! The command line.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::*;

fn run(store: &Path, arguments: &[&str]) -> (bool, String, String) {
    let output = program(store).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// Lines as the Collector's file exporter writes them.
fn lines() -> String {
    let days = (0..4_u64).map(|day| {
        let start = NEW_YEAR + day * DAY;
        request([
            span("answer", 2 * day + 1, 1, start)
                .of("chat", "1.0")
                .with("feedback.rating", day % 2 == 0),
            span("answer", 2 * day + 2, 1, start).of("chat", "1.1").with("feedback.rating", true),
        ])
    });
    days.filter(|_| true).map(|request| format!("{request}\n")).collect()
}

#[test]
fn what_is_imported_can_be_charted_as_table_csv_and_json() {
    let directory = Directory::new();
    let file = directory.0.join("traces.json");
    std::fs::write(&file, lines()).unwrap();
    let file = file.to_str().unwrap();
    let store = directory.store();
    let (is_done, out, err) = run(&store, &["import", file]);
    assert!(is_done, "{err}");
    assert_eq!(out, "8 spans read, 8 of them new, from 4 requests\n");
    let (_, out, _) = run(&store, &["import", file]);
    assert_eq!(out, "8 spans read, 0 of them new, from 4 requests\n");

    let chart = ["chart", "feedback.rating", "--measure", "percent-true", "--by", "day"];
    let (is_done, out, err) = run(&store, &[&chart[..], &["--group", "service.version"]].concat());
    assert!(is_done, "{err}");
    assert_eq!(
        out,
        "group  bucket      percent-true\n\
         1.0    2026-01-01           100\n\
         1.0    2026-01-02             0\n\
         1.0    2026-01-03           100\n\
         1.0    2026-01-04             0\n\
         1.1    2026-01-01           100\n\
         1.1    2026-01-02           100\n\
         1.1    2026-01-03           100\n\
         1.1    2026-01-04           100\n"
    );
    assert_eq!(err, "8 values of type bool\n");
    let filter = ["--filter", "service.version is \"1.0\"", "--format", "csv"];
    let (_, out, _) = run(&store, &[&chart[..], &filter].concat());
    assert!(out.starts_with("part,group,bucket,percent-true\r\n,,2026-01-01,100.0\r\n"), "{out}");
    let (_, out, _) = run(&store, &[&chart[..], &["--format", "json"]].concat());
    let json: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(json["values"], 8);
}

#[test]
fn what_is_wrong_is_said_with_the_way_out() {
    let directory = Directory::new();
    let store = directory.store();
    for (arguments, expected) in [
        (&["chart", "feedback.rating"][..], "--store"),
        (&["chart"], "takes a field"),
        (&["chart", "a", "--by", "year"], "minute, hour, day, week or month"),
        (&["graph"], "use chart, tail, import, forward or clickhouse"),
        (&["clickhouse"], "--ddl"),
        (&["clickhouse", "--ddl", "--store", "desk.sqlite"], "clickhouse=http://"),
        (&["chart", "a", "--store", "clickhouse=ftp://host"], "http://host:8123/database"),
        (
            &["chart", "feedback.rating", "--store", "clickhouse=http://127.0.0.1:1"],
            "can't be reached",
        ),
        (&["import", "x", "--store", "clickhouse=http://127.0.0.1:1"], "the desk only reads"),
        (&["--demo", "--store", "clickhouse=http://127.0.0.1:1"], "the desk only reads"),
        (&["--prot", "1"], "--prot"),
        (&["--port", "x"], "x"),
        (&["import"], "needs a file"),
        (&["import", "no-such-file"], "no-such-file"),
        (&["--listen", "0.0.0.0"], "--token"),
    ] {
        let (is_done, _, err) = run(&store, arguments);
        assert!(!is_done && err.contains(expected), "{arguments:?}: {err}");
    }
    for arguments in [
        &["--help"][..],
        &["chart", "--help"],
        &["tail", "-h"],
        &["import", "-h"],
        &["clickhouse", "-h"],
    ] {
        let (is_done, out, _) = run(&store, arguments);
        assert!(is_done && out.starts_with("feedback-desk"), "{out}");
    }
    let broken = directory.0.join("broken.json");
    std::fs::write(&broken, "{\"resourceSpans\": []}\n\nnot json\n").unwrap();
    let (is_done, _, err) = run(&store, &["import", broken.to_str().unwrap()]);
    assert!(!is_done && err.contains("broken.json:3: "), "{err}");
}

#[test]
fn files_are_imported_however_they_are_written_or_refused_by_name() {
    let directory = Directory::new();
    let file = directory.0.join("traces");
    let import = |name: &str, bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let store = directory.0.join(format!("{name}.sqlite"));
        run(&store, &["import", file.to_str().unwrap()])
    };
    let lines = lines();
    let list = format!("[{}]", lines.trim_end().replace('\n', ","));
    let pretty: String = lines
        .lines()
        .map(|line| {
            let value: Json = serde_json::from_str(line).unwrap();
            serde_json::to_string_pretty(&value).unwrap() + "\n"
        })
        .collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(lines.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(lines.as_bytes(), 0).unwrap();
    let snake = lines.replace("resourceSpans", "resource_spans").replace("traceId", "trace_id");
    for (name, bytes) in [
        ("list", list.into_bytes()),
        ("pretty", pretty.into_bytes()),
        ("bom", format!("\u{feff}{lines}").into_bytes()),
        ("gzip", gzip),
        ("zstd", zstd),
        ("snake_case", snake.into_bytes()),
    ] {
        let (is_done, out, err) = import(name, &bytes);
        assert!(is_done, "{name}: {err}");
        assert!(out.starts_with("8 spans read, 8 of them new, "), "{name}: {out}");
    }

    for (name, bytes, reason) in [
        ("jaeger", r#"{"data":[{"traceID":"1","spans":[{}],"processes":{}}]}"#, "Jaeger"),
        ("console", r#"{"name":"a","context":{"trace_id":"0x1"}}"#, "console exporter"),
        ("empty", "", "the file is empty"),
        ("utf16", "\u{0}", "no text"),
    ] {
        let (is_done, out, err) = import(name, bytes.as_bytes());
        assert!(!is_done && err.contains(reason), "{name}: {err}");
        assert!(out.starts_with("0 spans read"), "{name}: {out}");
    }
    // A fault a line: some are named, the others counted.
    let (is_done, out, err) =
        import("many", &[b"{\"a\":1}\n".repeat(500), lines.into_bytes()].concat());
    assert!(!is_done && out.starts_with("8 spans read, 8 of them new"), "{out}");
    assert!(err.lines().count() < 20 && err.contains("490 more"), "{err}");
}

#[test]
fn a_file_that_cannot_be_read_costs_no_other() {
    let directory = Directory::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(lines().as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let utf_16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let directory_itself = directory.0.to_str().unwrap().to_owned();
    let whole = file("whole", lines().as_bytes());
    for (input, reason, spans) in [
        (file("cut.gz", &gzip[..gzip.len() - 30]), "what follows can't be read", 6),
        (file("twice.gz", &zstd::encode_all(gzip.as_slice(), 0).unwrap()), "compressed twice", 0),
        (file("traces.bz2", b"BZh91AY&SY"), "bzip2", 0),
        (file("traces.xz", b"\xfd7zXZ\0\0"), "xz", 0),
        (file("traces.zip", b"PK\x03\x04"), "zip", 0),
        (file("utf-16", &utf_16(&lines())), "UTF-16", 0),
        (file("binary", &[&[8, 0], [3; 2000].as_slice()].concat()), "no text", 0),
        (file("no-spans", b"{\"resourceSpans\":[{\"scope_span\":[]}]}"), "no spans", 0),
        (directory_itself, "irectory", 0),
        ("no-such-file".to_owned(), "no-such-file", 0),
    ] {
        let store = directory.0.join("import.sqlite");
        let (is_done, out, err) = run(&store, &["import", &input, &whole]);
        assert!(!is_done && err.contains(reason), "{input}: {err}");
        assert_eq!(err.lines().count(), 2, "{input}: {err}");
        let read = format!("{} spans read, 8 of them new, ", spans + 8);
        assert!(out.starts_with(&read), "{input}: {out}");
        std::fs::remove_file(store).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn an_import_with_faults_fails_though_nobody_reads_its_output() {
    let directory = Directory::new();
    let file = directory.0.join("broken.json");
    std::fs::write(&file, lines() + "not json\n").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut import = program(&directory.store());
    let import = import.arg("import").arg(&file).stdout(writer).stderr(Stdio::null());
    assert_eq!(import.status().unwrap().code(), Some(1));
}

#[test]
fn arguments_are_escaped_in_errors() {
    let directory = Directory::new();
    let escape = "\u{1b}[2J\u{202e}";
    for arguments in [
        &[escape][..],
        &["chart", "a", "--tz", escape],
        &["chart", "a", "--from", escape],
        &["chart", "a", "--filter", escape],
        &["--port", escape],
        &["import", escape],
    ] {
        let (is_done, _, err) = run(&directory.store(), arguments);
        assert!(!is_done && err.contains("\\u{1b}"), "{arguments:?}: {err:?}");
        assert!(!err.contains(['\u{1b}', '\u{202e}']), "{arguments:?}: {err:?}");
    }
}

#[test]
fn foreign_names_are_escaped_in_what_is_printed() {
    const FORGED: &str = "a\nfeedback-desk: forged\u{1b}[2J\u{202e}\u{2028}";
    const ESCAPED: &str = "a\\nfeedback-desk: forged\\u{1b}[2J\\u{202e}\\u{2028}";
    let directory = Directory::new();
    let file = directory.0.join("traces.json");
    let lines = [
        // An id of zeros is refused, by the span's name.
        request([span(FORGED, 0, 1, NEW_YEAR)]),
        request([span(FORGED, 1, 1, NEW_YEAR).with("feedback.rating", true)]),
        request([carrier((1, 1), 2, NEW_YEAR + HOUR)
            .with(&format!("feedback.{FORGED}"), FORGED)
            .with("feedback.user_id", FORGED)]),
    ];
    std::fs::write(&file, lines.map(|line| line.to_string() + "\n").concat()).unwrap();
    let store = directory.store();
    let (_, _, err) = run(&store, &["import", file.to_str().unwrap()]);
    assert_eq!(err.lines().count(), 2, "{err}");
    assert!(err.contains(&format!("span `{ESCAPED}` has an id of only zeros")), "{err}");

    let mut tail = program(&store).args(["tail", "--all"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), format!("2026-01-01T00:00:01Z  {ESCAPED}  feedback.rating = true"));
    let line = next();
    assert!(line.contains(&format!("feedback.{ESCAPED} = ")), "{line}");
    assert!(line.contains(&format!("(late, by {ESCAPED})")), "{line}");
    assert!(!line.contains(['\u{1b}', '\u{202e}', '\u{2028}']), "{line}");
    tail.kill().unwrap();
    tail.wait().unwrap();

    let mut tail =
        program(&store).args(["tail", "--all", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let line = lines.nth(1).unwrap().unwrap();
    assert!(line.contains("\\u202e") && line.contains("\\u001b"), "{line}");
    assert!(!line.contains(['\u{1b}', '\u{202e}', '\u{2028}']), "{line}");
    let json: Json = serde_json::from_str(&line).unwrap();
    assert!(json["by"].as_str().unwrap().contains('\u{202e}'), "{json}");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn foreign_names_are_escaped_in_charts_of_every_format() {
    let rig = Rig::new();
    let foreign = "1\u{1b}[2J\u{202e}\u{9b}31m";
    rig.send([span("a", 1, 1, NEW_YEAR).of("chat", foreign).with("feedback.rating", true)]);
    for format in ["table", "csv", "json"] {
        let chart = ["chart", "feedback.rating", "--group", "service.version"];
        let compare = format!("version:{foreign}");
        let rest = ["--format", format, "--compare", &compare];
        let (is_done, out, err) = run(&rig.directory.store(), &[&chart[..], &rest].concat());
        assert!(is_done && out.contains("[2J"), "{format}: {out:?} {err}");
        for text in [out, err] {
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{format}: {text:?}");
        }
    }
}

#[test]
fn feedback_is_followed_as_it_arrives() {
    let rig = Rig::new();
    rig.send([span("answer", 1, 1, NEW_YEAR).with("feedback.rating", true)]);
    let mut tail = program(&rig.directory.store())
        .args(["tail", "--all"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "2026-01-01T00:00:01Z  answer  feedback.rating = true");
    rig.send([carrier((1, 1), 2, NEW_YEAR + HOUR)
        .with("feedback.comment", "no\u{1b}[2J")
        .with("feedback.user_id", "u-17")
        .with("tracing_feedback.cleared", "feedback.rating")]);
    assert_eq!(
        next(),
        "2026-01-01T01:00:00Z  answer  feedback.rating retracted  \
         feedback.comment = \"no\\u001b[2J\"  feedback.user_id = \"u-17\"  (late, by u-17)"
    );
    tail.kill().unwrap();
    tail.wait().unwrap();
}
