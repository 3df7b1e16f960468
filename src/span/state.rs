//! The state of one open span.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use opentelemetry::baggage::{BaggageExt, KeyValueMetadata};
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SamplingDecision;
use tracing_subscriber::registry::Extensions;

use super::documents::Documents;
use super::timings::SpanTimer;
use super::trace_place::{Started, TracePlace, ids, with_parent};
use super::{LayerCore, ProcessSpans, Sampling, SpanHandle, UserPart};
use crate::cold_box::ColdBox;
use crate::feedback::carrier;
use crate::otlp::attributes::ValueRef;
use crate::record::{self, SpanRecord};
use crate::session::{SESSION_ID, Session};
use crate::settings::{is_feedback, namespaced};
use crate::suppress;
use crate::sync::lock_unless_orphaned;

/// One captured span, from its creation until it closes.
#[derive(Debug)]
pub(crate) struct SpanState {
    pub(super) core: Arc<LayerCore>,
    /// The captured span around this one in the registry, which stays open as long as this one.
    pub(super) local_parent: Option<SpanHandle>,
    pub(super) place: TracePlace,
    pub(super) is_closed: AtomicBool,
    /// Whether the span has, or once had, a session.
    pub(super) has_session: AtomicBool,
    pub(crate) timings: SpanTimer,
    pub(super) live: Mutex<Live>,
}

/// The extension of the registry that stores a captured span which isn't in the
/// [table](super::span_table) of its layer.
///
/// Dropping it ends the span: its layer may have been taken out by `reload`, and then isn't called
/// when the span closes.
#[derive(Debug)]
pub(crate) struct Captured(Option<SpanHandle>);

impl Captured {
    pub(crate) fn new(state: SpanHandle) -> Self {
        Self(Some(state))
    }

    /// The state in these extensions, if they have one.
    pub(crate) fn of<'e>(extensions: &'e Extensions<'_>) -> Option<&'e SpanHandle> {
        extensions.get::<Self>()?.0.as_ref()
    }

    /// Discards the span: another layer of this process captures it.
    pub(crate) fn abandon(&self) {
        if let Some(state) = &self.0 {
            state.abandon();
        }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            state.end();
        }
    }
}

/// What may change until the span closes.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(super) is_open: bool,
    /// The record that is exported in the end, filled in place. Its ids are set when the span
    /// closes.
    pub(crate) record: SpanRecord,
    /// The OpenTelemetry context the span was created in, or was given. Without one it is in the
    /// context of the captured span around it.
    pub(crate) parent_context: Option<Context>,
    /// Whether the parent context was given: then its active span is the parent, or there is none.
    /// Reset when a span is created.
    pub(crate) is_parent_set: bool,
    /// The context in which this span is active, if it is stored.
    pub(crate) context: Option<Context>,
    /// Kept after the span has closed, for late feedback.
    pub(crate) session: Option<Session>,
    pub(crate) documents: ColdBox<Documents>,
}

impl Live {
    /// Whether the span was ended through the OpenTelemetry API.
    #[inline]
    pub(crate) fn is_ended(&self) -> bool {
        !self.documents.is_blank() && self.documents.ended.is_some()
    }

    pub(super) fn is_enriched(&self) -> bool {
        !self.documents.is_blank()
            && (self.documents.own.is_feedback || self.documents.scoped.is_some())
    }
}

impl SpanState {
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn core(&self) -> &Arc<LayerCore> {
        &self.core
    }

    /// The captured span around this one in the registry.
    #[inline]
    pub(crate) fn local_parent(&self) -> Option<&SpanHandle> {
        self.local_parent.as_ref()
    }

    #[inline]
    pub(crate) fn session(&self) -> Option<Session> {
        match self.has_session.load(Ordering::Acquire) {
            true => lock_unless_orphaned(&self.live)?.session.clone(),
            false => None, // nearly always
        }
    }

