//! The state of one open span.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::trace::{TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SamplingDecision;
use tracing_subscriber::registry::Extensions;

use super::carrier::{self, Carrier, Put};
use super::place::{Place, Started, ids, with_parent};
use super::timings::Timings;
use super::{Installation, Sampling, spare};
use crate::attributes::ValueRef;
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
    pub(super) installation: Arc<Installation>,
    /// The captured span around this one in the registry, which stays open as long as this one.
    pub(super) local_parent: Option<Arc<SpanState>>,
    pub(super) place: Place,
    pub(super) is_closed: AtomicBool,
    /// Whether the span has, or once had, a session.
    has_session: AtomicBool,
    pub(crate) timings: Timings,
    pub(super) live: Mutex<Live>,
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
    pub(super) is_open: bool,
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
    pub(super) scoped: Option<Box<(Scope, Enriched)>>,
}

/// A document, and when it was last enriched.
#[derive(Debug, Default)]
pub(crate) struct Enriched {
    pub(crate) document: Document<Value>,
    pub(crate) time: u64,
    /// Whether anyone has said anything, as opposed to plain fields that lie in a namespace.
    pub(crate) is_feedback: bool,
    /// For what of it the outbox holds already.
    pub(super) receipts: Receipts,
}

impl Enriched {
    pub(super) fn is_blank(&self) -> bool {
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

impl Live {
    pub(super) fn is_enriched(&self) -> bool {
        self.own.is_feedback || self.scoped.is_some()
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
        let mut state = spare::take().unwrap_or_else(|| {
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
}
