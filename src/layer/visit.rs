//! Visiting the values that `tracing` records, before any lock is taken.
//!
//! A value passes through [`Fields::set`], which redacts it and routes it by its key. Only plain
//! attributes of a new span, where no setting changes values, are written without that.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{Array, KeyValue, StringValue, Value};
use tracing::field::{Field, Visit};

use super::callsite::Callsite;
use super::field::FieldKind;
use crate::clock;
use crate::feedback::document::AttributeKey;
use crate::formatted;
use crate::otlp::attributes::{Attributes, PreparedKey, ValueRef};
use crate::record::{Common, SpanRecord};
use crate::session::Session;
use crate::span::{LayerCore, Live};

/// A borrowed key. A static key isn't copied into a document.
#[derive(Clone, Copy)]
pub(super) enum KeyRef<'a> {
    Static(&'static str),
    Borrowed(&'a str),
}

impl KeyRef<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Static(key) => key,
            Self::Borrowed(key) => key,
        }
    }

    /// `bare`, which is the end of this key, as the key of a leaf.
    fn bare(&self, bare: &str) -> AttributeKey {
        match self {
            Self::Static(key) => AttributeKey::Borrowed(&key[key.len() - bare.len()..]),
            Self::Borrowed(_) => AttributeKey::Owned(bare.to_owned()),
        }
    }
}

/// The values of a span's fields, sorted by what they set.
#[derive(Default)]
pub(super) struct Fields {
    attributes: Attributes,
    dropped: u32,
    name: Option<String>,
    kind: Option<SpanKind>,
    status_code: Option<Status>,
    status_description: Option<String>,
    session: Option<Session>,
    /// Leaves of the feedback document.
    leaves: Vec<(AttributeKey, Value)>,
    /// Attributes in the other namespaces, by their key without the convention's prefix.
    namespaced: Vec<(AttributeKey, String, Value)>,
    /// Whether an attribute may have the same key as one of the span's call site or thread.
    may_be_common: bool,
    /// Whether there is a leaf.
    pub(super) is_feedback: bool,
}

/// Visits the fields of a new span with `record`, and writes them into its state, to which no other
/// reference exists yet. Returns whether one of the fields is feedback.
#[inline]
pub(super) fn new_span(
    core: &LayerCore,
    callsite: &Callsite,
    live: &mut Live,
    record: impl FnOnce(&mut dyn Visit),
) -> bool {
    let settings = &core.settings;
    let most = core.most_attributes();
    let stay = settings.redaction.is_none() && settings.value_characters.is_none();
    let room = if stay { most.saturating_sub(SpanRecord::MOST_COMMON) } else { 0 };
    let mut visitor = NewSpanVisitor { core, callsite, live, room, others: None };
    record(&mut visitor);
    let NewSpanVisitor { live, others: Some(others), .. } = visitor else { return false };
    let is_feedback = others.is_feedback;
    others.write_to(live, core);
    is_feedback
}

/// Visits the fields of a span with `record`.
pub(super) fn fields(core: &LayerCore, record: impl FnOnce(&mut dyn Visit)) -> Fields {
    let mut visitor = SpanVisitor { core, fields: Fields::default() };
    record(&mut visitor);
    visitor.fields
}

/// As [`fields`], for attributes given through the OpenTelemetry API.
pub(super) fn otel_fields(
    core: &LayerCore,
    attributes: impl IntoIterator<Item = KeyValue>,
) -> Fields {
    let mut fields = Fields::default();
    for attribute in attributes {
        let key = KeyRef::Borrowed(attribute.key.as_str());
        fields.set(core, key, ValueRef::from(&attribute.value));
    }
    fields
}

/// Attributes of an event or link given through the OpenTelemetry API, at most `most`, and how many
/// were dropped.
pub(super) fn otel_attributes(
    core: &LayerCore,
    given: Vec<KeyValue>,
    most: u32,
) -> (Attributes, u32) {
    let mut attributes = Attributes::with_capacity(given.len().min(most as usize));
    let mut dropped = 0;
    for attribute in given {
        let key = attribute.key.as_str();
        let value = ValueRef::from(&attribute.value);
        dropped += put(core, &mut attributes, key, value, most as usize);
    }
    (attributes, dropped)
}

/// Sets one attribute, redacted and within the limits. Returns how many were dropped.
pub(super) fn put(
    core: &LayerCore,
    attributes: &mut Attributes,
    key: &str,
    value: ValueRef<'_>,
    most: usize,
) -> u32 {
    redacted(core, key, value, |value| {
        shortened(value, core.settings.value_characters, |value| {
            u32::from(!attributes.set_within(key, value, most))
        })
    })
    .unwrap_or(0)
}

