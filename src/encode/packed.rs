//! Spans on their way to be encoded.
//!
//! The thread that ends a span keeps what differs from span to span: a [`Head`], and the bytes of its
//! own attributes. What it has in common with others is written between them by the thread that
//! exports. So a span waits in half the memory that it takes encoded, and its own thread doesn't
//! copy the other half.

use std::sync::Arc;

use super::span::{self, Head};
use crate::attributes::Attributes;
use crate::record::SpanRecord;

/// Some spans.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    heads: Vec<Head>,
    /// What each span has of its own, one behind the other: fields of a `Span` message.
    bytes: Vec<u8>,
    /// The attributes of the thread that made them. A span of another thread has them of its own.
    thread: Option<Arc<Attributes>>,
    /// How many bytes the spans take encoded.
    encoded: usize,
}

impl Packed {
    /// Room for as many spans as `self` has, and some more.
    pub(crate) fn room_for_as_many(&self) -> Self {
        let more = |length: usize| length + length / 8;
        Self {
            heads: Vec::with_capacity(more(self.heads.len())),
            bytes: Vec::with_capacity(more(self.bytes.len())),
            thread: self.thread.clone(),
            encoded: 0,
        }
    }

    /// Forgets the spans, and keeps their memory.
    pub(crate) fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
        (self.thread, self.encoded) = (None, 0);
    }

    /// How many bytes the spans take in memory.
    pub(crate) fn size(&self) -> usize {
        self.heads.len() * size_of::<Head>() + self.bytes.len()
    }

    /// How many bytes the spans take encoded.
    pub(crate) fn encoded_size(&self) -> usize {
        self.encoded
    }

    #[inline]
    pub(crate) fn add(&mut self, record: &SpanRecord) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.attributes.as_bytes());
        let is_of_thread = self.is_of_thread(record);
        if !span::is_plain(record) {
            span::append_rest(&mut self.bytes, record);
        }
        let head = Head::new(record, is_of_thread, self.bytes.len() - start);
        self.encoded += head.encoded_size(self.thread.as_deref());
        self.heads.push(head);
    }

    /// Whether the thread that made `record` made the others too. If not, its attributes are added.
    fn is_of_thread(&mut self, record: &SpanRecord) -> bool {
        match (&record.thread, &self.thread) {
            (None, _) => false,
            (Some(thread), Some(of_all)) if Arc::ptr_eq(thread, of_all) => true,
            (Some(thread), None) if self.heads.is_empty() => {
                self.thread = Some(thread.clone());
                true
            }
            (Some(thread), _) => {
                self.bytes.extend_from_slice(thread.as_bytes());
                false
            }
        }
    }

    /// The spans as they stand in a `ScopeSpans`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded);
        let mut rest = self.bytes.as_slice();
        for head in &self.heads {
            // It is as long as was said when it was added.
            let (own, others) = rest.split_at_checked(head.own).unwrap_or((rest, &[]));
            head.append(&mut out, self.thread.as_deref(), own);
            rest = others;
        }
        out
    }
}
