//! The desk: stores spans, shows the feedback about them, and charts any field of it.
//!
//! The binary `feedback-desk` calls [`run`]. [`Desk`] runs the same inside another program, for tests.
//!
//! ```
//! use tracing_feedback::desk::{Desk, Options};
//! # let directory = std::env::temp_dir().join(format!("desk-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//!
//! let desk = Desk::start(Options::new(directory.join("desk.sqlite")).with_any_ports())?;
//! // … send spans to `desk.endpoint()`, look at `desk.address()` …
//! assert!(desk.endpoint().is_some_and(|endpoint| endpoint.starts_with("http://127.0.0.1:")));
//! # drop(desk);
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The folder
//!
//! | file | idea |
//! | --- | --- |
//! | `intake` | from the receiver to the store, acknowledged after the commit |
//! | `store` | storage and queries: `store::sqlite` on one machine, `store::clickhouse` on many |
//! | `answer` | what a model was asked and answered, from the attributes of a span |
//! | `query` | filters, time, measures |
//! | `api` | JSON over HTTP, documented in `api/API.md`; safety of the port |
//! | `page` | the files a browser gets |
//! | `forward` | keeps the feedback of other backends equal to the fold |
//! | `serve` | ports and connections |
//! | `tls` | TLS of the desk's own HTTP clients |
//! | `log` | lines on stderr |
//! | `options` | flags and environment |
//! | `command` | the command line: `chart`, `tail`, `import` |
//! | `demo` | generated data, for a first look |
//!
//! ```text
//! collector::receive ─► intake ─► store (fold) ─► api ─► page
//!   (the Collector ─► ClickHouse) ─────┘ ├──────► command
//!                                        └──────► forward ─► Phoenix, …
//! ```
//!
//! The desk sends data only to backends named by [`Options::with_forward`], and reads ClickHouse where that is its
//! store; the demo sends to the desk's own port.

mod answer;
mod api;
mod command;
mod demo;
mod forward;
mod intake;
mod log;
mod options;
mod query;
mod serve;
mod store;
mod tls;

use std::future::poll_fn;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io, thread};

use axum::middleware;
use tokio::sync::{oneshot, watch};

pub use command::run;
pub use options::Options;

use crate::collector::receive::budget::MemoryBudget;
use crate::collector::receive::decode::MAX_BODY;
use crate::collector::receive::{grpc, http};
use crate::suppress;
use api::Api;
use api::base_path::BasePath;
use api::guard::{AllowedHosts, Guard, guard};
use forward::{ForwardAccess, Forwarding};
use log::log_line;
use store::Store;
use store::clickhouse::{Changes, ClickHouse, ClickHouseForwarding};
use store::location::Location;
use store::sqlite::{Retention, Sqlite, SqliteForwarding, SqliteWriter};

/// A query of a page that takes longer than this ends with an error.
const LONGEST_QUERY: Duration = Duration::from_secs(20);

