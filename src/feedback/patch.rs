//! A patch that is being written: the leaves and removals of one enrichment.
//!
//! An enrichment nearly always sets leaves that the document has already, since the same code has set them
//! before. So a patch collects leaves in the order in which they are written, and if the document has all
//! of them, [merging](Patch::merge_into) replaces their values and does nothing else. Only otherwise the
//! leaves are put together into a [`Document`], which is merged by the rules.
//!
//! # Invariants
//!
//! - While leaves are collected, `settled` is empty. Nothing is collected after a removal.
//! - The keys of the collected leaves that are not static stand in `keys`, one after another.
//! - Of `leaves` the first `count` are collected. Those after them have a blank value, and are kept so that a
//!   leaf is written in place: moving one right after it was written stalls on store forwarding.

use opentelemetry::Value;

use super::document::{AttributeKey, Document};

/// The leaves and removals of one enrichment, in the order in which they are written.
#[derive(Debug, Default)]
pub(crate) struct Patch {
    leaves: Vec<Leaf>,
    /// How many leaves are collected.
    count: usize,
    /// The keys that are not static.
    keys: String,
    /// The patch as a document, once it is needed as one.
    settled: Document<Value>,
}

/// A collected leaf.
#[derive(Debug)]
struct Leaf {
    /// The key, if it is static; otherwise empty.
    key: &'static str,
    /// Where the key ends in `keys`, if it is not static. It begins where the one before it ends.
    end: usize,
    /// The position in the document that the patch is merged into; before that, the position that the leaf of
    /// an earlier patch had, which is often the same.
    at: usize,
    value: Value,
}

/// How many leaves a patch keeps memory for.
const USUAL_LEAVES: usize = 64;

/// How many bytes of keys that are not static a patch keeps memory for.
const USUAL_KEYS: usize = 4096;

/// A value that owns no memory.
const BLANK: Value = Value::Bool(false);

