//! The record: a finished span on its way from capture to a sink.
//!
//! This is the one type that crosses from the tracing side to the export side. It knows neither
//! `tracing` nor OTLP. Attributes live in a flat table with one text arena beside it
//! ([`Attributes`]), so that a span costs a constant number of allocations however many fields it
//! has, and a sink can walk them without building a tree.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, StringValue, Value};
use std::sync::{Arc, OnceLock};

use crate::document::Key;

/// A finished span.
#[derive(Debug)]
pub(crate) struct SpanRecord {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent: Parent,
    pub(crate) flags: TraceFlags,
    pub(crate) trace_state: TraceState,
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: SpanKind,
    /// Nanoseconds since the Unix epoch.
    pub(crate) start: u64,
    /// Nanoseconds since the Unix epoch, never before `start`.
    pub(crate) end: u64,
    /// What the span has in common with others of its call site.
    pub(crate) callsite: Option<&'static Common>,
    /// What it has in common with others of the thread that made it.
    pub(crate) thread: Option<Arc<Common>>,
    /// The attributes of its own. None has the key of a common one.
    pub(crate) attributes: Attributes,
    /// The leaves of the feedback document, beside the other attributes.
    pub(crate) enrichments: Enrichments,
    pub(crate) dropped_attributes: u32,
    pub(crate) events: Vec<Event>,
    pub(crate) dropped_events: u32,
    pub(crate) links: Vec<Link>,
    pub(crate) dropped_links: u32,
    pub(crate) status: Status,
    pub(crate) scope: Arc<InstrumentationScope>,
    /// Whether the span carries feedback: such records are the last to be dropped.
    pub(crate) feedback: bool,
}

/// Attributes that many spans have in common, with room for their encoded form.
#[derive(Debug, Default)]
pub(crate) struct Common {
    attributes: Attributes,
    encoded: OnceLock<Vec<u8>>,
}

impl Common {
    pub(crate) fn new(attributes: Attributes) -> Self {
        Self { attributes, encoded: OnceLock::new() }
    }

    /// The encoded form, made by `encode` the first time.
    pub(crate) fn encoded(&self, encode: impl FnOnce(&Attributes) -> Vec<u8>) -> &[u8] {
        self.encoded.get_or_init(|| encode(&self.attributes))
    }

    /// Whether an attribute named `key` may be a common one: where it was made, its target and level.
    pub(crate) fn may_have(key: &str) -> bool {
        match key.as_bytes() {
            [b'c', b'o', b'd', b'e', b'.', ..] | [b't', b'h', b'r', b'e', b'a', b'd', b'.', ..] => {
                true
            }
            key => key == b"target" || key == b"level",
        }
    }
}

/// Records that are exported together. Boxed, so that a record is never copied between the thread
/// that makes it and the one that exports it.
#[allow(clippy::vec_box)]
pub(crate) type Batch = Vec<Box<SpanRecord>>;

/// The span id of the parent, [`SpanId::INVALID`] for a root, and where the parent lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent {
    pub(crate) span_id: SpanId,
    pub(crate) is_remote: bool,
}

impl Parent {
    pub(crate) const NONE: Self = Self { span_id: SpanId::INVALID, is_remote: false };
}

/// The leaves of a document together with what the convention puts before each key.
#[derive(Debug, Default)]
pub(crate) struct Enrichments {
    pub(crate) prefix: &'static str,
    pub(crate) leaves: Vec<(Key, Value)>,
}

/// Something that happened during a span.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: Cow<'static, str>,
    /// Nanoseconds since the Unix epoch.
    pub(crate) time: u64,
    pub(crate) attributes: Attributes,
    pub(crate) dropped_attributes: u32,
}

/// Another span this one is related to.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) context: SpanContext,
    pub(crate) attributes: Attributes,
    pub(crate) dropped_attributes: u32,
}

impl SpanRecord {
    /// A record of a span that starts now.
    pub(crate) fn begin(
        name: impl Into<Cow<'static, str>>,
        start: u64,
        scope: Arc<InstrumentationScope>,
    ) -> Box<Self> {
        let (name, status) = (name.into(), Status::Unset);
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        if let Some(mut record) = spare {
            record.restart(name, start, scope);
            return record;
        }
        Box::new(Self {
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            parent: Parent::NONE,
            flags: TraceFlags::default(),
            trace_state: TraceState::default(),
            name,
            kind: SpanKind::Internal,
            start,
            end: start,
            callsite: None,
            thread: None,
            attributes: Attributes::with_capacity(16),
            enrichments: Enrichments::default(),
            dropped_attributes: 0,
            events: Vec::new(),
            dropped_events: 0,
            links: Vec::new(),
            dropped_links: 0,
            status,
            scope,
            feedback: false,
        })
    }

