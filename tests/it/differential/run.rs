//! Runs a program under one of the layers.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, ContextGuard, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider,
    ShouldSample, Span, SpanData, SpanProcessor,
};
use tracing::Dispatch;
use tracing::field::{DebugValue, Empty, debug};
use tracing::span::EnteredSpan;
use tracing_subscriber::prelude::*;

use super::program::{
    Action, Change, From, Level, Parent, Program, SamplerKind, Shape, SpanFields, Step, THREADS,
    Value,
};

/// What a program did: the spans that arrived, and what it saw meanwhile.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) spans: Vec<SpanData>,
    pub(super) seen: Vec<Seen>,
    /// By span: how often its status was set, and whether its name or kind was recorded late.
    pub(super) notes: Vec<Notes>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    pub(super) statuses: u32,
    pub(super) is_named_late: bool,
}

/// Something that a program saw.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// Headers of a request, and the value in its context.
    Injected { headers: HashMap<String, String>, tag: Option<u8> },
    /// Whether a call had an effect.
    Did(bool),
}

/// One of the layers, with its extension trait.
pub(super) trait Side {
    fn set_parent(span: &tracing::Span, context: Context) -> bool;
    fn context(span: &tracing::Span) -> Context;
    fn set_attribute(span: &tracing::Span, key: &'static str, value: i64);
    fn add_event(span: &tracing::Span, name: &'static str);
    fn add_link(span: &tracing::Span, target: SpanContext);
    fn set_status(span: &tracing::Span, status: Status);
    /// The context that a request of the caller is made in.
    fn current(activation: bool) -> Context;
    fn run(program: &Program) -> Outcome
    where
        Self: Sized;
}

pub(super) struct Ours;

pub(super) struct Theirs;

impl Side for Ours {
    fn set_parent(span: &tracing::Span, context: Context) -> bool {
        tracing_feedback::SpanExt::set_parent(span, context).is_ok()
    }

    fn context(span: &tracing::Span) -> Context {
        tracing_feedback::SpanExt::context(span).unwrap()
    }

    fn set_attribute(span: &tracing::Span, key: &'static str, value: i64) {
        let _ = tracing_feedback::SpanExt::set_attribute(span, key, value);
    }

    fn add_event(span: &tracing::Span, name: &'static str) {
        let _ = tracing_feedback::SpanExt::add_event(span, name, vec![KeyValue::new("ext", 1)]);
    }

    fn add_link(span: &tracing::Span, target: SpanContext) {
        let _ = tracing_feedback::SpanExt::add_link(span, target);
    }

    fn set_status(span: &tracing::Span, status: Status) {
        let _ = tracing_feedback::SpanExt::set_status(span, status);
    }

    fn current(activation: bool) -> Context {
        let mut headers = HashMap::new();
        tracing_feedback::propagation::inject(&mut headers);
        let context = tracing_feedback::propagation::extract(&headers);
        // Typed values aren't in headers.
        let span = tracing::Span::current();
        let of_caller = match activation || span.is_none() {
            true => Context::current(),
            false => Self::context(&span),
        };
        let tag = of_caller.get::<Tag>().copied();
        tag.map_or(context.clone(), |tag| context.with_value(tag))
    }

    fn run(program: &Program) -> Outcome {
        let exporter = InMemorySpanExporter::default();
        let [fields, records, status, exceptions] = program.conventions;
        let mut builder = tracing_feedback::builder()
            .with_exporter(exporter.clone())
            .with_location(program.is_full)
            .with_threads(program.is_full)
            .with_target(program.is_full)
            .with_level(program.is_full)
            .with_tracked_inactivity(program.is_full)
            .with_context_activation(program.activation)
            .with_error_fields_to_exceptions(fields)
            .with_error_records_to_exceptions(records)
            .with_error_events_to_status(status)
            .with_error_events_to_exceptions(exceptions);
        if program.has_processor {
            builder = builder.with_span_processor(BaggageToAttributes);
        }
        if program.sampler != SamplerKind::Default {
            builder = builder.with_sampler(sampler(program.sampler));
        }
        let (layer, telemetry) = builder.build().unwrap();
        let provider = SdkTracerProvider::builder().with_sampler(sampler(program.sampler));
        let provider = match program.has_processor {
            true => provider.with_span_processor(BaggageToAttributes),
            false => provider,
        };
        let provider = provider.with_span_processor(telemetry.span_processor()).build();
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        let (seen, notes) = execute::<Self>(program, &dispatch, &provider.tracer("sdk"));
        telemetry.flush().unwrap();
        let spans = exporter.get_finished_spans().unwrap();
        Outcome { spans, seen, notes }
    }
}

impl Side for Theirs {
    fn set_parent(span: &tracing::Span, context: Context) -> bool {
        tracing_opentelemetry::OpenTelemetrySpanExt::set_parent(span, context).is_ok()
    }

    fn context(span: &tracing::Span) -> Context {
        tracing_opentelemetry::OpenTelemetrySpanExt::context(span)
    }

    fn set_attribute(span: &tracing::Span, key: &'static str, value: i64) {
        tracing_opentelemetry::OpenTelemetrySpanExt::set_attribute(span, key, value);
    }

    fn add_event(span: &tracing::Span, name: &'static str) {
        let attributes = vec![KeyValue::new("ext", 1)];
        tracing_opentelemetry::OpenTelemetrySpanExt::add_event(span, name, attributes);
    }

    fn add_link(span: &tracing::Span, target: SpanContext) {
        tracing_opentelemetry::OpenTelemetrySpanExt::add_link(span, target);
    }

    fn set_status(span: &tracing::Span, status: Status) {
        tracing_opentelemetry::OpenTelemetrySpanExt::set_status(span, status);
    }

    fn current(activation: bool) -> Context {
        let span = tracing::Span::current();
        match activation || span.is_none() {
            true => Context::current(),
            false => Self::context(&span),
        }
    }

    fn run(program: &Program) -> Outcome {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_sampler(sampler(program.sampler));
        let provider = match program.has_processor {
            true => provider.with_span_processor(BaggageToAttributes),
            false => provider,
        };
        let provider = provider.with_simple_exporter(exporter.clone()).build();
        let [fields, records, status, exceptions] = program.conventions;
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("layer"))
            .with_location(program.is_full)
            .with_threads(program.is_full)
            .with_target(program.is_full)
            .with_level(program.is_full)
            .with_tracked_inactivity(program.is_full)
            .with_context_activation(program.activation)
            .with_error_fields_to_exceptions(fields)
            .with_error_records_to_exceptions(records)
            .with_error_events_to_status(status)
            .with_error_events_to_exceptions(exceptions);
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        let (seen, notes) = execute::<Self>(program, &dispatch, &provider.tracer("sdk"));
        provider.force_flush().unwrap();
        let spans = exporter.get_finished_spans().unwrap();
        Outcome { spans, seen, notes }
    }
}

fn sampler(kind: SamplerKind) -> Box<dyn ShouldSample> {
    Box::new(match kind {
        SamplerKind::Default | SamplerKind::ParentBased => {
            Sampler::ParentBased(Box::new(Sampler::AlwaysOn))
        }
        SamplerKind::AlwaysOn => Sampler::AlwaysOn,
        SamplerKind::AlwaysOff => Sampler::AlwaysOff,
        SamplerKind::ParentBasedOff => Sampler::ParentBased(Box::new(Sampler::AlwaysOff)),
        SamplerKind::ByName => return Box::new(ByName),
    })
}

#[derive(Clone, Debug)]
struct ByName;

impl ShouldSample for ByName {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parent = parent.unwrap();
        let has_number = attributes.iter().any(|attribute| attribute.key.as_str() == "number");
        let saw = format!(
            "{name} {kind:?} {has_number} {} links {} baggage {:?} tag",
            links.len(),
            parent.baggage().len(),
            parent.get::<Tag>()
        );
        SamplingResult {
            decision: match name {
                "name 1" => SamplingDecision::Drop,
                _ => SamplingDecision::RecordAndSample,
            },
            attributes: vec![KeyValue::new("sampler", saw)],
            trace_state: parent.span().span_context().trace_state().clone(),
        }
    }
}

