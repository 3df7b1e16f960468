//! Carriers: spans named `feedback` that bring a document without the span it is about.
//!
//! A carrier is sampled, in a trace of its own unless the settings make it a child of its target,
//! and has one link, to the target: the link says what it is about (OpenInference's correlation
//! rule for annotations). Session feedback without a target has no link.

use std::sync::LazyLock;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};
use opentelemetry::{Array, StringValue, Value};
use opentelemetry_sdk::trace::IdGenerator;
use sha2::{Digest, Sha256};

use super::document::{AttributeKey, Document};
use crate::otlp::attributes::{Attributes, ValueRef};
use crate::outbox::Finalizers;
use crate::record::{Enrichments, Link, Parent, SpanRecord};
use crate::session::{SESSION_ID, Session};
use crate::settings::{LateTraces, Settings};
use crate::suppress;

/// The name of every carrier.
const NAME: &str = "feedback";

/// Nanoseconds from a carrier's start to its end. Jaeger warns of spans that take none.
const DURATION: u64 = 1;

pub(super) const SCOPE: &str = "tracing_feedback.scope";
pub(super) const TIME: &str = "tracing_feedback.time_unix_nano";
const CLEARED: &str = "tracing_feedback.cleared";
const LATE: &str = "tracing_feedback.late";
pub(crate) const SAMPLED: &str = "tracing_feedback.sampled";
/// Marks an unsampled span that is exported since feedback has arrived on its trace.
pub(crate) const KEPT: &str = "tracing_feedback.kept";

/// Both marks, for a span that is held: it is exported only if its trace is kept.
pub(crate) static HELD_MARKS: LazyLock<Attributes> = LazyLock::new(|| {
    let mut marks = Attributes::default();
    marks.push(SAMPLED, ValueRef::Bool(false));
    marks.push(KEPT, ValueRef::Bool(true));
    marks
});

/// The prefix of this crate's own attributes. It is reserved: fields of a service can't have it.
pub(crate) const OWN_PREFIX: &str = "tracing_feedback.";

/// A document that is sent without the span it is about.
pub(crate) struct Carrier {
    pub(crate) target: Option<SpanContext>,
    pub(crate) session: Option<Session>,
    pub(crate) scope: Option<DocumentScope>,
    pub(crate) document: Document<Value>,
    /// When the document was last enriched: the carrier's start.
    pub(crate) time: u64,
    /// The name of the submission, if it has one. The ids are derived from it, so that the same
    /// submission gives the same span.
    pub(crate) id: Option<SubmissionName>,
    /// The finalizers of the parts that the outbox holds already.
    pub(crate) finalizers: Finalizers,
}

/// The name of one submission, and the namespace in which it is unique.
pub(crate) struct SubmissionName {
    /// The caller's name for it, of any length and content.
    pub(crate) name: String,
    /// The holder of the ticket it was submitted with, empty without a ticket. Names are the
    /// holder's own: another holder's submission of the same name is another carrier.
    pub(crate) holder: Vec<u8>,
}

/// What a document is about, if not the span that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentScope {
    Session,
    Trace,
}

impl DocumentScope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Trace => "trace",
        }
    }
}

impl Carrier {
    /// The name of the submission among all about its target, if it has one. That of a ticket's holder is the
    /// span id in hexadecimal: names are the holder's own.
    pub(super) fn submission_id(&self) -> Option<String> {
        let id = self.id.as_ref()?;
        Some(match id.holder.is_empty() {
            true => id.name.clone(),
            false => derived(self, id).0.to_string(),
        })
    }

