//! The span processor that brings feedback to the spans of an OpenTelemetry provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use opentelemetry::trace::{Span as _, SpanId, TraceContextExt};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use super::providers::Providers;
use super::wrapped::Wrapped;
use super::{processor, visit};
use crate::clock::Ticks;
use crate::export::FlushError;
use crate::export::sink::{exporter, processor as processor_sink};
use crate::feedback::carrier::{KEPT, SAMPLED};
use crate::feedback::document::Document;
use crate::otlp::attributes::{Attributes, ValueRef};
use crate::session::{SESSION_ID, Session};
use crate::settings::{is_feedback, namespaced};
use crate::span::{LayerCore, OtelSpan, OtelSpans};
use crate::suppress;

/// A `SpanProcessor` around another one: what is attached to the spans of its provider, by
/// [`enrich_span!`](crate::enrich_span) and [`enrich_session!`](crate::enrich_session), is on them when
/// the other one gets them.
///
/// Made by [`Builder::build_around`](crate::Builder::build_around), and given to an `SdkTracerProvider`.
/// The provider, its exporter and its spans stay as they are. The spans may be made by the layer of
/// `tracing-opentelemetry` or through the OpenTelemetry API.
///
/// ```
/// # #[cfg(feature = "collector")] {
/// use opentelemetry::trace::{Tracer, TracerProvider};
/// use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};
/// use tracing_feedback::enrich_span;
/// # use opentelemetry_otlp::WithExportConfig;
/// # let collector = tracing_feedback::collector::Collector::start()?;
/// # let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
/// # let _entered = runtime.enter();
/// # let exporter = opentelemetry_otlp::SpanExporter::builder()
/// #     .with_tonic().with_endpoint(collector.endpoint()).build()?;
///
/// let batch = BatchSpanProcessor::builder(exporter).build();
/// let (processor, telemetry) = tracing_feedback::builder().build_around(batch)?;
/// let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
///
/// provider.tracer("chat").in_span("answer", |_context| {
///     assert!(enrich_span!(feedback = { "rating": true }).is_ok());
/// });
/// telemetry.flush()?;
/// assert_eq!(collector.spans()[0].attributes["feedback.rating"], true);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a processor takes nothing before it is part of a tracer provider"]
pub struct EnrichingSpanProcessor {
    core: Arc<LayerCore>,
    wrapped: Arc<Wrapped>,
    session_lookup: SessionLookup,
}

impl EnrichingSpanProcessor {
    pub(crate) fn new(core: Arc<LayerCore>, wrapped: Arc<Wrapped>) -> Self {
        Providers::add(&core);
        Self { core, wrapped, session_lookup: SessionLookup::default() }
    }

    /// The open spans; `None` if nothing is attached to them any more.
    #[inline]
    fn spans(&self) -> Option<&OtelSpans> {
        let is_active =
            !self.core.is_disabled() && !self.core.is_shut_down() && !self.core.is_off();
        self.core.otel_spans().filter(|_| is_active)
    }

    #[inline]
    fn hand_over(&self, span: SpanData) {
        if let Some(wrapped) = self.wrapped.processor() {
            // The span that ends is locked: looking for the active one would wait for it.
            let _suppressed = suppress::scope();
            wrapped.on_end(span);
        }
    }

    /// Ends a span whose data may have to be changed.
    #[cold]
    fn end_changed(&self, mut span: SpanData, noted: Option<OtelSpan>) {
        if self.core.settings.redaction.is_some() {
            self.redact(&mut span); // enrichments are redacted already
        }
        let mut has_document = false;
        if let Some(noted) = noted
            && (noted.session.is_some() || noted.state.is_some())
        {
            has_document = self.merge(&mut span, noted);
        }
        let changed = match span.span_context.is_sampled() || self.spans().is_none() {
            true => Some(span),
            false => self.end_unsampled(span, has_document),
        };
        changed.into_iter().for_each(|span| self.hand_over(span));
    }

