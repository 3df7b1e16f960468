"""What both desks are asked: every view, every kind of filter, ranges, buckets, groups and measures.

`all_of(ask)` gives `(view, parameters)`; `ask` puts a question to the desk that is taken for right, since
fields, ids and times depend on the data.
"""

import itertools
import json

# About the data of `data.py`; elsewhere most of them match nothing, which is an answer, too.
FILTERS = [
    "feedback.rating is true",
    "feedback.rating is false",
    "feedback.rating is not true",
    'feedback.rating is "true"',
    "feedback.rating > false",
    "feedback.rating contains ru",
    "honeyhive_feedback.rating is true",
    '"feedback.rating" = false',
    "feedback.stars = 3",
    "feedback.stars != 3",
    'feedback.stars is "3"',
    "feedback.stars < 2.5",
    "feedback.stars <= 1",
    "feedback.stars > 4",
    "feedback.stars >= 4 and feedback.stars < 5",
    "feedback.stars contains 4",
    "feedback.seconds >= 100.5",
    "feedback.seconds < 0",
    "feedback.comment contains slow",
    'feedback.comment contains "ÄÖÜ ß"',
    'feedback.comment contains "äöü"',
    'feedback.comment contains "日本"',
    'feedback.comment contains "new YORK"',
    'feedback.comment contains "% _"',
    'feedback.comment contains "\\\\ back"',
    'feedback.comment < "m"',
    'feedback.comment >= "two"',
    'feedback.ground_truth is 42',
    'feedback.ground_truth is "42"',
    "feedback.ground_truth > 40",
    "feedback.edits.0.value is Albany",
    "feedback.edits.0.length > 50",
    "has feedback.edits.2.value",
    "has no feedback.edits.0.value and has feedback",
    "feedback.step is first",
    "feedback.step.retry is true",
    "has feedback.step",
    "feedback.big is 10000000000000000001",
    'feedback.big is "10000000000000000001"',
    "feedback.mixed is n/a",
    "feedback.mixed >= 10",
    "feedback.mixed is not 3",
    "feedback.overall >= 5",
    "has no feedback.summary and has feedback",
    "metrics.score >= 0.5",
    "metrics.score is 1",
    "metadata.plan is pro",
    "user_properties.user_id is user-3",
    'inputs.question contains "new york"',
    "has outputs.answer",
    "has feedback",
    "has no feedback",
    "has ground truth",
    "has no ground truth",
    "has no feedback.comment",
    "has session.id",
    "has no session.id",
    "has name",
    "has no service.name",
    "service.name is chat",
    'service.name is not "évaluation"',
    "service.name contains CHA",
    "service.version is 1.1.0",
    'service.version < "1.1.0"',
    "deployment.environment.name is prod",
    "process.pid is 4711",
    "name is answer",
    'name contains "ANSWER"',
    "duration > 2000",
    "duration <= 500.25",
    "status is error",
    "status is ok",
    "status is not error",
    "session.id is s-3",
    "session.id contains S-1",
    "http.route is /ask",
    "http.route contains ASK",
    "http.route is not /ask",
    "http.status_code is 200",
    "http.status_code >= 404",
    "llm.temperature > 0.5",
    "is_cached is true",
    "has http.route",
    "has no http.route",
    "answer.model is small",
    "answer.model is not large",
    "answer.model contains GPT",
    "has answer.model",
    "has no answer.model and has feedback",
    "answer.tokens.input >= 250",
    "answer.tokens.output is 3",
    "answer.tokens.total < 100 and feedback.rating is true",
    "has no answer.tokens.total",
    "nosuch is 5",
    "nosuch is not 5",
    "has nosuch",
    "has no nosuch",
    "feedback.rating is false and service.name is chat and duration > 1000",
    "feedback.stars >= 3 and http.route is /ask and has session.id",
    "has no feedback and status is error",
]
# What is no question: the error must be the same.
WRONG = [
    ("traces", {"filter": "feedback.rating is"}),
    ("traces", {"limit": 0}),
    ("traces", {"cursor": "nonsense"}),
    ("traces", {"nosuch": 1}),
    ("traces", {"from": "yesterday"}),
    ("chart", {}),
    ("chart", {"field": "service.name"}),
    ("chart", {"field": "feedback.rating", "measure": "p98"}),
    ("chart", {"field": "feedback.stars", "measure": "percent-true"}),
    ("chart", {"field": "feedback.nosuch"}),
    ("chart", {"field": "answer.model"}),
    ("chart", {"field": "answer.tokens.total", "measure": "percent-true"}),
    ("chart", {"field": "feedback.stars", "compare": "previous"}),
    ("values", {"field": "http.route"}),
    ("values", {"field": "feedback.nosuch"}),
    ("comments", {"field": "service.name"}),
    ("traces/00000000000000000000000000000001", {}),
    ("traces/xyz", {}),
    ("sessions/nosuch", {}),
]
LISTS = ["traces", "sessions", "comments", "dataset"]


