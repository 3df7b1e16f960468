//! The ledger: which feedback was given and acknowledged, and whether that is what arrived.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_feedback::collector::{ReceivedSpan, Role, Target, Value, feedback};

/// Kept by this process alone, from the reports of services and users.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    submitted: HashSet<String>,
    acked: BTreeSet<String>,
    /// Spans made and lost, of the services that reported them at their end.
    ended: BTreeMap<String, (u64, u64)>,
}

impl Ledger {
    pub(crate) fn record_submitted(&self, tag: &str) {
        self.book().submitted.insert(tag.to_owned());
    }

    pub(crate) fn record_acked(&self, tag: &str) {
        self.book().acked.insert(tag.to_owned());
    }

    /// NAME MADE LOST
    pub(crate) fn record_ended(&self, report: &str) {
        let mut words = report.split(' ');
        let name = words.next().unwrap_or_default().to_owned();
        let mut number = || words.next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
        let numbers = (number(), number());
        self.book().ended.insert(name, numbers);
    }

    pub(crate) fn count_acked(&self) -> usize {
        self.book().acked.len()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Feedback and spans that need not have arrived, by reason.
#[derive(Debug, Default)]
pub(crate) struct Excused {
    /// Feedback in the `rejected` files.
    pub(crate) rejected: HashSet<String>,
    /// Feedback in bytes that were damaged on purpose.
    pub(crate) damaged: HashSet<String>,
    /// Spans in such bytes.
    pub(crate) damaged_spans: u64,
    /// Whether more spans may count as lost than were lost, as when a collector accepts a request
    /// without a reply.
    pub(crate) is_counted_roughly: bool,
}

/// The result of a scenario.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) acked: usize,
    pub(crate) received: usize,
    pub(crate) duplicates: usize,
    /// Spans made, received and lost, of services that reported them.
    pub(crate) spans: Option<(u64, u64, u64)>,
    /// Later values that were not acknowledged, and that an earlier value has overruled.
    pub(crate) overruled: usize,
    /// Violations of the guarantees.
    pub(crate) problems: Vec<String>,
}

impl Ledger {
    pub(crate) fn check(&self, spans: &[ReceivedSpan], excused: &Excused) -> Outcome {
        let book = self.book();
        let mut problems = Vec::new();
        let Arrived { targets, arrivals, adrift } = Arrived::of(spans);
        if adrift > 0 {
            problems.push(format!("{adrift} carriers are about nothing"));
        }

        let (found, mut stale) = (fold(&targets), Vec::new());
        let (mut forged, mut overruled) = (Vec::new(), 0);
        for (tag, folded) in &found.tags {
            if !book.submitted.contains(tag) {
                forged.push(tag.clone());
            }
            if !folded.is_last && folded.is_change && !book.acked.contains(tag) {
                overruled += 1;
            } else if !folded.is_last {
                stale.push(tag.clone());
            }
        }
        forged.extend(found.latest.values().filter(|tag| !book.submitted.contains(*tag)).cloned());
        let missing = book.acked.iter().filter(|tag| {
            !found.has(tag) && !is_among(&excused.rejected, tag) && !is_among(&excused.damaged, tag)
        });
        let missing: Vec<_> = missing.cloned().collect();
        let mut report = |what: &str, tags: &[String]| {
            if let Some(first) = tags.first() {
                problems.push(format!("{} {what}, such as {first}", tags.len()));
            }
        };
        report("acknowledged and not received", &missing);
        report("received and never submitted", &forged);
        report("with an older value than the last", &stale);
        report("received twice after folding", &found.twice);
        report("with values that were never submitted", &found.foreign);

        let spans = (!book.ended.is_empty()).then(|| {
            book.ended.iter().fold((0, 0, 0), |(made, received, lost), (name, of_one)| {
                let arrived = arrivals.by_process.get(name).map_or(0, HashSet::len) as u64;
                (made + of_one.0, received + arrived, lost + of_one.1)
            })
        });
        if let Some((made, received, lost)) = spans {
            // A service counts its users' feedback among its losses, but not among the spans it
            // makes.
            let users = excused.rejected.iter().filter(|tag| tag.contains(".h.")).count() as u64;
            let accounted = received + (lost - users.min(lost)) + excused.damaged_spans;
            if accounted < made || accounted > made && !excused.is_counted_roughly {
                problems.push(format!("{made} spans made, and {accounted} accounted for"));
            }
        }
        Outcome {
            acked: book.acked.len(),
            received: book.submitted.iter().filter(|tag| found.has(tag)).count(),
            duplicates: arrivals.duplicates,
            spans,
            overruled,
            problems,
        }
    }
}

/// Spans by what they are about.
#[derive(Default)]
struct Arrived<'s> {
    targets: HashMap<String, (Option<Target>, Vec<&'s ReceivedSpan>)>,
    arrivals: Arrivals,
    adrift: usize,
}

#[derive(Default)]
struct Arrivals {
    duplicates: usize,
    /// Whether a service counts the span among those it makes.
    by_process: HashMap<String, HashSet<String>>,
}

impl<'s> Arrived<'s> {
    fn of(spans: &'s [ReceivedSpan]) -> Self {
        let mut arrived = Self::default();
        let (mut ids, mut tags) = (HashSet::new(), HashSet::new());
        for span in spans {
            let id = format!("{:?}.{:?}", span.trace_id, span.span_id);
            let is_new = ids.insert(id.clone());
            let span_tags: Vec<_> = tags_of(span).collect();
            // The same feedback may arrive on its span, and as a carrier.
            let is_repeated =
                span_tags.iter().filter(|tag| !tags.insert(tag.to_string())).count() > 0;
            arrived.arrivals.duplicates += usize::from(!is_new || is_repeated);

            let target = match span.role() {
                Role::Own => Some(Target::Span(span.trace_id, span.span_id)),
                Role::Submission(target) => Some(target),
                _ => None,
            };
            match target {
                Some(target) if !span_tags.is_empty() || !span.is_carrier() => {
                    let entry = arrived.targets.entry(format!("{target:?}"));
                    let entry = entry.or_insert_with(|| (Some(target), Vec::new()));
                    entry.1.push(span);
                }
                _ => arrived.adrift += 1,
            }
            let process = match span.attributes.get("process").and_then(Value::as_str) {
                Some(process) => Some(process),
                // Others are journalled parts of spans, or feedback of users who may have got no
                // response.
                None => span_tags.iter().find_map(|tag| {
                    let (process, rest) = tag.split_once('.')?;
                    rest.starts_with(['l', 's']).then_some(process)
                }),
            };
            if let Some(process) = process {
                arrived.arrivals.by_process.entry(process.to_owned()).or_default().insert(id);
            }
        }
        arrived
    }
}

fn tags_of(span: &ReceivedSpan) -> impl Iterator<Item = &str> {
    let keys = ["feedback.said", "feedback.again", "feedback.latest"];
    keys.into_iter().filter_map(|key| span.attributes.get(key).and_then(Value::as_str))
}

/// Feedback as a reader sees it.
#[derive(Default)]
struct Folded {
    tags: HashMap<String, Tag>,
    /// Of a span that is rated repeatedly, the last value.
    latest: HashMap<String, String>,
    twice: Vec<String>,
    foreign: Vec<String>,
}

impl Folded {
    fn has(&self, tag: &str) -> bool {
        match repeated_span(tag) {
            // A later value may have replaced it.
            Some(span) => self.latest.get(span).is_some_and(|latest| latest.as_str() >= tag),
            None => self.tags.contains_key(tag),
        }
    }
}

/// `s1.m` of `s1.m.000017`, if that is about one span for all numbers.
fn repeated_span(tag: &str) -> Option<&str> {
    let (span, _) = tag.rsplit_once('.')?;
    span.ends_with(['m', 'n']).then_some(span)
}

/// Whether a tag, or what has replaced it, is among these.
fn is_among(tags: &HashSet<String>, tag: &str) -> bool {
    let span = repeated_span(tag);
    let is_later = |other: &String| other.as_str() > tag && repeated_span(other) == span;
    tags.contains(tag) || span.is_some() && tags.iter().any(is_later)
}

struct Tag {
    /// Whether the value there is the last one given.
    is_last: bool,
    /// Whether the value is a later one, which replaces another.
    is_change: bool,
}

fn fold(targets: &HashMap<String, (Option<Target>, Vec<&ReceivedSpan>)>) -> Folded {
    let mut folded = Folded::default();
    for (target, spans) in targets.values() {
        let Some(target) = target else { continue };
        let mut document = feedback(spans.iter().copied(), target);
        let (first, again) = (document.remove("feedback.said"), document.remove("feedback.again"));
        if let Some(latest) = document.remove("feedback.latest").as_ref().and_then(Value::as_str)
            && let Some(span) = repeated_span(latest)
            && folded.latest.insert(span.to_owned(), latest.to_owned()).is_some()
        {
            folded.twice.push(latest.to_owned());
        }
        let rating = document.remove("feedback.rating");
        let expected = match (&first, &again) {
            (None, None) => None,
            (_, Some(_)) => Some(Value::Int(2)),
            (Some(_), None) => Some(Value::Int(1)),
        };
        let is_last = rating == expected;
        if !document.is_empty() || expected.is_none() && rating.is_some() {
            folded.foreign.push(format!("{target:?}"));
        }
        for (value, is_change) in [(first, false), (again, true)] {
            let Some(value) = value else { continue };
            let Some(tag) = value.as_str() else {
                folded.foreign.push(format!("{target:?}"));
                continue;
            };
            let is_last = is_last || !is_change && expected == Some(Value::Int(2));
            if folded.tags.insert(tag.to_owned(), Tag { is_last, is_change }).is_some() {
                folded.twice.push(tag.to_owned());
            }
        }
    }
    folded
}
