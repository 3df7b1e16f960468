//! An OpenTelemetry-native `tracing` layer that ships `#[instrument]` spans, and what the people who
//! use a service thought of each answer, to any OTLP collector.
//!
//! ```
//! # #[cfg(all(feature = "grpc", feature = "collector"))] {
//! use tracing_feedback::{collector::Collector, enrich_span};
//! use tracing_subscriber::prelude::*;
//!
//! #[tracing::instrument]
//! fn answer(question: &str) -> &'static str {
//!     let reply = "New York City";
//!     enrich_span!(feedback = { "rating": false, "edits": [{ "value": "Albany" }] });
//!     reply
//! }
//!
//! let collector = Collector::start()?; // any collector will do; this one is for tests
//! let (layer, telemetry) = tracing_feedback::builder()
//!     .with_service_name("chat")
//!     .with_endpoint(collector.endpoint())
//!     .build()?;
//! let subscriber = tracing_subscriber::registry().with(layer);
//! tracing::subscriber::with_default(subscriber, || answer("What is the capital of New York?"));
//! telemetry.flush()?;
//!
//! let span = &collector.spans()[0];
//! assert_eq!(span.name, "answer");
//! assert_eq!(span.attributes["question"], "What is the capital of New York?");
//! assert_eq!(span.attributes["feedback.rating"], false);
//! assert_eq!(span.attributes["feedback.edits.0.value"], "Albany");
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What there is
//!
//! - [`enrich_span!`] and [`enrich_session!`] attach what was said to a span or to a session; an
//!   [`Enrichment`] is what became of it. [`enrich`](mod@enrich) does the same by functions, for keys
//!   known only at run time, and says what becomes of every type of value.
//! - [`builder()`] makes a [`FeedbackLayer`], which goes into a subscriber and captures its spans,
//!   and a [`Telemetry`], which stays with you: it flushes, shuts down and counts.
//! - [`Builder::build_around`](https://docs.rs/tracing-feedback/latest/tracing_feedback/struct.Builder.html#method.build_around)
//!   makes a span processor instead, for a service that keeps `tracing-opentelemetry` or the OpenTelemetry API: feedback
//!   on its provider's spans.
//! - A [`Session`] is the id that the traces of one conversation share.
//! - A [`Ticket`](https://docs.rs/tracing-feedback/latest/tracing_feedback/struct.Ticket.html) goes to
//!   a browser with an answer, and lets it attach feedback to that answer and nothing else.
//! - [`SpanExt`] is OpenTelemetry's view of a `tracing::Span`: its context, parent, links, status.
//!   [`propagation`] carries the context, and a session that is trusted, to other services.
//! - [`fold`](mod@fold) is for those who read spans: it puts feedback that arrived in parts together.
//!
//! # In libraries
//!
//! Use the macros and nothing else. Where no layer is installed they cost a look at one counter,
//! evaluate none of their values, and say so in an outcome that may be ignored.
//! `default-features = false` leaves out the layer and export; an application that enables them, here or
//! through another crate, enables them for the library's macros too.
//!
//! ```
//! pub fn rerank(passages: &mut [&str]) {
//!     passages.sort_by_key(|passage| passage.len());
//!     tracing_feedback::enrich_span!(metadata = { "reranked": passages.len() });
//! }
//! # let mut passages = ["long", "a"];
//! # rerank(&mut passages);
//! # assert_eq!(passages, ["a", "long"]);
//! ```
//!
//! # In applications
//!
//! Set up once, at the start of `main`, and keep the handle. [`init()`] does everything from the
//! environment, for a service that has nothing yet; [`builder()`] touches nothing global, for one
//! that has a subscriber.
//!
//! ```no_run
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let telemetry = tracing_feedback::init()?; // dropping it flushes, for at most five seconds
//!     // … serve …
//!     telemetry.shutdown()?; // says how many spans did not arrive, and why
//!     Ok(())
//! }
//! ```
//!
//! [`Telemetry::flush`] waits until all that has ended so far has arrived, which a test, or a
//! function that is frozen between requests, wants to know. [`enrich::persist`] waits until feedback is
//! on disk, where an outbox is written ahead. [`Telemetry::stats`] has the counters.
//! A service that stops on a signal shuts telemetry down after the last request in flight: see
//! [`shutdown_signal`](https://docs.rs/tracing-feedback/latest/tracing_feedback/fn.shutdown_signal.html).
//!
//! # Features
//!
//! The README's table of features has how many crates each adds.
//!
//! | feature | |
//! | --- | --- |
//! | `layer` | the layer and its setup; part of every protocol |
//! | `grpc` *(default)* | OTLP over gRPC |
//! | `tracing-log` *(default)* | records of the `log` crate keep their target and location |
//! | `http-proto` | OTLP over HTTP, protobuf |
//! | `http-json` | OTLP over HTTP, JSON, by `opentelemetry-otlp` |
//! | `gzip`, `zstd` | compressed requests |
//! | `tls` | `https://` endpoints, by rustls with ring |
//! | `console` | `OTEL_TRACES_EXPORTER=console` |
//! | `env-filter` | the full grammar of `EnvFilter` in `FEEDBACK_TRACE_FILTER` and `RUST_LOG` |
//! | `tracing-opentelemetry` | `span = &span` and [`SpanExt`] for spans of `tracing-opentelemetry` 0.34 |
//! | `http` | `http::HeaderMap` in [`propagation`]; part of every protocol |
//! | `tickets` | [`Ticket`](https://docs.rs/tracing-feedback/latest/tracing_feedback/struct.Ticket.html): signed, for feedback that comes back from a browser or another service |
//! | `tower` | [`web`](https://docs.rs/tracing-feedback/latest/tracing_feedback/web/): a tower layer for the edge of a service; brings `tickets` |
//! | `axum` | `web` for axum: the routes that take feedback, and extractors; brings `tower` |
//! | `outbox` | [`Builder::with_outbox`](https://docs.rs/tracing-feedback/latest/tracing_feedback/struct.Builder.html#method.with_outbox): what can't be delivered waits on disk |
//! | `metrics` | [`Telemetry::register_metrics`](https://docs.rs/tracing-feedback/latest/tracing_feedback/struct.Telemetry.html#method.register_metrics): what [`Stats`] count, as OpenTelemetry metrics |
//! | `signal` | [`shutdown_signal`](https://docs.rs/tracing-feedback/latest/tracing_feedback/fn.shutdown_signal.html): what asks a process to stop |
//! | `collector` | [`collector`](https://docs.rs/tracing-feedback/latest/tracing_feedback/collector/): an OTLP receiver in-process, for tests |
//! | `desk` | [`desk`](https://docs.rs/tracing-feedback/latest/tracing_feedback/desk/): the program `feedback-desk`, which keeps, folds and charts what arrives; brings `collector` and `grpc`, compiles SQLite |
//!
//! The README says what lands where; `docs/environment.md` has the environment variables, and
//! `docs/migration.md` the way from `tracing-opentelemetry`.
#![forbid(unsafe_code)]
// They panic where the output can't be written.
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]
// Unused code is looked for where every feature is on: with fewer, some of what features share has no user.
#![cfg_attr(
    not(all(
        feature = "axum",
        feature = "desk",
        feature = "http-json",
        feature = "http-proto",
        feature = "metrics",
        feature = "outbox",
        feature = "tls",
    )),
    allow(dead_code, unused_imports)
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "layer")]
mod active_context;
#[cfg(feature = "layer")]
mod clock;
#[cfg(feature = "layer")]
mod cold_box;
#[cfg(feature = "collector")]
pub mod collector;
#[cfg(feature = "desk")]
pub mod desk;
pub mod enrich;
#[cfg(feature = "layer")]
mod export;
mod feedback;
mod fork;
mod formatted;
#[cfg(feature = "layer")]
mod layer;
#[cfg(feature = "layer")]
mod otlp;
#[cfg(feature = "outbox")]
mod outbox;
#[cfg(all(feature = "layer", not(feature = "outbox")))]
#[path = "outbox/absent.rs"]
mod outbox;
mod printable;
#[cfg(feature = "layer")]
pub mod propagation;
#[cfg(feature = "layer")]
mod random;
#[cfg(feature = "layer")]
mod record;
mod redaction;
mod session;
#[cfg(feature = "layer")]
mod settings;
#[cfg(feature = "layer")]
mod setup;
#[cfg(feature = "layer")]
mod span;
#[cfg(feature = "layer")]
mod suppress;
mod sync;
#[cfg(feature = "tickets")]
mod ticket;
#[cfg(not(feature = "tickets"))]
#[path = "ticket/absent.rs"]
mod ticket;
pub mod traceparent;
mod user_code;
#[cfg(feature = "tower")]
pub mod web;

