//! ClickHouse over its HTTP interface. <https://clickhouse.com/docs/interfaces/http>

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use super::address::Address;
use crate::desk::store::Error;
use crate::desk::tls;
use crate::export::connection::response::{BodyEnd, MAX_ERROR, read};
use crate::printable::printable;
use crate::suppress;

/// On top of what a query may take, for connecting and for its answer.
const GRACE: Duration = Duration::from_secs(5);

/// The longest answer to a query.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// What ClickHouse calls a query that took too long, `TIMEOUT_EXCEEDED`.
const TOO_LONG: &str = "159";

/// Asks one server. From threads that may wait.
pub(super) struct ClickHouseClient {
    http: reqwest::Client,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    address: Address,
    limit: Duration,
}

impl ClickHouseClient {
    /// A query that takes longer than `limit` ends with an error.
    pub(super) fn new(address: Address, limit: Duration) -> Result<Self, Error> {
        let failed = |error: &dyn fmt::Display| Error::Engine(error.to_string());
        let http = reqwest::Client::builder()
            .timeout(limit + GRACE)
            .connect_timeout(GRACE)
            // A redirect would carry the password to another place.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false);
        let http = if address.is_loopback() { http.no_proxy() } else { http };
        let http = tls::prepare(http, address.is_secure()).map_err(Error::Engine)?;
        let http = http.build().map_err(|error| failed(&error))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("desk-clickhouse")
            .on_thread_start(suppress::mark_this_thread)
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self { http, runtime: Some(runtime), address, limit })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// The rows of a query, each an array of its columns.
    pub(super) fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, Error> {
        self.rows_with(sql, &[])
    }

    /// The same with some settings.
    pub(super) fn rows_with<T: DeserializeOwned>(
        &self,
        sql: &str,
        settings: &[(&str, &str)],
    ) -> Result<Vec<T>, Error> {
        let body = self.ask(sql, settings)?;
        serde_json::Deserializer::from_slice(&body)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| Error::Engine(format!("an answer that is none: {error}")))
    }

    /// The only row of a query that has one.
    pub(super) fn row<T: DeserializeOwned>(&self, sql: &str) -> Result<T, Error> {
        let none = || Error::Engine("an answer without a row".to_owned());
        self.rows(sql)?.into_iter().next().ok_or_else(none)
    }

    fn ask(&self, sql: &str, more: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
        let limit = self.limit.as_secs().max(1).to_string();
        let settings = [
            ("database", self.address.database()),
            ("default_format", "JSONCompactEachRow"),
            // It may set what follows, and change nothing else.
            ("readonly", "2"),
            ("max_execution_time", &limit),
            // An error on the way has the status of one.
            ("wait_end_of_query", "1"),
            ("output_format_json_quote_64bit_integers", "0"),
            ("output_format_json_quote_denormals", "0"),
            ("join_use_nulls", "1"),
        ];
        let settings = [&settings[..], more].concat();
        let mut request = self
            .http
            .post(self.address.url_with(&settings))
            .header("X-ClickHouse-User", self.address.user())
            .body(sql.to_owned());
        if let Some(password) = self.address.password() {
            request = request.header("X-ClickHouse-Key", password);
        }
        let unreachable = |error: reqwest::Error| {
            let url = self.address.url();
            match error.is_timeout() {
                true => Error::TooLong,
                false => Error::Engine(format!("{url} can't be reached: {}", cause(&error))),
            }
        };
        let asked = async {
            let mut answer = request.send().await.map_err(unreachable)?;
            let status = answer.status();
            let code = answer.headers().get("X-ClickHouse-Exception-Code");
            let is_too_long = code.is_some_and(|code| code == TOO_LONG);
            let limit = if status.is_success() { MAX_ANSWER } else { MAX_ERROR };
            match read(&mut answer, limit).await {
                (_, BodyEnd::Failed(error)) => Err(unreachable(error)),
                (body, _) if !status.is_success() => Err(failure(status, is_too_long, &body)),
                (_, BodyEnd::TooLong) => {
                    Err(Error::Engine(format!("an answer of more than {MAX_ANSWER} bytes")))
                }
                (body, BodyEnd::Whole) => Ok(body),
            }
        };
        let gone = || Error::Engine("the desk is shutting down".to_owned());
        self.runtime.as_ref().ok_or_else(gone)?.block_on(asked)
    }
}

impl Drop for ClickHouseClient {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // from wherever it is dropped
        }
    }
}

impl fmt::Debug for ClickHouseClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouseClient").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The error of the server, without its stack trace.
fn failure(status: StatusCode, is_too_long: bool, body: &[u8]) -> Error {
    let said = String::from_utf8_lossy(body);
    if is_too_long {
        return Error::TooLong;
    }
    let said: String = said.trim_end().chars().take(500).collect();
    Error::Engine(format!("{}: {}", status.as_u16(), printable(&said)))
}

/// The innermost cause; the outer ones only say that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
