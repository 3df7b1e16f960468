//! `otlp`: spans, carriers among them, and events, passed on as they came, to any receiver of OTLP over HTTP
//! (protobuf).
//!
//! Spans go in the order in which the desk has stored them first, from a position in the store that moves when the
//! receiver has acknowledged them. After a crash, or where an answer was lost, the last request is sent again: spans
//! have ids. A receiver that takes a request in part says how many spans it has rejected, and why; one that takes
//! none of it (400 and its like) is sent halves, down to the span at fault, which is passed over. Anything else is
//! tried again, in growing pauses or as `Retry-After` says. A receiver that has no path for log records gets the spans
//! without them, and the status says so.
//! Source: <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::backend::{BackendKind, Outcome, Reply};
use super::client::BackendClient;
use super::destination::Destination;
use super::pause::{LOOK, growing_pause, now, until_then};
use super::setup::BackendSetup;
use super::state::{self, Told};
use super::worker::open;
use crate::desk::first_of;
use crate::desk::log::log_line;
use crate::desk::store::forwarding::{ChangePosition, ForwardStore, SpanPage};
use crate::desk::store::{Error, StoreVersion};
use crate::export::connection::response::excerpt;

pub(super) const KIND: BackendKind = BackendKind {
    name: "otlp",
    variables: &[HEADERS],
    parameters: &[],
    version: 1,
    make: |_| Err("spans are passed on as they came".to_owned()),
};

/// Headers of each request, as in `OTEL_EXPORTER_OTLP_HEADERS`: `key=value,key2=value2`.
const HEADERS: &str = "FEEDBACK_DESK_FORWARD_OTLP_HEADERS";
/// Where a receiver of OTLP over HTTP takes spans, and log records.
const PATH: &str = "/v1/traces";
const LOGS_PATH: &str = "/v1/logs";
/// Spans of one request.
const MOST_SPANS: usize = 1_000;
/// The pause after an error of the store, and the longest one without an occasion.
const AFTER_ERROR: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(60);
/// The least time between two turns that follow changes, so that spans gather.
const GATHER: Duration = Duration::from_millis(100);

/// The thread of one receiver.
pub(super) struct SpanWorker {
    client: BackendClient,
    store: Arc<dyn ForwardStore>,
    name: String,
    id: i64,
    /// Spans of the next request.
    most: usize,
    failures: u32,
    /// The receiver has taken a request: what it refuses is at fault, not the receiver.
    is_known: bool,
}

enum Turn {
    More,
    Idle,
    Paused(i64),
}

impl SpanWorker {
    pub(super) fn new(
        destination: &Destination,
        store: Arc<dyn ForwardStore>,
    ) -> Result<Self, String> {
        let client = connect(destination)?;
        let name = destination.to_string();
        store.count_spans(0).map_err(|error| format!("--forward {name}: {error}"))?;
        Ok(Self { client, store, name, id: 0, most: MOST_SPANS, failures: 0, is_known: false })
    }