    /// Makes a blank record that of a span that starts now.
    pub(crate) fn restart(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        start: u64,
        scope: Arc<InstrumentationScope>,
    ) {
        (self.name, self.start, self.end, self.scope) = (name.into(), start, start, scope);
    }

    /// Keeps the record's memory for the next span of this thread.
    pub(crate) fn recycle(mut self: Box<Self>) {
        // A large span is an exception: its memory is better given back.
        if self.attributes.entries.capacity() > 64 || self.attributes.arena.capacity() > 4096 {
            return;
        }
        self.name = Cow::Borrowed("");
        self.attributes.clear();
        (self.callsite, self.thread) = (None, None);
        self.parent = Parent::NONE;
        self.trace_state = TraceState::default();
        self.kind = SpanKind::Internal;
        self.enrichments = Enrichments::default();
        (self.dropped_attributes, self.dropped_events, self.dropped_links) = (0, 0, 0);
        self.events.clear();
        self.links.clear();
        self.status = Status::Unset;
        self.feedback = false;
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_SPARE {
                spare.push(self);
            }
        });
    }

    fn common(&self) -> impl Iterator<Item = &Common> {
        self.callsite.into_iter().chain(self.thread.as_deref())
    }

    /// How many attributes the span has in common with others.
    pub(crate) fn common_len(&self) -> usize {
        self.common().map(|common| common.attributes.len()).sum()
    }

    /// All attributes but the enrichments, the common ones first.
    pub(crate) fn all_attributes(&self) -> impl Iterator<Item = (KeyRef<'_>, ValueRef<'_>)> {
        let common = self.common().flat_map(|common| common.attributes.iter_keys());
        common.chain(self.attributes.iter_keys())
    }

    /// Makes the common attributes the span's own, so that they can be changed or dropped.
    pub(crate) fn own_common(&mut self) {
        if self.callsite.is_some() || self.thread.is_some() {
            let mut attributes =
                Attributes::with_capacity(self.common_len() + self.attributes.len());
            for (key, value) in self.all_attributes() {
                attributes.set(key, value);
            }
            (self.callsite, self.thread, self.attributes) = (None, None, attributes);
        }
    }

    /// Sets an attribute unless that would make more than `most` of them.
    pub(crate) fn set_attribute(&mut self, key: KeyRef<'_>, value: ValueRef<'_>, most: usize) {
        if Common::may_have(key.as_str()) {
            self.own_common();
        }
        let most = most.saturating_sub(self.common_len());
        if !self.attributes.set_within(key, value, most) {
            self.dropped_attributes = self.dropped_attributes.saturating_add(1);
        }
    }

    /// Sets the status by the rules of the specification: `Ok` is final, and a new error replaces an
    /// old one, but one without a description never erases one.
    pub(crate) fn set_status(&mut self, status: Status) {
        let keeps = match (&self.status, &status) {
            (Status::Ok, _) | (_, Status::Unset) => true,
            (Status::Error { description: old }, Status::Error { description: new }) => {
                new.is_empty() && !old.is_empty()
            }
            _ => false,
        };
        if !keeps {
            self.status = status;
        }
    }

    pub(crate) fn add_event(&mut self, event: Event, most: u32) {
        if self.events.len() < most as usize {
            self.events.push(event);
        } else {
            self.dropped_events = self.dropped_events.saturating_add(1);
        }
    }

    pub(crate) fn add_link(&mut self, link: Link, most: u32) {
        if self.links.len() < most as usize {
            self.links.push(link);
        } else {
            self.dropped_links = self.dropped_links.saturating_add(1);
        }
    }

    /// About how many bytes the record takes in memory and, give or take, on the wire.
    pub(crate) fn size(&self) -> usize {
        let enrichments: usize = self
            .enrichments
            .leaves
            .iter()
            .map(|(key, value)| 32 + key.len() + value_size(value))
            .sum();
        let events: usize =
            self.events.iter().map(|event| 48 + event.name.len() + event.attributes.size()).sum();
        let links: usize = self.links.iter().map(|link| 96 + link.attributes.size()).sum();
        let common: usize = self.common().map(|common| common.attributes.size()).sum();
        256 + self.name.len() + common + self.attributes.size() + enrichments + events + links
    }
}

