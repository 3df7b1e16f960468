//! The service's span processors, which are called when spans start and end.
//!
//! A processor of the SDK gets a span of the SDK when it starts, which only a tracer of the SDK can
//! make. So for each span a tracer makes one with the same ids, name, attributes, events and links; the
//! processors are called with it, and what they have changed is taken over. When the span ends, they
//! get its data. Without a processor none of this happens.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, TraceId, Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    IdGenerator, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample,
    SpanData, SpanLimits, SpanProcessor,
};

use super::processor_calls::on_each;
use super::{context, visit};
use crate::export::sink::exporter;
use crate::otlp::attributes::ValueRef;
use crate::record::SpanRecord;
use crate::session::SESSION_ID;
use crate::settings::{is_feedback, namespaced};
use crate::span::{LayerCore, ProcessSpans, SpanState, UserPart};
use crate::suppress;
use crate::user_code;

/// The span processors of a layer.
#[derive(Debug)]
pub(crate) struct SpanProcessors {
    processors: Arc<[Box<dyn SpanProcessor>]>,
    /// Makes the spans with which processors are called when a span starts.
    tracer: SdkTracer,
    scope: Arc<InstrumentationScope>,
}

impl SpanProcessors {
    pub(crate) fn new(
        mut processors: Vec<Box<dyn SpanProcessor>>,
        resource: &Resource,
        scope: &Arc<InstrumentationScope>,
    ) -> Self {
        for processor in &mut processors {
            // A processor that panics here is called all the same.
            let _ = user_code::call(|| processor.set_resource(resource));
        }
        // The limits of this layer apply to what is taken over.
        let unlimited = SpanLimits {
            max_attributes_per_span: u32::MAX,
            max_events_per_span: u32::MAX,
            max_links_per_span: u32::MAX,
            max_attributes_per_event: u32::MAX,
            max_attributes_per_link: u32::MAX,
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder_empty().build())
            .with_span_limits(unlimited)
            .with_id_generator(AsDecided)
            .with_sampler(AsDecided)
            .build();
        let tracer = provider.tracer_with_scope(scope.as_ref().clone());
        Self { processors: processors.into(), tracer, scope: scope.clone() }
    }
}

impl ProcessSpans for SpanProcessors {
    fn on_start(&self, state: &SpanState, started: &SpanContext, parent: &Context) {
        let core = state.core();
        if core.is_shut_down() {
            return;
        }
        let data = state.change(|live| {
            let mut data = self.data(&live.record);
            let prefix = core.settings.convention.prefix();
            let leaves = live.documents.own.document.leaves();
            data.attributes.extend(
                leaves.map(|(key, value)| KeyValue::new(format!("{prefix}{key}"), value.clone())),
            );
            let session = live.session.as_ref();
            data.attributes
                .extend(session.map(|session| KeyValue::new(SESSION_ID, session.id().to_owned())));
            data
        });
        let Some(data) = data else { return };
        let builder = SpanBuilder::from_name(data.name)
            .with_kind(data.span_kind)
            .with_start_time(data.start_time)
            .with_attributes(data.attributes)
            .with_events(data.events.events)
            .with_links(data.links.links);
        let made = as_decided(started, || self.tracer.build_with_context(builder, parent));
        let Some(mut span) = made else { return };
        span.set_status(data.status);
        let Some(before) = span.exported_data() else { return };
        for processor in &*self.processors {
            core.call(UserPart::SpanProcessor, || processor.on_start(&mut span, parent));
        }
        // A processor may have ended the span, or put another one in its place.
        if let Some(after) = span.exported_data()
            && after.span_context == before.span_context
        {
            take_over(state, &before, after);
        }
    }

    fn data(&self, record: &SpanRecord) -> SpanData {
        exporter::span_data(record.without_finalizers(), &self.scope)
    }

