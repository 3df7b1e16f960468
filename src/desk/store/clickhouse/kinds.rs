//! Types inferred from values, because the columns hold text.
//!
//! A field is a bool or a number if 99 of 100 of its values look like one; otherwise it is text, and so are
//! the others. A number has no leading zeros, and an integer at most 15 digits, so that postal codes and ids
//! stay text. The address of the store can set another type: `type.FIELD=string`.

use std::collections::{BTreeMap, HashMap};

use crate::collector::receive::value::Value;
use crate::desk::query::datum::ValueKind;
use crate::desk::query::measure::Measure;
use crate::desk::store::leaf::is_ground_truth;

/// The greatest number of digits of an integer: as many as a double holds exactly.
const MOST_DIGITS: usize = 15;
/// The same for a number with a fraction, which was a double: those are printed with up to 17 digits.
const MOST_DIGITS_OF_DOUBLES: usize = 20;

/// The percentage of values that must look like a type.
const ENOUGH: u64 = 99;

/// The type and the counts of a field's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldInfo {
    pub(super) kind: Option<ValueKind>,
    /// By the kinds of [`crate::desk::query::datum::KINDS`].
    pub(super) counts: [i64; 4],
    /// Whether there is a value about a session.
    pub(super) has_sessions: bool,
}

impl FieldInfo {
    /// The type, if there are values of others, too.
    pub(super) fn mixed(self) -> Option<ValueKind> {
        let types = self.counts.into_iter().filter(|count| *count > 0);
        self.kind.filter(|_| types.count() > 1)
    }
}

/// The types of all fields.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    fields: HashMap<String, FieldInfo>,
}

/// A field, how many values it has, how many look like bools, like numbers, and are about sessions.
pub(super) type FieldCounts = (String, u64, u64, u64, u64);

impl Kinds {
    /// The query whose rows [`Kinds::new`] takes.
    pub(super) fn query(leaves: &str) -> String {
        format!(
            "SELECT field, count(), countIf({}), countIf({}), countIf(session_id != '') FROM {leaves}
             GROUP BY field",
            is_bool("value"),
            is_number("value"),
        )
    }

    pub(super) fn new(rows: Vec<FieldCounts>, pinned: &BTreeMap<String, ValueKind>) -> Self {
        let fields = rows.into_iter().map(|(field, all, bools, numbers, sessions)| {
            let kind = match pinned.get(&field) {
                Some(kind) => *kind,
                None if is_ground_truth(&field) => ValueKind::Text,
                None if bools * 100 >= all * ENOUGH => ValueKind::Bool,
                None if numbers * 100 >= all * ENOUGH => ValueKind::Number,
                None => ValueKind::Text,
            };
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let counts = match kind {
                ValueKind::Bool => [count(bools), 0, count(all - bools), 0],
                ValueKind::Number => [0, count(numbers), count(all - numbers), 0],
                ValueKind::Text | ValueKind::Other => [0, 0, count(all), 0],
            };
            (field, FieldInfo { kind: Some(kind), counts, has_sessions: sessions > 0 })
        });
        Self { fields: fields.collect() }
    }

    pub(super) fn of(&self, field: &str) -> FieldInfo {
        self.fields.get(field).copied().unwrap_or_default()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, FieldInfo)> {
        self.fields.iter().map(|(field, known)| (field.as_str(), *known))
    }

    /// The value of a field out of its text.
    pub(super) fn value(&self, field: &str, text: String) -> Value {
        match self.of(field).kind {
            Some(ValueKind::Bool) if matches!(text.as_str(), "true" | "false") => {
                Value::Bool(text == "true")
            }
            Some(ValueKind::Number) if looks_like_a_number(&text) => number(text),
            _ => Value::String(text),
        }
    }
}

/// The value of an attribute of which nothing is known but its text: what it looks like, if it is written
/// the same again. `5.0` stays text, for it may be a version.
pub(super) fn guessed(text: String) -> Value {
    match text.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if looks_like_a_number(&text) => match number(text.clone()) {
            Value::Int(int) if int.to_string() == text => Value::Int(int),
            Value::Double(double) if double.to_string() == text => Value::Double(double),
            _ => Value::String(text),
        },
        _ => Value::String(text),
    }
}

fn number(text: String) -> Value {
    if let Ok(int) = text.parse() {
        return Value::Int(int);
    }
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() => Value::Double(double),
        _ => Value::String(text),
    }
}

/// As [`is_number`] has it.
fn looks_like_a_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(end);
    if whole.is_empty() || whole.len() > 1 && whole.starts_with('0') {
        return false;
    }
    if rest.is_empty() {
        return whole.len() <= MOST_DIGITS;
    }
    let (fraction, exponent) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            (Some(end), &rest[end..])
        }
        None => (None, rest),
    };
    let fits = |digits: usize| (1..=MOST_DIGITS_OF_DOUBLES).contains(&digits);
    let exponent_fits = match exponent.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        }
        None => exponent.is_empty() && fraction.is_some(),
    };
    fits(whole.len()) && fraction.is_none_or(fits) && exponent_fits
}