/// How many records a thread keeps for its next spans.
const MOST_SPARE: usize = 64;

thread_local! {
    #[allow(clippy::vec_box)] // what is kept is the memory of the box
    static SPARE: RefCell<Vec<Box<SpanRecord>>> = const { RefCell::new(Vec::new()) };
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

/// Attributes in the order they were set, each key once.
///
/// Keys and texts that aren't `'static` are kept in one arena. Replacing a value leaves its old
/// text behind; the arena is compacted before that waste outgrows what is in use, so a field that
/// is recorded again and again takes constant space.
#[derive(Clone, Default)]
pub(crate) struct Attributes {
    entries: Vec<Entry>,
    arena: String,
    /// Bytes of the arena that no entry refers to any more.
    garbage: usize,
}

#[derive(Clone)]
struct Entry {
    key: Text,
    value: Stored,
}

#[derive(Clone, Copy)]
enum Text {
    Static(&'static str),
    Arena { start: u32, length: u32 },
}

#[derive(Clone)]
enum Stored {
    Bool(bool),
    I64(i64),
    F64(f64),
    Text(Text),
    Array(Box<Array>),
}

/// One attribute value, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ValueRef<'a> {
    Bool(bool),
    I64(i64),
    F64(f64),
    Str(&'a str),
    Static(&'static str),
    Array(&'a Array),
}

impl ValueRef<'_> {
    pub(crate) fn to_value(self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(value),
            Self::I64(value) => Value::I64(value),
            Self::F64(value) => Value::F64(value),
            Self::Str(value) => Value::String(StringValue::from(value.to_owned())),
            Self::Static(value) => Value::String(StringValue::from(value)),
            Self::Array(value) => Value::Array(value.clone()),
        }
    }
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::I64(value) => Self::I64(*value),
            Value::F64(value) => Self::F64(*value),
            Value::String(value) => Self::Str(value.as_str()),
            Value::Array(value) => Self::Array(value),
            _ => Self::Static("(unsupported value)"), // `Value` is non-exhaustive
        }
    }
}

/// A key given to [`Attributes`]: static ones are not copied.
#[derive(Clone, Copy)]
pub(crate) enum KeyRef<'a> {
    Static(&'static str),
    Borrowed(&'a str),
}

impl KeyRef<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Static(key) => key,
            Self::Borrowed(key) => key,
        }
    }
}

impl From<&'static str> for KeyRef<'_> {
    fn from(key: &'static str) -> Self {
        Self::Static(key)
    }
}

impl Attributes {
    pub(crate) fn with_capacity(entries: usize) -> Self {
        Self { entries: Vec::with_capacity(entries), arena: String::new(), garbage: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.arena.clear();
        self.garbage = 0;
    }

    /// Sets `key` to `value`, in its place if the key is there already.
    pub(crate) fn set(&mut self, key: KeyRef<'_>, value: ValueRef<'_>) {
        match self.position(key.as_str()) {
            Some(at) => self.replace(at, value),
            None => self.push(key, value),
        }
    }

    /// As [`set`](Self::set), unless that would make more than `most` attributes. Returns whether
    /// the value was kept.
    pub(crate) fn set_within(&mut self, key: KeyRef<'_>, value: ValueRef<'_>, most: usize) -> bool {
        match self.position(key.as_str()) {
            Some(at) => self.replace(at, value),
            None if self.entries.len() < most => self.push(key, value),
            None => return false,
        }
        true
    }

    /// Appends without looking whether the key is there: for keys known to be new.
    pub(crate) fn push(&mut self, key: KeyRef<'_>, value: ValueRef<'_>) {
        let key = match key {
            KeyRef::Static(key) => Text::Static(key),
            KeyRef::Borrowed(key) => self.store(key),
        };
        let value = self.stored(value);
        self.entries.push(Entry { key, value });
    }

    /// Keeps the first `most` attributes and returns how many were cut off.
    pub(crate) fn truncate(&mut self, most: usize) -> usize {
        let cut = self.entries.len().saturating_sub(most);
        self.entries.truncate(most);
        cut
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, ValueRef<'_>)> {
        self.entries.iter().map(|entry| (self.text(entry.key), self.value(&entry.value)))
    }

    /// As [`iter`](Self::iter), keys as they were given: static ones can be kept without a copy.
    pub(crate) fn iter_keys(&self) -> impl ExactSizeIterator<Item = (KeyRef<'_>, ValueRef<'_>)> {
        self.entries.iter().map(|entry| {
            let key = match entry.key {
                Text::Static(key) => KeyRef::Static(key),
                key @ Text::Arena { .. } => KeyRef::Borrowed(self.text(key)),
            };
            (key, self.value(&entry.value))
        })
    }

    fn size(&self) -> usize {
        let fixed: usize = self
            .entries
            .iter()
            .map(|entry| match &entry.value {
                Stored::Text(Text::Static(text)) => 24 + text.len(),
                Stored::Array(array) => 24 + value_size(&Value::Array((**array).clone())),
                _ => 32,
            })
            .sum();
        fixed + self.arena.len()
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|entry| self.text(entry.key) == key)
    }

