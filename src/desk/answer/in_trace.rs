//! In which span of a trace the answer is that feedback is about. Feedback is often about the span of a request, and
//! the model was called in a span below it.

use std::collections::{HashMap, HashSet};

use super::Answer;
use super::field::{self, SpanTokens};

/// Spans of a trace in which an answer is looked for: the first ones, and the target.
pub(crate) const MOST_SPANS: u32 = 200;

/// A span, with the answer it has.
#[derive(Clone, Debug)]
pub(crate) struct SpanAnswer {
    pub(crate) span: u64,
    /// 0 for a root.
    pub(crate) parent: u64,
    pub(crate) answer: Option<Answer>,
}

/// The answer that `target` is about, or the whole trace if there is none. `spans` are those of the trace by their start.
///
/// It is that of the span itself, else of the nearest spans below it. Of several on one level the last has the whole
/// conversation. The tokens are those of all spans at and below it that count ([`field::of_trace`]). If there is none at
/// or below the target, it is that of the trace.
pub(crate) fn in_trace(spans: &[SpanAnswer], target: Option<u64>) -> Answer {
    let known: HashSet<u64> = spans.iter().map(|span| span.span).collect();
    let mut children: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, span) in spans.iter().enumerate() {
        children.entry(span.parent).or_default().push(at);
    }
    let below = |first: Vec<usize>| {
        let (mut levels, mut level, mut seen) = (Vec::new(), first, HashSet::new());
        // Parents are foreign data, and may form a circle.
        level.retain(|at| seen.insert(*at));
        while !level.is_empty() {
            let next = level.iter().filter_map(|at| children.get(&spans[*at].span)).flatten();
            let mut next: Vec<usize> = next.copied().collect();
            next.retain(|at| seen.insert(*at));
            next.sort_unstable();
            levels.push(std::mem::replace(&mut level, next));
        }
        levels
    };
    let at = |span: u64| spans.iter().position(|each| each.span == span);
    let own = target.and_then(at).map(|at| below(vec![at])).unwrap_or_default();
    let own = nearest(spans, &own);
    if !own.is_empty() {
        return own;
    }
    let roots = (0..spans.len()).filter(|at| !known.contains(&spans[*at].parent));
    nearest(spans, &below(roots.collect()))
}

/// What the first of these levels has that has any of it.
fn nearest(spans: &[SpanAnswer], levels: &[Vec<usize>]) -> Answer {
    let with = |has: fn(&Answer) -> bool| -> Vec<&Answer> {
        let answers = |level: &Vec<usize>| -> Vec<&Answer> {
            let answers = level.iter().filter_map(|at| spans[*at].answer.as_ref());
            answers.filter(|answer| has(answer)).collect()
        };
        levels.iter().map(answers).find(|answers| !answers.is_empty()).unwrap_or_default()
    };
    let answers = with(Answer::has_content);
    // That of a model rather than that of a tool.
    let of_model = answers.iter().rev().find(|answer| answer.model.is_some());
    let mut found = of_model.or(answers.last()).map(|found| (*found).clone()).unwrap_or_default();
    // What is taken from another span may have been cut there.
    if found.model.is_none()
        && let Some(last) = with(|answer| answer.model.is_some()).last()
    {
        found.model.clone_from(&last.model);
        found.cut |= last.cut;
    }
    if found.agent.is_none()
        && let Some(last) = with(|answer| answer.agent.is_some()).last()
    {
        found.agent.clone_from(&last.agent);
        found.cut |= last.cut;
    }
    if found.tools.is_empty()
        && let Some(last) = with(|answer| !answer.tools.is_empty()).last()
    {
        found.tools.clone_from(&last.tools);
        found.cut |= last.cut;
    }
    let tokens: Vec<_> = levels.iter().flatten().map(|at| span_tokens(&spans[*at])).collect();
    [found.input_tokens, found.output_tokens, found.total_tokens] = field::of_trace(&tokens);
    found
}

fn span_tokens(span: &SpanAnswer) -> SpanTokens {
    let answer = span.answer.as_ref();
    let tokens = |of: fn(&Answer) -> Option<i64>| answer.and_then(of);
    SpanTokens {
        span: span.span,
        parent: span.parent,
        tokens: [
            tokens(|answer| answer.input_tokens),
            tokens(|answer| answer.output_tokens),
            tokens(|answer| answer.total_tokens),
        ],
    }
}
