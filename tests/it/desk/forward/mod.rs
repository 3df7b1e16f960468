//! Forwarding, to servers on loopback that are as strict as the backends, and to servers that are at fault.

mod command;
mod datadog;
mod mlflow;
mod otlp;
mod outages;
mod phoenix;
mod server;

use super::*;
use server::{Server, Strict};

/// A desk that forwards to `server`.
fn desk_to(kind: &str, server: &Server, configure: impl FnOnce(Options) -> Options) -> Rig {
    let url = format!("{kind}={}", server.url);
    Rig::with(|options| configure(options.with_forward(&url).unwrap()))
}

impl Rig {
    /// The status of the only backend.
    fn forwarding(&self) -> Json {
        self.get("/api/v1/forwarding")["backends"][0].clone()
    }

    /// Waits until the backend was told everything that it takes.
    fn settle(&self) -> Json {
        until(|| {
            let status = self.forwarding();
            status["waiting_for_backend"] == 0
        });
        self.forwarding()
    }

    fn retry_forwarding(&self) {
        let head = format!(
            "POST /api/v1/forwarding/retry HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n",
            host(&self.desk.address())
        );
        assert_eq!(read_reply(send_request(&self.desk.address(), &head, b"")).status, 200);
    }
}

fn trace_id(trace: u64) -> String {
    format!("{trace:032x}")
}

fn span_id(span: u64) -> String {
    format!("{span:016x}")
}
