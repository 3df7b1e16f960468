//! From the fold of a target to the records that a backend should have of it.
//!
//! One record a leaf, with three exceptions:
//!
//! - `comment` is the explanation of another record of its namespace where there is one to explain: `rating`, else
//!   the first leaf by key that is a bool or a number.
//! - `user_id` and `user` say who gave the feedback, and are no records.
//! - What [`Selection`] leaves out.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::Selection;
use crate::desk::store::forwarding::{ForwardLeaf, ForwardTarget};
use crate::desk::store::json::datum_json;
use crate::desk::store::leaf::{Leaf, LeafType, is_ground_truth};

/// A longer text is none of few, which a backend would list as categories.
const LONGEST_CATEGORY: usize = 64;

/// A record that a backend should have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// The full key of the leaf: `feedback.rating`.
    pub(super) field: String,
    pub(super) value: Leaf,
    /// The comment that explains the value.
    pub(super) explanation: Option<String>,
    pub(super) source: Source,
    /// Who gave it.
    pub(super) by: Option<String>,
    pub(super) is_ground_truth: bool,
    /// When it was given, in nanoseconds since the epoch. A difference of this alone is none.
    pub(super) given: i64,
}

/// What has made a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// An end user: `feedback`.
    User,
    /// `metrics` of a program, unless `metadata.evaluator_kind` says otherwise.
    Code,
    /// `metrics` with `metadata.evaluator_kind` = `model`.
    Model,
    /// `metrics` with `metadata.evaluator_kind` = `expert`.
    Expert,
}

impl Source {
    fn of(leaf: &ForwardLeaf) -> Self {
        if leaf.key.starts_with("feedback.") {
            return Self::User;
        }
        match leaf.evaluator.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("model" | "llm") => Self::Model,
            Some("expert" | "human") => Self::Expert,
            _ => Self::Code,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Code => "code",
            Self::Model => "model",
            Self::Expert => "expert",
        }
    }

    /// As most backends name it.
    pub(super) fn annotator_kind(self) -> &'static str {
        match self {
            Self::User | Self::Expert => "HUMAN",
            Self::Code => "CODE",
            Self::Model => "LLM",
        }
    }
}

impl Item {
    /// A hash of everything that the backend's record of this leaf is made of. Never 0, which stands for no record.
    pub(super) fn hash(&self) -> i64 {
        let text = json!([
            self.field,
            self.value.kind() as i64,
            datum_json(self.value.datum()),
            self.explanation,
            self.source.name(),
            self.by,
        ])
        .to_string();
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&Sha256::digest(text)[..8]);
        (i64::from_be_bytes(bytes) & i64::MAX).max(1)
    }

    /// A number or a bool as a number.
    pub(super) fn score(&self) -> Option<f64> {
        match self.value {
            Leaf::Bool(value) => Some(f64::from(u8::from(value))),
            Leaf::Int(value) => Some(value as f64),
            Leaf::Double(value) => Some(value),
            Leaf::Text(_) | Leaf::Other(_) => None,
        }
    }

    /// The value as text.
    pub(super) fn text(&self) -> String {
        self.value.datum().text()
    }

    /// Whether the value is a text that can be one of few: a short line that is no comment.
    pub(super) fn is_category(&self) -> bool {
        let text = self.text();
        matches!(self.value, Leaf::Text(_))
            && !self.is_ground_truth
            && self.field.rsplit('.').next() != Some("comment")
            && text.chars().count() <= LONGEST_CATEGORY
            && !text.contains(char::is_control)
    }

    /// When it was given, in milliseconds.
    pub(super) fn given_ms(&self) -> i64 {
        self.given.div_euclid(1_000_000)
    }
}

/// The leaf of a namespace that a comment explains: `rating`, else the first bool or number.
pub(super) fn explained<'t>(target: &'t ForwardTarget, namespace: &str) -> Option<&'t str> {
    let is_number = |leaf: &&ForwardLeaf| {
        leaf.key.starts_with(namespace)
            && !matches!(leaf.value.kind(), LeafType::Text | LeafType::Other)
    };
    let keys = target.leaves.iter().filter(is_number).map(|leaf| leaf.key.as_str());
    keys.min_by_key(|key| (key[namespace.len()..] != *"rating", *key))
}

/// The records that a backend should have of a target, by key.
pub(super) fn items(target: &ForwardTarget, selection: Selection) -> Vec<Item> {
    let mut items = Vec::new();
    for namespace in ["feedback.", "metrics."] {
        if namespace == "metrics." && !selection.has_metrics {
            continue;
        }
        let leaves: Vec<_> =
            target.leaves.iter().filter(|leaf| leaf.key.starts_with(namespace)).collect();
        let path = |leaf: &ForwardLeaf| leaf.key[namespace.len()..].to_owned();
        let is_text =
            |leaf: &ForwardLeaf| matches!(leaf.value.kind(), LeafType::Text | LeafType::Other);
        let comment = leaves.iter().find(|leaf| path(leaf) == "comment" && is_text(leaf));
        let explained = explained(target, namespace).map(str::to_owned);
        let author = leaves
            .iter()
            .find(|leaf| path(leaf) == "user_id")
            .or_else(|| leaves.iter().find(|leaf| path(leaf) == "user"))
            .map(|leaf| leaf.value.datum().text());
        for leaf in &leaves {
            let path = path(leaf);
            let is_explanation = path == "comment" && comment.is_some() && explained.is_some();
            if is_explanation || path == "user_id" || path == "user" {
                continue;
            }
            if !selection.has_texts && is_text(leaf) {
                continue;
            }
            let explanation = comment
                .filter(|_| selection.has_texts && explained.as_ref() == Some(&leaf.key))
                .map(|comment| comment.value.datum().text());
            let by = leaf.by.clone().or_else(|| author.clone());
            items.push(Item {
                field: leaf.key.clone(),
                value: leaf.value.clone(),
                explanation: explanation.filter(|text| !text.is_empty()),
                source: Source::of(leaf),
                by: by.filter(|_| selection.has_texts),
                is_ground_truth: is_ground_truth(&leaf.key),
                given: leaf.given,
            });
        }
    }
    items
}

