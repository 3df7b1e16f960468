//! What all spans of one layer share.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceId, TraceState};
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample,
};
use tracing::dispatcher;
use tracing::subscriber::NoSubscriber;

use super::span_table::SpanTable;
use super::state::SpanState;
use super::{OtelSpans, ProcessSpans, SpanHandle, WrappedProcessor};
use crate::clock::{self, Ticks};
use crate::export::stats::{EventStats, Stats};
use crate::export::{DropReason, FlushError, LateShare, NotDurable, Pipeline};
use crate::fork;
use crate::outbox::{Finalizers, PersistError};
use crate::printable::printable;
use crate::record::SpanRecord;
use crate::settings::{EnvironmentIssue, Keep, Settings};
use crate::sync::lock_unless_orphaned;
use crate::ticket::{TicketAccounts, TicketKeys};
use crate::user_code;

/// The layer's settings, its sampler and id generator, and its pipeline.
#[derive(Debug)]
pub(crate) struct LayerCore {
    pub(crate) settings: Settings,
    pub(crate) sampling: Sampling,
    pub(crate) ids: IdSource,
    /// The keys that sign and verify tickets.
    pub(crate) ticket_keys: TicketKeys,
    /// How much of their budgets tickets have spent.
    pub(crate) ticket_accounts: TicketAccounts,
    /// The service's span processors, if it has brought some.
    processors: Option<Box<dyn ProcessSpans>>,
    /// The open spans of a provider and the processor that is wrapped, where there is no layer.
    wrapped: Option<(OtelSpans, Arc<dyn WrappedProcessor>)>,
    /// Whether the place of a new span can be planned: nothing of the service's own takes part in it.
    plans: bool,
    /// Absent when the environment has switched telemetry off.
    pipeline: Option<Pipeline>,
    /// The pipeline of log records, if enrichments emit events. Boxed, since most layers have none.
    events: Option<Box<Pipeline>>,
    /// The process that has the pipeline's thread; no process's id without a pipeline.
    process: u32,
    has_warned_of_fork: AtomicBool,
    /// The open spans, except those in the extensions of the registry.
    pub(crate) open: SpanTable,
    shut_down: AtomicBool,
    /// The address of the registry whose spans are captured, once it is claimed.
    registry: OnceLock<usize>,
    pub(crate) has_warned_of_session_id: AtomicBool,
    has_warned_of_environment: AtomicBool,
    /// Whether a warning of a panic was logged, by [`UserPart`].
    has_warned_of_panic: [AtomicBool; 3],
    /// Open spans that carry feedback, by address. Their documents are sent at shutdown.
    enriched: Mutex<BTreeMap<usize, SpanHandle>>,
}

/// The sampler.
#[derive(Debug, Default)]
pub(crate) enum Sampling {
    /// As the parent is sampled, and every root: the specification's default, decided without a
    /// call.
    #[default]
    ParentBasedAlwaysOn,
    /// A sampler of the SDK. Most of them don't need the span's data.
    OfSdk(Sampler),
    Custom(Box<dyn ShouldSample>),
}

