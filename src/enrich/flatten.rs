//! Flattening: from a `Serialize` value to the leaves of a [`Document`].
//!
//! The flattener is a `serde::Serializer` that writes leaves as they come, without a tree in
//! between. It reads foreign data: what it meets may be of any depth and size, may fail half way,
//! and may hold what no attribute can. Nothing of that costs more than the key it stands at.
//!
//! What nests deeper than attributes keep apart is written as JSON text instead (`json` is `Some`)
//! and becomes one string leaf when its outermost container ends.

use std::fmt::{self, Write as _};

use opentelemetry::Value;
use serde::ser::{self, Serialize, Serializer as _};

use super::error::{EnrichError, Enrichment};
use crate::feedback::carrier;
use crate::feedback::document::{Document, Key, MOST_CLEARED};
use crate::redaction::Redaction;
use crate::ticket::Ticket;

/// Nested objects along a path, the top one not counted.
const MOST_OBJECTS: u32 = 5;
/// Arrays along a path.
const MOST_ARRAYS: u32 = 2;
/// Containers along a path that are read at all. `serde_json` reads as deep.
const MOST_LEVELS: u32 = 128;
/// Options and newtypes along a path. They are no containers, but recursion all the same.
const MOST_WRAPPERS: u32 = 512;

/// Bytes that a value other than a string counts.
const NUMBER: usize = 8;

/// What one enrichment may hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Bytes of one string leaf, and of one JSON string.
    pub(crate) string: usize,
    /// Characters of one string leaf (`OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`).
    pub(crate) characters: Option<usize>,
    /// Bytes of all keys and values of one enrichment.
    pub(crate) enrichment: usize,
    /// Leaves: the number of attributes a span may have.
    pub(crate) leaves: usize,
}

/// Where a literal's value stands: a static full key, and the containers around it.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    key: &'static str,
    place: Place,
}

impl Position {
    /// A position inside a literal. Evaluated at compile time, so that a literal which is nested too
    /// deeply, or has an empty key, doesn't compile.
    pub const fn new(key: &'static str, arrays: u32) -> Self {
        let Some(dots) = dots(key) else {
            panic!("a key is a path: no part between its dots may be empty")
        };
        let objects = dots.saturating_sub(1 + arrays);
        assert!(objects <= MOST_OBJECTS, "at most 5 nested objects: flatten the literal");
        assert!(arrays <= MOST_ARRAYS, "at most 2 arrays along a path: flatten the literal");
        let level = if dots == 0 { 0 } else { 1 + objects + arrays };
        Self { key, place: Place { level, objects, arrays, wrappers: 0, muted: false } }
    }

    /// The position of a nested object of a literal.
    pub const fn object(key: &'static str, arrays: u32) -> Self {
        let at = Self::new(key, arrays);
        let is_nested = at.place.level > 0;
        assert!(
            !is_nested || at.place.objects < MOST_OBJECTS,
            "at most 5 nested objects: flatten the literal"
        );
        at
    }

    /// The position of an array of a literal.
    pub const fn array(key: &'static str, arrays: u32) -> Self {
        assert!(arrays < MOST_ARRAYS, "at most 2 arrays along a path: flatten the literal");
        Self::new(key, arrays)
    }
}

/// How many dots a key has, every one of which is an object of its own. `None` if nothing is between
/// two of them, or before the first or after the last.
const fn dots(key: &str) -> Option<u32> {
    let bytes = key.as_bytes();
    let mut dots = 0;
    let mut is_empty = true;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'.' {
            is_empty = false;
        } else if is_empty {
            return None;
        } else {
            dots += 1;
            is_empty = true;
        }
        at += 1;
    }
    if is_empty { None } else { Some(dots) }
}

/// Writes values into a patch.
#[derive(Default)]
pub(crate) struct Flattener {
    limits: Limits,
    redaction: Option<Redaction>,
    /// What keys have to be allowed by.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) patch: Document<Value>,
    /// What was wrong on the way to the patch.
    pub(crate) outcome: Enrichment,
    /// The full key as a static string, while `path` is empty.
    base: &'static str,
    /// The full key, once it has left `base`.
    path: String,
    place: Place,
    json: Option<String>,
    /// Whether the JSON text holds a leaf: containers alone are nothing.
    json_has_leaf: bool,
    /// Bytes taken so far.
    bytes: usize,
    /// Leaves and removals that were one too many.
    dropped: usize,
}

