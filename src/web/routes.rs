//! The routes that accept feedback from browsers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::{Map, Value};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::problem::Problem;
use super::subject::{SubjectExtractor, SubjectOf};
use crate::enrich;
use crate::layer::ticket::verify_here;
use crate::ticket::Ticket;

/// The longest body that is read.
const MOST_BYTES: usize = 16 * 1024;

/// How long a disk may take to write feedback, where an outbox is written ahead.
const DISK_LIMIT: Duration = Duration::from_secs(5);

/// The module for browsers, minified.
const MODULE: &str = include_str!("../../browser/feedback.min.js");

/// Where the module compares its address with the name of its route.
const NAME_IN_MODULE: &str = r"(\/feedback)";

/// The configuration of [`feedback_routes`].
///
/// # Defaults
///
/// | | |
/// | --- | --- |
/// | path | `/feedback`, and the module at `/feedback.js` |
/// | origins | the service's own: pages of other origins can't read the response |
/// | subject | none: tickets that were issued to a subject are refused |
///
/// ```
/// use tracing_feedback::web::{FeedbackRoutes, feedback_routes};
///
/// let routes = FeedbackRoutes::new()
///     .with_path("/api/feedback")
///     .with_allowed_origins(["https://shop.example".parse()?]);
/// let router: axum::Router = feedback_routes(routes);
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "routes take nothing before `feedback_routes`"]
pub struct FeedbackRoutes {
    path: String,
    origins: Vec<HeaderValue>,
    subject: SubjectExtractor,
}

impl FeedbackRoutes {
    /// With the defaults above.
    pub fn new() -> Self {
        Self {
            path: "/feedback".to_owned(),
            origins: Vec::new(),
            subject: SubjectExtractor::default(),
        }
    }

    /// The path of the route that accepts feedback, as `axum` routes it: [`feedback_routes`] panics at
    /// others. A slash at the beginning may be missing. The module for browsers is at this path with
    /// `.js` appended.
    pub fn with_path(mut self, path: impl AsRef<str>) -> Self {
        self.path = format!("/{}", path.as_ref().trim_matches('/'));
        self
    }

    /// The origins whose pages may send feedback, beside the service's own. `*` allows all origins,
    /// but without cookies: for services that don't need the signed-in user.
    pub fn with_allowed_origins(mut self, origins: impl IntoIterator<Item = HeaderValue>) -> Self {
        self.origins = origins.into_iter().collect();
        self
    }

    /// Sets the function that returns the signed-in user of a request, from its headers and from
    /// the extensions that middleware has added: needed for tickets that were issued to a subject
    /// ([`TicketOptions::with_subject`](crate::TicketOptions::with_subject)).
    pub fn with_subject(
        mut self,
        subject: impl Fn(SubjectOf<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.subject = SubjectExtractor::new(subject);
        self
    }
}

impl Default for FeedbackRoutes {
    fn default() -> Self {
        Self::new()
    }
}

/// A router with two routes: `POST /feedback` accepts feedback, `GET /feedback.js` serves the
/// module with which browsers send it.
///
/// # Feedback
///
/// JSON of at most 16 KiB: `{"ticket": "…", "feedback": {…}, "id": "…"}`. The ticket identifies the
/// span or session; `feedback` is merged into earlier feedback, and `null` retracts a key; the
/// optional `id` identifies the submission, so that one sent twice counts once. The content type is
/// `application/json`, or what `navigator.sendBeacon` sends: `text/plain` or none.
///
/// | status | |
/// | --- | --- |
/// | 204 | accepted |
/// | 400 | not JSON, or not a ticket |
/// | 403 | the ticket has a bad signature, was issued to another user, or doesn't allow a key |
/// | 410 | the ticket has expired |
/// | 413 | more than 16 KiB |
/// | 415 | another content type |
/// | 422 | the feedback exceeds a [limit](mod@crate::enrich): the detail names key and limit |
/// | 429 | the ticket, or its user, has spent its [budget](crate::TicketBudget); with `Retry-After` |
/// | 503 | the queue is full, the outbox can't be written within five seconds, or there is no layer or key; with `Retry-After` |
///
/// With a write-ahead outbox (`Builder::with_outbox`) 204 is sent when the feedback is on disk; routes of
/// your own wait for that with [`enrich::persist_async`].
/// With any other status nothing of the submission is kept, with one exception: if the outbox
/// fails, the feedback may still arrive, and sending it again with the same `id` is harmless. The
/// body of every response but 204 is a [problem](Problem).
///
/// # Panics
///
/// If [`with_path`](FeedbackRoutes::with_path) was given what `axum` can't route: a segment that begins
/// with `:` or `*`, a brace that isn't closed, or a capture (`{name}`) in the last segment. It panics at the
/// start of a service, not at a request.
///
/// ```
/// # use tracing_subscriber::prelude::*;
/// # let keys = tracing_feedback::TicketKeys::new([[7; 32]])?;
/// # let (layer, telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// # let send = async {
/// use axum::{Router, body::Body, http::Request};
/// use tower_service::Service;
/// use tracing_feedback::SpanExt;
/// use tracing_feedback::web::{FeedbackRoutes, feedback_routes};
///
/// let mut service: Router = feedback_routes(FeedbackRoutes::new());
/// let ticket = tracing::info_span!("answer").ticket()?;
/// let submission = serde_json::json!({ "ticket": ticket, "feedback": { "rating": 5 } });
/// let request = Request::post("/feedback").body(Body::from(submission.to_string()))?;
/// assert_eq!(service.call(request).await?.status(), 204);
///
/// let request = Request::post("/feedback").body(Body::from("5 stars"))?;
/// assert_eq!(service.call(request).await?.status(), 400);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # };
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(send)?;
/// # telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // no collector is running
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn feedback_routes<S: Clone + Send + Sync + 'static>(routes: FeedbackRoutes) -> Router<S> {
    let FeedbackRoutes { path, origins, subject } = routes;
    let module = format!("{path}.js");
    let cors = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([CONTENT_TYPE])
        .max_age(Duration::from_secs(60 * 60));
    let cors = match origins.iter().any(|origin| origin == "*") {
        true => cors.allow_origin(AllowOrigin::any()),
        // Beacons always send cookies.
        false => cors.allow_origin(AllowOrigin::list(origins)).allow_credentials(true),
    };
    Router::new()
        .route(&path, post(receive_feedback).with_state(Arc::new(subject)))
        .route(&module, get(serve_module).with_state(module_of(&path)))
        .layer(cors)
}

