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
fn an_allowed_host_is_answered_on_every_port() {
    let rig = Rig::with(|options| {
        options.with_allowed_host("desk.example.com").with_allowed_host("other.example:8443")
    });
    for endpoint in [rig.desk.address(), rig.desk.http_endpoint().unwrap()] {
        for name in [
            "desk.example.com",
            "DESK.example.com:80",
            "desk.example.com.",
            "other.example",
            "localhost",
        ] {
            let reply = get(&endpoint, "/api/v1/status", &[("host", name)]);
            assert_ne!(reply.status, 403, "{name}");
        }
        for name in ["evil.example", "example.com", "desk.example.com.evil.example"] {
            let reply = get(&endpoint, "/api/v1/status", &[("host", name)]);
            assert_eq!(reply.status, 403, "{name}");
            assert!(reply.text().contains("--allow-host"), "{}", reply.text());
        }
    }
    let directory = Directory::new();
    let options = Options::new(directory.store()).with_any_ports().with_allowed_host("*");
    let error = Desk::start(options).unwrap_err().to_string();
    assert!(error.contains("the allowed host `*`"), "{error}");
}

#[test]
fn a_base_path_is_in_front_of_every_address() {
    let rig = Rig::with(|options| options.with_base_path("/tools/desk/").with_token("s3cret"));
    let address = rig.desk.address();
    let token = ("authorization", "Bearer s3cret");
    // A proxy passes the path on, or strips it.
    for prefix in ["/tools/desk", ""] {
        for path in ["/", "/traces/1", "/api/v1/status", "/page/main.js", "/api"] {
            let path = format!("{prefix}{path}");
            assert_eq!(get(&address, &path, &[token]).status, 200, "{path}");
            assert_eq!(get(&address, &path, &[]).status, 401, "{path}");
        }
        let page = get(&address, &format!("{prefix}/sessions"), &[token]).text();
        let links: Vec<_> = page.split('"').filter(|text| text.starts_with('/')).collect();
        assert!(links.iter().all(|link| link.starts_with("/tools/desk/")), "{links:?}");
        for link in links {
            assert_eq!(get(&address, link, &[token]).status, 200, "{link}");
        }
        let signed_in = get(&address, &format!("{prefix}/traces/1?a=b&token=s3cret"), &[]).head;
        assert!(signed_in.contains("location: /tools/desk/traces/1?a=b\r\n"), "{signed_in}");
        assert!(signed_in.contains("; path=/tools/desk;"), "{signed_in}");
        let cross = [token, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(get(&address, &format!("{prefix}/api/v1/status"), &cross).status, 403);
    }
    assert_eq!(get(&address, "/tools/desk", &[token]).status, 200);
    let plain = Rig::with(|options| options.with_token("s3cret"));
    assert!(get(&plain.desk.address(), "/?token=s3cret", &[]).head.contains("; path=/;"));
    assert_eq!(get(&address, "/tools/desks/traces", &[token]).status, 404);
    for path in ["desk", "/a\"b", "/../x", "/traces"] {
        let directory = Directory::new();
        let options = Options::new(directory.store()).with_any_ports().with_base_path(path);
        let error = Desk::start(options).unwrap_err().to_string();
        assert!(error.contains("the base path `"), "{error}");
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
    assert!(signed_in.head.contains("httponly; samesite=lax"), "{}", signed_in.head);
    assert!(!signed_in.head.contains("s3cret"), "{}", signed_in.head);
    let cookie = signed_in.head.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    assert_eq!(get(&address, "/", &[("cookie", &format!("a=b; {cookie}"))]).status, 200);
    let token = get(&address, "/", &[("cookie", "feedback_desk_token=s3cret")]);
    assert_eq!(token.status, 401, "the cookie is derived from the token");
    let deep = get(&address, "/traces/1?tab=feedback&token=s3cret", &[]);
    assert!(deep.head.contains("location: /traces/1?tab=feedback\r\n"), "{}", deep.head);
    let options = Options::new("desk.sqlite").with_token("s3cret");
    assert!(!format!("{options:?}").contains("s3cret"), "{options:?}");

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

#[test]
fn pages_of_other_sites_load_nothing() {
    let rig = Rig::new();
    let address = rig.desk.address();
    let status = |path: &str, headers: &[(&str, &str)]| get(&address, path, headers).status;
    for path in
        ["/api/v1/status", "/api/v1/events", "/api/v1/export/traces?format=csv", "/api", "/main.js"]
    {
        for site in ["cross-site", "same-site"] {
            assert_eq!(status(path, &[("sec-fetch-site", site)]), 403, "{path} {site}");
        }
    }
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(status("/traces", &link), 200, "who follows a link is shown the page");
    assert_eq!(status("/api/v1/status", &link), 403);
    for site in ["same-origin", "none"] {
        assert_eq!(status("/api/v1/status", &[("sec-fetch-site", site)]), 200, "{site}");
    }
    let body = request([span("a", 1, 1, NEW_YEAR)]);
    let http = rig.desk.http_endpoint().unwrap();
    assert_eq!(try_post(&http, &body, "sec-fetch-site: cross-site\r\n").status, 403);
}

/// A request from another address of this machine than 127.0.0.1.
#[cfg(target_os = "linux")]
fn get_from_elsewhere(endpoint: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = host(endpoint).parse().unwrap();
    let exchange = async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 2], 0).into())?;
        let mut stream = socket.connect(address).await?;
        stream
            .write_all(
                b"GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            )
            .await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        Ok::<_, std::io::Error>(reply)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reply = runtime.block_on(async { tokio::time::timeout(LONG, exchange).await });
    reply.expect("an answer").unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn connections_without_a_request_lock_no_port() {
    let rig = Rig::new();
    let page = rig.desk.address();
    // The begin of the preface of HTTP/2, and never more.
    let hold = |endpoint: &str, count: usize| -> Vec<_> {
        (0..count).map(|_| send_request(endpoint, "P", b"")).collect()
    };
    let mut held = hold(&page, 300);
    held.extend(hold(&rig.desk.http_endpoint().unwrap(), 8));
    held.extend(hold(&rig.desk.endpoint().unwrap(), 8));
    assert_eq!(get_from_elsewhere(&page), 200, "another peer gets in at once");
    // All are closed within the timeout of the streams.
    for mut stream in held {
        let end = stream.read(&mut [0]);
        let is_closed = matches!(&end, Ok(0))
            || end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(is_closed, "{end:?}");
    }
    assert_eq!(rig.get("/api/v1/status")["spans"], 0);
}

#[test]
fn slow_bodies_hold_up_no_other_sender() {
    let rig = Rig::new();
    let http = rig.desk.http_endpoint().unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n{";
    let slow: Vec<_> = (0..100).map(|_| send_request(&http, head, b"")).collect();
    // A read would time out before one of them is cut.
    rig.send([span("a", 1, 1, NEW_YEAR)]);
    assert_eq!(rig.get("/api/v1/status")["spans"], 1);
    drop(slow);
}

#[test]
fn event_streams_are_few() {
    let rig = Rig::new();
    let address = rig.desk.address();
    let head = "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut streams: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = send_request(&address, head, b"");
            let mut first = [0; 15];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200 OK");
            stream
        })
        .collect();
    let one_more = get(&address, "/api/v1/events", &[]);
    assert_eq!(one_more.status, 503);
    assert!(one_more.head.contains("retry-after: "), "{}", one_more.head);
    streams.pop();
    // The desk notices with the next event.
    let next = AtomicU32::new(1);
    until(|| {
        let id = u64::from(next.fetch_add(1, Ordering::Relaxed));
        rig.send([span("a", id, 1, NEW_YEAR)]);
        let mut stream = send_request(&address, head, b"");
        let mut first = [0; 15];
        stream.read_exact(&mut first).unwrap();
        &first == b"HTTP/1.1 200 OK"
    });
}

#[cfg(unix)]
#[test]
fn a_new_store_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    rig.send([span("a", 1, 1, NEW_YEAR)]);
    for entry in std::fs::read_dir(&rig.directory.0).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
}