    /// The session that a span begins by its attributes.
    #[cold]
    #[inline(never)]
    fn session_of(&self, span: &Span) -> Option<Session> {
        let data = span.exported_data()?;
        let found = data.attributes.iter().rfind(|found| found.key.as_str() == SESSION_ID);
        self.session_lookup.note(found.is_some());
        let given = ValueRef::from(&found?.value);
        let session =
            Session::with_id(visit::redacted(&self.core, SESSION_ID, given, visit::text)?);
        session.inspect_err(|_| self.core.count_refused("invalid_session_id")).ok()
    }

    /// Puts the documents and the session of a span into its data. Returns whether it carries feedback.
    fn merge(&self, span: &mut SpanData, noted: OtelSpan) -> bool {
        let Some(state) = noted.state else {
            let has_own = span.attributes.iter().any(|other| other.key.as_str() == SESSION_ID);
            if let Some(session) = noted.session.filter(|_| !has_own) {
                span.attributes.push(KeyValue::new(SESSION_ID, session.id().to_owned()));
            }
            return false;
        };
        let convention = self.core.settings.convention;
        let (mut feedback, mut fields) = (Document::<Value>::default(), Attributes::default());
        let is_namespaced = |own: &mut KeyValue| namespaced(own.key.as_str(), convention).is_some();
        for KeyValue { key, value, .. } in span.attributes.extract_if(.., is_namespaced) {
            match namespaced(key.as_str(), convention) {
                Some(bare) if is_feedback(bare) => feedback.set(bare.to_owned(), value),
                _ => fields.set(key.as_str(), ValueRef::from(&value)),
            }
        }
        let session = span.attributes.iter().rfind(|own| own.key.as_str() == SESSION_ID);
        if session.is_some() {
            self.session_lookup.note(true);
        }
        let session = session.map(|own| Session::with_id(visit::text(ValueRef::from(&own.value))));
        let session = session.and_then(Result::ok);
        let Some(record) = state.end_of_otel(feedback, fields, session) else { return false };
        let is_feedback = record.feedback;
        let merged = exporter::span_data(record, &span.instrumentation_scope);
        if merged.attributes.iter().any(|own| own.key.as_str() == SESSION_ID) {
            span.attributes.retain(|other| other.key.as_str() != SESSION_ID);
        }
        let room = self.core.most_attributes().saturating_sub(merged.attributes.len());
        let dropped = span.attributes.len().saturating_sub(room);
        span.attributes.truncate(room);
        span.attributes.extend(merged.attributes);
        let dropped = u32::try_from(dropped).unwrap_or(u32::MAX);
        span.dropped_attributes_count = span
            .dropped_attributes_count
            .saturating_add(merged.dropped_attributes_count)
            .saturating_add(dropped);
        is_feedback
    }

    /// Applies the redaction to everything that the service has recorded on a span.
    #[cold]
    fn redact(&self, span: &mut SpanData) {
        let redact = |attributes: &mut Vec<KeyValue>| {
            attributes.retain_mut(|KeyValue { key, value, .. }| {
                let given = ValueRef::from(&*value);
                let redacted =
                    visit::redacted(&self.core, key.as_str(), given, |value| value.to_value());
                redacted.map(|redacted| *value = redacted).is_some()
            });
        };
        redact(&mut span.attributes);
        span.events.events.iter_mut().for_each(|event| redact(&mut event.attributes));
        span.links.links.iter_mut().for_each(|link| redact(&mut link.attributes));
    }

