//! The HTTP edge of a service: middleware that continues traces and sessions and issues tickets,
//! and routes that accept feedback.
//!
//! [`FeedbackHttpLayer`] is a [tower](https://docs.rs/tower-layer) layer around a whole service: it
//! continues the caller's trace, opens the server span where the service has none, joins or starts
//! the session, and can put a ticket into the answer. With the feature `axum`, [`feedback_routes`]
//! accepts the feedback that browsers send, and [`Session`](crate::Session) and
//! [`Ticket`](crate::Ticket) are extractors.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use tracing_feedback::web::{FeedbackHttpLayer, FeedbackRoutes, feedback_routes};
//! use tracing_feedback::TicketOptions;
//!
//! let service: Router = Router::new()
//!     .route("/answer", get(async || "Albany"))
//!     .layer(FeedbackHttpLayer::new().with_tickets(TicketOptions::new()))
//!     .merge(feedback_routes(FeedbackRoutes::new()));
//! # }
//! ```
//!
//! # Sessions
//!
//! A session id in a request is a claim, not a proof: anyone can send a header. So a request joins
//! a session by a ticket in the header [`TICKET_HEADER`], whose signature is checked. A header or
//! cookie of the service's own, set by a gateway that clients can't bypass, is used only if the
//! layer is configured to trust it
//! ([`with_trusted_session_header`](FeedbackHttpLayer::with_trusted_session_header),
//! [`with_trusted_session_cookie`](FeedbackHttpLayer::with_trusted_session_cookie)), and baggage
//! only with `with_session_propagation(true)` on the builder.

mod client_address;
#[cfg(feature = "axum")]
mod extract;
mod filter;
mod grpc;
#[cfg(feature = "axum")]
mod problem;
#[cfg(feature = "axum")]
mod routes;
mod service;
mod session;
mod span;
mod subject;

use http::HeaderName;

use crate::ticket::TicketOptions;

pub use client_address::ClientAddress;
use filter::PathFilter;
#[cfg(feature = "axum")]
pub use problem::Problem;
#[cfg(feature = "axum")]
pub use routes::{FeedbackRoutes, feedback_routes};
pub use service::{FeedbackHttpService, ResponseFuture};
use subject::SubjectExtractor;
pub use subject::SubjectOf;

/// The header that carries a ticket, in responses and in requests.
pub const TICKET_HEADER: HeaderName = HeaderName::from_static("feedback-ticket");

/// Continues traces and sessions for every request of a service.
///
/// # Defaults
///
/// | | |
/// | --- | --- |
/// | trace | continued from `traceparent` and `tracestate`, in the formats of `OTEL_PROPAGATORS`; for requests of anyone see [`with_public_endpoint`](Self::with_public_endpoint) |
/// | server span | opened |
/// | session | joined by a verified ticket in the header `feedback-ticket`; otherwise none |
/// | ticket in the response | none |
/// | trace in the response | none |
/// | requests | all |
///
/// The server span has the attributes of the
/// [semantic conventions for HTTP](https://opentelemetry.io/docs/specs/semconv/http/http-spans/),
/// except for the query, which may hold secrets ([`with_query`](Self::with_query)), and the client's address
/// ([`with_client_address`](Self::with_client_address)). Its name is the method, followed by the route that
/// `axum` has matched. The span ends when the response begins: code that streams the response body
/// opens child spans of its own.
///
/// The span of a gRPC request (a `content-type` of `application/grpc`), for example around a server of `tonic`,
/// is named by its method, as `chat.v1.Chat/Answer`, and has the attributes of the [semantic conventions for
/// gRPC](https://opentelemetry.io/docs/specs/semconv/rpc/grpc/) instead. A status that comes with the trailers,
/// after the response has begun, is not among them: that is the status of success, and of a stream that fails
/// on its way.
///
/// ```
/// use tracing_feedback::web::FeedbackHttpLayer;
///
/// let layer = FeedbackHttpLayer::new().with_new_sessions(true);
/// # fn is_layer<L: tower_layer::Layer<()>>(_: L) {}
/// # is_layer(layer);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a layer does nothing before it is around a service"]
pub struct FeedbackHttpLayer {
    settings: HttpLayerSettings,
}