/// What is around the current value.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Containers of every kind.
    level: u32,
    /// Nested objects, the top one not counted.
    objects: u32,
    arrays: u32,
    /// Options and newtypes.
    wrappers: u32,
    /// Inside something that was refused: nothing is written.
    muted: bool,
}

/// What to return to when a key's value is done, however it ended.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: usize,
    place: Place,
    /// In JSON text: where the key's entry begins, and where its value does.
    json: Option<(usize, usize)>,
    /// In a JSON array a value that isn't there becomes null, so that its followers keep their place.
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
enum Kind {
    Object,
    Array,
}

enum Scalar<'a> {
    Bool(bool),
    Int(i64),
    /// An integer beyond `i64`, in decimal.
    BigInt(&'a str),
    Float(f64),
    Str(&'a str),
    Static(&'static str),
}

impl Scalar<'_> {
    /// Bytes that count.
    fn size(&self) -> usize {
        match self {
            Self::Bool(_) | Self::Int(_) | Self::Float(_) => NUMBER,
            Self::BigInt(text) | Self::Str(text) | Self::Static(text) => text.len(),
        }
    }

    /// Writes the value to where it stays. A value that is made elsewhere and moved there costs more
    /// than all the rest.
    fn write_to(self, value: &mut Value) {
        match self {
            Self::Bool(bool) => *value = Value::Bool(bool),
            Self::Int(int) => *value = Value::I64(int),
            Self::Float(float) => *value = Value::F64(float),
            Self::BigInt(text) | Self::Str(text) => *value = Value::String(text.to_owned().into()),
            Self::Static(text) => *value = Value::String(text.into()),
        }
    }

    fn into_value(self) -> Value {
        let mut value = Value::Bool(false);
        self.write_to(&mut value);
        value
    }
}

/// Bytes of a value that count.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.as_str().len(),
        _ => NUMBER,
    }
}

impl Flattener {
    /// Makes a blank flattener ready for one enrichment.
    pub(crate) fn start(&mut self, limits: Limits, redaction: Option<Redaction>) {
        (self.limits, self.redaction) = (limits, redaction);
    }

    /// Clears the patch if a part of the enrichment was refused or changed, or if the patch as a whole
    /// finds no room on a span.
    pub(crate) fn keep_whole(&mut self) {
        let limit = self.limits.leaves;
        let over = (self.patch.len() + carrier::MOST_RESERVED).saturating_sub(limit);
        if self.outcome.is_ok() && self.dropped == 0 && over > 0 {
            self.dropped = over;
        }
        if self.dropped > 0 || !self.outcome.is_ok() {
            self.patch.clear();
        }
    }

    /// Ends the enrichment: reports the leaves and removals that were one too many.
    pub(crate) fn finish(&mut self) {
        if self.dropped > 0 {
            let (limit, dropped) = (self.limits.leaves, self.dropped);
            self.outcome.push(EnrichError::LimitExceeded { limit, dropped });
        }
    }

    /// Makes the flattener blank again. What it keeps is memory.
    pub(crate) fn reset(&mut self) {
        const MOST_PATH: usize = 4096;
        (self.redaction, self.ticket) = (None, None);
        self.patch.clear();
        self.path.clear();
        self.path.shrink_to(MOST_PATH);
        self.json = None;
        (self.bytes, self.dropped) = (0, 0);
    }

    /// Flattens `value` at `position`.
    pub(crate) fn value<T: Serialize + ?Sized>(&mut self, position: &Position, value: &T) {
        self.move_to(position);
        self.serialize(value);
    }

    /// Sets the key of `position` to a string that needs no copy.
    pub(crate) fn text_at(&mut self, position: &Position, text: &'static str) {
        self.move_to(position);
        self.scalar(Scalar::Static(text));
    }

    /// Removes the key of `position` and all that stands under it.
    pub(crate) fn null_at(&mut self, position: &Position) {
        self.move_to(position);
        self.null();
    }

    pub(crate) fn move_to(&mut self, position: &Position) {
        self.base = position.key;
        self.path.clear();
        self.json = None;
        self.place = position.place;
    }

