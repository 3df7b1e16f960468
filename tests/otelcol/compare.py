#!/usr/bin/env python3
"""Compares what a collector wrote with what was expected of it.

    compare.py EXPECTATIONS RECEIVED

RECEIVED is what the collector's file exporter writes: OTLP/JSON, one request a line. EXPECTATIONS
is one JSON object a line, either a span:

    {"name": "answer", "kind": "internal", "parent": "request" or null, "carrier": true,
     "status": {"code": "error", "message": "no such city"},
     "attributes": {KEY: VALUE}, "optional": {KEY: VALUE},
     "events": [{"name": ..., "attributes": {}, "optional": {}}],
     "links": [{"span": "request", "attributes": {}, "optional": {}}],
     "resource": {KEY: VALUE}, "resource_optional": {KEY: VALUE}}

or the feedback on a span, a session or a trace (named by its root), folded over all that arrived:

    {"feedback": {"span": "answer"}, "document": {KEY: VALUE}}

or an event, which is a log record of the name `gen_ai.evaluation.result`, about a span, a trace (named by its
root) or nothing:

    {"event": "rating", "about": {"span": "answer"}, "attributes": {KEY: VALUE}, "resource": {KEY: VALUE}}

where "event" is its `gen_ai.evaluation.name`, "" if it has none.

A carrier takes one nanosecond and is the only span of its trace.

VALUE is an OTLP/JSON value, {"intValue": "1"}, or {"any": "intValue"} where only the type is known
beforehand (a list of types if several will do). `optional` keys may be missing, but not of another
type. Everything else must be there exactly as expected, and nothing else may be. What differs is
named, a line each, and the exit status is 1.
"""

import json
import sys

KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"]
STATUS = ["unset", "ok", "error"]
NAMESPACES = (
    "feedback", "metrics", "metadata", "user_properties", "inputs", "outputs", "config",
)
MISSING = object()


def normal(value):
    """An OTLP/JSON value with one spelling: integers as int, doubles as float."""
    if not isinstance(value, dict) or len(value) != 1:
        return ("nothing", json.dumps(value))
    (kind, inner), = value.items()
    if kind == "intValue":
        return (kind, int(inner))
    if kind == "doubleValue":
        return (kind, repr(float(inner)))
    if kind == "arrayValue":
        return (kind, tuple(normal(item) for item in inner.get("values", [])))
    return (kind, inner if isinstance(inner, (str, bool)) else json.dumps(inner))


def matches(expected, actual):
    if "any" in expected:
        kinds = expected["any"]
        return normal(actual)[0] in (kinds if isinstance(kinds, list) else [kinds])
    return normal(expected) == normal(actual)


def table(pairs, where, problems):
    """A list of OTLP key-values as a dict; keys that stand twice are problems."""
    result = {}
    for pair in pairs:
        if pair["key"] in result:
            problems.append(f"{where}: key {pair['key']!r} twice")
        result[pair["key"]] = pair.get("value")
    return result


def show(value):
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def compare_attributes(where, expected, optional, actual, problems):
    for key, value in expected.items():
        if key not in actual:
            problems.append(f"{where}: {key!r} is missing, expected {show(value)}")
    for key, value in actual.items():
        known = expected.get(key, optional.get(key, MISSING))
        if known is MISSING:
            problems.append(f"{where}: {key!r} is not expected, it is {show(value)}")
        elif not matches(known, value):
            problems.append(f"{where}: {key!r} is {show(value)}, expected {show(known)}")


def read_received(path, problems):
    spans = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            if not line.strip():
                continue
            for resource_spans in json.loads(line).get("resourceSpans", []):
                resource = table(
                    resource_spans.get("resource", {}).get("attributes", []), "resource", problems
                )
                for scope_spans in resource_spans.get("scopeSpans", []):
                    for span in scope_spans.get("spans", []):
                        where = f"span {span['name']!r}"
                        span["resource"] = resource
                        span["attributes"] = table(span.get("attributes", []), where, problems)
                        for event in span.setdefault("events", []):
                            event["attributes"] = table(
                                event.get("attributes", []),
                                f"{where}, event {event.get('name')!r}",
                                problems,
                            )
                        for link in span.setdefault("links", []):
                            link["attributes"] = table(
                                link.get("attributes", []), f"{where}, link", problems
                            )
                        spans.append(span)
    return spans


def read_records(path, problems):
    """The log records, each with its resource and with its attributes as a table."""
    records = []
    with open(path, encoding="utf-8") as lines:
        requests = [json.loads(line) for line in lines if line.strip()]
    for resource_logs in (item for request in requests for item in request.get("resourceLogs", [])):
        resource = table(resource_logs.get("resource", {}).get("attributes", []), "resource", problems)
        for scope_logs in resource_logs.get("scopeLogs", []):
            for record in scope_logs.get("logRecords", []):
                record["resource"] = resource
                record["scope"] = scope_logs.get("scope", {}).get("name", "")
                record["attributes"] = table(record.get("attributes", []), "log record", problems)
                records.append(record)
    return records


