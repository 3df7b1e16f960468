//! A day of the plan as spans of the OpenTelemetry API, which take a time.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    Tracer,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::IdGenerator;

use super::DemoError;
use super::plan::{AnswerOutcome, Conversation, Day, Remark, Turn};
use super::random::DemoIds;
use super::service::Service;
use crate::clock::system_time as at;
use crate::{FlushError, Session};

const MILLI: u64 = 1_000_000;

pub(super) struct Services {
    pub(super) old: Service,
    pub(super) new: Service,
    pub(super) evaluator: Service,
}

impl Services {
    fn all(&self) -> [&Service; 3] {
        [&self.old, &self.new, &self.evaluator]
    }

    pub(super) fn flush(&self) -> Result<(), FlushError> {
        self.all().into_iter().try_for_each(Service::flush)
    }

    pub(super) fn sent(&self) -> u64 {
        self.all().into_iter().map(Service::sent).sum()
    }
}

pub(super) fn tell(services: &Services, ids: &DemoIds, day: &Day) -> Result<(), DemoError> {
    let [seed, number] = day.key;
    for (place, conversation) in day.conversations.iter().enumerate() {
        ids.begin([seed, number, place as u64]);
        self::conversation(services, conversation)?;
    }
    ids.begin([seed, number, DemoIds::UNMATCHED]);
    if let Some(remark) = &day.lost {
        let (trace, span) = (ids.new_trace_id(), ids.new_span_id());
        say(&services.old, remark, CarrierTarget::Span(&context(trace, span)), &Context::new());
    }
    if let Some(remark) = &day.adrift {
        say(&services.old, remark, CarrierTarget::Nothing, &Context::new());
    }
    Ok(())
}

fn conversation(services: &Services, conversation: &Conversation) -> Result<(), DemoError> {
    let service = if conversation.is_new { &services.new } else { &services.old };
    let session = Context::new().with_value(Session::with_id(&conversation.session)?);
    let user = KeyValue::new("user.id", conversation.user.clone());
    let spoken = |remark: &Remark| {
        let mut remark = remark.clone();
        if !remark.is_by_evaluator {
            remark.set.push(user.clone());
        }
        remark
    };
    for turn in &conversation.turns {
        let answer = request(service, conversation, turn, &session);
        for remark in &turn.remarks {
            let speaker = if remark.is_by_evaluator { &services.evaluator } else { service };
            say(speaker, &spoken(remark), CarrierTarget::Span(&answer), &session);
        }
    }
    for remark in &conversation.remarks {
        say(service, &spoken(remark), CarrierTarget::Session, &session);
    }
    Ok(())
}

/// One request with all that happens in it.
fn request(
    service: &Service,
    conversation: &Conversation,
    turn: &Turn,
    session: &Context,
) -> SpanContext {
    let tracer = &service.tracer;
    let (start, end) = (turn.start, turn.start + turn.length());
    let status = match turn.outcome {
        AnswerOutcome::NoPassages => 504_i64,
        AnswerOutcome::NoModel => 502,
        AnswerOutcome::Right | AnswerOutcome::Wrong => 200,
    };
    let mut attributes = vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.route", "/chat"),
        KeyValue::new("http.response.status_code", status),
        KeyValue::new("user.id", conversation.user.clone()),
        KeyValue::new("user_properties.user_id", conversation.user.clone()),
        KeyValue::new("user_properties.plan", conversation.plan),
        KeyValue::new("inputs.question", turn.question.clone()),
    ];
    attributes.extend(turn.answer().map(|answer| KeyValue::new("outputs.answer", answer)));
    attributes.extend(turn.own.iter().cloned());
    let root = tracer
        .span_builder("answer")
        .with_kind(SpanKind::Server)
        .with_start_time(at(start))
        .with_attributes(attributes)
        .start_with_context(tracer, session);
    let about = root.span_context().clone();
    let parent = session.with_span(root);
    let mut steps = Steps { service, parent: &parent, time: start + MILLI };
    let failed = self::steps(&mut steps, turn);
    let root = parent.span();
    if let Some(error) = failed {
        root.set_status(Status::error(error));
    }
    root.end_with_timestamp(at(end));
    about
}

