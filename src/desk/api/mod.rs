//! The API: JSON over HTTP, the only data source of the page. `API.md` documents it, and is served at
//! `/api`.
//!
//! | file | idea |
//! | --- | --- |
//! | `params` | query strings, read strictly |
//! | `guard` | checks of hosts and tokens |
//! | `base_path` | the path under which a proxy serves the desk |
//! | `events` | server-sent events after changes |
//! | `shorten` | the beginnings of texts, for lists |
//! | `unchanged` | answers that their reader has already |
//! | `export`, `body` | views as files, streamed |
//! | `page` | the files of the page |

pub(super) mod base_path;
mod body;
mod events;
mod export;
pub(super) mod guard;
mod page;
pub(super) mod params;
mod shorten;
mod unchanged;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub(super) use export::{csv_line, table};

use super::forward::{ForwardAccess, ForwardingStatus};
use super::store::sqlite::Retention;
use super::store::{Error, Store, StoreVersion};
use export::{ExportFormat, ExportView};
use guard::{Guard, guard};
use params::Params;
use unchanged::unchanged;

/// The default field of comments.
const COMMENT: &str = "feedback.comment";
/// Concurrent queries.
const MOST_QUERIES: usize = 4;
const LONGEST_URI: usize = 24 << 10;

/// The state that the handlers share.
#[derive(Clone)]
pub(super) struct Api {
    store: Arc<dyn Store>,
    changes: watch::Receiver<StoreVersion>,
    permits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    exports: Arc<Semaphore>,
    retention: Retention,
    /// The ports of OTLP over gRPC and over HTTP, if the desk receives spans.
    span_ports: Option<[u16; 2]>,
    /// `None` where the store has no state of forwarding.
    forward: Option<ForwardAccess>,
}

impl Api {
    pub(super) fn new(
        store: Arc<dyn Store>,
        changes: watch::Receiver<StoreVersion>,
        retention: Retention,
        span_ports: Option<[u16; 2]>,
        forward: Option<ForwardAccess>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(MOST_QUERIES));
        let streams = Arc::new(Semaphore::new(events::MOST_STREAMS));
        let exports = Arc::new(Semaphore::new(export::MOST_EXPORTS));
        Self { store, changes, permits, streams, exports, retention, span_ports, forward }
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok() // it is never closed
    }

    /// Runs a query on a thread that may block.
    async fn ask<T: Serialize + Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Store) -> Result<T, Error> + Send + 'static,
    ) -> Response {
        match self.answer(ask).await {
            Ok(found) => json(&found),
            Err(problem) => problem.into_response(),
        }
    }

    /// The same for a list, whose texts are cut.
    async fn list<T: Serialize + Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Store) -> Result<T, Error> + Send + 'static,
    ) -> Response {
        self.ask(move |store| shortened(ask(store)?)).await
    }

    /// The same for one item, which may not exist.
    async fn find<T: Serialize + Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Store) -> Result<Option<T>, Error> + Send + 'static,
    ) -> Response {
        match self.answer(ask).await {
            Ok(Some(found)) => json(&found),
            Ok(None) => {
                ApiError::new(StatusCode::NOT_FOUND, "not found".to_owned()).into_response()
            }
            Err(problem) => problem.into_response(),
        }
    }

    async fn answer<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = self.permit().await;
        let store = Arc::clone(&self.store);
        let work = move || {
            let _permit = permit;
            ask(&*store)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(answer) => answer.map_err(ApiError::from),
            Err(_) => {
                Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error".to_owned()))
            }
        }
    }
}

