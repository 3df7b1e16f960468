//! The settings of a layer: switches, limits and conventions. Decided once, when the layer is
//! built.

use std::fmt;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanLimits;

use crate::feedback::document::NAMESPACES;
use crate::printable::printable;
use crate::redaction::Redaction;
use crate::session::Session;

/// The settings that capture and enrichment need. They don't change after `build`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) switches: Switches,
    pub(crate) span_limits: SpanLimits,
    /// Characters of a string value (`OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`).
    pub(crate) value_characters: Option<usize>,
    /// Bytes of one string leaf of an enrichment, and of one JSON string.
    pub(crate) string_bytes: StringBytes,
    /// Bytes of all keys and values of one enrichment.
    pub(crate) enrichment_bytes: EnrichmentBytes,
    pub(crate) convention: Convention,
    pub(crate) late_traces: LateTraces,
    pub(crate) keep: Keep,
    pub(crate) redaction: Option<Redaction>,
    /// The session of every span that has no other.
    pub(crate) session: Option<Session>,
    /// Whether the session id is read from baggage, and written into it.
    pub(crate) session_propagation: bool,
    pub(crate) formats: Formats,
    /// The values of the environment that were skipped.
    pub(crate) environment_issues: Vec<EnvironmentIssue>,
}

/// A variable of the environment whose value was skipped, wholly or in part.
///
/// ```
/// let (_layer, telemetry) = tracing_feedback::builder().build()?;
/// for issue in telemetry.environment_issues() {
///     eprintln!("{issue}"); // OTEL_BSP_SCHEDULE_DELAY="5s": isn't a whole number of milliseconds
/// }
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnvironmentIssue {
    /// The name of the variable.
    pub variable: &'static str,
    /// Its value, shortened; never headers or keys, and no credentials of an endpoint.
    pub value: String,
    /// What is wrong, and the remedy.
    pub reason: String,
}

impl fmt::Display for EnvironmentIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, value, reason } = self;
        write!(f, "{variable}={:?}: {}", printable(value), printable(reason))
    }
}

/// Bytes of one string leaf of an enrichment, 256 KiB by default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StringBytes(pub(crate) usize);

impl Default for StringBytes {
    fn default() -> Self {
        Self(256 * 1024)
    }
}

/// Bytes of one enrichment, 1 MiB by default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EnrichmentBytes(pub(crate) usize);

impl Default for EnrichmentBytes {
    fn default() -> Self {
        Self(1024 * 1024)
    }
}

/// What of a span is captured beside its fields. The names and defaults are those of the
/// `tracing-opentelemetry` layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switches {
    pub(crate) location: bool,
    pub(crate) threads: bool,
    pub(crate) target: bool,
    pub(crate) level: bool,
    pub(crate) tracked_inactivity: bool,
    pub(crate) context_activation: bool,
    pub(crate) error_fields_to_exceptions: bool,
    pub(crate) error_records_to_exceptions: bool,
    pub(crate) error_events_to_status: bool,
    pub(crate) error_events_to_exceptions: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            location: true,
            threads: true,
            target: true,
            level: false,
            tracked_inactivity: true,
            context_activation: true,
            error_fields_to_exceptions: true,
            error_records_to_exceptions: true,
            error_events_to_status: true,
            error_events_to_exceptions: true,
        }
    }
}

/// How the attribute keys of enrichments begin.
///
/// ```
/// # #[cfg(feature = "collector")] {
/// use tracing_feedback::{Convention, collector::Collector, enrich_span};
/// use tracing_subscriber::prelude::*;
///
/// let collector = Collector::start()?;
/// let (layer, telemetry) = tracing_feedback::builder()
///     .with_endpoint(collector.endpoint())
///     .with_convention(Convention::HoneyHive)
///     .build()?;
/// tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
///     let _span = tracing::info_span!("answer").entered();
///     enrich_span!(feedback = { "rating": 5 });
/// });
/// telemetry.flush()?;
/// assert_eq!(collector.spans()[0].attributes["honeyhive_feedback.rating"], 5);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Convention {
    /// The bare namespace: `feedback.rating`.
    #[default]
    Bare,
    /// As HoneyHive reads them: `honeyhive_feedback.rating`, `honeyhive_metrics.…` and so on.
    HoneyHive,
}

impl Convention {
    /// The prefix before the namespace.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Bare => "",
            Self::HoneyHive => "honeyhive_",
        }
    }
}