/// Puts what a span's parent knows on the span, when it starts.
#[derive(Debug)]
struct BaggageToAttributes;

impl SpanProcessor for BaggageToAttributes {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        for (key, (value, _)) in parent.baggage() {
            span.set_attribute(KeyValue::new(format!("baggage.{key}"), value.clone()));
        }
        let parent = parent.span().span_context().clone();
        let was = span.exported_data().unwrap();
        let keys: BTreeSet<_> = was.attributes.iter().map(|attribute| &attribute.key).collect();
        let started = format!(
            "{} {} {} events, remote {}, same trace {}",
            was.name,
            keys.len(),
            was.events.len(),
            parent.is_remote(),
            parent.trace_id() == span.span_context().trace_id()
        );
        span.set_attribute(KeyValue::new("number", 17));
        span.add_event("started", vec![KeyValue::new("as", started)]);
        if parent.is_valid() {
            span.add_link(parent, vec![]);
        }
    }

    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A typed value of a context.
#[derive(Clone, Copy, Debug)]
struct Tag(u8);

#[derive(Debug)]
struct Failure(u8);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failure {}", self.0)
    }
}

impl std::error::Error for Failure {}

static FAILURES: [Failure; 3] = [Failure(0), Failure(1), Failure(2)];

fn failure(number: u8) -> &'static (dyn std::error::Error + 'static) {
    &FAILURES[usize::from(number)]
}

