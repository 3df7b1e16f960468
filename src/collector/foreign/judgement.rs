//! A judgement: a name with a score, a label or an explanation, and the leaves that it is read as.

use crate::collector::receive::value::Value;

/// What every foreign form states in its own attributes.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// The criterion: a path below the namespace.
    pub(super) name: String,
    /// A number; of emitters with bools a bool.
    pub(super) score: Option<Value>,
    pub(super) label: Option<String>,
    pub(super) explanation: Option<String>,
    /// The type of the error by which an evaluation failed.
    pub(super) error: Option<String>,
    /// Whether the score is stated to be a number of a scale, whatever its label.
    pub(super) is_ordinal: bool,
    pub(super) source: Source,
    /// Whether the emitter says that what it has stated before is withdrawn.
    pub(super) is_retracted: bool,
}

/// The source of a judgement.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Source {
    /// A person, or not stated.
    #[default]
    Person,
    /// A model, or code.
    Evaluator,
    /// An enrichment of this crate: its namespace.
    Enrichment(String),
}

/// What a carrier of a judgement states.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Statement {
    /// The full key of the criterion.
    pub(super) key: String,
    pub(super) leaves: Vec<(String, Value)>,
    pub(super) cleared: Vec<String>,
}

impl Judgement {
    /// The leaves of the judgement; `None` if it has no name, or states nothing.
    ///
    /// | the judgement has | leaves |
    /// | --- | --- |
    /// | a score of 1 or 0, labelled `true`/`false` or `pass`/`fail` | `NAME`, a bool |
    /// | a score | `NAME`, a number |
    /// | a score and another label | `NAME`, a number, and `NAME_label` |
    /// | a label | `NAME`, a string |
    /// | an explanation | `feedback.comment`; of an evaluator `metrics.NAME_explanation`; of an enrichment of this crate none, since its `comment` has a record of its own |
    /// | an error | `metrics.NAME_error` |
    pub(super) fn into_statement(self) -> Option<Statement> {
        let is_error = self.error.is_some();
        let namespace = match &self.source {
            Source::Enrichment(namespace) => namespace.as_str(),
            Source::Person if !is_error => "feedback",
            _ => "metrics",
        };
        let key = match path(&self.name) {
            Some(path) => format!("{namespace}.{path}"),
            None if self.is_retracted => namespace.to_owned(),
            None => return None,
        };
        let mut leaves = Vec::new();
        let score = self.score.filter(is_finite);
        let as_bool = score
            .as_ref()
            .zip(self.label.as_deref())
            .and_then(|(score, label)| bool_of(score, label));
        match (as_bool.filter(|_| !self.is_ordinal), score, self.label) {
            (Some(value), ..) => leaves.push((key.clone(), Value::Bool(value))),
            (None, Some(score), label) => {
                leaves.push((key.clone(), score));
                leaves.extend(label.map(|label| (format!("{key}_label"), Value::String(label))));
            }
            (None, None, Some(label)) => leaves.push((key.clone(), Value::String(label))),
            (None, None, None) => {}
        }
        let error = self.error.map(|error| (format!("{key}_error"), Value::String(error)));
        leaves.extend(error);
        let is_enrichment = matches!(self.source, Source::Enrichment(_));
        if let Some(explanation) = self.explanation.filter(|_| !is_enrichment) {
            let to = match namespace {
                "feedback" => "feedback.comment".to_owned(),
                _ => format!("{key}_explanation"),
            };
            if leaves.iter().all(|(key, _)| *key != to) {
                leaves.push((to, Value::String(explanation)));
            }
        }
        let mut cleared = Vec::new();
        if self.is_retracted {
            leaves.clear();
            cleared.push(key.clone());
        }
        let states_something = !leaves.is_empty() || !cleared.is_empty();
        states_something.then_some(Statement { key, leaves, cleared })
    }
}

/// The name of a criterion as a path. No segment of a path is empty.
fn path(name: &str) -> Option<String> {
    let name = name.trim();
    if name.is_empty() {
        return None;
    }
    let segments: Vec<_> =
        name.split('.').map(|segment| if segment.is_empty() { "_" } else { segment }).collect();
    Some(segments.join("."))
}

