"""A random history of feedback, forwarded to a strict server: see `hosted`.

The history is sent by OTLP, in any order, and some of it twice. What the server should show is made here from the fold
that the desk's API answers, in the types of each vendor.
"""

import argparse
import collections
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
BEGIN = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
SECOND = 1_000_000_000
KEY = "the-secret-key"
PORTS = {f"FEEDBACK_DESK_{name}": "0" for name in ["PORT", "GRPC_PORT", "HTTP_PORT"]}
VALUES = {
    "feedback.rating": [True, False],
    "feedback.stars": [1, 2, 3, -4, 5],
    "feedback.accuracy": [0.25, 0.123456, 1.5, 1e-7],
    "feedback.reason": ["length", "tone", "größe"],
    "feedback.comment": ["slow", "fine,\nbut long", "« ok »", "x" * 700, ""],
    "feedback.step1.retry": [True, False],
    "feedback.edits.0.value": ["New York", "x" * 100],
    "feedback.ground_truth": ["Albany", "Albany, New York"],
    "metrics.relevance": [0.5, 1, 0.75],
    "metrics.comment": ["judged"],
}


def ask(url, data=None, method=None, timeout=30):
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.loads(answer.read() or b"null")


def until(what, is_so, limit=180):
    end = time.monotonic() + limit
    while True:
        try:
            if found := is_so():
                return found
        except (OSError, http.client.HTTPException):
            pass
        if time.monotonic() > end:
            raise SystemExit(f"not so after {limit} s: {what}")
        time.sleep(0.05)


