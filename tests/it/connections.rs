//! Connections: what becomes of spans where a connection is dead, a name is slow to resolve, or the
//! process is short of threads or stopped.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing::{Dispatch, dispatcher, info_span};
use tracing_feedback::collector::{Answer, Collector};
use tracing_feedback::{Builder, Protocol};
use tracing_subscriber::prelude::*;

use crate::Rig;
use crate::outbox::Directory;
use crate::show::{eventually, with_timeout};

const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];
const PATIENCE: Duration = Duration::from_secs(20);

fn spans(n: usize) {
    for at in 0..n {
        info_span!("span", at).in_scope(|| ());
    }
}

/// A proxy for TCP that can forget its connections, as a NAT does: their bytes are swallowed, and neither
/// side hears of it.
struct Proxy {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// Of each connection, whether it is forgotten.
    forgotten: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
}

impl Proxy {
    fn new(target: &str) -> Self {
        let target = target.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let forgotten = Arc::new(Mutex::new(Vec::new()));
        let of_thread = (accepted.clone(), forgotten.clone());
        thread::spawn(move || {
            let (accepted, forgotten) = of_thread;
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(&target) else { continue };
                accepted.fetch_add(1, Ordering::SeqCst);
                let is_forgotten = Arc::new(AtomicBool::new(false));
                forgotten.lock().unwrap().push(is_forgotten.clone());
                let [back, there] = [&client, &server].map(|it| it.try_clone().unwrap());
                let forgets = is_forgotten.clone();
                thread::spawn(move || copy(client, server, &forgets));
                thread::spawn(move || copy(there, back, &is_forgotten));
            }
        });
        Self { address, accepted, forgotten }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// From now on nothing passes on the connections there are.
    fn forget(&self) {
        for forgotten in self.forgotten.lock().unwrap().iter() {
            forgotten.store(true, Ordering::SeqCst);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, is_forgotten: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !is_forgotten.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    if !is_forgotten.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// A rig behind a proxy.
fn behind_proxy(protocol: Protocol, configure: impl FnOnce(Builder) -> Builder) -> (Rig, Proxy) {
    let collector = Collector::start().unwrap();
    let proxy = Proxy::new(match protocol {
        Protocol::Grpc => collector.endpoint(),
        _ => collector.http_endpoint(),
    });
    let endpoint = proxy.endpoint();
    let rig = Rig::of(collector, |builder| {
        configure(builder.with_protocol(protocol).with_endpoint(endpoint))
    });
    (rig, proxy)
}

// ---- dead connections --------------------------------------------------------------------------

#[test]
fn a_request_on_a_dead_connection_is_sent_again_in_its_time() {
    let (rig, proxy) = behind_proxy(Protocol::Grpc, |builder| builder);
    rig.run(|| spans(3));
    proxy.forget();
    rig.run(|| spans(4)); // a ping finds out that nothing comes back
    assert_eq!((rig.collector.spans().len(), proxy.accepted()), (7, 2));
    let stats = rig.telemetry.stats();
    assert_eq!((stats.exported, stats.dropped), (7, 0));
}

#[test]
fn a_connection_on_which_a_request_ran_out_of_time_is_not_used_again() {
    for protocol in PROTOCOLS {
        // Too short for pings.
        let short = Duration::from_secs(1);
        let (rig, proxy) = behind_proxy(protocol, |builder| builder.with_timeout(short));
        rig.run(|| spans(3));
        proxy.forget();
        dispatcher::with_default(&rig.dispatch, || spans(4));
        assert_eq!(rig.telemetry.flush().unwrap_err().lost(), 4, "{protocol}");
        assert_eq!(rig.telemetry.stats().reconnected, 1, "{protocol}");
        rig.run(|| spans(5));
        assert_eq!((rig.collector.spans().len(), proxy.accepted()), (8, 2), "{protocol}");
    }
}

#[test]
fn with_an_outbox_a_dead_connection_loses_nothing() {
    for protocol in PROTOCOLS {
        let directory = Directory::new();
        let (rig, proxy) = behind_proxy(protocol, |builder| {
            builder.with_timeout(Duration::from_secs(1)).with_outbox(directory.0.as_path())
        });
        rig.run(|| spans(3));
        for round in 1..=2 {
            proxy.forget();
            rig.run(|| spans(4)); // they are on disk now
            let arrived = rig.collector.wait_for_spans(3 + 4 * round, PATIENCE).unwrap();
            assert_eq!(arrived.len(), 3 + 4 * round, "{protocol}");
            // The answer has arrived too: it is not forgotten with its connection.
            eventually(|| rig.telemetry.stats().outbox_spans == 0);
        }
        assert_eq!(proxy.accepted(), 3, "{protocol}");
    }
}

// ---- the wrong port ----------------------------------------------------------------------------

/// The port of a server that says this to everything.
fn saying(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(answer);
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    address.to_string()
}

#[test]
fn the_wrong_port_is_told_with_the_right_one() {
    // Of servers that know one version of HTTP alone, as most do.
    let http1 = saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let http2 = saying(&[0, 0, 0, 4, 0, 0, 0, 0, 0]); // a frame `SETTINGS`
    let collector = Collector::start().unwrap();
    let plain = |endpoint: &str| endpoint.strip_prefix("http://").unwrap().to_owned();
    let (grpc, both) = (plain(collector.endpoint()), plain(collector.http_endpoint()));
    for (protocol, scheme, port, expected) in [
        (Protocol::Grpc, "http", http1, "is this a port for gRPC? By convention 4317 is"),
        (Protocol::Grpc, "http", both.clone(), "is this a port for gRPC? By convention 4317 is"),
        (Protocol::Grpc, "https", grpc, "does this port have TLS?"),
        (Protocol::HttpProtobuf, "http", http2, "is this a port for HTTP? By convention 4318 is"),
        (Protocol::HttpProtobuf, "https", both, "does this port have TLS?"),
    ] {
        let endpoint = format!("{scheme}://{port}");
        let rig = Rig::with(|builder| {
            let short = Duration::from_secs(2);
            builder.with_protocol(protocol).with_endpoint(&endpoint).with_timeout(short)
        });
        dispatcher::with_default(&rig.dispatch, || spans(1));
        let error = rig.telemetry.flush().unwrap_err().to_string();
        assert!(error.contains(expected), "{protocol} {scheme}: {error}");
    }
}

/// Answers the first request with `answer`, and no other.
fn saying_once(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut clients = Vec::new();
        for client in listener.incoming() {
            let mut client = client.unwrap();
            if clients.is_empty() {
                let _ = client.read(&mut [0; 4096]);
                let _ = client.write_all(answer);
                let _ = client.shutdown(Shutdown::Write);
            }
            clients.push(client);
        }
    });
    address.to_string()
}

#[test]
fn a_last_attempt_without_an_answer_hides_no_reason() {
    let port = saying_once(
        b"HTTP/1.1 503 Busy\r\nContent-Length: 11\r\nConnection: close\r\n\r\nmaintenance",
    );
    let rig = Rig::with(|builder| {
        builder
            .with_protocol(Protocol::HttpProtobuf)
            .with_endpoint(format!("http://{port}"))
            .with_timeout(Duration::from_secs(1))
    });
    dispatcher::with_default(&rig.dispatch, || spans(1));
    let error = rig.telemetry.flush().unwrap_err().to_string();
    assert!(error.contains("did not answer in time"), "{error}");
    assert!(error.contains("maintenance"), "{error}");
}

// ---- slow names --------------------------------------------------------------------------------

/// An exporter that waits for a blocking task of its runtime, as connectors do to resolve a name, until
/// the sender of the test is dropped.
#[derive(Debug)]
struct Resolving(Mutex<Option<mpsc::Receiver<()>>>);

impl SpanExporter for Resolving {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        let released = self.0.lock().unwrap().take();
        if let Some(released) = released {
            let _ = tokio::task::spawn_blocking(move || released.recv()).await;
        }
        Ok(())
    }
}

