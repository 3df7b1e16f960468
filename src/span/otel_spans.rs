//! The open spans of an OpenTelemetry provider, which a span processor of this crate has noted.
//!
//! The SDK calls a processor when a span starts and when it ends, and gives no access to the span in
//! between. So each open span is noted here, with its parent. Most spans end without being enriched, and
//! have a slot of atomic integers only, which takes no lock. The others are in a map: those that belong to a
//! session, those whose slot is taken, and those that were enriched or asked for. These have a
//! [state](super::SpanState), which holds their documents until they end.
//!
//! # Invariants
//!
//! - Every span here has started and not ended, as far as the provider has said. It is in its slot or in
//!   the map. While it is moved from the slot into the map it is in neither, and the map is locked.
//! - A slot is emptied once for each span: when the span ends, or when it is moved. A span that ends
//!   and isn't in its slot is looked for in the map.
//! - No foreign code runs while a shard of the map is locked.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::iter;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanContext, SpanId, TraceId};

use super::{LayerCore, SpanHandle};
use crate::session::Session;
use crate::sync::lock_unless_orphaned;

/// The number of slots, a power of two: with more of them the CPU's caches hold less of the service's data.
const SLOTS: usize = 512;

/// The number of shards of the map, a power of two.
const SHARDS: usize = 64;

/// For how many spans a shard without any keeps its memory.
const SPARE_CAPACITY: usize = 64;

/// How many ancestors of a span are looked at. A custom id generator may give a span the id of one of
/// its ancestors, and then there is no end.
const MOST_ANCESTORS: usize = 65_536;

/// The open spans.
#[derive(Debug)]
pub(crate) struct OtelSpans {
    slots: Box<[Slot]>,
    shards: Box<[Shard]>,
    /// How many spans belong to a session.
    in_sessions: AtomicUsize,
}

/// A span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SpanKey {
    trace_id: TraceId,
    span_id: SpanId,
}

impl SpanKey {
    fn of(context: &SpanContext) -> Self {
        Self { trace_id: context.trace_id(), span_id: context.span_id() }
    }

    /// Bits that differ between spans, also where a custom generator counts.
    fn bits(self) -> u64 {
        let bits = number(self.span_id).wrapping_mul(MULTIPLIER);
        (bits ^ (bits >> 32)) >> 16
    }
}

/// The slot of a span that was neither enriched nor asked for its state.
#[derive(Debug, Default)]
struct Slot {
    /// The span's id, [`Slot::EMPTY`] or [`Slot::BUSY`].
    span_id: AtomicU64,
    trace_id: [AtomicU64; 2],
    parent: AtomicU64,
}

impl Slot {
    const EMPTY: u64 = 0;
    /// It is being written.
    const BUSY: u64 = u64::MAX;

    /// Whether spans with this id are put into slots: a generator of the service may make the two others.
    #[inline]
    fn takes(id: u64) -> bool {
        id != Self::EMPTY && id != Self::BUSY
    }

    /// Puts a span in. `false` if the slot is taken.
    #[inline]
    fn put(&self, key: SpanKey, parent: SpanId) -> bool {
        let id = number(key.span_id);
        let (empty, busy, relaxed) = (Self::EMPTY, Self::BUSY, Ordering::Relaxed);
        if !Self::takes(id)
            || self.span_id.compare_exchange(empty, busy, Ordering::Acquire, relaxed).is_err()
        {
            return false;
        }
        for (half, value) in self.trace_id.iter().zip(halves(key.trace_id)) {
            half.store(value, Ordering::Relaxed);
        }
        self.parent.store(number(parent), Ordering::Relaxed);
        self.span_id.store(id, Ordering::Release);
        true
    }

    #[inline]
    fn has(&self, key: SpanKey) -> bool {
        let is_half = |(half, value): (&AtomicU64, u64)| half.load(Ordering::Relaxed) == value;
        let id = number(key.span_id);
        Self::takes(id)
            && self.span_id.load(Ordering::Acquire) == id
            && self.trace_id.iter().zip(halves(key.trace_id)).all(is_half)
    }

