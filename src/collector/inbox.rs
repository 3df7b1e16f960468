//! The inbox: the received requests, spans and events, the scripted answers, and waiting for arrivals.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use super::faults::{Answer, Script};
use super::receive::decoded::{DecodedRequest, DecodedSignal};
use super::receive::log_record::{ReceivedLogRecord, log_records};
use super::receive::received::{ReceivedSpan, each_span, spans};
use super::receive::refusal::RequestRefusal;
use super::receive::{Intake, Protocol, RequestHead};
use crate::printable::Printable;

/// A request as it arrived, with its outcome.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// How it was sent.
    pub protocol: Protocol,
    /// The path of its URL.
    pub path: String,
    /// Its headers by lower-case name; several of one name are joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// How its body was compressed (`gzip`, `zstd`), if it was.
    pub compression: Option<String>,
    /// How many spans were in it; 0 if it could not be read.
    pub spans: usize,
    /// How many log records were in it; 0 if it could not be read.
    pub log_records: usize,
    /// Whether it was accepted, refused, or answered by the script.
    pub outcome: Outcome,
    /// When it had been read.
    pub received_at: Instant,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All its spans and log records were taken, or, with
    /// [`Collector::accept_valid_spans`](super::Collector::accept_valid_spans), all valid ones.
    Accepted,
    /// It was answered by the script.
    Scripted(Answer),
    /// It is not a request that an OTLP receiver accepts.
    Refused {
        /// The reason in the response.
        reason: String,
    },
}

/// Fewer spans, events or requests arrived before the timeout than expected. The message names those
/// that did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitError {
    /// How many spans, events or requests were expected.
    pub expected: usize,
    /// The names of the spans or events, or the paths of the requests, that did arrive.
    pub arrived: Vec<String>,
    /// The timeout that has passed.
    pub timeout: Duration,
    what: &'static str,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, arrived, timeout, what } = self;
        write!(f, "{} of {expected} {what} arrived within {timeout:?}", arrived.len())?;
        for (at, name) in arrived.iter().enumerate() {
            write!(f, "{}`{}`", if at == 0 { ": " } else { ", " }, Printable(name))?;
        }
        Ok(())
    }
}

impl std::error::Error for WaitError {}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct InboxState {
    /// Whether the valid spans of a request are accepted that has invalid ones.
    accepts_valid_spans: bool,
    spans: Vec<ReceivedSpan>,
    /// Of the log records only those that are feedback.
    events: Vec<ReceivedLogRecord>,
    requests: Vec<ReceivedRequest>,
    script: Script,
}

impl Intake for Inbox {
    /// Records one export request and returns the answer to it: the scripted one, or the refusal of
    /// a request that could not be decoded.
    async fn receive(
        &self,
        head: RequestHead,
        decoded: Result<DecodedSignal, RequestRefusal>,
    ) -> Result<Answer, RequestRefusal> {
        let accepts_valid_spans = self.lock().accepts_valid_spans;
        let (items, partial) = match decoded {
            Err(refusal) => (Err(refusal), Answer::Accept),
            Ok(decoded) => ReceivedItems::of(decoded, accepts_valid_spans),
        };
        let mut state = self.lock();
        let answer = state.script.next();
        let counts = items.as_ref().map_or((0, 0), ReceivedItems::counts);
        let (outcome, answer) = match (answer, items) {
            (Answer::Accept, Ok(items)) => {
                state.keep(items, 0);
                (Outcome::Accepted, Ok(partial))
            }
            (answer @ Answer::PartialSuccess { rejected, .. }, Ok(items)) => {
                state.keep(items, usize::try_from(rejected).unwrap_or(0));
                (Outcome::Scripted(answer.clone()), Ok(answer))
            }
            (Answer::Accept | Answer::PartialSuccess { .. }, Err(refusal)) => {
                (Outcome::Refused { reason: refusal.to_string() }, Err(refusal))
            }
            (fault, _) => (Outcome::Scripted(fault.clone()), Ok(fault)),
        };
        state.record(head, counts, outcome);
        self.arrived.notify_all();
        answer
    }

    fn record_refused(&self, head: RequestHead, refusal: &RequestRefusal) {
        self.lock().record(head, (0, 0), Outcome::Refused { reason: refusal.to_string() });
        self.arrived.notify_all();
    }
}

/// The items of a request, as they arrived.
enum ReceivedItems {
    Spans(Vec<ReceivedSpan>),
    LogRecords(Vec<ReceivedLogRecord>),
}

