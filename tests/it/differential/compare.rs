//! What arrived, as text that both layers should give, but for the differences that
//! `docs/migration.md` lists.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use opentelemetry::trace::{SpanContext, SpanId, Status, TraceId};
use opentelemetry::{KeyValue, Value};

use super::run::{Notes, Outcome, Seen, remote};

/// What differs in what arrived, and in what was seen.
pub(super) fn difference(ours: &Outcome, theirs: &Outcome) -> Option<String> {
    let (ours, theirs) = (text(ours), text(theirs));
    (ours != theirs).then(|| {
        let mut text = String::new();
        let (ours, theirs): (Vec<_>, Vec<_>) = (ours.lines().collect(), theirs.lines().collect());
        for line in &ours {
            let mark = if theirs.contains(line) { "  " } else { "+ " };
            let _ = writeln!(text, "{mark}{line}");
        }
        for line in theirs.iter().filter(|line| !ours.contains(line)) {
            let _ = writeln!(text, "- {line}");
        }
        text
    })
}

/// The spans by their numbers, and what the program saw.
fn text(outcome: &Outcome) -> String {
    let names = Names::of(outcome);
    let mut spans = BTreeMap::new();
    for span in &outcome.spans {
        let id = id(&span.attributes);
        let notes = usize::try_from(id).ok().and_then(|id| outcome.notes.get(id));
        let notes = notes.cloned().unwrap_or(Notes { statuses: 2, is_named_late: false });
        let mut line = format!("#{id}");
        if !notes.is_named_late {
            let _ = write!(line, " {:?} {:?}", span.name, span.span_kind);
        }
        let remote = if span.parent_span_is_remote { " remote" } else { "" };
        let _ = write!(
            line,
            " below {}{remote} in {} flags {} state {:?}",
            names.span(span.parent_span_id),
            names.trace(span.span_context.trace_id()),
            span.span_context.trace_flags().to_u8(),
            span.span_context.trace_state().header(),
        );
        if notes.statuses < 2 {
            let _ = write!(line, " {}", status(&span.status));
        }
        let _ = write!(line, " {}", attributes(&span.attributes));
        let _ = writeln!(line);
        for event in &span.events.events {
            let _ = writeln!(line, "#{id}   event {}", one_event(&event.name, &event.attributes));
        }
        for link in &span.links.links {
            let target = names.context(&link.span_context);
            let _ = writeln!(line, "#{id}   link {target} {}", attributes(&link.attributes));
        }
        let before: Option<String> = spans.insert(id, line);
        assert!(before.is_none(), "{id} arrived twice");
    }
    let mut text: String = spans.into_values().collect();
    for (at, seen) in outcome.seen.iter().enumerate() {
        let _ = match seen {
            Seen::Did(did) => writeln!(text, "{at}: did {did}"),
            Seen::Injected { headers, tag } => {
                writeln!(text, "{at}: injected {} tag {tag:?}", names.headers(headers))
            }
        };
    }
    text
}

fn id(attributes: &[KeyValue]) -> i64 {
    let id = attributes.iter().find(|attribute| attribute.key.as_str() == "id");
    match id.map(|id| &id.value) {
        Some(Value::I64(id)) => *id,
        other => panic!("a span with the id {other:?}"),
    }
}

/// The ids, by what they are of.
struct Names {
    spans: HashMap<SpanId, String>,
    traces: HashMap<TraceId, String>,
}

impl Names {
    fn of(outcome: &Outcome) -> Self {
        let (mut spans, mut traces) = (HashMap::new(), HashMap::new());
        for number in 0..3 {
            let remote = remote(number, true);
            spans.insert(remote.span_id(), format!("remote {number}"));
            traces.insert(remote.trace_id(), format!("remote {number}"));
        }
        let mut all: Vec<_> = outcome.spans.iter().collect();
        all.sort_by_key(|span| id(&span.attributes));
        for span in all {
            let name = format!("#{}", id(&span.attributes));
            spans.insert(span.span_context.span_id(), name.clone());
            traces.entry(span.span_context.trace_id()).or_insert(name);
        }
        spans.insert(SpanId::INVALID, "nothing".to_owned());
        Self { spans, traces }
    }

    /// A span that didn't arrive has no name.
    fn span(&self, id: SpanId) -> &str {
        self.spans.get(&id).map_or("unsampled", |name| name)
    }

    fn trace(&self, id: TraceId) -> &str {
        self.traces.get(&id).map_or("unsampled", |name| name)
    }

    fn context(&self, context: &SpanContext) -> String {
        let (span, trace) = (self.span(context.span_id()), self.trace(context.trace_id()));
        let (flags, state) = (context.trace_flags().to_u8(), context.trace_state().header());
        format!("{span} in {trace} flags {flags} state {state:?}")
    }

    fn headers(&self, headers: &HashMap<String, String>) -> String {
        let parent = headers.get("traceparent").map(|parent| {
            let parts: Vec<_> = parent.split('-').collect();
            let (trace, span) =
                (TraceId::from_hex(parts[1]).unwrap(), SpanId::from_hex(parts[2]).unwrap());
            format!("{} in {} flags {}", self.span(span), self.trace(trace), parts[3])
        });
        let state = headers.get("tracestate").filter(|state| !state.is_empty());
        let baggage = headers.get("baggage").map(|baggage| {
            let mut members: Vec<_> = baggage.split(',').collect();
            members.sort_unstable();
            members.join(",")
        });
        format!("{parent:?} {state:?} {baggage:?}")
    }
}

/// By key, the last value of each. Ours has unsigned integers as integers, texts of errors without
/// quotes, and the causes of an error as one text.
fn attributes(attributes: &[KeyValue]) -> String {
    let mut by_key = BTreeMap::new();
    for KeyValue { key, value, .. } in attributes {
        let value = match key.as_str() {
            // Times, and a span that the API has ended has them from this layer only.
            "busy_ns" | "idle_ns" => continue,
            "exception.stacktrace" | "thread.id" => "…".to_owned(),
            "exception.message" | "error" => unquoted(&value.as_str()).to_owned(),
            _ => value.as_str().into_owned(),
        };
        by_key.insert(key.as_str(), value);
    }
    format!("{by_key:?}")
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// An event with an `Error` value and no message is an exception by the semantic conventions: ours has
/// that name, and always the message.
fn one_event(name: &str, given: &[KeyValue]) -> String {
    let is_unnamed = name == "exception" || name.starts_with("event ");
    let is_value = given.iter().any(|attribute| attribute.key.as_str() == "error.chain");
    if is_unnamed && is_value {
        let others = given.iter().filter(|attribute| attribute.key.as_str() != "exception.message");
        let others: Vec<_> = others.cloned().collect();
        return format!("exception {}", attributes(&others));
    }
    format!("{} {}", name.split(':').next().unwrap_or_default(), attributes(given))
}

/// An error event with an `Error` value describes the status.
fn status(status: &Status) -> String {
    match status {
        Status::Error { description } if description == "failure 2" => "error: ".to_owned(),
        Status::Error { description } => format!("error: {}", unquoted(description)),
        other => format!("{other:?}"),
    }
}
