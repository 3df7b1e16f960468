"""Langfuse: `POST /api/public/scores`, `DELETE /api/public/scores/{id}`.

Requests are validated by `CreateScoreRequest` of the SDK. What its documentation adds, and what it says of updates
("send it again with the same id and timestamp"), is in the checks. A score with a known id and another timestamp is
a second score, as it is in Langfuse.
"""

import base64
import re

from langfuse.api.scores.types.create_score_request import CreateScoreRequest
from strict import Refusal, Vendor, serve, validate

#: "any lowercase alphanumeric string with hyphens and underscores that does not start with 'langfuse'"
ENVIRONMENT = re.compile("(?!langfuse)[a-z0-9_-]{1,40}")
MOST_TEXT = 500


class Langfuse(Vendor):
    #: `list=no`: a server before 5.0, which takes one object in a request.
    arguments = {"list": "yes"}

    def __init__(self, options):
        super().__init__(options)
        self.scores = {}

    def is_authorized(self, headers):
        expected = "Basic " + base64.b64encode(self.options.key.encode()).decode()
        return headers.get("Authorization") == expected

    def error(self, status, message):
        names = {401: "UnauthorizedError", 404: "LangfuseNotFoundError"}
        return {"message": message, "error": names.get(status, "InvalidRequestError")}

    def handle(self, method, path, query, body):
        if query:
            raise Refusal(400, "no parameters are taken")
        if (method, path) == ("GET", "/api/public/projects"):
            return 200, {"data": [{"id": "p", "name": "chat", "metadata": {}}]}
        if (method, path) == ("POST", "/api/public/scores"):
            return self.create(body)
        found = re.fullmatch("/api/public/scores/([^/]+)", path)
        if method == "DELETE" and found:
            keys = [key for key in self.scores if key[0] == found[1]]
            if not keys:
                raise Refusal(404, "Score not found within authorized project")
            for key in keys:
                del self.scores[key]
            return 202, {"message": "Score deletion request accepted"}
        raise Refusal(404, "Not found")

    def create(self, body):
        if self.options.list == "no":
            if not isinstance(body, dict):
                raise Refusal(400, "Invalid request data: expected object, received array")
            score = self.checked(body)
            self.scores[score["id"], score["timestamp"]] = score
            return 200, {"id": score["id"]}
        if not isinstance(body, list) or not body:
            raise Refusal(400, "Invalid request data: expected array, received object")
        errors = []
        for one in body:
            try:
                score = self.checked(one)
                # Always the same scores, as a server would.
                if self.mode == "reject" and score.get("id", "")[-1] in "05af":
                    raise Refusal(400, "on demand")
                self.scores[score["id"], score["timestamp"]] = score
            except Refusal as refusal:
                errors.append({"message": refusal.message})
        if errors:
            return 207, {"accepted": len(body) - len(errors), "rejected": len(errors), "errors": errors}
        return 202, {"message": "Accepted"}

    def checked(self, body):
        score = validate(CreateScoreRequest, body)
        if score.data_type is None:
            raise Refusal(400, "dataType is missing: the value would be taken for a number")
        match score.data_type.value:
            case "NUMERIC":
                is_fit = isinstance(score.value, float)
            case "BOOLEAN":
                is_fit = score.value in (0, 1)
            case "CATEGORICAL":
                is_fit = isinstance(score.value, str)
            case "TEXT":
                is_fit = isinstance(score.value, str) and 1 <= len(score.value) <= MOST_TEXT
            case "CORRECTION":
                is_fit = isinstance(score.value, str) and score.trace_id is not None
        if not is_fit:
            raise Refusal(400, f"the value does not fit {score.data_type.value}")
        if (score.trace_id is None) == (score.session_id is None) or score.dataset_run_id:
            raise Refusal(400, "exactly one of traceId and sessionId is needed")
        if score.observation_id and not score.trace_id:
            raise Refusal(400, "observationId needs traceId")
        if score.environment and not ENVIRONMENT.fullmatch(score.environment):
            raise Refusal(400, "environment is not fit")
        if not score.name or not score.id:
            raise Refusal(400, "name and id are needed")
        if score.timestamp is None or score.timestamp.tzinfo is None:
            raise Refusal(400, "timestamp is needed, with an offset: without it an update is a second score")
        if score.source or score.config_id or score.queue_id:
            raise Refusal(400, "no configuration, queue or source exists here")
        if score.session_id:
            target = ["session", score.session_id]
        elif score.observation_id:
            target = ["span", score.trace_id, score.observation_id]
        else:
            target = ["trace", score.trace_id]
        return body | {"target": target, "timestamp": score.timestamp.isoformat()}

    def records(self):
        return list(self.scores.values())


if __name__ == "__main__":
    serve(Langfuse)
