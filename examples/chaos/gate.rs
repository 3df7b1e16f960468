//! The collector's port, held by a process of its own so that it can be killed.
//!
//! Connections are forwarded to a collector in the process that judges, which keeps what it has
//! received. So the port can die at any moment without a loss of received spans, as with a
//! collector that stores before it answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;

use crate::Result;

/// The port of a collector, which is open or not.
pub(crate) struct Gate {
    port: u16,
    /// The address of this process's collector.
    upstream: String,
    process: Option<Child>,
}

impl Gate {
    /// Opens a port that the system picks, and that stays the same from then on.
    pub(crate) fn open(upstream: &str) -> Result<Self> {
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let mut gate = Self { port: 0, upstream, process: None };
        gate.up()?;
        Ok(gate)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `kill -9`: connections break, and nothing listens any more.
    pub(crate) fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts the gate again on the same port.
    pub(crate) fn up(&mut self) -> Result<()> {
        let upstream = self.upstream.clone();
        self.start(&["gate", &self.port.to_string(), &upstream])
    }

    /// Starts a server on the port that refuses every request with this status.
    pub(crate) fn refuse_all(&mut self, status: u16) -> Result<()> {
        self.start(&["refuse", &self.port.to_string(), &status.to_string()])
    }

    fn start(&mut self, role: &[&str]) -> Result<()> {
        self.down();
        let mut process = Command::new(std::env::current_exe()?)
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take();
        self.process = Some(process);
        let mut line = String::new();
        BufReader::new(output.ok_or("the gate has no output")?).read_line(&mut line)?;
        self.port = line.trim().parse().map_err(|_| "the gate did not open")?;
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.down();
    }
}

/// The role: forwards connections until it is killed, or its parent process has ended.
pub(crate) fn gate(port: u16, upstream: &str) -> Result<()> {
    let listener = listen(port)?;
    end_with_parent();
    for client in listener.incoming() {
        let (Ok(client), upstream) = (client, upstream.to_owned()) else { continue };
        thread::spawn(move || {
            let _ = forward(client, &upstream); // broken connections are expected
        });
    }
    Ok(())
}

/// The role: refuses every request.
pub(crate) fn refuse_all(port: u16, status: u16) -> Result<()> {
    let listener = listen(port)?;
    listener.set_nonblocking(true)?;
    end_with_parent();
    let status = StatusCode::from_u16(status)?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router: Router = Router::new().fallback(move || async move { status });
        axum::serve(listener, router).await
    })?;
    Ok(())
}

/// Listens, and prints the address.
fn listen(port: u16) -> io::Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let listener = loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            // A client may have this port as its ephemeral one for a moment.
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            bound => break bound?,
        }
    };
    println!("{}", listener.local_addr()?.port());
    Ok(listener)
}

/// Ends this process when its parent does, also when the example is interrupted.
fn end_with_parent() {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

fn forward(client: TcpStream, upstream: &str) -> io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    let upload = thread::spawn(move || copy(from, to));
    copy(server, client);
    let _ = upload.join();
    Ok(())
}

/// Copies until one side is closed, and closes both then.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
