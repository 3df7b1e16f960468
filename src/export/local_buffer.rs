//! Local buffers: each thread gathers its own spans, so that threads don't wait for each other.
//!
//! # Invariants
//!
//! - A buffer hands its batch to the queue while it is locked, so that a sweep never misses a batch
//!   that is being handed over.
//! - After [`LocalBuffers::close`] no buffer takes anything more.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry::InstrumentationScope;

use super::Batching;
use super::queue::Queue;
use super::stats::DropReason;
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
        Self { id, scope, full, list: Mutex::default() }
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
        let added = BUFFERS.try_with(|buffers| {
            let mut buffers = buffers.borrow_mut();
            if buffers.first().is_none_or(|(id, _)| *id != self.id) {
                self.raise(&mut buffers);
            }
            self.add(&buffers[0].1, record, queue)
        });
        match added {
            Ok(added) => added,
            Err(_) => self.push_alone(record, queue),
        }
    }

    /// A thread that is being torn down gets a buffer for a single span.
    #[cold]
    fn push_alone(&self, record: &mut SpanRecord, queue: &Queue) -> Result<(), DropReason> {
        self.add(&self.create(), record, queue)
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

    /// Hands the batches of all threads to the queue.
    pub(super) fn sweep(&self, queue: &Queue) {
        let mut list = crate::sync::lock(&self.list);
        list.buffers.retain(|buffer| {
            let mut open = crate::sync::lock(&buffer.0);
            if open.batch.spans() > 0 {
                hand_over(&mut open.batch, queue);
            }
            Arc::strong_count(buffer) > 1 // otherwise its thread has ended
        });
    }

    /// Sweeps for the last time, and closes all buffers.
    pub(super) fn close(&self, queue: &Queue) {
        self.sweep(queue);
        let mut list = crate::sync::lock(&self.list);
        list.closed = true;
        for buffer in list.buffers.drain(..) {
            let mut open = crate::sync::lock(&buffer.0);
            open.closed = true;
            if open.batch.spans() > 0 {
                hand_over(&mut open.batch, queue);
            }
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
        let batch = Batch::new(&self.scope);
        let buffer = Arc::new(LocalBuffer(Mutex::new(OpenBatch { batch, closed })));
        if let Some(mut list) = list.filter(|list| !list.closed) {
            list.buffers.push(buffer.clone());
        }
        buffer
    }
}

/// Hands a batch to the queue, which counts what it drops.
#[cold]
fn hand_over(batch: &mut Batch, queue: &Queue) {
    let _ = queue.push(batch.take());
}
