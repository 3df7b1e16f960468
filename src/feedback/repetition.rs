//! Feedback that arrives twice: in a log record, and in the span or carrier that states the same.
//!
//! A service with `with_events` sends each leaf as a log record beside the span or carrier that has it, and OpenLIT
//! sends a score on an open span as a span event and as a log record. The fold of both would be the same document; but
//! a history, and whatever counts submissions, would have each twice, and a leaf would have the type of the record,
//! whose scores are all doubles. So a record is left out where every key that it sets or clears is stated elsewhere:
//!
//! - if the record is one of this crate: by a span or carrier about the same target, at the time of the record or later.
//!   Spans carry all that records do, so once they have arrived the records say nothing new.
//! - if it is another's: by a span event or a carrier with an equal value, at most [`MOST_APART`] before it.
//!
//! Where the spans don't arrive, because they go to another backend, the records count.
//!
//! # Invariants
//!
//! - What is left out depends on the set of statements only, not on their order.
//! - A record that is older than what repeats it, other than the own document of a span, can be folded or left out:
//!   the document is the same.

use std::collections::HashMap;

/// How long after a span event the log record with the same content is made, at the most, in nanoseconds.
pub(crate) const MOST_APART: u64 = 1_000_000_000;

/// How a statement arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// On a span, with a carrier, or as an event of a span.
    Span,
    /// As a log record.
    LogRecord,
    /// As a log record of this crate.
    OwnLogRecord,
}

/// What a span, a carrier or a record states about a target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stated<'a, V> {
    pub(crate) arrival: Arrival,
    pub(crate) time_unix_nano: u64,
    pub(crate) attributes: &'a [(String, V)],
    pub(crate) cleared: &'a [String],
}

/// A key that is set, with its value, or cleared.
type Change<'a, V> = (&'a str, Option<&'a V>);

impl<'a, V> Stated<'a, V> {
    fn changes(&self) -> impl Iterator<Item = Change<'a, V>> + use<'a, V> {
        let set = self.attributes.iter().map(|(key, value)| (key.as_str(), Some(value)));
        set.chain(self.cleared.iter().map(|key| (key.as_str(), None)))
    }
}

/// Which of the statements about one target are left out, by their position.
pub(crate) fn repetitions<V: PartialEq>(stated: &[Stated<'_, V>]) -> Vec<bool> {
    let mut left_out = vec![false; stated.len()];
    if stated.iter().all(|statement| statement.arrival == Arrival::Span) {
        return left_out;
    }
    let mut elsewhere: HashMap<&str, Vec<(u64, Option<&V>)>> = HashMap::new();
    for statement in stated.iter().filter(|statement| statement.arrival == Arrival::Span) {
        for (key, value) in statement.changes() {
            elsewhere.entry(key).or_default().push((statement.time_unix_nano, value));
        }
    }
    for times in elsewhere.values_mut() {
        times.sort_unstable_by_key(|(time, _)| *time);
    }
    for (statement, left_out) in stated.iter().zip(&mut left_out) {
        if statement.arrival == Arrival::Span {
            continue;
        }
        let mut changes = statement.changes().peekable();
        *left_out = changes.peek().is_some()
            && changes.all(|change| {
                elsewhere.get(change.0).is_some_and(|spans| is_repeated(statement, change, spans))
            });
    }
    left_out
}

/// Whether a change of a record is stated by spans, which are sorted by time.
fn is_repeated<V: PartialEq>(
    record: &Stated<'_, V>,
    (_, value): Change<'_, V>,
    spans: &[(u64, Option<&V>)],
) -> bool {
    let time = record.time_unix_nano;
    if record.arrival == Arrival::OwnLogRecord {
        let at = spans.partition_point(|(span, _)| *span < time);
        // What clears the key states no value that the record has set.
        return spans[at..].iter().any(|(_, stated)| stated.is_some() || value.is_none());
    }
    let from = spans.partition_point(|(span, _)| *span < time.saturating_sub(MOST_APART));
    spans[from..].iter().take_while(|(span, _)| *span <= time).any(|(_, stated)| *stated == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Whether a record is left out beside what a span states.
    fn is_left_out(
        arrival: Arrival,
        (record_time, record): (u64, (&str, Option<i64>)),
        (span_time, span): (u64, (&str, Option<i64>)),
    ) -> bool {
        let parts = |(key, value): (&str, Option<i64>)| {
            let set: Vec<_> = value.map(|value| (key.to_owned(), value)).into_iter().collect();
            let cleared: Vec<_> = value.is_none().then(|| key.to_owned()).into_iter().collect();
            (set, cleared)
        };
        let (span, record) = (parts(span), parts(record));
        let stated = |arrival, time_unix_nano, (attributes, cleared)| Stated {
            arrival,
            time_unix_nano,
            attributes,
            cleared,
        };
        let both = [
            stated(Arrival::Span, span_time, (&span.0, &span.1)),
            stated(arrival, record_time, (&record.0, &record.1)),
        ];
        let left_out = repetitions(&both);
        assert!(!left_out[0]);
        left_out[1]
    }

    #[test]
    fn an_own_record_is_left_out_where_a_span_states_its_key_then_or_later() {
        let own = |record, span| is_left_out(Arrival::OwnLogRecord, record, span);
        assert!(own((5, ("a", Some(1))), (5, ("a", Some(1)))));
        assert!(own((5, ("a", Some(1))), (6, ("a", Some(2)))));
        assert!(own((5, ("a", None)), (6, ("a", Some(2)))));
        assert!(own((5, ("a", None)), (6, ("a", None))));
        assert!(!own((5, ("a", Some(1))), (4, ("a", Some(1)))));
        assert!(!own((5, ("a", Some(1))), (5, ("b", Some(1)))));
        assert!(!own((5, ("a", Some(1))), (6, ("a", None))));
    }

    #[test]
    fn another_record_is_left_out_where_the_same_was_stated_just_before() {
        let other = |record, span| is_left_out(Arrival::LogRecord, record, span);
        let record = (5 * SECOND, ("a", Some(1)));
        assert!(other(record, (5 * SECOND, ("a", Some(1)))));
        assert!(other(record, (4 * SECOND, ("a", Some(1)))));
        assert!(!other(record, (4 * SECOND - 1, ("a", Some(1)))));
        assert!(!other(record, (5 * SECOND + 1, ("a", Some(1)))));
        assert!(!other(record, (5 * SECOND, ("a", Some(2)))));
        assert!(!other(record, (5 * SECOND, ("a", None))));
    }

    #[test]
    fn a_record_without_any_span_counts() {
        let set = [("a".to_owned(), 1)];
        let record = Stated {
            arrival: Arrival::OwnLogRecord,
            time_unix_nano: 5,
            attributes: &set,
            cleared: &[],
        };
        assert_eq!(repetitions(&[record, record]), [false, false]);
    }
}