/// Which trace the carriers of late feedback belong to.
///
/// Wherever it is, a carrier has one link, to its target: the link says what the feedback is about.
///
/// ```
/// # #[cfg(feature = "collector")] {
/// use tracing_feedback::{LateTraces, SpanExt, collector::Collector, enrich_span};
/// use tracing_subscriber::prelude::*;
///
/// let collector = Collector::start()?;
/// let (layer, telemetry) = tracing_feedback::builder()
///     .with_endpoint(collector.endpoint())
///     .with_late_traces(LateTraces::Target) // otherwise a trace of its own
///     .build()?;
/// let _default = tracing_subscriber::registry().with(layer).set_default();
/// let answer = tracing::info_span!("answer").span_context()?;
/// enrich_span!(target = &answer, feedback = { "rating": 5 });
///
/// telemetry.flush()?;
/// let carrier = collector.spans().into_iter().find(|span| span.is_carrier()).unwrap();
/// assert_eq!(carrier.trace_id, answer.trace_id());
/// assert_eq!(carrier.parent_span_id, answer.span_id());
/// assert_eq!(carrier.links[0].span_id, answer.span_id());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LateTraces {
    /// A trace of their own. Backends measure a trace from its first span to its last, so that a
    /// carrier in the target's trace would make it as long as the user took to judge.
    #[default]
    Own,
    /// The trace of their target, as children of it, for readers that don't follow links.
    Target,
}

/// What is exported of the traces that the sampler left out.
///
/// ```
/// # #[cfg(feature = "collector")] {
/// use opentelemetry_sdk::trace::Sampler;
/// use tracing_feedback::{Keep, collector::Collector, enrich_span};
/// use tracing_subscriber::prelude::*;
///
/// let collector = Collector::start()?;
/// let (layer, telemetry) = tracing_feedback::builder()
///     .with_endpoint(collector.endpoint())
///     .with_sampler(Sampler::AlwaysOff)
///     .with_keep(Keep::TracesWithFeedback)
///     .build()?;
/// let _default = tracing_subscriber::registry().with(layer).set_default();
/// tracing::info_span!("ask").in_scope(|| {
///     tracing::info_span!("retrieve").in_scope(|| ());
///     tracing::info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 }));
/// });
/// tracing::info_span!("another").in_scope(|| ()); // a trace without feedback
///
/// telemetry.flush()?;
/// assert_eq!(collector.tree(), "ask\n  retrieve\n  answer\n      feedback.rating = 5\n");
/// for span in collector.spans() {
///     assert_eq!(span.attributes["tracing_feedback.sampled"], false);
///     assert_eq!(span.attributes["tracing_feedback.kept"], true);
/// }
/// assert_eq!(telemetry.stats().held, 1);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// Of unsampled traces, only spans that carry feedback.
    #[default]
    SpansWithFeedback,
    /// The traces on which feedback has arrived: all spans that they have in this process.
    TracesWithFeedback,
}

/// How much of unsampled traces is held until feedback arrives, and for how long.
///
/// | | default |
/// | --- | --- |
/// | spans | 20,000 |
/// | bytes | 32 MiB |
/// | age | 5 min |
/// | grace period | 30 s |
///
/// ```
/// # #[cfg(feature = "collector")] {
/// use opentelemetry_sdk::trace::Sampler;
/// use tracing_feedback::{Keep, KeepLimits, SpanExt, collector::Collector, enrich_span};
/// use tracing_subscriber::prelude::*;
///
/// let collector = Collector::start()?;
/// let (layer, telemetry) = tracing_feedback::builder()
///     .with_endpoint(collector.endpoint())
///     .with_sampler(Sampler::AlwaysOff)
///     .with_keep(Keep::TracesWithFeedback)
///     .with_keep_limits(KeepLimits::new().with_max_spans(2))
///     .build()?;
/// let _default = tracing_subscriber::registry().with(layer).set_default();
/// let answers = ["first", "second", "third"].map(|name| {
///     let span = tracing::info_span!("answer", name);
///     span.span_context().unwrap()
/// });
/// assert_eq!(telemetry.stats().held, 2); // the first was dropped for the third
/// assert_eq!(telemetry.stats().unsampled, 1);
///
/// for answer in &answers {
///     enrich_span!(target = answer, feedback = { "rating": 5 });
/// }
/// telemetry.flush()?;
/// let spans = collector.spans();
/// let kept: Vec<_> = spans.iter().filter_map(|span| span.attribute("name")).collect();
/// assert_eq!(kept, ["second", "third"]);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "limits do nothing before `with_keep_limits`"]
pub struct KeepLimits {
    pub(crate) max_spans: usize,
    pub(crate) max_bytes: usize,
    pub(crate) max_age: Duration,
    pub(crate) grace_period: Duration,
}

impl Default for KeepLimits {
    fn default() -> Self {
        Self {
            max_spans: 20_000,
            max_bytes: 32 * 1024 * 1024,
            max_age: Duration::from_secs(5 * 60),
            grace_period: Duration::from_secs(30),
        }
    }
}