def all_of(ask, filters=FILTERS):
    """All questions, each once. A list is to be read with all its pages."""
    status = ask("status")
    fields = [row for row in ask("fields", limit=500)["rows"]]
    said = [row for row in fields if row["source"] == "said"]
    seen = set()
    for view, parameters in itertools.chain(
        WRONG,
        plain(ask, fields, said),
        narrowed(filters + list(of_fields(ask, said))),
        in_time(ask, status, said),
        charts(status, said, filters),
        of_tokens(status, filters),
        one_by_one(ask),
        files(status, said),
    ):
        key = (view, tuple(sorted(parameters.items())))
        if key not in seen:
            seen.add(key)
            yield view, parameters


def plain(ask, fields, said):
    yield "status", {}
    yield "waiting", {}
    yield "waiting", {"limit": 4}
    for search in ["", "step", "SERVICE", "nosuch"]:
        yield "fields", {"search": search, "limit": 500}
    yield "fields", {"limit": 3}
    for view in LISTS:
        for limit in [500, 50, 7]:
            yield view, {"limit": limit}
    for row in fields:
        yield "values", {"field": row["field"], "limit": 500}
        yield "values", {"field": row["field"], "search": "A", "limit": 3}
    for row in said:
        yield "comments", {"field": row["field"], "limit": 500}
    for search in ["slow", "SLOW", "äöü", "日本", "<script>", "\\", "%", "nosuch"]:
        yield "comments", {"search": search, "limit": 11}
        yield "comments", {"search": search, "filter": "feedback.stars >= 3"}


def of_fields(ask, said):
    """Filters about what the data has, whatever it is."""
    for row in said:
        field = row["field"]
        values = [found["value"] for found in ask("values", field=field, limit=3)["rows"]]
        yield f"has {field}"
        yield f"has no {field}"
        for value in values[:2]:
            quoted = json.dumps(value, ensure_ascii=False)
            bare = row["type"] != "string" and all(c not in value for c in ' "<>=!')
            yield f"{field} is {value if bare else quoted}"
            if row["type"] == "number":
                yield f"{field} > {value}"


def narrowed(filters):
    for filter in filters:
        for view in LISTS:
            yield view, {"filter": filter, "limit": 200}
        yield "values", {"field": "service.version", "filter": filter}
        yield "values", {"field": "feedback.rating", "filter": filter}
        yield "chart", {"field": "feedback.rating", "filter": filter, "bucket": "day", "group": "service.version"}
    yield "traces", {"service": "chat", "limit": 500}
    yield "sessions", {"service": "search", "limit": 500}


def stretches(status):
    """Ranges: inside, from a time on, up to a time, empty, by date."""
    first, last = int(status["first"]), int(status["last"])
    length = last - first
    third = length // 3
    return [
        {"from": first + third, "to": first + 2 * third},
        {"from": first + third},
        {"to": first + third},
        {"from": last + 10**9, "to": last + 2 * 10**9},
        {"from": "2026-01-03", "to": "2026-01-05T12:00:00+02:00"},
    ]


def in_time(ask, status, said):
    for range in stretches(status):
        for view in LISTS:
            yield view, {"limit": 200} | range
            yield view, {"limit": 200, "filter": "feedback.rating is false"} | range
            yield view, {"limit": 200, "filter": "http.route is /ask"} | range
        yield "values", {"field": "name"} | range
        yield "values", {"field": "feedback.rating"} | range
        yield "values", {"field": "service.version", "filter": "has feedback"} | range
    for row, time in itertools.product(said, ["start", "given"]):
        yield "traces", {"field": row["field"], "time": time, "limit": 500}
    # Exactly the traces of a bucket.
    for row, time in itertools.product(said[:3], ["start", "given"]):
        chart = ask("chart", field=row["field"], bucket="day", time=time)
        for begin, end in list(itertools.pairwise(chart["buckets"]))[::4]:
            yield "traces", {"field": row["field"], "time": time, "from": int(begin), "to": int(end)}
            yield "traces", {
                "field": row["field"], "time": time, "from": int(begin), "to": int(end),
                "filter": "feedback.rating is false and service.name is chat", "limit": 5,
            }  # fmt: skip


GROUPS = [
    "service.version", "service.name", "deployment.environment.name", "name", "status", "session.id",
    "http.route", "feedback.comment", "feedback.rating", "feedback.stars", "metadata.plan", "nosuch",
    "feedback.edits.0.value", "feedback.overall", "host.tags", "is_cached", "answer.model", "answer.tokens.output",
]  # fmt: skip