#[test]
fn neither_shutdown_nor_drop_waits_for_a_name_to_be_resolved() {
    for by_drop in [false, true] {
        let (release, released) = mpsc::channel();
        let (layer, telemetry) = tracing_feedback::builder()
            .with_exporter(Resolving(Mutex::new(Some(released))))
            .with_export_timeout(Duration::from_millis(50))
            .build()
            .unwrap();
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        dispatcher::with_default(&dispatch, || spans(1));
        assert_eq!(telemetry.flush().unwrap_err().lost(), 1);
        with_timeout(move || {
            if by_drop {
                drop(telemetry);
            } else {
                let _ = telemetry.shutdown();
            }
        });
        drop(release);
    }
}

// ---- no thread to be had -----------------------------------------------------------------------

/// This test binary, for a single test that is otherwise ignored, after some lines of `sh`.
#[cfg(target_os = "linux")]
fn own_process(prepare: &str, test: &str) {
    let script = format!("{prepare}\nexec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", &format!("connections::{test}")])
        .env(OWN_PROCESS, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}\n{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

/// Tells a test that it has a process of its own.
#[cfg(unix)]
const OWN_PROCESS: &str = "TRACING_FEEDBACK_TEST_OWN_PROCESS";

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_can_not_be_resolved_for_a_while_ends_no_export() {
    own_process("ulimit -v 4000000", "in_a_process_short_of_memory");
}

/// Takes the address space that is left, so that no thread finds room for its stack. What is returned
/// gives it back.
#[cfg(target_os = "linux")]
fn take_address_space() -> (Vec<Vec<u8>>, mpsc::SyncSender<()>) {
    let mut taken = Vec::new();
    for megabytes in [64, 8, 1] {
        loop {
            let mut piece = Vec::new();
            if piece.try_reserve_exact(megabytes << 20).is_err() {
                break;
            }
            taken.push(piece);
        }
    }
    // The stacks of threads that have ended are used again.
    let (release, released) = mpsc::sync_channel(0);
    let released = Arc::new(Mutex::new(released));
    for spawned in 0.. {
        assert!(spawned < 1000);
        let released = released.clone();
        let wait = move || released.lock().unwrap().recv();
        if thread::Builder::new().spawn(wait).is_err() {
            break;
        }
    }
    (taken, release)
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by `a_name_that_can_not_be_resolved_for_a_while_ends_no_export`, in a process of its own"]
fn in_a_process_short_of_memory() {
    if std::env::var_os(OWN_PROCESS).is_none() {
        return;
    }
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        let endpoint = match protocol {
            Protocol::Grpc => collector.endpoint(),
            _ => collector.http_endpoint(),
        };
        let endpoint = endpoint.replace("127.0.0.1", "localhost"); // a name, which is to be resolved
        let rig = Rig::of(collector, |builder| {
            let short = Duration::from_secs(1);
            builder.with_protocol(protocol).with_endpoint(endpoint).with_timeout(short)
        });
        let taken = take_address_space();
        dispatcher::with_default(&rig.dispatch, || spans(1));
        let error = rig.telemetry.flush().unwrap_err();
        drop(taken);
        assert_eq!(error.lost(), 1, "{protocol}");
        assert!(error.to_string().contains("no thread could be started"), "{error}");
        rig.run(|| spans(2));
        assert_eq!(rig.collector.spans().len(), 2, "{protocol}");
    }
}

// ---- a process that is stopped -----------------------------------------------------------------

#[cfg(unix)]
#[test]
fn a_request_gets_another_try_when_the_process_was_stopped_past_its_time() {
    for protocol in PROTOCOLS {
        let collector = Collector::start().unwrap();
        collector.answer_next(Answer::Silence);
        let endpoint = match protocol {
            Protocol::Grpc => collector.endpoint(),
            _ => collector.http_endpoint(),
        };
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "connections::in_a_process_that_is_stopped"])
            .env(OWN_PROCESS, format!("{protocol} {endpoint}"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        collector.wait_for_requests(1, PATIENCE).unwrap();
        let signal = |name: &str| {
            let sent = Command::new("kill").args([name, &process.id().to_string()]).status();
            assert!(sent.unwrap().success());
        };
        signal("-STOP");
        thread::sleep(2 * SHORT); // the time of the request passes
        signal("-CONT");
        let ended = process.wait().unwrap();
        assert!(ended.success(), "{protocol}");
        assert_eq!(collector.spans().len(), 1, "{protocol}");
    }
}

/// The time of a request in the process that is stopped.
#[cfg(unix)]
const SHORT: Duration = Duration::from_secs(2);

#[cfg(unix)]
#[test]
#[ignore = "run by `a_request_gets_another_try_when_the_process_was_stopped_past_its_time`"]
fn in_a_process_that_is_stopped() {
    let Ok(target) = std::env::var(OWN_PROCESS) else { return };
    let (protocol, endpoint) = target.split_once(' ').unwrap();
    let (layer, telemetry) = tracing_feedback::builder()
        .with_protocol(protocol.parse().unwrap())
        .with_endpoint(endpoint)
        .with_timeout(SHORT)
        .build()
        .unwrap();
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
    dispatcher::with_default(&dispatch, || spans(1));
    telemetry.flush().unwrap();
}
