//! Writing the values of one enrichment.

use std::cell::Cell;
use std::panic::Location;

use serde::Serialize;

use super::destination::{BeginError, Destination};
use super::error::Enrichment;
use super::flatten::{Checkpoint, Flattener, Frame, Position, Scalar};

/// Writes the values of one enrichment. The expanded macros call its methods; it holds no lock and
/// borrows nothing, so value expressions may `await` and enrich in turn.
pub struct Writer(Box<WriterState>);

#[derive(Default)]
struct WriterState {
    destination: Option<Destination>,
    flattener: Flattener,
}

thread_local! {
    /// The memory of this thread's last enrichment, reused by the next one.
    static POOLED: Cell<Option<Box<WriterState>>> = const { Cell::new(None) };
}

impl Writer {
    #[inline]
    pub(crate) fn begin(destination: Destination) -> Self {
        let pooled = POOLED.try_with(Cell::take).ok().flatten();
        let mut state = pooled.unwrap_or_default();
        state.flattener.start(destination.limits(), destination.redaction(), destination.ticket());
        state.destination = Some(destination);
        Self(state)
    }

    /// Flattens a value of a literal.
    pub fn value<T: Serialize + ?Sized>(&mut self, position: &Position, value: &T) {
        self.0.flattener.value(position, value);
    }

    #[inline]
    pub(super) fn scalar(&mut self, position: &Position, scalar: Scalar<'_>) {
        self.0.flattener.scalar_at(position, scalar);
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

    /// Goes down to an index of an array.
    pub fn enter_index(&mut self, index: usize) -> Entered {
        Entered(self.0.flattener.enter_index(index))
    }

    /// Returns from a key or index.
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
        let Self(mut state) = self;
        let WriterState { destination, flattener } = &mut *state;
        if let Some(destination) = destination.take() {
            destination.apply(flattener, Location::caller());
        }
        let outcome = std::mem::take(&mut flattener.outcome);
        flattener.reset();
        let _ = POOLED.try_with(|pooled| pooled.set(Some(state)));
        outcome
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// A key or index that was entered.
#[derive(Debug)]
pub struct Entered(Checkpoint);

/// A container that has begun.
#[derive(Debug)]
pub struct OpenFrame(Frame);

/// Applies the enrichment.
#[inline]
#[track_caller]
pub fn finish(begun: Result<Writer, BeginError>) -> Enrichment {
    match begun {
        Ok(writer) => writer.finish(),
        Err(error) => error.outcome(Location::caller()),
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

    /// Applies the enrichment: attaches the values, or sends them as a carrier.
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

    /// Applies the enrichment as a whole or not at all: where [`apply`](Self::apply) would leave a value
    /// out, shorten it or keep it as one JSON string, this attaches nothing. It is meant for values from
    /// clients, which are sent the errors and can correct the values.
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
            writer.0.flattener.clear_unless_whole();
        }
        finish(self.begun)
    }
}