    /// The parent of the span, if the slot is its.
    fn parent_of(&self, key: SpanKey) -> Option<SpanId> {
        let parent = self.has(key).then(|| self.parent.load(Ordering::Acquire))?;
        // Otherwise another span has taken the slot meanwhile.
        self.has(key).then(|| SpanId::from(parent))
    }

    /// Empties the slot, if it is the span's. Returns whether it was.
    #[inline]
    fn take(&self, key: SpanKey) -> bool {
        let (id, empty) = (number(key.span_id), Self::EMPTY);
        let (acquire, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        self.has(key) && self.span_id.compare_exchange(id, empty, acquire, relaxed).is_ok()
    }
}

fn number(id: SpanId) -> u64 {
    u64::from_be_bytes(id.to_bytes())
}

fn halves(id: TraceId) -> [u64; 2] {
    let id = u128::from_be_bytes(id.to_bytes());
    [id as u64, (id >> 64) as u64]
}

/// A cache line to itself, so that threads don't wait for each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(Mutex<HashMap<SpanKey, OtelSpan, BuildHasherDefault<IdHasher>>>);

/// An open span of the map.
#[derive(Debug)]
pub(crate) struct OtelSpan {
    /// The parent in this process; [`SpanId::INVALID`] without one.
    parent: SpanId,
    pub(crate) session: Option<Session>,
    /// The session in the OpenTelemetry context that the span started in.
    in_context: Option<Session>,
    /// The state, once the span was enriched or asked for.
    pub(crate) state: Option<SpanHandle>,
}

impl Default for OtelSpans {
    fn default() -> Self {
        Self {
            slots: iter::repeat_with(Slot::default).take(SLOTS).collect(),
            shards: iter::repeat_with(Shard::default).take(SHARDS).collect(),
            in_sessions: AtomicUsize::new(0),
        }
    }
}

impl OtelSpans {
    #[inline]
    fn slot(&self, key: SpanKey) -> &Slot {
        &self.slots[key.bits() as usize % SLOTS]
    }

    fn shard(&self, key: SpanKey) -> &Shard {
        &self.shards[key.bits() as usize % SHARDS]
    }

    /// Notes a span that has started below `parent`. `in_context` is the session of the context it has
    /// started in, and `own` the one that it has begun.
    ///
    /// A custom id generator may repeat the ids of an open span. The one that ends last then has the
    /// documents of both.
    #[inline]
    pub(crate) fn start(
        &self,
        context: &SpanContext,
        parent: SpanId,
        in_context: Option<&Session>,
        own: Option<Session>,
    ) {
        let key = SpanKey::of(context);
        let may_have_session = in_context.is_some() || own.is_some() || self.any_session();
        if may_have_session || !self.slot(key).put(key, parent) {
            self.insert(key, parent, in_context, own);
        }
    }

    #[inline]
    fn any_session(&self) -> bool {
        self.in_sessions.load(Ordering::Relaxed) > 0
    }

    #[cold]
    fn insert(
        &self,
        key: SpanKey,
        parent: SpanId,
        in_context: Option<&Session>,
        own: Option<Session>,
    ) {
        let of_parent = match own.is_none() && parent != SpanId::INVALID && self.any_session() {
            true => self.with(SpanKey { span_id: parent, ..key }, |parent| {
                // A session that was attached after the parent had started replaces the parent's.
                let is_new = in_context.is_some() && in_context != parent.in_context.as_ref();
                (!is_new).then(|| parent.session.clone()).flatten()
            }),
            false => None,
        };
        let session = own.or_else(|| of_parent.flatten()).or_else(|| in_context.cloned());
        if session.is_none() && self.slot(key).put(key, parent) {
            return;
        }
        if session.is_some() {
            self.in_sessions.fetch_add(1, Ordering::Relaxed);
        }
        let span = OtelSpan { parent, session, in_context: in_context.cloned(), state: None };
        let replaced = lock_unless_orphaned(&self.shard(key).0).and_then(|mut spans| {
            let mut replaced = spans.insert(key, span)?;
            if let Some(span) = spans.get_mut(&key) {
                span.state = replaced.state.take();
            }
            Some(replaced)
        });
        if let Some(replaced) = replaced {
            self.forget(&replaced);
        }
    }

