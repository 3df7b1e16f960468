//! Packed spans: the compact form in which ended spans wait to be encoded.
//!
//! The thread that ends a span stores what differs from span to span: a [`SpanHead`], and the bytes
//! of the span's own fields. The export thread writes the attributes that spans share between them.
//! So a waiting span takes half the memory of its encoded form, and the thread that ends it doesn't
//! copy the other half.
//!
//! The memory is reused. If it were freed, the threads that create spans would often wait for the
//! system to map and clear new pages.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use opentelemetry::trace::TraceId;

use super::span::{self, Overrides, SpanHead};
use super::truncate;
use crate::otlp::encode_buffer::EncodeBuffer;
use crate::record::{SharedAttributes, SpanRecord};

/// The memory of encoded spans, for new ones.
static POOL: Mutex<Vec<Packed>> = Mutex::new(Vec::new());

/// The most elements of [`POOL`].
const MOST_POOLED: usize = 64;

/// The bytes of an element worth keeping: a smaller one is quickly allocated, a larger one is an
/// exception. All together take no more than 8 MiB.
const WORTH_KEEPING: RangeInclusive<usize> = 16 << 10..=128 << 10;

/// Packed spans of one scope.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    /// Initialized storage, as in the [encode buffer](EncodeBuffer); `heads[..count]` are valid.
    /// Heads are built in place to avoid a copy.
    heads: Vec<SpanHead>,
    count: usize,
    /// The own fields of each span, one span after the other: fields of a `Span` message.
    bytes: EncodeBuffer,
    /// A buffer to write the fields in that few spans have.
    scratch: Vec<u8>,
    /// The attributes of the thread that created the spans. A span of another thread has its
    /// thread's attributes among its own fields.
    thread: Option<Arc<SharedAttributes>>,
    /// How many bytes the spans take encoded, beside the head and the thread's attributes of each.
    encoded: usize,
    /// How many of the spans were too large, and lost a part of their values.
    truncated: usize,
}

impl Packed {
    /// Memory for the next spans of the same thread: reused, or allocated for slightly more spans
    /// than `self` has.
    pub(crate) fn room_for_more(&self) -> Self {
        let pooled = crate::sync::lock(&POOL).pop();
        let more = |length: usize| length + length / 8;
        let mut room = pooled.unwrap_or_else(|| Self {
            heads: vec![SpanHead::BLANK; more(self.count)],
            bytes: EncodeBuffer::with_capacity(more(self.bytes.len())),
            ..Self::default()
        });
        room.thread = self.thread.clone();
        room
    }

    /// Removes the spans, and keeps their memory for others.
    pub(crate) fn recycle(mut self) {
        let memory = self.heads.capacity() * size_of::<SpanHead>() + self.bytes.capacity();
        if WORTH_KEEPING.contains(&memory) {
            self.clear();
            let mut pool = crate::sync::lock(&POOL);
            if pool.len() < MOST_POOLED {
                pool.push(self);
            }
        }
    }

