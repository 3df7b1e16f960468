//! The feedback document: a JSON document kept flat, and the rules by which two of them merge.
//!
//! A document is a set of leaves by their full key (`feedback.step1.retry`) together with the keys
//! that were removed before those leaves were set. Read that way it is also a *patch*: something
//! that can be applied to another document, and [`Document::apply`] composes two patches into one.
//! (The composition is exact on a document that was empty, or changed by the two patches only. On
//! another document it misses a leaf that was in the way of a key which the first patch set and the
//! second removed.) That makes a single rule book serve the merge inside the process, the carriers
//! on the wire (`tracing_feedback.cleared` plus attributes) and the [fold](super::fold) on the
//! reading side.
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
use std::cmp::Ordering;
use std::ops::Range;

/// A full attribute key: path segments joined by dots, the namespace first.
pub(crate) type AttributeKey = Cow<'static, str>;

/// The namespaces of enrichments: the first segment of their keys.
pub(crate) const NAMESPACES: [&str; 7] =
    ["feedback", "metrics", "metadata", "user_properties", "inputs", "outputs", "config"];

/// Whether `key`, with or without the prefix `honeyhive_`, is below a namespace. The name
/// of a namespace alone is not: `config` is any field, `config.model` is an enrichment.
#[cfg(feature = "collector")]
pub(crate) fn is_in_namespace(key: &str) -> bool {
    key.split_once('.').is_some_and(|(namespace, _)| {
        NAMESPACES.contains(&namespace.strip_prefix("honeyhive_").unwrap_or(namespace))
    })
}

/// How many attributes say what a scoped document is about: scope, time, cleared keys.
pub(crate) const SCOPED_ATTRIBUTES: usize = 3;

/// How many attributes a carrier may have beside those of its document.
pub(crate) const CARRIER_ATTRIBUTES: usize = SCOPED_ATTRIBUTES + 2;

/// Removed keys that a document remembers.
pub(crate) const MOST_CLEARED: usize = 1024;

/// The capacity for leaves that a document allocates with the first one.
const INITIAL_LEAVES: usize = 8;

/// How many leaves, and how many cleared keys, a document that is cleared keeps memory for.
const USUAL: usize = 64;

/// Leaves by full key, and the keys that are removed before the leaves are set.
///
/// ```
/// use tracing_feedback::fold::Document;
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
    leaves: Vec<(AttributeKey, V)>,
    cleared: Vec<AttributeKey>,
}

impl<V> Default for Document<V> {
    fn default() -> Self {
        Self { leaves: Vec::new(), cleared: Vec::new() }
    }
}

impl<V> Document<V> {
    pub(crate) const BLANK: Self = Self { leaves: Vec::new(), cleared: Vec::new() };

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
    pub(crate) fn into_parts(self) -> (Vec<(AttributeKey, V)>, Vec<AttributeKey>) {
        (self.leaves, self.cleared)
    }

    /// The document of which [`into_parts`](Self::into_parts) gave these parts.
    pub(crate) fn from_parts(leaves: Vec<(AttributeKey, V)>, cleared: Vec<AttributeKey>) -> Self {
        Self { leaves, cleared }
    }

