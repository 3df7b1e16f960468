//! Carriers: zero-length spans named `feedback` that bring what can't wait for a span, or has none.
//!
//! A carrier is sampled, a child of its target and linked to it, and to nothing else: the link says
//! what it is about (OpenInference's correlation rule for annotations). Session feedback without a
//! target travels in a trace of its own, without a link.

use std::sync::LazyLock;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId};
use opentelemetry::{Array, StringValue, Value};
use sha2::{Digest, Sha256};

use super::{Ids as Generator, LayerCore, Scope};
use crate::document::{Document, Key};
use crate::export::{DropReason, NotDurable};
use crate::otlp::attributes::{Attributes, ValueRef};
use crate::outbox::Finalizers;
use crate::record::{Enrichments, Link, Parent, SpanRecord};
use crate::session::{SESSION_ID, Session};
use crate::settings::{LateTraces, Settings};
use crate::suppress;
use crate::ticket::Ticket;

/// The name of every carrier.
const NAME: &str = "feedback";

/// How many attributes say what a scoped document is about: scope, time, cleared keys.
pub(crate) const SCOPED_ATTRIBUTES: usize = 3;

/// How many attributes a carrier may have beside those of its document.
pub(crate) const MOST_RESERVED: usize = SCOPED_ATTRIBUTES + 2;

const SCOPE: &str = "tracing_feedback.scope";
const TIME: &str = "tracing_feedback.time_unix_nano";
const CLEARED: &str = "tracing_feedback.cleared";
const LATE: &str = "tracing_feedback.late";
pub(crate) const SAMPLED: &str = "tracing_feedback.sampled";
/// That the trace of an unsampled span is exported since feedback has arrived on it.
pub(crate) const KEPT: &str = "tracing_feedback.kept";

/// What says both of a span that is held, which leaves only if it is kept.
pub(super) static MARKS_OF_HELD: LazyLock<Attributes> = LazyLock::new(|| {
    let mut marks = Attributes::default();
    marks.push(SAMPLED, ValueRef::Bool(false));
    marks.push(KEPT, ValueRef::Bool(true));
    marks
});

/// What all attributes of this crate's own begin with. No field of a service may.
pub(crate) const OWN_PREFIX: &str = "tracing_feedback.";

/// A document on its way without the span it is about.
pub(crate) struct Carrier {
    pub(crate) target: Option<SpanContext>,
    pub(crate) session: Option<Session>,
    pub(crate) scope: Option<Scope>,
    pub(crate) document: Document<Value>,
    /// When the document was last enriched: the carrier's start and end.
    pub(crate) time: u64,
    /// The same submission gives the same span.
    pub(crate) id: Option<Submission>,
    /// For what of the document the outbox holds already.
    pub(crate) finalizers: Finalizers,
}

/// What became of a document that was put in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put {
    /// How many leaves found no room.
    pub(crate) left_out: usize,
    /// Whether it is written down, where that is asked for.
    pub(crate) is_durable: bool,
}

/// A submission that has a name.
pub(crate) struct Submission {
    /// The caller's name for it, of any length and content.
    pub(crate) name: String,
    /// What it was submitted with. A name is its holder's own: no one else can claim it.
    pub(crate) ticket: Option<Ticket>,
}

impl Carrier {
    /// Hands the carrier to the pipeline.
    ///
    /// # Errors
    ///
    /// That the carrier was dropped, and why.
    pub(crate) fn send(mut self, core: &LayerCore) -> Result<Put, DropReason> {
        let finalizers = std::mem::take(&mut self.finalizers);
        let target = self.target.as_ref().map(SpanContext::trace_id);
        let most = core.most_attributes();
        let (mut record, _) = self.into_record(core, &core.ids, most);
        let left_out = record.details.dropped_attributes as usize;
        let mut is_durable = true;
        record.details.finalizers = match finalizers.is_empty() {
            true => core.write_ahead(&record, true).unwrap_or_else(|_| {
                is_durable = false;
                finalizers
            }),
            false => finalizers,
        };
        core.push(&mut record)?;
        if let Some(target) = target {
            core.keep(target);
        }
        Ok(Put { left_out, is_durable })
    }

