//! Ports and connections: bounded in number, and cut where the other side is slow.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// Connections of one port at one time. More have to wait.
const CONNECTIONS: usize = 512;
/// The head of a request, and the time between two on one connection: senders send every five seconds.
const HEAD: Duration = Duration::from_secs(15);
/// A request that brings spans, from its head to its answer.
const REQUEST: Duration = Duration::from_secs(30);
/// A connection on which nothing moves, neither in nor out.
const IDLE: Duration = Duration::from_secs(120);
/// Requests that bring spans at one time: each may hold as much memory as it is allowed to be long.
const REQUESTS: usize = 12;

/// A port that is taken, or whose address is not of this machine.
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
                "port {port}, for {what}, is taken: another desk or collector may be running. \
                 Choose another with --{flag} PORT (0: any that is free)"
            )
        } else {
            format!(
                "{address}, for {what}, can't be listened on: {error}. See --listen and --{flag}"
            )
        }
    }
}

/// Takes a port. Who connects before it is served has to wait.
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

/// Bounds what requests that bring spans cost: how many there are, and for how long.
pub(super) fn bounded(router: Router) -> Router {
    let permits = Arc::new(Semaphore::new(REQUESTS));
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let permits = Arc::clone(&permits);
        async move {
            let work = async {
                let _permit = permits.acquire().await;
                next.run(request).await
            };
            let cut = |_| -> Response {
                (StatusCode::REQUEST_TIMEOUT, "this takes too long\n").into_response()
            };
            timeout(REQUEST, work).await.unwrap_or_else(cut)
        }
    }))
}

/// Serves a port for ever.
pub(super) async fn serve(listener: std::net::TcpListener, router: Router) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
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
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // A connection that is gone already, or no file descriptors left: the next may do.
            Err(_) => {
                sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        // Answers are small: held back by Nagle's algorithm they would cost 40 ms each.
        let _ = stream.set_nodelay(true);
        let (builder, router) = (builder.clone(), router.clone());
        tokio::spawn(async move {
            let service = TowerToHyperService::new(router);
            let io = TokioIo::new(Moving::new(stream));
            let _ = builder.serve_connection(io, service).await; // whoever it was knows why
            drop(permit);
        });
    }
}

/// A connection that fails when nothing has moved for too long.
struct Moving {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
}

impl Moving {
    fn new(stream: TcpStream) -> Self {
        Self { stream, end: Box::pin(sleep(IDLE)) }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.end.as_mut().reset(Instant::now() + IDLE);
            return poll;
        }
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Moving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch(cx, poll)
    }
}

impl AsyncWrite for Moving {
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
