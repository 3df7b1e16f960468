//! The pipeline: from finished records to the sink.
//!
//! Callers push records into a bounded [queue](queue); one export thread takes them out in batches,
//! by size or after a delay, and gives them to the [sink](crate::sink). Nothing a caller does here
//! waits for I/O. What is lost on the way is counted by reason, and reported by the next `flush`.

mod error;
mod queue;
pub(crate) mod stats;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use error::FlushError;
use queue::Queue;
use stats::{Counters, Drop, Stats};

use crate::quiet;
use crate::record::SpanRecord;
use crate::sink::Sink;

/// When batches are made, and how much may wait.
#[derive(Clone, Debug)]
pub(crate) struct Batching {
    /// The longest a record waits before it is exported.
    pub(crate) delay: Duration,
    /// Records in one batch at the most.
    pub(crate) batch_spans: usize,
    /// Bytes in one batch at the most, about: below the 4 MiB that gRPC receivers take.
    pub(crate) batch_bytes: usize,
    /// Records that may wait, if there is a limit by count.
    pub(crate) queue_spans: Option<usize>,
    /// Bytes that may wait, about.
    pub(crate) queue_bytes: usize,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            batch_spans: 512,
            batch_bytes: 2 * 1024 * 1024,
            queue_spans: None,
            queue_bytes: 32 * 1024 * 1024,
        }
    }
}

/// The handle that records are pushed into. One per layer.
pub(crate) struct Pipeline {
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
        counters: Arc<Counters>,
        make_sink: impl FnOnce() -> Result<Box<dyn Sink>, Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let queue = Arc::new(Queue::new(batching, counters.clone()));
        let (made, is_made) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("tracing-feedback".to_owned()).spawn({
            let (queue, counters) = (queue.clone(), counters.clone());
            move || {
                quiet::mark_this_thread();
                let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
                match make_sink() {
                    Ok(sink) => {
                        let _ = made.send(Ok(()));
                        run(&queue, &counters, sink);
                    }
                    Err(error) => {
                        let _ = made.send(Err(error));
                    }
                }
            }
        })?;
        match is_made.recv() {
            Ok(Ok(())) => Ok(Self { queue, counters, thread: Mutex::new(Some(thread)) }),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                Err(std::io::Error::other("the export thread panicked while it started").into())
            }
        }
    }

    /// Hands over one record. Never waits: what doesn't fit is dropped and counted.
    pub(crate) fn push(&self, record: SpanRecord) {
        self.queue.push(record);
    }

    /// Waits until every record pushed so far has arrived, or is known not to, or `limit` is over.
    ///
    /// # Errors
    ///
    /// How many records did not arrive since the last report, and why.
    pub(crate) fn flush(&self, limit: Duration) -> Result<(), FlushError> {
        self.queue.flush(Instant::now() + limit)
    }

    /// As [`flush`](Self::flush); what is pushed afterwards is dropped, and the export thread ends.
    pub(crate) fn shutdown(&self, limit: Duration) -> Result<(), FlushError> {
        let deadline = Instant::now() + limit;
        let result = self.queue.close(deadline);
        let thread = crate::lock(&self.thread).take();
        if let Some(thread) = thread
            && self.queue.wait_until_ended(deadline)
        {
            let _ = thread.join(); // it is about to return, and has nothing to say
        }
        result
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.read(self.queue.len() as u64)
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
fn run(queue: &Queue, counters: &Counters, mut sink: Box<dyn Sink>) {
    let _ended = queue.announce_end();
    while let Some(batch) = queue.next_batch() {
        let spans = batch.len() as u64;
        let feedback = batch.iter().filter(|record| record.feedback).count() as u64;
        let export = catch_unwind(AssertUnwindSafe(|| sink.export(batch)));
        match export.unwrap_or_else(|_| Err("the exporter panicked".to_owned())) {
            Ok(()) => counters.exported(spans),
            Err(reason) => {
                counters.dropped(Drop::ExportFailed, spans, feedback);
                queue.lost(Drop::ExportFailed, spans, reason);
            }
        }
        queue.settle();
    }
    let shutdown = catch_unwind(AssertUnwindSafe(|| sink.shutdown(Duration::from_secs(5))));
    if let Err(reason) = shutdown.unwrap_or_else(|_| Err("the exporter panicked".to_owned())) {
        tracing::warn!(target: "tracing_feedback", reason, "the exporter could not be shut down");
    }
}
