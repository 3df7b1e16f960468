//! HoneyHive: the feedback and metrics of events.
//!
//! `PUT /v1/events/{event_id}` merges members into `feedback`, `metrics` and `metadata` of an event. There is no way to
//! delete one, so a deletion sets it to null. An event of a span has an id of HoneyHive's own, which is searched by the
//! ids in its metadata, and is the memo. A session is the event with its id, always a UUID; where the session here has
//! another id, HoneyHive has made one up, and the event of a span of the session knows it. Feedback about a trace stands
//! on its root span, under names that begin with `trace.`. Names are paths with dots, not nested, since a merge may end at the first level.
//! Sources: `honeyhive/_generated` of the SDK 1.7.0, <https://docs.honeyhive.ai/v2/sdk-reference>.

use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Map, Value as Json, json};

use super::backend::{
    Backend, BackendKind, Call, Change, ChangeOutcome, Known, Outcome, Planned, Reply, Request,
    by_target,
};
use super::names::{self, is_uuid};
use super::setup::{BackendSetup, encoded};
use super::wanted::explained;
use crate::collector::Target;
use crate::desk::store::json::datum_json;
use crate::desk::store::leaf::Leaf;

pub(super) const KIND: BackendKind = BackendKind {
    name: "honeyhive",
    variables: &["HH_API_KEY"],
    parameters: &[],
    version: 1,
    make: |setup| Ok(Box::new(HoneyHive::new(setup)?)),
};

/// The calls about an event, as [`Call::step`].
const SEARCH: u8 = 0;
/// With an id that was known before.
const PUT: u8 = 1;
/// With the id that the search has found, or that of a session.
const PUT_FOUND: u8 = 2;

/// In a memo behind the id: the comment of the event explains this leaf.
const EXPLAINED: &str = " explained";

struct HoneyHive {
    key: String,
}

impl HoneyHive {
    fn new(setup: &BackendSetup) -> Result<Self, String> {
        Ok(Self { key: setup.secret("HH_API_KEY").ok_or("set HH_API_KEY")?.to_owned() })
    }
}

impl Backend for HoneyHive {
    fn headers(&self) -> Vec<(HeaderName, String)> {
        vec![(header::AUTHORIZATION, format!("Bearer {}", self.key))]
    }

