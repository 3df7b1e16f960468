//! Flattening: from a `Serialize` value to the leaves of a [`Patch`].
//!
//! The [`Flattener`] writes each leaf when it is visited, without building a tree, and tracks the
//! [position](position); [`serialize`] drives it with values of any type. The values are foreign data: they
//! may have any depth and size, may fail half way, and may hold types that no attribute can hold. In each
//! case only the key of that value is refused.
//!
//! Values that nest too deeply for separate attributes are written as [JSON text](json) instead, which
//! becomes one string leaf when its outermost container ends.

mod json;
mod keys;
mod position;
mod scalar;
mod serialize;

use std::fmt::Write as _;

use opentelemetry::Value;

use super::error::{EnrichError, Enrichment};
use crate::feedback::document::{AttributeKey, CARRIER_ATTRIBUTES, MOST_CLEARED};
use crate::feedback::patch::Patch;
use crate::redaction::Redaction;
use crate::ticket::Ticket;
use json::{Entry, JsonText};
pub use position::Position;
use position::{Depth, MOST_ARRAYS, MOST_LEVELS, MOST_OBJECTS, count_dots};
pub(super) use scalar::Scalar;
use scalar::size;

/// The limits of one enrichment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EnrichmentLimits {
    /// Bytes of one string leaf, and of one JSON string.
    pub(crate) string: usize,
    /// Characters of one string leaf (`OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`).
    pub(crate) characters: Option<usize>,
    /// Bytes of all keys and values of one enrichment.
    pub(crate) enrichment: usize,
    /// Leaves: the number of attributes a span may have.
    pub(crate) leaves: usize,
}

/// Writes values into a patch.
#[derive(Default)]
pub(crate) struct Flattener {
    limits: EnrichmentLimits,
    redaction: Option<Redaction>,
    /// The ticket that limits the allowed keys.
    ticket: Option<Ticket>,
    /// Whether only the sizes of keys and values are checked, as nearly always: nothing is redacted, and neither
    /// a ticket limits the keys nor a number of characters the values.
    checks_sizes_only: bool,
    pub(crate) patch: Patch,
    /// The errors so far.
    pub(crate) outcome: Enrichment,
    /// The full key as a static string, while `path` is empty.
    base: &'static str,
    /// The full key, if it is longer than `base`; otherwise empty.
    path: String,
    depth: Depth,
    /// The JSON text that the current value is part of, if it nests too deeply.
    json: Option<Box<JsonText>>,
    /// Bytes taken so far.
    bytes: usize,
    /// How many leaves and removals exceeded the limit.
    dropped: usize,
}

/// The state to restore after the value of a key, whether it succeeded or failed.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: usize,
    depth: Depth,
    /// The key's entry in the JSON text.
    json: Option<Entry>,
    /// Whether the value is an element of an array. An absent element becomes `null` in JSON, so that later
    /// elements keep their positions.
    is_element: bool,
}

