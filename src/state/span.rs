//! The state of one open span.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock};

use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::SamplingDecision;

use super::carrier::{self, Carrier};
use super::{Installation, Sampling};
use crate::clock;
use crate::document::Document;
use crate::quiet;
use crate::record::{KeyRef, Parent, SpanRecord, ValueRef};
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
    phase: Mutex<Phase>,
}

/// Whether a span is open.
#[derive(Debug)]
enum Phase {
    Open(Box<Live>),
    /// The session is kept for feedback that comes too late.
    Closed(Option<Session>),
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
    /// What leaves in the end, made in place. Its ids are set when the span closes.
    pub(crate) record: Box<SpanRecord>,
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

/// How many of them a thread keeps for its next spans.
const MOST_SPARE: usize = 64;

thread_local! {
    #[allow(clippy::vec_box)] // what is kept is the memory of the box
    static SPARE: RefCell<Vec<Box<Live>>> = const { RefCell::new(Vec::new()) };
}

impl Live {
    /// What is known of a span that starts now.
    pub(crate) fn begin(
        name: &'static str,
        start: u64,
        scope: Arc<InstrumentationScope>,
    ) -> Box<Self> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        if let Some(mut live) = spare {
            live.record.restart(name, start, scope);
            live.timings = Timings::created(start);
            return live;
        }
        Box::new(Self {
            record: SpanRecord::begin(name, start, scope),
            parent_context: None,
            context: None,
            session: None,
            session_is_own: false,
            timings: Timings::created(start),
            own: Enriched::default(),
            scoped: None,
        })
    }

    /// Keeps the memory for the next span of this thread.
    fn recycle(mut self: Box<Self>) {
        (self.parent_context, self.context) = (None, None);
        (self.session, self.session_is_own) = (None, false);
        (self.own, self.scoped) = (Enriched::default(), None);
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_SPARE {
                spare.push(self);
            }
        });
    }

    fn is_enriched(&self) -> bool {
        self.own.is_feedback || self.scoped.is_some()
    }
}

impl SpanState {
    pub(crate) fn new(
        installation: Arc<Installation>,
        local_parent: Option<Arc<SpanState>>,
        live: Box<Live>,
    ) -> Self {
        Self {
            installation,
            local_parent,
            started: OnceLock::new(),
            phase: Mutex::new(Phase::Open(live)),
        }
    }

    pub(crate) fn installation(&self) -> &Arc<Installation> {
        &self.installation
    }

    pub(crate) fn session(&self) -> Option<Session> {
        match &*crate::sync::lock(&self.phase) {
            Phase::Open(live) => live.session.clone(),
            Phase::Closed(session) => session.clone(),
        }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.get().is_some()
    }

