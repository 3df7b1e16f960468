//! The records: a finished span, or an event, on its way from capture to a sink.
//!
//! These are the types that cross from the tracing side to the export side. They depend neither
//! on `tracing` nor on how requests are made. Their attributes are stored [as they are
//! sent](crate::otlp::attributes).

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};

use crate::cold_box::{ColdBox, ColdDefault};
use crate::feedback::document::AttributeKey;
use crate::otlp::attributes::{self, Attributes, ValueRef};
use crate::outbox::Finalizers;

/// A finished span.
#[derive(Debug)]
pub(crate) struct SpanRecord {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent: Parent,
    pub(crate) flags: TraceFlags,
    pub(crate) kind: SpanKind,
    /// Nanoseconds since the Unix epoch.
    pub(crate) start: u64,
    /// Nanoseconds since the Unix epoch, never before `start`.
    pub(crate) end: u64,
    /// Name and attributes that the spans of its call site share.
    pub(crate) callsite: Option<&'static Common>,
    /// The attributes that the spans of the thread that made it share.
    pub(crate) thread: Option<Arc<SharedAttributes>>,
    pub(crate) timings: Option<Timings>,
    /// The span's own attributes. None has the key of a shared one.
    pub(crate) attributes: Attributes,
    /// Whether the span carries feedback: such spans are the last to be dropped.
    pub(crate) feedback: bool,
    pub(crate) details: ColdBox<Details>,
}

/// Fields that most spans leave at their defaults.
#[derive(Debug, Default)]
pub(crate) struct Details {
    pub(crate) trace_state: TraceState,
    /// The span's name, if it isn't that of its call site.
    pub(crate) name: Option<Cow<'static, str>>,
    /// The leaves of the feedback document, beside the other attributes.
    pub(crate) enrichments: Enrichments,
    pub(crate) dropped_attributes: u32,
    pub(crate) events: Vec<Event>,
    pub(crate) dropped_events: u32,
    pub(crate) links: Vec<Link>,
    pub(crate) dropped_links: u32,
    pub(crate) status: Status,
    /// The instrumentation scope, if it isn't that of the pipeline.
    pub(crate) scope: Option<Arc<InstrumentationScope>>,
    /// The finalizers of feedback that the outbox has already stored.
    pub(crate) finalizers: Finalizers,
}

impl ColdDefault for Details {
    #[inline]
    fn blank() -> &'static Self {
        static BLANK: Details = Details {
            trace_state: TraceState::NONE,
            name: None,
            enrichments: Enrichments { prefix: "", leaves: Vec::new() },
            dropped_attributes: 0,
            events: Vec::new(),
            dropped_events: 0,
            links: Vec::new(),
            dropped_links: 0,
            status: Status::Unset,
            scope: None,
            finalizers: Finalizers::NONE,
        };
        &BLANK
    }
}

/// Attributes that many spans share, with a cache of their form in the SDK: most of a span's attributes are
/// shared ones, and making them anew costs more than all the rest of a span for an SDK exporter.
#[derive(Debug, Default)]
pub(crate) struct SharedAttributes {
    attributes: Attributes,
    key_values: OnceLock<Vec<KeyValue>>,
}

impl From<Attributes> for SharedAttributes {
    fn from(attributes: Attributes) -> Self {
        Self { attributes, key_values: OnceLock::new() }
    }
}

impl Deref for SharedAttributes {
    type Target = Attributes;

    #[inline]
    fn deref(&self) -> &Attributes {
        &self.attributes
    }
}

impl SharedAttributes {
    /// The attributes as the SDK has them. Their copies share keys and texts.
    fn key_values(&self) -> &[KeyValue] {
        self.key_values.get_or_init(|| {
            let shared = |(key, value): (&str, Value)| {
                let value = match value {
                    Value::String(text) => Value::from(Arc::<str>::from(text.as_str())),
                    other => other,
                };
                KeyValue::new(Arc::<str>::from(key), value)
            };
            self.attributes.iter().map(shared).collect()
        })
    }
}

/// Name and attributes that all spans of a call site share, with a cache of their encoded form.
#[derive(Debug, Default)]
pub(crate) struct Common {
    name: &'static str,
    attributes: SharedAttributes,
    /// The most bytes that the encoded form can have.
    size: usize,
    encoded: OnceLock<Vec<u8>>,
}