class Received:
    """The spans that arrived, and how to name one by its id."""

    def __init__(self, spans, problems):
        self.spans = spans
        self.by_id = {}
        for span in spans:
            if self.by_id.setdefault((span["traceId"], span["spanId"]), span) is not span:
                problems.append(f"span {span['name']!r}: its id stands twice")

    def name(self, trace_id, span_id):
        span = self.by_id.get((trace_id, span_id))
        return span["name"] if span else f"(unknown span {span_id} of trace {trace_id})"

    def parent(self, span):
        parent = span.get("parentSpanId", "")
        return self.name(span["traceId"], parent) if parent else None

    def named(self, name):
        found = [span for span in self.spans if span["name"] == name]
        return found[0] if len(found) == 1 else None

    def document(self, of, problems):
        """The feedback on a span, session or trace, by the rules of folding."""
        own, submissions = {}, []
        (kind, name), = of.items()
        target = None if kind == "session" else self.named(name)
        if kind != "session" and target is None:
            problems.append(f"feedback on {kind} {name!r}: there is not exactly one such span")
            return None
        for span in self.spans:
            attributes = span["attributes"]
            scope = text(attributes.get("tracing_feedback.scope"))
            late = attributes.get("tracing_feedback.late") == {"boolValue": True}
            if kind == "span":
                if span is target and scope is None:
                    own = feedback(attributes)
                links = [(link["traceId"], link["spanId"]) for link in span["links"]]
                if not late or scope or links != [(target["traceId"], target["spanId"])]:
                    continue
            elif scope != kind:
                continue
            elif kind == "session" and text(attributes.get("session.id")) != name:
                continue
            elif kind == "trace":
                # Of a carrier the link says what it is about, not the trace that it is in.
                traces = [link["traceId"] for link in span["links"]] if late else [span["traceId"]]
                if traces != [target["traceId"]]:
                    continue
            submissions.append(span)
        return fold(own, submissions)


def text(value):
    return value.get("stringValue") if value else None


def feedback(attributes):
    return {k: v for k, v in attributes.items() if k.split(".", 1)[0] in NAMESPACES}


def fold(own, submissions):
    def time(span):
        value = span["attributes"].get("tracing_feedback.time_unix_nano", {})
        return int(value.get("intValue", 0))

    document = dict(own)
    seen = set()
    for span in sorted(submissions, key=lambda span: (time(span), span["spanId"])):
        if span["spanId"] in seen:
            continue
        seen.add(span["spanId"])
        cleared = span["attributes"].get("tracing_feedback.cleared", {}).get("arrayValue", {})
        for item in cleared.get("values", []):
            remove_under(document, item["stringValue"])
        for key, value in feedback(span["attributes"]).items():
            remove_under(document, key)
            parts = key.split(".")
            for length in range(2, len(parts)):
                document.pop(".".join(parts[:length]), None)
            document[key] = value
    return document


def remove_under(document, root):
    for key in [key for key in document if key == root or key.startswith(root + ".")]:
        del document[key]


def compare_span(expected, span, received):
    problems = []
    where = f"span {expected['name']!r}"

    def same(what, wanted, found):
        if wanted != found:
            problems.append(f"{where}: {what} is {show(found)}, expected {show(wanted)}")

    same("kind", expected.get("kind", "internal"), KINDS[span.get("kind", 0)])
    same("parent", expected.get("parent"), received.parent(span))
    status = span.get("status", {})
    wanted = expected.get("status", {"code": "unset"})
    same("status", wanted["code"], STATUS[status.get("code", 0)])
    same("status message", wanted.get("message", ""), status.get("message", ""))
    length = int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])
    is_carrier = expected.get("carrier", False)
    if length < 0 or (is_carrier and length != 1):
        problems.append(f"{where}: its length is {length} ns")
    others = sum(other["traceId"] == span["traceId"] for other in received.spans) - 1
    if is_carrier and others:
        problems.append(f"{where}: its trace has {others} other spans")
    for count in ("droppedAttributesCount", "droppedEventsCount", "droppedLinksCount"):
        same(count, 0, span.get(count, 0))
    compare_attributes(
        where, expected["attributes"], expected.get("optional", {}), span["attributes"], problems
    )
    compare_attributes(
        f"{where}, resource",
        expected["resource"],
        expected.get("resource_optional", {}),
        span["resource"],
        problems,
    )
    same(
        "events",
        [event["name"] for event in expected.get("events", [])],
        [event.get("name", "") for event in span["events"]],
    )
    for event, actual in zip(expected.get("events", []), span["events"]):
        compare_attributes(
            f"{where}, event {event['name']!r}",
            event.get("attributes", {}),
            event.get("optional", {}),
            actual["attributes"],
            problems,
        )
        at = int(actual.get("timeUnixNano", 0))
        if not int(span["startTimeUnixNano"]) <= at <= int(span["endTimeUnixNano"]):
            problems.append(f"{where}, event {event['name']!r}: its time is outside the span's")
    same(
        "links",
        [link["span"] for link in expected.get("links", [])],
        [received.name(link["traceId"], link["spanId"]) for link in span["links"]],
    )
    for link, actual in zip(expected.get("links", []), span["links"]):
        compare_attributes(
            f"{where}, link to {link['span']!r}",
            link.get("attributes", {}),
            link.get("optional", {}),
            actual["attributes"],
            problems,
        )
    return problems