#[cfg(test)]
pub(super) mod tests {
    use opentelemetry::trace::{SpanId, TraceId};

    use super::*;
    use crate::collector::Target;
    use crate::desk::store::forwarding::ChangePosition;

    /// A target with these leaves, given in the second 1.
    pub(in crate::desk::forward) fn target(leaves: &[(&str, Leaf)]) -> ForwardTarget {
        let leaf = |(key, value): &(&str, Leaf)| ForwardLeaf {
            key: (*key).to_owned(),
            value: value.clone(),
            given: 1_000_000_000,
            by: Some("u-17".to_owned()),
            evaluator: None,
        };
        ForwardTarget {
            row: 1,
            position: ChangePosition { changed: 1, row: 1 },
            target: Target::Span(TraceId::from(0xa), SpanId::from(0xb)),
            service: Some("chat".to_owned()),
            project: None,
            latest_trace: None,
            root: None,
            leaves: leaves.iter().map(leaf).collect(),
        }
    }

    /// All records that a backend should have of a target.
    pub(in crate::desk::forward) fn items_of(target: &ForwardTarget) -> Vec<Item> {
        items(target, Selection { has_metrics: true, has_texts: true })
    }

    pub(in crate::desk::forward) fn text(text: &str) -> Leaf {
        Leaf::Text(text.to_owned())
    }

    fn said(leaves: &[(&str, Leaf)], selection: Selection) -> Vec<String> {
        let items = items(&target(leaves), selection);
        let shown = |item: &Item| {
            let explanation = item.explanation.as_ref().map(|text| format!(" ({text})"));
            format!("{}={}{}", item.field, item.text(), explanation.unwrap_or_default())
        };
        items.iter().map(shown).collect()
    }

    #[test]
    fn a_comment_explains_the_rating_or_the_first_number_and_is_a_record_without() {
        let all = Selection { has_metrics: true, has_texts: true };
        let rating = ("feedback.rating", Leaf::Bool(false));
        let accuracy = ("feedback.accuracy", Leaf::Int(3));
        let comment = ("feedback.comment", text("slow"));
        let truth = ("feedback.ground_truth", text("Albany"));
        let score = ("metrics.relevance", Leaf::Double(0.5));
        assert_eq!(
            said(&[accuracy.clone(), comment.clone(), rating.clone(), score.clone()], all),
            ["feedback.accuracy=3", "feedback.rating=false (slow)", "metrics.relevance=0.5"]
        );
        assert_eq!(said(&[accuracy, comment.clone()], all), ["feedback.accuracy=3 (slow)"]);
        assert_eq!(
            said(&[comment.clone(), truth], all),
            ["feedback.comment=slow", "feedback.ground_truth=Albany"]
        );
        assert_eq!(
            said(&[comment, score], all),
            ["feedback.comment=slow", "metrics.relevance=0.5"],
            "a user's comment explains no evaluator's score"
        );
    }

    #[test]
    fn texts_and_metrics_can_be_withheld() {
        let leaves = [
            ("feedback.comment", text("slow")),
            ("feedback.rating", Leaf::Bool(false)),
            ("feedback.reason", text("length")),
            ("feedback.user_id", text("u-17")),
            ("metrics.relevance", Leaf::Double(0.5)),
        ];
        let selection = Selection { has_metrics: false, has_texts: false };
        assert_eq!(said(&leaves, selection), ["feedback.rating=false"]);
        let found = items(&target(&leaves), selection);
        assert_eq!(found[0].by, None);
        assert_eq!(
            said(&leaves, Selection::default()),
            ["feedback.rating=false (slow)", "feedback.reason=length"]
        );
    }

    #[test]
    fn a_hash_differs_with_what_a_backend_is_told_and_with_that_alone() {
        let of = |leaves: &[(&str, Leaf)]| items(&target(leaves), Selection::default())[0].clone();
        let item = of(&[("feedback.rating", Leaf::Int(1))]);
        assert_eq!(Item { given: 2, ..item.clone() }.hash(), item.hash());
        for other in [
            of(&[("feedback.rating", Leaf::Bool(true))]),
            of(&[("feedback.rating", Leaf::Double(1.0))]),
            of(&[("feedback.rating", text("1"))]),
            of(&[("feedback.stars", Leaf::Int(1))]),
            Item { explanation: Some(String::new()), ..item.clone() },
            Item { by: None, ..item.clone() },
            Item { source: Source::Code, ..item.clone() },
        ] {
            assert_ne!(other.hash(), item.hash(), "{other:?}");
        }
    }
}
