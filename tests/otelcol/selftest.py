#!/usr/bin/env python3
"""Checks compare.py itself, against what a real collector writes.

    selftest.py send URL EXPECTATIONS        sends a trace, writes what must arrive
    selftest.py break EXPECTATIONS RECEIVED  breaks what arrived, each time in one way: compare.py
                                             must name what is wrong
"""

import copy
import gzip
import json
import os
import sys
import tempfile
import urllib.error
import urllib.request

import compare

TRACE, ROOT, CHILD, CARRIER = "5b" * 16, "a1" * 8, "b2" * 8, "c3" * 8
OTHER_TRACE = "6c" * 16
START = 1_700_000_000_000_000_000


def pairs(**values):
    return [{"key": key.replace("__", "."), "value": value} for key, value in values.items()]


def span(name, span_id, parent="", **more):
    times = {"startTimeUnixNano": str(START), "endTimeUnixNano": str(START + 1000)}
    return {"name": name, "traceId": TRACE, "spanId": span_id, "parentSpanId": parent} | times | more


REQUEST = {
    "resourceSpans": [
        {
            "resource": {"attributes": pairs(service__name={"stringValue": "selftest"})},
            "scopeSpans": [
                {
                    "scope": {"name": "selftest"},
                    "spans": [
                        span(
                            "root",
                            ROOT,
                            kind=2,
                            status={"code": 2, "message": "no such city"},
                            attributes=pairs(
                                yes={"boolValue": True},
                                no={"boolValue": False},
                                least={"intValue": str(-(2**63))},
                                double={"doubleValue": 0.30000000000000004},
                                whole={"doubleValue": 2.0},
                                text={"stringValue": 'naïve 🦀 "quoted"\n\u0001'},
                                empty={"stringValue": ""},
                                list={"arrayValue": {"values": [{"stringValue": "a"}]}},
                                feedback__rating={"boolValue": True},
                                feedback__edits__0__value={"stringValue": "New York"},
                                feedback__edits__1__value={"stringValue": "Boston"},
                            ),
                            events=[
                                {
                                    "name": "tried",
                                    "timeUnixNano": str(START + 10),
                                    "attributes": pairs(attempt={"intValue": "2"}),
                                }
                            ],
                        ),
                        span(
                            "child",
                            CHILD,
                            ROOT,
                            kind=1,
                            links=[{"traceId": TRACE, "spanId": ROOT}],
                        ),
                        span(
                            "feedback",
                            CARRIER,
                            kind=1,
                            traceId=OTHER_TRACE,
                            endTimeUnixNano=str(START + 1),
                            links=[{"traceId": TRACE, "spanId": ROOT}],
                            attributes=pairs(
                                feedback__edits__0__value={"stringValue": "Albany"},
                                tracing_feedback__late={"boolValue": True},
                                tracing_feedback__time_unix_nano={"intValue": str(START)},
                                tracing_feedback__cleared={
                                    "arrayValue": {"values": [{"stringValue": "feedback.edits"}]}
                                },
                            ),
                        ),
                    ],
                }
            ],
        }
    ]
}

LOGS = {
    "resourceLogs": [
        {
            "resource": {"attributes": pairs(service__name={"stringValue": "selftest"})},
            "scopeLogs": [
                {
                    "scope": {"name": "selftest"},
                    "logRecords": [
                        {
                            "eventName": "gen_ai.evaluation.result",
                            "timeUnixNano": str(START),
                            "observedTimeUnixNano": str(START),
                            "traceId": TRACE,
                            "spanId": ROOT,
                            "flags": 1,
                            "attributes": pairs(
                                gen_ai__evaluation__name={"stringValue": "rating"},
                                gen_ai__evaluation__score__value={"doubleValue": 1.0},
                                gen_ai__evaluation__score__label={"stringValue": "true"},
                                tracing_feedback__time_unix_nano={"intValue": str(START)},
                            ),
                        }
                    ],
                }
            ],
        }
    ]
}

