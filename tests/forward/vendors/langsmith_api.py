"""LangSmith: `POST /feedback`, `PATCH`, `GET` and `DELETE /feedback/{id}`.

A creation is validated by `FeedbackCreate` of the SDK. An update has no model: its members are those that
`Client.update_feedback` sends, with the types of `FeedbackBase`. A run has the id of its span, padded to the left, and
a trace that of its root. 404 for a run that has not come is why `Client.create_feedback` retries on
`LangSmithNotFoundError`; 409 for a repeated id is that of `LangSmithConflictError`.
"""

import json
import re
import uuid

import pydantic
from langsmith.schemas import SCORE_TYPE, VALUE_TYPE, FeedbackCreate
from strict import Refusal, Vendor, serve, validate

UPDATE = {"score": SCORE_TYPE, "value": VALUE_TYPE, "correction": dict | None, "comment": str | None}
#: "rounded to 4 decimal places, the most the API stores; the API rejects more precise scores sent to it directly"
DECIMALS = 4


def run_id(span_id):
    return str(uuid.UUID(bytes=bytes(8) + bytes.fromhex(span_id)))


class LangSmith(Vendor):
    #: `session`: the project, which deployments on SmithDB demand.
    arguments = {"session": ""}

    def __init__(self, options):
        super().__init__(options)
        self.feedback = {}

    def is_authorized(self, headers):
        return headers.get("x-api-key") == self.options.key

    def error(self, status, message):
        return {"detail": message}

    def handle(self, method, path, query, body):
        if (method, path) == ("GET", "/feedback"):
            if query != {"limit": ["1"]}:
                raise Refusal(422, "only `limit=1` is tried")
            return 200, list(self.feedback.values())[:1]
        if query:
            raise Refusal(422, "no parameters are taken")
        if (method, path) == ("POST", "/feedback"):
            return self.create(body)
        found = re.fullmatch("/feedback/([^/]+)", path)
        if not found:
            raise Refusal(404, "Not Found")
        try:
            key = str(uuid.UUID(found[1]))
        except ValueError as error:
            raise Refusal(422, "the id is no UUID") from error
        if key not in self.feedback:
            raise Refusal(404, "Feedback not found")
        match method:
            case "PATCH":
                self.update(self.feedback[key], body)
            case "DELETE":
                del self.feedback[key]
            case "GET":
                return 200, self.feedback[key]
            case _:
                raise Refusal(405, "Method Not Allowed")
        return 200, {"message": "ok"}

    def create(self, body):
        # The SDK leaves out what is null, and its model demands some of it.
        if isinstance(body, dict):
            body = {"run_id": None, "trace_id": None} | body
        feedback = validate(FeedbackCreate, body)
        self.check_score(feedback.score)
        if feedback.run_id is None or feedback.comparative_experiment_id or feedback.feedback_group_id:
            raise Refusal(422, "only feedback of runs is tried")
        if feedback.feedback_source.type not in ("api", "model", "app"):
            raise Refusal(422, "there is no such type of source")
        if self.options.session and str(feedback.session_id) != self.options.session:
            raise Refusal(422, "session_id must be that of the project of the run")
        if isinstance(feedback.correction, str):
            # `Client.create_feedback` takes objects alone.
            raise Refusal(422, "correction is no object")
        span = next((span for span in self.spans.values() if run_id(span["span_id"]) == str(feedback.run_id)), None)
        if not span:
            raise Refusal(404, "Run not found")
        if feedback.trace_id and feedback.trace_id.hex != span["trace_id"]:
            raise Refusal(422, "the run is of another trace")
        key = str(feedback.id)
        if key in self.feedback:
            raise Refusal(409, "Feedback already exists")
        self.feedback[key] = body | {"target": ["span", span["trace_id"], span["span_id"]]}
        return 200, self.feedback[key]

    def update(self, feedback, body):
        if not isinstance(body, dict) or not body or set(body) - set(UPDATE):
            raise Refusal(422, f"an update has {', '.join(UPDATE)}, not {', '.join(set(body or ()) - set(UPDATE))}")
        for name, value in body.items():
            try:
                pydantic.TypeAdapter(UPDATE[name]).validate_json(json.dumps(value), strict=True)
            except pydantic.ValidationError as error:
                raise Refusal(422, f"{name} has the wrong type") from error
        self.check_score(body.get("score"))
        feedback.update(body)

    def check_score(self, score):
        if isinstance(score, float) and round(score, DECIMALS) != score:
            raise Refusal(422, f"score has more than {DECIMALS} decimals")

    def records(self):
        return [{name: value for name, value in one.items() if value is not None} for one in self.feedback.values()]


if __name__ == "__main__":
    serve(LangSmith)
