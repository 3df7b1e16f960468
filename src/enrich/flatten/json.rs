//! JSON text: values that nest too deeply for separate attributes become one string leaf.

use std::fmt::Write as _;

use opentelemetry::Value;

use super::scalar::Scalar;

/// JSON text that is being written, of bounded length.
#[derive(Debug)]
pub(super) struct JsonText {
    text: String,
    /// The most bytes that can be kept.
    limit: usize,
    /// Whether the text has a leaf: containers without a leaf are not kept.
    has_leaf: bool,
    /// Whether a string was left out because it would exceed the limit.
    is_cut: bool,
}

/// An entry of a container in the text: where it begins, and where its value does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    start: usize,
    value: usize,
}

impl JsonText {
    /// A text that begins with a container.
    pub(super) fn new(open: char, limit: usize) -> Self {
        Self { text: String::from(open), limit, has_leaf: false, is_cut: false }
    }

    pub(super) fn open(&mut self, open: char) {
        self.text.push(open);
    }

    pub(super) fn close(&mut self, close: &str) {
        self.text.push_str(close);
    }

    pub(super) fn has_leaf(&self) -> bool {
        self.has_leaf
    }

    /// Records that the value has a leaf, or may have one, that is not written.
    pub(super) fn count_leaf(&mut self) {
        self.has_leaf = true;
    }

    /// Whether the text exceeds the limit. It is dropped then, so nothing more needs to be written.
    pub(super) fn is_too_long(&self) -> bool {
        self.is_cut || self.text.len() > self.limit
    }

    /// Begins the entry of an object.
    pub(super) fn key(&mut self, key: &str) -> Entry {
        let start = self.text.len();
        self.separate();
        write_string(&mut self.text, key);
        self.text.push(':');
        Entry { start, value: self.text.len() }
    }

    /// Begins the entry of an array.
    pub(super) fn element(&mut self) -> Entry {
        let start = self.text.len();
        self.separate();
        Entry { start, value: self.text.len() }
    }

    /// Ends an entry. An entry without a value is removed from an object; in an array it becomes `null`, so
    /// that later elements keep their positions.
    pub(super) fn end_entry(&mut self, entry: Entry, is_element: bool) {
        if self.text.len() == entry.value {
            if is_element {
                self.text.push_str("null");
            } else {
                self.text.truncate(entry.start);
            }
        }
    }

    pub(super) fn length(&self) -> usize {
        self.text.len()
    }

    /// Truncates the text to an earlier length, at which it was not too long.
    pub(super) fn truncate(&mut self, length: usize) {
        self.text.truncate(length);
        self.is_cut = false;
    }

    pub(super) fn null(&mut self) {
        self.has_leaf = true;
        self.text.push_str("null");
    }

    pub(super) fn scalar(&mut self, scalar: Scalar<'_>) {
        match scalar {
            // JSON numbers are unbounded, so the integer is written exactly.
            Scalar::BigInt(number) => {
                self.has_leaf = true;
                self.text.push_str(number);
            }
            Scalar::Str(string) | Scalar::Static(string) => self.string(string),
            other => self.value(other.into_value()),
        }
    }

    pub(super) fn value(&mut self, value: Value) {
        self.has_leaf = true;
        match value {
            Value::String(string) => self.string(string.as_str()),
            Value::Bool(value) => self.text.push_str(if value { "true" } else { "false" }),
            Value::I64(value) => {
                let _ = write!(self.text, "{value}"); // writing to a `String` can't fail
            }
            Value::F64(value) => {
                if let Ok(number) = serde_json::to_string(&value) {
                    self.text.push_str(&number);
                }
            }
            other => self.string(&other.to_string()),
        }
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }

    fn string(&mut self, string: &str) {
        self.has_leaf = true;
        if self.text.len() + string.len() > self.limit {
            self.is_cut = true;
        } else {
            write_string(&mut self.text, string);
        }
    }

    fn separate(&mut self) {
        if !self.text.ends_with(['{', '[']) {
            self.text.push(',');
        }
    }
}

fn write_string(text: &mut String, string: &str) {
    if let Ok(quoted) = serde_json::to_string(string) {
        text.push_str(&quoted);
    }
}
