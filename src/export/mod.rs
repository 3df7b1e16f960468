//! Export: from finished records to the sink.
//!
//! Each thread packs its records into batches in a [local buffer](local_buffer); full ones go to a
//! bounded [queue](queue). One export thread takes several batches for one export, by size or after
//! a delay, and gives them to the [sink](crate::export::sink). Unsampled traces may be
//! [held](tail_buffer) for a while, in case feedback arrives on them. Pushing never waits for I/O.
//! Lost spans are counted by reason, and reported by the next `flush`.

#[cfg(feature = "_otlp")]
pub(crate) mod connection;
mod error;
mod local_buffer;
mod queue;
pub(crate) mod sink;
pub(crate) mod stats;
pub(crate) mod tail_buffer;
#[cfg(feature = "_otlp-path")]
pub(crate) mod transport;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TraceId;

use error::Loss;
pub use error::{EventLoss, FlushError, SpanLoss};
use local_buffer::LocalBuffers;
use queue::{Next, Queue};
pub use stats::DropReason;
use stats::{Counters, PipelineGauges, Stats};
use tail_buffer::TailBuffer;

use crate::clock::{self, Ticks};
use crate::export::sink::{Batch, Delivery, Sink};
use crate::fork;
use crate::otlp;
use crate::otlp::Signal;
use crate::outbox::{Finalizers, Outbox, PersistError};
use crate::record::{LogRecord, SpanRecord};
use crate::suppress;

/// The limits of batches and of the queue.
#[derive(Clone, Debug)]
pub(crate) struct Batching {
    /// The longest a span waits before it is exported.
    pub(crate) delay: Duration,
    /// Spans in one export at the most. If it isn't set, the sink decides.
    pub(crate) batch_spans: Option<usize>,
    /// Bytes in one export at the most, about: below the 4 MiB that gRPC receivers take.
    pub(crate) batch_bytes: usize,
    /// Spans that may wait in the queue, if there is a limit by number.
    pub(crate) queue_spans: Option<usize>,
    /// Bytes that may wait in the queue, about.
    pub(crate) queue_bytes: usize,
    /// The limits of the tail buffer, if unsampled traces are held.
    pub(crate) held: Option<tail_buffer::TailBufferLimits>,
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
    /// The same for the log records of events: they are far fewer than spans, and don't wait for anything.
    pub(crate) fn of_log_records(&self) -> Self {
        let queue_bytes = (self.queue_bytes / 4).max(1);
        let batch_bytes = self.batch_bytes.min(queue_bytes / 2).max(1);
        let (batch_spans, queue_spans, held) = (None, None, None);
        Self { delay: self.delay, batch_spans, batch_bytes, queue_spans, queue_bytes, held }
    }

    /// Bytes at which a thread hands over its batch: a small part of the queue's limit.
    fn handover_bytes(&self) -> usize {
        (self.queue_bytes / 16).clamp(1, 60 * 1024)
    }

    /// Spans in one export: as many as are configured, or else as the sink takes.
    fn batch_spans(&self, of_sink: usize) -> usize {
        let spans = self.batch_spans.unwrap_or(of_sink);
        spans.min(self.queue_spans.unwrap_or(usize::MAX)).max(1)
    }

    /// Spans at which a thread hands over its batch: few enough that an export and the queue can be
    /// filled to their limits.
    fn handover_spans(&self, of_sink: usize) -> usize {
        /// The memory of so many spans is large enough to be reused for the next batch.
        const ENOUGH: usize = 256;
        let by_queue = self.queue_spans.map_or(usize::MAX, |spans| spans / 8);
        let export = self.batch_spans(of_sink);
        let by_export = if export >= 2 * ENOUGH { (export / 8).max(ENOUGH) } else { export / 8 };
        by_queue.min(by_export).max(1)
    }
}

/// The outbox can't take a carrier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotDurable;

/// The share of the queue and of the outbox that feedback with tickets may use: half of each. The rest is for
/// spans, and for feedback of the service itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateShare {
    /// The smaller of both, in bytes.
    pub(crate) bytes: u64,
    /// Whether feedback that waits takes as much already, in one of them.
    pub(crate) is_full: bool,
}