/// Whether a column of text holds a number, as SQL.
pub(super) fn is_number(column: &str) -> String {
    let (int, double) = (MOST_DIGITS - 1, MOST_DIGITS_OF_DOUBLES);
    format!(
        "match({column}, '^-?(0|[1-9][0-9]{{0,{int}}})$|\
         ^-?(0|[1-9][0-9]{{0,{}}})([.][0-9]{{1,{double}}}([eE][+-]?[0-9]{{1,3}})?|[eE][+-]?[0-9]{{1,3}})$')",
        double - 1
    )
}

/// Whether a column of text holds a bool, as SQL.
pub(super) fn is_bool(column: &str) -> String {
    format!("{column} IN ('true', 'false')")
}

/// Whether a column of text holds a value of this type, as SQL.
pub(super) fn is_of(kind: ValueKind, column: &str) -> String {
    match kind {
        ValueKind::Bool => is_bool(column),
        ValueKind::Number => is_number(column),
        ValueKind::Text | ValueKind::Other => "1".to_owned(),
    }
}

/// What a measure takes: a bool is 1 or 0, and of text there is nothing but its presence.
pub(super) fn to_number(kind: ValueKind, column: &str) -> String {
    match kind {
        ValueKind::Bool => format!("toFloat64({column} = 'true')"),
        ValueKind::Number => format!("toFloat64OrZero({column})"),
        ValueKind::Text | ValueKind::Other => "toFloat64(0)".to_owned(),
    }
}

/// A measure of the column `v`, as SQL.
pub(super) fn measure(measure: Measure) -> String {
    let share = |condition: &str| format!("100 * countIf({condition}) / count()");
    let quantile = |level: f64| format!("quantileExactInclusive({level})(v)");
    match measure {
        Measure::Count => "count()".to_owned(),
        Measure::PercentTrue => share("v != 0"),
        Measure::PercentFalse => share("v = 0"),
        Measure::Sum => "sumKahan(v)".to_owned(),
        Measure::Avg => "sumKahan(v) / count()".to_owned(),
        Measure::Median => quantile(0.5),
        Measure::Min => "min(v)".to_owned(),
        Measure::Max => "max(v)".to_owned(),
        Measure::P95 => quantile(0.95),
        Measure::P98 => quantile(0.98),
        Measure::P99 => quantile(0.99),
        Measure::Percentage(comparison, operand) => {
            share(&format!("v {} {}", comparison.symbol(), super::sql::number(operand)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_number() {
        for text in
            ["0", "-1", "5", "999999999999999", "0.5", "-3.141592653589793", "1e+21", "1.5E-7"]
        {
            assert!(looks_like_a_number(text), "{text}");
        }
        for text in [
            "",
            "-",
            "007",
            "0123",
            "1234567890123456",
            "1.",
            ".5",
            "+5",
            "1e",
            "1e1234",
            "0x10",
            "1 ",
            "NaN",
            "inf",
            "1_000",
            "1,5",
            "--1",
            "1.2.3",
        ] {
            assert!(!looks_like_a_number(text), "{text}");
        }
    }

    #[test]
    fn an_attribute_is_what_it_looks_like_if_it_is_written_so() {
        assert_eq!(guessed("200".to_owned()), Value::Int(200));
        assert_eq!(guessed("0.25".to_owned()), Value::Double(0.25));
        assert_eq!(guessed("true".to_owned()), Value::Bool(true));
        for text in ["5.0", "1.10", "007", "yes", ""] {
            assert_eq!(guessed(text.to_owned()), Value::from(text));
        }
    }

    #[test]
    fn a_field_is_what_nearly_all_of_its_values_are() {
        let rows = vec![
            ("feedback.rating".to_owned(), 100, 100, 0, 0),
            ("feedback.stars".to_owned(), 1000, 0, 995, 3),
            ("feedback.zip".to_owned(), 10, 0, 10, 0),
            ("feedback.mixed".to_owned(), 100, 0, 60, 0),
            ("feedback.ground_truth".to_owned(), 10, 0, 10, 0),
        ];
        let pinned = BTreeMap::from([("feedback.zip".to_owned(), ValueKind::Text)]);
        let kinds = Kinds::new(rows, &pinned);
        let of = |field: &str| kinds.of(field).kind;
        assert_eq!(of("feedback.rating"), Some(ValueKind::Bool));
        assert_eq!(of("feedback.stars"), Some(ValueKind::Number));
        assert_eq!(kinds.of("feedback.stars").counts, [0, 995, 5, 0]);
        assert!(kinds.of("feedback.stars").has_sessions);
        assert_eq!(of("feedback.zip"), Some(ValueKind::Text));
        assert_eq!(of("feedback.mixed"), Some(ValueKind::Text));
        assert_eq!(of("feedback.ground_truth"), Some(ValueKind::Text));
        assert_eq!(of("feedback.none"), None);
        assert_eq!(kinds.value("feedback.stars", "4".to_owned()), Value::Int(4));
        assert_eq!(kinds.value("feedback.stars", "many".to_owned()), Value::from("many"));
        assert_eq!(kinds.value("feedback.zip", "80331".to_owned()), Value::from("80331"));
    }
}
