//! Writing the values of one enrichment, and putting them in their place.

use std::cell::Cell;
use std::collections::HashSet;
use std::panic::Location;
use std::sync::{Arc, Mutex};

use opentelemetry::Value;
use opentelemetry::trace::SpanContext;
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::error::{EnrichError, Enrichment};
use super::flatten::{Checkpoint, Flattener, Frame, Limits, Position};
use crate::clock;
use crate::export::DropReason;
use crate::feedback::carrier::{Carrier, Scope, SubmissionName};
use crate::feedback::document::Document;
use crate::outbox::Finalizers;
use crate::session::Session;
use crate::span::{DocumentKind, LayerCore, Put, SpanHandle};
use crate::ticket::Ticket;

/// Where an enrichment lands.
pub(crate) enum Place {
    /// In a document of an open span.
    OpenSpan(SpanHandle, DocumentKind),
    /// On its own, as a carrier.
    Late(Box<Late>),
}

/// An enrichment that leaves at once.
pub(crate) struct Late {
    pub(crate) core: Arc<LayerCore>,
    pub(crate) target: Option<SpanContext>,
    pub(crate) session: Option<Session>,
    pub(crate) scope: Option<Scope>,
    pub(crate) id: Option<String>,
    pub(crate) ticket: Option<Ticket>,
}

impl Place {
    fn core(&self) -> &Arc<LayerCore> {
        match self {
            Self::OpenSpan(state, _) => state.core(),
            Self::Late(late) => &late.core,
        }
    }
}

/// Takes the values of one enrichment. What the macros expand to calls its methods; it holds no lock
/// and borrows nothing, so values may `await` and enrich in turn.
pub struct Writer(Box<Writing>);

#[derive(Default)]
struct Writing {
    place: Option<Place>,
    flattener: Flattener,
}

thread_local! {
    /// What the last enrichment of this thread left for the next one: most of it is as good as new.
    static SPARE: Cell<Option<Box<Writing>>> = const { Cell::new(None) };
}

impl Writer {
    #[inline]
    pub(crate) fn begin(place: Place) -> Self {
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        let mut writing = spare.unwrap_or_default();
        let settings = &place.core().settings;
        let limits = Limits {
            string: settings.string_bytes.0,
            characters: settings.value_characters,
            enrichment: settings.enrichment_bytes.0,
            leaves: settings.span_limits.max_attributes_per_span as usize,
        };
        writing.flattener.start(limits, settings.redaction.clone());
        if let Place::Late(late) = &place {
            writing.flattener.ticket.clone_from(&late.ticket);
        }
        writing.place = Some(place);
        Self(writing)
    }

    /// Flattens a value of a literal.
    pub fn value<T: Serialize + ?Sized>(&mut self, position: &Position, value: &T) {
        self.0.flattener.value(position, value);
    }

    pub(super) fn text(&mut self, position: &Position, text: &'static str) {
        self.0.flattener.text_at(position, text);
    }

    /// A `null` in a literal.
    pub fn null(&mut self, position: &Position) {
        self.0.flattener.null_at(position);
    }

    /// Goes to a nested object of a literal, for keys that are expressions.
    pub fn open_object(&mut self, position: &Position) -> OpenFrame {
        self.0.flattener.move_to(position);
        OpenFrame(self.0.flattener.begin_object())
    }

    /// Goes back into an array of a literal, for positions without a static key.
    pub fn resume_array(&mut self, position: &Position) {
        self.0.flattener.resume_array(position);
    }

    /// Goes down to a key that is an expression.
    pub fn enter_key(&mut self, key: impl AsRef<str>) -> Entered {
        Entered(self.0.flattener.enter_key(key.as_ref()))
    }

    /// Goes down to an array's position.
    pub fn enter_index(&mut self, index: usize) -> Entered {
        Entered(self.0.flattener.enter_index(index))
    }

    /// Comes back from a key or position.
    pub fn leave(&mut self, entered: Entered) {
        self.0.flattener.leave(entered.0);
    }

    /// Begins an object at the current key.
    pub fn begin_object(&mut self) -> OpenFrame {
        OpenFrame(self.0.flattener.begin_object())
    }

    /// Begins an array at the current key.
    pub fn begin_array(&mut self) -> OpenFrame {
        OpenFrame(self.0.flattener.begin_array())
    }

    /// Ends an object or array.
    pub fn end(&mut self, open: OpenFrame) {
        self.0.flattener.end(open.0);
    }

