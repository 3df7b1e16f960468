-- The parts of traces that some spans add. Carriers do not count: they only carry feedback about others.
SELECT
    TraceId AS trace_id,
    min(begin) AS start,
    max(end) AS finish,
    uniqExactState(span) AS spans,
    uniqExactIfState(span, StatusCode = 'Error') AS errors,
    -- The span that a list shows for the trace: the earliest without a parent, or else the earliest.
    argMinState((toString(SpanName), resource, SpanId), (ParentSpanId != '', begin, SpanId)) AS root,
    argMinIfState(session, (begin, SpanId), session != '') AS session_id,
    groupUniqArray(resource) AS resources
FROM (
    SELECT
        TraceId, SpanId, ParentSpanId, SpanName, StatusCode,
        cityHash64(SpanId) AS span,
        toUnixTimestamp64Nano(Timestamp) AS begin,
        begin + toInt64(Duration) AS end,
        {resource} AS resource,
        {session} AS session
    FROM {spans}
    WHERE {late} != 'true'
)
GROUP BY trace_id
