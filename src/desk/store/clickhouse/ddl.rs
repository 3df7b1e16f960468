//! What is to be run for the desk's own [tables](super::tables).

use std::fmt::Write;

use super::address::Address;
use super::relations::Relations;
use super::tables::{LEAVES, RESOURCES, SAID, TRACE_PARTS};

const HEAD: &str = "\
-- Tables of feedback-desk beside the exporter's, for ClickHouse 24.10 or newer (run with 26.9), in a database
-- whose engine is Atomic, as new ones are. They hold a row for each resource, trace, and span that says
-- something.
-- To be run once; what is in the exporter's table already is taken over at the end. Running that part
-- twice changes nothing.
-- They forget nothing by themselves. Where the exporter's table has a TTL, give them the same, as in
--   ALTER TABLE feedback_desk_said MODIFY TTL toDateTime(intDiv(time, 1000000000)) + INTERVAL 90 DAY
--   ALTER TABLE feedback_desk_trace_parts MODIFY TTL toDateTime(intDiv(start, 1000000000)) + INTERVAL 90 DAY
-- To be rid of them: DROP TABLE the four that are created here and the three views `…_from_spans`.
";

/// What is to be run, statement by statement, with `;` and an empty line between.
pub(crate) fn ddl(address: &Address, is_json: bool) -> String {
    let spans = Relations::of(address, is_json, false);
    let tables = Relations::of(address, is_json, true);
    let said = spans.fill(include_str!("sql/documents.sql"));
    let parts = spans.fill(include_str!("sql/trace_parts.sql"));
    let resources = spans.fill(include_str!("sql/resources.sql"));
    let leaves = tables.fill(include_str!("sql/leaves.sql"));
    let mut ddl = HEAD.to_owned();
    let mut statement = |text: &str| {
        let _ = write!(ddl, "\n{};\n", text.trim_end()); // a String takes all
    };
    statement(&format!(
        "CREATE TABLE IF NOT EXISTS {RESOURCES} (
    hash UInt64,
    attributes Map(LowCardinality(String), String)
) ENGINE = ReplacingMergeTree ORDER BY hash"
    ));
    statement(&format!(
        "CREATE TABLE IF NOT EXISTS {TRACE_PARTS} (
    trace_id String CODEC(ZSTD(1)),
    start SimpleAggregateFunction(min, Int64),
    finish SimpleAggregateFunction(max, Int64),
    spans AggregateFunction(uniqExact, UInt64),
    errors AggregateFunction(uniqExactIf, UInt64, UInt8),
    root AggregateFunction(argMin, Tuple(String, UInt64, String), Tuple(UInt8, Int64, String, Int64)),
    session_id AggregateFunction(argMinIf, String, Tuple(Int64, String, Int64), UInt8),
    resources SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64))
) ENGINE = AggregatingMergeTree ORDER BY trace_id"
    ));
    statement(&format!(
        "CREATE TABLE IF NOT EXISTS {SAID} (
    target UInt128,
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    is_own Bool,
    by_trace String CODEC(ZSTD(1)),
    by_span String CODEC(ZSTD(1)),
    start Int64 CODEC(Delta, ZSTD(1)),
    duration Int64 CODEC(ZSTD(1)),
    resource UInt64,
    time Int64 CODEC(Delta, ZSTD(1)),
    cleared Array(String),
    keys Array(LowCardinality(String)),
    values Array(String),
    -- When it came here, which `feedback-desk tail` goes by.
    seen DateTime64(6) DEFAULT now64(6),
    INDEX by_trace_id trace_id TYPE bloom_filter GRANULARITY 1,
    INDEX by_session_id session_id TYPE bloom_filter GRANULARITY 1,
    INDEX by_seen seen TYPE minmax GRANULARITY 1
) ENGINE = MergeTree ORDER BY (target, time)"
    ));
    for (table, query) in [(RESOURCES, &resources), (TRACE_PARTS, &parts), (SAID, &said)] {
        statement(&format!(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS {table}_from_spans TO {table} AS\n{query}"
        ));
    }
    for (table, query) in [(RESOURCES, &resources), (TRACE_PARTS, &parts), (SAID, &said)] {
        let columns = match table {
            SAID => {
                " (target, trace_id, span_id, session_id, is_own, by_trace, by_span, start, duration, \
                 resource, time, cleared, keys, values)"
            }
            _ => "",
        };
        statement(&format!("INSERT INTO {table}{columns}\n{query}"));
    }
    statement(&format!(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS {LEAVES}
REFRESH EVERY 10 SECOND (
    field LowCardinality(String),
    target UInt128,
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    value String CODEC(ZSTD(1)),
    given Int64 CODEC(Delta, ZSTD(1)),
    time Int64 CODEC(Delta, ZSTD(1)),
    resource UInt64,
    arrived Bool,
    INDEX by_trace_id trace_id TYPE bloom_filter GRANULARITY 1,
    INDEX by_target target TYPE bloom_filter GRANULARITY 1
) ENGINE = MergeTree ORDER BY (field, time) AS\n{leaves}"
    ));
    ddl
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_where_they_say_and_nothing_is_left_to_fill_in() {
        for is_json in [false, true] {
            let ddl = ddl(&Address::default(), is_json);
            assert!(!ddl.contains(['{', '}']), "{ddl}");
            assert_eq!(ddl.matches(";\n").count(), 10, "{ddl}");
            assert_eq!(ddl.contains("JSONAllPaths(SpanAttributes)"), is_json);
        }
        let other: Address = "http://host?table=spans".parse().unwrap();
        assert!(ddl(&other, false).contains("FROM `spans`"));
    }
}
