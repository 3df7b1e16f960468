//! The encode buffer: an append buffer for many small writes.

use std::fmt;

/// A growable append buffer whose memory is initialized up to its capacity.
///
/// Short pieces are copied in fixed-size chunks, which the compiler turns into a few moves. The
/// bytes past a piece's end are overwritten by the next piece, and lie beyond `length` otherwise.
#[derive(Clone, Default)]
pub(crate) struct EncodeBuffer {
    memory: Vec<u8>,
    length: usize,
}

impl EncodeBuffer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { memory: vec![0; bytes], length: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// How many bytes the buffer can take without another allocation.
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

    /// The next `BYTES` bytes after the content, if there is room for them.
    #[inline(always)] // several times a span
    pub(crate) fn next<const BYTES: usize>(&mut self) -> Option<&mut [u8; BYTES]> {
        self.memory.get_mut(self.length..)?.first_chunk_mut()
    }

    /// Adds the first `bytes` of the [next](Self::next) ones to the content.
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

    /// As [`extend_from_slice`](Self::extend_from_slice), for pieces that are mostly short.
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

    /// Changes the content as a vector.
    #[cold]
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.memory.truncate(self.length);
        change(&mut self.memory);
        self.length = self.memory.len();
        self.memory.resize(self.memory.capacity(), 0);
    }

    /// Removes some bytes from the middle.
    pub(crate) fn remove(&mut self, range: std::ops::Range<usize>) {
        self.memory.copy_within(range.end..self.length, range.start);
        self.length -= range.len();
    }
}

impl fmt::Write for EncodeBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl fmt::Debug for EncodeBuffer {
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
        fn an_encode_buffer_holds_what_a_vector_would(steps in vec(step(), 0..60), room in 0..100_usize) {
            let (mut buffer, mut vector) = (EncodeBuffer::with_capacity(room), Vec::new());
            for (number, step) in steps.into_iter().enumerate() {
                let byte = number as u8 + 1;
                match step {
                    Step::Extend(length) => {
                        buffer.extend_from_slice(&vec![byte; length]);
                        vector.extend_from_slice(&vec![byte; length]);
                    }
                    // More bytes are written than are added.
                    Step::Next(length) => if let Some(room) = buffer.next::<32>() {
                        *room = [byte; 32];
                        buffer.advance(length);
                        vector.extend_from_slice(&vec![byte; length]);
                    },
                    Step::Append(length) => {
                        let mut other = EncodeBuffer::with_capacity(length % 128);
                        other.extend_from_slice(&vec![byte; length]);
                        buffer.extend(&other);
                        vector.extend_from_slice(&vec![byte; length]);
                    }
                    Step::Truncate(length) => {
                        buffer.truncate(length);
                        vector.truncate(length);
                    }
                    Step::Set(at) => if at < vector.len() {
                        buffer.set(at, byte);
                        vector[at] = byte;
                    },
                    Step::Remove(from, length) => {
                        let from = from.min(vector.len());
                        let to = (from + length).min(vector.len());
                        buffer.remove(from..to);
                        vector.drain(from..to);
                    }
                    Step::Change(length) => {
                        buffer.change(|bytes| bytes.extend_from_slice(&vec![byte; length]));
                        vector.extend_from_slice(&vec![byte; length]);
                        prop_assert!(buffer.capacity() >= buffer.len());
                    }
                }
                prop_assert_eq!(buffer.as_slice(), &vector);
                prop_assert_eq!(buffer.len(), vector.len());
            }
        }
    }
}
