//! Enrichment: what users thought of a result, attached to the span or session it is about.
//!
//! The macros [`enrich_span!`](crate::enrich_span) and [`enrich_session!`](crate::enrich_session)
//! are the usual way in; the functions here do the same for keys that are known only at run time.
//! Either way a value is flattened into leaves, which are checked against the limits, redacted, and
//! merged into the document of a span, or leave as a carrier.
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
//! | object, array | one attribute a leaf: `feedback.step1.retry`, `feedback.edits.0.value` |
//! | object without a leaf | nothing; `[]` removes what stood under the key |
//!
//! A key is a path, so a dotted key is nesting. Along any path there are at most 5 nested objects
//! (the top one not counted) and 2 arrays; what lies deeper is kept as one JSON string at the deepest
//! key allowed, and the outcome says so. A dotted key that is itself too long a path is refused.
//!
//! A value whose own `Serialize` fails costs no more than its key, and the outcome says what it said.
//! One that panics takes its enrichment with it: the panic goes on to the caller.
//!
//! An enrichment never waits for a disk or the network. [`persist`] and [`persist_async`] wait until what
//! was given is on disk, where an outbox is written ahead.
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

pub use error::{EnrichError, Enrichment};
#[cfg(feature = "layer")]
pub use persist::{persist, persist_async};
pub use request::{SessionRequest, SpanRequest, current_span, session, span};
pub use target::Target;
pub use writer::Enricher;
