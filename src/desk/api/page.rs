//! The page: files that are part of the program.

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{StatusCode, Uri};

/// Everything from here, nothing from elsewhere, and nothing inline.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const INDEX: &str = include_str!("../page/index.html");

/// The views: each is the same file, which reads its address.
const VIEWS: &[&str] =
    &["traces", "sessions", "charts", "comments", "dataset", "waiting", "status"];

/// Path and content of files in `src/desk/page`, served under `/page/`.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../page/", $name)))),*]
    };
}

#[rustfmt::skip]
const FILES: &[(&str, &[u8])] = files![
    "icon.svg",
    "main.js",
    "theme.js",
    "parts/attributes.js",
    "parts/chart.js",
    "parts/chips.js",
    "parts/combobox.js",
    "parts/conversation.js",
    "parts/condition.js",
    "parts/difference.js",
    "parts/document.js",
    "parts/export.js",
    "parts/forwarding.js",
    "parts/heading.js",
    "parts/history.js",
    "parts/icons.js",
    "parts/filter_bar.js",
    "parts/narrowed.js",
    "parts/empty_list.js",
    "parts/paging.js",
    "parts/plot.js",
    "parts/rows.js",
    "parts/shell.js",
    "parts/span.js",
    "parts/text.js",
    "parts/theme.js",
    "parts/time.js",
    "parts/tree.js",
    "parts/errors.js",
    "parts/chart_table.js",
    "pure/axis.js",
    "pure/chart.js",
    "pure/conversation.js",
    "pure/difference.js",
    "pure/filter.js",
    "pure/format.js",
    "pure/leaves.js",
    "pure/narrowing.js",
    "pure/time.js",
    "state/api.js",
    "state/fields.js",
    "state/live.js",
    "state/neighbours.js",
    "state/query.js",
    "state/route.js",
    "state/saved.js",
    "style/base.css",
    "style/parts.css",
    "style/tokens.css",
    "style/views.css",
    "vendor/htm-preact.js",
    "vendor/uplot.css",
    "vendor/uplot.js",
    "views/chart.js",
    "views/charts.js",
    "views/comments.js",
    "views/dashboard.js",
    "views/dataset.js",
    "views/session.js",
    "views/sessions.js",
    "views/status.js",
    "views/trace.js",
    "views/traces.js",
    "views/unmatched.js",
];

/// The documentation of the API.
pub(super) const API: &str = include_str!("API.md");

/// The page under a base path. Its scripts find the path by their own address.
pub(super) fn index(base: &str) -> Bytes {
    INDEX
        .replace("=\"/page/", &format!("=\"{base}/page/"))
        .replace("=\"/api\"", &format!("=\"{base}/api\""))
        .into()
}

/// Whether paths of the desk begin with this segment.
pub(super) fn is_own(segment: &str) -> bool {
    VIEWS.contains(&segment) || matches!(segment, "api" | "page")
}

pub(super) async fn file(uri: Uri, index: Bytes) -> Response {
    let (content_type, content) = match find(uri.path()) {
        Some(Found::Index) => (HTML, index),
        Some(Found::File(content_type, content)) => (content_type, Bytes::from_static(content)),
        None => {
            let reason = "there is nothing here: see / and /api\n";
            return (StatusCode::NOT_FOUND, reason).into_response();
        }
    };
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}

#[derive(Debug, PartialEq)]
enum Found {
    /// The page, in any of its views.
    Index,
    /// The type and the content of a file.
    File(&'static str, &'static [u8]),
}

fn find(path: &str) -> Option<Found> {
    let path = path.strip_prefix('/')?;
    if let Some(name) = path.strip_prefix("page/") {
        let (_, content) = FILES.iter().find(|(known, _)| *known == name)?;
        return Some(Found::File(type_of(name), content));
    }
    // Whether an item exists is checked by the page, through the API.
    let view = path.split('/').next().unwrap_or_default();
    (path.is_empty() || VIEWS.contains(&view)).then_some(Found::Index)
}

fn type_of(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

pub(super) async fn documentation() -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], API).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_view_is_the_page_and_each_file_is_served() {
        for path in ["/", "/traces", "/traces/0af7651916cd43dd8448eb211c80319c", "/sessions/a%2Fb"]
        {
            assert_eq!(find(path), Some(Found::Index), "{path}");
        }
        for path in [
            "",
            "/nothing",
            "/page",
            "/page/",
            "/page/index.html",
            "/page/../page.rs",
            "/../traces",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
        for link in INDEX.split('"').filter(|text| text.starts_with("/page/")) {
            assert!(find(link).is_some(), "{link}");
        }
        for (name, content) in FILES.iter().filter(|(name, _)| name.ends_with(".js")) {
            let Ok(text) = std::str::from_utf8(content) else { panic!("{name}") };
            assert!(!text.contains("innerHTML =") || name.starts_with("vendor/"), "{name}");
        }
    }

    #[test]
    fn every_link_of_the_page_is_under_the_base_path() {
        let index = index("/desk");
        let index = std::str::from_utf8(&index).unwrap();
        let links: Vec<_> = index.split('"').filter(|text| text.starts_with('/')).collect();
        assert!(links.len() > 8, "{links:?}");
        assert!(links.iter().all(|link| link.starts_with("/desk/")), "{links:?}");
    }

    #[test]
    fn the_page_knows_the_same_views() {
        let (_, route) = FILES.iter().find(|(name, _)| *name == "state/route.js").unwrap();
        let quoted: Vec<_> = VIEWS.iter().map(|view| format!("\"{view}\"")).collect();
        let line = format!("export const VIEWS = [{}];", quoted.join(", "));
        assert!(std::str::from_utf8(route).unwrap().contains(&line), "{line}");
    }
}
