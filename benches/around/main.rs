//! What a span processor around another one costs a span, by the CPU time of its thread.
//!
//! ```console
//! $ cargo bench --bench around
//! $ cargo bench --bench around -- --rounds 60
//! ```
//!
//! Spans of the OpenTelemetry API, with none, three and seven attributes, and spans of
//! `tracing-opentelemetry`, with and without the processor of this crate around one that drops
//! everything. *Sessions* is a service whose spans begin sessions by `session.id`: then every span is
//! looked through when it starts. *Enriched* spans carry a document of three leaves; this layer's are
//! there to compare. All take turns in one process for some rounds; the first is thrown away, and
//! medians are printed, with the difference to the same spans without the processor.
//!
//! Argument: `--rounds` is how many count (30). With `--test`, or not run by `cargo bench`, there is
//! one tiny round.

#[path = "../discard/mod.rs"]
mod discard;

use std::hint::black_box;
use std::time::Duration;

use cpu_time::ThreadTime;
use opentelemetry::trace::{Span as _, Tracer, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor};
use tracing::Dispatch;
use tracing_feedback::{Telemetry, enrich_span};
use tracing_subscriber::prelude::*;

use discard::DiscardExporter;

/// The processor of the service: it drops everything.
#[derive(Debug)]
struct DiscardProcessor;

impl SpanProcessor for DiscardProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        black_box(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A tracer, with the processor of this crate or without.
struct Provider {
    tracer: SdkTracer,
    _telemetry: Option<Telemetry>,
}

impl Provider {
    fn new(is_around: bool) -> Self {
        let builder = SdkTracerProvider::builder();
        let (provider, telemetry) = match is_around {
            true => {
                let built = tracing_feedback::builder().build_around(DiscardProcessor);
                let (processor, telemetry) = built.expect("a processor");
                (builder.with_span_processor(processor).build(), Some(telemetry))
            }
            false => (builder.with_span_processor(DiscardProcessor).build(), None),
        };
        Self { tracer: provider.tracer("bench"), _telemetry: telemetry }
    }

    fn dispatch(&self) -> Dispatch {
        let layer = tracing_opentelemetry::layer().with_tracer(self.tracer.clone());
        Dispatch::new(tracing_subscriber::registry().with(layer))
    }
}

/// Something that makes one span each time.
struct Contestant {
    name: &'static str,
    /// The name of the contestant to which it is compared.
    compared_to: Option<&'static str>,
    dispatch: Dispatch,
    span: Box<dyn Fn(u64)>,
}

fn all() -> Vec<Contestant> {
    let [bare, around, sessions, enriched] = [false, true, true, true].map(Provider::new);
    // Before the turns: a service whose first spans begin sessions.
    sessions.tracer.span_builder("first").with_attributes(session()).start(&sessions.tracer).end();
    let api = |name, compared_to, provider: &Provider, attributes| {
        let tracer = provider.tracer.clone();
        let span = Box::new(move |number| api_span(&tracer, attributes, number));
        Contestant { name, compared_to, dispatch: Dispatch::none(), span }
    };
    let layer = |name, compared_to, provider: &Provider, span: fn(u64)| Contestant {
        name,
        compared_to,
        dispatch: provider.dispatch(),
        span: Box::new(span),
    };
    let builder = tracing_feedback::builder().with_exporter(DiscardExporter);
    let (ours, telemetry) = builder.build().expect("a layer");
    let ours = Dispatch::new(tracing_subscriber::registry().with(ours));
    let of_ours = |name, compared_to, span: fn(u64)| {
        let dispatch = ours.clone();
        Contestant { name, compared_to, dispatch, span: Box::new(span) }
    };
    let contestants = vec![
        api("API, no attributes", None, &bare, 0),
        api("API, no attributes, around", Some("API, no attributes"), &around, 0),
        api("API, 3 attributes", None, &bare, 3),
        api("API, 3 attributes, around", Some("API, 3 attributes"), &around, 3),
        api("API, 3 attributes, sessions", Some("API, 3 attributes"), &sessions, 3),
        api("API, 7 attributes", None, &bare, 7),
        api("API, 7 attributes, around", Some("API, 7 attributes"), &around, 7),
        layer("tracing-opentelemetry", None, &bare, span),
        layer("tracing-opentelemetry, around", Some("tracing-opentelemetry"), &around, span),
        layer("tracing-opentelemetry, sessions", Some("tracing-opentelemetry"), &sessions, span),
        layer("enriched, around", Some("tracing-opentelemetry"), &enriched, enriched_span),
        of_ours("this layer", None, span),
        of_ours("enriched, this layer", Some("this layer"), enriched_span),
    ];
    std::mem::forget((bare, around, sessions, enriched, telemetry)); // until the process ends
    contestants
}

fn session() -> [KeyValue; 1] {
    [KeyValue::new("session.id", "conversation-42")]
}

fn api_span(tracer: &SdkTracer, attributes: usize, number: u64) {
    let number = number as i64;
    let mut builder = tracer.span_builder("answer");
    if attributes > 0 {
        let attribute = |at| match at % 2 {
            0 => KeyValue::new("number", number),
            _ => KeyValue::new("text", "a short text"),
        };
        builder = builder.with_attributes((0..attributes).map(attribute).collect::<Vec<_>>());
    }
    builder.start(tracer).end();
}

fn span(number: u64) {
    tracing::info_span!("answer", number, text = "a short text").in_scope(|| ());
}

fn enriched_span(number: u64) {
    tracing::info_span!("answer", number, text = "a short text").in_scope(|| {
        let rating = number % 5;
        let outcome =
            enrich_span!(feedback = { "rating": rating, "by": { "user": true }, "a": 1.5 });
        black_box(outcome);
    });
}

/// The CPU time of a span in nanoseconds, in one turn.
fn turn(contestant: &Contestant, spans: u64) -> f64 {
    tracing::dispatcher::with_default(&contestant.dispatch, || {
        let begun = ThreadTime::now();
        (0..spans).for_each(|number| (contestant.span)(number));
        begun.elapsed().as_nanos() as f64 / spans as f64
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let argument = arguments.iter().skip_while(|argument| *argument != "--rounds").nth(1);
    let rounds = argument.and_then(|rounds| rounds.parse().ok()).unwrap_or(30);
    let (rounds, spans) = if has("--bench") && !has("--test") { (rounds, 20_000) } else { (1, 10) };

    let contestants = all();
    let mut times = vec![Vec::with_capacity(rounds); contestants.len()];
    for round in 0..=rounds {
        for (contestant, times) in contestants.iter().zip(&mut times) {
            let time = turn(contestant, spans);
            if round > 0 {
                times.push(time);
            }
        }
    }
    println!("ns of CPU time a span\n");
    // The difference of each round, so that what slows a whole round down doesn't count.
    for (contestant, own) in contestants.iter().zip(&times) {
        let compared = contestant.compared_to.and_then(|name| {
            let at = contestants.iter().position(|other| other.name == name)?;
            Some(median(own.iter().zip(&times[at]).map(|(own, other)| own - other).collect()))
        });
        let difference =
            compared.map(|difference| format!("{difference:+8.1}")).unwrap_or_default();
        println!("{:<34} {:8.1} {difference}", contestant.name, median(own.clone()));
    }
}