const TEXTS: [&str; 3] = ["text 0", "text 1", "text 2"];
const NAMES: [&str; 3] = ["name 0", "name 1", "name 2"];
const KINDS: [&str; 3] = ["server", "CLIENT", "consumer"];
const CODES: [&str; 3] = ["ok", "ERROR", "unset"];
const SESSIONS: [&str; 3] = ["two words", "a;b", ""];

fn status(number: u8) -> Status {
    match number {
        0 => Status::Ok,
        1 => Status::error("error 1"),
        2 => Status::error("error 2"),
        _ => Status::Unset,
    }
}

pub(super) fn remote(number: u8, sampled: bool) -> SpanContext {
    let state = match number {
        0 => TraceState::NONE,
        _ => TraceState::from_key_value([("vendor", number.to_string())]).unwrap(),
    };
    let flags = TraceFlags::default().with_sampled(sampled);
    let number = u64::from(number) + 0xa0;
    SpanContext::new(TraceId::from(u128::from(number)), SpanId::from(number), flags, true, state)
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    /// By number: the handles of each span.
    spans: Vec<Vec<tracing::Span>>,
    contexts: Vec<Context>,
    seen: Vec<Seen>,
    notes: Vec<Notes>,
    sdk_spans: i64,
}

impl Shared {
    /// The number of a span that has a handle, counted from the last one.
    fn span(&self, number: usize) -> Option<(usize, tracing::Span)> {
        let open: Vec<_> =
            (0..self.spans.len()).rev().filter(|n| !self.spans[*n].is_empty()).collect();
        let number = *open.get(number % open.len().max(1))?;
        Some((number, self.spans[number][0].clone()))
    }

    fn context(&self, number: usize) -> Option<Context> {
        let contexts = self.contexts.len();
        self.contexts.get(contexts.checked_sub(1 + number % contexts.max(1))?).cloned()
    }
}

/// What one thread has.
#[derive(Default)]
struct Local {
    entered: Vec<EnteredSpan>,
    attached: Vec<ContextGuard>,
}

type Job = Box<dyn FnOnce(&mut Local) + Send>;

