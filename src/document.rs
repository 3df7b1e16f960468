//! The feedback document: a JSON document kept flat, and the rules by which two of them merge.
//!
//! A document is a set of leaves by their full key (`feedback.step1.retry`) together with the keys
//! that were removed before those leaves were set. Read that way it is also a *patch*: something
//! that can be applied to another document, and [`Document::apply`] composes two patches into one. (On
//! a document that was empty, or that the two have enriched alone, the composition is exact. A leaf
//! that stood in the way of one which was set and removed again, both in between, it can't know of.)
//! That makes a single rule book serve the merge inside the process, the carriers on the wire
//! (`tracing_feedback.cleared` plus attributes) and the [fold](crate::fold) on the reading side.
//!
//! # Rules
//!
//! [JSON Merge Patch](https://www.rfc-editor.org/rfc/rfc7396) over paths:
//!
//! - Setting a leaf removes what stood under it and any leaf that stood on the way to it.
//! - Removing a key removes all that stood under it. `null` and arrays remove their key first.
//! - An object sets nothing by itself: one without a leaf replaces nothing, and one over an array
//!   merges by position.
//!
//! # Invariants
//!
//! - No key of a leaf lies under the key of another leaf.
//! - Leaves are sorted by key, so all that lies under a key is one contiguous run.
//! - No cleared key lies under another cleared key, and none stands twice.

use std::borrow::Cow;
use std::ops::Range;

/// A full attribute key: path segments joined by dots, the namespace first.
pub(crate) type Key = Cow<'static, str>;

/// Removed keys that a document remembers.
pub(crate) const MOST_CLEARED: usize = 1024;

/// Leaves by full key, and the keys that are removed before the leaves are set.
///
/// ```
/// use tracing_feedback::Document;
///
/// let mut document = Document::default();
/// document.set("feedback.rating", 1);
/// document.set("feedback.step.retry", 2);
/// document.set("feedback.rating", 3); // the last write wins
/// document.set("feedback.step", 4); // and takes with it what stood under it
/// let leaves: Vec<_> = document.leaves().map(|(key, value)| (key, *value)).collect();
/// assert_eq!(leaves, [("feedback.rating", 3), ("feedback.step", 4)]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Document<V> {
    leaves: Vec<(Key, V)>,
    cleared: Vec<Key>,
}

impl<V> Default for Document<V> {
    fn default() -> Self {
        Self { leaves: Vec::new(), cleared: Vec::new() }
    }
}

