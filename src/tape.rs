//! Bytes that are written in small pieces, again and again.

use std::fmt;

/// Bytes one behind the other, in memory that is written to throughout.
///
/// So a short piece is put into the next of them as it comes, in parts of fixed sizes that are copied
/// at once: what is too much of it is overwritten by the next piece, or never seen.
#[derive(Clone, Default)]
pub(crate) struct Tape {
    memory: Vec<u8>,
    length: usize,
}

impl Tape {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { memory: vec![0; bytes], length: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// How many bytes it can take without another allocation.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.memory.len()
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }

    /// Keeps the first `length` bytes.
    #[inline(always)] // once a span
    pub(crate) fn truncate(&mut self, length: usize) {
        if length < self.length {
            self.length = length;
        }
    }

    /// The bytes that come next, if there are so many.
    #[inline(always)] // several times a span
    pub(crate) fn next<const BYTES: usize>(&mut self) -> Option<&mut [u8; BYTES]> {
        self.memory.get_mut(self.length..)?.first_chunk_mut()
    }

    /// The first `bytes` of the [next](Self::next) ones have been written.
    #[inline(always)] // several times a span
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.length += bytes;
    }

    #[inline]
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        match self.memory.get_mut(self.length..self.length + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.change(|memory| memory.extend_from_slice(bytes)),
        }
    }

    /// As [`extend_from_slice`](Self::extend_from_slice), for what is mostly short.
    #[inline(always)] // once a span
    pub(crate) fn extend(&mut self, other: &Self) {
        const SHORT: usize = 96;
        match (other.memory.first_chunk::<SHORT>(), self.next()) {
            (Some(bytes), Some(room)) if other.length <= SHORT => {
                *room = *bytes;
                self.length += other.length;
            }
            _ => self.extend_from_slice(other.as_slice()),
        }
    }

    /// Changes one of the bytes.
    #[inline]
    pub(crate) fn set(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.memory.get_mut(at) {
            *place = byte;
        }
    }

    /// Changes the bytes as those of a vector.
    #[cold]
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.memory.truncate(self.length);
        change(&mut self.memory);
        self.length = self.memory.len();
        self.memory.resize(self.memory.capacity(), 0);
    }

    /// Takes some bytes out of the middle.
    pub(crate) fn remove(&mut self, range: std::ops::Range<usize>) {
        self.memory.copy_within(range.end..self.length, range.start);
        self.length -= range.len();
    }
}

impl fmt::Write for Tape {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Extend(usize),
        Next(usize),
        Append(usize),
        Truncate(usize),
        Set(usize),
        Remove(usize, usize),
        Change(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..200_usize).prop_map(Step::Extend),
            (0..=32_usize).prop_map(Step::Next),
            (0..200_usize).prop_map(Step::Append),
            (0..300_usize).prop_map(Step::Truncate),
            (0..300_usize).prop_map(Step::Set),
            (0..300_usize, 0..100_usize).prop_map(|(from, length)| Step::Remove(from, length)),
            (0..300_usize).prop_map(Step::Change),
        ]
    }

    proptest! {
        #[test]
        fn a_tape_holds_what_a_vector_would(steps in vec(step(), 0..60), room in 0..100_usize) {
            let (mut tape, mut vector) = (Tape::with_capacity(room), Vec::new());
            for (number, step) in steps.into_iter().enumerate() {
                let byte = number as u8 + 1;
                match step {
                    Step::Extend(length) => {
                        tape.extend_from_slice(&vec![byte; length]);
                        vector.extend_from_slice(&vec![byte; length]);
                    }
                    // More is written than counts.
                    Step::Next(length) => if let Some(room) = tape.next::<32>() {
                        *room = [byte; 32];
                        tape.advance(length);
                        vector.extend_from_slice(&vec![byte; length]);
                    },
                    Step::Append(length) => {
                        let mut other = Tape::with_capacity(length % 128);
                        other.extend_from_slice(&vec![byte; length]);
                        tape.extend(&other);
                        vector.extend_from_slice(&vec![byte; length]);
                    }
                    Step::Truncate(length) => {
                        tape.truncate(length);
                        vector.truncate(length);
                    }
                    Step::Set(at) => if at < vector.len() {
                        tape.set(at, byte);
                        vector[at] = byte;
                    },
                    Step::Remove(from, length) => {
                        let from = from.min(vector.len());
                        let to = (from + length).min(vector.len());
                        tape.remove(from..to);
                        vector.drain(from..to);
                    }
                    Step::Change(length) => {
                        tape.change(|bytes| bytes.extend_from_slice(&vec![byte; length]));
                        vector.extend_from_slice(&vec![byte; length]);
                        prop_assert!(tape.capacity() >= tape.len());
                    }
                }
                prop_assert_eq!(tape.as_slice(), &vector);
                prop_assert_eq!(tape.len(), vector.len());
            }
        }
    }
}
