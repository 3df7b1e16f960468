//! The destination of an enrichment: the document of an open span, or a carrier.
//!
//! This connects the macros to the layer. `destination_absent` stands in where the layer is not built.

use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use opentelemetry::trace::SpanContext;

use super::error::{EnrichError, Enrichment};
use super::flatten::{EnrichmentLimits, Flattener};
use super::target::{LateOptions, Resolved};
use super::warn::{not_installed, warn_once};
use crate::clock;
use crate::export::DropReason;
use crate::feedback::carrier::{Carrier, DocumentScope, SubmissionName};
use crate::feedback::document::Document;
use crate::feedback::event::{EventContext, has_events};
use crate::feedback::patch::Patch;
use crate::layer::locate::{Located, NotRecording, locate_current, locate_late, locate_span};
use crate::outbox::Finalizers;
use crate::redaction::Redaction;
use crate::session::Session;
use crate::span::{Applied, DocumentKind, LayerCore, SpanHandle};
use crate::ticket::{Charge, Cost, OverBudget, Ticket};

/// Whether there is any layer in the process. Reads one counter, so it is cheap.
#[inline]
pub(super) fn layer_exists() -> bool {
    LayerCore::exists()
}

/// The destination of an enrichment.
pub(crate) enum Destination {
    /// A document of an open span.
    OpenSpan(SpanHandle, DocumentKind),
    /// A carrier.
    Late(Box<Late>),
}

/// An enrichment that is sent at once, as a carrier.
pub(crate) struct Late {
    core: Arc<LayerCore>,
    target: Option<SpanContext>,
    session: Option<Session>,
    scope: Option<DocumentScope>,
    id: Option<String>,
    ticket: Option<Ticket>,
}

impl Late {
    /// About a span of the OpenTelemetry API that isn't recorded.
    fn of_not_recording(span: NotRecording, scope: Option<DocumentScope>) -> Destination {
        let NotRecording { core, context, session } = span;
        let (target, id, ticket) = (Some(context), None, None);
        Destination::Late(Box::new(Self { core, target, session, scope, id, ticket }))
    }
}

impl Destination {
    /// Finds the destination of an enrichment of `span`, or of the nearest span around the caller.
    pub(super) fn of_span(
        span: Option<&tracing::Span>,
        options: Option<Box<LateOptions>>,
    ) -> Result<Self, BeginError> {
        let (target, id) = match options {
            Some(options) => (options.target, options.id),
            None => (None, None),
        };
        let located = match (span, &target) {
            (Some(span), None) => locate_span(span),
            (_, Some(_)) => locate_late(),
            (None, None) => locate_current(),
        };
        let core = active_core(&located)?;
        let refuse = |error| Err(BeginError::refused(core, error));
        if let Some(target) = target {
            let session = session_of(&target, &located);
            let Resolved { span, ticket, .. } = target;
            return match &span {
                Some(span) if !span.is_valid() => refuse(EnrichError::InvalidTarget),
                Some(_) => {
                    let (core, target, scope) = (core.clone(), span, None);
                    let late = Late { core, target, session, scope, id, ticket };
                    Ok(Self::Late(Box::new(late)))
                }
                None => refuse(EnrichError::TicketOfSession),
            };
        }
        if id.is_some() {
            return refuse(EnrichError::IdWithoutTarget);
        }
        match located {
            Located::Span(state) => Ok(Self::OpenSpan(state, DocumentKind::Own)),
            Located::NotRecording(span) => Ok(Late::of_not_recording(*span, None)),
            Located::Disabled(_) => refuse(EnrichError::SpanDisabled),
            Located::OtherLayer(_) => refuse(EnrichError::OtherLayer),
            _ => refuse(EnrichError::NoActiveSpan),
        }
    }

