//! What a backend is to forwarding: two pure functions around one call.
//!
//! [`Backend::plan`] turns changes into calls, [`Backend::outcome`] an answer into what has become of them. The
//! worker does the rest: it finds the changes, sends the calls one after another, pauses where a backend is down,
//! and writes the outcome into the store. So a backend can be tested by its exact bodies, without a socket.
//!
//! # Rules
//!
//! - **Idempotent.** The same change may be planned again, after a crash or where an answer was lost
//!   ([`Known::Unknown`]). Made twice it must leave one record. Ids are derived from the target and the field,
//!   never from a carrier ([`names`](super::names) has them): a changed vote must meet the same record.
//! - **Ids hold the target** where a backend deletes by id alone.
//! - **One record a change.** A call makes one or more changes, and each change is in one call at a time.
//! - **Foreign answers** are not trusted: an outcome is [`Outcome::Done`] only where the answer is that of this
//!   backend. [`Reply::problem`] is right for whatever a backend does not know better.
//! - **A target that has not come** is [`ChangeOutcome::Missing`], never refused: spans may be hours late.
//! - **Memo**: what a later change of the same record needs and can't compute, such as an id that was looked up, is
//!   given in [`Call::memo`] or [`Call::memos`] and comes back in [`Change::memo`]. The memo of a planned call is written down before
//!   it is made, so it is known after a crash.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use serde_json::Value as Json;

use super::setup::BackendSetup;
use super::wanted::Item;
use crate::collector::Target;
use crate::desk::store::forwarding::ForwardTarget;
use crate::export::connection::response::excerpt;

/// A kind of backend: how it is named on the command line, and how it is made.
pub(super) struct BackendKind {
    pub(super) name: &'static str,
    /// The variables of the environment with its secrets, as the vendor names them.
    pub(super) variables: &'static [&'static str],
    /// What the query of its URL may have.
    pub(super) parameters: &'static [&'static str],
    /// Increases when names or values of records change, so that everything is compared again.
    pub(super) version: u32,
    pub(super) make: fn(&BackendSetup) -> Result<Box<dyn Backend>, String>,
}

impl PartialEq for BackendKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for BackendKind {}

/// A backend with a feedback model of its own.
pub(super) trait Backend: Send + Sync {
    /// The headers of every call. Their values are secrets.
    fn headers(&self) -> Vec<(HeaderName, String)>;

    /// The calls that make the changes at these positions of `changes`, each of which is in one of them.
    fn plan(&self, changes: &[Change<'_>], which: &[usize]) -> Vec<Planned>;

    /// What has become of the changes of a call.
    fn outcome(&self, changes: &[Change<'_>], call: &Call, reply: &Reply) -> Outcome;

    /// A call that changes nothing and is answered where the URL and the secrets are right.
    fn probe(&self) -> Request;

    /// Whether the answer to the probe is one of this kind of backend.
    ///
    /// # Errors
    ///
    /// It is not; the text says why.
    fn probed(&self, reply: &Reply) -> Result<(), String> {
        if reply.json().is_some() {
            return Ok(());
        }
        match reply.problem() {
            Outcome::Down { reason, .. } | Outcome::Refused(reason) => Err(reason),
            _ => Ok(()),
        }
    }
}

/// A difference between what a backend should have and what it was told.
#[derive(Clone, Debug)]
pub(super) struct Change<'a> {
    pub(super) target: &'a ForwardTarget,
    /// The full key of the leaf: `feedback.rating`.
    pub(super) field: &'a str,
    /// `None`: the record is deleted.
    pub(super) wanted: Option<&'a Item>,
    pub(super) known: Known,
    pub(super) memo: Option<&'a str>,
}

/// What is known of a record in the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was never created, or was deleted.
    Absent,
    /// A call was under way when the desk ended or the connection failed.
    Unknown,
    Present,
}

/// The kinds of targets, which backends have different paths and fields for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TargetKind {
    Span,
    Trace,
    Session,
}

impl TargetKind {
    pub(super) const ALL: [Self; 3] = [Self::Span, Self::Trace, Self::Session];

    pub(super) fn of(target: &Target) -> Self {
        match target {
            Target::Span(..) => Self::Span,
            Target::Trace(_) => Self::Trace,
            Target::Session(_) => Self::Session,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Trace => "trace",
            Self::Session => "session",
        }
    }
}

/// A part of a plan.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Planned {
    Call(Call),
    /// No call can make the change at this position: it waits, or is refused.
    Outcome(usize, ChangeOutcome),
}

impl From<Call> for Planned {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}

/// A call, and the changes that it makes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) request: Request,
    /// Positions in the list of changes.
    pub(super) changes: Vec<usize>,
    /// Which of several calls about one change it is; the backend numbers them.
    pub(super) step: u8,
    /// Kept with each of the changes.
    pub(super) memo: Option<String>,
    /// Kept with the changes instead, where it is not empty: one for each of them, in the same order.
    pub(super) memos: Vec<String>,
}

/// A request by HTTP.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Path and query, after the URL of the destination.
    pub(super) path: String,
    pub(super) body: Option<Json>,
}

impl Request {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None }
    }

    pub(super) fn with_json(mut self, body: Json) -> Self {
        self.body = Some(body);
        self
    }
}

impl Call {
    pub(super) fn new(request: Request, changes: Vec<usize>) -> Self {
        Self { request, changes, step: 0, memo: None, memos: Vec::new() }
    }

    /// The memos of its changes, in their order.
    pub(super) fn memos(&self) -> impl Iterator<Item = Option<&String>> {
        (0..self.changes.len()).map(|at| self.memos.get(at).or(self.memo.as_ref()))
    }
}