impl Common {
    pub(crate) fn new(name: &'static str, attributes: Attributes) -> Self {
        const MOST_LENGTH: usize = 12; // of the name, with its tag
        let size = MOST_LENGTH + name.len() + attributes.as_bytes().len();
        Self { name, attributes: attributes.into(), size, encoded: OnceLock::new() }
    }

    /// The most bytes that the encoded form can have.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The encoded form, made by `encode` the first time.
    pub(crate) fn encoded(&self, encode: impl FnOnce(&Self) -> Vec<u8>) -> &[u8] {
        self.encoded.get_or_init(|| encode(self))
    }

    /// Whether `key` may be the key of a shared attribute: code location, thread, target or level.
    pub(crate) fn may_have(key: &str) -> bool {
        ["code.", "thread."].iter().any(|prefix| key.starts_with(prefix))
            || key == "target"
            || key == "level"
    }
}

/// How long a span was entered, and how long not, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timings {
    pub(crate) busy: u64,
    pub(crate) idle: u64,
}

impl Timings {
    pub(crate) const BUSY: &str = "busy_ns";
    pub(crate) const IDLE: &str = "idle_ns";

    /// How many bytes both attributes take in a span, at the most.
    pub(crate) const MOST_BYTES: usize = 64;

    fn attributes(self) -> [(&'static str, Value); 2] {
        [(Self::BUSY, self.busy), (Self::IDLE, self.idle)]
            .map(|(key, nanos)| (key, Value::I64(i64::try_from(nanos).unwrap_or(i64::MAX))))
    }

    /// Appends both attributes to a span.
    pub(crate) fn append(self, out: &mut Vec<u8>) {
        for (key, value) in self.attributes() {
            attributes::append(out, attributes::FIELD, "", key, ValueRef::from(&value));
        }
    }
}

/// The span id of the parent, [`SpanId::INVALID`] for a root, and whether it is in another process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent {
    pub(crate) span_id: SpanId,
    pub(crate) is_remote: bool,
}

impl Parent {
    pub(crate) const NONE: Self = Self { span_id: SpanId::INVALID, is_remote: false };
}

/// The leaves of a document, and the prefix that the attribute convention puts before each key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enrichments {
    pub(crate) prefix: &'static str,
    pub(crate) leaves: Vec<(AttributeKey, Value)>,
}

/// An event of a span.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: Cow<'static, str>,
    /// Nanoseconds since the Unix epoch.
    pub(crate) time: u64,
    pub(crate) attributes: Attributes,
    pub(crate) dropped_attributes: u32,
}

/// A link to another span.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) context: SpanContext,
    pub(crate) attributes: Attributes,
    pub(crate) dropped_attributes: u32,
}

/// A log record, which is an event: it has a name, and attributes in place of a body.
#[derive(Debug)]
pub(crate) struct LogRecord {
    pub(crate) event_name: &'static str,
    /// Nanoseconds since the Unix epoch.
    pub(crate) time: u64,
    /// When the event was recorded here, in nanoseconds since the Unix epoch.
    pub(crate) observed_time: u64,
    /// [`TraceId::INVALID`] if it is about no trace.
    pub(crate) trace_id: TraceId,
    /// [`SpanId::INVALID`] if it is about no span.
    pub(crate) span_id: SpanId,
    pub(crate) flags: TraceFlags,
    pub(crate) attributes: Attributes,
}

impl LogRecord {
    /// The most bytes that it takes encoded.
    pub(crate) fn size(&self) -> usize {
        96 + self.event_name.len() + self.attributes.as_bytes().len()
    }
}

impl Default for SpanRecord {
    fn default() -> Self {
        Self {
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            parent: Parent::NONE,
            flags: TraceFlags::default(),
            kind: SpanKind::Internal,
            start: 0,
            end: 0,
            callsite: None,
            thread: None,
            timings: None,
            attributes: Attributes::default(),
            feedback: false,
            details: ColdBox::default(),
        }
    }
}