impl Sampling {
    pub(crate) fn from_sampler<S: Into<Box<dyn ShouldSample>> + 'static>(sampler: S) -> Self {
        match (&sampler as &dyn Any).downcast_ref::<Sampler>() {
            Some(of_sdk) => Self::OfSdk(of_sdk.clone()),
            None => Self::Custom(sampler.into()),
        }
    }

    /// Whether a span below `parent` is sampled, and its trace state. `None` if the sampler has to
    /// be called with the span's data.
    #[inline]
    pub(super) fn decide(
        &self,
        parent: Option<&SpanContext>,
        trace_id: TraceId,
    ) -> Option<(bool, TraceState)> {
        match self {
            Self::ParentBasedAlwaysOn => Some(Self::by_parent(parent)),
            Self::OfSdk(Sampler::ParentBased(_)) if parent.is_some() => {
                Some(Self::by_parent(parent))
            }
            Self::OfSdk(
                sampler @ (Sampler::AlwaysOn | Sampler::AlwaysOff | Sampler::TraceIdRatioBased(_)),
            ) => {
                let kind = SpanKind::Internal; // these samplers ignore it
                let result = sampler.should_sample(None, trace_id, "", &kind, &[], &[]);
                let is_sampled = matches!(result.decision, SamplingDecision::RecordAndSample);
                Some((is_sampled, Self::by_parent(parent).1))
            }
            Self::OfSdk(_) | Self::Custom(_) => None,
        }
    }

    /// Whether a span is sampled, and its trace state, by its parent alone. A root is sampled.
    #[inline]
    pub(super) fn by_parent(parent: Option<&SpanContext>) -> (bool, TraceState) {
        match parent {
            Some(parent) => (parent.is_sampled(), parent.trace_state().clone()),
            None => (true, TraceState::NONE),
        }
    }

    /// The sampler that has to be called, if there is one.
    pub(super) fn sampler(&self) -> Option<&dyn ShouldSample> {
        match self {
            Self::ParentBasedAlwaysOn => None,
            Self::OfSdk(sampler) => Some(sampler),
            Self::Custom(sampler) => Some(sampler.as_ref()),
        }
    }
}

/// The id generator.
#[derive(Debug, Default)]
pub(crate) enum IdSource {
    #[default]
    Random,
    Custom(Box<dyn IdGenerator>),
}

/// The default id generator.
#[derive(Debug)]
pub(super) struct RandomIds;

impl IdGenerator for RandomIds {
    fn new_trace_id(&self) -> TraceId {
        random_trace_id(self.new_span_id())
    }

    fn new_span_id(&self) -> SpanId {
        random_span_id(clock::now())
    }
}

/// The layer's id generator. Where a custom one panics, ids are random.
impl IdGenerator for LayerCore {
    #[inline]
    fn new_trace_id(&self) -> TraceId {
        match &self.ids {
            IdSource::Random => RandomIds.new_trace_id(),
            IdSource::Custom(generator) => self
                .call(UserPart::IdGenerator, || generator.new_trace_id())
                .unwrap_or_else(|| RandomIds.new_trace_id()),
        }
    }

    #[inline]
    fn new_span_id(&self) -> SpanId {
        match &self.ids {
            IdSource::Random => RandomIds.new_span_id(),
            IdSource::Custom(generator) => self
                .call(UserPart::IdGenerator, || generator.new_span_id())
                .unwrap_or_else(|| RandomIds.new_span_id()),
        }
    }
}

/// What a service may bring of its own, and what is called when a span starts or ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UserPart {
    Sampler,
    IdGenerator,
    SpanProcessor,
}

impl UserPart {
    /// The reason that a panic is counted by, and the warning of it.
    fn panic(self) -> (&'static str, &'static str) {
        match self {
            Self::Sampler => (
                "sampler_panicked",
                "the sampler panicked: spans for which it does are sampled as their parent is",
            ),
            Self::IdGenerator => (
                "id_generator_panicked",
                "the id generator panicked: spans for which it does have random ids",
            ),
            Self::SpanProcessor => (
                "span_processor_panicked",
                "a span processor panicked: spans for which it does are exported without it",
            ),
        }
    }
}

