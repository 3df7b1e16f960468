//! Writing the values of one enrichment.

use std::cell::Cell;
use std::panic::Location;

use serde::Serialize;

use super::destination::{BeginError, Destination};
use super::error::Enrichment;
use super::flatten::{Checkpoint, Flattener, Frame, Position};

/// Takes the values of one enrichment. What the macros expand to calls its methods; it holds no lock
/// and borrows nothing, so values may `await` and enrich in turn.
pub struct Writer(Box<Writing>);

#[derive(Default)]
struct Writing {
    destination: Option<Destination>,
    flattener: Flattener,
}

thread_local! {
    /// The memory of this thread's last enrichment, for the next one.
    static SPARE: Cell<Option<Box<Writing>>> = const { Cell::new(None) };
}

impl Writer {
    #[inline]
    pub(crate) fn begin(destination: Destination) -> Self {
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        let mut writing = spare.unwrap_or_default();
        writing.flattener.start(
            destination.limits(),
            destination.redaction(),
            destination.ticket(),
        );
        writing.destination = Some(destination);
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
        let Writing { destination, flattener } = &mut *writing;
        if let Some(destination) = destination.take() {
            destination.settle(flattener, Location::caller());
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