/// The body of a feedback request.
#[derive(Deserialize)]
struct FeedbackBody {
    ticket: String,
    feedback: Map<String, Value>,
    #[serde(default)]
    id: Option<String>,
}

async fn receive_feedback(
    State(subject): State<Arc<SubjectExtractor>>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (parts, body) = request.into_parts();
    check_content_type(&parts.headers)?;
    let subject = subject.of(&parts.headers, &parts.extensions);
    let body = read(body).await?;
    let submission: FeedbackBody = serde_json::from_slice(&body).map_err(|error| {
        // The detail names a position and what was expected there, never what was sent.
        let detail = format!("this is not a submission: {}", describe(&error));
        Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
    })?;
    let FeedbackBody { ticket, feedback, id } = submission;
    let ticket = verify_here(&ticket, subject.as_deref())?;
    attach(&ticket, &feedback, id)?;
    // With a write-ahead outbox, 204 means that the feedback is on disk.
    enrich::persist_async(DISK_LIMIT).await.map_err(|_| Problem::not_durable())?;
    Ok(StatusCode::NO_CONTENT)
}

fn attach(
    ticket: &Ticket,
    feedback: &Map<String, Value>,
    id: Option<String>,
) -> Result<(), Problem> {
    let enricher = match ticket.span_context() {
        Some(_) => {
            let request = enrich::current_span().target(ticket);
            let request = match id {
                Some(id) => request.id(id),
                None => request,
            };
            request.feedback(feedback)
        }
        None => {
            let request = enrich::session().target(ticket);
            let request = match id {
                Some(id) => request.id(id),
                None => request,
            };
            request.feedback(feedback)
        }
    };
    match enricher.apply_whole().errors().next() {
        Some(error) => Err(Problem::from(error)),
        None => Ok(()),
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(given) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let accepted = ["application/json", "text/plain", ""];
    if accepted.iter().any(|accepted| essence.trim().eq_ignore_ascii_case(accepted)) {
        return Ok(());
    }
    let detail = "send JSON, as application/json or text/plain";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail))
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    match Limited::new(body, MOST_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let detail = "a submission has at most 16 KiB: send less";
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
        }
        Err(_) => {
            let detail = "the body was cut off: send it again";
            Err(Problem::new(StatusCode::BAD_REQUEST, "cut_off", detail))
        }
    }
}

fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "it needs a string `ticket` and an object `feedback`",
        _ => "it isn't JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// The module under the name of its path: it finds the route beside itself.
fn module_of(path: &str) -> Bytes {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name == "feedback" {
        return Bytes::from_static(MODULE.as_bytes());
    }
    let mut pattern = String::new();
    for character in name.chars() {
        if !(character.is_alphanumeric() || "-_~%".contains(character)) {
            pattern.push('\\'); // it means something in a regular expression
        }
        pattern.push(character);
    }
    MODULE.replacen(NAME_IN_MODULE, &format!(r"(\/{pattern})"), 1).into()
}

async fn serve_module(State(module): State<Bytes>, headers: HeaderMap) -> Response {
    const TAG: &str = concat!("\"", env!("CARGO_PKG_VERSION"), "\"");
    let is_cached = headers.get(IF_NONE_MATCH).is_some_and(|tag| tag == TAG);
    let headers = [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CACHE_CONTROL, "public, max-age=3600"),
        (ETAG, TAG),
    ];
    match is_cached {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, module).into_response(),
    }
}
