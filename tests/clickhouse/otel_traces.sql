-- The table of spans as the ClickHouse exporter of the OpenTelemetry Collector makes it, with its default
-- settings (table `otel_traces`, MergeTree, no TTL).
--
-- Columns, codecs, indexes and keys are those of
--   github.com/open-telemetry/opentelemetry-collector-contrib (Apache-2.0)
--   exporter/clickhouseexporter/internal/sqltemplates/traces_table.sql
-- at commit f92a5763be13aeb59ecf6f8b47e31d54109191bb. It is for v0.138.0: that commit has no version in it, and
-- the tag itself could not be had; the changelogs read name no change of this table up to v0.141.0. Later ones
-- add indexes and two ALIAS columns, so a reader names the columns it wants.

CREATE TABLE IF NOT EXISTS otel_traces
(
    `Timestamp`          DateTime64(9)                       CODEC(Delta, ZSTD(1)),
    `TraceId`            String                              CODEC(ZSTD(1)),
    `SpanId`             String                              CODEC(ZSTD(1)),
    `ParentSpanId`       String                              CODEC(ZSTD(1)),
    `TraceState`         String                              CODEC(ZSTD(1)),
    `SpanName`           LowCardinality(String)              CODEC(ZSTD(1)),
    `SpanKind`           LowCardinality(String)              CODEC(ZSTD(1)),
    `ServiceName`        LowCardinality(String)              CODEC(ZSTD(1)),
    `ResourceAttributes` Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    `ScopeName`          String                              CODEC(ZSTD(1)),
    `ScopeVersion`       String                              CODEC(ZSTD(1)),
    `SpanAttributes`     Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    `Duration`           UInt64                              CODEC(ZSTD(1)),
    `StatusCode`         LowCardinality(String)              CODEC(ZSTD(1)),
    `StatusMessage`      String                              CODEC(ZSTD(1)),
    `Events` Nested
    (
        `Timestamp`  DateTime64(9),
        `Name`       LowCardinality(String),
        `Attributes` Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    `Links` Nested
    (
        `TraceId`    String,
        `SpanId`     String,
        `TraceState` String,
        `Attributes` Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    INDEX idx_trace_id        TraceId                       TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_res_attr_key    mapKeys(ResourceAttributes)   TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_res_attr_value  mapValues(ResourceAttributes) TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_span_attr_key   mapKeys(SpanAttributes)       TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_span_attr_value mapValues(SpanAttributes)     TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX idx_duration        Duration                      TYPE minmax              GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;
