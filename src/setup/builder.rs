//! The builder: every setting of a layer and of its export.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{ResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SpanExporter, SpanLimits, SpanProcessor};

use super::compatibility::{AnyIdGenerator, AnySampler, AnySpanExporter, AnySpanProcessor};
use super::env::{EVENTS, Environment, EnvironmentIssue, Propagator, TracesExporter};
use super::error::BuildError;
#[cfg(all(feature = "_otlp", feature = "tls"))]
use super::otlp::tls::Pem;
#[cfg(feature = "_otlp")]
use super::otlp::{OtlpConfig, OtlpOptions};
use super::outbox;
#[cfg(feature = "_otlp")]
use super::protocol::{Compression, Protocol};
use super::telemetry::Telemetry;
#[cfg(feature = "outbox")]
use crate::OutboxOptions;
use crate::export::sink::exporter::ExporterSink;
use crate::export::sink::processor::ProcessorSink;
use crate::export::sink::{DiscardSink, Sink};
use crate::export::stats::Counters;
use crate::export::{Batching, Pipeline, tail_buffer};
use crate::layer::{EnrichingSpanProcessor, FeedbackLayer, SpanProcessors, Wrapped};
use crate::otlp::Signal;
use crate::outbox::Outbox;
use crate::redaction::Redaction;
use crate::session::Session;
use crate::settings::{Convention, Events, Formats, Keep, KeepLimits, LateTraces, Settings};
use crate::span::{IdSource, LayerCore, ProcessSpans, Sampling};
use crate::suppress;
use crate::ticket::{TicketAccounts, TicketKeys};

/// Begins to build a layer.
///
/// A setting that is not given in code is read from the environment. The order of precedence is:
///
/// 1. the code,
/// 2. the variable for traces (`OTEL_EXPORTER_OTLP_TRACES_…`),
/// 3. the general variable (`OTEL_EXPORTER_OTLP_…`),
/// 4. the default.
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// let (layer, telemetry) = tracing_feedback::builder()
///     .with_service_name("chat")
///     .with_endpoint("http://localhost:4317")
///     .build()?;
/// let subscriber = tracing_subscriber::registry().with(layer);
/// assert_eq!(telemetry.stats().exported, 0);
/// # drop(subscriber);
/// # Ok::<(), tracing_feedback::BuildError>(())
/// ```
pub fn builder() -> Builder {
    Builder {
        settings: Settings::default(),
        sampling: None,
        ids: IdSource::default(),
        keep_limits: KeepLimits::default(),
        scope: None,
        service_name: None,
        resource: None,
        span_limits: None,
        batching: Batching::default(),
        schedule_delay: None,
        queue_spans: None,
        batch_spans: None,
        export_timeout: None,
        strict_env: false,
        ticket_keys: None,
        ticket_accounts: TicketAccounts::default(),
        #[cfg(feature = "_otlp")]
        otlp: OtlpOptions::default(),
        events: None,
        #[cfg(feature = "_otlp")]
        events_endpoint: None,
        outbox: outbox::OutboxSetting::default(),
        exporter: None,
        span_processors: Vec::new(),
    }
}

type MakeSink = Box<
    dyn FnOnce(&Resource, Duration, Option<Arc<Outbox>>) -> Result<Box<dyn Sink>, BuildError>
        + Send
        + Sync,
>;

/// The settings of a layer and of its export. Made by [`builder`].
///
/// | | default |
/// | --- | --- |
/// | location, threads, target, tracked inactivity, context activation | on |
/// | level | off |
/// | the four `error_…` conventions | on |
/// | sampler | parent-based, every root |
/// | exported of unsampled traces | spans that carry feedback |
/// | span limits | 128 attributes, events, links, and attributes of each |
/// | string leaf, one enrichment | 256 KiB, 1 MiB |
/// | schedule delay | 5 s |
/// | batch | 2 MiB; 512 spans through an SDK exporter |
/// | queue | 44 MiB |
/// | export timeout | 30 s |
#[must_use = "a builder does nothing before `build`"]
pub struct Builder {
    settings: Settings,
    sampling: Option<Sampling>,
    ids: IdSource,
    keep_limits: KeepLimits,
    scope: Option<InstrumentationScope>,
    service_name: Option<String>,
    resource: Option<Resource>,
    span_limits: Option<SpanLimits>,
    batching: Batching,
    schedule_delay: Option<Duration>,
    queue_spans: Option<usize>,
    batch_spans: Option<usize>,
    export_timeout: Option<Duration>,
    strict_env: bool,
    ticket_keys: Option<TicketKeys>,
    ticket_accounts: TicketAccounts,
    #[cfg(feature = "_otlp")]
    otlp: OtlpOptions,
    events: Option<Events>,
    #[cfg(feature = "_otlp")]
    events_endpoint: Option<String>,
    outbox: outbox::OutboxSetting,
    exporter: Option<MakeSink>,
    span_processors: Vec<Box<dyn SpanProcessor>>,
}

