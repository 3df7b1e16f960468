//! The OpenTelemetry providers whose spans can be enriched.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, Weak};

use opentelemetry::trace::SpanContext;

use crate::span::LayerCore;
use crate::sync::{read_unless_orphaned, write_unless_orphaned};

/// The providers whose spans can be enriched: those with an
/// [`EnrichingSpanProcessor`](super::EnrichingSpanProcessor), the newest last.
///
/// A reader clones the list and releases the lock: while it looks at the cores, the last reference to one may
/// be dropped, which runs foreign code such as an exporter's destructor.
static PROVIDERS: RwLock<Option<Arc<[Weak<LayerCore>]>>> = RwLock::new(None);

/// How many providers there have been.
static PROVIDER_COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The address of the core of the provider that was [noted](Providers::note) last.
    static LAST_PROVIDER: Cell<usize> = const { Cell::new(0) };
}

/// The functions that read and change the list.
pub(super) struct Providers;

impl Providers {
    pub(super) fn add(core: &Arc<LayerCore>) {
        if let Some(mut providers) = write_unless_orphaned(&PROVIDERS) {
            let before = providers.iter().flat_map(|providers| providers.iter());
            let left = before.filter(|core| core.strong_count() > 0).cloned();
            *providers = Some(left.chain([Arc::downgrade(core)]).collect());
            PROVIDER_COUNT.fetch_add(1, Ordering::Relaxed);
            Self::note(core);
        }
    }

    fn all() -> Option<Arc<[Weak<LayerCore>]>> {
        read_unless_orphaned(&PROVIDERS)?.clone()
    }

    /// Whether there was ever one.
    #[inline]
    pub(super) fn exist() -> bool {
        PROVIDER_COUNT.load(Ordering::Relaxed) > 0
    }

    /// Notes that a provider is set up, starts a span, or has an open span around the caller, on this thread.
    #[inline]
    pub(super) fn note(core: &Arc<LayerCore>) {
        let _ = LAST_PROVIDER.try_with(|last| last.set(Arc::as_ptr(core).addr()));
    }

    /// The provider that was noted last on this thread.
    pub(super) fn of_thread() -> Option<Arc<LayerCore>> {
        let last = LAST_PROVIDER.try_with(Cell::get).ok().filter(|last| *last != 0)?;
        Self::find(|core| (Arc::as_ptr(core).addr() == last).then(|| core.clone()))
    }

    /// The provider that is meant where no span says which: that [of this thread](Self::of_thread), or else
    /// the newest that wasn't shut down, or else the newest.
    pub(super) fn default() -> Option<Arc<LayerCore>> {
        if !Self::exist() {
            return None;
        }
        Self::of_thread().or_else(|| {
            let providers = Self::all()?;
            let cores = providers.iter().filter_map(Weak::upgrade);
            cores.max_by_key(|core| !core.is_shut_down()) // of equal ones the last
        })
    }

    /// Whether a span is open, and of one of these providers.
    pub(super) fn has_open(context: &SpanContext) -> bool {
        let is_open = |core: &Arc<LayerCore>| {
            core.otel_spans().is_some_and(|spans| spans.has(context)).then_some(())
        };
        Self::find(is_open).is_some()
    }

    /// What the newest provider has for which `of` returns something. A provider may have several
    /// processors of this crate, one in another or side by side; the newest one is the outermost.
    pub(super) fn find<T>(of: impl Fn(&Arc<LayerCore>) -> Option<T>) -> Option<T> {
        let providers = Self::all()?;
        providers.iter().rev().filter_map(Weak::upgrade).find_map(|core| of(&core))
    }
}
