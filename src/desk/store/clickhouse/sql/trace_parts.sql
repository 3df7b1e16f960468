-- The parts of traces that some spans add. Carriers do not count: they only carry feedback about others.
SELECT
    TraceId AS trace_id,
    min(begin) AS start,
    max(end) AS finish,
    uniqExactState(span) AS spans,
    uniqExactIfState(span, StatusCode = 'Error') AS errors,
    -- The span that a list shows for the trace: the earliest without a parent, or else the earliest. Of a span
    -- that was received before and after its end, the longer row counts.
    argMinState((toString(SpanName), resource, SpanId), (ParentSpanId != '', begin, SpanId, -duration)) AS root,
    argMinIfState(session, (begin, SpanId, -duration), session != '') AS session_id,
    groupUniqArray(resource) AS resources
FROM (
    SELECT
        TraceId, SpanId, ParentSpanId, SpanName, StatusCode,
        cityHash64(SpanId) AS span,
        toUnixTimestamp64Nano(Timestamp) AS begin,
        {duration} AS duration,
        begin + duration AS end,
        {resource} AS resource,
        {session} AS session
    FROM {spans}
    WHERE {late} != 'true'
)
GROUP BY trace_id
