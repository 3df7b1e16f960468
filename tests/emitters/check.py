"""Starts a desk, lets each emitter send to it, and asserts what the desk folds.

    check.py DESK GENAI_EMITTER [EMITTER]…
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))

# What each emitter's feedback about its targets folds to, and what its history lists: what each change set, and in which
# form it arrived. A target is a span by its name in `emit.py`, or `trace`, or `session:ID`.
EXPECTED = {
    "openlit": {
        "open": (
            {"feedback.rating": False, "feedback.comment": "Wrong capital"},
            ["span event: feedback.comment feedback.rating"],
        ),
        "late": (
            {"feedback.stars": 4.0, "feedback.mood": "glad"},
            [
                "log record: feedback.stars",
                "log record: feedback.mood",
                "log record: feedback.mood",
                "log record: feedback.mood",
            ],
        ),
    },
    "logfire": {
        "answer": (
            {
                "feedback.rating": False,
                "feedback.comment": "Second thoughts",
                "feedback.stars": 3,
                "feedback.mood": "sad",
            },
            [
                "Logfire annotation: feedback.rating",
                "Logfire annotation: feedback.comment feedback.rating",
                "Logfire annotation: feedback.stars",
                "Logfire annotation: feedback.mood",
            ],
        ),
    },
    "pydantic_evals": {
        "answer": (
            {
                "metrics.grounded": False,
                "metrics.grounded_explanation": "No source",
                "metrics.relevance": 0.25,
                "metrics.language": "English",
                "metrics.Broken_error": "TimeoutError",
                "metrics.Broken_explanation": "TimeoutError: no answer",
            },
            [
                "log record: metrics.Broken_error metrics.Broken_explanation",
                "log record: metrics.grounded metrics.grounded_explanation",
                "log record: metrics.language",
                "log record: metrics.relevance",
            ],
        ),
    },
    "openinference": {
        "answer": (
            {
                "feedback.tone": "kind",
                "feedback.comment": "Polite",
                "metrics.hallucination": 0.25,
                "metrics.hallucination_label": "factual",
            },
            [
                "OpenInference annotation: feedback.comment feedback.tone",
                "OpenInference annotation: metrics.hallucination metrics.hallucination_label",
            ],
        ),
        "trace": ({"metrics.quality": 5}, ["OpenInference annotation: metrics.quality"]),
        "session:conversation-42": (
            {"metrics.coherence": 1},
            ["OpenInference annotation: metrics.coherence"],
        ),
    },
    "genai": {
        "answer": (
            {
                "feedback.Relevance": 4.0,
                "feedback.Relevance_label": "relevant",
                "feedback.comment": "On the topic",
            },
            ["evaluation span: feedback.Relevance feedback.Relevance_label feedback.comment"],
        ),
    },
}


class Desk:
    def __init__(self, program, directory):
        self.process = subprocess.Popen(
            [program, "--store", os.path.join(directory, "desk.sqlite"), "--port", "0"]
            + ["--grpc-port", "0", "--http-port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addresses = {}
        while len(self.addresses) < 3:
            line = self.process.stdout.readline()
            assert line, "the desk did not start"
            for name in ["page and API", "OTLP over gRPC", "OTLP over HTTP"]:
                if name in line:
                    self.addresses[name] = line.split()[-1]

    def get(self, path):
        with urllib.request.urlopen(self.addresses["page and API"] + "/api/v1" + path) as answer:
            return json.load(answer)

    def documents(self, told):
        """The document of each target."""
        documents = {}
        for name, target in told.items():
            trace = self.get(f"/traces/{target['trace']}")
            spans = {span["span_id"]: span for span in trace["spans"]}
            documents[name] = spans[target["span"]]["document"]
            documents["trace"] = trace["document"]
            if trace["session_id"]:
                session = self.get(f"/sessions/{trace['session_id']}")
                documents[f"session:{trace['session_id']}"] = session["document"]
        return documents


def leaves(document):
    return {leaf["field"]: leaf["value"] for space in document["namespaces"].values() for leaf in space}


def changes(document):
    def line(change):
        return f"{change.get('form')}: {' '.join(sorted(leaf['field'] for leaf in change['set']))}"

    return [line(change) for change in document["history"]]


def check(desk, emitter, command):
    http, grpc = desk.addresses["OTLP over HTTP"], desk.addresses["OTLP over gRPC"]
    sent = subprocess.run([*command, http, grpc], stdout=subprocess.PIPE, text=True)
    assert sent.returncode == 0, f"{emitter}: status {sent.returncode}"
    documents = desk.documents(json.loads(sent.stdout))
    for target, (expected, history) in EXPECTED[emitter].items():
        document = documents[target]
        found = leaves(document)
        assert found == expected, f"{emitter}, {target}: {found}"
        types = {key: type(value) for key, value in found.items()}
        assert types == {key: type(value) for key, value in expected.items()}, f"{emitter}, {target}: {types}"
        lines = changes(document)
        # Evaluators run side by side.
        if emitter == "pydantic_evals":
            lines.sort()
        assert lines == history, f"{emitter}, {target}: {lines}"
    print(f"{emitter}: {', '.join(EXPECTED[emitter])}")


def main():
    program, genai, *chosen = sys.argv[1:]
    for emitter in chosen or EXPECTED:
        with tempfile.TemporaryDirectory() as directory:
            desk = Desk(program, directory)
            try:
                emit = [sys.executable, os.path.join(HERE, "emit.py"), emitter]
                check(desk, emitter, [genai] if emitter == "genai" else emit)
                assert desk.get("/status")["adrift"] == 0, "feedback about nothing"
                assert desk.get("/status")["waiting"] == 0, "feedback about spans that did not arrive"
            finally:
                desk.process.terminate()
                desk.process.wait()


if __name__ == "__main__":
    main()
