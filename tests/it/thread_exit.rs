//! What destructors of thread-locals do on a thread that is ending, in processes of their own: a panic
//! there aborts the process.

use std::cell::RefCell;
use std::collections::HashMap;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::field::Empty;
use tracing::subscriber::with_default;
use tracing::{Span, info, info_span};
use tracing_feedback::collector::Collector;
use tracing_feedback::{
    Session, SpanExt, Telemetry, TicketKeys, enrich, enrich_session, enrich_span, propagation,
};
use tracing_subscriber::layer::Identity;
use tracing_subscriber::prelude::*;

/// The variable with the endpoint, in the process that was started for it.
const ENDPOINT: &str = "TRACING_FEEDBACK_TEST_THREAD_EXIT";
/// The variable with the order, one of [`ORDERS`].
const ORDER: &str = "TRACING_FEEDBACK_TEST_ORDER";

/// What a thread does before it ends. Thread-locals are destroyed in the reverse order of their
/// creation.
const ORDERS: &[(&str, Prepare)] = &[
    ("the layer outlives the destructor", |act| {
        let kept = info_span!("kept");
        kept.in_scope(|| info!("in time"));
        end_with(kept, act);
    }),
    ("the destructor outlives the layer", |act| {
        end_with(Span::none(), act);
        let kept = info_span!("kept");
        kept.in_scope(|| info!("in time"));
        end_with(kept, act);
    }),
    ("the first span is made by the destructor", |act| end_with(Span::none(), act)),
    ("only the OpenTelemetry API was used", |act| {
        end_with(Span::none(), act);
        assert!(!Context::current().has_active_span());
    }),
    ("the registry outlives the destructor, which outlives the layer", |act| {
        // The thread-locals of all registries are the same.
        let registry = tracing_subscriber::registry().with(Identity::new());
        with_default(registry, || info_span!("elsewhere").in_scope(|| ()));
        end_with(Span::none(), act);
        let kept = info_span!("kept");
        kept.in_scope(|| info!("in time"));
        end_with(kept, act);
    }),
    ("a span is still entered", |act| {
        end_with(Span::none(), act);
        let kept = info_span!("kept");
        std::mem::forget(kept.clone().entered());
        end_with(kept, act);
    }),
];

/// What a thread does before it ends, and what its destructor does then.
type Prepare = fn(Act);
type Act = fn(&Span);

/// Each is done by a destructor, with the span that its thread has kept. The registry alone
/// survives all of them.
const ACTS: &[(&str, Act)] = &[
    ("event", |_| info!("late")),
    ("event in a span", |kept| info!(parent: kept, "late")),
    ("event of the log crate's target", |_| info!(target: "log", "late")),
    ("record", |kept| {
        kept.record("later", 1);
    }),
    ("follows from", |kept| {
        kept.follows_from(kept.id());
    }),
    ("clone and close", |kept| drop(kept.clone())),
    ("exit", |kept| {
        if let (Some(id), Some(dispatch)) = (kept.id(), global()) {
            dispatch.exit(&id);
        }
    }),
    ("enrich span", |_| drop(enrich_span!(feedback = { "rating": 1 }))),
    ("enrich given span", |kept| drop(enrich_span!(span = kept, feedback = { "rating": 1 }))),
    ("enrich session", |_| drop(enrich_session!(feedback = { "rating": 1 }))),
    ("enrich another session", |_| {
        drop(enrich_session!(session_id = "other", feedback = { "rating": 1 }));
    }),
    ("enrich late", |kept| {
        if let Ok(target) = kept.span_context() {
            drop(enrich_span!(target = target, feedback = { "rating": 1 }));
        }
    }),
    ("persist", |_| enrich::persist(std::time::Duration::ZERO).unwrap()),
    ("inject", |_| propagation::inject(&mut HashMap::new())),
    ("inject a span", |kept| propagation::inject_span(kept, &mut HashMap::new())),
    ("extract", |_| drop(propagation::extract(&HashMap::<String, String>::new()))),
    ("session", |_| drop((Session::current(), Session::new()))),
    ("ticket", |kept| drop((tracing_feedback::ticket(), kept.ticket()))),
    ("attributes", |kept| {
        let _ = kept.set_attribute("key", "value");
        let _ = kept.add_event("event", vec![]);
        let _ = kept.set_session(&Session::new());
        let _ = kept.context();
    }),
    ("drop of a handle", |_| {
        drop(HANDLE.lock().unwrap().take());
    }),
];