    fn on_end(&self, core: &LayerCore, span: SpanData) {
        let _suppressed = suppress::scope(); // otherwise a span made there would never end the chain
        if let Some((last, others)) = self.processors.split_last() {
            for processor in others {
                core.call(UserPart::SpanProcessor, || processor.on_end(span.clone()));
            }
            core.call(UserPart::SpanProcessor, || last.on_end(span));
        }
    }

    fn flush(&self, limit: Duration, meanwhile: &mut dyn FnMut()) -> Vec<String> {
        let flushed = on_each(&self.processors, limit, |processor| processor.force_flush());
        meanwhile();
        flushed.failures()
    }

    fn shutdown(&self, limit: Duration, meanwhile: &mut dyn FnMut()) -> Vec<String> {
        let stopped = on_each(&self.processors, limit, move |processor| {
            processor.shutdown_with_timeout(limit)
        });
        meanwhile();
        stopped.failures()
    }
}

/// Takes over what the processors have changed. The SDK's span only ever appends.
fn take_over(state: &SpanState, before: &SpanData, after: SpanData) {
    let core = state.core();
    let convention = core.settings.convention;
    let added = after.attributes.into_iter().skip(before.attributes.len());
    // What is set here isn't what a user thought of the result: it doesn't count as feedback.
    let (feedback, others): (Vec<_>, Vec<_>) = added.partition(|attribute| {
        namespaced(attribute.key.as_str(), convention).is_some_and(is_feedback)
    });
    if !others.is_empty() {
        let fields = visit::otel_fields(core, others);
        state.change(|live| fields.write_to(live, core));
    }
    for KeyValue { key, value, .. } in feedback {
        let Some(bare) = namespaced(key.as_str(), convention) else { continue };
        let value =
            visit::redacted(core, key.as_str(), ValueRef::from(&value), |value| value.to_value());
        let Some(value) = value else { continue };
        let most = core.most_attributes();
        state.change(|live| {
            let dropped = live.documents.set_leaf(bare.to_owned().into(), value, most);
            live.record.count_dropped(dropped);
        });
    }
    for event in after.events.events.into_iter().skip(before.events.events.len()) {
        context::add_event(state, event.name, Some(event.timestamp), event.attributes);
    }
    for link in after.links.links.into_iter().skip(before.links.links.len()) {
        context::add_link(state, link.span_context, link.attributes);
    }
    state.change(|live| {
        if after.name != before.name {
            live.record.details.name = Some(after.name);
        }
        if after.status != before.status {
            live.record.set_status(after.status);
        }
    });
}

thread_local! {
    /// What the next span of a tracer on this thread gets.
    static DECIDED: RefCell<Option<SpanContext>> = const { RefCell::new(None) };
}

/// Calls `make`, in which a tracer makes a span with these ids and this decision. `None` if the thread
/// is ending.
fn as_decided<T>(started: &SpanContext, make: impl FnOnce() -> T) -> Option<T> {
    DECIDED.try_with(|decided| decided.replace(Some(started.clone()))).ok()?;
    let made = make();
    let _ = DECIDED.try_with(|decided| decided.take());
    Some(made)
}

fn decided<T>(of: impl FnOnce(&SpanContext) -> T) -> Option<T> {
    DECIDED.try_with(|decided| decided.borrow().as_ref().map(of)).ok().flatten()
}

/// The id generator and sampler of the tracer, for a span that has its ids and its decision already.
#[derive(Clone, Debug)]
struct AsDecided;

impl IdGenerator for AsDecided {
    fn new_trace_id(&self) -> TraceId {
        decided(SpanContext::trace_id).unwrap_or(TraceId::INVALID)
    }

    fn new_span_id(&self) -> SpanId {
        decided(SpanContext::span_id).unwrap_or(SpanId::INVALID)
    }
}

impl ShouldSample for AsDecided {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let decision = match decided(SpanContext::is_sampled) {
            Some(true) => SamplingDecision::RecordAndSample,
            _ => SamplingDecision::RecordOnly,
        };
        let trace_state = decided(|context| context.trace_state().clone()).unwrap_or_default();
        SamplingResult { decision, attributes: Vec::new(), trace_state }
    }
}