impl SpanRecord {
    /// Clears the fields that not every span sets, and keeps the allocated memory for another span
    /// of the same thread. Ids, parent, flags, times, call site and thread are left as they are.
    #[inline(always)] // once a span
    pub(crate) fn clear(&mut self) {
        // Large spans are rare: their memory is freed.
        if self.attributes.capacity() > 4096 {
            return self.reset();
        }
        self.kind = SpanKind::Internal;
        (self.timings, self.feedback) = (None, false);
        self.attributes.clear();
        self.details.clear();
    }

    #[cold]
    fn reset(&mut self) {
        *self = Self::default();
    }

    /// A copy, which the outbox doesn't wait for.
    pub(crate) fn without_finalizers(&self) -> Self {
        let details = match self.details.is_blank() {
            true => ColdBox::default(),
            false => ColdBox::from(Details {
                trace_state: self.details.trace_state.clone(),
                name: self.details.name.clone(),
                enrichments: self.details.enrichments.clone(),
                dropped_attributes: self.details.dropped_attributes,
                events: self.details.events.clone(),
                dropped_events: self.details.dropped_events,
                links: self.details.links.clone(),
                dropped_links: self.details.dropped_links,
                status: self.details.status.clone(),
                scope: self.details.scope.clone(),
                finalizers: Finalizers::default(),
            }),
        };
        Self {
            kind: self.kind.clone(),
            thread: self.thread.clone(),
            attributes: self.attributes.clone(),
            details,
            ..*self
        }
    }

    pub(crate) fn name(&self) -> &str {
        match (&self.details.name, self.callsite) {
            (Some(name), _) => name,
            (None, Some(callsite)) => callsite.name,
            (None, None) => "",
        }
    }

    /// The most attributes of a span that aren't its own: five of its call site, two of its thread,
    /// two timings.
    pub(crate) const MOST_COMMON: usize = 9;

    /// How many attributes the span has that aren't its own.
    #[inline]
    pub(crate) fn common_len(&self) -> usize {
        let thread = self.thread.as_ref().map_or(0, |thread| thread.len());
        let timings = self.timings.map_or(0, |_| 2);
        let callsite = self.callsite.map_or(0, |callsite| callsite.attributes.len());
        let common = callsite + thread + timings;
        debug_assert!(common <= Self::MOST_COMMON, "{self:?}");
        common
    }

    /// All attributes but the enrichments, the shared ones first, with room for `more`.
    pub(crate) fn key_values(&self, more: usize) -> Vec<KeyValue> {
        let mut all = Vec::with_capacity(self.common_len() + self.attributes.len() + more);
        if let Some(callsite) = self.callsite {
            all.extend_from_slice(callsite.attributes.key_values());
        }
        if let Some(thread) = &self.thread {
            all.extend_from_slice(thread.key_values());
        }
        let timings = self.timings.into_iter().flat_map(Timings::attributes);
        all.extend(timings.map(|(key, value)| KeyValue::new(key, value)));
        all.extend(self.attributes.key_values());
        all
    }

    /// Makes the shared attributes the span's own, so that they can be changed or dropped.
    pub(crate) fn own_common(&mut self) {
        let mut attributes = Attributes::default();
        if let Some(callsite) = self.callsite.take() {
            self.details.name.get_or_insert(Cow::Borrowed(callsite.name));
            attributes.extend(&callsite.attributes);
        }
        if let Some(thread) = self.thread.take() {
            attributes.extend(&thread);
        }
        if let Some(timings) = self.timings.take() {
            for (key, value) in timings.attributes() {
                attributes.push(key, ValueRef::from(&value));
            }
        }
        if attributes.len() > 0 {
            attributes.merge_within(&self.attributes, usize::MAX);
            self.attributes = attributes;
        }
    }

    /// Sets an attribute unless that would make more than `most` of them.
    pub(crate) fn set_attribute(&mut self, key: &str, value: ValueRef<'_>, most: usize) {
        if Common::may_have(key) {
            self.own_common();
        }
        let most = most.saturating_sub(self.common_len());
        let is_kept = self.attributes.set_within(key, value, most);
        self.count_dropped(u32::from(!is_kept));
    }

    /// Adds to the number of dropped attributes.
    pub(crate) fn count_dropped(&mut self, attributes: u32) {
        if attributes > 0 {
            let dropped = &mut self.details.dropped_attributes;
            *dropped = dropped.saturating_add(attributes);
        }
    }

