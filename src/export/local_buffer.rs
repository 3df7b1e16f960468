//! Local buffers: each thread gathers its own spans, so that threads don't wait for each other.
//!
//! # Invariants
//!
//! - A buffer hands its batch to the queue while it is locked, so that a sweep never misses a batch
//!   that is being handed over.
//! - After [`LocalBuffers::close`] no buffer takes anything more.
//! - Held spans lie in a batch of their own, which goes to the [tail buffer](TailBuffer).

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry::InstrumentationScope;

use super::Batching;
use super::queue::Queue;
use super::stats::DropReason;
use super::tail_buffer::{HeldBatch, TailBuffer};
use crate::clock::Ticks;
use crate::export::sink::Batch;
use crate::record::SpanRecord;
use crate::sync::lock_unless_orphaned;

/// All buffers of one pipeline.
pub(crate) struct LocalBuffers {
    /// Identifies the pipeline, among those for which a thread has a buffer.
    id: u64,
    scope: Arc<InstrumentationScope>,
    /// The spans or bytes at which a batch is handed over.
    full: (usize, usize),
    /// The spans or bytes at which a batch of held spans is handed over.
    full_held: (usize, usize),
    list: Mutex<BufferList>,
}

#[derive(Default)]
struct BufferList {
    buffers: Vec<Arc<LocalBuffer>>,
    closed: bool,
}

struct LocalBuffer(Mutex<OpenBatch>);

struct OpenBatch {
    batch: Batch,
    /// Unsampled spans, if they are held.
    held: HeldBatch,
    closed: bool,
}

thread_local! {
    /// The buffers of this thread. There is rarely more than one pipeline in a process.
    static BUFFERS: RefCell<Vec<(u64, Arc<LocalBuffer>)>> = const { RefCell::new(Vec::new()) };
}

impl LocalBuffers {
    /// Buffers for spans of `scope`.
    pub(super) fn new(
        most_spans: usize,
        scope: Arc<InstrumentationScope>,
        batching: &Batching,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let full = (batching.handover_spans(most_spans), batching.handover_bytes());
        let full_held = batching.held.map_or((0, 0), |limits| limits.handover());
        Self { id, scope, full, full_held, list: Mutex::default() }
    }

    /// The scope of the pipeline.
    pub(super) fn scope(&self) -> &Arc<InstrumentationScope> {
        &self.scope
    }

    /// Adds a span. The error is why it was dropped; a span without feedback that doesn't fit is
    /// only counted.
    #[inline(always)] // once a span
    pub(super) fn push(&self, record: &mut SpanRecord, queue: &Queue) -> Result<(), DropReason> {
        let has_scope = !record.details.is_blank() && record.details.scope.is_some();
        if record.feedback || has_scope {
            return self.push_apart(record, queue);
        }
        self.on_this_thread(|buffer| self.add(buffer, record, queue))
    }

    /// Adds an unsampled span that has ended at `end`, to be held. A span that can't be held is counted as unsampled.
    #[inline(always)] // once a span, where unsampled ones are held
    pub(super) fn hold(
        &self,
        record: &mut SpanRecord,
        end: Ticks,
        queue: &Queue,
        tail_buffer: &TailBuffer,
    ) {
        if !record.details.is_blank()
            && let Some(scope) = &record.details.scope
        {
            let mut batch = HeldBatch::new(scope);
            batch.add(record, end);
            return tail_buffer.add(batch, queue);
        }
        self.on_this_thread(|buffer| match lock_unless_orphaned(&buffer.0) {
            Some(mut open) if !open.closed => {
                let held = &mut open.held;
                held.add(record, end);
                if held.spans() >= self.full_held.0 || held.bytes() >= self.full_held.1 {
                    hand_over_held(held, queue, tail_buffer);
                }
            }
            _ => tail_buffer.count(1),
        });
    }

    /// Calls `change` with the buffer of this thread.
    #[inline(always)] // once a span
    fn on_this_thread<R>(&self, mut change: impl FnMut(&LocalBuffer) -> R) -> R {
        let changed = BUFFERS.try_with(|buffers| {
            let mut buffers = buffers.borrow_mut();
            if buffers.first().is_none_or(|(id, _)| *id != self.id) {
                self.raise(&mut buffers);
            }
            change(&buffers[0].1)
        });
        match changed {
            Ok(changed) => changed,
            Err(_) => self.on_ending_thread(&mut change),
        }
    }

    /// A thread that is being torn down gets a buffer for a single span.
    #[cold]
    fn on_ending_thread<R>(&self, change: &mut dyn FnMut(&LocalBuffer) -> R) -> R {
        change(&self.create())
    }

