-- A row for each trace, from the parts that its spans have added.
SELECT
    trace_id, start, finish, spans, errors, session_id, resources,
    root.1 AS root_name, root.2 AS root_resource, root.3 AS root_span,
    toInt64(bitAnd(cityHash64(trace_id), 0x7fffffffffffffff)) AS number
FROM (
    SELECT
        trace_id,
        min(part.start) AS start,
        max(part.finish) AS finish,
        uniqExactMerge(part.spans) AS spans,
        uniqExactIfMerge(part.errors) AS errors,
        argMinMerge(part.root) AS root,
        argMinIfMerge(part.session_id) AS session_id,
        groupUniqArrayArray(part.resources) AS resources
    FROM {parts} AS part
    GROUP BY trace_id
)