impl ReceivedItems {
    /// The items of a request: all of them, or the valid ones, with an answer that names the first of the others. A
    /// request without a valid item is refused.
    fn of(
        decoded: DecodedSignal,
        accepts_valid_items: bool,
    ) -> (Result<Self, RequestRefusal>, Answer) {
        let (items, refused) = match decoded {
            DecodedSignal::Traces(request) if accepts_valid_items => {
                let (mut valid, mut refused) = (Vec::new(), request.refused);
                for span in each_span(request.message) {
                    match span {
                        Ok(span) => valid.push(span),
                        Err(refusal) => refused.add(refusal),
                    }
                }
                (Self::Spans(valid), refused)
            }
            DecodedSignal::Traces(request) => return (all_spans(request), Answer::Accept),
            DecodedSignal::Logs(request) => {
                (Self::LogRecords(log_records(request.message)), request.refused)
            }
        };
        match refused.first {
            None => (Ok(items), Answer::Accept),
            Some(refusal) if !accepts_valid_items || items.counts() == (0, 0) => {
                (Err(refusal), Answer::Accept)
            }
            Some(refusal) => {
                let rejected = i64::try_from(refused.count).unwrap_or(i64::MAX);
                (Ok(items), Answer::PartialSuccess { rejected, message: refusal.reason })
            }
        }
    }

    /// How many spans there are, and how many log records.
    fn counts(&self) -> (usize, usize) {
        match self {
            Self::Spans(spans) => (spans.len(), 0),
            Self::LogRecords(records) => (0, records.len()),
        }
    }
}

/// All spans of a request, or why one of them is not valid.
fn all_spans(request: DecodedRequest) -> Result<ReceivedItems, RequestRefusal> {
    match request.refused.first {
        Some(refusal) => Err(refusal),
        None => spans(request.message).map(ReceivedItems::Spans),
    }
}

impl Inbox {
    pub(super) fn accept_valid_spans(&self, accepts: bool) {
        self.lock().accepts_valid_spans = accepts;
    }

    pub(super) fn spans(&self) -> Vec<ReceivedSpan> {
        self.lock().spans.clone()
    }

    pub(super) fn events(&self) -> Vec<ReceivedLogRecord> {
        self.lock().events.clone()
    }

    pub(super) fn requests(&self) -> Vec<ReceivedRequest> {
        self.lock().requests.clone()
    }

    /// Calls `look` with the stored spans and events, without copying them.
    pub(super) fn read<T>(
        &self,
        look: impl FnOnce(&[ReceivedSpan], &[ReceivedLogRecord]) -> T,
    ) -> T {
        let state = self.lock();
        look(&state.spans, &state.events)
    }

    pub(super) fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.lock().script)
    }

    pub(super) fn clear(&self) {
        let mut state = self.lock();
        let spans = mem::take(&mut state.spans);
        let rest = (mem::take(&mut state.events), mem::take(&mut state.requests));
        drop(state);
        drop((spans, rest)); // after unlocking: freeing many spans takes time
    }

    pub(super) fn wait_for_spans(
        &self,
        expected: usize,
        timeout: Duration,
    ) -> Result<Vec<ReceivedSpan>, WaitError> {
        let state = self.wait(timeout, |state| state.spans.len() >= expected);
        if state.spans.len() >= expected {
            return Ok(state.spans.clone());
        }
        let arrived = state.spans.iter().map(|span| span.name.clone()).collect();
        Err(WaitError { expected, arrived, timeout, what: "spans" })
    }

    pub(super) fn wait_for_events(
        &self,
        expected: usize,
        timeout: Duration,
    ) -> Result<Vec<ReceivedLogRecord>, WaitError> {
        let state = self.wait(timeout, |state| state.events.len() >= expected);
        if state.events.len() >= expected {
            return Ok(state.events.clone());
        }
        let arrived = state.events.iter().map(|event| event.event_name.clone()).collect();
        Err(WaitError { expected, arrived, timeout, what: "events" })
    }

    pub(super) fn wait_for_requests(
        &self,
        expected: usize,
        timeout: Duration,
    ) -> Result<Vec<ReceivedRequest>, WaitError> {
        let state = self.wait(timeout, |state| state.requests.len() >= expected);
        if state.requests.len() >= expected {
            return Ok(state.requests.clone());
        }
        let arrived = state.requests.iter().map(|request| request.path.clone()).collect();
        Err(WaitError { expected, arrived, timeout, what: "requests" })
    }

    fn wait(
        &self,
        timeout: Duration,
        enough: impl Fn(&InboxState) -> bool,
    ) -> MutexGuard<'_, InboxState> {
        self.arrived
            .wait_timeout_while(self.lock(), timeout, |state| !enough(state))
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InboxState {
    /// Keeps the items after the first so many; of log records those that are feedback.
    fn keep(&mut self, items: ReceivedItems, rejected: usize) {
        match items {
            ReceivedItems::Spans(spans) => self.spans.extend(spans.into_iter().skip(rejected)),
            ReceivedItems::LogRecords(records) => {
                let records = records.into_iter().skip(rejected);
                self.events.extend(records.filter(ReceivedLogRecord::is_evaluation));
            }
        }
    }

    /// Records a request with so many spans and log records.
    fn record(
        &mut self,
        head: RequestHead,
        (spans, log_records): (usize, usize),
        outcome: Outcome,
    ) {
        let RequestHead { protocol, path, headers, compression } = head;
        self.requests.push(ReceivedRequest {
            protocol,
            path,
            headers,
            compression,
            spans,
            log_records,
            outcome,
            received_at: Instant::now(),
        });
    }
}