impl KeepLimits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many spans are held, of all traces together, beside those that each thread gathers (a
    /// 64th of this, and 256 at the most). Beyond that the spans that have been held for longest
    /// are dropped, some at a time, unless feedback has arrived on their trace.
    pub fn with_max_spans(mut self, spans: usize) -> Self {
        self.max_spans = spans;
        self
    }

    /// How many bytes the held spans take, about: a span with two small fields takes some 250.
    /// Beyond that the spans that have been held for longest are dropped, as above.
    pub fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a span is held while the root of its trace has not ended, counted from its own end.
    /// A kept trace is remembered for at least this long plus the grace period after its last
    /// span or feedback.
    pub fn with_max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// How long a trace is held after its root in this process has ended: the time for late
    /// feedback. Where a trace has several such roots, the last that has ended counts.
    pub fn with_grace_period(mut self, period: Duration) -> Self {
        self.grace_period = period;
        self
    }
}

/// The events that enrichments emit, beside the spans and carriers that carry them: OTLP log records.
///
/// | attribute of [`GenAi`](Self::GenAi) | value |
/// | --- | --- |
/// | `gen_ai.evaluation.name` | the leaf's path without its namespace: `rating`, `step1.retry` |
/// | `gen_ai.evaluation.score.value` | a number as a double, a bool as 1.0 or 0.0 |
/// | `gen_ai.evaluation.score.label` | a string; a bool as `true` or `false` |
/// | `gen_ai.evaluation.explanation` | the leaf `comment` of the same namespace and enrichment |
/// | `gen_ai.response.id`, `gen_ai.conversation.id` | those of the enriched span, if it has them by then |
/// | `session.id` | the session, if there is one |
/// | `tracing_feedback.namespace` | `feedback` or `metrics` |
/// | `tracing_feedback.time_unix_nano` | when the enrichment was made |
/// | `tracing_feedback.id` | the `id` of the enrichment, if it has one; with a ticket the span id of its carrier, since names are the holder's own |
/// | `tracing_feedback.scope` | `session` or `trace`, if it is not about a span |
/// | `tracing_feedback.retracted` | `true` if the leaf was removed, with everything under it; without a name it is the whole namespace |
///
/// The trace and span id of a record are those of what the feedback is about: of trace feedback the trace
/// id alone, and of session feedback neither, unless it was given a target.
///
/// See [`Builder::with_events`](crate::Builder::with_events).
///
/// ```
/// # #[cfg(feature = "collector")] {
/// use tracing_feedback::{Events, collector::Collector, enrich_span};
/// use tracing_subscriber::prelude::*;
///
/// let collector = Collector::start()?;
/// let (layer, telemetry) = tracing_feedback::builder()
///     .with_endpoint(collector.endpoint())
///     .with_events(Events::GenAi)
///     .build()?;
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// tracing::info_span!("answer").in_scope(|| {
///     enrich_span!(feedback = { "rating": true, "comment": "Great" });
/// });
/// telemetry.flush()?;
///
/// let (span, events) = (&collector.spans()[0], collector.events()); // one for each leaf
/// let rating = events
///     .iter()
///     .find(|event| event.attributes["gen_ai.evaluation.name"] == "rating")
///     .ok_or("no rating")?;
/// assert_eq!(rating.event_name, "gen_ai.evaluation.result");
/// assert_eq!((rating.trace_id, rating.span_id), (span.trace_id, span.span_id));
/// assert_eq!(rating.attributes["gen_ai.evaluation.score.value"], 1.0);
/// assert_eq!(rating.attributes["gen_ai.evaluation.score.label"], "true");
/// assert_eq!(rating.attributes["gen_ai.evaluation.explanation"], "Great");
/// assert_eq!(telemetry.stats().events.exported, 2);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Events {
    /// None. In code it overrides `FEEDBACK_EVENTS`.
    #[default]
    None,
    /// `gen_ai.evaluation.result` of the
    /// [semantic conventions for generative AI](https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-events/):
    /// one record for each leaf of `feedback` and `metrics`.
    GenAi,
}

/// Which formats propagation reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Formats {
    pub(crate) trace_context: bool,
    pub(crate) baggage: bool,
}

impl Default for Formats {
    fn default() -> Self {
        Self { trace_context: true, baggage: true }
    }
}

/// `key` without a convention's prefix, if it lies in one of the namespaces.
pub(crate) fn namespaced(key: &str, convention: Convention) -> Option<&str> {
    let bare = key.strip_prefix(convention.prefix()).unwrap_or(key);
    // Most keys are ruled out by their first letter.
    if !matches!(bare.as_bytes().first(), Some(b'f' | b'm' | b'u' | b'i' | b'o' | b'c')) {
        return None;
    }
    let (namespace, path) = bare.split_once('.')?;
    let is_path = !path.is_empty() && !path.split('.').any(str::is_empty);
    (is_path && NAMESPACES.contains(&namespace)).then_some(bare)
}

/// Whether a key without a convention's prefix lies in the namespace `feedback`.
pub(crate) fn is_feedback(bare: &str) -> bool {
    bare.starts_with("feedback.")
}