thread_local! {
    /// The seed for the next span id of this thread; 0 before the first.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// A random span id, never zero, for a span of this time. The SDK's generator gives the first seed;
/// this one is faster.
///
/// The time is part of the seed: after a fork both processes have the same seed, but soon not the
/// same nanosecond.
#[inline]
pub(super) fn random_span_id(time: u64) -> SpanId {
    let next = |last| {
        let seed = if last == 0 { first_seed() } else { last };
        let mut random = fastrand::Rng::with_seed(seed ^ time);
        (random.u64(..).max(1), random.get_seed())
    };
    let id = SEED.try_with(|seed| {
        let (id, then) = next(seed.get());
        seed.set(then);
        id
    });
    SpanId::from(id.unwrap_or_else(|_| next(0).0))
}

/// A random trace id, for a trace that begins with the span of this id: the SDK's generator, too,
/// has the same state in both processes after a fork.
#[inline]
pub(super) fn random_trace_id(root: SpanId) -> TraceId {
    let random = u128::from_be_bytes(RandomIdGenerator::default().new_trace_id().to_bytes());
    TraceId::from(random ^ u128::from(u64::from_be_bytes(root.to_bytes())))
}

#[cold]
fn first_seed() -> u64 {
    u64::from_be_bytes(RandomIdGenerator::default().new_span_id().to_bytes())
}

/// How many layers there are in the process.
static LAYER_COUNT: AtomicUsize = AtomicUsize::new(0);

impl LayerCore {
    /// Whether there is any layer in the process. Enrichments check this first, so that they cost
    /// little without a layer.
    #[inline]
    pub(crate) fn exists() -> bool {
        // Relaxed is enough: a thread that was given a subscriber also sees the count from before.
        LAYER_COUNT.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn new(
        settings: Settings,
        sampling: Sampling,
        ids: IdSource,
        (ticket_keys, ticket_accounts): (TicketKeys, TicketAccounts),
        pipeline: Option<Pipeline>,
    ) -> Self {
        LAYER_COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            settings,
            sampling,
            plans: matches!(ids, IdSource::Random),
            ids,
            ticket_keys,
            ticket_accounts,
            processors: None,
            wrapped: None,
            process: pipeline.as_ref().map_or(u32::MAX, Pipeline::process),
            has_warned_of_fork: AtomicBool::new(false),
            pipeline,
            events: None,
            open: SpanTable::default(),
            shut_down: AtomicBool::new(false),
            registry: OnceLock::new(),
            has_warned_of_session_id: AtomicBool::new(false),
            has_warned_of_environment: AtomicBool::new(false),
            has_warned_of_panic: [const { AtomicBool::new(false) }; 3],
            enriched: Mutex::default(),
        }
    }

    /// The same with a pipeline for the log records of events.
    pub(crate) fn with_events(mut self, events: Option<Pipeline>) -> Self {
        self.events = events.map(Box::new);
        self
    }

    /// The same with span processors.
    pub(crate) fn with_processors(mut self, processors: Option<Box<dyn ProcessSpans>>) -> Self {
        self.plans &= processors.is_none();
        self.processors = processors;
        self
    }

    /// The same for a processor that wraps another, in place of a layer.
    pub(crate) fn with_wrapped(mut self, processor: Arc<dyn WrappedProcessor>) -> Self {
        self.wrapped = Some((OtelSpans::default(), processor));
        self
    }

    /// The open spans of the provider, where a processor takes the place of a layer.
    #[inline]
    pub(crate) fn otel_spans(&self) -> Option<&OtelSpans> {
        self.wrapped.as_ref().map(|(spans, _)| spans)
    }

    #[inline]
    pub(super) fn processors(&self) -> Option<&dyn ProcessSpans> {
        self.processors.as_deref()
    }

    /// Whether the place of a new span can be planned, unless its sampler has to be called.
    #[inline]
    pub(super) fn plans(&self) -> bool {
        self.plans
    }

    /// Whether issues of the environment are still to be logged.
    pub(crate) fn has_unreported_issues(&self) -> bool {
        !self.settings.environment_issues.is_empty()
            && !self.has_warned_of_environment.load(Ordering::Relaxed)
    }

    /// Logs the issues of the environment as warnings, to the current subscriber, once.
    pub(crate) fn report_issues(&self) {
        let has_subscriber = dispatcher::get_default(|current| !current.is::<NoSubscriber>());
        if !has_subscriber
            || !self.has_unreported_issues()
            || self.has_warned_of_environment.swap(true, Ordering::Relaxed)
        {
            return;
        }
        for EnvironmentIssue { variable, value, reason } in &self.settings.environment_issues {
            let reason = printable(reason);
            tracing::warn!(target: "tracing_feedback", variable, value, "ignored: {reason}");
        }
    }

    /// Whether starting or ending a span may call foreign code: a sampler or an id generator that
    /// isn't one of the SDK's own, or a span processor.
    pub(crate) fn calls_foreign_code(&self) -> bool {
        let calls_sampler = match &self.sampling {
            Sampling::ParentBasedAlwaysOn => false,
            Sampling::OfSdk(sampler) => matches!(sampler, Sampler::ParentBased(_)),
            Sampling::Custom(_) => true,
        };
        calls_sampler || matches!(self.ids, IdSource::Custom(_)) || self.processors.is_some()
    }

    /// Calls a part of the service. `None` if it panics, which is counted, and warned of once.
    pub(crate) fn call<T>(&self, part: UserPart, function: impl FnOnce() -> T) -> Option<T> {
        let called = user_code::call(function);
        if called.is_err() {
            let (reason, warning) = part.panic();
            self.count_refused(reason);
            let has_warned = &self.has_warned_of_panic[part as usize];
            if tracing::enabled!(target: "tracing_feedback", tracing::Level::WARN)
                && !has_warned.swap(true, Ordering::Relaxed)
            {
                tracing::warn!(target: "tracing_feedback", "{warning}");
            }
        }
        called.ok()
    }

    /// Whether the environment has switched telemetry off.
    #[inline]
    pub(crate) fn is_disabled(&self) -> bool {
        self.pipeline.is_none()
    }

    /// Whether nothing is captured: the environment has switched telemetry off, or this process was
    /// forked after the layer was built.
    #[inline]
    pub(crate) fn is_off(&self) -> bool {
        self.process != fork::last_process() && self.note_off()
    }

    #[cold]
    fn note_off(&self) -> bool {
        self.is_forked(); // warns of it
        true
    }

    /// Whether this process was forked after the layer was built, of which it warns once.
    fn is_forked(&self) -> bool {
        let is_forked = self.pipeline.as_ref().is_some_and(Pipeline::is_forked);
        if is_forked
            && tracing::enabled!(target: "tracing_feedback", tracing::Level::WARN)
            && !self.has_warned_of_fork.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                target: "tracing_feedback",
                "this process was forked after the layer was built, so it doesn't export its spans: \
                 build the layer after the fork"
            );
        }
        is_forked
    }

    /// Counts a span that isn't captured because this process was forked.
    #[cold]
    pub(crate) fn count_forked(&self) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.counters().dropped(DropReason::Forked, 1, 0);
        }
    }

    /// How many attributes a span may have.
    #[inline]
    pub(crate) fn most_attributes(&self) -> usize {
        self.settings.span_limits.max_attributes_per_span as usize
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn registry(&self) -> Option<usize> {
        self.registry.get().copied()
    }

    pub(crate) fn set_registry(&self, address: usize) {
        // A layer keeps the first registry it claims.
        let _ = self.registry.set(address);
    }

    pub(crate) fn pipeline(&self) -> Option<&Pipeline> {
        self.pipeline.as_ref()
    }

    /// The pipeline of log records, if enrichments emit events.
    #[inline]
    pub(crate) fn events(&self) -> Option<&Pipeline> {
        self.events.as_deref()
    }

    /// The counts so far, of spans and of events.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.pipeline.as_ref().map(Pipeline::stats).unwrap_or_default();
        stats.events =
            self.events.as_ref().map(|events| EventStats::of(events.stats())).unwrap_or_default();
        stats
    }

    /// The share of queue and outbox that feedback with tickets may use. It is full if that of the log
    /// records is.
    pub(crate) fn late_share(&self) -> LateShare {
        let mut share = self.pipeline.as_ref().map(Pipeline::late_share).unwrap_or_default();
        share.is_full |= self.events.as_ref().is_some_and(|events| events.late_share().is_full);
        share
    }

    /// Waits until what was written ahead so far is durable, or `deadline`.
    ///
    /// # Errors
    ///
    /// Why it isn't.
    pub(crate) fn persist(&self, deadline: Instant) -> Result<(), PersistError> {
        let pipelines = self.pipeline.iter().chain(self.events());
        pipelines.map(|pipeline| pipeline.persist(deadline)).find(Result::is_err).unwrap_or(Ok(()))
    }

    /// As [`persist`](Self::persist), without blocking the thread.
    pub(crate) fn persist_async(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), PersistError>> + Send + use<> {
        let pipelines = self.pipeline.iter().chain(self.events());
        let persisted: Vec<_> =
            pipelines.map(|pipeline| pipeline.persist_async(deadline)).collect();
        async move {
            for persisted in persisted {
                persisted.await?;
            }
            Ok(())
        }
    }

    /// Hands a record to the pipeline.
    ///
    /// # Errors
    ///
    /// A record with feedback was dropped, for this reason.
    #[inline(always)] // once a span
    pub(crate) fn push(&self, record: &mut SpanRecord) -> Result<(), DropReason> {
        let Some(pipeline) = &self.pipeline else { return Ok(()) };
        if !record.details.is_blank() {
            pipeline.counters().dropped_attributes(record.details.dropped_attributes.into());
        }
        pipeline.push(record)
    }

    /// Whether enrichments are written to the outbox when they are made.
    #[inline]
    pub(super) fn writes_ahead(&self) -> bool {
        self.pipeline.as_ref().is_some_and(|pipeline| pipeline.writes_ahead())
    }

    /// Writes a carrier to the outbox before it is sent, if the outbox is written ahead: see
    /// [`Pipeline::write_ahead`].
    pub(super) fn write_ahead(
        &self,
        record: &SpanRecord,
        is_whole: bool,
    ) -> Result<Finalizers, NotDurable> {
        let pipeline = self.pipeline.as_ref();
        pipeline
            .map_or(Ok(Finalizers::default()), |pipeline| pipeline.write_ahead(record, is_whole))
    }

    /// Whether unsampled traces are held until it is known whether feedback arrives.
    #[inline]
    pub(crate) fn keeps(&self) -> bool {
        self.settings.keep == Keep::TracesWithFeedback
    }

    /// Hands the record of an unsampled span that has ended at `end` to the pipeline, which holds it.
    #[inline(always)] // once a span, where unsampled ones are held
    pub(crate) fn hold(&self, record: &mut SpanRecord, end: Ticks) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.hold(record, end);
        }
    }

    /// Keeps a trace: feedback has arrived on one of its spans.
    pub(crate) fn keep(&self, trace_id: TraceId) {
        if self.keeps()
            && let Some(pipeline) = &self.pipeline
        {
            pipeline.keep(trace_id);
        }
    }

    pub(crate) fn count_unsampled(&self) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.counters().unsampled(1);
        }
    }

    pub(crate) fn count_refused(&self, reason: &'static str) {
        if let Some(pipeline) = &self.pipeline {
            pipeline.counters().refused(reason);
        }
    }

    /// Lists an open span that carries feedback, for shutdown. `false` if shutdown has taken the
    /// list already.
    pub(super) fn add_enriched(&self, span: &SpanHandle) -> bool {
        let Some(mut enriched) = lock_unless_orphaned(&self.enriched) else { return false };
        if self.is_shut_down() {
            return false;
        }
        enriched.insert(address(span), span.clone());
        true
    }

    pub(super) fn remove_enriched(&self, span: &SpanState) {
        let removed = lock_unless_orphaned(&self.enriched)
            .and_then(|mut enriched| enriched.remove(&address(span)));
        drop(removed); // without the lock, since other spans may be dropped with it
    }

    pub(crate) fn flush(&self, limit: Duration) -> Result<(), FlushError> {
        self.report_issues();
        let flush = || self.flush_pipelines(limit);
        if let Some((_, processor)) = &self.wrapped
            && !self.is_forked()
        {
            // The pipeline may hand carriers to the processor.
            let until = clock::after(limit);
            let flushed = flush();
            let failures = processor.flush(until.saturating_duration_since(Instant::now()));
            return FlushError::with_processors(flushed, failures);
        }
        match self.processors() {
            Some(processors) if !self.is_forked() && !self.is_shut_down() => {
                let mut flushed = Ok(());
                let failures = processors.flush(limit, &mut || flushed = flush());
                FlushError::with_processors(flushed, failures)
            }
            _ => {
                self.is_forked(); // warns of it
                flush()
            }
        }
    }

    /// Flushes both pipelines at the same time.
    fn flush_pipelines(&self, limit: Duration) -> Result<(), FlushError> {
        let Some(pipeline) = &self.pipeline else { return Ok(()) };
        let Some(events) = &self.events else { return pipeline.flush(limit) };
        let deadline = clock::after(limit);
        events.request_flush();
        let flushed = pipeline.flush(limit);
        let left = deadline.saturating_duration_since(Instant::now());
        FlushError::with_events(flushed, events.flush(left))
    }

    /// Shuts both pipelines down at the same time.
    fn shut_pipelines_down(&self, limit: Duration) -> Result<(), FlushError> {
        let Some(pipeline) = &self.pipeline else { return Ok(()) };
        let Some(events) = &self.events else { return pipeline.shutdown(limit) };
        let deadline = clock::after(limit);
        events.request_shutdown(deadline);
        let stopped = pipeline.shutdown(limit);
        let left = deadline.saturating_duration_since(Instant::now());
        FlushError::with_events(stopped, events.shutdown(left))
    }

    /// Sends the feedback on open spans as carriers, and shuts the pipeline down, with the wrapped
    /// processor.
    pub(crate) fn shutdown(&self, limit: Duration) -> Result<(), FlushError> {
        let until = clock::after(limit);
        let closed = self.close(limit);
        let Some((_, processor)) = self.wrapped.as_ref().filter(|_| !self.is_forked()) else {
            return closed;
        };
        let failures = processor.shutdown(until.saturating_duration_since(Instant::now()));
        FlushError::with_processors(closed, failures)
    }

    /// As [`shutdown`](Self::shutdown), and leaves the wrapped processor to its provider.
    pub(crate) fn close(&self, limit: Duration) -> Result<(), FlushError> {
        self.report_issues();
        let shutdown = || self.shut_pipelines_down(limit);
        if self.is_forked() {
            // What is open now, the parent has open too, and sends.
            self.shut_down.store(true, Ordering::Release);
            return shutdown();
        }
        let was_shut_down = self.is_shut_down();
        let open = {
            let mut enriched = crate::sync::lock(&self.enriched);
            self.shut_down.store(true, Ordering::Release);
            std::mem::take(&mut *enriched)
        };
        for span in open.into_values() {
            span.send_documents();
        }
        if let Some(spans) = self.otel_spans() {
            spans.clear();
        }
        match self.processors() {
            Some(processors) if !was_shut_down => {
                let mut stopped = Ok(());
                let failures = processors.shutdown(limit, &mut || stopped = shutdown());
                FlushError::with_processors(stopped, failures)
            }
            _ => shutdown(),
        }
    }
}

