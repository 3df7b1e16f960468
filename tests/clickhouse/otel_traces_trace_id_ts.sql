-- When each trace began and ended, kept by a materialized view, as the ClickHouse exporter of the
-- OpenTelemetry Collector makes it beside `otel_traces` (with maps and with `json: true`).
--
-- Columns, codecs, index and keys are those of
--   github.com/open-telemetry/opentelemetry-collector-contrib (Apache-2.0)
--   exporter/clickhouseexporter/internal/sqltemplates/traces_id_ts_lookup_table.sql
--     at commit 61540ced55e993255df9bcfca48ed89a87d3914f
--   exporter/clickhouseexporter/internal/sqltemplates/traces_id_ts_lookup_mv.sql
--     at commit 57b29d74154d72320747c8dd2a0b4a1629a39187
-- For v0.138.0, whose tag itself could not be had. In later versions the table is an aggregating one: it may
-- hold a trace in several rows in either, so a reader takes min(Start) and max(End).

CREATE TABLE IF NOT EXISTS otel_traces_trace_id_ts
(
    `TraceId` String   CODEC(ZSTD(1)),
    `Start`   DateTime CODEC(Delta, ZSTD(1)),
    `End`     DateTime CODEC(Delta, ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(Start)
ORDER BY (TraceId, Start)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS otel_traces_trace_id_ts_mv TO otel_traces_trace_id_ts AS
SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End
FROM otel_traces
WHERE TraceId != ''
GROUP BY TraceId;
