//! The pipeline: from finished records to the sink.
//!
//! Each thread packs its records into parcels on a [lane](lane) of its own; full ones go to a bounded
//! [queue](queue). One export thread takes them out in batches, by size or after a delay, and gives
//! them to the [sink](crate::sink). What the sampler left out may be [held](held) for a while, in case
//! that feedback asks for it. Nothing a caller does here waits for I/O. What is lost on the way
//! is counted by reason, and reported by the next `flush`.

mod error;
pub(crate) mod held;
mod lane;
mod queue;
pub(crate) mod stats;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TraceId;

pub use error::FlushError;
use held::Held;
use lane::Lanes;
use queue::{Next, Queue};
pub(crate) use stats::Drop;
use stats::{Counters, Stats};

use crate::clock;
use crate::quiet;
use crate::record::SpanRecord;
use crate::sink::{Delivery, Packing, Parcel, Sink};

/// When batches are made, and how much may wait.
#[derive(Clone, Debug)]
pub(crate) struct Batching {
    /// The longest a span waits before it is exported.
    pub(crate) delay: Duration,
    /// Spans in one batch at the most, if told; otherwise as the sink's packing has it.
    pub(crate) batch_spans: Option<usize>,
    /// Bytes in one batch at the most, about: below the 4 MiB that gRPC receivers take.
    pub(crate) batch_bytes: usize,
    /// Spans that may wait in the queue, if there is a limit by number.
    pub(crate) queue_spans: Option<usize>,
    /// Bytes that may wait in the queue, about.
    pub(crate) queue_bytes: usize,
    /// How much of unsampled traces is held, if they are.
    pub(crate) held: Option<held::Limits>,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            batch_spans: None,
            batch_bytes: 2 * 1024 * 1024,
            queue_spans: None,
            queue_bytes: 44 * 1024 * 1024,
            held: None,
        }
    }
}

impl Batching {
    /// Bytes of a parcel that a thread hands over: little beside what the queue holds.
    fn parcel_bytes(&self) -> usize {
        (self.queue_bytes / 16).clamp(1, 60 * 1024)
    }

    /// Spans in one batch. Packed ones are only limited by their bytes, unless told otherwise.
    fn batch_spans(&self, packing: Packing) -> usize {
        let spans = self.batch_spans.unwrap_or(match packing {
            Packing::Records => 512,
            Packing::Packed => usize::MAX,
        });
        spans.min(self.queue_spans.unwrap_or(usize::MAX)).max(1)
    }

    /// Spans of a parcel: few enough that a batch and the queue can be filled to their limit.
    fn parcel_spans(&self, packing: Packing) -> usize {
        let by_queue = self.queue_spans.map_or(usize::MAX, |spans| spans / 8);
        let by_batch = match packing {
            Packing::Records => (self.batch_spans(packing) / 8).min(64),
            Packing::Packed => self.batch_spans(packing) / 8,
        };
        by_queue.min(by_batch).max(1)
    }
}

