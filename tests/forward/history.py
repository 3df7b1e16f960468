"""A random history of feedback, forwarded to a real backend: see `run`.

What the backend should have is computed here, from the list of what was said; there is no code in common with the
desk. Then the backend's own API is asked.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

BEGIN = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
SECOND = 1_000_000_000
VALUES = {
    "rating": [True, False],
    "stars": [1, 2, 3, 4, 5],
    "accuracy": [0.25, 0.5, 1.5],
    "reason": ["length", "tone", "größe"],
    "comment": ["slow", "fine,\nbut long", "« ok »"],
    "step1.retry": [True, False],
    "ground_truth": ["Albany", "Albany, New York"],
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url, data=None, headers=None, method=None, timeout=30):
    if isinstance(data, (dict, list)):
        data, headers = json.dumps(data).encode(), {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, headers or {}, method=method)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        body = answer.read()
    return json.loads(body) if body[:1] in (b"{", b"[") else body


def until(what, is_so, limit=120):
    end = time.monotonic() + limit
    while True:
        try:
            if is_so():
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        if time.monotonic() > end:
            raise SystemExit(f"not so after {limit} s: {what}")
        time.sleep(0.1)


class Process:
    """A program that can be killed and started again on the same ports."""

    running = []

    def __init__(self, command, environment, log):
        self.command, self.environment, self.log = command, environment, log
        self.start()

    def start(self):
        output = open(self.log, "ab")
        self.process = subprocess.Popen(
            self.command, env={**os.environ, **self.environment}, stdout=output, stderr=output,
            start_new_session=True,
        )
        self.running.append(self)

    def kill(self):
        if self in self.running:
            self.running.remove(self)
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def shown(value):
    return "true" if value is True else "false" if value is False else str(value)


class Phoenix:
    kind = "phoenix"

    def __init__(self, directory):
        self.port, grpc = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {
            "PHOENIX_PORT": str(self.port), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_GRPC_PORT": str(grpc),
            "PHOENIX_WORKING_DIR": directory, "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        bin = os.environ.get("FORWARD_BIN", os.path.dirname(sys.executable))
        command = [os.path.join(bin, "phoenix"), "serve"]
        self.process = Process(command, environment, os.path.join(directory, "log"))
        self.wait()

    def wait(self):
        until("Phoenix answers", lambda: ask(f"{self.url}/v1/projects?limit=1"))

    def spans(self, message):
        ask(f"{self.url}/v1/traces", message.SerializeToString(), {"content-type": "application/x-protobuf"})

    def wait_for_traces(self, count):
        query = {"query": "{projects{edges{node{traceCount}}}}"}
        edges = lambda: ask(f"{self.url}/graphql", query)["data"]["projects"]["edges"]
        until("Phoenix has written", lambda: any(it["node"]["traceCount"] >= count for it in edges()), 3_600)

    def expected(self, target, leaves):
        """Annotations by target and name."""
        leaves = dict(leaves)
        first = [key for key in sorted(leaves) if not isinstance(leaves[key], str)]
        explained = "rating" if "rating" in leaves else (first or [None])[0]
        comment = leaves.pop("comment", None) if explained else None
        found = {}
        for key, value in leaves.items():
            result = {"label": None, "score": None, "explanation": None}
            if isinstance(value, str):
                is_label = key != "ground_truth" and "\n" not in value and len(value) <= 64
                result["label" if is_label else "explanation"] = value
            else:
                result["score"] = float(value)
                if isinstance(value, bool):
                    result["label"] = shown(value)
            if comment and key == explained:
                result["explanation"] = comment
            found[(target[-1], key)] = result
        return found

    def found(self, targets):
        found = collections.Counter()
        ids = {"span": [], "trace": [], "session": []}
        for target in targets:
            ids[target[0]].append(target[-1])
        for scope, all_ids in ids.items():
            for at in range(0, len(all_ids), 50):
                query = [(f"{scope}_ids", one) for one in all_ids[at:at + 50]] + [("limit", "1000")]
                url = f"{self.url}/v1/projects/default/{scope}_annotations?{urllib.parse.urlencode(query)}"
                answer = ask(url)
                assert not answer.get("next_cursor"), "more than a page"
                for it in answer["data"]:
                    result = {key: it["result"].get(key) for key in ["label", "score", "explanation"]}
                    found[((it[f"{scope}_id"], it["name"]), json.dumps(result, sort_keys=True))] += 1
        return found

    def wanted(self, expected):
        return collections.Counter((key, json.dumps(result, sort_keys=True)) for key, result in expected.items())


class Mlflow:
    kind = "mlflow"

    def __init__(self, directory):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            os.path.join(os.path.dirname(sys.executable), "mlflow"), "server", "--host", "127.0.0.1", "--port",
            str(self.port), "--workers", "1", "--backend-store-uri", f"sqlite:///{directory}/mlflow.db",
            "--default-artifact-root", f"{directory}/artifacts",
        ]
        environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        self.process = Process(command, environment, os.path.join(directory, "log"))
        self.wait()

    def wait(self):
        until("MLflow answers", lambda: ask(f"{self.url}/health") == b"OK")

    def spans(self, message):
        headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": "0"}
        ask(f"{self.url}/v1/traces", message.SerializeToString(), headers)

    def wait_for_traces(self, count):
        """It writes before it answers."""

    def expected(self, target, leaves):
        """Assessments by target and name."""
        leaves = dict(leaves)
        first = [key for key in sorted(leaves) if not isinstance(leaves[key], str)]
        explained = "rating" if "rating" in leaves else (first or [None])[0]
        comment = leaves.pop("comment", None) if explained else None
        found = {}
        for key, value in leaves.items():
            kind = "expectation" if key == "ground_truth" else "feedback"
            rationale = comment if comment and key == explained else None
            if isinstance(value, int) and not isinstance(value, bool):
                value = float(value)  # its API has one type of number
            found[(target[-1], key.replace(".", "_"))] = [kind, value, rationale]
        return found

    def found(self, targets):
        found = collections.Counter()
        for trace in sorted({target[1] for target in targets if target[0] != "session"}):
            answer = ask(f"{self.url}/api/3.0/mlflow/traces/tr-{trace}")
            info = answer["trace"]["trace_info"]
            for it in info.get("assessments", []):
                kind = "expectation" if "expectation" in it else "feedback"
                session = it.get("metadata", {}).get("mlflow.trace.session")
                target = session or it.get("span_id") or trace
                value = it[kind].get("value")
                if isinstance(value, int) and not isinstance(value, bool):
                    value = float(value)
                value = [kind, value, it.get("rationale") or None]
                found[((target, it["assessment_name"]), json.dumps(value, sort_keys=True))] += 1
        return found

    def wanted(self, expected):
        return collections.Counter((key, json.dumps(value, sort_keys=True)) for key, value in expected.items())


class Desk:
    def __init__(self, program, directory, backend):
        self.grpc, self.http, self.page = free_port(), free_port(), free_port()
        command = [
            program, "--store", os.path.join(directory, "desk.sqlite"), "--port", str(self.page),
            "--grpc-port", str(self.grpc), "--http-port", str(self.http),
        ]
        if backend:
            command += ["--forward", f"{backend.kind}={backend.url}"]
        self.process = Process(command, {}, os.path.join(directory, "desk.log"))
        self.wait()

    def wait(self):
        until("the desk answers", lambda: ask(f"http://127.0.0.1:{self.page}/api/v1/status"))

    def spans(self, message):
        body = message.SerializeToString()
        headers = {"content-type": "application/x-protobuf"}
        until("the desk takes spans", lambda: ask(f"http://127.0.0.1:{self.http}/v1/traces", body, headers) is not None)

    def status(self):
        return ask(f"http://127.0.0.1:{self.page}/api/v1/forwarding")["backends"][0]

    def retry(self):
        ask(f"http://127.0.0.1:{self.page}/api/v1/forwarding/retry", b"", method="POST")


def message(spans):
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "chat"
    group = resource.scope_spans.add()
    for trace, span, parent, start, end, attributes, link in spans:
        it = group.spans.add()
        it.trace_id, it.span_id = bytes.fromhex(trace), bytes.fromhex(span)
        it.parent_span_id = bytes.fromhex(parent) if parent else b""
        it.name = "answer" if link is None and "tracing_feedback.late" not in attributes else "feedback"
        it.start_time_unix_nano, it.end_time_unix_nano = start, end
        it.kind = 1
        for key, value in attributes.items():
            pair = it.attributes.add(key=key)
            if isinstance(value, bool):
                pair.value.bool_value = value
            elif isinstance(value, int):
                pair.value.int_value = value
            elif isinstance(value, float):
                pair.value.double_value = value
            elif isinstance(value, list):
                for one in value:
                    pair.value.array_value.values.add().string_value = one
            else:
                pair.value.string_value = value
        if link:
            it.links.add(trace_id=bytes.fromhex(link[0]), span_id=bytes.fromhex(link[1]))
    return made


def history(seed, count):
    """Answers, what was said about them in order, and the leaves of each target in the end."""
    dice = random.Random(seed)
    word = lambda digits: f"{dice.getrandbits(4 * digits) | 1:0{digits}x}"
    answers, said, leaves = [], [], {}
    for at in range(count):
        trace, span, session = word(32), word(16), f"session-{seed}-{at // 4}"
        start = BEGIN + at * 60 * SECOND
        attributes = {"session.id": session}
        targets = [("span", trace, span)]
        if dice.random() < 0.3:
            targets.append(("trace", trace, trace))
        if at % 4 == 3 and dice.random() < 0.7:
            targets.append(("session", trace, session))
        for target in targets:
            state = leaves.setdefault(target, {})
            if target[0] == "span" and dice.random() < 0.5:
                key = dice.choice(list(VALUES))
                state[key] = attributes[f"feedback.{key}"] = dice.choice(VALUES[key])
            for step in range(dice.randint(0, 5)):
                when = start + (step + 2) * 3600 * SECOND
                carried = {"tracing_feedback.late": True, "tracing_feedback.time_unix_nano": when}
                if target[0] != "span":
                    carried["tracing_feedback.scope"] = target[0]
                if target[0] == "session":
                    carried["session.id"] = session
                cleared = [key for key in state if dice.random() < 0.3]
                if dice.random() < 0.15:
                    cleared = list(state)
                if cleared:
                    carried["tracing_feedback.cleared"] = [f"feedback.{key}" for key in cleared]
                    for key in cleared:
                        del state[key]
                for key in dice.sample(list(VALUES), dice.randint(0, 3)):
                    state[key] = carried[f"feedback.{key}"] = dice.choice(VALUES[key])
                said.append((word(32), word(16), None, when, when + 1, carried, (trace, span)))
        answers.append((trace, span, None, start, start + SECOND, attributes, None))
    return answers, said, leaves


def compare(backend, leaves):
    expected = {}
    for target, state in leaves.items():
        expected.update(backend.expected(target, state))
    wanted, found = backend.wanted(expected), backend.found(list(leaves))
    return [f"missing: {key}" for key in (wanted - found)] + [f"surplus: {key}" for key in (found - wanted)]


def play(backend, program, directory, options):
    dice = random.Random(options.seed)
    answers, said, leaves = history(options.seed, options.targets)
    desk = Desk(program, directory, backend)
    late = set(dice.sample(range(len(answers)), len(answers) // 10))
    pending = [("desk", it) for it in answers] + [("desk", it) for it in said]
    pending += [("backend", it) for at, it in enumerate(answers) if at not in late]
    pending += [(where, it) for where, it in pending if dice.random() < 0.1 and where == "desk"]
    dice.shuffle(pending)
    begun, is_down = time.monotonic(), False
    kept = []
    for at in range(0, len(pending), 20):
        part = pending[at:at + 20]
        desk.spans(message([it for where, it in part if where == "desk"]))
        kept += [it for where, it in part if where == "backend"]
        if not is_down and kept:
            backend.spans(message(kept))
            kept = []
        chance = dice.random()
        if chance < 0.1:
            time.sleep(dice.random() * 0.5)
            desk.process.kill()
            desk.process.start()
            desk.wait()
        elif chance < 0.14 and not is_down:
            backend.process.kill()
            is_down = True
        elif chance < 0.3 and is_down:
            backend.process.start()
            backend.wait()
            is_down = False
        elif chance < 0.6:
            time.sleep(dice.random() * 0.3)
    if is_down:
        backend.process.start()
        backend.wait()
    # The spans that come last of all, and the others again: Phoenix accepts spans before it writes them, so a kill
    # loses some.
    backend.spans(message(answers))

    def is_settled():
        status = desk.status()
        if status["waiting_for_target"]:
            desk.retry()
        return not status["waiting_for_target"] and not status["waiting_for_backend"]

    until("everything is told", is_settled, 300)
    status = desk.status()
    assert status["refused"] == 0, status
    end = time.monotonic() + 60
    while (differences := compare(backend, leaves)) and time.monotonic() < end:
        time.sleep(0.5)
    print(*differences[:20], sep="\n")
    total = sum(len(backend.expected(target, state)) for target, state in leaves.items())
    print(f"{backend.kind}, seed {options.seed}: {len(differences)} differences in {total} records of {len(leaves)} "
          f"targets, {len(said)} submissions, {time.monotonic() - begun:.1f} s")
    desk.process.kill()
    return not differences


def large(backend, program, directory, options):
    """A first run on a store that has feedback already."""
    desk = Desk(program, directory, None)
    spans = [
        (f"{at + 1:032x}", f"{at + 1:016x}", None, BEGIN + at * SECOND, BEGIN + at * SECOND + 1, {"feedback.rating": at % 3 > 0}, None)
        for at in range(options.large)
    ]
    for at in range(0, len(spans), 2_000):
        part = message(spans[at:at + 2_000])
        desk.spans(part)
        # Phoenix answers 503 while it has much to write.
        until("the backend takes spans", lambda: backend.spans(part) is None, 600)
    desk.process.kill()
    backend.wait_for_traces(options.large)
    begun = time.monotonic()
    desk = Desk(program, directory, backend)
    until("everything is told", lambda: desk.status()["told"] == options.large, 3_600)
    print(f"{options.large} targets in {time.monotonic() - begun:.1f} s")
    desk.process.kill()
    return True


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("backend", choices=["phoenix", "mlflow"])
    arguments.add_argument("program")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--targets", type=int, default=80)
    arguments.add_argument("--large", type=int)
    options = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started ends, too
    directory = tempfile.mkdtemp(prefix="feedback-forward-")
    backend = None
    try:
        backend = {"phoenix": Phoenix, "mlflow": Mlflow}[options.backend](directory)
        is_right = (large if options.large else play)(backend, options.program, directory, options)
    finally:
        for process in list(Process.running):
            process.kill()
        if os.environ.get("FORWARD_KEEP"):
            print(directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