    /// Sets the status by the rules of the specification: `Ok` is final, and a new error replaces
    /// an old one, unless only the old one has a description.
    pub(crate) fn set_status(&mut self, status: Status) {
        let keeps = match (&self.details.status, &status) {
            (Status::Ok, _) | (_, Status::Unset) => true,
            (Status::Error { description: old }, Status::Error { description: new }) => {
                new.is_empty() && !old.is_empty()
            }
            _ => false,
        };
        if !keeps {
            self.details.status = status;
        }
    }

    pub(crate) fn add_event(&mut self, event: Event, most: u32) {
        if self.details.events.len() < most as usize {
            self.details.events.push(event);
        } else {
            self.details.dropped_events = self.details.dropped_events.saturating_add(1);
        }
    }

    pub(crate) fn add_link(&mut self, link: Link, most: u32) {
        if self.details.links.len() < most as usize {
            self.details.links.push(link);
        } else {
            self.details.dropped_links = self.details.dropped_links.saturating_add(1);
        }
    }

    /// An estimate of the record's size in bytes, in memory and on the wire.
    pub(crate) fn size(&self) -> usize {
        let size = |attributes: &Attributes| attributes.as_bytes().len();
        let enrichments: usize = self
            .details
            .enrichments
            .leaves
            .iter()
            .map(|(key, value)| 32 + key.len() + value_size(value))
            .sum();
        let events: usize = self
            .details
            .events
            .iter()
            .map(|event| 64 + event.name.len() + size(&event.attributes))
            .sum();
        let links: usize = self.details.links.iter().map(|link| 96 + size(&link.attributes)).sum();
        let common = self.callsite.map_or(0, |callsite| size(&callsite.attributes));
        let status = match &self.details.status {
            Status::Error { description } => description.len(),
            Status::Ok | Status::Unset => 0,
        };
        384 + status
            + self.name().len()
            + common
            + size(&self.attributes)
            + enrichments
            + events
            + links
    }
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.as_str().len(),
        Value::Array(Array::String(texts)) => {
            texts.iter().map(|text| 8 + text.as_str().len()).sum()
        }
        Value::Array(Array::Bool(values)) => values.len() * 2,
        Value::Array(Array::I64(values)) => values.len() * 8,
        Value::Array(Array::F64(values)) => values.len() * 8,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cleared_record_keeps_only_what_the_next_span_sets() {
        let common: &Common = Box::leak(Box::new(Common::new("call site", Attributes::default())));
        let mut attributes = Attributes::default();
        attributes.set("user", ValueRef::Str("u-17"));
        let context = SpanContext::NONE;
        let mut record = SpanRecord {
            trace_id: TraceId::from(1),
            span_id: SpanId::from(2),
            parent: Parent { span_id: SpanId::from(3), is_remote: true },
            flags: TraceFlags::SAMPLED,
            kind: SpanKind::Server,
            start: 4,
            end: 5,
            callsite: Some(common),
            thread: None,
            timings: Some(Timings { busy: 12, idle: 13 }),
            attributes: attributes.clone(),
            feedback: true,
            details: ColdBox::from(Details {
                trace_state: TraceState::from_key_value([("a", "b")]).unwrap(),
                name: Some("renamed".into()),
                enrichments: Enrichments {
                    prefix: "honeyhive_",
                    leaves: vec![("feedback.rating".into(), Value::from(1))],
                },
                dropped_attributes: 6,
                events: vec![Event {
                    name: "event".into(),
                    time: 7,
                    attributes: attributes.clone(),
                    dropped_attributes: 8,
                }],
                dropped_events: 9,
                links: vec![Link { context, attributes, dropped_attributes: 10 }],
                dropped_links: 11,
                status: Status::Ok,
                scope: Some(Arc::new(InstrumentationScope::builder("scope").build())),
                finalizers: Finalizers::default(),
            }),
        };
        record.clear();
        let SpanRecord { trace_id, span_id, parent, flags, start, end, callsite, .. } = record;
        let set_anew = SpanRecord {
            trace_id,
            span_id,
            parent,
            flags,
            start,
            end,
            callsite,
            ..SpanRecord::default()
        };
        assert_eq!(format!("{record:?}"), format!("{set_anew:?}"));
    }
}