    fn plan(&self, changes: &[Change<'_>], which: &[usize]) -> Vec<Planned> {
        // In one call, as a comment that one leaf loses may be that of another one.
        by_target(changes, which).into_iter().flat_map(|which| plan_one(changes, which)).collect()
    }

    fn outcome(&self, changes: &[Change<'_>], call: &Call, reply: &Reply) -> Outcome {
        let target = &changes[call.changes[0]].target.target;
        let is_answer =
            serde_json::from_slice::<Json>(&reply.body).is_ok_and(|json| json.is_object());
        match (call.step, reply.status) {
            (PUT | PUT_FOUND, StatusCode::OK) if is_answer || reply.body.is_empty() => {
                Outcome::Done
            }
            (SEARCH, StatusCode::OK) => {
                let json = reply.json();
                let Some(events) = json.as_ref().and_then(|json| json["events"].as_array()) else {
                    return reply.problem();
                };
                let member =
                    if matches!(target, Target::Session(_)) { "session_id" } else { "event_id" };
                let id =
                    events.first().map(|event| event[member].as_str().filter(|id| !id.is_empty()));
                match id {
                    Some(Some(id)) => {
                        Outcome::Next(vec![put(changes, &call.changes, id, PUT_FOUND)])
                    }
                    Some(None) => reply.problem(),
                    None => gone(changes, call),
                }
            }
            // There is no event with this id any more. A span that was sent again has another one: search it.
            (PUT, StatusCode::NOT_FOUND) if is_answer => {
                match search(changes, call.changes.clone()) {
                    Some(search) => Outcome::Next(vec![search]),
                    None => gone(changes, call),
                }
            }
            (PUT_FOUND, StatusCode::NOT_FOUND) if is_answer => gone(changes, call),
            _ => reply.problem(),
        }
    }

    fn probe(&self) -> Request {
        Request::new(Method::POST, "/v1/events/search").with_json(json!({ "limit": 1 }))
    }
}

/// The first call about the event of one target.
fn plan_one(changes: &[Change<'_>], which: Vec<usize>) -> Vec<Planned> {
    let change = &changes[which[0]];
    let known = which.iter().find_map(|at| changes[*at].memo).map(id_of);
    let call = match (&change.target.target, known) {
        (Target::Session(id), _) if is_uuid(id) => Some(put(changes, &which, id, PUT_FOUND)),
        (_, Some(id)) => Some(put(changes, &which, id, PUT)),
        _ => search(changes, which.clone()),
    };
    match call {
        Some(call) => vec![call.into()],
        None => {
            let reason = "the root span of its trace has not been received";
            let outcome = |at| Planned::Outcome(at, ChangeOutcome::Missing(reason.to_owned()));
            which.into_iter().map(outcome).collect()
        }
    }
}

/// The id of an event in a memo.
fn id_of(memo: &str) -> &str {
    memo.strip_suffix(EXPLAINED).unwrap_or(memo)
}

/// The call that looks for the event of a target. `None` if its root span is not known.
fn search(changes: &[Change<'_>], which: Vec<usize>) -> Option<Call> {
    let target = &changes[which[0]].target;
    let is = |field: &str, value: String| json!({ "field": field, "operator": "is", "value": value, "type": "string" });
    let latest = target.latest_trace.map(opentelemetry::trace::TraceId::from_bytes);
    let (trace, span) = match &target.target {
        Target::Span(trace, span) => (*trace, *span),
        Target::Trace(trace) => (*trace, target.root?),
        Target::Session(_) => (latest?, target.root?),
    };
    let filters =
        [is("metadata.trace_id", trace.to_string()), is("metadata.span_id", span.to_string())];
    let request = Request::new(Method::POST, "/v1/events/search");
    let request = request.with_json(json!({ "filters": filters, "limit": 1 }));
    Some(Call { step: SEARCH, ..Call::new(request, which) })
}

/// The call that changes an event.
fn put(changes: &[Change<'_>], which: &[usize], id: &str, step: u8) -> Call {
    let mut body: Map<String, Json> = Map::new();
    let mut set = |bucket: &str, name: &str, value: Json| {
        let bucket = body.entry(bucket).or_insert_with(|| json!({}));
        bucket[name] = value;
    };
    // What is cleared first may be set by another leaf.
    for at in which {
        let change = &changes[*at];
        let (bucket, name, comment) = place(change);
        if change.wanted.is_none() {
            set(bucket, &name, Json::Null);
        }
        // The memo is that of the last attempt, which may not have arrived.
        let may_explain = change.known == Known::Unknown
            || change.memo.is_some_and(|memo| memo.ends_with(EXPLAINED));
        let owner = comment_owner(change, bucket);
        let is_here = |owner| which.iter().any(|at| changes[*at].field == owner);
        if may_explain && owner.is_none_or(is_here) {
            set(bucket, &comment, Json::Null);
        }
    }
    let mut memos = Vec::new();
    for at in which {
        let change = &changes[*at];
        let (bucket, name, comment) = place(change);
        let author = format!("{bucket}.{name}.by");
        let by = change.wanted.and_then(|item| item.by.as_ref());
        if by.is_some() || change.known != Known::Absent {
            set("metadata", &author, json!(by));
        }
        let explanation = change.wanted.and_then(|item| item.explanation.as_ref());
        memos.push(format!("{id}{}", if explanation.is_some() { EXPLAINED } else { "" }));
        if let Some(explanation) = explanation {
            set(bucket, &comment, json!(explanation));
        }
        let Some(item) = change.wanted else { continue };
        let value = match &item.value {
            Leaf::Other(text) => json!(text),
            value => datum_json(value.datum()),
        };
        set(bucket, &name, value);
    }
    let path = format!("/v1/events/{}", encoded(id));
    let request = Request::new(Method::PUT, path).with_json(body.into());
    Call { step, memos, ..Call::new(request, which.to_vec()) }
}

/// The leaf whose explanation is the comment of the event, if there is a comment.
fn comment_owner<'a>(change: &Change<'a>, bucket: &str) -> Option<&'a str> {
    let (target, namespace) = (change.target, format!("{bucket}."));
    let is_comment = |key: &str| key.strip_prefix(&namespace) == Some("comment");
    let has_comment = target.leaves.iter().any(|leaf| is_comment(&leaf.key));
    explained(target, &namespace).filter(|_| has_comment)
}

/// The member of an event that a leaf is, its name there, and that of the comment that explains it.
fn place(change: &Change<'_>) -> (&'static str, String, String) {
    // The root span has feedback of its own.
    let prefix = if matches!(change.target.target, Target::Trace(_)) { "trace." } else { "" };
    let name = names::name(KIND.name, change.field);
    let (bucket, name) = match name.strip_prefix("metrics.") {
        Some(name) if change.field.starts_with("metrics.") => ("metrics", name),
        _ => ("feedback", name.as_str()),
    };
    (bucket, format!("{prefix}{name}"), format!("{prefix}comment"))
}

/// What is not there has no feedback to delete, and will get what it lacks.
fn gone(changes: &[Change<'_>], call: &Call) -> Outcome {
    let outcome = |at: &usize| match changes[*at].wanted {
        Some(_) => ChangeOutcome::Missing("HoneyHive has no such event yet".to_owned()),
        None => ChangeOutcome::Done,
    };
    Outcome::Each(call.changes.iter().map(outcome).collect())
}

#[cfg(test)]
mod tests;