impl Default for LateShare {
    fn default() -> Self {
        Self { bytes: u64::MAX, is_full: false }
    }
}

/// The handle that records are pushed into: one per layer for spans, and one for log records if it emits
/// events.
pub(crate) struct Pipeline {
    signal: Signal,
    buffers: Arc<LocalBuffers>,
    held: Option<Arc<TailBuffer>>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    outbox: Option<Arc<Outbox>>,
    exporter: &'static str,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that has the export thread.
    process: u32,
    /// How many of the spans that this process has lost since it was forked were reported.
    forked: AtomicU64,
}

impl Pipeline {
    /// Starts the export thread, which calls `make_sink`: some sinks have to be created on the
    /// thread that uses them.
    ///
    /// # Errors
    ///
    /// What `make_sink` answers, or what `no_thread` makes of the reason why no thread could be started.
    pub(crate) fn start<Error: Send + 'static>(
        signal: Signal,
        batching: Batching,
        scope: Arc<InstrumentationScope>,
        counters: Arc<Counters>,
        outbox: Option<Arc<Outbox>>,
        make_sink: impl FnOnce() -> Result<Box<dyn Sink>, Error> + Send + 'static,
        no_thread: fn(std::io::Error) -> Error,
    ) -> Result<Self, Error> {
        let process = fork::note_layer();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let name = match signal {
            Signal::Traces => "tracing-feedback",
            Signal::Logs => "tracing-feedback-logs",
        };
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn({
            let counters = counters.clone();
            move || {
                suppress::mark_this_thread();
                let _suppressed = opentelemetry::Context::enter_telemetry_suppressed_scope();
                match make_sink() {
                    Ok(sink) => {
                        let most_spans = sink.most_spans();
                        let delay = batching.delay;
                        let held = batching.held;
                        let held = held.map(|limits| Arc::new(TailBuffer::new(limits, &counters)));
                        let buffers = Arc::new(LocalBuffers::new(most_spans, scope, &batching));
                        let queue = Arc::new(Queue::new(most_spans, batching, counters.clone()));
                        let exporter = sink.component();
                        let _ = sender.send(Ok((
                            buffers.clone(),
                            held.clone(),
                            queue.clone(),
                            exporter,
                        )));
                        // Dropped after the sink: what a sink or an exporter drops may take its
                        // time, which counts against the limit of `shutdown`.
                        let _ended = queue.end_guard();
                        run(signal, &buffers, held.as_deref(), &queue, &counters, delay, sink);
                    }
                    Err(error) => {
                        let _ = sender.send(Err(error));
                    }
                }
            }
        });
        let thread = Mutex::new(Some(thread.map_err(no_thread)?));
        match receiver.recv() {
            Ok(Ok((buffers, held, queue, exporter))) => {
                let forked = AtomicU64::new(0);
                Ok(Self {
                    signal,
                    buffers,
                    held,
                    queue,
                    counters,
                    outbox,
                    exporter,
                    thread,
                    process,
                    forked,
                })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let reason = "the export thread panicked while it started";
                Err(no_thread(std::io::Error::other(reason)))
            }
        }
    }

    /// Hands over one record. Never waits: a record that doesn't fit is dropped and counted.
    /// Afterwards only the memory of `record` is of use.
    ///
    /// # Errors
    ///
    /// A record with feedback was dropped, for this reason.
    #[inline(always)] // once a span
    pub(crate) fn push(&self, record: &mut SpanRecord) -> Result<(), DropReason> {
        self.buffers.push(record, &self.queue)
    }

    /// Hands over a log record, written to the outbox first if that is written ahead. Never waits: a record
    /// that doesn't fit is dropped and counted.
    pub(crate) fn push_log_record(&self, record: &LogRecord) {
        let (encoded, is_truncated) = otlp::encoded_log_record(record);
        count_truncated(&self.counters, self.signal, is_truncated.into());
        // What can't be written is in memory all the same, and the outbox warns of it.
        let copy = self.writes_ahead().then(|| encoded.clone());
        let finalizers = copy.and_then(|encoded| self.hold_ahead(encoded, true, record.time).ok());
        let scope = self.buffers.scope();
        let batch = Batch::of_log_record(scope, encoded, finalizers.unwrap_or_default());
        let _ = self.queue.push(batch); // what is lost is counted
    }

    /// The process that exports what is pushed.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Whether this process was forked after the pipeline was started: then it has no export
    /// thread, and locks may be [orphaned](crate::fork).
    pub(crate) fn is_forked(&self) -> bool {
        fork::process() != self.process
    }

    /// Counts the spans of this thread that wait in a forked process. What has waited at the fork is
    /// among them, though the parent exports it.
    fn count_forked(&self) {
        let spans = self.buffers.abandon() as u64;
        self.counters.dropped(DropReason::Forked, spans, 0);
    }

    /// What a forked process has lost since it was reported last.
    fn forked_losses(&self) -> Result<(), FlushError> {
        self.count_forked();
        let lost = self.counters.forked();
        let spans = lost.saturating_sub(self.forked.fetch_max(lost, Ordering::Relaxed));
        let mut losses = BTreeMap::new();
        if spans > 0 {
            let message = Some("build the layer after the fork".to_owned());
            losses.insert(DropReason::Forked, Loss { spans, message });
        }
        FlushError::of(losses, 0, None)
    }

    /// Takes a record of an unsampled span that has ended at `end`, which is exported only if its trace is
    /// kept. Never waits.
    #[inline(always)] // once a span, where unsampled ones are held
    pub(crate) fn hold(&self, record: &mut SpanRecord, end: Ticks) {
        match &self.held {
            Some(held) => self.buffers.hold(record, end, &self.queue, held),
            None => self.counters.unsampled(1),
        }
    }

    /// Keeps a trace, since feedback has arrived: its held spans are exported with the next ones, and those
    /// that end later.
    pub(crate) fn keep(&self, trace_id: TraceId) {
        if let Some(held) = &self.held {
            held.keep(trace_id);
        }
    }

    /// Hands over what the threads have gathered, and exports what is held and kept.
    fn sweep(&self) {
        self.buffers.sweep(&self.queue, self.held.as_deref());
        if let Some(held) = &self.held {
            held.evaluate(&self.queue);
        }
    }

    /// As [`sweep`](Self::sweep), for the last time.
    fn close_buffers(&self) {
        self.buffers.close(&self.queue, self.held.as_deref());
        if let Some(held) = &self.held {
            held.close(&self.queue);
        }
    }

    /// The share that feedback with tickets may use.
    pub(crate) fn late_share(&self) -> LateShare {
        let (used, most) = self.queue.feedback_bytes();
        let of_queue = (used as u64, most as u64 / 2);
        let of_outbox = self.outbox.as_ref().map(|outbox| {
            let (used, most) = outbox.feedback_bytes();
            (used, most / 2)
        });
        let shares = || std::iter::once(of_queue).chain(of_outbox);
        LateShare {
            bytes: shares().map(|(_, most)| most).min().unwrap_or(u64::MAX),
            is_full: shares().any(|(used, most)| used >= most.max(1)),
        }
    }

    /// Begins a [`flush`](Self::flush), and doesn't wait.
    pub(crate) fn request_flush(&self) {
        if !self.is_forked() {
            self.sweep();
            self.queue.request_flush();
        }
    }

    /// Begins a [`shutdown`](Self::shutdown) that is to end by `deadline`, and doesn't wait.
    pub(crate) fn request_shutdown(&self, deadline: Instant) {
        if !self.is_forked() {
            self.close_buffers();
            self.queue.request_close(deadline);
        }
    }

    /// Waits until every record pushed so far was delivered or dropped, or `limit` is over.
    ///
    /// # Errors
    ///
    /// How many records did not arrive since the last report, and why.
    pub(crate) fn flush(&self, limit: Duration) -> Result<(), FlushError> {
        if self.is_forked() {
            return self.forked_losses();
        }
        let deadline = clock::after(limit);
        self.sweep();
        let pending = self.queue.flush(deadline);
        let outbox = self.outbox.as_ref().and_then(|outbox| outbox.sync(deadline).err());
        FlushError::of(self.queue.losses(), pending, outbox)
    }

    /// As [`flush`](Self::flush); what is held or pushed afterwards is dropped, and the export
    /// thread ends.
    pub(crate) fn shutdown(&self, limit: Duration) -> Result<(), FlushError> {
        if self.is_forked() {
            return self.forked_losses();
        }
        let deadline = clock::after(limit);
        self.close_buffers();
        let pending = self.queue.close(deadline);
        // Before the outbox closes, which it does with the export thread.
        let outbox = self.outbox.as_ref().and_then(|outbox| outbox.sync(deadline).err());
        let thread = crate::sync::lock(&self.thread).take();
        if let Some(thread) = thread
            && self.queue.wait_until_ended(deadline)
        {
            let _ = thread.join(); // the sink is dropped already; the thread returns nothing
        }
        FlushError::of(self.queue.losses(), pending, outbox)
    }

    pub(crate) fn stats(&self) -> Stats {
        if self.is_forked() {
            self.count_forked();
            return self.counters.read(PipelineGauges::default());
        }
        if self.held.is_some() {
            self.sweep(); // what is held depends on what has arrived until now
        }
        let (queued, queued_bytes) = self.queue.waiting();
        let (gathered, gathered_bytes) = self.buffers.waiting();
        self.counters.read(PipelineGauges {
            queued: (queued + gathered) as u64,
            queued_bytes: (queued_bytes + gathered_bytes) as u64,
            held: self.held.as_ref().map_or(0, |held| held.spans()) as u64,
            outbox: self.outbox.as_ref().map(|outbox| outbox.usage()).unwrap_or_default(),
        })
    }

    /// Whether enrichments are written to the outbox when they are made.
    pub(crate) fn writes_ahead(&self) -> bool {
        self.outbox_ahead().is_some()
    }

    /// Writes a carrier to the outbox before it is sent, if the outbox is written ahead. `is_whole`
    /// means that the carrier is sent by itself, and not as a part of its span. Never waits.
    ///
    /// # Errors
    ///
    /// The outbox can't take it.
    pub(crate) fn write_ahead(
        &self,
        record: &SpanRecord,
        is_whole: bool,
    ) -> Result<Finalizers, NotDurable> {
        match self.writes_ahead() {
            true => self.hold_ahead(otlp::encoded(record), is_whole, record.start),
            false => Ok(Finalizers::default()),
        }
    }

    /// Writes an encoded item of this time to the outbox, if that is written ahead.
    fn hold_ahead(
        &self,
        encoded: Vec<u8>,
        is_whole: bool,
        time: u64,
    ) -> Result<Finalizers, NotDurable> {
        let mut finalizers = Finalizers::default();
        if let Some(outbox) = self.outbox_ahead() {
            if self.is_forked() {
                return Err(NotDurable);
            }
            finalizers.push(outbox.hold(encoded, is_whole, time).map_err(|_| NotDurable)?);
        }
        Ok(finalizers)
    }

    /// Waits until what was written ahead so far is durable, or `deadline`.
    ///
    /// # Errors
    ///
    /// Why it isn't.
    pub(crate) fn persist(&self, deadline: Instant) -> Result<(), PersistError> {
        match self.outbox_ahead() {
            Some(_) if self.is_forked() => Err(PersistError::Forked),
            Some(outbox) => outbox.sync(deadline),
            None => Ok(()),
        }
    }

    /// As [`persist`](Self::persist), without blocking the thread.
    pub(crate) fn persist_async(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), PersistError>> + Send + use<> {
        let synced = self.outbox_ahead().map(|outbox| match self.is_forked() {
            true => Err(PersistError::Forked),
            false => Ok(outbox.synced(deadline)),
        });
        async move {
            match synced {
                Some(synced) => synced?.await,
                None => Ok(()),
            }
        }
    }

    /// The outbox, if enrichments are written down when they are made.
    fn outbox_ahead(&self) -> Option<&Arc<Outbox>> {
        self.outbox.as_ref().filter(|outbox| outbox.writes_ahead())
    }

    /// What takes the spans in the end: see [`Sink::component`].
    pub(crate) fn exporter(&self) -> &'static str {
        self.exporter
    }

    /// The limits of the queue: in spans, if there is such a limit, and in bytes.
    pub(crate) fn limits(&self) -> (Option<usize>, usize) {
        self.queue.limits()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl std::ops::Drop for Pipeline {
    /// Lets the export thread end, also if `shutdown` was never called.
    fn drop(&mut self) {
        if !self.is_forked() {
            self.queue.stop_accepting();
        }
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("exporter", &self.exporter())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The export thread: one batch after the other, until the queue is closed and empty.
fn run(
    signal: Signal,
    buffers: &LocalBuffers,
    held: Option<&TailBuffer>,
    queue: &Queue,
    counters: &Counters,
    delay: Duration,
    mut sink: Box<dyn Sink>,
) {
    let mut due = clock::after(delay);
    let backpressure = queue.backpressure();
    loop {
        let delivery = match queue.next(sink.due().map_or(due, |of_sink| due.min(of_sink))) {
            Next::Export(batches) => {
                let (spans, feedback) = Batch::totals(&batches);
                let truncated = batches.iter().map(|batch| batch.truncated() as u64).sum();
                count_truncated(counters, signal, truncated);
                let export = catch_unwind(AssertUnwindSafe(|| sink.export(batches, backpressure)));
                export.unwrap_or_else(|_| {
                    let mut delivery = Delivery::default();
                    delivery.fail(spans, feedback, "the exporter panicked".to_owned());
                    delivery
                })
            }
            Next::Due => {
                if Instant::now() >= due {
                    buffers.sweep(queue, held);
                    if let Some(held) = held {
                        held.sweep(queue);
                    }
                    queue.make_due();
                    due = clock::after(delay);
                }
                Delivery::default()
            }
            Next::End => break,
        };
        settle(signal, queue, counters, delivery);
        // Stored spans are sent between new ones, unless the queue needs all the time for new ones.
        if sink.due().is_some_and(|due| due <= Instant::now()) && !queue.is_under_pressure() {
            let caught_up = catch_unwind(AssertUnwindSafe(|| sink.catch_up(backpressure)));
            settle(signal, queue, counters, caught_up.unwrap_or_default());
        }
    }
    let shutdown = catch_unwind(AssertUnwindSafe(|| sink.shutdown(Duration::from_secs(5))));
    match shutdown.unwrap_or_else(|_| Err("the exporter panicked".to_owned())) {
        Ok(delivery) => settle(signal, queue, counters, delivery),
        Err(reason) => {
            tracing::warn!(target: "tracing_feedback", reason, "the exporter could not be shut down");
        }
    }
}

/// Counts spans, or log records, that were too large, and warns of the first.
fn count_truncated(counters: &Counters, signal: Signal, spans: u64) {
    if !counters.truncated(spans) {
        return;
    }
    match signal {
        Signal::Traces => tracing::warn!(
            target: "tracing_feedback",
            "a span is too large for a receiver: its largest values were cut. Record less, or set \
             OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT; `Stats::truncated` counts such spans"
        ),
        Signal::Logs => tracing::warn!(
            target: "tracing_feedback",
            "a log record is too large for a receiver: its largest values were cut; \
             `EventStats::truncated` counts such records"
        ),
    }
}

/// Counts the outcome of an export, and wakes the callers of `flush` and `shutdown`.
fn settle(signal: Signal, queue: &Queue, counters: &Counters, delivery: Delivery) {
    counters.exported(delivery.exported);
    counters.retried(delivery.retried);
    counters.reconnected(delivery.reconnected);
    count_truncated(counters, signal, delivery.truncated);
    if let Some((spans, feedback, message)) = delivery.failed {
        counters.dropped(DropReason::ExportFailed, spans, feedback);
        queue.add_lost(DropReason::ExportFailed, spans, message);
    }
    if let Some((spans, feedback, message)) = delivery.rejected {
        counters.dropped(DropReason::Rejected, spans, feedback);
        queue.add_lost(DropReason::Rejected, spans, message);
    }
    if let (spans @ 1.., feedback) = delivery.discarded {
        let items = signal.items();
        let message = format!("the outbox was full, or the {items} were too old for it");
        counters.dropped(DropReason::Discarded, spans, feedback);
        queue.add_lost(DropReason::Discarded, spans, message);
    }
    queue.settle();
}
