//! Random programs: what a service does with its spans, as a list of steps.
//!
//! A step names spans, contexts and threads by numbers, which are taken modulo what there is when it
//! runs. So every list of steps is a program, and one that fails can be shortened step by step.

use fastrand::Rng;

/// How many threads a program has.
pub(super) const THREADS: usize = 2;

#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) activation: bool,
    pub(super) sampler: SamplerKind,
    pub(super) conventions: [bool; 4],
    /// Whether location, threads, target, level and inactivity are recorded.
    pub(super) is_full: bool,
    /// Whether a span processor puts baggage on every span.
    pub(super) has_processor: bool,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SamplerKind {
    /// None is set on the builder.
    Default,
    AlwaysOn,
    AlwaysOff,
    ParentBased,
    ParentBasedOff,
    /// A sampler of the service, boxed, which decides by the span's name and adds an attribute.
    ByName,
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) thread: usize,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Creates a span.
    Create {
        parent: Parent,
        fields: SpanFields,
    },
    Enter(usize),
    /// Exits one of the spans that the thread has entered.
    Exit(usize),
    Clone(usize),
    Drop(usize),
    Record(usize, Value),
    Event {
        parent: Parent,
        level: Level,
        shape: Shape,
    },
    FollowsFrom(usize, usize),
    /// `set_parent`, with one of the contexts.
    SetParent(usize, usize),
    /// Makes a context, which later steps use.
    Make {
        from: From,
        baggage: Option<u8>,
        tag: Option<u8>,
    },
    Attach(usize),
    Detach(usize),
    /// Through the extension trait of a `tracing::Span`.
    Extension(usize, Change),
    /// Through the active span of the OpenTelemetry API.
    Api(Change),
    /// Through the span of one of the contexts.
    ApiOf(usize, Change),
    /// What is injected into a request, for a span or for the caller.
    InjectSpan(usize),
    InjectCurrent,
    /// A span of the SDK in the active context, which is attached.
    Sdk,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Parent {
    Contextual,
    Explicit(usize),
    None,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    Empty,
    Remote { sampled: bool, number: u8 },
    Current,
    Span(usize),
    Context(usize),
}

/// A change of a span that both the extension trait and the API know.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Attribute(u8, i64),
    Event(u8),
    Link(u8),
    Status(u8),
    /// Of the API only.
    Name(u8),
    /// Of the API only.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Message,
    MessageWithText,
    MessageWithError,
    Fields,
    /// As `#[instrument(err)]` makes it: a field `error`, and no message.
    DisplayedError,
    TextError,
    ValueError,
}

/// A field that is recorded later.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Number(i64),
    Unsigned(u64),
    Text(u8),
    Flag(bool),
    Float(i32),
    Debug(u8),
    Error(u8),
    Name(u8),
    Kind(u8),
    StatusCode(u8),
    StatusDescription(u8),
}

/// The fields that a span is created with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpanFields {
    pub(super) number: Option<i64>,
    pub(super) unsigned: Option<u64>,
    pub(super) text: Option<u8>,
    pub(super) error: Option<u8>,
    pub(super) name: Option<u8>,
    pub(super) kind: Option<u8>,
    pub(super) status_code: Option<u8>,
    pub(super) config: Option<u8>,
    pub(super) pool: Option<u8>,
    pub(super) session: Option<u8>,
}

impl Program {
    pub(super) fn random(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        use SamplerKind::*;
        let samplers =
            [Default, Default, AlwaysOn, AlwaysOff, ParentBased, ParentBasedOff, ByName, ByName];
        let conventions = match rng.u8(..4) {
            0 => [rng.bool(), rng.bool(), rng.bool(), rng.bool()],
            _ => [true; 4],
        };
        let length = rng.usize(4..45);
        Self {
            activation: rng.u8(..3) > 0,
            sampler: samplers[rng.usize(..samplers.len())],
            conventions,
            is_full: rng.u8(..3) == 0,
            has_processor: rng.u8(..3) == 0,
            steps: (0..length).map(|at| step(rng, at)).collect(),
        }
    }
}