    /// Writes the carrier down, for a document that will leave with its span, and gives that back.
    /// Calls no foreign code: its ids are random.
    pub(super) fn write_ahead(
        self,
        core: &LayerCore,
    ) -> (Document<Value>, Result<Finalizers, NotDurable>) {
        // The document is kept as it is: the limit is one of its span.
        let (mut record, cleared) = self.into_record(core, &Generator::Random, usize::MAX);
        let finalizers = core.write_ahead(&record, false);
        let leaves = std::mem::take(&mut record.details.enrichments.leaves);
        (Document::from_parts(leaves, cleared), finalizers)
    }

    /// The carrier as a span with at most so many attributes, and the cleared keys of its document.
    fn into_record(
        self,
        core: &LayerCore,
        generator: &Generator,
        most: usize,
    ) -> (SpanRecord, Vec<Key>) {
        let settings = &core.settings;
        let ids = Ids::of(&self, settings, generator);
        let mut record = SpanRecord {
            trace_id: ids.trace_id,
            span_id: ids.span_id,
            parent: ids.parent,
            flags: TraceFlags::SAMPLED,
            start: self.time,
            end: self.time,
            feedback: true,
            ..SpanRecord::default()
        };
        record.details.name = Some(NAME.into());
        if let Some(target) = &self.target {
            record.details.trace_state = target.trace_state().clone();
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

/// Where in which trace a carrier stands.
struct Ids {
    trace_id: TraceId,
    span_id: SpanId,
    parent: Parent,
}

impl Ids {
    fn of(carrier: &Carrier, settings: &Settings, ids: &Generator) -> Self {
        let _quiet = suppress::scope(); // an id generator is foreign code
        let derived = carrier.id.as_ref().map(|id| derived(carrier, id));
        let span_id = derived.map_or_else(|| ids.span_id(), |(span_id, _)| span_id);
        match (&carrier.target, settings.late_traces) {
            (Some(target), LateTraces::OfTarget) => Self {
                trace_id: target.trace_id(),
                span_id,
                parent: Parent { span_id: target.span_id(), is_remote: target.is_remote() },
            },
            _ => Self {
                trace_id: derived.map_or_else(|| ids.trace_id(), |(_, trace_id)| trace_id),
                span_id,
                parent: Parent::NONE,
            },
        }
    }
}

/// The ids of a submission with a name: SHA-256 over what it is about, so that one sent twice, by
/// whichever process, is the same span. Every part is preceded by its length, so that no two
/// different submissions read the same.
fn derived(carrier: &Carrier, id: &Submission) -> (SpanId, TraceId) {
    let mut target = Vec::with_capacity(24);
    match (&carrier.target, &carrier.session) {
        (Some(span), _) => {
            target.extend(span.trace_id().to_bytes());
            target.extend(span.span_id().to_bytes());
        }
        (None, Some(session)) => target.extend(session.id().as_bytes()),
        (None, None) => {}
    }
    let subject = id.ticket.as_ref().map(Ticket::holder).unwrap_or_default();
    let digest = |version: &[u8]| {
        let mut hash = Sha256::new();
        for part in [version, &target, &subject, id.name.as_bytes()] {
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

/// The attributes that are kept before all others.
pub(super) struct Reserved<'a> {
    pub(super) session: Option<&'a Session>,
    pub(super) scope: Option<Scope>,
    pub(super) is_late: bool,
    pub(super) is_unsampled: bool,
    pub(super) is_kept: bool,
    pub(super) time: Option<u64>,
    pub(super) cleared: &'a [Key],
    /// What the convention puts before every key of an enrichment.
    pub(super) prefix: &'static str,
}

impl Reserved<'_> {
    /// Puts the reserved attributes and then the enrichments' leaves into `record`, before what is
    /// there already. Of more than `most` the last are dropped.
    pub(super) fn put_first(
        self,
        mut leaves: Vec<(Key, Value)>,
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
