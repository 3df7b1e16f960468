-- A row for each session that traces belong to.
SELECT
    session_id,
    min(t.start) AS start,
    max(t.start) AS last,
    argMin(root_resource, (t.start, trace_id)) AS resource,
    count() AS traces,
    sum(t.spans) AS spans,
    sum(t.errors) AS errors
FROM {traces} AS t
WHERE session_id != ''
GROUP BY session_id
