//! Measures of values. All are exact: nothing is sampled or approximated.

use std::fmt;
use std::str::FromStr;

use super::datum::ValueKind;

/// A measure of the values of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Measure {
    Count,
    /// Of booleans.
    PercentTrue,
    PercentFalse,
    Sum,
    Avg,
    Median,
    Min,
    Max,
    P95,
    P98,
    P99,
    /// The share of values that meet a comparison.
    Percentage(Comparison, f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The measures of a type without parameters, in the order of display.
pub(crate) fn of(kind: ValueKind) -> &'static [Measure] {
    use Measure::{Avg, Count, Max, Median, Min, P95, P98, P99, PercentFalse, PercentTrue, Sum};
    match kind {
        ValueKind::Bool => &[PercentTrue, PercentFalse, Count],
        ValueKind::Number => &[Count, Sum, Avg, Median, Min, Max, P95, P98, P99],
        ValueKind::Text | ValueKind::Other => &[Count],
    }
}

impl Measure {
    /// Whether the measure is defined for values of this type.
    pub(crate) fn fits(self, kind: ValueKind) -> bool {
        matches!((self, kind), (Self::Percentage(..), ValueKind::Number))
            || of(kind).contains(&self)
    }

    /// The measure of sorted values; `None` without values, which is a gap and not zero.
    pub(crate) fn of(self, sorted: &[f64]) -> Option<f64> {
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        let count = sorted.len() as f64;
        let share = |of: usize| 100.0 * of as f64 / count;
        Some(match self {
            Self::Count => count,
            Self::PercentTrue => share(sorted.iter().filter(|value| **value != 0.0).count()),
            Self::PercentFalse => share(sorted.iter().filter(|value| **value == 0.0).count()),
            Self::Sum => sum(sorted),
            Self::Avg => sum(sorted) / count,
            Self::Median => quantile(sorted, 0.5),
            Self::Min => first,
            Self::Max => last,
            Self::P95 => quantile(sorted, 0.95),
            Self::P98 => quantile(sorted, 0.98),
            Self::P99 => quantile(sorted, 0.99),
            Self::Percentage(comparison, operand) => {
                share(sorted.iter().filter(|value| comparison.holds(**value, operand)).count())
            }
        })
    }
}

impl Comparison {
    fn holds(self, value: f64, operand: f64) -> bool {
        match self {
            Self::Equal => value == operand,
            Self::NotEqual => value != operand,
            Self::Less => value < operand,
            Self::LessOrEqual => value <= operand,
            Self::Greater => value > operand,
            Self::GreaterOrEqual => value >= operand,
        }
    }

    pub(crate) fn symbol(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, known)| *known == self).map_or("=", |(symbol, _)| symbol)
    }

    const ALL: [(&'static str, Self); 6] = [
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("!=", Self::NotEqual),
        ("<", Self::Less),
        (">", Self::Greater),
        ("=", Self::Equal),
    ];
}

/// Neumaier's sum, which also sums the rounding errors.
fn sum(values: &[f64]) -> f64 {
    let (mut sum, mut error) = (0.0_f64, 0.0);
    for &value in values {
        let next = sum + value;
        error += if sum.abs() >= value.abs() { sum - next + value } else { value - next + sum };
        sum = next;
    }
    // After an overflow the error is not a number.
    if error.is_finite() { sum + error } else { sum }
}

/// Linear interpolation, R-7: numpy's default, DuckDB's `quantile_cont`, ClickHouse's
/// `quantileExactInclusive`.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, t) = (place.floor() as usize, place.fract());
    let a = sorted[below];
    let b = sorted[(below + 1).min(sorted.len() - 1)];
    // As in numpy: from the nearer end, so that both ends are exact.
    if t < 0.5 { a + (b - a) * t } else { b - (b - a) * (1.0 - t) }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "count",
            Self::PercentTrue => "percent-true",
            Self::PercentFalse => "percent-false",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Median => "median",
            Self::Min => "min",
            Self::Max => "max",
            Self::P95 => "p95",
            Self::P98 => "p98",
            Self::P99 => "p99",
            Self::Percentage(comparison, operand) => {
                return write!(f, "percentage{}{operand}", comparison.symbol());
            }
        })
    }
}

impl FromStr for Measure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let simple = ValueKind::Bool;
        let known = of(simple).iter().chain(of(ValueKind::Number));
        if let Some(measure) = known.copied().find(|measure| measure.to_string() == text) {
            return Ok(measure);
        }
        let wrong = || {
            format!(
                "`{text}` is not a measure: use count, percent-true, percent-false, sum, avg, \
                 median, min, max, p95, p98, p99 and percentage with a comparison, for example \
                 percentage>=4"
            )
        };
        let rest = text.strip_prefix("percentage").ok_or_else(wrong)?.trim();
        let mut comparisons = Comparison::ALL.into_iter();
        let (symbol, comparison) =
            comparisons.find(|(symbol, _)| rest.starts_with(symbol)).ok_or_else(wrong)?;
        let operand: f64 = rest[symbol.len()..].trim().parse().map_err(|_| wrong())?;
        if operand.is_finite() { Ok(Self::Percentage(comparison, operand)) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: `numpy.percentile` and `math.fsum`.
    #[test]
    fn the_measures_of_a_few_numbers() {
        let values = [0.1, 0.2, 0.3, 1.0, 10.0];
        let expected = [
            (Measure::Count, 5.0),
            (Measure::Sum, 11.6),
            (Measure::Avg, 2.32),
            (Measure::Median, 0.3),
            (Measure::Min, 0.1),
            (Measure::Max, 10.0),
            (Measure::P95, 8.2),
            (Measure::P98, 9.28),
            (Measure::P99, 9.64),
            (Measure::Percentage(Comparison::Less, 0.3), 40.0),
            (Measure::Percentage(Comparison::GreaterOrEqual, 0.3), 60.0),
        ];
        for (measure, expected) in expected {
            let found = measure.of(&values).unwrap();
            assert!((found - expected).abs() < 1e-12, "{measure}: {found}");
        }
        assert_eq!(Measure::P99.of(&[7.0]), Some(7.0));
        assert_eq!(Measure::Count.of(&[]), None);
        assert_eq!(Measure::PercentTrue.of(&[0.0, 1.0, 1.0, 1.0]), Some(75.0));
        assert_eq!(Measure::Sum.of(&[-1e100, 1.0, 1e100]), Some(1.0));
        assert_eq!(Measure::Sum.of(&[f64::MAX, f64::MAX]), Some(f64::INFINITY));
    }

    #[test]
    fn a_measure_is_read_as_it_is_written() {
        for text in ["count", "percent-true", "p98", "percentage>=4", "percentage!=-0.5"] {
            assert_eq!(text.parse::<Measure>().unwrap().to_string(), text);
        }
        for text in ["", "p50", "percentage", "percentage>=", "percentage>=x", "percentage<NaN"] {
            assert!(text.parse::<Measure>().is_err(), "{text}");
        }
    }
}
