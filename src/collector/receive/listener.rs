//! The listener on a loopback port, and a connection that can be cut.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};

/// A loopback port on which no connection is accepted before [`listen`](Self::listen). Earlier
/// connections wait in the backlog.
#[derive(Debug)]
pub(crate) struct NotListening {
    listener: std::net::TcpListener,
    pub(crate) address: SocketAddr,
}

impl NotListening {
    pub(crate) fn new() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Must be called within a Tokio runtime.
    pub(crate) fn listen(self) -> io::Result<LoopbackListener> {
        Ok(LoopbackListener { listener: TcpListener::from_std(self.listener)? })
    }
}

#[derive(Debug)]
pub(crate) struct LoopbackListener {
    listener: TcpListener,
}

impl LoopbackListener {
    async fn next(&self) -> io::Result<(TcpStream, Connection)> {
        let (stream, _) = self.listener.accept().await?;
        // Responses are small: Nagle's algorithm would delay each by 40 ms.
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let connection = Connection(Arc::new(stream.try_clone()?));
        Ok((TcpStream::from_std(stream)?, connection))
    }
}

impl Listener for LoopbackListener {
    type Io = TcpStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (TcpStream, Connection) {
        loop {
            match self.next().await {
                Ok(accepted) => return accepted,
                // The connection is closed already, or no file descriptor is left: retries.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Connection> {
        Err(io::ErrorKind::Unsupported.into()) // `Addr` is an accepted connection here
    }
}

/// A second handle of an accepted connection, passed to each of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<std::net::TcpStream>);

impl Connection {
    /// Closes the connection in both directions. Nothing that is written afterwards is sent.
    pub(crate) fn cut(&self) {
        let _ = self.0.shutdown(Shutdown::Both); // an error means that it is closed already
    }
}

impl Connected<IncomingStream<'_, LoopbackListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, LoopbackListener>) -> Self {
        stream.remote_addr().clone()
    }
}