    /// The carrier as a span with at most so many attributes, and the cleared keys of its document.
    /// The ids come from the carrier's name, where it has one, and from `generator` otherwise.
    pub(crate) fn into_record(
        self,
        settings: &Settings,
        generator: &dyn IdGenerator,
        most: usize,
    ) -> (SpanRecord, Vec<AttributeKey>) {
        let ids = CarrierIds::of(&self, settings, generator);
        let mut record = SpanRecord {
            trace_id: ids.trace_id,
            span_id: ids.span_id,
            parent: ids.parent,
            flags: TraceFlags::SAMPLED,
            start: self.time,
            end: self.time.saturating_add(DURATION),
            feedback: true,
            ..SpanRecord::default()
        };
        record.details.name = Some(NAME.into());
        if let Some(target) = &self.target {
            // Trace state belongs to a trace: it may hold a sampling threshold.
            if record.trace_id == target.trace_id() {
                record.details.trace_state = target.trace_state().clone();
            }
            let (attributes, dropped_attributes) = (Attributes::default(), 0);
            record.details.links.push(Link {
                context: target.clone(),
                attributes,
                dropped_attributes,
            });
        }
        let (leaves, cleared) = self.document.into_parts();
        let reserved = Reserved {
            session: self.session.as_ref(),
            scope: self.scope,
            is_late: true,
            is_unsampled: false,
            is_kept: false,
            time: Some(self.time),
            cleared: &cleared,
            prefix: settings.convention.prefix(),
        };
        reserved.put_first(leaves, &mut record, most);
        (record, cleared)
    }
}

/// The ids of a carrier, and its parent.
struct CarrierIds {
    trace_id: TraceId,
    span_id: SpanId,
    parent: Parent,
}

impl CarrierIds {
    fn of(carrier: &Carrier, settings: &Settings, ids: &dyn IdGenerator) -> Self {
        let _suppressed = suppress::scope(); // an id generator is foreign code
        let derived = carrier.id.as_ref().map(|id| derived(carrier, id));
        let span_id = derived.map_or_else(|| ids.new_span_id(), |(span_id, _)| span_id);
        match (&carrier.target, settings.late_traces) {
            (Some(target), LateTraces::Target) => Self {
                trace_id: target.trace_id(),
                span_id,
                parent: Parent { span_id: target.span_id(), is_remote: target.is_remote() },
            },
            _ => Self {
                trace_id: derived.map_or_else(|| ids.new_trace_id(), |(_, trace_id)| trace_id),
                span_id,
                parent: Parent::NONE,
            },
        }
    }
}

/// The ids of a submission with a name: SHA-256 over what it is about, so that one sent twice, by
/// whichever process, is the same span. Every part is preceded by its length, so that no two
/// different submissions read the same.
fn derived(carrier: &Carrier, id: &SubmissionName) -> (SpanId, TraceId) {
    let mut target = Vec::with_capacity(24);
    match (&carrier.target, &carrier.session) {
        (Some(span), _) => {
            target.extend(span.trace_id().to_bytes());
            target.extend(span.span_id().to_bytes());
        }
        (None, Some(session)) => target.extend(session.id().as_bytes()),
        (None, None) => {}
    }
    let digest = |version: &[u8]| {
        let mut hash = Sha256::new();
        for part in [version, &target, &id.holder, id.name.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize()
    };
    let (span, trace) = (digest(b"tracing-feedback span 1"), digest(b"tracing-feedback trace 1"));
    let (mut span_id, mut trace_id) = ([0; 8], [0; 16]);
    span_id.copy_from_slice(&span[..8]);
    trace_id.copy_from_slice(&trace[..16]);
    // Never zero, which would be no id at all.
    let span_id = u64::from_be_bytes(span_id).max(1);
    let trace_id = u128::from_be_bytes(trace_id).max(1);
    (SpanId::from(span_id), TraceId::from(trace_id))
}

/// Reserved attributes, which a limit leaves out last.
pub(crate) struct Reserved<'a> {
    pub(crate) session: Option<&'a Session>,
    pub(crate) scope: Option<DocumentScope>,
    pub(crate) is_late: bool,
    pub(crate) is_unsampled: bool,
    pub(crate) is_kept: bool,
    pub(crate) time: Option<u64>,
    pub(crate) cleared: &'a [AttributeKey],
    /// The convention's prefix for every key of an enrichment.
    pub(crate) prefix: &'static str,
}

