//! Safety: what other sites and malformed requests can't do.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

#[test]
fn a_foreign_host_is_refused_everywhere() {
    let rig = Rig::new();
    for endpoint in [rig.desk.address(), rig.desk.http_endpoint().unwrap()] {
        for name in ["evil.example", "localhost.evil.example:4320", "192.168.0.1"] {
            let reply = get(&endpoint, "/api/v1/status", &[("host", name)]);
            assert_eq!(reply.status, 403, "{name}");
        }
    }
    let port = rig.desk.address().rsplit(':').next().unwrap().to_owned();
    let localhost = format!("localhost:{port}");
    for name in [localhost.as_str(), "[::1]:1", "127.0.0.1"] {
        assert_eq!(get(&rig.desk.address(), "/", &[("host", name)]).status, 200, "{name}");
    }
}

#[test]
fn other_machines_need_a_token() {
    let directory = Directory::new();
    let options = Options::new(directory.store())
        .with_any_ports()
        .with_listen(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let error = Desk::start(options).unwrap_err().to_string();
    assert!(error.contains("--token"), "{error}");
}

#[test]
fn a_token_is_asked_of_everyone() {
    let rig = Rig::with(|options| options.with_token("s3cret"));
    let address = rig.desk.address();
    assert_eq!(get(&address, "/api/v1/status", &[]).status, 401);
    assert_eq!(get(&address, "/", &[]).status, 401);
    let wrong = get(&address, "/api/v1/status", &[("authorization", "Bearer s3cre")]);
    assert_eq!(wrong.status, 401);
    let right = get(&address, "/api/v1/status", &[("authorization", "Bearer s3cret")]);
    assert_eq!(right.status, 200);
    let signed_in = get(&address, "/?token=s3cret", &[]);
    assert_eq!(signed_in.status, 303);
    assert!(signed_in.head.contains("httponly; samesite=strict"), "{}", signed_in.head);
    let cookie = get(&address, "/", &[("cookie", "a=b; feedback_desk_token=s3cret")]);
    assert_eq!(cookie.status, 200);

    let body = request([span("a", 1, 1, NEW_YEAR)]);
    assert_eq!(try_post(&rig.desk.http_endpoint().unwrap(), &body, "").status, 401);
    let header = "authorization: Bearer s3cret\r\n";
    assert_eq!(try_post(&rig.desk.http_endpoint().unwrap(), &body, header).status, 200);
}

#[test]
fn markup_in_any_field_is_data() {
    let rig = Rig::new();
    let markup = "<script>alert(1)</script>";
    rig.send([span(markup, 1, 1, NEW_YEAR)
        .of(markup, markup)
        .with("feedback.comment", markup)
        .with(&format!("feedback.{markup}"), markup)]);
    for path in ["traces", "fields", "comments", "status", "dataset"] {
        let reply = get(&rig.desk.address(), &format!("/api/v1/{path}"), &[]);
        assert!(reply.head.contains("content-type: application/json"));
        assert!(reply.head.contains("x-content-type-options: nosniff"));
        assert!(reply.head.contains("content-security-policy: default-src 'none'"));
    }
    let page = get(&rig.desk.address(), "/", &[]);
    assert!(page.head.contains("script-src 'self'") && !page.head.contains("unsafe"));
    assert!(page.text().contains("href=\"/api\""));
    assert!(!page.text().contains("http://") && !page.text().contains("https://"));
    assert!(get(&rig.desk.address(), "/api", &[]).text().contains("## `GET /api/v1/chart"));
}

#[test]
fn only_reading_is_possible_and_what_is_none_is_said() {
    let rig = Rig::new();
    let address = rig.desk.address();
    let head = format!(
        "POST /api/v1/traces HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        host(&address)
    );
    assert_eq!(read_reply(send_request(&address, &head, b"")).status, 405);
    assert_eq!(get(&address, "/api/v1/nothing", &[]).status, 404);
    assert_eq!(get(&address, "/../../etc/passwd", &[]).status, 404);
    assert_eq!(get(&address, &format!("/api/v1/traces/{:032x}", 1), &[]).status, 404);
    assert_eq!(get(&address, "/api/v1/traces/x", &[]).status, 400);
    assert_eq!(get(&address, "/api/v1/sessions/none", &[]).status, 404);
    let long = format!("/api/v1/traces?filter={}", "a".repeat(30_000));
    assert_eq!(get(&address, &long, &[]).status, 414);
    assert!(rig.error("/api/v1/traces?fliter=x").contains("unknown parameter `fliter`"));
}

#[test]
fn a_busy_port_says_so_and_how_to_choose_another() {
    let rig = Rig::new();
    let port = rig.desk.address().rsplit(':').next().unwrap().parse().unwrap();
    let directory = Directory::new();
    let options = Options::new(directory.store()).with_ports(0, 0, port);
    let error = Desk::start(options).unwrap_err().to_string();
    assert!(error.contains(&format!("port {port}")) && error.contains("--port"), "{error}");
    assert!(!directory.store().exists());
}

#[test]
fn whoever_does_not_finish_its_head_is_cut() {
    let rig = Rig::new();
    let mut stream =
        send_request(&rig.desk.address(), "GET / HTTP/1.1\r\nhost: localhost\r\nx", b"");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap(); // ends within the timeout of the test
    assert_eq!(rig.get("/api/v1/status")["spans"], 0);
}