fn execute<S: Side>(
    program: &Program,
    dispatch: &Dispatch,
    tracer: &SdkTracer,
) -> (Vec<Seen>, Vec<Notes>) {
    let shared = Arc::new(Mutex::new(Shared::default()));
    thread::scope(|scope| {
        let workers: Vec<(Sender<Job>, _)> = (0..THREADS)
            .map(|_| {
                let (send, jobs) = channel::<Job>();
                let work = move || {
                    let mut local = Local::default();
                    jobs.into_iter().for_each(|job| job(&mut local));
                };
                let worker = scope.spawn(|| tracing::dispatcher::with_default(dispatch, work));
                (send, worker)
            })
            .collect();
        let on = |thread: usize, job: Job| {
            let (done, is_done) = channel();
            let job: Job = Box::new(move |local| {
                job(local);
                done.send(()).unwrap();
            });
            workers[thread].0.send(job).unwrap();
            is_done.recv().expect("a step panicked");
        };
        for Step { thread, action } in program.steps.clone() {
            let (shared, tracer) = (shared.clone(), tracer.clone());
            let activation = program.activation;
            on(
                thread,
                Box::new(move |local| act::<S>(action, activation, local, &shared, &tracer)),
            );
        }
        for thread in 0..THREADS {
            on(thread, Box::new(|local| while local.entered.pop().is_some() {}));
            on(thread, Box::new(|local| while local.attached.pop().is_some() {}));
        }
        let last = shared.clone();
        on(
            0,
            Box::new(move |_| {
                let mut shared = last.lock().unwrap();
                let (spans, contexts) =
                    (std::mem::take(&mut shared.spans), std::mem::take(&mut shared.contexts));
                drop(shared);
                drop((spans, contexts));
            }),
        );
        for (send, worker) in workers {
            drop(send);
            worker.join().unwrap();
        }
    });
    let mut shared = shared.lock().unwrap();
    (std::mem::take(&mut shared.seen), std::mem::take(&mut shared.notes))
}

fn act<S: Side>(
    action: Action,
    activation: bool,
    local: &mut Local,
    shared: &Mutex<Shared>,
    tracer: &SdkTracer,
) {
    let shared = &mut *shared.lock().unwrap();
    match action {
        Action::Create { parent, fields } => {
            let number = shared.spans.len();
            let Some(span) = create(shared, number, parent, fields) else { return };
            shared.spans.push(vec![span]);
            let statuses = u32::from(fields.status_code.is_some());
            shared.notes.push(Notes { statuses, is_named_late: false });
        }
        Action::Enter(number) => {
            let Some((_, span)) = shared.span(number) else { return };
            local.entered.push(span.entered());
        }
        Action::Exit(number) => {
            if let Some(at) = last(local.entered.len(), number) {
                drop(local.entered.remove(at));
            }
        }
        Action::Clone(number) => {
            let Some((number, span)) = shared.span(number) else { return };
            shared.spans[number].push(span);
        }
        Action::Drop(number) => {
            let Some((number, span)) = shared.span(number) else { return };
            let handle = shared.spans[number].pop();
            drop((span, handle));
        }
        Action::Record(number, value) => {
            let Some((number, span)) = shared.span(number) else { return };
            record(&span, value);
            match value {
                Value::StatusCode(_) | Value::StatusDescription(_) => {
                    shared.notes[number].statuses += 1;
                }
                Value::Name(_) | Value::Kind(_) => shared.notes[number].is_named_late = true,
                _ => {}
            }
        }
        Action::Event { parent, level, shape } => event(shared, parent, level, shape),
        Action::FollowsFrom(number, other) => {
            let (Some((at, span)), Some((other_at, other))) =
                (shared.span(number), shared.span(other))
            else {
                return;
            };
            // The old layer locks such a span twice, and waits for ever.
            if at != other_at {
                span.follows_from(&other);
            }
        }
        Action::SetParent(number, context) => {
            let (Some((_, span)), Some(context)) = (shared.span(number), shared.context(context))
            else {
                return;
            };
            shared.seen.push(Seen::Did(S::set_parent(&span, context)));
        }
        Action::Make { from, baggage, tag } => make::<S>(shared, from, baggage, tag),
        Action::Attach(number) => {
            let Some(context) = shared.context(number) else { return };
            // Without a span it would stand between a span and its children: that differs, and a test
            // of its own shows how.
            let is_around = tracing::Span::current().is_none() || context.has_active_span();
            shared.seen.push(Seen::Did(is_around));
            if is_around {
                local.attached.push(context.attach());
            }
        }
        Action::Detach(number) => {
            if let Some(at) = last(local.attached.len(), number) {
                drop(local.attached.remove(at));
            }
        }
        Action::Extension(number, change) => {
            let Some((number, span)) = shared.span(number) else { return };
            match change {
                Change::Attribute(key, value) => {
                    S::set_attribute(&span, TEXTS[usize::from(key)], value);
                }
                Change::Event(name) => S::add_event(&span, NAMES[usize::from(name)]),
                Change::Link(number) => S::add_link(&span, remote(number, true)),
                Change::Status(number_of) => {
                    shared.notes[number].statuses += 1;
                    S::set_status(&span, status(number_of));
                }
                Change::Name(_) | Change::End => {}
            }
        }
        Action::Api(change) => api(shared, &Context::current(), change),
        Action::ApiOf(number, change) => {
            let Some(context) = shared.context(number) else { return };
            api(shared, &context, change);
        }
        Action::InjectSpan(number) => {
            let Some((_, span)) = shared.span(number) else { return };
            inject(shared, &S::context(&span));
        }
        Action::InjectCurrent => inject(shared, &S::current(activation)),
        Action::Sdk => {
            shared.sdk_spans += 1;
            let span = tracer
                .span_builder("sdk")
                .with_attributes([KeyValue::new("id", 1000 + shared.sdk_spans)])
                .start(tracer);
            let context = Context::current_with_span(span);
            shared.contexts.push(context.clone());
            local.attached.push(context.attach());
        }
    }
}