    /// Flattens `value` at the current key. A failure of its own costs no more than this key.
    pub(crate) fn serialize<T: Serialize + ?Sized>(&mut self, value: &T) {
        if self.place.muted {
            return;
        }
        let place = self.place;
        let path = self.path.len();
        let json = self.json.as_ref().map(String::len);
        if let Err(Failure(message)) = value.serialize(ValueSerializer(self)) {
            // The value may have left containers open: return to where it began.
            self.place = place;
            self.path.truncate(path);
            match (json, &mut self.json) {
                (Some(start), Some(text)) => text.truncate(start),
                _ => self.json = None,
            }
            let key = self.key_name();
            self.outcome.push(EnrichError::Serialize { key, message });
        }
    }

    /// `null`: removes the key and all that stands under it.
    pub(crate) fn null(&mut self) {
        if self.place.muted {
        } else if let Some(text) = &mut self.json {
            text.push_str("null");
            self.json_has_leaf = true;
        } else {
            self.clear();
        }
    }

    /// Goes back into the array at `position`, whose first elements are written already.
    pub(crate) fn resume_array(&mut self, position: &Position) {
        self.move_to(position);
        self.place.level += 1;
        self.place.arrays += 1;
    }

    pub(crate) fn begin_object(&mut self) -> Frame {
        self.begin(Kind::Object)
    }

    pub(crate) fn begin_array(&mut self) -> Frame {
        self.begin(Kind::Array)
    }

    fn begin(&mut self, kind: Kind) -> Frame {
        if self.place.muted {
            return Frame::Refused;
        }
        if self.place.level == 0 && kind == Kind::Array {
            self.not_an_object("an array");
            self.place.muted = true;
            return Frame::Refused;
        }
        if self.place.level >= MOST_LEVELS {
            let key = self.key_name();
            self.outcome.push(EnrichError::TooDeepToKeep { key, limit: "128 levels" });
            self.place.muted = true;
            self.json_has_leaf = true; // what was refused may have been one
            return Frame::Refused;
        }
        let (open, close) = match kind {
            Kind::Object => ('{', "}"),
            Kind::Array => ('[', "]"),
        };
        let is_top = self.place.level == 0;
        self.place.level += 1;
        if let Some(text) = &mut self.json {
            text.push(open);
            return Frame::Json(close);
        }
        let too_deep = match kind {
            Kind::Object => !is_top && self.place.objects >= MOST_OBJECTS,
            Kind::Array => self.place.arrays >= MOST_ARRAYS,
        };
        if too_deep {
            self.json = Some(String::from(open));
            self.json_has_leaf = false;
            return Frame::JsonRoot(close);
        }
        match kind {
            Kind::Object => self.place.objects += u32::from(!is_top),
            Kind::Array => {
                self.place.arrays += 1;
                self.clear();
            }
        }
        Frame::Flat
    }

    pub(crate) fn end(&mut self, frame: Frame) {
        match frame {
            Frame::Flat | Frame::Refused => {}
            Frame::Json(close) => {
                if let Some(text) = &mut self.json {
                    text.push_str(close);
                }
            }
            Frame::JsonRoot(close) => {
                match self.json.take() {
                    Some(mut text) if self.json_has_leaf || self.place.muted => {
                        text.push_str(close);
                        self.json_leaf(text, close);
                    }
                    // An array removes what stood under its key; an object without a leaf is nothing.
                    Some(_) if close == "]" => self.clear(),
                    _ => {}
                }
            }
        }
    }

    /// Goes down to `key` of the current object. Undone by [`leave`](Self::leave).
    pub(crate) fn enter_key(&mut self, key: &str) -> Checkpoint {
        let mut checkpoint = self.checkpoint(false);
        if self.place.muted {
            return checkpoint;
        }
        if self.json.is_none() {
            let Some(dots) = dots(key) else {
                let parent = self.key_name();
                let reason = match key {
                    "" => "is empty",
                    _ => "has nothing between two dots, or before the first or after the last one",
                };
                self.outcome.push(EnrichError::InvalidKey { parent, reason });
                self.place.muted = true;
                return checkpoint;
            };
            self.place.objects += dots;
            self.place.level += dots;
            if self.place.objects > MOST_OBJECTS {
                let key = format!("{}.{key}", self.key_name());
                self.outcome.push(EnrichError::TooDeepToKeep { key, limit: "5 objects" });
                self.place.muted = true;
                return checkpoint;
            }
        }
        self.begin_segment();
        self.path.push_str(key);
        if let Some(text) = &mut self.json {
            let start = text.len();
            separate(text);
            write_json_string(text, key);
            text.push(':');
            checkpoint.json = Some((start, text.len()));
        }
        checkpoint
    }

