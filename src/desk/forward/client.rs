//! HTTP to a backend, with limits of time and size. Its answers are foreign bytes. No secret is in what it reports.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::backend::{Reply, Request};
use super::destination::Destination;
use crate::desk::tls;
use crate::export::connection::response::{BodyEnd, MAX_RESPONSE, read, retry_after};

/// Time limits of a call.
const CONNECT: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_secs(30);
/// The longest pause that a backend can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Sends requests to one backend.
pub(super) struct BackendClient {
    http: reqwest::Client,
    url: String,
    headers: HeaderMap,
    secrets: Vec<String>,
    variables: &'static [&'static str],
}

impl BackendClient {
    /// # Errors
    ///
    /// A secret has characters that a header can't carry, or TLS can't be set up.
    pub(super) fn new(
        destination: &Destination,
        headers: Vec<(HeaderName, String)>,
        mut secrets: Vec<String>,
    ) -> Result<Self, String> {
        let variables = destination.kind.variables;
        let mut map = HeaderMap::new();
        map.insert(ACCEPT, HeaderValue::from_static("application/json, application/x-protobuf"));
        for (name, value) in headers {
            let mut header = HeaderValue::from_str(&value).map_err(|_| {
                format!("{} has characters that a header can't carry", variables.join(" or "))
            })?;
            header.set_sensitive(true);
            map.insert(name, header);
            // As it is sent, and without `Bearer ` or `Basic `.
            secrets.extend(value.split_once(' ').map(|(_, secret)| secret.to_owned()));
            secrets.push(value);
        }
        secrets.retain(|secret| secret.len() > 3);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let http = reqwest::Client::builder()
            .timeout(CALL)
            .connect_timeout(CONNECT)
            // A redirect would carry the secret to another place.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false);
        let http = if destination.is_loopback { http.no_proxy() } else { http };
        let is_secure = destination.url.starts_with("https:");
        let http = tls::prepare(http, is_secure)?.build().map_err(|error| error.to_string())?;
        Ok(Self { http, url: destination.url.clone(), headers: map, secrets, variables })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    ///
    /// There was none; the text says why.
    pub(super) async fn send(&self, request: &Request) -> Result<Reply, String> {
        let mut call = self.call(request.method.clone(), &request.path);
        if let Some(body) = &request.body {
            call = call.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        self.answer(call).await
    }

    /// Sends a body in protobuf, and reads the answer.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub(super) async fn send_protobuf(&self, path: &str, body: Vec<u8>) -> Result<Reply, String> {
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        let call = self.call(Method::POST, path).header(CONTENT_TYPE, protobuf).body(body);
        self.answer(call).await
    }

    fn call(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).headers(self.headers.clone())
    }

    async fn answer(&self, call: reqwest::RequestBuilder) -> Result<Reply, String> {
        let mut answer = call.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let retry_after = wait(answer.headers());
        let (body, end) = read(&mut answer, MAX_RESPONSE).await;
        match end {
            // A body that is cut is no JSON, so it never counts as a success.
            BodyEnd::Whole | BodyEnd::TooLong => {}
            BodyEnd::Failed(_) if !status.is_success() => {}
            BodyEnd::Failed(error) => return Err(self.unreachable(&error)),
        }
        Ok(Reply { status, retry_after, body, variables: self.variables })
    }

    fn unreachable(&self, error: &reqwest::Error) -> String {
        let reason = match error.is_timeout() {
            true => format!("no answer within {} s", CALL.as_secs()),
            false => cause(error),
        };
        format!("{} can't be reached: {reason}", self.url)
    }

    /// A text without the secrets: backends repeat them in errors.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        let replace = |text: String, secret: &String| text.replace(secret.as_str(), "…");
        self.secrets.iter().fold(text.to_owned(), replace)
    }
}

/// Without headers and secrets.
impl fmt::Debug for BackendClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendClient").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The innermost cause; the outer ones only say that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The delay that a backend asks for, at most [`LONGEST_WAIT`].
fn wait(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers, SystemTime::now()).map(|wait| wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_bounded() {
        let headers = HeaderMap::from_iter([(
            http::header::RETRY_AFTER,
            HeaderValue::from_static("99999999999"),
        )]);
        assert_eq!(wait(&headers), Some(LONGEST_WAIT));
    }

    #[test]
    fn no_secret_is_in_what_is_reported() {
        let destination = Destination::read("phoenix=http://localhost:1").unwrap();
        let headers = vec![(http::header::AUTHORIZATION, "Bearer s3cret".to_owned())];
        let client = BackendClient::new(&destination, headers, vec!["s3cret".to_owned()]).unwrap();
        assert_eq!(client.without_secrets("no: Bearer s3cret, s3cret"), "no: …, …");
        assert!(!format!("{client:?}").contains("s3cret"));
        let headers = vec![(http::header::AUTHORIZATION, "Bearer s3\ncret".to_owned())];
        let error = BackendClient::new(&destination, headers, Vec::new()).unwrap_err();
        assert!(error.contains("PHOENIX_API_KEY") && !error.contains("cret\""), "{error}");
    }
}