/// A container that has begun.
#[derive(Debug)]
pub(crate) enum Frame {
    /// Its entries become attributes.
    Flat,
    /// The outermost container of a JSON text.
    JsonRoot(&'static str),
    /// A container within a JSON text.
    Json(&'static str),
    Refused,
}

#[derive(Clone, Copy, PartialEq)]
enum ContainerKind {
    Object,
    Array,
}

impl Flattener {
    /// Prepares a new or [reset](Self::reset) flattener for one enrichment.
    pub(crate) fn start(
        &mut self,
        limits: EnrichmentLimits,
        redaction: Option<Redaction>,
        ticket: Option<Ticket>,
    ) {
        self.checks_sizes_only =
            redaction.is_none() && ticket.is_none() && limits.characters.is_none();
        (self.limits, self.redaction, self.ticket) = (limits, redaction, ticket);
    }

    /// Clears the patch if a part of the enrichment was refused or changed, or if the whole patch exceeds
    /// the number of attributes of a span.
    pub(crate) fn clear_unless_whole(&mut self) {
        let limit = self.limits.leaves;
        let over = (self.patch.document().len() + CARRIER_ATTRIBUTES).saturating_sub(limit);
        if self.outcome.is_ok() && self.dropped == 0 && over > 0 {
            self.dropped = over;
        }
        if self.dropped > 0 || !self.outcome.is_ok() {
            self.patch.clear();
        }
    }

    /// Ends the enrichment: reports the leaves and removals that exceeded the limit.
    pub(crate) fn finish(&mut self) {
        if self.dropped > 0 {
            let (limit, dropped) = (self.limits.leaves, self.dropped);
            self.outcome.push(EnrichError::LimitExceeded { limit, dropped });
        }
    }

    /// About how many bytes the patch takes as a carrier.
    pub(crate) fn patch_bytes(&mut self) -> u64 {
        const SPAN: usize = 384;
        const ATTRIBUTE: usize = 32;
        let document = self.patch.document();
        let entries = document.len() + document.cleared().len();
        (SPAN + entries * ATTRIBUTE + self.bytes) as u64
    }

    /// Resets the flattener. Its memory is kept for the next enrichment.
    pub(crate) fn reset(&mut self) {
        const MOST_PATH: usize = 4096;
        (self.redaction, self.ticket) = (None, None);
        self.patch.clear();
        self.path.clear();
        self.path.shrink_to(MOST_PATH);
        self.json = None;
        (self.bytes, self.dropped) = (0, 0);
    }

    /// Sets the key of `position` to a scalar.
    #[inline]
    pub(crate) fn scalar_at(&mut self, position: &Position, scalar: Scalar<'_>) {
        self.move_to(position);
        self.scalar(scalar);
    }

    /// Removes the key of `position` and everything under it.
    pub(crate) fn null_at(&mut self, position: &Position) {
        self.move_to(position);
        self.null();
    }

    #[inline]
    pub(crate) fn move_to(&mut self, position: &Position) {
        self.base = position.key;
        self.path.clear();
        self.json = None;
        self.depth = position.depth;
    }

    /// Writes `null`, which removes the key and everything under it.
    pub(crate) fn null(&mut self) {
        if self.depth.muted {
        } else if let Some(json) = &mut self.json {
            json.null();
        } else {
            self.clear();
        }
    }

    /// Goes back into the array at `position`, whose first elements are written already.
    pub(crate) fn resume_array(&mut self, position: &Position) {
        self.move_to(position);
        self.depth.level += 1;
        self.depth.arrays += 1;
    }

    pub(crate) fn begin_object(&mut self) -> Frame {
        self.begin(ContainerKind::Object)
    }

    pub(crate) fn begin_array(&mut self) -> Frame {
        self.begin(ContainerKind::Array)
    }

    fn begin(&mut self, kind: ContainerKind) -> Frame {
        if self.depth.muted {
            return Frame::Refused;
        }
        if self.depth.level == 0 && kind == ContainerKind::Array {
            self.not_an_object("an array");
            self.depth.muted = true;
            return Frame::Refused;
        }
        if self.depth.level >= MOST_LEVELS {
            let key = self.key_name();
            self.outcome.push(EnrichError::TooDeepToKeep { key, limit: "128 levels" });
            self.depth.muted = true;
            if let Some(json) = &mut self.json {
                json.count_leaf(); // the refused container may have one
            }
            return Frame::Refused;
        }
        let (open, close) = match kind {
            ContainerKind::Object => ('{', "}"),
            ContainerKind::Array => ('[', "]"),
        };
        let is_top = self.depth.level == 0;
        self.depth.level += 1;
        if let Some(json) = &mut self.json {
            json.open(open);
            return Frame::Json(close);
        }
        let too_deep = match kind {
            ContainerKind::Object => !is_top && self.depth.objects >= MOST_OBJECTS,
            ContainerKind::Array => self.depth.arrays >= MOST_ARRAYS,
        };
        if too_deep {
            self.json = Some(Box::new(JsonText::new(open, self.limits.string)));
            return Frame::JsonRoot(close);
        }
        match kind {
            ContainerKind::Object => self.depth.objects += u32::from(!is_top),
            ContainerKind::Array => {
                self.depth.arrays += 1;
                self.clear();
            }
        }
        Frame::Flat
    }

    pub(crate) fn end(&mut self, frame: Frame) {
        match frame {
            Frame::Flat | Frame::Refused => {}
            Frame::Json(close) => {
                if let Some(json) = &mut self.json {
                    json.close(close);
                }
            }
            Frame::JsonRoot(close) => match self.json.take() {
                Some(mut json) if json.has_leaf() || self.depth.muted => {
                    json.close(close);
                    self.json_leaf(*json, close);
                }
                // An array removes what was under its key; an object without a leaf changes nothing.
                Some(_) if close == "]" => self.clear(),
                _ => {}
            },
        }
    }

    /// Goes down to `key` of the current object. Undone by [`leave`](Self::leave).
    pub(crate) fn enter_key(&mut self, key: &str) -> Checkpoint {
        let mut checkpoint = self.checkpoint(false);
        if self.depth.muted {
            return checkpoint;
        }
        if self.json.is_none() {
            let Some(dots) = count_dots(key) else {
                let parent = self.key_name();
                let reason = match key {
                    "" => "is empty",
                    _ => "has nothing between two dots, or before the first or after the last one",
                };
                self.outcome.push(EnrichError::InvalidKey { parent, reason });
                self.depth.muted = true;
                return checkpoint;
            };
            self.depth.objects += dots;
            self.depth.level += dots;
            if self.depth.objects > MOST_OBJECTS {
                let key = format!("{}.{key}", self.key_name());
                self.outcome.push(EnrichError::TooDeepToKeep { key, limit: "5 objects" });
                self.depth.muted = true;
                return checkpoint;
            }
        }
        self.begin_segment();
        self.path.push_str(key);
        checkpoint.json = self.json.as_mut().map(|json| json.key(key));
        checkpoint
    }

    /// Goes down to position `index` of the current array. Undone by [`leave`](Self::leave).
    pub(crate) fn enter_index(&mut self, index: usize) -> Checkpoint {
        let mut checkpoint = self.checkpoint(true);
        if self.depth.muted {
            return checkpoint;
        }
        self.begin_segment();
        let _ = write!(self.path, "{index}"); // writing to a `String` can't fail
        checkpoint.json = self.json.as_mut().map(|json| json.element());
        checkpoint
    }

    /// Returns to the container around the key that was entered.
    pub(crate) fn leave(&mut self, checkpoint: Checkpoint) {
        self.path.truncate(checkpoint.path);
        self.depth = checkpoint.depth;
        if let Some(json) = &mut self.json {
            if let Some(entry) = checkpoint.json {
                json.end_entry(entry, checkpoint.is_element);
            }
            if json.is_too_long() {
                self.depth.muted = true;
            }
        }
    }

    fn checkpoint(&self, is_element: bool) -> Checkpoint {
        Checkpoint { path: self.path.len(), depth: self.depth, json: None, is_element }
    }

    fn begin_segment(&mut self) {
        if self.path.is_empty() {
            self.path.reserve(64);
            self.path.push_str(self.base);
        }
        self.path.push('.');
    }

    fn key_str(&self) -> &str {
        if self.path.is_empty() { self.base } else { &self.path }
    }

    fn key(&self) -> AttributeKey {
        if self.path.is_empty() {
            AttributeKey::Borrowed(self.base)
        } else {
            AttributeKey::Owned(self.path.clone())
        }
    }

    /// The current key for an error, shortened if it is absurdly long.
    fn key_name(&self) -> String {
        shorten_key(self.key_str())
    }

    fn not_an_object(&mut self, found: &'static str) {
        let namespace = self.key_name();
        self.outcome.push(EnrichError::NotAnObject { namespace, found });
    }

    /// Sets the current key to a scalar.
    #[inline]
    fn scalar(&mut self, scalar: Scalar<'_>) {
        let size = scalar.size();
        let bytes = self.bytes.saturating_add(self.key_str().len() + size);
        if self.checks_sizes_only
            && !self.depth.muted
            && self.depth.level > 0
            && self.json.is_none()
            && size <= self.limits.string
            && bytes <= self.limits.enrichment
            && scalar.is_finite()
            && !self.patch.is_full(self.limits.leaves)
        {
            self.bytes = bytes;
            scalar.write_to(self.blank_leaf());
        } else {
            self.checked_scalar(scalar);
        }
    }

    #[cold]
    fn checked_scalar(&mut self, mut scalar: Scalar<'_>) {
        if self.depth.muted {
            return;
        }
        if self.depth.level == 0 {
            self.not_an_object(match scalar {
                Scalar::Bool(_) => "a bool",
                Scalar::Int(_) | Scalar::BigInt(_) | Scalar::Float(_) => "a number",
                Scalar::Str(_) | Scalar::Static(_) => "a string",
            });
            return;
        }
        if !scalar.is_finite() {
            let key = self.key_name();
            self.outcome.push(EnrichError::NotFinite { key });
            return;
        }
        if self.json.is_some() {
            self.json_scalar(scalar);
            return;
        }
        self.shorten(&mut scalar);
        if self.redaction.is_none() {
            if let Some(leaf) = self.add_leaf(scalar.size()) {
                scalar.write_to(leaf);
            }
        } else if let Some(value) = self.redacted(scalar.into_value())
            && let Some(leaf) = self.add_leaf(size(&value))
        {
            *leaf = value;
        }
    }

    /// Writes a scalar into the JSON text, whose length is limited as a whole.
    #[cold]
    fn json_scalar(&mut self, mut scalar: Scalar<'_>) {
        if self.redaction.is_none() {
            if let Some(json) = &mut self.json {
                json.scalar(scalar);
            }
        } else {
            self.shorten(&mut scalar);
            if let Some(value) = self.redacted(scalar.into_value())
                && let Some(json) = &mut self.json
            {
                json.value(value);
            }
        }
        self.depth.muted = self.json.as_ref().is_some_and(|json| json.is_too_long());
    }

    /// Ends JSON text: it becomes the leaf of the key at which it began.
    fn json_leaf(&mut self, json: JsonText, close: &str) {
        let key = self.key_name();
        let limit = self.limits.string;
        let is_too_long = json.is_too_long();
        let text = json.into_string();
        if is_too_long || self.limits.characters.is_some_and(|most| text.chars().count() > most) {
            let limit = self.limits.characters.map_or(limit, |characters| characters.min(limit));
            self.outcome.push(EnrichError::JsonTooLong { key, limit });
            return;
        }
        let limit = if close == "}" { "5 objects" } else { "2 arrays" };
        self.outcome.push(EnrichError::TooDeep { key, limit });
        if let Some(leaf) = self.add_leaf(text.len()) {
            *leaf = Value::String(text.into());
        }
    }

    fn shorten(&mut self, scalar: &mut Scalar<'_>) {
        match scalar {
            Scalar::Str(text) => *text = self.shortened(text),
            Scalar::Static(text) => *text = self.shortened(text),
            _ => {}
        }
    }

    /// Returns `text` within the limits of one string leaf. If it had to be cut, the outcome has an error.
    fn shortened<'t>(&mut self, text: &'t str) -> &'t str {
        if text.len() <= self.limits.string && self.limits.characters.is_none() {
            return text;
        }
        let mut kept = cut(text, self.limits.string);
        let mut limit = None;
        if kept.len() < text.len() {
            limit = Some(format!("{} bytes", self.limits.string));
        }
        if let Some(most) = self.limits.characters
            && let Some((end, _)) = kept.char_indices().nth(most)
        {
            kept = &kept[..end];
            limit = Some(format!("{most} characters (OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT)"));
        }
        if let Some(limit) = limit {
            let key = self.key_name();
            self.outcome.push(EnrichError::Truncated { key, limit });
        }
        kept
    }