RESOURCE = {"service.name": {"stringValue": "selftest"}}
EXPECTED = [
    {
        "name": "root",
        "kind": "server",
        "status": {"code": "error", "message": "no such city"},
        "attributes": {
            "yes": {"boolValue": True},
            "no": {"boolValue": False},
            "least": {"intValue": "-9223372036854775808"},
            "double": {"doubleValue": 0.30000000000000004},
            "whole": {"any": "doubleValue"},
            "text": {"stringValue": 'naïve 🦀 "quoted"\n\u0001'},
            "empty": {"stringValue": ""},
            "list": {"arrayValue": {"values": [{"stringValue": "a"}]}},
            "feedback.rating": {"boolValue": True},
            "feedback.edits.0.value": {"stringValue": "New York"},
            "feedback.edits.1.value": {"stringValue": "Boston"},
        },
        "events": [{"name": "tried", "attributes": {"attempt": {"intValue": "2"}}}],
        "resource": RESOURCE,
    },
    {
        "name": "child",
        "parent": "root",
        "attributes": {},
        "optional": {"absent": {"any": "intValue"}},
        "links": [{"span": "root"}],
        "resource": RESOURCE,
    },
    {
        "name": "feedback",
        "carrier": True,
        "attributes": {
            "feedback.edits.0.value": {"stringValue": "Albany"},
            "tracing_feedback.late": {"boolValue": True},
            "tracing_feedback.time_unix_nano": {"any": "intValue"},
            "tracing_feedback.cleared": {"arrayValue": {"values": [{"stringValue": "feedback.edits"}]}},
        },
        "links": [{"span": "root"}],
        "resource": RESOURCE,
    },
    {
        "feedback": {"span": "root"},
        "document": {
            "feedback.rating": {"boolValue": True},
            "feedback.edits.0.value": {"stringValue": "Albany"},
        },
    },
    {
        "event": "rating",
        "scope": "selftest",
        "about": {"span": "root"},
        "attributes": {
            "gen_ai.evaluation.name": {"stringValue": "rating"},
            "gen_ai.evaluation.score.value": {"doubleValue": 1.0},
            "gen_ai.evaluation.score.label": {"stringValue": "true"},
            "tracing_feedback.time_unix_nano": {"any": "intValue"},
        },
        "resource": RESOURCE,
    },
]