    /// Goes down to position `index` of the current array. Undone by [`leave`](Self::leave).
    pub(crate) fn enter_index(&mut self, index: usize) -> Checkpoint {
        let mut checkpoint = self.checkpoint(true);
        if self.place.muted {
            return checkpoint;
        }
        self.begin_segment();
        write_display(&mut self.path, index);
        if let Some(text) = &mut self.json {
            let start = text.len();
            separate(text);
            checkpoint.json = Some((start, text.len()));
        }
        checkpoint
    }

    /// Returns to the container around the key that was entered.
    pub(crate) fn leave(&mut self, checkpoint: Checkpoint) {
        self.path.truncate(checkpoint.path);
        self.place = checkpoint.place;
        match (checkpoint.json, &mut self.json) {
            (Some((start, value)), Some(text)) if text.len() == value => {
                if checkpoint.is_element {
                    text.push_str("null");
                } else {
                    text.truncate(start);
                }
            }
            _ => {}
        }
        // More text than could ever be kept is cut short, so that it costs no more memory; it is
        // refused when its outermost container ends.
        let most = self.limits.string;
        if let Some(text) = &mut self.json
            && text.len() > most
        {
            self.place.muted = true;
        }
    }

    fn checkpoint(&self, is_element: bool) -> Checkpoint {
        Checkpoint { path: self.path.len(), place: self.place, json: None, is_element }
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

    fn key(&self) -> Key {
        if self.path.is_empty() { Key::Borrowed(self.base) } else { Key::Owned(self.path.clone()) }
    }

    /// The current key for an error, shortened if it is absurdly long.
    fn key_name(&self) -> String {
        shown(self.key_str())
    }

    fn not_an_object(&mut self, found: &'static str) {
        let namespace = self.key_name();
        self.outcome.push(EnrichError::NotAnObject { namespace, found });
    }

    fn scalar(&mut self, mut scalar: Scalar<'_>) {
        if self.place.muted {
            return;
        }
        if self.place.level == 0 {
            self.not_an_object(match scalar {
                Scalar::Bool(_) => "a bool",
                Scalar::Int(_) | Scalar::BigInt(_) | Scalar::Float(_) => "a number",
                Scalar::Str(_) | Scalar::Static(_) => "a string",
            });
            return;
        }
        if let Scalar::Float(value) = scalar
            && !value.is_finite()
        {
            let key = self.key_name();
            self.outcome.push(EnrichError::NotFinite { key });
            return;
        }
        if self.redaction.is_none() && self.json.is_some() {
            self.json_scalar(scalar); // JSON text is measured as a whole
            return;
        }
        match &mut scalar {
            Scalar::Str(text) => *text = self.shortened(text),
            Scalar::Static(text) => *text = self.shortened(text),
            _ => {}
        }
        if self.redaction.is_none() {
            if let Some(leaf) = self.room(scalar.size()) {
                scalar.write_to(leaf);
            }
        } else if let Some(value) = self.redacted(scalar.into_value()) {
            if self.json.is_some() {
                self.json_value(value);
            } else if let Some(leaf) = self.room(size(&value)) {
                *leaf = value;
            }
        }
    }

    fn json_scalar(&mut self, scalar: Scalar<'_>) {
        self.json_has_leaf = true;
        match (scalar, &mut self.json) {
            // Exact in JSON, where numbers have no bound.
            (Scalar::BigInt(number), Some(text)) => text.push_str(number),
            (Scalar::Str(string) | Scalar::Static(string), _) => self.json_string(string),
            (other, _) => self.json_value(other.into_value()),
        }
    }

    fn json_value(&mut self, value: Value) {
        self.json_has_leaf = true;
        let Some(text) = &mut self.json else { return };
        match value {
            Value::String(string) => self.json_string(string.as_str()),
            Value::Bool(value) => text.push_str(if value { "true" } else { "false" }),
            Value::I64(value) => write_display(text, value),
            Value::F64(value) => write_json_number(text, value),
            other => self.json_string(&other.to_string()),
        }
    }

    fn json_string(&mut self, string: &str) {
        self.json_has_leaf = true;
        let most = self.limits.string;
        if let Some(text) = &mut self.json {
            if text.len() + string.len() > most {
                // Only its length matters from here on: it is going to be refused.
                text.push_str(&" ".repeat((most + 1).saturating_sub(text.len())));
                self.place.muted = true;
            } else {
                write_json_string(text, string);
            }
        }
    }

    fn json_leaf(&mut self, text: String, close: &str) {
        let key = self.key_name();
        let limit = self.limits.string;
        if text.len() > limit
            || self.limits.characters.is_some_and(|most| text.chars().count() > most)
        {
            let limit = self.limits.characters.map_or(limit, |characters| characters.min(limit));
            self.outcome.push(EnrichError::JsonTooLong { key, limit });
            return;
        }
        let limit = if close == "}" { "5 objects" } else { "2 arrays" };
        self.outcome.push(EnrichError::TooDeep { key, limit });
        if let Some(leaf) = self.room(text.len()) {
            *leaf = Value::String(text.into());
        }
    }

    /// `text` within the limits of one string leaf; the outcome says so if it had to be cut.
    #[inline]
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

    /// A leaf at the current key, for a value of `size` bytes.
    #[inline]
    fn room(&mut self, size: usize) -> Option<&mut Value> {
        if !self.is_allowed() || !self.fits(size) {
            return None;
        }
        if self.patch.len() >= self.limits.leaves {
            self.dropped += 1;
            return None;
        }
        Some(match self.path.is_empty() {
            true => self.patch.set_with(self.base, || Value::Bool(false)),
            false => self.patch.set_with(self.path.clone(), || Value::Bool(false)),
        })
    }

    fn clear(&mut self) {
        if !self.is_allowed() || !self.fits(0) {
            return;
        }
        if self.patch.cleared().len() < MOST_CLEARED {
            let key = self.key();
            self.patch.remove(key);
        } else {
            self.dropped += 1;
        }
    }

    /// Whether the current key may be set or removed. The outcome says once of each top-level key
    /// that it may not.
    fn is_allowed(&mut self) -> bool {
        let Some(ticket) = &self.ticket else { return true };
        let key = if self.path.is_empty() { self.base } else { &self.path };
        if ticket.permits(key) {
            return true;
        }
        let end = key.match_indices('.').nth(1).map_or(key.len(), |(dot, _)| dot);
        let refused = EnrichError::NotAllowed { key: shown(&key[..end]) };
        if !self.outcome.errors().any(|error| *error == refused) {
            self.outcome.push(refused);
        }
        false
    }

    /// Counts the current key and `size` bytes of value, if the enrichment can still hold them.
    #[inline]
    fn fits(&mut self, size: usize) -> bool {
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
        if !self.place.muted {
            let key = self.key_name();
            self.outcome.push(EnrichError::Unsupported { key, found });
        }
    }
}

fn shown(key: &str) -> String {
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

fn separate(text: &mut String) {
    if !text.ends_with(['{', '[']) {
        text.push(',');
    }
}

fn write_display(text: &mut String, value: impl fmt::Display) {
    let _ = write!(text, "{value}"); // writing to a `String` can't fail
}

fn write_json_number(text: &mut String, value: f64) {
    if let Ok(number) = serde_json::to_string(&value) {
        text.push_str(&number);
    }
}

fn write_json_string(text: &mut String, string: &str) {
    if let Ok(quoted) = serde_json::to_string(string) {
        text.push_str(&quoted);
    }
}

/// What a value's own `Serialize` said when it failed.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl ser::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(cut(&message.to_string(), 1024).to_owned())
    }
}