/// A running desk. Dropping it stops it, after what has arrived is written.
#[must_use = "dropping the desk stops it: keep it for as long as it is to run"]
pub struct Desk {
    addresses: Addresses,
    /// Dropping it stops the thread.
    stop: Option<oneshot::Sender<()>>,
    /// Closed when the thread has ended.
    running: watch::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
struct Addresses {
    page: SocketAddr,
    /// OTLP over gRPC and over HTTP, if the desk receives spans.
    spans: Option<[SocketAddr; 2]>,
}

/// Why a desk did not start. Its text says what to do instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
#[non_exhaustive]
pub struct StartError(String);

impl StartError {
    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl Desk {
    /// Starts a desk. When this returns, all three ports can be connected to.
    ///
    /// # Errors
    ///
    /// A port is in use, the file can't be opened or is not a desk's, the ports would be open to other
    /// machines without a token, the token, an allowed host or the base path is invalid, or the limits of
    /// [`Options`] leave room for nothing.
    ///
    /// # Panics
    ///
    /// With [`Options::clickhouse`] in the asynchronous code of a Tokio runtime, since it waits for the
    /// server: call it in `tokio::task::spawn_blocking` there.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let is_local = options.listen.is_loopback();
        if !is_local && options.token.is_none() {
            return Err(StartError(format!(
                "{} can be reached from other machines: choose a token with --token or \
                 FEEDBACK_DESK_TOKEN, or listen on 127.0.0.1",
                options.listen
            )));
        }
        if let Some(token) = &options.token
            && (token.is_empty() || !token.bytes().all(is_of_token))
        {
            return Err(StartError(
                "a token may only contain letters, digits, `-`, `.`, `_` and `~`".to_owned(),
            ));
        }
        options.retention.check().map_err(StartError)?;
        let rules = Guard::new(
            is_local,
            options.token.as_deref(),
            AllowedHosts::read(&options.hosts).map_err(StartError)?,
            BasePath::read(&options.base_path).map_err(StartError)?,
        );
        let bind = |port, what, flag| {
            serve::bind(options.listen, port, what, flag).map_err(StartError::of)
        };
        let address =
            |listener: &std::net::TcpListener| listener.local_addr().map_err(StartError::of);
        let [grpc_port, http_port, page_port] = options.ports;
        let page = bind(page_port, "the page", "port")?;
        let mut addresses = Addresses { page: address(&page)?, spans: None };
        let source = match &options.store {
            Location::File(path) => {
                let grpc = bind(grpc_port, "OTLP over gRPC", "grpc-port")?;
                let http = bind(http_port, "OTLP over HTTP", "http-port")?;
                addresses.spans = Some([address(&grpc)?, address(&http)?]);
                let writer = SqliteWriter::start(path, options.retention)
                    .map_err(|error| StartError(format!("{}: {error}", options.store)))?;
                let writer = Arc::new(writer);
                let store = SqliteForwarding::new(path, LONGEST_QUERY, Arc::clone(&writer));
                let forwarding =
                    Forwarding::start(&options.forward, Arc::new(store), &writer.changes());
                let forwarding = forwarding.map_err(StartError)?;
                Source::Spans { listeners: [grpc, http], forwarding, writer, path: path.clone() }
            }
            Location::ClickHouse(address) => {
                let store = ClickHouse::open(address.clone(), LONGEST_QUERY);
                let store = Arc::new(store.map_err(StartError::of)?);
                let changes = Changes::watch(Arc::clone(&store)).map_err(StartError::of)?;
                let mut forwarding = None;
                if !options.forward.destinations.is_empty() {
                    let state = options.forward.state();
                    let forward = ClickHouseForwarding::open(Arc::clone(&store), &state);
                    let forward = Arc::new(forward.map_err(StartError::of)?);
                    let started = Forwarding::start(&options.forward, forward, &changes.changes());
                    forwarding = Some(started.map_err(StartError)?);
                }
                Source::ClickHouse { store, forwarding, changes }
            }
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let (runs, running) = watch::channel(());
        let retention = options.retention;
        let work = move || {
            let _runs = runs;
            suppress::mark_this_thread();
            let serving = Serving { page, source, rules, retention };
            serving.run(&ready, stopped);
        };
        let thread = thread::Builder::new()
            .name("feedback-desk".into())
            .spawn(work)
            .map_err(StartError::of)?;
        started.recv().map_err(StartError::of)?.map_err(StartError::of)?;
        Ok(Self { addresses, stop: Some(stop), running, thread: Some(thread) })
    }

    /// Completes when the desk has stopped by itself, because a thread that it needs has ended by a
    /// fault. The reason is on stderr.
    fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut running = self.running.clone();
        async move { while running.changed().await.is_ok() {} }
    }

    /// Where to send OTLP over gRPC: `http://127.0.0.1:4317`, by default. `None` where the Collector
    /// writes and the desk only reads.
    pub fn endpoint(&self) -> Option<String> {
        self.addresses.spans.map(|[grpc, _]| format!("http://{grpc}"))
    }

    /// The same for a sender on this machine: a desk that listens everywhere has no address of its own.
    fn local_endpoint(&self) -> Option<String> {
        let [mut address, _] = self.addresses.spans?;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Some(format!("http://{address}"))
    }

    /// Where to send OTLP over HTTP: `http://127.0.0.1:4318`, by default. `None` as for
    /// [`endpoint`](Self::endpoint).
    pub fn http_endpoint(&self) -> Option<String> {
        self.addresses.spans.map(|[_, http]| format!("http://{http}"))
    }