    /// Removes the spans, and keeps their memory.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.bytes.truncate(0);
        (self.thread, self.encoded, self.truncated) = (None, 0, 0);
    }

    /// How many spans there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// How many of the spans were too large, and lost a part of their values.
    pub(crate) fn truncated(&self) -> usize {
        self.truncated
    }

    /// How many bytes the spans take in memory.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.count * size_of::<SpanHead>() + self.bytes.len()
    }

    /// How many bytes the spans take encoded, at the most.
    pub(crate) fn encoded_size(&self) -> usize {
        let thread = self.thread.as_ref().map_or(0, |thread| thread.as_bytes().len());
        self.count * (SpanHead::MOST_BYTES + thread) + self.encoded
    }

    #[inline(always)] // once a span
    pub(crate) fn add(&mut self, record: &SpanRecord) {
        let start = self.bytes.len();
        record.attributes.append_to(&mut self.bytes);
        let has_thread = self.set_thread(record);
        let overrides = match span::is_plain(record) {
            true => Overrides::default(),
            false => self.add_details(record),
        };
        let own = self.bytes.len() - start;
        let head = match self.heads.get_mut(self.count) {
            Some(head) => head,
            None => self.next_head(),
        };
        *head = SpanHead::new(record, has_thread, overrides, own);
        self.encoded += head.encoded_size();
        self.count += 1;
        // At the end, where nothing has to be kept over the call.
        if own > truncate::MOST_SPAN {
            self.truncate_last();
        }
    }

    /// Cuts the values of the last span.
    #[cold]
    #[inline(never)]
    fn truncate_last(&mut self) {
        let Some(last) = self.count.checked_sub(1).and_then(|last| self.heads.get_mut(last)) else {
            return;
        };
        let start = self.bytes.len() - last.own;
        self.bytes.change(|bytes| {
            let own = bytes.get(start..).unwrap_or_default();
            if let Some(cut) = truncate::span_fields(own, truncate::MOST_SPAN) {
                bytes.truncate(start);
                bytes.extend_from_slice(&cut);
                bytes.shrink_to_fit();
            }
        });
        let own = self.bytes.len() - start;
        self.encoded = self.encoded + own - last.own;
        (last.own, last.is_truncated) = (own, true);
        self.truncated += 1;
    }

    /// The next head, for which `heads` has to grow.
    #[cold]
    #[inline(never)]
    fn next_head(&mut self) -> &mut SpanHead {
        self.heads.resize(2 * self.count + 1, SpanHead::BLANK);
        &mut self.heads[self.count]
    }

    #[inline(never)] // most have none
    fn add_details(&mut self, record: &SpanRecord) -> Overrides {
        if self.bytes.capacity() < record.size() {
            // Mostly the only span of its batch, one with feedback: there is no memory yet.
            self.bytes.change(|bytes| {
                bytes.reserve(record.size());
                span::append_details(bytes, record);
            });
        } else {
            span::append_details(&mut self.scratch, record);
            self.bytes.extend_from_slice(&self.scratch);
            self.scratch.clear();
        }
        Overrides::of(record)
    }

    /// Stores the attributes of the thread that created `record`: for all spans if it is the first,
    /// otherwise among the span's own fields. Returns whether those for all spans belong to it.
    #[inline(always)] // once a span
    fn set_thread(&mut self, record: &SpanRecord) -> bool {
        match (&record.thread, &self.thread) {
            (None, _) => false,
            (Some(thread), Some(of_all)) if Arc::ptr_eq(thread, of_all) => true,
            (Some(thread), _) => self.add_thread(thread),
        }
    }

    #[cold]
    fn add_thread(&mut self, thread: &Arc<SharedAttributes>) -> bool {
        let is_first = self.count == 0;
        match is_first {
            true => self.thread = Some(thread.clone()),
            false => self.bytes.extend_from_slice(thread.as_bytes()),
        }
        is_first
    }

    /// The spans as fields of a `ScopeSpans`.
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_size());
        for (head, own) in self.spans() {
            head.append(&mut out, self.thread.as_deref(), own);
        }
        self.recycle();
        out
    }

    /// Reads the spans back, one after the other. An empty array is read as one of texts.
    pub(crate) fn read(self, mut each: impl FnMut(SpanRecord)) {
        for (head, own) in self.spans() {
            each(head.read(self.thread.as_ref(), own));
        }
        self.recycle();
    }

    /// The trace of each span, and whether its parent, if it has one, is in another process.
    pub(crate) fn places(&self) -> impl Iterator<Item = (TraceId, bool)> {
        self.heads[..self.count].iter().map(|head| (head.trace_id(), head.is_local_root()))
    }

    /// A copy of the spans for which `is_selected` answers `true`, which takes the number of each.
    pub(crate) fn select(&self, is_selected: impl Fn(usize) -> bool) -> Self {
        let selected = || {
            let numbered = self.spans().enumerate();
            numbered.filter(|(number, _)| is_selected(*number)).map(|(_, span)| span)
        };
        let (count, bytes) =
            selected().fold((0, 0), |(count, bytes), (head, _)| (count + 1, bytes + head.own));
        let mut selection = Self {
            heads: Vec::with_capacity(count),
            count,
            bytes: EncodeBuffer::with_capacity(bytes),
            thread: self.thread.clone(),
            ..Self::default()
        };
        for (head, own) in selected() {
            selection.heads.push(head.clone());
            selection.bytes.extend_from_slice(own);
            selection.encoded += head.encoded_size();
            selection.truncated += usize::from(head.is_truncated);
        }
        selection
    }

    /// The head of each span, and its own fields.
    fn spans(&self) -> impl Iterator<Item = (&SpanHead, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.heads[..self.count].iter().map(move |head| {
            // Its length was stored when it was added, so it can be split off.
            let (own, others) = rest.split_at_checked(head.own).unwrap_or((rest, &[]));
            rest = others;
            (head, own)
        })
    }
}
