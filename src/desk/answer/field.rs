//! What an answer was, as fields of filters, groups and charts: the same over all conventions. Both stores follow the
//! rules here, one of them in SQL.

use std::collections::{HashMap, HashSet};

use crate::desk::query::datum::ValueKind;

/// A field of the answers in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerField {
    /// The model of a span: text, of each span that has one.
    Model,
    /// Tokens of a trace: a number.
    Tokens(TokenCount),
}

/// Which tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenCount {
    Input,
    Output,
    Total,
}

impl TokenCount {
    pub(crate) fn of(self, tokens: Tokens) -> Option<i64> {
        tokens[self as usize]
    }
}

/// By name, with their type.
pub(crate) const FIELDS: [(&str, AnswerField, ValueKind); 4] = [
    ("answer.model", AnswerField::Model, ValueKind::Text),
    ("answer.tokens.input", AnswerField::Tokens(TokenCount::Input), ValueKind::Number),
    ("answer.tokens.output", AnswerField::Tokens(TokenCount::Output), ValueKind::Number),
    ("answer.tokens.total", AnswerField::Tokens(TokenCount::Total), ValueKind::Number),
];

impl AnswerField {
    pub(crate) fn of(name: &str) -> Option<Self> {
        FIELDS.iter().find(|(known, ..)| *known == name).map(|(_, field, _)| *field)
    }
}

/// The tokens of a span, or of a trace: input, output and total.
pub(crate) type Tokens = [Option<i64>; 3];

/// How far above a span another one is looked for that has its tokens, too.
pub(crate) const MOST_ANCESTORS: usize = 16;
/// The digits of a number of tokens. Longer ones are none, so that sums fit.
pub(crate) const MOST_DIGITS: u32 = 15;

/// A span of a trace, by its id and that of its parent, with its tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanTokens {
    pub(crate) span: u64,
    /// 0 for a root.
    pub(crate) parent: u64,
    pub(crate) tokens: Tokens,
}

/// Which of these spans of a trace have tokens that count: an agent has the sum of those of its calls, so a span below
/// another one that has tokens does not count.
pub(crate) fn counted(spans: &[SpanTokens]) -> impl Iterator<Item = usize> {
    let has_tokens = |span: &&SpanTokens| span.tokens.iter().any(Option::is_some);
    let with_tokens: HashSet<u64> = spans.iter().filter(has_tokens).map(|span| span.span).collect();
    let parents: HashMap<u64, u64> = match with_tokens.len() {
        0 | 1 => HashMap::new(),
        _ => spans.iter().map(|span| (span.span, span.parent)).collect(),
    };
    let is_counted = move |own: u64| {
        let above = std::iter::successors(parents.get(&own), |above| parents.get(*above));
        let mut above = above.take(MOST_ANCESTORS);
        with_tokens.contains(&own)
            && !above.any(|above| *above != own && with_tokens.contains(above))
    };
    let ids: Vec<u64> = spans.iter().map(|span| span.span).collect();
    ids.into_iter().enumerate().filter(move |(_, id)| is_counted(*id)).map(|(at, _)| at)
}

/// The tokens of a trace.
pub(crate) fn of_trace(spans: &[SpanTokens]) -> Tokens {
    let mut sums = Tokens::default();
    for at in counted(spans) {
        for (sum, count) in sums.iter_mut().zip(spans[at].tokens) {
            *sum = match (*sum, count) {
                (Some(sum), Some(count)) => Some(sum.saturating_add(count)),
                (sum, count) => sum.or(count),
            };
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(span: u64, parent: u64, total: Option<i64>) -> SpanTokens {
        SpanTokens { span, parent, tokens: [total, None, total] }
    }

    #[test]
    fn tokens_of_an_agent_and_its_calls_count_once() {
        let calls = [span(1, 0, None), span(2, 1, Some(5)), span(3, 1, Some(7))];
        assert_eq!(of_trace(&calls), [Some(12), None, Some(12)]);
        let agent =
            [span(1, 0, Some(12)), span(4, 1, None), span(2, 4, Some(5)), span(3, 1, Some(7))];
        assert_eq!(of_trace(&agent), [Some(12), None, Some(12)]);
        let beside =
            [span(1, 0, None), span(2, 1, Some(5)), span(3, 2, Some(5)), span(4, 1, Some(1))];
        assert_eq!(of_trace(&beside), [Some(6), None, Some(6)]);
        assert_eq!(of_trace(&[span(1, 0, None)]), [None; 3]);
    }

    #[test]
    fn parents_in_a_circle_are_no_endless_search() {
        assert_eq!(of_trace(&[span(1, 1, Some(5)), span(2, 9, Some(1))])[0], Some(6));
        assert_eq!(of_trace(&[span(1, 2, Some(5)), span(2, 1, Some(5))])[0], None);
        let long: Vec<_> =
            (1..=40).map(|id| span(id, id - 1, (id == 40 || id == 1).then_some(1))).collect();
        assert_eq!(of_trace(&long)[0], Some(2));
    }
}