/// The same, where the registry itself can still make and enter spans.
const SPAN_ACTS: &[(&str, Act)] = &[
    ("new span", |_| drop(info_span!("new"))),
    ("enter", |kept| kept.in_scope(|| info!("late"))),
    ("new span, entered", |_| info_span!("new", later = Empty).in_scope(|| info!("late"))),
    ("instrumented", |kept| {
        let child = info_span!(parent: kept, "new");
        child.in_scope(|| drop(enrich_span!(feedback = { "rating": 1 })));
    }),
];

/// A handle of another layer, to be dropped by a destructor.
static HANDLE: Mutex<Option<Telemetry>> = Mutex::new(None);

fn global() -> Option<tracing::Dispatch> {
    Some(tracing::dispatcher::get_default(Clone::clone))
}

/// The thread-locals whose destructors act. `KEPT` is created by the first call on a thread.
struct Last {
    kept: Span,
    act: Option<Act>,
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(act) = self.act {
            act(&self.kept);
        }
    }
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { kept: Span::none(), act: None }) };
}

fn end_with(kept: Span, act: Act) {
    LAST.with_borrow_mut(|last| (last.kept, last.act) = (kept, Some(act)));
}

/// The process that was started for an order; by itself it does nothing.
#[test]
fn part() {
    let (Ok(endpoint), Ok(order)) = (std::env::var(ENDPOINT), std::env::var(ORDER)) else { return };
    let keys = || TicketKeys::new([[7; 32]]).unwrap();
    let build = || {
        let builder = tracing_feedback::builder().with_endpoint(&endpoint);
        builder.with_ticket_keys(keys()).build().unwrap()
    };
    let (layer, telemetry) = build();
    *HANDLE.lock().unwrap() = Some(build().1);
    tracing_subscriber::registry().with(layer).init();
    let (_, prepare) = ORDERS.iter().find(|(name, _)| *name == order).unwrap();
    // The registry panics if it is to make or enter a span after its own thread-locals are destroyed.
    let makes_spans = ![ORDERS[1].0, ORDERS[5].0].contains(&order.as_str());
    let acts = ACTS.iter().chain(SPAN_ACTS.iter().filter(|_| makes_spans));
    let mut threads = 0;
    for (name, act) in acts {
        println!("{order}: {name}");
        thread::spawn(move || prepare(*act)).join().unwrap();
        threads += 1;
    }
    telemetry.flush().unwrap();
    println!("ended after {threads} threads");
}

/// Plays an order in a process of its own. Returns what arrived.
fn play(order: &str) -> Collector {
    let collector = Collector::start().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "thread_exit::part", "--nocapture", "--test-threads=1"])
        .env(ENDPOINT, collector.endpoint())
        .env(ORDER, order)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("ended after"), "{text}");
    collector
}

/// The spans that the threads have kept, of which each is exported once.
fn kept(collector: &Collector) -> usize {
    collector.spans().iter().filter(|span| span.name == "kept").count()
}

#[test]
fn a_destructor_before_the_end_of_the_layer_is_like_any_code() {
    let collector = play(ORDERS[0].0);
    assert_eq!(kept(&collector), ACTS.len() + SPAN_ACTS.len());
    let has_late = |name: &str| {
        let spans = collector.spans();
        let named = spans.iter().filter(|span| span.name == name);
        named.flat_map(|span| &span.events).any(|event| event.name == "late")
    };
    assert!(has_late("kept") && has_late("new"), "{}", collector.tree());
}

#[test]
fn a_destructor_after_the_end_of_the_layer_costs_no_panic() {
    let collector = play(ORDERS[1].0);
    assert_eq!(kept(&collector), ACTS.len());
    // What doesn't need the thread's own data still works.
    let spans = collector.spans();
    let kept = spans.iter().filter(|span| span.name == "kept");
    let events: Vec<_> = kept.clone().flat_map(|span| &span.events).collect();
    assert!(events.iter().any(|event| event.name == "late"), "{}", collector.tree());
    assert!(kept.clone().any(|span| span.attributes.contains_key("feedback.rating")));
    assert!(spans.iter().any(|span| span.name == "feedback"), "the late carrier");
}

#[test]
fn a_destructor_between_the_layer_and_the_registry_makes_spans() {
    let collector = play(ORDERS[4].0);
    assert_eq!(kept(&collector), ACTS.len() + SPAN_ACTS.len());
    let spans = collector.spans();
    let made: Vec<_> = spans.iter().filter(|span| span.name == "new").collect();
    assert_eq!(made.len(), 3, "{}", collector.tree());
    assert!(made.iter().any(|span| span.events.iter().any(|event| event.name == "late")));
}

#[test]
fn a_destructor_on_a_thread_without_spans_costs_no_panic() {
    drop(play(ORDERS[2].0));
    drop(play(ORDERS[3].0));
}

#[test]
fn a_span_that_is_entered_to_the_end_of_its_thread_costs_no_panic() {
    drop(play(ORDERS[5].0));
}