impl Patch {
    /// Whether the patch neither sets nor removes anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.settled.is_empty()
    }

    /// Whether the patch sets `most` leaves.
    #[inline]
    pub(crate) fn is_full(&mut self, most: usize) -> bool {
        // A leaf that is set twice is collected twice.
        self.count + self.settled.len() >= most && self.document().len() >= most
    }

    /// Sets a leaf, and returns its value, which is blank: writing it in place is cheaper than moving it
    /// there.
    #[inline]
    pub(crate) fn set(&mut self, key: &'static str) -> &mut Value {
        if !self.settled.is_empty() || key.is_empty() {
            return self.document().set_with(key, || BLANK);
        }
        self.collect(key)
    }

    /// As [`set`](Self::set), for a key that is not static.
    pub(crate) fn set_text(&mut self, key: &str) -> &mut Value {
        if !self.settled.is_empty() {
            return self.settled.set_with(key.to_owned(), || BLANK);
        }
        self.keys.push_str(key);
        self.collect("")
    }

    #[inline]
    fn collect(&mut self, key: &'static str) -> &mut Value {
        let at = self.count;
        if at == self.leaves.len() {
            self.leaves.push(Leaf { key: "", end: 0, at: 0, value: BLANK });
        }
        self.count += 1;
        let leaf = &mut self.leaves[at];
        leaf.key = key;
        leaf.end = self.keys.len();
        &mut leaf.value
    }

    /// Removes `key` and all that stands under it.
    pub(crate) fn remove(&mut self, key: impl Into<AttributeKey>) {
        self.document().remove(key);
    }

    /// The patch as a document.
    #[inline]
    pub(crate) fn document(&mut self) -> &mut Document<Value> {
        if self.count > 0 {
            self.settle();
        }
        &mut self.settled
    }

    fn settle(&mut self) {
        let mut start = 0;
        for Leaf { key, end, value, .. } in &mut self.leaves[..self.count] {
            let value = std::mem::replace(value, BLANK);
            if key.is_empty() {
                self.settled.set_with(self.keys[start..*end].to_owned(), || value);
                start = *end;
            } else {
                self.settled.set_with(*key, || value);
            }
        }
        self.count = 0;
        self.keys.clear();
    }

    /// Merges the patch into `document`, as [`Document::apply_within`] does, and leaves an empty patch.
    pub(crate) fn merge_into(&mut self, document: &mut Document<Value>, most: usize) -> usize {
        if !self.settled.is_empty() || document.is_empty() || !self.find_in(document) {
            return document.absorb(self.document(), most);
        }
        for leaf in &mut self.leaves[..self.count] {
            if let Some(value) = document.value_at(leaf.at) {
                *value = std::mem::replace(&mut leaf.value, BLANK);
            }
        }
        self.count = 0;
        self.keys.clear();
        0
    }

    /// Finds the collected leaves in `document`. Returns whether it has all of them.
    fn find_in(&mut self, document: &Document<Value>) -> bool {
        let mut start = 0;
        for leaf in &mut self.leaves[..self.count] {
            let found = if leaf.key.is_empty() {
                let key = &self.keys[start..leaf.end];
                start = leaf.end;
                document.find(key, leaf.at)
            } else {
                document.find_static(leaf.key, leaf.at)
            };
            let Some(at) = found else { return false };
            leaf.at = at;
        }
        true
    }

    /// Clears the patch, and keeps memory for a usual number of leaves and keys.
    #[inline]
    pub(crate) fn clear(&mut self) {
        // Nearly always it has been merged.
        let is_small = self.leaves.len() <= USUAL_LEAVES && self.keys.capacity() <= USUAL_KEYS;
        if !is_small || !self.is_empty() || !self.settled.is_small() {
            self.clear_all();
        }
    }

    #[cold]
    fn clear_all(&mut self) {
        for leaf in &mut self.leaves[..self.count] {
            leaf.value = BLANK;
        }
        self.count = 0;
        self.leaves.truncate(USUAL_LEAVES);
        self.leaves.shrink_to(USUAL_LEAVES);
        self.keys.clear();
        self.keys.shrink_to(USUAL_KEYS);
        self.settled.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys in each other's way, and beside each other.
    const KEYS: [&str; 8] = ["f.a", "f.a.b", "f.a.b.c", "f.a-b", "f.b", "f.b.c", "g.a", "f.ab"];

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize),
        SetText(usize),
        Remove(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = 0..KEYS.len();
        let step = prop_oneof![
            4 => key.clone().prop_map(Step::Set),
            4 => key.clone().prop_map(Step::SetText),
            1 => key.prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..8)
    }

    /// A patch, and the document that the same steps make.
    fn written(steps: &[Step], first: i64) -> (Patch, Document<Value>) {
        let (mut patch, mut document) = (Patch::default(), Document::default());
        for (value, step) in (first..).zip(steps) {
            match *step {
                Step::Set(key) => *patch.set(KEYS[key]) = value.into(),
                Step::SetText(key) => *patch.set_text(KEYS[key]) = value.into(),
                Step::Remove(key) => patch.remove(KEYS[key]),
            }
            match *step {
                Step::Set(key) | Step::SetText(key) => document.set(KEYS[key], value.into()),
                Step::Remove(key) => document.remove(KEYS[key]),
            }
        }
        (patch, document)
    }

    proptest! {
        #[test]
        fn a_patch_merges_as_the_document_of_its_steps_does(
            before in steps(),
            steps in steps(),
            repeated in any::<bool>(),
            most in 0_usize..8,
        ) {
            let (_, mut merged) = written(&before, 0);
            if repeated {
                let (_, same) = written(&steps, 100);
                merged.apply(same);
            }
            let mut expected = merged.clone();
            let (mut patch, document) = written(&steps, 200);
            let is_empty = document.is_empty();
            prop_assert_eq!(patch.is_empty(), is_empty);
            prop_assert_eq!(
                patch.merge_into(&mut merged, most),
                expected.apply_within(document, most)
            );
            prop_assert_eq!(&merged, &expected);
            patch.clear();
            prop_assert!(patch.is_empty());
        }

        #[test]
        fn a_patch_is_the_document_of_its_steps(steps in steps(), most in 0_usize..8) {
            let (mut patch, document) = written(&steps, 0);
            prop_assert_eq!(patch.is_full(most), document.len() >= most);
            prop_assert_eq!(patch.document(), &document);
        }
    }

    #[test]
    fn a_patch_that_is_written_again_finds_its_leaves_in_another_document() {
        let document = |keys: &[&'static str]| {
            let mut document = Document::default();
            keys.iter().for_each(|key| document.set(*key, 0.into()));
            document
        };
        let mut patch = Patch::default();
        let documents = [document(&["f.b", "f.c"]), document(&["f.a", "f.b", "f.c", "f.d"])];
        for mut document in documents {
            *patch.set("f.c") = 1.into();
            *patch.set_text("f.b") = 2.into();
            *patch.set_text("f.b") = 3.into();
            assert_eq!(patch.merge_into(&mut document, 4), 0);
            assert!(patch.is_empty());
            let set = document.leaves().filter(|(_, value)| **value != 0.into());
            let set: Vec<_> = set.map(|(key, value)| (key, value.clone())).collect();
            assert_eq!(set, [("f.b", 3.into()), ("f.c", 1.into())]);
        }
    }

    #[test]
    fn a_patch_that_was_merged_keeps_memory_for_a_usual_number_of_leaves() {
        let key = |index: usize| format!("f.{index:0>100}");
        let mut document = Document::default();
        (0..100).for_each(|index| document.set(key(index), 0.into()));
        let mut patch = Patch::default();
        for _ in 0..2 {
            (0..100).for_each(|index| *patch.set_text(&key(index)) = 1.into());
            patch.merge_into(&mut document, 100);
            patch.clear();
            assert!(patch.leaves.capacity() <= USUAL_LEAVES);
            assert!(patch.keys.capacity() <= USUAL_KEYS);
            patch.set("f.z");
            (0..100).for_each(|index| patch.remove(key(index)));
            patch.clear();
            assert!(patch.is_empty() && patch.settled.is_small());
        }
    }
}