    /// Where the page and the API are: `http://127.0.0.1:4320` by default.
    pub fn address(&self) -> String {
        format!("http://{}", self.addresses.page)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has been printed
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The source of a desk's spans.
enum Source {
    /// Services and collectors send them to the desk.
    Spans {
        listeners: [std::net::TcpListener; 2],
        forwarding: Forwarding,
        writer: Arc<SqliteWriter>,
        path: PathBuf,
    },
    /// The Collector writes them to ClickHouse.
    ClickHouse { store: Arc<ClickHouse>, forwarding: Option<Forwarding>, changes: Changes },
}

/// The thread of a desk.
struct Serving {
    page: std::net::TcpListener,
    source: Source,
    rules: Guard,
    retention: Retention,
}

impl Serving {
    fn run(self, ready: &mpsc::Sender<io::Result<()>>, stopped: oneshot::Receiver<()>) {
        let Self { page, source, rules, retention } = self;
        // Created and dropped on this thread, because a runtime must not be dropped inside another.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("feedback-desk")
            .on_thread_start(suppress::mark_this_thread)
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let (mut intakes, mut kept) = (Vec::new(), Background::default());
        let store: Arc<dyn Store>;
        let changes;
        let mut span_ports = None;
        let forward: Option<ForwardAccess>;
        match source {
            Source::Spans { listeners: [grpc_port, http_port], forwarding, writer, path } => {
                let port = |listener: &std::net::TcpListener| {
                    listener.local_addr().ok().map(|address| address.port())
                };
                span_ports = port(&grpc_port).zip(port(&http_port)).map(<[u16; 2]>::from);
                forward = Some(forwarding.access());
                store = Arc::new(Sqlite::new(&path, LONGEST_QUERY));
                changes = writer.changes();
                let intake = Arc::new(intake::SpanIntake::new(Arc::clone(&writer)));
                let guarded = |router: axum::Router| {
                    serve::bounded(router)
                        .layer(middleware::from_fn_with_state(rules.clone(), guard))
                };
                let budget = MemoryBudget::default();
                let grpc = grpc::router(Arc::clone(&intake), budget.clone(), MAX_BODY);
                intakes.push((grpc_port, guarded(grpc)));
                intakes.push((http_port, guarded(http::router(intake, budget))));
                kept.forwarding = Some(forwarding);
                kept.writer = Some(writer);
            }
            Source::ClickHouse { store: clickhouse, forwarding, changes: watched } => {
                forward = forwarding.as_ref().map(Forwarding::access);
                kept.forwarding = forwarding;
                store = clickhouse;
                changes = watched.changes();
                kept.changes = Some(watched);
            }
        }
        let mut threads = changes.clone();
        let of_page = api::router(Api::new(store, changes, retention, span_ports, forward), rules);
        runtime.block_on(async {
            for (listener, router) in intakes {
                tokio::spawn(serve::serve(listener, router));
            }
            tokio::spawn(serve::serve(page, of_page));
            let _ = ready.send(Ok(()));
            let asked = async { drop(stopped.await) }; // an error means that the desk was dropped: the same
            let faulty = async {
                while threads.changed().await.is_ok() {}
                log_line(
                    "feedback-desk: the thread of the store has ended by a fault, so the desk stops: \
                     start it again",
                );
            };
            first_of(asked, faulty).await;
        });
        // Queries end with their connections; requests in the queue are written.
        runtime.shutdown_timeout(Duration::from_secs(1));
        drop(kept);
    }
}

/// The output of the future that completes first.
async fn first_of<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Pending => other.as_mut().poll(cx),
        ready => ready,
    })
    .await
}

/// Background threads, which end after the connections.
#[derive(Default)]
struct Background {
    /// It writes by the writer, so it ends before it.
    forwarding: Option<Forwarding>,
    writer: Option<Arc<SqliteWriter>>,
    changes: Option<Changes>,
}

/// For the fuzz targets of this repository. No part of the API: it may change in any release.
#[doc(hidden)]
pub fn __read_query(query: &str) {
    api::read_in_every_way(query);
}

/// For the fuzz targets of this repository. No part of the API: it may change in any release.
#[doc(hidden)]
pub fn __read_answer(lines: &str) {
    answer::read_lines(lines);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

    use super::*;
    use crate::desk::store::batch::SpanBatch;

    /// A batch that is inconsistent in itself, as no request makes it.
    fn faulty_batch() -> SpanBatch {
        let span = Span { trace_id: vec![1; 16], span_id: vec![1; 8], ..Span::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let group = ResourceSpans { scope_spans, ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![group] };
        let mut batch = SpanBatch::of(request).unwrap();
        batch.resources.clear();
        batch
    }

    #[test]
    fn a_desk_whose_writing_thread_has_died_stops() {
        let directory = std::env::temp_dir().join(format!("desk-fault-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("desk.sqlite");
        let writer = SqliteWriter::start(&path, Default::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(writer.write(faulty_batch())).unwrap_err();

        let listener = || serve::bind(Ipv4Addr::LOCALHOST.into(), 0, "", "").unwrap();
        let writer = Arc::new(writer);
        let forward = SqliteForwarding::new(&path, LONGEST_QUERY, Arc::clone(&writer));
        let forwarding =
            Forwarding::start(&Default::default(), Arc::new(forward), &writer.changes()).unwrap();
        let source =
            Source::Spans { listeners: [listener(), listener()], forwarding, writer, path };
        let rules = Guard::new(true, None, AllowedHosts::default(), BasePath::default());
        let serving = Serving { page: listener(), source, rules, retention: Retention::default() };
        let (ready, _started) = mpsc::channel();
        let (_stop, stopped) = oneshot::channel(); // never sent: the desk has to stop by itself
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            serving.run(&ready, stopped);
            end.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(20)).expect("it should have stopped");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