/// The handle that records are pushed into. One per layer.
pub(crate) struct Pipeline {
    lanes: Arc<Lanes>,
    held: Option<Arc<Held>>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Pipeline {
    /// Starts the export thread, which makes its sink by itself: a sink may need to be made where it
    /// is used.
    ///
    /// # Errors
    ///
    /// What `make_sink` answers, or that no thread could be started.
    pub(crate) fn start<Error: From<std::io::Error> + Send + 'static>(
        batching: Batching,
        scope: Arc<InstrumentationScope>,
        counters: Arc<Counters>,
        make_sink: impl FnOnce() -> Result<Box<dyn Sink>, Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let (made, is_made) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("tracing-feedback".to_owned()).spawn({
            let counters = counters.clone();
            move || {
                quiet::mark_this_thread();
                let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
                match make_sink() {
                    Ok(sink) => {
                        let packing = sink.packing();
                        let delay = batching.delay;
                        let held = Held::new(packing, &scope, &batching, &counters).map(Arc::new);
                        let lanes = Arc::new(Lanes::new(packing, scope, &batching));
                        let queue = Arc::new(Queue::new(packing, batching, counters.clone()));
                        let _ = made.send(Ok((lanes.clone(), held.clone(), queue.clone())));
                        run(&lanes, held.as_deref(), &queue, &counters, delay, sink);
                    }
                    Err(error) => {
                        let _ = made.send(Err(error));
                    }
                }
            }
        })?;
        let thread = Mutex::new(Some(thread));
        match is_made.recv() {
            Ok(Ok((lanes, held, queue))) => Ok(Self { lanes, held, queue, counters, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                Err(std::io::Error::other("the export thread panicked while it started").into())
            }
        }
    }

    /// Hands over one record. Never waits: what doesn't fit is dropped and counted. What is left in
    /// `record` is of no more use than its memory.
    ///
    /// # Errors
    ///
    /// That a record with feedback was dropped, and why.
    #[inline]
    pub(crate) fn push(&self, record: &mut SpanRecord) -> Result<(), Drop> {
        self.lanes.push(record, &self.queue)
    }

    /// Takes a record of an unsampled span, which is exported only if its trace is kept. Never waits.
    #[inline]
    pub(crate) fn hold(&self, record: &mut SpanRecord) {
        let Some(held) = &self.held else { return self.counters.unsampled(1) };
        if held.hold(record, Instant::now()) {
            self.counters.dropped_attributes(record.dropped_attributes.into());
            let _ = self.push(record); // what is lost is counted
        }
    }

    /// Feedback has arrived: exports what is held of the trace, and what ends later too.
    pub(crate) fn keep(&self, trace_id: TraceId) {
        let Some(held) = &self.held else { return };
        let kept = held.keep(trace_id, Instant::now());
        self.counters.dropped_attributes(kept.dropped_attributes);
        for parcel in kept.parcels {
            let _ = self.queue.push(parcel); // what is lost is counted
        }
    }

    /// Waits until every record pushed so far has arrived, or is known not to, or `limit` is over.
    ///
    /// # Errors
    ///
    /// How many records did not arrive since the last report, and why.
    pub(crate) fn flush(&self, limit: Duration) -> Result<(), FlushError> {
        self.lanes.sweep(&self.queue);
        self.queue.flush(clock::after(limit))
    }

    /// As [`flush`](Self::flush); what is held or pushed afterwards is dropped, and the export thread
    /// ends.
    pub(crate) fn shutdown(&self, limit: Duration) -> Result<(), FlushError> {
        let deadline = clock::after(limit);
        if let Some(held) = &self.held {
            held.close();
        }
        self.lanes.close(&self.queue);
        let result = self.queue.close(deadline);
        let thread = crate::sync::lock(&self.thread).take();
        if let Some(thread) = thread
            && self.queue.wait_until_ended(deadline)
        {
            let _ = thread.join(); // it is about to return, and has nothing to say
        }
        result
    }

    pub(crate) fn stats(&self) -> Stats {
        let held = self.held.as_ref().map_or(0, |held| held.spans());
        self.counters.read((self.queue.waiting() + self.lanes.waiting()) as u64, held as u64)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl std::ops::Drop for Pipeline {
    /// Lets the export thread end, also where no one has shut the pipeline down.
    fn drop(&mut self) {
        self.queue.take_no_more();
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The export thread: one batch after the other, until the queue is closed and empty.
fn run(
    lanes: &Lanes,
    held: Option<&Held>,
    queue: &Queue,
    counters: &Counters,
    delay: Duration,
    mut sink: Box<dyn Sink>,
) {
    let _ended = queue.announce_end();
    let mut due = clock::after(delay);
    loop {
        let parcels = match queue.next(due) {
            Next::Export(parcels) => parcels,
            Next::Sweep => {
                lanes.sweep(queue);
                queue.hurry();
                if let Some(held) = held {
                    held.sweep(Instant::now());
                }
                due = clock::after(delay);
                continue;
            }
            Next::End => break,
        };
        let (spans, feedback) = Parcel::totals(&parcels);
        let export = catch_unwind(AssertUnwindSafe(|| sink.export(parcels)));
        let delivery = export.unwrap_or_else(|_| {
            let mut delivery = Delivery::default();
            delivery.fail(spans, feedback, "the exporter panicked".to_owned());
            delivery
        });
        settle(queue, counters, delivery);
    }
    let shutdown = catch_unwind(AssertUnwindSafe(|| sink.shutdown(Duration::from_secs(5))));
    if let Err(reason) = shutdown.unwrap_or_else(|_| Err("the exporter panicked".to_owned())) {
        tracing::warn!(target: "tracing_feedback", reason, "the exporter could not be shut down");
    }
}

/// Counts what became of a batch, and lets those who wait for it know.
fn settle(queue: &Queue, counters: &Counters, delivery: Delivery) {
    counters.exported(delivery.exported);
    counters.retried(delivery.retried);
    if let Some((spans, feedback, message)) = delivery.failed {
        counters.dropped(Drop::ExportFailed, spans, feedback);
        queue.lost(Drop::ExportFailed, spans, message);
    }
    if let Some((spans, message)) = delivery.rejected {
        counters.dropped(Drop::Rejected, spans, 0);
        queue.lost(Drop::Rejected, spans, message);
    }
    queue.settle();
}