class Process:
    """A program whose output is kept, line by line."""

    def __init__(self, command, environment=None):
        self.command, self.environment, self.all = command, environment or {}, []
        self.start()

    def start(self):
        self.lines = []
        self.process = subprocess.Popen(
            self.command, env=os.environ | self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        self.reader = threading.Thread(target=self.read, args=[self.process.stdout, self.lines], daemon=True)
        self.reader.start()

    def read(self, output, lines):
        for line in output:
            lines.append(line)
            self.all.append(line)

    def found(self, pattern):
        match = lambda: next((m for line in list(self.lines) if (m := re.search(pattern, line))), None)  # noqa: E731
        return until(f"{self.command[-1]} prints {pattern}", match, 60)[1]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.reader.join()


class Server:
    """A strict server of a vendor."""

    def __init__(self, vendor, more):
        arguments = [part for pair in more for part in (f"--{pair[0]}", pair[1])]
        program = os.path.join(HERE, "vendors", f"{vendor.name}_api.py")
        self.process = Process([sys.executable, "-W", "ignore", program, "--key", vendor.key, *arguments])
        self.url = "http://127.0.0.1:" + self.process.found(r"^(\d+)$")

    def control(self, name, data=None):
        return ask(f"{self.url}/_control/{name}", data)


class Desk:
    def __init__(self, program, directory, vendor, url):
        store = os.path.join(directory, "desk.sqlite")
        to = f"{vendor.name}={url}{vendor.query}"
        command = [program, "--store", store, "--forward", to, "--forward-metrics"]
        self.process = Process(command, PORTS | vendor.secrets)
        self.find()

    def find(self):
        self.url = self.process.found(r"page.*(http://127\.0\.0\.1:\d+)")
        self.otlp = self.process.found(r"OTLP over HTTP\s+(http://127\.0\.0\.1:\d+)") + "/v1/traces"

    def kill(self):
        self.process.kill()
        self.process.start()
        self.find()

    def get(self, path):
        return ask(f"{self.url}/api/v1/{path}")

    def status(self):
        return self.get("forwarding")["backends"][0]

    def retry(self):
        ask(f"{self.url}/api/v1/forwarding/retry", method="POST")


def attribute(key, value):
    if isinstance(value, bool):
        value = {"boolValue": value}
    elif isinstance(value, int):
        value = {"intValue": str(value)}
    elif isinstance(value, float):
        value = {"doubleValue": value}
    elif isinstance(value, list):
        value = {"arrayValue": {"values": [{"stringValue": one} for one in value]}}
    else:
        value = {"stringValue": value}
    return {"key": key, "value": value}


def span(trace, id_, start, attributes, link=None, name="answer", end=None):
    made = {"traceId": trace, "spanId": id_, "name": name, "kind": 1, "startTimeUnixNano": str(start)}
    made["endTimeUnixNano"] = str(end or start + 1)
    made["attributes"] = [attribute(key, value) for key, value in attributes.items()]
    if link:
        made["links"] = [{"traceId": link[0], "spanId": link[1]}]
    return made


def request(spans):
    resource = {"attributes": [attribute("service.name", "chat")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}


def history(dice, count):
    """(what the vendor has of the answers, the answers, what was said about them)."""
    word = lambda digits: f"{dice.getrandbits(4 * digits - 1) | 1:0{digits}x}"  # noqa: E731
    have, answers, said = [], [], []
    for at in range(count):
        if at % 3 == 0:
            session = f"session-{at}" if at % 2 else str(uuid.UUID(int=dice.getrandbits(128), version=4))
        trace, id_, start = word(32), word(16), BEGIN + at * 60 * SECOND
        attributes = {"session.id": session}
        if dice.random() < 0.5:
            key = dice.choice(list(VALUES))
            attributes[key] = dice.choice(VALUES[key])
        answers.append(span(trace, id_, start, attributes, end=start + SECOND))
        child = word(16)
        answers.append(span(trace, child, start + 1, {}, name="model") | {"parentSpanId": id_})
        of = {"trace_id": trace, "session_id": session, "start_ms": start // 1_000_000}
        have.append(of | {"span_id": id_, "parent_id": None})
        have.append(of | {"span_id": child, "parent_id": id_})
        for scope in ["span", "span", "trace", "session"]:
            if dice.random() < {"span": 0.8, "trace": 0.3, "session": 0.2}[scope]:
                about = dice.choice([id_, id_, child]) if scope == "span" else id_
                for _ in range(dice.randint(1, 4)):
                    when = start + dice.randint(1, 90_000_000) * 1_000_003
                    carried = {"tracing_feedback.late": True, "tracing_feedback.time_unix_nano": when}
                    if scope != "span":
                        carried["tracing_feedback.scope"] = scope
                    if scope == "session":
                        carried["session.id"] = session
                    if dice.random() < 0.6:
                        carried["tracing_feedback.by"] = f"u-{dice.randint(1, 3)}"
                    if dice.random() < 0.4:
                        keys = list(VALUES) if dice.random() < 0.3 else dice.sample(list(VALUES), 3)
                        carried["tracing_feedback.cleared"] = keys
                    for key in dice.sample(list(VALUES), dice.randint(0, 4)):
                        carried[key] = dice.choice(VALUES[key])
                    said.append(span(word(32), word(16), when, carried, (trace, about), "feedback"))
    return have, answers, said


class Item:
    """A record that a backend should have: see `docs/desk.md`."""

    def __init__(self, field, value, explanation, by):
        self.field, self.value, self.explanation, self.by = field, value, explanation, by
        self.name = field.removeprefix("feedback.")
        self.is_text = isinstance(value, str)
        is_comment = field.split(".")[-1] == "comment"
        self.is_truth = field.startswith("feedback.ground_truth")
        self.is_comment = self.is_text and is_comment
        fits = self.is_text and len(value) <= 64 and "\n" not in value
        self.is_category = fits and not is_comment and not self.is_truth


def items(document):
    """The records of a document of the desk's API."""
    authors = {}
    for change in document["history"] if document else []:
        for leaf in change["set"]:
            authors[leaf["field"]] = change["by"]
    made = []
    for namespace in ["feedback", "metrics"] if document else []:
        leaves = {leaf["field"]: leaf["value"] for leaf in document["namespaces"].get(namespace, [])}
        numbers = sorted(field for field, value in leaves.items() if not isinstance(value, str))
        rating = f"{namespace}.rating"
        explained = rating if rating in numbers else numbers[0] if numbers else None
        comment = leaves.pop(f"{namespace}.comment", None) if explained else None
        for field, value in leaves.items():
            explanation = comment or None if field == explained else None
            made.append(Item(field, value, explanation, authors.get(field)))
    return made


def folds(desk, have):
    """{target: its records}, as the desk's API folds them. A span, a trace and a session are told apart."""
    found = {}
    for trace in sorted({one["trace_id"] for one in have}):
        answer = desk.get(f"traces/{trace}")
        for one in answer["spans"] + answer["waiting"]:
            found["span", trace, one["span_id"]] = items(one["document"])
        found["trace", trace] = items(answer["document"])
    for session in sorted({one["session_id"] for one in have}):
        found["session", session] = items(desk.get(f"sessions/{session}")["document"])
    return {target: made for target, made in found.items() if made}


def number(value):
    """As a number, whether it was a bool, an int or a float."""
    return float(value)


class Langfuse:
    name, key, query = "langfuse", f"pk:{KEY}", ""
    secrets = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": KEY}
    modes = ["reject"]

    def wanted(self, target, item, _):
        comment, value = item.explanation, item.value
        if isinstance(value, bool):
            kind, value = "BOOLEAN", number(value)
        elif not item.is_text:
            kind, value = "NUMERIC", number(value)
        elif item.is_truth and target[0] != "session":
            kind = "CORRECTION"
        elif item.is_category or not value:
            kind = "CATEGORICAL"
        else:
            kind, comment, value = "TEXT", value if len(value) > 500 else None, value[:500]
        return target, item.name, kind, value, comment, item.by

    def found(self, record, _):
        value = record["value"] if isinstance(record["value"], str) else number(record["value"])
        by = record["metadata"].get("submitter")
        return tuple(record["target"]), record["name"], record["dataType"], value, record.get("comment"), by


class LangSmith:
    name, key = "langsmith", KEY
    project = "5b7d6f1e-0c3a-4a53-9f3e-2a1c7c0d9e11"
    query, secrets, modes = f"?project={project}", {"LANGSMITH_API_KEY": KEY}, []

    def wanted(self, target, item, roots):
        value = None if item.is_text else round(number(item.value), 4)
        text = item.value if item.is_text and not item.is_comment and not item.is_truth else None
        comment = item.value if item.is_comment else item.explanation
        correction = json.dumps({item.name: item.value}) if item.is_truth else None
        place = ("session", target[1]) if target[0] == "session" else ("trace", target[1])
        place = target if target[0] == "span" and target[2] != roots[target[1]] else place
        return place, item.name, value, text, comment, correction, item.by

    def found(self, record, answers):
        """A record of a root run is of the span, its trace or its session: the id tells which."""
        _, trace, id_ = record["target"]
        source = record["feedback_source"]["metadata"]
        place = ("span", trace, id_)
        if id_ == answers.roots[trace]:
            place = ("session", answers.sessions[trace]) if "trace_id" not in record else ("trace", trace)
        value = None if "score" not in record else number(record["score"])
        correction = json.dumps(record["correction"]) if "correction" in record else None
        found = record["key"], value, record.get("value"), record.get("comment"), correction, source.get("submitter")
        return place, *found


class Datadog:
    name, key, query, secrets, modes = "datadog", KEY, "", {"DD_API_KEY": KEY}, []

    def wanted(self, target, item, _):
        value = item.value if item.is_text else number(item.value)
        kind = "categorical" if item.is_category and item.value else "text" if item.is_text else "score"
        kind = "boolean" if isinstance(item.value, bool) else kind
        place = (target[0], target[-1])
        return place, item.name.replace(".", "_"), kind, value, item.explanation, item.by or "unknown"

    def found(self, record, _):
        value = record[f"{record['metric_type']}_value"]
        value = value if isinstance(value, str) else number(value)
        place = tuple(record["target"])
        return place, record["label"], record["metric_type"], value, record.get("reasoning"), record["submitter"]["id"]


class Opik:
    name, key, query, secrets, modes = "opik", KEY, "?project=my%20chat", {"OPIK_API_KEY": KEY}, []

    def wanted(self, target, item, _):
        value = 1.0 if item.is_text else number(item.value)
        category, reason = None, item.explanation
        if isinstance(item.value, bool):
            category = "true" if item.value else "false"
        elif item.is_category:
            category = item.value
        elif item.is_text:
            reason = item.value
        return target, item.name, value, category, reason

    def found(self, record, _):
        name = record["name"], number(record["value"]), record.get("category_name"), record.get("reason")
        return tuple(record["target"]), *name


class HoneyHive:
    name, key, query, secrets, modes = "honeyhive", KEY, "", {"HH_API_KEY": KEY}, []

    def wanted(self, target, item, roots):
        """Members of events, several for a record with an explanation."""
        bucket, name = ("metrics", item.name[8:]) if item.name.startswith("metrics.") else ("feedback", item.name)
        value = item.value if item.is_text else number(item.value)
        place, before = target, ""
        if target[0] == "trace":
            place, before = ("span", target[1], roots[target[1]]), "trace."
        made = [(place, bucket, before + name, value)]
        return made + [(place, bucket, before + "comment", item.explanation)] if item.explanation else made

    def found(self, record, _):
        of = lambda value: value if isinstance(value, str) else number(value)  # noqa: E731
        target = tuple(record["target"])
        return [(target, b, n, of(v)) for b in ("feedback", "metrics") for n, v in record[b].items()]


class Answers:
    """What is known of the traces: their roots and sessions."""

    def __init__(self, have):
        self.roots = {one["trace_id"]: one["span_id"] for one in have if not one["parent_id"]}
        self.sessions = {one["trace_id"]: one["session_id"] for one in have}


def compare(vendor, desk, server, have):
    """(differences, records wanted, records found that nobody wants)."""
    answers = Answers(have)
    wanted, found = collections.Counter(), collections.Counter()
    for target, made in folds(desk, have).items():
        for item in made:
            one = vendor.wanted(target, item, answers.roots)
            wanted.update(one if isinstance(one, list) else [one])
    for record in server.control("state")["records"]:
        one = vendor.found(record, answers)
        found.update(one if isinstance(one, list) else [one])
    lacks, surplus = wanted - found, found - wanted
    return sorted(map(repr, lacks.elements())), wanted.total(), sorted(map(repr, surplus.elements()))


#: Refusals that a strict server may give: what has not come, and what is there already.
EXPECTED = {("langsmith", 404), ("langsmith", 409), ("honeyhive", 404), ("langfuse", 404), ("opik", 409)}


def play(vendor, options, directory):
    dice = random.Random(options.seed)
    have, answers, said = history(dice, options.targets)
    server = Server(vendor, getattr(vendor, "server", []) + [pair.split("=", 1) for pair in options.server])
    desk = Desk(options.program, directory, vendor, server.url)
    late = {one["trace_id"] for one in have if dice.random() < 0.15}
    pending = [("desk", one) for one in answers + said]
    pending += [("desk", one) for one in answers + said if dice.random() < 0.1]
    pending += [("vendor", one) for one in have if one["trace_id"] not in late]
    dice.shuffle(pending)
    kills = lost = 0
    begun = time.monotonic()
    try:
        for at in range(0, len(pending), 10):
            part = pending[at : at + 10]
            server.control("spans", [one for where, one in part if where == "vendor"])
            spans = [one for where, one in part if where == "desk"]
            if spans:
                until("the desk takes spans", lambda: ask(desk.otlp, request(spans)) is not None, 30)  # noqa: B023
            chance = dice.random()
            if chance < 0.1 and not options.calm:
                time.sleep(dice.random() * 0.4)
                desk.kill()
                kills += 1
            elif chance < 0.3:
                modes = ["500", "503", "429", "401", "html", "close", "404", *vendor.modes]
                mode = dice.choice(modes if options.calm else modes + ["lost", "lost", "lost"])
                lost += mode == "lost"
                server.control("fail", {"mode": mode, "count": dice.randint(1, 3), "retry_after": 0})
                time.sleep(0.2)
                desk.retry()
            elif chance < 0.7:
                # The vendor is told what is so now, and has to be told of a change later.
                server.control("fail", {"mode": "ok"})
                desk.retry()
                until("what is so now is told", lambda: not desk.status()["waiting_for_backend"])  # noqa: B023
        server.control("fail", {"mode": "ok"})
        server.control("spans", have)

        def is_settled():
            is_waiting = lambda it: it["waiting_for_target"] or it["waiting_for_backend"]  # noqa: E731
            if is_waiting(desk.status()):
                # What was refused waits then, too, until it is refused again.
                desk.retry()
                time.sleep(0.7)
            return not is_waiting(desk.status())

        until("everything is told", is_settled)
        if status_refused(vendor, desk):
            desk.retry()
            time.sleep(0.5)
            until("everything is told", is_settled)
        status, state = desk.status(), server.control("state")
        lacks, total, surplus = compare(vendor, desk, server, have)
        problems = [f"lacks {one}" for one in lacks]
        if vendor.name == "datadog":
            # What was retracted can't be deleted there, and the status says so.
            if len(surplus) > status["refused"]:
                problems += [f"more than was refused: {one}" for one in surplus]
            if status["refused"] and "can't delete" not in status["listed"][0]["reason"]:
                problems.append(f"refused for another reason: {status['listed'][0]}")
        else:
            problems += [f"surplus {one}" for one in surplus]
            problems += [f"refused: {one}" for one in status["listed"]]
        if state["repeats"] and not (kills or lost):
            problems.append(f"{len(state['repeats'])} records twice, without a reason")
        expected = EXPECTED | ({("langfuse", 400)} if "list=no" in options.server else set())
        bad = [one for one in state["refused"] if (vendor.name, one["status"]) not in expected]
        problems += [f"the server refused {one}" for one in bad]
        if any(KEY in line for line in desk.process.all) or KEY in json.dumps(status):
            problems.append("the secret was printed")
        print(*problems[:20], sep="\n", end="\n" if problems else "")
        if problems and (kept := os.environ.get("FORWARD_KEEP")):
            shutil.copytree(directory, kept)
            with open(os.path.join(kept, "state.json"), "w") as file:
                json.dump(state, file, indent=1)
        print(
            f"{vendor.name}, seed {options.seed}: {len(problems)} problems; {total} records of "
            f"{len(have) // 2} answers, {len(said)} submissions, {kills} kills, {lost} lost answers, "
            f"{state['requests']} requests, {len(state['repeats'])} repeated, {status['refused']} refused, "
            f"{len(surplus)} left there, {time.monotonic() - begun:.1f} s"
        )
        return not problems
    finally:
        desk.process.kill()
        server.process.kill()


def status_refused(vendor, desk):
    return vendor.name != "datadog" and desk.status()["refused"]


VENDORS = {vendor.name: vendor for vendor in [Langfuse(), LangSmith(), Datadog(), Opik(), HoneyHive()]}
VENDORS["opik"].server = [["project", "my chat"]]
VENDORS["langsmith"].server = [["session", LangSmith.project]]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("vendor", choices=VENDORS)
    arguments.add_argument("program")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--targets", type=int, default=40)
    arguments.add_argument("--calm", action="store_true", help="without kills of the desk and lost answers")
    arguments.add_argument("--server", action="append", default=[], help="an argument of the server: NAME=VALUE")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="feedback-hosted-") as directory:
        is_right = play(VENDORS[options.vendor], options, directory)
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