/// The service, its exporter, and the environment.
impl Builder {
    /// The service's name, `service.name`. Default: `OTEL_SERVICE_NAME`, then `unknown_service`.
    pub fn with_service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = Some(name.into());
        self
    }

    /// Attributes of the service, over those of `OTEL_RESOURCE_ATTRIBUTES`.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// use opentelemetry_sdk::Resource;
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint(collector.endpoint())
    ///     .with_resource(Resource::builder_empty().with_service_name("chat").build())
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// tracing::info_span!("answer").in_scope(|| ());
    ///
    /// telemetry.flush()?;
    /// assert_eq!(collector.spans()[0].resource["service.name"], "chat");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_resource(mut self, resource: Resource) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Exports through any [`SpanExporter`] of the OpenTelemetry SDK instead of OTLP.
    ///
    /// The exporter is called on the export thread, within a Tokio runtime, and may block. It can't report
    /// the spans that a partial success rejected, so they count as exported.
    pub fn with_exporter<E: AnySpanExporter>(mut self, exporter: E) -> Self {
        self.exporter =
            Some(Box::new(move |resource, timeout, _| exporter_sink(resource, timeout, exporter)));
        self
    }

    /// The instrumentation scope of the spans. Default: this crate.
    pub fn with_instrumentation_scope(mut self, scope: InstrumentationScope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Whether [`build`](Self::build) fails if a variable of the environment is malformed or unsupported.
    /// Default: off, so that the variable is ignored with a warning, as the specification asks.
    pub fn with_strict_env(mut self, strict: bool) -> Self {
        self.strict_env = strict;
        self
    }
}

/// OTLP export. These settings are ignored where an exporter is given.
#[cfg(feature = "_otlp")]
impl Builder {
    /// The endpoint of the collector. Default: `http://localhost:4317`. For the HTTP protocols it is the
    /// base URL, by default `http://localhost:4318`, to which `/v1/traces` is added unless it ends so.
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.otlp.endpoint = Some(endpoint.into());
        self
    }

    /// The protocol. Default: gRPC, whatever cargo features are enabled.
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.otlp.protocol = Some(protocol);
        self
    }

    /// A header of every request, for example a key. May be called more than once.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.otlp.headers.push((name.into(), value.into()));
        self
    }

    /// How long one request may take, its retries included. Default: 10 s.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.otlp.timeout = Some(timeout);
        self
    }

    /// How requests are compressed. Default: `OTEL_EXPORTER_OTLP_TRACES_COMPRESSION`, then
    /// `OTEL_EXPORTER_OTLP_COMPRESSION`, then not at all.
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.otlp.compression = Some(compression);
        self
    }
}

/// TLS, for `https://` endpoints.
#[cfg(all(feature = "_otlp", feature = "tls"))]
impl Builder {
    /// The certificates to trust instead of the system's, as PEM.
    pub fn with_ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.otlp.tls.ca_certificate = Some(Pem(pem.into()));
        self
    }

    /// The certificate and key to present to the collector, as PEM.
    pub fn with_client_identity(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.otlp.tls.client_certificate = Some(Pem(certificate.into()));
        self.otlp.tls.client_key = Some(Pem(key.into()));
        self
    }
}

/// What is captured. Names and defaults are those of the `tracing-opentelemetry` layer.
impl Builder {
    /// Whether spans and events carry `code.file.path`, `code.module.name` and `code.line.number`.
    pub fn with_location(mut self, on: bool) -> Self {
        self.settings.switches.location = on;
        self
    }

    /// Whether spans carry `thread.id` and `thread.name` of the thread that made them.
    pub fn with_threads(mut self, on: bool) -> Self {
        self.settings.switches.threads = on;
        self
    }

    /// Whether spans carry their `target`.
    pub fn with_target(mut self, on: bool) -> Self {
        self.settings.switches.target = on;
        self
    }

    /// Whether spans carry their `level`. Events always do.
    pub fn with_level(mut self, on: bool) -> Self {
        self.settings.switches.level = on;
        self
    }

    /// Whether spans carry `busy_ns` and `idle_ns`: how long they were entered, and were not.
    pub fn with_tracked_inactivity(mut self, on: bool) -> Self {
        self.settings.switches.tracked_inactivity = on;
        self
    }

    /// Whether an entered span becomes the active span of the OpenTelemetry API.
    pub fn with_context_activation(mut self, on: bool) -> Self {
        self.settings.switches.context_activation = on;
        self
    }

    /// Whether an `Error` value also becomes `exception.message` and `exception.stacktrace` on the span
    /// or event that it was recorded on.
    pub fn with_error_fields_to_exceptions(mut self, on: bool) -> Self {
        self.settings.switches.error_fields_to_exceptions = on;
        self
    }

    /// Whether an `Error` value on an event also becomes exception attributes of its span.
    pub fn with_error_records_to_exceptions(mut self, on: bool) -> Self {
        self.settings.switches.error_records_to_exceptions = on;
        self
    }

    /// Whether an event with a field `error` and no message describes its span's status.
    pub fn with_error_events_to_status(mut self, on: bool) -> Self {
        self.settings.switches.error_events_to_status = on;
        self
    }

    /// Whether an event with a field `error` and no message is named `exception`.
    pub fn with_error_events_to_exceptions(mut self, on: bool) -> Self {
        self.settings.switches.error_events_to_exceptions = on;
        self
    }

