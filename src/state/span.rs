//! The state of one open span.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock};

use opentelemetry::trace::{
    SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SamplingDecision;

use super::carrier::{self, Carrier};
use super::{Installation, Sampling};
use crate::clock;
use crate::document::Document;
use crate::quiet;
use crate::record::{Attributes, Enrichments, Event, KeyRef, Link, Parent, SpanRecord, ValueRef};
use crate::session::{SESSION_ID, Session};
use crate::settings::namespaced;

/// One captured span, from its creation until it closes.
#[derive(Debug)]
pub(crate) struct SpanState {
    installation: Arc<Installation>,
    /// The captured span around this one in the registry, which stays open as long as this one.
    local_parent: Option<Arc<SpanState>>,
    /// Decided when the span starts: when it is first entered, has a child, or is asked for it.
    started: OnceLock<Started>,
    live: Mutex<Live>,
}

/// What no longer changes once a span has started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) context: SpanContext,
    pub(crate) parent: Parent,
}

/// What may change until the span closes.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) name: Cow<'static, str>,
    pub(crate) kind: SpanKind,
    /// Nanoseconds since the epoch, as all times here.
    pub(crate) start: u64,
    pub(crate) attributes: Attributes,
    pub(crate) dropped_attributes: u32,
    pub(crate) events: Vec<Event>,
    pub(crate) dropped_events: u32,
    pub(crate) links: Vec<Link>,
    pub(crate) dropped_links: u32,
    pub(crate) status: Status,
    /// The OpenTelemetry context the span was created in, if it was created in one.
    pub(crate) parent_context: Option<Context>,
    /// The context in which this span is active, once it was needed.
    pub(crate) context: Option<Context>,
    pub(crate) session: Option<Session>,
    /// Whether the session was given to this very span rather than inherited.
    pub(crate) session_is_own: bool,
    pub(crate) timings: Timings,
    /// The feedback document of the span itself.
    pub(crate) own: Enriched,
    /// The document of the session or trace that this span speaks for.
    scoped: Option<Box<(Scope, Enriched)>>,
    pub(crate) closed: bool,
}

/// A document, and when it was last enriched.
#[derive(Debug, Default)]
pub(crate) struct Enriched {
    pub(crate) document: Document<Value>,
    pub(crate) time: u64,
    /// Whether anyone has said anything, as opposed to plain fields that lie in a namespace.
    pub(crate) is_feedback: bool,
}

/// What a document is about, if not the span that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Session,
    Trace,
}

impl Scope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Trace => "trace",
        }
    }
}

/// Which of a span's documents is meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DocumentKind {
    Own,
    Scoped(Scope),
}

/// How long a span was entered, and when it last was.
#[derive(Debug, Default)]
pub(crate) struct Timings {
    entered: u32,
    changed: u64,
    busy: u64,
    idle: u64,
    /// When it was last exited, 0 if it never was.
    exited: u64,
    /// When the OpenTelemetry API said that it ended.
    pub(crate) ended: Option<u64>,
}

impl Timings {
    pub(crate) fn created(now: u64) -> Self {
        Self { changed: now, ..Self::default() }
    }

    pub(crate) fn enter(&mut self, now: u64) {
        if self.entered == 0 {
            self.idle += now.saturating_sub(self.changed);
            self.changed = now;
        }
        self.entered += 1;
    }

    pub(crate) fn exit(&mut self, now: u64) {
        self.exited = now;
        self.entered = self.entered.saturating_sub(1);
        if self.entered == 0 {
            self.busy += now.saturating_sub(self.changed);
            self.changed = now;
        }
    }
}