/// The names under which `serde_json` passes on what serde's data model can't hold.
const JSON_NUMBER: &str = "$serde_json::private::Number";
const JSON_RAW: &str = "$serde_json::private::RawValue";

struct ValueSerializer<'f>(&'f mut Flattener);

/// A container of the value that is being flattened.
struct Container<'f> {
    flattener: &'f mut Flattener,
    frame: Frame,
    /// The frame around it, of a variant's name.
    outer: Option<(Checkpoint, Frame)>,
    index: usize,
    key: String,
    key_is_refused: bool,
    /// A struct that stands for JSON text or an exact number.
    text: Option<&'static str>,
}

impl<'f> ValueSerializer<'f> {
    fn container(self, kind: Kind) -> Container<'f> {
        let frame = self.0.begin(kind);
        Container::new(self.0, frame, None)
    }

    fn big_integer(self, value: impl fmt::Display) -> Result<(), Failure> {
        self.0.scalar(Scalar::BigInt(&value.to_string()));
        Ok(())
    }

    /// The value in an option or a newtype.
    fn wrapped<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        let flattener = self.0;
        if flattener.place.wrappers >= MOST_WRAPPERS {
            let key = flattener.key_name();
            let limit = "512 options and newtypes";
            flattener.outcome.push(EnrichError::TooDeepToKeep { key, limit });
            return Ok(());
        }
        flattener.place.wrappers += 1;
        let result = value.serialize(ValueSerializer(flattener));
        flattener.place.wrappers -= 1;
        result
    }

    /// `{variant: …}`, as `serde_json` writes variants.
    fn variant(self, variant: &'static str, kind: Kind) -> Container<'f> {
        let outer = self.0.begin_object();
        let checkpoint = self.0.enter_key(variant);
        let mut container = self.container(kind);
        container.outer = Some((checkpoint, outer));
        container
    }
}

