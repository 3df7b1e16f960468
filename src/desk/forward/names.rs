//! Names and ids of records: one table for all backends.
//!
//! The name of a record is the path of its leaf without the namespace `feedback` (`rating`, `step1.retry`); leaves
//! of `metrics` keep theirs (`metrics.relevance`), since end users and evaluators are never mixed. What a backend
//! takes in a name is in [`RULES`]. Ids are derived from the target and the whole key, so they stay apart where two
//! names become the same.

use sha2::{Digest, Sha256};

use crate::collector::Target;
use crate::desk::store::json::hex;

/// What a backend takes in a name.
pub(super) struct NameRules {
    /// The kind, as on the command line.
    kind: &'static str,
    /// Characters besides ASCII letters, digits and `_`; others become `_`. `None`: all characters.
    others: Option<&'static str>,
    /// In characters.
    longest: usize,
    /// Names with a meaning of their own there, which get a `_` behind them.
    reserved: &'static [&'static str],
}

/// | backend | source |
/// | --- | --- |
/// | Datadog | "Evaluation labels" in `llm_observability/evaluations/external_evaluations` of its documentation |
/// | HoneyHive, LangSmith, Opik | no limit is documented |
/// | Langfuse | no limit is documented but that of a score config, which is not used |
/// | MLflow | `assessments.name` in `store/tracking/dbmodels/models.py`, 3.17.2; a dot would be taken for nesting in searches |
/// | Phoenix | `server/api/routers/v1/spans.py`, 20.26.1: "note" is refused |
const RULES: &[NameRules] = &[
    NameRules { kind: "phoenix", others: None, longest: 500, reserved: &["note"] },
    NameRules { kind: "mlflow", others: Some("-"), longest: 250, reserved: &[] },
    NameRules { kind: "langfuse", others: None, longest: 500, reserved: &[] },
    NameRules { kind: "langsmith", others: None, longest: 180, reserved: &[] },
    NameRules { kind: "datadog", others: Some(""), longest: 200, reserved: &[] },
    NameRules { kind: "opik", others: None, longest: 150, reserved: &[] },
    NameRules { kind: "honeyhive", others: None, longest: 500, reserved: &[] },
];

/// The path of a leaf, as it is named in backends.
pub(super) fn path(field: &str) -> &str {
    field.strip_prefix("feedback.").unwrap_or(field)
}

/// The name of a leaf, fit for a kind of backend.
pub(super) fn name(kind: &str, field: &str) -> String {
    let path = path(field);
    let Some(rules) = RULES.iter().find(|rules| rules.kind == kind) else { return path.to_owned() };
    let fit = |c: char| match rules.others {
        Some(others) if !(c.is_ascii_alphanumeric() || c == '_' || others.contains(c)) => '_',
        _ => c,
    };
    let mut name: String = path.chars().map(fit).take(rules.longest).collect();
    if rules.reserved.contains(&name.as_str()) {
        name.push('_');
    }
    name
}

/// The longest name that a kind of backend takes, in characters.
pub(super) fn longest(kind: &str) -> usize {
    RULES.iter().find(|rules| rules.kind == kind).map_or(usize::MAX, |rules| rules.longest)
}

/// The ids of a target as one text: `span 0af7… b7ad…`.
pub(super) fn target_text(target: &Target) -> String {
    match target {
        Target::Span(trace, span) => format!("span {trace} {span}"),
        Target::Trace(trace) => format!("trace {trace}"),
        Target::Session(id) => format!("session {id}"),
    }
}

/// The id of a record: the same for the same target and leaf, in every process and at every time.
pub(super) fn record_id(target: &Target, field: &str) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in ["tracing-feedback forward 1", &target_text(target), field] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    id
}

/// [`record_id`] as 32 hexadecimal digits.
pub(super) fn hex_id(target: &Target, field: &str) -> String {
    hex(&record_id(target, field))
}

/// 16 bytes as a UUID.
pub(super) fn uuid(bytes: &[u8; 16]) -> String {
    let hex = hex(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Whether a text is a UUID, in lower case and with dashes.
pub(super) fn is_uuid(text: &str) -> bool {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => is_digit(c),
        })
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceId};

    use super::*;

    #[test]
    fn names_are_made_fit() {
        for (kind, field, expected) in [
            ("phoenix", "feedback.rating", "rating"),
            ("phoenix", "feedback.step1.retry", "step1.retry"),
            ("phoenix", "feedback.note", "note_"),
            ("phoenix", "metrics.rating", "metrics.rating"),
            ("phoenix", "feedback.größe", "größe"),
            ("mlflow", "feedback.step1.retry", "step1_retry"),
            ("mlflow", "metrics.rating", "metrics_rating"),
        ] {
            assert_eq!(name(kind, field), expected);
        }
    }

    /// They must never change: a vote would be a second record.
    #[test]
    fn ids_are_pinned() {
        let span = Target::Span(TraceId::from(1), SpanId::from(2));
        assert_eq!(hex_id(&span, "feedback.rating"), "406cc66bb01ded690f9bda4c7d835d78");
        let others = [
            hex_id(&span, "metrics.rating"),
            hex_id(&Target::Trace(TraceId::from(1)), "feedback.rating"),
            hex_id(&Target::Session("1".to_owned()), "feedback.rating"),
        ];
        for other in others {
            assert_ne!(other, hex_id(&span, "feedback.rating"));
        }
    }
}