impl Live {
    pub(crate) fn new(name: &'static str, now: u64, capacity: usize) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kind: SpanKind::Internal,
            start: now,
            attributes: Attributes::with_capacity(capacity),
            dropped_attributes: 0,
            events: Vec::new(),
            dropped_events: 0,
            links: Vec::new(),
            dropped_links: 0,
            status: Status::Unset,
            parent_context: None,
            context: None,
            session: None,
            session_is_own: false,
            timings: Timings::created(now),
            own: Enriched::default(),
            scoped: None,
            closed: false,
        }
    }

    /// Sets the status by the rules of the specification: `Ok` is final, and a new error replaces an
    /// old one, but one without a description never erases one.
    pub(crate) fn set_status(&mut self, status: Status) {
        let keeps = match (&self.status, &status) {
            (Status::Ok, _) | (_, Status::Unset) => true,
            (Status::Error { description: old }, Status::Error { description: new }) => {
                new.is_empty() && !old.is_empty()
            }
            _ => false,
        };
        if !keeps {
            self.status = status;
        }
    }

    pub(crate) fn add_event(&mut self, event: Event, most: u32) {
        if self.events.len() < most as usize {
            self.events.push(event);
        } else {
            self.dropped_events = self.dropped_events.saturating_add(1);
        }
    }

    pub(crate) fn add_link(&mut self, link: Link, most: u32) {
        if self.links.len() < most as usize {
            self.links.push(link);
        } else {
            self.dropped_links = self.dropped_links.saturating_add(1);
        }
    }
}

impl SpanState {
    pub(crate) fn new(
        installation: Arc<Installation>,
        local_parent: Option<Arc<SpanState>>,
        live: Live,
    ) -> Self {
        Self { installation, local_parent, started: OnceLock::new(), live: Mutex::new(live) }
    }

    pub(crate) fn installation(&self) -> &Arc<Installation> {
        &self.installation
    }

    pub(crate) fn session(&self) -> Option<Session> {
        crate::lock(&self.live).session.clone()
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.get().is_some()
    }