    /// The sampler, which may be boxed. Default: `OTEL_TRACES_SAMPLER`, then parent-based with every root
    /// sampled. A span that carries feedback is exported whatever the sampler decides, and with
    /// [`with_keep`](Self::with_keep) its whole trace. Where the sampler panics, the span is sampled as its
    /// parent is, and the panic is counted and warned of once.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// use opentelemetry_sdk::trace::Sampler;
    /// use tracing_feedback::enrich_span;
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint(collector.endpoint())
    ///     .with_sampler(Sampler::AlwaysOff)
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// tracing::info_span!("unsampled").in_scope(|| ());
    /// tracing::info_span!("rated").in_scope(|| enrich_span!(feedback = { "rating": 5 }));
    ///
    /// telemetry.flush()?;
    /// let spans = collector.spans();
    /// assert_eq!(spans.len(), 1);
    /// assert_eq!(spans[0].name, "rated");
    /// assert_eq!(spans[0].attributes["tracing_feedback.sampled"], false);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_sampler(mut self, sampler: impl AnySampler) -> Self {
        self.sampling = Some(Sampling::from_sampler(sampler));
        self
    }

    /// What is exported of traces that the sampler did not sample. Default: the spans that carry
    /// feedback.
    ///
    /// With [`Keep::TracesWithFeedback`] the spans of an unsampled trace are held in memory when they end,
    /// [within limits](Self::with_keep_limits). When feedback arrives on one span, all spans of the trace
    /// are exported: the held spans with the next export, the others when they end. Any enrichment is feedback here: of
    /// an open span, of a session if it lands on a span of the trace, or a late one, by a ticket or another
    /// target. If no feedback has arrived when the root span has ended and the grace period is over, the
    /// held spans are dropped.
    ///
    /// The spans that are exported this way carry `tracing_feedback.sampled = false` and
    /// `tracing_feedback.kept = true`. The context that is propagated to other services, and the spans'
    /// flags on the wire, keep the sampler's decision: a backend gets this process's part of the trace.
    /// [`Stats::held`](crate::Stats::held) counts the held spans. `flush` leaves them in memory, and
    /// `shutdown` drops them.
    ///
    /// With this setting an unsampled span costs its thread 1.1 times as much as without it, which is what a
    /// sampled span costs, and an enrichment takes 0.1 µs longer.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// use opentelemetry_sdk::trace::Sampler;
    /// use tracing_feedback::{Keep, SpanExt, enrich_span};
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint(collector.endpoint())
    ///     .with_sampler(Sampler::AlwaysOff)
    ///     .with_keep(Keep::TracesWithFeedback)
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// let ask = tracing::info_span!("ask");
    /// ask.in_scope(|| tracing::info_span!("retrieve").in_scope(|| ()));
    /// let answer = ask.span_context()?;
    /// drop(ask);
    ///
    /// telemetry.flush()?;
    /// assert_eq!((collector.spans().len(), telemetry.stats().held), (0, 2));
    ///
    /// enrich_span!(target = answer, feedback = { "rating": 1 }); // seconds later
    /// telemetry.flush()?;
    /// let spans = collector.spans();
    /// assert_eq!(spans.iter().filter(|span| !span.is_carrier()).count(), 2);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_keep(mut self, keep: Keep) -> Self {
        self.settings.keep = keep;
        self
    }

    /// How many spans and bytes of unsampled traces are held for [`with_keep`](Self::with_keep), and how
    /// long. Default: 20,000 spans, 32 MiB, 5 minutes and a grace period of 30 s.
    pub fn with_keep_limits(mut self, limits: KeepLimits) -> Self {
        self.keep_limits = limits;
        self
    }

    /// The id generator. Default: random ids. Where it panics, the id is random, and the panic is
    /// counted and warned of once.
    pub fn with_id_generator(mut self, generator: impl AnyIdGenerator) -> Self {
        self.ids = IdSource::Custom(Box::new(generator));
        self
    }

    /// A `SpanProcessor` of the OpenTelemetry SDK, for the layer's spans. May be called more than once:
    /// the processors are called in this order.
    ///
    /// - `on_start` is called when a span starts: when it is entered, has a child, or is asked for its
    ///   context (without [context activation](Self::with_context_activation) not when it is entered),
    ///   at the latest when it ends. What it changes on the given span is taken over; an attribute that
    ///   it sets replaces one of the same key. Its context is that of the parent, with the baggage.
    /// - `on_end` is called when the span has closed, with its feedback. The data is a copy: a change of
    ///   it doesn't reach this layer's export. To remove values from that, set them in `on_start`, or use
    ///   [`with_redaction`](Self::with_redaction). Carriers of late feedback are given to `on_end` only.
    /// - [`Telemetry::flush`] and `shutdown` call `force_flush` and `shutdown_with_timeout`, on a thread of
    ///   their own, and report what fails.
    ///
    /// Processors get the spans that are exported. Of an unsampled one that is known at its end, by its
    /// feedback: then both methods are called, and the span has no sampled flag. The other spans of a
    /// trace that is [kept](Self::with_keep) don't pass through them.
    ///
    /// Both methods are called on the thread of the span, and nothing is captured meanwhile. A span that a
    /// processor makes while another one closes keeps the registry of `tracing-subscriber` from closing the
    /// span around, as it does under any layer. A panic is counted as `span_processor_panicked`, and warned
    /// of once. A span takes several times as long with a
    /// processor as without.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// use opentelemetry::baggage::BaggageExt;
    /// use opentelemetry::{Context, KeyValue, trace::Span as _};
    /// use opentelemetry_sdk::error::OTelSdkResult;
    /// use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
    ///
    /// /// Puts the baggage on every span.
    /// #[derive(Debug)]
    /// struct BaggageToAttributes;
    ///
    /// impl SpanProcessor for BaggageToAttributes {
    ///     fn on_start(&self, span: &mut Span, parent: &Context) {
    ///         for (key, (value, _)) in parent.baggage() {
    ///             span.set_attribute(KeyValue::new(key.clone(), value.clone()));
    ///         }
    ///     }
    ///     fn on_end(&self, _: SpanData) {}
    ///     fn force_flush(&self) -> OTelSdkResult {
    ///         Ok(())
    ///     }
    ///     fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint(collector.endpoint())
    ///     .with_span_processor(BaggageToAttributes)
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// let tenant = Context::current_with_baggage([KeyValue::new("tenant", "acme")]);
    /// let _attached = tenant.attach();
    /// tracing::info_span!("answer").in_scope(|| ());
    ///
    /// telemetry.flush()?;
    /// assert_eq!(collector.spans()[0].attributes["tenant"], "acme");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_span_processor(mut self, processor: impl AnySpanProcessor) -> Self {
        self.span_processors.push(Box::new(processor));
        self
    }

    /// How many attributes, events and links a span may have. Default: `OTEL_SPAN_…_LIMIT`, then 128 of
    /// each.
    pub fn with_span_limits(mut self, limits: SpanLimits) -> Self {
        self.span_limits = Some(limits);
        self
    }
}