fn last(length: usize, number: usize) -> Option<usize> {
    length.checked_sub(1 + number % length.max(1))
}

fn inject(shared: &mut Shared, context: &Context) {
    let propagator = TextMapCompositePropagator::new(vec![
        Box::new(TraceContextPropagator::new()),
        Box::new(BaggagePropagator::new()),
    ]);
    let mut headers = HashMap::new();
    propagator.inject_context(context, &mut headers);
    let tag = context.get::<Tag>().map(|tag| tag.0);
    shared.seen.push(Seen::Injected { headers, tag });
}

fn make<S: Side>(shared: &mut Shared, from: From, baggage: Option<u8>, tag: Option<u8>) {
    let mut context = match from {
        From::Empty => Context::new(),
        From::Remote { sampled, number } => {
            Context::new().with_remote_span_context(remote(number, sampled))
        }
        From::Current => Context::current(),
        From::Span(number) => match shared.span(number) {
            Some((_, span)) => S::context(&span),
            None => return,
        },
        From::Context(number) => match shared.context(number) {
            Some(context) => context,
            None => return,
        },
    };
    if let Some(baggage) = baggage {
        let member = KeyValue::new(["a", "b", "c"][usize::from(baggage)], i64::from(baggage));
        context = context.with_baggage([member]);
    }
    if let Some(tag) = tag {
        context = context.with_value(Tag(tag));
    }
    shared.contexts.push(context);
}

fn api(shared: &mut Shared, context: &Context, change: Change) {
    let span = context.span();
    match change {
        Change::Attribute(key, value) => {
            span.set_attribute(KeyValue::new(TEXTS[usize::from(key)], value));
        }
        Change::Event(name) => {
            let attributes = vec![KeyValue::new("api", 1)];
            span.add_event_with_timestamp(NAMES[usize::from(name)], SystemTime::now(), attributes);
        }
        Change::Link(number) => span.add_link(remote(number, true), vec![]),
        Change::Status(number) => {
            // Which span it is isn't known here.
            shared.notes.iter_mut().for_each(|notes| notes.statuses += 1);
            span.set_status(status(number));
        }
        Change::Name(name) => span.update_name(format!("updated {name}")),
        Change::End => span.end(),
    }
}