/// Calls `then` with the redacted value, unless redaction removes it. A panic of the redaction
/// drops the value, and is counted.
pub(super) fn redacted<T>(
    core: &LayerCore,
    key: &str,
    value: ValueRef<'_>,
    then: impl FnOnce(ValueRef<'_>) -> T,
) -> Option<T> {
    let Some(redaction) = &core.settings.redaction else { return Some(then(value)) };
    match redaction.apply(key, value.to_value()) {
        Ok(value) => value.map(|value| then(ValueRef::from(&value))),
        Err(_) => {
            core.count_refused("redaction_panicked");
            None
        }
    }
}

/// Calls `then` with the value, each of its strings cut to `most` characters.
fn shortened<T>(
    value: ValueRef<'_>,
    most: Option<usize>,
    then: impl FnOnce(ValueRef<'_>) -> T,
) -> T {
    let Some(most) = most else { return then(value) };
    match value {
        ValueRef::Str(text) => then(ValueRef::Str(cut(text, most))),
        ValueRef::Array(Array::String(texts)) => {
            let texts = texts.iter().map(|text| cut(text.as_str(), most).to_owned().into());
            then(ValueRef::Array(&Array::String(texts.collect())))
        }
        other => then(other),
    }
}

fn cut(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

impl Fields {
    /// Redacts a value and routes it by its key.
    fn set(&mut self, core: &LayerCore, key: KeyRef<'_>, value: ValueRef<'_>) {
        redacted(core, key.as_str(), value, |value| self.route(core, key, value));
    }

    fn route(&mut self, core: &LayerCore, key: KeyRef<'_>, value: ValueRef<'_>) {
        let settings = &core.settings;
        match FieldKind::of(key.as_str(), settings.convention) {
            FieldKind::Name => self.name = Some(text(value)),
            FieldKind::Kind => match span_kind(&text(value)) {
                Some(kind) => self.kind = Some(kind),
                None => self.attribute(core, key, value),
            },
            FieldKind::StatusCode => match status_code(&text(value)) {
                Some(status) => self.status_code = Some(status),
                None => self.attribute(core, key, value),
            },
            FieldKind::StatusDescription => self.status_description = Some(text(value)),
            FieldKind::Session => match Session::with_id(text(value)) {
                Ok(session) => self.session = Some(session),
                Err(error) => {
                    self.attribute(core, key, value);
                    core.count_refused("invalid_session_id");
                    // Once: the field is likely recorded for every request.
                    if !core.has_warned_of_session_id.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            target: "tracing_feedback", %error, "the field session.id was refused"
                        );
                    }
                }
            },
            FieldKind::Feedback(bare) => shortened(value, settings.value_characters, |value| {
                self.leaf(core, key, bare, value);
            }),
            FieldKind::Namespaced(bare) => shortened(value, settings.value_characters, |value| {
                let (bare, key) = (key.bare(bare), key.as_str().to_owned());
                self.namespaced.push((bare, key, value.to_value()));
            }),
            FieldKind::Timing if settings.switches.tracked_inactivity => {}
            FieldKind::Reserved => self.dropped += 1,
            FieldKind::Timing | FieldKind::Attribute => self.attribute(core, key, value),
        }
    }

    fn attribute(&mut self, core: &LayerCore, key: KeyRef<'_>, value: ValueRef<'_>) {
        let most = core.most_attributes();
        let key = key.as_str();
        self.may_be_common |= Common::may_have(key);
        shortened(value, core.settings.value_characters, |value| {
            self.dropped += u32::from(!self.attributes.set_within(key, value, most));
        });
    }

    fn leaf(&mut self, core: &LayerCore, key: KeyRef<'_>, bare: &str, value: ValueRef<'_>) {
        if matches!(value, ValueRef::F64(value) if !value.is_finite()) {
            core.count_refused("not_finite");
            return;
        }
        self.is_feedback = true;
        self.leaves.push((key.bare(bare), value.to_value()));
    }

    /// Writes the visited fields into the state of a span. Calls no foreign code. Of a span that was
    /// ended through the OpenTelemetry API only the feedback changes.
    pub(super) fn write_to(self, live: &mut Live, core: &LayerCore) {
        let most = core.most_attributes();
        let mut dropped = 0;
        if !self.leaves.is_empty() {
            live.documents.own.is_feedback = true;
            live.documents.own.time = live.documents.own.time.max(clock::enrichment_time());
        }
        for (key, value) in self.leaves {
            dropped += live.documents.set_leaf(key, value, most);
        }
        if live.is_ended() {
            return live.record.count_dropped(dropped);
        }
        dropped += self.dropped;
        if self.may_be_common {
            live.record.own_common();
        }
        let room = most.saturating_sub(live.record.common_len());
        dropped += live.record.attributes.merge_within(&self.attributes, room) as u32;
        for (bare, key, value) in self.namespaced {
            // Where an enrichment has set or removed the key, the field changes its document.
            if !live.documents.is_blank() && live.documents.own.has(&bare) {
                dropped += live.documents.set_leaf(bare, value, most);
            } else {
                live.record.set_attribute(&key, ValueRef::from(&value), most);
            }
        }
        if let Some(name) = self.name {
            live.record.details.name = Some(name.into());
        }
        if let Some(kind) = self.kind {
            live.record.kind = kind;
        }
        if let Some(status) = self.status_code {
            live.record.set_status(status);
        }
        if let Some(description) = self.status_description {
            live.record.set_status(Status::error(description));
        }
        if let Some(session) = self.session {
            live.session = Some(session);
            live.documents.session_is_own = true;
            live.context = None; // the stored context may propagate the previous session
        }
        live.record.count_dropped(dropped);
    }
}

/// The `Debug` form of a value, which is foreign code. If that fails, the part that was written is
/// kept, and the failure counted.
pub(super) fn debug_text(core: &LayerCore, value: &dyn fmt::Debug) -> String {
    let (text, is_complete) = formatted::text(format_args!("{value:?}"));
    if !is_complete {
        count_failed(core);
    }
    text
}

#[cold]
fn count_failed(core: &LayerCore) {
    core.count_refused("formatting_failed");
}

/// A value as text.
pub(super) fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Str(text) => text.to_owned(),
        other => other.to_value().to_string(),
    }
}

