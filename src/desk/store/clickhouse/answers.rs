//! Model and tokens of answers as SQL, by the rules of `answer::model`, `answer::tokens` and `answer::field`.

use super::relations::{DURATION, Relations};
use super::sql::{list, text};
use crate::desk::answer::field::{MOST_ANCESTORS, MOST_DIGITS, TokenCount};
use crate::desk::answer::{
    INPUT_TOKENS, MODELS, OUTPUT_TOKENS, TOTAL_TOKENS, USAGE, USAGE_OF_BOTH, USAGE_OF_INPUT,
    USAGE_OF_OUTPUT,
};
use crate::desk::query::Range;

/// The model of a span; empty if it has none.
pub(super) fn model(relations: &Relations) -> String {
    let attributes = &relations.attributes;
    let keys = MODELS.map(|key| {
        let value = format!("{attributes}[{}]", text(key));
        format!("{value} != '', {value}")
    });
    format!("multiIf({}, '')", keys.join(", "))
}

/// `trace_id` and `value` of each trace that has tokens, and has a span with some since the beginning of a range.
pub(super) fn tokens(relations: &Relations, count: TokenCount, range: Range) -> String {
    let Relations { spans, attributes, .. } = relations;
    let input = count_of(attributes, &INPUT_TOKENS, &USAGE_OF_INPUT);
    let output = count_of(attributes, &OUTPUT_TOKENS, &USAGE_OF_OUTPUT);
    let total = count_of(attributes, &TOTAL_TOKENS, &USAGE_OF_BOTH);
    let own = match count {
        TokenCount::Input => "input",
        TokenCount::Output => "output",
        TokenCount::Total => "total",
    };
    let keys = INPUT_TOKENS.iter().chain(&OUTPUT_TOKENS).chain(&TOTAL_TOKENS).chain([&USAGE]);
    let bearers = format!(
        "SELECT TraceId FROM {spans} WHERE hasAny(mapKeys({attributes}), [{}]) AND {}",
        list(keys),
        relations.since(range)
    );
    // No array has NULLs, so there -1 stands for them.
    format!(
        "SELECT trace_id, assumeNotNull(arraySum(arrayFilter(value -> value >= 0, counted)) AS sum) AS value FROM (
             SELECT TraceId AS trace_id,
                    mapFromArrays(groupArray(SpanId), groupArray(ParentSpanId)) AS parents,
                    groupArrayIf((SpanId, value), has_tokens) AS bearers,
                    arrayMap(bearer -> bearer.1, bearers) AS ids,
                    arrayMap(bearer -> bearer.2, arrayFilter(bearer -> NOT arrayFold(
                        (above, level) -> (parents[above.1],
                            toUInt8(above.2 OR parents[above.1] != bearer.1 AND has(ids, parents[above.1]))),
                        range({MOST_ANCESTORS}), (bearer.1, toUInt8(0))).2, bearers)) AS counted
             FROM (
                 SELECT TraceId, SpanId, ParentSpanId, {input} AS input, {output} AS output,
                        coalesce({total}, input + output) AS total, ifNull({own}, toInt64(-1)) AS value,
                        isNotNull(input) OR isNotNull(output) OR isNotNull(total) AS has_tokens
                 FROM {spans} WHERE TraceId IN ({bearers}) AND {}
                 ORDER BY {DURATION} DESC LIMIT 1 BY TraceId, SpanId)
             GROUP BY TraceId)
         WHERE arrayExists(value -> value >= 0, counted)",
        relations.fill("{late} != 'true'"),
    )
}

/// The first of these attributes that is a number of tokens, else of the members of Langfuse's usage.
fn count_of(attributes: &str, keys: &[&str], members: &[&str]) -> String {
    let own = keys.iter().map(|key| format!("{attributes}[{}]", text(key)));
    let usage = members
        .iter()
        .map(|member| format!("JSONExtractRaw({attributes}[{}], {})", text(USAGE), text(member)));
    let counts = own.chain(usage).map(|value| {
        format!("if(match({value}, '^[0-9]{{1,{MOST_DIGITS}}}$'), toInt64OrNull({value}), NULL)")
    });
    format!("coalesce({})", counts.collect::<Vec<_>>().join(", "))
}
