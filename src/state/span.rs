//! The state of one open span.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::trace::{TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SamplingDecision;
use tracing_subscriber::registry::Extensions;

use super::carrier::{self, Carrier, Put};
use super::place::{Place, Started, ids, with_parent};
use super::timings::Timings;
use super::{Installation, Sampling};
use crate::attributes::ValueRef;
use crate::clock;
use crate::document::Document;
use crate::outbox::Receipts;
use crate::pipeline::NotDurable;
use crate::quiet;
use crate::record::{self, SpanRecord};
use crate::session::{SESSION_ID, Session};
use crate::settings::namespaced;

/// One captured span, from its creation until it closes.
#[derive(Debug)]
pub(crate) struct SpanState {
    installation: Arc<Installation>,
    /// The captured span around this one in the registry, which stays open as long as this one.
    local_parent: Option<Arc<SpanState>>,
    place: Place,
    is_closed: AtomicBool,
    /// Whether the span has, or once had, a session.
    has_session: AtomicBool,
    pub(crate) timings: Timings,
    live: Mutex<Live>,
}

/// What the registry keeps, in its extensions, of a captured span that isn't in the table of its
/// layer's [open](super::open) ones.
///
/// Such a span ends at the latest when the registry forgets it: its layer may have been taken out by
/// `reload` and never hear that it closed.
#[derive(Debug)]
pub(crate) struct Captured(Option<Arc<SpanState>>);

impl Captured {
    pub(crate) fn new(state: Arc<SpanState>) -> Self {
        Self(Some(state))
    }

    /// What the registry keeps of the span with these extensions.
    pub(crate) fn of<'e>(extensions: &'e Extensions<'_>) -> Option<&'e Arc<SpanState>> {
        extensions.get::<Self>()?.0.as_ref()
    }

    /// The span is another's to tell of.
    pub(crate) fn abandon(&self) {
        if let Some(state) = &self.0 {
            state.abandon();
        }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            SpanState::end(state);
        }
    }
}

/// What may change until the span closes.
#[derive(Debug, Default)]
pub(crate) struct Live {
    is_open: bool,
    /// What leaves in the end, made in place. Its ids are set when the span closes.
    pub(crate) record: SpanRecord,
    /// The OpenTelemetry context the span was created in, if it was created in one.
    pub(crate) parent_context: Option<Context>,
    /// The context in which this span is active, once it was needed again.
    pub(crate) context: Option<Context>,
    /// Kept when the span has closed, for feedback that comes too late.
    pub(crate) session: Option<Session>,
    /// Whether the session was given to this very span rather than inherited.
    pub(crate) session_is_own: bool,
    /// When the OpenTelemetry API said that it ended.
    pub(crate) ended: Option<u64>,
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
    /// For what of it the outbox holds already.
    receipts: Receipts,
}

impl Enriched {
    fn is_blank(&self) -> bool {
        self.document.is_empty() && !self.is_feedback
    }
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

/// How many patches of a document are written down one by one.
const MOST_RECEIPTS: usize = 64;

/// How many states a thread keeps for its next spans.
const MOST_SPARE: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Arc<SpanState>>> = const { RefCell::new(Vec::new()) };
}

impl Live {
    fn is_enriched(&self) -> bool {
        self.own.is_feedback || self.scoped.is_some()
    }

    /// Forgets everything but the session, and the contexts, in which foreign code may live.
    #[inline]
    fn clear(&mut self) {
        let Self {
            is_open,
            record,
            parent_context: _,
            context: _,
            session: _,
            session_is_own,
            ended,
            own,
            scoped,
        } = self;
        record.clear();
        (*is_open, *session_is_own, *ended) = (false, false, None);
        if !own.is_blank() {
            *own = Enriched::default();
        }
        *scoped = None;
    }
}

impl SpanState {
    /// The state of a new span, which no one else knows while `fill` says what it is. `None` if that
    /// says that there is to be none.
    #[inline]
    pub(crate) fn begin<T>(
        installation: &Arc<Installation>,
        local_parent: Option<Arc<SpanState>>,
        start: u64,
        fill: impl FnOnce(&mut Live, Option<&Arc<SpanState>>) -> Option<T>,
    ) -> Option<(Arc<Self>, T)> {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten();
        let mut state = spare.unwrap_or_else(|| {
            Arc::new(Self {
                installation: installation.clone(),
                local_parent: None,
                place: Place::default(),
                is_closed: AtomicBool::new(false),
                has_session: AtomicBool::new(false),
                timings: Timings::default(),
                live: Mutex::default(),
            })
        });
        let this = Arc::get_mut(&mut state)?; // spare ones are no one else's
        if !Arc::ptr_eq(&this.installation, installation) {
            this.installation = installation.clone();
        }
        this.local_parent = local_parent;
        this.timings.start_anew(start);
        *this.is_closed.get_mut() = false;
        let live = this.live.get_mut().unwrap_or_else(PoisonError::into_inner);
        live.is_open = true;
        live.record.start = start;
        let Some(filled) = fill(live, this.local_parent.as_ref()) else {
            live.clear();
            *this.is_closed.get_mut() = true;
            Self::end(state);
            return None;
        };
        *this.has_session.get_mut() = live.session.is_some();
        // The parent has a child: its place is fixed.
        let parent = this.local_parent.as_ref().map(|parent| parent.start());
        this.place.plan(installation, live.parent_context.as_ref(), parent);
        Some((state, filled))
    }

