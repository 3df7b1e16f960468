//! Folding: merges the feedback in the spans that a backend has received.
//!
//! Feedback travels in parts: on the span it is about, and in *carriers* that arrive later, in any
//! order, some of them twice. [`fold`] puts the parts together by the same rules by which documents
//! merge inside the process, so that a reader gets the same document.

use std::collections::{BTreeMap, HashMap};

use opentelemetry::trace::SpanId;

pub use super::document::Document;

/// The feedback of one span about a target: attributes to set, after the cleared keys are removed.
///
/// ```
/// use opentelemetry::trace::SpanId;
/// use tracing_feedback::fold::Submission;
///
/// let rating = [("feedback.rating".to_owned(), 5)];
/// let submission = Submission::new(SpanId::from(7), 1_700_000_000_000_000_000, rating)
///     .with_cleared(["feedback.comment".to_owned()]);
/// assert_eq!(submission.cleared, ["feedback.comment"]);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Submission<V> {
    /// The id of the span that carried the submission: one id is one submission, however often it
    /// arrives.
    pub span_id: SpanId,
    /// `tracing_feedback.time_unix_nano`: when the document was last enriched.
    pub time_unix_nano: u64,
    /// `tracing_feedback.cleared`: full keys to remove, with all that stands under them.
    pub cleared: Vec<String>,
    /// The `feedback.*` attributes (and those of the other namespaces) by full key.
    pub attributes: Vec<(String, V)>,
}

impl<V> Submission<V> {
    /// A submission that sets attributes, and clears no key.
    pub fn new(
        span_id: SpanId,
        time_unix_nano: u64,
        attributes: impl IntoIterator<Item = (String, V)>,
    ) -> Self {
        let attributes = attributes.into_iter().collect();
        Self { span_id, time_unix_nano, cleared: Vec::new(), attributes }
    }

    /// The keys to remove before the attributes are set.
    #[must_use]
    pub fn with_cleared(mut self, keys: impl IntoIterator<Item = String>) -> Self {
        self.cleared = keys.into_iter().collect();
        self
    }
}

/// Folds all feedback about one target into its attributes.
///
/// `own` are the target's own attributes of the feedback namespaces (empty for a session or trace,
/// whose documents are all submissions). `submissions` may come in any order and repeat: they are
/// applied by time, ties by span id; of several with one span id the earliest counts.
///
/// ```
/// use opentelemetry::trace::SpanId;
/// use tracing_feedback::fold::{Submission, fold};
///
/// let vote = |id: u64, time, value| {
///     Submission::new(SpanId::from(id), time, [("feedback.rating".to_string(), value)])
/// };
/// let own = [("feedback.rating".to_string(), 1), ("feedback.stars".to_string(), 5)];
/// let folded = fold(own, [vote(8, 20, 3), vote(7, 10, 2), vote(7, 30, 4)]);
/// assert_eq!(folded["feedback.rating"], 3); // the second arrival of submission 7 changes nothing
/// assert_eq!(folded["feedback.stars"], 5);
/// ```
pub fn fold<V>(
    own: impl IntoIterator<Item = (String, V)>,
    submissions: impl IntoIterator<Item = Submission<V>>,
) -> BTreeMap<String, V> {
    let mut document = Document::default();
    for (key, value) in own {
        document.set(key, value);
    }
    for submission in in_order(submissions) {
        for key in submission.cleared {
            document.remove(key);
        }
        for (key, value) in submission.attributes {
            document.set(key, value);
        }
    }
    let (leaves, _) = document.into_parts();
    leaves.into_iter().map(|(key, value)| (key.into_owned(), value)).collect()
}

/// Each submission once, the earliest of those with the same span id, by time and then by span id.
fn in_order<V>(submissions: impl IntoIterator<Item = Submission<V>>) -> Vec<Submission<V>> {
    let mut earliest: HashMap<SpanId, Submission<V>> = HashMap::new();
    for submission in submissions {
        match earliest.entry(submission.span_id) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(submission);
            }
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                if submission.time_unix_nano < entry.get().time_unix_nano {
                    entry.insert(submission);
                }
            }
        }
    }
    let mut ordered: Vec<_> = earliest.into_values().collect();
    ordered.sort_by_key(|submission| (submission.time_unix_nano, submission.span_id.to_bytes()));
    ordered
}
