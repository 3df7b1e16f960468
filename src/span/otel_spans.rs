//! The open spans of an OpenTelemetry provider, which a span processor of this crate has noted.
//!
//! The SDK calls a processor when a span starts and when it ends, and gives no access to the span in
//! between. So each open span is noted here, with its parent and its session. A span that is enriched
//! gets a [state](super::SpanState), which holds its documents until it ends.
//!
//! # Invariants
//!
//! - Every span here has started and not ended, as far as the provider has said.
//! - No foreign code runs while a shard is locked.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanContext, SpanId, TraceId};

use super::{LayerCore, SpanHandle};
use crate::session::Session;
use crate::sync::lock_unless_orphaned;

/// The number of shards, a power of two.
const SHARDS: usize = 64;

/// How many ancestors of a span are looked at. A custom id generator may give a span the id of one of
/// its ancestors, and then there is no end.
const MOST_ANCESTORS: usize = 65_536;

type SpanKey = (TraceId, SpanId);

/// The spans, sharded by their ids.
#[derive(Debug)]
pub(crate) struct OtelSpans {
    shards: Box<[Shard]>,
    /// How many of them belong to a session.
    in_sessions: AtomicUsize,
}

/// A cache line to itself, so that threads don't wait for each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(Mutex<HashMap<SpanKey, OtelSpan, BuildHasherDefault<IdHasher>>>);

/// An open span.
#[derive(Debug)]
pub(crate) struct OtelSpan {
    context: SpanContext,
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
        let shards = iter::repeat_with(Shard::default).take(SHARDS).collect();
        Self { shards, in_sessions: AtomicUsize::new(0) }
    }
}

impl OtelSpans {
    fn shard(&self, span_id: SpanId) -> &Shard {
        // The lowest bits choose the place in the shard's table.
        let bits = u64::from_be_bytes(span_id.to_bytes()).wrapping_mul(MULTIPLIER) >> 32;
        &self.shards[bits as usize % SHARDS]
    }

    /// Notes a span that has started below `parent`. `in_context` is the session of the context it has
    /// started in, and `own` the one that it has begun.
    #[inline]
    pub(crate) fn start(
        &self,
        context: &SpanContext,
        parent: SpanId,
        in_context: Option<Session>,
        own: Option<Session>,
    ) {
        let of_parent = match own.is_none() && parent != SpanId::INVALID && self.any_session() {
            true => self.with((context.trace_id(), parent), |parent| {
                // A session that was attached after the parent had started replaces the parent's.
                let is_new = in_context.is_some() && in_context != parent.in_context;
                (!is_new).then(|| parent.session.clone()).flatten()
            }),
            false => None,
        };
        let session = own.or_else(|| of_parent.flatten()).or_else(|| in_context.clone());
        if session.is_some() {
            self.in_sessions.fetch_add(1, Ordering::Relaxed);
        }
        let key = (context.trace_id(), context.span_id());
        let span = OtelSpan { context: context.clone(), parent, session, in_context, state: None };
        let shard = lock_unless_orphaned(&self.shard(key.1).0);
        let replaced = shard.and_then(|mut spans| spans.insert(key, span));
        drop(replaced); // without the lock
    }

    fn any_session(&self) -> bool {
        self.in_sessions.load(Ordering::Relaxed) > 0
    }

    /// Removes a span that has ended.
    #[inline]
    pub(crate) fn end(&self, context: &SpanContext) -> Option<OtelSpan> {
        let key = (context.trace_id(), context.span_id());
        let ended = lock_unless_orphaned(&self.shard(key.1).0)?.remove(&key)?;
        self.forget(&ended);
        Some(ended)
    }

    fn forget(&self, span: &OtelSpan) {
        if span.session.is_some() {
            self.in_sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Calls `then` with a span, which is locked.
    fn with<T>(&self, key: SpanKey, then: impl FnOnce(&mut OtelSpan) -> T) -> Option<T> {
        lock_unless_orphaned(&self.shard(key.1).0)?.get_mut(&key).map(then)
    }

    /// Whether a span is open.
    pub(crate) fn has(&self, context: &SpanContext) -> bool {
        self.with((context.trace_id(), context.span_id()), |_| ()).is_some()
    }

    /// The state of an open span.
    pub(crate) fn state(&self, core: &Arc<LayerCore>, context: &SpanContext) -> Option<SpanHandle> {
        self.state_of(core, (context.trace_id(), context.span_id()))
    }

    fn state_of(&self, core: &Arc<LayerCore>, key: SpanKey) -> Option<SpanHandle> {
        self.with(key, |span| {
            let OtelSpan { context, session, state, .. } = span;
            let made = || SpanHandle::of_otel(core, context.clone(), session.clone());
            state.get_or_insert_with(made).clone()
        })
    }

    /// Sets the session of an open span. Spans that start below it from now on inherit it.
    pub(super) fn set_session(&self, context: &SpanContext, session: &Session) {
        let key = (context.trace_id(), context.span_id());
        let had_none = self.with(key, |span| span.session.replace(session.clone()).is_none());
        if had_none == Some(true) {
            self.in_sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The outermost open span around `span` that `is_wanted` accepts, or else `span` itself. A span
    /// whose parent has ended before it has nothing around it.
    pub(super) fn outermost(
        &self,
        span: &SpanHandle,
        is_wanted: impl Fn(Option<&Session>) -> bool,
    ) -> SpanHandle {
        let context = &span.start().context;
        let trace_id = context.trace_id();
        let parent_of = |span_id: SpanId| {
            let parent = self.with((trace_id, span_id), |span| span.parent)?;
            (parent != SpanId::INVALID).then_some(parent)
        };
        let around = iter::successors(parent_of(context.span_id()), |id| parent_of(*id));
        let is_wanted =
            |id: &SpanId| self.with((trace_id, *id), |span| is_wanted(span.session.as_ref()));
        let wanted = around.take(MOST_ANCESTORS).filter(|id| is_wanted(id) == Some(true));
        let outermost = wanted.last();
        outermost
            .and_then(|id| self.state_of(span.core(), (trace_id, id)))
            .unwrap_or_else(|| span.clone())
    }

    /// Forgets all spans: the provider was shut down, and doesn't say when they end.
    pub(crate) fn clear(&self) {
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
        self.0 ^= id;
    }

    #[inline]
    fn write_u128(&mut self, id: u128) {
        self.0 ^= id as u64 ^ (id >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut id = [0; 8];
            id[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(self.0.rotate_left(8) ^ u64::from_le_bytes(id));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0.wrapping_mul(MULTIPLIER)
    }
}