pub use enrich::{EnrichError, Enrichment};
pub use feedback::fold;
pub use session::{Session, SessionIdError};

#[cfg(feature = "layer")]
pub use {
    export::{
        DropReason, EventLoss, FlushError, SpanLoss,
        stats::{EventStats, Stats},
    },
    layer::{
        CountingEventFilter, EnrichingSpanProcessor, FeedbackLayer, FeedbackSpanProcessor,
        SpanError, SpanExt, otel_context,
    },
    outbox::PersistError,
    settings::{Convention, EnvironmentIssue, Events, Keep, KeepLimits, LateTraces},
    setup::{BuildError, Builder, ConfigError, Telemetry, builder, compatibility, init},
};

#[cfg(feature = "tickets")]
pub use layer::ticket::{ticket, ticket_with};
#[cfg(feature = "outbox")]
pub use outbox::{OutboxOptions, OutboxPolicy, OutboxPolicyError};
#[cfg(feature = "signal")]
pub use setup::shutdown_signal;
#[cfg(feature = "_otlp")]
pub use setup::{Compression, Protocol};
#[cfg(feature = "tickets")]
pub use ticket::{
    Ticket, TicketBudget, TicketError, TicketKeyError, TicketKeys, TicketOptions, TicketVerifier,
};

/// OpenTelemetry's API, of which types are part of this API, in the version it is built with.
pub use opentelemetry;
/// OpenTelemetry's SDK, of which types are part of this API, in the version it is built with.
#[cfg(feature = "layer")]
pub use opentelemetry_sdk;

/// What the macros expand to. No part of the API: it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::enrich::flatten::Position;
    pub use crate::enrich::request::Begin;
    pub use crate::enrich::writer::finish;
}

/// For the fuzz targets: what reads bytes that no function of the API takes.
#[cfg(all(fuzzing, feature = "outbox"))]
#[doc(hidden)]
pub mod __fuzz {
    pub use crate::outbox::read_segment;
}

/// The code of the README and of the documents beside it.
#[cfg(all(doctest, feature = "grpc"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/browser.md")]
    struct Browser;
    #[doc = include_str!("../docs/delivery.md")]
    struct Delivery;
    #[doc = include_str!("../docs/limits.md")]
    struct Limits;
    #[doc = include_str!("../docs/migration.md")]
    struct Migration;
}