    /// Sets one leaf: removes what stood under `key` and any leaf on the way to it.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: V) {
        self.set_with(key.into(), || value);
    }

    /// As [`set`](Self::set). Returns the value in place: writing it there is cheaper than moving
    /// it there.
    pub(crate) fn set_with<K>(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V
    where
        K: AsRef<str> + Into<AttributeKey>,
    {
        let at = match self.position(key.as_ref()) {
            Ok(at) => {
                self.leaves[at].1 = value();
                at
            }
            Err(gap) => {
                if self.leaves.capacity() == 0 {
                    self.leaves.reserve(INITIAL_LEAVES);
                }
                let at = self.make_way(gap, key.as_ref());
                self.leaves.insert(at, (key.into(), value()));
                at
            }
        };
        &mut self.leaves[at].1
    }

    /// Removes `key` and all that stands under it, and remembers that it did.
    ///
    /// ```
    /// use tracing_feedback::fold::Document;
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
        match self.position(&key) {
            Ok(at) => {
                self.leaves.remove(at);
            }
            Err(gap) => {
                self.leaves.drain(self.under(gap, &key));
            }
        }
        self.note_cleared(key);
    }

    /// Merges `patch` into this document: what it cleared goes first, then its leaves are set.
    ///
    /// ```
    /// use tracing_feedback::fold::Document;
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
    pub(crate) fn apply_within(&mut self, mut patch: Document<V>, most: usize) -> usize {
        self.absorb(&mut patch, most)
    }

    /// As [`apply_within`](Self::apply_within), and leaves an empty patch that keeps its memory.
    pub(crate) fn absorb(&mut self, patch: &mut Document<V>, most: usize) -> usize {
        if self.is_empty() && patch.len() <= most {
            std::mem::swap(self, patch);
            return 0;
        }
        for key in patch.cleared.drain(..) {
            self.remove(key);
        }
        let mut left_out = 0;
        let mut after = 0; // the leaves before this one sort before all patch leaves still to come
        for (key, value) in patch.leaves.drain(..) {
            let position = match self.leaves.get(after) {
                // The usual case of the same enrichment again, often from the same literal.
                Some((leaf, _)) if std::ptr::eq(&**leaf, &*key) || *leaf == key => Ok(after),
                _ => self.position_from(after, &key),
            };
            match position {
                Ok(at) => {
                    self.leaves[at].1 = value;
                    after = at + 1;
                }
                Err(gap) if self.leaves.len() < most || !self.grows(gap, &key) => {
                    let at = self.make_way(gap, &key);
                    self.leaves.insert(at, (key, value));
                    after = at + 1;
                }
                Err(_) => left_out += 1,
            }
        }
        left_out
    }

    /// The position of the leaf with this key, which may be `likely`.
    #[inline]
    pub(super) fn find(&self, key: &str, likely: usize) -> Option<usize> {
        match self.leaves.get(likely) {
            Some((leaf, _)) if leaf == key => Some(likely),
            _ => self.position(key).ok(),
        }
    }

    /// As [`find`](Self::find), for a static key, which is often the very string that the leaf has.
    #[inline]
    pub(super) fn find_static(&self, key: &'static str, likely: usize) -> Option<usize> {
        match self.leaves.get(likely) {
            Some((leaf, _)) if std::ptr::eq(&**leaf, key) => Some(likely),
            _ => self.find(key, likely),
        }
    }

    pub(super) fn value_at(&mut self, at: usize) -> Option<&mut V> {
        self.leaves.get_mut(at).map(|(_, value)| value)
    }

    /// Clears the document, and keeps memory for a usual number of leaves and cleared keys.
    pub(crate) fn clear(&mut self) {
        self.leaves.clear();
        self.leaves.shrink_to(USUAL);
        self.cleared.clear();
        self.cleared.shrink_to(USUAL);
    }

    /// Whether the document has no more memory than [`clear`](Self::clear) keeps.
    #[inline]
    pub(super) fn is_small(&self) -> bool {
        self.leaves.capacity() <= USUAL && self.cleared.capacity() <= USUAL
    }

    /// Removes what is in the way of a leaf. Returns the position to insert it at.
    #[inline]
    fn make_way(&mut self, gap: Gap, key: &str) -> usize {
        if gap.is_free(key) { gap.at } else { self.clear_way(gap, key) }
    }

    fn clear_way(&mut self, gap: Gap, key: &str) -> usize {
        if let Some(leaf) = self.on_the_way_to(gap, key) {
            let (replaced, _) = self.leaves.remove(leaf);
            self.note_cleared(replaced);
            return gap.at - 1;
        }
        self.leaves.drain(self.under(gap, key));
        gap.at
    }

    /// Whether the leaf would be one more, since nothing is in its way.
    fn grows(&self, gap: Gap, key: &str) -> bool {
        self.on_the_way_to(gap, key).is_none() && self.under(gap, key).is_empty()
    }

    /// Remembers a removed key, unless [`MOST_CLEARED`] are remembered already: a document may be
    /// enriched for ever. The removal itself has been done.
    fn note_cleared(&mut self, key: AttributeKey) {
        if self.cleared.len() >= MOST_CLEARED
            || self.cleared.iter().any(|cleared| is_at_or_under(&key, cleared))
        {
            return;
        }
        self.cleared.retain(|cleared| !is_at_or_under(cleared, &key));
        self.cleared.push(key);
    }

    fn position(&self, key: &str) -> Result<usize, Gap> {
        self.position_from(0, key)
    }

    /// The position of a key that sorts at or after the leaf at `from`.
    fn position_from(&self, from: usize, key: &str) -> Result<usize, Gap> {
        let (mut low, mut high) = (from, self.leaves.len());
        let (mut before, mut after) = (0, 0);
        if let Some(last) = from.checked_sub(1) {
            before = common(&self.leaves[last].0, key);
        }
        while low < high {
            let middle = low.midpoint(high);
            let leaf = &self.leaves[middle].0;
            let common = common(leaf, key);
            match leaf.as_bytes().get(common).cmp(&key.as_bytes().get(common)) {
                Ordering::Less => (low, before) = (middle + 1, common),
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => (high, after) = (middle, common),
            }
        }
        Err(Gap { at: low, before, after })
    }

    /// The leaf on the way to `key`. There is at most one, since no leaf lies under another.
    fn on_the_way_to(&self, gap: Gap, key: &str) -> Option<usize> {
        if !gap.may_follow_ancestor(key) {
            return None;
        }
        let ancestor = &key[..gap.before];
        let is_namespace = !ancestor.contains('.');
        if is_namespace { None } else { self.position(ancestor).ok() }
    }

    /// The run of leaves that lie under `key`, `key` itself not included.
    fn under(&self, gap: Gap, key: &str) -> Range<usize> {
        if !gap.may_precede_children(key) {
            return gap.at..gap.at;
        }
        let rest = &self.leaves[gap.at..];
        let start = gap.at + rest.partition_point(|(leaf, _)| is_before_children(leaf, key));
        let length =
            self.leaves[start..].iter().take_while(|(leaf, _)| is_at_or_under(leaf, key)).count();
        start..start + length
    }
}

