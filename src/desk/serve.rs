//! Ports and connections, limited in number and in time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::sync::lock;

/// Concurrent connections of a port; further ones wait.
const CONNECTIONS: usize = 512;
/// Of them those of one address. A proxy in front of the desk is one, too.
const CONNECTIONS_OF_PEER: usize = 256;
/// Time limit for the head of a request, from the begin of its connection, and between requests of a
/// connection over HTTP/1.1. Senders send every five seconds.
const HEAD: Duration = Duration::from_secs(15);
/// Time limit of a request with spans, from its head to its answer.
const REQUEST: Duration = Duration::from_secs(30);
/// Time limit of a connection without traffic in either direction.
const IDLE: Duration = Duration::from_secs(120);

/// A port is taken, or its address does not belong to this machine.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
pub(super) struct BindError {
    address: SocketAddr,
    what: &'static str,
    flag: &'static str,
    error: io::Error,
}

impl BindError {
    fn text(&self) -> String {
        let Self { address, what, flag, error } = self;
        let port = address.port();
        if error.kind() == io::ErrorKind::AddrInUse {
            format!(
                "port {port} ({what}) is in use: another desk or collector may be running. \
                 Choose another with --{flag} PORT (0: any free port)"
            )
        } else {
            format!("can't listen on {address} ({what}): {error}. See --listen and --{flag}")
        }
    }
}

/// Binds a port. Connections wait until the port is served.
pub(super) fn bind(
    ip: IpAddr,
    port: u16,
    what: &'static str,
    flag: &'static str,
) -> Result<std::net::TcpListener, BindError> {
    let address = SocketAddr::new(ip, port);
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| BindError { address, what, flag, error })
}

/// Limits the duration of requests with spans. Their number is limited by the memory that they take: with a
/// limit of their number, some senders of slow bodies would keep all others out.
pub(super) fn bounded(router: Router) -> Router {
    bounded_by(router, REQUEST)
}

fn bounded_by(router: Router, limit: Duration) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| async move {
        let cut = |_| -> Response {
            (StatusCode::REQUEST_TIMEOUT, "this takes too long\n").into_response()
        };
        timeout(limit, next.run(request)).await.unwrap_or_else(cut)
    }))
}

/// Serves a port until the runtime stops.
pub(super) async fn serve(listener: std::net::TcpListener, router: Router) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let peers = Arc::new(Peers::default());
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(64 << 10)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
        let (stream, peer) = match listener.accept().await {
            Ok((stream, address)) => (stream, peers.join(address.ip())),
            // The connection was closed already, or no file descriptor is free: try again.
            Err(_) => {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Some(peer) = peer else { continue }; // closed: others must get in
        // Answers are small: held back by Nagle's algorithm they would cost 40 ms each.
        let _ = stream.set_nodelay(true);
        let (builder, router) = (builder.clone(), router.clone());
        tokio::spawn(async move {
            let has_request = Arc::new(AtomicBool::new(false));
            let io = TokioIo::new(IdleTimeout::new(stream, Arc::clone(&has_request)));
            let service = TowerToHyperService::new(router);
            let service = hyper::service::service_fn(move |request| {
                has_request.store(true, Ordering::Relaxed);
                service.call(request)
            });
            let _ = builder.serve_connection(io, service).await; // the client notices
            drop((permit, peer));
        });
    }
}

/// The connections of each address.
#[derive(Debug, Default)]
struct Peers {
    connections: Mutex<HashMap<IpAddr, usize>>,
}

impl Peers {
    /// Counts a connection until the guard is dropped. `None` if the address has as many as it may.
    fn join(self: &Arc<Self>, address: IpAddr) -> Option<PeerGuard> {
        let mut connections = lock(&self.connections);
        let count = connections.entry(address).or_default();
        if *count >= CONNECTIONS_OF_PEER {
            return None;
        }
        *count += 1;
        Some(PeerGuard { peers: Arc::clone(self), address })
    }
}

/// A connection in [`Peers`].
#[derive(Debug)]
struct PeerGuard {
    peers: Arc<Peers>,
    address: IpAddr,
}

impl Drop for PeerGuard {
    fn drop(&mut self) {
        let mut connections = lock(&self.peers.connections);
        if let Some(count) = connections.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.address);
            }
        }
    }
}