/// The page and the API.
pub(super) fn router(api: Api, rules: Guard) -> Router {
    let base = rules.base.clone();
    let index = page::index(base.as_str());
    let routes = Router::new()
        .route("/status", get(status))
        .route("/fields", get(fields))
        .route("/values", get(values))
        .route("/traces", get(traces))
        .route("/traces/{trace_id}", get(trace))
        .route("/traces/{trace_id}/neighbours", get(neighbours))
        .route("/sessions", get(sessions))
        .route("/sessions/{id}", get(session))
        .route("/chart", get(chart))
        .route("/comments", get(comments))
        .route("/waiting", get(unmatched))
        .route("/dataset", get(dataset))
        .route("/export/{view}", get(export::export))
        .route("/events", get(events::events))
        .route("/forwarding", get(forwarding))
        .route("/forwarding/retry", post(retry_forwarding))
        .fallback(unknown)
        .layer(middleware::from_fn(unchanged));
    let router = Router::new()
        .nest("/api/v1", routes)
        .route("/api", get(page::documentation))
        .fallback(move |uri| page::file(uri, index.clone()))
        .method_not_allowed_fallback(not_allowed)
        .with_state(api)
        .layer(middleware::from_fn_with_state(rules, guard))
        .layer(middleware::from_fn(security_headers));
    base.serve(router)
}

fn shortened(answer: impl Serialize) -> Result<serde_json::Value, Error> {
    let answer = serde_json::to_value(answer);
    let mut answer = answer.map_err(|error| Error::Damaged(error.to_string()))?;
    shorten::shorten(&mut answer);
    Ok(answer)
}

/// An error as the API writes it.
struct ApiError {
    status: StatusCode,
    reason: String,
}

impl ApiError {
    fn new(status: StatusCode, reason: String) -> Self {
        Self { status, reason }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Asked(_) => StatusCode::BAD_REQUEST,
            Error::TooLong => StatusCode::SERVICE_UNAVAILABLE,
            Error::Damaged(_) | Error::Sqlite(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Error::Engine(_) => StatusCode::BAD_GATEWAY,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json(&serde_json::json!({ "error": self.reason }));
        *response.status_mut() = self.status;
        response
    }
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let tag = unchanged::tag(&bytes);
            let headers = [
                (CONTENT_TYPE, "application/json"),
                (CACHE_CONTROL, "no-store"),
                (ETAG, tag.as_str()),
            ];
            (headers, bytes).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(), // of maps with text keys: never
    }
}