fn span_kind(kind: &str) -> Option<SpanKind> {
    let kinds = [
        ("server", SpanKind::Server),
        ("client", SpanKind::Client),
        ("producer", SpanKind::Producer),
        ("consumer", SpanKind::Consumer),
        ("internal", SpanKind::Internal),
    ];
    kinds.into_iter().find(|(name, _)| kind.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
}

fn status_code(code: &str) -> Option<Status> {
    let codes = [("ok", Status::Ok), ("error", Status::error("")), ("unset", Status::Unset)];
    codes.into_iter().find(|(name, _)| code.eq_ignore_ascii_case(name)).map(|(_, status)| status)
}

/// The part in which our implementations of [`Visit`] differ: its methods are reduced to these.
pub(super) trait Values {
    fn value(&mut self, field: &Field, value: ValueRef<'_>);
    /// Records an integer. One that doesn't fit into an `i64` becomes a string, so that it stays
    /// exact.
    fn integer<T>(&mut self, field: &Field, value: T)
    where
        T: Copy + fmt::Display,
        i64: TryFrom<T>,
    {
        match i64::try_from(value) {
            Ok(value) => self.value(field, ValueRef::I64(value)),
            Err(_) => self.formatted(field, &format_args!("{value}")),
        }
    }
    /// Records the `Debug` form of a value (for `Display` values, `tracing` makes that the same).
    fn formatted(&mut self, field: &Field, value: &dyn fmt::Debug);
    fn error(&mut self, field: &Field, error: &ErrorText);
}

/// An error as text: its message, and those of its sources.
pub(super) struct ErrorText {
    pub(super) message: String,
    pub(super) chain: Array,
    /// The chain as one text. It is the closest to a stack trace that an error on stable Rust has.
    pub(super) stacktrace: String,
}

impl ErrorText {
    /// The text of an error, whose `Display` is foreign code. If that fails, the part that was
    /// written is kept, and the failure counted.
    pub(super) fn of(core: &LayerCore, error: &(dyn Error + 'static)) -> Self {
        let text = |error: &dyn Error| debug_text(core, &format_args!("{error}"));
        let message = text(error);
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(text(error));
            cause = error.source();
        }
        let mut stacktrace = message.clone();
        for cause in &causes {
            // Writing to a `String` can't fail.
            let _ = write!(stacktrace, "\nCaused by: {cause}");
        }
        let chain = Array::String(causes.into_iter().map(StringValue::from).collect());
        Self { message, chain, stacktrace }
    }
}

/// Implements [`Visit`] by [`Values`].
macro_rules! visit_values {
    ($visitor:ty) => {
        impl tracing::field::Visit for $visitor {
            fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
                self.value(field, ValueRef::Bool(value));
            }

            fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
                self.value(field, ValueRef::I64(value));
            }

            fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
                self.integer(field, value);
            }

            fn record_i128(&mut self, field: &tracing::field::Field, value: i128) {
                self.integer(field, value);
            }

            fn record_u128(&mut self, field: &tracing::field::Field, value: u128) {
                self.integer(field, value);
            }

            fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
                self.value(field, ValueRef::F64(value));
            }

            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                self.value(field, ValueRef::Str(value));
            }

            fn record_error(
                &mut self,
                field: &tracing::field::Field,
                value: &(dyn std::error::Error + 'static),
            ) {
                let error = $crate::layer::visit::ErrorText::of(self.core, value);
                self.error(field, &error);
            }

            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.formatted(field, value);
            }
        }
    };
}
pub(super) use visit_values;