def send(url, expectations):
    def post(body, headers, path="/v1/traces"):
        headers = {"content-type": "application/json"} | headers
        request = urllib.request.Request(url + path, body, headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status

    body = json.dumps(REQUEST).encode()
    try:
        post(body, {})
        sys.exit("the collector takes what isn't compressed although it was told not to")
    except urllib.error.HTTPError as error:
        if error.code != 400:
            raise
    post(gzip.compress(body), {"content-encoding": "gzip"})
    post(gzip.compress(json.dumps(LOGS).encode()), {"content-encoding": "gzip"}, "/v1/logs")
    with open(expectations, "w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(line) + "\n" for line in EXPECTED)


def breakages():
    """What to do to the spans that arrived (root, child, carrier), and what must be said then."""

    def attribute(span, key):
        return next(pair for pair in span["attributes"] if pair["key"] == key)

    def set_value(at, key, value):
        return lambda spans: attribute(spans[at], key).update(value=value)

    def drop(at, key):
        return lambda spans: spans[at]["attributes"].remove(attribute(spans[at], key))

    yield set_value(0, "least", {"stringValue": str(-(2**63))}), "'least' is"
    yield set_value(0, "least", {"intValue": "-9223372036854775807"}), "'least' is"
    yield set_value(0, "double", {"doubleValue": 0.3}), "'double' is"
    yield set_value(0, "whole", {"intValue": "2"}), "'whole' is"
    yield set_value(0, "yes", {"boolValue": False}), "'yes' is"
    yield set_value(0, "yes", {"intValue": "1"}), "'yes' is"
    yield set_value(0, "empty", {}), "'empty' is"
    yield set_value(0, "list", {"arrayValue": {"values": []}}), "'list' is"
    yield drop(0, "text"), "'text' is missing"
    yield drop(2, "tracing_feedback.cleared"), "'feedback.edits.1.value' is not expected"
    yield (
        lambda spans: spans[1].update(attributes=pairs(extra={"intValue": "1"})),
        "'extra' is not expected",
    )
    yield (
        lambda spans: spans[1].update(attributes=pairs(absent={"stringValue": "1"})),
        "'absent' is",
    )
    yield (
        lambda spans: spans[0]["attributes"].append(copy.deepcopy(attribute(spans[0], "yes"))),
        "key 'yes' twice",
    )
    yield lambda spans: spans.append(spans[1] | {"spanId": "d4" * 8}), "'child' is not expected"
    yield lambda spans: spans.append(copy.deepcopy(spans[1])), "its id stands twice"
    yield lambda spans: spans.pop(1), "'child' is missing"
    yield lambda spans: spans[1].update(name="other"), "'other' is not expected"
    yield lambda spans: spans[1].update(kind=3), "kind is"
    yield lambda spans: spans[1].update(parentSpanId=""), "parent is"
    yield lambda spans: spans[1].update(parentSpanId="ee" * 8), "unknown span"
    yield lambda spans: spans[1].update(status={"code": 1}), "status is"
    yield lambda spans: spans[0].update(status={"code": 2}), "status message is"
    yield lambda spans: spans[1].update(links=[]), "links is"
    yield lambda spans: spans[1]["links"][0].update(spanId=CHILD), "links is"
    yield lambda spans: spans[0].update(events=[]), "events is"
    yield lambda spans: spans[0]["events"][0].update(name="other"), "events is"
    yield lambda spans: spans[0]["events"][0].update(attributes=[]), "'attempt' is missing"
    yield lambda spans: spans[0]["events"][0].update(timeUnixNano="5"), "its time is outside"
    yield lambda spans: spans[2].update(endTimeUnixNano=str(START)), "its length is 0 ns"
    yield lambda spans: spans[2].update(traceId=TRACE), "its trace has 2 other spans"
    yield lambda spans: spans[2].update(parentSpanId=ROOT), "parent is"
    yield lambda spans: spans[1].update(droppedAttributesCount=1), "droppedAttributesCount is"


def breakages_of_event():
    """The same for the log record."""

    def attribute(record, key):
        return next(pair for pair in record["attributes"] if pair["key"] == key)

    def set_value(key, value):
        return lambda records: attribute(records[0], key).update(value=value)

    yield set_value("gen_ai.evaluation.score.value", {"doubleValue": 0.0}), "score.value' is"
    yield set_value("gen_ai.evaluation.score.value", {"intValue": "1"}), "score.value' is"
    yield set_value("gen_ai.evaluation.name", {"stringValue": "stars"}), "event 'rating' is missing"
    yield set_value("tracing_feedback.time_unix_nano", {"intValue": "5"}), "time is"
    yield (
        lambda records: records[0]["attributes"].remove(
            attribute(records[0], "gen_ai.evaluation.score.label")
        ),
        "score.label' is missing",
    )
    yield lambda records: records[0].update(eventName="other"), "event name is"
    yield lambda records: records[0].update(spanId=CHILD), "target is"
    yield lambda records: records[0].update(spanId=""), "target is"
    yield lambda records: records[0].update(flags=0), "flags is"
    yield lambda records: records[0].update(body={"stringValue": "x"}), "body is"
    yield lambda records: records[0].update(observedTimeUnixNano="5"), "observed time is"
    yield lambda records: records.append(copy.deepcopy(records[0])), "event 'rating' is not expected"
    yield lambda records: records.pop(), "event 'rating' is missing"


def break_each(expectations, received):
    with open(expectations, encoding="utf-8") as lines:
        expected = [json.loads(line) for line in lines]
    with open(received, encoding="utf-8") as lines:
        whole = [json.loads(line) for line in lines]
    whole, logs = sorted(whole, key=lambda request: "resourceLogs" in request)
    resource = whole["resourceSpans"][0]["resource"]
    count = 0

    def check(requests, message):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as file:
            file.writelines(json.dumps(request) + "\n" for request in requests)
        try:
            *_, problems = compare.compare(expected, file.name)
        finally:
            os.unlink(file.name)
        if not any(message in problem for problem in problems):
            sys.exit(f"nothing says {message!r}, but: {problems}")

    for change, message in breakages():
        broken = copy.deepcopy(whole)
        change(broken["resourceSpans"][0]["scopeSpans"][0]["spans"])
        check([broken, logs], message)
        count += 1
    for change, message in breakages_of_event():
        broken = copy.deepcopy(logs)
        change(broken["resourceLogs"][0]["scopeLogs"][0]["logRecords"])
        check([whole, broken], message)
        count += 1
    for attributes, message in [
        ([], "resource: 'service.name' is missing"),
        (resource["attributes"] * 2, "resource: key 'service.name' twice"),
    ]:
        broken = copy.deepcopy(whole)
        broken["resourceSpans"][0]["resource"]["attributes"] = attributes
        check([broken, logs], message)
        count += 1
    print(f"{count} ways to be wrong are all found")


if __name__ == "__main__":
    {"send": send, "break": break_each}[sys.argv[1]](*sys.argv[2:])