    fn replace(&mut self, at: usize, value: ValueRef<'_>) {
        if let Stored::Text(Text::Arena { length, .. }) = self.entries[at].value {
            self.garbage += length as usize;
            self.entries[at].value = Stored::Bool(false); // so that compacting doesn't keep it
        }
        if self.garbage > 1024 + self.arena.len() / 2 {
            self.compact();
        }
        let value = self.stored(value);
        self.entries[at].value = value;
    }

    fn compact(&mut self) {
        let old = std::mem::take(&mut self.arena);
        let arena = &mut self.arena;
        let mut moved = |text: &mut Text| {
            if let Text::Arena { start, length } = text {
                let from = *start as usize;
                *start = arena.len() as u32;
                arena.push_str(&old[from..from + *length as usize]);
            }
        };
        for entry in &mut self.entries {
            moved(&mut entry.key);
            if let Stored::Text(text) = &mut entry.value {
                moved(text);
            }
        }
        self.garbage = 0;
    }

    fn stored(&mut self, value: ValueRef<'_>) -> Stored {
        match value {
            ValueRef::Bool(value) => Stored::Bool(value),
            ValueRef::I64(value) => Stored::I64(value),
            ValueRef::F64(value) => Stored::F64(value),
            ValueRef::Str(value) => Stored::Text(self.store(value)),
            ValueRef::Static(value) => Stored::Text(Text::Static(value)),
            ValueRef::Array(value) => Stored::Array(Box::new(value.clone())),
        }
    }

    /// Copies `text` into the arena. An arena holds less than 4 GiB: what would not fit is left out,
    /// which no attribute within any sane limit comes near.
    fn store(&mut self, text: &str) -> Text {
        match (u32::try_from(self.arena.len()), u32::try_from(text.len())) {
            (Ok(start), Ok(length)) if start.checked_add(length).is_some() => {
                self.arena.push_str(text);
                Text::Arena { start, length }
            }
            _ => Text::Static("(too long)"),
        }
    }

    fn text(&self, text: Text) -> &str {
        match text {
            Text::Static(text) => text,
            Text::Arena { start, length } => &self.arena[start as usize..(start + length) as usize],
        }
    }

    fn value<'a>(&'a self, value: &'a Stored) -> ValueRef<'a> {
        match value {
            Stored::Bool(value) => ValueRef::Bool(*value),
            Stored::I64(value) => ValueRef::I64(*value),
            Stored::F64(value) => ValueRef::F64(*value),
            Stored::Text(Text::Static(text)) => ValueRef::Static(text),
            Stored::Text(text) => ValueRef::Str(self.text(*text)),
            Stored::Array(array) => ValueRef::Array(array),
        }
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_twice_is_kept_once_with_its_last_value() {
        let mut attributes = Attributes::default();
        attributes.set(KeyRef::Static("a"), ValueRef::Str("first"));
        attributes.set(KeyRef::Borrowed("b"), ValueRef::I64(1));
        attributes.set(KeyRef::Borrowed("a"), ValueRef::Str("second"));
        let all: Vec<_> = attributes.iter().collect();
        assert_eq!(all, [("a", ValueRef::Str("second")), ("b", ValueRef::I64(1))]);
    }

    #[test]
    fn a_value_replaced_for_ever_takes_constant_space() {
        let mut attributes = Attributes::default();
        attributes.set(KeyRef::Borrowed("kept"), ValueRef::Str("untouched"));
        for n in 0..100_000 {
            attributes.set(KeyRef::Borrowed("progress"), ValueRef::Str(&format!("{n} of many")));
        }
        assert!(attributes.arena.capacity() < 8192, "{}", attributes.arena.capacity());
        let all: Vec<_> = attributes.iter().collect();
        assert_eq!(
            all,
            [("kept", ValueRef::Str("untouched")), ("progress", ValueRef::Str("99999 of many"))]
        );
    }
}