/// Visits the fields of a new span. Plain attributes are written in place, the others are collected
/// in `others`.
struct NewSpanVisitor<'a> {
    core: &'a LayerCore,
    callsite: &'a Callsite,
    live: &'a mut Live,
    /// How many of the span's own attributes may be written in place: none if a setting redacts or
    /// cuts values.
    room: usize,
    others: Option<Box<Fields>>,
}

visit_values!(NewSpanVisitor<'_>);

impl<'a> NewSpanVisitor<'a> {
    /// The attributes and the prepared key, for a field that is written in place.
    #[inline]
    fn direct(&mut self, field: &Field) -> Option<(&mut Attributes, &'a PreparedKey)> {
        let key = self.callsite.plain(field.index())?;
        let attributes = &mut self.live.record.attributes;
        (attributes.len() < self.room).then_some((attributes, key))
    }

    #[cold]
    #[inline(never)]
    fn other_value(&mut self, field: &Field, value: ValueRef<'_>) {
        self.other(|visitor| visitor.value(field, value));
    }

    #[cold]
    fn other(&mut self, then: impl FnOnce(&mut SpanVisitor<'_>)) {
        let fields = self.others.take().map_or_else(Fields::default, |others| *others);
        let mut visitor = SpanVisitor { core: self.core, fields };
        then(&mut visitor);
        self.others = Some(Box::new(visitor.fields));
    }
}

impl Values for NewSpanVisitor<'_> {
    #[inline(always)] // the type of the value is a constant where it is inlined
    fn value(&mut self, field: &Field, value: ValueRef<'_>) {
        match self.direct(field) {
            Some((attributes, key)) => attributes.push_prepared(key, value),
            None => self.other_value(field, value),
        }
    }

    fn formatted(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match self.direct(field) {
            Some((attributes, key)) => {
                if !attributes.push_formatted(key, value) {
                    count_failed(self.core);
                }
            }
            None => self.other(|visitor| visitor.formatted(field, value)),
        }
    }

    fn error(&mut self, field: &Field, error: &ErrorText) {
        self.other(|visitor| visitor.error(field, error));
    }
}

struct SpanVisitor<'a> {
    core: &'a LayerCore,
    fields: Fields,
}

visit_values!(SpanVisitor<'_>);

impl Values for SpanVisitor<'_> {
    fn value(&mut self, field: &Field, value: ValueRef<'_>) {
        self.fields.set(self.core, KeyRef::Static(field.name()), value);
    }

    fn formatted(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.value(field, ValueRef::Str(&debug_text(self.core, value)));
    }

    fn error(&mut self, field: &Field, error: &ErrorText) {
        let core = self.core;
        if core.settings.switches.error_fields_to_exceptions {
            for (key, value) in exception(error) {
                self.fields.set(core, KeyRef::Static(key), value);
            }
        }
        self.value(field, ValueRef::Str(&error.message));
        let chain = format!("{}.chain", field.name());
        self.fields.set(core, KeyRef::Borrowed(&chain), ValueRef::Array(&error.chain));
    }
}

/// The attributes of an error as fields of a span.
pub(super) fn exceptions(core: &LayerCore, error: &ErrorText) -> Fields {
    let mut fields = Fields::default();
    for (key, value) in exception(error) {
        fields.set(core, KeyRef::Static(key), value);
    }
    fields
}

/// The attributes of an error by the semantic conventions for exceptions.
pub(super) fn exception(error: &ErrorText) -> [(&'static str, ValueRef<'_>); 2] {
    [
        ("exception.message", ValueRef::Str(&error.message)),
        ("exception.stacktrace", ValueRef::Str(&error.stacktrace)),
    ]
}