    /// Removes a span that has ended. Returns it if it was in the map.
    #[inline]
    pub(crate) fn end(&self, context: &SpanContext) -> Option<OtelSpan> {
        let key = SpanKey::of(context);
        match self.slot(key).take(key) {
            true => None,
            false => self.remove(key),
        }
    }

    #[cold]
    fn remove(&self, key: SpanKey) -> Option<OtelSpan> {
        let ended = {
            let mut spans = lock_unless_orphaned(&self.shard(key).0)?;
            let ended = spans.remove(&key)?;
            if spans.is_empty() && spans.capacity() > SPARE_CAPACITY {
                spans.shrink_to(SPARE_CAPACITY);
            }
            ended
        };
        self.forget(&ended);
        Some(ended)
    }

    fn forget(&self, span: &OtelSpan) {
        if span.session.is_some() {
            self.in_sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a span is open.
    pub(crate) fn has(&self, context: &SpanContext) -> bool {
        let key = SpanKey::of(context);
        self.slot(key).has(key) || self.with(key, |_| ()).is_some()
    }

    /// Calls `then` with a span of the map, which is locked.
    fn with<T>(&self, key: SpanKey, then: impl FnOnce(&mut OtelSpan) -> T) -> Option<T> {
        lock_unless_orphaned(&self.shard(key).0)?.get_mut(&key).map(then)
    }

    /// Calls `then` with a span, which is locked, and was moved into the map if it was in its slot.
    fn with_moved<T>(&self, key: SpanKey, then: impl FnOnce(&mut OtelSpan) -> T) -> Option<T> {
        let mut spans = lock_unless_orphaned(&self.shard(key).0)?;
        if !spans.contains_key(&key)
            && let Some(parent) = self.slot(key).parent_of(key)
            && self.slot(key).take(key)
        {
            // A span that ends meanwhile finds its slot empty, and waits for the map.
            let span = OtelSpan { parent, session: None, in_context: None, state: None };
            spans.insert(key, span);
        }
        spans.get_mut(&key).map(then)
    }

    /// The state of an open span.
    pub(crate) fn state(&self, core: &Arc<LayerCore>, context: &SpanContext) -> Option<SpanHandle> {
        self.with_moved(SpanKey::of(context), |OtelSpan { session, state, .. }| {
            let made = || SpanHandle::of_otel(core, context.clone(), session.clone());
            state.get_or_insert_with(made).clone()
        })
    }

    /// Sets the session of an open span. Spans that start below it from now on inherit it.
    pub(super) fn set_session(&self, context: &SpanContext, session: &Session) {
        let replaced = |span: &mut OtelSpan| span.session.replace(session.clone());
        if let Some(None) = self.with_moved(SpanKey::of(context), replaced) {
            self.in_sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The outermost open span around `span` that `is_wanted` accepts by its session, or else `span`
    /// itself. A span whose parent has ended before it has nothing around it.
    pub(super) fn outermost(
        &self,
        span: &SpanHandle,
        is_wanted: impl Fn(Option<&Session>) -> bool,
    ) -> SpanHandle {
        let context = &span.start().context;
        let key_of = |span_id| SpanKey { trace_id: context.trace_id(), span_id };
        // The parent of an open span, and whether that one is wanted.
        let look = |span_id: SpanId| {
            let key = key_of(span_id);
            let in_slot = self.slot(key).parent_of(key).map(|parent| (parent, is_wanted(None)));
            in_slot
                .or_else(|| self.with(key, |span| (span.parent, is_wanted(span.session.as_ref()))))
        };
        let mut outermost = None;
        let mut next = look(context.span_id()).map(|(parent, _)| parent);
        for _ in 0..MOST_ANCESTORS {
            let Some(around) = next.filter(|id| *id != SpanId::INVALID) else { break };
            let Some((parent, is_wanted)) = look(around) else { break };
            if is_wanted {
                outermost = Some(around);
            }
            next = Some(parent);
        }
        let of_trace = |span_id| {
            let (flags, state) = (context.trace_flags(), context.trace_state().clone());
            SpanContext::new(context.trace_id(), span_id, flags, false, state)
        };
        outermost
            .and_then(|span_id| self.state(span.core(), &of_trace(span_id)))
            .unwrap_or_else(|| span.clone())
    }

    /// Forgets all spans: the provider was shut down, and doesn't say when they end.
    pub(crate) fn clear(&self) {
        for slot in &self.slots {
            slot.span_id.store(Slot::EMPTY, Ordering::Relaxed);
        }
        for shard in &self.shards {
            let Some(mut spans) = lock_unless_orphaned(&shard.0) else { continue };
            let left = std::mem::take(&mut *spans);
            drop(spans);
            left.values().for_each(|span| self.forget(span));
        }
    }
}

/// An odd number without a pattern, 2^64 divided by the golden ratio: it spreads ids that were counted.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hasher for ids, which are random already, or counted by a custom generator.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    #[inline]
    fn write_u64(&mut self, id: u64) {
        // Trace and span id may be counted by one counter, and be the same.
        self.0 = self.0.rotate_left(32).wrapping_mul(MULTIPLIER) ^ id;
    }

    #[inline]
    fn write_u128(&mut self, id: u128) {
        self.write_u64(id as u64 ^ (id >> 64) as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut id = [0; 8];
            id[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(id));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        let hash = self.0.wrapping_mul(MULTIPLIER);
        hash ^ (hash >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use opentelemetry::trace::{TraceFlags, TraceState};

    use super::*;

    #[test]
    fn every_open_span_is_known_and_the_memory_of_many_is_released() {
        let spans = OtelSpans::default();
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::NONE);
        let context = |id: u64| {
            let trace_id = TraceId::from(u128::from(id));
            SpanContext::new(trace_id, SpanId::from(id), flags, false, state.clone())
        };
        let all = || (1..100_001).chain([u64::MAX]).map(context);
        all().for_each(|span| spans.start(&span, SpanId::INVALID, None, None));
        assert!(all().all(|span| spans.has(&span)));
        for span in all() {
            spans.end(&span);
            assert!(!spans.has(&span));
        }
        let capacity = |shard: &Shard| shard.0.lock().unwrap().capacity();
        let left: usize = spans.shards.iter().map(capacity).sum();
        assert!(left < 10_000, "{left}");
    }

    #[test]
    fn a_slot_is_emptied_once_and_only_for_the_span_in_it() {
        let key =
            |span_id: u64| SpanKey { trace_id: TraceId::from(7), span_id: SpanId::from(span_id) };
        let (slot, parent) = (Slot::default(), SpanId::from(9));
        assert!(slot.put(key(1), parent) && !slot.put(key(2), parent));
        assert_eq!((slot.parent_of(key(1)), slot.parent_of(key(2))), (Some(parent), None));
        assert!(!slot.take(key(2)) && slot.take(key(1)) && !slot.take(key(1)));
        assert!(slot.put(key(2), SpanId::INVALID) && !slot.take(key(1)) && slot.has(key(2)));
        let other_trace = SpanKey { trace_id: TraceId::from(8), ..key(2) };
        assert!(!slot.has(other_trace) && !slot.take(other_trace));
    }

    #[test]
    fn a_slot_that_is_empty_or_written_is_no_spans() {
        let slot = Slot::default();
        let key = |id: u64| SpanKey { trace_id: TraceId::from(7), span_id: SpanId::from(id) };
        assert!(slot.put(key(1), SpanId::INVALID) && slot.take(key(1)));
        for (id, state) in [(0, Slot::EMPTY), (u64::MAX, Slot::BUSY)] {
            slot.span_id.store(state, Ordering::Relaxed); // the trace of the span before is still there
            assert!(!slot.has(key(id)) && !slot.take(key(id)) && slot.parent_of(key(id)).is_none());
            assert!(!slot.put(key(id), SpanId::INVALID));
        }
        let spans = OtelSpans::default();
        for id in [0, u64::MAX] {
            let (trace_id, span_id) = (TraceId::from(7), SpanId::from(id));
            let (flags, state) = (TraceFlags::SAMPLED, TraceState::NONE);
            let context = SpanContext::new(trace_id, span_id, flags, false, state);
            spans.start(&context, SpanId::INVALID, None, None);
            assert!(spans.has(&context));
            assert!(spans.end(&context).is_some() && !spans.has(&context));
        }
    }

    /// Threads start and end spans while others move them into the map: each span is ended once, by its
    /// slot or by the map, and nothing is left.
    #[test]
    fn a_span_that_ends_while_it_is_moved_is_in_the_map_or_gone() {
        let spans = OtelSpans::default();
        let context = |id: u64| {
            let trace_id = TraceId::from(7);
            let state = TraceState::NONE;
            SpanContext::new(trace_id, SpanId::from(id), TraceFlags::SAMPLED, false, state)
        };
        let ended_in_map = AtomicUsize::new(0);
        let moved = AtomicUsize::new(0);
        const SPANS: u64 = 20_000;
        let latest = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while latest.load(Ordering::Acquire) < SPANS {
                    let key = SpanKey::of(&context(latest.load(Ordering::Acquire)));
                    let session = Session::with_id("s").unwrap();
                    let is_new = |span: &mut OtelSpan| span.in_context.replace(session).is_none();
                    if spans.with_moved(key, is_new) == Some(true) {
                        moved.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            for id in 1..=SPANS {
                let span = context(id);
                spans.start(&span, SpanId::INVALID, None, None);
                latest.store(id, Ordering::Release);
                if spans.end(&span).is_some_and(|ended| ended.in_context.is_some()) {
                    ended_in_map.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        assert_eq!(ended_in_map.into_inner(), moved.into_inner());
        assert!(spans.slots.iter().all(|slot| slot.span_id.load(Ordering::Relaxed) == 0));
        assert!(spans.shards.iter().all(|shard| shard.0.lock().unwrap().is_empty()));
    }

    /// Random ids, ids that were counted, apart or by one counter, and those below one trace.
    #[test]
    fn the_tables_spread_ids_of_any_generator() {
        let key = |(trace, span): (u128, u64)| SpanKey {
            trace_id: TraceId::from(trace),
            span_id: SpanId::from(span),
        };
        let hash = |key: &SpanKey| BuildHasherDefault::<IdHasher>::default().hash_one(key);
        let mut random = fastrand::Rng::with_seed(7);
        let generators: [&mut dyn FnMut(u64) -> (u128, u64); 5] = [
            &mut |_| (random.u128(..), random.u64(..)),
            &mut |n| (n.into(), n),
            &mut |n| ((2 * n).into(), 2 * n + 1),
            &mut |n| (7, n),
            &mut |n| (u128::from(n) << 64 | u128::from(n), n << 32),
        ];
        for (at, generator) in generators.into_iter().enumerate() {
            let keys: Vec<_> = (1..=4096).map(|n| key(generator(n))).collect();
            let hashes: Vec<_> = keys.iter().map(hash).collect();
            // A map looks at the lowest bits, and at the seven highest.
            let places: HashSet<_> = hashes.iter().map(|hash| hash & 0xfff).collect();
            assert!(places.len() > 2000, "{at}: {} places", places.len());
            let tags: HashSet<_> = hashes.iter().map(|hash| hash >> 57).collect();
            assert!(tags.len() > 100, "{at}: {} tags", tags.len());
            let slots: HashSet<_> = keys.iter().map(|key| key.bits() as usize % SLOTS).collect();
            assert!(slots.len() > SLOTS / 2, "{at}: {} slots", slots.len());
        }
    }
}