fn create(
    shared: &Shared,
    number: usize,
    parent: Parent,
    fields: SpanFields,
) -> Option<tracing::Span> {
    macro_rules! span {
        ($($parent:tt)*) => {
            tracing::info_span!(
                $($parent)*
                "span",
                id = number as i64,
                number = fields.number,
                unsigned = fields.unsigned,
                text = fields.text.map(|text| TEXTS[usize::from(text)]),
                flag = Empty,
                float = Empty,
                debug = Empty,
                error = fields.error.map(failure),
                otel.name = fields.name.map(|name| NAMES[usize::from(name)]),
                otel.kind = fields.kind.map(|kind| KINDS[usize::from(kind)]),
                otel.status_code = fields.status_code.map(|code| CODES[usize::from(code)]),
                otel.status_description = Empty,
                config.db = fields.config,
                config.db.pool = fields.pool,
                session.id = fields.session.map(|id| SESSIONS[usize::from(id)]),
            )
        };
    }
    Some(match parent {
        Parent::Contextual => span!(),
        Parent::None => span!(parent: None,),
        Parent::Explicit(number) => {
            let (_, parent) = shared.span(number)?;
            span!(parent: &parent,)
        }
    })
}

fn record(span: &tracing::Span, value: Value) {
    let text = |texts: [&'static str; 3], at: u8| texts[usize::from(at)];
    match value {
        Value::Number(number) => span.record("number", number),
        Value::Unsigned(number) => span.record("unsigned", number),
        Value::Text(at) => span.record("text", text(TEXTS, at)),
        Value::Flag(flag) => span.record("flag", flag),
        Value::Float(float) => span.record("float", f64::from(float)),
        Value::Debug(at) => span.record("debug", debug(text(TEXTS, at))),
        Value::Error(at) => span.record("error", failure(at)),
        Value::Name(at) => span.record("otel.name", text(NAMES, at)),
        Value::Kind(at) => span.record("otel.kind", text(KINDS, at)),
        Value::StatusCode(at) => span.record("otel.status_code", text(CODES, at)),
        Value::StatusDescription(at) => span.record("otel.status_description", text(TEXTS, at)),
    };
}

fn event(shared: &mut Shared, parent: Parent, level: Level, shape: Shape) {
    // Which span the event is recorded on is up to the layer, so these are counted for the whole program.
    shared.notes.iter_mut().for_each(|notes| {
        let is_error = matches!(shape, Shape::DisplayedError | Shape::TextError);
        notes.statuses += u32::from(level == Level::Error || is_error);
    });
    macro_rules! shaped {
        ($level:ident, $($parent:tt)*) => {
            match shape {
                Shape::Message => tracing::event!($($parent)* tracing::Level::$level, n = 1, "message"),
                Shape::MessageWithText => {
                    tracing::event!($($parent)* tracing::Level::$level, error = "text", "message")
                }
                Shape::MessageWithError => {
                    tracing::event!($($parent)* tracing::Level::$level, error = failure(0), "message")
                }
                Shape::Fields => {
                    let n: DebugValue<u8> = debug(2);
                    tracing::event!($($parent)* tracing::Level::$level, n, flag = true)
                }
                Shape::DisplayedError => {
                    tracing::event!($($parent)* tracing::Level::$level, error = display(failure(1)))
                }
                Shape::TextError => {
                    tracing::event!($($parent)* tracing::Level::$level, error = "text")
                }
                Shape::ValueError => {
                    tracing::event!($($parent)* tracing::Level::$level, error = failure(2))
                }
            }
        };
    }
    macro_rules! leveled {
        ($($parent:tt)*) => {
            match level {
                Level::Error => shaped!(ERROR, $($parent)*),
                Level::Warn => shaped!(WARN, $($parent)*),
                Level::Info => shaped!(INFO, $($parent)*),
            }
        };
    }
    match parent {
        Parent::Contextual => leveled!(),
        Parent::None => leveled!(parent: None,),
        Parent::Explicit(number) => {
            let Some((_, parent)) = shared.span(number) else { return };
            leveled!(parent: &parent,);
        }
    }
}
