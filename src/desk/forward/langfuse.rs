//! Langfuse: scores of observations, traces and sessions.
//!
//! `POST /api/public/scores` takes a list of scores, and answers 202, or 207 with the number of those that it
//! rejected. A score with the same id and the same timestamp is replaced; with another timestamp it is a second
//! one. So the time of the first vote is kept, as the memo, and sent with every later one. `DELETE …/{id}` deletes a
//! score. Servers before 5.0 take one object instead of a list, and refuse a list. A score of a trace that has not
//! come is taken, and shown when it comes.
//! Sources: `langfuse/api/scores` of the SDK 5.0.4, <https://langfuse.com/faq/all/tracing-data-updates>.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::backend::{Backend, BackendKind, Call, Change, Outcome, Planned, Reply, Request};
use super::names;
use super::setup::BackendSetup;
use super::wanted::Item;
use crate::collector::Target;
use crate::desk::store::json::datum_json;
use crate::desk::store::leaf::Leaf;

pub(super) const KIND: BackendKind = BackendKind {
    name: "langfuse",
    variables: &["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"],
    parameters: &[],
    version: 1,
    make: |setup| Ok(Box::new(Langfuse::new(setup)?)),
};

/// Scores of one request.
const MOST: usize = 100;
/// About how large a request gets, in bytes. Langfuse takes 4.5 MB.
const ENOUGH_BYTES: usize = 1 << 20;
/// Characters of a score of the type `TEXT`. The whole text is in the comment then.
const LONGEST_TEXT: usize = 500;

/// The calls about scores, as [`Call::step`].
const LIST: u8 = 0;
const ONE: u8 = 1;
const DELETE: u8 = 2;

const SCORES: &str = "/api/public/scores";

struct Langfuse {
    credentials: String,
}

impl Langfuse {
    fn new(setup: &BackendSetup) -> Result<Self, String> {
        let secret = |name| setup.secret(name).ok_or_else(|| format!("set {name}"));
        let (public, secret) = (secret("LANGFUSE_PUBLIC_KEY")?, secret("LANGFUSE_SECRET_KEY")?);
        Ok(Self { credentials: BASE64_STANDARD.encode(format!("{public}:{secret}")) })
    }
}

impl Backend for Langfuse {
    fn headers(&self) -> Vec<(HeaderName, String)> {
        vec![(header::AUTHORIZATION, format!("Basic {}", self.credentials))]
    }