/// The configuration of a [`FeedbackHttpLayer`].
#[derive(Clone, Debug)]
struct HttpLayerSettings {
    opens_span: bool,
    is_public: bool,
    starts_sessions: bool,
    session_header: Option<HeaderName>,
    session_cookie: Option<String>,
    subject: SubjectExtractor,
    tickets: Option<TicketOptions>,
    filter: PathFilter,
    client_address: ClientAddress,
    has_query: bool,
    trace_header: Option<HeaderName>,
}

impl Default for HttpLayerSettings {
    fn default() -> Self {
        Self {
            opens_span: true,
            is_public: false,
            starts_sessions: false,
            session_header: None,
            session_cookie: None,
            subject: SubjectExtractor::default(),
            tickets: None,
            filter: PathFilter::default(),
            client_address: ClientAddress::Omitted,
            has_query: false,
            trace_header: None,
        }
    }
}

impl FeedbackHttpLayer {
    /// A layer with the defaults above.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the layer opens the server span. Default: yes. If not, the session is set on the
    /// span around the service, for example that of `tower_http`'s `TraceLayer`. That span is
    /// entered before the request reaches this layer, so it has to continue the caller's trace
    /// itself: call `span.set_parent(propagation::extract(request.headers()))` where it is created.
    pub fn with_span(mut self, opens_span: bool) -> Self {
        self.settings.opens_span = opens_span;
        self
    }