impl<'f> ser::Serializer for ValueSerializer<'f> {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Container<'f>;
    type SerializeTuple = Container<'f>;
    type SerializeTupleStruct = Container<'f>;
    type SerializeTupleVariant = Container<'f>;
    type SerializeMap = Container<'f>;
    type SerializeStruct = Container<'f>;
    type SerializeStructVariant = Container<'f>;

    fn serialize_bool(self, value: bool) -> Result<(), Failure> {
        self.0.scalar(Scalar::Bool(value));
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Failure> {
        self.0.scalar(Scalar::Int(value));
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Failure> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.big_integer(value),
        }
    }

    fn serialize_u8(self, value: u8) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Failure> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.big_integer(value),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<(), Failure> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.big_integer(value),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<(), Failure> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Failure> {
        self.0.scalar(Scalar::Float(value));
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Failure> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Failure> {
        self.0.scalar(Scalar::Str(value));
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Failure> {
        self.0.unsupported("bytes");
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Failure> {
        Ok(()) // absent: changes nothing
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        self.wrapped(value)
    }

    fn serialize_unit(self) -> Result<(), Failure> {
        self.0.null();
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failure> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Failure> {
        self.0.scalar(Scalar::Static(variant));
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.wrapped(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        let frame = self.0.begin_object();
        let checkpoint = self.0.enter_key(variant);
        self.0.serialize(value);
        self.0.leave(checkpoint);
        self.0.end(frame);
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Container<'f>, Failure> {
        Ok(self.container(Kind::Array))
    }

    fn serialize_tuple(self, _: usize) -> Result<Container<'f>, Failure> {
        Ok(self.container(Kind::Array))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Container<'f>, Failure> {
        Ok(self.container(Kind::Array))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Container<'f>, Failure> {
        Ok(self.variant(variant, Kind::Array))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Container<'f>, Failure> {
        Ok(self.container(Kind::Object))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Container<'f>, Failure> {
        if name == JSON_NUMBER || name == JSON_RAW {
            return Ok(Container::new(self.0, Frame::Refused, Some(name)));
        }
        Ok(self.container(Kind::Object))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Container<'f>, Failure> {
        Ok(self.variant(variant, Kind::Object))
    }
}

impl<'f> Container<'f> {
    fn new(flattener: &'f mut Flattener, frame: Frame, text: Option<&'static str>) -> Self {
        let (key, key_is_refused) = (String::new(), false);
        Self { flattener, frame, outer: None, index: 0, key, key_is_refused, text }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) {
        let checkpoint = self.flattener.enter_index(self.index);
        self.flattener.serialize(value);
        self.flattener.leave(checkpoint);
        self.index += 1;
    }

    fn entry<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        let checkpoint = self.flattener.enter_key(key);
        self.flattener.serialize(value);
        self.flattener.leave(checkpoint);
    }

    fn close(self) {
        self.flattener.end(self.frame);
        if let Some((checkpoint, frame)) = self.outer {
            self.flattener.leave(checkpoint);
            self.flattener.end(frame);
        }
    }

    /// An exact number, or JSON text that is taken as the value it stands for.
    fn foreign_text<T: Serialize + ?Sized>(
        &mut self,
        name: &str,
        value: &T,
    ) -> Result<(), Failure> {
        let mut text = String::new();
        value
            .serialize(KeySerializer::new(&mut text))
            .map_err(|NotAKey(reason)| Failure(reason.to_owned()))?;
        if name == JSON_NUMBER {
            let written = ValueSerializer(self.flattener);
            return match (text.parse::<i128>(), text.parse::<u128>(), text.parse::<f64>()) {
                (Ok(value), ..) => written.serialize_i128(value),
                (_, Ok(value), _) => written.serialize_u128(value),
                // An integer beyond 128 bits: exact beats chartable.
                _ if text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) => {
                    written.serialize_str(&text)
                }
                (_, _, Ok(value)) => written.serialize_f64(value),
                _ => Err(Failure(format!("{text} is not a number"))),
            };
        }
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Failure(error.to_string()))?;
        value.serialize(ValueSerializer(self.flattener))
    }
}

/// What holds elements by position: serde tells apart what is one to us.
macro_rules! elements {
    ($($container:ident: $method:ident,)*) => {$(
        impl ser::$container for Container<'_> {
            type Ok = ();
            type Error = Failure;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
                self.element(value);
                Ok(())
            }

            fn end(self) -> Result<(), Failure> {
                self.close();
                Ok(())
            }
        }
    )*};
}