    /// Changes what may still change. The change must not call foreign code: a lock is held.
    /// `None` if the span has closed.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Live) -> T) -> Option<T> {
        let mut live = crate::lock(&self.live);
        (!live.closed).then(|| change(&mut live))
    }

    /// Starts the span if it hasn't started: from here on its place in a trace is fixed.
    pub(crate) fn start(&self) -> &Started {
        self.started.get_or_init(|| {
            let _quiet = quiet::scope(); // samplers and id generators are foreign code
            self.decide()
        })
    }

    fn decide(&self) -> Started {
        let parent_context = crate::lock(&self.live).parent_context.clone();
        let (parent, context) = match (&parent_context, &self.local_parent) {
            (Some(context), _) if context.span().span_context().is_valid() => {
                (context.span().span_context().clone(), Some(context))
            }
            (context, Some(parent)) => (parent.start().context.clone(), context.as_ref()),
            (context, None) => (SpanContext::NONE, context.as_ref()),
        };
        let ids = &self.installation.ids;
        let span_id = ids.span_id();
        let trace_id = if parent.is_valid() { parent.trace_id() } else { ids.trace_id() };
        let (is_sampled, trace_state) = match &self.installation.sampling {
            Sampling::ParentBasedAlwaysOn => {
                (!parent.is_valid() || parent.is_sampled(), parent.trace_state().clone())
            }
            Sampling::Custom(sampler) => {
                let base = match context {
                    Some(context) => context.clone(),
                    None => Context::new(),
                };
                let base = if parent.is_valid() && !base.span().span_context().is_valid() {
                    base.with_remote_span_context(parent.clone())
                } else {
                    base
                };
                self.ask(sampler.as_ref(), &base, trace_id)
            }
        };
        let flags = if parent.is_valid() { parent.trace_flags() } else { TraceFlags::default() };
        let context =
            SpanContext::new(trace_id, span_id, flags.with_sampled(is_sampled), false, trace_state);
        let parent = match parent.is_valid() {
            true => Parent { span_id: parent.span_id(), is_remote: parent.is_remote() },
            false => Parent::NONE,
        };
        Started { context, parent }
    }

    /// Asks a sampler, which may add attributes.
    fn ask(
        &self,
        sampler: &dyn opentelemetry_sdk::trace::ShouldSample,
        parent: &Context,
        trace_id: TraceId,
    ) -> (bool, TraceState) {
        let (name, kind, attributes, links) = {
            let live = crate::lock(&self.live);
            let prefix = self.installation.settings.convention.prefix();
            let session = live.session.as_ref();
            let session = session.map(|session| KeyValue::new(SESSION_ID, session.id().to_owned()));
            let fields = live.attributes.iter();
            let fields = fields.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_value()));
            let leaves = live.own.document.leaves();
            let leaves =
                leaves.map(|(key, value)| KeyValue::new(format!("{prefix}{key}"), value.clone()));
            let attributes: Vec<_> = fields.chain(leaves).chain(session).collect();
            let links: Vec<_> = live
                .links
                .iter()
                .map(|link| opentelemetry::trace::Link::with_context(link.context.clone()))
                .collect();
            (live.name.clone(), live.kind.clone(), attributes, links)
        };
        let result =
            sampler.should_sample(Some(parent), trace_id, &name, &kind, &attributes, &links);
        if !result.attributes.is_empty() {
            let most = self.installation.settings.span_limits.max_attributes_per_span as usize;
            let mut live = crate::lock(&self.live);
            for attribute in &result.attributes {
                let key = KeyRef::Borrowed(attribute.key.as_str());
                if let Some(key) = namespaced(key.as_str(), self.installation.settings.convention) {
                    let mut patch = Document::default();
                    patch.set(key.to_owned(), attribute.value.clone());
                    live.dropped_attributes += live.own.document.apply_within(patch, most) as u32;
                } else if !live.attributes.set_within(key, ValueRef::from(&attribute.value), most) {
                    live.dropped_attributes += 1;
                }
            }
        }
        (matches!(result.decision, SamplingDecision::RecordAndSample), result.trace_state)
    }

    /// Moves the span under another parent. `None` if it has closed, `Some(false)` if it has started.
    pub(crate) fn set_parent(&self, context: Context) -> Option<bool> {
        if self.is_started() {
            return Some(false);
        }
        self.change(|live| {
            if !live.session_is_own
                && let Some(session) = context.get::<Session>()
            {
                live.session = Some(session.clone());
            }
            live.parent_context = Some(context);
            !self.is_started()
        })
    }

    /// The outermost captured span around this one that belongs to `session`, maybe itself.
    pub(crate) fn outermost_of(self: &Arc<Self>, session: &Session) -> Arc<SpanState> {
        let mut outermost = self.clone();
        for span in self.ancestors() {
            if crate::lock(&span.live).session.as_ref() == Some(session) {
                outermost = span.clone();
            }
        }
        outermost
    }

    /// The outermost captured span around this one in the same trace, maybe itself.
    pub(crate) fn local_root(self: &Arc<Self>) -> Arc<SpanState> {
        let trace_id = self.start().context.trace_id();
        let root =
            self.ancestors().take_while(|span| span.start().context.trace_id() == trace_id).last();
        root.unwrap_or(self).clone()
    }

    fn ancestors(&self) -> impl Iterator<Item = &Arc<SpanState>> {
        std::iter::successors(self.local_parent.as_ref(), |span| span.local_parent.as_ref())
    }

    /// Merges a patch into one of the span's documents. Returns how many leaves found no room.
    ///
    /// # Errors
    ///
    /// The patch, if the span has closed or telemetry was shut down meanwhile.
    pub(crate) fn enrich(
        self: &Arc<Self>,
        kind: DocumentKind,
        patch: Document<Value>,
        time: u64,
    ) -> Result<usize, Document<Value>> {
        let mut live = crate::lock(&self.live);
        if live.closed {
            return Err(patch);
        }
        // Shutdown meets every span that is remembered, and waits here until this is done.
        if !live.is_enriched() && !self.installation.remember(self) {
            return Err(patch);
        }
        let most = self.installation.settings.span_limits.max_attributes_per_span as usize;
        let reserved = usize::from(live.session.is_some());
        let (enriched, reserved) = match kind {
            DocumentKind::Own => (&mut live.own, reserved),
            DocumentKind::Scoped(scope) => {
                let scoped =
                    live.scoped.get_or_insert_with(|| Box::new((scope, Enriched::default())));
                scoped.0 = scope;
                (&mut scoped.1, reserved + carrier::SCOPED_ATTRIBUTES)
            }
        };
        enriched.time = enriched.time.max(time);
        enriched.is_feedback = true;
        let left_out = enriched.document.apply_within(patch, most.saturating_sub(reserved));
        Ok(left_out)
    }

    /// A field in one of the namespaces gave the span feedback: see that it leaves at shutdown.
    pub(crate) fn remember_fields(self: &Arc<Self>) {
        if crate::lock(&self.live).is_enriched() {
            self.installation.remember(self);
        }
    }

    /// The span has ended: hands its record to the pipeline, and its session's document with it.
    pub(crate) fn close(&self, now: u64) {
        let started = self.start();
        let Some(live) = self.take() else { return };
        if live.is_enriched() {
            self.installation.forget(self);
        }
        let (own, scoped) = (live.own, live.scoped);
        let is_sampled = started.context.is_sampled();
        let is_kept = own.is_feedback || scoped.is_some();
        if !is_sampled && !is_kept {
            self.installation.count_unsampled();
            return;
        }
        let settings = &self.installation.settings;
        let most = settings.span_limits.max_attributes_per_span as usize;

        let mut attributes = live.attributes;
        let mut dropped = live.dropped_attributes;
        if settings.switches.tracked_inactivity {
            for (key, nanos) in [("busy_ns", live.timings.busy), ("idle_ns", live.timings.idle)] {
                let value = ValueRef::I64(i64::try_from(nanos).unwrap_or(i64::MAX));
                dropped += u32::from(!attributes.set_within(KeyRef::Static(key), value, most));
            }
        }

        // A session's feedback travels on the span unless that has feedback of its own.
        let (document, scope) = match scoped.map(|scoped| *scoped) {
            Some((scope, scoped)) if own.document.leaves().len() == 0 => (scoped, Some(scope)),
            Some((scope, scoped)) => {
                self.carry(&live.session, started, Some(scope), scoped);
                (own, None)
            }
            None => (own, None),
        };
        let time = document.time;
        let (leaves, cleared) = document.document.into_parts();
        let reserved = carrier::Reserved {
            session: live.session.as_ref(),
            scope,
            is_late: false,
            is_unsampled: !is_sampled,
            time: scope.map(|_| time),
            cleared: if scope.is_some() { cleared } else { Vec::new() },
            prefix: settings.convention.prefix(),
        };
        let (enrichments, cut) = reserved.put_first(leaves, &mut attributes, most);
        dropped += cut;

        let end = match live.timings {
            Timings { ended: Some(ended), .. } => ended,
            Timings { exited: 0, .. } => now,
            Timings { exited, .. } => exited,
        };
        self.installation.push(SpanRecord {
            trace_id: started.context.trace_id(),
            span_id: started.context.span_id(),
            parent: started.parent,
            flags: started.context.trace_flags(),
            trace_state: started.context.trace_state().clone(),
            name: live.name,
            kind: live.kind,
            start: live.start,
            end: end.max(live.start),
            attributes,
            enrichments: Enrichments { prefix: settings.convention.prefix(), leaves: enrichments },
            dropped_attributes: dropped,
            events: live.events,
            dropped_events: live.dropped_events,
            links: live.links,
            dropped_links: live.dropped_links,
            status: live.status,
            scope: self.installation.scope.clone(),
            feedback: is_kept,
        });
    }

    /// The pipeline is about to end and the span is still open: its documents leave without it.
    pub(super) fn leave_while_open(&self) {
        let started = self.start();
        let (session, own, scoped) = {
            let mut live = crate::lock(&self.live);
            if live.closed {
                return;
            }
            (live.session.clone(), std::mem::take(&mut live.own), live.scoped.take())
        };
        if own.is_feedback {
            self.carry(&session, started, None, own);
        }
        if let Some((scope, scoped)) = scoped.map(|scoped| *scoped) {
            self.carry(&session, started, Some(scope), scoped);
        }
    }

    fn carry(
        &self,
        session: &Option<Session>,
        started: &Started,
        scope: Option<Scope>,
        enriched: Enriched,
    ) {
        let carrier = Carrier {
            target: Some(started.context.clone()),
            session: session.clone(),
            scope,
            document: enriched.document,
            time: enriched.time,
            id: None,
        };
        carrier.send(&self.installation);
    }

    fn take(&self) -> Option<Live> {
        let mut live = crate::lock(&self.live);
        if live.closed {
            return None;
        }
        let mut closed = Live::new("", 0, 0);
        closed.closed = true;
        closed.session.clone_from(&live.session); // for feedback that comes too late
        Some(std::mem::replace(&mut *live, closed))
    }
}

/// A span ends at the latest when the registry forgets it: its layer may have been taken out by
/// `reload` and never hear that it closed.
impl Drop for SpanState {
    fn drop(&mut self) {
        let is_closed = self.live.get_mut().is_ok_and(|live| live.closed);
        if !is_closed {
            self.close(clock::now());
        }
    }
}

impl Live {
    fn is_enriched(&self) -> bool {
        self.own.is_feedback || self.scoped.is_some()
    }
}
