"""Every measure of `feedback-desk chart`, against Python's own `statistics` and `math.fsum`.

    python3 tests/desk/measures.py target/debug/feedback-desk

Random answers of several services go into a file as the Collector's file exporter writes it. Some are
rated late, some change their mind, some retract, and the lines are shuffled; here is computed what is to
be found, without any code in common. `statistics.quantiles(..., method="inclusive")` is R-7.
"""

import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile

BEGIN = 1_767_225_600_000  # 2026-01-01T00:00:00Z, in milliseconds
DAY = 86_400_000
MEASURES = ["count", "sum", "avg", "median", "min", "max", "p95", "p98", "p99", "percentage>=3"]


def attribute(key, value):
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    if isinstance(value, list):
        values = [{"stringValue": item} for item in value]
        return {"key": key, "value": {"arrayValue": {"values": values}}}
    return {"key": key, "value": {"stringValue": value}}


def line(version, trace, span, start, attributes, about=None):
    made = {
        "traceId": f"{trace:032x}",
        "spanId": f"{span:016x}",
        "name": "answer",
        "startTimeUnixNano": str(start * 1_000_000),
        "endTimeUnixNano": str(start * 1_000_000 + 1000),
        "attributes": [attribute(key, value) for key, value in attributes.items()],
    }
    if about:
        # A change of mind in a trace of its own, a retraction as a child of its target.
        made["links"] = [{"traceId": f"{trace:032x}", "spanId": f"{about:016x}"}]
        if span == 2:
            made["traceId"] = f"{trace + (1 << 64):032x}"
        else:
            made["parentSpanId"] = f"{about:016x}"
    resource = {"attributes": [attribute("service.version", version)]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [made]}]}]})


def measure(name, values):
    if not values:
        return None
    values = [float(value) for value in values]
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
    return {
        "count": float(len(values)),
        "sum": math.fsum(values),
        "avg": math.fsum(values) / len(values),
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "p95": cuts[94],
        "p98": cuts[97],
        "p99": cuts[98],
        "percentage>=3": 100.0 * sum(value >= 3 for value in values) / len(values),
        "percent-true": 100.0 * sum(value != 0 for value in values) / len(values),
        "percent-false": 100.0 * sum(value == 0 for value in values) / len(values),
    }[name]


def close(found, expected):
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


def main():
    desk = sys.argv[1]
    chance = random.Random(7)
    lines, stars, ratings = [], [], []
    for trace in range(1, 3001):
        day = chance.choice([0, 1, 2, 4, 8, 9, 13])
        start = BEGIN + day * DAY + chance.randrange(DAY)
        version = chance.choice(["1.0", "1.1", "2.0"])
        star = chance.choice([chance.randrange(1, 6), chance.uniform(-3, 9)])
        rating = chance.random() < 0.7
        lines.append(line(version, trace, 1, start, {"feedback.stars": star, "feedback.rating": rating}))
        fate = chance.random()
        late = {"tracing_feedback.late": True}
        if fate < 0.2:  # a change of mind
            star, rating = chance.randrange(1, 6), not rating
            said = {"feedback.stars": star, "feedback.rating": rating}
            when = {"tracing_feedback.time_unix_nano": (start + 5 * DAY) * 1_000_000}
            lines.append(line("web", trace, 2, start + 5 * DAY, late | when | said, about=1))
        elif fate < 0.3:  # a retraction
            star = rating = None
            said = {"tracing_feedback.cleared": ["feedback"]}
            lines.append(line("web", trace, 3, start + 6 * DAY, late | said, about=1))
        if star is not None:
            stars.append((day, version, star))
            ratings.append((day, version, rating))
    lines += chance.sample(lines, 500)
    chance.shuffle(lines)

    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {"FEEDBACK_DESK_STORE": os.path.join(directory, "desk.sqlite")}
        path = os.path.join(directory, "traces.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))

        def run(*arguments):
            done = subprocess.run(
                [desk, *arguments], env=environment, check=True, capture_output=True, text=True
            )
            return done.stdout

        run("import", path)
        checked = 0
        fields = [
            ("feedback.stars", MEASURES, stars),
            ("feedback.rating", ["percent-true", "percent-false", "count"], ratings),
        ]
        for field, measures, answers in fields:
            chart = json.loads(
                run("chart", field, "--by", "day", "--group", "service.version", "--format", "json",
                    "--measure", ",".join(measures))
            )
            assert chart["values"] == len(answers), chart["values"]
            for series in [chart["total"], *chart["groups"]]:
                group = series["group"]
                own = [answer for answer in answers if group in (None, answer[1])]
                for name in measures:
                    expected = measure(name, [value for _, _, value in own])
                    found = series["overall"][name]
                    assert close(found, expected), (field, group, name, found, expected)
                    for at, found in enumerate(series["points"][name]):
                        expected = measure(name, [value for day, _, value in own if day == at])
                        assert close(found, expected), (field, group, name, at, found, expected)
                        checked += 1
        print(f"{checked} figures of {len(lines)} lines are those of Python's statistics")


main()
