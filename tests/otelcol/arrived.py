#!/usr/bin/env python3
"""Holds what `examples/deploy` has said against what its gateways have written.

    arrived.py EXPECTED FEEDBACK... -- REST...
    arrived.py --backend BACKEND -- GATEWAY...

EXPECTED is what the example printed, FEEDBACK and REST what came out of the two pipelines of
gateway.yaml, a file each for every process that was the gateway, as OTLP/JSON lines. Waits until as
many spans are there as were sent, for two minutes at most. Then has to hold:

- every span arrived, and nothing else did,
- what carries feedback took the one way and everything else the other,
- the feedback way alone, folded, gives what was said: nothing depends on what is kept of the rest,
- every gateway had its share.

That a span comes twice is right, and said.

BACKEND is what a trace backend beside the desk has received, GATEWAY what the last process that was the
gateway has written, after both have ended. Then the backend has every span of that process but the
carriers, which the gateway has, and no trace there is longer than its root span.

What differs is named, and the exit status is 1.
"""

import json
import os
import sys
import time
from collections import Counter, defaultdict

from compare import feedback, fold, show, table, text

MARKS = ("feedback.", "metrics.", "tracing_feedback.")
PATIENCE = 120


def read(path):
    if not os.path.exists(path):
        return  # made with the first request
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line == "\n":
                continue  # it wasn't there yet when the line before was read
            try:
                request = json.loads(line)
            except json.JSONDecodeError:
                if line.endswith("\n"):
                    raise
                return  # what a killed process was about to write, and has not acknowledged
            for resource_spans in request["resourceSpans"]:
                for scope_spans in resource_spans["scopeSpans"]:
                    yield from scope_spans["spans"]


def name(span):
    return span["traceId"], span["spanId"]


def wait(paths, wanted):
    """All spans of each file, as soon as so many different ones are there, or it has been long enough."""
    deadline = time.monotonic() + PATIENCE
    while True:
        files = {path: list(read(path)) for path in paths}
        if len({name(span) for spans in files.values() for span in spans}) >= wanted:
            return files
        if time.monotonic() > deadline:
            return files
        time.sleep(0.2)


def target(span):
    """Whom a span's feedback is about."""
    attributes = span["attributes"]
    if text(attributes.get("tracing_feedback.scope")) == "session":
        return text(attributes["session.id"])
    if "tracing_feedback.late" in attributes:
        (link,) = span["links"]
        return link["traceId"], link["spanId"]
    return name(span)


def documents(spans):
    own, submissions = {}, defaultdict(list)
    for span in spans:
        about = target(span)
        if about == name(span):
            own[about] = feedback(span["attributes"])
        else:
            submissions[about].append(span)
    return {about: fold(own.get(about, {}), submissions[about]) for about in own | submissions}


def judge(expected, numbers, feedback_files, rest_files):
    problems = []
    for files, is_feedback in [(feedback_files, True), (rest_files, False)]:
        for path, spans in files.items():
            for span in spans:
                where = f"span {span['name']!r} {span['spanId']}"
                span["attributes"] = table(span.get("attributes", []), where, problems)
                if any(key.startswith(MARKS) for key in span["attributes"]) != is_feedback:
                    problems.append(f"{path}: {where} has taken the wrong way")

    for number, parts in enumerate(zip(feedback_files.values(), rest_files.values()), 1):
        if not any(parts):
            problems.append(f"nothing has arrived at gateway {number}")

    files = feedback_files | rest_files
    seen = Counter(name(span) for spans in files.values() for span in spans)
    sent = numbers["spans"] + numbers["carriers"]
    if len(seen) != sent:
        problems.append(f"{len(seen)} different spans have arrived, {sent} were sent")

    found = documents([span for spans in feedback_files.values() for span in spans])
    for about, document in expected.items():
        if found.get(about) != document:
            problems.append(f"about {about}: {show(found.get(about))}, expected {show(document)}")
    problems += [f"about {about}: nobody said {show(found[about])}" for about in found.keys() - expected.keys()]
    return len(seen), sum(seen.values()) - len(seen), problems


def is_carrier(span):
    return any(pair["key"] == "tracing_feedback.late" for pair in span.get("attributes", []))


def judge_backend(backend, gateway):
    problems = []
    traces = defaultdict(list)
    for span in backend:
        traces[span["traceId"]].append(span)
        if is_carrier(span):
            problems.append(f"the backend has the carrier {span['spanId']}")
    for trace, spans in traces.items():
        roots = [span for span in spans if not span.get("parentSpanId")]
        ends = [int(span["endTimeUnixNano"]) for span in spans]
        if roots and max(ends) > int(roots[0]["endTimeUnixNano"]):
            problems.append(f"trace {trace} is longer than its root")
    carriers = {name(span) for span in gateway if is_carrier(span)}
    missing = {name(span) for span in gateway} - carriers - {name(span) for span in backend}
    problems += [f"the backend lacks {span}" for span in sorted(missing)]
    if not carriers:
        problems.append("the gateway has no carrier")
    return len(carriers), problems


def main_of_backend(backend, *gateway):
    spans = list(read(backend))
    carriers, problems = judge_backend(spans, [span for path in gateway for span in read(path)])
    for problem in problems[:20]:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(f"{len(problems)} problems")
    print(f"{len(spans)} spans arrived, and none of {carriers} carriers")


def main():
    if "--" not in sys.argv:
        sys.exit(__doc__)
    if sys.argv[1] == "--backend":
        return main_of_backend(*(path for path in sys.argv[2:] if path != "--"))
    expectations, *paths = sys.argv[1:]
    with open(expectations, encoding="utf-8") as lines:
        *said, numbers = [json.loads(line) for line in lines]
    expected = {
        line["session"] if "session" in line else tuple(line["span"]): line["document"] for line in said
    }
    cut = paths.index("--")
    files = wait(paths[:cut] + paths[cut + 1 :], numbers["spans"] + numbers["carriers"])
    ways = [{path: files[path] for path in way} for way in (paths[:cut], paths[cut + 1 :])]
    spans, again, problems = judge(expected, numbers, *ways)
    for problem in problems[:20]:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(f"{len(problems)} problems")
    print(f"{spans} spans arrived ({again} of them again), {len(expected)} feedback documents are as said")


if __name__ == "__main__":
    main()