    /// Whether anyone can send requests, so that their trace headers are claims. Default: no.
    ///
    /// If so, the server span is the root of a trace of its own, sampled by this service's sampler,
    /// and links to the span that the caller named. Otherwise a caller decides which trace the span
    /// belongs to and, with a parent-based sampler, whether it is sampled. The baggage of a public
    /// caller joins no session either. Go's `otelhttp.WithPublicEndpoint` does the same.
    ///
    /// It is about the spans that this layer opens: with [`with_span(false)`](Self::with_span) the
    /// trace is up to the code that opens them, and only the baggage is left out here.
    ///
    /// ```
    /// # #[cfg(all(feature = "axum", feature = "collector", feature = "grpc"))] {
    /// # use tracing_subscriber::prelude::*;
    /// # use tracing_feedback::collector::Collector;
    /// # let collector = Collector::start()?;
    /// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
    /// # let (layer, telemetry) = builder.build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// # let send = async {
    /// use axum::{Router, body::Body, http::Request, routing::get};
    /// use tower_service::Service;
    /// use tracing_feedback::web::FeedbackHttpLayer;
    ///
    /// let layer = FeedbackHttpLayer::new().with_public_endpoint(true);
    /// let mut service: Router = Router::new().route("/", get(async || "Albany")).layer(layer);
    /// let claimed = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    /// service.call(Request::get("/").header("traceparent", claimed).body(Body::empty())?).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # };
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(send)?;
    /// # telemetry.flush()?;
    /// let span = &collector.spans()[0];
    /// assert_eq!(span.links[0].trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
    /// assert_ne!(span.trace_id, span.links[0].trace_id);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_public_endpoint(mut self, is_public: bool) -> Self {
        self.settings.is_public = is_public;
        self
    }

    /// Whether a request that joins no session starts one. Default: no.
    pub fn with_new_sessions(mut self, starts_sessions: bool) -> Self {
        self.settings.starts_sessions = starts_sessions;
        self
    }

    /// Trusts the session id in a header. For services that can be reached only through a trusted
    /// gateway, which sets the header itself.
    pub fn with_trusted_session_header(mut self, name: HeaderName) -> Self {
        self.settings.session_header = Some(name);
        self
    }

    /// Trusts the session id in a cookie. For cookies that the service signs, or whose values can't
    /// be guessed and are of no use to another user.
    pub fn with_trusted_session_cookie(mut self, name: impl Into<String>) -> Self {
        self.settings.session_cookie = Some(name.into());
        self
    }

    /// Sets the function that returns the signed-in user of a request, from its headers and from
    /// the extensions that middleware has added: needed for tickets that were issued to a subject
    /// ([`TicketOptions::with_subject`](crate::TicketOptions::with_subject)).
    pub fn with_subject(
        mut self,
        subject: impl Fn(SubjectOf<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.settings.subject = SubjectExtractor::new(subject);
        self
    }

    /// Puts a ticket for the span into the header [`TICKET_HEADER`] of every response. Default: no
    /// ticket. If no ticket can be issued, because keys or the layer are missing, the response is
    /// sent without one, and the reason is logged once as a warning.
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let keys = tracing_feedback::TicketKeys::new([[7; 32]])?;
    /// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// # let send = async {
    /// use axum::{Router, body::Body, http::Request, routing::get};
    /// use tower_service::Service;
    /// use tracing_feedback::TicketOptions;
    /// use tracing_feedback::web::{FeedbackHttpLayer, TICKET_HEADER};
    ///
    /// let layer = FeedbackHttpLayer::new().with_tickets(TicketOptions::new());
    /// let mut service: Router = Router::new().route("/", get(async || "Albany")).layer(layer);
    /// let response = service.call(Request::get("/").body(Body::empty())?).await?;
    /// let ticket = response.headers()[TICKET_HEADER].to_str()?;
    /// assert!(telemetry.ticket_verifier().verify(ticket).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # };
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(send)?;
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_tickets(mut self, options: TicketOptions) -> Self {
        self.settings.tickets = Some(options);
        self
    }

    /// The paths that the layer handles, for example without health checks. Default: all. A request of
    /// another path passes as if the layer weren't there: without a span, a session or a ticket.
    ///
    /// ```
    /// use tracing_feedback::web::FeedbackHttpLayer;
    ///
    /// let layer = FeedbackHttpLayer::new()
    ///     .with_filter(|path| path != "/health" && !path.starts_with("/grpc.health."));
    /// # fn is_layer<L: tower_layer::Layer<()>>(_: L) {}
    /// # is_layer(layer);
    /// ```
    pub fn with_filter(mut self, takes: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.settings.filter = PathFilter::new(takes);
        self
    }

    /// Whether the server span has the client's address, and which. Default:
    /// [`Omitted`](ClientAddress::Omitted).
    pub fn with_client_address(mut self, client_address: ClientAddress) -> Self {
        self.settings.client_address = client_address;
        self
    }

    /// Whether the server span has the query as `url.query`. Default: no, since a query may hold secrets. If so,
    /// the values that the [semantic
    /// conventions](https://opentelemetry.io/docs/specs/semconv/registry/attributes/url/) name as credentials
    /// (`sig`, `X-Amz-Signature`, …) are replaced by `REDACTED`; for others there is
    /// [`with_redaction`](crate::Builder::with_redaction).
    pub fn with_query(mut self, has_query: bool) -> Self {
        self.settings.has_query = has_query;
        self
    }

    /// Writes the span into this header of every response, in the form of `traceparent`: for users who report
    /// a problem, and for tools in a browser. Default: none. The draft of [Trace Context, level
    /// 2](https://w3c.github.io/trace-context/#traceresponse-header) names the header `traceresponse`.
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// # let send = async {
    /// use axum::{Router, body::Body, http::{HeaderName, Request}, routing::get};
    /// use tower_service::Service;
    /// use tracing_feedback::{traceparent, web::FeedbackHttpLayer};
    ///
    /// let header = HeaderName::from_static("traceresponse");
    /// let layer = FeedbackHttpLayer::new().with_trace_header(header.clone());
    /// let mut service: Router = Router::new().route("/", get(async || "Albany")).layer(layer);
    /// let response = service.call(Request::get("/").body(Body::empty())?).await?;
    /// assert!(traceparent::parse(response.headers()[header].to_str()?).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # };
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(send)?;
    /// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_trace_header(mut self, name: HeaderName) -> Self {
        self.settings.trace_header = Some(name);
        self
    }
}

impl<S> tower_layer::Layer<S> for FeedbackHttpLayer {
    type Service = FeedbackHttpService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FeedbackHttpService::new(inner, self.settings.clone())
    }
}
