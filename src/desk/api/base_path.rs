//! The path under which a reverse proxy serves the desk.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use http::Uri;
use http::uri::PathAndQuery;

use super::page;

/// Empty, or a slash and segments, without a slash at the end: `/tools/feedback`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct BasePath(Arc<str>);

impl BasePath {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let path = text.strip_suffix('/').unwrap_or(text);
        if path.is_empty() {
            return Ok(Self::default());
        }
        let is_segment = |segment: &str| {
            !matches!(segment, "" | "." | "..") && segment.bytes().all(crate::desk::is_of_token)
        };
        let Some(segments) = path.strip_prefix('/').filter(|path| path.split('/').all(is_segment))
        else {
            return Err(format!(
                "the base path `{text}` is not valid: use for example /feedback, with letters, digits, \
                 `-`, `.`, `_` and `~` between slashes"
            ));
        };
        let first = segments.split('/').next().unwrap_or_default();
        if page::is_own(first) {
            return Err(format!(
                "the base path `{text}` begins as a path of the desk: use another"
            ));
        }
        Ok(Self(path.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A router for requests with and without the path, whichever the proxy passes on.
    pub(super) fn serve(&self, router: Router) -> Router {
        if self.0.is_empty() {
            return router;
        }
        let base = self.clone();
        let strip = move |mut request: Request, next: Next| {
            if let Some(uri) = base.strip(request.uri()) {
                *request.uri_mut() = uri;
            }
            next.run(request)
        };
        // Before the router chooses a handler, which a layer of its own does not.
        Router::new().fallback_service(router).layer(middleware::from_fn(strip))
    }

    /// The address without the path, if it begins with it.
    fn strip(&self, uri: &Uri) -> Option<Uri> {
        let rest = uri.path().strip_prefix(&*self.0)?;
        if !(rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let path = if rest.is_empty() { "/" } else { rest };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(format!("{path}{query}")).ok()?);
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_a_path_of_its_own() {
        for (text, read) in [
            ("", ""),
            ("/", ""),
            ("/desk", "/desk"),
            ("/desk/", "/desk"),
            ("/tools/feed-back_1.0~x", "/tools/feed-back_1.0~x"),
        ] {
            assert_eq!(BasePath::read(text).unwrap().as_str(), read);
        }
        for text in [
            "desk",
            "//desk",
            "/desk//",
            "/a//b",
            "/..",
            "/a/.",
            "/a b",
            "/a%20b",
            "/\"",
            "/<",
            "/\\x",
            "/\u{e4}",
            "/api",
            "/traces/x",
            "/page",
            "/a?b",
            "/a#b",
        ] {
            assert!(BasePath::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_whole_path_is_stripped() {
        let base = BasePath::read("/desk").unwrap();
        let strip = |uri: &str| base.strip(&uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(strip("/desk").as_deref(), Some("/"));
        assert_eq!(strip("/desk?a=1").as_deref(), Some("/?a=1"));
        assert_eq!(strip("/desk/traces/x?a=%2F").as_deref(), Some("/traces/x?a=%2F"));
        assert_eq!(strip("http://a.example/desk/api").as_deref(), Some("http://a.example/api"));
        assert_eq!(strip("/desks"), None);
        assert_eq!(strip("/traces"), None);
    }
}