    /// Changes what may still change. The change must not call foreign code: a lock is held.
    /// `None` if the span has closed.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Live) -> T) -> Option<T> {
        match &mut *crate::sync::lock(&self.phase) {
            Phase::Open(live) => Some(change(live)),
            Phase::Closed(_) => None,
        }
    }

    /// Starts the span if it hasn't started: from here on its place in a trace is fixed.
    pub(crate) fn start(&self) -> &Started {
        self.started.get_or_init(|| {
            let _quiet = quiet::scope(); // samplers and id generators are foreign code
            self.decide()
        })
    }

    fn decide(&self) -> Started {
        let parent_context = self.change(|live| live.parent_context.clone()).flatten();
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
        let known = self.change(|live| {
            let record = &live.record;
            let prefix = self.installation.settings.convention.prefix();
            let session = live.session.as_ref();
            let session = session.map(|session| KeyValue::new(SESSION_ID, session.id().to_owned()));
            let fields = record.all_attributes();
            let fields =
                fields.map(|(key, value)| KeyValue::new(key.as_str().to_owned(), value.to_value()));
            let leaves = live.own.document.leaves();
            let leaves =
                leaves.map(|(key, value)| KeyValue::new(format!("{prefix}{key}"), value.clone()));
            let attributes: Vec<_> = fields.chain(leaves).chain(session).collect();
            let links = record.links.iter();
            let links: Vec<_> = links
                .map(|link| opentelemetry::trace::Link::with_context(link.context.clone()))
                .collect();
            (record.name.clone(), record.kind.clone(), attributes, links)
        });
        let Some((name, kind, attributes, links)) = known else {
            return (false, TraceState::default()); // closed: no one will see what is decided
        };
        let result =
            sampler.should_sample(Some(parent), trace_id, &name, &kind, &attributes, &links);
        if !result.attributes.is_empty() {
            let most = self.installation.settings.span_limits.max_attributes_per_span as usize;
            let convention = self.installation.settings.convention;
            self.change(|live| {
                for KeyValue { key, value, .. } in &result.attributes {
                    if let Some(key) = namespaced(key.as_str(), convention) {
                        let mut patch = Document::default();
                        patch.set(key.to_owned(), value.clone());
                        let dropped = live.own.document.apply_within(patch, most) as u32;
                        live.record.dropped_attributes += dropped;
                    } else {
                        let key = KeyRef::Borrowed(key.as_str());
                        live.record.set_attribute(key, ValueRef::from(value), most);
                    }
                }
            });
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
            if span.session().as_ref() == Some(session) {
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

    /// Moves a patch into one of the span's documents. Returns how many leaves found no room. `None`,
    /// and the patch stays as it is, if the span has closed or telemetry was shut down meanwhile.
    pub(crate) fn enrich(
        self: &Arc<Self>,
        kind: DocumentKind,
        patch: &mut Document<Value>,
        time: u64,
    ) -> Option<usize> {
        let mut phase = crate::sync::lock(&self.phase);
        let Phase::Open(live) = &mut *phase else { return None };
        // Shutdown meets every span that is remembered, and waits here until this is done.
        if !live.is_enriched() && !self.installation.remember(self) {
            return None;
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
        let left_out = enriched.document.absorb(patch, most.saturating_sub(reserved));
        let dropped = u32::try_from(left_out).unwrap_or(u32::MAX);
        live.record.dropped_attributes = live.record.dropped_attributes.saturating_add(dropped);
        Some(left_out)
    }

    /// A field in one of the namespaces gave the span feedback: see that it leaves at shutdown.
    pub(crate) fn remember_fields(self: &Arc<Self>) {
        if self.change(|live| live.is_enriched()) == Some(true) {
            self.installation.remember(self);
        }
    }

    /// The span has ended: hands its record to the pipeline, and its session's document with it.
    pub(crate) fn close(&self, now: impl FnOnce() -> u64) {
        let started = self.start();
        let Some(mut live) = self.take() else { return };
        let is_enriched = live.is_enriched();
        if is_enriched {
            self.installation.forget(self);
        }
        let next = SpanRecord::begin("", 0, self.installation.scope.clone());
        let mut record = std::mem::replace(&mut live.record, next);
        let (own, scoped) = (std::mem::take(&mut live.own), live.scoped.take());
        let (session, timings) = (live.session.take(), std::mem::take(&mut live.timings));
        live.recycle();
        let is_sampled = started.context.is_sampled();
        record.feedback = is_enriched;
        if !is_sampled && !is_enriched {
            self.installation.count_unsampled();
            record.recycle();
            return;
        }
        let settings = &self.installation.settings;
        let most = settings.span_limits.max_attributes_per_span as usize;
        if settings.switches.tracked_inactivity {
            for (key, nanos) in [("busy_ns", timings.busy), ("idle_ns", timings.idle)] {
                let value = ValueRef::I64(i64::try_from(nanos).unwrap_or(i64::MAX));
                record.set_attribute(KeyRef::Static(key), value, most);
            }
        }

        // A session's feedback travels on the span unless that has feedback of its own.
        let (document, scope) = match scoped.map(|scoped| *scoped) {
            Some((scope, scoped)) if own.document.leaves().len() == 0 => (scoped, Some(scope)),
            Some((scope, scoped)) => {
                self.carry(&session, started, Some(scope), scoped);
                (own, None)
            }
            None => (own, None),
        };
        let (leaves, cleared) = document.document.into_parts();
        let reserved = carrier::Reserved {
            session: session.as_ref(),
            scope,
            is_late: false,
            is_unsampled: !is_sampled,
            time: scope.map(|_| document.time),
            cleared: if scope.is_some() { cleared } else { Vec::new() },
            prefix: settings.convention.prefix(),
        };
        reserved.put_first(leaves, &mut record, most);

        record.trace_id = started.context.trace_id();
        record.span_id = started.context.span_id();
        record.parent = started.parent;
        record.flags = started.context.trace_flags();
        record.trace_state = started.context.trace_state().clone();
        record.end = match timings {
            Timings { ended: Some(ended), .. } => ended,
            Timings { exited: 0, .. } => now(),
            Timings { exited, .. } => exited,
        };
        record.end = record.end.max(record.start);
        self.installation.push(record);
    }

    /// The pipeline is about to end and the span is still open: its documents leave without it.
    pub(super) fn leave_while_open(&self) {
        let started = self.start();
        let documents = self.change(|live| {
            (live.session.clone(), std::mem::take(&mut live.own), live.scoped.take())
        });
        let Some((session, own, scoped)) = documents else { return };
        if own.is_feedback {
            self.carry(&session, started, None, own);
        }
        if let Some((scope, scoped)) = scoped.map(|scoped| *scoped) {
            self.carry(&session, started, Some(scope), scoped);
        }
    }

    /// Ends what may change.
    fn take(&self) -> Option<Box<Live>> {
        let mut phase = crate::sync::lock(&self.phase);
        let Phase::Open(live) = &*phase else { return None };
        let closed = Phase::Closed(live.session.clone());
        match std::mem::replace(&mut *phase, closed) {
            Phase::Open(live) => Some(live),
            Phase::Closed(_) => None,
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
}

/// A span ends at the latest when the registry forgets it: its layer may have been taken out by
/// `reload` and never hear that it closed.
impl Drop for SpanState {
    fn drop(&mut self) {
        let is_open = self.phase.get_mut().is_ok_and(|phase| matches!(phase, Phase::Open(_)));
        if is_open {
            self.close(clock::now);
        }
    }
}