def charts(status, said, filters):
    for row in said:
        for time in ["start", "given"]:
            yield "chart", {"field": row["field"], "time": time}
        yield "chart", {"field": row["field"], "bucket": "week", "group": "service.version"}
    numbers = [row["field"] for row in said if row["type"] == "number"][:4]
    bools = [row["field"] for row in said if row["type"] == "bool"][:2]
    texts = [row["field"] for row in said if row["type"] == "string"][:1]
    main = numbers + bools + texts
    for field in main:
        for bucket, tz in itertools.product(["hour", "day", "week", "month"], ["+00:00", "+05:30", "-08:00"]):
            yield "chart", {"field": field, "bucket": bucket, "tz": tz}
        for group in GROUPS:
            yield "chart", {"field": field, "group": group, "bucket": "day", "top": 50}
        yield "chart", {"field": field, "group": "feedback.comment", "top": 2}
        yield "chart", {"field": field, "group": "service.version", "top": 1, "time": "given"}
        for range, time in itertools.product(stretches(status), ["start", "given"]):
            yield "chart", {"field": field, "time": time, "group": "service.name"} | range
        middle = stretches(status)[0]
        minute = {"from": middle["from"], "to": middle["from"] + 3_600_000}
        yield "chart", {"field": field, "bucket": "minute"} | minute
        for bucket in ["day", "auto"]:
            yield "chart", {"field": field, "bucket": bucket, "compare": "previous"} | middle
        for group in ["service.version", "name"]:
            yield "chart", {"field": field, "compare": "previous", "group": group, "time": "given"} | middle
        for version in ["1.0.0", "1.1.0", "nosuch"]:
            yield "chart", {"field": field, "bucket": "day", "compare": f"version:{version}"}
        yield "chart", {
            "field": field, "compare": "version:1.0.0",
            "filter": "service.version is 1.1.0 and feedback.rating is true",
        }  # fmt: skip
    for field in numbers:
        shares = ",".join(f"percentage{sign}3" for sign in ["<", "<=", ">", ">=", "=", "!="])
        yield "chart", {"field": field, "measure": shares + ",p98,sum", "bucket": "day", "group": "name"}
        yield "chart", {"field": field, "measure": "percentage>=0.5", "filter": "has session.id"}
        for filter in filters[::3]:
            yield "chart", {"field": field, "filter": filter, "bucket": "week", "group": "service.name"}


def of_tokens(status, filters):
    """Charts of the tokens of traces."""
    for count in ["input", "output", "total"]:
        field = f"answer.tokens.{count}"
        for group in GROUPS:
            yield "chart", {"field": field, "group": group, "bucket": "day", "top": 50}
        for range, time in itertools.product(stretches(status), ["start", "given"]):
            yield "chart", {"field": field, "time": time, "group": "service.name"} | range
        yield "chart", {"field": field, "bucket": "day", "compare": "previous"} | stretches(status)[0]
        yield "chart", {"field": field, "bucket": "week", "compare": "version:1.0.0", "measure": "percentage>100,p98"}
        for filter in filters[::3]:
            yield "chart", {"field": field, "filter": filter, "bucket": "week"}


def one_by_one(ask):
    """Every trace that has feedback and some that have none, every session."""
    rows = ask("traces", filter="has feedback", limit=120)["rows"] + ask("traces", limit=40)["rows"]
    rows += ask("traces", filter="has session.id and has feedback", limit=20)["rows"]
    # Carriers may be all there is of a trace.
    for row in ask("waiting", limit=10)["rows"]:
        rows.append(row)
    for number, row in enumerate(rows):
        if row.get("trace_id"):
            yield f"traces/{row['trace_id']}", {}
            # The carriers' own traces.
            spans = ask(f"traces/{row['trace_id']}")["spans"] if number % 8 == 0 else []
            for trace in sorted({span["trace_id"] for span in spans} - {row["trace_id"]}):
                yield f"traces/{trace}", {}
    for row in ask("sessions", limit=60)["rows"]:
        yield f"sessions/{row['session_id']}", {}


def files(status, said):
    for view, format in itertools.product(LISTS, ["csv", "jsonl"]):
        yield f"export/{view}", {"format": format}
        yield f"export/{view}", {"format": format, "filter": "feedback.rating is false"} | stretches(status)[0]
    for row, format in itertools.product(said[:4], ["csv", "jsonl"]):
        chart = {"field": row["field"], "bucket": "day", "group": "service.version", "format": format}
        yield "export/chart", chart
    yield "export/comments", {"format": "jsonl", "search": "slow"}
    yield "export/traces", {"format": "jsonl", "field": "feedback.rating", "time": "given"}