    /// A recorded span whose trace isn't sampled. Processors export none of them, or all. So one with
    /// feedback gets the flag of a sampled one, and where traces with feedback are kept, any other is held
    /// until feedback arrives. Returns the span for the wrapped processor.
    #[cold]
    fn end_unsampled(&self, mut span: SpanData, has_document: bool) -> Option<SpanData> {
        let (keeps, convention) = (self.core.keeps(), self.core.settings.convention);
        let mut keys = span.attributes.iter().map(|attribute| attribute.key.as_str());
        if has_document || keys.any(|key| namespaced(key, convention).is_some_and(is_feedback)) {
            self.core.keep(span.span_context.trace_id());
            if !has_document {
                span.attributes.push(KeyValue::new(SAMPLED, false));
            }
            span.span_context = processor_sink::sampled(&span.span_context);
        } else if keeps {
            let mut record = processor::record(span, &self.core);
            record.attributes.set(SAMPLED, ValueRef::Bool(false));
            record.attributes.set(KEPT, ValueRef::Bool(true));
            self.core.hold(&mut record, Ticks::now());
            return None;
        }
        Some(span)
    }
}

impl SpanProcessor for EnrichingSpanProcessor {
    #[inline]
    fn on_start(&self, span: &mut Span, parent: &Context) {
        if let Some(wrapped) = self.wrapped.processor() {
            wrapped.on_start(span, parent);
        }
        let Some(spans) = self.spans() else { return };
        Providers::note(&self.core);
        let active = parent.span();
        let around = active.span_context();
        let parent_id = match around.is_remote() {
            true => SpanId::INVALID,
            false => around.span_id(), // invalid as well if there is none
        };
        let in_context = parent.get::<Session>().or(self.core.settings.session.as_ref());
        let own = match self.session_lookup.is_on() {
            true => self.session_of(span),
            false => None,
        };
        spans.start(span.span_context(), parent_id, in_context, own);
    }

    #[inline]
    fn on_end(&self, span: SpanData) {
        let noted = self.core.otel_spans().and_then(|spans| spans.end(&span.span_context));
        self.session_lookup.resume_for(&span);
        if noted.is_some()
            || self.core.settings.redaction.is_some()
            || !span.span_context.is_sampled()
        {
            return self.end_changed(span, noted);
        }
        self.hand_over(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        let limit = Duration::from_secs(5);
        result(self.core.flush(limit))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        result(self.core.shutdown(timeout))
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.wrapped.set_resource(resource);
    }
}

fn result(flushed: Result<(), FlushError>) -> OTelSdkResult {
    flushed.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))
}

impl Drop for EnrichingSpanProcessor {
    /// The provider is gone, and doesn't say when its spans end.
    fn drop(&mut self) {
        if let Some(spans) = self.core.otel_spans() {
            spans.clear();
        }
    }
}

/// Whether a span is looked through for `session.id` when it starts. The SDK gives access to a span's
/// attributes only by copying all of the span, which takes longer than everything else here. So where
/// the first spans have none, no more are looked through, until a span has ended with one.
#[derive(Debug, Default)]
struct SessionLookup(AtomicU32);

impl SessionLookup {
    /// After so many spans without a session no more are looked through.
    const FIRST: u32 = 4096;

    /// The service uses the attribute: every span is looked through.
    const USED: u32 = u32::MAX;

    #[inline]
    fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Self::FIRST
    }

    /// Takes note of a span that was looked through.
    fn note(&self, has_session: bool) {
        let seen = self.0.load(Ordering::Relaxed);
        if has_session {
            self.0.store(Self::USED, Ordering::Relaxed);
        } else if seen < Self::FIRST {
            // Another thread may have found one meanwhile.
            let (old, new) = (seen, seen + 1);
            let _ = self.0.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Looks through one in eight of the spans that end.
    #[inline]
    fn resume_for(&self, span: &SpanData) {
        let is_chosen = || span.span_context.span_id().to_bytes()[7] & 7 == 0;
        if !self.is_on()
            && is_chosen()
            && span.attributes.iter().any(|attribute| attribute.key.as_str() == SESSION_ID)
        {
            self.0.store(Self::USED, Ordering::Relaxed);
        }
    }
}
