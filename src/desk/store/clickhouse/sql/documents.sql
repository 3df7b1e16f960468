-- The documents of spans and their targets: a row for each span with a document.
--
-- A target is a span (trace and span), a trace (without a span), or a session (without either). Feedback
-- without a target has none of the three. What a carrier is about its only link says, in whichever trace the
-- carrier is: the rules are those of `ReceivedSpan::role`.
SELECT
    if(about.1 = '' AND about.3 = '', toUInt128(0), reinterpretAsUInt128(sipHash128(about.1, about.2, about.3))) AS target,
    about.1 AS trace_id,
    about.2 AS span_id,
    about.3 AS session_id,
    role = 'own' AS is_own,
    TraceId AS by_trace,
    SpanId AS by_span,
    start,
    duration,
    {resource} AS resource,
    -- The time of the feedback: from its attribute, else the end of its span, or the start of the carrier.
    multiIf(
        mapContains(attributes, 'tracing_feedback.time_unix_nano'),
        toInt64(ifNull(toUInt64OrNull(attributes['tracing_feedback.time_unix_nano']), toUInt64(start))),
        role = 'own', start + duration,
        start) AS time,
    if(role = 'own', [], arrayMap(key -> replaceRegexpOne(key, '^honeyhive_', ''), cleared_keys)) AS cleared,
    arrayMap(key -> replaceRegexpOne(key, '^honeyhive_', ''), all_keys) AS keys,
    arrayMap(key -> attributes[key], all_keys) AS values
FROM (
    SELECT
        TraceId, SpanId, ResourceAttributes,
        {attributes} AS attributes,
        toUnixTimestamp64Nano(Timestamp) AS start,
        {duration} AS duration,
        arraySort(arrayFilter(key -> {in_namespace}, mapKeys(attributes))) AS all_keys,
        attributes['tracing_feedback.late'] = 'true' AS late,
        attributes['tracing_feedback.scope'] AS scope,
        multiIf(
            scope = 'session', if(mapContains(attributes, 'session.id'), 'session', 'adrift'),
            scope = 'trace' AND NOT late, 'trace',
            -- Without a link: a child of its target that has lost it on the way.
            scope = 'trace', if(length(Links.TraceId) = 1 OR empty(Links.TraceId) AND ParentSpanId != '',
                'trace', 'adrift'),
            late, if(length(Links.TraceId) = 1, 'span', 'adrift'),
            'own') AS role,
        multiIf(
            role = 'session', ('', '', attributes['session.id']),
            role = 'trace' AND late AND notEmpty(Links.TraceId), (Links.TraceId[1], '', ''),
            role = 'trace', (TraceId, '', ''),
            role = 'span', if(Links.TraceId[1] = '' OR Links.SpanId[1] = '',
                ('', '', ''), (Links.TraceId[1], Links.SpanId[1], '')),
            role = 'own', (TraceId, SpanId, ''),
            ('', '', '')) AS about,
        attributes['tracing_feedback.cleared'] AS cleared_text,
        multiIf(
            cleared_text = '', [],
            -- An array as ClickHouse writes it from a column of type JSON.
            startsWith(cleared_text, '[\''), extractAll(cleared_text, '\'((?:[^\'\\\\]|\\\\.)*)\''),
            startsWith(cleared_text, '['), JSONExtract(cleared_text, 'Array(String)'),
            [cleared_text]) AS cleared_keys
    FROM {spans}
    WHERE arrayExists(key -> {concerns_feedback}, mapKeys({attributes}))
)
WHERE role != 'own' OR notEmpty(all_keys)