    /// Finds the destination of an enrichment of a session.
    pub(super) fn of_session(options: Option<Box<LateOptions>>) -> Result<Self, BeginError> {
        let is_late = options
            .as_ref()
            .is_some_and(|options| options.target.is_some() || options.session_id.is_some());
        let located = if is_late { locate_late() } else { locate_current() };
        let core = active_core(&located)?;
        let refuse = |error| Err(BeginError::refused(core, error));
        let (session_id, target, id) = match options {
            Some(options) => (options.session_id, options.target, options.id),
            None => (None, None, None),
        };
        let requested = match session_id.map(Session::with_id).transpose() {
            Ok(session) => session,
            Err(error) => return refuse(error.into()),
        };
        if let Some(target) = target {
            if target.span.as_ref().is_some_and(|span| !span.is_valid()) {
                return refuse(EnrichError::InvalidTarget);
            }
            if target.ticket.is_some() && requested.is_some() && requested != target.session {
                return refuse(EnrichError::ForeignSession);
            }
            let session = requested.or_else(|| session_of(&target, &located));
            let scope =
                Some(if session.is_some() { DocumentScope::Session } else { DocumentScope::Trace });
            let Resolved { span: target, ticket, .. } = target;
            let core = core.clone();
            let late = Late { core, target, session, scope, id, ticket };
            return Ok(Self::Late(Box::new(late)));
        }
        let caller = match &located {
            Located::Span(state) => Some(state),
            _ => None,
        };
        let of_caller = match &located {
            Located::Span(state) => state.session(),
            Located::NotRecording(span) => span.session.clone(),
            _ => core.settings.session.clone(),
        };
        let is_late = match (&requested, &of_caller) {
            // An id makes a submission of its own, also for the caller's session.
            (Some(requested), Some(of_caller)) => requested != of_caller || id.is_some(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !is_late && id.is_some() {
            return refuse(EnrichError::IdWithoutTarget);
        }
        if !is_late && let Located::NotRecording(span) = located {
            let is_session = span.session.is_some();
            let scope = if is_session { DocumentScope::Session } else { DocumentScope::Trace };
            return Ok(Late::of_not_recording(*span, Some(scope)));
        }
        Ok(match (caller, requested.or(of_caller)) {
            (Some(caller), Some(session)) if !is_late => Self::OpenSpan(
                caller.outermost_of(&session),
                DocumentKind::Scoped(DocumentScope::Session),
            ),
            (Some(caller), None) => {
                Self::OpenSpan(caller.local_root(), DocumentKind::Scoped(DocumentScope::Trace))
            }
            (_, session @ Some(_)) => {
                let core = core.clone();
                let (target, scope, ticket) = (None, Some(DocumentScope::Session), None);
                Self::Late(Box::new(Late { core, target, session, scope, id, ticket }))
            }
            (None, None) => return refuse(EnrichError::NoActiveSpan),
        })
    }

    pub(super) fn limits(&self) -> EnrichmentLimits {
        let settings = &self.core().settings;
        EnrichmentLimits {
            string: settings.string_bytes.0,
            characters: settings.value_characters,
            enrichment: settings.enrichment_bytes.0,
            leaves: settings.span_limits.max_attributes_per_span as usize,
        }
    }

    pub(super) fn redaction(&self) -> Option<Redaction> {
        self.core().settings.redaction.clone()
    }

    /// The ticket that limits the allowed keys.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::OpenSpan(..) => None,
            Self::Late(late) => late.ticket.clone(),
        }
    }

    /// Applies the flattened values at the destination, and reports the errors.
    pub(super) fn apply(self, flattener: &mut Flattener, caller: &'static Location<'static>) {
        match self {
            Self::OpenSpan(state, kind) => {
                let events = || state.event_context(kind);
                apply_patch(flattener, state.core(), caller, events, |patch, time| {
                    enrich(&state, kind, patch, time)
                });
            }
            Self::Late(late) => {
                let Late { core, target, session, scope, id, ticket } = *late;
                let holder = ticket.as_ref().map(Ticket::holder).unwrap_or_default();
                let bytes = flattener.patch_bytes();
                let late_charge = LateCharge { core: &core, ticket: ticket.as_ref(), bytes };
                let name = id.clone();
                let is_charged = match late_charge.charge(name.as_deref(), flattener) {
                    Ok(is_charged) => is_charged,
                    Err(error) => {
                        flattener.patch.clear();
                        flattener.outcome.extend(error);
                        false
                    }
                };
                let id = id.map(|name| SubmissionName { name, holder });
                let (document, finalizers) = (Document::default(), Finalizers::default());
                let carrier = Carrier { target, session, scope, document, time: 0, id, finalizers };
                let context = core.events().map(|_| EventContext::of_carrier(&carrier));
                let events = || context.unwrap_or_default();
                apply_patch(flattener, &core, caller, events, |patch, time| {
                    let document = std::mem::take(patch.document());
                    let sent = Carrier { document, time, ..carrier }.send(&core);
                    if is_charged && !sent.as_ref().is_ok_and(|applied| applied.is_durable) {
                        late_charge.refund(name.as_deref());
                    }
                    sent
                });
            }
        }
    }