    /// The span has ended, unless that is known already, and whoever gives it away has no more use
    /// for it.
    ///
    /// Few are still known to anyone else by now: what would need a lock doesn't, and the memory is
    /// kept for the next span of this thread.
    #[inline]
    pub(crate) fn end(mut state: Arc<Self>) {
        if state.is_open() {
            state.start();
        }
        let Some(this) = Arc::get_mut(&mut state) else { return state.close(clock::now) };
        let live = this.live.get_mut().unwrap_or_else(PoisonError::into_inner);
        if live.is_open && live.is_enriched() {
            state.close(clock::now);
            return;
        }
        if std::mem::take(&mut live.is_open)
            && let Some(started) = this.place.fixed()
        {
            this.installation.take(live, &this.timings, started, clock::now);
            live.clear();
        }
        // Dropped last: other spans may go with them, and be recycled in turn, and foreign code runs.
        let _local_parent = this.local_parent.take();
        let _session = live.session.take();
        let _parent_context = live.parent_context.take();
        let _context = live.context.take();
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_SPARE {
                spare.push(state);
            }
        });
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn installation(&self) -> &Arc<Installation> {
        &self.installation
    }

    #[inline]
    pub(crate) fn session(&self) -> Option<Session> {
        match self.has_session.load(Ordering::Acquire) {
            true => crate::sync::lock(&self.live).session.clone(),
            false => None, // nearly always
        }
    }

    /// What may still change, locked: no foreign code may be called meanwhile. `None` if the span has
    /// closed.
    #[inline]
    pub(crate) fn live(&self) -> Option<MutexGuard<'_, Live>> {
        let live = crate::sync::lock(&self.live);
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

    /// Starts the span if it hasn't started: from here on its place in a trace is fixed.
    #[inline]
    pub(crate) fn start(&self) -> &Started {
        self.place.fixed().unwrap_or_else(|| self.start_now())
    }

    #[inline]
    fn start_now(&self) -> &Started {
        let started = self.place.fix(|| {
            let _quiet = quiet::scope(); // samplers and id generators are foreign code
            self.decide()
        });
        if self.installation.keeps() && self.change(|live| live.is_enriched()) == Some(true) {
            self.installation.keep(started.context.trace_id());
        }
        started
    }

    /// Feedback has arrived: the trace is kept. Of a span that hasn't started yet, no one can say which
    /// trace that is; it sees to it when it starts.
    fn keep(&self) {
        if self.installation.keeps()
            && let Some(started) = self.place.fixed()
        {
            self.installation.keep(started.context.trace_id());
        }
    }

    fn decide(&self) -> Started {
        let of_context = self.change(|live| live.parent_context.clone()).flatten();
        let local_parent = self.local_parent.as_ref().map(|parent| parent.start());
        with_parent(of_context.as_ref(), local_parent, |parent| {
            let ids = ids(&self.installation, parent);
            let sampling = &self.installation.sampling;
            let known = sampling.known(parent, ids.1).or_else(|| {
                let base = of_context.clone().unwrap_or_default();
                let base = match parent {
                    Some(parent) if !base.span().span_context().is_valid() => {
                        base.with_remote_span_context(parent.clone())
                    }
                    _ => base,
                };
                Some(self.ask(sampling.sampler()?, &base, ids.1))
            });
            Started::new(parent, ids, known.unwrap_or_else(|| Sampling::as_parent_says(parent)))
        })
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
            let fields = fields.map(|(key, value)| KeyValue::new(key.to_owned(), value));
            let leaves = live.own.document.leaves();
            let leaves =
                leaves.map(|(key, value)| KeyValue::new(format!("{prefix}{key}"), value.clone()));
            let attributes: Vec<_> = fields.chain(leaves).chain(session).collect();
            let links = record.details.links.iter();
            let links: Vec<_> = links
                .map(|link| opentelemetry::trace::Link::with_context(link.context.clone()))
                .collect();
            (record.name().to_owned(), record.kind.clone(), attributes, links)
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
        (matches!(result.decision, SamplingDecision::RecordAndSample), result.trace_state)
    }

    /// Moves the span under another parent. `None` if it has closed, `Some(false)` if it has started.
    pub(crate) fn set_parent(&self, context: Context) -> Option<bool> {
        self.change(|live| {
            if !self.place.plan_anew() {
                return false;
            }
            if !live.session_is_own
                && let Some(session) = context.get::<Session>()
            {
                live.session = Some(session.clone());
            }
            live.parent_context = Some(context);
            true
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

    /// Moves a patch into one of the span's documents. `None`, and the patch stays as it is, if the
    /// span has closed or telemetry was shut down meanwhile.
    pub(crate) fn enrich(
        self: &Arc<Self>,
        kind: DocumentKind,
        patch: &mut Document<Value>,
        time: u64,
    ) -> Option<Put> {
        let put = self.merge(kind, patch, time)?;
        self.keep();
        Some(put)
    }

    fn merge(
        self: &Arc<Self>,
        kind: DocumentKind,
        patch: &mut Document<Value>,
        time: u64,
    ) -> Option<Put> {
        let written = match self.installation.writes_ahead() {
            true => self.write_ahead(kind, patch, time),
            false => Ok(Receipts::default()),
        };
        let live = &mut *crate::sync::lock(&self.live);
        // Shutdown meets every span that is remembered, and waits here until this is done.
        if !live.is_open || !live.is_enriched() && !self.installation.remember(self) {
            // It leaves in another way, and is written down for that.
            let _ = written.map(Receipts::release);
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
        let is_durable = written.map(|receipts| enriched.receipts.append(receipts)).is_ok();
        let is_long = enriched.receipts.len() >= MOST_RECEIPTS;
        let left_out = enriched.document.absorb(patch, most.saturating_sub(reserved));
        let dropped = u32::try_from(left_out).unwrap_or(u32::MAX);
        live.record.count_dropped(dropped);
        if is_long {
            self.write_anew(live, kind);
        }
        Some(Put { left_out, is_durable })
    }

    /// Writes a document down as a whole, in place of the many patches it was made by: a span may
    /// live for days.
    fn write_anew(self: &Arc<Self>, live: &mut Live, kind: DocumentKind) {
        let session = live.session.clone();
        let (enriched, scope) = match (kind, &mut live.scoped) {
            (DocumentKind::Own, _) => (&mut live.own, None),
            (DocumentKind::Scoped(_), Some(scoped)) => (&mut scoped.1, Some(scoped.0)),
            (DocumentKind::Scoped(_), None) => return,
        };
        let carrier = Carrier {
            target: Some(self.start().context.clone()),
            session,
            scope,
            document: std::mem::take(&mut enriched.document),
            time: enriched.time,
            id: None,
            receipts: Receipts::default(),
        };
        let (document, written) = carrier.write_ahead(&self.installation);
        enriched.document = document;
        if let Ok(receipts) = written {
            let patches = std::mem::replace(&mut enriched.receipts, receipts);
            patches.supersede(&enriched.receipts);
        }
    }

    /// Writes a patch down as the carrier that it leaves as if the span never does.
    fn write_ahead(
        self: &Arc<Self>,
        kind: DocumentKind,
        patch: &mut Document<Value>,
        time: u64,
    ) -> Result<Receipts, NotDurable> {
        let carrier = Carrier {
            target: Some(self.start().context.clone()),
            session: self.session(),
            scope: match kind {
                DocumentKind::Own => None,
                DocumentKind::Scoped(scope) => Some(scope),
            },
            document: std::mem::take(patch),
            time,
            id: None,
            receipts: Receipts::default(),
        };
        let (document, written) = carrier.write_ahead(&self.installation);
        *patch = document;
        written
    }

    /// A field in one of the namespaces gave the span feedback: see that it leaves at shutdown, and
    /// that its trace is kept.
    pub(crate) fn remember_fields(self: &Arc<Self>) {
        if self.change(|live| live.is_enriched()) == Some(true) {
            self.installation.remember(self);
            self.keep();
        }
    }

    /// The span has ended: hands its record to the pipeline, and its session's document with it.
    #[inline]
    pub(crate) fn close(&self, now: impl FnOnce() -> u64) {
        let started = self.start();
        let mut guard = crate::sync::lock(&self.live);
        let live = &mut *guard;
        if !std::mem::take(&mut live.is_open) {
            return;
        }
        self.is_closed.store(true, Ordering::Release);
        if live.is_enriched() {
            self.installation.forget(self);
            live.record.feedback = true;
            self.installation.keep(started.context.trace_id()); // still, or again
        }
        let apart = self.installation.take(live, &self.timings, started, now);
        // Dropped at the very end, since foreign code may run then, and not moved again, which costs
        // more than to drop them.
        let _parent_context = live.parent_context.take();
        let _context = live.context.take();
        live.clear();
        drop(guard);
        // Only now, since foreign code may run: of id generators.
        if let Some(apart) = apart {
            let (session, scope, scoped) = *apart;
            self.carry(&session, started, Some(scope), scoped);
        }
    }

    /// The span is another's to tell of.
    pub(crate) fn abandon(&self) {
        self.installation.forget(self);
        let contexts = {
            let mut live = crate::sync::lock(&self.live);
            self.is_closed.store(true, Ordering::Release);
            live.clear();
            (live.parent_context.take(), live.context.take())
        };
        drop(contexts);
    }
}

type Apart = Box<(Option<Session>, Scope, Enriched)>;

impl Installation {
    /// The record of a span that has ended leaves, if it is one that does.
    #[inline]
    fn take(
        &self,
        live: &mut Live,
        timings: &Timings,
        started: &Started,
        now: impl FnOnce() -> u64,
    ) -> Option<Apart> {
        if started.context.is_sampled() || live.record.feedback {
            let apart = self.complete(live, timings, started, now);
            let _ = self.push(&mut live.record); // what is lost is counted
            apart
        } else if self.keeps() {
            let apart = self.complete(live, timings, started, now);
            self.hold(&mut live.record);
            apart
        } else {
            self.count_unsampled();
            None
        }
    }

    /// Says in the record what is known only now. Returns the session's document, and the session,
    /// if it has to travel apart: boxed, since most spans have none and all would pay for its size.
    #[inline]
    fn complete(
        &self,
        live: &mut Live,
        timings: &Timings,
        started: &Started,
        now: impl FnOnce() -> u64,
    ) -> Option<Apart> {
        let settings = &self.settings;
        let most = settings.span_limits.max_attributes_per_span as usize;
        let record = &mut live.record;
        if settings.switches.tracked_inactivity {
            record.timings = Some(timings.read());
        }
        record.trace_id = started.context.trace_id();
        record.span_id = started.context.span_id();
        record.parent = started.parent;
        record.flags = started.context.trace_flags();
        if *started.context.trace_state() != TraceState::NONE {
            record.details.trace_state = started.context.trace_state().clone();
        }
        let exited = timings.exited();
        let end = live.ended.unwrap_or_else(|| if exited == 0 { now() } else { exited });
        record.end = end.max(record.start);

        let is_sampled = started.context.is_sampled();
        let is_alone = live.session.is_none() && live.scoped.is_none() && live.own.is_blank();
        if is_alone {
            // Without feedback an unsampled span comes here only to be held.
            let marks = if is_sampled { None } else { Some(&*carrier::MARKS_OF_HELD) };
            let reserved = marks.map_or(0, |marks| marks.len());
            if record.common_len() + record.attributes.len() + reserved <= most {
                marks.into_iter().for_each(|marks| record.attributes.extend(marks));
                return None; // most spans
            }
        }

        // A session's feedback travels on the span unless that has feedback of its own.
        let (own, scoped) = (std::mem::take(&mut live.own), live.scoped.take());
        let (document, scope, apart) = match scoped.map(|scoped| *scoped) {
            Some((scope, mut scoped)) if own.document.leaves().len() == 0 => {
                // That all was retracted is said by there being nothing.
                scoped.receipts.append(own.receipts);
                (scoped, Some(scope), None)
            }
            Some((scope, scoped)) => {
                (own, None, Some(Box::new((live.session.clone(), scope, scoped))))
            }
            None => (own, None, None),
        };
        if !document.receipts.is_empty() {
            record.details.receipts = document.receipts;
        }
        let (leaves, cleared) = document.document.into_parts();
        let reserved = carrier::Reserved {
            session: live.session.as_ref(),
            scope,
            is_late: false,
            is_unsampled: !is_sampled,
            is_kept: !is_sampled && self.keeps(),
            time: scope.map(|_| document.time),
            cleared: if scope.is_some() { &cleared } else { &[] },
            prefix: settings.convention.prefix(),
        };
        reserved.put_first(leaves, record, most);
        apart
    }
}

impl SpanState {
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
            receipts: enriched.receipts,
        };
        let _ = carrier.send(&self.installation); // what is lost is counted
    }
}