/// Sessions, feedback, redaction and size limits.
impl Builder {
    /// The session of every span that belongs to no other session.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// use tracing_feedback::Session;
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint(collector.endpoint())
    ///     .with_session(Session::with_id("nightly-run")?)
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// tracing::info_span!("answer").in_scope(|| ());
    ///
    /// telemetry.flush()?;
    /// assert_eq!(collector.spans()[0].attributes["session.id"], "nightly-run");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_session(mut self, session: Session) -> Self {
        self.settings.session = Some(session);
        self
    }

    /// Whether session ids are propagated as baggage: read from incoming requests, and written to
    /// outgoing ones. Default: off, since any client can send that header.
    pub fn with_session_propagation(mut self, on: bool) -> Self {
        self.settings.session_propagation = on;
        self
    }

    /// The prefix of the attribute keys of enrichments. Default: the bare namespace.
    pub fn with_convention(mut self, convention: Convention) -> Self {
        self.settings.convention = convention;
        self
    }

    /// The trace that carriers of late feedback belong to. Default: a trace of their own.
    pub fn with_late_traces(mut self, late_traces: LateTraces) -> Self {
        self.settings.late_traces = late_traces;
        self
    }

    /// The events that enrichments of `feedback` and `metrics` emit as well, as OTLP log records. Default:
    /// `FEEDBACK_EVENTS`, then none. [`Events`] has their attributes.
    ///
    /// They are for a backend that reads the semantic conventions for generative AI. They go where spans go,
    /// by the same protocol, unless [`with_events_endpoint`](Self::with_events_endpoint) or a variable
    /// `OTEL_EXPORTER_OTLP_LOGS_…` says otherwise, and have what spans with feedback have: redaction, retries,
    /// the outbox. They have a queue of their own, with a quarter of the bytes of that for spans, so that
    /// spans never push them out; [`Stats::events`](crate::Stats::events) counts them. The place of an enriched
    /// span in its trace is fixed from then on, so call `set_parent` before.
    ///
    /// Fields of spans that are named `feedback.…` are no enrichments, and emit nothing.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// use opentelemetry::trace::SpanId;
    /// use tracing_feedback::{Events, enrich_session};
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint(collector.endpoint())
    ///     .with_events(Events::GenAi)
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// enrich_session!(session_id = "conversation-42", feedback = { "stars": 4 });
    ///
    /// telemetry.flush()?;
    /// let event = &collector.events()[0];
    /// assert_eq!(event.attributes["gen_ai.evaluation.score.value"], 4.0);
    /// assert_eq!(event.attributes["session.id"], "conversation-42");
    /// assert_eq!(event.span_id, SpanId::INVALID); // it is about the session
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Where spans don't leave by OTLP ([`with_exporter`](Self::with_exporter), `OTEL_TRACES_EXPORTER`,
    /// [`build_around`](Self::build_around)), an endpoint has to be given: without one
    /// [`build`](Self::build) answers [`BuildError::EventsWithoutOtlp`], or adds an issue of the environment
    /// if `FEEDBACK_EVENTS` has switched events on.
    pub fn with_events(mut self, events: Events) -> Self {
        self.events = Some(events);
        self
    }

    /// The endpoint for the log records of [events](Self::with_events), in place of that for spans. Over HTTP
    /// `/v1/logs` is added to its path unless it ends so. Default: [`with_endpoint`](Self::with_endpoint),
    /// `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT`, then
    /// `http://localhost:4317`, or over HTTP `http://localhost:4318/v1/logs`.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// use opentelemetry_sdk::trace::InMemorySpanExporter;
    /// use tracing_feedback::{Events, enrich_span};
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_exporter(InMemorySpanExporter::default()) // takes no log records
    ///     .with_events(Events::GenAi)
    ///     .with_events_endpoint(collector.endpoint())
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// tracing::info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 }));
    ///
    /// telemetry.flush()?;
    /// assert_eq!((collector.spans().len(), collector.events().len()), (0, 1));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "_otlp")]
    pub fn with_events_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.events_endpoint = Some(endpoint.into());
        self
    }

    /// A function that is called with every key and value (of enrichments, of the fields of spans and
    /// events) before the value is stored. It returns the value to store, or `None` to drop it.
    ///
    /// Keys of enrichments are given in full, from the bare namespace on; the message of an event
    /// has the key `message`. The function must be fast: it runs on the thread that records the value.
    /// If it panics, the value is dropped and counted.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// use tracing_feedback::enrich_span;
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint(collector.endpoint())
    ///     .with_redaction(|key, value| (!key.ends_with("email")).then_some(value))
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// tracing::info_span!("answer", email = "a@example.org").in_scope(|| {
    ///     enrich_span!(feedback = { "rating": 5, "contact": { "email": "a@example.org" } });
    /// });
    ///
    /// telemetry.flush()?;
    /// let attributes = &collector.spans()[0].attributes;
    /// assert_eq!(attributes["feedback.rating"], 5);
    /// assert!(!attributes.keys().any(|key| key.ends_with("email")));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_redaction(
        mut self,
        function: impl Fn(&str, Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        self.settings.redaction = Some(Redaction::new(function));
        self
    }

    /// How many bytes a string of an enrichment may have before it is cut. Default: 256 KiB.
    ///
    /// ```
    /// # #[cfg(feature = "collector")] {
    /// # use tracing_subscriber::prelude::*;
    /// # let collector = tracing_feedback::collector::Collector::start()?;
    /// use tracing_feedback::enrich_span;
    ///
    /// let (layer, telemetry) = tracing_feedback::builder()
    ///     .with_endpoint(collector.endpoint())
    ///     .with_max_string_bytes(5)
    ///     .build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// let outcome = tracing::info_span!("answer").in_scope(|| {
    ///     enrich_span!(feedback = { "comment": "Great experience" })
    /// });
    /// assert!(!outcome.is_ok()); // the comment was cut
    ///
    /// telemetry.flush()?;
    /// assert_eq!(collector.spans()[0].attributes["feedback.comment"], "Great");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_max_string_bytes(mut self, bytes: usize) -> Self {
        self.settings.string_bytes.0 = bytes;
        self
    }

    /// How many bytes one enrichment may hold, keys and values. Default: 1 MiB.
    pub fn with_max_enrichment_bytes(mut self, bytes: usize) -> Self {
        self.settings.enrichment_bytes.0 = bytes;
        self
    }
}

