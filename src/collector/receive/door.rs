//! The listening side of a port, and a connection that can be cut.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::net::{TcpListener, TcpStream};

/// A loopback port on which nothing is accepted until [`Door::open`]; who connects earlier waits.
#[derive(Debug)]
pub(crate) struct ClosedDoor {
    listener: std::net::TcpListener,
    pub(crate) address: SocketAddr,
}

impl ClosedDoor {
    pub(crate) fn new() -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Within a runtime only.
    pub(crate) fn open(self) -> io::Result<Door> {
        Ok(Door { listener: TcpListener::from_std(self.listener)? })
    }
}

#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
}

impl Door {
    async fn next(&self) -> io::Result<(TcpStream, Connection)> {
        let (stream, _) = self.listener.accept().await?;
        // Answers are small: held back by Nagle's algorithm they would cost 40 ms each.
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let connection = Connection(Arc::new(stream.try_clone()?));
        Ok((TcpStream::from_std(stream)?, connection))
    }
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = Connection;

    async fn accept(&mut self) -> (TcpStream, Connection) {
        loop {
            match self.next().await {
                Ok(accepted) => return accepted,
                // A connection that is gone already, or no file descriptors left: the next may do.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Connection> {
        Err(io::ErrorKind::Unsupported.into()) // an address here is a connection's
    }
}

/// A second handle of an accepted connection, which reaches each of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<std::net::TcpStream>);

impl Connection {
    /// Closes the connection in both directions. Nothing that is written afterwards leaves.
    pub(crate) fn cut(&self) {
        let _ = self.0.shutdown(Shutdown::Both); // an error means that it is closed already
    }
}

impl Connected<IncomingStream<'_, Door>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}