/// An answer, read up to a limit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
    /// The variables with the secrets of the backend, for messages.
    pub(super) variables: &'static [&'static str],
}

/// These changes by their targets, which may be in any order.
pub(super) fn by_target(changes: &[Change<'_>], which: &[usize]) -> Vec<Vec<usize>> {
    let mut places = HashMap::new();
    let mut targets: Vec<Vec<usize>> = Vec::new();
    for &at in which {
        let place = *places.entry(changes[at].target.row).or_insert(targets.len());
        if place == targets.len() {
            targets.push(Vec::new());
        }
        targets[place].push(at);
    }
    targets
}

/// What has become of a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// Every change of it is made.
    Done,
    /// One outcome for each change of the call.
    Each(Vec<ChangeOutcome>),
    /// These calls decide.
    Next(Vec<Call>),
    /// The backend takes no such call, for this reason. Of several changes only some may be at fault: each half of
    /// them is tried alone.
    Refused(String),
    /// The backend takes nothing at present; `wait` is what it asks for.
    Down { reason: String, wait: Option<Duration> },
}

/// What has become of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChangeOutcome {
    Done,
    /// The backend does not have the target yet.
    Missing(String),
    /// It will never be taken.
    Refused(String),
    /// It was not made since another one of its call was at fault: it is planned again at once.
    Unsent,
}

impl Outcome {
    pub(super) fn down(reason: impl Into<String>) -> Self {
        Self::Down { reason: reason.into(), wait: None }
    }

    /// Every change waits for its target.
    pub(super) fn missing(call: &Call, reason: &str) -> Self {
        Self::Each(vec![ChangeOutcome::Missing(reason.to_owned()); call.changes.len()])
    }
}

impl Reply {
    /// The body as JSON, of an answer that is a success.
    pub(super) fn json(&self) -> Option<Json> {
        self.status.is_success().then(|| serde_json::from_slice(&self.body).ok()).flatten()
    }

    /// The body as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The message in a JSON body under `detail`, `message`, `error` or `msg`, else the beginning of the body.
    pub(super) fn message(&self) -> String {
        let json: Option<Json> = serde_json::from_slice(&self.body).ok();
        let member = |json: &Json| {
            let found = ["detail", "message", "error", "msg"].iter().find_map(|key| json.get(key));
            found.map(|found| found.as_str().map_or_else(|| found.to_string(), str::to_owned))
        };
        excerpt(&json.as_ref().and_then(member).unwrap_or_else(|| self.text()))
    }

    fn is_markup(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }

    /// What an answer means that is not the expected one, by its status alone.
    pub(super) fn problem(&self) -> Outcome {
        let status = self.status.as_u16();
        let message = if self.is_markup() {
            "an HTML page: does another service, a proxy or a login page answer at this URL?"
                .to_owned()
        } else {
            self.message()
        };
        match status {
            200..=299 => Outcome::down(format!(
                "the answer is none of this kind of backend: is the URL right? {status} {message}"
            )),
            300..=399 => {
                Outcome::down(format!("the URL redirects elsewhere ({status}): give the final one"))
            }
            401 | 403 | 407 => Outcome::down(format!(
                "access is refused ({status} {message}): check {}",
                self.variables.join(" and ")
            )),
            404 | 405 => Outcome::down(format!("{status} {message}: is the URL right?")),
            400..=499 if self.is_markup() => Outcome::down(format!("{status} {message}")),
            402 | 408 | 425 | 429 | 500..=599 => {
                Outcome::Down { reason: format!("{status} {message}"), wait: self.retry_after }
            }
            _ => Outcome::Refused(format!("{status} {message}")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The calls of a plan that has nothing else.
    pub(in crate::desk::forward) fn planned(
        backend: &dyn Backend,
        changes: &[Change<'_>],
        which: &[usize],
    ) -> Vec<Call> {
        let call = |planned| match planned {
            Planned::Call(call) => call,
            Planned::Outcome(at, outcome) => panic!("{at}: {outcome:?}"),
        };
        backend.plan(changes, which).into_iter().map(call).collect()
    }

    /// The change that creates a record.
    pub(in crate::desk::forward) fn change<'a>(
        target: &'a ForwardTarget,
        item: &'a Item,
    ) -> Change<'a> {
        let known = Known::Absent;
        Change { target, field: &item.field, wanted: Some(item), known, memo: None }
    }

    pub(in crate::desk::forward) fn reply(status: u16, body: impl Into<String>) -> Reply {
        let status = StatusCode::from_u16(status).unwrap();
        let body = body.into().into_bytes();
        Reply { status, retry_after: None, body, variables: &["THE_KEY"] }
    }

    #[test]
    fn an_unexpected_answer_is_never_taken_for_a_success_or_a_refusal_without_reason() {
        for (status, body, expected) in [
            (200, "<html>", "an HTML page"),
            (302, "", "redirects"),
            (400, "<html>", "an HTML page"),
            (401, "no", "check THE_KEY"),
            (404, "no", "is the URL right?"),
            (429, r#"{"detail":"slowly"}"#, "429 slowly"),
            (503, r#"{"message":{"a":1}}"#, r#"503 {"a":1}"#),
        ] {
            let Outcome::Down { reason, .. } = reply(status, body).problem() else {
                panic!("{status} {body}")
            };
            assert!(reason.contains(expected), "{reason}");
        }
        let refused = Outcome::Refused("422 name is too long".to_owned());
        assert_eq!(reply(422, r#"{"detail":"name is too long"}"#).problem(), refused);
    }
}