    /// Pushes a span in a batch of its own: feedback must not share a batch with spans that may be
    /// dropped, and a batch has one scope.
    #[cold]
    fn push_apart(&self, record: &mut SpanRecord, queue: &Queue) -> Result<(), DropReason> {
        let scope = record.details.scope.as_ref().unwrap_or(&self.scope);
        let mut batch = Batch::new(scope);
        batch.add(record);
        queue.push(batch)
    }

    #[inline(always)] // once a span
    fn add(
        &self,
        buffer: &LocalBuffer,
        record: &mut SpanRecord,
        queue: &Queue,
    ) -> Result<(), DropReason> {
        let Some(mut open) = lock_unless_orphaned(&buffer.0) else {
            queue.count(DropReason::Forked, 1, 0);
            return Err(DropReason::Forked);
        };
        if open.closed {
            queue.count(DropReason::AfterShutdown, 1, 0);
            return Err(DropReason::AfterShutdown);
        }
        let batch = &mut open.batch;
        batch.add(record);
        if batch.spans() >= self.full.0 || batch.bytes() >= self.full.1 {
            hand_over(batch, queue);
        }
        Ok(())
    }

    /// Hands the batches of all threads to the queue, and held ones to the tail buffer.
    pub(super) fn sweep(&self, queue: &Queue, tail_buffer: Option<&TailBuffer>) {
        let mut list = crate::sync::lock(&self.list);
        list.buffers.retain(|buffer| {
            crate::sync::lock(&buffer.0).hand_over(queue, tail_buffer);
            Arc::strong_count(buffer) > 1 // otherwise its thread has ended
        });
    }

    /// Sweeps for the last time, and closes all buffers.
    pub(super) fn close(&self, queue: &Queue, tail_buffer: Option<&TailBuffer>) {
        self.sweep(queue, tail_buffer);
        let mut list = crate::sync::lock(&self.list);
        list.closed = true;
        for buffer in list.buffers.drain(..) {
            let mut open = crate::sync::lock(&buffer.0);
            open.closed = true;
            open.hand_over(queue, tail_buffer);
        }
    }

    /// Removes the spans from this thread's buffer, and returns how many they were. Nothing exports
    /// them: this process was forked.
    pub(super) fn abandon(&self) -> usize {
        let abandoned = BUFFERS.try_with(|buffers| {
            let buffers = buffers.borrow();
            let (_, buffer) = buffers.iter().find(|(id, _)| *id == self.id)?;
            let batch = &mut lock_unless_orphaned(&buffer.0)?.batch;
            let spans = batch.spans();
            batch.clear();
            Some(spans)
        });
        abandoned.ok().flatten().unwrap_or(0)
    }

    /// Spans that wait in buffers, and their bytes in memory.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let list = crate::sync::lock(&self.list);
        list.buffers.iter().fold((0, 0), |(spans, bytes), buffer| {
            let batch = &crate::sync::lock(&buffer.0).batch;
            (spans + batch.spans(), bytes + batch.bytes())
        })
    }

    /// Moves the pipeline's buffer to the front of this thread's list, and creates it if there is
    /// none.
    #[cold]
    fn raise(&self, buffers: &mut Vec<(u64, Arc<LocalBuffer>)>) {
        let position = buffers.iter().position(|(id, _)| *id == self.id);
        let at = position.unwrap_or_else(|| {
            buffers.retain(|(_, buffer)| {
                lock_unless_orphaned(&buffer.0).is_none_or(|open| !open.closed)
            });
            buffers.push((self.id, self.create()));
            buffers.len() - 1
        });
        buffers.swap(0, at);
    }

    fn create(&self) -> Arc<LocalBuffer> {
        let list = lock_unless_orphaned(&self.list);
        let closed = list.as_ref().is_some_and(|list| list.closed);
        let (batch, held) = (Batch::new(&self.scope), HeldBatch::new(&self.scope));
        let buffer = Arc::new(LocalBuffer(Mutex::new(OpenBatch { batch, held, closed })));
        if let Some(mut list) = list.filter(|list| !list.closed) {
            list.buffers.push(buffer.clone());
        }
        buffer
    }
}

impl OpenBatch {
    fn hand_over(&mut self, queue: &Queue, tail_buffer: Option<&TailBuffer>) {
        if self.batch.spans() > 0 {
            hand_over(&mut self.batch, queue);
        }
        if self.held.spans() > 0
            && let Some(tail_buffer) = tail_buffer
        {
            hand_over_held(&mut self.held, queue, tail_buffer);
        }
    }
}

/// Hands a batch to the queue, which counts what it drops.
#[cold]
fn hand_over(batch: &mut Batch, queue: &Queue) {
    let _ = queue.push(batch.take());
}

/// Hands held spans to the tail buffer. Older spans that make room for them go to the queue if feedback has arrived on
/// their trace.
#[cold]
fn hand_over_held(held: &mut HeldBatch, queue: &Queue, tail_buffer: &TailBuffer) {
    tail_buffer.add(held.take(), queue);
}