    fn redacted(&mut self, value: Value) -> Option<Value> {
        let Some(redaction) = &self.redaction else { return Some(value) };
        let key = self.key();
        match redaction.apply(&key, value) {
            Ok(value) => value,
            Err(_) => {
                self.outcome.push(EnrichError::RedactionPanicked { key: key.into_owned() });
                None
            }
        }
    }

    /// Adds a leaf at the current key for a value of `size` bytes, if ticket and limits allow it.
    fn add_leaf(&mut self, size: usize) -> Option<&mut Value> {
        if !self.check_allowed() || !self.count_bytes(size) {
            return None;
        }
        if self.patch.is_full(self.limits.leaves) {
            self.dropped += 1;
            return None;
        }
        Some(self.blank_leaf())
    }

    #[inline]
    fn blank_leaf(&mut self) -> &mut Value {
        match self.path.is_empty() {
            true => self.patch.set(self.base),
            false => self.patch.set_text(&self.path),
        }
    }

    fn clear(&mut self) {
        if !self.check_allowed() || !self.count_bytes(0) {
            return;
        }
        if self.patch.document().cleared().len() < MOST_CLEARED {
            let key = self.key();
            self.patch.remove(key);
        } else {
            self.dropped += 1;
        }
    }

    /// Checks that the ticket allows the current key. If not, the outcome has one error for its top-level
    /// key.
    fn check_allowed(&mut self) -> bool {
        let Some(ticket) = &self.ticket else { return true };
        let key = if self.path.is_empty() { self.base } else { &self.path };
        if ticket.permits(key) {
            if keys::is_fit(key) {
                return true;
            }
            let refused = EnrichError::UnfitKey { key: keys::printable(key) };
            self.outcome.push(refused);
            return false;
        }
        let end = key.match_indices('.').nth(1).map_or(key.len(), |(dot, _)| dot);
        let refused = EnrichError::NotAllowed { key: keys::printable(&key[..end]) };
        if !self.outcome.errors().any(|error| *error == refused) {
            self.outcome.push(refused);
        }
        false
    }