impl Reserved<'_> {
    /// Puts the reserved attributes and then the enrichments' leaves into `record`, before the
    /// attributes that are there already. Of more than `most` attributes the last are dropped.
    pub(crate) fn put_first(
        self,
        mut leaves: Vec<(AttributeKey, Value)>,
        record: &mut SpanRecord,
        most: usize,
    ) {
        let cleared = (!self.cleared.is_empty()).then(|| {
            let keys = self.cleared.iter();
            let keys = keys.map(|key| StringValue::from(format!("{}{key}", self.prefix)));
            Array::String(keys.collect())
        });
        let values = [
            self.session.map(|session| (SESSION_ID, ValueRef::Str(session.id()))),
            self.scope.map(|scope| (SCOPE, ValueRef::Str(scope.as_str()))),
            self.is_late.then_some((LATE, ValueRef::Bool(true))),
            self.is_unsampled.then_some((SAMPLED, ValueRef::Bool(false))),
            self.is_kept.then_some((KEPT, ValueRef::Bool(true))),
            self.time.map(|time| (TIME, ValueRef::I64(i64::try_from(time).unwrap_or(i64::MAX)))),
            cleared.as_ref().map(|cleared| (CLEARED, ValueRef::Array(cleared))),
        ];
        let room = most.saturating_sub(values.iter().flatten().count());
        let mut dropped = leaves.len().saturating_sub(room);
        leaves.truncate(room);
        let room = room - leaves.len();
        if !leaves.is_empty() {
            record.details.enrichments = Enrichments { prefix: self.prefix, leaves };
        }
        if record.common_len() + record.attributes.len() > room {
            record.own_common();
            dropped += record.attributes.truncate(room);
        }
        let is_blank = record.attributes.len() == 0;
        if is_blank {
            record.attributes = Attributes::with_capacity(values.len());
        }
        for (key, value) in values.into_iter().flatten() {
            match is_blank {
                true => record.attributes.push(key, value),
                false => record.attributes.set(key, value),
            }
        }
        record.count_dropped(u32::try_from(dropped).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrier(target: Option<SpanContext>, session: Option<&str>, holder: &[u8]) -> Carrier {
        Carrier {
            target,
            session: session.map(|id| Session::with_id(id).unwrap()),
            scope: None,
            document: Document::default(),
            time: 1,
            id: Some(SubmissionName { name: "vote-1".to_owned(), holder: holder.to_vec() }),
            finalizers: Finalizers::default(),
        }
    }

    fn ids(carrier: &Carrier) -> (String, String) {
        let (span_id, trace_id) = derived(carrier, carrier.id.as_ref().unwrap());
        (span_id.to_string(), trace_id.to_string())
    }

    /// A submission is one span for every process and every version: a change here would count
    /// votes twice that are repeated across an update. The values were computed with Python's
    /// `hashlib`.
    #[test]
    fn the_ids_of_a_submission_never_change() {
        let trace_id = TraceId::from(0x0af7651916cd43dd8448eb211c80319c_u128);
        let span_id = SpanId::from(0xb7ad6b7169203331_u64);
        let target =
            SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, true, Default::default());
        let of = |ids: (&str, &str)| (ids.0.to_owned(), ids.1.to_owned());
        assert_eq!(
            ids(&carrier(Some(target.clone()), None, b"")),
            of(("a90e8890323b7a66", "db84b5aab09e6fec83c9c455bfbb1f5f"))
        );
        assert_eq!(
            ids(&carrier(Some(target), None, b"subject user-17")),
            of(("2ca097c25c8331da", "8c37c34f17ce42c9d367b7284126c4e7"))
        );
        assert_eq!(
            ids(&carrier(None, Some("conversation-42"), b"")),
            of(("a80c69bf21f29f80", "f80fb10cf66e9278a42dc38009777f06"))
        );
    }
}