/// Adds the security headers to every answer.
async fn security_headers(request: Request, next: Next) -> Response {
    let mut response = if request.uri().to_string().len() > LONGEST_URI {
        StatusCode::URI_TOO_LONG.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
        .entry(http::header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    response
}

async fn unknown() -> Response {
    ApiError::new(StatusCode::NOT_FOUND, "unknown endpoint: see /api".to_owned()).into_response()
}

async fn not_allowed() -> Response {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed: see /api".to_owned())
        .into_response()
}

/// Reads all parameters of a request, or returns from the handler with the error.
macro_rules! read {
    ($query:expr, |$params:ident| $read:expr) => {{
        let read = |query: Option<String>| -> params::Result<_> {
            let mut params = Params::parse(query.as_deref().unwrap_or_default())?;
            let $params = &mut params;
            let read = $read;
            params.finish()?;
            Ok(read)
        };
        match read($query) {
            Ok(read) => read,
            Err(error) => return ApiError::new(StatusCode::BAD_REQUEST, error).into_response(),
        }
    }};
}

async fn status(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    read!(query, |_params| ());
    let retention = api.retention;
    let span_ports = api.span_ports;
    api.ask(move |store| {
        let status = serde_json::to_value(store.status()?);
        let mut status = status.map_err(|error| Error::Damaged(error.to_string()))?;
        status["keep_days"] = retention.age.map(|age| age.as_secs() / 86_400).into();
        status["keep_bytes"] = retention.bytes.into();
        status["grpc_port"] = span_ports.map(|[grpc, _]| grpc).into();
        status["http_port"] = span_ports.map(|[_, http]| http).into();
        Ok(status)
    })
    .await
}

async fn fields(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let (search, limit) = read!(query, |params| {
        (params.one("search")?.unwrap_or_default(), params.limit(100, 1_000)?)
    });
    api.ask(move |store| store.fields(&search, limit)).await
}

async fn values(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let (field, search, selection, limit) = read!(query, |params| {
        (
            params.required("field")?,
            params.one("search")?.unwrap_or_default(),
            params.selection()?,
            params.limit(50, 500)?,
        )
    });
    api.list(move |store| store.values(&field, &search, &selection, limit)).await
}

async fn traces(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let query = read!(query, |params| params.traces()?);
    api.list(move |store| store.traces(&query)).await
}

async fn trace(
    State(api): State<Api>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let asked = read!(query, |params| params.span_id()?);
    match trace_id(&id) {
        Ok(id) => api.find(move |store| store.trace(id, asked)).await,
        Err(problem) => problem.into_response(),
    }
}

async fn neighbours(
    State(api): State<Api>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = read!(query, |params| params.all_traces()?);
    match trace_id(&id) {
        Ok(id) => api.ask(move |store| store.neighbours(id, &query)).await,
        Err(problem) => problem.into_response(),
    }
}

fn trace_id(text: &str) -> Result<[u8; 16], ApiError> {
    super::store::json::trace_id_of(text).ok_or_else(|| {
        let reason = "a trace id has 32 hexadecimal digits".to_owned();
        ApiError::new(StatusCode::BAD_REQUEST, reason)
    })
}

async fn sessions(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let (selection, page) = read!(query, |params| (params.selection()?, params.page()?));
    api.list(move |store| store.sessions(&selection, &page)).await
}

async fn session(
    State(api): State<Api>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    read!(query, |_params| ());
    api.find(move |store| store.session(&id)?.map(shortened).transpose()).await
}

async fn chart(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let query = read!(query, |params| params.chart()?);
    api.ask(move |store| store.chart(&query)).await
}

async fn comments(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let (field, search, selection, page) = read!(query, |params| {
        (
            params.one("field")?.unwrap_or_else(|| COMMENT.to_owned()),
            params.one("search")?.unwrap_or_default(),
            params.selection()?,
            params.page()?,
        )
    });
    api.list(move |store| store.comments(&field, &search, &selection, &page)).await
}

async fn unmatched(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let page = read!(query, |params| params.page()?);
    api.list(move |store| store.unmatched(&page)).await
}

async fn dataset(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let (selection, page) = read!(query, |params| (params.selection()?, params.page()?));
    api.list(move |store| store.dataset(&selection, &page)).await
}

async fn forwarding(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    read!(query, |_params| ());
    let Some(forward) = api.forward.clone() else { return json(&ForwardingStatus::default()) };
    api.ask(move |_| forward.status()).await
}

/// Pages of other sites can't ask for it: see `guard`.
async fn retry_forwarding(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let backend = read!(query, |params| params.one("backend")?);
    let forward = api.forward.clone();
    let found =
        api.answer(move |_| forward.map_or(Ok(false), |forward| forward.retry(backend))).await;
    match found {
        Ok(true) => json(&serde_json::json!({})),
        Ok(false) => {
            let reason = "nothing is forwarded there".to_owned();
            ApiError::new(StatusCode::NOT_FOUND, reason).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// Parses a query string as the parameters of each endpoint. For fuzzing.
pub(super) fn read_in_every_way(query: &str) {
    let Ok(_) = Params::parse(query) else { return };
    let params = || Params::parse(query).unwrap_or_default();
    let _ = params().traces();
    let _ = params().chart();
    let _ = params().page();
    for view in ["traces", "sessions", "comments", "dataset", "chart"] {
        let _ = ExportView::parse(view, &mut params());
    }
    let _ = ExportFormat::parse(&mut params());
    if let Ok(selection) = params().selection() {
        let again: Result<super::query::filter::Filter, _> = selection.filter.to_string().parse();
        assert_eq!(again.as_ref(), Ok(&selection.filter), "a filter parses its own text");
    }
}
