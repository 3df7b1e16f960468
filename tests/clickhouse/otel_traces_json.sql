-- The table of spans as the ClickHouse exporter of the OpenTelemetry Collector makes it with `json: true`.
--
-- Columns, codecs, index and keys are those of
--   github.com/open-telemetry/opentelemetry-collector-contrib (Apache-2.0)
--   exporter/clickhouseexporter/internal/sqltemplates/traces_json_table.sql
-- at commit 39f94831a58596011d18c28e6532fe5f31d03472, which is of August 2025 (between v0.131.0 and v0.132.0). It is
-- for v0.138.0; the tag itself could not be had. v0.141.0 adds `ResourceAttributesKeys` and `SpanAttributesKeys`,
-- as its changelog says.

CREATE TABLE IF NOT EXISTS otel_traces
(
    `Timestamp`          DateTime64(9)          CODEC(Delta, ZSTD(1)),
    `TraceId`            String                 CODEC(ZSTD(1)),
    `SpanId`             String                 CODEC(ZSTD(1)),
    `ParentSpanId`       String                 CODEC(ZSTD(1)),
    `TraceState`         String                 CODEC(ZSTD(1)),
    `SpanName`           LowCardinality(String) CODEC(ZSTD(1)),
    `SpanKind`           LowCardinality(String) CODEC(ZSTD(1)),
    `ServiceName`        LowCardinality(String) CODEC(ZSTD(1)),
    `ResourceAttributes` JSON                   CODEC(ZSTD(1)),
    `ScopeName`          String                 CODEC(ZSTD(1)),
    `ScopeVersion`       String                 CODEC(ZSTD(1)),
    `SpanAttributes`     JSON                   CODEC(ZSTD(1)),
    `Duration`           UInt64                 CODEC(ZSTD(1)),
    `StatusCode`         LowCardinality(String) CODEC(ZSTD(1)),
    `StatusMessage`      String                 CODEC(ZSTD(1)),
    `Events` Nested
    (
        `Timestamp`  DateTime64(9),
        `Name`       LowCardinality(String),
        `Attributes` JSON
    ) CODEC(ZSTD(1)),
    `Links` Nested
    (
        `TraceId`    String,
        `SpanId`     String,
        `TraceState` String,
        `Attributes` JSON
    ) CODEC(ZSTD(1)),
    INDEX idx_duration Duration TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), Timestamp)
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;
