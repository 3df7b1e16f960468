//! The page: files that are part of the program.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{StatusCode, Uri};

/// Everything from here, nothing from elsewhere, and nothing inline.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";

/// Path, type and content.
const FILES: &[(&str, &str, &[u8])] = &[("/", HTML, include_bytes!("../page/index.html"))];

/// The documentation of the API.
pub(super) const API: &str = include_str!("API.md");

pub(super) async fn file(uri: Uri) -> Response {
    let found = FILES.iter().find(|(path, ..)| *path == uri.path());
    let Some((_, content_type, content)) = found else {
        return (StatusCode::NOT_FOUND, "there is nothing here: see / and /api\n").into_response();
    };
    let headers = [
        (CONTENT_TYPE, *content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, *content).into_response()
}

pub(super) async fn documentation() -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], API).into_response()
}