/// Tickets, which authorize feedback that arrives later.
#[cfg(feature = "tickets")]
impl Builder {
    /// The keys that tickets are signed and verified with. Default: `FEEDBACK_TICKET_KEYS`, then no keys,
    /// so that no ticket is issued.
    ///
    /// To rotate the keys later, keep a clone, or get one from [`Telemetry::ticket_keys`].
    ///
    /// ```
    /// # use tracing_subscriber::prelude::*;
    /// use tracing_feedback::{SpanExt, TicketKeys};
    ///
    /// let keys = TicketKeys::new([[7; 32]])?; // a secret, of course
    /// let (layer, _telemetry) = tracing_feedback::builder().with_ticket_keys(keys).build()?;
    /// # let _default = tracing_subscriber::registry().with(layer).set_default();
    /// assert!(tracing::info_span!("answer").ticket().is_ok());
    /// # _telemetry.shutdown_within(std::time::Duration::ZERO).ok(); // there is no collector
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_ticket_keys(mut self, keys: TicketKeys) -> Self {
        self.ticket_keys = Some(keys);
        self
    }

    /// How much feedback one ticket, and one subject, may bring. Default: [`TicketBudget`](crate::TicketBudget)
    /// has them.
    pub fn with_ticket_budget(mut self, budget: crate::TicketBudget) -> Self {
        self.ticket_accounts = TicketAccounts::new(budget);
        self
    }
}

/// The outbox, for spans that can't be delivered.
#[cfg(feature = "outbox")]
impl Builder {
    /// Keeps spans that can't be delivered on disk, and delivers them later: a *persistent queue*. Takes a
    /// directory, or [`OutboxOptions`]. Default: `FEEDBACK_OUTBOX_DIR` with the policy of
    /// `FEEDBACK_OUTBOX_POLICY` (`spill`, `write_ahead`), then no outbox: spans that can't be delivered
    /// within the timeout of a request are dropped and counted.
    ///
    /// Processes may share a directory; the spans that one process leaves behind are sent by the others.
    /// The directory is made for its owner alone (0700, files 0600), since it holds personal data.
    ///
    /// - [`OutboxPolicy::Spill`](crate::OutboxPolicy::Spill) costs nothing while the collector is
    ///   reachable.
    /// - [`OutboxPolicy::WriteAhead`](crate::OutboxPolicy::WriteAhead) writes every enrichment to disk
    ///   when it is made. The parent of its span is fixed from then on, so call `set_parent` before.
    ///
    /// With an outbox, [`Telemetry::flush`] returns `Ok` when every span has reached the collector *or the
    /// disk*, and with `WriteAhead` the feedback routes answer 204 when the feedback is on disk.
    /// [`Stats::outbox_spans`](crate::Stats::outbox_spans) counts the spans that wait there. Spans that the
    /// collector rejects permanently (400, `INVALID_ARGUMENT`) stay in the directory `rejected`, with the
    /// reason; a request that fails because of its sender (401, 404, `UNIMPLEMENTED`) or of the collector
    /// (500) is sent again.
    ///
    /// ```
    /// # #[cfg(all(feature = "collector", feature = "grpc"))] {
    /// # use tracing_subscriber::prelude::*;
    /// use std::time::Duration;
    /// use tracing_feedback::{collector::Collector, enrich_span};
    ///
    /// # let directory = std::env::temp_dir().join(format!("outbox-doc-{}", std::process::id()));
    /// let builder = || tracing_feedback::builder().with_outbox(directory.as_path());
    /// let (layer, telemetry) = builder()
    ///     .with_endpoint("http://127.0.0.1:9") // nothing listens there
    ///     .with_timeout(Duration::from_millis(50))
    ///     .build()?;
    /// tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
    ///     tracing::info_span!("answer").in_scope(|| enrich_span!(feedback = { "rating": 5 }));
    /// });
    /// telemetry.shutdown()?; // it is on disk
    ///
    /// let collector = Collector::start()?;
    /// let (_layer, telemetry) = builder().with_endpoint(collector.endpoint()).build()?;
    /// let spans = collector.wait_for_spans(1, Duration::from_secs(30))?;
    /// assert_eq!(spans[0].attributes["feedback.rating"], 5);
    /// # telemetry.shutdown()?;
    /// # std::fs::remove_dir_all(directory)?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_outbox(mut self, outbox: impl Into<OutboxOptions>) -> Self {
        self.outbox = Some(outbox.into());
        self
    }
}

/// Batches and the export queue.
impl Builder {
    /// How long a span waits for its export at most. Default: `OTEL_BSP_SCHEDULE_DELAY`, then 5 s.
    pub fn with_schedule_delay(mut self, delay: Duration) -> Self {
        self.schedule_delay = Some(delay);
        self
    }