fn address(span: &SpanState) -> usize {
    std::ptr::from_ref(span).addr()
}

impl std::ops::Drop for LayerCore {
    fn drop(&mut self) {
        LAYER_COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn ids_differ_where_the_seed_is_the_same_but_not_the_time() {
        let ids_at = |times: [u64; 3]| {
            SEED.set(7);
            times.map(random_span_id)
        };
        let (one, other) = (ids_at([1, 2, 3]), ids_at([1_000, 2, 3]));
        assert_eq!(one, ids_at([1, 2, 3]));
        assert!(one.iter().all(|id| !other.contains(id)), "{one:?} {other:?}");
    }

    #[test]
    fn no_span_id_is_zero_or_like_another_of_any_thread() {
        const OF_THREAD: usize = 10_000;
        let make =
            || (0..OF_THREAD).map(|_| RandomIds.new_span_id().to_bytes()).collect::<Vec<_>>();
        let threads = [thread::spawn(make), thread::spawn(make)];
        let ids = threads.map(|thread| thread.join().unwrap()).concat();
        let all: HashSet<_> = ids.iter().collect();
        assert_eq!(all.len(), 2 * OF_THREAD);
        assert!(!all.contains(&[0; 8]));
        // Every bit is as often set as not.
        for bit in 0..64 {
            let set = ids.iter().filter(|id| u64::from_be_bytes(**id) >> bit & 1 == 1).count();
            assert!((9_500..10_500).contains(&set), "{bit}: {set}");
        }
    }
}