    fn core(&self) -> &Arc<LayerCore> {
        match self {
            Self::OpenSpan(state, _) => state.core(),
            Self::Late(late) => &late.core,
        }
    }
}

/// The charge for a late enrichment: the ticket that pays, and the size.
struct LateCharge<'a> {
    core: &'a LayerCore,
    /// Without a ticket the enrichment is the service's own, and free.
    ticket: Option<&'a Ticket>,
    bytes: u64,
}

impl LateCharge<'_> {
    /// Charges the ticket for the patch. Returns whether it was charged now.
    ///
    /// # Errors
    ///
    /// The patch must not be sent: for this reason, or without one if it was sent before.
    fn charge(
        &self,
        id: Option<&str>,
        flattener: &mut Flattener,
    ) -> Result<bool, Option<EnrichError>> {
        let Some(ticket) = self.ticket.filter(|_| !flattener.patch.is_empty()) else {
            return Ok(false);
        };
        if self.core.late_share().is_full {
            return Err(Some(EnrichError::ShareFull));
        }
        let patch = flattener.patch.document();
        let keys = patch.leaves().map(|(key, _)| key).chain(patch.cleared());
        let accounts = &self.core.ticket_accounts;
        match accounts.charge(ticket, self.cost(id), keys, Instant::now()) {
            Ok(Charge::Known) => Err(None),
            Ok(charge) => Ok(charge == Charge::Charged),
            Err(OverBudget { what, retry_after }) => {
                Err(Some(EnrichError::OverBudget { what, retry_after }))
            }
        }
    }

    /// Takes the charge back.
    fn refund(&self, id: Option<&str>) {
        if let Some(ticket) = self.ticket {
            self.core.ticket_accounts.refund(ticket, self.cost(id));
        }
    }

    fn cost<'i>(&self, id: Option<&'i str>) -> Cost<'i> {
        Cost { id, bytes: self.bytes, share: self.core.late_share().bytes }
    }
}

/// The session of a target: that of its ticket, or the caller's if target and caller are in one trace.
fn session_of(target: &Resolved, located: &Located) -> Option<Session> {
    if target.ticket.is_some() {
        return target.session.clone();
    }
    match (located, &target.span) {
        (Located::Span(caller), Some(span))
            if caller.start().context.trace_id() == span.trace_id() =>
        {
            caller.session()
        }
        (Located::NotRecording(caller), Some(span))
            if caller.context.trace_id() == span.trace_id() =>
        {
            caller.session.clone()
        }
        _ => None,
    }
}

/// The core of the layer, unless telemetry is switched off or shut down.
fn active_core(located: &Located) -> Result<&Arc<LayerCore>, BeginError> {
    let core = located.core().ok_or(BeginError::NotInstalled)?;
    if core.is_disabled() {
        Err(BeginError::refused(core, EnrichError::SdkDisabled))
    } else if core.is_off() {
        Err(BeginError::refused(core, EnrichError::Forked))
    } else if core.is_shut_down() {
        Err(BeginError::refused(core, EnrichError::ShutDown))
    } else {
        Ok(core)
    }
}