def compare_event(expected, record, received):
    problems = []
    where = f"event {expected['event']!r}"

    def same(what, wanted, found):
        if wanted != found:
            problems.append(f"{where}: {what} is {show(found)}, expected {show(wanted)}")

    same("event name", "gen_ai.evaluation.result", record.get("eventName"))
    same("scope", expected.get("scope", "tracing-feedback"), record["scope"])
    about = {}
    trace_id, span_id = record.get("traceId", ""), record.get("spanId", "")
    if span_id:
        about = {"span": received.name(trace_id, span_id)}
    elif trace_id:
        roots = [s["name"] for s in received.spans if s["traceId"] == trace_id and not s.get("parentSpanId")]
        about = {"trace": roots[0] if len(roots) == 1 else f"(unknown trace {trace_id})"}
    same("target", expected["about"], about)
    same("flags", 1 if about else 0, record.get("flags", 0))
    for absent in ("body", "severityNumber", "severityText"):
        same(absent, None, record.get(absent) or None)
    same("droppedAttributesCount", 0, record.get("droppedAttributesCount", 0))
    time = record.get("timeUnixNano", "0")
    same("observed time", time, record.get("observedTimeUnixNano"))
    stated = record["attributes"].get("tracing_feedback.time_unix_nano", {}).get("intValue")
    same("time", str(stated), time)
    attributes = expected["attributes"]
    compare_attributes(where, attributes, {}, record["attributes"], problems)
    optional = expected.get("resource_optional", {})
    compare_attributes(
        f"{where}, resource", expected["resource"], optional, record["resource"], problems
    )
    return problems


def compare_events(expectations, records, received, problems):
    left = list(records)

    def name(record):
        return text(record["attributes"].get("gen_ai.evaluation.name")) or ""

    for expected in expectations:
        candidates = [record for record in left if name(record) == expected["event"]]
        if not candidates:
            problems.append(f"event {expected['event']!r} is missing")
            continue
        found = {id(record): compare_event(expected, record, received) for record in candidates}
        best = min(candidates, key=lambda record: len(found[id(record)]))
        problems += found[id(best)]
        left = [record for record in left if record is not best]
    problems += [f"event {name(record)!r} is not expected" for record in left]


def compare(expectations, received_path):
    problems = []
    received = Received(read_received(received_path, problems), problems)
    left = list(received.spans)
    expected_spans = [line for line in expectations if "name" in line]
    documents = [line for line in expectations if "feedback" in line]
    events = [line for line in expectations if "event" in line]
    if not expected_spans:
        problems.append("nothing is expected")
    for expected in expected_spans:
        # Of several spans with one name, the one with the fewest differences is meant.
        candidates = [span for span in left if span["name"] == expected["name"]]
        if not candidates:
            problems.append(f"span {expected['name']!r} is missing")
            continue
        found = {id(span): compare_span(expected, span, received) for span in candidates}
        best = min(candidates, key=lambda span: len(found[id(span)]))
        problems += found[id(best)]
        left = [span for span in left if span is not best]
    problems += [f"span {span['name']!r} is not expected" for span in left]
    for line in documents:
        found = received.document(line["feedback"], problems)
        if found is not None:
            where = f"feedback on {show(line['feedback'])}"
            compare_attributes(where, line["document"], {}, found, problems)
    compare_events(events, read_records(received_path, problems), received, problems)
    return len(expected_spans), len(documents), len(events), problems


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as lines:
        expectations = [json.loads(line) for line in lines if line.strip()]
    spans, documents, events, problems = compare(expectations, sys.argv[2])
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"{spans} spans, {documents} feedback documents and {events} events are as expected")


if __name__ == "__main__":
    main()
