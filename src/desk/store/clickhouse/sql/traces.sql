-- A row for each trace. Carriers do not count: they only carry feedback about others.
SELECT
    trace_id, start, finish, spans, errors, session_id, resources,
    root.1 AS root_name, root.2 AS root_resource, root.3 AS root_span,
    toInt64(bitAnd(cityHash64(trace_id), 0x7fffffffffffffff)) AS number
FROM (
    SELECT
        TraceId AS trace_id,
        min(begin) AS start,
        max(end) AS finish,
        uniqExact(SpanId) AS spans,
        uniqExactIf(SpanId, StatusCode = 'Error') AS errors,
        -- The span that a list shows for the trace: the earliest without a parent, or else the earliest. Of a span
        -- that was received before and after its end, the longer row counts.
        argMin((toString(SpanName), resource, SpanId), (ParentSpanId != '', begin, SpanId, -duration)) AS root,
        argMinIf(session, (begin, SpanId, -duration), session != '') AS session_id,
        groupUniqArray(resource) AS resources
    FROM (
        SELECT
            TraceId, SpanId, ParentSpanId, SpanName, StatusCode,
            toUnixTimestamp64Nano(Timestamp) AS begin,
            {duration} AS duration,
            begin + duration AS end,
            {resource} AS resource,
            {session} AS session
        FROM {spans}
        WHERE {late} != 'true'
    )
    GROUP BY trace_id
)