fn step(rng: &mut Rng, at: usize) -> Step {
    let thread = usize::from(rng.u8(..5) == 0);
    // A program without spans says little.
    let kind = if at < 2 { 0 } else { rng.u8(..40) };
    let action = match kind {
        0..=6 => Action::Create { parent: parent(rng), fields: span_fields(rng) },
        7..=12 => Action::Enter(any(rng)),
        13..=15 => Action::Exit(any(rng)),
        16 => Action::Clone(any(rng)),
        17 => Action::Drop(any(rng)),
        18..=19 => Action::Record(any(rng), value(rng)),
        20..=22 => Action::Event { parent: parent(rng), level: level(rng), shape: shape(rng) },
        23 => Action::FollowsFrom(any(rng), any(rng)),
        24..=25 => Action::SetParent(any(rng), any(rng)),
        26..=28 => Action::Make { from: from(rng), baggage: small(rng), tag: small(rng) },
        29..=30 => Action::Attach(any(rng)),
        31 => Action::Detach(any(rng)),
        32 => Action::Extension(any(rng), change(rng, 4)),
        33..=34 => Action::Api(change(rng, 6)),
        35 => Action::ApiOf(any(rng), change(rng, 6)),
        36..=37 => Action::InjectSpan(any(rng)),
        38 => Action::InjectCurrent,
        _ => Action::Sdk,
    };
    Step { thread, action }
}

/// Rather something recent than something old: the number counts from the end.
fn any(rng: &mut Rng) -> usize {
    let most = if rng.bool() { 3 } else { 12 };
    rng.usize(..most)
}

fn small(rng: &mut Rng) -> Option<u8> {
    rng.bool().then(|| rng.u8(..3))
}

fn rarely(rng: &mut Rng) -> Option<u8> {
    (rng.u8(..8) == 0).then(|| rng.u8(..3))
}

fn parent(rng: &mut Rng) -> Parent {
    match rng.u8(..8) {
        0..=3 => Parent::Contextual,
        4..=6 => Parent::Explicit(any(rng)),
        _ => Parent::None,
    }
}

fn from(rng: &mut Rng) -> From {
    match rng.u8(..8) {
        0..=2 => From::Remote { sampled: rng.u8(..4) > 0, number: rng.u8(..3) },
        3 => From::Empty,
        4..=5 => From::Current,
        6 => From::Span(any(rng)),
        _ => From::Context(any(rng)),
    }
}

fn change(rng: &mut Rng, kinds: u8) -> Change {
    match rng.u8(..kinds) {
        0 => Change::Attribute(rng.u8(..3), rng.i64(..100)),
        1 => Change::Event(rng.u8(..3)),
        2 => Change::Link(rng.u8(..3)),
        3 => Change::Status(rng.u8(..4)),
        4 => Change::Name(rng.u8(..3)),
        _ => Change::End,
    }
}

fn level(rng: &mut Rng) -> Level {
    [Level::Error, Level::Warn, Level::Info][rng.usize(..3)]
}

fn shape(rng: &mut Rng) -> Shape {
    use Shape::*;
    let shapes =
        [Message, MessageWithText, MessageWithError, Fields, DisplayedError, TextError, ValueError];
    shapes[rng.usize(..shapes.len())]
}

fn value(rng: &mut Rng) -> Value {
    let number = rng.u8(..3);
    match rng.u8(..11) {
        0 => Value::Number(rng.i64(..)),
        1 => Value::Unsigned(rng.u64(..)),
        2 => Value::Text(number),
        3 => Value::Flag(rng.bool()),
        4 => Value::Float(rng.i32(..)),
        5 => Value::Debug(number),
        6 => Value::Error(number),
        7 => Value::Name(number),
        8 => Value::Kind(number),
        9 => Value::StatusCode(number),
        _ => Value::StatusDescription(number),
    }
}

fn span_fields(rng: &mut Rng) -> SpanFields {
    SpanFields {
        number: small(rng).map(i64::from),
        unsigned: rarely(rng).map(|n| if n == 2 { u64::MAX } else { n.into() }),
        text: rarely(rng),
        error: rarely(rng),
        name: rarely(rng),
        kind: rarely(rng),
        status_code: rarely(rng),
        config: rarely(rng),
        pool: rarely(rng),
        session: rarely(rng),
    }
}
