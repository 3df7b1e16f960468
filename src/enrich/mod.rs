//! Enrichment: what users thought of a result, attached to the span or session it is about.
//!
//! The macros [`enrich_span!`](crate::enrich_span) and [`enrich_session!`](crate::enrich_session)
//! are the usual way in; the functions here do the same for keys that are known only at run time.
//! Either way a value is flattened into leaves, which are checked against the limits, redacted, and
//! merged into the document of a span or sent as a carrier.
//!
//! # What becomes of a value
//!
//! | value | attribute |
//! | --- | --- |
//! | bool, string | the same |
//! | integer in `i64` | int |
//! | integer beyond `i64` | decimal string |
//! | finite float | double |
//! | NaN, infinity, bytes | refused with the key's name; the other keys are kept |
//! | `char`, unit variant | string |
//! | null (`serde_json::Value::Null`, `()`) | retracts the key and everything under it |
//! | `Option::None` | absent: changes nothing |
//! | object, array | one attribute per leaf: `feedback.step1.retry`, `feedback.edits.0.value` |
//! | object without a leaf | no attribute; `[]` removes what was under the key |
//!
//! A key is a path, so a dotted key is nesting. Along any path there are at most 5 nested objects
//! (the top one not counted) and 2 arrays; deeper values are kept as one JSON string at the deepest
//! key allowed, and the outcome has an error. A dotted key that is itself too long a path is refused.
//!
//! If the `Serialize` of a value fails, only its key is refused, and the outcome has the message. If it
//! panics, the whole enrichment is dropped, and the panic reaches the caller.
//!
//! An enrichment never waits for a disk or the network. [`persist`] and [`persist_async`] wait until the
//! feedback is on disk, if there is an outbox that is written ahead.
//!
//! ```
//! use tracing_feedback::enrich;
//! # use tracing_subscriber::prelude::*;
//! # let (layer, _telemetry) = tracing_feedback::builder().build()?;
//! # tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
//!
//! let span = tracing::info_span!("answer");
//! let key = "clarity"; // known at run time
//! let scores = std::collections::HashMap::from([(key, 0.9)]);
//! let outcome = enrich::span(&span).metrics(&scores).apply();
//! assert!(outcome.is_ok());
//! # });
//! # Ok::<(), tracing_feedback::BuildError>(())
//! ```

#[cfg(feature = "layer")]
mod destination;
#[cfg(not(feature = "layer"))]
#[path = "destination_absent.rs"]
mod destination;
mod error;
pub(crate) mod flatten;
mod literal;
mod macros;
#[cfg(feature = "layer")]
mod persist;
pub(crate) mod request;
pub(crate) mod target;
mod warn;
pub(crate) mod writer;

#[cfg(feature = "axum")]
pub(crate) use error::seconds;
pub use error::{EnrichError, Enrichment};
#[cfg(feature = "layer")]
pub use persist::{persist, persist_async};
pub use request::{SessionRequest, SpanRequest, current_span, session, span};
pub use target::Target;
pub use writer::Enricher;
