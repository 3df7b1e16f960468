//! Writing the values of one enrichment, and putting them in their place.

use std::collections::HashSet;
use std::panic::Location;
use std::sync::{Arc, Mutex};

use opentelemetry::Value;
use opentelemetry::trace::SpanContext;
use serde::Serialize;

use super::error::{EnrichError, Enrichment};
use super::flatten::{Checkpoint, Flattener, Frame, Limits, Position};
use crate::clock;
use crate::document::Document;
use crate::session::Session;
use crate::state::carrier::{Carrier, Submission};
use crate::state::{DocumentKind, Installation, Scope, SpanState};
use crate::ticket::Ticket;

/// Where an enrichment lands.
pub(crate) enum Place {
    /// In a document of an open span.
    Open(Arc<SpanState>, DocumentKind),
    /// On its own, as a carrier.
    Late {
        target: Option<SpanContext>,
        session: Option<Session>,
        scope: Option<Scope>,
        id: Option<String>,
        ticket: Option<Ticket>,
    },
}

/// Takes the values of one enrichment. What the macros expand to calls its methods; it holds no lock
/// and borrows nothing, so values may `await` and enrich in turn.
pub struct Writer {
    installation: Arc<Installation>,
    place: Place,
    flattener: Flattener,
}

impl Writer {
    pub(crate) fn begin(
        place: Result<(Arc<Installation>, Place), BeginError>,
    ) -> Result<Self, BeginError> {
        let (installation, place) = place?;
        let settings = &installation.settings;
        let limits = Limits {
            string: settings.string_bytes.0,
            characters: settings.value_characters,
            enrichment: settings.enrichment_bytes.0,
            leaves: settings.span_limits.max_attributes_per_span as usize,
        };
        let mut flattener = Flattener::new(limits, settings.redaction.clone());
        if let Place::Late { ticket, .. } = &place {
            flattener.ticket = ticket.clone();
        }
        Ok(Self { installation, place, flattener })
    }

    /// Flattens a value of a literal.
    pub fn value<T: Serialize + ?Sized>(&mut self, position: Position, value: &T) {
        self.flattener.value(position, value);
    }

    /// A `null` in a literal.
    pub fn null(&mut self, position: Position) {
        self.flattener.null_at(position);
    }

    /// Goes to a nested object of a literal, for keys that are expressions.
    pub fn open_object(&mut self, position: Position) -> Open {
        self.flattener.move_to(position);
        Open(self.flattener.begin_object())
    }

    /// Goes back into an array of a literal, for positions without a static key.
    pub fn resume_array(&mut self, position: Position) {
        self.flattener.resume_array(position);
    }

    /// Goes down to a key that is an expression.
    pub fn enter_key(&mut self, key: impl AsRef<str>) -> Entered {
        Entered(self.flattener.enter_key(key.as_ref()))
    }

    /// Goes down to an array's position.
    pub fn enter_index(&mut self, index: usize) -> Entered {
        Entered(self.flattener.enter_index(index))
    }

    /// Comes back from a key or position.
    pub fn leave(&mut self, entered: Entered) {
        self.flattener.leave(entered.0);
    }

    /// Begins an object at the current key.
    pub fn begin_object(&mut self) -> Open {
        Open(self.flattener.begin_object())
    }

    /// Begins an array at the current key.
    pub fn begin_array(&mut self) -> Open {
        Open(self.flattener.begin_array())
    }

    /// Ends an object or array.
    pub fn end(&mut self, open: Open) {
        self.flattener.end(open.0);
    }

    /// Flattens a value at the current key.
    pub fn here<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.flattener.serialize(value);
    }

    /// A `null` at the current key.
    pub fn null_here(&mut self) {
        self.flattener.null();
    }

    /// Puts everything in its place.
    #[track_caller]
    pub fn finish(self) -> Enrichment {
        let Self { installation, place, flattener } = self;
        let (patch, mut outcome) = flattener.finish();
        if !patch.is_empty() {
            put(&installation, place, patch, &mut outcome);
        }
        report(Some(&installation), &outcome, Location::caller());
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
pub struct Open(Frame);

fn put(
    installation: &Arc<Installation>,
    place: Place,
    patch: Document<Value>,
    outcome: &mut Enrichment,
) {
    if installation.is_shut_down() {
        outcome.push(EnrichError::ShutDown); // while the values were written
        return;
    }
    let limit = installation.settings.span_limits.max_attributes_per_span as usize;
    let time = clock::enrichment_time();
    let dropped = match place {
        Place::Open(state, kind) => match state.enrich(kind, patch, time) {
            Ok(dropped) => dropped,
            Err(document) => {
                // The span has closed while the values were written: its feedback follows it.
                let session = state.session();
                let scope = match kind {
                    DocumentKind::Own => None,
                    DocumentKind::Scoped(scope) => Some(scope),
                };
                let target = Some(state.start().context.clone());
                Carrier { target, session, scope, document, time, id: None }.send(installation)
            }
        },
        Place::Late { target, session, scope, id, ticket } => {
            let id = id.map(|name| Submission { name, ticket });
            Carrier { target, session, scope, document: patch, time, id }.send(installation)
        }
    };
    if dropped > 0 {
        outcome.push(EnrichError::LimitExceeded { limit, dropped });
    }
}

/// Counts what was refused, and warns about it once for each place in the code.
fn report(
    installation: Option<&Arc<Installation>>,
    outcome: &Enrichment,
    caller: &'static Location<'static>,
) {
    for error in outcome.errors() {
        if let Some(installation) = installation {
            installation.count_refused(error.reason());
        }
    }
    if let Some(error) = outcome.errors().next()
        && tracing::enabled!(target: "tracing_feedback", tracing::Level::WARN)
    {
        static WARNED: Mutex<Option<HashSet<&'static Location<'static>>>> = Mutex::new(None);
        let is_first = crate::sync::lock(&WARNED).get_or_insert_default().insert(caller);
        if is_first {
            tracing::warn!(
                target: "tracing_feedback",
                file = caller.file(),
                line = caller.line(),
                "{error}"
            );
        }
    }
}

/// An enrichment that has no place: its values aren't even looked at.
#[derive(Debug)]
pub struct BeginError {
    pub(super) installation: Option<Arc<Installation>>,
    pub(super) error: EnrichError,
}

impl BeginError {
    /// The outcome of an enrichment that has no place.
    #[track_caller]
    pub fn outcome(self) -> Enrichment {
        let Self { installation, error } = self;
        let outcome = Enrichment::from(error);
        report(installation.as_ref(), &outcome, Location::caller());
        outcome
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
    pub(crate) fn begin(place: Result<(Arc<Installation>, Place), BeginError>) -> Self {
        Self { begun: Writer::begin(place) }
    }

    pub(crate) fn namespace<T: Serialize + ?Sized>(
        mut self,
        namespace: &'static str,
        value: &T,
    ) -> Self {
        if let Ok(writer) = &mut self.begun {
            writer.value(Position::new(namespace, 0), value);
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
        match self.begun {
            Ok(writer) => writer.finish(),
            Err(error) => error.outcome(),
        }
    }
}
