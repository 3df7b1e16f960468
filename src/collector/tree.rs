//! Traces as text: what the examples print and tests compare.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use opentelemetry::trace::{SpanId, TraceId};

use super::receive::received::ReceivedSpan;
use super::receive::value::Value;
use super::role::{Role, Target};
use crate::feedback::fold::{Submission, fold};
use crate::printable::printable;

/// The deepest indentation. Without a limit, the text of a chain of spans would grow with the
/// square of its length.
const DEEPEST: usize = 100;

/// Every trace as an indented tree, without ids or times. A span that arrived twice is shown once.
/// Names, keys and values are foreign: what would begin a line of its own is escaped.
pub(super) fn tree(received: &[ReceivedSpan]) -> String {
    let spans = first_arrivals(received);
    let mut submissions = submissions_by_target(received);
    let mut text = String::new();
    for (depth, span) in in_depth_first_order(&spans) {
        let indent = "  ".repeat(depth.min(DEEPEST));
        let name = printable(&span.name);
        let _ = writeln!(text, "{indent}{name}{}", marks(span)); // writing to a `String` can't fail
        let (cleared, attributes) = document(span, &mut submissions);
        for key in cleared {
            let _ = writeln!(text, "{indent}    {} cleared", printable(&key));
        }
        for (key, value) in attributes {
            let (key, value) = (printable(&key), printable(&value.to_string()));
            let _ = writeln!(text, "{indent}    {key} = {value}");
        }
    }
    text
}

/// The first arrival of each span, in the order of siblings.
fn first_arrivals(received: &[ReceivedSpan]) -> Vec<&ReceivedSpan> {
    let mut seen = HashSet::new();
    let mut spans: Vec<_> =
        received.iter().filter(|span| seen.insert((span.trace_id, span.span_id))).collect();
    spans.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    spans
}

/// The sort key of siblings: start time, then name, then the attributes in the tree, so that the
/// order of arrival doesn't matter.
fn sort_key(span: &ReceivedSpan) -> (u64, &str, String) {
    let shown = span.feedback_attributes().map(|(key, value)| format!("{key}={value};")).collect();
    (span.start_time_unix_nano, &span.name, shown)
}

fn submissions_by_target(received: &[ReceivedSpan]) -> HashMap<Target, Vec<Submission<Value>>> {
    let mut submissions: HashMap<_, Vec<_>> = HashMap::new();
    for span in received {
        if let Role::Submission(target) = span.role() {
            submissions.entry(target).or_default().push(span.submission());
        }
    }
    submissions
}

/// The keys that `span` clears and the attributes to show: its own document folded with its
/// carriers, or its submission about another target.
fn document(
    span: &ReceivedSpan,
    submissions: &mut HashMap<Target, Vec<Submission<Value>>>,
) -> (Vec<String>, BTreeMap<String, Value>) {
    let submission = span.submission();
    if span.role() == Role::Own {
        let carriers = match submissions.entry(Target::Span(span.trace_id, span.span_id)) {
            Entry::Occupied(entry) => entry.remove(),
            Entry::Vacant(_) => vec![],
        };
        (vec![], fold(submission.attributes, carriers))
    } else {
        (submission.cleared, submission.attributes.into_iter().collect())
    }
}

fn marks(span: &ReceivedSpan) -> String {
    let scope = span.attribute("tracing_feedback.scope").and_then(Value::as_str);
    let marks: Vec<_> = span.is_carrier().then_some("late").into_iter().chain(scope).collect();
    if marks.is_empty() { String::new() } else { format!(" ({})", printable(&marks.join(", "))) }
}

/// The ids of the span below which `span` is shown: of its parent, or of the target of a carrier,
/// which may be in another trace.
fn above(span: &ReceivedSpan) -> (TraceId, SpanId) {
    match span.links.as_slice() {
        [link] if span.is_carrier() => (link.trace_id, link.span_id),
        _ => (span.trace_id, span.parent_span_id),
    }
}

/// The spans in depth-first order, each with its depth. Parent ids and links are foreign data: a
/// parent may not have arrived, parents may form a cycle, and chains of them may be long.
fn in_depth_first_order<'a>(spans: &[&'a ReceivedSpan]) -> Vec<(usize, &'a ReceivedSpan)> {
    let arrived: HashSet<_> = spans.iter().map(|span| (span.trace_id, span.span_id)).collect();
    let mut children: HashMap<(TraceId, SpanId), Vec<&ReceivedSpan>> = HashMap::new();
    let mut roots = Vec::new();
    for &span in spans {
        let parent = above(span);
        if arrived.contains(&parent) {
            children.entry(parent).or_default().push(span);
        } else {
            roots.push(span);
        }
    }

    // The roots of one trace stay together, at the position of its first root.
    let mut traces = HashMap::new();
    for root in &roots {
        let next = traces.len();
        traces.entry(root.trace_id).or_insert(next);
    }
    roots.sort_by_key(|root| traces[&root.trace_id]);

    let mut lines = Vec::with_capacity(spans.len());
    let mut seen = HashSet::new();
    // After the roots, all spans are tried: only those in a cycle have not been seen by then.
    for &start in roots.iter().chain(spans) {
        let mut stack = vec![(0, start)];
        while let Some((depth, span)) = stack.pop() {
            if !seen.insert((span.trace_id, span.span_id)) {
                continue;
            }
            lines.push((depth, span));
            let below = children.get(&(span.trace_id, span.span_id));
            stack.extend(below.into_iter().flatten().rev().map(|child| (depth + 1, *child)));
        }
    }
    lines
}