/// The position between leaves where a key without a leaf sorts.
#[derive(Clone, Copy)]
struct Gap {
    /// The position of the leaf after it.
    at: usize,
    /// How many bytes the key has in common with the leaf before it.
    before: usize,
    /// How many bytes the key has in common with the leaf after it.
    after: usize,
}

impl Gap {
    /// Whatever sorts between a leaf and a key under it begins like that leaf, and then differs
    /// from the key in the very next byte.
    fn may_follow_ancestor(self, key: &str) -> bool {
        key.as_bytes().get(self.before) == Some(&b'.')
    }

    /// Whatever sorts between a key and what lies under it begins like that key.
    fn may_precede_children(self, key: &str) -> bool {
        self.after == key.len()
    }

    /// Whether neither is the case, as for nearly all keys.
    fn is_free(self, key: &str) -> bool {
        !self.may_follow_ancestor(key) && !self.may_precede_children(key)
    }
}

/// Whether `leaf` sorts before everything of the form `key.…`.
fn is_before_children(leaf: &str, key: &str) -> bool {
    let (leaf, key) = (leaf.as_bytes(), key.as_bytes());
    match leaf[..leaf.len().min(key.len())].cmp(key) {
        Ordering::Equal => leaf.get(key.len()).is_none_or(|next| *next < b'.'),
        order => order.is_lt(),
    }
}

/// Whether `key` is `root` or lies under it.
pub(crate) fn is_at_or_under(key: &str, root: &str) -> bool {
    key.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// How many bytes two keys have in common before they differ, eight at a time: most begin alike.
fn common(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut common = 0;
    for (a, b) in a.as_chunks().0.iter().zip(b.as_chunks().0) {
        let differ = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differ != 0 {
            return common + differ.trailing_zeros() as usize / 8;
        }
        common += 8;
    }
    common + a[common..].iter().zip(&b[common..]).take_while(|(a, b)| a == b).count()
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
    fn what_sorts_between_a_leaf_and_a_key_under_it_hides_neither() {
        let mut doc = document(&[("f.a b", 1), ("f.a-b", 2), ("f.a.b", 3), ("f.a.c", 4)]);
        doc.set("f.a", 5);
        assert_eq!(keys(&doc), ["f.a", "f.a b", "f.a-b"]);
        doc.set("f.a.d", 6);
        assert_eq!(keys(&doc), ["f.a b", "f.a-b", "f.a.d"]);
        assert_eq!(doc.cleared().collect::<Vec<_>>(), ["f.a"]);
    }

    #[test]
    fn keys_may_differ_within_a_character() {
        let mut doc = document(&[("f.\u{e9}", 1), ("f.\u{e8}", 2), ("f.\u{e9}.a", 3)]);
        doc.set("f.\u{ea}", 4);
        assert_eq!(keys(&doc), ["f.\u{e8}", "f.\u{e9}.a", "f.\u{ea}"]);
    }

    #[test]
    fn a_full_document_still_takes_changes_that_do_not_grow_it() {
        let mut doc = document(&[("f.a", 1), ("f.b", 2)]);
        assert_eq!(doc.apply_within(document(&[("f.a", 3), ("f.c", 4)]), 2), 1);
        assert_eq!(doc.leaves().collect::<Vec<_>>(), [("f.a", &3), ("f.b", &2)]);
    }
}