/// Applies the patch by `put`, emits its events, and reports the errors. `context` is what the events are
/// about; it is not called while none are emitted.
fn apply_patch(
    flattener: &mut Flattener,
    core: &LayerCore,
    caller: &'static Location<'static>,
    context: impl FnOnce() -> EventContext,
    put: impl FnOnce(&mut Patch, u64) -> Result<Applied, DropReason>,
) {
    flattener.finish();
    let Flattener { patch, outcome, .. } = flattener;
    if patch.is_empty() {
        // nothing to apply
    } else if core.is_shut_down() {
        outcome.push(EnrichError::ShutDown); // while the values were written
    } else {
        let time = clock::enrichment_time();
        let applied = match core.events() {
            None => put(patch, time), // nearly always
            Some(_) => put_with_events(core, patch, time, context, put),
        };
        match applied {
            Ok(Applied { left_out, is_durable }) => {
                if left_out > 0 {
                    let limit = core.settings.span_limits.max_attributes_per_span as usize;
                    outcome.push(EnrichError::LimitExceeded { limit, dropped: left_out });
                }
                if !is_durable {
                    outcome.push(EnrichError::NotDurable);
                }
            }
            Err(DropReason::QueueFull) => outcome.push(EnrichError::QueueFull),
            Err(DropReason::Forked) => outcome.push(EnrichError::Forked),
            Err(_) => outcome.push(EnrichError::ShutDown),
        }
    }
    report(outcome, core, caller);
}

/// Applies the patch by `put`, and emits its events if that succeeds.
#[cold]
#[inline(never)] // so that it costs nothing where no events are emitted
fn put_with_events(
    core: &LayerCore,
    patch: &mut Patch,
    time: u64,
    context: impl FnOnce() -> EventContext,
    put: impl FnOnce(&mut Patch, u64) -> Result<Applied, DropReason>,
) -> Result<Applied, DropReason> {
    if !has_events(patch.document()) {
        return put(patch, time);
    }
    // Before `put`, which empties the patch.
    let records = context().log_records(patch.document(), time, core.settings.enrichment_bytes.0);
    let applied = put(patch, time)?;
    core.emit(&records);
    Ok(applied)
}

fn enrich(
    state: &SpanHandle,
    kind: DocumentKind,
    patch: &mut Patch,
    time: u64,
) -> Result<Applied, DropReason> {
    if let Some(applied) = state.enrich(kind, patch, time) {
        return Ok(applied);
    }
    // The span was closed while the values were written: the feedback is sent as a carrier.
    let session = state.session();
    let scope = kind.scope();
    let (target, document) =
        (Some(state.start().context.clone()), std::mem::take(patch.document()));
    let finalizers = Finalizers::default();
    let carrier = Carrier { target, session, scope, document, time, id: None, finalizers };
    carrier.send(state.core())
}

/// Counts the errors, and warns of the first one.
fn report(outcome: &Enrichment, core: &LayerCore, caller: &'static Location<'static>) {
    if let Some(first) = outcome.errors().next() {
        outcome.errors().for_each(|error| core.count_refused(error.reason()));
        warn_once(first, caller);
    }
}

/// Why an enrichment has no destination. Its values are not evaluated.
#[derive(Debug)]
pub enum BeginError {
    /// There is no layer.
    NotInstalled,
    /// The layer refuses the enrichment.
    Refused(Box<RefusedEnrichment>),
}

/// The layer that refuses an enrichment, and the reason.
#[derive(Debug)]
pub struct RefusedEnrichment {
    core: Arc<LayerCore>,
    error: EnrichError,
}

impl BeginError {
    fn refused(core: &Arc<LayerCore>, error: EnrichError) -> Self {
        Self::Refused(Box::new(RefusedEnrichment { core: core.clone(), error }))
    }

    /// Counts the refusal and warns of it. Returns the outcome for the caller.
    #[inline]
    pub(super) fn outcome(self, caller: &'static Location<'static>) -> Enrichment {
        match self {
            Self::NotInstalled => not_installed(caller),
            Self::Refused(refusal) => refusal.outcome(caller),
        }
    }
}

impl RefusedEnrichment {
    #[cold]
    fn outcome(self, caller: &'static Location<'static>) -> Enrichment {
        let outcome = Enrichment::from(self.error);
        report(&outcome, &self.core, caller);
        outcome
    }
}