/// The steps of a request, and the error that ends it.
fn steps(steps: &mut Steps<'_>, turn: &Turn) -> Option<&'static str> {
    let query = KeyValue::new("retrieval.query", turn.question.clone());
    if turn.outcome == AnswerOutcome::NoPassages {
        let error = ("TimeoutError", "the index did not answer within 5 s");
        steps.step("retrieve", SpanKind::Client, turn.retrieve, vec![query], Some(error));
        return Some("no passages were found in time");
    }
    let found = KeyValue::new("retrieval.documents", turn.passages as i64);
    steps.step("retrieve", SpanKind::Client, turn.retrieve, vec![query, found], None);
    let kept = KeyValue::new("rerank.kept", turn.passages.min(4) as i64);
    steps.step("rerank", SpanKind::Internal, turn.rerank, vec![kept], None);
    if let Some(tool) = turn.topic.tool {
        let attributes = vec![
            KeyValue::new("gen_ai.operation.name", "execute_tool"),
            KeyValue::new("gen_ai.tool.name", tool),
        ];
        steps.step(format!("execute_tool {tool}"), SpanKind::Internal, turn.tool, attributes, None);
    }
    let attributes = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.request.model", "demo-model"),
        KeyValue::new("gen_ai.usage.input_tokens", (turn.passages * 180) as i64),
        KeyValue::new("gen_ai.usage.output_tokens", turn.tokens as i64),
    ];
    let error = (turn.outcome == AnswerOutcome::NoModel)
        .then_some(("OverloadedError", "the model is overloaded: try again in 20 s"));
    steps.step("chat demo-model", SpanKind::Client, turn.model, attributes, error);
    error.map(|_| "the model gave no answer")
}

/// Puts one step after the other.
struct Steps<'a> {
    service: &'a Service,
    parent: &'a Context,
    time: u64,
}

impl Steps<'_> {
    fn step(
        &mut self,
        name: impl Into<std::borrow::Cow<'static, str>>,
        kind: SpanKind,
        length: u64,
        attributes: Vec<KeyValue>,
        error: Option<(&'static str, &'static str)>,
    ) {
        let (start, end) = (self.time, self.time + length);
        self.time = end + MILLI;
        let tracer = &self.service.tracer;
        let mut span = tracer
            .span_builder(name)
            .with_kind(kind)
            .with_start_time(at(start))
            .with_attributes(attributes)
            .start_with_context(tracer, self.parent);
        if let Some((kind, message)) = error {
            let exception = vec![
                KeyValue::new("exception.type", kind),
                KeyValue::new("exception.message", message),
            ];
            span.add_event_with_timestamp("exception", at(end), exception);
            span.set_status(Status::error(message));
        }
        span.end_with_timestamp(at(end));
    }
}

#[derive(Clone, Copy)]
enum CarrierTarget<'a> {
    Span(&'a SpanContext),
    Session,
    Nothing,
}

/// A carrier as the layer makes it for late feedback, but with a time in the past.
fn say(service: &Service, remark: &Remark, about: CarrierTarget<'_>, session: &Context) {
    let time: SystemTime = at(remark.time);
    let mut attributes = vec![
        KeyValue::new("tracing_feedback.late", true),
        KeyValue::new("tracing_feedback.time_unix_nano", remark.time as i64),
    ];
    if !remark.cleared.is_empty() {
        let keys = remark.cleared.iter().map(|key| StringValue::from(*key)).collect();
        attributes
            .push(KeyValue::new("tracing_feedback.cleared", Value::Array(Array::String(keys))));
    }
    attributes.extend(remark.set.iter().cloned());
    let links = match about {
        CarrierTarget::Span(target) => vec![Link::with_context(target.clone())],
        CarrierTarget::Session => {
            attributes.push(KeyValue::new("tracing_feedback.scope", "session"));
            Vec::new()
        }
        CarrierTarget::Nothing => Vec::new(),
    };
    let tracer = &service.tracer;
    tracer
        .span_builder("feedback")
        .with_start_time(time)
        .with_attributes(attributes)
        .with_links(links)
        .start_with_context(tracer, session)
        .end_with_timestamp(time + Duration::from_nanos(1));
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, true, Default::default())
}