    /// Adds the sizes of the current key and of a value to the size of the enrichment. Returns whether that
    /// is within the limit.
    fn count_bytes(&mut self, size: usize) -> bool {
        let limit = self.limits.enrichment;
        let was_over = self.bytes > limit;
        self.bytes = self.bytes.saturating_add(self.key_str().len() + size);
        if self.bytes <= limit {
            return true;
        }
        if !was_over {
            let key = self.key_name();
            self.outcome.push(EnrichError::TooLarge { key, limit });
        }
        false
    }

    fn unsupported(&mut self, found: &'static str) {
        if !self.depth.muted {
            let key = self.key_name();
            self.outcome.push(EnrichError::Unsupported { key, found });
        }
    }
}

fn shorten_key(key: &str) -> String {
    const MOST: usize = 256;
    if key.len() <= MOST { key.to_owned() } else { format!("{}…", cut(key, MOST)) }
}

/// The longest prefix of `text` of at most `most` bytes that ends between two characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POSITIONS: [Position; 4] = [
        Position::new("feedback", 0),
        Position::new("feedback.a", 0),
        Position::new("feedback.a.b", 0),
        Position::new("feedback.c", 0),
    ];

    #[derive(Clone, Debug)]
    enum Written {
        Float(f64),
        Static(&'static str),
        Value(serde_json::Value),
    }

    fn written() -> impl Strategy<Value = Written> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map_into(),
            any::<u64>().prop_map_into(),
            "[a-zü]{0,12}".prop_map_into(),
        ];
        let value = leaf.prop_recursive(4, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map_into(),
                prop::collection::vec(("[a-c.]{0,3}", inner), 0..4)
                    .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
            ]
        });
        prop_oneof![
            1 => prop_oneof![Just(f64::NAN), any::<f64>()].prop_map(Written::Float),
            1 => prop_oneof![Just(""), Just("eleven more")].prop_map(Written::Static),
            4 => value.prop_map(Written::Value),
        ]
    }

    proptest! {
        #[test]
        fn an_enrichment_of_which_only_sizes_are_checked_is_checked_as_any_other(
            values in prop::collection::vec((0..POSITIONS.len(), written()), 0..8),
            (string, enrichment, leaves) in (0_usize..14, 0_usize..200, 0_usize..6),
        ) {
            let limits = EnrichmentLimits { string, characters: None, enrichment, leaves };
            let [one, other] = [true, false].map(|checks_sizes_only| {
                let mut flattener = Flattener::default();
                flattener.start(limits, None, None);
                assert!(flattener.checks_sizes_only);
                flattener.checks_sizes_only = checks_sizes_only;
                for (position, value) in &values {
                    let position = &POSITIONS[*position];
                    match value {
                        Written::Float(float) => flattener.scalar_at(position, Scalar::Float(*float)),
                        Written::Static(text) => flattener.scalar_at(position, Scalar::Static(text)),
                        Written::Value(value) => flattener.value(position, value),
                    }
                }
                flattener.finish();
                flattener
            });
            let (mut one, mut other) = (one, other);
            prop_assert_eq!(one.patch.document(), other.patch.document());
            prop_assert_eq!(&one.outcome, &other.outcome);
            prop_assert_eq!((one.bytes, one.dropped), (other.bytes, other.dropped));
        }
    }
}