/// The bool that a score and its label stand for: emitters have no other way to send one.
fn bool_of(score: &Value, label: &str) -> Option<bool> {
    let value = match score {
        Value::Bool(value) => *value,
        Value::Int(1) => true,
        Value::Int(0) => false,
        Value::Double(number) if *number == 1.0 => true,
        Value::Double(number) if *number == 0.0 => false,
        _ => return None,
    };
    let labels = if value { ["true", "pass"] } else { ["false", "fail"] };
    labels.iter().any(|known| label.eq_ignore_ascii_case(known)).then_some(value)
}

/// Whether a score can be kept: NaN and the infinities can't, in a document.
fn is_finite(score: &Value) -> bool {
    match score {
        Value::Double(number) => number.is_finite(),
        Value::Int(_) | Value::Bool(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(judgement: Judgement) -> Vec<(String, Value)> {
        let name = "tone".to_owned();
        Judgement { name, ..judgement }.into_statement().map_or(vec![], |read| read.leaves)
    }

    fn scored(score: impl Into<Value>, label: &str) -> Judgement {
        let label = Some(label.to_owned()).filter(|label| !label.is_empty());
        Judgement { score: Some(score.into()), label, ..Judgement::default() }
    }

    #[test]
    fn a_score_with_its_label_is_a_bool_only_where_they_agree() {
        let key = "feedback.tone".to_owned();
        assert_eq!(read(scored(1.0, "true")), [(key.clone(), Value::Bool(true))]);
        assert_eq!(read(scored(0.0, "fail")), [(key.clone(), Value::Bool(false))]);
        assert_eq!(read(scored(1, "Pass")), [(key.clone(), Value::Bool(true))]);
        assert_eq!(read(scored(true, "")), [(key.clone(), Value::Bool(true))]);
        let label = |text: &str| ("feedback.tone_label".to_owned(), Value::from(text));
        assert_eq!(read(scored(1.0, "fail")), [(key.clone(), Value::Double(1.0)), label("fail")]);
        assert_eq!(read(scored(4.0, "good")), [(key.clone(), Value::Double(4.0)), label("good")]);
        let of_scale = Judgement { is_ordinal: true, ..scored(1.0, "pass") };
        assert_eq!(read(of_scale), [(key, Value::Double(1.0)), label("pass")]);
    }

    #[test]
    fn what_states_nothing_is_none() {
        assert_eq!(read(Judgement::default()), []);
        assert_eq!(read(scored(f64::NAN, "")), []);
        assert_eq!(read(scored("five", "")), []);
        let unnamed = Judgement { name: " ".to_owned(), ..scored(1, "") };
        assert_eq!(unnamed.into_statement(), None);
    }

    #[test]
    fn a_namespace_is_retracted_as_a_whole() {
        let source = Source::Enrichment("metrics".to_owned());
        let all = Judgement { source, is_retracted: true, ..Judgement::default() };
        let statement = all.into_statement().unwrap();
        assert_eq!((statement.leaves, statement.cleared), (vec![], vec!["metrics".to_owned()]));
    }

    #[test]
    fn no_segment_of_a_path_is_empty() {
        assert_eq!(path("a..b.").as_deref(), Some("a._.b._"));
        assert_eq!(path("step1.retry").as_deref(), Some("step1.retry"));
    }

    #[test]
    fn explanations_and_errors_stand_beside_the_score() {
        let explained =
            |source| Judgement { explanation: Some("why".to_owned()), source, ..scored(0.5, "") };
        assert_eq!(read(explained(Source::Person))[1].0, "feedback.comment");
        assert_eq!(read(explained(Source::Evaluator))[1].0, "metrics.tone_explanation");
        let of_enrichment = explained(Source::Enrichment("metrics".to_owned()));
        assert_eq!(read(of_enrichment), [("metrics.tone".to_owned(), Value::Double(0.5))]);
        let failed = Judgement { error: Some("Timeout".to_owned()), ..Judgement::default() };
        assert_eq!(read(failed), [("metrics.tone_error".to_owned(), Value::from("Timeout"))]);
    }
}
