-- What some spans add to their traces. Carriers are no part of it: they only bring feedback about others.
SELECT
    TraceId AS trace_id,
    min(begin) AS start,
    max(end) AS finish,
    uniqExactState(span) AS spans,
    uniqExactIfState(span, StatusCode = 'Error') AS errors,
    -- The span a trace is shown by: the first without a parent, or else the first.
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
