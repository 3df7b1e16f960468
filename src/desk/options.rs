//! The options of a desk.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::StartError;
use super::forward::{Destination, ForwardOptions};
use super::store::clickhouse::Address;
use super::store::location::Location;
use super::store::sqlite::Retention;

pub(super) const STORE: &str = "feedback-desk.sqlite";
/// The default of `--demo`, which is never the file of real data.
pub(super) const DEMO_STORE: &str = "feedback-desk-demo.sqlite";
pub(super) const GRPC_PORT: u16 = 4317;
pub(super) const HTTP_PORT: u16 = 4318;
pub(super) const PAGE_PORT: u16 = 4320;

/// The options of a [`Desk`](super::Desk).
///
/// | | default |
/// | --- | --- |
/// | [`with_ports`](Self::with_ports) | 4317 (OTLP over gRPC), 4318 (OTLP over HTTP), 4320 (page and API) |
/// | [`with_listen`](Self::with_listen) | 127.0.0.1 |
/// | [`with_token`](Self::with_token) | none required |
/// | [`with_allowed_host`](Self::with_allowed_host) | only names of this machine |
/// | [`with_base_path`](Self::with_base_path) | none |
/// | [`with_max_age`](Self::with_max_age) | kept forever |
/// | [`with_max_bytes`](Self::with_max_bytes) | no limit |
/// | [`with_forward`](Self::with_forward) | nothing is forwarded |
/// | [`with_forward_state`](Self::with_forward_state) | in the store, or `feedback-desk-forward.sqlite` |
/// | [`with_forward_metrics`](Self::with_forward_metrics) | `false` |
/// | [`with_forward_texts`](Self::with_forward_texts) | `true` |
#[derive(Clone)]
#[must_use = "options do nothing before `Desk::start`"]
pub struct Options {
    pub(super) store: Location,
    pub(super) listen: IpAddr,
    pub(super) ports: [u16; 3],
    pub(super) token: Option<String>,
    pub(super) hosts: Vec<String>,
    pub(super) base_path: String,
    pub(super) retention: Retention,
    pub(super) forward: ForwardOptions,
}

/// The token is not shown.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, listen, ports, token, hosts, base_path, retention, forward } = self;
        f.debug_struct("Options")
            .field("store", store)
            .field("listen", listen)
            .field("ports", ports)
            .field("token", &token.as_ref().map(|_| format_args!("…")))
            .field("hosts", hosts)
            .field("base_path", base_path)
            .field("retention", retention)
            .field("forward", forward)
            .finish()
    }
}

impl Options {
    /// A desk that stores spans in this SQLite file, created if missing.
    pub fn new(store: impl Into<PathBuf>) -> Self {
        Self::of(Location::File(store.into()))
    }

    /// A desk that reads what the Collector's clickhouse exporter has written, and stores nothing itself: `http://[user[:password]@]host[:port][/database][?table=otel_traces&type.FIELD=number]`.
    /// No ports for spans are opened then.
    ///
    /// # Errors
    ///
    /// The address is invalid; the error says why.
    pub fn clickhouse(address: &str) -> Result<Self, StartError> {
        let address: Address = address.parse().map_err(StartError)?;
        Ok(Self::of(Location::ClickHouse(address)))
    }

    pub(super) fn of(store: Location) -> Self {
        Self {
            store,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: [GRPC_PORT, HTTP_PORT, PAGE_PORT],
            token: None,
            hosts: Vec::new(),
            base_path: String::new(),
            retention: Retention::default(),
            forward: ForwardOptions::default(),
        }
    }

    /// The ports of OTLP over gRPC, of OTLP over HTTP, and of page and API. 0 means any free port.
    pub fn with_ports(mut self, grpc: u16, http: u16, page: u16) -> Self {
        self.ports = [grpc, http, page];
        self
    }

    /// Uses any free ports.
    pub fn with_any_ports(self) -> Self {
        self.with_ports(0, 0, 0)
    }

    /// The address to listen on. An address that other machines can reach requires a token.
    pub fn with_listen(mut self, address: IpAddr) -> Self {
        self.listen = address;
        self
    }

    /// The token required from senders and readers, as `Authorization: Bearer TOKEN`.
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// A further name of the desk, as a reverse proxy passes it on in the `Host` header: `desk.example.com`,
    /// with or without a port, which does not matter. Call it once for each name.
    ///
    /// Without it, a desk that listens on a loopback address only answers requests for `localhost`,
    /// `127.0.0.1` and `[::1]`, so that no other site can get at it by a name that it resolves to this
    /// machine (DNS rebinding). [`Desk::start`](super::Desk::start) refuses what is not a name.
    pub fn with_allowed_host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// The path under which a reverse proxy serves the desk: `/feedback`. All addresses of the page, its
    /// cookie and its redirects begin with it. The desk answers with and without it, so it doesn't matter
    /// whether the proxy passes the path on. `/` means none.
    ///
    /// [`Desk::start`](super::Desk::start) refuses a path that does not begin with `/`, has other than
    /// letters, digits, `-`, `.`, `_` and `~` in a segment, or begins as paths of the desk itself do.
    pub fn with_base_path(mut self, path: impl Into<String>) -> Self {
        self.base_path = path.into();
        self
    }

    /// Deletes traces of which nothing was received for this time: no span, and no feedback about them.
    /// At least a second: [`Desk::start`](super::Desk::start) refuses less.
    pub fn with_max_age(mut self, age: Duration) -> Self {
        self.retention.age = Some(age);
        self
    }

    /// Keeps the feedback in another backend equal to the folded feedback of the desk: `KIND=URL`, for example
    /// `phoenix=http://localhost:6006`. Call it once for each backend. Its secrets
    /// are read from variables of the environment when the desk starts: `docs/desk.md` has the kinds and variables.
    ///
    /// # Errors
    ///
    /// The kind is unknown, or the URL is not fit: one with a password is refused.
    ///
    /// ```
    /// use tracing_feedback::desk::Options;
    ///
    /// let options = Options::new("desk.sqlite").with_forward("phoenix=http://localhost:6006")?;
    /// # drop(options);
    /// let error = Options::new("desk.sqlite").with_forward("phoenix=http://me:secret@localhost").unwrap_err();
    /// assert!(error.to_string().contains("PHOENIX_API_KEY"));
    /// # Ok::<(), tracing_feedback::desk::StartError>(())
    /// ```
    pub fn with_forward(mut self, backend: &str) -> Result<Self, StartError> {
        self.forward.destinations.push(Destination::read(backend).map_err(StartError)?);
        Ok(self)
    }

    /// The file in which the desk stores what it has forwarded, where its store is ClickHouse:
    /// `feedback-desk-forward.sqlite` unless given. Otherwise that is in the store.
    pub fn with_forward_state(mut self, file: impl Into<PathBuf>) -> Self {
        self.forward.state = Some(file.into());
        self
    }

    /// Forwards `metrics` besides `feedback`, marked as made by code, by a model or by an expert.
    pub fn with_forward_metrics(mut self, metrics: bool) -> Self {
        self.forward.selection.has_metrics = metrics;
        self
    }

    /// Whether texts are forwarded: comments, ground truths, other strings, and the names of authors. Without
    /// them only numbers and bools are. Texts that a backend was sent before are deleted there.
    pub fn with_forward_texts(mut self, texts: bool) -> Self {
        self.forward.selection.has_texts = texts;
        self
    }

    /// Deletes the traces received longest ago above this size of the file, those with feedback last. At
    /// least 512 KiB: [`Desk::start`](super::Desk::start) refuses less.
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.retention.bytes = Some(bytes);
        self
    }
}
