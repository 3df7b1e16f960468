"""What random data has rarely or never, as `data.make` gives it: spans that were sent before they had ended, a trace
of more spans than a view reads, and texts with the escapes of JSON.

`make()` gives two lists of lines, `questions(ask)` what is asked of them.
"""

import json
from pathlib import Path

from data import BEGIN, SECOND, SERVICES, Data

# Each may be found by what its escapes stand for, and by the escapes.
ESCAPED = [
    '{"text": "Gr\\u00fc\\u00DFe aus K\\u00f6ln"}',
    'a face \\ud83d\\ude00, half of one \\ud83d, the other \\ude00, none \\ud83d\\u0041',
    'line\\nbreak, tab\\t, \\"quoted\\", a\\/b, back\\\\u00e9slash',
    "no escape: \\q \\u12 \\uzzzz, at the end \\",
    "plain grüße, and ÄÖÜ",
]
SEARCHES = [
    "grüße", "GRÜSSE", "köln", "\\u00fc", "😀", "\\ud83d", "\\ude00", "line\nbreak", "\t,", '"quoted"', "a/b", "a\\/b",
    "\\u00e9", "é", "backslash", "\\q", "end \\", "äöü", "\\ud83dA", "A",
]  # fmt: skip
# Random texts are made of these, and searched for the others.
PIECES = [
    "\\", "\\\\", "\\u", "\\ud83d", "\\ude00", "\\uD83D", "\\uDE00", "\\u00e9", "\\u00C9", "\\u0000", "\\u2028", "\\n",
    "\\t", '\\"', "u", "d83d", "de00", "00e9", '"', "n", "t", "/", "é", "A", "0",
]  # fmt: skip
SOUGHT = [*"é😀\n\t/\\un0d", '"', "\0", "\u2028", "\\u", "\\d8", "é0", "A\n", "\\\\"]
RANDOM = 300
ANSWERS = Path(__file__).parents[1] / "it" / "desk" / "answers"
LONG = 10_020  # spans; a view reads 10,000


def make(seed=7):
    data = Data(seed)
    lines, later = [], []

    def add(to, *spans, service=SERVICES[0]):
        to.append(data.line(service, list(spans)))

    for number, text in enumerate(ESCAPED):
        begin = BEGIN + number * SECOND
        said = {"feedback.comment": text, "inputs.question": text, "note": text, "feedback.rating": True}
        add(lines, data.span("escaped", data.id(32), None, begin, 1000, said))

    for number in range(RANDOM):
        text = "".join(data.chance.choices(PIECES, k=data.chance.randrange(1, 9)))
        said = {"feedback.random": f"{number}: {text}"}
        add(lines, data.span("random", data.id(32), None, BEGIN + (100 + number) * SECOND, 1000, said))

    # Answers by every convention, structured attributes among them.
    for path in sorted(ANSWERS.glob("*.json")):
        lines.append(json.dumps(json.loads(path.read_text()), ensure_ascii=False))
    # And as emitters send them, with feedback about each request.
    for path in sorted(ANSWERS.glob("recorded/*.json")):
        request = json.loads(path.read_text())
        spans = [span for part in request["resourceSpans"] for scope in part["scopeSpans"] for span in scope["spans"]]
        for span in spans:
            if not span.get("parentSpanId"):
                span["attributes"].append({"key": "feedback.rating", "value": {"boolValue": True}})
        lines.append(json.dumps(request, ensure_ascii=False))

    for order in ["pending first", "finished first", "still pending", "finished later"]:
        trace, begin = data.id(32), data.moment(BEGIN, BEGIN + 1000 * SECOND)
        session = f"of {order}"
        said = {"session.id": session, "feedback.rating": False, "feedback.stars": 1, "input.value": "early"}
        pending = data.span(f"{order}, pending", trace, None, begin, 0, said) | {"endTimeUnixNano": "0"}
        said |= {"feedback.rating": True, "feedback.comment": order, "input.value": "late", "output.value": "out"}
        finished = data.span(f"{order}, finished", trace, None, begin, 3 * SECOND, said, status={"code": 2})
        finished["spanId"] = pending["spanId"]
        child = data.span("child", trace, pending["spanId"], begin + 1000, SECOND, {})
        states = {
            "pending first": [pending, finished],
            "finished first": [finished, pending],
            "still pending": [pending],
            "finished later": [pending],
        }[order]
        for span in states:
            add(lines, span)
        add(lines, child)
        if order == "finished later":
            add(later, finished)

    # Carriers that are about themselves, and about each other.
    trace, begin = data.id(32), BEGIN + 1800 * SECOND
    answer = data.span("answer", trace, None, begin, SECOND, {})
    late = {"tracing_feedback.late": True, "feedback.astray": True}
    carriers = [data.span("feedback", trace, answer["spanId"], begin + SECOND, 1, late) for _ in range(3)]
    about = [carriers[0], carriers[2], carriers[1]]
    for carrier, target in zip(carriers, about):
        carrier["links"] = [{"traceId": trace, "spanId": target["spanId"]}]
    add(lines, answer, *carriers)

    # Its session and its end are those of its last spans.
    trace, begin = data.id(32), BEGIN + 3600 * SECOND
    root = data.span("long", trace, None, begin, 1000, {})
    spans = [root]
    for number in range(1, LONG):
        said = {}
        if number > LONG - 10:
            said = {"session.id": "of the long one", "feedback.stars": number % 5}
        start = begin + number * 1_000_000
        spans.append(data.span(f"step {number}", trace, root["spanId"], start, number * 1_000_000, said))
    for first in range(0, LONG, 1_000):
        add(lines, *spans[first : first + 1_000])
    return lines, later


def questions(ask):
    """Every view of all of it, and each search."""
    for view in ["traces", "sessions", "comments", "dataset"]:
        yield view, {"limit": 500}
        yield view, {"filter": "feedback.rating is true"}
        yield view, {"filter": "feedback.rating is false"}
    for filter in ["duration > 2000", "duration < 2000", "status is error", 'name contains "finished"', "has session.id"]:
        yield "traces", {"filter": filter}
    for field in ["feedback.rating", "feedback.stars"]:
        for time in ["start", "given"]:
            yield "chart", {"field": field, "bucket": "hour", "group": "name", "time": time}
    for filter in ["has answer.model", "answer.model contains gpt", "answer.tokens.total > 100", "has no answer.tokens.input"]:
        yield "traces", {"filter": filter}
    for count in ["input", "output", "total"]:
        for group in ["answer.model", "name", "service.name"]:
            yield "chart", {"field": f"answer.tokens.{count}", "bucket": "month", "group": group}
    yield "values", {"field": "answer.model"}
    yield "values", {"field": "answer.tokens.total"}
    for search in SEARCHES:
        yield "comments", {"search": search}
        yield "values", {"field": "feedback.comment", "search": search}
        quoted = search.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        for field in ["feedback.comment", "inputs.question", "note"]:
            yield "traces", {"filter": f'{field} contains "{quoted}"'}
    for search in SOUGHT:
        yield "comments", {"field": "feedback.random", "search": search, "limit": 500}
    for row in ask("traces", filter="has no feedback.random", limit=500)["rows"]:
        yield f"traces/{row['trace_id']}", {}
    for row in ask("sessions", limit=500)["rows"]:
        yield f"sessions/{row['session_id']}", {}