    /// Flattens a value at the current key.
    pub fn here<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.0.flattener.serialize(value);
    }

    /// A `null` at the current key.
    pub fn null_here(&mut self) {
        self.0.flattener.null();
    }

    #[track_caller]
    fn finish(self) -> Enrichment {
        let Self(mut writing) = self;
        let Writing { place, flattener } = &mut *writing;
        let caller = Location::caller();
        match place.take() {
            Some(Place::OpenSpan(state, kind)) => {
                settle(flattener, state.core(), caller, |patch, time| {
                    enrich(&state, kind, patch, time)
                });
            }
            Some(Place::Late(late)) => {
                let Late { core, target, session, scope, id, ticket } = *late;
                let holder = ticket.as_ref().map(Ticket::holder).unwrap_or_default();
                let id = id.map(|name| SubmissionName { name, holder });
                settle(flattener, &core, caller, |patch, time| {
                    let document = std::mem::take(patch);
                    let finalizers = Finalizers::default();
                    Carrier { target, session, scope, document, time, id, finalizers }.send(&core)
                });
            }
            None => {}
        }
        let outcome = std::mem::take(&mut flattener.outcome);
        flattener.reset();
        let _ = SPARE.try_with(|spare| spare.set(Some(writing)));
        outcome
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// A key that was entered.
#[derive(Debug)]
pub struct Entered(Checkpoint);

/// A container that has begun.
#[derive(Debug)]
pub struct OpenFrame(Frame);

/// Puts everything in its place.
#[inline]
#[track_caller]
pub fn finish(begun: Result<Writer, BeginError>) -> Enrichment {
    match begun {
        Ok(writer) => writer.finish(),
        // As in a library, used by a program that doesn't trace at all.
        Err(BeginError::NotInstalled) if LevelFilter::current() == LevelFilter::OFF => {
            EnrichError::NotInstalled.into()
        }
        Err(error) => error.outcome(),
    }
}

/// Puts what was written in its place, and reports what was refused.
fn settle(
    flattener: &mut Flattener,
    core: &LayerCore,
    caller: &'static Location<'static>,
    put: impl FnOnce(&mut Document<Value>, u64) -> Result<Put, DropReason>,
) {
    flattener.finish();
    let Flattener { patch, outcome, .. } = flattener;
    if patch.is_empty() {
        // nothing to put
    } else if core.is_shut_down() {
        outcome.push(EnrichError::ShutDown); // while the values were written
    } else {
        match put(patch, clock::enrichment_time()) {
            Ok(Put { left_out, is_durable }) => {
                if left_out > 0 {
                    let limit = core.settings.span_limits.max_attributes_per_span as usize;
                    outcome.push(EnrichError::LimitExceeded { limit, dropped: left_out });
                }
                if !is_durable {
                    outcome.push(EnrichError::NotDurable);
                }
            }
            Err(DropReason::QueueFull) => outcome.push(EnrichError::QueueFull),
            Err(_) => outcome.push(EnrichError::ShutDown),
        }
    }
    report(outcome, core, caller);
}

fn enrich(
    state: &SpanHandle,
    kind: DocumentKind,
    patch: &mut Document<Value>,
    time: u64,
) -> Result<Put, DropReason> {
    if let Some(put) = state.enrich(kind, patch, time) {
        return Ok(put);
    }
    // The span has closed while the values were written: its feedback follows it.
    let session = state.session();
    let scope = match kind {
        DocumentKind::Own => None,
        DocumentKind::Scoped(scope) => Some(scope),
    };
    let (target, document) = (Some(state.start().context.clone()), std::mem::take(patch));
    let finalizers = Finalizers::default();
    let carrier = Carrier { target, session, scope, document, time, id: None, finalizers };
    carrier.send(state.core())
}

/// Counts what was refused, and warns of it.
fn report(outcome: &Enrichment, core: &LayerCore, caller: &'static Location<'static>) {
    if let Some(first) = outcome.errors().next() {
        outcome.errors().for_each(|error| core.count_refused(error.reason()));
        warn_once(first, caller);
    }
}

/// Warns of what was refused, once for each place in the code.
fn warn_once(error: &EnrichError, caller: &'static Location<'static>) {
    static WARNED: Mutex<Option<HashSet<&'static Location<'static>>>> = Mutex::new(None);
    if tracing::enabled!(target: "tracing_feedback", tracing::Level::WARN)
        && crate::sync::lock(&WARNED).get_or_insert_default().insert(caller)
    {
        tracing::warn!(
            target: "tracing_feedback",
            file = caller.file(),
            line = caller.line(),
            "{error}"
        );
    }
}

/// An enrichment that has no place: its values aren't even looked at.
#[derive(Debug)]
pub enum BeginError {
    /// There is no layer.
    NotInstalled,
    /// The layer refuses it.
    Refused(Box<Refusal>),
}

/// Which layer refuses an enrichment, and why.
#[derive(Debug)]
pub struct Refusal {
    core: Arc<LayerCore>,
    error: EnrichError,
}

impl BeginError {
    pub(super) fn refused(core: &Arc<LayerCore>, error: EnrichError) -> Self {
        Self::Refused(Box::new(Refusal { core: core.clone(), error }))
    }

    #[track_caller]
    fn outcome(self) -> Enrichment {
        let caller = Location::caller();
        match self {
            Self::NotInstalled => {
                warn_once(&EnrichError::NotInstalled, caller);
                EnrichError::NotInstalled.into()
            }
            Self::Refused(refusal) => {
                let outcome = Enrichment::from(refusal.error);
                report(&outcome, &refusal.core, caller);
                outcome
            }
        }
    }
}

/// The values of an enrichment, namespace by namespace. Nothing is enriched before
/// [`apply`](Self::apply).
///
/// ```
/// # #[cfg(feature = "collector")] {
/// # use tracing_subscriber::prelude::*;
/// # let collector = tracing_feedback::collector::Collector::start()?;
/// # let builder = tracing_feedback::builder().with_endpoint(collector.endpoint());
/// # let (layer, telemetry) = builder.build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// use serde::Serialize;
/// use tracing_feedback::enrich;
///
/// #[derive(Serialize)]
/// struct Vote {
///     rating: u8,
///     comment: Option<&'static str>, // `None` changes nothing
/// }
///
/// let span = tracing::info_span!("answer");
/// let outcome = enrich::span(&span)
///     .feedback(&Vote { rating: 4, comment: None })
///     .user_properties(&serde_json::json!({ "plan": "free" }))
///     .apply();
/// assert!(outcome.is_ok());
///
/// drop(span);
/// telemetry.flush()?;
/// let attributes = &collector.spans()[0].attributes;
/// assert_eq!(attributes["feedback.rating"], 4);
/// assert_eq!(attributes["user_properties.plan"], "free");
/// assert!(!attributes.contains_key("feedback.comment"));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is enriched before `apply`"]
pub struct Enricher {
    begun: Result<Writer, BeginError>,
}

impl Enricher {
    pub(super) fn new(begun: Result<Writer, BeginError>) -> Self {
        Self { begun }
    }

    pub(crate) fn namespace<T: Serialize + ?Sized>(
        mut self,
        namespace: &'static str,
        value: &T,
    ) -> Self {
        if let Ok(writer) = &mut self.begun {
            writer.value(&Position::new(namespace, 0), value);
        }
        self
    }

    /// Puts everything in its place.
    ///
    /// ```
    /// use tracing_feedback::{EnrichError, enrich};
    ///
    /// let outcome = enrich::session().feedback(&serde_json::json!({ "rating": 5 })).apply();
    /// assert_eq!(outcome.into_result(), Err(EnrichError::NotInstalled));
    /// ```
    #[track_caller]
    pub fn apply(self) -> Enrichment {
        finish(self.begun)
    }

    /// Puts everything in its place, or nothing: where [`apply`](Self::apply) would leave something
    /// out, shorten it or put it down as one JSON string, this attaches nothing at all. For values
    /// from outside, whose sender is told what to mend and sends them again.
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// # let (layer, telemetry) = tracing_feedback::builder().build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// use serde_json::json;
    /// use tracing_feedback::enrich;
    ///
    /// let span = tracing::info_span!("answer");
    /// let too_deep = json!({ "rating": 5, "a": [[[1]]] });
    /// let outcome = enrich::span(&span).feedback(&too_deep).apply_whole();
    /// assert_eq!(outcome.errors().next().unwrap().reason(), "too_deep");
    /// # Ok::<(), tracing_feedback::BuildError>(())
    /// ```
    #[track_caller]
    pub fn apply_whole(mut self) -> Enrichment {
        if let Ok(writer) = &mut self.begun {
            writer.0.flattener.keep_whole();
        }
        finish(self.begun)
    }
}
