-- Folded documents: a row for each leaf of each target, by the rules of `tracing_feedback::fold`.
--
-- All documents about a target have an order in which they apply: first the target's own document, then
-- submissions by time and span id. Each clears keys before it sets others. Setting a key overrides earlier
-- values at it, above it and below it; clearing a key overrides those at it and below it. A leaf is in the
-- result if nothing later overrides it.
--
-- This takes one pass: each leaf and each override is a row with a path of keys, grouped by path.
WITH
    -- One span is one submission, however often it arrives: of a target's own document the one of the longest row,
    -- which is the last state of its span, and of others the earliest.
    submissions AS (
        SELECT
            target, is_own, by_span, trace_id, span_id, session_id,
            argMin((time, cleared, keys, values, start, resource), (if(is_own, -duration, 0), time, start)) AS first
        FROM {said}
        WHERE target != 0
        GROUP BY target, is_own, by_span, trace_id, span_id, session_id
    ),
    targets AS (
        SELECT
            target, trace_id, span_id, session_id,
            max(is_own) AS has_own,
            minIf(first.5, is_own) AS own_start,
            anyIf(first.6, is_own) AS own_resource,
            min(first.1) AS said_first,
            groupArray((
                -- Own or not, time, span: the bits below hold the position within the submission.
                bitOr(
                    bitOr(
                        bitShiftLeft(toUInt256(NOT is_own), 160),
                        bitShiftLeft(toUInt256(toUInt64(first.1)), 96)),
                    bitShiftLeft(toUInt256(reinterpretAsUInt64(reverse(unhex(by_span)))), 32)),
                first.1, first.2, first.3, first.4)) AS said
        FROM submissions
        GROUP BY target, trace_id, span_id, session_id
    ),
    spoken AS (
        SELECT
            target, trace_id, span_id, session_id, has_own, own_start, own_resource, said_first,
            one.1 AS place, one.2 AS given, one.3 AS cleared, one.4 AS keys, one.5 AS values,
            -- With a single document, and no key above another, nothing can be overridden.
            length(said) > 1 OR hasAny(keys, arrayFlatten(arrayMap(key -> {above_key}, keys))) AS is_disputed
        FROM targets ARRAY JOIN said AS one
    ),
    -- A path, the overrides at it and below it, and the leaves that may remain there.
    paths AS (
        SELECT
            target, trace_id, span_id, session_id, has_own, own_start, own_resource, said_first, mark.1 AS path,
            max(mark.2) AS overruled_at,
            max(mark.3) AS overruled_below,
            groupArrayArray(mark.4) AS leaves
        FROM spoken
        ARRAY JOIN arrayConcat(
            arrayFlatten(arrayMap(
                (key, value, n) -> arrayConcat(
                    [(key, place + n, place + n, [(key, place + n, value, given)])],
                    if(is_disputed,
                        arrayMap(above -> (above, place + n, toUInt256(0), [(key, place + n, value, given)]), {above_key}),
                        [])),
                keys, values, arrayEnumerate(keys))),
            arrayMap(
                key -> (key, place, place, CAST([], 'Array(Tuple(String, UInt256, String, Int64))')),
                if(is_disputed, cleared, []))) AS mark
        GROUP BY target, trace_id, span_id, session_id, has_own, own_start, own_resource, said_first, path
    ),
    standing AS (
        SELECT
            target, trace_id, span_id, session_id, has_own, own_start, own_resource, said_first,
            leaf.1 AS field, leaf.3 AS value, leaf.4 AS given
        FROM paths ARRAY JOIN leaves AS leaf
        GROUP BY target, trace_id, span_id, session_id, has_own, own_start, own_resource, said_first, leaf
        HAVING min(leaf.2 >= if(leaf.1 = path, overruled_at, overruled_below))
    ),
    -- The start and the resource of targets that were received.
    places AS (
        SELECT
            {target_of_span} AS target, min(toUnixTimestamp64Nano(Timestamp)) AS start,
            any({resource}) AS resource, 1 AS has_come
        FROM {spans}
        WHERE {late} != 'true' AND (TraceId, SpanId) IN (
            SELECT trace_id, span_id FROM {said} WHERE NOT is_own AND span_id != '')
        GROUP BY TraceId, SpanId
        UNION ALL
        SELECT {target_of_trace}, start, root_resource, 1 FROM {traces}
        WHERE trace_id IN (SELECT trace_id FROM {said} WHERE trace_id != '' AND span_id = '')
        UNION ALL
        SELECT {target_of_session}, start, resource, 1 FROM {sessions}
        WHERE session_id IN (SELECT session_id FROM {said} WHERE session_id != '')
    )
SELECT field, target, trace_id, span_id, session_id, value, given, time, resource, arrived
FROM (
    SELECT
        field, target, trace_id, span_id, session_id, value, given,
        -- The defaults that a join gives to rows without a match.
        ifNull(has_come, 0) = 1 AS is_there,
        multiIf(has_own, own_start, is_there, assumeNotNull(start), said_first) AS time,
        multiIf(has_own, own_resource, is_there, assumeNotNull(places.resource), 0) AS resource,
        has_own OR span_id = '' OR is_there AS arrived
    FROM standing LEFT ANY JOIN places USING target
)