/// A connection that fails after [`HEAD`] without a request, and after [`IDLE`] without traffic.
struct IdleTimeout {
    stream: TcpStream,
    /// Whether a request has arrived. Until then traffic gives no more time: a byte of a preface is
    /// traffic, too.
    has_request: Arc<AtomicBool>,
    /// Whether `end` is still that of the first head.
    is_first: bool,
    end: Pin<Box<Sleep>>,
}

impl IdleTimeout {
    fn new(stream: TcpStream, has_request: Arc<AtomicBool>) -> Self {
        Self { stream, has_request, is_first: true, end: Box::pin(sleep(HEAD)) }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let has_request = self.has_request.load(Ordering::Relaxed);
        // The bytes of the first head came before it was a request.
        if has_request && (poll.is_ready() || self.is_first) {
            self.is_first = false;
            self.end.as_mut().reset(Instant::now() + IDLE);
        }
        if has_request && poll.is_ready() {
            return poll;
        }
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => poll,
        }
    }
}

impl AsyncRead for IdleTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch(cx, poll)
    }
}

impl AsyncWrite for IdleTimeout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    use super::*;
    use crate::collector::Answer;
    use crate::collector::receive::budget::MemoryBudget;
    use crate::collector::receive::decoded::DecodedSignal;
    use crate::collector::receive::refusal::RequestRefusal;
    use crate::collector::receive::{Intake, RequestHead, http};

    /// Longer than any machine takes; a test that waits for it has failed.
    const LONG: Duration = Duration::from_secs(20);
    const LIMIT: Duration = Duration::from_millis(200);

    /// Reports whether each request could be decoded.
    struct ReportingIntake(mpsc::UnboundedSender<bool>);

    impl Intake for ReportingIntake {
        async fn receive(
            &self,
            _: RequestHead,
            decoded: Result<DecodedSignal, RequestRefusal>,
        ) -> Result<Answer, RequestRefusal> {
            let _ = self.0.send(decoded.is_ok());
            decoded.map(|_| Answer::Accept)
        }

        fn record_refused(&self, _: RequestHead, _: &RequestRefusal) {}
    }

    /// Sends a body byte by byte until there is an answer.
    async fn trickle(address: SocketAddr) -> String {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let head = "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\
                    content-type: application/json\r\n\r\n";
        write.write_all(head.as_bytes()).await.unwrap();
        let sending = tokio::spawn(async move {
            while write.write_all(b" ").await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        });
        let mut answer = Vec::new();
        // What was sent after the cut may end the connection with an error.
        let _ = read.read_to_end(&mut answer).await;
        sending.abort();
        String::from_utf8(answer).unwrap()
    }

    async fn whole(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\
                       content-type: application/json\r\nconnection: close\r\n\r\n{}";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_the_head_of_a_request() {
        let listener = bind(Ipv4Addr::LOCALHOST.into(), 0, "a test", "port").unwrap();
        let address = listener.local_addr().unwrap();
        let slowly = || async {
            sleep(HEAD + Duration::from_millis(500)).await;
            "at last"
        };
        let router = Router::new().route("/", axum::routing::get(slowly));
        let serving = tokio::spawn(serve(listener, router));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.ends_with("at last"), "{answer}");
        serving.abort();
    }

    #[tokio::test]
    async fn a_body_that_is_not_finished_is_cut() {
        let (sender, mut told) = mpsc::unbounded_channel();
        let listener = bind(Ipv4Addr::LOCALHOST.into(), 0, "a test", "port").unwrap();
        let address = listener.local_addr().unwrap();
        let router = bounded_by(
            http::router(Arc::new(ReportingIntake(sender)), MemoryBudget::default()),
            LIMIT,
        );
        let serving = tokio::spawn(serve(listener, router));

        let begun = Instant::now();
        let slow: Vec<_> = (0..20).map(|_| tokio::spawn(trickle(address))).collect();
        for slow in slow {
            let answer = timeout(LONG, slow).await.unwrap().unwrap();
            assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        }
        assert!(begun.elapsed() >= LIMIT);
        assert!(told.try_recv().is_err(), "nothing of it was taken for a request");

        let answer = timeout(LONG, whole(address)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(told.recv().await, Some(true));
        serving.abort();
    }
}