    /// Works until the store's writer has ended.
    pub(super) async fn work(
        &mut self,
        changes: &mut watch::Receiver<StoreVersion>,
        retry: &Notify,
    ) {
        loop {
            changes.borrow_and_update();
            match self.turn().await {
                Ok(Turn::More) => {}
                Ok(Turn::Paused(until)) => {
                    // A command may have asked for an attempt.
                    let _ = timeout(until_then(until).min(LOOK), retry.notified()).await;
                }
                Ok(Turn::Idle) => {
                    let asked = async {
                        let _ = timeout(IDLE, retry.notified()).await;
                        false
                    };
                    let changed = async { changes.changed().await.is_err() };
                    if first_of(changed, asked).await {
                        return; // the writer has ended: so will the desk
                    }
                    sleep(GATHER).await;
                }
                Err(error) => {
                    log_line(&format!("feedback-desk: forwarding to {}: {error}", self.name));
                    sleep(AFTER_ERROR).await;
                }
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn, Error> {
        if self.id == 0 {
            self.id = open(&*self.store, &self.name, i64::from(KIND.version))?;
        }
        let id = self.id;
        let (mut position, mut paused) = Default::default();
        self.store.read_state(&mut |connection| {
            (position, paused) = state::position(connection, id)?;
            Ok(())
        })?;
        if paused > now() {
            return Ok(Turn::Paused(paused));
        }
        let Some(page) = self.store.spans_after(position.row, self.most)? else {
            return Ok(Turn::Idle);
        };
        let outcome = match self.send(&page).await {
            SpanOutcome::Other(Outcome::Refused(reason)) if !self.is_known => {
                match send_nothing(&self.client).await {
                    Ok(()) => Outcome::Refused(reason).into(),
                    Err(reason) => Outcome::down(reason).into(),
                }
            }
            outcome => outcome,
        };
        self.is_known |= !matches!(outcome, SpanOutcome::Other(Outcome::Down { .. }));
        let now = now();
        let (mut end, mut refused, mut failure) = (Some(page.last), None, None);
        match outcome {
            SpanOutcome::Taken => {}
            SpanOutcome::Rejected(reason) => refused = Some(self.client.without_secrets(&reason)),
            SpanOutcome::Other(Outcome::Refused(reason)) => {
                if page.spans == 1 {
                    refused = Some(self.client.without_secrets(&reason));
                } else {
                    // The span at fault is among them.
                    self.most = (page.spans / 2).max(1);
                    return Ok(Turn::More);
                }
            }
            SpanOutcome::Other(Outcome::Down { reason, wait }) => {
                self.failures += 1;
                let next = now + growing_pause(self.failures, wait);
                failure = Some((self.client.without_secrets(&reason), next));
                end = None;
            }
            SpanOutcome::Other(_) => {}
        }
        if let Some((reason, _)) = &failure
            && self.failures == 1
        {
            log_line(&format!("feedback-desk: forwarding to {} pauses: {reason}", self.name));
        }
        if failure.is_none() {
            if self.failures > 0 {
                log_line(&format!("feedback-desk: forwarding to {} goes on", self.name));
            }
            (self.failures, self.most) = (0, (self.most * 2).min(MOST_SPANS));
        }
        let last = page.last;
        self.store.write_state(Box::new(move |connection| {
            if let Some(reason) = &refused {
                // Negative, so that it is no row of a target.
                let place = (-last, "spans");
                state::begin(connection, id, place, None)?;
                let told = Told { hash: Some(state::ABSENT), memo: None, refused: Some(1) };
                state::end(connection, id, place, Some(&told), Some(reason))?;
            }
            if let Some(end) = end {
                let end = ChangePosition { changed: 0, row: end };
                state::set_position(connection, id, end)?;
            }
            match &failure {
                Some((reason, next)) => state::set_failed(connection, id, reason, (now, *next)),
                None => state::set_reached(connection, id, now),
            }
        }))?;
        Ok(Turn::More)
    }
}

impl SpanWorker {
    /// Sends the spans of a page, and its log records if they were taken.
    async fn send(&self, page: &SpanPage) -> SpanOutcome {
        let mut rejected = Vec::new();
        if !page.request.resource_spans.is_empty() {
            let body = page.request.encode_to_vec();
            match self.client.send_protobuf(PATH, body).await {
                Ok(reply) => match outcome(&reply, "spans") {
                    SpanOutcome::Taken => {}
                    SpanOutcome::Rejected(reason) => rejected.push(reason),
                    other => return other,
                },
                Err(reason) => return Outcome::down(reason).into(),
            }
        }
        if !page.logs.resource_logs.is_empty() {
            let body = page.logs.encode_to_vec();
            match self.client.send_protobuf(LOGS_PATH, body).await {
                Ok(reply) if takes_no_logs(reply.status) => {
                    let status = reply.status.as_u16();
                    rejected.push(format!("log records are not taken at {LOGS_PATH}: {status}"));
                }
                Ok(reply) => match outcome(&reply, "log records") {
                    SpanOutcome::Taken => {}
                    SpanOutcome::Rejected(reason) => rejected.push(reason),
                    other => return other,
                },
                Err(reason) => return Outcome::down(reason).into(),
            }
        }
        match rejected.is_empty() {
            true => SpanOutcome::Taken,
            false => SpanOutcome::Rejected(rejected.join("; ")),
        }
    }
}

/// Whether a receiver of spans answers log records with this status because it has no path for them.
fn takes_no_logs(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    )
}

/// What has become of a request.
enum SpanOutcome {
    Taken,
    /// Some items of it were rejected, for this reason.
    Rejected(String),
    Other(Outcome),
}

impl From<Outcome> for SpanOutcome {
    fn from(outcome: Outcome) -> Self {
        Self::Other(outcome)
    }
}

/// What an answer says of a request of `items`. The responses for spans and for log records are the same in protobuf.
fn outcome(reply: &Reply, items: &str) -> SpanOutcome {
    if !reply.status.is_success() {
        return reply.problem().into();
    }
    // Some receivers answer in JSON.
    let is_json = reply.json().is_some_and(|json| json.is_object());
    match ExportTraceServiceResponse::decode(reply.body.as_slice()) {
        Ok(response) => match response.partial_success {
            Some(partial) if partial.rejected_spans > 0 => SpanOutcome::Rejected(format!(
                "{} {items} were rejected: {}",
                partial.rejected_spans,
                excerpt(&partial.error_message)
            )),
            _ => SpanOutcome::Taken,
        },
        Err(_) if is_json => SpanOutcome::Taken,
        Err(_) => reply.problem().into(),
    }
}

/// The client of a receiver.
fn connect(destination: &Destination) -> Result<BackendClient, String> {
    let setup = destination.setup();
    let named = |error: String| format!("--forward {destination}: {error}");
    let headers = headers(&setup).map_err(named)?;
    BackendClient::new(destination, headers, Vec::new()).map_err(named)
}

/// Sends a request without spans, which a receiver takes.
async fn send_nothing(client: &BackendClient) -> Result<(), String> {
    let body = ExportTraceServiceRequest::default().encode_to_vec();
    let reply = client.send_protobuf(PATH, body).await;
    let reply = reply.map_err(|reason| client.without_secrets(&reason))?;
    match outcome(&reply, "spans") {
        SpanOutcome::Other(Outcome::Down { reason, .. } | Outcome::Refused(reason)) => {
            Err(client.without_secrets(&reason))
        }
        _ => Ok(()),
    }
}

/// Whether a receiver can be reached.
pub(super) fn probe(destination: &Destination) -> Result<(), String> {
    let client = connect(destination)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(send_nothing(&client))
}

/// The headers of the variable.
fn headers(setup: &BackendSetup) -> Result<Vec<(HeaderName, String)>, String> {
    let wrong = || format!("{HEADERS} has to be key=value, separated by commas");
    let mut headers = Vec::new();
    for pair in setup.secret(HEADERS).unwrap_or_default().split(',').map(str::trim) {
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let value = super::setup::decoded(value.trim()).ok_or_else(wrong)?;
        HeaderValue::from_str(&value).map_err(|_| wrong())?;
        headers.push((name, value));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_by_exporters() {
        let read = |text| headers(&BackendSetup::of(&[], &[(HEADERS, text)]));
        let one = ("x-api-key".parse().unwrap(), "a b".to_owned());
        let two = ("authorization".parse().unwrap(), "Basic a==".to_owned());
        assert_eq!(read("x-api-key=a%20b, Authorization=Basic a=="), Ok(vec![one, two]));
        assert_eq!(read(""), Ok(vec![]));
        for text in ["no", "a b=c", "a=%0a", "a=%zz"] {
            let error = read(text).unwrap_err();
            assert!(error.contains(HEADERS), "{error}");
        }
    }
}