impl<V> Document<V> {
    /// Whether the document neither sets nor removes anything.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty() && self.cleared.is_empty()
    }

    /// How many leaves the document sets. One that only removes has none and still isn't
    /// [empty](Self::is_empty).
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// The leaves in the order of their keys.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = (&str, &V)> {
        self.leaves.iter().map(|(key, value)| (key.as_ref(), value))
    }

    /// The keys that are removed, with all that stands under them, before the leaves are set: every
    /// `null`, every array, and every leaf that an object has replaced since.
    pub fn cleared(&self) -> impl ExactSizeIterator<Item = &str> {
        self.cleared.iter().map(Cow::as_ref)
    }

    /// Takes the document apart into its leaves, sorted by key, and its cleared keys.
    pub(crate) fn into_parts(self) -> (Vec<(Key, V)>, Vec<Key>) {
        (self.leaves, self.cleared)
    }

    /// Sets one leaf: removes what stood under `key` and any leaf on the way to it.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: V) {
        let key = key.into();
        self.clear_way_to(&key);
        match self.position(&key) {
            Ok(at) => {
                self.leaves[at] = (key, value);
            }
            Err(at) => {
                let under = self.under(&key);
                self.leaves.drain(under);
                self.leaves.insert(at, (key, value));
            }
        }
    }

    /// Removes `key` and all that stands under it, and remembers that it did.
    ///
    /// ```
    /// use tracing_feedback::Document;
    ///
    /// let mut document = Document::default();
    /// document.set("feedback.step.retry", true);
    /// document.remove("feedback.step");
    /// assert_eq!(document.len(), 0);
    /// assert_eq!(document.cleared().collect::<Vec<_>>(), ["feedback.step"]);
    /// assert!(!document.is_empty());
    /// ```
    pub fn remove(&mut self, key: impl Into<Cow<'static, str>>) {
        let key = key.into();
        if let Ok(at) = self.position(&key) {
            self.leaves.remove(at);
        } else {
            let under = self.under(&key);
            self.leaves.drain(under);
        }
        self.clear(key);
    }

    /// Merges `patch` into this document: what it cleared goes first, then its leaves are set.
    ///
    /// ```
    /// use tracing_feedback::Document;
    ///
    /// let mut document = Document::default();
    /// document.set("feedback.rating", 1);
    /// document.set("feedback.stars", 5);
    /// let mut change_of_mind = Document::default();
    /// change_of_mind.set("feedback.rating", 3);
    /// document.apply(change_of_mind);
    /// let leaves: Vec<_> = document.leaves().map(|(key, value)| (key, *value)).collect();
    /// assert_eq!(leaves, [("feedback.rating", 3), ("feedback.stars", 5)]);
    /// ```
    pub fn apply(&mut self, patch: Document<V>) {
        self.apply_within(patch, usize::MAX);
    }

    /// As [`apply`](Self::apply), but never holds more than `most` leaves: what would be one too
    /// many is left out. Returns how many were.
    pub(crate) fn apply_within(&mut self, patch: Document<V>, most: usize) -> usize {
        if self.is_empty() && patch.len() <= most {
            *self = patch;
            return 0;
        }
        for key in patch.cleared {
            self.remove(key);
        }
        let mut left_out = 0;
        for (key, value) in patch.leaves {
            if self.leaves.len() >= most && !self.makes_room(&key) {
                left_out += 1;
            } else {
                self.set(key, value);
            }
        }
        left_out
    }

    /// Whether setting `key` removes at least one leaf, so that the number of leaves doesn't grow.
    fn makes_room(&self, key: &str) -> bool {
        self.position(key).is_ok()
            || !self.under(key).is_empty()
            || ancestors(key).any(|ancestor| self.position(ancestor).is_ok())
    }

    fn clear_way_to(&mut self, key: &str) {
        for ancestor in ancestors(key) {
            if let Ok(at) = self.position(ancestor) {
                let (replaced, _) = self.leaves.remove(at);
                self.clear(replaced);
                return; // no leaf lies under another, so there is at most one on the way
            }
        }
    }

    /// Remembers a removed key. What a document that is enriched for ever has removed is bounded; the
    /// removal itself has been done.
    fn clear(&mut self, key: Key) {
        if self.cleared.len() >= MOST_CLEARED
            || self.cleared.iter().any(|cleared| is_at_or_under(&key, cleared))
        {
            return;
        }
        self.cleared.retain(|cleared| !is_at_or_under(cleared, &key));
        self.cleared.push(key);
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.leaves.binary_search_by(|(leaf, _)| leaf.as_ref().cmp(key))
    }

    /// The run of leaves that lie under `key`, `key` itself not included.
    fn under(&self, key: &str) -> Range<usize> {
        let start = self.leaves.partition_point(|(leaf, _)| is_before_children(leaf, key));
        let length =
            self.leaves[start..].iter().take_while(|(leaf, _)| is_at_or_under(leaf, key)).count();
        start..start + length
    }
}

/// Whether `leaf` sorts before everything of the form `key.…`.
fn is_before_children(leaf: &str, key: &str) -> bool {
    leaf.bytes().lt(key.bytes().chain(std::iter::once(b'.')))
}

/// Whether `key` is `root` or lies under it.
pub(crate) fn is_at_or_under(key: &str, root: &str) -> bool {
    key.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The keys on the way to `key`, outermost first, without the namespace and without `key` itself.
fn ancestors(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('.').skip(1).map(|(dot, _)| &key[..dot])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(leaves: &[(&'static str, i32)]) -> Document<i32> {
        let mut document = Document::default();
        for &(key, value) in leaves {
            document.set(key, value);
        }
        document
    }

    fn keys(document: &Document<i32>) -> Vec<&str> {
        document.leaves().map(|(key, _)| key).collect()
    }

    #[test]
    fn a_leaf_removes_what_stood_under_it_and_nothing_beside_it() {
        let mut doc = document(&[("f.a.b", 1), ("f.a.c.d", 2), ("f.a-b", 3), ("f.ab", 4)]);
        doc.set("f.a", 5);
        assert_eq!(keys(&doc), ["f.a", "f.a-b", "f.ab"]);
        assert_eq!(doc.cleared().len(), 0);
    }

    #[test]
    fn an_object_over_a_leaf_remembers_the_leaf_it_replaced() {
        let mut doc = document(&[("f.a", 1)]);
        doc.set("f.a.b", 2);
        assert_eq!(keys(&doc), ["f.a.b"]);
        assert_eq!(doc.cleared().collect::<Vec<_>>(), ["f.a"]);
    }

    #[test]
    fn removing_a_namespace_removes_all_of_it() {
        let mut doc = document(&[("f.a", 1), ("f.b.c", 2), ("g.a", 3)]);
        doc.remove("f.b");
        doc.remove("f");
        assert_eq!(keys(&doc), ["g.a"]);
        assert_eq!(doc.cleared().collect::<Vec<_>>(), ["f"]);
    }

    #[test]
    fn a_full_document_still_takes_changes_that_do_not_grow_it() {
        let mut doc = document(&[("f.a", 1), ("f.b", 2)]);
        assert_eq!(doc.apply_within(document(&[("f.a", 3), ("f.c", 4)]), 2), 1);
        assert_eq!(doc.leaves().collect::<Vec<_>>(), [("f.a", &3), ("f.b", &2)]);
    }
}