    fn plan(&self, changes: &[Change<'_>], which: &[usize]) -> Vec<Planned> {
        let mut calls = Vec::new();
        let mut open = List::default();
        for &at in which {
            let change = &changes[at];
            let Some(item) = change.wanted else {
                let path = format!("{SCORES}/{}", score_id(change));
                let request = Request::new(Method::DELETE, path);
                calls.push(Call { step: DELETE, ..Call::new(request, vec![at]) });
                continue;
            };
            open.add(change, item, at);
            if open.scores.len() >= MOST || open.bytes >= ENOUGH_BYTES {
                calls.extend(std::mem::take(&mut open).call());
            }
        }
        calls.extend(open.call());
        calls.into_iter().map(Planned::Call).collect()
    }

    fn outcome(&self, changes: &[Change<'_>], call: &Call, reply: &Reply) -> Outcome {
        let json = reply.json().filter(Json::is_object);
        match (call.step, reply.status) {
            (LIST, StatusCode::MULTI_STATUS) => match &json {
                Some(json) if json["rejected"] == 0 => Outcome::Done,
                Some(json) => Outcome::Refused(format!("207 {}", json["errors"])),
                None => reply.problem(),
            },
            (LIST, StatusCode::ACCEPTED) if json.is_some() => Outcome::Done,
            (ONE, status) if status.is_success() && json.is_some() => Outcome::Done,
            (DELETE, status)
                if status.is_success() && (json.is_some() || reply.body.is_empty()) =>
            {
                Outcome::Done
            }
            (DELETE, StatusCode::NOT_FOUND) if reply.message().starts_with("Score") => {
                Outcome::Done
            }
            (LIST, StatusCode::BAD_REQUEST) if is_answer(reply) => {
                let one = |at: &usize| {
                    let item = changes[*at].wanted?;
                    let mut one = List::default();
                    one.add(&changes[*at], item, *at);
                    let call = one.call()?;
                    let body = call.request.body.map(|mut list| list[0].take());
                    let request = Request { body, ..call.request };
                    Some(Call { step: ONE, request, ..call })
                };
                Outcome::Next(call.changes.iter().filter_map(one).collect())
            }
            _ => reply.problem(),
        }
    }

    fn probe(&self) -> Request {
        Request::new(Method::GET, "/api/public/projects")
    }
}

/// The scores of a request.
#[derive(Default)]
struct List {
    scores: Vec<Json>,
    changes: Vec<usize>,
    memos: Vec<String>,
    bytes: usize,
}

impl List {
    fn add(&mut self, change: &Change<'_>, item: &Item, at: usize) {
        let first = change.memo.and_then(|memo| memo.parse().ok());
        let time = first.unwrap_or_else(|| item.given_ms());
        let score = score(change, item, time);
        self.bytes += score.to_string().len();
        self.scores.push(score);
        self.changes.push(at);
        self.memos.push(time.to_string());
    }

    /// The call that sends them, if there are any.
    fn call(self) -> Option<Call> {
        let Self { scores, changes, memos, .. } = self;
        let request = Request::new(Method::POST, SCORES).with_json(json!(scores));
        (!changes.is_empty()).then(|| Call { memos, ..Call::new(request, changes) })
    }
}

fn score_id(change: &Change<'_>) -> String {
    names::hex_id(&change.target.target, change.field)
}

/// Whether an error is one of Langfuse, not of something before it.
fn is_answer(reply: &Reply) -> bool {
    serde_json::from_slice::<Json>(&reply.body).is_ok_and(|json| json.is_object())
}

/// A score, dated `time` in milliseconds.
fn score(change: &Change<'_>, item: &Item, time: i64) -> Json {
    let target = &change.target.target;
    let text = item.text();
    let is_cut = text.chars().count() > LONGEST_TEXT;
    let (kind, value) = match &item.value {
        Leaf::Bool(value) => ("BOOLEAN", json!(u8::from(*value))),
        value @ (Leaf::Int(_) | Leaf::Double(_)) => ("NUMERIC", datum_json(value.datum())),
        // A session has no output that could be corrected.
        _ if item.is_ground_truth && !matches!(target, Target::Session(_)) => {
            ("CORRECTION", json!(text))
        }
        // A text has a character at least.
        _ if item.is_category() || text.is_empty() => ("CATEGORICAL", json!(text)),
        _ => ("TEXT", json!(text.chars().take(LONGEST_TEXT).collect::<String>())),
    };
    let mut metadata = json!({ "field": item.field, "source": item.source.name() });
    if let Some(by) = &item.by {
        metadata["submitter"] = json!(by);
    }
    let mut score = json!({
        "id": score_id(change),
        "name": names::name(KIND.name, change.field),
        "value": value,
        "dataType": kind,
        "metadata": metadata,
        "timestamp": Timestamp::from_millisecond(time).unwrap_or_default().to_string(),
    });
    match target {
        Target::Span(trace, span) => {
            score["traceId"] = json!(trace.to_string());
            score["observationId"] = json!(span.to_string());
        }
        Target::Trace(trace) => score["traceId"] = json!(trace.to_string()),
        Target::Session(id) => score["sessionId"] = json!(id),
    }
    let comment = item.explanation.as_ref().or((kind == "TEXT" && is_cut).then_some(&text));
    if let Some(comment) = comment {
        score["comment"] = json!(comment);
    }
    score
}

#[cfg(test)]
mod tests;