    /// Locks what may still change. No foreign code may be called while it is locked. `None` if the
    /// span has closed.
    #[inline]
    pub(crate) fn live(&self) -> Option<MutexGuard<'_, Live>> {
        let live = lock_unless_orphaned(&self.live)?;
        if live.is_open { Some(live) } else { None }
    }

    /// Changes what may still change. The change must not call foreign code: a lock is held.
    /// `None` if the span has closed.
    #[inline]
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Live) -> T) -> Option<T> {
        let mut live = self.live()?;
        let changed = change(&mut live);
        if live.session.is_some() {
            self.has_session.store(true, Ordering::Release);
        }
        Some(changed)
    }

    /// As [`change`](Self::change), unless the span was ended through the OpenTelemetry API: then
    /// only its feedback may change.
    #[inline]
    pub(crate) fn change_if_recording<T>(&self, change: impl FnOnce(&mut Live) -> T) -> Option<T> {
        self.change(|live| (!live.is_ended()).then(|| change(live))).flatten()
    }

    /// Starts the span if it hasn't started: from here on its place in a trace is fixed.
    #[inline]
    pub(crate) fn start(&self) -> &Started {
        match self.place.fixed() {
            Some(started) => started,
            None => self.start_now(),
        }
    }

    #[inline]
    fn start_now(&self) -> &Started {
        match self.place.fix() {
            Some(started) if !self.core.keeps() => started,
            started => self.start_slow(started),
        }
    }

    /// As [`start_now`](Self::start_now), where the place is still to be decided, or the trace may
    /// have to be kept.
    #[cold]
    fn start_slow<'s>(&'s self, started: Option<&'s Started>) -> &'s Started {
        let decide = || {
            // Samplers, id generators and span processors are foreign code.
            let _suppressed = suppress::scope();
            let started = self.decide();
            // An unsampled span is processed when it ends with feedback.
            if let Some(processors) = self.core.processors()
                && started.context.is_sampled()
            {
                self.process_start(processors, &started.context);
            }
            started
        };
        let started = started.unwrap_or_else(|| self.place.decide(decide));
        if self.core.keeps() && self.change(|live| live.is_enriched()) == Some(true) {
            self.core.keep(started.context.trace_id());
        }
        started
    }

    /// Keeps the span's trace, since feedback has arrived. A span that hasn't started has no trace
    /// yet; it keeps its trace when it starts.
    pub(super) fn keep(&self) {
        if self.core.keeps()
            && let Some(started) = self.place.fixed()
        {
            self.core.keep(started.context.trace_id());
        }
    }

    fn decide(&self) -> Started {
        let of_context = self.change(|live| (live.parent_context.clone(), live.is_parent_set));
        let (context, is_set) = of_context.unwrap_or_default();
        let local_parent = self.local_parent.as_ref().map(|parent| parent.start());
        with_parent((context.as_ref(), is_set), local_parent, |parent| {
            let ids = ids(&self.core, parent);
            let sampling = &self.core.sampling;
            let decision = sampling.decide(parent, ids.1).or_else(|| {
                let context = context.clone().or_else(|| self.context_around());
                let context = with_active(context.unwrap_or_default(), parent);
                self.sample(sampling.sampler()?, &context, ids.1)
            });
            Started::new(parent, ids, decision.unwrap_or_else(|| Sampling::by_parent(parent)))
        })
    }

    /// Calls the span processors at the start of the span.
    pub(super) fn process_start(&self, processors: &dyn ProcessSpans, started: &SpanContext) {
        let of_context = self.change(|live| (live.parent_context.clone(), live.is_parent_set));
        let Some((context, is_set)) = of_context else { return };
        let local_parent = self.local_parent.as_ref().map(|parent| parent.start());
        with_parent((context.as_ref(), is_set), local_parent, |parent| {
            let context = context.clone().or_else(|| self.context_around());
            let context = with_active(context.unwrap_or_default(), parent);
            processors.on_start(self, started, &context);
        });
    }

    /// Calls a sampler, which may add attributes. `None` if it panics.
    fn sample(
        &self,
        sampler: &dyn opentelemetry_sdk::trace::ShouldSample,
        parent: &Context,
        trace_id: TraceId,
    ) -> Option<(bool, TraceState)> {
        let arguments = self.change(|live| {
            let record = &live.record;
            let prefix = self.core.settings.convention.prefix();
            let session = live.session.as_ref();
            let session = session.map(|session| KeyValue::new(SESSION_ID, session.id().to_owned()));
            let leaves = live.documents.own.document.leaves();
            let leaves =
                leaves.map(|(key, value)| KeyValue::new(format!("{prefix}{key}"), value.clone()));
            let mut attributes = record.key_values(leaves.len() + 1);
            attributes.extend(leaves.chain(session));
            let links = record.details.links.iter();
            let links: Vec<_> = links
                .map(|link| opentelemetry::trace::Link::with_context(link.context.clone()))
                .collect();
            (record.name().to_owned(), record.kind.clone(), attributes, links)
        });
        let Some((name, kind, attributes, links)) = arguments else {
            return Some((false, TraceState::default())); // closed: the decision has no effect
        };
        let result = self.core.call(UserPart::Sampler, || {
            sampler.should_sample(Some(parent), trace_id, &name, &kind, &attributes, &links)
        });
        let result = result?;
        if !result.attributes.is_empty() {
            let most = self.core.most_attributes();
            let convention = self.core.settings.convention;
            self.change(|live| {
                for KeyValue { key, value, .. } in &result.attributes {
                    let feedback =
                        namespaced(key.as_str(), convention).filter(|key| is_feedback(key));
                    if let Some(key) = feedback {
                        let key = key.to_owned().into();
                        let dropped = live.documents.set_leaf(key, value.clone(), most);
                        live.record.count_dropped(dropped);
                    } else if ![record::Timings::BUSY, record::Timings::IDLE]
                        .contains(&key.as_str())
                        && !key.as_str().starts_with(carrier::OWN_PREFIX)
                    {
                        live.record.set_attribute(key.as_str(), ValueRef::from(value), most);
                    }
                }
            });
        }
        Some((matches!(result.decision, SamplingDecision::RecordAndSample), result.trace_state))
    }

    /// Moves the span under another parent. `None` if it has closed, `Some(false)` if it has
    /// started.
    pub(crate) fn set_parent(&self, context: Context) -> Option<bool> {
        self.change(|live| {
            if !self.place.void_plan() {
                return false;
            }
            if !live.documents.session_is_own
                && let Some(session) = context.get::<Session>()
            {
                live.session = Some(session.clone());
            }
            live.parent_context = Some(context);
            live.is_parent_set = true;
            true
        })
    }

    /// The context of the captured spans around this one, for a span that isn't created in another: that
    /// of the nearest one that has a context. It holds the values for this span, and an active span that
    /// is to be replaced. Those spans have started, so that it doesn't change.
    #[cold]
    pub(crate) fn context_around(&self) -> Option<Context> {
        let around = self.local_parent.as_ref();
        std::iter::successors(around, |span| span.local_parent.as_ref()).find_map(|span| {
            let live = span.live()?;
            live.parent_context.clone().or_else(|| live.context.clone())
        })
    }
}

/// `context` with `parent` as the active span. Without a parent it has no active span: one that isn't
/// valid counts as none, as the specification says, but the SDK's parent-based sampler takes it for
/// an unsampled parent.
fn with_active(context: Context, parent: Option<&SpanContext>) -> Context {
    match parent {
        Some(parent) if context.span().span_context() == parent => context,
        Some(parent) => context.with_remote_span_context(parent.clone()),
        None if context.has_active_span() => {
            // A span can't be removed from a context, so what is known of the context is copied.
            let baggage = context.baggage().iter().map(|(key, (value, metadata))| {
                KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone())
            });
            let copy = Context::new().with_baggage(baggage.collect::<Vec<_>>());
            match context.get::<Session>() {
                Some(session) => copy.with_value(session.clone()),
                None => copy,
            }
        }
        None => context,
    }
}