    /// How many spans one batch may hold. Default: `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, then as many as
    /// fit into 2 MiB, and 512 through an SDK exporter.
    pub fn with_max_export_batch_size(mut self, spans: usize) -> Self {
        self.batch_spans = Some(spans.max(1));
        self
    }

    /// How many spans the queue may hold. Default: `OTEL_BSP_MAX_QUEUE_SIZE`, then any number.
    pub fn with_max_queue_size(mut self, spans: usize) -> Self {
        self.queue_spans = Some(spans.max(1));
        self
    }

    /// How many bytes of spans the queue may hold, approximately. Default: 44 MiB. Spans that don't fit
    /// are dropped and counted, spans without feedback first.
    pub fn with_max_queue_bytes(mut self, bytes: usize) -> Self {
        self.batching.queue_bytes = bytes.max(1);
        self
    }

    /// How long the export of one batch may take, its retries included; zero is no limit. Default:
    /// `OTEL_BSP_EXPORT_TIMEOUT`, then 30 s for an exporter of your own.
    ///
    /// OTLP has a [timeout](Self::with_timeout) of its own, 10 s by default: the shorter of the two applies.
    pub fn with_export_timeout(mut self, timeout: Duration) -> Self {
        self.export_timeout = Some(timeout);
        self
    }
}

impl Builder {
    /// Builds the layer, and the handle that flushes, shuts down and counts. Starts the export
    /// thread, and touches nothing global.
    ///
    /// # Errors
    ///
    /// The settings can't be applied: see [`BuildError`]. Malformed variables of the environment are
    /// skipped with a warning, as soon as the layer is part of a subscriber, unless [`with_strict_env`](Self::with_strict_env) is on.
    pub fn build(self) -> Result<(FeedbackLayer, Telemetry), BuildError> {
        self.assemble(Environment::read())
    }

    /// As [`build`](Self::build), without the variables of the environment.
    pub(crate) fn build_without_env(self) -> Result<(FeedbackLayer, Telemetry), BuildError> {
        self.assemble(Environment::default())
    }