elements! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

impl ser::SerializeMap for Container<'_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        self.key.clear();
        let written = key.serialize(KeySerializer::new(&mut self.key));
        self.key_is_refused = written.is_err();
        if let Err(NotAKey(reason)) = written
            && !self.flattener.place.muted
        {
            let parent = self.flattener.key_name();
            self.flattener.outcome.push(EnrichError::InvalidKey { parent, reason });
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        if !self.key_is_refused {
            let key = std::mem::take(&mut self.key);
            self.entry(&key, value);
            self.key = key; // its memory serves the next key
        }
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeStruct for Container<'_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        if let Some(name) = self.text {
            return self.foreign_text(name, value);
        }
        self.entry(key, value);
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        self.close();
        Ok(())
    }
}

impl ser::SerializeStructVariant for Container<'_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.entry(key, value);
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        self.close();
        Ok(())
    }
}

/// Writes a map key as text: strings, and what `serde_json` takes as keys beside them.
struct KeySerializer<'k> {
    text: &'k mut String,
    /// Newtypes around the key.
    wrappers: u32,
}

impl<'k> KeySerializer<'k> {
    fn new(text: &'k mut String) -> Self {
        Self { text, wrappers: 0 }
    }
}

/// Why something can't be a key.
#[derive(Debug)]
struct NotAKey(&'static str);

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotAKey {}

impl ser::Error for NotAKey {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self("could not be serialized")
    }
}

const NOT_A_STRING: NotAKey = NotAKey("is not a string");

macro_rules! displayed_keys {
    ($($method:ident: $type:ty,)*) => {$(
        fn $method(self, value: $type) -> Result<(), NotAKey> {
            write_display(self.text, value);
            Ok(())
        }
    )*};
}

impl ser::Serializer for KeySerializer<'_> {
    type Ok = ();
    type Error = NotAKey;
    type SerializeSeq = ser::Impossible<(), NotAKey>;
    type SerializeTuple = ser::Impossible<(), NotAKey>;
    type SerializeTupleStruct = ser::Impossible<(), NotAKey>;
    type SerializeTupleVariant = ser::Impossible<(), NotAKey>;
    type SerializeMap = ser::Impossible<(), NotAKey>;
    type SerializeStruct = ser::Impossible<(), NotAKey>;
    type SerializeStructVariant = ser::Impossible<(), NotAKey>;

    displayed_keys! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char,
        serialize_str: &str,
    }

    fn serialize_f32(self, _: f32) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_f64(self, _: f64) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_none(self) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_unit(self) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), NotAKey> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotAKey> {
        if self.wrappers >= MOST_WRAPPERS {
            return Err(NotAKey("nests too deep"));
        }
        value.serialize(KeySerializer { wrappers: self.wrappers + 1, ..self })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, NotAKey> {
        Err(NOT_A_STRING)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, NotAKey> {
        Err(NOT_A_STRING)
    }
}
