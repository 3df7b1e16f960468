//! What was acknowledged is there after the desk was killed, and no request takes its memory.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

/// How often it is killed, unless `FEEDBACK_DESK_KILLS` says otherwise.
const KILLS: u64 = 3;
const SENDERS: u64 = 4;

struct Running {
    child: Child,
    http: String,
    page: String,
}

fn start(store: &Path) -> Running {
    start_with(store, Stdio::inherit())
}

fn start_with(store: &Path, stderr: Stdio) -> Running {
    let mut child = program(store)
        .args(["--port", "0", "--grpc-port", "0", "--http-port", "0"])
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut http, mut page) = (String::new(), String::new());
    for line in lines {
        let line = line.unwrap();
        let address = || line.rsplit(' ').next().unwrap().to_owned();
        if line.contains("OTLP over HTTP") {
            http = address();
        } else if line.contains("page and API") {
            page = address();
        } else if line.contains("Ctrl-C") {
            break;
        }
    }
    Running { child, http, page }
}

/// Sends until the desk is gone; returns the traces that were acknowledged.
fn send(http: &str, next: &AtomicU64) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    loop {
        let first = next.fetch_add(10, Ordering::Relaxed);
        let spans = (first..first + 10)
            .map(|id| span("answer", id, 1, NEW_YEAR + id).with("feedback.number", id));
        let body = request(spans).to_string();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let answer = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(host(http))?;
            stream.set_read_timeout(Some(LONG))?;
            stream.write_all(head.as_bytes())?;
            stream.write_all(body.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        match answer() {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => {
                acknowledged.extend(first..first + 10);
            }
            _ => return acknowledged,
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let directory = Directory::new();
    let kills = std::env::var("FEEDBACK_DESK_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let next = AtomicU64::new(1);
    let mut acknowledged = Vec::new();
    for kill in 0..kills {
        let Running { mut child, http, .. } = start(&directory.store());
        thread::scope(|scope| {
            let senders: Vec<_> =
                (0..SENDERS).map(|_| scope.spawn(|| send(&http, &next))).collect();
            // In full ingest, each time at another moment.
            let begun = next.load(Ordering::Relaxed);
            until(|| next.load(Ordering::Relaxed) > begun + 200 + 370 * kill);
            child.kill().unwrap(); // SIGKILL
            child.wait().unwrap();
            for sender in senders {
                acknowledged.extend(sender.join().unwrap());
            }
        });
    }
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    let Running { mut child, page, .. } = start(&directory.store());
    let answer = get(&page, "/api/v1/export/traces?format=jsonl", &[]).text();
    let kept: std::collections::HashSet<_> = answer
        .lines()
        .map(|line| {
            let row: Json = serde_json::from_str(line).unwrap();
            assert_eq!(
                row["feedback"]["number"].as_u64().map(|id| format!("{id:032x}")),
                row["trace_id"].as_str().map(str::to_owned)
            );
            row["feedback"]["number"].as_u64().unwrap()
        })
        .collect();
    let missing: Vec<_> = acknowledged.iter().filter(|id| !kept.contains(*id)).collect();
    assert_eq!(missing, Vec::<&u64>::new());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The most memory that a process has had, bytes.
#[cfg(target_os = "linux")]
fn peak_memory(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[test]
fn small_requests_that_decompress_to_large_ones_take_a_bounded_memory() {
    let directory = Directory::new();
    let Running { mut child, http, .. } = start(&directory.store());
    let before = peak_memory(&child);
    // Ten million empty resources, and five million empty spans in one.
    let resources = [0x0a_u8, 0].repeat(10_000_000);
    let (group, scope) = ([0x0a_u8, 0x85, 0xad, 0xe2, 0x04], [0x12_u8, 0x80, 0xad, 0xe2, 0x04]);
    let spans = [&group[..], &scope, &[0x12, 0].repeat(5_000_000)].concat();
    thread::scope(|scope| {
        for body in [&resources, &spans] {
            let body = zstd::encode_all(body.as_slice(), 3).unwrap();
            assert!(body.len() < 4_000, "{}", body.len());
            let head = format!(
                "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: application/x-protobuf\r\ncontent-encoding: zstd\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            for _ in 0..16 {
                let (head, body, http) = (head.clone(), body.clone(), &http);
                scope.spawn(move || {
                    let reply = read_reply(send_request(http, &head, &body));
                    // Too large for one request, or as long as others take all there is.
                    assert!([413, 503].contains(&reply.status), "{}", reply.text());
                });
            }
        }
    });
    let more = peak_memory(&child) - before;
    assert!(more < 400 << 20, "{} MiB", more >> 20);
    post(&http, &request([span("afterwards", 1, 1, NEW_YEAR)]));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_span_with_a_bad_id_costs_no_other() {
    let rig = Rig::new();
    let mut bad = span("bad\nid", 2, 2, NEW_YEAR);
    bad.json["traceId"] = Json::from("00ff");
    let mut linked = span("bad link", 3, 3, NEW_YEAR);
    linked.json["links"] = json!([{ "traceId": "00ff", "spanId": "00" }]);
    let good = [span("good", 1, 1, NEW_YEAR), span("good, too", 4, 4, NEW_YEAR)];
    let [first, second] = good;
    let http = rig.desk.http_endpoint().unwrap();
    let reply = try_post(&http, &request([first, bad.clone(), linked, second]), "");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer: Json = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "2");
    let message = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(message.contains("trace_id has 2 bytes"), "{message}");
    let mut names = rig.names("");
    names.sort();
    assert_eq!(names, ["good", "good, too"]);
    // Nothing of it can be taken: as before.
    assert_eq!(try_post(&http, &request([bad]), "").status, 400);
}

/// The answer to a request with one good span and others that can't be read.
fn post_with_unreadable(rig: &Rig, content_type: &str, body: &[u8]) -> Reply {
    let http = rig.desk.http_endpoint().unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n\r\n",
        host(&http),
        body.len()
    );
    read_reply(send_request(&http, &head, body))
}

#[test]
fn a_span_that_cannot_be_read_costs_no_other() {
    let rig = Rig::new();
    let faults = [
        ("traceId", json!("0af7651916cd43dd-8448eb211c80319c")),
        ("traceId", json!(5)),
        ("spanId", json!("zz")),
        ("parentSpanId", json!("abc")),
        ("startTimeUnixNano", json!("-1")),
        ("endTimeUnixNano", json!(1.5)),
        ("kind", json!({})),
        ("name", json!(["name"])),
        ("attributes", json!({ "key": "value" })),
        ("attributes", json!([{ "key": "key", "value": { "intValue": "99999999999999999999" } }])),
        ("events", json!([{ "timeUnixNano": "yesterday" }])),
        ("links", json!([{ "traceId": "zz" }])),
        ("status", json!("ok")),
    ];
    for (at, (field, value)) in faults.into_iter().enumerate() {
        let mut bad = span("bad", 1_000, 1, NEW_YEAR);
        bad.json[field] = value;
        let id = at as u64 + 1;
        let mut request = request([span("good", id, 1, NEW_YEAR)]);
        let spans = &mut request["resourceSpans"][0]["scopeSpans"][0]["spans"];
        spans.as_array_mut().unwrap().extend([bad.json.clone(), Json::Null]);
        let reply = post_with_unreadable(&rig, "application/json", request.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{field}: {}", reply.text());
        let answer: Json = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer["partialSuccess"]["rejectedSpans"], "2", "{field}: {answer}");
        let message = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
        assert!(message.contains("spans[1]") && message.contains(field), "{field}: {message}");
        rig.get(&format!("/api/v1/traces/{id:032x}"));
        assert_eq!(rig.get("/api/v1/status")["spans"], id);
        // Nothing of it can be taken: it is refused.
        let http = rig.desk.http_endpoint().unwrap();
        assert_eq!(try_post(&http, &super::request([bad]), "").status, 400, "{field}");
    }
}

#[test]
fn a_text_that_is_no_utf_8_costs_no_other_span() {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
    };
    use prost::Message;

    let rig = Rig::new();
    let mut request = request([span("good", 1, 1, NEW_YEAR)]);
    let spans = &mut request["resourceSpans"][0]["scopeSpans"][0]["spans"];
    spans.as_array_mut().unwrap().push(span("cut?", 2, 1, NEW_YEAR).json);
    let cut = |mut body: Vec<u8>| {
        let at = body.windows(4).position(|text| text == b"cut?").unwrap();
        body[at + 3] = 0xc3; // the first byte of two
        body
    };
    let message: ExportTraceServiceRequest = serde_json::from_value(request.clone()).unwrap();
    let body = cut(message.encode_to_vec());
    let reply = post_with_unreadable(&rig, "application/x-protobuf", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = ExportTraceServiceResponse::decode(reply.body.as_slice()).unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("Span.name"), "{}", partial.error_message);
    assert_eq!(rig.names(""), ["good"]);
    // In JSON a character stands for the wrong byte, and the sender gets a warning.
    let reply = post_with_unreadable(&rig, "application/json", &cut(request.to_string().into()));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer: Json = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["partialSuccess"]["rejectedSpans"], "0");
    let message = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(message.contains("spans[1].name"), "{message}");
    let mut names = rig.names("");
    names.sort();
    assert_eq!(names, ["cut\u{fffd}", "good"]);
    // In a resource it costs the resource.
    let mut other = super::request([span("a", 3, 1, NEW_YEAR), span("b", 4, 1, NEW_YEAR)]);
    other["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"] = json!("cut?");
    let message: ExportTraceServiceRequest = serde_json::from_value(other.clone()).unwrap();
    let reply = post_with_unreadable(&rig, "application/x-protobuf", &cut(message.encode_to_vec()));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = ExportTraceServiceResponse::decode(reply.body.as_slice()).unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 0);
    assert!(partial.error_message.contains("Resource.attributes"), "{}", partial.error_message);
    other["resourceSpans"][0]["resource"]["attributes"] = json!(5);
    for (field, id) in [("traceId", 5), ("traceId", 6)] {
        other["resourceSpans"][id - 5]["scopeSpans"][0]["spans"][0][field] =
            json!(format!("{id:032x}"));
    }
    let reply = post_with_unreadable(&rig, "application/json", other.to_string().as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    for (id, service) in [(3, Json::Null), (4, json!("chat")), (5, Json::Null), (6, json!("chat"))]
    {
        let trace = rig.get(&format!("/api/v1/traces/{id:032x}"));
        assert_eq!(trace["spans"][0]["service"], service, "{id}");
    }
}

#[cfg(unix)]
#[test]
fn a_store_that_was_removed_is_not_written_as_if_it_were_there() {
    let rig = Rig::new();
    rig.send([span("a", 1, 1, NEW_YEAR)]);
    let (store, aside) = (rig.directory.store(), rig.directory.0.join("aside.sqlite"));
    std::fs::rename(&store, &aside).unwrap();
    let http = rig.desk.http_endpoint().unwrap();
    let refused = try_post(&http, &request([span("b", 2, 1, NEW_YEAR)]), "");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("the file is gone"), "{}", refused.text());
    std::fs::write(&store, b"").unwrap();
    let refused = try_post(&http, &request([span("b", 2, 1, NEW_YEAR)]), "");
    assert!(refused.status == 503 && refused.text().contains("replaced"), "{}", refused.text());
    std::fs::rename(&aside, &store).unwrap();
    rig.send([span("b", 2, 1, NEW_YEAR)]);
    assert_eq!(rig.get("/api/v1/status")["spans"], 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let directory = Directory::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let Running { mut child, http, page } = start_with(&directory.store(), Stdio::from(full));
    post(&http, &request([span("a", 1, 1, NEW_YEAR)]));
    // A failure that is logged: the store is not where it was.
    let aside = directory.0.join("aside.sqlite");
    std::fs::rename(directory.store(), &aside).unwrap();
    assert_eq!(try_post(&http, &request([span("b", 2, 1, NEW_YEAR)]), "").status, 503);
    std::fs::rename(&aside, directory.store()).unwrap();
    post(&http, &request([span("b", 2, 1, NEW_YEAR)]));
    let status: Json = serde_json::from_slice(&get(&page, "/api/v1/status", &[]).body).unwrap();
    assert_eq!(status["spans"], 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_desk_whose_output_cannot_be_written_serves() {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    for (stdout, stderr) in [(full(), full()), (closed(), closed())] {
        let directory = Directory::new();
        // The desk can't print the ports it chooses, so they are chosen here.
        let free: [_; 3] =
            std::array::from_fn(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let [grpc, http, page] = free.map(|port| port.local_addr().unwrap().port().to_string());
        let mut child = program(&directory.store())
            .args(["--grpc-port", &grpc, "--http-port", &http, "--port", &page])
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        until(|| TcpStream::connect(format!("127.0.0.1:{http}")).is_ok());
        post(&format!("http://127.0.0.1:{http}"), &request([span("a", 1, 1, NEW_YEAR)]));
        let status = get(&format!("http://127.0.0.1:{page}"), "/api/v1/status", &[]);
        let status: Json = serde_json::from_slice(&status.body).unwrap();
        assert_eq!(status["spans"], 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_store_without_its_log_is_not_written_as_if_it_were_whole() {
    type Damage = fn(&Path);
    let log = |store: &Path| store.with_file_name("desk.sqlite-wal");
    let damages: [(&str, Damage); 3] = [
        ("write-ahead log", |store| {
            std::fs::remove_file(store.with_file_name("desk.sqlite-wal")).unwrap();
        }),
        ("was moved", |store| {
            let moved = store.with_file_name("moved.sqlite");
            std::fs::rename(store, &moved).unwrap();
            std::os::unix::fs::symlink(moved, store).unwrap();
        }),
        ("was emptied", |store| std::fs::write(store, b"").unwrap()),
    ];
    for (reason, damage) in damages {
        let directory = Directory::new();
        let (reader, writer) = std::io::pipe().unwrap();
        let Running { mut child, http, .. } = start_with(&directory.store(), Stdio::from(writer));
        post(&http, &request([span("a", 1, 1, NEW_YEAR)]));
        assert!(log(&directory.store()).exists());
        damage(&directory.store());
        // It says so, though nothing arrives.
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        assert!(line.contains(reason), "{line}");
        let refused = try_post(&http, &request([span("b", 2, 1, NEW_YEAR)]), "");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.text().contains(reason), "{}", refused.text());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// A request for a download whose answer is not read yet.
fn begin_download(address: &str) -> TcpStream {
    let head = "GET /api/v1/export/dataset?format=jsonl HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    send_request(address, head, b"")
}

/// A desk with as many rows as no buffer of a connection holds.
fn desk_with_long_downloads() -> Rig {
    let rig = Rig::new();
    let text = "x".repeat(8_000);
    for first in (1..2_501).step_by(500) {
        let span = |id| span("answer", id, 1, NEW_YEAR).with("feedback.comment", text.clone());
        rig.send((first..first + 500).map(span));
    }
    rig
}

#[test]
fn a_download_that_fails_half_way_does_not_look_complete() {
    let rig = desk_with_long_downloads();
    let mut download = begin_download(&rig.desk.address());
    let mut begin = [0; 15];
    download.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    let store = rusqlite::Connection::open(rig.directory.store()).unwrap();
    store.busy_timeout(LONG).unwrap();
    store.execute_batch("ALTER TABLE spans RENAME TO elsewhere").unwrap();
    let mut rest = Vec::new();
    let end = download.read_to_end(&mut rest);
    let rows = rest.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")).count();
    assert!(rows < 2_500, "the test came too late: {rows}");
    // Without the last chunk every client says that the body is incomplete.
    assert!(end.is_err() || !rest.ends_with(b"0\r\n\r\n"), "{rows} rows");
}

#[test]
fn slow_downloads_delay_no_other_request() {
    let rig = desk_with_long_downloads();
    let unread: Vec<_> = (0..6)
        .map(|_| {
            let mut download = begin_download(&rig.desk.address());
            download.read_exact(&mut [0; 15]).unwrap();
            download
        })
        .collect();
    assert_eq!(rig.get("/api/v1/status")["spans"], 2_500);
    drop(unread);
}

/// The way of `docs/desk.md`.
#[test]
fn a_backup_of_a_running_desk_is_a_store() {
    let rig = Rig::new();
    rig.send([span("answer", 1, 1, NEW_YEAR).with("feedback.rating", true)]);
    let backup = rig.directory.0.join("backup.sqlite");
    let store = rusqlite::Connection::open(rig.directory.store()).unwrap();
    store.execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    rig.send([span("later", 2, 1, NEW_YEAR)]);
    let copy = Desk::start(Options::new(&backup).with_any_ports()).unwrap();
    let status = get(&copy.address(), "/api/v1/status", &[]);
    let status: Json = serde_json::from_slice(&status.body).unwrap();
    assert_eq!(status["spans"], 1);
}