    /// Builds a span processor around `processor`, for a service that keeps its tracer provider: what is
    /// attached to the provider's spans is on them when `processor` gets them. Returns it with the handle.
    ///
    /// The service's `tracing-opentelemetry` layer, its provider, exporter and middleware stay as they
    /// are. Without a layer of this crate around the caller, [`enrich_span!`](crate::enrich_span) and
    /// [`enrich_session!`](crate::enrich_session) are about the active span of the OpenTelemetry API, if
    /// it is of the provider that has this processor, [`ticket`](crate::ticket()) is for it, and so on.
    /// `span = &span` finds a `tracing` span with the feature `tracing-opentelemetry`.
    ///
    /// Carriers go to `processor`, and so arrive where the spans arrive, with the provider's resource. Where
    /// this builder is given an exporter, an endpoint or an outbox, they go there instead. The settings of
    /// capture (sampler, id generator, span processors, location and so on) are the provider's, so those of
    /// this builder have no effect; redaction is applied to everything the provider's spans carry.
    ///
    /// Give a provider one such processor, around all that are to have the feedback: of several, only the one
    /// that was built last gets it. A process may have several providers. A span that isn't recorded, or has
    /// ended, doesn't say which one it is of: feedback on it is sent by the last one that the calling thread
    /// had an open span of, or else by the newest.
    ///
    /// `flush`, `shutdown` and `stats` of the handle include `processor`. Dropping the handle leaves
    /// `processor` to its provider.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    ///
    /// ```
    /// use opentelemetry::trace::{Tracer, TracerProvider};
    /// use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor};
    /// use tracing_feedback::enrich_span;
    /// use tracing_subscriber::prelude::*;
    ///
    /// let exporter = InMemorySpanExporter::default(); // or any other
    /// let (processor, telemetry) =
    ///     tracing_feedback::builder().build_around(SimpleSpanProcessor::new(exporter.clone()))?;
    /// let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    /// let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("chat"));
    ///
    /// tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
    ///     tracing::info_span!("answer").in_scope(|| {
    ///         assert!(enrich_span!(feedback = { "rating": true }).is_ok());
    ///     });
    /// });
    /// let spans = exporter.get_finished_spans()?;
    /// assert!(spans[0].attributes.iter().any(|kv| kv.key.as_str() == "feedback.rating"));
    /// telemetry.shutdown()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build_around(
        mut self,
        processor: impl AnySpanProcessor,
    ) -> Result<(EnrichingSpanProcessor, Telemetry), BuildError> {
        let environment = Environment::read();
        let wrapped = Wrapped::new(Box::new(processor));
        if !self.has_way_out(&environment) {
            let hand_over = wrapped.clone();
            self.exporter = Some(Box::new(move |_, _, _| {
                Ok(Box::new(ProcessorSink::new(move |span| hand_over.hand_over(span))))
            }));
        }
        self.span_processors.clear();
        let core = self.assemble_core(environment)?.with_wrapped(wrapped.clone());
        let core = Arc::new(core);
        Ok((EnrichingSpanProcessor::new(core.clone(), wrapped), Telemetry::new(core)))
    }

    /// Whether the builder is given something to export to.
    fn has_way_out(&self, environment: &Environment) -> bool {
        #[cfg(feature = "_otlp")]
        let has_endpoint = self.otlp.endpoint.is_some();
        #[cfg(not(feature = "_otlp"))]
        let has_endpoint = false;
        self.exporter.is_some() || has_endpoint || outbox::is_configured(&self.outbox, environment)
    }

    /// As [`build`](Self::build), for the given environment.
    pub(super) fn assemble(
        self,
        environment: Environment,
    ) -> Result<(FeedbackLayer, Telemetry), BuildError> {
        let core = Arc::new(self.assemble_core(environment)?);
        Ok((FeedbackLayer::new(core.clone()), Telemetry::new(core)))
    }

    fn assemble_core(mut self, mut environment: Environment) -> Result<LayerCore, BuildError> {
        let limits = self.limits(&environment);
        self.settings.span_limits = limits;
        self.settings.value_characters =
            environment.attribute_value_length_limit.map(|characters| characters as usize);
        if let Some(formats) = &environment.propagators {
            self.settings.formats = Formats {
                trace_context: formats.contains(&Propagator::TraceContext),
                baggage: formats.contains(&Propagator::Baggage),
            };
        }
        let ticket_keys = self.ticket_keys.take().or(environment.ticket_keys.take());
        let tickets = (ticket_keys.unwrap_or_default(), std::mem::take(&mut self.ticket_accounts));
        let resource = self.resource(&environment);
        let sampling = self.sampling.take().unwrap_or_else(|| match environment.sampler.take() {
            Some(sampler) => Sampling::from_sampler(sampler),
            None => Sampling::default(),
        });
        let scope = self.scope.take().unwrap_or_else(|| {
            InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
                .with_version(env!("CARGO_PKG_VERSION"))
                .build()
        });
        let scope = Arc::new(scope);
        let processors = std::mem::take(&mut self.span_processors);
        let processors = (!processors.is_empty() && environment.sdk_disabled != Some(true))
            .then(|| SpanProcessors::new(processors, &resource, &scope))
            .map(|processors| -> Box<dyn ProcessSpans> { Box::new(processors) });
        let (pipeline, events) = match environment.sdk_disabled {
            Some(true) => (None, None),
            _ => {
                let (spans, events) = self.start_pipelines(&mut environment, resource, scope)?;
                (Some(spans), events)
            }
        };
        let mut issues = Vec::new();
        for issue in std::mem::take(&mut environment.issues) {
            // A general variable counts for two signals.
            if !issues.contains(&issue) {
                issues.push(issue);
            }
        }
        if let Some(issue) = issues.first().filter(|_| self.strict_env) {
            let EnvironmentIssue { variable, value, reason } = issue.clone();
            return Err(BuildError::Environment { variable, value, reason });
        }
        self.settings.environment_issues = issues;
        let core = LayerCore::new(self.settings, sampling, self.ids, tickets, pipeline);
        Ok(core.with_events(events).with_processors(processors))
    }

    fn limits(&self, environment: &Environment) -> SpanLimits {
        if let Some(limits) = self.span_limits {
            return limits;
        }
        let mut limits = SpanLimits::default();
        let variables = [
            (&mut limits.max_attributes_per_span, environment.span_attribute_count_limit),
            (&mut limits.max_events_per_span, environment.span_event_count_limit),
            (&mut limits.max_links_per_span, environment.span_link_count_limit),
            (&mut limits.max_attributes_per_event, environment.event_attribute_count_limit),
            (&mut limits.max_attributes_per_link, environment.link_attribute_count_limit),
        ];
        for (limit, variable) in variables {
            *limit = variable.unwrap_or(*limit);
        }
        limits
    }

    /// The resource. For each attribute, the code wins over the environment, and that over the default.
    fn resource(&mut self, environment: &Environment) -> Resource {
        let mut attributes = vec![
            KeyValue::new("service.name", "unknown_service"),
            KeyValue::new("telemetry.distro.name", env!("CARGO_PKG_NAME")),
            KeyValue::new("telemetry.distro.version", env!("CARGO_PKG_VERSION")),
        ];
        // Name, language and version of the SDK, from its own detector.
        let sdk = TelemetryResourceDetector.detect();
        attributes.extend(sdk.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())));
        attributes.extend(environment.resource_attributes.iter().flatten().cloned());
        if let Some(name) = &environment.service_name {
            attributes.push(KeyValue::new("service.name", name.clone()));
        }
        let mut schema_url = None;
        if let Some(resource) = self.resource.take() {
            schema_url = resource.schema_url().map(str::to_owned);
            let of_code = resource.iter();
            attributes
                .extend(of_code.map(|(key, value)| KeyValue::new(key.clone(), value.clone())));
        }
        if let Some(name) = self.service_name.take() {
            attributes.push(KeyValue::new("service.name", name));
        }
        match schema_url {
            Some(url) => Resource::builder_empty().with_schema_url(attributes, url).build(),
            None => Resource::builder_empty().with_attributes(attributes).build(),
        }
    }

    /// Starts the pipeline of spans, and that of log records if events are emitted.
    fn start_pipelines(
        &mut self,
        environment: &mut Environment,
        resource: Resource,
        scope: Arc<InstrumentationScope>,
    ) -> Result<(Pipeline, Option<Pipeline>), BuildError> {
        let mut batching = self.batching.clone();
        batching.queue_spans = self.queue_spans.or(environment.bsp_max_queue_size);
        batching.batch_spans = self.batch_spans.or(environment.bsp_max_export_batch_size);
        // A batch takes at most half the queue, so that a small queue is exported before it is full.
        let half = (batching.queue_bytes / 2).max(1);
        batching.batch_bytes = batching.batch_bytes.min(half);
        batching.delay =
            self.schedule_delay.or(environment.bsp_schedule_delay).unwrap_or(batching.delay);
        batching.held = (self.settings.keep == Keep::TracesWithFeedback).then_some(
            tail_buffer::TailBufferLimits {
                spans: self.keep_limits.max_spans,
                bytes: self.keep_limits.max_bytes,
                age: self.keep_limits.max_age,
                grace: self.keep_limits.grace_period,
            },
        );
        let timeout = self.export_timeout.or(environment.bsp_export_timeout);
        // Zero is no limit, as in the configuration model of the OpenTelemetry SDKs.
        let timeout = timeout.map(|limit| if limit.is_zero() { Duration::MAX } else { limit });
        let make_log_sink = self.make_log_sink(environment, timeout)?;
        let (make_sink, supports_outbox) = self.make_sink(environment, timeout)?;
        let timeout = timeout.unwrap_or(Duration::from_secs(30));
        let has_events = make_log_sink.is_some();
        let outbox = self.outbox.take();
        let [of_spans, of_logs] =
            outbox::open(outbox, environment, supports_outbox, has_events, &resource, &scope)?;
        let start = |signal, batching, make_sink: MakeSink, outbox: Option<Arc<Outbox>>| {
            let (scope, resource) = (scope.clone(), resource.clone());
            let of_sink = outbox.clone();
            let make_sink = move || make_sink(&resource, timeout, of_sink);
            let counters = Arc::new(Counters::default());
            Pipeline::start(
                signal,
                batching,
                scope,
                counters,
                outbox,
                make_sink,
                BuildError::Thread,
            )
        };
        let of_events = batching.of_log_records();
        let spans = start(Signal::Traces, batching, make_sink, of_spans)?;
        let events = make_log_sink
            .map(|make_sink| start(Signal::Logs, of_events, make_sink, of_logs))
            .transpose()?;
        Ok((spans, events))
    }

    /// Returns the function that makes the sink for log records; `None` if no events are emitted.
    fn make_log_sink(
        &mut self,
        environment: &mut Environment,
        export_timeout: Option<Duration>,
    ) -> Result<Option<MakeSink>, BuildError> {
        if self.events.or(environment.events).unwrap_or_default() == Events::None {
            return Ok(None);
        }
        match self.otlp_log_sink(environment, export_timeout) {
            Ok(make_sink) => Ok(Some(make_sink)),
            Err(error @ BuildError::EventsWithoutOtlp) if self.events.is_none() => {
                let reason = format!("can't be used: {error}");
                environment.issues.push(EnvironmentIssue::new(EVENTS, "genai", reason));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(feature = "_otlp")]
    fn otlp_log_sink(
        &mut self,
        environment: &mut Environment,
        export_timeout: Option<Duration>,
    ) -> Result<MakeSink, BuildError> {
        use TracesExporter::{Console, None as NoExporter};

        let mut options = self.otlp.clone();
        options.endpoint = self.events_endpoint.take().or(options.endpoint);
        let has_endpoint = options.endpoint.is_some() || environment.otlp_logs.0.has_endpoint();
        let is_otlp = self.exporter.is_none()
            && !matches!(environment.traces_exporter, Some(Console | NoExporter));
        if !is_otlp && !has_endpoint {
            return Err(BuildError::EventsWithoutOtlp);
        }
        environment.issues.append(&mut environment.otlp_logs.1);
        let config = OtlpConfig::resolve(Signal::Logs, &options, environment, export_timeout)?;
        Ok(Box::new(move |resource, _, outbox| Ok(config.sink(runtime()?, resource, outbox)?)))
    }

    #[cfg(not(feature = "_otlp"))]
    fn otlp_log_sink(
        &mut self,
        _: &mut Environment,
        _: Option<Duration>,
    ) -> Result<MakeSink, BuildError> {
        Err(BuildError::EventsWithoutOtlp)
    }

    /// Returns the function that makes the sink, and whether that sink can send spans from an outbox.
    fn make_sink(
        &mut self,
        environment: &mut Environment,
        export_timeout: Option<Duration>,
    ) -> Result<(MakeSink, bool), BuildError> {
        if let Some(exporter) = self.exporter.take() {
            return Ok((exporter, false));
        }
        match environment.traces_exporter {
            Some(TracesExporter::None) => {
                Ok((Box::new(|_, _, _| Ok(Box::new(DiscardSink))), false))
            }
            #[cfg(feature = "console")]
            Some(TracesExporter::Console) => {
                let make: MakeSink = Box::new(|resource, timeout, _| {
                    let exporter = opentelemetry_stdout::SpanExporter::default();
                    exporter_sink(resource, timeout, exporter)
                });
                Ok((make, false))
            }
            _ => self.otlp_sink(environment, export_timeout),
        }
    }

    #[cfg(feature = "_otlp")]
    fn otlp_sink(
        &mut self,
        environment: &mut Environment,
        export_timeout: Option<Duration>,
    ) -> Result<(MakeSink, bool), BuildError> {
        let config = OtlpConfig::resolve(Signal::Traces, &self.otlp, environment, export_timeout)?;
        let supports_outbox = config.supports_outbox();
        let make: MakeSink =
            Box::new(move |resource, _, outbox| Ok(config.sink(runtime()?, resource, outbox)?));
        Ok((make, supports_outbox))
    }

    #[cfg(not(feature = "_otlp"))]
    fn otlp_sink(
        &mut self,
        _: &mut Environment,
        _: Option<Duration>,
    ) -> Result<(MakeSink, bool), BuildError> {
        Err(BuildError::NoExporter)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("service_name", &self.service_name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn exporter_sink<E: SpanExporter + 'static>(
    resource: &Resource,
    timeout: Duration,
    exporter: E,
) -> Result<Box<dyn Sink>, BuildError> {
    let make = || Ok::<_, BuildError>(exporter);
    Ok(Box::new(ExporterSink::new(runtime()?, resource, timeout, make)?))
}

/// Makes the runtime that drives connections and timers for the export thread.
fn runtime() -> Result<tokio::runtime::Runtime, BuildError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("tracing-feedback-io")
        .on_thread_start(suppress::mark_this_thread)
        .enable_all()
        .build()
        .map_err(BuildError::Thread)
}
